"""socket: the calls that wait.

The class `socket.socket` gets new methods in place, so every socket there is and every
class derived from it has them. The hot ones (recv, recv_into, send, sendall) are the
core's; the others make the original call without blocking and park when it would.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
import sysconfig
from collections.abc import Callable, Generator
from typing import Any

from goroutines import _runtime
from goroutines._runtime import now, sleep
from goroutines.patch import _dns, _registry

READ, WRITE = 1, 2
_DONTWAIT = socket.MSG_DONTWAIT
_raw: Any = socket.socket.__base__  # _socket.socket
_BACKLOG_PAUSE = 0.005  # seconds, before a unix socket's full backlog is tried again


def check_layout() -> None:
    """Raise RuntimeError if CPython's socket objects are not what the core expects."""
    with socket.socket() as probe:
        probe.settimeout(12.5)
        if not _runtime._sock_layout_ok(probe, probe.fileno(), 12_500_000_000):
            raise RuntimeError("patch: this CPython's sockets are laid out in an unknown way")


def set_nonblocking(fd: int) -> None:
    """Make the descriptor itself non-blocking, for calls that have no MSG_DONTWAIT."""
    if os.get_blocking(fd):
        os.set_blocking(fd, False)


# ---- methods ---------------------------------------------------------------------------


def _init(original: Callable[..., None]) -> Callable[..., None]:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        original(self, *args, **kwargs)
        _runtime._fd_fresh(self.fileno())

    return __init__


def _real_close(self: Any, _ss: Any = _raw, _tell: Any = _runtime._fd_closed) -> None:
    _tell(self.fileno())
    _ss.close(self)


def _detach(original: Callable[[Any], int]) -> Callable[[Any], int]:
    def detach(self: Any) -> int:
        _runtime._fd_closed(self.fileno())
        return original(self)

    return detach


def _waiting(self: Any, mode: int, flags: int, fn: Callable[..., Any], *args: Any) -> Any:
    """Call ``fn(self, *args)``, which does not block, until it has something to return."""
    if flags & _DONTWAIT:
        return fn(self, *args)
    return _runtime._sock_call(self, mode, fn, self, *args)


def recvfrom(self: Any, bufsize: int, flags: int = 0, /) -> Any:
    return _waiting(self, READ, flags, _raw.recvfrom, bufsize, flags | _DONTWAIT)


def recvfrom_into(self: Any, buffer: Any, nbytes: int = 0, flags: int = 0) -> Any:
    return _waiting(self, READ, flags, _raw.recvfrom_into, buffer, nbytes, flags | _DONTWAIT)


def recvmsg(self: Any, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> Any:
    return _waiting(self, READ, flags, _raw.recvmsg, bufsize, ancbufsize, flags | _DONTWAIT)


def recvmsg_into(self: Any, buffers: Any, ancbufsize: int = 0, flags: int = 0, /) -> Any:
    return _waiting(self, READ, flags, _raw.recvmsg_into, buffers, ancbufsize, flags | _DONTWAIT)


def sendto(self: Any, data: Any, *flags_and_address: Any) -> int:
    if len(flags_and_address) == 1:
        flags, address = 0, flags_and_address[0]
    elif len(flags_and_address) == 2:
        flags, address = flags_and_address
    else:
        raise TypeError(f"sendto() takes 2 or 3 arguments ({len(flags_and_address) + 1} given)")
    address = resolve(self, address)
    sent: int = _waiting(self, WRITE, flags, _raw.sendto, data, flags | _DONTWAIT, address)
    return sent


def sendmsg(
    self: Any, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /
) -> int:
    to = () if address is None else (resolve(self, address),)
    sent: int = _waiting(self, WRITE, flags, _raw.sendmsg, buffers, ancdata, flags | _DONTWAIT, *to)
    return sent


def shutdown(self: Any, how: int, /) -> None:
    _raw.shutdown(self, how)
    # The poller is not told of all that this ends; of a unix socket's end accept is not either.
    listens = how != socket.SHUT_WR and self.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    (_runtime._fd_closed if listens else _runtime._fd_wake)(self.fileno())


def _accept(self: Any) -> Any:
    if self.gettimeout() != 0:
        set_nonblocking(self.fileno())
    return _runtime._sock_call(self, READ, _raw._accept, self)


def connect(self: Any, address: Any, /) -> None:
    if self.gettimeout() == 0:
        _raw.connect(self, address)
    else:
        _connect_waiting(self, address)


def connect_ex(self: Any, address: Any, /) -> int:
    if self.gettimeout() == 0:
        result: int = _raw.connect_ex(self, address)
        return result
    try:
        _connect_waiting(self, address)
    except TimeoutError as e:
        if type(e) is not TimeoutError:
            raise  # a scope's
        return errno.EAGAIN
    except socket.gaierror:
        raise
    except OSError as e:
        return e.errno or 0
    return 0


def _connect_waiting(self: Any, address: Any) -> None:
    address = resolve(self, address)
    timeout = self.gettimeout()
    with _nonblocking(self):
        _connect(self, address, None if timeout is None else now() + timeout)


@contextlib.contextmanager
def _nonblocking(self: Any) -> Generator[None, None, None]:
    """Make the descriptor non-blocking meanwhile; a child that inherits it expects the other."""
    fd = self.fileno()
    set_nonblocking(fd)
    try:
        yield
    finally:
        if self.gettimeout() is None and self.fileno() == fd:
            os.set_blocking(fd, True)


_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK)


def _connect(self: Any, address: Any, deadline: float | None) -> None:
    error: int = _runtime._sock_nowait(self, _raw.connect_ex, self, address)
    began = error in _UNDER_WAY
    while error in _UNDER_WAY or error == errno.EINTR:
        if error == errno.EINTR:
            pass  # what it came to, the next call tells
        elif error == errno.EAGAIN and self.family == socket.AF_UNIX:
            _pause_for_backlog(deadline)
        elif not _runtime._sock_wait(self, WRITE, deadline):
            raise TimeoutError("timed out")
        # The second call tells what came of the first; so the kernel wants it.
        error = _runtime._sock_nowait(self, _raw.connect_ex, self, address)
    if error and not (began and error == errno.EISCONN):
        raise OSError(error, os.strerror(error))


def _pause_for_backlog(deadline: float | None) -> None:
    """Wait a while for a unix socket whose peer's backlog is full: no event tells of its end."""
    if deadline is not None and now() >= deadline:
        raise TimeoutError("timed out")
    sleep(_BACKLOG_PAUSE)


def _sendfile_use_sendfile(original: Callable[..., int]) -> Callable[..., int]:
    def sendfile(self: Any, *args: Any, **kwargs: Any) -> int:
        if self.gettimeout() == 0:
            return original(self, *args, **kwargs)
        with _nonblocking(self):  # it waits by a selector, which parks
            return original(self, *args, **kwargs)

    return sendfile


def _locked(name: str) -> Callable[..., Any]:
    """Keep another thread's call, for which the socket is non-blocking, from being seen."""
    fn = getattr(_raw, name)

    @functools.wraps(fn)
    def method(self: Any, /, *args: Any) -> Any:
        return _runtime._sock_locked(fn, self, *args)

    return method


# ---- names ---------------------------------------------------------------------------------


def _has_host(family: int, address: object) -> bool:
    inet = family in (socket.AF_INET, socket.AF_INET6)
    return inet and isinstance(address, tuple) and address != ()


def resolve(self: Any, address: Any) -> Any:
    """Look up the host of an address first, where the call itself would block to do it."""
    family = self.family
    if not _has_host(family, address):
        return address
    host, *rest = address
    if _dns.is_numeric(family, host):
        return address
    found = socket.getaddrinfo(host, rest[0] if rest else 0, family, self.type, self.proto)
    return (found[0][4][0], *rest)


_METHODS: tuple[Callable[..., Any], ...] = (
    recvfrom, recvfrom_into, recvmsg, recvmsg_into, sendto, sendmsg, connect, connect_ex,
    shutdown, _accept, _real_close,
)  # fmt: skip


def install() -> None:
    check_layout()
    cls = socket.socket
    for name, method in _runtime._sock_methods(cls).items():
        _registry.replace(cls, name, method)
    for function in _METHODS:
        _registry.replace(cls, function.__name__, function)
    _registry.replace(cls, "__init__", _init(cls.__init__))
    _registry.replace(cls, "detach", _detach(cls.detach))
    private: Any = cls
    sendfile = _sendfile_use_sendfile(private._sendfile_use_sendfile)
    _registry.replace(cls, "_sendfile_use_sendfile", sendfile)
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        for name in ("gettimeout", "settimeout", "getblocking", "setblocking"):
            _registry.replace(cls, name, _locked(name))
        timeout = property(_runtime._sock_timeout, doc=_raw.timeout.__doc__)
        _registry.replace(cls, "timeout", timeout)
