"""Three goroutines started in a loop, each printing three lines.

    python say.py           main does not wait
    python say.py --wait    a WaitGroup: all nine lines are there

As in Go, the program ends when its main goroutine does.  What the first form prints before
that is up to the scheduler; here main never gives way, so it is nothing at all.
"""

from __future__ import annotations

import argparse

from goroutines import WaitGroup, go, gosched


def say(who: int) -> None:
    for line in range(3):
        print(f"goroutine {who}: line {line}")
        gosched()


def main() -> None:
    parser = argparse.ArgumentParser(description="Three goroutines, three lines each.")
    parser.add_argument("--wait", action="store_true", help="wait until all of them have ended")
    if not parser.parse_args().wait:
        for who in range(3):
            go(say, who)
        return
    wg = WaitGroup()
    for who in range(3):
        wg.go(say, who)
    wg.wait()


if __name__ == "__main__":
    main()
