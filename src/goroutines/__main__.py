"""The command line: ``goroutines run`` (``python -m goroutines`` is the same)."""

from __future__ import annotations

import argparse
import os
import runpy
import signal
import sys
import types

from goroutines import _panic, _runtime, patch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="goroutines", description="Go's concurrency for Python.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        allow_abbrev=False,
        usage="goroutines run [--schedtrace MS] [--no-patch] SCRIPT|-m MODULE [ARGS...]",
        help="run a script or a module as the main goroutine",
        description="Make the standard library cooperative (goroutines.patch), then run a "
        "script or a module as the main goroutine.  SIGQUIT (Ctrl-\\) prints "
        "the stack of every goroutine.  The exit status is the script's own, 2 for a panic or "
        "a deadlock.",
    )
    run.add_argument(
        "--no-patch",
        action="store_true",
        help="leave the standard library as it is",
    )
    run.add_argument(
        "--schedtrace",
        type=int,
        metavar="MS",
        help="print a line about the scheduler on stderr each MS milliseconds",
    )
    run.add_argument("-m", dest="module", metavar="MODULE", help="run a module, as python -m does")
    run.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _split(argv: list[str]) -> list[str]:
    """Put ``--`` behind ``-m MODULE``, so that the module's own options are left to it."""
    if "-m" in argv[:5]:
        end = argv.index("-m") + 2
        return [*argv[:end], "--", *argv[end:]]
    return argv


def _run_script(path: str, args: list[str]) -> None:
    """Run a file (or a folder or zip file with a ``__main__``) as ``__main__``."""
    sys.argv = [path, *args]
    if os.path.isdir(path) or path.endswith((".zip", ".pyz")):
        runpy.run_path(path, run_name="__main__")
        return
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec")
    main = types.ModuleType("__main__")
    main.__file__ = path
    main.__builtins__ = __builtins__  # type: ignore[attr-defined]
    sys.modules["__main__"] = main
    sys.path[0] = os.path.dirname(os.path.abspath(path))
    exec(code, main.__dict__)


def _run_module(name: str, args: list[str]) -> None:
    """Run a module as ``__main__``, with the current folder first on the path."""
    sys.argv = [name, *args]
    sys.path[0] = os.getcwd()
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; returns when the script has ended, else exits with its status.

    Args:
        argv: The arguments without the program's name; None: ``sys.argv``'s.
    """
    parser = _parser()
    options = parser.parse_args(_split(list(sys.argv[1:] if argv is None else argv)))
    rest: list[str] = options.rest
    if options.module is None and not rest:
        parser.error("run: a SCRIPT or -m MODULE is needed")
    if hasattr(signal, "SIGQUIT"):
        signal.signal(signal.SIGQUIT, _panic.dump_on_signal)
    if options.schedtrace is not None:
        if options.schedtrace < 1:
            parser.error(f"run: --schedtrace: {options.schedtrace} ms is not above 0")
        _runtime._set_schedtrace(options.schedtrace)
    if not options.no_patch:
        patch.patch()
    if options.module is not None:
        _run_module(options.module, rest[1:] if rest[:1] == ["--"] else rest)
        return
    if not os.path.exists(rest[0]):
        parser.exit(2, f"goroutines: can't open {rest[0]!r}: no such file or folder\n")
    _run_script(rest[0], rest[1:])


if __name__ == "__main__":
    main()
