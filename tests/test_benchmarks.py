"""The benchmarks: verdicts on figures, and a quick run of the servers."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import FREE_THREADED

ROOT = Path(__file__).parent.parent


@pytest.fixture
def results(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    catalog = importlib.import_module("benchmarks.catalog")
    module = importlib.import_module("benchmarks.results")

    def make(name, **figures):
        (benchmark,) = [b for b in catalog.BENCHMARKS if b.name == name]
        made = module.Results([benchmark], [], quick=False, rounds=1)
        made.samples = {(name, who): [figure] for who, figure in figures.items()}
        return made, benchmark

    return make


@pytest.mark.parametrize(
    ("ours", "verdict"), [(200.0, "met"), (199.0, "missed"), (110.0, "missed")]
)
def test_a_rate_is_better_the_higher(results, ours, verdict):
    made, benchmark = results("echo-100", goroutines=ours, go=220.0, gevent=100.0, uvloop=150.0)
    assert made.verdict(benchmark) == verdict
    assert made.best_peer(benchmark) == ("uvloop", 150.0)
    assert made.lead_over_peer(benchmark) == ours / 150.0


def test_a_latency_is_better_the_lower(results):
    made, benchmark = results("echo-100-p99", goroutines=2.0, uvloop=1.0, gevent=4.0)
    assert made.verdict(benchmark) == "missed"
    assert made.lead_over("gevent", benchmark) == 2.0


def test_a_verdict_needs_every_contender_that_the_target_names(results):
    made, benchmark = results("echo-100", goroutines=200.0, go=100.0, gevent=50.0)
    assert made.verdict(benchmark) == "?"


@pytest.fixture
def parallel(results):
    def make(ours, threads):
        made, benchmark = results("cpu-fib-2", goroutines=ours[1], threading=threads[1])
        made.samples["cpu-fib", "goroutines"] = [ours[0]]
        made.samples["cpu-fib", "threading"] = [threads[0]]
        return made, benchmark

    return make


@pytest.mark.parametrize(
    ("ours", "threads", "verdict"),
    [
        ((2.0, 1.0), (2.0, 1.01), "met"),
        ((2.0, 1.1), (2.0, 1.2), "missed"),
        ((2.0, 1.04), (2.0, 1.0), "missed"),
    ],
)
def test_two_cores_have_to_be_used(parallel, ours, threads, verdict):
    """A speed-up has a bound of its own, and that of threads for another one."""
    made, benchmark = parallel(ours, threads)
    assert made.speed_up(benchmark, "goroutines") == ours[0] / ours[1]
    assert made.verdict(benchmark) == verdict


def test_no_verdict_on_a_speed_up_without_the_figure_on_one_core(results):
    """What was measured on two cores only says nothing about them."""
    made, benchmark = results("cpu-fib-2", goroutines=1.0, threading=1.0)
    assert made.speed_up(benchmark, "goroutines") is None
    assert made.verdict(benchmark) == "?"


@pytest.mark.slow
@pytest.mark.skipif(not FREE_THREADED, reason="goroutines run on one thread under a GIL")
def test_quick_run_of_the_parallel_ones(tmp_path):
    """Every program does its work on one core and on two."""
    command = [sys.executable, "benchmarks/run.py", "--quick", "--only", "parallel"]
    command += ["--contenders", "goroutines,threading", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "one core only" in done.stderr:
        pytest.skip("there is one core only")
    assert done.returncode == 0, done.stderr
    lines = json.loads((tmp_path / "results.json").read_text())["benchmarks"]
    assert lines["cpu-fib-2"]["speed_up"].keys() == {"goroutines", "threading"}
    assert lines["pipeline-2"]["speed_up"]["goroutines"] > 0
    assert "speed-up" in (tmp_path / "results.md").read_text()


def test_quick_run_of_memory():
    """Every line has figures, also without Go."""
    command = [sys.executable, "-m", "benchmarks.memory", "--quick", "--go", "/nowhere/go"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("without Go: ")
    table, end = done.stdout.split("\n\n")
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    names = {row[0] for row in rows}
    assert names >= {"make-16", "make-1048576", "use-65536", "slicing", "append", "reuse"}
    assert all(float(row[1]) > 0 for row in rows[2:])
    assert end.startswith("1 GB of mixed sizes: resident ")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the load generator needs Linux")
def test_quick_run_of_the_servers(tmp_path):
    beside = Path(sys.executable).parent / "go"
    go = str(beside) if beside.is_file() else shutil.which("go")
    if go is None:
        pytest.skip("no go command")
    command = [sys.executable, "benchmarks/run.py", "--quick", "--only", "net", "--go", go]
    command += ["--contenders", "goroutines,threading", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = json.loads((tmp_path / "results.json").read_text())["benchmarks"]
    assert all(
        lines["echo-100"]["contenders"][who]["median"] > 0 for who in ("goroutines", "threading")
    )
    assert not any(line["failed"] for line in lines.values())
