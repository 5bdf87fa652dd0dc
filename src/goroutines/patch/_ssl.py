"""ssl: TLS over sockets whose waits park.

OpenSSL is called on a descriptor that does not block, and says whether it wants to read or
to write; for that the goroutine parks, and the call is made again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import ssl
from collections.abc import Callable
from typing import Any

from goroutines import _runtime
from goroutines._runtime import now
from goroutines.patch import _registry
from goroutines.patch._socket import READ, WRITE, set_nonblocking

_spare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _forget_errors() -> None:
    """Empty OpenSSL's queue of errors, which is the thread's, for the sake of other goroutines.

    CPython leaves errors of the socket in it (3.14 does), and then takes the next call on
    another connection that would block for one that has failed.
    """
    with contextlib.suppress(ssl.SSLError):
        _spare.set_ciphers("none-such")  # fails, and then empties the queue


def _call(self: Any, what: str, fn: Callable[..., Any], *args: Any) -> Any:
    """Call ``fn(*args)``, a method of the SSL object of `self`, until it is done."""
    timeout = _runtime._sock_timeout(self)
    if timeout == 0:
        return fn(*args)
    deadline = None if timeout is None else now() + timeout
    set_nonblocking(self.fileno())
    while True:
        try:
            return _runtime._sock_nowait(self, fn, *args)
        except ssl.SSLWantReadError:
            mode = READ
        except ssl.SSLWantWriteError:
            mode = WRITE
        except OSError:
            _forget_errors()
            raise
        if not _runtime._sock_wait(self, mode, deadline):
            raise TimeoutError(f"The {what} operation timed out")
        if self.fileno() < 0:  # closed meanwhile; OpenSSL would go on with its number
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def read(self: Any, len: int = 1024, buffer: Any = None) -> Any:
    self._checkClosed()
    if self._sslobj is None:
        raise ValueError("Read on closed or unwrapped SSL socket.")
    args = (len,) if buffer is None else (len, buffer)
    try:
        return _call(self, "read", self._sslobj.read, *args)
    except ssl.SSLError as e:
        if e.args[0] == ssl.SSL_ERROR_EOF and self.suppress_ragged_eofs:
            return b"" if buffer is None else 0
        raise


def write(self: Any, data: Any) -> Any:
    self._checkClosed()
    if self._sslobj is None:
        raise ValueError("Write on closed or unwrapped SSL socket.")
    return _call(self, "write", self._sslobj.write, data)


def _send(original: Callable[..., int]) -> Callable[..., int]:
    def send(self: Any, data: Any, flags: int = 0) -> int:
        self._checkClosed()
        if self._sslobj is None:
            return original(self, data, flags)
        if flags != 0:
            raise ValueError(f"non-zero flags not allowed in calls to send() on {self.__class__}")
        sent: int = _call(self, "write", self._sslobj.write, data)
        return sent

    return send


def do_handshake(self: Any, block: bool = False) -> None:
    self._check_connected()
    timeout = self.gettimeout()
    try:
        if timeout == 0.0 and block:
            self.settimeout(None)
        _call(self, "handshake", self._sslobj.do_handshake)
    finally:
        self.settimeout(timeout)


def unwrap(self: Any) -> Any:
    if not self._sslobj:
        raise ValueError(f"No SSL wrapper around {self}")
    below = _call(self, "shutdown", self._sslobj.shutdown)
    self._sslobj = None
    return below


def _real_close(self: Any) -> None:
    """Close the descriptor first: without _sslobj recv() and send() would go past TLS."""
    below: Any = super(ssl.SSLSocket, self)
    below._real_close()
    self._sslobj = None


def install() -> None:
    cls = ssl.SSLSocket
    for function in (read, write, do_handshake, unwrap, _real_close):
        _registry.replace(cls, function.__name__, function)
    _registry.replace(cls, "send", _send(cls.send))
