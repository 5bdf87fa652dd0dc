"""Panics, their hook, Ctrl-C and SystemExit in goroutines, and deadlocks."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import goroutines
from goroutines import (
    Chan,
    ChannelClosed,
    Deadlock,
    Goroutine,
    GoroutineExit,
    Panic,
    WaitGroup,
    go,
    gosched,
    recv,
    run,
    select,
    set_panic_hook,
    sleep,
)

from ..conftest import TESTPROG, dead, parked, run_program, until

Hook = Callable[[Goroutine, BaseException], object]


@pytest.fixture
def hook() -> Iterator[Callable[[Hook | None], Hook | None]]:
    """set_panic_hook, with the hook that was there before put back at the end."""
    old = set_panic_hook(None)
    yield set_panic_hook
    set_panic_hook(old)


def fail(error: BaseException) -> None:
    """Raise `error`."""
    raise error


# --- in the main goroutine --------------------------------------------------------------------


def test_exceptions_have_the_right_bases() -> None:
    """Panic and GoroutineExit pass `except Exception`; Deadlock is a RuntimeError."""
    assert issubclass(Panic, BaseException)
    assert not issubclass(Panic, Exception)
    assert issubclass(GoroutineExit, BaseException)
    assert not issubclass(GoroutineExit, Exception)
    assert issubclass(Deadlock, RuntimeError)


def wait_in_group() -> None:
    """Wait for a counter that nobody lowers."""
    wg = WaitGroup()
    wg.add(1)
    wg.wait()


@pytest.mark.parametrize(
    "wait",
    [
        lambda: Chan().recv(),
        lambda: Chan().recv(timeout=3600),
        lambda: Chan().send(1),
        lambda: list(Chan()),
        lambda: select(recv(Chan()), recv(Chan())),
        lambda: select(),
        lambda: sleep(3600),
        wait_in_group,
        lambda: until(lambda: False),
    ],
    ids=[
        "recv",
        "recv timeout",
        "send",
        "iter",
        "select",
        "select nothing",
        "sleep",
        "waitgroup",
        "gosched",
    ],
)
def test_panic_wakes_main(wait: Callable[[], object], capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever main waits for, it is woken and Panic raised there, the original as cause."""
    error = ValueError("boom")
    g = go(fail, error)
    with pytest.raises(Panic) as caught:
        wait()
    assert caught.value.__cause__ is error
    dead(g)
    assert "panic: ValueError: boom" in capfd.readouterr().err


def test_panic_wakes_a_join(capfd: pytest.CaptureFixture[str]) -> None:
    """Main, joining the goroutine that fails, gets the Panic; join raises nothing of its own."""
    error = KeyError("boom")
    with pytest.raises(Panic) as caught:
        go(fail, error).join()
    assert caught.value.__cause__ is error
    assert "panic: KeyError: 'boom'" in capfd.readouterr().err


def test_main_may_go_on_after_a_panic(capfd: pytest.CaptureFixture[str]) -> None:
    """A Panic that was caught is over: waits and goroutines work as before."""
    with pytest.raises(Panic):
        go(fail, ValueError("boom")).join()
    ch: Chan[int] = Chan()
    g = go(ch.send, 1)
    sleep(0.001)
    assert ch.recv() == 1
    g.join()
    assert capfd.readouterr().err.count("panic:") == 1


def test_panic_is_taken_out_of_the_queue(capfd: pytest.CaptureFixture[str]) -> None:
    """A wait of main that a Panic ended has left no waiter behind."""
    ch: Chan[int] = Chan()
    go(fail, ValueError("boom"))
    with pytest.raises(Panic):
        ch.recv()
    assert ch.try_send(1) is False
    go(fail, ValueError("boom"))
    with pytest.raises(Panic):
        ch.send(1)
    assert ch.try_recv() == (None, False)
    assert capfd.readouterr().err.count("panic: ValueError: boom") == 2


def test_panic_traceback_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    """The original exception still has the traceback of the goroutine."""

    def inner() -> None:
        gosched()
        raise ValueError("boom")

    def outer() -> None:
        inner()

    with pytest.raises(Panic) as caught:
        go(outer).join()
    cause = caught.value.__cause__
    assert cause is not None
    names = [frame.name for frame in traceback.extract_tb(cause.__traceback__)]
    assert names[-2:] == ["outer", "inner"]
    written = capfd.readouterr().err
    assert "in outer" in written
    assert "in inner" in written


def test_panic_report(capfd: pytest.CaptureFixture[str]) -> None:
    """The report has Go's heading, the stack, and who started the goroutine."""

    def starter() -> Goroutine:
        return go(fail, ValueError("boom"))

    g = starter()
    with pytest.raises(Panic):
        g.join()
    written = capfd.readouterr().err
    heading = rf"panic: ValueError: boom\s+goroutine {g.id} \[running\]:"
    assert re.search(heading, written), written
    place = re.escape(os.path.basename(str(g.created_by)))
    ending = rf"created by \S*starter\S* in goroutine 1\s+\S*{place}\b"
    assert re.search(ending, written), written
    assert written.index("in fail") < written.index("created by")


def test_panic_names_the_goroutine_that_started_it(capfd: pytest.CaptureFixture[str]) -> None:
    """`created by` tells of the starter, also when that is not main."""
    ids: list[int] = []

    def starter() -> None:
        ids.append(goroutines.current().id)
        go(fail, ValueError("boom"))

    with pytest.raises(Panic):
        go(starter).join()
        sleep(3600)
    assert f"in goroutine {ids[0]}" in capfd.readouterr().err


def test_panic_with_a_cause(capfd: pytest.CaptureFixture[str]) -> None:
    """An exception chain is reported whole."""

    def chained() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    with pytest.raises(Panic):
        go(chained).join()
    written = capfd.readouterr().err
    assert written.startswith("panic: ValueError: second")
    assert "KeyError: 'first'" in written


def test_panic_under_run(capfd: pytest.CaptureFixture[str]) -> None:
    """Under run the Panic comes to the main of that run, and out of run."""
    error = ValueError("boom")

    def main() -> None:
        go(fail, error)
        Chan().recv()

    with pytest.raises(Panic) as caught:
        run(main)
    assert caught.value.__cause__ is error
    assert "panic: ValueError: boom" in capfd.readouterr().err

    def careful() -> str:
        try:
            main()
        except Panic:
            return "caught"
        return "missed"

    assert run(careful) == "caught"


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(3), KeyboardInterrupt()])
def test_panic_on_a_plain_thread(error: BaseException, capfd: pytest.CaptureFixture[str]) -> None:
    """What leaves a goroutine of a plain thread comes to main, and the thread goes on."""
    ends: list[str] = []

    main = goroutines.current()

    def body() -> None:
        for _ in range(60_000):
            if main.state == "waiting":
                break
            time.sleep(0.001)
        go(fail, error).join()
        ends.append("joined")

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    with pytest.raises((Panic, SystemExit, KeyboardInterrupt)) as caught:
        sleep(3600)
    until(lambda: not thread.is_alive(), "that the thread has ended")
    assert ends == ["joined"]
    if isinstance(error, ValueError):
        assert isinstance(caught.value, Panic)
        assert caught.value.__cause__ is error
        assert "panic: ValueError: boom" in capfd.readouterr().err
    else:
        assert isinstance(caught.value, type(error))
        assert "panic" not in capfd.readouterr().err


def test_unhandled_channel_closed_is_a_panic(capfd: pytest.CaptureFixture[str]) -> None:
    """An error of the runtime itself is a panic like any other."""
    ch: Chan[int] = Chan()
    g = go(ch.recv)
    parked(g)
    ch.close()
    with pytest.raises(Panic) as caught:
        g.join()
    assert isinstance(caught.value.__cause__, ChannelClosed)
    assert "ChannelClosed" in capfd.readouterr().err


# --- the hook ---------------------------------------------------------------------------------


def test_hook_instead_of_the_report(hook: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """A hook gets goroutine and exception; what it returns true for is over and done with."""
    calls: list[tuple[Goroutine, BaseException]] = []

    def mine(g: Goroutine, exc: BaseException) -> bool:
        calls.append((g, exc))
        return True

    hook(mine)
    errors = [ValueError(i) for i in range(3)]
    gs = [go(fail, error) for error in errors]
    for g in gs:
        g.join()
    gosched()
    sleep(0.001)
    assert sorted(calls, key=lambda call: call[0].id) == list(zip(gs, errors, strict=True))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("answer", [False, None, 0, ""])
def test_hook_that_declines(hook: Any, answer: object, capfd: pytest.CaptureFixture[str]) -> None:
    """When the hook returns something false main still panics, but nothing is printed."""
    calls: list[object] = []
    hook(lambda g, exc: calls.append(exc) or answer)
    error = ValueError("boom")
    with pytest.raises(Panic) as caught:
        go(fail, error).join()
    assert caught.value.__cause__ is error
    assert calls == [error]
    assert capfd.readouterr() == ("", "")


def test_hook_returns_the_old_one(hook: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """set_panic_hook returns the previous hook, and None takes the hook away."""

    def first(g: Goroutine, exc: BaseException) -> bool:
        return True

    def second(g: Goroutine, exc: BaseException) -> bool:
        return True

    assert hook(first) is None
    assert hook(second) is first
    assert hook(None) is second
    assert hook(None) is None
    with pytest.raises(Panic):
        go(fail, ValueError("boom")).join()
    assert "panic: ValueError: boom" in capfd.readouterr().err


def test_hook_that_raises(hook: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """When the hook itself fails, both exceptions are printed and main panics."""

    def broken(g: Goroutine, exc: BaseException) -> bool:
        raise LookupError("the hook's own")

    hook(broken)
    with pytest.raises(Panic):
        go(fail, ValueError("boom")).join()
    written = capfd.readouterr().err
    assert "ValueError: boom" in written
    assert "the hook's own" in written


def test_hook_may_use_the_runtime(hook: Any) -> None:
    """The hook may wait and start goroutines."""
    ch: Chan[str] = Chan()

    def send_it(g: Goroutine, exc: BaseException) -> bool:
        go(ch.send, f"{exc} (relayed)").join()
        return True

    hook(send_it)
    go(fail, ValueError("boom"))
    assert ch.recv() == "boom (relayed)"


@pytest.mark.parametrize("thing", [3, "hook", object()])
def test_hook_not_callable(hook: Any, thing: object) -> None:
    """A hook that cannot be called is a TypeError when it is set."""
    with pytest.raises(TypeError, match="callable"):
        hook(thing)


def test_hook_is_not_asked_for_exits(hook: Any) -> None:
    """GoroutineExit, SystemExit and KeyboardInterrupt are no panics."""
    calls: list[object] = []
    hook(lambda g, exc: calls.append(exc) or True)
    go(fail, GoroutineExit()).join()
    for error in (SystemExit(3), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            go(fail, error).join()
    assert calls == []


# --- exits and Ctrl-C -------------------------------------------------------------------------


@pytest.mark.parametrize("error", [SystemExit(7), KeyboardInterrupt("stop")])
def test_exits_are_raised_in_main(error: BaseException, capfd: pytest.CaptureFixture[str]) -> None:
    """KeyboardInterrupt and SystemExit that leave a goroutine come to main as they are."""
    g = go(fail, error)
    with pytest.raises(type(error)) as caught:
        Chan().recv()
    assert caught.value is error
    assert g.done
    assert capfd.readouterr() == ("", "")


def test_exit_under_run() -> None:
    """SystemExit of a goroutine leaves run as it is."""

    def main() -> None:
        go(fail, SystemExit(7))
        Chan().recv()

    with pytest.raises(SystemExit) as caught:
        run(main)
    assert caught.value.code == 7


def test_exit_of_a_goroutine_ends_the_program() -> None:
    """sys.exit in a goroutine ends the process with its status."""
    done = run_program(
        """
        import sys
        from goroutines import Chan, go
        go(sys.exit, 7)
        try:
            Chan().recv()
        finally:
            print("cleaned up")
        """
    )
    assert done == (7, "cleaned up\n", "")


@pytest.mark.parametrize("where", ["recv", "select", "sleep", "wait", "gosched", "join"])
@pytest.mark.parametrize("busy", ["idle", "busy"])
def test_ctrl_c_comes_to_main(where: str, busy: str) -> None:
    """SIGINT is raised in main, whether all wait or another goroutine runs."""
    done = run_program(TESTPROG / "sigint.py", where, busy)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.splitlines() == ["main interrupted", "still works"]


def test_ctrl_c_uncaught() -> None:
    """An uncaught Ctrl-C ends the program as Ctrl-C does in Python."""
    done = run_program(TESTPROG / "sigint.py", "recv", "uncaught")
    assert done.returncode in (-signal.SIGINT, 130), done
    assert "KeyboardInterrupt" in done.stderr
    assert "panic" not in done.stderr
    assert done.stdout == ""


def test_signal_handler_runs_while_all_wait() -> None:
    """A Python signal handler runs though main is parked, and may use channels."""
    ch: Chan[int] = Chan(1)
    main = goroutines.current()
    old = signal.signal(signal.SIGUSR1, lambda *args: ch.try_send(5) and None)

    def kill() -> None:
        for _ in range(60_000):
            if main.state == "waiting":
                break
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=kill, daemon=True)
    try:
        thread.start()
        assert ch.recv(timeout=120) == 5
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, old)


def test_signal_handler_that_is_no_python_code() -> None:
    """Once it has run nothing is pending: main sleeps on, and starts nothing to look."""
    came: dict[int, object] = {}
    main, ch = goroutines.current(), Chan[None](1)

    def kill() -> None:
        until(lambda: main.state == "waiting")
        os.kill(os.getpid(), signal.SIGUSR1)
        until(lambda: came)
        time.sleep(0.05)  # in which main would be busy
        ch.try_send(None)

    old = signal.signal(signal.SIGUSR1, came.setdefault)
    thread = threading.Thread(target=kill, daemon=True)
    try:
        before = go(lambda: None).id
        thread.start()
        ch.recv(timeout=120)
        assert go(lambda: None).id - before < 50
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, old)


WAITS = {
    "recv": "ch.recv()",
    "recv timeout": "ch.recv(timeout=3600)",
    "send": "ch.send(1)",
    "sleep": "sleep(3600)",
    "select": "select(recv(ch))",
    "waitgroup": "wg.wait()",
    "join": "go(ch.recv).join()",
    "blocking": "blocking(gate.wait, 60)",
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_signal_handler_that_raises(wait: str) -> None:
    """What a handler raises while main waits comes to main as it is, and is no panic."""
    done = run_program(
        f"""
        import os, signal, threading, time
        from goroutines import Chan, WaitGroup, blocking, current, go, recv, select, sleep

        class Alarm(Exception):
            pass

        def handler(number, frame):
            raise Alarm("rang")

        def ring():
            while main.state != "waiting":
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGALRM)

        signal.signal(signal.SIGALRM, handler)
        main = current()
        ch, wg, gate = Chan(), WaitGroup(), threading.Event()
        wg.add()
        for _ in range(3):
            thread = threading.Thread(target=ring)
            try:
                thread.start()
                {wait}
            except Alarm as alarm:
                print(current() is main, alarm, alarm.__cause__)
            thread.join()
        gate.set()
        """
    )
    assert done == (0, "True rang None\n" * 3, "")


# --- panics that end the program --------------------------------------------------------------


def test_uncaught_panic_ends_the_script() -> None:
    """Status 2, one report, main's cleanup done, no second traceback for Panic."""
    done = run_program(
        """
        from goroutines import WaitGroup, go

        def work():
            raise ValueError("boom")

        def start():
            go(work)                                # line 8

        start()
        wg = WaitGroup()
        wg.add()
        try:
            wg.wait()
        finally:
            print("cleaned up")
        print("never")
        """
    )
    assert (done.returncode, done.stdout) == (2, "cleaned up\n"), done
    heading = r"\Apanic: ValueError: boom\s+goroutine \d+ \[running\]:"
    assert re.search(heading, done.stderr), done.stderr
    ending = r"created by \S*start\S* in goroutine 1\s+\S*prog\.py:8\b"
    assert re.search(ending, done.stderr), done.stderr
    assert done.stderr.count("Traceback (most recent call last)") <= 1
    assert done.stderr.count("in work") == 1
    assert "Panic" not in done.stderr


def test_caught_panic_does_not_end_the_script() -> None:
    """A script that catches Panic goes on and ends with status 0."""
    done = run_program(
        """
        from goroutines import Panic, go
        try:
            go(lambda: 1 / 0).join()
        except Panic as panic:
            print("caught", type(panic.__cause__).__name__)
        """
    )
    assert (done.returncode, done.stdout) == (0, "caught ZeroDivisionError\n")
    assert done.stderr.startswith("panic: ZeroDivisionError: division by zero")


def test_uncaught_panic_under_run_ends_the_script() -> None:
    """A Panic that leaves run ends the script likewise, after the cleanup of the others."""
    done = run_program(
        """
        from goroutines import Chan, go, run

        def linger():
            try:
                Chan().recv()
            finally:
                print("cleaned up")

        def main():
            g = go(linger)
            go(lambda: 1 / 0)
            g.join()

        run(main)
        """
    )
    assert (done.returncode, done.stdout) == (2, "cleaned up\n"), done
    assert done.stderr.count("panic: ZeroDivisionError: division by zero") == 1
    assert "Panic" not in done.stderr


ODD = {
    "str raises": ("class Odd(Exception):\n    def __str__(self): raise KeyError(1)", "Odd"),
    "str is no string": ("class Odd(Exception):\n    def __str__(self): return 5", "Odd"),
    "surrogates": ("class Odd(Exception):\n    def __str__(self): return '\\ud800'", "Odd"),
    "newlines": ("class Odd(Exception):\n    def __str__(self): return 'a\\nb'", "Odd: a"),
    "no message": ("class Odd(Exception):\n    pass", "Odd"),
    "base exception": ("class Odd(BaseException):\n    pass", "Odd"),
    "group": ("def Odd(): return ExceptionGroup('g', [ValueError(1)])", "ExceptionGroup: g"),
}


@pytest.mark.parametrize(("definition", "heading"), ODD.values(), ids=ODD)
def test_odd_exceptions_are_reported(definition: str, heading: str) -> None:
    """Exceptions that are hard to print still end the program as a panic, named."""
    program = f"""
from goroutines import go, sleep
{definition}
def fail():
    raise Odd()
go(fail)
sleep(3600)
"""
    done = run_program(program)
    assert done.returncode == 2, done
    assert re.match(rf"panic: \S*{heading}", done.stderr), done.stderr


@pytest.mark.parametrize(
    "statement",
    ["sys.stderr = None", "sys.stderr = open(os.devnull)", "sys.stderr.close()"],
)
def test_panic_without_a_stderr(statement: str) -> None:
    """A missing, broken or closed sys.stderr does not change how a panic ends."""
    done = run_program(
        f"""
        import os, sys
        from goroutines import go, sleep
        {statement}
        go(lambda: 1 / 0)
        sleep(3600)
        """
    )
    assert (done.returncode, done.stdout) == (2, ""), done


def test_recursion_panic() -> None:
    """Endless recursion in a goroutine is a panic of RecursionError, not a crash."""
    done = run_program(
        """
        from goroutines import go, sleep
        def deeper(n):
            return deeper(n + 1) + 1
        go(deeper, 0)
        sleep(3600)
        """
    )
    assert done.returncode == 2, done
    assert re.search(r"^panic: RecursionError: \w+", done.stderr), done.stderr


def test_two_panics_end_the_program_once() -> None:
    """Several goroutines that fail at the same time give status 2 and at least one report."""
    done = run_program(
        """
        from goroutines import go, sleep
        for i in range(5):
            go(lambda: 1 / 0)
        sleep(3600)
        """
    )
    assert done.returncode == 2, done
    assert 1 <= done.stderr.count("panic: ZeroDivisionError: division by zero") <= 5


# --- deadlock ---------------------------------------------------------------------------------

DEADLOCKS = {
    "recv": ("chan receive", "Chan().recv()"),
    "send": ("chan send", "Chan().send(1)"),
    "select": ("select", "select(recv(Chan()), send(Chan(), 1))"),
    "select nothing": ("select", "select()"),
    "select None": ("select", "select(recv(None))"),
    "iter": ("chan receive", "list(Chan())"),
    "waitgroup": ("sync.WaitGroup", "wg = WaitGroup(); wg.add(); wg.wait()"),
}


@pytest.mark.parametrize(("reason", "wait"), DEADLOCKS.values(), ids=DEADLOCKS)
def test_deadlock_ends_the_script(reason: str, wait: str) -> None:
    """Main waits alone: status 2, the message, and main with its reason and stack."""
    done = run_program(
        f"""
        from goroutines import Chan, WaitGroup, recv, select, send
        def wait_alone():
            {wait}
        wait_alone()
        print("never")
        """
    )
    assert (done.returncode, done.stdout) == (2, ""), done
    assert "all goroutines are asleep - deadlock!" in done.stderr
    heading = rf"goroutine 1 \[{re.escape(reason)}"
    assert re.search(heading, done.stderr, re.IGNORECASE), done.stderr
    assert "wait_alone" in done.stderr


def test_deadlock_names_every_goroutine() -> None:
    """The report has each goroutine with its reason, its stack and its birth."""
    done = run_program(
        """
        from goroutines import Chan, Deadlock, current, go, recv, select

        def lonely_receiver():
            Chan().recv()

        def lonely_sender():
            Chan().send(1)

        def lonely_select():
            select(recv(Chan()))

        gs = [go(lonely_receiver), go(lonely_sender), go(lonely_select)]
        try:
            gs[0].join()
        except Deadlock as error:
            print(*[g.id for g in gs])
            print(error)
        """
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    ids, text = done.stdout.split("\n", 1)
    assert text.startswith("all goroutines are asleep - deadlock!")
    reasons = ("chan receive", "chan send", "select")
    names = ("lonely_receiver", "lonely_sender", "lonely_select")
    for id_, reason, name in zip(ids.split(), reasons, names, strict=True):
        pattern = rf"goroutine {id_} \[{reason}[^]]*\]:\n(.*?)(?=\ngoroutine \d+ \[|\Z)"
        section = re.search(pattern, text, re.DOTALL)
        assert section, text
        assert name in section[1]
    assert re.search(r"goroutine 1 \[.+?\]:", text)


@pytest.mark.parametrize("start", ["main()", "run(main)", "go(main).join()"])
def test_deadlock_lists_the_programs_frames(start: str) -> None:
    """The report has the program's goroutines and frames, none of those that write it."""
    done = run_program(
        f"""
        from goroutines import Chan, go, run

        def lonely():
            Chan().recv()

        def main():
            go(lonely).join()

        {start}
        """
    )
    assert done.returncode == 2, done
    files = re.findall(r"^\t(.*):\d+$", done.stderr, re.MULTILINE)
    assert {os.path.basename(file) for file in files} == {"prog.py"}, done.stderr
    functions = re.findall(r"^(\S+)\(\.\.\.\)$", done.stderr, re.MULTILINE)
    assert sorted(functions) == ["<module>", "lonely", "main"], done.stderr
    goroutines_listed = re.findall(r"^goroutine \d+ \[", done.stderr, re.MULTILINE)
    assert len(goroutines_listed) == (3 if start.startswith("go") else 2), done.stderr


def test_a_signal_handler_is_no_deadlock() -> None:
    """A handler of the program's own could wake somebody; without it there is a deadlock."""
    done = run_program(
        """
        import signal
        from goroutines import Chan, Deadlock
        ch = Chan(1)
        signal.signal(signal.SIGALRM, lambda *args: ch.try_send(1) and None)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        for _ in range(50):
            ch.recv()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        ch.try_recv()
        try:
            ch.recv()
        except Deadlock:
            print("deadlock")
        """
    )
    assert done == (0, "deadlock\n", "")


def test_deadlock_can_be_caught_and_mended() -> None:
    """Main may catch Deadlock, wake the others and go on."""
    done = run_program(
        """
        from goroutines import Chan, Deadlock, go
        ch = Chan()
        out = []
        g = go(lambda: out.append(ch.recv()))
        for _ in range(3):
            try:
                g.join()
            except Deadlock:
                print("deadlock")
        try:
            Chan().send(1)
        except Deadlock:
            print("deadlock")
        ch.send("value")
        g.join()
        print(*out)
        """
    )
    assert done == (0, "deadlock\n" * 4 + "value\n", "")


def test_deadlock_leaves_no_waiter() -> None:
    """A wait of main that ended as a deadlock has left the queue."""
    done = run_program(
        """
        from goroutines import Chan, Deadlock, recv, select, send
        ch = Chan()
        for wait in (ch.recv, lambda: ch.send(1), lambda: select(recv(ch), send(ch, 2))):
            try:
                wait()
            except Deadlock:
                print(ch.try_send(3), ch.try_recv())
        """
    )
    assert done == (0, "False (None, False)\n" * 3, "")


def test_deadlock_under_run() -> None:
    """Under run the Deadlock is raised in its main and the parked ones are cleaned up."""
    done = run_program(
        """
        from goroutines import Chan, Deadlock, go, run

        def linger():
            try:
                Chan().recv()
            finally:
                print("cleaned up")

        def main():
            go(linger).join()

        try:
            run(main)
        except Deadlock:
            print("deadlock")
        run(main)
        """
    )
    assert (done.returncode, done.stdout) == (2, "cleaned up\ndeadlock\ncleaned up\n"), done
    assert "all goroutines are asleep - deadlock!" in done.stderr


def test_a_timer_is_no_deadlock() -> None:
    """As long as somebody sleeps or has a time-out there is no deadlock."""
    done = run_program(
        """
        from goroutines import Chan, Deadlock, go, sleep
        ch = Chan()
        def later():
            try:
                Chan().recv(timeout=0.05)
            except TimeoutError:
                ch.send("timer")
            sleep(0.01)
        g = go(later)
        print(ch.recv())
        g.join()
        try:
            ch.recv(timeout=0.01)
        except TimeoutError:
            print("timeout")
        try:
            ch.recv()
        except Deadlock:
            print("deadlock")
        """
    )
    assert done == (0, "timer\ntimeout\ndeadlock\n", "")


def test_a_blocking_call_is_no_deadlock_until_it_ends() -> None:
    """A blocking call under way holds the deadlock back, an idle pool thread does not."""
    done = run_program(
        """
        import time
        from goroutines import Chan, Deadlock, blocking, current, go
        ch = Chan()
        main = current()
        def call():
            for _ in range(50):             # main waits for long, and nobody can run
                while main.state != "waiting":
                    time.sleep(0.0001)
                time.sleep(0.0001)
            return "from the pool"
        go(lambda: ch.send(blocking(call)))
        print(ch.recv())
        try:
            ch.recv()
        except Deadlock:
            print("deadlock")
        """
    )
    assert done == (0, "from the pool\ndeadlock\n", "")


def test_a_living_thread_holds_deadlock_back() -> None:
    """A plain thread could still send; when it has ended the deadlock is found."""
    done = run_program(
        """
        import threading, time
        from goroutines import Chan, Deadlock, current
        ch = Chan()
        main = current()
        def body(send):
            for _ in range(50):             # main waits for long, and nobody can run
                while main.state != "waiting":
                    time.sleep(0.0001)
                time.sleep(0.0001)
            if send:
                ch.send("from a thread")
        threading.Thread(target=body, args=(True,)).start()
        print(ch.recv())
        threading.Thread(target=body, args=(False,)).start()
        try:
            ch.recv()
        except Deadlock:
            print("deadlock")
        """
    )
    assert done == (0, "from a thread\ndeadlock\n", "")


def test_a_thread_that_waits_too_is_a_deadlock() -> None:
    """A plain thread that itself waits in the runtime holds nothing back."""
    done = run_program(
        """
        import threading
        from goroutines import Chan, Deadlock
        a, b = Chan(), Chan()
        out = []
        thread = threading.Thread(target=lambda: out.append(a.recv()))
        thread.start()
        try:
            b.recv()
        except Deadlock:
            print("deadlock")
        a.send("let go")
        thread.join()
        print(*out)
        """
    )
    assert done == (0, "deadlock\nlet go\n", "")


def test_goexit_in_main() -> None:
    """goexit in main lets the others finish, then it is a deadlock that says why."""
    done = run_program(
        """
        from goroutines import go, runtime, sleep
        def other():
            for _ in range(3):
                sleep(0.001)
            print("other ran")
        go(other)
        try:
            runtime.goexit()
        finally:
            print("cleaned up")
        """
    )
    assert done.returncode == 2, done
    assert sorted(done.stdout.splitlines()) == ["cleaned up", "other ran"]
    assert "no goroutines (main called goexit)" in done.stderr


def test_waiting_goroutines_alone_are_no_deadlock() -> None:
    """Parked goroutines are nobody's trouble while main does not wait."""
    ch: Chan[int] = Chan()
    gs = [go(ch.recv_ok) for _ in range(5)]
    parked(*gs)
    for _ in range(100):
        gosched()
    assert all(g.state == "waiting" for g in gs)
    ch.close()
    for g in gs:
        g.join()
