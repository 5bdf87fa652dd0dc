"""Go's ``defer`` and ``recover``.

A function decorated with `defers` is called by a wrapper, whose frame is the key to the
call's record.  Who may `defer` or `recover` is told by the frames: the body of the function
and its deferred calls are called by that very frame, nothing else is.  So both are lexical,
as in Go, and need no state per goroutine.
"""

from __future__ import annotations

import functools
import sys
import types

from goroutines.errors import GoroutineExit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")

_UNSET: Any = object()

_NOT_CALLED_THROUGH = 0x20 | 0x80 | 0x200
"""The code flags of generator, coroutine and async generator functions (`inspect`'s CO_*)."""

_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>")
"""Frames of their own up to 3.11, though part of the body."""


class _Record:
    """One call of a `defers` function."""

    __slots__ = ("calls", "deferring", "exc", "result", "returned")

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []
        self.deferring = False
        self.exc: BaseException | None = None
        self.returned: Any = None
        self.result: Any = _UNSET  # set_return's

    def failed(self, exc: BaseException) -> None:
        """Let exc take the place of the exception that was under way."""
        if self.exc is not None and exc is not self.exc and exc.__context__ is None:
            exc.__context__ = self.exc
        self.exc = exc


_active: dict[FrameType, _Record] = {}


def defers(fn: Callable[P, R]) -> Callable[P, R]:
    """Let ``defer()`` be used in the body of the decorated function.

    Deferred calls run when the function returns or raises, last first, each of them even if
    another one raises.  Follows Go's rules for ``defer``, ``panic`` and ``recover``.

    Raises:
        TypeError: fn is not a Python function, or is a generator or coroutine function.
    """
    if not isinstance(fn, types.FunctionType):
        raise TypeError(f"defers: expected a Python function, not {type(fn).__name__}")
    if fn.__code__.co_flags & _NOT_CALLED_THROUGH:
        raise TypeError(
            f"defers: {fn.__qualname__} is a generator or coroutine function, whose body "
            "does not run when it is called; use try/finally or contextlib.ExitStack there"
        )

    @functools.wraps(fn)
    def deferring(*args: P.args, **kwargs: P.kwargs) -> R:
        record = _Record()
        frame = sys._getframe()
        _active[frame] = record
        try:
            try:
                record.returned = fn(*args, **kwargs)
            except BaseException as exc:
                record.exc = exc
            record.deferring = True
            while record.calls:
                try:
                    record.calls.pop()()
                except BaseException as exc:
                    record.failed(exc)
            if record.exc is not None:
                raise record.exc
            result: R = record.returned if record.result is _UNSET else record.result
            return result
        finally:
            del _active[frame]
            del frame
            record.exc = None  # no cycle through the traceback

    return deferring


def _record_of_body(caller: FrameType | None) -> _Record | None:
    """Find the record of the `defers` function in whose body `caller` is."""
    while caller is not None and caller.f_code.co_name in _COMPREHENSIONS:
        caller = caller.f_back
    record = _active.get(caller.f_back) if caller is not None and caller.f_back else None
    return record if record is not None and not record.deferring else None


def _record_of_deferred(caller: FrameType | None) -> _Record | None:
    """Find the record whose deferred call `caller` is the function of."""
    above = caller.f_back if caller is not None else None
    record = _active.get(above) if above is not None else None
    if record is not None and above is not None and not record.deferring:
        record = _active.get(above.f_back) if above.f_back is not None else None
    return record if record is not None and record.deferring else None


def defer(fn: Callable[..., object], /, *args: Any, **kwargs: Any) -> None:
    """Call ``fn(*args, **kwargs)`` when the surrounding `defers` function ends.

    The arguments are evaluated now, as in Go.

    Raises:
        RuntimeError: Not called in the body of a function decorated with ``@defers``.
        TypeError: fn is not callable.
    """
    caller = sys._getframe(1)
    record = _record_of_body(caller)
    if record is None:
        raise RuntimeError(
            f"defer() outside a @defers function: decorate {caller.f_code.co_qualname} "
            "with @defers, or call defer() in the decorated function itself"
        )
    if not callable(fn):
        raise TypeError(f"defer: {fn!r} is not callable")
    record.calls.append(functools.partial(fn, *args, **kwargs))


def recover() -> BaseException | None:
    """Stop the exception that is under way, and return it.

    Answers only in a deferred function itself; elsewhere, and when nothing is under way, it
    returns None, as in Go.  The ``@defers`` function then returns None, or what
    ``set_return`` was given.  ``GoroutineExit`` is not recovered, as Go's Goexit.
    """
    record = _record_of_deferred(sys._getframe(1))
    if record is None or isinstance(record.exc, GoroutineExit):
        return None
    exc, record.exc = record.exc, None
    return exc


def set_return(value: object) -> None:
    """Set what the surrounding `defers` function returns: Go's named result.

    For its deferred functions; its body may use it too.  Always takes effect, whatever the
    function itself returns.

    Raises:
        RuntimeError: Called in neither.
    """
    caller = sys._getframe(1)
    record = _record_of_deferred(caller) or _record_of_body(caller)
    if record is None:
        raise RuntimeError(
            "set_return() outside a @defers function and its deferred functions: nothing "
            "there has a result to set"
        )
    record.result = value
