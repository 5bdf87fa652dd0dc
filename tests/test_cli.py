"""The command line: `goroutines run`, which is also `python -m goroutines run`."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from .conftest import TESTPROG, Finished, run_command, run_program

RUN = ("-m", "goroutines", "run")


def run_script(source: str | Path, *args: str, stdin: str | None = None) -> Finished:
    """Run a script under `python -m goroutines run`."""
    return run_program(source, *args, flags=RUN, stdin=stdin)


def command(*args: str, cwd: Path | None = None) -> Finished:
    """Run `python -m goroutines ARGS`."""
    return run_command([sys.executable, "-m", "goroutines", *args], cwd=cwd)


def test_script_sees_itself() -> None:
    """The script is __main__ in goroutine 1, with its own argv, file and path."""
    done = run_script(TESTPROG / "argv.py", "a", "-x", "--trace", "b c")
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.splitlines() == [
        "__main__",
        "argv.py a -x --trace b c",
        "argv.py",
        "1",
        "testprog",
        "True",
    ]


def test_module_sees_itself() -> None:
    """-m MODULE runs a module as __main__ with the arguments behind it."""
    done = command("run", "-m", "argv", "a", "-m", "b", cwd=TESTPROG)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.splitlines() == [
        "__main__",
        "argv.py a -m b",
        "argv.py",
        "1",
        "testprog",
        "True",
    ]


def test_goroutines_of_a_script() -> None:
    """A script uses goroutines, and ends though some are parked, as in Go."""
    done = run_script(
        """
        from goroutines import Chan, WaitGroup, go, sleep
        ch = Chan()
        wg = WaitGroup()
        for i in range(3):
            wg.go(lambda i=i: (sleep(0.001), print("worker")))
        wg.wait()
        gs = [go(ch.recv), go(sleep, 3600)]
        sleep(0.001)
        print("main ends")
        """
    )
    assert done == (0, "worker\n" * 3 + "main ends\n", "")


def test_input_is_passed_on() -> None:
    """The script reads the command's standard input."""
    assert run_script("print(input()[::-1])\n", stdin="abc\n") == (0, "cba\n", "")


@pytest.mark.parametrize(
    ("statement", "status", "message"),
    [
        ("sys.exit(3)", 3, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit('words')", 1, "words\n"),
        ("go(sys.exit, 4).join()", 4, ""),
    ],
)
def test_exit_status(statement: str, status: int, message: str) -> None:
    """The status is the script's own."""
    done = run_script(f"import sys\nfrom goroutines import go\n{statement}\n")
    assert done == (status, "", message)


def test_exception_of_the_script() -> None:
    """An uncaught exception is status 1 and the ordinary traceback, once."""
    done = run_script("def work():\n    1 / 0\nwork()\n")
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.count("Traceback (most recent call last)") == 1
    assert "in work" in done.stderr
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_panic_of_the_script() -> None:
    """A panic is status 2 and its report, without a second traceback."""
    done = run_script("from goroutines import go\ngo(lambda: 1 / 0).join()\n")
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr.count("panic: ZeroDivisionError: division by zero") == 1
    assert "Panic" not in done.stderr


def test_deadlock_of_the_script() -> None:
    """A deadlock is status 2 and the report."""
    done = run_script("from goroutines import Chan\nChan().recv()\n")
    assert (done.returncode, done.stdout) == (2, ""), done
    assert "all goroutines are asleep - deadlock!" in done.stderr
    assert re.search(r"goroutine 1 \[chan receive", done.stderr), done.stderr


def test_syntax_error_of_the_script() -> None:
    """A script that is no Python is status 1 and a SyntaxError of that file."""
    done = run_script("def (:\n")
    assert (done.returncode, done.stdout) == (1, ""), done
    assert "SyntaxError" in done.stderr
    assert "prog.py" in done.stderr


@pytest.mark.parametrize("args", [("no-such-script.py",), ("-m", "no_such_module")])
def test_nothing_to_run(args: Sequence[str]) -> None:
    """A script or module that is not there is named, and no traceback shows our own code."""
    done = command("run", *args)
    assert done.returncode not in (0, -6, -11), done
    assert done.stdout == ""
    assert args[-1] in done.stderr


@pytest.mark.parametrize("args", [(), ("run",), ("jump", "x.py"), ("run", "-m")])
def test_usage(args: Sequence[str]) -> None:
    """Commands that are incomplete or unknown are status 2 and a hint on usage."""
    done = command(*args)
    assert done.returncode == 2, done
    assert "usage" in (done.stderr + done.stdout).lower()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("args", [("--help",), ("run", "--help")])
def test_help(args: Sequence[str]) -> None:
    """--help is status 0 and tells of run."""
    done = command(*args)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "run" in done.stdout


def test_sigquit_prints_all_stacks() -> None:
    """SIGQUIT writes every goroutine's stack to stderr."""
    done = run_script(
        """
        import os, signal
        from goroutines import Chan, go, sleep

        def lonely_receiver():
            Chan().recv()

        def quitter():
            os.kill(os.getpid(), signal.SIGQUIT)

        go(lonely_receiver)
        go(quitter)
        for _ in range(100):
            sleep(0.001)
        """
    )
    assert re.search(r"^goroutine 1 \[.+\]:$", done.stderr, re.MULTILINE), done
    assert re.search(r"^goroutine \d+ \[chan receive.*\]:$", done.stderr, re.MULTILINE), done
    assert "lonely_receiver" in done.stderr


def test_the_same_command_is_installed() -> None:
    """`goroutines` is installed as a console script of the same function."""
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="goroutines")
    assert callable(script.load())
    assert script.value.split(":")[0].startswith("goroutines")


def test_run_from_the_console_script() -> None:
    """The installed command runs a script and gives its status."""
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="goroutines")
    module, function = script.value.split(":")
    code = f"import sys; from {module} import {function} as main; sys.exit(main())"
    done = run_command([sys.executable, "-c", code, "run", str(TESTPROG / "argv.py"), "x"])
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.splitlines()[:2] == ["__main__", "argv.py x"]
