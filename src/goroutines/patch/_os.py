"""os: pipes, terminals and waiting for processes."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import sys
from collections.abc import Callable
from typing import Any

from goroutines import _runtime
from goroutines._runtime import blocking
from goroutines.patch import _registry

READ, WRITE = 1, 2
_REFUSED_BY = {READ: os.O_WRONLY, WRITE: os.O_RDONLY}
_PIECE = getattr(select, "PIPE_BUF", 512)  # what a pipe that is writable takes at once
_WNOHANG = os.WNOHANG


def _waits(fd: int, mode: int) -> bool:
    """Tell whether a call for this descriptor could block for long, and may."""
    if sys.is_finalizing():
        return False  # goroutines wait no more
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        if flags & os.O_NONBLOCK or flags & os.O_ACCMODE == _REFUSED_BY[mode]:
            return False
        return not stat.S_ISREG(os.fstat(fd).st_mode)
    except (OSError, TypeError, ValueError, OverflowError):
        return False  # the call itself says what is wrong


def _ready(fd: int, mode: int) -> bool:
    poll = _registry.original(select, "poll")()
    poll.register(fd, select.POLLIN if mode == READ else select.POLLOUT)
    return bool(poll.poll(0))


def wait_ready(fd: int, mode: int) -> None:
    """Park until a call for this descriptor would not block."""
    if not _waits(fd, mode):
        return
    _runtime._io_turn()
    while not _ready(fd, mode):
        if _runtime._wait_fds([(fd, mode)]) == 2:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def _reader(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(fd: int, /, *args: Any) -> Any:
        wait_ready(fd, READ)
        return original(fd, *args)

    return call


def _write(original: Callable[[int, Any], int]) -> Callable[[int, Any], int]:
    def write(fd: int, data: Any, /) -> int:
        if not _waits(fd, WRITE):
            return original(fd, data)
        view = memoryview(data).cast("B")
        sent = 0
        while True:  # what a blocking write does: all of it, in pieces that cannot block
            wait_ready(fd, WRITE)
            sent += original(fd, view[sent : sent + _PIECE])
            if sent >= len(view):
                return sent

    return write


def _writev(write: Callable[[int, Any], int], original: Callable[[int, Any], int]) -> Any:
    def writev(fd: int, buffers: Any, /) -> int:
        if not _waits(fd, WRITE):
            return original(fd, buffers)
        return write(fd, b"".join(buffers))

    return writev


def _dup2(original: Callable[..., int]) -> Callable[..., int]:
    def dup2(fd: int, fd2: int, inheritable: bool = True) -> int:
        made = original(fd, fd2, inheritable)
        _runtime._fd_fresh(made)
        return made

    return dup2


# ---- processes ---------------------------------------------------------------------------


def wait_for_process(pid: int, timeout: float | None = None) -> bool:
    """Park until this child has ended (it is not reaped); False when the time is out."""
    if sys.is_finalizing():
        return True
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return True  # waitpid itself says what is wrong
    try:
        return _runtime._wait_fds([(fd, READ)], timeout) != 1
    finally:
        os.close(fd)


def _waitpid(original: Callable[[int, int], Any]) -> Callable[[int, int], Any]:
    """Replace waitpid or wait4."""

    def wait(pid: int, options: int) -> Any:
        if options & _WNOHANG:
            return original(pid, options)
        if pid <= 0 or options or not hasattr(os, "pidfd_open"):
            return blocking(original, pid, options)
        wait_for_process(pid)
        return original(pid, options)

    return wait


def _waitid(original: Callable[[int, int, int], Any]) -> Callable[[int, int, int], Any]:
    def waitid(idtype: int, id: int, options: int, /) -> Any:
        if options & _WNOHANG:
            return original(idtype, id, options)
        return blocking(original, idtype, id, options)

    return waitid


def _close(original: Callable[[int], None]) -> Callable[[int], None]:
    tell = _runtime._fd_closed  # finalizers call it when modules have lost their names

    def close(fd: int) -> None:
        if isinstance(fd, int) and fd >= 0:
            tell(fd)
        original(fd)

    return close


def install() -> None:
    for name in ("read", "readv"):
        if hasattr(os, name):
            _registry.replace(os, name, _reader(getattr(os, name)))
    write = _write(os.write)
    _registry.replace(os, "write", write)
    if hasattr(os, "writev"):
        _registry.replace(os, "writev", _writev(write, os.writev))
    _registry.replace(os, "dup2", _dup2(os.dup2))
    _registry.replace(os, "close", _close(os.close))
    _registry.replace(os, "waitpid", _waitpid(os.waitpid))
    _registry.replace(os, "wait4", _waitpid(os.wait4))
    if hasattr(os, "waitid"):
        _registry.replace(os, "waitid", _waitid(os.waitid))
    for name in ("wait", "wait3", "system"):
        _registry.replace(os, name, _registry.in_thread(getattr(os, name)))
