"""What these tests share: the element types with their limits, and programs that must survive."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from typing import Any

import pytest

from goroutines import memory
from goroutines.memory import make

from ...conftest import PROGRAM_TIMEOUT, Finished, run_program

# name: (bytes, format of a buffer, least, greatest)
INTS: dict[str, tuple[int, str, int, int]] = {
    "int8": (1, "b", -(2**7), 2**7 - 1),
    "int16": (2, "hs", -(2**15), 2**15 - 1),
    "int32": (4, "il", -(2**31), 2**31 - 1),
    "int64": (8, "lq", -(2**63), 2**63 - 1),
    "uint8": (1, "B", 0, 2**8 - 1),
    "uint16": (2, "H", 0, 2**16 - 1),
    "uint32": (4, "IL", 0, 2**32 - 1),
    "uint64": (8, "LQ", 0, 2**64 - 1),
    "byte": (1, "B", 0, 2**8 - 1),
}
FLOATS: dict[str, tuple[int, str]] = {"float32": (4, "f"), "float64": (8, "d")}
SIZES: dict[str, int] = {
    **{name: facts[0] for name, facts in INTS.items()},
    **{name: facts[0] for name, facts in FLOATS.items()},
}
# name: (zero value, three others)
VALUES: dict[str, tuple[Any, list[Any]]] = {
    **{name: (0, [1, 2, facts[3]]) for name, facts in INTS.items()},
    **{name: (0.0, [1.5, -2.0, 0.25]) for name in FLOATS},
    "bool_": (False, [True, False, True]),
    "string": ("", ["a", "\N{GRINNING FACE} \0", "long" * 1000]),
    "object": (None, [(1,), "x", print]),
}

# AddressSanitizer reserves terabytes of address space and keeps freed memory for a while.
real_memory = pytest.mark.skipif(
    bool(os.environ.get("GOROUTINES_SANITIZE")), reason="a sanitizer's memory is its own"
)
every_type = pytest.mark.parametrize("name", VALUES)
every_int = pytest.mark.parametrize("name", INTS)
every_number = pytest.mark.parametrize("name", SIZES)


def typed(name: str) -> Any:
    """Return the element type called `name`; `object` is Python's own."""
    return object if name == "object" else getattr(memory, name)


def numbers(count: int, cap: int | None = None) -> Any:
    """Return a slice of int64 with the elements 0 ... count - 1."""
    s = make(memory.Slice[memory.int64], count, cap)
    for i in range(count):
        s[i] = i
    return s


def survives(
    source: str,
    *,
    names: str = "",
    env: Mapping[str, str] | None = None,
    timeout: float = PROGRAM_TIMEOUT,
) -> Finished:
    """Run a program that must end with status 0; fails with all that it wrote otherwise.

    It finds everything of goroutines.memory in its namespace; `names` are lines in front.
    """
    parts = ["from goroutines.memory import *", "from goroutines import memory, runtime"]
    program = "\n".join([*parts, textwrap.dedent(names), textwrap.dedent(source)])
    done = run_program(program, env=env, timeout=timeout)
    if done.returncode:
        pytest.fail(
            f"exit status {done.returncode}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}",
            pytrace=False,
        )
    return done


def outcome_is_type_error(fn: Any, *args: Any) -> bool:
    """Whether a call that the contract leaves open is refused with a TypeError."""
    try:
        fn(*args)
    except TypeError:
        return True
    return False
