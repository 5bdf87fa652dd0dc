"""What the Python programs share: the command line, warm-up, the figure.

A program is called as ``program.py NAME N`` and prints one JSON line. Its benchmarks
are functions that take the number of operations and return the figure in their unit.
"""

import json
import os
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter_ns
from typing import NoReturn

BATCH = 1000
"""How many tasks are spawned before they are waited for."""
BUFFER = 128
"""Capacity of the buffered channel."""
RING = 1000
"""How many tasks pass the token on, the one that starts it among them."""
NAPS = 4
"""How often each sleeper sleeps."""
LONGEST_NAP = 2.0
"""The most seconds that one sleep lasts."""

UNITS = {"memory": "bytes", "sleepers": "s"}
"""Units of the benchmarks that do not give nanoseconds; these get no warm-up either,
since it would leave memory behind to be reused and count as CPU time."""


def main(benchmarks: Mapping[str, Callable[[int], float]], argv: Sequence[str]) -> None:
    """Run the benchmark that ``argv`` (NAME N) asks for and print its figure."""
    name, n = argv[0], int(argv[1])
    bench = benchmarks[name]
    if name not in UNITS:
        bench(max(1, n // 10))
    _print_figure(name, n, bench(n))


def per_op(start_ns: int, operations: int) -> float:
    """Divide the time since ``start_ns`` by the number of operations done."""
    return (perf_counter_ns() - start_ns) / operations


def cpu_seconds() -> float:
    """User and system time that this process has used since it began."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident_bytes() -> int:
    """Memory in RAM: now where the system tells (Linux), at its peak elsewhere."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def report_memory(before: int, n: int) -> NoReturn:
    """Print the growth for each of ``n`` parked tasks, and end the process at once.

    Unwinding a million tasks is no part of the figure and takes some of the contenders
    a minute.
    """
    _print_figure("memory", n, (resident_bytes() - before) / n)
    os._exit(0)


def _print_figure(name: str, n: int, value: float) -> None:
    figure = {"benchmark": name, "n": n, "value": value, "unit": UNITS.get(name, "ns")}
    sys.stdout.write(json.dumps(figure) + "\n")
    sys.stdout.flush()
