"""Work for one core, in pieces that have nothing to do with each other.

Each piece is a function of its number and returns a number, so that the sum shows whether
all were done. What it works on is made by the piece itself or never changes: on a
free-threaded build threads that count one object's references hold each other up, and so do
those that use one dictionary, as json.loads does with its decoder's.
"""

import json
import re
from collections.abc import Callable

WIDTH = 256
"""Points in a row of the picture."""
ROWS = 200
DEPTH = 60
"""How many steps a point is followed at most."""
CHECKED = 20
"""How many pieces are computed beforehand, to check those of all the threads."""
FIB = 20
RECORDS = 400

DOCUMENT = json.dumps(
    [
        {"id": i, "name": f"name {i}", "tags": [f"t{i % 7}", "x" * (i % 50)], "score": i / 7}
        for i in range(RECORDS)
    ]
)
TEXT = " ".join(f"word{i % 97} {i}.{i % 10} mail{i}@host{i % 13}.example" for i in range(1500))
PATTERN = re.compile(r"\b\w+@\w+\.\w+\b|\b\d+\.\d+\b")


def mandelbrot(piece: int) -> int:
    """Compute a row of the picture; the steps that its points took."""
    y = (piece % ROWS) / ROWS * 2 - 1
    total = 0
    for column in range(WIDTH):
        x = column / WIDTH * 3 - 2
        a = b = 0.0
        steps = 0
        while steps < DEPTH and a * a + b * b <= 4:
            a, b = a * a - b * b + x, 2 * a * b + y
            steps += 1
        total += steps
    return total


def fib(piece: int) -> int:
    """The naive recursion."""
    return naive_fib(FIB)


def naive_fib(n: int) -> int:
    return n if n < 2 else naive_fib(n - 1) + naive_fib(n - 2)


def parse(piece: int) -> int:
    """Read a JSON text; the records in it."""
    return len(json.JSONDecoder().decode(DOCUMENT))


def match(piece: int) -> int:
    """Look for addresses and numbers in a text; how many there are."""
    return len(PATTERN.findall(TEXT))


WORK: dict[str, Callable[[int], int]] = {
    "cpu-mandelbrot": mandelbrot,
    "cpu-fib": fib,
    "cpu-json": parse,
    "cpu-regex": match,
}
