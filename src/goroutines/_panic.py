"""Uncaught exceptions, deadlock reports and the stack dump: the policy, and Go's layout.

The core calls `uncaught` at the end of a goroutine that an exception left, and `deadlock`
when every goroutine is asleep.
"""

from __future__ import annotations

import itertools
import sys

from goroutines import _runtime
from goroutines.errors import Deadlock, Panic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, TracebackType
    from typing import Any

    from goroutines._runtime import Goroutine

    PanicHook = Callable[[Goroutine, BaseException], object]

STATUS = 2
"""The exit status of a program that a panic or a deadlock ends, as in Go."""

_hook: PanicHook | None = None


def set_panic_hook(fn: PanicHook | None) -> PanicHook | None:
    """Call ``fn(goroutine, exc)`` for a goroutine's uncaught exception instead of printing it.

    What the hook returns true for is over and done with; else main gets ``Panic`` as it
    would without a hook.  A hook that raises has both exceptions printed.

    Args:
        fn: The hook, or None to print again.

    Returns:
        The old hook, or None.

    Raises:
        TypeError: fn is neither callable nor None.
    """
    global _hook
    if fn is not None and not callable(fn):
        raise TypeError(f"set_panic_hook: expected a callable or None, not {type(fn).__name__}")
    old, _hook = _hook, fn
    return old


def uncaught(goroutine: Goroutine, exc: BaseException) -> BaseException | None:
    """Deal with an exception that left a goroutine; return what main shall raise, if anything."""
    if isinstance(exc, (KeyboardInterrupt, SystemExit)):
        return exc
    if isinstance(exc, (Panic, Deadlock)):  # meant for main, and printed already
        return exc
    if _hook is not None:
        try:
            if _hook(goroutine, exc):
                return None
        except BaseException as hook_error:
            _print(
                f"panic hook {_hook!r} raised:\n{_traceback(hook_error)}{_report(goroutine, exc)}"
            )
    else:
        _print(_report(goroutine, exc))
    panic = Panic(_heading(exc), goroutine)
    panic.__cause__ = exc
    return panic


def _heading(exc: BaseException) -> str:
    kind = type(exc)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    if kind is RecursionError:
        return f"{name}: stack overflow"
    try:
        text = str(exc)
    except Exception:
        text = "<exception str() failed>"
    return f"{name}: {text}" if text else name


def _traceback(exc: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(exc))


def _report(goroutine: Goroutine, exc: BaseException) -> str:
    lines = [f"panic: {_heading(exc)}\n\ngoroutine {goroutine.id} [running]:\n"]
    lines.append(_traceback(exc))
    lines.append(_birth(goroutine))
    return "".join(lines)


def _birth(goroutine: Goroutine) -> str:
    if goroutine._parent is None:
        return ""
    function, parent = goroutine._parent
    return f"created by {function} in goroutine {parent}\n\t{goroutine.created_by}\n"


def _print(text: str) -> None:
    stream = sys.stderr
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except Exception:  # a broken stderr must not hide the panic from main
        return


_OUR_FILES = (__file__, __file__.replace("_panic", "runtime"))


def _is_ours(frame: tuple[CodeType, int]) -> bool:
    """Tell the frames that do the dumping from those that are dumped."""
    return frame[0].co_filename in _OUR_FILES


_FRAMES_MOST = 100  # of a stack in a dump, half of them from each end, as in Go


def describe(goroutine: Goroutine, frames: list[tuple[CodeType, int]] | None = None) -> str:
    """Format one goroutine of a dump: number, state, stack, birth; in Go's layout."""
    lines = [f"goroutine {goroutine.id} [{goroutine.wait_reason or goroutine.state}]:\n"]
    frames = goroutine._frames() if frames is None else frames
    frames = list(itertools.dropwhile(_is_ours, frames))
    elided = range(_FRAMES_MOST // 2, len(frames) - _FRAMES_MOST // 2)
    for i, (code, line) in enumerate(frames):
        if i not in elided:
            lines.append(f"{code.co_qualname}(...)\n\t{code.co_filename}:{line}\n")
        elif i == elided[0]:
            lines.append(f"...{len(elided)} frames elided...\n")
    lines.append(_birth(goroutine))
    return "".join(lines)


def dump() -> str:
    """Return the stacks of all goroutines: the running one first, then by number."""
    running = _runtime.current()
    others = sorted((g for g in _runtime.goroutines() if g is not running), key=lambda g: g.id)
    return "\n".join(describe(g) for g in [running, *others])


def _user_handles_signals() -> bool:
    """Whether a signal handler that is not Python's own could wake a goroutine."""
    import signal

    own = (signal.default_int_handler, dump_on_signal, _runtime._poked)
    for number in range(1, signal.NSIG):
        handler = signal.getsignal(number)
        if callable(handler) and handler not in own:
            return True
    return False


def deadlock() -> Deadlock | None:
    """Build the error for a program that is all asleep; None: a signal handler may wake it."""
    if _user_handles_signals():
        return None
    everyone = sorted(_runtime.goroutines(), key=lambda g: g.id)
    if any(g.wait_reason == "goexit" for g in everyone):
        heading = "no goroutines (main called goexit) - deadlock!"
    else:
        heading = "all goroutines are asleep - deadlock!"
    return Deadlock("\n\n".join([heading, *map(describe, everyone)]))


def dump_on_signal(signum: int = 0, frame: object = None) -> None:
    """Print every goroutine's stack to stderr: a handler for SIGQUIT."""
    _print(dump() + "\n")


def _excepthook(kind: type[BaseException], exc: BaseException, tb: TracebackType | None) -> Any:
    """Print nothing more for an uncaught Panic, the report for Deadlock; exit with status 2."""
    if isinstance(exc, Deadlock):
        _print(f"fatal error: {exc}\n")
    elif not isinstance(exc, Panic):
        return _previous_excepthook(kind, exc, tb)
    raise SystemExit(STATUS)


_previous_excepthook = sys.excepthook


def install() -> None:
    """Give the core its hooks, and the interpreter the exit status of a panic."""
    _runtime._set_hooks(uncaught, deadlock)
    sys.excepthook = _excepthook
