"""redis-py: many goroutines in BLPOP, all of them in the server at once: `PORT`."""

import sys

from goroutines.patch import patch

patch()

import redis
from crowd import COUNT, held
from redis.backoff import NoBackoff
from redis.retry import Retry

client = redis.Redis(port=int(sys.argv[1]), decode_responses=True)
client.flushall()


def in_flight() -> int:
    """Return how many connections the server has that wait in BLPOP."""
    return sum(each["cmd"] == "blpop" and "b" in each["flags"] for each in client.client_list())


popped = held(
    lambda i: client.blpop(["queue"], timeout=60),
    in_flight,
    lambda: client.rpush("queue", *range(COUNT)),
)
assert sorted(int(value) for key, value in popped) == list(range(COUNT))
assert client.blpop(["queue"], timeout=0.05) is None

once = Retry(NoBackoff(), 0)
try:
    redis.Redis(port=int(sys.argv[1]), socket_timeout=0.05, retry=once).blpop(["queue"], timeout=60)
except redis.TimeoutError:
    print("ok")
