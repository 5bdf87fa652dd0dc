"""select, poll, epoll and selectors.

Each lets others run, then asks the kernel, without waiting. Only if nothing is ready the
goroutine parks until one of the descriptors may be, and asks again.
"""

from __future__ import annotations

import select
import selectors
from collections.abc import Callable
from typing import Any

from goroutines import _runtime
from goroutines._runtime import gosched, now, sleep
from goroutines.patch import _registry

READ, WRITE, PRIORITY = 1, 2, 4
_REFUSED = 3

_select: Any = select.select


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - now())


def _wait(wants: list[tuple[int, int]], deadline: float | None) -> None:
    """Park until one of the descriptors may be ready, or the deadline."""
    if _runtime._wait_fds(wants, _left(deadline)) == _REFUSED:
        sleep(0)  # a regular file: it is always ready


def fileno(file: Any) -> int:
    """Return the descriptor of what select accepts, an int or an object with a fileno method.

    For what select itself has accepted before.
    """
    return file if isinstance(file, int) else int(file.fileno())


def cooperative_select(rlist: Any, wlist: Any, xlist: Any, timeout: Any = None, /) -> Any:
    """As select.select, parking the goroutine."""
    if timeout is not None and timeout < 0:
        raise ValueError("timeout must be non-negative")
    deadline = None if timeout is None else now() + timeout
    gosched()
    while True:
        ready = _select(rlist, wlist, xlist, 0)
        if any(ready) or timeout == 0:
            return ready
        if deadline is not None and now() >= deadline:
            return [], [], []
        _wait(_wants((rlist, wlist, xlist)), deadline)


def _wants(lists: tuple[Any, Any, Any]) -> list[tuple[int, int]]:
    return [
        (fileno(file), mode)
        for files, mode in zip(lists, (READ, WRITE, PRIORITY), strict=True)
        for file in files
    ]


_INT_MAX = 2**31 - 1
_ALL_EVENTS = select.POLLIN | select.POLLOUT | select.POLLPRI


class Poll:
    """As select.poll objects, parking the goroutine."""

    __slots__ = ("_masks", "_poll", "_polling")

    _poll: Any
    _masks: dict[int, int]
    _polling: bool

    def __new__(cls) -> Any:
        raise TypeError("cannot create 'select.poll' instances")

    def register(self, fd: Any, eventmask: int = _ALL_EVENTS, /) -> None:
        self._poll.register(fd, eventmask)
        self._masks[fileno(fd)] = eventmask

    def modify(self, fd: Any, eventmask: int, /) -> None:
        self._poll.modify(fd, eventmask)
        self._masks[fileno(fd)] = eventmask

    def unregister(self, fd: Any, /) -> None:
        self._poll.unregister(fd)
        self._masks.pop(fileno(fd), None)

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """Return what is ready; `timeout` is in milliseconds, None or negative: no limit."""
        if self._polling:
            raise RuntimeError("concurrent poll() invocation")
        if timeout is not None and timeout > _INT_MAX:
            raise OverflowError("timeout is too large")
        self._polling = True
        try:
            return self._until_ready(timeout)
        finally:
            self._polling = False

    def _until_ready(self, timeout: float | None) -> list[tuple[int, int]]:
        deadline = None if timeout is None or timeout < 0 else now() + timeout / 1000
        gosched()
        while True:
            ready: list[tuple[int, int]] = self._poll.poll(0)
            if ready or timeout == 0 or (deadline is not None and now() >= deadline):
                return ready
            _wait([(fd, _modes(mask)) for fd, mask in self._masks.items()], deadline)


Poll.__name__ = Poll.__qualname__ = "poll"
Poll.__module__ = "select"


def poll() -> Poll:
    """Return a poll object whose waits park."""
    made: Poll = object.__new__(Poll)
    made._poll = _registry.original(select, "poll")()
    made._masks = {}
    made._polling = False
    return made


def _modes(mask: int) -> int:
    modes = WRITE if mask & select.POLLOUT else 0
    if mask & select.POLLPRI:
        modes |= PRIORITY
    if mask & ~(select.POLLOUT | select.POLLPRI) or not modes:
        modes |= READ  # POLLHUP and POLLERR are told anyway
    return modes


def _cooperative_epoll() -> type:
    native: Any = select.epoll

    class epoll:  # noqa: N801 - the name it has in the standard library
        """As select.epoll, parking the goroutine."""

        def __init__(self, sizehint: int = -1, flags: int = 0) -> None:
            self._epoll = native(sizehint, flags)

        @classmethod
        def fromfd(cls, fd: int) -> Any:
            made = cls.__new__(cls)
            made._epoll = native.fromfd(fd)
            return made

        def __getattr__(self, name: str) -> Any:
            return getattr(self._epoll, name)

        def poll(self, timeout: float | None = None, maxevents: int = -1) -> Any:
            """Return what is ready; `timeout` is in seconds, None or negative: no limit."""
            deadline = None if timeout is None or timeout < 0 else now() + timeout
            gosched()
            while True:
                ready = self._epoll.poll(0, maxevents)
                if ready or timeout == 0 or (deadline is not None and now() >= deadline):
                    return ready
                _wait([(self._epoll.fileno(), READ)], deadline)

        def __enter__(self) -> Any:
            self._epoll.__enter__()
            return self

        def __exit__(self, *exc: object) -> None:
            self.close()

        def close(self) -> None:
            if not self._epoll.closed:
                _runtime._fd_closed(self._epoll.fileno())
            self._epoll.close()

    return epoll


def _selector_select(original: Callable[..., Any], wants_of: Callable[[Any], Any]) -> Any:
    def select_(self: Any, timeout: float | None = None) -> Any:
        """Return what is ready, parking the goroutine until something is."""
        gosched()
        if timeout is not None and timeout <= 0:
            return original(self, 0)
        deadline = None if timeout is None else now() + timeout
        while True:
            ready = original(self, 0)
            if ready or (deadline is not None and now() >= deadline):
                return ready
            _wait(wants_of(self), deadline)

    select_.__name__ = "select"
    return select_


def _by_map(self: Any) -> list[tuple[int, int]]:
    return [
        (key.fd, (READ if key.events & selectors.EVENT_READ else 0)
         | (WRITE if key.events & selectors.EVENT_WRITE else 0))
        for key in self.get_map().values()
    ]  # fmt: skip


def _by_fileno(self: Any) -> list[tuple[int, int]]:
    return [(self._selector.fileno(), READ)]


def install() -> None:
    _registry.replace(select, "select", cooperative_select)
    selector_classes: list[tuple[str, Callable[[Any], Any]]] = [
        ("SelectSelector", _by_map),
        ("PollSelector", _by_map),
        ("EpollSelector", _by_fileno),
        ("KqueueSelector", _by_fileno),
    ]
    for name, wants_of in selector_classes:
        cls: Any = getattr(selectors, name, None)
        if cls is not None:
            _registry.replace(cls, "select", _selector_select(cls.select, wants_of))
            if hasattr(cls, "_selector_cls"):  # a staticmethod: no sweep takes it for the new
                cls._selector_cls = staticmethod(cls._selector_cls)
    # The selectors above keep their native poll and epoll objects: they ask without waiting.
    selectors.SelectSelector._select = staticmethod(_select)  # type: ignore[attr-defined]
    if hasattr(select, "poll"):
        _registry.replace(select, "poll", poll)
    if hasattr(select, "epoll"):
        _registry.replace(select, "epoll", _cooperative_epoll())
