"""How deep a goroutine may go: set_max_stack, what ends a recursion, what a stack takes."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from goroutines import Chan, Goroutine, current, go, gosched, runtime

from ..conftest import FREE_THREADED, Token, all_of, in_thread, parked, run_program, until

KIB = 1024
DEFAULT = 256 * KIB
LEAST = 64 * KIB
CHUNK = 16 * KIB
SANITIZED = bool(os.environ.get("GOROUTINES_SANITIZE"))


@pytest.fixture(autouse=True)
def same_maximum() -> Iterator[None]:
    """Put the maximum back."""
    old = runtime.set_max_stack(DEFAULT)
    yield
    runtime.set_max_stack(old)


@pytest.fixture
def limitless() -> Iterator[None]:
    """Put CPython's own limit out of the way, so that the stack's size is what ends a recursion."""
    old = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    yield
    sys.setrecursionlimit(old)


# --- ways to recurse ----------------------------------------------------------------------------


def dive(seen: list[int], n: int = 0) -> None:
    """Recurse for ever; seen[0] tells how deep it is."""
    seen[0] = n
    dive(seen, n + 1)


def dive_by_reduce(seen: list[int], n: int = 0) -> None:
    """The same with C code in between."""
    seen[0] = n
    functools.reduce(lambda a, b: dive_by_reduce(seen, n + 1), [None, None])


def dive_by_sorted(seen: list[int], n: int = 0) -> None:
    """The same with C code that takes more of the stack than any other."""
    seen[0] = n
    sorted([0], key=lambda x: dive_by_sorted(seen, n + 1) or 0)


def dive_by_init(seen: list[int]) -> None:
    """Objects whose __init__ makes the next one."""

    class Endless:
        def __init__(self, n: int) -> None:
            seen[0] = n
            Endless(n + 1)

    Endless(0)


def dive_by_yield_from(seen: list[int]) -> None:
    """Generators in generators: their frames are no part of the stack."""

    def endless(n: int) -> Iterator[None]:
        seen[0] = n
        if n < 100_000:
            yield from endless(n + 1)

    list(endless(0))


def nested(depth: int) -> list[Any]:
    """Return lists in lists."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def dive_by_repr(seen: list[int]) -> None:
    """C code alone, without a frame of Python's."""
    repr(nested(100_000))


def dive_by_json(seen: list[int]) -> None:
    """The same in an extension module."""
    json.loads("[" * 100_000 + "]" * 100_000)


def function_with_locals(count: int) -> Callable[[list[int]], None]:
    """Return an endless recursion whose frames are large."""
    lines = "\n".join(f"    v{i} = n" for i in range(count))
    names: dict[str, Any] = {}
    exec(f"def large(seen, n=0):\n{lines}\n    seen[0] = n\n    large(seen, n + 1)", names)
    fn: Callable[[list[int]], None] = names["large"]
    return fn


def depth(dive: Callable[[list[int]], None] = dive) -> int:
    """How deep `dive` gets in a goroutine of its own, where it must be an error."""
    seen = [0]
    caught: list[RecursionError] = []

    def body() -> None:
        try:
            dive(seen)
        except RecursionError as error:
            caught.append(error.with_traceback(None))

    go(body).join()
    assert caught, f"no RecursionError at {seen[0]}"
    return seen[0]


def descend(depth: int, bottom: Callable[[], Any]) -> Any:
    """Call `bottom` below `depth` frames, and add one for each on the way up."""
    return bottom() if depth == 0 else descend(depth - 1, bottom) + 1


def descend_through_c(depth: int, bottom: Callable[[], Any]) -> Any:
    """The same with C code in between."""
    if depth == 0:
        return bottom()
    return functools.reduce(lambda a, b: descend_through_c(depth - 1, bottom) + 1, [0, 0])


# --- the maximum --------------------------------------------------------------------------------


def test_it_answers_the_old_one() -> None:
    """set_max_stack returns what was set before."""
    assert runtime.set_max_stack(LEAST) == DEFAULT
    assert runtime.set_max_stack(10**9) == LEAST
    assert runtime.set_max_stack(10**30) == 10**9
    assert runtime.set_max_stack(DEFAULT) == sys.maxsize


@pytest.mark.parametrize("size", [LEAST - 1, 0, -1, -(10**30)])
def test_too_small(size: int) -> None:
    """What no goroutine could live with is refused, with what can be set."""
    with pytest.raises(ValueError, match=rf"set_max_stack: at least 65536 bytes, not {size}$"):
        runtime.set_max_stack(size)
    assert runtime.set_max_stack(DEFAULT) == DEFAULT


@pytest.mark.parametrize("size", ["65536", 65536.0, None])
def test_no_size(size: Any) -> None:
    """What is no int is a TypeError."""
    with pytest.raises(TypeError):
        runtime.set_max_stack(size)
    assert runtime.set_max_stack(DEFAULT) == DEFAULT


@pytest.mark.usefixtures("limitless")
def test_frames_fill_the_maximum() -> None:
    """Recursion in Python ends when its frames have about the size that was set."""
    for maximum in (LEAST, DEFAULT, 1024 * KIB):
        runtime.set_max_stack(maximum)
        sizes: list[int] = []

        def bottom(sizes: list[int] = sizes) -> int:
            sizes.append(current().stack_bytes)
            return 0

        room = depth()
        go(descend, room * 8 // 10, bottom).join()
        assert maximum // 2 < sizes[0] <= maximum


def test_cpythons_limit_counts_too() -> None:
    """With room enough sys.setrecursionlimit is what ends a recursion, as anywhere."""
    runtime.set_max_stack(10**9)
    assert sys.getrecursionlimit() * 0.9 < depth() <= sys.getrecursionlimit()


@pytest.mark.usefixtures("limitless")
@pytest.mark.parametrize(
    "way",
    [dive_by_reduce, dive_by_sorted, dive_by_init, dive_by_repr, dive_by_json],
)
@pytest.mark.parametrize("maximum", [LEAST, DEFAULT, 10**12])
def test_recursion_in_c(way: Callable[[list[int]], None], maximum: int) -> None:
    """Recursion through C code, or in it alone, is an error, whatever is set."""
    runtime.set_max_stack(maximum)
    for _ in range(3):  # until CPython has specialized it
        first = depth(way)
    assert all_of(3, lambda i: descend(100, lambda: 0)) == [100] * 3
    assert 0.8 <= (depth(way) + 10) / (first + 10) <= 1.25


@pytest.mark.usefixtures("limitless")
def test_recursion_of_generators() -> None:
    """Generators in generators end with the frames' memory or an error, not in a crash."""
    seen = [0]
    ends: list[str] = []

    def body() -> None:
        try:
            dive_by_yield_from(seen)
            ends.append("all of them")
        except RecursionError:
            ends.append("RecursionError")

    go(body).join()
    assert ends in (["all of them"], ["RecursionError"])
    assert seen[0] > 100


@pytest.mark.usefixtures("limitless")
def test_large_frames() -> None:
    """What counts is the frames' size; one that is too large at once is an error as well."""
    assert 2 <= depth(function_with_locals(3000)) <= DEFAULT / (3000 * 8)
    assert depth(function_with_locals(60_000)) == 0
    assert depth() > 1000  # nobody else has to pay for it


@pytest.mark.usefixtures("limitless")
def test_a_large_frame_is_forgotten() -> None:
    """Who caught the error of a frame that was too large has all its room again, at once."""
    large = function_with_locals(60_000)
    results: list[int] = []

    def bottom() -> int:
        for _ in range(3):
            with contextlib.suppress(RecursionError):
                large([0])
            results.append(descend(500, lambda: 0))
        return 0

    go(descend, 10, bottom).join()
    assert results == [500] * 3


@pytest.mark.usefixtures("limitless")
def test_calls_with_a_star() -> None:
    """f(*args), which CPython 3.15 does not count, ends as well."""

    def endless(*args: int, **names: int) -> None:
        endless(*args, **{**names})

    ends: list[BaseException] = []

    def body() -> None:
        try:
            endless(1, name=2)
        except (RecursionError, MemoryError) as error:
            ends.append(error.with_traceback(None))

    for _ in range(2):
        go(body).join()
    assert len(ends) == 2
    assert depth() > 1000


def test_threads_with_little_stack() -> None:
    """In a thread with a small stack its end comes first, as an error."""
    done = run_program("""
        import functools, json, sys, threading
        from goroutines import go, runtime, sleep
        sys.setrecursionlimit(1_000_000)
        runtime.set_max_stack(1 << 40)

        def dive():
            dive()

        def by_reduce():
            functools.reduce(lambda a, b: by_reduce(), [0, 0])

        def by_sorted():
            sorted([0], key=lambda x: by_sorted())

        def by_json():
            json.loads("[" * 100_000 + "]" * 100_000)

        def attempt(way):
            try:
                way()
            except RecursionError:
                caught.append(way)

        def body():
            for way in ways:
                go(attempt, way).join()

        caught, ways = [], [by_reduce, by_sorted, by_json]
        threading.stack_size(256 * 1024)
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        assert caught == ways, caught
    """)
    assert done.returncode == 0, done.stderr


# --- who is held to it ----------------------------------------------------------------------------


@pytest.mark.usefixtures("limitless")
def test_main_and_threads_are_not() -> None:
    """Main and plain threads have CPython's limits alone."""
    runtime.set_max_stack(LEAST)
    assert depth() < 1000
    assert descend(2000, lambda: 0) == 2000
    assert in_thread(descend, 2000, lambda: 0) == 2000
    go(dive_until_caught).join()
    assert descend(2000, lambda: 0) == 2000


def dive_until_caught() -> None:
    """Overflow, and have it over with."""
    try:
        dive([0])
    except RecursionError:
        gosched()


@pytest.mark.usefixtures("limitless")
def test_an_overflow_is_ones_own() -> None:
    """While others overflow, one that is parked deep comes back and goes deeper."""
    ch: Chan[int] = Chan()
    results: list[int] = []

    def patient() -> int:
        return ch.recv() + descend(300, ch.recv)

    gs = [go(lambda: results.append(descend(300, patient))) for _ in range(10)]
    parked(*gs)
    all_of(10, lambda i: dive_until_caught())
    for _ in gs:
        ch.send(1000)
    gosched()
    parked(*gs)
    all_of(10, lambda i: dive_until_caught())
    for _ in gs:
        ch.send(1000)
    for g in gs:
        g.join()
    assert results == [2600] * 10


@pytest.mark.usefixtures("limitless")
@pytest.mark.parametrize("way", [dive, dive_by_reduce, dive_by_sorted])
def test_clean_up_on_the_way_out(way: Callable[[list[int]], None]) -> None:
    """Whoever is far enough up to have room may call what it likes, again and again."""
    seen = [0]
    room = depth(way)
    cleaned: list[int] = []

    def body() -> None:
        for _ in range(3):
            try:
                way(seen)
            except RecursionError:
                assert room * 0.9 <= seen[0] <= room * 1.1 + 1, (seen, room)
            finally:
                cleaned.append(descend(40, lambda: 0))

    go(body).join()
    assert cleaned == [40] * 3


@pytest.mark.usefixtures("limitless")
def test_calls_soon_after_an_overflow() -> None:
    """Some frames above the one that was too much, functions can be called again."""
    seen = [0]
    results: list[int] = []

    def endless(n: int, catch_at: int) -> None:
        seen[0] = n
        if n != catch_at:
            return endless(n + 1, catch_at)
        for _ in range(3):
            with contextlib.suppress(RecursionError):
                endless(n + 1, 0)
            results.append(descend(20, lambda: 0))
        return None

    def body(catch_at: int) -> None:
        with contextlib.suppress(RecursionError):
            endless(0, catch_at)

    go(body, -1).join()
    for above in (60, 100, 200):
        go(body, seen[0] - above).join()
    assert results == [20] * 9


@pytest.mark.usefixtures("limitless")
def test_with_blocks_on_the_way_out() -> None:
    """Every __exit__ but those at the very bottom can call functions."""
    entered: list[int] = []
    left: list[int] = []

    class Block:
        def __init__(self, n: int) -> None:
            self.n = n

        def __enter__(self) -> None:
            entered.append(self.n)

        def __exit__(self, *exc: object) -> None:
            left.append(descend(20, lambda: self.n))

    def endless(n: int) -> None:
        with Block(n):
            endless(n + 1)

    def body() -> None:
        with pytest.raises(RecursionError):
            endless(0)

    g = go(body)
    g.join()
    assert len(entered) > 300
    assert left[-200:] == [n + 20 for n in reversed(range(200))]


def test_the_recursion_limit_can_be_changed_within() -> None:
    """sys.setrecursionlimit works in goroutines as elsewhere, while others are parked and after."""
    limit = sys.getrecursionlimit()
    ch: Chan[int] = Chan()
    results: list[int] = []
    others = [go(lambda: results.append(descend(300, ch.recv))) for _ in range(5)]
    parked(*others)

    def body() -> None:
        for new in (10**6, limit + 500, limit, 10**6, limit):
            sys.setrecursionlimit(new)
            assert sys.getrecursionlimit() == new
            dive_until_caught()
            assert descend(200, lambda: 0) == 200

    try:
        g = go(body)
        g.join()
        sys.setrecursionlimit(10**6)
        gosched()
    finally:
        sys.setrecursionlimit(limit)
    for _ in others:
        ch.send(0)
    for g in others:
        g.join()
    assert results == [300] * 5
    assert depth() > limit * 0.7
    assert descend(limit - 400, lambda: 0) == limit - 400


def test_too_low_a_recursion_limit_is_refused() -> None:
    """A limit below the depth that a goroutine has is refused there, and changes nothing."""
    limit = sys.getrecursionlimit()
    errors: list[str] = []

    def lower() -> int:
        try:
            sys.setrecursionlimit(50)
        except RecursionError as error:
            errors.append(str(error))
        return 0

    go(descend, 200, lower).join()
    assert len(errors) == 1
    assert "too low" in errors[0]
    assert sys.getrecursionlimit() == limit


def test_small_maximum_and_deallocation() -> None:
    """Objects are released at once with the least maximum, deeply nested ones too."""
    runtime.set_max_stack(LEAST)
    died: list[None] = []

    class Dying:
        def __del__(self) -> None:
            died.append(None)

    def body() -> None:
        for _ in range(50):
            value: list[Any] = [Dying()]
            for _ in range(1000):
                value = [value]
            del value

    go(body).join()
    assert len(died) == 50


# --- what a stack takes -------------------------------------------------------------------------


def test_bytes_of_all_states() -> None:
    """It is 0 before the start and after the end; in between at least the first frames count."""
    ch: Chan[int] = Chan()
    g = go(ch.recv)
    unstarted = go(gosched)
    if not FREE_THREADED:  # else another thread may have begun it
        assert unstarted.stack_bytes == 0
    parked(g)
    assert 500 < g.stack_bytes < 4 * KIB
    ch.send(1)
    g.join()
    unstarted.join()
    assert (g.stack_bytes, unstarted.stack_bytes) == (0, 0)
    assert current().stack_bytes >= 0


def test_bytes_cannot_be_set() -> None:
    """They are read only."""
    with pytest.raises(AttributeError):
        current().stack_bytes = 1  # type: ignore[misc]


@pytest.mark.parametrize("way", [descend, descend_through_c])
def test_bytes_while_running_and_parked(way: Callable[[int, Callable[[], Any]], Any]) -> None:
    """Running or parked, at the same depth it is nearly the same."""
    sizes: list[int] = []
    ch: Chan[int] = Chan()

    def bottom() -> int:
        sizes.append(current().stack_bytes)
        return ch.recv()

    g = go(way, 60, bottom)
    parked(g)
    flat = go(ch.recv)
    parked(flat)
    assert abs(g.stack_bytes - sizes[0]) < 2 * KIB
    least = 60 * 60 if way is descend else 60 * 400
    assert g.stack_bytes > flat.stack_bytes + least
    for _ in range(2):
        ch.send(0)
    for g in (g, flat):
        g.join()


def test_bytes_on_another_thread() -> None:
    """A goroutine of another thread can be asked while it is parked, and while that goes on."""
    ch: Chan[int] = Chan()
    gs: list[Goroutine] = []

    def thread() -> None:
        gs.append(go(descend_through_c, 60, ch.recv))
        gs[0].join()

    t = threading.Thread(target=thread)
    t.start()
    until(lambda: bool(gs), "that it is started")
    parked(gs[0])
    until(lambda: gs[0].stack_bytes > 60 * 400, "that its thread has nothing else to do")
    ch.send(0)
    until(lambda: not t.is_alive(), "the thread's end")
    assert gs[0].stack_bytes == 0


def test_asking_while_they_run() -> None:
    """Goroutines that go up and down all the time can be asked from everywhere."""
    done: list[int] = []

    def body(i: int) -> None:
        for n in range(30):
            descend(10 * n, lambda: gosched() or 0)
        done.append(i)

    gs = [go(body, i) for i in range(20)]
    while len(done) < len(gs):
        sizes = [g.stack_bytes for g in gs]
        assert all(0 <= size <= DEFAULT for size in sizes)
        gosched()
    for g in gs:
        g.join()


def test_memory_is_given_back() -> None:
    """Who once was deep has no more, some calls further up, than who never was."""
    ch: Chan[int] = Chan()

    def body() -> None:
        ch.recv()
        descend(400, ch.recv)
        descend_through_c(60, ch.recv)
        ch.recv()

    g = go(body)
    parked(g)
    sizes: list[int] = []
    for _ in range(3):
        sizes.append(g.stack_bytes)
        nparks = len(sizes)
        ch.send(nparks)
        gosched()
        parked(g)
    sizes.append(g.stack_bytes)
    ch.send(0)
    g.join()
    flat, deep, deep_in_c, again = sizes
    assert deep > flat + 400 * 60
    assert deep_in_c > flat + 60 * 400
    assert again <= flat + CHUNK


# --- what is told of it --------------------------------------------------------------------------


def test_dump_of_a_deep_stack_is_short() -> None:
    """As in Go, a dump has the innermost and the outermost 50 of more than 100 frames."""
    ch: Chan[int] = Chan()
    g = go(descend, 300, ch.recv)
    parked(g)
    text = runtime.stack(all=True)
    section = text[text.index(f"goroutine {g.id} [") :].split("\n\n")[0]
    frames = section[: section.index("created by")]
    assert frames.count("descend(...)") == 100
    assert "\n...201 frames elided...\n" in frames
    ch.send(0)
    g.join()


def test_a_token_in_a_deep_frame_dies_with_it() -> None:
    """What frames beyond the limit held is released when the error is."""
    import weakref

    refs: list[weakref.ref[Token]] = []

    def endless(token: Token) -> None:
        own = Token()
        refs.append(weakref.ref(own))
        endless(own)

    def body() -> None:
        with pytest.raises(RecursionError):
            endless(Token())

    go(body).join()
    assert len(refs) > 300
    until(lambda: not any(ref() for ref in refs), "that all are released")
