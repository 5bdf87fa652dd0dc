"""What the tests share: waiting for a condition, threads, child programs, a leak check.

No test sleeps until something has probably happened: `until` gives turns to the
goroutines (and, when that does not help, to the other threads) until a condition
holds, and fails the test when it never does. GOROUTINES_TEST_SCALE multiplies the
amount of work of the heavy tests.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

import goroutines
from goroutines import _runtime, testing

T = TypeVar("T")

SCALE = float(os.environ.get("GOROUTINES_TEST_SCALE", "1"))
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
TORTURE = bool(_runtime._debug_stats()["torture"])
# Whether nothing switches between two statements that do not wait.
EXACT_ORDER = not (FREE_THREADED or TORTURE)
# Most tests say in which order things happen, and so want one thread to run goroutines; those
# of contract/parallel choose for themselves, and GOMAXPROCS=8 chooses for all.
if "GOMAXPROCS" not in os.environ:
    os.environ["GOMAXPROCS"] = "1"
    goroutines.runtime.gomaxprocs(1)
# For programs whose output comes in one order only if one thread runs their goroutines.
ONE_THREAD = {"GOMAXPROCS": "1"}
TESTPROG = Path(__file__).parent / "testprog"
PROGRAM_TIMEOUT = 60.0 * max(1.0, SCALE)
QUICK_ROUNDS = 2_000
SLOW_ROUNDS = 20_000


def pytest_collection_finish() -> None:
    """Keep the torture build's many collections to what the tests make."""
    if TORTURE:
        gc.collect()
        gc.freeze()


class Finished(NamedTuple):
    """How a child program ended and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


class Token:
    """An object that a weak reference can watch."""


def scaled(count: int, least: int = 1) -> int:
    """Return `count` multiplied by GOROUTINES_TEST_SCALE, but at least `least`."""
    return max(least, int(count * SCALE))


def until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Let others run until `condition()` is true; fail when it stays false."""
    for _ in range(QUICK_ROUNDS):
        if condition():
            return
        goroutines.gosched()
    for _ in range(SLOW_ROUNDS):
        if condition():
            return
        for _ in range(100):
            goroutines.gosched()
        time.sleep(0.001)  # something outside the goroutines (a thread) has to move
    raise AssertionError(f"{what} never came true")


def parked(*gs: goroutines.Goroutine) -> None:
    """Wait until every one of `gs` is waiting for something."""
    for g in gs:
        until(lambda g=g: g.state == "waiting", f"that {g.name} is waiting ({g.state})")


def dead(*gs: goroutines.Goroutine) -> None:
    """Wait until every one of `gs` has ended, without joining it."""
    for g in gs:
        until(lambda g=g: g.done, f"that {g.name} is done ({g.state}, {g.wait_reason})")


def all_of(count: int, fn: Callable[[int], object]) -> list[Any]:
    """Run `fn(0)` ... `fn(count - 1)`, a goroutine each; their results in that order."""
    results: dict[int, object] = {}

    def body(i: int) -> None:
        results[i] = fn(i)

    gs = [goroutines.go(body, i) for i in range(count)]
    for g in gs:
        g.join()
    return [results[i] for i in range(count)]


def in_thread(fn: Callable[..., T], *args: Any) -> T:
    """Run `fn(*args)` in a plain OS thread while goroutines get turns here; its result."""
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(fn(*args))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    until(lambda: not thread.is_alive(), f"that the thread of {fn} has ended")
    if errors:
        raise errors[0]
    return results[0]


def run_program(
    program: str | Path,
    *args: str,
    flags: Sequence[str] = (),
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    timeout: float = PROGRAM_TIMEOUT,
) -> Finished:
    """Run a script (a path, or its source text) in a new interpreter and wait for its end.

    `flags` stand between the interpreter and the script: `-m goroutines run`, for one.
    A program that does not end in time is a failure that shows where it hung.
    """
    with tempfile.TemporaryDirectory() as directory:
        if isinstance(program, str):
            path = Path(directory) / "prog.py"
            path.write_text(textwrap.dedent(program), encoding="utf-8")
        else:
            path = program
        command = [sys.executable, *flags, str(path), *args]
        return run_command(command, stdin=stdin, env=env, cwd=cwd, timeout=timeout)


def run_command(
    command: Sequence[str],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    timeout: float = PROGRAM_TIMEOUT,
) -> Finished:
    """Run a command and wait for its end; see `run_program`."""
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1", **(env or {})}
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=cwd,
        text=True,
        errors="backslashreplace",
    ) as child:
        try:
            stdout, stderr = child.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGABRT)  # faulthandler says where it hangs
            try:
                stdout, stderr = child.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                child.kill()
                stdout, stderr = child.communicate()
            pytest.fail(f"still running after {timeout} s\nstdout: {stdout}\nstderr: {stderr}")
        return Finished(child.returncode, stdout, stderr)


@pytest.fixture(autouse=True)
def no_leftovers() -> Iterator[None]:
    """Fail a test that leaves goroutines behind, naming them."""
    with testing.no_leaks():
        yield
