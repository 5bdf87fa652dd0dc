"""Sleeping and time-outs: order, and the odd numbers that clocks are given."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from goroutines import Chan, Goroutine, WaitGroup, go, gosched, recv, run, select, sleep

from ..conftest import FREE_THREADED, in_thread, parked, scaled, until

NEVER = (math.inf, 1e18, 10**18, 1e308)
NOT_NUMBERS = ("1", b"1", [], object(), 1j)


def busy_group() -> WaitGroup:
    """Return a WaitGroup whose counter stays above zero."""
    wg = WaitGroup()
    wg.add(1)
    return wg


WAITS: dict[str, Callable[[Any], object]] = {
    "recv": lambda timeout: Chan().recv(timeout=timeout),
    "recv_ok": lambda timeout: Chan().recv_ok(timeout=timeout),
    "receiver": lambda timeout: Chan().receiver.recv(timeout=timeout),
    "send": lambda timeout: Chan().send(1, timeout=timeout),
    "sender": lambda timeout: Chan().sender.send(1, timeout=timeout),
    "wait": lambda timeout: busy_group().wait(timeout=timeout),
    "select": lambda timeout: select(recv(Chan()), timeout=timeout),
}
each_wait = pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())


def times_out(operation: Callable[[], object]) -> bool:
    """Tell whether `operation` gave up: TimeoutError, or select's (-1, None)."""
    try:
        return operation() == (-1, None)
    except TimeoutError:
        return True


# --- sleep ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, 0.0, -0.0, -1, -1e18, -math.inf, 1e-9, 0.001, 5e-324])
def test_sleep_returns(seconds: float) -> None:
    """Sleeps of nothing, of little and of less than nothing are soon over."""
    assert sleep(seconds) is None


@pytest.mark.parametrize("seconds", NEVER)
def test_sleep_for_ages(seconds: float) -> None:
    """Enormous and infinite sleeps neither overflow nor end."""

    def main() -> bool:
        g = go(sleep, seconds)
        parked(g)
        assert g.wait_reason == "sleep"
        sleep(0.001)
        for _ in range(100):
            gosched()
        return g.done

    assert run(main) is False


def test_sleep_nan() -> None:
    """NaN seconds are a ValueError that says so."""
    with pytest.raises(ValueError, match="(?i)nan|not a number"):
        sleep(math.nan)


@pytest.mark.parametrize("seconds", [None, *NOT_NUMBERS])
def test_sleep_wrong_type(seconds: Any) -> None:
    """What is no number is a TypeError."""
    with pytest.raises(TypeError):
        sleep(seconds)


def test_sleep_lets_others_run() -> None:
    """While one goroutine sleeps the others go on, and it wakes all the same."""
    log: list[str] = []

    def sleeper() -> None:
        sleep(0.01)
        log.append("awake")

    def worker() -> None:
        log.append("worked")

    g = go(sleeper)
    parked(g)
    go(worker).join()
    g.join()
    assert log == ["worked", "awake"]


def test_longer_sleeps_end_later() -> None:
    """Sleeps that begin in order and grow in length end in that order."""
    log: list[int] = []

    def sleeper(i: int) -> None:
        sleep(i * 0.0005)
        log.append(i)

    gs: list[Goroutine] = []
    for i in range(1, 101):
        gs.append(go(sleeper, i))
        until(lambda: gs[-1].state in ("waiting", "dead"), "that the sleep has begun")
    for g in gs:
        g.join()
    if FREE_THREADED:
        log.sort()  # two threads may wake one each at the same time
    assert log == list(range(1, 101))


def test_many_sleepers_all_wake() -> None:
    """Thousands of sleeps of random length, zero among them, all end once."""
    rng = random.Random(20)
    count = scaled(5000)
    woken: list[int] = []
    wg = WaitGroup()
    wg.add(count)

    def sleeper(i: int, seconds: float) -> None:
        sleep(seconds)
        woken.append(i)
        wg.done()

    for i in range(count):
        go(sleeper, i, rng.choice((0, rng.random() / 50, rng.random() / 10)))
    wg.wait()
    assert sorted(woken) == list(range(count))


def test_sleep_again_and_again() -> None:
    """A goroutine sleeps in a loop while another does the same."""
    log: list[int] = []

    def sleeper(me: int) -> None:
        for _ in range(20):
            sleep(0.0005)
            log.append(me)

    gs = [go(sleeper, 0), go(sleeper, 1)]
    for g in gs:
        g.join()
    assert (log.count(0), log.count(1)) == (20, 20)


def test_sleep_in_plain_thread() -> None:
    """A plain thread sleeps with the same function."""

    def body() -> str:
        g = go(sleep, 0.002)
        sleep(0.001)
        sleep(-1)
        g.join()
        return "ok"

    assert in_thread(body) == "ok"


# --- time-outs --------------------------------------------------------------------------------


@each_wait
@pytest.mark.parametrize("timeout", [0, 0.0, -0.0, -1, -1e18, -math.inf, 1e-9, 0.001, 5e-324])
def test_timeout_runs_out(wait: Callable[[Any], object], timeout: float) -> None:
    """Short, zero and negative time-outs give up."""
    assert times_out(lambda: wait(timeout))


@each_wait
@pytest.mark.parametrize("timeout", NEVER)
def test_timeout_for_ages(wait: Callable[[Any], object], timeout: float) -> None:
    """Enormous and infinite time-outs neither overflow nor run out."""

    def main() -> bool:
        g = go(wait, timeout)
        parked(g)
        sleep(0.001)
        for _ in range(100):
            gosched()
        return g.done

    assert run(main) is False


@pytest.mark.parametrize("timeout", NEVER)
def test_timeout_for_ages_is_served(timeout: float) -> None:
    """A wait with an endless time-out gets what it waits for."""
    ch: Chan[int] = Chan()
    wg = busy_group()
    out: list[object] = []

    def body() -> None:
        out.append(ch.recv(timeout=timeout))
        out.append(select(recv(ch), timeout=timeout))
        wg.wait(timeout=timeout)
        ch.send(3, timeout=timeout)

    g = go(body)
    ch.send(1)
    ch.send(2)
    parked(g)
    wg.done()
    assert ch.recv() == 3
    g.join(timeout=timeout)
    assert out == [1, (0, 2)]


@each_wait
def test_timeout_nan(wait: Callable[[Any], object]) -> None:
    """A time-out of NaN is a ValueError that says so."""
    with pytest.raises(ValueError, match="(?i)nan|not a number"):
        wait(math.nan)


@each_wait
@pytest.mark.parametrize("timeout", NOT_NUMBERS)
def test_timeout_wrong_type(wait: Callable[[Any], object], timeout: object) -> None:
    """A time-out that is no number is a TypeError."""
    with pytest.raises(TypeError):
        wait(timeout)


@pytest.mark.parametrize("timeout", [0, -1, -math.inf, 0.001])
def test_join_timeout_runs_out(timeout: float) -> None:
    """join gives up likewise, and can be called again."""
    ch: Chan[int] = Chan()
    g = go(ch.recv)
    parked(g)
    with pytest.raises(TimeoutError):
        g.join(timeout=timeout)
    ch.send(1)
    g.join()


def test_join_timeout_odd_values() -> None:
    """join refuses NaN and what is no number."""
    ch: Chan[int] = Chan()
    g = go(ch.recv)
    parked(g)
    with pytest.raises(ValueError, match="(?i)nan|not a number"):
        g.join(timeout=math.nan)
    for timeout in NOT_NUMBERS:
        with pytest.raises(TypeError):
            g.join(timeout=timeout)  # type: ignore[arg-type]
    ch.send(1)
    g.join()


def test_refused_timeouts_leave_no_waiter() -> None:
    """A wait that was refused because of its time-out is in no queue."""
    ch: Chan[int] = Chan()
    for timeout in (math.nan, "1"):
        for wait in (ch.recv, ch.recv_ok, lambda timeout: ch.send(1, timeout=timeout)):
            with pytest.raises((ValueError, TypeError)):
                wait(timeout=timeout)
        with pytest.raises((ValueError, TypeError)):
            select(recv(ch), timeout=timeout)  # type: ignore[arg-type]
    assert ch.try_send(1) is False
    assert ch.try_recv() == (None, False)


def test_timeout_is_the_builtin_error() -> None:
    """The error is TimeoutError itself or a subclass, so OSError handlers see it too."""
    with pytest.raises(TimeoutError) as caught:
        Chan().recv(timeout=0)
    assert isinstance(caught.value, OSError)


def test_timeouts_in_masses() -> None:
    """Thousands of waits on one channel run out and leave it unused."""
    ch: Chan[int] = Chan()
    count = scaled(3000)
    rng = random.Random(21)
    out: list[str] = []

    def waiter(timeout: float) -> None:
        try:
            ch.recv(timeout=timeout)
        except TimeoutError:
            out.append("timeout")

    gs = [go(waiter, rng.random() / 20) for _ in range(count)]
    for g in gs:
        g.join()
    assert len(out) == count
    assert ch.try_send(1) is False


def test_value_or_timeout_but_not_both() -> None:
    """When a value and a time-out race, the value is either received or still offered."""
    rng = random.Random(22)
    received = timed_out = refused = sent = 0
    for _ in range(scaled(300)):
        ch: Chan[int] = Chan()
        out: list[str] = []

        def waiter(ch: Chan[int] = ch, out: list[str] = out, t: float = rng.random() / 500) -> None:
            try:
                ch.recv(timeout=t)
                out.append("value")
            except TimeoutError:
                out.append("timeout")

        g = go(waiter)
        sleep(rng.random() / 500)
        if ch.try_send(1):
            sent += 1
        else:
            refused += 1
        g.join()
        received += out == ["value"]
        timed_out += out == ["timeout"]
    assert (received, timed_out) == (sent, refused)


def test_timed_waits_beside_a_spinning_thread() -> None:
    """Timers fire though a plain thread keeps the interpreter busy."""
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(100))

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        log: list[str] = []
        g = go(lambda: (sleep(0.001), log.append("slept")))
        with pytest.raises(TimeoutError):
            Chan().recv(timeout=0.001)
        g.join()
        assert log == ["slept"]
    finally:
        stop.set()
        until(lambda: not thread.is_alive(), "that the thread has ended")
