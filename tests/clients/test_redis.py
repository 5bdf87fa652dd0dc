"""redis-py with redis-server."""

from __future__ import annotations

import pytest

from .conftest import succeeds


@pytest.mark.parametrize("first", ["", "redis"])
@pytest.mark.parametrize("program", ["redis_calls", "redis_blpop", "redis_pubsub"])
def test_redis(redis: int, program: str, first: str) -> None:
    """Commands, waiting for a list, subscriptions; redis imported before patching too."""
    succeeds(program, redis, first=first)
