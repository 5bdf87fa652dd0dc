"""Once: one call, all others wait for its end; failing, recursion, threads, ends of runs."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import pytest

from goroutines import Chan, Once, go, gosched, run, runtime

from ..conftest import parked, until


def test_only_the_first_call_counts() -> None:
    """do calls its function once, whatever functions come later, and returns None."""
    once = Once()
    log: list[int] = []
    assert once.do(lambda: log.append(1)) is None
    assert once.do(lambda: log.append(2)) is None
    once.do(fn=lambda: log.append(3))
    assert log == [1]


def test_others_wait_for_the_end() -> None:
    """Calls that come while the first runs return when it has ended, not before."""
    once = Once()
    gate: Chan[None] = Chan()
    log: list[str] = []

    def first() -> None:
        gate.recv()
        log.append("ended")

    def other() -> None:
        once.do(lambda: log.append("again"))
        log.append("went on")

    leader = go(once.do, first)
    parked(leader)
    others = [go(other) for _ in range(5)]
    parked(*others)
    assert {g.wait_reason for g in others} == {"sync.Once.do"}
    gate.send(None)
    for g in (leader, *others):
        g.join()
    assert log == ["ended"] + ["went on"] * 5


def test_a_failure_counts_as_done() -> None:
    """What the function raises goes to its own caller; to everybody else it is done."""
    once = Once()
    gate: Chan[None] = Chan()

    def fail() -> None:
        gate.recv()
        raise KeyError("first")

    def leader() -> None:
        with pytest.raises(KeyError, match="first"):
            once.do(fail)

    gs = [go(leader)]
    parked(*gs)
    gs.append(go(once.do, pytest.fail))
    parked(*gs)
    gate.send(None)
    for g in gs:
        g.join()
    once.do(pytest.fail)


def test_goexit_counts_as_done() -> None:
    """A function that ends its goroutine is done too, and lets the others go."""
    once = Once()
    go(once.do, runtime.goexit).join()
    once.do(pytest.fail)


def test_do_in_its_own_function() -> None:
    """Where Go deadlocks there is an error that tells why; the first call goes on."""
    once = Once()
    seen: list[BaseException] = []

    def again() -> None:
        gosched()
        try:
            once.do(again)
        except RuntimeError as error:
            seen.append(error)

    once.do(again)
    assert "Once" in str(seen[0])
    once.do(pytest.fail)


def test_two_onces_do_not_mix() -> None:
    """One Once may be done inside another's function."""
    outer, inner = Once(), Once()
    log: list[str] = []
    outer.do(lambda: inner.do(lambda: log.append("inner")))
    inner.do(pytest.fail)
    assert log == ["inner"]


@pytest.mark.parametrize("fn", [None, 3, "f"])
def test_not_callable(fn: Any) -> None:
    """What cannot be called is a TypeError, before and after, and counts for nothing."""
    once = Once()
    with pytest.raises(TypeError):
        once.do(fn)
    log: list[int] = []
    once.do(lambda: log.append(1))
    assert log == [1]
    with pytest.raises(TypeError):
        once.do(fn)
    with pytest.raises(TypeError):
        once.do()  # type: ignore[call-arg]


def test_the_end_of_run_ends_waiters() -> None:
    """Waiters are ended with their run; the call that they waited for goes on."""
    once = Once()
    log: list[str] = []

    def slow() -> None:
        run(lambda: parked(go(once.do, pytest.fail)))
        log.append("ended")

    once.do(slow)
    assert log == ["ended"]
    once.do(pytest.fail)


def test_plain_threads() -> None:
    """Of many threads one calls, and each returns after it has ended."""
    once = Once()
    log: list[str] = []

    def body() -> None:
        once.do(lambda: (gosched(), log.append("called")))
        log.append("went on")

    threads = [threading.Thread(target=body, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: not any(t.is_alive() for t in threads), "that the threads have ended")
    assert log == ["called"] + ["went on"] * 8


def test_repr_and_weak_reference() -> None:
    """The repr changes when it is done; it can be watched."""
    once = Once()
    before = repr(once)
    once.do(int)
    assert "Once" in before
    assert repr(once) != before
    ref = weakref.ref(once)
    del once
    until(lambda: ref() is None, "that the Once is gone")
