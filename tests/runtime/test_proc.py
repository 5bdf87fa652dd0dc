"""Goroutines themselves: go, join, their attributes, gosched, run, contexts, plain threads."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import functools
import gc
import os
import re
import sys
import threading
import weakref
from collections.abc import Callable

import pytest

import goroutines
from goroutines import (
    Chan,
    Goroutine,
    GoroutineExit,
    WaitGroup,
    current,
    go,
    gosched,
    num_goroutine,
    recv,
    run,
    runtime,
    select,
    sleep,
)

from ..conftest import EXACT_ORDER, Token, dead, in_thread, parked, run_program, scaled, until

VAR: contextvars.ContextVar[object] = contextvars.ContextVar("VAR", default="unset")


# --- go ---------------------------------------------------------------------------------------


def test_go_passes_arguments() -> None:
    """The function gets the positional and keyword arguments, even one called fn."""
    seen: list[object] = []

    def record(*args: object, **kwargs: object) -> None:
        seen.append((args, kwargs))

    go(record, 1, 2, fn=3, name="x").join()
    assert seen == [((1, 2), {"fn": 3, "name": "x"})]


def test_go_does_not_run_it_at_once() -> None:
    """A new goroutine is runnable and has not started when go() returns."""
    log: list[str] = []
    g = go(log.append, "ran")
    if EXACT_ORDER:
        assert (log, g.state) == ([], "runnable")
    g.join()
    assert log == ["ran"]


def test_go_as_decorator() -> None:
    """@go starts the function below it and leaves the goroutine under its name."""
    log: list[str] = []

    @go
    def job() -> None:
        log.append("ran")

    assert isinstance(job, Goroutine)
    job.join()
    assert log == ["ran"]


class Doubler:
    """Adds what it gets, doubled, to a list, in several callable forms."""

    def __init__(self, out: list[int]) -> None:
        self.out = out

    def __call__(self, value: int) -> None:
        self.out.append(value * 2)

    def method(self, value: int) -> None:
        """Do the same as a bound method."""
        self.out.append(value * 2)


@pytest.mark.parametrize(
    "make",
    [
        Doubler,
        lambda out: Doubler(out).method,
        lambda out: functools.partial(Doubler.method, Doubler(out)),
        lambda out: lambda value: out.append(value * 2),
        lambda out: out.append,
    ],
    ids=["object", "method", "partial", "lambda", "builtin"],
)
def test_go_takes_every_callable(make: Callable[[list[int]], Callable[[int], None]]) -> None:
    """Functions, methods, partials, builtins and callable objects can all be started."""
    out: list[int] = []
    fn = make(out)
    go(fn, 21).join()
    assert out == [21 if fn == out.append else 42]


@pytest.mark.parametrize("fn", [None, 3, "print", object()])
def test_go_not_callable(fn: object) -> None:
    """What cannot be called is a TypeError at the call of go, and nothing is started."""
    before = num_goroutine()
    with pytest.raises(TypeError, match="callable"):
        go(fn)  # type: ignore[arg-type]
    assert num_goroutine() == before


def test_go_needs_a_function() -> None:
    """go() without anything is a TypeError."""
    with pytest.raises(TypeError):
        go()  # type: ignore[call-arg]


def test_go_from_goroutine() -> None:
    """Goroutines start goroutines, to any depth."""
    depth = 200
    wg = WaitGroup()
    wg.add(depth)
    log: list[int] = []

    def descend(level: int) -> None:
        log.append(level)
        if level + 1 < depth:
            go(descend, level + 1)
        wg.done()

    go(descend, 0)
    wg.wait()
    assert log == list(range(depth))


def test_wrong_arguments_are_the_goroutines_own_error() -> None:
    """Arguments that do not fit the function are a panic of the goroutine, not of go()."""
    caught: list[BaseException] = []
    old = goroutines.set_panic_hook(lambda g, exc: caught.append(exc) or True)
    try:
        g = go(lambda: None, 1, 2)
        g.join()
    finally:
        goroutines.set_panic_hook(old)
    assert [type(e) for e in caught] == [TypeError]


# --- the Goroutine object ---------------------------------------------------------------------


def test_main_goroutine() -> None:
    """The main thread is goroutine 1, called main, running, born nowhere."""
    main = current()
    assert main is current()
    assert (main.id, main.name, main.state, main.done) == (1, "main", "running", False)
    assert main.created_by is None
    assert main.wait_reason is None


def test_current_is_what_go_returned() -> None:
    """Inside a goroutine current() is the object that go() gave to its starter."""
    seen: list[Goroutine] = []
    g = go(lambda: seen.append(current()))
    g.join()
    assert seen == [g]
    assert seen[0] is g


def test_ids_are_unique_and_names_follow() -> None:
    """Each goroutine has an id of its own, and `goroutine ID` as its first name."""
    gs = [go(lambda: None) for _ in range(100)]
    ids = [g.id for g in gs]
    assert len(set(ids)) == 100
    assert min(ids) > 1
    assert [g.name for g in gs] == [f"goroutine {n}" for n in ids]
    for g in gs:
        g.join()


def test_name_can_be_set() -> None:
    """A name can be given from outside and from inside, and stays after the end."""
    seen: list[str] = []
    named: Chan[None] = Chan()
    g = go(lambda: (named.recv(), seen.append(current().name)))
    g.name = "reader"
    named.send(None)
    g.join()
    assert seen == ["reader"]
    assert g.name == "reader"


@pytest.mark.parametrize("name", ["id", "state", "wait_reason", "done", "created_by"])
def test_other_attributes_are_read_only(name: str) -> None:
    """What the runtime says of a goroutine cannot be overwritten."""
    with pytest.raises(AttributeError):
        setattr(current(), name, 1)


def test_goroutines_are_not_made_by_hand() -> None:
    """Goroutine() is a TypeError: go() makes them."""
    with pytest.raises(TypeError):
        Goroutine()


def test_created_by_is_the_place_of_go() -> None:
    """created_by gives file and line of the go call."""
    g, line = go(lambda: None), sys._getframe().f_lineno
    match = re.fullmatch(r"(.*):(\d+)", str(g.created_by))
    assert match, g.created_by
    assert os.path.basename(match[1]) == os.path.basename(__file__)
    assert int(match[2]) == line
    g.join()


def test_states_of_a_life() -> None:
    """Running, waiting with a reason, runnable, dead: each is seen in its turn."""
    ch: Chan[int] = Chan()
    inside: list[tuple[str, object]] = []

    def live() -> None:
        inside.append((current().state, current().wait_reason))
        ch.recv()

    g = go(live)
    parked(g)
    assert inside == [("running", None)]
    assert (g.state, g.wait_reason, g.done) == ("waiting", "chan receive", False)
    ch.send(1)
    if EXACT_ORDER:
        assert (g.state, g.wait_reason) == ("runnable", None)
    g.join()
    assert (g.state, g.wait_reason, g.done) == ("dead", None, True)


def wait_in_group() -> None:
    """Wait for a counter that nobody lowers."""
    wg = WaitGroup()
    wg.add(1)
    wg.wait()


@pytest.mark.parametrize(
    ("wait", "reason"),
    [
        (lambda: Chan().recv(), "chan receive"),
        (lambda: Chan().recv_ok(), "chan receive"),
        (lambda: Chan().recv(timeout=3600), "chan receive"),
        (lambda: list(Chan()), "chan receive"),
        (lambda: Chan().send(1), "chan send"),
        (lambda: select(recv(Chan()), recv(Chan())), "select"),
        (lambda: sleep(3600), "sleep"),
        (wait_in_group, "sync.waitgroup"),
    ],
    ids=["recv", "recv_ok", "recv timeout", "iter", "send", "select", "sleep", "waitgroup"],
)
def test_wait_reasons_are_gos_words(wait: Callable[[], object], reason: str) -> None:
    """Each way to wait is told in Go's words."""

    def main() -> str | None:
        g = go(wait)
        parked(g)
        return g.wait_reason

    assert str(run(main)).lower().startswith(reason)


def test_dead_goroutine_keeps_its_identity() -> None:
    """A finished goroutine that is still referred to is not reused for another one."""
    g = go(lambda: None)
    g.name = "first"
    g.join()
    before = (g.id, g.name, g.created_by, g.state)
    others = [go(lambda: None) for _ in range(500)]
    for other in others:
        other.join()
        assert other is not g
    assert (g.id, g.name, g.created_by, g.state) == before
    assert g.id not in {other.id for other in others}


def test_dead_goroutine_lets_go_of_its_arguments() -> None:
    """The function and its arguments are free once the goroutine has ended."""
    token = Token()
    alive = weakref.ref(token)

    def hold(value: Token) -> None:
        gosched()

    g = go(hold, token)
    del token
    g.join()
    gc.collect()
    assert alive() is None
    assert g.done


def test_running_goroutine_needs_no_reference() -> None:
    """A goroutine whose object was dropped at once runs to its end all the same."""
    ch: Chan[int] = Chan()
    go(lambda: ch.send(ch.recv() + 1))
    gc.collect()
    ch.send(1)
    gc.collect()
    assert ch.recv() == 2


# --- join -------------------------------------------------------------------------------------


def test_join_waits_for_the_end() -> None:
    """join returns after the last statement of the goroutine."""
    log: list[int] = []

    def work() -> None:
        for i in range(10):
            gosched()
            log.append(i)

    g = go(work)
    assert g.join() is None
    assert log == list(range(10))


def test_join_twice_and_by_many() -> None:
    """Any number of goroutines may join one, before and after its end."""
    ch: Chan[int] = Chan()
    g = go(ch.recv)
    joiners = [go(g.join) for _ in range(20)]
    parked(g, *joiners)
    ch.send(1)
    g.join()
    g.join(timeout=0)
    for joiner in joiners:
        joiner.join()
    assert all(joiner.done for joiner in joiners)


def test_join_timeout() -> None:
    """join of a living goroutine gives up with TimeoutError and leaves it alive."""
    ch: Chan[int] = Chan()
    g = go(ch.recv)
    parked(g)
    for timeout in (0, 0.001):
        with pytest.raises(TimeoutError):
            g.join(timeout=timeout)
    assert not g.done
    ch.send(1)
    g.join(timeout=60)
    assert g.done


def test_join_from_plain_thread() -> None:
    """A plain OS thread can wait for a goroutine of the main thread."""
    ch: Chan[int] = Chan()
    g = go(ch.recv)
    parked(g)
    log: list[str] = []

    def body() -> None:
        g.join()
        log.append("joined" if g.done else "too early")

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    for _ in range(50):
        gosched()
    assert log == []
    ch.send(1)
    until(lambda: not thread.is_alive(), "that the thread has ended")
    assert log == ["joined"]


def test_join_of_a_plain_threads_goroutine() -> None:
    """The object that stands for a plain thread can be joined; the thread's end wakes all."""
    known: list[Goroutine] = []
    end = threading.Event()

    def body() -> None:
        known.append(current())
        end.wait(60)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    until(lambda: known, "that the thread knows itself")
    g = known[0]
    joiners = [go(g.join) for _ in range(3)]
    parked(*joiners)
    with pytest.raises(TimeoutError):
        g.join(timeout=0)
    go(end.set)
    g.join()
    assert (g.done, g.state) == (True, "dead")
    for joiner in joiners:
        joiner.join()
    thread.join()


# --- counting and listing ---------------------------------------------------------------------


def test_num_goroutine_counts_all_living() -> None:
    """Unstarted and parked goroutines count, dead ones do not."""
    before = num_goroutine()
    ch: Chan[int] = Chan()
    gs = [go(ch.recv_ok) for _ in range(10)]
    assert num_goroutine() == before + 10
    parked(*gs)
    assert num_goroutine() == before + 10
    ch.close()
    dead(*gs)
    assert num_goroutine() == before


def test_runtime_has_the_same_functions() -> None:
    """gosched and num_goroutine are to be found in goroutines.runtime as well."""
    runtime.gosched()
    assert runtime.num_goroutine() == num_goroutine()


def test_goroutines_lists_the_living() -> None:
    """goroutines() has main, parked and unstarted ones, and drops the dead."""
    ch: Chan[int] = Chan()
    waiting = go(ch.recv)
    parked(waiting)
    fresh = go(lambda: None)
    listed = runtime.goroutines()
    assert isinstance(listed, list)
    assert current() in listed
    assert waiting in listed
    assert len(listed) == len({g.id for g in listed}) == num_goroutine()
    ch.send(1)
    waiting.join()
    fresh.join()
    assert waiting not in runtime.goroutines()
    assert fresh not in runtime.goroutines()


# --- gosched ----------------------------------------------------------------------------------


def test_gosched_alone_returns() -> None:
    """With nobody else to run gosched returns at once, None."""
    assert gosched() is None


def test_gosched_lets_others_run() -> None:
    """Two goroutines that only ever yield move each other forward in turns."""
    turn = [0]
    log: list[int] = []

    def player(me: int) -> None:
        for _ in range(100):
            until(lambda: turn[0] == me, f"player {me}'s turn")
            log.append(me)
            turn[0] = 1 - me

    gs = [go(player, 0), go(player, 1)]
    for g in gs:
        g.join()
    assert log == [0, 1] * 100


def test_gosched_does_not_starve_timers() -> None:
    """A goroutine that spins on gosched does not keep a sleeper from waking."""
    woken: list[int] = []

    def sleeper() -> None:
        sleep(0.001)
        woken.append(1)

    def spinner() -> None:
        until(lambda: woken, "that the sleeper woke")

    gs = [go(sleeper), go(spinner), go(spinner)]
    for g in gs:
        g.join()
    assert woken == [1]


# --- goexit -----------------------------------------------------------------------------------


def test_goexit_runs_the_cleanup(capfd: pytest.CaptureFixture[str]) -> None:
    """goexit ends the goroutine silently, its finally and with blocks run."""
    log: list[str] = []

    class Managed:
        """Tells of its end."""

        def __enter__(self) -> None:
            pass

        def __exit__(self, *exc: object) -> None:
            log.append("with")

    def inner() -> None:
        with Managed():
            runtime.goexit()
        log.append("after")

    def outer() -> None:
        try:
            inner()
            log.append("after")
        finally:
            log.append("finally")

    g = go(outer)
    g.join()
    assert g.state == "dead"
    assert log == ["with", "finally"]
    assert capfd.readouterr() == ("", "")


def test_goexit_raises_goroutine_exit() -> None:
    """What goexit raises is GoroutineExit, which `except Exception` lets through."""
    log: list[str] = []

    def leave() -> None:
        try:
            runtime.goexit()
        except Exception:
            log.append("Exception")
        except GoroutineExit:
            log.append("GoroutineExit")
            raise

    go(leave).join()
    assert log == ["GoroutineExit"]


def test_raising_goroutine_exit_is_goexit(capfd: pytest.CaptureFixture[str]) -> None:
    """GoroutineExit raised by hand ends a goroutine as silently."""

    def leave() -> None:
        raise GoroutineExit

    g = go(leave)
    g.join()
    assert g.done
    assert capfd.readouterr() == ("", "")


# --- run --------------------------------------------------------------------------------------


def test_run_returns_the_result() -> None:
    """run gives main its arguments and returns what it returns."""

    def main(a: int, *, main: int) -> int:
        ch: Chan[int] = Chan()
        go(ch.send, a + main)
        return ch.recv()

    assert run(main, 1, main=2) == 3


def test_run_raises_what_main_raises() -> None:
    """The very exception of main comes out of run."""
    error = LookupError("lost")

    def main() -> None:
        gosched()
        raise error

    with pytest.raises(LookupError) as caught:
        run(main)
    assert caught.value is error


def test_run_not_callable() -> None:
    """What cannot be called is a TypeError."""
    with pytest.raises(TypeError, match="callable"):
        run(3)  # type: ignore[arg-type]


def test_run_after_run() -> None:
    """run may be called again and again, nothing of one shows in the next."""
    before = num_goroutine()
    for i in range(50):
        ch: Chan[int] = Chan()

        def main(i: int = i, ch: Chan[int] = ch) -> int:
            go(ch.send, 1)
            go(ch.recv)
            parked(go(Chan().recv))
            return i

        assert run(main) == i
        assert num_goroutine() == before


def test_run_nested_is_refused() -> None:
    """run inside run is a RuntimeError, and the outer one goes on."""

    def main() -> str:
        with pytest.raises(RuntimeError, match="run"):
            run(lambda: None)
        return "outer"

    assert run(main) == "outer"


def test_run_in_a_goroutine_is_refused() -> None:
    """run in a goroutine other than a main one is a RuntimeError."""
    caught: list[BaseException] = []

    def nest() -> None:
        try:
            run(lambda: None)
        except RuntimeError as error:
            caught.append(error)

    go(nest).join()
    assert len(caught) == 1
    assert "run" in str(caught[0])


def test_run_from_plain_thread() -> None:
    """run works in any OS thread, with goroutines, sleeps and their end."""
    log: list[str] = []

    def linger() -> None:
        try:
            Chan().recv()
        finally:
            log.append("cleaned")

    def main() -> int:
        parked(go(linger))
        ch: Chan[int] = Chan()
        go(ch.send, 5)
        sleep(0.001)
        return ch.recv()

    assert in_thread(run, main) == 5
    assert log == ["cleaned"]


def exit_in_sort() -> None:
    """Wait inside a sort."""
    sorted([2, 1], key=lambda x: Chan().recv())


def exit_in_generator() -> None:
    """Wait inside a generator."""

    def values():  # type: ignore[no-untyped-def]
        yield Chan().recv()

    list(values())


def exit_in_join() -> None:
    """Wait for another goroutine that waits."""
    go(Chan().recv).join()


def exit_in_gosched() -> None:
    """Never wait, only yield."""
    while True:
        gosched()


@pytest.mark.parametrize(
    "wait",
    [
        lambda: Chan().recv(),
        lambda: Chan().recv_ok(),
        lambda: Chan().recv(timeout=3600),
        lambda: list(Chan()),
        lambda: Chan().send(1),
        lambda: select(recv(Chan()), recv(Chan())),
        lambda: select(),
        lambda: select(recv(Chan()), timeout=3600),
        lambda: sleep(3600),
        wait_in_group,
        exit_in_join,
        exit_in_sort,
        exit_in_generator,
        exit_in_gosched,
    ],
    ids=[
        "recv",
        "recv_ok",
        "recv timeout",
        "iter",
        "send",
        "select",
        "select nothing",
        "select timeout",
        "sleep",
        "waitgroup",
        "join",
        "sort",
        "generator",
        "gosched",
    ],
)
def test_run_ends_what_still_lives(
    wait: Callable[[], object], capfd: pytest.CaptureFixture[str]
) -> None:
    """At the end of run GoroutineExit unwinds a goroutine at whatever it waits for."""
    log: list[str] = []

    def linger() -> None:
        try:
            log.append("in")
            wait()
            log.append("went on")
        except GoroutineExit:
            log.append("exit")
            raise
        finally:
            log.append("out")

    def main() -> Goroutine:
        g = go(linger)
        until(lambda: log, "that the goroutine began")
        gosched()
        return g

    g = run(main)
    assert log == ["in", "exit", "out"]
    assert g.done
    assert capfd.readouterr() == ("", "")


def test_run_ends_the_rest_when_main_raises() -> None:
    """Goroutines are ended as well when main leaves with an exception."""
    log: list[str] = []

    def linger() -> None:
        try:
            Chan().recv()
        finally:
            log.append("out")

    def main() -> None:
        parked(go(linger))
        raise ValueError("main's")

    with pytest.raises(ValueError, match="main's"):
        run(main)
    assert log == ["out"]


def test_run_drops_the_unstarted() -> None:
    """A goroutine that never ran when main returned does not run any more."""
    log: list[str] = []

    def main() -> Goroutine | None:
        g = go(log.append, "ran")
        return g if EXACT_ORDER else None

    g = run(main)
    for _ in range(10):
        gosched()
    if g is not None:
        assert log == []
        assert g.done


def test_run_cleanup_may_wait() -> None:
    """A finally block that sleeps and uses channels while the run ends is finished."""
    log: list[object] = []
    done: Chan[int] = Chan(1)

    def linger() -> None:
        try:
            Chan().recv()
        finally:
            sleep(0.001)
            log.append("slept")
            done.send(1)
            gosched()
            log.append(done.recv())

    def main() -> None:
        parked(*[go(linger) for _ in range(3)])

    run(main)
    assert sorted(log, key=str) == [1, 1, 1, "slept", "slept", "slept"]


def test_run_exit_comes_again_to_who_swallows_it() -> None:
    """A goroutine that swallows GoroutineExit gets it again at its next wait."""
    seen: list[int] = []

    def stubborn() -> None:
        while True:
            try:
                Chan().recv()
            except GoroutineExit:
                seen.append(1)
                if len(seen) == 5:
                    raise

    def main() -> None:
        parked(go(stubborn))

    run(main)
    assert len(seen) == 5


def test_run_swallowed_exit_may_just_end() -> None:
    """A goroutine that swallows GoroutineExit and then returns is simply over."""
    log: list[str] = []

    def polite() -> None:
        try:
            Chan().recv()
        except GoroutineExit:
            log.append("swallowed")

    def main() -> Goroutine:
        g = go(polite)
        parked(g)
        return g

    assert run(main).done
    assert log == ["swallowed"]


def test_run_leaves_older_goroutines_alone() -> None:
    """Only what was started under a run ends with it."""
    ch: Chan[int] = Chan()
    older = go(ch.recv)
    parked(older)
    assert run(lambda: 1) == 1
    assert older.state == "waiting"
    ch.send(1)
    older.join()


# --- contexts ---------------------------------------------------------------------------------


def test_context_is_copied_at_go() -> None:
    """A goroutine sees the variables as they were when go was called."""
    seen: list[object] = []

    def body() -> None:
        VAR.set("at go")
        g = go(lambda: seen.append(VAR.get()))
        VAR.set("later")
        g.join()

    contextvars.copy_context().run(body)
    assert seen == ["at go"]


@pytest.mark.parametrize("empty", [True, False], ids=["empty", "used"])
def test_context_changes_stay_inside(empty: bool) -> None:
    """What a goroutine sets is seen neither by its starter nor by its siblings."""
    seen: list[object] = []

    def setter(value: int) -> None:
        VAR.set(value)
        gosched()
        seen.append(VAR.get() == value)

    def body() -> None:
        if not empty:
            VAR.set("mine")
        gs = [go(setter, i) for i in range(3)]
        for g in gs:
            g.join()
        go(lambda: seen.append(VAR.get())).join()
        seen.append(VAR.get())

    contextvars.Context().run(body)
    mine = "unset" if empty else "mine"
    assert seen == [True, True, True, mine, mine]


def test_context_is_kept_over_switches() -> None:
    """After each switch a goroutine reads its own value, never a cached one of another."""
    wrong: list[object] = []

    def body(value: int) -> None:
        for step in range(50):
            VAR.set((value, step))
            gosched()
            if VAR.get() != (value, step):
                wrong.append(VAR.get())

    gs = [go(body, i) for i in range(10)]
    for g in gs:
        g.join()
    assert wrong == []
    assert VAR.get() == "unset"


def test_context_run_nests_over_switches() -> None:
    """Context.run around a wait stays balanced while others enter their own contexts."""
    seen: list[object] = []

    def inside(value: int) -> object:
        VAR.set(value)
        gosched()
        return VAR.get()

    def body(value: int) -> None:
        VAR.set(-value)
        for _ in range(10):
            seen.append(contextvars.copy_context().run(inside, value) == value)
            seen.append(VAR.get() == -value)

    gs = [go(body, i) for i in range(1, 6)]
    for g in gs:
        g.join()
    assert seen == [True] * 100


def test_decimal_precision_is_a_goroutines_own() -> None:
    """decimal's context, cached for each thread, follows the goroutine."""
    wrong: list[object] = []

    def body(prec: int) -> None:
        with decimal.localcontext() as context:
            context.prec = prec
            for _ in range(20):
                gosched()
                third = decimal.Decimal(1) / 3
                if len(third.as_tuple().digits) != prec:
                    wrong.append(third)

    gs = [go(body, prec) for prec in (5, 10, 20, 40)]
    for g in gs:
        g.join()
    assert wrong == []


def test_ended_goroutines_drop_their_context_once() -> None:
    """Contexts made after goroutines have ended do not lose references to their leftovers."""

    def body() -> list[int]:
        VAR.set("mine")
        gs = [go(lambda: None) for _ in range(300)]
        for g in gs:
            g.join()
        copies = [contextvars.copy_context() for _ in range(300)]  # in the memory just freed
        del gs, g
        counts = [sys.getrefcount(copy) for copy in copies]
        for i, copy in enumerate(copies):
            copy.run(VAR.set, i)
        assert [copy[VAR] for copy in copies] == list(range(300))
        assert VAR.get() == "mine"
        return counts

    for _ in range(3):
        assert len(set(contextvars.copy_context().run(body))) == 1


def test_asyncio_in_goroutines() -> None:
    """asyncio.run in a goroutine starts from its context and keeps its own changes."""
    seen: list[object] = []

    async def task(i: int) -> object:
        before = VAR.get()
        VAR.set((before, i))
        await asyncio.sleep(0)
        return VAR.get()

    async def tasks() -> list[object]:
        return list(await asyncio.gather(*(task(i) for i in range(3))))

    def body(name: str) -> None:
        VAR.set(name)
        seen.append(asyncio.run(tasks()))
        gosched()
        seen.append(VAR.get())

    for name in ("a", "b", "c"):
        seen.clear()
        go(body, name).join()
        assert seen == [[(name, 0), (name, 1), (name, 2)], name]
    assert VAR.get() == "unset"


def test_run_sees_the_callers_context() -> None:
    """The main of a run reads the variables of who called run."""

    def body() -> object:
        VAR.set("outside")
        return run(VAR.get)

    assert contextvars.copy_context().run(body) == "outside"


# --- plain threads ----------------------------------------------------------------------------


def test_current_in_plain_thread_is_not_counted() -> None:
    """A plain thread has an object of its own, which num_goroutine leaves out."""
    before = num_goroutine()
    g, count, listed = in_thread(lambda: (current(), num_goroutine(), runtime.goroutines()))
    assert isinstance(g, Goroutine)
    assert g is not current()
    assert count == before
    assert g.id not in {other.id for other in listed}


def test_go_and_join_in_plain_thread() -> None:
    """A plain thread starts goroutines and runs them while it waits."""

    def body() -> list[int]:
        out: list[int] = []
        gs = [go(out.append, i) for i in range(100)]
        for g in gs:
            g.join()
        return out

    assert sorted(in_thread(body)) == list(range(100))


def test_thread_hands_over_its_unstarted() -> None:
    """Goroutines that a plain thread started and never ran are run by the main thread."""
    log: list[int] = []

    def body() -> list[Goroutine]:
        return [go(log.append, i) for i in range(50)]

    thread_result: list[list[Goroutine]] = []
    thread = threading.Thread(target=lambda: thread_result.append(body()))
    thread.start()
    thread.join()
    for g in thread_result[0]:
        g.join()
    assert sorted(log) == list(range(50))


def test_thread_ends_its_parked(capfd: pytest.CaptureFixture[str]) -> None:
    """Goroutines parked on a plain thread that ends are ended with GoroutineExit."""
    log: list[str] = []
    gs: list[Goroutine] = []
    ch: Chan[int] = Chan()

    def linger() -> None:
        try:
            ch.recv()
        except GoroutineExit:
            log.append("exit")
            raise
        finally:
            log.append("out")

    def body() -> None:
        gs.extend(go(linger) for _ in range(3))
        parked(*gs)

    in_thread(body)
    dead(*gs)
    assert sorted(log) == ["exit"] * 3 + ["out"] * 3
    assert ch.try_send(1) is False
    assert capfd.readouterr() == ("", "")


def test_thread_that_used_the_runtime_leaves_nothing() -> None:
    """Threads that come, use goroutines and go do not pile anything up."""
    before = num_goroutine()

    def body() -> int:
        ch: Chan[int] = Chan()
        go(ch.send, 1)
        sleep(0)
        return ch.recv()

    for _ in range(scaled(30)):
        assert in_thread(body) == 1
    assert num_goroutine() == before


def test_threads_run_side_by_side() -> None:
    """Several plain threads, each with goroutines of its own, do not disturb each other."""
    results: list[int] = []

    def body(base: int) -> None:
        ch: Chan[int] = Chan()
        for i in range(50):
            go(ch.send, base + i)
        results.append(sum(ch.recv() for _ in range(50)))

    threads = [threading.Thread(target=body, args=(1000 * n,), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: not any(t.is_alive() for t in threads), "that the threads have ended")
    assert sorted(results) == [50 * 1000 * n + sum(range(50)) for n in range(4)]


def test_stacks_of_threads_that_switch() -> None:
    """A dump of all stacks from main does not disturb threads that switch goroutines."""
    done = run_program(
        """
        import sys, threading
        from goroutines import Chan, go, gosched, runtime, sleep

        sys.setswitchinterval(1e-5)
        stop = []
        ticks = [0, 0]

        def talk():
            ch = Chan()
            def deep(n):
                if n:
                    return deep(n - 1)
                ch.send(1)
            def sender():
                while True:  # until the thread ends, so that recv always has a sender
                    deep(5)
            for _ in range(4):
                go(sender)
            while not stop:
                ch.recv()
                ticks[0] += 1

        def churn():
            while not stop:
                for g in [go(gosched) for _ in range(20)]:
                    g.join()
                ticks[1] += 1

        threads = [threading.Thread(target=f, daemon=True) for f in (talk, churn)]
        for thread in threads:
            thread.start()
        for _ in range(int(sys.argv[1])):
            before = list(ticks)
            assert "goroutine 1 [running]" in runtime.stack(all=True)
            while any(a == b for a, b in zip(before, ticks)):
                sleep(0.0001)
        stop.append(1)
        for thread in threads:
            thread.join()
        print("ok")
        """,
        str(scaled(100)),
    )
    assert done == (0, "ok\n", "")


def test_thread_locals_that_use_the_runtime_when_they_die() -> None:
    """A destructor that runs at a thread's very end leaves nothing that hides a deadlock."""
    done = run_program(
        """
        import threading
        from goroutines import Chan, Deadlock, current, go, gosched, num_goroutine, sleep

        local = threading.local()
        ch = Chan(1000)

        class Last:
            def __del__(self):
                try:
                    go(ch.send, 1)
                    gosched()
                    sleep(0.0001)
                    current()
                except RuntimeError:            # the thread has ended already
                    pass

        def both():
            local.first = Last()
            current()
            local.second = Last()

        def after():
            current()
            local.first = Last()

        for _ in range(20):
            for body in (both, after):
                thread = threading.Thread(target=body)
                thread.start()
                thread.join()
        while num_goroutine() > 1:
            gosched()
        try:
            Chan().recv()
        except Deadlock:
            print("deadlock")
        """
    )
    assert done == (0, "deadlock\n", "")


# --- cost -------------------------------------------------------------------------------------


def test_goroutines_leave_no_memory_behind() -> None:
    """Starting, parking, failing waits and ending goroutines do not add up to a leak."""

    def worker(ch: Chan[int]) -> None:
        try:
            Chan().recv(timeout=0)
        except TimeoutError:
            pass
        select(recv(Chan()), timeout=0)
        ch.recv()

    def round_() -> None:
        ch: Chan[int] = Chan()
        gs = [go(worker, ch) for _ in range(200)]
        for i in range(200):
            ch.send(i)
        for g in gs:
            g.join()

    for _ in range(3):
        round_()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(10):
        round_()
    gc.collect()
    assert sys.getallocatedblocks() - before < 1000  # 2000 goroutines came and went
