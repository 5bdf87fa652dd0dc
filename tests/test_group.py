"""Group: its block, its limit, its failures, and what interrupts it."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from typing import Any

import pytest

from goroutines import Chan, GoroutineExit, Group, go, gosched, run, runtime, sleep
from goroutines.context import Canceled, background, scope, with_cancel, with_timeout

from .conftest import Token, dead, in_thread, parked, run_program, until


def fail(error: BaseException) -> None:
    """A task that fails."""
    raise error


def test_failures_in_the_order_in_which_they_happened() -> None:
    """The group lists failures as they came, the block's own among them."""
    first, second, block = ValueError("first"), KeyError("second"), OSError("block")
    with pytest.raises(ExceptionGroup) as caught, Group() as g:
        g.go(fail, first)
        until(lambda: g.context.err(), "that the first failed")
        try:
            raise block
        finally:
            late = g.go(lambda: (g.context.done().recv_ok(), fail(second)))
            late.exception()
    assert caught.value.exceptions == (first, second, block)
    assert g.context.cause() is first


def test_result_raised_in_the_block_counts_once() -> None:
    """A task's failure that leaves the block through result() is not listed twice."""
    error = ValueError("x")
    with pytest.raises(ExceptionGroup) as caught, Group() as g:
        g.go(fail, error).result()
    assert caught.value.exceptions == (error,)


def test_base_exception_group_where_needed() -> None:
    """A failure that is no Exception makes it a BaseExceptionGroup."""

    class Abort(BaseException):
        pass

    with pytest.raises(BaseExceptionGroup) as caught, Group() as g:
        g.go(fail, Abort())
    assert not isinstance(caught.value, ExceptionGroup)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GoroutineExit])
def test_interrupts_leave_the_block_as_they_are(kind: type[BaseException]) -> None:
    """They cancel the tasks, wait for them, and are not wrapped."""
    ended: list[object] = []

    def task() -> None:
        g.context.done().recv_ok()
        for _ in range(5):
            gosched()
        ended.append(g.context.cause())

    with pytest.raises(kind) as caught, Group() as g:
        g.go(task)
        raise kind
    assert ended == [caught.value]


def test_goroutine_that_exits_waits_for_its_tasks() -> None:
    """The end of run() finds a goroutine in its block: its tasks end before it does."""
    log: list[str] = []
    begun = Chan[None]()

    def task() -> None:
        try:
            begun.recv()
            sleep(3600)
        finally:
            log.append("task")

    def owner() -> None:
        with Group() as g:
            g.go(task)
            g.go(lambda: g.context.done().recv_ok())
        log.append("never")

    def main() -> None:
        owners.append(go(owner))
        begun.send(None)
        parked(owners[0])

    owners: list[Any] = []
    run(main)
    dead(owners[0])
    assert log == ["task"]


def test_task_that_never_began() -> None:
    """A task that its run() ends unstarted is cancelled, and its block is left."""
    futures: list[Any] = []

    def owner() -> None:
        with Group() as g:
            futures.append(g.go(sleep, 3600))

    run(lambda: go(owner) and gosched())
    assert all(f.done() for f in futures)


def test_goexit_in_a_task_is_no_failure() -> None:
    """A task may end by goexit: its place is free, nothing is raised."""
    with Group(limit=1) as g:
        futures = [g.go(runtime.goexit) for _ in range(3)]
    assert [type(f.exception()) for f in futures] == [GoroutineExit] * 3


def test_limit_is_checked_and_kept() -> None:
    """limit is a number of tasks; the waiting go has the slot of the first that ends."""
    for bad, error in ((0, ValueError), (-1, ValueError), ("1", TypeError), (True, TypeError)):
        with pytest.raises(error):
            Group(limit=bad)  # type: ignore[arg-type]
    door = Chan[None]()
    with Group(limit=1) as g:
        g.go(door.recv_ok)
        assert g.try_go(len, "abc") is None
        waiting = go(g.go, len, "abc")
        parked(waiting)
        door.close()
        waiting.join()


def test_group_serves_one_block() -> None:
    """go before and after the block, and a second block, are RuntimeErrors."""
    g = Group()
    with pytest.raises(RuntimeError, match="not entered"):
        g.go(len, "abc")
    with g:
        pass
    with pytest.raises(RuntimeError, match="ended"):
        g.go(len, "abc")
    with pytest.raises(RuntimeError), g:
        pass


def test_scope_around_a_block() -> None:
    """A scope that ends while the block waits cancels the tasks, and its error comes out."""
    parent = with_cancel(background())

    def body() -> None:
        with scope(parent), Group(context=parent) as g:
            g.go(lambda: g.context.done().recv_ok())

    errors: list[BaseException] = []

    def owner() -> None:
        try:
            body()
        except BaseException as error:
            errors.append(error)

    g = go(owner)
    parked(g)
    parent.cancel()
    dead(g)
    assert [type(e) for e in errors] == [Canceled]


def test_deadline_of_the_parent() -> None:
    """A parent's deadline ends the group's context, and tasks that look at it."""
    with pytest.raises(ExceptionGroup) as caught:
        with with_timeout(background(), 0.001) as ctx, Group(context=ctx) as g:
            g.go(lambda: (g.context.done().recv_ok(), g.context.raise_if_done()))
    assert [type(e).__name__ for e in caught.value.exceptions] == ["DeadlineExceeded"]


def test_tasks_have_the_callers_contextvars() -> None:
    """Each task runs in a copy of its own of the caller's contextvars."""
    var: contextvars.ContextVar[int] = contextvars.ContextVar("var", default=0)

    def task() -> int:
        before = var.get()
        var.set(9)
        return before

    var.set(5)
    with Group() as g:
        futures = [g.go(task) for _ in range(3)]
    assert [f.result() for f in futures] == [5, 5, 5]
    assert var.get() == 5


def test_nothing_is_kept() -> None:
    """A group that failed is freed with its errors, without the collector."""
    token = Token()
    ref = weakref.ref(token)

    def body(token: Token) -> None:
        with Group() as g:
            g.go(fail, ValueError(token))

    gc.disable()
    try:
        with pytest.raises(ExceptionGroup):
            body(token)
    finally:
        gc.enable()
    del token
    gc.collect()
    assert ref() is None


def test_in_a_thread_and_under_asyncio() -> None:
    """A plain thread, and a coroutine whose loop keeps its thread, use a group."""

    def body() -> int:
        with Group(limit=2) as g:
            futures = [g.go(lambda i=i: (gosched(), i)[1]) for i in range(5)]
        return sum(f.result() for f in futures)

    async def main() -> int:
        with Group() as g:
            return await asyncio.wrap_future(g.go(lambda: (sleep(0.001), 5)[1]))

    assert in_thread(body) == 10
    assert asyncio.run(main()) == 5


def test_deadlock_leaves_the_block() -> None:
    """A block whose tasks can never end raises Deadlock, once."""
    end = run_program(
        """
        from goroutines import Chan, Deadlock, Group
        try:
            with Group() as g:
                g.go(Chan().recv)
        except Deadlock:
            print("deadlock")
        """
    )
    assert (end.returncode, end.stdout) == (0, "deadlock\n"), end
