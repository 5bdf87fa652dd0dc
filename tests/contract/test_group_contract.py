"""goroutines.group from the contract: structured concurrency, its failures, singleflight."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import random
from collections.abc import Callable
from typing import Any

import pytest

import goroutines
from goroutines import Chan, go, gosched, num_goroutine, recv_ok, runtime, select
from goroutines.context import Canceled, background, with_cancel, with_value
from goroutines.group import Group, singleflight

from ..conftest import all_of, dead, in_thread, parked, run_program, scaled, until
from .tools import LONG, Gate, Meter, outcome


class Abort(BaseException):
    """An exception that is not an Exception."""


def fail(error: BaseException) -> None:
    """A task that fails."""
    raise error


def is_over(ctx: Any) -> bool:
    """Whether the context's done channel is closed."""
    return select(recv_ok(ctx.done()), timeout=0) == (0, (None, False))


def until_over(ctx: Any) -> None:
    """A task that waits for its context and then says why it ends."""
    ctx.done().recv_ok()
    ctx.raise_if_done()


# --- Group ------------------------------------------------------------------------------------


def test_block_waits_for_all() -> None:
    """Leaving the block waits for every task, and each future has its result."""
    assert goroutines.Group is Group
    before = num_goroutine()
    with Group() as g:
        futures = [g.go(lambda i=i: ([gosched() for _ in range(i)], i)[1]) for i in range(20)]
        keyword = g.go(int, "12", base=3)
    assert all(f.done() for f in futures)
    assert [f.result(timeout=0) for f in futures] == list(range(20))
    assert keyword.result() == 5
    until(lambda: num_goroutine() == before, "that the goroutines ended")


def test_empty_block() -> None:
    """A group without tasks just ends, its context cancelled."""
    with Group() as g:
        assert g.context.err() is None
        assert not is_over(g.context)
    assert isinstance(g.context.err(), Canceled)
    assert is_over(g.context)


def test_tasks_that_start_tasks() -> None:
    """The block waits for tasks that tasks start, however late."""
    ran: list[int] = []

    def node(depth: int) -> None:
        gosched()
        ran.append(depth)
        for _ in range(2 if depth else 0):
            g.go(node, depth - 1)

    with Group() as g:
        g.go(node, 6)
    assert len(ran) == 2**7 - 1


def test_go_after_the_block() -> None:
    """A group that ended starts nothing more."""
    ran: list[int] = []
    with Group() as g:
        pass
    for start in (g.go, g.try_go):
        with pytest.raises(RuntimeError):
            start(ran.append, 1)
    gosched()
    assert ran == []


@pytest.mark.parametrize("name", ["go", "try_go"])
def test_go_of_what_cannot_be_called(name: str) -> None:
    """What is not callable is a TypeError at the call and counts for nothing."""
    with Group(limit=1) as g:
        with pytest.raises(TypeError):
            getattr(g, name)(3)
        assert g.try_go(len, "abc").result() == 3


@pytest.mark.parametrize("settings", [{"limit": "2"}, {"limit": 1.5}, {"context": 3}])
def test_bad_settings(settings: dict[str, Any]) -> None:
    """Settings of a wrong type are refused when the group is made."""
    with pytest.raises(TypeError):
        Group(**settings)


# --- limit ------------------------------------------------------------------------------------


def test_limit() -> None:
    """go parks while `limit` tasks run, and no more ever do."""
    gate, meter = Gate(), Meter()

    def task() -> None:
        with meter():
            gate.wait()

    with Group(limit=3) as g:
        for _ in range(3):
            g.go(task)
        starter = go(lambda: [g.go(task) for _ in range(10)])
        parked(starter)
        until(lambda: meter.now == 3, "that three run")
        gate.open()
        starter.join()
    assert (meter.peak, meter.total) == (3, 13)


def test_try_go() -> None:
    """try_go answers None at the limit, a future below it."""
    gate = Gate()
    with Group(limit=2) as g:
        futures = [g.try_go(gate.wait, i) for i in range(2)]
        assert g.try_go(gate.wait, 2) is None
        gate.open()
        assert [f.result() for f in futures] == [0, 1]
        until(lambda: g.try_go(len, "abc"), "that there is room again")
    with Group() as g:
        assert g.try_go(len, "abc").result() == 3


def test_failing_tasks_make_room() -> None:
    """A task that fails, or leaves by goexit, gives its place back."""
    with pytest.raises(BaseException), Group(limit=1) as g:
        for _ in range(3):
            g.go(fail, ValueError())
            g.go(runtime.goexit)
            g.go(len, "abc")


# --- failures ---------------------------------------------------------------------------------


def test_first_failure_cancels() -> None:
    """The first failure cancels the context, for that reason; the block still waits for all."""
    ended: list[Any] = []
    error = ValueError("first")

    def other() -> None:
        g.context.done().recv_ok()
        for _ in range(10):
            gosched()
        ended.append(g.context.err())

    with pytest.raises(ExceptionGroup) as caught, Group() as g:
        for _ in range(3):
            g.go(other)
        g.go(fail, error)
    assert caught.value.exceptions == (error,)
    assert g.context.cause() is error
    assert [type(e) for e in ended] == [Canceled] * 3


def test_all_failures_in_order() -> None:
    """All failures are raised together, in order."""
    gates = [Gate() for _ in range(5)]
    errors = [ValueError(i) for i in range(5)]

    def task(i: int) -> None:
        gates[i].wait()
        while i > 0 and not futures[i - 1].done():
            gosched()  # on another thread it may only just be failing
        try:
            raise errors[i]
        finally:
            if i < 4:
                gates[i + 1].open()

    futures: list[Any] = []
    with pytest.raises(ExceptionGroup) as caught, Group() as g:
        for i in range(5):
            futures.append(g.go(task, i))
            g.go(gosched)
        assert not any(f.done() for f in futures)
        gates[0].open()
    assert list(caught.value.exceptions) == errors
    assert [f.exception() for f in futures] == errors
    assert [outcome(f.result) for f in futures] == errors


def test_exception_in_the_block() -> None:
    """An exception of the block cancels the tasks and joins their failures."""
    own, other = KeyError("block"), ValueError("task")

    def task() -> None:
        g.context.done().recv_ok()
        raise other

    with pytest.raises(ExceptionGroup) as caught, Group() as g:
        g.go(task)
        g.go(until_over, g.context)
        raise own
    assert set(caught.value.exceptions) == {own, other}


def test_exception_in_the_block_alone() -> None:
    """It comes as an ExceptionGroup even when nothing else failed."""
    own = KeyError("block")
    with pytest.raises(ExceptionGroup) as caught, Group() as g:
        future = g.go(until_over, g.context)
        raise own
    assert caught.value.exceptions == (own,)
    assert isinstance(future.exception(), Canceled)


def test_canceled_before_the_cancel_counts() -> None:
    """Canceled is a failure like any other as long as the group was not cancelled."""
    error = Canceled()
    with pytest.raises(ExceptionGroup) as caught, Group() as g:
        g.go(fail, error)
        g.go(until_over, g.context)
    assert caught.value.exceptions == (error,)


@pytest.mark.parametrize("error", [Abort("x"), SystemExit(3), KeyboardInterrupt()])
def test_base_exceptions_are_not_lost(error: BaseException) -> None:
    """What is no Exception ends the group too and comes out, by itself or in a group."""
    with pytest.raises(BaseException) as caught, Group() as g:
        g.go(until_over, g.context)
        future = g.go(fail, error)
    assert error in (caught.value, *getattr(caught.value, "exceptions", ()))
    assert future.exception() is error


def test_failures_are_no_panics(capfd: Any) -> None:
    """A task's failure is raised by the block and printed by nobody."""
    with pytest.raises(ExceptionGroup), Group() as g:
        g.go(fail, ValueError("quiet"))
    assert capfd.readouterr().err == ""


def test_task_left_by_goexit() -> None:
    """A task that ends its goroutine is over for the block and for its future."""
    futures: list[Any] = []

    def body() -> None:
        with Group() as g:
            futures.append(g.go(runtime.goexit))

    error = outcome(body)
    assert not isinstance(error, TimeoutError)
    assert futures[0].done()
    assert isinstance(outcome(futures[0].result, 0), BaseException)


def test_nested_groups() -> None:
    """An inner group's failures are one failure of the outer one, which cancels inwards."""
    inner_error = ValueError("inner")
    seen: list[Any] = []

    def inner() -> None:
        with Group(context=outer.context) as g:
            g.go(until_over, g.context)
            g.go(fail, inner_error)

    def bystander() -> None:
        with Group(context=outer.context) as g:
            g.context.done().recv_ok()
            seen.append(g.context.err())

    with pytest.raises(ExceptionGroup) as caught, Group() as outer:
        outer.go(bystander)
        outer.go(inner)
    (error,) = caught.value.exceptions
    assert isinstance(error, ExceptionGroup)
    assert error.exceptions == (inner_error,)
    assert isinstance(seen[0], Canceled)


def test_parent_context() -> None:
    """The group's context has its parent's values and ends with it, not the other way."""
    parent = with_cancel(with_value(background(), "key", "value"))
    with Group(context=parent) as g:
        assert g.context.value("key") == "value"
    assert parent.err() is None
    with Group(context=parent) as g:
        future = g.go(lambda: g.context.done().recv_ok())
        parent.cancel()
        assert future.result() == (None, False)
        assert isinstance(g.context.err(), Canceled)


def test_deadlock_in_a_group() -> None:
    """A block that waits for a task that can never go on is a deadlock."""
    done = run_program(
        """
        from goroutines import Chan, Group
        with Group() as g:
            g.go(Chan().recv)
        """
    )
    assert done.returncode == 2, done
    assert "all goroutines are asleep - deadlock!" in done.stderr


# --- futures ----------------------------------------------------------------------------------


def test_future() -> None:
    """result and exception wait, give up in time, and answer again and again."""
    gate = Gate()
    with Group() as g:
        future = g.go(gate.wait, 1)
        assert isinstance(future, cf.Future)
        assert not future.done()
        for get in (future.result, future.exception):
            for timeout in (0, 0.001):
                with pytest.raises(TimeoutError):
                    get(timeout=timeout)
        waiters = [go(future.result) for _ in range(3)]
        parked(*waiters)
        gate.open()
        dead(*waiters)
        assert [future.result(), future.result(0), future.exception()] == [1, 1, None]
        assert in_thread(future.result) == 1


def test_future_callbacks() -> None:
    """Callbacks get the future when it is done, at once when it is already."""
    gate, called = Gate(), []
    with Group() as g:
        future = g.go(gate.wait, 1)
        for name in ("a", "b"):
            future.add_done_callback(lambda f, name=name: called.append((name, f.result())))
        assert called == []
        gate.open()
        until(lambda: len(called) == 2, "that the callbacks ran")
        future.add_done_callback(lambda f: called.append(f))
    assert called == [("a", 1), ("b", 1), future]


def test_futures_in_concurrent_futures() -> None:
    """cf.wait and as_completed take a group's futures."""
    gate = Gate()
    with pytest.raises(ExceptionGroup), Group() as g:
        blocked, quick = g.go(gate.wait, 1), g.go(len, "abc")
        first = cf.wait([blocked, quick], timeout=LONG, return_when=cf.FIRST_COMPLETED)
        assert (first.done, first.not_done) == ({quick}, {blocked})
        with pytest.raises(TimeoutError):
            list(cf.as_completed([blocked], timeout=0.01))
        failing = g.go(fail, ValueError())
        futures = [blocked, quick, failing]
        second = cf.wait(futures, timeout=LONG, return_when=cf.FIRST_EXCEPTION)
        assert failing in second.done
        gate.open()
        assert cf.wait(futures, timeout=LONG).not_done == set()
        assert set(cf.as_completed(futures, timeout=LONG)) == set(futures)


def test_futures_in_asyncio() -> None:
    """An event loop awaits a group's future."""
    with Group() as g:

        async def main() -> Any:
            future = g.go(lambda: (goroutines.sleep(0.001), 5)[1])
            return await asyncio.wait_for(asyncio.wrap_future(future), LONG)

        assert asyncio.run(main()) == 5


def test_group_in_a_thread() -> None:
    """A plain thread can use a group, too."""

    def body() -> list[int]:
        with Group(limit=2) as g:
            futures = [g.go(lambda i=i: (gosched(), i)[1]) for i in range(10)]
        return [f.result() for f in futures]

    assert in_thread(body) == list(range(10))


@pytest.mark.parametrize("seed", range(5))
def test_every_task_is_accounted_for(seed: int) -> None:
    """A random tree of tasks that succeed, fail and give up loses none."""
    chance = random.Random(seed)
    futures: list[tuple[str, Any]] = []
    ran: list[str] = []

    def task(kind: str, depth: int) -> str:
        ran.append(kind)
        for _ in range(chance.randrange(3) if depth else 0):
            start(depth - 1)
        gosched()
        if kind == "fails":
            raise ValueError(kind)
        if kind == "gives up":
            until_over(g.context)
        return kind

    def start(depth: int) -> None:
        kind = chance.choice(["works", "fails", "gives up"])
        starter: Callable[..., Any] = chance.choice([g.go, g.try_go])
        future = starter(task, kind, depth)
        if future is not None:
            futures.append((kind, future))

    with pytest.raises(ExceptionGroup) as caught, Group() as g:
        g.go(fail, KeyError("one at least"))
        for _ in range(scaled(30)):
            start(3)
    assert len(ran) == len(futures)
    expected = {"works": type(None), "fails": ValueError, "gives up": Canceled}
    for kind, future in futures:
        assert type(future.exception(timeout=0)) is expected[kind]
    failures = [f.exception() for kind, f in futures if kind == "fails"]
    raised = [e for e in caught.value.exceptions if isinstance(e, ValueError)]
    assert len(caught.value.exceptions) == len(failures) + 1
    assert {id(e) for e in raised} == {id(e) for e in failures}


# --- singleflight -----------------------------------------------------------------------------


def flight(group: Any, key: Any, fn: Callable[[], Any], out: list[Any]) -> Any:
    """Start a goroutine that puts what `do` returns or raises into `out`."""
    g = go(lambda: out.append(outcome(group.do, key, fn)))
    parked(g)
    return g


def test_alone_is_not_shared() -> None:
    """A call that nobody joins runs each time and is not shared."""
    group, calls = singleflight.Group(), []
    for i in range(3):
        value, shared = group.do("key", lambda i=i: (calls.append(i), i)[1])
        assert (value, shared) == (i, False)
    assert calls == [0, 1, 2]


def test_callers_share() -> None:
    """All who ask while a call is under way get its value; shared is true for each."""
    group, gate, out, calls = singleflight.Group(), Gate(), [], []

    def work() -> object:
        calls.append(1)
        return gate.wait("value")

    gs = [flight(group, "key", work, out) for _ in range(5)]
    assert group.do("other", lambda: "independent") == ("independent", False)
    gate.open()
    dead(*gs)
    assert out == [("value", True)] * 5
    assert calls == [1]
    assert group.do("key", lambda: "again") == ("again", False)


@pytest.mark.parametrize("error", [ValueError("x"), Canceled()])
def test_leader_that_fails(error: Exception) -> None:
    """All who share a call get its exception; the next call runs anew."""
    group, gate, out = singleflight.Group(), Gate(), []

    def work() -> None:
        gate.wait()
        raise error

    gs = [flight(group, "key", work, out) for _ in range(4)]
    gate.open()
    dead(*gs)
    assert [(type(e), str(e)) for e in out] == [(type(error), str(error))] * 4
    assert group.do("key", lambda: "fine") == ("fine", False)


def test_leader_that_exits() -> None:
    """A leader that leaves by goexit strands nobody, and the key is free again."""
    group, gate, out = singleflight.Group(), Gate(), []

    def work() -> None:
        gate.wait()
        runtime.goexit()

    leader = go(group.do, "key", work)
    parked(leader)
    others = [flight(group, "key", lambda: "own", out) for _ in range(3)]
    gate.open()
    dead(leader, *others)
    assert group.do("key", lambda: "fine") == ("fine", False)


def test_forget() -> None:
    """After forget a new call starts beside the old one, and the old one's end spares it."""
    group, old, new = singleflight.Group(), Gate(), Gate()
    first: list[Any] = []
    second: list[Any] = []
    gs = [flight(group, "key", lambda: old.wait("old"), first) for _ in range(2)]
    group.forget("key")
    group.forget("never there")
    gs2 = [flight(group, "key", lambda: new.wait("new"), second)]
    old.open()
    dead(*gs)
    gs2.append(flight(group, "key", lambda: new.wait("newest"), second))
    new.open()
    dead(*gs2)
    assert first == [("old", True)] * 2
    assert second == [("new", True)] * 2


def test_nested_keys() -> None:
    """A call may ask for another key."""
    group = singleflight.Group()
    result = group.do("a", lambda: group.do("b", lambda: 1))
    assert result == ((1, False), False)


def test_bad_calls() -> None:
    """A key that cannot be hashed and a function that is none are TypeErrors."""
    group = singleflight.Group()
    with pytest.raises(TypeError):
        group.do([], lambda: 1)
    with pytest.raises(TypeError):
        group.do("key", 3)
    assert group.do("key", lambda: 1) == (1, False)


def test_many_keys_and_callers() -> None:
    """Every call of a crowd gets the value of its own key, and no more run than asked."""
    group, calls = singleflight.Group(), Meter()

    def work(key: int) -> int:
        with calls():
            for _ in range(3):
                gosched()
        return key

    def caller(i: int) -> bool:
        value, _ = group.do(i % 7, lambda: work(i % 7))
        return value == i % 7

    count = scaled(100)
    assert all(all_of(count, caller))
    assert in_thread(caller, 3)
    assert calls.total <= count + 1
    assert calls.peak <= 7


def test_calls_from_threads() -> None:
    """A plain thread joins a goroutine's call."""
    group, gate, out = singleflight.Group(), Gate(), []
    ready: Chan[None] = Chan()
    leader = flight(group, "key", lambda: gate.wait("value"), out)

    def open_when_joined() -> None:
        ready.recv()
        gate.open()

    opener = go(open_when_joined)
    in_thread(lambda: (ready.send(None), out.append(group.do("key", lambda: "own"))))
    dead(leader, opener)
    assert sorted(value for value, _ in out) in (["value"] * 2, ["own", "value"])
