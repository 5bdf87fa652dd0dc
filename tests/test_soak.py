"""A short run of the soak test (scripts/soak), as a child process."""

import re

import pytest

from .conftest import PROGRAM_TIMEOUT, TESTPROG, run_program, scaled


@pytest.mark.slow
def test_soak():
    seconds, connections = scaled(3), scaled(1000, 20)
    load = ("--seconds", str(seconds), "--connections", str(connections))
    # Should something hang, the program says what does; that takes it a while.
    end = run_program(TESTPROG / "soak.py", *load, timeout=4 * PROGRAM_TIMEOUT)
    assert end.returncode == 0, end.stdout + end.stderr
    assert end.stderr == ""
    first, last = end.stdout.splitlines()
    assert re.match(r"soak: seed \d+, Python 3", first)
    assert last.endswith("; 0 violations")
    for what in ("closed under a reader", "dropped at once", "pipe", "reset", "tcp", "unix"):
        assert re.search(rf"\b{what} [1-9]", last)
