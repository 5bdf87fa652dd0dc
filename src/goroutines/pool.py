"""A pool of goroutines (in the manner of Go's worker pools) that is an Executor."""

from __future__ import annotations

import concurrent.futures
from goroutines import _runtime
from goroutines._future import Future

class PoolFull(Exception):
    pass

class Pool(_runtime.Pool, concurrent.futures.Executor):
    __slots__ = ()
    def __init__(self, size, *, max_waiting=None, idle=1.0, executor=None, name=None):
        super().__init__(size, max_waiting, idle, None, name)

_runtime._set_pool_hooks(PoolFull, None)
