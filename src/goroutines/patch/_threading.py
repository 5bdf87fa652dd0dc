"""threading and _thread: a thread is a goroutine, and locks park.

Only leaves are replaced: how a thread is started and joined, what identifies it, locks and
`local`. Thread, Condition, Event, Semaphore, Barrier, Timer and the queues are the standard
library's own, above these. Locks that exist already park too: native.c.
"""

from __future__ import annotations

import _thread
import contextvars
import importlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from goroutines import _runtime
from goroutines._runtime import Goroutine, blocking, current, go
from goroutines.patch import _registry

_NATIVE_LOCK: Any = _thread.LockType
_NATIVE_RLOCK: Any = _thread.RLock
_native_ident = _thread.get_ident

# ---- starting and joining ------------------------------------------------------------


class ThreadHandle:
    """What CPython 3.13's Thread joins its thread by (``_thread._ThreadHandle``)."""

    def __init__(self) -> None:
        self.ident: int | None = None
        self._goroutine: Goroutine | None = None
        self._done = False

    def join(self, timeout: float | None = None) -> None:
        g = self._goroutine
        if g is None:
            if self._done:
                return
            raise RuntimeError("thread not started")
        if g is current():
            raise RuntimeError("Cannot join current thread")
        try:
            g.join(None if timeout is not None and timeout < 0 else timeout)
        except TimeoutError as e:
            if type(e) is TimeoutError:
                return
            raise  # a scope's
        self._done = True

    def _begin(self, g: Goroutine) -> None:
        self._goroutine = g
        self.ident = id(g)

    def is_done(self) -> bool:
        return self._done

    def _set_done(self) -> None:
        if self._goroutine is None:
            raise RuntimeError("thread not started")
        self._done = True


_running: set[Goroutine] = set()  # that stand for threads
_not_daemons: set[ThreadHandle] = set()
_sentinels: dict[int, Any] = {}  # 3.11, 3.12: the lock that tells a thread's end, by ident


def _start(body: Callable[[], None]) -> Goroutine:
    """Start a goroutine that, as a new thread, has an empty context."""
    return contextvars.Context().run(go, body)


def _ended() -> None:
    sentinel = _sentinels.pop(_runtime._get_ident(), None)
    if sentinel is not None and sentinel.locked():
        sentinel.release()


def start_joinable_thread(
    function: Callable[[], object], *, handle: ThreadHandle | None = None, daemon: bool = True
) -> ThreadHandle:
    """Run ``function()`` in a goroutine, as ``_thread.start_joinable_thread`` in a thread."""
    if not callable(function):
        raise TypeError("thread function must be callable")
    if handle is None:
        handle = ThreadHandle()
    elif handle._goroutine is not None or handle._done:
        raise RuntimeError("thread already started")

    def body() -> None:
        g = current()
        handle._begin(g)  # perhaps before _start has returned, in another thread
        _running.add(g)
        try:
            _call(function, (), {})
        finally:
            _running.discard(g)
            _not_daemons.discard(handle)
            handle._set_done()

    if not daemon:
        _not_daemons.add(handle)
    handle._begin(_start(body))
    return handle


def start_new_thread(
    function: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, /
) -> int:
    """Run ``function(*args, **kwargs)`` in a goroutine; return what identifies it."""
    if not callable(function):
        raise TypeError("first arg must be callable")
    if not isinstance(args, tuple):
        raise TypeError("2nd arg must be a tuple")
    if kwargs is not None and not isinstance(kwargs, dict):
        raise TypeError("optional 3rd arg must be a dictionary")

    def body() -> None:
        g = current()
        _running.add(g)
        try:
            _call(function, args, kwargs or {})
        finally:
            _running.discard(g)
            _ended()

    return id(_start(body))


def _count(native: Callable[[], int]) -> Callable[[], int]:
    def count() -> int:
        return native() + len(_running)

    return count


def _call(function: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        function(*args, **kwargs)
    except SystemExit:
        pass
    except Exception as e:
        unraisable = _Unraisable(type(e), e, e.__traceback__, function)
        sys.unraisablehook(unraisable)  # type: ignore[arg-type]


class _Unraisable:
    """What sys.unraisablehook gets for an exception that left a thread's function."""

    def __init__(self, exc_type: Any, exc_value: Any, exc_traceback: Any, thing: Any) -> None:
        self.exc_type = exc_type
        self.exc_value = exc_value
        self.exc_traceback = exc_traceback
        self.err_msg = "Exception ignored in thread started by"
        self.object = thing
        if sys.version_info >= (3, 13):
            self.err_msg += f" {thing!r}"
            self.object = None


def _set_sentinel() -> Any:
    """Return the lock that is released when this thread ends (3.11, 3.12)."""
    # One of CPython's: a release frees it, even if others wait, as _stop wants it.
    lock = _sentinels[_runtime._get_ident()] = _registry.original(_thread, "allocate_lock")()
    return lock


def _wait_for_tstate_lock(self: Any, block: bool = True, timeout: float = -1) -> None:
    """Wait for this thread's end (3.11, 3.12); a wait that is cut short ends no thread."""
    lock = self._tstate_lock
    if lock is not None and lock.acquire(block, timeout):
        lock.release()
        self._stop()


def _shutdown(native: Callable[[], None]) -> Callable[[], None]:
    def _thread_shutdown() -> None:
        """Join the threads that are not daemons (3.13 and newer)."""
        while _not_daemons:
            next(iter(_not_daemons)).join()
        native()

    return _thread_shutdown


# ---- threads that are not Threads ------------------------------------------------------


class _Forget:
    """Takes a dummy Thread out of threading's table when its goroutine ends."""

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = thread

    def __del__(self, _active: Any = threading._active) -> None:  # type: ignore[attr-defined]
        ident = self._thread.ident
        if _active.get(ident) is self._thread:
            _active.pop(ident, None)


_dummies: Any = threading.local()


def _dummy_init(original: Callable[..., None]) -> Callable[..., None]:
    def __init__(self: Any) -> None:  # noqa: N807
        original(self)
        _dummies.forget = _Forget(self)

    return __init__


def _after_fork() -> None:
    """Of all goroutines that stood for threads only the caller lives in the child."""
    _not_daemons.clear()
    _running.intersection_update([current()])


# ---- subinterpreters ----------------------------------------------------------------------


def _run_interpreters_in_threads() -> None:
    """Run code of subinterpreters, which have no goroutines, on threads of `blocking`."""
    try:
        module: Any = importlib.import_module("_interpreters")  # 3.13 and newer
    except ImportError:
        return
    for name in ("exec", "call", "run_string", "run_func"):
        if hasattr(module, name):
            _registry.replace(module, name, _registry.in_thread(getattr(module, name)))


# ---- threads that run already ------------------------------------------------------------

native_threads: list[threading.Thread] = []  # real ones, from before patch()


class _NativeHandle:
    """The handle of a real thread (3.13 and newer), joined without blocking ours."""

    def __init__(self, native: Any) -> None:
        self._native = native

    def join(self, timeout: float | None = None) -> None:
        if self._native.is_done() or self._native.ident == _native_ident():
            self._native.join(timeout)
        else:
            blocking(self._native.join, timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)


def _adopt_native_threads() -> None:
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread is not threading.main_thread():
            native_threads.append(thread)
            handle = getattr(thread, "_handle", None)
            if handle is not None:
                thread._handle = _NativeHandle(handle)  # type: ignore[attr-defined]


# ---- tracing -----------------------------------------------------------------------------


def _begin_trace() -> None:
    """Trace this new goroutine as threading traces new threads."""
    trace: Any = getattr(threading, "_trace_hook", None)
    profile: Any = getattr(threading, "_profile_hook", None)
    if profile is not None:
        sys.setprofile(profile)
    if trace is not None:
        sys.settrace(trace)


def _noting(original: Callable[[Any], None]) -> Callable[[Any], None]:
    def set_hook(func: Any) -> None:
        original(func)
        _note_trace()

    return set_hook


def _note_trace() -> None:
    private: Any = threading
    on = private._trace_hook is not None or private._profile_hook is not None
    _runtime._note_trace(on, _begin_trace)


# ---- asyncio's running loop --------------------------------------------------------------


def _note_loops() -> None:
    """Have a running event loop belong to its goroutine, as it belonged to its thread."""
    import asyncio.events

    native: Any = asyncio.events._set_running_loop

    def _set_running_loop(loop: Any, /) -> None:
        native(loop)
        _runtime._note_loop(loop)

    if sys.version_info < (3, 13):
        _registry.replace(asyncio.events, "_set_running_loop", _set_running_loop)
    _runtime._note_patched(True, True, native)


# ---- install ------------------------------------------------------------------------------


def install() -> None:
    """Patch threading, _thread and queue, and the locks that exist already."""
    _runtime._redirect_methods(_NATIVE_LOCK)
    _runtime._redirect_methods(_NATIVE_RLOCK)
    _adopt_native_threads()
    lock, rlock = _runtime.lock, _runtime.RLock
    new: dict[str, Any] = {
        "allocate_lock": lock, "allocate": lock, "LockType": lock, "lock": lock, "RLock": rlock,
        "get_ident": _runtime._get_ident, "_set_sentinel": _set_sentinel,
        "start_new_thread": start_new_thread, "start_new": start_new_thread,
        "_count": _count(_thread._count),
        "start_joinable_thread": start_joinable_thread, "_ThreadHandle": ThreadHandle,
    }  # fmt: skip
    for name, value in new.items():
        if hasattr(_thread, name):
            _registry.replace(_thread, name, value)
    names = {
        "Lock": lock, "_allocate_lock": lock, "_LockType": lock, "_CRLock": rlock,
        "get_ident": _runtime._get_ident, "_set_sentinel": _set_sentinel,
        "_start_new_thread": start_new_thread, "_ThreadHandle": ThreadHandle,
        "_start_joinable_thread": start_joinable_thread,
    }  # fmt: skip
    for name, value in names.items():
        if hasattr(threading, name):
            _registry.replace(threading, name, value)
    private: Any = threading
    if hasattr(private, "_thread_shutdown"):
        _registry.replace(private, "_thread_shutdown", _shutdown(private._thread_shutdown))
    if hasattr(threading.Thread, "_wait_for_tstate_lock"):
        _registry.replace(threading.Thread, "_wait_for_tstate_lock", _wait_for_tstate_lock)
    if not hasattr(threading, "_DeleteDummyThreadOnDel"):  # 3.11, 3.12
        _registry.replace(
            private._DummyThread, "__init__", _dummy_init(private._DummyThread.__init__)
        )
    for name in ("settrace", "setprofile", "settrace_all_threads", "setprofile_all_threads"):
        if hasattr(threading, name):
            _registry.replace(threading, name, _noting(getattr(threading, name)))
    os.register_at_fork(after_in_child=_after_fork)
    _run_interpreters_in_threads()
    _note_trace()
    _note_loops()
