"""Timer, Ticker, after, after_func, tick and now: no stale value, no tick saved up."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import goroutines
from goroutines import Chan, WaitGroup, current, go, gosched, recv, select, set_panic_hook, sleep
from goroutines import time as gotime
from goroutines.time import Ticker, Timer, after, after_func, now, tick

from .conftest import in_thread, parked, run_program, scaled, until

virtual = pytest.mark.usefixtures("fake_clock")


def since(start: float) -> float:
    """The seconds of the (virtual) clock since `start`, rid of the rounding of floats."""
    return round(now() - start, 6)


def nothing(ch: Any) -> bool:
    """Whether there is nothing to receive now."""
    return ch.try_recv() == (None, False)


# --- the clock --------------------------------------------------------------------------------


def test_now_is_monotonic() -> None:
    """now() never goes back, is a float of seconds, and goes on while somebody sleeps."""
    seen = [now() for _ in range(1000)]
    assert all(isinstance(t, float) for t in seen)
    assert seen == sorted(seen)
    start = now()
    sleep(0.01)
    assert now() - start >= 0.01 - 1e-6


def test_sleep_is_the_same() -> None:
    """goroutines.time.sleep is goroutines.sleep."""
    assert gotime.sleep is goroutines.sleep


@virtual
def test_sleep() -> None:
    """sleep takes exactly its seconds; none or fewer are no time at all."""
    start = now()
    sleep(3600)
    assert since(start) == 3600
    sleep(0)
    sleep(-5)
    assert since(start) == 3600
    sleep(0.25)
    assert since(start) == 3600.25


# --- wrong arguments --------------------------------------------------------------------------

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "Timer": Timer,
    "Ticker": Ticker,
    "after": after,
    "tick": tick,
    "after_func": lambda s: after_func(s, int),
    "Timer.reset": lambda s: Timer(3600).reset(s),
    "Ticker.reset": lambda s: Ticker(3600).reset(s),
}
every_function = pytest.mark.parametrize("fn", FUNCTIONS.values(), ids=FUNCTIONS)


@every_function
@pytest.mark.parametrize("seconds", ["1", None, [], 1j])
def test_seconds_of_a_wrong_type(fn: Callable[[Any], Any], seconds: Any) -> None:
    """Seconds that are no number are a TypeError at the call."""
    with pytest.raises(TypeError):
        fn(seconds)


@every_function
def test_nan(fn: Callable[[Any], Any]) -> None:
    """NaN is a ValueError at the call."""
    with pytest.raises(ValueError):
        fn(float("nan"))


@pytest.mark.parametrize("name", ["Ticker", "tick", "Ticker.reset"])
@pytest.mark.parametrize("period", [0, 0.0, -1, -0.5])
def test_period_that_is_not_positive(name: str, period: float) -> None:
    """A period of zero or less is a ValueError."""
    with pytest.raises(ValueError):
        FUNCTIONS[name](period)


def test_refused_reset_changes_nothing() -> None:
    """A ticker whose reset was refused goes on as before."""
    ticker = Ticker(0.001)
    with pytest.raises(ValueError):
        ticker.reset(0)
    ticker.c.recv()
    ticker.stop()


def test_after_func_not_callable() -> None:
    """What can't be called is a TypeError at the call."""
    with pytest.raises(TypeError):
        after_func(1, 3)  # type: ignore[arg-type]


# --- Timer ------------------------------------------------------------------------------------


@virtual
def test_timer() -> None:
    """A timer's channel gives the time once, when the time has come."""
    start = now()
    timer = Timer(10)
    assert nothing(timer.c)
    at = timer.c.recv()
    assert since(start) == 10
    assert at == pytest.approx(now())
    sleep(100)
    assert nothing(timer.c)


@pytest.mark.parametrize("seconds", [0, -1, -0.0])
def test_timer_that_is_due(seconds: float) -> None:
    """A timer of no time or less is due at once."""
    assert Timer(seconds).c.recv() <= now()
    assert after(seconds).recv() <= now()


@virtual
def test_after() -> None:
    """after is the channel of a timer that nobody can stop."""
    start = now()
    assert after(10).recv() == pytest.approx(start + 10)
    assert since(start) == 10


@virtual
def test_timer_value_waits() -> None:
    """Who comes late finds the one value, without waiting."""
    start = now()
    timer = Timer(10)
    sleep(25)
    timer.c.recv(timeout=0)
    assert since(start) == 25
    assert nothing(timer.c)


@virtual
def test_stop() -> None:
    """stop keeps a pending timer from firing, and says whether it was pending."""
    timer = Timer(10)
    assert timer.stop() is True
    assert timer.stop() is False
    sleep(20)
    assert nothing(timer.c)


@virtual
def test_stop_of_what_fired() -> None:
    """A timer whose value was received is not pending."""
    timer = Timer(10)
    timer.c.recv()
    assert timer.stop() is False


@virtual
def test_nothing_stale_after_stop() -> None:
    """A value that fell due before stop and was not received is gone with it."""
    timer = Timer(10)
    sleep(20)
    timer.stop()
    assert nothing(timer.c)
    sleep(20)
    assert nothing(timer.c)


@virtual
def test_nothing_stale_after_reset() -> None:
    """A value that fell due before reset is never received, only the new one."""
    start = now()
    timer = Timer(10)
    sleep(20)
    timer.reset(5)
    assert nothing(timer.c)
    assert timer.c.recv() == pytest.approx(start + 25)
    assert since(start) == 25
    sleep(20)
    assert nothing(timer.c)


@virtual
def test_reset() -> None:
    """reset starts the timer anew, and says whether it was pending."""
    start = now()
    timer = Timer(10)
    c = timer.c
    sleep(6)
    assert timer.reset(10) is True
    timer.c.recv()
    assert since(start) == 16
    assert timer.reset(3) is False
    timer.c.recv()
    assert since(start) == 19
    assert timer.stop() is False
    assert timer.reset(1) is False
    assert timer.stop() is True
    assert timer.c is c


@virtual
def test_reset_to_now() -> None:
    """reset to no time or less makes the timer due at once."""
    start = now()
    timer = Timer(100)
    for seconds in (0, -5):
        timer.reset(seconds)
        timer.c.recv()
    assert since(start) == 0


@virtual
@pytest.mark.parametrize("seconds", [5, 20])
def test_reset_while_somebody_waits(seconds: float) -> None:
    """Who waits already gets the value at the new time, be it earlier or later."""
    start = now()
    timer = Timer(10)
    at: list[float] = []
    waiter = go(lambda: (timer.c.recv(), at.append(since(start))))
    parked(waiter)
    assert timer.reset(seconds) is True
    waiter.join()
    assert at == [seconds]


@virtual
def test_stop_while_somebody_waits() -> None:
    """Who waits at a stopped timer waits on, until it is reset."""
    start = now()
    timer = Timer(10)
    waiter = go(timer.c.recv)
    parked(waiter)
    assert timer.stop() is True
    sleep(100)
    assert not waiter.done
    assert timer.reset(1) is False
    waiter.join()
    assert since(start) == 101


@virtual
def test_timers_fire_in_order() -> None:
    """Many timers fire in the order of their times, whatever the order they were made in."""
    start = now()
    delays = random.Random(1).sample(range(1, 1_000_000), 1000)
    log: list[float] = []
    wg = WaitGroup()
    for delay in delays:
        wg.go(lambda c=Timer(delay).c: (c.recv(), log.append(since(start))))
    wg.wait()
    assert log == sorted(delays)


@virtual
def test_stop_and_reset_of_many() -> None:
    """Of many timers, stopped, reset and left alone at random, each fires when it should."""
    start = now()
    rng = random.Random(2)
    due: list[int] = []
    log: list[float] = []
    timers = []
    for _ in range(1000):
        delay = rng.randrange(1, 1000)
        timers.append((after_func(delay, lambda: log.append(since(start))), delay))
    for timer, delay in rng.sample(timers, len(timers)):
        match rng.randrange(3):
            case 0:
                assert timer.stop() is True
            case 1:
                due.append(rng.randrange(1, 1000))
                assert timer.reset(due[-1]) is True
            case _:
                due.append(delay)
    sleep(1001)
    assert log == sorted(due)


# --- after_func -------------------------------------------------------------------------------


@virtual
def test_after_func() -> None:
    """The function runs when its time has come, in a goroutine of its own."""
    start = now()
    ran: Chan[tuple[float, int]] = Chan(1)
    timer = after_func(10, lambda: ran.send((since(start), current().id)))
    assert isinstance(timer, Timer)
    at, who = ran.recv()
    assert at == 10
    assert who != current().id
    assert timer.stop() is False


@virtual
def test_after_func_stop_and_reset() -> None:
    """Stopped it does not run; reset it runs, again if it ran before."""
    start = now()
    log: list[float] = []
    timer = after_func(10, lambda: log.append(since(start)))
    assert timer.stop() is True
    assert timer.stop() is False
    sleep(20)
    assert log == []
    assert timer.reset(5) is False
    assert timer.reset(10) is True
    sleep(20)
    assert log == [30]
    assert timer.reset(1) is False
    sleep(20)
    assert log == [30, 41]


@virtual
def test_after_func_may_wait() -> None:
    """A function that waits holds up no other timer."""
    start = now()
    log: list[float] = []
    after_func(1, lambda: (sleep(100), log.append(since(start))))
    after_func(2, lambda: log.append(since(start)))
    sleep(200)
    assert log == [2, 101]


def test_after_func_that_raises() -> None:
    """An exception of the function is a panic of its goroutine."""
    seen: Chan[str] = Chan(1)

    def fail() -> None:
        raise ValueError("the function's")

    old = set_panic_hook(lambda g, exc: seen.send(str(exc)) is None)
    try:
        after_func(0.001, fail)
        assert seen.recv() == "the function's"
    finally:
        set_panic_hook(old)


def test_after_func_stop_races() -> None:
    """Of a stop and a firing at once exactly one wins."""
    for round_ in range(scaled(200)):
        ran: list[int] = []
        timer = after_func(0.0001, lambda: ran.append(1))
        for _ in range(round_ % 20):
            gosched()
        stopped = timer.stop()
        if not stopped:
            until(lambda: ran, "that the function ran")
        gosched()
        assert len(ran) + stopped == 1


# --- Ticker -----------------------------------------------------------------------------------


@virtual
@pytest.mark.parametrize("make", [lambda s: Ticker(s).c, tick], ids=["Ticker", "tick"])
def test_ticks(make: Callable[[float], Any]) -> None:
    """A tick comes at every period, and carries the time."""
    start = now()
    c = make(2.5)
    assert nothing(c)
    for i in range(1, 101):
        assert c.recv() == pytest.approx(start + 2.5 * i)
        assert since(start) == 2.5 * i


@virtual
def test_iterating_over_ticks() -> None:
    """A ticker's channel can be iterated over like any other."""
    start = now()
    seen = []
    for _ in Ticker(3).c:
        seen.append(since(start))
        if len(seen) == 3:
            break
    assert seen == [3, 6, 9]


@virtual
def test_slow_reader() -> None:
    """A slow reader finds one tick, the others were dropped; the rhythm stays."""
    start = now()
    ticker = Ticker(1)
    sleep(10.5)
    ticker.c.recv(timeout=0)
    assert nothing(ticker.c)
    ticker.c.recv()
    assert since(start) == 11
    ticker.c.recv()
    assert since(start) == 12


@virtual
def test_ticker_stopped() -> None:
    """A stopped ticker ticks no more, and a tick that nobody took is gone."""
    ticker = Ticker(1)
    sleep(1.5)
    ticker.stop()
    assert nothing(ticker.c)
    ticker.stop()
    sleep(10)
    assert nothing(ticker.c)
    assert not ticker.c.closed


@virtual
def test_ticker_reset() -> None:
    """reset starts a new period now, and drops a tick of the old one."""
    start = now()
    ticker = Ticker(10)
    sleep(14)
    ticker.reset(3)
    assert nothing(ticker.c)
    for at in (17, 20, 23):
        ticker.c.recv()
        assert since(start) == at
    ticker.stop()
    sleep(7)
    ticker.reset(2)
    ticker.c.recv()
    assert since(start) == 32


@virtual
@pytest.mark.parametrize("period", [4, 30])
def test_ticker_reset_while_somebody_waits(period: float) -> None:
    """Who waits already gets the first tick of the new period, be it earlier or later."""
    start = now()
    ticker = Ticker(10)
    at: list[float] = []
    waiter = go(lambda: [(ticker.c.recv(), at.append(since(start))) for _ in range(2)])
    parked(waiter)
    ticker.reset(period)
    waiter.join()
    assert at == [period, 2 * period]


@virtual
def test_several_receivers() -> None:
    """Several receivers get the ticks in the order in which they came, one each."""
    start = now()
    ticker = Ticker(1)
    log: list[tuple[int, float]] = []

    def receive(i: int) -> None:
        ticker.c.recv()
        log.append((i, since(start)))

    waiters = []
    for i in range(5):
        waiters.append(go(receive, i))
        parked(waiters[-1])
    for g in waiters:
        g.join()
    assert log == [(i, i + 1) for i in range(5)]


@virtual
def test_one_value_for_several() -> None:
    """A timer fires for one receiver alone."""
    timer = Timer(1)
    waiters = [go(timer.c.recv) for _ in range(3)]
    parked(*waiters)
    sleep(10)
    assert sum(g.done for g in waiters) == 1
    for _ in range(2):
        timer.reset(1)
        sleep(10)
    for g in waiters:
        g.join()


# --- in a select ------------------------------------------------------------------------------


@virtual
def test_timeout_in_a_select() -> None:
    """after in a select is Go's timeout."""
    start = now()
    ch: Chan[int] = Chan()
    assert select(recv(ch), recv(after(5)))[0] == 1
    assert since(start) == 5
    go(lambda: (sleep(1), ch.send(7)))
    assert select(recv(ch), recv(after(5))) == (0, 7)
    assert since(start) == 6


@virtual
def test_stop_and_reset_under_a_select() -> None:
    """A select that waits at a timer sees its stop and its reset."""
    start = now()
    a, b = Timer(10), Timer(20)
    chosen: list[tuple[int, float]] = []
    waiter = go(lambda: chosen.append((select(recv(a.c), recv(b.c))[0], since(start))))
    parked(waiter)
    a.stop()
    b.reset(30)
    waiter.join()
    assert chosen == [(1, 30)]
    a.stop()
    assert select(recv(a.c), recv(b.c), timeout=50) == (-1, None)
    assert since(start) == 80


@virtual
def test_due_timer_without_waiting() -> None:
    """select with timeout=0 sees what is due, and nothing before."""
    timer = Timer(5)
    assert select(recv(timer.c), timeout=0) == (-1, None)
    sleep(5.5)
    assert select(recv(timer.c), timeout=0)[0] == 0
    assert select(recv(timer.c), timeout=0) == (-1, None)


@virtual
def test_one_timer_for_a_loop() -> None:
    """One timer reset in each turn of a loop times out only the turn that is too long."""
    start = now()
    work: Chan[int] = Chan()

    def produce() -> None:
        for i in range(5):
            sleep(9)
            work.send(i)

    g = go(produce)
    idle = Timer(10)
    got: list[int] = []
    while True:
        idle.reset(10)
        index, value = select(recv(work), recv(idle.c))
        if index == 1:
            break
        got.append(value)
    g.join()
    assert got == [0, 1, 2, 3, 4]
    assert since(start) == 5 * 9 + 10


# --- threads, and the deadlock ----------------------------------------------------------------


def test_plain_threads() -> None:
    """A plain thread waits at a timer of its own and at one of another thread."""
    assert in_thread(lambda: Timer(0.001).c.recv()) <= now()
    timer = Timer(0.001)
    assert in_thread(timer.c.recv) <= now()
    ticker = in_thread(lambda: Ticker(0.001))
    for _ in range(3):
        ticker.c.recv()
    in_thread(ticker.stop)


def test_timer_outlives_its_thread() -> None:
    """A timer that a thread started fires though the thread has ended."""
    ran: Chan[int] = Chan(1)
    timer = in_thread(lambda: Timer(0.01))
    in_thread(lambda: after_func(0.01, lambda: ran.send(7)))
    assert timer.c.recv() <= now()
    assert ran.recv() == 7


def test_stop_and_reset_from_many_threads() -> None:
    """Threads that stop and reset one timer at once leave it in one piece."""
    ran: list[int] = []
    timer = after_func(3600, lambda: ran.append(1))

    def body(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(scaled(500)):
            if rng.random() < 0.5:
                timer.stop()
            else:
                timer.reset(3600)

    threads = [threading.Thread(target=body, args=(i,), daemon=True) for i in range(3)]
    for thread in threads:
        thread.start()
    body(3)
    for thread in threads:
        until(lambda thread=thread: not thread.is_alive(), "that the thread has ended")
    timer.reset(3600)
    assert timer.stop() is True
    assert ran == []


@pytest.mark.parametrize("left", ["Ticker(0.01)", "tick(0.01)", "Ticker(0.01).c", "Timer(1e6)"])
def test_unreferenced_timer_is_no_hope(left: str) -> None:
    """A ticker or timer that nobody holds can wake nobody, so a deadlock is told."""
    done = run_program(
        f"""
        from goroutines import Chan
        from goroutines.time import Ticker, Timer, tick

        {left}
        Chan().recv()
        """
    )
    assert done.returncode == 2, done
    assert "all goroutines are asleep - deadlock!" in done.stderr


def test_stopped_timer_is_no_hope() -> None:
    """Stopped timers can wake nobody, so waiting at them alone is a deadlock."""
    done = run_program(
        """
        from goroutines.time import Ticker, Timer, after_func

        timer, ticker = Timer(1e6), Ticker(1e6)
        for each in timer, ticker, after_func(1e6, int):
            each.stop()
        timer.c.recv()
        """
    )
    assert done.returncode == 2, done
    assert "all goroutines are asleep - deadlock!" in done.stderr


def test_pending_timers_are_hope() -> None:
    """A timer that somebody waits at, or that will run a function, can still help."""
    ch: Chan[str] = Chan()
    after_func(0.05, lambda: ch.send("helped"))
    assert ch.recv() == "helped"
    waiter = go(lambda: (after(0.05).recv(), ch.send("again")))
    assert ch.recv() == "again"
    waiter.join()


def test_due_tick_goes_to_who_waits_already() -> None:
    """Who comes when a tick is due finds another waiting, leaves it to him and gets the next."""
    got: list[float] = []
    ticker = Ticker(0.4)  # long enough to be parked before
    first = go(lambda: got.append(ticker.c.recv()))
    parked(first)
    time.sleep(0.45)  # the thread: nobody has looked at the clock
    later = ticker.c.recv()
    assert [*got, later] == sorted([*got, later])
    first.join()
    assert len(got) == 1


@pytest.mark.parametrize("look", ["recv", "try_recv", "select"])
def test_due_tick_of_a_timer_goes_to_who_waits_already(look: str) -> None:
    """The same for the one tick of a Timer, however the second one looks."""
    got: list[float] = []
    timer = Timer(0.4)
    first = go(lambda: got.append(timer.c.recv()))
    parked(first)
    time.sleep(0.45)
    if look == "recv":
        with pytest.raises(TimeoutError):
            timer.c.recv(timeout=0)
    elif look == "try_recv":
        assert timer.c.try_recv() == (None, False)
    else:
        assert select(recv(timer.c), timeout=0) == (-1, None)
    first.join()
    assert len(got) == 1


def test_many_functions_of_a_thread_that_ends() -> None:
    """All of them are called in the main thread, though taking them over stops each."""
    count = 300
    called: Chan[int] = Chan(count)

    def arm() -> None:
        for i in range(count):
            after_func(0.05, lambda i=i: called.send(i))

    in_thread(arm)
    assert sorted(called.recv() for _ in range(count)) == list(range(count))


def test_destructor_that_waits_while_timers_fire() -> None:
    """It gets an error, and what is due with it is woken all the same."""
    end = run_program(
        """
        from goroutines import WaitGroup, run, sleep
        from goroutines.time import after_func

        class Waits:
            def __call__(self):
                print("called")
            def __del__(self):
                sleep(0.001)

        run(lambda: [after_func(0.02, Waits()) for _ in range(5)] and None)
        wg = WaitGroup()
        for _ in range(50):
            wg.go(sleep, 0.02)
        wg.wait()
        sleep(0.05)
        print("all awake")
        """
    )
    assert (end.returncode, end.stdout) == (0, "all awake\n"), end.stderr
    assert "RuntimeError: cannot wait here" in end.stderr
