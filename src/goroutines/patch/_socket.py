"""socket: the calls that wait.

The class `socket.socket` gets new methods in place, so every socket there is and every
class derived from it has them. The hot ones (recv, recv_into, send, sendall) are the
core's; the others make the original call without blocking and park when it would.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
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


def _real_close(self: Any, _ss: Any = _raw) -> None:
    _runtime._fd_closed(self.fileno())
    _ss.close(self)


def _detach(original: Callable[[Any], int]) -> Callable[[Any], int]:
    def detach(self: Any) -> int:
        _runtime._fd_closed(self.fileno())
        return original(self)

    return detach


def recvfrom(self: Any, bufsize: int, flags: int = 0, /) -> Any:
    return _runtime._sock_call(self, READ, _raw.recvfrom, self, bufsize, flags | _DONTWAIT)


def recvfrom_into(self: Any, buffer: Any, nbytes: int = 0, flags: int = 0) -> Any:
    flags |= _DONTWAIT
    return _runtime._sock_call(self, READ, _raw.recvfrom_into, self, buffer, nbytes, flags)


def recvmsg(self: Any, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> Any:
    flags |= _DONTWAIT
    return _runtime._sock_call(self, READ, _raw.recvmsg, self, bufsize, ancbufsize, flags)


def recvmsg_into(self: Any, buffers: Any, ancbufsize: int = 0, flags: int = 0, /) -> Any:
    flags |= _DONTWAIT
    return _runtime._sock_call(self, READ, _raw.recvmsg_into, self, buffers, ancbufsize, flags)


def sendto(self: Any, data: Any, *flags_and_address: Any) -> int:
    if len(flags_and_address) == 1:
        flags, address = 0, flags_and_address[0]
    elif len(flags_and_address) == 2:
        flags, address = flags_and_address
    else:
        raise TypeError(f"sendto() takes 2 or 3 arguments ({len(flags_and_address) + 1} given)")
    address = resolve(self, address)
    sent: int = _runtime._sock_call(
        self, WRITE, _raw.sendto, self, data, flags | _DONTWAIT, address
    )
    return sent


def sendmsg(
    self: Any, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /
) -> int:
    args: tuple[Any, ...] = (buffers, ancdata, flags | _DONTWAIT)
    if address is not None:
        args += (resolve(self, address),)
    sent: int = _runtime._sock_call(self, WRITE, _raw.sendmsg, self, *args)
    return sent


def _accept(self: Any) -> Any:
    if self.gettimeout() != 0:
        set_nonblocking(self.fileno())
    return _runtime._sock_call(self, READ, _raw._accept, self)


def connect(self: Any, address: Any, /) -> None:
    timeout = self.gettimeout()
    if timeout == 0:
        _raw.connect(self, address)
        return
    address = resolve(self, address)
    fd = self.fileno()
    set_nonblocking(fd)
    try:
        _connect(self, address, None if timeout is None else now() + timeout)
    finally:
        if timeout is None and self.fileno() == fd:
            os.set_blocking(fd, True)  # as a child that inherits it expects


def _connect(self: Any, address: Any, deadline: float | None) -> None:
    while True:
        try:
            _runtime._sock_nowait(self, _raw.connect, self, address)
            return
        except BlockingIOError as e:
            if e.errno == errno.EAGAIN:  # a unix socket, whose peer's backlog is full
                if deadline is not None and now() >= deadline:
                    raise TimeoutError("timed out") from None
                sleep(_BACKLOG_PAUSE)
                continue
        if not _runtime._sock_wait(self, WRITE, deadline):
            raise TimeoutError("timed out")
        error = self.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        return


def connect_ex(self: Any, address: Any, /) -> int:
    if self.gettimeout() == 0:
        result: int = _raw.connect_ex(self, address)
        return result
    try:
        self.connect(address)
    except TimeoutError:
        return errno.EAGAIN
    except socket.gaierror:
        raise
    except OSError as e:
        return e.errno or 0
    return 0


def _sendfile_use_sendfile(self: Any, file: Any, offset: int = 0, count: int | None = None) -> int:
    """Let socket.sendfile use send, which parks."""
    raise socket._GiveupOnSendfile("patched")  # type: ignore[attr-defined]


# ---- names ---------------------------------------------------------------------------------


def resolve(self: Any, address: Any) -> Any:
    """Look up the host of an address first, where the call itself would block to do it."""
    family = self.family
    if family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
        return address
    if not address or _dns.is_numeric(family, address[0]):
        return address
    host, port = address[0], address[1] if len(address) > 1 else 0
    found = socket.getaddrinfo(host, port, family, self.type, self.proto)
    return (found[0][4][0], *address[1:])


_METHODS: tuple[Callable[..., Any], ...] = (
    recvfrom, recvfrom_into, recvmsg, recvmsg_into, sendto, sendmsg, connect, connect_ex,
    _accept, _real_close, _sendfile_use_sendfile,
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
