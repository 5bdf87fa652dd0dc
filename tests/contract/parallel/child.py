"""Runs the body of one test: child.py MODULE NAME [patch].

A program of its own, so that each can have its GOMAXPROCS, and none can take the others
with it when it hangs or crashes.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path

import goroutines
from goroutines import runtime, testing

ROOT = str(Path(__file__).parents[3])


def _dump(*_: object) -> None:
    """Print every goroutine's stack, at SIGQUIT; SIGABRT prints every thread's."""
    os.write(2, runtime.stack(all=True).encode())


def main(module: str, name: str, *how: str) -> None:
    """Run a test's body; nothing that it started may be left."""
    if "patch" in how:
        from goroutines.patch import patch

        patch()
    signal.signal(signal.SIGQUIT, _dump)
    sys.path[0] = ROOT
    body = getattr(importlib.import_module(module), name).body
    with testing.no_leaks(grace=10.0):
        body()
    assert goroutines.current().id == 1, "another goroutine came out than went in"


if __name__ == "__main__":
    main(*sys.argv[1:])
