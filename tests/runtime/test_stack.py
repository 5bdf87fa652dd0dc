"""Switches in odd places: deep stacks, finalizers, callbacks, generators, imports, gc."""

from __future__ import annotations

import builtins
import contextlib
import functools
import gc
import importlib
import random
import re
import sys
import textwrap
import types
import weakref
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from goroutines import (
    Chan,
    Goroutine,
    WaitGroup,
    go,
    gosched,
    num_goroutine,
    recv,
    select,
    sleep,
)

from ..conftest import Token, all_of, in_thread, parked, scaled, until

# --- deep stacks ------------------------------------------------------------------------------


def descend(depth: int, bottom: Callable[[], Any]) -> Any:
    """Call `bottom` below `depth` Python frames, and add one for each on the way up."""
    if depth == 0:
        return bottom()
    return descend(depth - 1, bottom) + 1


def descend_through_c(depth: int, bottom: Callable[[], Any]) -> Any:
    """Call `bottom` below `depth` frames, each of them with C code in between."""
    if depth == 0:
        return bottom()
    return functools.reduce(lambda a, b: descend_through_c(depth - 1, bottom) + 1, [0, 0])


@pytest.mark.parametrize("way", [descend, descend_through_c])
def test_parked_at_many_depths(way: Callable[[int, Callable[[], Any]], Any]) -> None:
    """Goroutines parked at all depths wake in random order, each with its own stack."""
    rng = random.Random(30)
    depths = list(range(40)) * 3
    chans: list[Chan[int]] = [Chan() for _ in depths]
    results: dict[int, int] = {}

    def body(i: int) -> None:
        results[i] = way(depths[i], chans[i].recv)

    gs = [go(body, i) for i in range(len(depths))]
    parked(*gs)
    order = list(range(len(depths)))
    rng.shuffle(order)
    for i in order:
        chans[i].send(1000 * i)
    for g in gs:
        g.join()
    assert results == {i: 1000 * i + depths[i] for i in range(len(depths))}


def test_parking_at_every_level() -> None:
    """A goroutine that parks on its way down and up keeps every frame."""

    def climb(level: int, me: int) -> list[int]:
        gosched()
        local = [me, level]
        if level < 50:
            rest = climb(level + 1, me)
        else:
            rest = []
        gosched()
        assert local == [me, level]
        return [level, *rest]

    assert all_of(20, lambda me: climb(0, me)) == [list(range(51))] * 20


def test_recursion_error_in_one_goroutine() -> None:
    """Endless recursion is a RecursionError of that goroutine, and the rest goes on."""
    ch: Chan[int] = Chan()
    bystander = go(ch.recv)
    parked(bystander)

    def endless(n: int) -> int:
        return endless(n + 1) + 1

    def body(i: int) -> str:
        try:
            endless(0)
        except RecursionError:
            gosched()
            return f"caught, then {descend(100, lambda: 0)}"
        return "no end"

    assert all_of(10, body) == ["caught, then 100"] * 10
    assert descend(100, lambda: 0) == 100
    ch.send(1)
    bystander.join()


def test_recursion_error_through_c() -> None:
    """Endless recursion through C code is a RecursionError, not a crash."""

    def endless() -> Any:
        return functools.reduce(lambda a, b: endless(), [0, 0])

    class Endless:
        def __repr__(self) -> str:
            return repr([self])

    def nested() -> str:
        value: list[Any] = []
        for _ in range(200_000):
            value = [value]
        return repr(value)

    def body(i: int) -> str:
        try:
            (endless, lambda: repr(Endless()), nested)[i]()
        except RecursionError:
            gosched()
            return "caught"
        return "no end"

    assert all_of(3, body) == ["caught"] * 3


def test_recursion_depth_is_a_goroutines_own() -> None:
    """The depth of parked goroutines is not counted against the running one."""
    ch: Chan[int] = Chan()
    results: list[int] = []
    gs = [go(lambda: results.append(descend(300, ch.recv))) for _ in range(30)]
    parked(*gs)
    assert descend(300, lambda: 0) == 300
    for _ in gs:
        ch.send(0)
    for g in gs:
        g.join()
    assert results == [300] * 30
    assert descend(300, lambda: 0) == 300


def test_recursion_errors_beside_deep_ones() -> None:
    """Recursion errors leave the counters of parked goroutines as they were."""
    ch: Chan[int] = Chan()
    results: list[int] = []
    gs = [go(lambda: results.append(descend(300, ch.recv))) for _ in range(5)]
    parked(*gs)

    def endless() -> Any:
        gosched()
        return endless()

    for _ in range(3):
        caught: list[str] = []

        def body() -> None:
            try:
                endless()
            except RecursionError:
                caught.append("caught")

        go(body).join()
        assert caught == ["caught"]
    for _ in gs:
        ch.send(0)
    for g in gs:
        g.join()
    assert results == [300] * 5


@pytest.mark.slow
def test_hundred_thousand_at_once() -> None:
    """A hundred thousand goroutines are parked at the same time, and all come back."""
    count = scaled(100_000)
    before = num_goroutine()
    ch: Chan[int] = Chan()
    wg = WaitGroup()
    started: list[None] = []
    got: list[int] = []

    def body() -> None:
        started.append(None)
        got.append(ch.recv())
        wg.done()

    wg.add(count)
    for _ in range(count):
        go(body)
    assert num_goroutine() == before + count
    until(lambda: len(started) == count, "that all have started")
    assert num_goroutine() == before + count
    for i in range(count):
        ch.send(i)
    wg.wait()
    assert sorted(got) == list(range(count))


def test_a_chain_of_thousands() -> None:
    """A value runs through a chain of ten thousand goroutines, as in Go's tour."""
    count = scaled(10_000)
    left: Chan[int] = Chan()
    first = left
    for _ in range(count):
        right: Chan[int] = Chan()

        def link(left: Chan[int] = left, right: Chan[int] = right) -> None:
            left.send(right.recv() + 1)

        go(link)
        left = right
    go(left.send, 0)
    assert first.recv() == count


# --- finalizers -------------------------------------------------------------------------------


def test_switch_in_del() -> None:
    """A __del__ that yields in the middle of other goroutines' work is harmless."""
    died: list[int] = []

    class Dying:
        def __init__(self, me: int) -> None:
            self.me = me

        def __del__(self) -> None:
            gosched()
            died.append(self.me)
            gosched()

    def body(i: int) -> int:
        total = 0
        for n in range(20):
            value = Dying(i * 100 + n)
            total += value.me
            del value
            total -= n
        return total

    assert all_of(20, body) == [i * 2000 for i in range(20)]
    until(lambda: len(died) == 400, "that every finalizer has finished")
    assert sorted(died) == sorted(i * 100 + n for i in range(20) for n in range(20))


def test_waiting_del() -> None:
    """A __del__ that waits for a receiver delivers its value, none is lost."""
    ch: Chan[int] = Chan()

    class Dying:
        def __init__(self, me: int) -> None:
            self.me = me

        def __del__(self) -> None:
            ch.send(self.me)

    def body(i: int) -> None:
        Dying(i)

    gs = [go(body, i) for i in range(20)]
    assert sorted(ch.recv() for _ in range(20)) == list(range(20))
    for g in gs:
        g.join()


def test_del_in_the_collector_may_wait() -> None:
    """A finalizer that has to wait during a collection is finished by somebody else."""
    ch: Chan[int] = Chan()

    class Cyclic:
        def __init__(self, me: int) -> None:
            self.me = me
            self.cycle = self

        def __del__(self) -> None:
            ch.send(self.me)

    gc.disable()
    try:
        for i in range(5):
            Cyclic(i)
        gc.collect()  # nobody receives yet: it must return all the same
    finally:
        gc.enable()
    died: list[int] = []
    reader = go(lambda: died.extend(ch))
    try:
        until(lambda: len(died) == 5, "that every finalizer has finished")
    finally:
        ch.close()
        reader.join()
    assert sorted(died) == list(range(5))


def test_del_in_the_collector_of_a_goroutine() -> None:
    """Collections that run in goroutines, with finalizers that use channels, lose nothing."""
    ch: Chan[int] = Chan()
    died: list[int] = []
    reader = go(lambda: died.extend(ch))

    class Cyclic:
        def __init__(self, me: int) -> None:
            self.me = me
            self.cycle = self

        def __del__(self) -> None:
            gosched()
            ch.send(self.me)

    def body(i: int) -> None:
        for n in range(5):
            Cyclic(i * 5 + n)
            gosched()
        gc.collect()

    all_of(20, body)
    gc.collect()
    try:
        until(lambda: len(died) == 100, "that every finalizer has finished")
    finally:
        ch.close()
        reader.join()
    assert sorted(died) == list(range(100))


def test_switch_in_weakref_callback() -> None:
    """A weakref callback may yield and send."""
    ch: Chan[int] = Chan()

    def body(i: int) -> None:
        token = Token()

        def gone(ref: object) -> None:
            gosched()
            ch.send(i)

        watch = weakref.ref(token, gone)
        del token
        until(lambda: watch() is None, "that the token is gone")
        for _ in range(3):
            gosched()

    gs = [go(body, i) for i in range(20)]
    assert sorted(ch.recv() for _ in range(20)) == list(range(20))
    for g in gs:
        g.join()


def test_switch_in_weakref_finalize() -> None:
    """weakref.finalize calls may wait."""
    ch: Chan[str] = Chan()

    def body() -> None:
        token = Token()
        weakref.finalize(token, ch.send, "gone")
        del token

    gs = [go(body) for _ in range(5)]
    assert [ch.recv() for _ in range(5)] == ["gone"] * 5
    for g in gs:
        g.join()


def test_switch_deep_in_deallocation() -> None:
    """Finalizers at the bottom of deeply nested containers switch among many deallocations."""
    died: list[int] = []

    class Dying:
        def __init__(self, me: int) -> None:
            self.me = me

        def __del__(self) -> None:
            gosched()
            died.append(self.me)

    def body(i: int) -> None:
        nested: Any = Dying(i)
        for n in range(2000):
            nested = (nested,) if n % 2 else [nested]
        gosched()
        del nested

    all_of(20, body)
    until(lambda: len(died) == 20, "that everything is deallocated")
    assert sorted(died) == list(range(20))


# --- switches inside C code that calls back ---------------------------------------------------


@functools.total_ordering
class Yielding:
    """A value whose comparisons and hash give others a turn."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        gosched()
        return isinstance(other, Yielding) and self.value == other.value

    def __lt__(self, other: Yielding) -> bool:
        gosched()
        return self.value < other.value

    def __hash__(self) -> int:
        gosched()
        return self.value % 7  # many collisions, so that __eq__ is asked


def made(name: str, attribute: object) -> Any:
    """Return an object whose class has just that attribute."""
    return type("Made", (), {name: attribute})()


def shuffled(seed: int, count: int = 30) -> list[int]:
    """Return 0 ... count-1 in an order of its own for each seed."""
    values = list(range(count))
    random.Random(seed).shuffle(values)
    return values


def test_switch_in_sort_key() -> None:
    """Many sorts whose key functions yield come out right."""

    def key(value: int) -> int:
        gosched()
        return -value

    def body(i: int) -> list[int]:
        return sorted(shuffled(i), key=key)

    assert all_of(20, body) == [list(range(29, -1, -1))] * 20


def test_switch_in_comparison() -> None:
    """Many sorts, min and max whose comparisons yield come out right."""

    def body(i: int) -> tuple[list[int], int, int]:
        values = [Yielding(n) for n in shuffled(i)]
        ordered = [value.value for value in sorted(values)]
        return ordered, min(values).value, max(values).value

    assert all_of(10, body) == [(list(range(30)), 0, 29)] * 10


def test_switch_in_hash_and_eq() -> None:
    """Dictionaries and sets whose keys yield in __hash__ and __eq__ stay right."""

    def body(i: int) -> tuple[int, int, bool]:
        table = {Yielding(n): n for n in shuffled(i)}
        seen = set(map(Yielding, [*range(30), *range(15)]))
        found = all(table[Yielding(n)] == n for n in range(30))
        return len(table), len(seen), found and Yielding(99) not in seen

    assert all_of(10, body) == [(30, 30, True)] * 10


def test_shared_dictionary_with_yielding_keys() -> None:
    """One dictionary is used by many goroutines that switch inside its lookups."""
    table: dict[Yielding, int] = {}

    def body(i: int) -> bool:
        table[Yielding(i)] = i
        return table[Yielding(i)] == i

    assert all_of(30, body) == [True] * 30
    assert sorted(table.values()) == list(range(30))


@pytest.mark.parametrize(
    "call",
    [
        lambda wait: list(map(lambda n: wait() + n, range(5))),  # noqa: C417
        lambda wait: list(filter(lambda n: wait() == 0, range(5))),
        lambda wait: list(range(5)) if re.sub("x", lambda m: str(wait()), "xxx") == "000" else [],
        lambda wait: functools.reduce(lambda a, n: [*a, n + wait()], range(5), []),
        lambda wait: eval("[wait() + n for n in range(5)]", {"wait": wait}),
        lambda wait: [*range(made("x", property(lambda self: wait() + 5)).x)],
        lambda wait: [*range(int(str(made("__str__", lambda self: str(wait() + 5)))))],
        lambda wait: [*range(len(made("__len__", lambda self: wait() + 5)))],
        lambda wait: [*made("__iter__", lambda self: iter(range(wait(), 5)))],
        lambda wait: [*range(made("__getattr__", lambda self, name: wait() + 5).x)],
        lambda wait: [*range(made("__add__", lambda self, other: wait() + other) + 5)],
    ],
    ids=[
        "map", "filter", "re.sub", "reduce", "eval", "property", "str", "len", "iter", "getattr",
        "add",
    ],
)  # fmt: skip
def test_switch_in_callbacks(call: Callable[[Callable[[], int]], list[int]]) -> None:
    """Builtins that call back into code that parks go on where they were."""

    def wait() -> int:
        gosched()
        sleep(0)
        try:
            Chan().recv(timeout=0)
        except TimeoutError:
            return 0
        return -1

    assert all_of(10, lambda i: call(wait)) == [list(range(5))] * 10


def test_switch_in_class_creation() -> None:
    """Metaclasses, descriptors and class bodies may park."""

    class Meta(type):
        def __new__(mcs, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> Any:
            gosched()
            return super().__new__(mcs, name, bases, space)

    class Named:
        def __set_name__(self, owner: type, name: str) -> None:
            gosched()
            self.name = name

    def body(i: int) -> tuple[str, int]:
        class Made(metaclass=Meta):
            gosched()
            field = Named()
            number = i

        return Made.field.name, Made.number

    assert all_of(10, body) == [("field", i) for i in range(10)]


# --- generators and coroutines ----------------------------------------------------------------


def test_generators_park() -> None:
    """Generators that park while they run, in the middle of each other, stay apart."""

    def numbers(me: int) -> Iterator[int]:
        for n in range(20):
            gosched()
            yield me * 100 + n

    def chained(me: int) -> Iterator[int]:
        yield from numbers(me)
        gosched()
        yield -1

    expected = [[me * 100 + n for n in range(20)] + [-1] for me in range(20)]
    assert all_of(20, lambda me: list(chained(me))) == expected


def test_generator_handed_around() -> None:
    """A suspended generator may be resumed by one goroutine after the other."""

    def numbers() -> Iterator[int]:
        for n in range(30):
            gosched()
            yield n

    shared = numbers()
    token: Chan[Iterator[int]] = Chan(1)
    token.send(shared)
    seen: list[int] = []

    def body(i: int) -> None:
        for _ in range(3):
            mine = token.recv()
            seen.append(next(mine))
            token.send(mine)

    all_of(10, body)
    assert seen == list(range(30))


def test_generator_that_is_parked_is_running() -> None:
    """A generator parked in one goroutine cannot be entered by another."""
    ch: Chan[int] = Chan()

    def numbers() -> Iterator[int]:
        yield ch.recv()

    shared = numbers()
    out: list[int] = []
    g = go(lambda: out.append(next(shared)))
    parked(g)
    with pytest.raises(ValueError, match="generator already executing"):
        next(shared)
    ch.send(5)
    g.join()
    assert out == [5]


def test_generator_is_closed_and_thrown_into() -> None:
    """close and throw reach a generator whose cleanup parks."""
    log: list[object] = []

    def numbers(me: int) -> Generator[int, None, None]:
        try:
            yield me
            yield me
        except LookupError:
            gosched()
            log.append(("thrown", me))
        finally:
            gosched()
            log.append(("closed", me))

    def body(me: int) -> None:
        first, second = numbers(me), numbers(me)
        next(first)
        next(second)
        first.close()
        with contextlib.suppress(StopIteration):
            second.throw(LookupError())

    all_of(5, body)
    assert sorted(log, key=str) == sorted(
        [("closed", me) for me in range(5)] * 2 + [("thrown", me) for me in range(5)], key=str
    )


def test_context_managers_park() -> None:
    """@contextmanager functions park on entry, inside, and on exit."""
    active: set[int] = set()

    @contextlib.contextmanager
    def entered(me: int) -> Iterator[int]:
        gosched()
        active.add(me)
        try:
            yield me
        finally:
            gosched()
            active.discard(me)

    def body(me: int) -> bool:
        with entered(me) as value:
            gosched()
            return value in active

    assert all_of(20, body) == [True] * 20
    assert active == set()


def test_coroutines_park() -> None:
    """Native coroutines driven by hand may park at any depth."""

    @types.coroutine
    def pause(value: int) -> Generator[int, int, int]:
        gosched()
        return (yield value)

    async def inner(me: int) -> int:
        total = 0
        for n in range(5):
            total += await pause(me + n)
            gosched()
        return total

    def body(me: int) -> int:
        coroutine = inner(me)
        value = coroutine.send(None)
        try:
            while True:
                gosched()
                value = coroutine.send(value)
        except StopIteration as stop:
            return stop.value

    assert all_of(10, body) == [5 * me + 10 for me in range(10)]


# --- imports ----------------------------------------------------------------------------------


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Write modules that can be imported during the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def write(name: str, source: str) -> str:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        importlib.invalidate_caches()
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


PARKS_AT_IMPORT = """
from goroutines import Chan, gosched
{imports}
for _ in range(5):
    gosched()
try:
    Chan().recv(timeout=0.0001)
except TimeoutError:
    complete = {value}
"""


def test_imports_that_park(modules: Callable[..., str]) -> None:
    """Several goroutines import different modules, each of which parks at its top level."""
    for i in range(10):
        modules(f"parks_{i}", PARKS_AT_IMPORT.format(imports="", value=i))
    found = all_of(10, lambda i: importlib.import_module(f"parks_{i}").complete)
    assert found == list(range(10))


def test_nested_imports_that_park(modules: Callable[..., str]) -> None:
    """Modules that import modules, all of them parking, come out complete."""
    for i in range(5):
        modules(f"deep_{i}", PARKS_AT_IMPORT.format(imports="", value=i))
        imports = f"import deep_{i}\nassert deep_{i}.complete == {i}"
        modules(f"top_{i}", PARKS_AT_IMPORT.format(imports=imports, value=i))
    found = all_of(5, lambda i: importlib.import_module(f"top_{i}").complete)
    assert found == list(range(5))


def test_the_same_import_by_many(modules: Callable[..., str]) -> None:
    """Many goroutines importing one parking module all get it, and its code runs once."""
    source = "import builtins\nbuiltins.parks_count = getattr(builtins, 'parks_count', 0) + 1"
    name = modules("parks_shared", PARKS_AT_IMPORT.format(imports=source, value="'yes'"))
    try:
        found = all_of(10, lambda i: importlib.import_module(name))
        assert all(module is sys.modules[name] for module in found)
        assert found[0].complete == "yes"
        assert builtins.parks_count == 1  # type: ignore[attr-defined]
    finally:
        with contextlib.suppress(AttributeError):
            del builtins.parks_count  # type: ignore[attr-defined]


def test_import_that_fails_after_a_park(modules: Callable[..., str]) -> None:
    """An import that parks and then fails raises in the goroutine that asked."""
    name = modules("parks_and_fails", "from goroutines import gosched\ngosched()\n1 / 0\n")

    def body(i: int) -> str:
        try:
            importlib.import_module(name)
        except ZeroDivisionError:
            return "failed"
        return "imported"

    for _ in range(3):
        assert all_of(1, body) == ["failed"]
    assert name not in sys.modules


# --- garbage collection -----------------------------------------------------------------------


def made_for(i: int) -> tuple[Callable[[], int], type]:
    """Return a function and a class that nobody else refers to."""
    namespace: dict[str, Any] = {}
    exec(f"def top():\n  return {i}\nclass K:\n  def m(self): return {i}\n", namespace)
    function, cls = namespace.pop("top"), namespace.pop("K")
    namespace.clear()
    return function, cls


def test_collections_while_thousands_are_parked() -> None:
    """What only the frame of a parked goroutine holds survives every collection."""
    count = scaled(1000)
    ch: Chan[int] = Chan()
    done: list[int] = []

    def worker(i: int) -> None:
        function, cls = made_for(i)

        def inner() -> int:
            return i

        code = compile(f"{i}", "x", "eval")
        table: dict[str, Any] = {"a": [i]}
        table["self"] = table
        ch.recv()
        assert function() == i
        assert cls().m() == i
        assert inner() == i
        assert eval(code) == i
        assert table["self"]["a"] == [i]
        done.append(i)

    gs = [go(worker, i) for i in range(count)]
    parked(*gs)
    for _ in range(5):
        gc.collect()
    for i in range(count):
        ch.send(i)
        if i % 100 == 0:
            gc.collect()
    for g in gs:
        g.join()
    assert sorted(done) == list(range(count))


def test_values_on_the_stack_survive_collections() -> None:
    """Half evaluated expressions of parked goroutines keep their values."""

    def body(i: int) -> Any:
        def wait() -> list[int]:
            gosched()
            if i % 5 == 0:
                gc.collect()
            gosched()
            return [i]

        table = {"a": [i], "b": wait()}["b"]
        return [*[i] * 2, *wait(), table[0] + wait()[0], *(x for x in wait()), wait()[0]]

    gc.freeze()
    try:
        results = all_of(30, body)
    finally:
        gc.unfreeze()
    assert results == [[i, i, i, 2 * i, i, i] for i in range(30)]


def test_collector_at_any_moment() -> None:
    """With the collector running after every few allocations everything still works."""
    old = gc.get_threshold()
    gc.freeze()  # so that the many collections have little to look at
    gc.set_threshold(3, 2, 2)
    try:

        def body(i: int) -> int:
            ch: Chan[Any] = Chan(i % 3)
            cyclic: dict[str, Any] = {"n": i}
            cyclic["self"] = cyclic
            go(lambda: ch.send(cyclic))
            received = ch.recv()
            index, _ = select(recv(Chan()), recv(Chan()), timeout=0)
            gosched()
            return received["self"]["n"] + index + 1

        assert all_of(100, body) == list(range(100))
    finally:
        gc.set_threshold(*old)
        gc.unfreeze()


def test_cycles_through_dead_goroutines_are_collected() -> None:
    """A goroutine object in a cycle with what it ran is garbage once it has ended."""

    class Holder:
        goroutine: Goroutine

        def body(self) -> None:
            gosched()

    holder = Holder()
    holder.goroutine = go(holder.body)
    holder.goroutine.join()
    alive = weakref.ref(holder)
    del holder
    gc.collect()
    assert alive() is None


def test_locals_of_a_parked_goroutine_are_alive() -> None:
    """Objects held by a parked goroutine live until it ends, and no longer."""
    ch: Chan[int] = Chan()
    alive: list[weakref.ref[Token]] = []

    def body() -> None:
        token = Token()
        alive.append(weakref.ref(token))
        ch.recv()
        assert isinstance(token, Token)

    gs = [go(body) for _ in range(50)]
    parked(*gs)
    gc.collect()
    assert all(ref() is not None for ref in alive)
    for _ in gs:
        ch.send(0)
    for g in gs:
        g.join()
    gc.collect()
    assert all(ref() is None for ref in alive)


# --- plain threads ----------------------------------------------------------------------------


def test_all_this_on_a_plain_thread() -> None:
    """Deep stacks, generators and recursion errors work on a thread that is not main."""

    def body(i: int) -> tuple[int, int, str]:
        depth = descend(100, lambda: (gosched(), 0)[1])
        through_c = descend_through_c(30, lambda: (gosched(), 0)[1])

        def endless() -> Any:
            return endless()

        try:
            endless()
        except RecursionError:
            gosched()
            return depth, through_c, "caught"
        return depth, through_c, "no end"

    assert in_thread(all_of, 10, body) == [(100, 30, "caught")] * 10
