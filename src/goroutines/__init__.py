"""Go's concurrency for Python: goroutines, channels, select, WaitGroup.

Layout of the package:

- ``_runtime``   the core, in C (``src/runtime``)
- ``errors``     what it raises
- ``_panic``     uncaught exceptions, deadlock reports, the dump
- ``_defer``     ``@defers``, ``defer``, ``recover``
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

__all__ = [
    "Case",
    "Chan",
    "ChannelClosed",
    "Cond",
    "Deadlock",
    "Goroutine",
    "GoroutineExit",
    "Mutex",
    "Once",
    "Panic",
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

__version__ = "0.1.0.dev0"

_panic.install()
gc.callbacks.append(_runtime._gc_event)
os.register_at_fork(after_in_child=_runtime._after_fork)
atexit.register(_runtime._shutdown)
