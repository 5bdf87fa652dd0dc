"""The figures of a run, and what follows from them."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.catalog import Benchmark
from benchmarks.contenders import GO, OURS, PEERS, THREADS, Contender

MET, MISSED, UNKNOWN, UNSET = "met", "missed", "?", "-"


@dataclass
class Results:
    """Everything that was measured, and what could not be."""

    benchmarks: Sequence[Benchmark]
    contenders: Sequence[Contender]
    quick: bool
    rounds: int
    samples: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """By the names of benchmark and contender, in the order of the rounds."""
    absent: dict[str, str] = field(default_factory=dict)
    """Contenders that could not be had, and why."""
    failed: dict[tuple[str, str], str] = field(default_factory=dict)
    """By the names of benchmark and contender: how the program ended."""

    def add(self, benchmark: Benchmark, contender: Contender, value: float) -> None:
        """Note one round's figure."""
        self.samples.setdefault((benchmark.name, contender.name), []).append(value)

    def figure(self, benchmark: Benchmark, contender: str) -> float | None:
        """The median over the rounds, or None if there is nothing."""
        samples = self.samples.get((benchmark.name, contender))
        return statistics.median(samples) if samples else None

    def best_peer(self, benchmark: Benchmark) -> tuple[str, float] | None:
        """The best Python peer and its figure."""
        figures = [(self.figure(benchmark, peer), peer) for peer in PEERS]
        known = [(value, peer) for value, peer in figures if value is not None]
        if not known:
            return None
        value, peer = max(known) if benchmark.more_is_better else min(known)
        return peer, value

    def ratio_to_go(self, benchmark: Benchmark) -> float | None:
        """Our figure as a multiple of Go's."""
        return self._ratio_to(GO, benchmark)

    def ratio_to_threads(self, benchmark: Benchmark) -> float | None:
        """Our figure as a multiple of that of OS threads."""
        return self._ratio_to(THREADS, benchmark)

    def _ratio_to(self, contender: str, benchmark: Benchmark) -> float | None:
        ours, theirs = self.figure(benchmark, OURS), self.figure(benchmark, contender)
        return ours / theirs if ours is not None and theirs else None

    def lead_over_peer(self, benchmark: Benchmark) -> float | None:
        """How many times better than the best Python peer we are."""
        best = self.best_peer(benchmark)
        return None if best is None else self.lead_over(best[0], benchmark)

    def lead_over(self, contender: str, benchmark: Benchmark) -> float | None:
        """How many times better than a contender we are."""
        ratio = self._ratio_to(contender, benchmark)
        return ratio if benchmark.more_is_better or not ratio else 1 / ratio

    def speed_up(self, benchmark: Benchmark, contender: str) -> float | None:
        """How many times as fast a contender is as it is on one core."""
        here = self.figure(benchmark, contender)
        single = self.samples.get((benchmark.single, contender))
        return statistics.median(single) / here if single and here else None

    def speed_up_to_threads(self, benchmark: Benchmark) -> float | None:
        """Our speed-up as a multiple of that of OS threads."""
        ours, theirs = self.speed_up(benchmark, OURS), self.speed_up(benchmark, THREADS)
        return ours / theirs if ours is not None and theirs else None

    def verdict(self, benchmark: Benchmark) -> str:
        """Whether the target was met; UNKNOWN if a figure that it needs is missing.

        UNSET if there is none.
        """
        target = benchmark.target
        if not target.is_set:
            return UNSET
        ours = self.figure(benchmark, OURS)
        go = at_least if benchmark.more_is_better else at_most
        checks = [
            go(self.ratio_to_go(benchmark), target.go),
            at_least(self.lead_over_peer(benchmark), target.peer),
            at_most(self.ratio_to_threads(benchmark), target.threads),
            at_most(ours, target.limit),
            at_least(self.speed_up(benchmark, OURS), target.speed_up),
            at_least(self.speed_up_to_threads(benchmark), target.speed_up_of_threads),
            *(at_least(self.lead_over(name, benchmark), lead) for name, lead in target.over),
        ]
        if MISSED in checks:
            return MISSED
        return UNKNOWN if UNKNOWN in checks else MET


def at_most(value: float | None, bound: float | None) -> str:
    """The verdict on an upper bound; without one it is met."""
    if bound is None:
        return MET
    if value is None:
        return UNKNOWN
    return MET if value <= bound else MISSED


def at_least(value: float | None, bound: float | None) -> str:
    """The verdict on a lower bound; without one it is met."""
    return at_most(None if value is None else -value, None if bound is None else -bound)
