"""The end of the interpreter, with goroutines in every state: clean, silent, status 0."""

from __future__ import annotations

import textwrap

import pytest

from ..conftest import FREE_THREADED, run_program

PRELUDE = """\
import sys, threading, time
from goroutines import (
    Chan, WaitGroup, blocking, current, defer, defers, go, gosched, num_goroutine, recv, run,
    select, send, sleep,
)

def park(*gs):
    for g in gs:
        for _ in range(1_000_000):
            if g.state == "waiting":
                break
            gosched()
        else:
            raise AssertionError(f"{g.name} does not wait")
"""

WAITS = {
    "recv": "Chan().recv()",
    "recv timeout": "Chan().recv(timeout=3600)",
    "recv inf": "Chan().recv(timeout=float('inf'))",
    "iter": "list(Chan())",
    "send": "Chan().send(object())",
    "select": "select(recv(Chan()), send(Chan(), 1))",
    "select timeout": "select(recv(Chan()), timeout=3600)",
    "select nothing": "select()",
    "sleep": "sleep(3600)",
    "sleep inf": "sleep(float('inf'))",
    "waitgroup": "wg = WaitGroup(); wg.add(); wg.wait()",
    "join": "go(Chan().recv).join()",
    "join main": "main.join()",
    "blocking": "blocking(time.sleep, 3600)",
    "sort": "sorted([2, 1], key=lambda x: Chan().recv())",
    "generator": "list(Chan().recv() for _ in range(3))",
    "map": "list(map(lambda ch: ch.recv(), [Chan()]))",
    "except": """
try:
    1 / 0
except ZeroDivisionError:
    Chan().recv()""",
    "deep": """
def deeper(n):
    if n:
        return deeper(n - 1)
    Chan().recv()
deeper(200)""",
    "del": """
class Dying:
    def __del__(self):
        Chan().recv()
Dying()
Chan().recv()""",
    "with": """
class Manager:
    def __enter__(self): return self
    def __exit__(self, *exc): print("exit")
with Manager():
    Chan().recv()""",
    "defers": """
@defers
def work():
    defer(print, "deferred")
    Chan().recv()
work()""",
    "finally": """
try:
    Chan().recv()
finally:
    print("finally")""",
}


def program(body: str) -> str:
    """Return PRELUDE followed by `body`."""
    return PRELUDE + textwrap.dedent(body)


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_exit_with_parked_goroutines(wait: str) -> None:
    """Whatever goroutines wait for, the end of main ends the program; nothing is unwound."""
    body = "main = current()\ndef wait():\n" + textwrap.indent(wait.strip(), "    ")
    done = run_program(
        program(body + "\ngs = [go(wait) for _ in range(5)]\npark(*gs)\nprint('main ends')\n")
    )
    assert done == (0, "main ends\n", "")


def test_exit_with_unstarted_goroutines() -> None:
    """Goroutines that have not begun when main ends never do."""
    done = run_program(
        program(
            """
            for i in range(100):
                go(print, "ran")
            print("main ends")
            """
        )
    )
    assert (done.returncode, done.stderr) == (0, "")
    if not FREE_THREADED:  # there another thread may have taken one
        assert done.stdout == "main ends\n"


def test_exit_with_all_kinds_at_once() -> None:
    """Thousands of goroutines in several states end with main."""
    done = run_program(
        program(
            """
            ch = Chan()
            gs = [go(ch.recv) for _ in range(3000)]
            gs += [go(sleep, 100 + i) for i in range(1000)]
            gs += [go(select, recv(ch), send(Chan(), i)) for i in range(1000)]
            park(*gs)
            for _ in range(10):
                ch.send(1)                  # ten of them are runnable now
            for i in range(1000):
                go(gosched)
            print(num_goroutine() > 5000)
            """
        )
    )
    assert done == (0, "True\n", "")


def test_exit_from_a_run() -> None:
    """After run nothing is left that could hinder the end."""
    done = run_program(
        program(
            """
            def main():
                park(go(Chan().recv), go(sleep, 3600))
                blocking(lambda: None)
                return "returned"
            print(run(main))
            """
        )
    )
    assert done == (0, "returned\n", "")


@pytest.mark.parametrize(
    ("statement", "status", "message"),
    [
        ("sys.exit(3)", 3, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit('words')", 1, "words\n"),
        ("raise SystemExit(4)", 4, ""),
        ("1 / 0", 1, "ZeroDivisionError"),
    ],
)
def test_status_with_parked_goroutines(statement: str, status: int, message: str) -> None:
    """The way main ends alone decides the status."""
    done = run_program(
        program(
            f"""
            park(go(Chan().recv), go(sleep, 3600), go(select, recv(Chan())))
            {statement}
            """
        )
    )
    assert (done.returncode, done.stdout) == (status, ""), done
    if message.endswith("\n") or not message:
        assert done.stderr == message
    else:
        assert message in done.stderr
        assert done.stderr.count("Traceback (most recent call last)") == 1


def test_import_alone_is_silent() -> None:
    """Importing and doing nothing ends as if nothing had been imported."""
    assert run_program("import goroutines\nprint('ok')\n") == (0, "ok\n", "")


def test_atexit_may_use_the_runtime() -> None:
    """Functions registered with atexit still start goroutines, wait and sleep."""
    done = run_program(
        program(
            """
            import atexit

            def last():
                ch = Chan()
                go(ch.send, "late")
                print(ch.recv())
                sleep(0.001)
                print(blocking(lambda: "pool"))
                parked_ch.send("for the parked")
                parked.join()

            atexit.register(last)
            parked_ch = Chan()
            parked = go(lambda: print(parked_ch.recv()))
            park(parked)
            print("main ends")
            """
        )
    )
    assert done == (0, "main ends\nlate\npool\nfor the parked\n", "")


def test_finalizers_at_the_end() -> None:
    """Objects destroyed with their module may call what does not wait; no crash, no hang."""
    done = run_program(
        program(
            """
            class Last:
                def __init__(self):
                    self.ch = Chan(1)
                    self.goroutine = go(self.ch.recv)
                def __del__(self):
                    self.ch.try_send(1)

            last = Last()
            park(last.goroutine)
            cycle = Last()
            cycle.self = cycle
            park(cycle.goroutine)
            print("main ends")
            """
        )
    )
    assert (done.returncode, done.stdout) == (0, "main ends\n"), done


def test_yielding_finalizers_at_the_end() -> None:
    """A destructor that yields or sleeps while the interpreter ends neither hangs nor crashes."""
    done = run_program(
        program(
            """
            class Last:
                def __init__(self, wait):
                    self.wait = wait
                def __del__(self):
                    self.wait()

            first, second = Last(gosched), Last(lambda: sleep(0.001))
            go(Chan().recv)
            gosched()
            print("main ends")
            """
        )
    )
    assert (done.returncode, done.stdout) == (0, "main ends\n"), done


def test_daemon_thread_that_waits() -> None:
    """Daemon threads blocked in channels, sleeps and goroutines do not disturb the end."""
    done = run_program(
        program(
            """
            def body(wait):
                go(Chan().recv)
                ready.send(1)
                wait()

            ready = Chan()
            waits = [
                lambda: Chan().recv(),
                lambda: sleep(3600),
                lambda: select(recv(Chan()), timeout=3600),
                lambda: go(Chan().recv).join(),
            ]
            for wait in waits:
                threading.Thread(target=body, args=(wait,), daemon=True).start()
            for _ in waits:
                ready.recv()
            park(go(Chan().recv))
            print("main ends")
            """
        )
    )
    assert done == (0, "main ends\n", "")


def test_daemon_thread_that_runs() -> None:
    """A daemon thread busy with goroutines when main ends does not disturb the end."""
    done = run_program(
        program(
            """
            def body():
                ch = Chan()
                ready.send(1)
                while True:
                    go(ch.send, 1)
                    ch.recv()

            ready = Chan()
            for _ in range(3):
                threading.Thread(target=body, daemon=True).start()
            for _ in range(3):
                ready.recv()
            print("main ends")
            """
        )
    )
    assert done == (0, "main ends\n", "")


def test_other_threads_are_waited_for() -> None:
    """A plain thread that is no daemon finishes its work after main has ended."""
    done = run_program(
        program(
            """
            def body():
                threading.main_thread().join()
                ch = Chan()
                go(ch.send, "from a goroutine of the thread")
                print(ch.recv())

            threading.Thread(target=body).start()
            park(go(Chan().recv))
            print("main ends")
            """
        )
    )
    assert done == (0, "main ends\nfrom a goroutine of the thread\n", "")


def test_exit_after_the_pool_was_used() -> None:
    """Idle threads of the pool do not keep the process."""
    done = run_program(
        program(
            """
            barrier = threading.Barrier(5)
            gs = [go(blocking, barrier.wait, 60) for _ in range(5)]
            for g in gs:
                g.join()
            print("main ends")
            """
        )
    )
    assert done == (0, "main ends\n", "")


def test_main_module_is_torn_down_with_frames_alive() -> None:
    """Frames, tracebacks and generators of parked goroutines survive the teardown."""
    done = run_program(
        program(
            """
            kept = []

            def worker():
                try:
                    raise ValueError("kept")
                except ValueError as error:
                    kept.append(error)
                    kept.append(sys._getframe())
                    def generator():
                        yield
                        Chan().recv()
                        yield
                    numbers = generator()
                    kept.append(numbers)
                    next(numbers)
                    next(numbers)

            gs = [go(worker) for _ in range(10)]
            park(*gs)
            kept.append(gs)
            print("main ends")
            """
        )
    )
    assert done == (0, "main ends\n", "")


@pytest.mark.parametrize("run", range(5))
def test_exit_while_the_pool_starts(run: int) -> None:
    """The end waits for threads of the pool that are just starting."""
    done = run_program(
        program(
            """
            for _ in range(20):
                go(blocking, time.sleep, 0.001)
            gosched()
            print("main ends")
            """
        )
    )
    assert done == (0, "main ends\n", "")


def test_start_after_shutdown_began() -> None:
    """An atexit function registered before the import starts no goroutine any more."""
    done = run_program(
        """
        import atexit

        def last():
            wg = WaitGroup()
            for start in (wg.go, go):
                try:
                    start(print, "ran")
                except RuntimeError as error:
                    print("shutting down" in str(error))
            wg.wait(timeout=0)              # nothing was counted
            print("last")

        atexit.register(last)
        from goroutines import WaitGroup, go
        print("main ends")
        """
    )
    assert done == (0, "main ends\nTrue\nTrue\nlast\n", "")
