"""The benchmarks: verdicts on figures, and a quick run of the servers."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_quick_run_of_memory():
    """Every line has figures, also without Go."""
    command = [sys.executable, "-m", "benchmarks.memory", "--quick", "--go", "/nowhere/go"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("without Go: ")
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()]
    names = {row[0] for row in rows}
    assert names >= {"make-16", "make-1048576", "use-65536", "slicing", "append", "reuse"}
    assert all(float(row[1]) > 0 for row in rows[2:])


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
