"""signal: waiting for one.

Handlers need nothing: while goroutines wait, the core wakes the main thread for them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from goroutines import _runtime
from goroutines._runtime import blocking, gosched
from goroutines.patch import _registry


def _pause(original: Callable[[], None]) -> Callable[[], None]:
    def pause() -> None:
        """Park until a signal came whose handler is Python code, and was run."""
        if threading.current_thread() is not threading.main_thread():
            blocking(original)
            return
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        try:
            _runtime._wait_fds([(reader, 1)])
            gosched()  # lets the handler run, if it has not
        finally:
            signal.set_wakeup_fd(before)
            if before != -1:  # whose signals these were too
                _pass_on(reader, before)
            os.close(reader)
            os.close(writer)

    return pause


def _pass_on(reader: int, to: int) -> None:
    with contextlib.suppress(OSError):
        os.write(to, os.read(reader, 512))


def _in_thread(original: Callable[..., Any]) -> Callable[..., Any]:
    def wait(*args: Any) -> Any:
        return blocking(original, *args)

    wait.__name__ = wait.__qualname__ = original.__name__
    wait.__doc__ = original.__doc__
    return wait


def install() -> None:
    if hasattr(os, "pipe2"):
        _registry.replace(signal, "pause", _pause(signal.pause))
    for name in ("sigwait", "sigwaitinfo", "sigtimedwait"):
        if hasattr(signal, name):
            _registry.replace(signal, name, _in_thread(getattr(signal, name)))
