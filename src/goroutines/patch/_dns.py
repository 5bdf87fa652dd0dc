"""Looking up names: libc's own functions, in threads, the caller's goroutine parked.

At most so many at once, so that a name server that does not answer cannot take all threads of
`blocking`; equal questions at the same time are asked once; who waits for too long gets an
error (the thread goes on until libc gives up).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from goroutines import context
from goroutines._runtime import Semaphore, blocking
from goroutines.group import singleflight
from goroutines.patch import _registry

LIMIT = 32  # lookups at once
TIMEOUT = 60.0  # seconds; libc gives up earlier with its defaults (two servers, 5 s, twice)

_slots = Semaphore(LIMIT)
_calls = singleflight.Group()


def is_numeric(family: int, host: Any) -> bool:
    """Tell whether a host needs no lookup."""
    if isinstance(host, bytes | bytearray):
        host = bytes(host).decode("ascii", "replace")
    if not isinstance(host, str) or host in ("", "<broadcast>"):
        return True
    try:
        socket.inet_pton(family, host.partition("%")[0])
    except (OSError, ValueError):
        return False
    return True


def _in_thread(original: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    with context.with_timeout(context.background(), TIMEOUT) as limit, context.scope(limit):
        try:
            _slots.acquire()
            try:
                return blocking(original, *args)
            finally:
                _slots.release()
        except context.DeadlineExceeded:
            if limit.err() is None:  # a deadline of the caller's
                raise
            raise socket.gaierror(
                socket.EAI_AGAIN, f"{original.__name__}{args!r} got no answer in {TIMEOUT:g} s"
            ) from None


def _lookup(original: Callable[..., Any], *args: Any) -> Any:
    try:
        found: Any
        found, _ = _calls.do((original, args), lambda: _in_thread(original, args))
    except TypeError:  # what cannot be a key is not what libc can look up
        return original(*args)
    return found[:] if _is_list(found) else found  # a copy for each


def _is_list(thing: object) -> bool:
    return isinstance(thing, list)


def _getaddrinfo(original: Callable[..., Any]) -> Callable[..., Any]:
    def getaddrinfo(
        host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        numeric = is_numeric(socket.AF_INET, host) or is_numeric(socket.AF_INET6, host)
        if flags & socket.AI_NUMERICHOST or numeric:
            return original(host, port, family, type, proto, flags)
        return _lookup(original, host, port, family, type, proto, flags)

    getaddrinfo.__doc__ = original.__doc__
    return getaddrinfo


def _by_thread(original: Callable[..., Any]) -> Callable[..., Any]:
    def lookup(*args: Any) -> Any:
        if not args or not isinstance(args[0], str | bytes | tuple):
            return original(*args)  # an error
        if original.__name__ == "getnameinfo" and not isinstance(args[0], tuple):
            return original(*args)
        return _lookup(original, *args)

    lookup.__name__ = lookup.__qualname__ = original.__name__
    lookup.__doc__ = original.__doc__
    return lookup


def install() -> None:
    _registry.replace(socket, "getaddrinfo", _getaddrinfo(socket.getaddrinfo))
    for name in ("gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo"):
        _registry.replace(socket, name, _by_thread(getattr(socket, name)))
