"""Values that goroutines and threads change without a lock (Go's sync/atomic)."""

from __future__ import annotations

from goroutines._runtime import Bool, Int64, Value

__all__ = ["Bool", "Int64", "Value"]
