"""Lines about the scheduler: GODEBUG=schedtrace and `goroutines run --schedtrace`."""

from __future__ import annotations

import re

import pytest

from .tools import PARALLEL, program, several

WORK = """
    import gc, sys, time
    from goroutines import Chan, go, gosched, runtime, sleep
    ch = Chan()
    def feed():
        k = 0
        while True:
            ch.send(k)
            k += 1
            if k % 200 == 0:
                sleep(0.001)
    for _ in range(8):
        go(feed)
    end = time.monotonic() + 0.6
    while time.monotonic() < end:
        ch.recv()
    gc.collect()
    sleep(0.15)
    print("done", flush=True)
    """

FIELDS = ("gomaxprocs", "threads", "runqueue", "steals", "parks", "wakes")


def lines(stderr: str) -> list[str]:
    """The lines of the trace."""
    return [line for line in stderr.splitlines() if line.startswith("SCHED")]


def field(line: str, name: str) -> int:
    """The number that a line gives for a name; `name` is a pattern."""
    found = re.search(rf"\b{name}=(-?\d+)", line)
    assert found, (name, line)
    return int(found[1])


def check(stderr: str, procs: int) -> list[str]:
    """Check the lines for form and plausibility."""
    found = lines(stderr)
    assert len(found) >= 3, stderr
    assert len(found) == len(stderr.splitlines()), stderr
    times = []
    for line in found:
        head = re.match(r"SCHED (\d+)ms: ", line)
        assert head, line
        times.append(int(head[1]))
        assert field(line, "gomaxprocs") == procs
        assert field(line, r"idle\w*") >= 0
        assert re.search(r"\[\d+( \d+)*\]", line), line  # each thread's queue
        for name in (*FIELDS, r"preempt\w*", r"(?:collections|gcs?)"):
            assert field(line, name) >= 0
    assert times == sorted(times)
    assert field(found[-1], "threads") >= 1
    return found


@pytest.mark.parametrize("procs", [1, 4])
@pytest.mark.parametrize("debug", ["schedtrace=50", "other=1,schedtrace=50", "schedtrace=50,x=y"])
def test_from_the_environment(debug: str, procs: int) -> None:
    """GODEBUG=schedtrace=MS prints a line each MS milliseconds."""
    ended = program(WORK, procs=procs, env={"GODEBUG": debug})
    assert ended.stdout == "done\n"
    check(ended.stderr, procs)


@pytest.mark.parametrize("patch", ["", "--no-patch"])
def test_from_the_command_line(patch: str) -> None:
    """`goroutines run --schedtrace MS` does the same."""
    flags = ("-m", "goroutines", "run", "--schedtrace", "50", *([patch] if patch else []))
    ended = program(WORK, procs=2, flags=flags)
    assert ended.stdout == "done\n"
    check(ended.stderr, 2)


@pytest.mark.parametrize("debug", ["", "schedtrace=0", "schedtrace=", "schedtrace=x", "x=50"])
def test_not_asked_for(debug: str) -> None:
    """Without it, or with nonsense, nothing is printed."""
    assert program(WORK, env={"GODEBUG": debug}).stderr == ""


def test_bad_option() -> None:
    """A time that is no positive number is refused by the command line."""
    for bad in ("x", "-5"):
        flags = ("-m", "goroutines", "run", "--schedtrace", bad)
        ended = program("print('ran')", flags=flags, returncode=2)
        assert "schedtrace" in ended.stderr
        assert ended.stdout == ""


def test_the_counts_grow() -> None:
    """Parks, wakes and collections of the program are in the figures."""
    found = check(program(WORK, procs=2, env={"GODEBUG": "schedtrace=50"}).stderr, 2)
    assert field(found[-1], "parks") > field(found[0], "parks") or field(found[0], "parks") > 1000
    assert field(found[-1], "wakes") >= 0
    total = sum(field(line, r"(?:collections|gcs?)") for line in found)
    assert total >= 1


@several
def test_steals_are_counted() -> None:
    """What idle threads take of a busy one shows."""
    source = """
        import time
        from goroutines import go, sleep
        end = time.monotonic() + 0.5
        ran = []
        while time.monotonic() < end:
            before = len(ran)
            go(ran.append, 1)
            while len(ran) == before:
                pass
        sleep(0.1)
        """
    found = check(program(source, procs=2, env={"GODEBUG": "schedtrace=50"}).stderr, 2)
    assert sum(field(line, "steals") for line in found) > 0


@pytest.mark.parametrize("procs", [1, 3] if PARALLEL else [1])
def test_preemptions_are_counted(procs: int) -> None:
    """Hogs that are preempted show."""
    source = """
        import time
        from goroutines.patch import patch
        patch()
        from goroutines import go
        over = False
        def hog():
            while not over:
                pass
        gs = [go(hog) for _ in range(8)]
        for _ in range(40):
            time.sleep(0.01)
        over = True
        for g in gs:
            g.join()
        """
    found = check(program(source, procs=procs, env={"GODEBUG": "schedtrace=50"}).stderr, procs)
    assert sum(field(line, r"preempt\w*") for line in found) > 0


def test_a_program_that_ends_in_between() -> None:
    """With a period longer than the program there is no hurry: it ends at once, cleanly."""
    ended = program("print('ran')", env={"GODEBUG": "schedtrace=100000"})
    assert ended.stdout == "ran\n"
    assert len(lines(ended.stderr)) <= 1
