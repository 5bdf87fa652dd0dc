"""The command: run every contender in turn, round after round, and write the results."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from benchmarks.catalog import BENCHMARKS, BYTES, PARALLEL, PARTS, Benchmark
from benchmarks.chart import svg
from benchmarks.contenders import OURS, TITLES, Contender, Unavailable, prepare, prepare_load
from benchmarks.measure import CORES, ChildFailed, available_memory, measure, one_core
from benchmarks.report import as_json, format_value, markdown
from benchmarks.results import Results

ROUNDS = 5
SPARE_MEMORY = 1.25
"""How much more than it is expected to need a child must find available."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; the status is 1 if a program failed."""
    options = parse(argv)
    contenders, absent = gather(options)
    if not contenders:
        say("nobody to measure")
        return 2
    rounds = options.rounds or (1 if options.quick else ROUNDS)
    benchmarks = select_benchmarks(options, contenders)
    results = Results(benchmarks, contenders, options.quick, rounds, absent=absent)
    try:
        with one_core():
            run(results)
        status = 1 if results.failed else 0
    except KeyboardInterrupt:
        say("interrupted: writing what there is")
        status = 130
    write(results, options.out)
    return status


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure goroutines against Go and Python's other runtimes.",
    )
    known = [*PARTS, *(benchmark.name for benchmark in BENCHMARKS)]
    add = parser.add_argument
    add("--quick", action="store_true", help="one short round, to see that all works")
    add("--only", type=names_of(known), metavar="NAMES", help="of " + ",".join(known))
    add(
        "--contenders",
        type=names_of(list(TITLES)),
        metavar="NAMES",
        help="of " + ",".join(TITLES),
    )
    add("--rounds", type=positive, metavar="N", help=f"how many (default {ROUNDS}, quick 1)")
    add("--python", default=sys.executable, metavar="PATH", help="what runs goroutines")
    add("--peers-python", default=sys.executable, metavar="PATH", help="what runs the peers")
    add("--go", metavar="PATH", help="the go command (default: beside the peers' Python, PATH)")
    add(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results",
        metavar="DIR",
        help="where the results go (default: benchmarks/results)",
    )
    return parser.parse_args(argv)


def names_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Make a reader of comma-separated names, of which each must be known."""

    def names(text: str) -> list[str]:
        chosen = [name.strip() for name in text.split(",")]
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"no {name!r}; there are {', '.join(known)}")
        return chosen

    return names


def positive(text: str) -> int:
    """Read a number that is at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def gather(options: argparse.Namespace) -> tuple[list[Contender], dict[str, str]]:
    """Prepare the contenders; those that cannot be had are told of and left out.

    Who was asked for by name must be there, though.
    """
    contenders: list[Contender] = []
    absent: dict[str, str] = {}
    for name in TITLES:
        if options.contenders is not None and name not in options.contenders:
            continue
        try:
            contender = prepare(
                name,
                python=options.python,
                peers_python=options.peers_python,
                go=options.go,
            )
        except Unavailable as reason:
            if options.contenders is not None:
                sys.exit(f"{TITLES[name]} cannot be measured: {reason}")
            absent[name] = str(reason)
            say(f"{TITLES[name]} is left out: {reason}")
        else:
            contenders.append(contender)
            say(f"{contender.title} {contender.version}")
    return contenders, absent


def select_benchmarks(
    options: argparse.Namespace, contenders: Sequence[Contender]
) -> list[Benchmark]:
    """The benchmarks asked for, in the order of the table."""
    chosen = [
        benchmark
        for benchmark in BENCHMARKS
        if (options.only is None or {benchmark.name, benchmark.part} & {*options.only})
        and not (options.quick and benchmark.quick_n == 0)
    ]
    if not has_load(options, chosen):
        chosen = [b for b in chosen if not b.connections]
    return (
        chosen if runs_parallel(chosen, contenders) else [b for b in chosen if b.part != PARALLEL]
    )


def runs_parallel(chosen: Sequence[Benchmark], contenders: Sequence[Contender]) -> bool:
    """Whether several cores can be used, if that is needed."""
    if any(benchmark.part == PARALLEL for benchmark in chosen):
        if len(CORES) < max(benchmark.cores for benchmark in chosen):
            say("parallel benchmarks are left out: there is one core only")
            return False
        if any(c.name == OURS and not c.free_threaded for c in contenders):
            say("parallel benchmarks are left out: they need a free-threaded build")
            return False
    return True


def has_load(options: argparse.Namespace, chosen: Sequence[Benchmark]) -> bool:
    """Whether the load generator is there, if it is needed."""
    if any(benchmark.connections for benchmark in chosen):
        try:
            prepare_load(peers_python=options.peers_python, go=options.go)
        except Unavailable as reason:
            say(f"servers are left out: {reason}")
            return False
    return True


def run(results: Results) -> None:
    """Measure everything: contenders take turns within a round, and begin it in turns."""
    for number in range(results.rounds):
        say(f"round {number + 1} of {results.rounds}")
        first = number % len(results.contenders)
        order = [*results.contenders[first:], *results.contenders[:first]]
        for _, lines in groupby(results.benchmarks, lambda benchmark: benchmark.run):
            benchmarks = list(lines)
            if number < benchmarks[0].max_rounds:
                for contender in order:
                    measure_one(results, benchmarks, contender)


def measure_one(results: Results, benchmarks: Sequence[Benchmark], contender: Contender) -> None:
    """Take the figures of one run, one for each of the benchmarks.

    Not if the contender has no such thing or failed at it before.
    """
    benchmark = benchmarks[0]
    if contender.name in benchmark.without or (benchmark.name, contender.name) in results.failed:
        return
    label = f"  {benchmark.name:12} {contender.title:11}"
    if not fits(results, benchmark, contender):
        say(f"{label} left out: would not fit into memory")
        return
    try:
        figures = measure(contender, benchmark, quick=results.quick)
        values = [figures[benchmark.figure] for benchmark in benchmarks]
    except (ChildFailed, KeyError) as failure:
        for benchmark in benchmarks:
            results.failed[benchmark.name, contender.name] = str(failure)
        say(f"{label} FAILED: {failure}")
    else:
        for benchmark, value in zip(benchmarks, values, strict=True):
            results.add(benchmark, contender, value)
        units = [benchmark.unit for benchmark in benchmarks]
        say(f"{label} {', '.join(map(format_value, values, units))}")


def fits(results: Results, benchmark: Benchmark, contender: Contender) -> bool:
    """Whether a memory benchmark can run, going by the same contender's smaller ones."""
    if benchmark.unit != BYTES:
        return True
    known = [
        results.figure(smaller, contender.name)
        for smaller in results.benchmarks
        if smaller.program_name == benchmark.program_name and smaller.n < benchmark.n
    ]
    each = max((figure for figure in known if figure is not None), default=None)
    available = available_memory()
    if available is None or each is None:
        return True
    return each * benchmark.n * SPARE_MEMORY <= available


def write(results: Results, folder: Path) -> None:
    """Write table, picture and raw figures; the table is printed too."""
    folder.mkdir(parents=True, exist_ok=True)
    table = markdown(results)
    (folder / "results.md").write_text(table, encoding="utf-8")
    raw = json.dumps(as_json(results), indent=2, ensure_ascii=False)
    (folder / "results.json").write_text(raw + "\n", encoding="utf-8")
    picture = svg(results)
    if picture is not None:
        (folder / "results.svg").write_text(picture, encoding="utf-8")
    print(table, end="")
    say(f"written to {folder}")


def say(text: str) -> None:
    """Tell how far things are; the results alone go to standard output."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
