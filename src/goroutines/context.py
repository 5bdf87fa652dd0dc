"""Deadlines, cancellation and values that go down a tree of calls (Go's package context).

A context is done when it is cancelled, when its deadline passes, or when its parent is
done. Who works on its behalf receives from `done()`, calls `raise_if_done()`, or puts the
work into a `scope(ctx)`, inside which every wait ends with the context.

How it works: a context that can be cancelled knows its children, which are other contexts,
functions of `after_func`, and the core's scopes: all that has a method ``_cancel``. No lock
is needed: who puts its end in first is the one that cancels a context, others see to it that
it has ended before they go on; and who adds a child looks afterwards whether the context
has ended meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from goroutines import _runtime
from goroutines._runtime import Chan, Timer, go, now
from goroutines._runtime import after_func as _after

__all__ = [
    "CancelContext",
    "Canceled",
    "Context",
    "DeadlineExceeded",
    "after_func",
    "background",
    "scope",
    "todo",
    "with_cancel",
    "with_deadline",
    "with_timeout",
    "with_value",
    "without_cancel",
]


class Canceled(Exception):
    """A context was cancelled (Go's context.Canceled)."""

    def __init__(self, message: str = "context canceled") -> None:
        super().__init__(message)


class DeadlineExceeded(TimeoutError):
    """A context's deadline has passed (Go's context.DeadlineExceeded)."""

    def __init__(self, message: str = "context deadline exceeded") -> None:
        super().__init__(message)


class _End(NamedTuple):
    """Why a context is done."""

    err: Canceled | DeadlineExceeded
    cause: BaseException


class _Child(Protocol):
    """What a context tells of its end."""

    def _cancel(self, end: _End, /) -> None: ...


class Context:
    """What all contexts can be asked. Made by `background()` and the ``with_*`` functions."""

    __slots__ = ("__weakref__", "_parent", "_root", "_shields")

    def __init__(self, parent: Context | None) -> None:
        self._parent = parent
        # The nearest context, itself included, that can be cancelled.
        self._root: CancelContext | None = parent._root if parent is not None else None
        # Whether a without_cancel() lies between it and whatever is around it.
        self._shields: bool = parent._shields if parent is not None else False

    def done(self) -> Chan[None]:
        """Return the channel that is closed when the context is done.

        It is the same one at each call and can only be received from. That of a context
        that cannot be cancelled is never closed.
        """
        return _NEVER if self._root is None else self._root._done

    def err(self) -> Canceled | DeadlineExceeded | None:
        """Return None, or once it is done, why: Canceled or DeadlineExceeded."""
        end = None if self._root is None else self._root._end
        return None if end is None else end.err

    def cause(self) -> BaseException | None:
        """Return what cancel() was given, here or in a parent; by default, err()."""
        end = None if self._root is None else self._root._end
        return None if end is None else end.cause

    def deadline(self) -> float | None:
        """Return when it will be done at the latest, by `time.now()`, or None."""
        return None if self._root is None else self._root._deadline

    def value(self, key: object) -> Any:
        """Return the value of `key`, here or in the nearest parent, or None."""
        ctx: Context | None = self
        while ctx is not None:
            if isinstance(ctx, _ValueContext) and (ctx._key is key or ctx._key == key):
                return ctx._value
            ctx = ctx._parent
        return None

    def raise_if_done(self) -> None:
        """Raise Canceled or DeadlineExceeded, from the cause, if the context is done."""
        if self._root is not None and self._root._end is not None:
            raise self._error()

    def _error(self) -> Canceled | DeadlineExceeded:
        """Make a fresh err(), so that no two raises share a traceback."""
        end = None if self._root is None else self._root._end
        assert end is not None
        error = type(end.err)(*end.err.args)
        error.__cause__ = None if end.cause is end.err else end.cause
        return error

    def _describe(self) -> str:
        return type(self).__name__.strip("_")

    def __repr__(self) -> str:
        chain: list[str] = []
        ctx: Context | None = self
        while ctx is not None and len(chain) < 8:
            chain.append(ctx._describe())
            ctx = ctx._parent
        return f"<{' in '.join(chain)}{' in ...' if ctx is not None else ''}>"


class _Background(Context):
    """The root of a tree: never done."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        super().__init__(None)
        self._name = name

    def _describe(self) -> str:
        return self._name


class _ValueContext(Context):
    """A context with one more value."""

    __slots__ = ("_key", "_value")

    def __init__(self, parent: Context, key: object, value: object) -> None:
        super().__init__(parent)
        self._key = key
        self._value = value

    def _describe(self) -> str:
        return f"value {self._key!r}"


class _WithoutCancel(Context):
    """A context with its parent's values only."""

    __slots__ = ()

    def __init__(self, parent: Context) -> None:
        super().__init__(parent)
        self._root = None
        self._shields = True

    def _describe(self) -> str:
        return "without_cancel"


class CancelContext(Context):
    """A context that can be cancelled; as a context manager it is, on leaving the block."""

    __slots__ = ("_children", "_deadline", "_done", "_end", "_ends", "_timer")

    def __init__(self, parent: Context) -> None:
        super().__init__(parent)
        above = self._root
        self._root = self
        self._deadline: float | None = None if above is None else above._deadline
        self._done: Chan[None] = _runtime._done_chan()
        self._end: _End | None = None
        self._ends: dict[None, list[_End]] = {}
        self._children: dict[_Child, None] = {}
        self._timer: Timer | None = None
        if above is None:
            return
        if above._end is not None:  # as long as nobody else knows of this one
            self._end_it(above._end)
        else:
            above._add(self)

    def cancel(self, cause: BaseException | None = None) -> None:
        """Cancel the context and all below it; later calls do nothing.

        `cause`, an exception, is what `cause()` returns then and what the errors raised
        for this context have as their ``__cause__``. Raises TypeError for anything else.
        """
        if cause is not None and not isinstance(cause, BaseException):
            raise TypeError(f"cancel: cause must be an exception or None, not {cause!r}")
        err = Canceled()
        self._finish(_End(err, err if cause is None else cause))

    def _finish(self, end: _End) -> None:
        self._cancel(end)
        above = None if self._parent is None else self._parent._root
        if above is not None:
            above._remove(self)

    def _cancel(self, end: _End, /) -> None:
        """End this context and all below it: called by the parent."""
        todo, ended = [(self, end)], list[tuple[CancelContext, list[CancelContext]]]()
        while todo:  # a loop: a tree may be deeper than the stack
            context, why = todo.pop()
            why, below = context._end_it(why)
            todo += [(child, why) for child in below]
            ended.append((context, below))
        for context, below in ended:
            for child in below:
                context._remove(child)

    def _end_it(self, end: _End) -> tuple[_End, list[CancelContext]]:
        """End this context alone, and what else waits for it.

        Returns why it has ended, and the contexts below it, the first one last, which are to
        be ended by whoever comes: who cancels what another thread just cancels does that too.
        """
        mine = [end]
        if self._ends.setdefault(None, mine) is not mine:  # another thread was first; help it
            end = self._ends[None][0]
        self._end = end
        _runtime._close_done(self._done)
        if self._timer is not None:
            self._timer.stop()
        below: list[CancelContext] = []
        for child in list(self._children):
            if isinstance(child, CancelContext):
                below.append(child)
            else:
                self._remove_and_cancel(child, end)
        return end, below[::-1]

    def _set_deadline(self, when: float) -> None:
        if self._deadline is not None and self._deadline <= when:
            return  # the parent's comes first
        self._deadline = when
        left = when - now()
        if left <= 0:
            self._exceed()
            return
        self._timer = _after(left, self._exceed)
        if self._end is not None:  # cancelled between the two
            self._timer.stop()

    def _exceed(self) -> None:
        err = DeadlineExceeded()
        self._finish(_End(err, err))

    def _add(self, child: _Child) -> None:
        self._children[child] = None
        if self._end is not None:
            self._remove_and_cancel(child, self._end)

    def _remove_and_cancel(self, child: _Child, end: _End) -> None:
        with contextlib.suppress(KeyError):
            del self._children[child]
            child._cancel(end)

    def _remove(self, child: _Child) -> None:
        self._children.pop(child, None)

    def _describe(self) -> str:
        state = "" if self._end is None else " done"
        if self._deadline is None:
            return f"cancel{state}"
        return f"deadline {self._deadline - now():+.3f} s{state}"

    def __enter__(self) -> CancelContext:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.cancel()


_NEVER: Chan[None] = _runtime._done_chan()
_BACKGROUND = _Background("background")
_TODO = _Background("todo")


def _parent_arg(who: str, parent: object) -> Context:
    if not isinstance(parent, Context):
        raise TypeError(
            f"{who}: parent must be a context, not {parent!r}; use background() if there is none"
        )
    return parent


def background() -> Context:
    """Return the root of all contexts: never done, no values, no deadline."""
    return _BACKGROUND


def todo() -> Context:
    """Return a background() for where it is not yet clear which context to use."""
    return _TODO


def with_cancel(parent: Context) -> CancelContext:
    """Return a child of `parent` that can be cancelled.

    Cancel it, or leave its `with` block, when the work is done: until then the parent
    keeps it. Raises TypeError if `parent` is no context.
    """
    return CancelContext(_parent_arg("with_cancel", parent))


def with_timeout(parent: Context, seconds: float) -> CancelContext:
    """Return a child of `parent` that is done after so many seconds at the latest.

    The same as ``with_deadline(parent, time.now() + seconds)``.
    """
    return _with_deadline("with_timeout", parent, seconds, now())


def with_deadline(parent: Context, when: float) -> CancelContext:
    """Return a child of `parent` that is done at `when`, by `time.now()`, at the latest.

    A deadline of the parent's that is earlier counts; one in the past makes it done at
    once, with DeadlineExceeded. Raises TypeError if `parent` is no context or `when` no
    number, ValueError for NaN.
    """
    return _with_deadline("with_deadline", parent, when, 0.0)


def _with_deadline(who: str, parent: Context, seconds: float, start: float) -> CancelContext:
    _parent_arg(who, parent)
    if not isinstance(seconds, int | float):
        raise TypeError(f"{who}: expected a number of seconds, not {seconds!r}")
    if seconds != seconds:
        raise ValueError(f"{who}: expected a number of seconds, not NaN")
    ctx = CancelContext(parent)
    ctx._set_deadline(start + seconds)
    return ctx


def with_value(parent: Context, key: object, value: object) -> Context:
    """Return a child of `parent` in which `key` has this value.

    Keys are compared with ``==``; to be safe from others, use an object of your own.
    Raises TypeError if `parent` is no context or `key` is None.
    """
    _parent_arg("with_value", parent)
    if key is None:
        raise TypeError("with_value: key must not be None")
    return _ValueContext(parent, key, value)


def without_cancel(parent: Context) -> Context:
    """Return a child with the values of `parent` that is not done when it is.

    In a `scope` it also keeps the scopes around it away: for clean-up.
    """
    return _WithoutCancel(_parent_arg("without_cancel", parent))


class _AfterFunc:
    """A function that waits for the end of a context."""

    __slots__ = ("_fn",)

    def __init__(self, fn: Callable[[], object]) -> None:
        self._fn = [fn]  # taken once, by who starts it or by stop()

    def _cancel(self, _: _End, /) -> None:
        with contextlib.suppress(IndexError):
            go(self._fn.pop())

    def stop(self) -> bool:
        """Take the function back; False if it was started or stopped before."""
        try:
            self._fn.pop()
        except IndexError:
            return False
        return True


def after_func(ctx: Context, fn: Callable[[], object]) -> Callable[[], bool]:
    """Call ``fn()`` in a goroutine of its own once `ctx` is done; at once if it is.

    Returns ``stop``: it takes the function back and returns True, or returns False if the
    function was started or stopped before (Go's context.AfterFunc). Raises TypeError.
    """
    _parent_arg("after_func", ctx)
    if not callable(fn):
        raise TypeError(f"after_func: {fn!r} is not callable")
    child = _AfterFunc(fn)
    if ctx._root is None:
        return child.stop
    ctx._root._add(child)
    return partial(_stop, ctx._root, child)


def _stop(root: CancelContext, child: _AfterFunc) -> bool:
    root._remove(child)
    return child.stop()


class scope:  # noqa: N801 - used like a function: with scope(ctx):
    """Let every wait of this goroutine inside the block end with `ctx` too.

    ::

        with context.with_timeout(parent, 5) as ctx, context.scope(ctx):
            reply = library.call()  # takes no deadline, and has one now

    Whatever waits in the block (a channel, a lock, a sleep, a patched socket) raises
    Canceled or DeadlineExceeded, with the cause as ``__cause__``, when the context is
    done. What needs no waiting is never disturbed, and a wait that has succeeded delivers.
    Scopes nest, the tightest counts; inside ``scope(without_cancel(ctx))``, or one of a
    context below it, those around it do not count. Goroutines started in the block are not
    in it. Raises TypeError if `ctx` is no context, RuntimeError when the block is left by
    another goroutine or out of order.
    """

    __slots__ = ("_core", "_ctx")

    def __init__(self, ctx: Context) -> None:
        self._ctx = _parent_arg("scope", ctx)
        self._core: _runtime.Scope | None = None

    def __enter__(self) -> Context:
        if self._core is not None:
            raise RuntimeError(f"{self!r} is in use already: make one for each block")
        core = _runtime.Scope(self._ctx, self._ctx._shields)
        core.enter()
        self._core = core
        if self._ctx._root is not None:
            self._ctx._root._add(core)
        return self._ctx

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        core = self._core
        if core is None:
            raise RuntimeError(f"{self!r} was not entered")
        core.exit()
        self._core = None
        if self._ctx._root is not None:
            self._ctx._root._remove(core)

    def __repr__(self) -> str:
        return f"scope({self._ctx!r})"
