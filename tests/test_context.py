"""Contexts: the tree, causes, deadlines, values, after_func, and what outlives a cancel."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from goroutines import (
    Chan,
    ChannelClosed,
    WaitGroup,
    current,
    go,
    gosched,
    recv_ok,
    select,
    sleep,
)
from goroutines.context import (
    Canceled,
    DeadlineExceeded,
    after_func,
    background,
    todo,
    with_cancel,
    with_deadline,
    with_timeout,
    with_value,
    without_cancel,
)
from goroutines.time import now

from .conftest import Token, dead, in_thread, parked, run_program, scaled, until

virtual = pytest.mark.usefixtures("fake_clock")

CHILDREN = 10_000

# How to make a context of each kind that can be cancelled.
CANCELLABLE: dict[str, Callable[[Any], Any]] = {
    "with_cancel": with_cancel,
    "with_timeout": lambda parent: with_timeout(parent, 3600),
    "with_deadline": lambda parent: with_deadline(parent, now() + 3600),
}
cancellable = pytest.mark.parametrize("make", CANCELLABLE.values(), ids=CANCELLABLE)


def is_closed(ch: Any) -> bool:
    """Whether a receive from `ch` ends at once because it is closed."""
    return select(recv_ok(ch), timeout=0) == (0, (None, False))


def since(start: float) -> float:
    """The seconds of the (virtual) clock since `start`, rid of the rounding of floats."""
    return round(now() - start, 6)


# --- the roots --------------------------------------------------------------------------------


@pytest.mark.parametrize("root", [background, todo])
def test_roots_are_never_done(root: Callable[[], Any]) -> None:
    """background() and todo() have no deadline, values or end."""
    ctx = root()
    assert ctx.err() is None
    assert ctx.cause() is None
    assert ctx.deadline() is None
    assert ctx.value("key") is None
    assert not is_closed(ctx.done())
    assert ctx.done() is ctx.done()
    ctx.raise_if_done()


def test_errors() -> None:
    """A library that knows timeouts knows DeadlineExceeded; Canceled is no timeout."""
    assert issubclass(DeadlineExceeded, TimeoutError)
    assert issubclass(Canceled, Exception)
    assert not issubclass(Canceled, TimeoutError)
    assert not issubclass(DeadlineExceeded, Canceled)


@pytest.mark.parametrize("parent", [None, 1, "background"])
@pytest.mark.parametrize(
    "make",
    [
        with_cancel,
        lambda parent: with_timeout(parent, 1),
        lambda parent: with_deadline(parent, 1),
        lambda parent: with_value(parent, "key", 1),
        without_cancel,
        lambda parent: after_func(parent, int),
    ],
)
def test_parent_that_is_no_context(make: Callable[[Any], Any], parent: Any) -> None:
    """A parent of None, or of anything that is no context, is a TypeError at the call."""
    with pytest.raises(TypeError):
        make(parent)


@pytest.mark.parametrize("make", [with_timeout, with_deadline])
def test_seconds_that_are_none(make: Callable[[Any, Any], Any]) -> None:
    """NaN is a ValueError, what is no number a TypeError."""
    with pytest.raises(ValueError):
        make(background(), float("nan"))
    with pytest.raises(TypeError):
        make(background(), "soon")


# --- cancelling -------------------------------------------------------------------------------


@cancellable
def test_cancel(make: Callable[[Any], Any]) -> None:
    """cancel ends a context: its channel is closed, err and cause are Canceled."""
    ctx = make(background())
    done = ctx.done()
    assert ctx.err() is None
    assert ctx.cause() is None
    assert not is_closed(done)
    ctx.cancel()
    assert is_closed(done)
    assert ctx.done() is done
    assert isinstance(ctx.err(), Canceled)
    assert isinstance(ctx.cause(), Canceled)


@cancellable
def test_cancel_wakes_who_waits(make: Callable[[Any], Any]) -> None:
    """Every goroutine that receives from done() is woken by one cancel."""
    ctx = make(background())
    seen: list[Any] = []
    waiters = [go(lambda: seen.append(ctx.done().recv_ok())) for _ in range(50)]
    parked(*waiters)
    ctx.cancel()
    dead(*waiters)
    assert seen == [(None, False)] * 50


@cancellable
def test_leaving_the_block_cancels(make: Callable[[Any], Any]) -> None:
    """As a context manager the context is itself, and over when its block is left."""
    made = make(background())
    with made as ctx:
        assert ctx is made
        assert ctx.err() is None
    assert isinstance(ctx.err(), Canceled)


@cancellable
def test_leaving_the_block_by_an_exception(make: Callable[[Any], Any]) -> None:
    """An exception that leaves the block goes on as it was, the context is cancelled."""
    error = ValueError("the block's")
    with pytest.raises(ValueError, match="the block's") as caught:
        with make(background()) as ctx:
            raise error
    assert caught.value is error
    assert isinstance(ctx.err(), Canceled)


def test_first_cancel_counts() -> None:
    """Further cancels are allowed and change nothing."""
    first = ValueError("first")
    with with_cancel(background()) as ctx:
        ctx.cancel(first)
        ctx.cancel(ValueError("second"))
        ctx.cancel()
    assert ctx.cause() is first
    assert isinstance(ctx.err(), Canceled)


@cancellable
def test_cause(make: Callable[[Any], Any]) -> None:
    """A cause is told by cause(), to the children as well; err() stays Canceled."""
    why = ValueError("why")
    with make(background()) as parent:
        child = make(with_value(parent, "key", 1))
        parent.cancel(cause=why)
        late = with_cancel(child)
        for ctx in (parent, child, late):
            assert ctx.cause() is why
            assert isinstance(ctx.err(), Canceled)


def test_child_keeps_its_own_cause() -> None:
    """What ended a child first stays its cause when the parent ends later."""
    childs, parents = ValueError("child's"), ValueError("parent's")
    parent = with_cancel(background())
    child = with_cancel(parent)
    child.cancel(childs)
    assert parent.err() is None
    assert parent.cause() is None
    parent.cancel(parents)
    assert child.cause() is childs
    assert parent.cause() is parents


def test_raise_if_done() -> None:
    """raise_if_done is silent before the end and then raises err() from the cause."""
    why = ValueError("why")
    ctx = with_cancel(background())
    ctx.raise_if_done()
    ctx.cancel(why)
    for _ in range(2):
        with pytest.raises(Canceled) as caught:
            ctx.raise_if_done()
        assert caught.value.__cause__ is why


def test_raise_if_done_after_the_deadline() -> None:
    """Past its deadline a context raises what any TimeoutError handler catches."""
    ctx = with_timeout(background(), 0)
    with pytest.raises(TimeoutError) as caught:
        ctx.raise_if_done()
    assert type(caught.value) is DeadlineExceeded


def test_many_cancel_at_once() -> None:
    """Of many that cancel at once one wins, and everybody sees its cause."""
    for _ in range(scaled(20)):
        ctx = with_cancel(background())
        child = with_cancel(ctx)
        causes = [ValueError(i) for i in range(8)]
        seen: list[Any] = []

        def body(cause: ValueError) -> None:
            ctx.cancel(cause)
            seen.append(ctx.cause())

        threads = [threading.Thread(target=body, args=(c,), daemon=True) for c in causes[:4]]
        for thread in threads:
            thread.start()
        wg = WaitGroup()
        for cause in causes[4:]:
            wg.go(body, cause)
        wg.wait()
        for thread in threads:
            thread.join()
        assert ctx.cause() in causes
        assert seen == [ctx.cause()] * 8
        assert child.cause() is ctx.cause()


def test_cancel_from_a_thread() -> None:
    """A plain thread cancels what a goroutine waits for, and the other way round."""
    ctx = with_cancel(background())
    waiter = go(ctx.done().recv_ok)
    parked(waiter)
    in_thread(ctx.cancel)
    waiter.join()

    other = with_cancel(background())
    started: Chan[None] = Chan(1)

    def wait() -> Any:
        started.send(None)
        return other.done().recv_ok()

    go(lambda: (started.recv(), other.cancel()))
    assert in_thread(wait) == (None, False)


# --- the tree ---------------------------------------------------------------------------------


@cancellable
def test_parent_ends_its_children(make: Callable[[Any], Any]) -> None:
    """When cancel returns, everything below is over; what is beside or above is not."""
    root = with_cancel(background())
    parent, beside = make(root), make(root)
    below = make(with_value(make(parent), "key", 1))
    parent.cancel()
    assert isinstance(below.err(), Canceled)
    assert is_closed(below.done())
    assert root.err() is None
    assert beside.err() is None
    root.cancel()
    assert isinstance(beside.err(), Canceled)


@cancellable
def test_child_of_a_done_parent(make: Callable[[Any], Any]) -> None:
    """A child of a parent that is over is over from the start."""
    parent = with_cancel(background())
    parent.cancel()
    child = make(parent)
    assert is_closed(child.done())
    assert isinstance(child.err(), Canceled)


@cancellable
def test_ten_thousand_children(make: Callable[[Any], Any]) -> None:
    """Cancelling the parent of 10,000 children ends them all before it returns."""
    why = ValueError("why")
    parent = with_cancel(background())
    children = [make(parent) for _ in range(CHILDREN)]
    done = [child.done() for child in children]
    parent.cancel(why)
    assert all(isinstance(child.err(), Canceled) for child in children)
    assert all(child.cause() is why for child in children)
    assert all(map(is_closed, done))


def test_children_with_waiters() -> None:
    """One goroutine at each of many children: all are woken by the parent's cancel."""
    parent = with_cancel(background())
    woken: list[int] = []

    def wait(i: int) -> None:
        with with_cancel(parent) as ctx:
            assert ctx.done().recv_ok() == (None, False)
            woken.append(i)

    count = scaled(1000)
    waiters = [go(wait, i) for i in range(count)]
    parked(*waiters)
    parent.cancel()
    dead(*waiters)
    assert sorted(woken) == list(range(count))


def test_deep_tree() -> None:
    """A chain of 10,000 contexts is cancelled, asked and freed on a goroutine's small stack."""
    found: list[Any] = []

    def body() -> None:
        top = ctx = with_cancel(with_value(background(), "key", "top"))
        for i in range(CHILDREN // 2):
            ctx = with_cancel(with_value(ctx, i, i))
        found.append(ctx.value("key"))
        top.cancel()
        found.append(ctx.err())

    go(body).join()
    assert found[0] == "top"
    assert isinstance(found[1], Canceled)


def test_children_that_come_and_go_meanwhile() -> None:
    """Children made and cancelled while the parent is cancelled all end, none is missed."""
    for round_ in range(scaled(20)):
        parent = with_cancel(background())
        children: list[Any] = []
        rng = random.Random(round_)

        def make(count: int, turns: int) -> None:
            for i in range(count):
                children.append(with_cancel(parent))
                if i % 3 == 0:
                    children[-1].cancel()
                if i % turns == 0:
                    gosched()

        wg = WaitGroup()
        for _ in range(4):
            wg.go(make, 50, rng.randint(1, 10))
        thread = threading.Thread(target=make, args=(50, 5), daemon=True)
        thread.start()
        for _ in range(rng.randrange(20)):
            gosched()
        parent.cancel()
        wg.wait()
        thread.join()
        assert len(children) == 250
        assert all(is_closed(child.done()) for child in children)


@cancellable
def test_cancelled_child_is_forgotten(make: Callable[[Any], Any]) -> None:
    """A parent that lives on keeps nothing of a child that was cancelled."""
    parent = with_cancel(background())
    token = Token()
    watch = weakref.ref(token)
    child = make(with_value(parent, "token", token))
    del token
    child.cancel()
    del child
    gc.collect()
    until(lambda: watch() is None, "that the child is gone")
    assert parent.err() is None


# --- deadlines --------------------------------------------------------------------------------


@virtual
@pytest.mark.parametrize("make", [with_timeout, lambda p, s: with_deadline(p, now() + s)])
def test_deadline(make: Callable[[Any, float], Any]) -> None:
    """At its deadline a context ends with DeadlineExceeded, which is its cause as well."""
    start = now()
    ctx = make(background(), 10)
    assert ctx.deadline() == pytest.approx(start + 10)
    assert ctx.err() is None
    with pytest.raises(ChannelClosed):
        ctx.done().recv()
    assert since(start) == 10
    assert type(ctx.err()) is DeadlineExceeded
    assert type(ctx.cause()) is DeadlineExceeded
    ctx.cancel(ValueError("late"))
    assert type(ctx.cause()) is DeadlineExceeded


@virtual
def test_deadline_reaches_the_children() -> None:
    """A child ends when the parent's deadline passes, with the parent's error."""
    with with_timeout(background(), 5) as parent, with_cancel(parent) as child:
        child.done().recv_ok()
        assert type(child.err()) is DeadlineExceeded
        assert child.deadline() == parent.deadline()
    assert type(child.err()) is DeadlineExceeded


@virtual
@pytest.mark.parametrize(("outer", "inner"), [(3, 8), (8, 3)])
def test_earlier_deadline_counts(outer: float, inner: float) -> None:
    """Of a parent's and a child's deadlines the earlier one is the child's."""
    start = now()
    with with_timeout(background(), outer) as parent, with_timeout(parent, inner) as child:
        assert child.deadline() == pytest.approx(start + 3)
        child.done().recv_ok()
        assert since(start) == 3
        assert type(child.err()) is DeadlineExceeded
        assert (parent.err() is None) == (inner < outer)


@pytest.mark.parametrize("seconds", [0, -1, -1e6])
@pytest.mark.parametrize("make", [with_timeout, lambda p, s: with_deadline(p, now() + s)])
def test_deadline_that_has_passed(make: Callable[[Any, float], Any], seconds: float) -> None:
    """A deadline that is not in the future is over at the call."""
    ctx = make(background(), seconds)
    assert is_closed(ctx.done())
    assert type(ctx.err()) is DeadlineExceeded


def test_deadline_that_has_passed_below_a_cancelled_parent() -> None:
    """A parent that was cancelled first gives its own error."""
    parent = with_cancel(background())
    parent.cancel()
    assert isinstance(with_timeout(parent, 0).err(), Canceled)


@virtual
def test_cancel_before_the_deadline() -> None:
    """A context that was cancelled stays Canceled when its deadline passes."""
    ctx = with_timeout(background(), 5)
    ctx.cancel()
    sleep(10)
    assert isinstance(ctx.err(), Canceled)
    assert ctx.deadline() is not None


@virtual
def test_deadline_of_the_other_kinds() -> None:
    """deadline() passes through with_cancel and with_value, not through without_cancel."""
    parent = with_timeout(background(), 5)
    assert with_cancel(parent).deadline() == parent.deadline()
    assert with_value(parent, "key", 1).deadline() == parent.deadline()
    assert without_cancel(parent).deadline() is None
    assert with_cancel(background()).deadline() is None
    parent.cancel()


@virtual
def test_many_deadlines_in_order() -> None:
    """Contexts end one after another in the order of their deadlines, each at its own."""
    start = now()
    delays = random.Random(1).sample(range(1, 100_000), 500)
    log: list[float] = []
    wg = WaitGroup()

    def wait(delay: int) -> None:
        with with_timeout(background(), delay) as ctx:
            ctx.done().recv_ok()
            log.append(since(start))

    for delay in delays:
        wg.go(wait, delay)
    wg.wait()
    assert log == sorted(delays)


def test_cancelled_timeout_holds_no_deadlock_back() -> None:
    """The timer of a context that was cancelled cannot wake anybody any more."""
    done = run_program(
        """
        from goroutines import Chan
        from goroutines.context import background, with_timeout

        with with_timeout(background(), 100_000):
            pass
        Chan().recv()
        """
    )
    assert done.returncode == 2, done
    assert "all goroutines are asleep - deadlock!" in done.stderr


def test_waiting_for_background_is_a_deadlock() -> None:
    """The channel of background() is real, and waiting for it alone a deadlock."""
    done = run_program("from goroutines import context\ncontext.background().done().recv()\n")
    assert done.returncode == 2, done
    assert "all goroutines are asleep - deadlock!" in done.stderr


# --- values -----------------------------------------------------------------------------------


def test_values() -> None:
    """value finds the nearest one with an equal key, upwards only."""
    a = with_value(background(), "a", 1)
    b = with_value(a, "b", 2)
    inner = with_value(with_cancel(b), "a", 3)
    assert (a.value("a"), a.value("b")) == (1, None)
    assert (inner.value("a"), inner.value("b"), inner.value("c")) == (3, 2, None)
    assert a.value("a") == 1
    assert inner.value("".join(["", "b"])) == 2
    assert with_timeout(b, 3600).value("a") == 1


def test_with_value_passes_the_end_on() -> None:
    """A value's context is over when its parent is."""
    parent = with_cancel(background())
    ctx = with_value(parent, "key", 1)
    assert ctx.err() is None
    why = ValueError("why")
    parent.cancel(why)
    assert isinstance(ctx.err(), Canceled)
    assert ctx.cause() is why
    assert is_closed(ctx.done())
    with pytest.raises(Canceled):
        ctx.raise_if_done()


@virtual
def test_without_cancel() -> None:
    """without_cancel keeps the values and nothing of the parent's end."""
    parent = with_timeout(with_value(background(), "key", 1), 5)
    ctx = without_cancel(parent)
    below = with_cancel(ctx)
    parent.cancel(ValueError("why"))
    sleep(10)
    for each in (ctx, below):
        assert each.err() is None
        assert each.cause() is None
        assert each.deadline() is None
        assert each.value("key") == 1
        assert not is_closed(each.done())
        each.raise_if_done()
    below.cancel()
    assert isinstance(below.err(), Canceled)


# --- after_func -------------------------------------------------------------------------------


def test_after_func() -> None:
    """The function runs once, in a goroutine of its own, when the context is over."""
    ctx = with_cancel(background())
    ran: Chan[int] = Chan(2)
    go_on: Chan[None] = Chan()
    me = current().id

    def fn() -> None:
        ran.send(current().id)
        go_on.recv()

    stop = after_func(ctx, fn)
    for _ in range(10):
        gosched()
    assert len(ran) == 0
    ctx.cancel()
    assert ran.recv() != me
    assert stop() is False
    go_on.send(None)
    ctx.cancel()
    for _ in range(10):
        gosched()
    assert len(ran) == 0


def test_after_func_of_what_is_over() -> None:
    """On a context that is over the function starts at once, and can't be stopped."""
    ctx = with_timeout(background(), 0)
    ran: Chan[str] = Chan(1)
    stop = after_func(ctx, lambda: ran.send("ran"))
    assert stop() is False
    assert ran.recv() == "ran"


def test_after_func_stopped() -> None:
    """stop answers True when it kept the function from running, and False from then on."""
    ctx = with_cancel(background())
    ran: list[int] = []
    stops = [after_func(ctx, lambda i=i: ran.append(i)) for i in range(4)]
    assert stops[1]() is True
    assert stops[1]() is False
    ctx.cancel()
    until(lambda: len(ran) == 3)
    assert sorted(ran) == [0, 2, 3]
    assert [stop() for stop in stops] == [False] * 4


@virtual
def test_after_func_at_the_deadline() -> None:
    """The deadline starts the function, also through contexts in between."""
    start = now()
    parent = with_timeout(background(), 7)
    at: Chan[float] = Chan(1)
    after_func(with_value(with_cancel(parent), "key", 1), lambda: at.send(since(start)))
    assert at.recv() == 7


def test_after_func_that_never_runs() -> None:
    """What is never over never runs the function; stop finds it pending."""
    parent = with_cancel(background())
    ran: list[int] = []
    stops = [after_func(c, lambda: ran.append(1)) for c in (background(), without_cancel(parent))]
    parent.cancel()
    for _ in range(10):
        gosched()
    assert [stop() for stop in stops] == [True, True]
    assert ran == []


def test_after_func_lets_go_of_its_function() -> None:
    """Once stopped, the function is kept alive by nobody."""
    with with_cancel(background()) as ctx:
        token = Token()
        watch = weakref.ref(token)
        stop = after_func(ctx, lambda token=token: token)
        del token
        gc.collect()
        assert watch() is not None
        assert stop() is True
        gc.collect()
        until(lambda: watch() is None, "that the function is gone")


def test_after_func_not_callable() -> None:
    """A function that can't be called is a TypeError at the call."""
    with pytest.raises(TypeError):
        after_func(background(), 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [False, True], ids=["goroutines", "threads"])
def test_after_func_stop_races(threads: bool) -> None:
    """Of a stop and a cancel at once exactly one wins: stopped or run, never both or none."""
    for round_ in range(scaled(200)):
        ctx = with_cancel(background())
        rng = random.Random(round_)
        ran: list[int] = []
        stopped: list[bool] = []
        stop = after_func(ctx, lambda: ran.append(1))

        def late(fn: Callable[[], None], turns: int) -> None:
            for _ in range(turns):
                gosched()
            fn()

        bodies = [ctx.cancel, *[lambda: stopped.append(stop())] * 2]
        rng.shuffle(bodies)
        starts = [(fn, rng.randrange(3)) for fn in bodies]
        if threads:
            each = [threading.Thread(target=late, args=a, daemon=True) for a in starts]
            for thread in each:
                thread.start()
            for thread in each:
                thread.join()
        else:
            wg = WaitGroup()
            for args in starts:
                wg.go(late, *args)
            wg.wait()
        assert len(stopped) == 2
        until(lambda: len(ran) + sum(stopped) >= 1, "that it ran or was stopped")
        for _ in range(3):
            gosched()
        assert len(ran) + sum(stopped) == 1
