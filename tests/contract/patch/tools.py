"""Run a program that patches in a process of its own, and show how it failed or hung.

With GOROUTINES_TEST_PATCH=0 the programs run on plain CPython, their goroutines being
threads: what holds there too shows that it is the program that is right.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from ...conftest import SCALE, Finished

HERE = Path(__file__).parent
PATCHED = os.environ.get("GOROUTINES_TEST_PATCH") != "0"
TIMEOUT = 20.0 * max(1.0, SCALE)

# For what plain CPython does not have, or does otherwise.
only_patched = pytest.mark.skipif(not PATCHED, reason="no goroutines without patch()")


def run_patched(
    source: str,
    *,
    before: str = "",
    timeout: float = TIMEOUT,
    returncode: int = 0,
    env: Mapping[str, str] | None = None,
) -> Finished:
    """Run `before`, patch(), then `source`, in a new interpreter; see child.py for its names.

    Fails with all that was written unless the exit status is `returncode`. A program that
    does not end in time prints its goroutines and threads before it is killed.
    """
    parts = [textwrap.dedent(before), "from child import *", textwrap.dedent(source)]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "prog.py"
        path.write_text("\n".join(parts), encoding="utf-8")
        return run([sys.executable, str(path)], timeout=timeout, returncode=returncode, env=env)


def run(
    command: list[str],
    *,
    timeout: float = TIMEOUT,
    returncode: int | None = 0,
    env: Mapping[str, str] | None = None,
) -> Finished:
    """Run a command that finds child.py; see `run_patched`."""
    environment = {
        **os.environ,
        "PYTHONFAULTHANDLER": "1",
        "PYTHONPATH": str(HERE),
        "PYTHONDONTWRITEBYTECODE": "1",
        **(env or {}),
    }
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        errors="backslashreplace",
        start_new_session=True,  # so that its own children are killed with it
    ) as child:
        hung = True
        try:
            stdout, stderr = child.communicate(timeout=timeout)
            hung = False
        except subprocess.TimeoutExpired:
            stdout, stderr = _kill(child)
    # Not in the handler above, whose exception would be shown as well.
    ended = Finished(child.returncode, stdout, stderr)
    if hung or (returncode is not None and ended.returncode != returncode):
        how = f"still running after {timeout} s" if hung else f"exit status {ended.returncode}"
        pytest.fail(f"{how}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", pytrace=False)
    return ended


def _kill(child: subprocess.Popen[str]) -> tuple[str, str]:
    """Have a program that hangs print where, and end it and its children."""
    for number in (signal.SIGQUIT, signal.SIGABRT):  # goroutines, then threads
        child.send_signal(number)
        try:
            child.wait(timeout=1)
        except subprocess.TimeoutExpired:
            continue
        break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    return child.communicate()
