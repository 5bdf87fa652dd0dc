"""Preemption switched on and off, and what the watchdog says of a goroutine in a C call."""

from __future__ import annotations

import sys

from goroutines import _panic, _runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any

    from goroutines._runtime import Goroutine

    Report = Callable[[Goroutine, float, str], object]

_named: set[int] = set()  # by id, which is given once
_MANY = 10_000


def _print(goroutine: Goroutine, seconds: float, stack: str) -> None:
    if sys.stderr is None:
        return
    sys.stderr.write(
        f"goroutines: goroutine {goroutine.id} has kept its thread for {seconds:.2f} s in one "
        f"call that is not Python's: the thread's other goroutines waited\n{stack}"
        "Hand such calls to goroutines.blocking(fn, ...); runtime.set_watchdog(None) ends "
        "these reports.\n"
    )
    sys.stderr.flush()


def _hook(report: Report) -> Callable[[Goroutine, float, list[tuple[CodeType, int]]], None]:
    """Make what the core calls of what a user gave: once for each goroutine."""

    def tell(goroutine: Goroutine, seconds: float, frames: list[tuple[CodeType, int]]) -> None:
        if goroutine.id in _named:
            return
        if len(_named) >= _MANY:
            _named.clear()
        _named.add(goroutine.id)
        report(goroutine, seconds, _panic.describe(goroutine, frames))

    return tell


def set_watchdog(seconds: float | None, report: Report | None) -> float | None:
    """Set both; a report of None prints it.  Return the seconds that were set before."""
    return _runtime._set_watchdog(seconds, _hook(report if report is not None else _print))


def preemption_signal() -> int:
    """The signal that 3.11 has in place of pending calls; only the runtime trips it."""
    import signal

    # The last but one, or what Go takes for this.
    return signal.SIGRTMAX - 1 if hasattr(signal, "SIGRTMAX") else signal.SIGURG


def set_preemption(on: bool) -> bool:
    """Switch preemption on or off; return what it was."""
    signum = 0
    if sys.version_info < (3, 12):
        import importlib

        _signal: Any = importlib.import_module("_signal")  # signal itself may be patched
        signum = preemption_signal()
        if on:
            _signal.signal(signum, _runtime._poked)
    return _runtime._set_preemption(on, signum)


set_watchdog(0.1, None)
