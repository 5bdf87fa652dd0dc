"""Run CPython's own tests under patch(), a process for each of its test files.

    python -m tests.stdlib [--part] [--jobs N] [MODULE ...]

What fails must be in `known_failures`, or fail without patch() too. The exit status is 1 if
something else fails, hangs or crashes.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.stdlib.known_failures import reason

CHILD = Path(__file__).with_name("child.py")
LIMIT = 300  # seconds for one file: after that it hangs

# Files, or folders of files. Those in PART are what CI runs.
PART = (
    "test_epoll", "test_ftplib", "test_poll", "test_queue", "test_select", "test_selectors",
    "test_smtplib", "test_socketserver", "test_thread", "test_threading_local",
    "test_threadsignals", "test_asyncio.test_futures", "test_asyncio.test_locks",
    "test_asyncio.test_sock_lowlevel", "test_asyncio.test_streams", "test_asyncio.test_threads",
)  # fmt: skip
ALL = (
    *PART, "test_asyncio", "test_concurrent_futures", "test_httplib", "test_httpservers",
    "test_imaplib", "test_logging", "test_poplib", "test_signal", "test_socket", "test_ssl",
    "test_subprocess", "test_threading", "test_urllib", "test_urllib2", "test_urllib2_localnet",
    "test_xmlrpc",
)  # fmt: skip


@dataclass
class Outcome:
    """What came of one file."""

    name: str
    passed: int = 0
    skipped: int = 0
    known: list[str] = field(default_factory=list[str])
    plain: list[str] = field(default_factory=list[str])  # fail without patch() too
    failed: dict[str, str] = field(default_factory=dict[str, str])  # id: traceback
    ended: str = ""  # how, if not well


def files(names: list[str]) -> list[str]:
    """Resolve folders to the files in them, each once; leave out what this CPython has not."""
    found: dict[str, None] = {}
    for name in names:
        try:
            spec = importlib.util.find_spec(f"test.{name}")
        except ModuleNotFoundError:
            continue
        if spec is not None and spec.submodule_search_locations:
            folder = Path(next(iter(spec.submodule_search_locations)))
            found |= {f"{name}.{path.stem}": None for path in sorted(folder.glob("test_*.py"))}
        elif spec is not None:
            found[name] = None
    return list(found)


def run_child(arguments: list[str]) -> tuple[str, str]:
    """Run a file; return what it printed, and how it ended if not well."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        command = [sys.executable, "-W", "ignore", str(CHILD), *arguments]
        try:
            done = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=errors, timeout=LIMIT, check=False, errors="replace",
            )  # fmt: skip
        except subprocess.TimeoutExpired as e:
            text = e.stdout.decode(errors="replace") if isinstance(e.stdout, bytes) else ""
            last = text.rpartition("start\t")[2].strip()
            return text, f"hangs in {last}"
        if done.returncode != 0:
            errors.seek(0, os.SEEK_SET)
            tail = errors.read().decode(errors="replace")[-2000:]
            return done.stdout, f"ended with status {done.returncode}\n{tail}"
        return done.stdout, ""


def parse(text: str) -> tuple[set[str], set[str], dict[str, str]]:
    """Return the ids of what passed and was skipped, and the tracebacks of what failed."""
    passed: set[str] = set()
    skipped: set[str] = set()
    failed: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        word, tab, test = line.partition("\t")
        if tab and word in ("ok", "skip", "FAIL"):
            {"ok": passed, "skip": skipped}.get(word, set()).add(test)
            last = test if word == "FAIL" else ""
            failed |= {last: ""} if last else {}
        elif last and line.startswith("    "):
            failed[last] += line + "\n"
        else:
            last = ""
    return passed - skipped, skipped, failed


def fails_unpatched(name: str, test: str) -> bool:
    """Tell whether a test fails without patch() as well, on this machine."""
    ids = [test] if test.startswith("test.") else []
    text, ended = run_child(["--plain", name, *ids])
    return bool(ended) or bool(parse(text)[2])


def run_file(name: str) -> Outcome:
    """Run one file, and compare what failed."""
    text, ended = run_child([name])
    passed, skipped, failed = parse(text)
    outcome = Outcome(name, len(passed), len(skipped), ended=ended)
    for test, traceback in failed.items():
        if reason(test) is not None:
            outcome.known.append(test)
        elif fails_unpatched(name, test):
            outcome.plain.append(test)
        else:
            outcome.failed[test] = traceback
    if ended and not failed and fails_unpatched(name, ""):
        outcome.ended, outcome.plain = "", [name]
    return outcome


def tell(outcome: Outcome) -> None:
    """Print a line, and what is wrong."""
    parts = [f"{outcome.passed} passed", f"{outcome.skipped} skipped"]
    parts += [f"{len(outcome.known)} known failures"] * bool(outcome.known)
    parts += [f"{len(outcome.plain)} fail unpatched too"] * bool(outcome.plain)
    parts += [f"{len(outcome.failed)} FAILED"] * bool(outcome.failed)
    parts += [f"FAILED: {outcome.ended}"] * bool(outcome.ended)
    print(f"{outcome.name}: {', '.join(parts)}", flush=True)
    for test, traceback in outcome.failed.items():
        print(f"  FAILED {test}\n{traceback}", end="", flush=True)


def main() -> int:
    """Run the files; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.stdlib", description=__doc__)
    parser.add_argument("--part", action="store_true", help="the part that CI runs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="files at a time")
    parser.add_argument("module", nargs="*", help="files, as test_socket; default: all")
    options = parser.parse_args()
    names = files(options.module or list(PART if options.part else ALL))
    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = []
        for outcome in pool.map(run_file, names):
            tell(outcome)
            outcomes.append(outcome)
    bad = sum(len(o.failed) + bool(o.ended) for o in outcomes)
    passed, known = sum(o.passed for o in outcomes), sum(len(o.known) for o in outcomes)
    print(f"{len(outcomes)} files: {passed} passed, {known} known failures, {bad} failed")
    return int(bad > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main())
