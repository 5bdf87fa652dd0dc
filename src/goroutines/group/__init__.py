"""Structured concurrency: tasks that end with the block that they belong to.

`Group` is Go's ``errgroup`` in the shape of Python's ``TaskGroup``. `singleflight` is Go's
package of that name.
"""

from __future__ import annotations

from types import TracebackType
from typing import Generic, TypeVar

from goroutines import _away, _runtime
from goroutines._future import Future
from goroutines._runtime import Chan, WaitGroup
from goroutines.context import Canceled, Context, background, scope, with_cancel, without_cancel
from goroutines.errors import Deadlock, GoroutineExit, Panic
from goroutines.group import singleflight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec

    P = ParamSpec("P")

__all__ = ["Future", "Group", "singleflight"]

R = TypeVar("R")

_PASS_THROUGH = (KeyboardInterrupt, SystemExit, Panic, GoroutineExit, Deadlock)
"""What leaves a block as it is: it is about the goroutine or the program, not the work."""


class Group:
    """A block of tasks: leaving it waits for all, and the first failure cancels the rest.

    ::

        with Group() as g:
            page = g.go(fetch, "a")
            other = g.go(fetch, "b")
        print(page.result(), other.result())

    When a task or the block fails, `context` is cancelled, with the failure as cause. The
    failures of all, in the order in which they happened, leave the block together as an
    ExceptionGroup (a BaseExceptionGroup if one is no Exception). Not counted are `Canceled`
    of tasks once the context is cancelled, and tasks that end by ``runtime.goexit()``.
    KeyboardInterrupt, SystemExit, Panic, Deadlock and GoroutineExit in the block itself are
    raised as they are, after the tasks have ended.

    Args:
        limit: How many tasks may run at the same time; None: any number.
        context: The parent of the group's context; None: ``background()``.

    Attributes:
        context: What tasks look at to end early. Cancelled after every block.

    Raises:
        TypeError: limit is not an int, context not a Context.
        ValueError: limit < 1.
    """

    def __init__(self, limit: int | None = None, context: Context | None = None) -> None:
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool)):
            raise TypeError(f"Group: limit must be an int or None, not {type(limit).__name__}")
        if limit is not None and limit < 1:
            raise ValueError(f"Group: limit must be at least 1, not {limit}")
        if context is not None and not isinstance(context, Context):
            raise TypeError(f"Group: context must be a Context, not {type(context).__name__}")
        self.context = with_cancel(background() if context is None else context)
        self._places: Chan[None] | None = None if limit is None else Chan(limit)
        self._tasks = WaitGroup()
        self._failures: list[BaseException] = []
        self._state = "not entered"

    def go(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Start ``fn(*args, **kwargs)`` in a goroutine; wait while `limit` tasks run.

        Returns:
            The Future of its result. It need not be looked at: a failure leaves the block.

        Raises:
            TypeError: fn is not callable.
            RuntimeError: Called outside the block.
        """
        task = _Task(self, Future._task(fn, *args, **kwargs))
        self._check()
        if self._places is not None:
            self._places.send(None)
            self._check_place()
        return self._start(task)

    def try_go(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R] | None:
        """Do the same as `go`, but return None where that would wait."""
        task = _Task(self, Future._task(fn, *args, **kwargs))
        self._check()
        if self._places is not None and not self._places.try_send(None):
            return None
        return self._start(task)

    def _check(self) -> None:
        if self._state != "entered":
            raise RuntimeError(
                f"Group.go: the block of {self!r} "
                + ("has ended" if self._state == "ended" else "was not entered: use `with`")
            )

    def _check_place(self) -> None:
        """Give the place back that was waited for if the block has ended meanwhile."""
        try:
            self._check()
        except RuntimeError:
            self._leave_place()
            raise

    def _leave_place(self) -> None:
        if self._places is not None:
            self._places.try_recv()

    def _start(self, task: _Task[R]) -> Future[R]:
        self._tasks.add()
        task.counted = True
        _runtime._go_where_it_runs(task)
        return task.future

    def _ended(self, exc: BaseException | None) -> None:
        """Note how a task ended; its future is not done yet."""
        if exc is not None and not isinstance(exc, GoroutineExit):
            self._failed(exc)

    def _failed(self, exc: BaseException) -> None:
        if isinstance(exc, Canceled) and self.context.err() is not None:
            return
        if not any(exc is failure for failure in self._failures):
            self._failures.append(exc)
        self.context.cancel(exc)

    def __enter__(self) -> Group:
        if self._state != "not entered":
            raise RuntimeError(f"a Group serves one block, and this one has had it: {self!r}")
        self._state = "entered"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        passes = isinstance(exc, _PASS_THROUGH)
        if passes:
            self.context.cancel(exc)
        elif exc is not None:
            self._failed(exc)
        try:
            self._join()
        finally:
            self._state = "ended"
            self.context.cancel()
        failures, self._failures = self._failures, []
        try:
            if failures and not passes:
                raise BaseExceptionGroup("unhandled errors in a Group", failures) from None
        finally:
            del exc, failures  # no cycle through the traceback

    def _join(self) -> None:
        """Wait for all tasks; what is raised here meanwhile cancels them and waits, too."""
        try:
            self._tasks.wait()
        except Deadlock:
            raise
        except BaseException as exc:
            self.context.cancel(exc)
            with scope(without_cancel(self.context)):  # one that has ended would end each wait
                self._join()  # in the handler: there a goroutine that exits may still wait
            raise

    def __repr__(self) -> str:
        return f"<Group {self._state} at {id(self):#x}>"


class _Task(Generic[R]):
    """What the goroutine of a task calls."""

    __slots__ = ("_group", "counted", "future")

    def __init__(self, group: Group, future: Future[R]) -> None:
        self._group = group
        self.future = future
        self.counted = False

    def __call__(self) -> None:
        group, self.counted = self._group, False
        try:
            group._ended(self.future._run())
        finally:
            group._leave_place()
            try:
                self.future._finish()
            finally:
                group._tasks.done()

    def __del__(self) -> None:
        if self.counted:  # its run() ended before it began
            self._group._leave_place()
            self.future.cancel()
            self._group._tasks.done()


_away.install()
