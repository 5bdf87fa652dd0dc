"""The values of goroutines.memory against the standard library's, NumPy's and Go's.

    python -m benchmarks.memory [--quick] [--go PATH]

One process, one core, the least of several rounds in which the contenders take turns; NumPy
and Go are left out if they are not there. Figures are nanoseconds for one operation.
"""

import argparse
import array
import gc
import json
import random
import resource
import subprocess
import sys
import timeit
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.contenders import GO, Unavailable, prepare
from benchmarks.measure import one_core
from goroutines import memory, sync

SIZES = (16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)
ROUNDS = 7
BUDGET = 20_000_000
"""About how many nanoseconds a round of one contender may take."""


@dataclass
class Line:
    """One row: what each contender does, and what is to be reached."""

    name: str
    expected: int
    """Nanoseconds, roughly: says how often it is done."""
    ours: Callable[[int], None]
    others: dict[str, Callable[[int], None]]
    targets: Sequence[tuple[str, float]] = ()
    """Of whose figure ours may be so much; of nobody's: so many nanoseconds."""
    in_go: bool = True
    figures: dict[str, float] = field(default_factory=dict)


def statement(text: str, **names: Any) -> Callable[[int], None]:
    """Make a function that does `text` so many times, compiled as a loop."""
    timer = timeit.Timer(text, globals=names)
    return lambda n: timer.timeit(n) and None


def numpy_or_none() -> Any:
    try:
        import numpy
    except ImportError:
        return None
    return numpy


def making(size: int, numpy: Any) -> Line:
    names = {"Slice": memory.Slice, "byte": memory.byte, "make": memory.make, "n": size}
    others = {
        "bytearray": statement("bytearray(n)", n=size),
        "array": statement("array('B', zeros) * n", array=array.array, zeros=b"\0", n=size),
    }
    if numpy is not None:
        others["numpy"] = statement("zeros(n, 'u1')", zeros=numpy.zeros, n=size)
    targets = [("bytearray", 0.8)] if size >= 256 else []
    ours = statement("make(Slice[byte], n)", **names)
    return Line(f"make-{size}", 60 + size // 100, ours, others, [*targets, (GO, 3.0)])


def using(size: int) -> Line:
    """As `making`, but written to the end, so that it has to be zeroed for the next."""
    names = {"Slice": memory.Slice, "byte": memory.byte, "make": memory.make, "n": size}
    ours = statement("make(Slice[byte], n)[n - 1] = 1", **names)
    other = statement("bytearray(n)[n - 1] = 1", n=size)
    return Line(f"use-{size}", 60 + size // 100, ours, {"bytearray": other}, in_go=False)


def slicing() -> Line:
    ours = statement("s[10:500]", s=memory.make(memory.Slice[memory.byte], 1000))
    other = statement("s[10:500]", s=memoryview(bytearray(1000)))
    return Line("slicing", 50, ours, {"memoryview": other}, [("memoryview", 1.2)])


def appending() -> Line:
    def ours(n: int) -> None:
        append, s = memory.append, memory.Slice[memory.int64]()
        for i in range(n):
            s = append(s, i)

    def other(n: int) -> None:
        s = array.array("q")
        for i in range(n):
            s.append(i)

    return Line("append", 30, ours, {"array": other}, [("array", 1.5)])


def copying(size: int, numpy: Any) -> Line:
    kind = memory.Slice[memory.byte]
    a, b = memory.make(kind, size), memory.make(kind, size)
    c, d = memoryview(bytearray(size)), memoryview(bytearray(size))
    line = Line(
        f"copy-{size}",
        30 + size // 50,
        statement("copy(a, b)", copy=memory.copy, a=a, b=b),
        {"memoryview": statement("c[:] = d", c=c, d=d)},
    )
    if numpy is not None:
        e, f = numpy.zeros(size, "u1"), numpy.zeros(size, "u1")
        line.others["numpy"] = statement("e[:] = f", e=e, f=f)
        line.targets = [("numpy", 1 / 0.9)]
    return line


def reusing() -> Line:
    pool = sync.Pool(lambda: memory.make(memory.Slice[memory.byte], 4096))
    ours = statement("put(get())", get=pool.get, put=pool.put)
    return Line("reuse", 30, ours, {}, [("", 100.0)])


def go_figure(command: Sequence[str], line: Line, n: int) -> float:
    done = subprocess.run([*command, line.name, str(n)], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["value"])


def measure(line: Line, rounds: int, quick: bool, go: Sequence[str] | None) -> None:
    """Fill in the figures: the least of the rounds."""
    n = 1_000_000 if line.name == "append" else max(20, BUDGET // line.expected)
    n = max(1, n // 100) if quick else n
    all_of_them = {"goroutines": line.ours, **line.others}
    for _ in range(rounds):
        for who, run in all_of_them.items():
            start = timeit.default_timer()
            run(n)
            taken = (timeit.default_timer() - start) / n * 1e9
            line.figures[who] = min(taken, line.figures.get(who, taken))
        if go is not None and line.in_go:
            taken = go_figure(go, line, n)
            line.figures[GO] = min(taken, line.figures.get(GO, taken))


def verdict(line: Line) -> str:
    verdicts: list[str] = []
    for who, most in line.targets:
        if who and who not in line.figures:
            continue
        ratio = line.figures["goroutines"] / (line.figures[who] if who else 1)
        what = f"{ratio:.2f} of {who}, at most {most:.2f}" if who else f"at most {most:.0f}"
        verdicts.append(f"{what}: {'met' if ratio <= most else 'missed'}")
    return "; ".join(verdicts)


def report(lines: Sequence[Line]) -> str:
    """Return the table, in Markdown."""
    columns = ["goroutines", "bytearray", "array", "memoryview", "numpy", GO]
    columns = [who for who in columns if any(who in line.figures for line in lines)]
    rows = [["ns", *columns, "target"], ["---", *["---:"] * len(columns), "---"]]
    for line in lines:
        figures = [f"{line.figures[who]:.0f}" if who in line.figures else "-" for who in columns]
        rows.append([line.name, *figures, verdict(line)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def gigabyte() -> str:
    """Take 1 GB in blocks of 16 bytes to 4 MiB, touch it, free it: how much memory comes back."""

    def resident() -> int:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    def take() -> list[memory.Slice[memory.byte]]:
        rng, taken, blocks = random.Random(1), 0, list[memory.Slice[memory.byte]]()
        while taken < 10**9:
            size = int(2 ** rng.uniform(4, 22))
            block = memory.make(memory.Slice[memory.byte], size)
            for i in range(0, size, 4096):
                block[i] = 1
            blocks.append(block)
            taken += size
        return blocks

    before = resident()
    blocks = take()
    full = resident()
    blocks.clear()
    freed = resident()
    gc.collect()
    collected = resident()
    return (
        f"1 GB of mixed sizes: resident {before / 1e6:.1f} MB before, {full / 1e6:.0f} MB with it, "
        f"{freed / before - 1:+.1%} when freed, {collected / before - 1:+.1%} after a collection "
        "(at most +10 %)"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--go", metavar="PATH", help="the go command")
    parser.add_argument("--gigabyte", action="store_true", help="only how memory comes back")
    options = parser.parse_args(argv)
    if options.gigabyte:
        print(gigabyte())
        return 0
    go = None
    try:
        go = prepare(GO, python="", peers_python=sys.executable, go=options.go).command
    except Unavailable as absent:
        print(f"without Go: {absent}", file=sys.stderr)
    numpy = numpy_or_none()
    lines = [making(size, numpy) for size in SIZES]
    lines += [using(size) for size in (256, 65536, 1048576)]
    lines += [slicing(), appending(), copying(4096, numpy), copying(1048576, numpy), reusing()]
    with one_core():
        for line in lines:
            measure(line, 1 if options.quick else ROUNDS, options.quick, go)
    print(report(lines) + "\n", flush=True)
    subprocess.run([sys.executable, "-m", "benchmarks.memory", "--gigabyte"], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
