"""The public names: that they are there, typed, documented, and nothing else is."""

from __future__ import annotations

import importlib.resources
import inspect
from typing import Any

import pytest

import goroutines
from goroutines import Chan, Goroutine, Select, WaitGroup, go, gosched, run, runtime

EVERY_DAY = {
    "Chan",
    "ChannelClosed",
    "Deadlock",
    "Goroutine",
    "GoroutineExit",
    "Panic",
    "Select",
    "WaitGroup",
    "blocking",
    "current",
    "defer",
    "defers",
    "go",
    "gosched",
    "num_goroutine",
    "recover",
    "recv",
    "recv_ok",
    "run",
    "select",
    "send",
    "set_panic_hook",
    "set_return",
    "sleep",
}
RUNTIME = {
    "goexit",
    "goroutines",
    "gosched",
    "num_goroutine",
    "set_max_threads",
    "stack",
}
METHODS: dict[str, tuple[str, ...]] = {
    "Chan": ("send", "recv", "recv_ok", "try_send", "try_recv", "close", "closed", "cap",
             "receiver", "sender"),
    "Goroutine": ("id", "name", "state", "wait_reason", "done", "join", "created_by"),
    "WaitGroup": ("add", "done", "wait", "go"),
}  # fmt: skip


def test_all_names_exist() -> None:
    """__all__ has no name twice and none that is missing."""
    names = list(goroutines.__all__)
    assert len(names) == len(set(names))
    assert [name for name in names if not hasattr(goroutines, name)] == []
    assert [name for name in names if name.startswith("_") and name != "__version__"] == []


def test_all_has_the_everyday_names() -> None:
    """What a program needs every day can be imported from goroutines."""
    assert set(goroutines.__all__) >= EVERY_DAY


def test_all_is_sorted() -> None:
    """__all__ is in order, so that a missing name is easily seen."""
    assert list(goroutines.__all__) == sorted(goroutines.__all__)


def test_nothing_else_is_public() -> None:
    """Whatever has no underscore and is no module is in __all__."""
    others = [
        name
        for name, value in vars(goroutines).items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and name not in (*goroutines.__all__, "annotations")
    ]
    assert others == []


def test_star_import() -> None:
    """`from goroutines import *` gives exactly the public names."""
    namespace: dict[str, Any] = {}
    exec("from goroutines import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(goroutines.__all__)


def test_runtime_names() -> None:
    """What is to be known and set of the runtime is in goroutines.runtime."""
    assert [name for name in sorted(RUNTIME) if not callable(getattr(runtime, name, None))] == []


def test_select_is_the_function() -> None:
    """The names of functions are not taken by modules."""
    for name in EVERY_DAY:
        assert not inspect.ismodule(getattr(goroutines, name)), name


@pytest.mark.parametrize("name", sorted(EVERY_DAY))
def test_every_name_is_documented(name: str) -> None:
    """Each public object has a docstring of its own."""
    documentation = getattr(goroutines, name).__doc__
    assert documentation
    assert documentation.strip()


@pytest.mark.parametrize("name", sorted(RUNTIME))
def test_every_runtime_name_is_documented(name: str) -> None:
    """Each function of goroutines.runtime has a docstring."""
    assert (getattr(runtime, name).__doc__ or "").strip()


@pytest.mark.parametrize(
    ("cls", "name"), [(cls, name) for cls, names in METHODS.items() for name in names]
)
def test_every_method_is_documented(cls: str, name: str) -> None:
    """Each public method and attribute has a docstring."""
    assert (getattr(getattr(goroutines, cls), name).__doc__ or "").strip()


def test_the_modules_are_documented() -> None:
    """The package and its runtime module say what they are."""
    assert (goroutines.__doc__ or "").strip()
    assert (runtime.__doc__ or "").strip()


SIGNATURES = {
    "go": "(fn, /, *args, **kwargs)",
    "run": "(main, /, *args, **kwargs)",
    "blocking": "(fn, /, *args, **kwargs)",
    "defer": "(fn, /, *args, **kwargs)",
    "sleep": "(seconds)",
    "gosched": "()",
    "current": "()",
    "num_goroutine": "()",
    "recover": "()",
    "set_return": "(value)",
    "set_panic_hook": "(fn)",
    "defers": "(fn)",
    "select": "(*cases, timeout=None)",
    "Select": "(*cases)",
    "recv": "(ch)",
    "recv_ok": "(ch)",
    "send": "(ch, value)",
    "Chan": "(cap=0)",
    "Chan.send": "(self, value, timeout=None)",
    "Chan.recv": "(self, timeout=None)",
    "Chan.recv_ok": "(self, timeout=None)",
    "Chan.try_send": "(self, value)",
    "Chan.try_recv": "(self)",
    "Chan.close": "(self)",
    "Goroutine.join": "(self, timeout=None)",
    "WaitGroup": "()",
    "WaitGroup.add": "(self, delta=1)",
    "WaitGroup.done": "(self)",
    "WaitGroup.wait": "(self, timeout=None)",
    "WaitGroup.go": "(self, fn, /, *args, **kwargs)",
    "runtime.gosched": "()",
    "runtime.goexit": "()",
    "runtime.num_goroutine": "()",
    "runtime.goroutines": "()",
    "runtime.stack": "(all=False)",
    "runtime.set_max_threads": "(n)",
}


@pytest.mark.parametrize(("name", "expected"), SIGNATURES.items(), ids=SIGNATURES)
def test_signature(name: str, expected: str) -> None:
    """inspect.signature gives the documented parameters, their defaults and kinds."""
    found: Any = goroutines
    for part in name.split("."):
        found = getattr(found, part)
    signature = inspect.signature(found)
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    bare = str(signature.replace(parameters=parameters, return_annotation=signature.empty))
    # whether a lone parameter is positional-only is left open, unless the contract says it
    assert bare.replace(", /", "") == expected.replace(", /", "")
    if "/" in expected:
        assert "/" in bare


def test_parameters_by_name() -> None:
    """Parameters that the contract names can be given by name."""
    ch: Chan[int] = Chan(cap=1)
    ch.send(value=1, timeout=None)
    assert ch.recv(timeout=None) == 1
    ch.send(2, timeout=0)
    assert ch.recv_ok(timeout=None) == (2, True)
    wg = WaitGroup()
    wg.add(delta=1)
    wg.add(delta=-1)
    wg.wait(timeout=None)
    g = go(gosched)
    g.join(timeout=None)
    assert goroutines.select(goroutines.recv(ch), timeout=0) == (-1, None)
    assert runtime.stack(all=True)


def test_chan_is_generic() -> None:
    """Chan[int] is a type to annotate with, and makes channels when called."""
    ch = Chan[int](3)
    assert type(ch) is Chan
    assert ch.cap == 3
    assert Chan[str].__origin__ is Chan  # type: ignore[attr-defined]
    assert Chan[str].__args__ == (str,)  # type: ignore[attr-defined]
    assert isinstance(Chan(), Chan)


def test_wrong_arguments() -> None:
    """Unknown and surplus arguments are TypeErrors of the call."""
    ch: Chan[int] = Chan()
    calls: list[Any] = [
        lambda: Chan(1, 2),
        lambda: Chan(size=3),
        lambda: ch.send(),
        lambda: ch.recv(1, 2),
        lambda: ch.recv(limit=1),
        lambda: ch.close(1),
        lambda: goroutines.sleep(),
        lambda: goroutines.sleep(1, 2),
        lambda: goroutines.gosched(1),
        lambda: goroutines.select(goroutines.recv(ch), patience=1),
        lambda: goroutines.recv(),
        lambda: goroutines.send(ch),
        lambda: run(),
        lambda: go(),
        lambda: WaitGroup(3),
        lambda: WaitGroup().done(1),
        lambda: goroutines.current().join(0, 1),
        lambda: Select(timeout=1),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()


def test_objects_say_what_they_are() -> None:
    """The repr of goroutine, channel and group names the type, the goroutine's its id too."""
    assert "oroutine" in repr(goroutines.current())
    assert "1" in repr(goroutines.current())
    assert "Chan" in repr(Chan(3))
    assert "WaitGroup" in repr(WaitGroup())
    assert isinstance(goroutines.current(), Goroutine)


def test_package_is_typed() -> None:
    """The package carries py.typed."""
    assert importlib.resources.files("goroutines").joinpath("py.typed").is_file()
