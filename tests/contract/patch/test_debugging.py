"""Debuggers, profilers and tracers give right answers in patched goroutines."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from .tools import HERE, TIMEOUT, only_patched, run_patched


def test_settrace_is_each_goroutines_own() -> None:
    """sys.settrace and setprofile see their own goroutine's calls, across its waits."""
    run_patched("""
        def leaf(n):
            time.sleep(0.001)
            return n
        def work(name):
            for i in range(5):
                leaf(name)
        def traced(install, name):
            calls = []
            def hook(frame, event, arg):
                if event == "call" and frame.f_code is leaf.__code__:
                    calls.append(frame.f_locals["n"])
                return hook
            install(hook)
            try:
                work(name)
            finally:
                install(None)
            return calls
        for install in (sys.settrace, sys.setprofile):
            tasks = [start(traced, install, i) for i in range(3)]
            plain = [start(work, "plain") for _ in range(3)]
            work("main")
            for task in plain:
                task.result()
            got = [task.result() for task in tasks]
            assert got == [[i] * 5 for i in range(3)], (install, got)
            assert sys.gettrace() is None and sys.getprofile() is None
            task = start(work, "main")
            assert traced(install, "main") == ["main"] * 5
            task.result()
        """)


def test_profilers() -> None:
    """cProfile counts calls right across waits, in which others run what is not counted."""
    # One thread: cProfile hears of the calls in all of them, and keeps one stack.
    run_patched(
        """
        import cProfile, pstats
        def leaf():
            time.sleep(0.001)
        def work(n):
            for _ in range(n):
                leaf()
        others = [start(time.sleep, 0.002) for _ in range(5)]
        profile = cProfile.Profile()
        profile.runcall(work, 5)
        for other in others:
            other.result()
        stats = pstats.Stats(profile).stats
        counts = {key[2]: value[0] for key, value in stats.items()}
        assert counts["work"] == 1 and counts["leaf"] == 5, counts
        """,
        env={"GOMAXPROCS": "1"},
    )


def test_tracebacks_and_frames() -> None:
    """Exceptions, warnings and inspect know the way through patched calls."""
    run_patched("""
        import inspect, traceback, sys
        def inner():
            time.sleep(0.001)
            raise ValueError("x")
        def outer():
            inner()
        task = start(outer)
        error = task.error(ValueError)
        names = [f.name for f in traceback.extract_tb(error.__traceback__)]
        assert names[-2:] == ["outer", "inner"], names
        def who():
            time.sleep(0.001)
            return [f.function for f in inspect.stack()][:2]
        assert start(lambda: who()).result() == ["who", "<lambda>"]
        assert threading.get_ident() in sys._current_frames()
        """)


def test_pdb(tmp_path: Path) -> None:
    """Stepping through a program whose threads wait; a breakpoint inside a thread."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import child
        import os, threading, time
        def body(n):
            time.sleep(0.01)
            m = n + 1
            return m
        def main():
            other = threading.Thread(target=time.sleep, args=(0.05,))
            other.start()
            body(41)
            other.join()
            print("over", flush=True)
            os._exit(0)  # pdb would start it again
        main()
        """)
    )
    commands = "break body\ncontinue\nnext\nnext\nnext\np m\nreturn\nnext\ncontinue\n"
    done = subprocess.run(
        [sys.executable, "-m", "pdb", str(script)],
        input=commands,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )
    assert "(Pdb) 42" in done.stdout, done
    assert "over" in done.stdout, done


@only_patched
def test_breakpoint_in_a_goroutine() -> None:
    """pdb.Pdb in a goroutine that waits stops where it is told."""
    run_patched("""
        import io, pdb
        out = io.StringIO()
        def body(n):
            time.sleep(0.001)
            m = n + 1
            time.sleep(0.001)
            return m
        def debugged():
            debugger = pdb.Pdb(
                stdin=io.StringIO("next\\nnext\\nnext\\np m\\ncontinue\\n"), stdout=out,
                nosigint=True, readrc=False)
            debugger.use_rawinput = False
            return debugger.runcall(body, 41)
        busy = start(lambda: [time.sleep(0.001) for _ in range(20)])
        assert start(debugged).result() == 42
        busy.result()
        assert "(Pdb) 42" in out.getvalue(), out.getvalue()
        """)
