"""What was replaced, by what, and where else it was found.

A leaf is replaced in the module or class that owns it. Modules that had imported it by
then (``from time import sleep``) hold the original under a name of their own, so they are
looked through too, and given the new one.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

# Modules that must keep the untouched functions: the runtime's own, and debuggers, whose
# helper threads have to stay real threads.
KEEP = ("goroutines", "pydevd", "_pydevd", "debugpy", "_pydev", "_frozen_importlib")

_MISSING: Any = object()

_originals: dict[tuple[str, str], Any] = {}
_moved: list[tuple[Any, Any]] = []


def _owner_name(owner: Any) -> str:
    if isinstance(owner, ModuleType):
        return owner.__name__
    return f"{owner.__module__}.{owner.__qualname__}"


def replace(owner: Any, name: str, new: Any) -> Any:
    """Put `new` under `name` into a module or class; return what was there, or None."""
    key = (_owner_name(owner), name)
    old = owner.__dict__.get(name, _MISSING)
    if key not in _originals:
        _originals[key] = old if old is not _MISSING else getattr(owner, name, _MISSING)
    setattr(owner, name, new)
    if isinstance(owner, ModuleType) and old is not _MISSING:
        _moved.append((old, new))
    return None if old is _MISSING else old


def original(module: str | ModuleType, name: str) -> Any:
    """Return the untouched ``module.name``, replaced or not."""
    if isinstance(module, str):
        __import__(module)
        module = sys.modules[module]
    found = _originals.get((module.__name__, name), _MISSING)
    return getattr(module, name) if found is _MISSING else found


def sweep() -> None:
    """Give the new functions to modules that had imported the old ones before."""
    new_of = {id(old): (old, new) for old, new in _moved}
    for module in list(sys.modules.values()):
        if not isinstance(module, ModuleType) or module.__name__.startswith(KEEP):
            continue
        for name, value in list(vars(module).items()):
            found = new_of.get(id(value))
            if found is not None and found[0] is value:
                setattr(module, name, found[1])
    _moved.clear()
