"""Three workers that count rounds, and a WaitGroup whose counter is wrong.

    python workers.py            all workers exit, then: deadlock, status 2
    python workers.py --fixed    ends with "All workers exit."

The workers call done() three times, but what the loop adds is 3 + 2 + 1.  The counter never
comes down to zero, so main would wait for ever: the runtime says so, as Go's does.
"""

from __future__ import annotations

import argparse

from goroutines import WaitGroup, defer, defers, go, sleep

NUM_WORKER = 3


@defers
def worker(number: int, wg: WaitGroup, rounds: int, seconds: float) -> None:
    defer(wg.done)
    for round_ in range(rounds):
        print(f"worker {number}: round {round_}")
        sleep(seconds)
    print(f"worker {number}: exit")


def main() -> None:
    parser = argparse.ArgumentParser(description="Three workers and a WaitGroup.")
    parser.add_argument("--fixed", action="store_true", help="add 1 for each worker")
    parser.add_argument("--sleep", type=float, default=1.0, metavar="SECONDS")
    parser.add_argument("--rounds", type=int, default=10, metavar="N")
    options = parser.parse_args()

    wgs = [WaitGroup()] * NUM_WORKER  # three references to one WaitGroup
    for number, wg in enumerate(wgs):
        wg.add(1 if options.fixed else NUM_WORKER - number)
        go(worker, number, wg, options.rounds, options.sleep)
    wgs[0].wait()
    print("All workers exit.")


if __name__ == "__main__":
    main()
