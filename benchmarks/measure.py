"""One measurement: a child process on one core, and the figure it gives."""

import json
import os
import signal
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from tempfile import TemporaryFile
from time import perf_counter_ns

from benchmarks.catalog import Benchmark
from benchmarks.contenders import LOAD, Contender

TIMEOUT = 600.0
"""Seconds after which a child counts as hanging."""
BACKLOG = 1024
"""How many connections a server lets wait to be accepted."""


class ChildFailed(Exception):
    """A program did not give its figure; the message says how it ended."""


def measure(contender: Contender, benchmark: Benchmark, *, quick: bool) -> Mapping[str, float]:
    """The figures of one run, "value" if it is only one, each in its line's unit."""
    n = benchmark.count(quick=quick, slow=contender.slow)
    if benchmark.name == "import":
        return {"value": import_cost(contender, n)}
    if benchmark.connections:
        with serving(contender, benchmark.program_name) as (pid, port), other_cores():
            numbers = port, pid, benchmark.opened(quick=quick), n
            return figures(run_child([str(LOAD), *map(str, numbers)]))
    with last_cores(benchmark.cores):
        command = [*contender.command, benchmark.program_name, str(n)]
        return figures(run_child(command, cores=benchmark.cores))


def figures(output: str) -> dict[str, float]:
    """The numbers in the JSON line that a program has printed."""
    try:
        facts = json.loads(output)
        return {name: float(x) for name, x in facts.items() if isinstance(x, float | int)}
    except (ValueError, AttributeError):
        raise ChildFailed(f"printed no figure but {output[:200]!r}") from None


@contextmanager
def serving(contender: Contender, program: str) -> Iterator[tuple[int, int]]:
    """A server's pid and port; it ends with the block."""
    command = [*contender.command, program, str(BACKLOG)]
    with (
        TemporaryFile("w+") as complaints,
        subprocess.Popen(
            command, env=_environment(), stdout=subprocess.PIPE, stderr=complaints, text=True
        ) as server,
    ):
        assert server.stdout is not None
        try:
            yield server.pid, int(figures(server.stdout.readline())["port"])
        except ChildFailed as failure:
            complaints.seek(0)
            raise ChildFailed(f"{failure}\nserver: {complaints.read()[-2000:]}".strip()) from None
        finally:
            server.kill()


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


def run_child(command: Sequence[str], cores: int = 1) -> str:
    """Run a program to its end and return what it printed."""
    try:
        done = subprocess.run(
            command,
            env=_environment(cores),
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


def _environment(cores: int = 1) -> dict[str, str]:
    """Ours, but for so many processors, with no debug output."""
    environment = os.environ | {"GOMAXPROCS": str(cores)}
    environment.pop("GODEBUG", None)
    return environment


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def allowed_cores() -> frozenset[int]:
    """The cores this process may run on; empty where it cannot choose among them."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


CORES = allowed_cores()
"""Those there were at the start."""


def one_core() -> AbstractContextManager[None]:
    """Keep this process, and with it its children, on one core where that can be done.

    This process only waits while a child runs. The last core is taken: the first tends
    to serve the interrupts.
    """
    return last_cores(1)


def last_cores(count: int) -> AbstractContextManager[None]:
    """The same with so many of the last cores."""
    return on_cores(sorted(CORES)[-count:])


def other_cores() -> AbstractContextManager[None]:
    """Have the children that start now run on all the other cores, if there are any."""
    return on_cores(sorted(CORES)[:-1])


@contextmanager
def on_cores(cores: Sequence[int]) -> Iterator[None]:
    if not cores:
        yield
        return
    before = allowed_cores()
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def available_memory() -> int | None:
    """Bytes that a child may fill without driving others out; None if not known."""
    try:
        with open("/proc/meminfo") as meminfo:
            fields = dict(line.split(":", 1) for line in meminfo)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
