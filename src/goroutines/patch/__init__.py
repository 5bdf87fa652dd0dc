"""The standard library made cooperative, in place.

After `patch` plain blocking code parks its goroutine instead of its thread: sockets, TLS,
``select``, pipes, child processes, ``time.sleep``, locks, queues; a ``threading.Thread`` is a
goroutine. Libraries that know nothing of this run unchanged.

Few leaf points are replaced; what stands above them (``http``, ``queue``, ``logging``,
``concurrent.futures``, ``asyncio``, ...) is the standard library's own:

- ``_time``       ``time.sleep``
- ``_socket``     methods put into ``socket.socket``; ``_dns``: looking up names
- ``_ssl``        methods put into ``ssl.SSLSocket``
- ``_select``     ``select``, ``poll``, ``epoll``, the selectors
- ``_os``         pipes, terminals, waiting for children
- ``_subprocess`` waiting for a child, and its pipes
- ``_threading``  threads, locks, thread locals, asyncio's running loop
- ``_queue``      ``SimpleQueue``
- ``_signal``     waiting for signals
- ``_multiprocessing`` semaphores that processes share
- ``_libraries``  libraries that chose how to wait when they were imported
- ``_registry``   what was replaced, and where else it was found
"""

from __future__ import annotations

import importlib
import sys
import warnings
from dataclasses import dataclass

from goroutines.patch import _registry
from goroutines.patch._registry import original

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goroutines.patch._registry import Escape

__all__ = ["Escape", "EscapeWarning", "is_patched", "original", "patch", "report"]


class EscapeWarning(RuntimeWarning):
    """Something that patch() could not reach would block its whole thread."""


@dataclass(frozen=True)
class _Part:
    """A switch of `patch`."""

    modules: tuple[str, ...]  # of the standard library, that are cooperative through it
    needs: tuple[str, ...] = ()


# In the order in which they are installed: what is above uses what is below.
_PARTS = {
    "time": _Part(("time",)),
    "select": _Part(("select", "selectors")),
    "socket": _Part(("socket", "_socket", "socketserver", "http", "urllib"), ("select",)),
    "dns": _Part((), ("socket",)),
    "ssl": _Part(("ssl",), ("socket",)),
    "os": _Part(("os", "posix"), ("select",)),
    "threading": _Part(("threading", "_thread", "concurrent.futures", "logging")),
    "queue": _Part(("queue",), ("threading",)),
    "subprocess": _Part(("subprocess",), ("os",)),
    "signal": _Part(("signal",)),
    "multiprocessing": _Part(("multiprocessing",), ("os", "threading")),
}  # fmt: skip

_installed: set[str] = set()


def _wanted(switches: dict[str, bool]) -> list[str]:
    unknown = [name for name in switches if name not in _PARTS]
    if unknown:
        raise TypeError(
            f"patch() got an unexpected switch {unknown[0]!r}: there are {', '.join(_PARTS)}"
        )
    off = {name for name, on in switches.items() if not on}
    for name, part in _PARTS.items():  # in an order in which each need comes first
        missing = [need for need in part.needs if need in off and need not in _installed]
        if missing and switches.get(name):
            raise ValueError(f"patch({name}=True) needs {missing[0]}, which is switched off")
        if missing:
            off.add(name)
    return [name for name in _PARTS if name not in off and name not in _installed]


def patch(**switches: bool) -> None:
    """Make the standard library cooperative, at best in the first lines of a program.

    Works as well after other imports as before them: functions imported by name are
    exchanged where they are found, locks and queues that exist already park too, threads
    that run already remain threads. Calling it again adds what was left out.

    Args:
        switches: Parts to leave alone (``threading=False``): ``time``, ``select``,
            ``socket``, ``dns``, ``ssl``, ``os``, ``threading``, ``queue``, ``subprocess``,
            ``signal``, ``multiprocessing``. A part without which another cannot work takes
            that one with it: without ``socket`` there is no ``ssl``.

    Raises:
        TypeError: There is no such switch.
        ValueError: One part is asked for and another, that it needs, is switched off.
        RuntimeError: This CPython's objects are not laid out as the core expects.

    Warns:
        EscapeWarning: For what `report` tells that would block a thread.
    """
    wanted = _wanted(switches)
    for name in wanted:
        importlib.import_module(f"goroutines.patch._{name}").install()
        _installed.add(name)
    if not wanted:
        return
    _registry.sweep()
    libraries = importlib.import_module("goroutines.patch._libraries")
    for escape in libraries.install():
        warnings.warn(str(escape), EscapeWarning, stacklevel=2)


def is_patched(name: str) -> bool:
    """Tell whether a module, or a name in one, is cooperative.

    Args:
        name: As it is imported: ``"socket"``, ``"concurrent.futures"``, ``"time.sleep"``,
            ``"threading.Thread"``; or a switch of `patch`.
    """
    if name in _installed or _registry.is_replaced(name):
        return True
    module, _, attribute = name.rpartition(".")
    modules = {m for part in _installed for m in _PARTS[part].modules}
    if name in modules or any(name.startswith(m + ".") and m != module for m in modules):
        return True  # "http.client": it stands on a module that is
    # Classes are what waits, besides the functions that were replaced.
    return module in modules and isinstance(getattr(sys.modules.get(module), attribute, None), type)


def report() -> list[Escape]:
    """Return what `patch` could not reach, empty if that is nothing.

    Names of replaced functions that something still holds (a tuple, a ``partial``), threads
    that ran before, libraries that wait in C. Looks through all objects: a tool, not for hot
    code.
    """
    if not _installed:
        return []
    libraries = importlib.import_module("goroutines.patch._libraries")
    return [*libraries.escapes(), *_registry.left_behind()]


def __getattr__(name: str) -> object:
    if name == "Escape":
        return _registry.Escape
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
