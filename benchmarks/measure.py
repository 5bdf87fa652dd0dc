"""One measurement: a child process on one core, and the figure it gives."""

import json
import os
import signal
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter_ns

from benchmarks.catalog import Benchmark
from benchmarks.contenders import Contender

TIMEOUT = 600.0
"""Seconds after which a child counts as hanging."""


class ChildFailed(Exception):
    """A program did not give its figure; the message says how it ended."""


def measure(contender: Contender, benchmark: Benchmark, *, quick: bool) -> float:
    """One figure, in the benchmark's unit."""
    n = benchmark.count(quick=quick, slow=contender.slow)
    if benchmark.name == "import":
        return import_cost(contender, n)
    output = run_child([*contender.command, benchmark.program_name, str(n)])
    try:
        return float(json.loads(output)["value"])
    except (ValueError, KeyError, TypeError):
        raise ChildFailed(f"printed no figure but {output[:200]!r}") from None


def import_cost(contender: Contender, pairs: int) -> float:
    """Nanoseconds that a process takes longer when it imports the contender.

    Bare and importing processes alternate. A first pair is not counted: it brings the
    files into the cache and writes the bytecode.
    """
    bare: list[float] = []
    importing: list[float] = []
    for _ in range(pairs + 1):
        bare.append(_child_ns(contender, "pass"))
        importing.append(_child_ns(contender, f"import {contender.name}"))
    return statistics.median(importing[1:]) - statistics.median(bare[1:])


def _child_ns(contender: Contender, statement: str) -> int:
    assert contender.python is not None
    start = perf_counter_ns()
    run_child([contender.python, "-c", statement])
    return perf_counter_ns() - start


def run_child(command: Sequence[str]) -> str:
    """Run a program to its end and return what it printed."""
    try:
        done = subprocess.run(
            command,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise ChildFailed(f"hung: no end after {TIMEOUT:.0f} s") from None
    if done.returncode != 0:
        raise ChildFailed(f"{_ending(done.returncode)}\n{done.stderr[-2000:]}".strip())
    return done.stdout


def _environment() -> dict[str, str]:
    """Ours, but for one processor, with no debug output."""
    environment = os.environ | {"GOMAXPROCS": "1"}
    environment.pop("GODEBUG", None)
    return environment


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process, and with it its children, on one core where that can be done.

    This process only waits while a child runs. The last core is taken: the first tends
    to serve the interrupts.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def available_memory() -> int | None:
    """Bytes that a child may fill without driving others out; None if not known."""
    try:
        with open("/proc/meminfo") as meminfo:
            fields = dict(line.split(":", 1) for line in meminfo)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
