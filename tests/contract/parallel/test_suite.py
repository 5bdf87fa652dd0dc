"""Stress tests of the suite with GOMAXPROCS 1 and 8; elsewhere it is the machine's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ...conftest import SCALE
from ..patch.tools import run
from .tools import PARALLEL, several

TESTS = Path(__file__).parents[2]
STRESSED = [
    "runtime/test_stress.py",
    "runtime/test_select.py",
    "contract/test_sync_contract.py",
    "contract/test_group_contract.py",
]


@several
@pytest.mark.slow
@pytest.mark.parametrize("procs", [1, 8] if PARALLEL else [8])
@pytest.mark.parametrize("name", STRESSED)
def test_with_so_many_threads(name: str, procs: int) -> None:
    """A file of the suite, its stress tests at a tenth, passes however many threads there are."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    run(
        [*command, str(TESTS / name)],
        env={"GOMAXPROCS": str(procs), "GOROUTINES_TEST_SCALE": str(SCALE / 10), "PYTHONPATH": ""},
        timeout=280.0 * max(1.0, SCALE),
    )
