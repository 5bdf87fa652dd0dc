"""redis-py: commands, pipelines, locks, pools, from many goroutines: `PORT`."""

import sys

from goroutines.patch import patch

patch()

import redis
from crowd import COUNT, all_of

port = int(sys.argv[1])
client = redis.Redis(port=port, decode_responses=True)
client.flushall()


def commands(i: int) -> None:
    """Set and get what is this goroutine's own."""
    client.set(f"key{i}", "x" * 1000 * i)
    assert client.get(f"key{i}") == "x" * 1000 * i
    client.hset(f"hash{i}", mapping={"a": i, "b": i + 1})
    assert client.hgetall(f"hash{i}") == {"a": str(i), "b": str(i + 1)}
    client.incr("total", i)


def pipeline(i: int) -> list[object]:
    """Send several commands at once, as one transaction."""
    with client.pipeline(transaction=True) as pipe:
        pipe.rpush(f"list{i}", *range(100)).llen(f"list{i}").lrange(f"list{i}", 98, -1)
        return pipe.execute()


def with_lock(i: int) -> None:
    """Change in two steps what all others change too."""
    with client.lock("lock", sleep=0.001):
        client.set("guarded", int(client.get("guarded") or 0) + 1)


def from_small_pool(i: int) -> int:
    """Wait for one of few connections."""
    pooled = redis.Redis(connection_pool=pool)
    pooled.ping()
    return int(pooled.client_id())


all_of(commands)
assert client.get("total") == str(sum(range(COUNT)))
assert all_of(pipeline) == [[100, 100, ["98", "99"]]] * COUNT
all_of(with_lock, 10)
assert client.get("guarded") == "10"
pool = redis.BlockingConnectionPool(port=port, max_connections=3, timeout=None)
assert len(set(all_of(from_small_pool))) <= 3
try:
    client.incr("list0")
except redis.ResponseError:
    print("ok")
