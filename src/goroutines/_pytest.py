"""The pytest plugin: `goroutines.testing` as fixtures (entry point ``pytest11``)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from goroutines import testing


@pytest.fixture
def fake_clock() -> Iterator[None]:
    """Run the test with `goroutines.testing.fake_clock`."""
    with testing.fake_clock():
        yield


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fail the test if it leaves goroutines behind: `goroutines.testing.no_leaks`."""
    with testing.no_leaks():
        yield
