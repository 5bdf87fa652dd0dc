"""The watchdog: who keeps a thread in one C call, or blocks it, is named, once."""

from __future__ import annotations

import re
import textwrap

import pytest

from ...conftest import Finished
from .tools import PARALLEL, preempts, program, several

pytestmark = preempts

PROGRAM = """
    import ctypes, hashlib, re, sys, threading, time
    {setup}
    from goroutines.patch import original
    nap, new_lock = original("time", "sleep"), original("_thread", "allocate_lock")
    from goroutines import Chan, WaitGroup, blocking, current, go, gosched, runtime, select, sleep
    {more}
    ids = []
    def stuck_here():
        ids.append(current().id)
        {what}
    def give_birth():
        return go(stuck_here)
    g = give_birth()
    def beside():
        while not g.done:
            sleep(0.005)
    h = go(beside)
    g.join()
    h.join()
    sleep(0.05)
    print(ids[0], flush=True)
    """

PATCH = "from goroutines.patch import patch; patch()"
SWITCH = "from goroutines import runtime; runtime.set_preemption(True)"

STUCK = {
    "time.sleep": "nap(0.5)",
    "usleep": "ctypes.CDLL(None).usleep(500_000)",
    "usleep with the GIL": "ctypes.PyDLL(None).usleep(500_000)",
    "pbkdf2": "[hashlib.pbkdf2_hmac('sha256', b'', b'', n) for n in (iterations,)]",
    "regex": "re.match('(a|aa)+$', 'a' * length + 'b')",
    "sum": "sum(range(30_000_000))",
    "lock": "lock = new_lock(); lock.acquire(); later(lock.release); lock.acquire()",
}
MORE = {
    "lock": """
def later(fn):
    threading.Timer(0.5, fn).start()
""",
    # as much work as takes half a second here
    "pbkdf2": """
iterations = 20_000
while True:
    start = time.thread_time()
    hashlib.pbkdf2_hmac('sha256', b'', b'', iterations)
    if time.thread_time() - start > 0.4:
        break
    iterations *= 2
""",
    "regex": """
length = 16
while True:
    start = time.thread_time()
    re.match('(a|aa)+$', 'a' * length + 'b')
    if time.thread_time() - start > 0.4:
        break
    length += 1
""",
}


def watched(what: str, *, setup: str = PATCH, more: str = "", procs: int = 2) -> Finished:
    """Run PROGRAM, whose goroutine does `what`."""
    source = textwrap.dedent(PROGRAM).format(setup=setup, what=what, more=more)
    return program(source, procs=procs)


def named(ended: Finished) -> list[str]:
    """The lines that name the goroutine by its number."""
    number = ended.stdout.strip()
    return re.findall(rf"(?m)^.*\bgoroutine {number}\b.*$", ended.stderr)


@pytest.mark.parametrize("procs", [1, 4] if PARALLEL else [1])
@pytest.mark.parametrize("kind", list(STUCK))
def test_who_is_stuck_is_named_once(kind: str, procs: int) -> None:
    """A C call of half a second: one report with number, stack, duration and place of birth."""
    setup = SWITCH if kind == "lock" else PATCH  # patched, even CPython's own locks park
    ended = watched(STUCK[kind], setup=setup, more=MORE.get(kind, ""), procs=procs)
    assert named(ended), ended.stderr
    assert ended.stderr.count("stuck_here") == 1, ended.stderr
    assert re.search(r"\d+(\.\d+)? ?m?s\b", ended.stderr), ended.stderr
    assert "created by" in ended.stderr
    assert "give_birth" in ended.stderr


def test_on_with_preemption_alone() -> None:
    """Without the patch set_preemption(True) brings it along."""
    assert named(watched("nap(0.5)", setup=SWITCH))


def test_off_when_preemption_is_off() -> None:
    """A program that neither patches nor switches it on hears nothing."""
    assert watched("nap(0.5)", setup="").stderr == ""


def test_off_by_none() -> None:
    """set_watchdog(None) silences it."""
    assert watched("nap(0.5)", more="runtime.set_watchdog(None)").stderr == ""


def test_a_longer_time() -> None:
    """A call shorter than what was set is not named; one that is longer is."""
    assert watched("nap(0.4)", more="runtime.set_watchdog(30)").stderr == ""
    assert named(watched("nap(0.6)", more="runtime.set_watchdog(0.3)"))


def test_report_function() -> None:
    """report= is called instead of the printing, for a call as well as for a lock."""
    more = """
reports = []
runtime.set_watchdog(0.1, report=lambda *args, **kwargs: reports.append((args, kwargs)))
import atexit
atexit.register(lambda: print(len(reports), bool(reports and (reports[0][0] or reports[0][1]))))
"""
    ended = watched("nap(0.5)", more=more)
    assert ended.stdout.split()[1:] == ["1", "True"]
    assert "stuck_here" not in ended.stderr


def test_report_function_that_fails() -> None:
    """An error in report= is told, and the program goes on."""
    ended = watched("nap(0.5)", more="runtime.set_watchdog(0.1, report=lambda *args: 1 // 0)")
    assert "ZeroDivisionError" in ended.stderr


def test_arguments() -> None:
    """Nonsense is refused: a negative time or NaN, and what is no number or function."""
    program("""
        from goroutines import runtime
        for bad in (-1, float("nan")):
            try:
                runtime.set_watchdog(bad)
            except ValueError:
                continue
            raise AssertionError(bad)
        for args in (("x",), (0.1, 5)):
            try:
                runtime.set_watchdog(args[0], **({"report": args[1]} if args[1:] else {}))
            except TypeError:
                continue
            raise AssertionError(args)
        """)


INNOCENT = {
    "computing": "for i in range(12_000_000): pass",
    "parked": "select(timeout=0.5)",
    "asleep": "sleep(0.5)",
    "blocking": "blocking(nap, 0.5)",
    "many short calls": "[nap(0.01) for _ in range(50)]",
    "yielding": "end = time.monotonic() + 0.5\n    while time.monotonic() < end: gosched()",
    "patched sleep": "time.sleep(0.5)",
    "patched lock": "lock = threading.Lock(); lock.acquire(); lock.acquire(timeout=0.5)",
}


@pytest.mark.parametrize("kind", list(INNOCENT))
def test_who_is_not_stuck_is_not_named(kind: str) -> None:
    """Python code, which is preempted, and waits that park, are no matter for it."""
    assert "stuck_here" not in watched(INNOCENT[kind]).stderr


@several
def test_several_at_once() -> None:
    """Goroutines stuck on several threads at the same time are each named once."""
    ended = program("""
        import time
        from goroutines.patch import original, patch
        patch()
        nap = original("time", "sleep")
        from goroutines import go, sleep
        def first_stuck(): nap(0.5)
        def second_stuck(): nap(0.5)
        def third_stuck(): nap(0.5)
        gs = [go(fn) for fn in (first_stuck, second_stuck, third_stuck)]
        for g in gs:
            g.join()
        sleep(0.05)
        """, procs=4)  # fmt: skip
    for name in ("first_stuck", "second_stuck", "third_stuck"):
        assert ended.stderr.count(name) == 1, ended.stderr


@several
def test_others_go_on_meanwhile() -> None:
    """Of a thread that is stuck the unstarted goroutines are taken over."""
    program("""
        import time
        from goroutines.patch import original, patch
        patch()
        nap = original("time", "sleep")
        from goroutines import Chan, go, runtime
        from goroutines.sync.atomic import Int64
        runtime.set_watchdog(None)
        count, over = Int64(), []
        def stuck():
            for _ in range(50):
                go(count.add, 1)
            while not over:
                nap(0.2)
        g = go(stuck)
        while count.load() < 50:
            time.sleep(0.001)
        over.append(1)
        g.join()
        """, procs=2)  # fmt: skip
