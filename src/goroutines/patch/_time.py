"""time.sleep."""

from __future__ import annotations

import operator
import sys
import time
from typing import SupportsIndex

from goroutines import _runtime
from goroutines.patch import _registry


def sleep(seconds: SupportsIndex | float, /) -> None:
    """Park this goroutine for so many seconds, as time.sleep does its thread."""
    if not isinstance(seconds, int | float):
        seconds = operator.index(seconds)
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    if sys.is_finalizing():
        _registry.original(time, "sleep")(seconds)
    else:
        _runtime.sleep(seconds)


def install() -> None:
    _registry.replace(time, "sleep", sleep)
