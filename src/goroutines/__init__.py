"""Go's concurrency for Python: goroutines, channels, select, WaitGroup.

Layout of the package:

- ``_runtime``   the core, in C (``src/runtime``)
- ``errors``     what it raises
- ``_panic``     uncaught exceptions, deadlock reports, the dump
- ``_defer``     ``@defers``, ``defer``, ``recover``
- ``sync``       locks, Once, Cond, Semaphore, Pool, Map; ``sync.atomic``
- ``context``    deadlines, cancellation, values, scopes
- ``time``       timers, tickers, the clock
- ``memory``     Go's values: slices, arrays, maps, pointers; ``_values``, their texts
- ``signal``     signals in channels
- ``_future``    futures that are concurrent.futures' too
- ``pool``       the goroutine pool, an Executor
- ``group``      structured concurrency, singleflight
- ``testing``    a clock that jumps, waiting for quiet, leaks; ``_pytest``, the plugin
- ``patch``      the standard library made cooperative
- ``asyncio``    goroutines awaited in event loops
- ``runtime``    settings and introspection
- ``__main__``   the command line
"""

from __future__ import annotations

import atexit
import gc
import os

from goroutines import _panic, _runtime, runtime
from goroutines._defer import defer, defers, recover, set_return
from goroutines._panic import set_panic_hook
from goroutines._runtime import (
    Case,
    Chan,
    Cond,
    Goroutine,
    Mutex,
    Once,
    Receiver,
    RWMutex,
    Select,
    Semaphore,
    Sender,
    WaitGroup,
    blocking,
    current,
    go,
    gosched,
    num_goroutine,
    recv,
    recv_ok,
    run,
    select,
    send,
    sleep,
)
from goroutines.errors import ChannelClosed, Deadlock, GoroutineExit, Panic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goroutines.group import Group
    from goroutines.pool import Pool
del TYPE_CHECKING

__all__ = [
    "Case",
    "Chan",
    "ChannelClosed",
    "Cond",
    "Deadlock",
    "Goroutine",
    "GoroutineExit",
    "Group",
    "Mutex",
    "Once",
    "Panic",
    "Pool",
    "RWMutex",
    "Receiver",
    "Select",
    "Semaphore",
    "Sender",
    "WaitGroup",
    "blocking",
    "current",
    "defer",
    "defers",
    "go",
    "gosched",
    "num_goroutine",
    "recover",
    "recv",
    "recv_ok",
    "run",
    "runtime",
    "select",
    "send",
    "set_panic_hook",
    "set_return",
    "sleep",
]

# Imported when they are first used: concurrent.futures takes longer than all the rest.
_LATER = {"Group": "goroutines.group", "Pool": "goroutines.pool"}
_MODULES = (
    "asyncio",
    "context",
    "group",
    "memory",
    "patch",
    "pool",
    "signal",
    "sync",
    "testing",
    "time",
)


def __getattr__(name: str) -> object:
    import importlib

    if name in _MODULES:
        return importlib.import_module(f"goroutines.{name}")
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_LATER[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, *_MODULES})


__version__ = "0.1.0.dev0"

_panic.install()
gc.callbacks.append(_runtime._gc_event)
os.register_at_fork(after_in_child=_runtime._after_fork)
atexit.register(_runtime._shutdown)
