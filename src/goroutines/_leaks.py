"""Goroutines that nothing can wake: what is told of them, and a part of how they are found.

The C core (leak.c) searches for them. It calls `found` for each before it is ended, and on
CPython up to 3.13 `measure`, to learn how much of a frame's evaluation stack is in use.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections import deque
from typing import Any, NamedTuple

from goroutines import _defer, _panic, _runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from types import CodeType

    from goroutines._runtime import Goroutine

KEPT = 1000
"""How many are kept for `runtime.find_leaks`."""
_HERE = os.path.join(os.path.dirname(__file__), "")


class Leak(NamedTuple):
    """A goroutine that waited for what nobody could reach."""

    goroutine: Goroutine
    """The goroutine; it has been ended since, or is about to."""
    wait_reason: str
    """What it waited for, in Go's words: ``"chan receive"``."""
    created_by: str | None
    """``"file:line"`` of the `go()` that started it."""
    parked_at: str | None
    """``"file:line"`` where it waited; None: in no Python code, as ``go(ch.recv)``."""
    stack: str
    """Its stack at that place, in the layout of Go's dump."""

    def __str__(self) -> str:
        where = f" at {self.parked_at}" if self.parked_at is not None else ""
        return (
            f"{self.goroutine.name} [{self.wait_reason}{where}], created by {self.created_by}: "
            "nothing can wake it"
        )


def parked_at(goroutine: Goroutine) -> str | None:
    """Return "file:line" of the innermost frame that is not this package's."""
    frames = [(code.co_filename, line) for code, line in goroutine._frames()]
    for path, line in [f for f in frames if not f[0].startswith(_HERE)] or frames:
        return f"{path}:{line}"
    return None


_found: deque[Leak] = deque(maxlen=KEPT)
_watchers: list[list[Leak]] = []


@contextlib.contextmanager
def watch() -> Generator[list[Leak]]:
    """Give a list to which those are added that are found in the block, whoever takes them.

    Not those of a `run()` that is under way, or of a plain thread: these end all of theirs.
    """
    leaks: list[Leak] = []
    _watchers.append(leaks)
    try:
        yield leaks
    finally:
        _watchers[:] = [watcher for watcher in _watchers if watcher is not leaks]


def found(goroutine: Goroutine, would_end: bool) -> None:
    """Note a leaked goroutine, which still waits; would_end: its `run()` or thread ends it too."""
    leak = Leak(
        goroutine,
        goroutine.wait_reason or "",
        goroutine.created_by,
        parked_at(goroutine),
        _panic.describe(goroutine),
    )
    _found.append(leak)
    for watcher in list(_watchers) if not would_end else ():
        watcher.append(leak)


def take() -> list[Leak]:
    """Return and forget those that were found, by the age of the goroutines."""
    leaks: list[Leak] = []
    with contextlib.suppress(IndexError):  # empty, or another thread was faster
        while True:
            leaks.append(_found.popleft())
    return sorted(leaks, key=lambda leak: leak.goroutine.id)


# --- how much of a frame's stack is in use ----------------------------------------------------

# Instructions that call C code and keep what they work on where it was meanwhile.
_KEEPING = {"CALL", "CALL_KW", "PRECALL", "FOR_ITER", "LIST_EXTEND"}

_ARGS_TUPLE = -1
"""The instruction has a reference to the tuple of the arguments."""


def _handlers(code: CodeType) -> Iterator[tuple[int, int]]:
    """Where exceptions go to, and the depth of the stack there."""
    import dis

    parse: Callable[[CodeType], list[Any]] = vars(dis)["_parse_exception_table"]
    for entry in parse(code):
        # The place of the instruction that raised, if wanted, and the exception are pushed.
        yield entry.target, entry.depth + entry.lasti + 1


def depths(code: CodeType) -> dict[int, int]:
    """Return how deep the evaluation stack is before each instruction, by its offset.

    Code that cannot be reached is left out. An empty answer: this is not understood.
    """
    import dis  # takes a while, and is needed by who leaks only

    instructions = list(dis.get_instructions(code))
    after = {a.offset: b.offset for a, b in itertools.pairwise(instructions)}
    at = {i.offset: i for i in instructions}
    jumps = {*dis.hasjrel, *dis.hasjabs}
    depth: dict[int, int] = {}
    todo = [(0, 0), *_handlers(code)]
    while todo:
        offset, now = todo.pop()
        if offset in depth:
            if depth[offset] != now:
                return {}
            continue
        depth[offset] = now
        i = at[offset]
        if i.opcode in jumps:
            effect = dis.stack_effect(i.opcode, i.arg, jump=True)
            todo.append((i.argval, now + effect))
        if i.opname in _ENDING:
            continue
        effect = dis.stack_effect(i.opcode, i.arg, jump=False)
        if i.opname == "RETURN_GENERATOR":
            now, effect = 1, 0  # it is resumed with a value
        if offset in after:
            todo.append((after[offset], now + effect))
    return depth if all(0 <= d <= code.co_stacksize for d in depth.values()) else {}


_ENDING = {
    "JUMP_BACKWARD",
    "JUMP_BACKWARD_NO_INTERRUPT",
    "JUMP_FORWARD",
    "RAISE_VARARGS",
    "RERAISE",
    "RETURN_CONST",
    "RETURN_VALUE",
}


def measure(code: CodeType, lasti: int) -> tuple[int, int]:
    """Say what the instruction at `lasti` owns while it calls C code.

    Returns:
        How many slots of the evaluation stack, -1 if that is not known; and how many
        references to the object of the call it has elsewhere, or _ARGS_TUPLE.
    """
    import dis

    depth = depths(code)
    previous = None
    for i in dis.get_instructions(code):
        if i.offset == lasti:
            break
        previous = i
    else:
        return -1, 0
    if lasti not in depth:
        return -1, 0
    slots = depth[lasti]
    if i.opname == "CALL" and previous is not None and previous.opname == "PRECALL":
        slots = depth[previous.offset]  # 3.11: the two are one call
    if i.opname in _KEEPING:
        return slots, 0
    if i.opname == "CALL_FUNCTION_EX" and i.arg is not None:
        # It may have made another tuple of what was there.
        return (slots - 2, 0) if i.arg & 1 else (slots - 1, _ARGS_TUPLE)
    if i.opname == "BEFORE_WITH":  # calls __enter__, and has __exit__ ready
        return (slots, 1) if sys.version_info < (3, 12) else (slots - 1, 2)
    return -1, 0


_runtime._set_leak_hooks(found, measure, _defer._active)
