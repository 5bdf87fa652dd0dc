"""signal: handlers run for the main goroutine, and waiting for a signal parks.

CPython runs a handler in whatever runs on the main thread, which may be any goroutine; what
the handler raises (KeyboardInterrupt) would end that one. So handlers are wrapped: amid
another goroutine they are given to one of the runtime, whose exceptions are main's, and which
runs at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from goroutines import _runtime
from goroutines._runtime import blocking, gosched
from goroutines._watchdog import preemption_signal, set_preemption
from goroutines.patch import _registry


class _Delivery:
    """A handler that runs as main's, whoever is interrupted."""

    def __init__(self, handler: Callable[[int, Any], object]) -> None:
        self.handler = handler

    def __call__(self, signum: int, frame: Any) -> object:
        if _runtime._is_main():
            return self.handler(signum, frame)
        _runtime._start_system(partial(self.handler, signum, frame))
        _runtime._preempt(signum, frame)
        return None


def _unwrap(handler: Any) -> Any:
    return handler.handler if isinstance(handler, _Delivery) else handler


def _signal(original: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def signal_(signalnum: Any, handler: Any) -> Any:
        return _unwrap(original(signalnum, _Delivery(handler) if callable(handler) else handler))

    return signal_


def _getsignal(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def getsignal(signalnum: Any) -> Any:
        return _unwrap(original(signalnum))

    return getsignal


def _wrap_present_handlers() -> None:
    ours = _runtime._poked
    for signum in signal.valid_signals():
        handler = signal.getsignal(signum)
        if callable(handler) and not isinstance(handler, _Delivery) and handler is not ours:
            with contextlib.suppress(ValueError):  # not the main thread
                _registry.original(signal, "signal")(signum, _Delivery(handler))


def _start_preemption() -> None:
    with contextlib.suppress(ValueError):  # 3.11, and not the main thread
        set_preemption(True)


# ---- waiting for a signal -----------------------------------------------------------------


def _pause(original: Callable[[], None]) -> Callable[[], None]:
    def pause() -> None:
        if not _runtime._is_main():
            blocking(original)
            return
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        try:
            _wait_for_byte(reader, before)
            gosched()  # lets the handler run, if it has not
        finally:
            signal.set_wakeup_fd(before)
            os.close(reader)
            os.close(writer)

    return pause


def _wait_for_byte(reader: int, pass_on_to: int) -> None:
    came = b""
    preempt = preemption_signal()
    while not came:
        _runtime._wait_fds([(reader, 1)])
        came = bytes(signum for signum in os.read(reader, 512) if signum != preempt)
    if pass_on_to != -1:  # whose wake-up descriptor we took away meanwhile
        with contextlib.suppress(OSError):
            os.write(pass_on_to, came)


# ---- idents that are handed to libc ----------------------------------------------------------


def _by_native_ident(original: Callable[..., Any]) -> Callable[..., Any]:
    """Have a goroutine's ident stand for its thread: libc takes it for a pointer."""
    main_ident = threading.main_thread().ident

    def call(thread_id: int, /, *args: Any) -> Any:
        thread = threading._active.get(thread_id)  # type: ignore[attr-defined]
        known = thread_id == main_ident or thread in _native_threads()
        if thread is None and not known:
            raise ProcessLookupError(3, "No such process")
        return original(thread_id if known else main_ident, *args)

    return call


def _native_threads() -> list[threading.Thread]:
    from goroutines.patch import _threading

    return _threading.native_threads


def install() -> None:
    _registry.replace(signal, "signal", _signal(signal.signal))
    _registry.replace(signal, "getsignal", _getsignal(signal.getsignal))
    _wrap_present_handlers()
    if _registry.is_replaced("_thread.start_new_thread"):  # locks park: none is held for long
        _start_preemption()
    if hasattr(os, "pipe2"):
        _registry.replace(signal, "pause", _pause(signal.pause))
    for name in ("sigwait", "sigwaitinfo", "sigtimedwait"):
        if hasattr(signal, name):
            _registry.replace(signal, name, _registry.in_thread(getattr(signal, name)))
    for module, name in ((signal, "pthread_kill"), (time, "pthread_getcpuclockid")):
        if hasattr(module, name):
            _registry.replace(module, name, _by_native_ident(getattr(module, name)))
