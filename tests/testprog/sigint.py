"""Gets a SIGINT while main waits: `sigint.py WHERE idle|busy|uncaught`.

A plain thread sends the signal as soon as main is seen waiting (or, where main only
yields, has gone round a few times).
"""

import os
import signal
import sys
import threading
import time

from goroutines import Chan, WaitGroup, current, go, gosched, recv, select, sleep

where, how = sys.argv[1:]
main = current()
rounds = 0
over = False


def wait_for_ages() -> None:
    """Wait in the way that was asked for."""
    global rounds
    if where == "recv":
        Chan().recv(timeout=3600)
    elif where == "select":
        select(recv(Chan()), timeout=3600)
    elif where == "sleep":
        sleep(3600)
    elif where == "wait":
        wg = WaitGroup()
        wg.add()
        wg.wait(timeout=3600)
    elif where == "join":
        go(sleep, 3600).join()
    elif where == "gosched":
        while True:
            rounds += 1
            gosched()


def interrupt() -> None:
    """Send the signal once main waits."""
    while main.state != "waiting" and rounds < 100:
        time.sleep(0.0005)
    os.kill(os.getpid(), signal.SIGINT)


def spin() -> None:
    """Keep the thread busy, so that the signal finds a goroutine running."""
    while not over:
        gosched()


if how == "busy":
    go(spin)
go(sleep, 3600)
try:
    threading.Thread(target=interrupt, daemon=True).start()
    wait_for_ages()
except KeyboardInterrupt:
    if how == "uncaught":
        raise
    print("main interrupted")
over = True
ch: Chan[str] = Chan()
go(ch.send, "still works")
print(ch.recv())
