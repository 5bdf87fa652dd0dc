"""goroutines.testing: the fake clock, wait_all_blocked, no_leaks, and the pytest fixtures."""

from __future__ import annotations

import re
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from goroutines import Chan, Mutex, WaitGroup, go, gosched, recv, select, sleep
from goroutines.context import DeadlineExceeded, background, with_timeout
from goroutines.testing import fake_clock, no_leaks, wait_all_blocked
from goroutines.time import Ticker, Timer, after_func, now

from .conftest import Finished, parked, run_command, run_program, scaled


def since(start: float) -> float:
    """The seconds of the (virtual) clock since `start`, rid of the rounding of floats."""
    return round(now() - start, 6)


# --- fake_clock -------------------------------------------------------------------------------


def test_sleep_takes_no_time() -> None:
    """A sleep of a century is over at once and now() went on by a century."""
    with fake_clock():
        start = now()
        sleep(100 * 365 * 86400)
        assert now() - start == pytest.approx(100 * 365 * 86400)


def test_time_stands_still() -> None:
    """While somebody can run, the clock does not move."""
    with fake_clock():
        start = now()
        for _ in range(100):
            gosched()
        assert now() == start
        log: list[float] = []
        sleeper = go(lambda: (sleep(5), log.append(since(start))))
        for _ in range(1000):
            gosched()
        assert (log, now()) == ([], start)
        sleeper.join()
        assert log == [5]


def test_time_jumps_to_the_next_timer() -> None:
    """Every timer has its turn at its own time, in order, whatever kind it is."""
    with fake_clock():
        start = now()
        log: list[tuple[str, float]] = []

        def note(what: str) -> None:
            log.append((what, since(start)))

        wg = WaitGroup()
        wg.go(lambda: (sleep(30), note("sleep")))
        wg.go(lambda: (Timer(10).c.recv(), note("timer")))
        wg.go(lambda: (select(recv(Chan()), timeout=40), note("select")))
        wg.go(lambda: (with_timeout(background(), 20).done().recv_ok(), note("context")))
        after_func(5, lambda: note("after_func"))
        wg.wait()
        note("end")
    assert log == [
        ("after_func", 5),
        ("timer", 10),
        ("context", 20),
        ("sleep", 30),
        ("select", 40),
        ("end", 40),
    ]


def test_timeouts_on_the_fake_clock() -> None:
    """The timeout of an operation runs out on the fake clock."""
    with fake_clock():
        start = now()
        mu = Mutex()
        mu.lock()
        for wait in (Chan().recv, lambda timeout: Chan().send(1, timeout), mu.lock):
            with pytest.raises(TimeoutError):
                wait(timeout=1000)
        assert since(start) == 3000
        with with_timeout(background(), 1000) as ctx:
            ctx.done().recv_ok()
            assert isinstance(ctx.err(), DeadlineExceeded)
        assert since(start) == 4000


def test_work_between_two_timers() -> None:
    """What a timer set off is done, however many goroutines it takes, before time goes on."""
    with fake_clock():
        start = now()
        stages: list[Any] = [Chan() for _ in range(50)]
        seen: list[float] = []

        def stage(i: int) -> None:
            for value in stages[i]:
                stages[i + 1].send(value)
            stages[i + 1].close()

        for i in range(49):
            go(stage, i)
        source = go(lambda: ([(sleep(1), stages[0].send(i)) for i in range(20)], stages[0].close()))
        for _ in stages[49]:
            seen.append(since(start))
        source.join()
    assert seen == list(range(1, 21))


def test_real_clock_afterwards() -> None:
    """Leaving the block, by an exception too, brings the real clock back."""
    before = now()
    with pytest.raises(ValueError, match="the block's"):
        with fake_clock():
            sleep(1e6)
            raise ValueError("the block's")
    assert before <= now() < before + 1e6
    real = time.monotonic()
    sleep(0.01)
    assert time.monotonic() - real >= 0.009


def test_one_clock_after_another() -> None:
    """Every block begins anew and takes nothing from the one before."""
    for _ in range(20):
        with fake_clock():
            start = now()
            ticker = Ticker(1)
            for i in range(1, 6):
                ticker.c.recv()
                assert since(start) == i


def test_deadlock_on_the_fake_clock() -> None:
    """When all wait and there is no timer either, it is a deadlock as ever."""
    done = run_program(
        """
        from goroutines import Chan, sleep
        from goroutines.testing import fake_clock

        with fake_clock():
            sleep(10)
            Chan().recv()
        """
    )
    assert done.returncode == 2, done
    assert "all goroutines are asleep - deadlock!" in done.stderr


# --- wait_all_blocked -------------------------------------------------------------------------


def test_wait_for_nobody() -> None:
    """Alone there is nothing to wait for."""
    assert wait_all_blocked() is None


def test_wait_all_blocked() -> None:
    """It returns when every other goroutine has done what it can and waits."""
    ch: Chan[None] = Chan()
    log: list[int] = []

    def body(i: int) -> None:
        for _ in range(i):
            gosched()
        log.append(i)
        ch.recv()

    count = scaled(100)
    gs = [go(body, i) for i in range(count)]
    wait_all_blocked()
    assert sorted(log) == list(range(count))
    assert {g.state for g in gs} == {"waiting"}
    for _ in gs:
        ch.send(None)


def test_wait_all_blocked_through_a_chain() -> None:
    """Who is woken by another one is waited for too."""
    chans: list[Chan[int]] = [Chan() for _ in range(20)]
    log: list[int] = []

    def link(i: int) -> None:
        for value in chans[i]:
            gosched()
            if i + 1 < len(chans):
                chans[i + 1].send(value)
            else:
                log.append(value)
        if i + 1 < len(chans):
            chans[i + 1].close()

    gs = [go(link, i) for i in range(len(chans))]
    for value in range(3):
        chans[0].send(value)
        wait_all_blocked()
        assert log == list(range(value + 1))
    chans[0].close()
    for g in gs:
        g.join()


def test_wait_all_blocked_in_a_goroutine() -> None:
    """Any goroutine may ask; main counts as one of the others."""
    log: list[str] = []

    def worker() -> None:
        for _ in range(20):
            gosched()
        log.append("worker")

    def body() -> None:
        go(worker)
        wait_all_blocked()
        log.append("all blocked")

    go(body).join()
    assert log == ["worker", "all blocked"]


def test_wait_all_blocked_leaves_the_clock() -> None:
    """A goroutine that sleeps is blocked, and no time passes for it meanwhile."""
    with fake_clock():
        start = now()
        log: list[float] = []
        g = go(lambda: (sleep(5), log.append(since(start)), sleep(5)))
        wait_all_blocked()
        assert (log, since(start), g.state) == ([], 0, "waiting")
        sleep(7)
        wait_all_blocked()
        assert (log, since(start), g.state) == ([5], 7, "waiting")
        g.join()
        assert since(start) == 10


# --- no_leaks ---------------------------------------------------------------------------------


def test_no_leaks() -> None:
    """A block whose goroutines have all ended passes."""
    with no_leaks():
        wg = WaitGroup()
        for _ in range(10):
            wg.go(gosched)
        wg.wait()


def test_leaks_are_named() -> None:
    """Each goroutine that is left is named by the place where it was started."""
    ch: Chan[None] = Chan()
    with pytest.raises(AssertionError) as caught:
        with no_leaks():
            first = go(ch.recv)
            ended = go(gosched)
            second = go(ch.recv)
            parked(first, second)
            ended.join()
    message = str(caught.value)
    for g in (first, second):
        assert re.search(re.escape(str(g.created_by)) + r"\b", message), message
    assert str(ended.created_by) not in message
    assert first.created_by != second.created_by
    assert not first.done
    assert not second.done
    ch.send(None)
    ch.send(None)


def test_those_of_before_are_no_leaks() -> None:
    """Only what was started inside the block counts, also when others end meanwhile."""
    ch: Chan[None] = Chan()
    before = [go(ch.recv) for _ in range(3)]
    parked(*before)
    with no_leaks():
        pass
    with pytest.raises(AssertionError) as caught:
        with no_leaks():
            ch.send(None)
            left = go(ch.recv)
            parked(left)
    assert str(left.created_by) in str(caught.value)
    assert str(before[0].created_by) not in str(caught.value)
    for _ in range(3):
        ch.send(None)


def test_those_on_their_way_out_are_no_leaks() -> None:
    """A goroutine that only needs its turns to end is no leak."""
    with no_leaks():
        go(lambda: [gosched() for _ in range(10)])


def test_exception_of_the_block_comes_first() -> None:
    """A block that raises raises its own exception, leak or not."""
    ch: Chan[None] = Chan()
    with pytest.raises(ValueError, match="the block's"):
        with no_leaks():
            parked(go(ch.recv))
            raise ValueError("the block's")
    ch.send(None)


# --- pytest -----------------------------------------------------------------------------------


def pytest_run(tmp_path: Path, source: str, *args: str) -> Finished:
    """Run pytest, with what is installed and nothing of this project's, over one file."""
    path = tmp_path / "test_sample.py"
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args, str(path)]
    return run_command(command, cwd=tmp_path)


def test_fixtures(tmp_path: Path) -> None:
    """The fixtures are there without any import."""
    done = pytest_run(
        tmp_path,
        """
        import time
        from goroutines import go, sleep
        from goroutines.time import now

        def test_clock(fake_clock):
            start = now()
            sleep(3600)
            assert now() - start > 3599

        def test_real_clock_again():
            start = now()
            sleep(0.01)
            assert now() - start < 3600

        def test_leaks(no_leaks):
            go(sleep, 0).join()

        def test_both(no_leaks, fake_clock):
            go(sleep, 3600).join()
        """,
    )
    assert done.returncode == 0, done
    assert "4 passed" in done.stdout


def test_leak_fails_the_test(tmp_path: Path) -> None:
    """A test that leaves a goroutine fails, named by its birth; the next one is not blamed."""
    done = pytest_run(
        tmp_path,
        """
        from goroutines import Chan, go

        CH = Chan()

        def test_that_leaks(no_leaks):
            go(CH.recv)

        def test_that_does_not(no_leaks):
            go(int).join()
        """,
    )
    assert done.returncode == 1, done
    assert re.search(r"(FAILED|ERROR) \S*::test_that_leaks", done.stdout), done
    assert not re.search(r"(FAILED|ERROR) \S*::test_that_does_not", done.stdout), done
    assert "test_sample.py:7" in done.stdout


def test_fixtures_are_documented(tmp_path: Path) -> None:
    """pytest --fixtures lists both, with what they do."""
    done = pytest_run(tmp_path, "def test_nothing(): pass\n", "--fixtures")
    assert done.returncode == 0, done
    for name in ("fake_clock", "no_leaks"):
        line = rf"^{name}\b.*\n(?:    .*\n)+"
        found = re.search(line, done.stdout, re.MULTILINE)
        assert found, done.stdout
        assert "no docstring available" not in found[0]
