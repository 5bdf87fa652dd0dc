"""The results in words and numbers: a markdown table and JSON."""

import datetime
import os
import platform
from typing import Any

from benchmarks.catalog import BYTES, PARALLEL, PER_SECOND, RATIO, SECONDS, Benchmark
from benchmarks.contenders import TITLES
from benchmarks.results import Results

NOTHING = "-"


def format_value(value: float, unit: str) -> str:
    """A figure with three digits and the unit that suits its size."""
    if unit == RATIO:
        return format_ratio(value)
    if unit == PER_SECOND:
        return f"{value:,.0f}/s"
    if unit == BYTES:
        return _scaled(value, ("B", "KB", "MB", "GB"))
    return _scaled(value * 1e9 if unit == SECONDS else value, ("ns", "µs", "ms", "s"))


def _scaled(value: float, units: tuple[str, ...]) -> str:
    *smaller, unit = units
    for candidate in smaller:
        if abs(value) < 999.5:
            unit = candidate
            break
        value /= 1000
    return f"{value:.0f} {unit}" if abs(value) >= 100 else f"{value:.3g} {unit}"


def format_ratio(ratio: float) -> str:
    """A ratio with as many digits as tell something."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}"


def markdown(results: Results) -> str:
    """The table for the README, what was measured where above it, gaps below."""
    blocks = [_conditions(results), *_table(results), *_parallel(results), *_gaps(results)]
    return "\n\n".join(blocks) + "\n"


def _conditions(results: Results) -> str:
    versions = ", ".join(f"{c.title} {c.version}" for c in results.contenders)
    haste = " **Quick run: not for publication.**" if results.quick else ""
    return (
        f"{today()}, {cpu_model()}, {platform.system()} {platform.machine()}, every program "
        f"on one core but for the parallel ones, up to {results.rounds} interleaved rounds, "
        f"medians. {versions}.{haste}"
    )


def _table(results: Results) -> list[str]:
    names = [c.name for c in results.contenders]
    header = ["", *(TITLES[n] for n in names), "ours / Go", "best peer / ours", "target", ""]
    rows = [_row(results, b, names) for b in results.benchmarks if b.part != PARALLEL]
    return _as_table([header, ["---", *("--:" for _ in names), "--:", "--:", "---", "---"]], rows)


def _as_table(heading: list[list[str]], rows: list[list[str]]) -> list[str]:
    """A block, if there are rows."""
    return ["\n".join(f"| {' | '.join(row)} |" for row in heading + rows)] if rows else []


def _row(results: Results, benchmark: Benchmark, names: list[str]) -> list[str]:
    ratio = results.ratio_to_go(benchmark)
    lead = results.lead_over_peer(benchmark)
    best = results.best_peer(benchmark)
    return [
        benchmark.title,
        *(_cell(results, benchmark, name) for name in names),
        NOTHING if ratio is None else format_ratio(ratio),
        NOTHING if lead is None or best is None else f"{format_ratio(lead)} ({TITLES[best[0]]})",
        benchmark.target.text or NOTHING,
        results.verdict(benchmark),
    ]


def _cell(results: Results, benchmark: Benchmark, name: str) -> str:
    if (benchmark.name, name) in results.failed:
        return "failed"
    value = results.figure(benchmark, name)
    return NOTHING if value is None else format_value(value, benchmark.unit)


def _parallel(results: Results) -> list[str]:
    """What runs on one core and on two, the speed-up beside it."""
    chosen = [b for b in results.benchmarks if b.part == PARALLEL and b.cores > 1]
    names = [
        c.name
        for c in results.contenders
        if any(results.figure(b, c.name) is not None for b in chosen)
    ]
    heading = ["parallel: 1 core → 2 cores (speed-up)", *(TITLES[n] for n in names)]
    heading += ["ours / Go", "ours / threads", "target", ""]
    rows = [_parallel_row(results, benchmark, names) for benchmark in chosen]
    return _as_table([heading, ["---", *("--:" for _ in names), "--:", "--:", "---", "---"]], rows)


def _parallel_row(results: Results, benchmark: Benchmark, names: list[str]) -> list[str]:
    ratios = results.ratio_to_go(benchmark), results.ratio_to_threads(benchmark)
    return [
        benchmark.title.removesuffix(", 2 cores"),
        *(_parallel_cell(results, benchmark, name) for name in names),
        *(NOTHING if ratio is None else format_ratio(ratio) for ratio in ratios),
        benchmark.target.text or NOTHING,
        results.verdict(benchmark),
    ]


def _parallel_cell(results: Results, benchmark: Benchmark, name: str) -> str:
    both = _cell(results, benchmark, name)
    speed_up = results.speed_up(benchmark, name)
    if speed_up is None:
        return both
    (single,) = [b for b in results.benchmarks if b.name == benchmark.single]
    return f"{_cell(results, single, name)} → {both} ({format_ratio(speed_up)})"


def _gaps(results: Results) -> list[str]:
    """Who and what is missing from the table."""
    if not results.absent:
        return []
    return [f"Not run: {', '.join(TITLES[name] for name in results.absent)}."]


def as_json(results: Results) -> dict[str, Any]:
    """Everything measured, for machines; no paths and nothing personal in it."""
    return {
        "date": today(),
        "machine": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        },
        "quick": results.quick,
        "rounds": results.rounds,
        "versions": {c.name: c.version for c in results.contenders},
        "benchmarks": {b.name: _benchmark_json(results, b) for b in results.benchmarks},
    }


def _benchmark_json(results: Results, benchmark: Benchmark) -> dict[str, Any]:
    measured = {
        contender.name: {
            "n": benchmark.count(quick=results.quick, slow=contender.slow),
            "median": results.figure(benchmark, contender.name),
            "samples": results.samples[benchmark.name, contender.name],
        }
        for contender in results.contenders
        if (benchmark.name, contender.name) in results.samples
    }
    return {
        "title": benchmark.title,
        "unit": benchmark.unit,
        "target": benchmark.target.text,
        "verdict": results.verdict(benchmark),
        "ratio_to_go": results.ratio_to_go(benchmark),
        "ratio_to_threads": results.ratio_to_threads(benchmark),
        "cores": benchmark.cores,
        "speed_up": {
            name: speed_up
            for name in measured
            if (speed_up := results.speed_up(benchmark, name)) is not None
        },
        "lead_over_best_peer": results.lead_over_peer(benchmark),
        "failed": [name for bench, name in results.failed if bench == benchmark.name],
        "more_is_better": benchmark.more_is_better,
        "contenders": measured,
    }


def today() -> str:
    """The date as ISO 8601 writes it."""
    return datetime.date.today().isoformat()


def cpu_model() -> str:
    """The processor's name where the system tells it, else its architecture."""
    try:
        with open("/proc/cpuinfo") as cpuinfo:
            for line in cpuinfo:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
