"""Libraries that chose how they wait when they were imported, and those that wait in C."""

from __future__ import annotations

import gc
import select
import selectors
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import BuiltinMethodType
from typing import Any

from goroutines.patch import _registry
from goroutines.patch._registry import Escape

# Extension modules that block the thread which calls them.
_BLOCKING = {
    "psycopg2._psycopg": "goroutines wait for each other in its queries; psycopg 3 and pg8000 park",
    "MySQLdb._mysql": "goroutines wait for each other in its queries; PyMySQL parks",
    "pymssql._pymssql": "goroutines wait for each other in its queries: use blocking()",
    "grpc._cython.cygrpc": "its calls block the thread: use blocking()",
    "pycurl": "its transfers block the thread: use blocking(), or requests, which parks",
    "zmq.backend.cython._zmq": "its sockets block the thread: use blocking()",
    "uvloop.loop": "its loops block the thread while they run; asyncio's own park",
    "gevent._gevent_cgreenlet": "gevent's hub and goroutines do not know each other",
    "eventlet.hubs": "eventlet's hub and goroutines do not know each other",
}


def _psycopg() -> None:
    """Psycopg 3 takes a C function that polls unless select is patched when it is imported."""
    waiting: Any = sys.modules.get("psycopg.waiting")
    native = getattr(sys.modules.get("psycopg._cmodule"), "_psycopg", None)
    if waiting is None or native is None or waiting.wait is not native.wait_c:
        return
    _registry.replace(waiting, "wait", waiting.wait_selector)
    _registry.sweep()  # who imported it by name


def _psycopg2() -> None:
    """psycopg2 waits by a function of ours, if the program has not given it one."""
    extensions: Any = sys.modules.get("psycopg2.extensions")
    if extensions is None or extensions.get_wait_callback() is not None:
        return
    import select

    def wait(connection: Any, *_: Any) -> None:
        while (state := connection.poll()) != extensions.POLL_OK:
            files = [connection.fileno()]
            if state == extensions.POLL_READ:
                select.select(files, [], [])
            elif state == extensions.POLL_WRITE:
                select.select([], files, [])
            else:
                raise connection.OperationalError(f"psycopg2: poll() returned {state}")

    extensions.set_wait_callback(wait)


def escapes() -> list[Escape]:
    """Return the libraries and threads that are out of reach."""
    found = [
        Escape(name.partition(".")[0], "imported", why)
        for name, why in _BLOCKING.items()
        if name in sys.modules and not (name.startswith("psycopg2") and _psycopg2_waits())
    ]
    found += _pollers()
    found += _bound_methods()
    threads = _native_threads()
    found += [
        Escape(thread.name, "a thread from before patch()", "it remains a real thread")
        for thread in threads
    ]
    return found


def _pollers() -> list[Escape]:
    """Find poll and epoll objects from before, but for those of selectors, which ask at once."""
    kinds: dict[type, str] = {}
    for name in ("poll", "epoll"):
        make: Any = getattr(select, name, None) and _registry.original(select, name)
        if make is not None:
            kinds[make if isinstance(make, type) else type(make())] = f"select.{name}"
    return [
        Escape(kinds[type(thing)], f"a {type(holder).__name__}", "made before patch(): it blocks")
        for holder in gc.get_objects()
        if not _keeps_pollers(holder)
        for thing in gc.get_referents(holder)
        if type(thing) in kinds
    ]


_WAITING = ("accept", "connect", "connect_ex", "recv", "recv_into", "recvfrom", "recvfrom_into",
            "recvmsg", "recvmsg_into", "send", "sendall", "sendmsg", "sendto")  # fmt: skip


def _bound_methods() -> list[Escape]:
    """Find methods of sockets that were bound before: they are those of C."""
    if not _registry.is_replaced("socket.socket.recv"):
        return []
    return [
        Escape(f"socket.{thing.__name__}", "a bound method", "taken before patch(): it blocks")
        for thing in gc.get_objects()
        if type(thing) is BuiltinMethodType
        and thing.__name__ in _WAITING
        and issubclass(type(thing.__self__), socket.socket)
    ]


def _keeps_pollers(holder: Any) -> bool:
    if type(holder) is dict:
        return "_selector" in holder or "_epoll" in holder
    kind = _registry.kind_of(holder)
    return kind.__module__ == "select" or issubclass(kind, selectors.BaseSelector)


def _psycopg2_waits() -> bool:
    extensions: Any = sys.modules.get("psycopg2.extensions")
    return extensions is not None and extensions.get_wait_callback() is not None


def _native_threads() -> list[threading.Thread]:
    from goroutines.patch import _threading

    return [thread for thread in _threading.native_threads if thread.is_alive()]


# What is repaired when a module has been imported.
_REPAIRS: dict[str, Callable[[], None]] = {
    "psycopg.waiting": _psycopg,
    "psycopg2.extensions": _psycopg2,
}


class _Finder:
    """Finds nothing itself, but has what the others find repaired when it was imported."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> Any:
        repair = _REPAIRS.get(name)
        if repair is None:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                _repair_after(spec, repair)
                return spec
        return None


def _repair_after(spec: ModuleSpec, repair: Callable[[], None]) -> None:
    loader: Any = spec.loader
    execute = loader.exec_module

    def exec_module(module: Any) -> None:
        execute(module)
        repair()

    loader.exec_module = exec_module


def install() -> list[Escape]:
    """Repair what can be repaired, now or when it comes; return what would block a thread."""
    for repair in _REPAIRS.values():
        repair()
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    return [escape for escape in escapes() if escape.where == "imported"]
