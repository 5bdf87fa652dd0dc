"""What the Python programs share: the command line, warm-up, the figure.

A program is called as ``program.py NAME N`` and prints one JSON line. Its benchmarks
are functions that take the number of operations and return the figure in their unit.

The servers among them (``echo``) take the backlog instead, print their port and serve
until they are killed.
"""

import json
import os
import queue
import resource
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter_ns
from typing import NoReturn, Protocol

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

HOLD = 8
"""Who locks for the so-many-th time gives way while holding the lock."""
READERS = 8
"""How many read under the RWMutex."""
READS = 64
"""How many reads there are for each write."""
GROUP = 10_000
"""How many a WaitGroup counts, how many children a context has."""
FAR = 3600.0
"""Seconds until the timers would fire that are stopped."""
WORKERS = 100
"""The size of the pool."""
WINDOW = 1000
"""How many inputs of a map may be under way or waiting to be taken."""
SLICES = 20
"""Into how many pieces a comparison within one program is cut."""
STEPS = 20
"""How much a worker of the pipeline does for an item."""
FANNED = 8
"""How many workers the pipeline has."""
HOST = "127.0.0.1"
MOST = 4096
"""How many bytes a server asks for at a time."""

UNITS = {"memory": "bytes", "map-memory": "bytes", "sleepers": "s", "scope": "ratio"}
"""Units of the benchmarks that do not give nanoseconds."""
COLD = frozenset({"memory", "map-memory", "sleepers", "echo", "echo-streams"})
"""Those that get no warm-up, since it would leave memory behind to be reused and count
as CPU time; servers get theirs from the load generator."""


def main(benchmarks: Mapping[str, Callable[[int], float]], argv: Sequence[str]) -> None:
    """Run the benchmark that ``argv`` (NAME N) asks for and print its figure."""
    name, n = argv[0], int(argv[1])
    bench = benchmarks[name]
    if name not in COLD:
        bench(max(1, n // 10))
    _print_figure(name, n, bench(n))


def per_op(start_ns: int, operations: int) -> float:
    """Divide the time since ``start_ns`` by the number of operations done."""
    return (perf_counter_ns() - start_ns) / operations


def check(found: int, expected: int) -> None:
    """End the program if it did not do its work: a wrong answer is worth no figure."""
    if found != expected:
        raise SystemExit(f"the answer is {found}, not {expected}")


def increment(i: int) -> int:
    """The tiny task that pools are given."""
    return i + 1


def sum_of_increments(n: int) -> int:
    """What the results for ``range(n)`` must add up to."""
    return n * (n + 1) // 2


def mixed(x: int) -> int:
    """What a worker of the pipeline makes of an item."""
    for k in range(STEPS):
        x = (x * 31 + k) % 65521
    return x


def cores() -> int:
    """How many the program may use."""
    return int(os.environ.get("GOMAXPROCS", "1"))


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


def peak_bytes() -> int:
    """The most memory in RAM so far.

    On Linux ru_maxrss would not do: it includes what the runner had before the exec.
    """
    try:
        with open("/proc/self/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        return int(fields["VmHWM"].split()[0]) * 1024
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def report_memory(before: int, n: int) -> NoReturn:
    """Print the growth for each of ``n`` parked tasks, and end the process at once.

    Unwinding a million tasks is no part of the figure and takes some of the contenders
    a minute.
    """
    _print_figure("memory", n, (resident_bytes() - before) / n)
    os._exit(0)


def pass_through(size: int, n: int) -> float:
    """A thread hands ``n`` items to another over a ``queue.Queue``; ns per item.

    Which kind of thread: that is for who has patched ``threading``, or has not.
    """
    items: queue.Queue[int] = queue.Queue(size)
    taken: list[int] = []
    threads = [
        threading.Thread(target=put_all, args=(items, n)),
        threading.Thread(target=take_all, args=(items, n, taken)),
    ]
    start = perf_counter_ns()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    figure = per_op(start, n)
    check(taken[0], n * (n - 1) // 2)
    return figure


def put_all(items: queue.Queue[int], n: int) -> None:
    for i in range(n):
        items.put(i)


def take_all(items: queue.Queue[int], n: int, total: list[int]) -> None:
    total.append(sum(items.get() for _ in range(n)))


class Connection(Protocol):
    """What threads, goroutines and greenlets have of a socket's methods here."""

    def setsockopt(self, level: int, name: int, value: int, /) -> None: ...
    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def close(self) -> None: ...


def echo_all(conn: Connection) -> None:
    """Send back what comes: the same code, whatever it blocks."""
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := conn.recv(MOST):
        conn.sendall(data)
    conn.close()


def listening(port: int) -> None:
    """Tell the load generator's caller that the server is there; open many connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    _print_line({"port": port})


def _print_figure(name: str, n: int, value: float) -> None:
    _print_line({"benchmark": name, "n": n, "value": value, "unit": UNITS.get(name, "ns")})


def _print_line(facts: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()
