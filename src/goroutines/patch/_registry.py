"""What was replaced, by what, and where else it was found.

A leaf is replaced in the module or class that owns it. By then others may hold it under
names of their own (``from time import sleep``, a class attribute, a function's default), so
modules, classes and functions are looked through too, and given the new one.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, cast

from goroutines._runtime import blocking

# Who must keep the untouched functions: the runtime itself, and debuggers, whose helper
# threads have to stay real threads.
KEEP = ("goroutines", "pydevd", "_pydevd", "debugpy", "_pydev", "_frozen_importlib")

_MISSING: Any = object()

_originals: dict[tuple[str, str], Any] = {}
_new_of: dict[int, tuple[Any, Any]] = {}  # by the id of what a module had: that, the new one


@dataclass(frozen=True)
class Escape:
    """Something that patch() did not reach."""

    what: str
    """What it is: ``"time.sleep"``, ``"psycopg2"``."""
    where: str
    """Who has it."""
    why: str
    """What that means, and what to do."""

    def __str__(self) -> str:
        return f"{self.what} ({self.where}): {self.why}"


def _owner_name(owner: Any) -> str:
    if isinstance(owner, ModuleType):
        return owner.__name__
    return f"{owner.__module__}.{owner.__qualname__}"


def replace(owner: Any, name: str, new: Any) -> None:
    """Put `new` under `name` into a module or class."""
    key = (_owner_name(owner), name)
    old = owner.__dict__.get(name, _MISSING)
    if key not in _originals:
        _originals[key] = old if old is not _MISSING else getattr(owner, name, _MISSING)
    _dress(new, old, owner)
    setattr(owner, name, new)
    if isinstance(owner, ModuleType) and old is not _MISSING and not isinstance(old, ModuleType):
        _new_of[id(old)] = (old, new)


def _dress(new: Any, old: Any, owner: Any) -> None:
    """Give a function the names and the text of the one that it replaces."""
    if isinstance(new, FunctionType) and callable(old):
        for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
            setattr(new, attribute, getattr(old, attribute, None))
        if isinstance(owner, ModuleType):
            new.__module__ = owner.__name__
    elif isinstance(new, BuiltinFunctionType):
        new.__module__ = old.__module__


def original(module: str | ModuleType, name: str) -> Any:
    """Return the untouched ``module.name``, replaced or not.

    Args:
        module: A module or its name; it is imported if need be.
        name: The name in it; with a dot for a class' own, as ``"socket.recv"``.

    Raises:
        ImportError: There is no such module.
        AttributeError: It has no such name.
    """
    if isinstance(module, str):
        __import__(module)
        module = sys.modules[module]
    owner, _, attribute = name.rpartition(".")
    key = (f"{module.__name__}.{owner}" if owner else module.__name__, attribute)
    found = _originals.get(key, _MISSING)
    if found is not _MISSING:
        return found
    holder: Any = module
    for part in name.split("."):
        holder = getattr(holder, part)
    return holder


def is_replaced(name: str) -> bool:
    """Tell whether ``module.name`` was replaced."""
    module, _, attribute = name.rpartition(".")
    return (module, attribute) in _originals


def in_thread(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that makes the call on a thread of `goroutines.blocking`."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return blocking(original, *args, **kwargs)

    return call


# ---- who holds the old ones ----------------------------------------------------------------


def _keeps(module: object) -> bool:
    return isinstance(module, str) and module.startswith(KEEP)


def _new(value: object) -> Any:
    found = _new_of.get(id(value))
    return found[1] if found is not None and found[0] is value else _MISSING


def _sweep_names(owner: Any) -> None:
    names = cast("dict[str, Any]", vars(owner))
    for name, value in list(names.items()):
        new = _new(value)
        if new is not _MISSING:
            if isinstance(owner, type) and type(new) is FunctionType:
                new = staticmethod(new)  # what it replaces does not bind to an instance
            with contextlib.suppress(AttributeError, TypeError):  # an immutable class
                setattr(owner, name, new)


def _sweep_defaults(function: FunctionType) -> None:
    values = function.__defaults__
    if values and any(id(value) in _new_of for value in values):
        exchanged = [(value, _new(value)) for value in values]
        function.__defaults__ = tuple(old if n is _MISSING else n for old, n in exchanged)
    named: dict[str, Any] = function.__kwdefaults__ or {}
    for name, value in list(named.items()):
        if _new(value) is not _MISSING:
            named[name] = _new(value)


def kind_of(thing: object) -> Any:
    """Return the class of an object; isinstance asks for its __class__, and proxies answer."""
    return type(thing)


def sweep() -> None:
    """Give the new functions to all that had the old ones by name before."""
    found: Any
    for found in gc.get_objects():
        kind = kind_of(found)
        if kind is FunctionType:
            if not _keeps(found.__module__):
                _sweep_defaults(found)
        elif issubclass(kind, type):
            if not _keeps(found.__module__):
                _sweep_names(found)
        elif issubclass(kind, ModuleType) and not _keeps(found.__dict__.get("__name__")):
            _sweep_names(found)


def _names(holder: Any) -> dict[str, Any] | None:
    """Return the holder if it is a dictionary."""
    return cast("dict[str, Any]", holder) if type(holder) is dict else None


def _place(holder: Any) -> str:
    names = _names(holder)
    if names is not None:
        name = names.get("__name__")
        return f"module {name}" if isinstance(name, str) else "a dict"
    name = holder.__qualname__ if type(holder) is FunctionType else None
    return f"{type(holder).__name__} {name}" if name else f"a {type(holder).__name__}"


def _our_cells() -> set[int]:
    """Return the ids of the closure cells of the runtime's own functions."""
    return {
        id(cell)
        for found in gc.get_objects()
        if type(found) is FunctionType and _keeps(found.__globals__.get("__name__"))
        for cell in found.__closure__ or ()
    }


def _is_spare(names: dict[str, Any]) -> bool:
    """Tell whether this is the copy that CPython keeps of an extension module's names."""
    module = sys.modules.get(str(names.get("__name__")))
    return module is not None and "__spec__" in names and vars(module) is not names


def _is_ours(holder: Any) -> bool:
    names = _names(holder)
    if names is not None:
        return holder is _originals or _keeps(names.get("__name__")) or _is_spare(names)
    return type(holder).__name__ in ("frame", "staticmethod") or _keeps(type(holder).__module__)


def left_behind() -> list[Escape]:
    """Return who still holds functions that were replaced."""
    found: list[Escape] = []
    ours = {id(pair) for pair in _new_of.values()} | _our_cells()
    for old, _ in list(_new_of.values()):
        if not isinstance(old, FunctionType | BuiltinFunctionType):
            continue  # classes: objects of those that have been made park too
        name = f"{old.__module__}.{old.__qualname__}"
        for holder in gc.get_referrers(old):
            if id(holder) not in ours and not _is_ours(holder):
                why = "it has the untouched function, which blocks its thread"
                found.append(Escape(name, _place(holder), why))
    return found
