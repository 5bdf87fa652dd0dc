"""What is measured, how often, and what goroutines has to reach."""

from dataclasses import dataclass
from functools import partial

NS, SECONDS, BYTES, RATIO, PER_SECOND = "ns", "s", "bytes", "ratio", "1/s"

THREADS = frozenset({"threading"})
"""Plain OS threads: they take part where the standard library has the same thing."""


@dataclass(frozen=True)
class Target:
    """What is to be reached; a bound that is None is not set."""

    go: float | None = None
    """At most this many times Go's figure; at least, where more is better."""
    peer: float | None = None
    """At least this many times better than the best Python peer."""
    over: tuple[tuple[str, float], ...] = ()
    """Contenders, and how many times better at least than each."""
    threads: float | None = None
    """At most this many times the figure of OS threads."""
    limit: float | None = None
    """At most this, in the benchmark's unit."""
    speed_up: float | None = None
    """At least this many times as fast as on one core."""
    speed_up_of_threads: float | None = None
    """At least this many times the speed-up of OS threads."""
    text: str = ""
    """The same in words, for the table."""

    @property
    def is_set(self) -> bool:
        bounds = (self.go, self.peer, self.threads, self.limit)
        bounds += (self.speed_up, self.speed_up_of_threads)
        return bool(self.over) or any(bound is not None for bound in bounds)


@dataclass(frozen=True)
class Benchmark:
    """One line of the table. Smaller figures are better, but for rates."""

    name: str
    title: str
    target: Target
    n: int = 2_000_000
    """What the fast contenders are asked for; the slow ones do ``slow_n``."""
    slow_n: int = 100_000
    quick_n: int = 20_000
    """What everybody is asked for with --quick; 0 leaves the benchmark out there."""
    unit: str = NS
    program: str = ""
    """The name that the programs know it by, if it is not ``name``."""
    figure: str = "value"
    """Which figure of the run; lines that differ in nothing else share one."""
    connections: int = 0
    """How many the load generator opens to the program, which is a server; 0: it is none."""
    part: str = ""
    """The name by which it can be asked for together with others."""
    max_rounds: int = 1000
    """Long or very even benchmarks need fewer rounds than the others."""
    without: frozenset[str] = THREADS
    """Contenders that have no such thing."""
    cores: int = 1
    """How many it runs on, and GOMAXPROCS."""
    single: str = ""
    """The name of the line that has the same on one core."""

    @property
    def program_name(self) -> str:
        return self.program or self.name

    @property
    def more_is_better(self) -> bool:
        return self.unit == PER_SECOND

    @property
    def run(self) -> tuple[str, int, int, int]:
        """The same for lines that share a run."""
        return self.program_name, self.connections, self.n, self.cores

    def count(self, *, quick: bool, slow: bool) -> int:
        """How many operations a contender is asked for."""
        if quick:
            return self.quick_n
        return self.slow_n if slow else self.n

    def opened(self, *, quick: bool) -> int:
        """How many connections there are."""
        return min(self.connections, 20) if quick else self.connections


FAST = Target(go=1.0, peer=10.0, text="≤ 1.0 of Go, ≥ 10 times best peer")
NEAR = Target(go=1.5, text="≤ 1.5 of Go")
WITHIN_TWICE = Target(go=2.0, text="≤ 2.0 of Go")
SMALL = Target(limit=2000, text="≤ 2.0 KB")

UNSET = Target()

PEERS = frozenset({"gevent", "asyncio", "uvloop", "trio"}) | THREADS
EVENT_LOOPS = frozenset({"asyncio", "uvloop", "trio"})
EVERYBODY = frozenset[str]()
WITHOUT_PATCH = EVENT_LOOPS | {"go"}
"""Who has no threading.Lock, neither its own nor a patched one."""
WITHOUT_STREAMS = frozenset({"goroutines", "go", "gevent", "trio"}) | THREADS

ALL_BUT_THREADS = PEERS - THREADS | {"go"}

NET, LOCKS, PARALLEL = "net", "locks", "parallel"


def echo(connections: int, rate: Target) -> tuple[Benchmark, ...]:
    """The lines that one run against an echo server gives."""
    name, title = f"echo-{connections}", f"echo, {connections:,} connections"
    line = partial(
        Benchmark,
        n=100_000,
        slow_n=50_000,
        quick_n=2000,
        program="echo",
        connections=connections,
        part=NET,
        without=EVERYBODY,
    )
    cpu = Target(go=1.0, text="≤ 1.0 of Go")
    p99 = Target(over=(("uvloop", 1.0),), text="≤ 1.0 of uvloop")
    return (
        line(name, f"{title}, messages", rate, unit=PER_SECOND, figure="rate"),
        line(f"{name}-cpu", f"{title}, server's CPU, a message", cpu, figure="cpu"),
        line(f"{name}-p50", f"{title}, median latency", UNSET, figure="p50"),
        line(f"{name}-p99", f"{title}, 99 % latency", p99, figure="p99"),
        line(f"{name}-load", f"{title}, load generator", UNSET, unit=RATIO, figure="load"),
    )


def parallel(
    name: str, title: str, target: Target, without: frozenset[str], n: int, quick_n: int
) -> tuple[Benchmark, ...]:
    """The lines of the same work on one core and on two."""
    line = partial(
        Benchmark,
        n=n,
        slow_n=n,
        quick_n=quick_n,
        program=name,
        part=PARALLEL,
        without=without,
    )
    return (
        line(name, title, UNSET),
        line(f"{name}-2", f"{title}, 2 cores", target, cores=2, single=name),
    )


SCALES = Target(
    speed_up=1.9,
    speed_up_of_threads=1.0,
    text="speed-up ≥ 1.9 and ≥ that of threads",
)

BENCHMARKS = (
    Benchmark("yield", "yield", FAST),
    Benchmark("unbuffered", "unbuffered channel, an item", FAST),
    Benchmark("ping-pong", "ping-pong, a round trip", FAST),
    Benchmark("buffered", "channel of 128, an item", WITHIN_TWICE),
    Benchmark("spawn", "spawn and join", FAST),
    Benchmark("select-2", "select of 2, an item", WITHIN_TWICE, without=PEERS),
    Benchmark("select-8", "select of 8, an item", NEAR, without=PEERS),
    Benchmark("ring", "ring of 1,000, a hop", NEAR),
    Benchmark("sieve", "prime sieve, 1,000 primes", NEAR, n=1000, slow_n=1000, quick_n=1000),
    Benchmark(
        "sleepers",
        "100,000 sleepers, CPU time",
        Target(go=1.0, text="≤ 1.0 of Go"),
        n=100_000,
        slow_n=100_000,
        quick_n=10_000,
        unit=SECONDS,
        max_rounds=3,
    ),
    Benchmark(
        "memory-100k",
        "a parked goroutine, of 100,000",
        SMALL,
        n=100_000,
        slow_n=100_000,
        quick_n=100_000,
        unit=BYTES,
        program="memory",
        max_rounds=3,
    ),
    Benchmark(
        "memory-1m",
        "a parked goroutine, of 1,000,000",
        SMALL,
        n=1_000_000,
        slow_n=1_000_000,
        quick_n=0,
        unit=BYTES,
        program="memory",
        max_rounds=1,
    ),
    Benchmark(
        "import",
        "import, above bare Python",
        Target(limit=15e6, text="≤ 15 ms"),
        n=20,
        slow_n=20,
        quick_n=5,
        without=THREADS | {"go"},
    ),
    Benchmark(
        "mutex",
        "mutex, uncontended",
        Target(threads=1.2, text="≤ 1.2 of threading.Lock"),
        slow_n=500_000,
        without=EVERYBODY,
    ),
    Benchmark("mutex-8", "mutex, 8 contend", WITHIN_TWICE, without=EVERYBODY),
    Benchmark("mutex-1000", "mutex, 1,000 contend", WITHIN_TWICE, without=EVERYBODY),
    Benchmark("rwmutex", "RWMutex, 8 readers, a read", UNSET, without=PEERS),
    Benchmark("waitgroup", "WaitGroup of 10,000", UNSET, n=100, slow_n=10, quick_n=2),
    Benchmark(
        "timers",
        "a timer of 100,000, made, stopped",
        WITHIN_TWICE,
        n=100_000,
        without=THREADS | {"trio"},
    ),
    Benchmark(
        "after-func",
        "an after_func, made, stopped",
        WITHIN_TWICE,
        n=100_000,
        without=THREADS | {"trio"},
    ),
    Benchmark(
        "context",
        "context of 10,000 children",
        UNSET,
        n=30,
        quick_n=2,
        without=PEERS,
    ),
    Benchmark("cancel", "10,000 waiters cancelled", UNSET, n=30, slow_n=5, quick_n=2),
    Benchmark(
        "pool",
        "pool of 100, a task of 100,000",
        Target(peer=5.0, text="≥ 5 times best peer"),
        n=100_000,
        quick_n=10_000,
        without=EVENT_LOOPS,
    ),
    Benchmark("map", "pool of 100, map, an input", UNSET, n=1_000_000, without=EVENT_LOOPS),
    Benchmark(
        "map-memory",
        "map of 1,000,000, memory growth",
        UNSET,
        n=1_000_000,
        slow_n=1_000_000,
        unit=BYTES,
        max_rounds=1,
        without=EVENT_LOOPS,
    ),
    Benchmark(
        "scope",
        "a wait in a scope, to one in none",
        UNSET,
        unit=RATIO,
        without=PEERS | {"go"},
    ),
    *echo(
        100,
        Target(
            go=0.9,
            over=(("uvloop", 1.1), ("gevent", 2.0)),
            text="≥ 0.9 of Go, ≥ 1.1 times uvloop, ≥ 2 times gevent",
        ),
    ),
    *echo(1000, UNSET),
    Benchmark(
        "echo-streams",
        "echo over streams, 100 connections, messages",
        UNSET,
        n=100_000,
        slow_n=50_000,
        quick_n=2000,
        unit=PER_SECOND,
        figure="rate",
        connections=100,
        part=NET,
        without=WITHOUT_STREAMS,
    ),
    Benchmark(
        "idle-10000",
        "an idle connection, of 10,000",
        Target(limit=6000, text="≤ 6.0 KB"),
        n=10_000,
        slow_n=10_000,
        quick_n=200,
        unit=BYTES,
        program="echo",
        figure="idle",
        connections=10_000,
        part=NET,
        max_rounds=3,
        without=EVERYBODY,
    ),
    Benchmark(
        "threading-lock",
        "threading.Lock, uncontended",
        Target(threads=1.5, text="≤ 1.5 of threads"),
        n=2_000_000,
        slow_n=500_000,
        part=LOCKS,
        without=WITHOUT_PATCH,
    ),
    Benchmark(
        "queue-1",
        "queue.Queue(1), an item",
        Target(over=(("threading", 10.0),), text="≥ 10 times threads"),
        n=500_000,
        part=LOCKS,
        without=WITHOUT_PATCH,
    ),
    Benchmark(
        "queue-128",
        "queue.Queue(128), an item",
        UNSET,
        n=500_000,
        part=LOCKS,
        without=WITHOUT_PATCH,
    ),
    *parallel("cpu-mandelbrot", "a row of Mandelbrot", SCALES, ALL_BUT_THREADS, 200, 20),
    *parallel("cpu-fib", "fib(20)", SCALES, ALL_BUT_THREADS, 1000, 50),
    *parallel("cpu-json", "a JSON text of 50 KB", SCALES, ALL_BUT_THREADS, 3000, 100),
    *parallel("cpu-regex", "words of a text of 50 KB", SCALES, ALL_BUT_THREADS, 1000, 50),
    *parallel(
        "pipeline",
        "fan-out, fan-in, an item",
        Target(speed_up=1.0, text="no slower than on 1"),
        PEERS,
        500_000,
        10_000,
    ),
    Benchmark(
        "unbuffered-2",
        "unbuffered channel between 2 threads, an item",
        Target(go=3.0, text="≤ 3.0 of Go"),
        n=500_000,
        quick_n=10_000,
        part=PARALLEL,
        without=PEERS,
        cores=2,
    ),
)

PARTS = (NET, LOCKS, PARALLEL)
