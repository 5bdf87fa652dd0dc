"""redis-py: goroutines that listen to channels while another publishes: `PORT`."""

import sys
import threading

from goroutines.patch import patch

patch()

import redis
from crowd import ticking, until

MESSAGES = 200

client = redis.Redis(port=int(sys.argv[1]), decode_responses=True)
heard: dict[str, list[str]] = {"listen": [], "handler": [], "poll": []}


def listen() -> None:
    """Take messages from a subscription as they come."""
    with client.pubsub() as pubsub:
        pubsub.subscribe("news")
        for message in pubsub.listen():
            if message["type"] == "message":
                if message["data"] == "end":
                    return
                heard["listen"].append(message["data"])


def poll() -> None:
    """Ask for messages, with a timeout."""
    with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.psubscribe("n*")
        while True:
            message = pubsub.get_message(timeout=0.01)
            if message and message["data"] == "end":
                return
            if message:
                heard["poll"].append(message["data"])


listeners = [threading.Thread(target=target) for target in (listen, poll)]
for thread in listeners:
    thread.start()
handling = client.pubsub()
handling.subscribe(news=lambda message: heard["handler"].append(message["data"]))
worker = handling.run_in_thread(sleep_time=0.01)

with ticking() as ticker:
    until(lambda: client.pubsub_numsub("news") == [("news", 2)] and client.pubsub_numpat() == 1)
    ticker.goes_on()
    sent = [str(i) for i in range(MESSAGES)]
    for each in [*sent, "end"]:
        client.publish("news", each)
    for thread in listeners:
        thread.join()
    until(lambda: len(heard["handler"]) == MESSAGES + 1)
    worker.stop()
    worker.join()

assert heard == {"listen": sent, "poll": sent, "handler": [*sent, "end"]}, heard
print("ok")
