"""What the programs of the patch tests share: importing it patches.

`start` runs a function in a goroutine; `parks` also waits until nothing but the caller
can run and the function has not returned, so it fails, by a hang, when the call blocks
its thread. Without the patch (GOROUTINES_TEST_PATCH=0) they are threads.
"""

# ruff: noqa: E402

from __future__ import annotations

import _thread
import os
import time as _time

PATCHED = os.environ.get("GOROUTINES_TEST_PATCH") != "0"
_sleep = _time.sleep
_new_thread = _thread.start_new_thread
_new_lock = _thread.allocate_lock

if PATCHED and os.environ.get("GOROUTINES_TEST_SWITCHES") != "none":
    from goroutines.patch import patch

    patch()

import contextlib
import errno
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import goroutines
import goroutines.runtime
import goroutines.testing

__all__ = [
    "PATCHED",
    "PEM",
    "Task",
    "errno",
    "goroutines",
    "listeners",
    "os",
    "outcome",
    "parks",
    "settle",
    "signal",
    "socket",
    "start",
    "stream_pairs",
    "dgram_pairs",
    "sys",
    "temporary",
    "threading",
    "time",
    "until",
]

PEM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "localhost.pem")


def _dump(*_: object) -> None:
    """Print every goroutine's stack, at SIGQUIT."""
    os.write(2, goroutines.runtime.stack(all=True).encode())


signal.signal(signal.SIGQUIT, _dump)


class Task:
    """A function that runs in a goroutine of its own."""

    def __init__(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.fn, self.args, self.kwargs = fn, args, kwargs
        self._outcome: tuple[Any, BaseException | None] | None = None
        self._ended = _new_lock()  # for the threads of an unpatched program
        self._ended.acquire()
        if PATCHED:
            self.g = goroutines.go(self._run)
        else:
            _new_thread(self._run, ())

    def _run(self) -> None:
        try:
            self._outcome = (self.fn(*self.args, **self.kwargs), None)
        except BaseException as error:
            self._outcome = (None, error)
        finally:
            self._ended.release()

    @property
    def done(self) -> bool:
        """Whether the function has returned or raised."""
        return self._outcome is not None

    @property
    def reason(self) -> str | None:
        """What it waits for."""
        return self.g.wait_reason if PATCHED else None

    def join(self) -> None:
        """Wait until it is over."""
        if PATCHED:
            self.g.join()
        elif self._outcome is None:
            self._ended.acquire()
            self._ended.release()

    def result(self) -> Any:
        """Wait for its end; what it returned, or its exception raised."""
        self.join()
        assert self._outcome is not None
        if self._outcome[1] is not None:
            raise self._outcome[1]
        return self._outcome[0]

    def error(self, *types: type[BaseException]) -> BaseException:
        """Wait for its end; its exception, which has to be of one of `types`."""
        self.join()
        assert self._outcome is not None
        value, error = self._outcome
        assert error is not None, f"{self.fn} returned {value!r}"
        if not isinstance(error, types):
            raise error
        return error


def start(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Task:
    """Run `fn(*args, **kwargs)` in a goroutine."""
    return Task(fn, *args, **kwargs)


def settle() -> None:
    """Wait until all other goroutines wait for something."""
    if PATCHED:
        goroutines.sleep(0.0001)  # whom I/O that has come already wakes is awake now
        goroutines.testing.wait_all_blocked()
    else:
        _sleep(0.05)


def parks(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Task:
    """Start `fn` and wait until it waits, which it has to; others run meanwhile."""
    task = Task(fn, *args, **kwargs)
    settle()
    if task.done:
        raise AssertionError(f"{fn} did not wait: {outcome(task.result)!r}")
    if PATCHED:
        assert task.g.state == "waiting", (task.g.state, fn)
        assert goroutines.go(lambda: None).join() is None  # others can run
    return task


def outcome(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What `fn` returns, or the exception that it raises."""
    try:
        return fn(*args, **kwargs)
    except BaseException as error:
        return error


def until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Let others, goroutines and processes, run until `condition()` is true."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"{what} never came true"
        goroutines.gosched() if PATCHED else None
        _sleep(0.0005)  # the thread, for processes have to move too


@contextlib.contextmanager
def temporary() -> Iterator[str]:
    """A directory that is removed in the end."""
    path = tempfile.mkdtemp()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def _addresses(directory: str) -> Iterator[tuple[int, Any]]:
    yield socket.AF_INET, ("127.0.0.1", 0)
    if _has_ipv6():
        yield socket.AF_INET6, ("::1", 0)
    yield socket.AF_UNIX, os.path.join(directory, "sock")


def listeners(backlog: int = 16) -> Iterator[socket.socket]:
    """A listening stream socket of every family; each is closed before the next."""
    with temporary() as directory:
        for family, address in _addresses(directory):
            with socket.socket(family) as listener:
                listener.bind(address)
                listener.listen(backlog)
                yield listener


def stream_pairs() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected stream sockets of every family."""
    for listener in listeners():
        with socket.socket(listener.family) as a:
            a.connect(listener.getsockname())
            b, _ = listener.accept()
            with b:
                yield a, b


def dgram_pairs() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two datagram sockets of every family, connected to each other."""
    with temporary() as directory:
        for family, address in _addresses(directory):
            with (
                socket.socket(family, socket.SOCK_DGRAM) as a,
                socket.socket(family, socket.SOCK_DGRAM) as b,
            ):
                if isinstance(address, str):
                    a.bind(address)
                    b.bind(address + "2")
                else:
                    a.bind(address)
                    b.bind(address)
                a.connect(b.getsockname())
                b.connect(a.getsockname())
                yield a, b
