"""leak.c: goroutines that nothing can wake are found, named and ended; all others are spared."""

from __future__ import annotations

import functools
import gc
import os
import random
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from goroutines import (
    Chan,
    Cond,
    Goroutine,
    GoroutineExit,
    Mutex,
    RWMutex,
    Select,
    Semaphore,
    WaitGroup,
    _leaks,
    context,
    defer,
    defers,
    go,
    gosched,
    recv,
    run,
    runtime,
    select,
    send,
    set_panic_hook,
    sleep,
)
from goroutines.testing import no_leaks, wait_all_blocked

from ..conftest import dead, parked, run_program, scaled, until


class Token:
    """What can have a weak reference."""


@pytest.fixture(autouse=True)
def no_leftovers() -> Iterator[None]:
    """In place of the check of all tests, since these leak: nobody may be left alive."""
    before = set(runtime.goroutines())
    runtime.find_leaks()
    yield
    until(lambda: before.issuperset(runtime.goroutines()))
    runtime.find_leaks()


def found() -> list[str]:
    """Return the functions of the goroutines that leak, by their names, and let them end."""
    wait_all_blocked()
    leaks = runtime.find_leaks()
    dead(*(leak.goroutine for leak in leaks))
    return [leak.goroutine.name for leak in leaks]


def named(fn: Callable[..., object], *args: Any) -> Goroutine:
    """Start a goroutine that bears the function's name."""
    g = go(fn, *args)
    g.name = fn.__name__
    return g


# --- what is found ----------------------------------------------------------------------------


def with_mutex() -> None:
    """Wait in the `with` statement of a Mutex."""
    mu = Mutex()
    mu.lock()
    with mu:
        pass


def with_rwmutex() -> None:
    """Wait in the `with` statement of an RWMutex."""
    rw = RWMutex()
    rw.rlock()
    with rw:
        pass


def with_semaphore() -> None:
    """Wait in the `with` statement of a Semaphore."""
    s = Semaphore(1)
    s.acquire()
    with s:
        pass


def in_loop() -> None:
    """Wait for a channel's next value in a `for` statement."""
    ch: Chan[int] = Chan()
    for _ in ch:
        pass


def in_comprehension() -> None:
    """Wait for it in a comprehension."""
    ch: Chan[int] = Chan()
    print([x + 1 for x in ch])


def in_list() -> None:
    """Wait for it in C code that holds the iterator."""
    print([0, *Chan()], list(Chan()))


def in_map() -> None:
    """Wait for it in an iterator of C within a `for` statement."""
    ch: Chan[int] = Chan()
    for _ in map(str, ch):
        pass


def in_generator() -> None:
    """Wait in a generator that a `for` statement runs."""

    def values() -> Iterator[int]:
        mine: Chan[int] = Chan()
        while True:
            yield mine.recv()

    for _ in values():
        pass


def in_nested_generators() -> None:
    """Wait in a generator that another one delegates to, run by C code."""
    ch: Chan[int] = Chan()

    def inner() -> Iterator[int]:
        yield ch.recv()

    def outer() -> Iterator[int]:
        yield from inner()

    print(sum(outer()))


def with_keywords() -> None:
    """Have the channel in what was passed by keyword, and as a default."""

    def wait(*, ch: Chan[int], **more: object) -> int:
        return ch.recv()

    wait(ch=Chan(), more=Chan())


def in_sort_key() -> None:
    """Wait below C code in the middle of the stack."""
    ch: Chan[int] = Chan()
    print(sorted([2, 1], key=lambda x: x + ch.recv()))


def in_except() -> None:
    """Wait while an exception is handled, whose traceback has the frame."""
    ch: Chan[int] = Chan()
    try:
        raise ValueError(ch)
    except ValueError:
        ch.recv()


def in_select() -> None:
    """Wait in select for several, some twice, some not there."""
    a: Chan[int] = Chan()
    b: Chan[Chan[int]] = Chan()
    select(recv(a), send(b, a), recv(a), recv(None))


def in_prepared_select() -> None:
    """Wait in a Select that was made before."""
    a: Chan[int] = Chan()
    s = Select(recv(a), send(a, 1))
    s()


def in_own_values() -> None:
    """Wait for a channel that is sent through itself."""
    ch: Chan[object] = Chan(1)
    ch.send(ch)
    ch.send(ch)


@defers
def in_defers() -> None:
    """Wait in a function that has deferred what refers to the channel."""
    ch: Chan[int] = Chan()
    defer(lambda: ch.close())
    ch.recv()


def in_cond() -> None:
    """Wait for a signal that nobody can give."""
    mu = Mutex()
    with mu:
        Cond(mu).wait()


def in_waitgroup() -> None:
    """Wait for a group that somebody counted wrong."""
    wg = WaitGroup()
    wg.add(2)
    wg.go(gosched)
    wg.wait()


LEAKING = [
    with_mutex,
    with_rwmutex,
    with_semaphore,
    in_loop,
    in_comprehension,
    in_list,
    in_map,
    in_generator,
    in_nested_generators,
    with_keywords,
    in_sort_key,
    in_except,
    in_select,
    in_prepared_select,
    in_own_values,
    in_defers,
    in_cond,
    in_waitgroup,
]


@pytest.mark.parametrize("leak", LEAKING)
def test_found(leak: Callable[[], None]) -> None:
    """A goroutine that waits for what only its frames hold is found wherever it waits."""
    named(leak)
    assert found() == [leak.__name__]
    assert found() == []


def test_found_all_at_once() -> None:
    """Many of all kinds are found together, each once."""
    names = [named(leak).name for _ in range(scaled(20, 2)) for leak in LEAKING]
    assert sorted(found()) == sorted(names)


def test_what_is_told() -> None:
    """A leak is told with its reason, its birth, where it parked, and its stack."""

    def waiting(ch: Chan[int]) -> None:
        ch.recv()

    g = go(waiting, Chan())
    wait_all_blocked()
    [leak] = runtime.find_leaks()
    code = waiting.__code__
    assert leak.goroutine is g
    assert leak.wait_reason == "chan receive"
    assert leak.created_by == g.created_by
    assert leak.parked_at == f"{code.co_filename}:{code.co_firstlineno + 1}"
    assert code.co_qualname in leak.stack
    assert g.name in str(leak)
    assert f"[chan receive at {leak.parked_at}]" in str(leak)
    assert f"created by {leak.created_by}" in str(leak)
    dead(g)


def test_without_a_frame() -> None:
    """A goroutine whose function is no Python code has no place where it parked."""
    ch: Chan[int] = Chan()
    g = go(ch.recv)
    del ch
    wait_all_blocked()
    [leak] = runtime.find_leaks()
    assert leak.goroutine is g
    assert leak.parked_at is None
    assert "nothing can wake it" in str(leak)
    dead(g)


def test_the_goroutine_object_wakes_nobody() -> None:
    """Whoever holds the Goroutine cannot wake it; who joins it goes on when it has ended."""
    ch: Chan[int] = Chan()
    g = go(ch.recv)
    del ch
    joiner = go(g.join)
    wait_all_blocked()
    assert [leak.goroutine for leak in runtime.find_leaks()] == [g]
    joiner.join()
    assert g.done


def test_waiting_for_one_another() -> None:
    """A ring of goroutines is leaked as a whole, and not while one end is held."""
    ring: list[Chan[int]] = [Chan() for _ in range(scaled(50, 5))]
    gs = [go(lambda a, b: b.send(a.recv()), a, b) for a, b in zip(ring, ring[1:], strict=False)]
    first = ring[0]
    ring.clear()
    wait_all_blocked()
    assert runtime.find_leaks() == []
    del first
    assert len(found()) == len(gs)
    dead(*gs)


def test_in_a_plain_thread() -> None:
    """Goroutines of other threads count, also the one whose thread sleeps on its stack."""
    done = threading.Event()
    names: list[str] = []

    def thread() -> None:
        named(in_loop)
        named(with_mutex)
        for _ in range(3):
            gosched()
        ready.set()
        while not done.is_set():
            sleep(0.001)

    ready = threading.Event()
    t = threading.Thread(target=thread)
    t.start()
    while not ready.is_set():
        sleep(0.001)
    until(
        lambda: (names.extend(x.goroutine.name for x in runtime.find_leaks()), len(names) == 2)[1]
    )
    done.set()
    t.join()
    assert sorted(names) == ["in_loop", "with_mutex"]


def test_in_run() -> None:
    """In run() a leak is found too; its end would end it, so it is no leak of a test."""
    names: list[str] = []

    def main() -> None:
        g = named(in_loop)
        parked(g)
        names.extend(found())
        dead(g)

    with no_leaks():
        run(main)
    assert names == ["in_loop"]


def test_a_plain_thread_ends_its_own() -> None:
    """So does a plain thread that is still there: it ends its goroutines when it ends."""
    names: list[str] = []
    over = threading.Event()

    def thread() -> None:
        g = named(in_loop)
        parked(g)
        while not (over.is_set() and g.done):
            gosched()

    with no_leaks():
        t = threading.Thread(target=thread)
        t.start()
        until(lambda: names.extend(x.goroutine.name for x in runtime.find_leaks()) or names)
        over.set()
        until(lambda: not t.is_alive())
    assert names == ["in_loop"]


# --- a model --------------------------------------------------------------------------------------


def hold(rng: random.Random, held: list[Chan[object]]) -> object:
    """Return an object that refers to the channels in one way of many."""
    token = Token()
    token.__dict__["held"] = held
    ways: list[Callable[[], object]] = [
        lambda: held,
        lambda: tuple(held),
        lambda: dict.fromkeys(range(3), held),
        lambda: token,
        lambda: lambda: held,
        lambda: [ch.send for ch in held],
        lambda: [(ch.sender, ch.receiver) for ch in held],
        lambda: Select(*[recv(ch) for ch in held]),
        lambda: functools.partial(print, *held),
        lambda: (ch for ch in held),
    ]
    return rng.choice(ways)()


def waiter(wanted: list[Chan[object]], held: object) -> None:
    """Wait for one of the channels, and hold an object meanwhile."""
    try:
        if len(wanted) == 1:
            wanted[0].recv()
        else:
            select(*[recv(ch) for ch in wanted])
    finally:
        assert held is not None


def unreached(wanted: list[list[int]], held: list[list[int]], mine: set[int]) -> set[int]:
    """Return the waiters that only other such waiters could wake."""
    reached, before = set[int](), -1
    while len(reached) > before:
        before = len(reached)
        for i, channels in enumerate(wanted):
            if mine.intersection(channels):
                reached.add(i)
                mine |= {*channels, *held[i]}
    return set(range(len(wanted))) - reached


@pytest.mark.parametrize("seed", range(scaled(60, 5)))
def test_model(seed: int) -> None:
    """Of goroutines that hold what others wait for, in any way, those leak that the model says."""
    rng = random.Random(seed)
    count = rng.randrange(1, 30)
    wanted = [rng.sample(range(count), rng.choice([1, 1, 1, min(2, count)])) for _ in range(count)]
    held = [rng.sample(range(count), rng.randrange(min(3, count))) for _ in range(count)]
    keep = set(rng.sample(range(count), rng.randrange(min(6, count))))

    def start() -> list[Chan[object]]:
        channels: list[Chan[object]] = [Chan() for _ in range(count)]
        gs: list[Goroutine] = []
        for i in range(count):
            what = hold(rng, [channels[k] for k in held[i]])
            gs.append(go(waiter, [channels[k] for k in wanted[i]], what))
            gs[i].name = str(i)
        until(lambda: all(g.state == "waiting" for g in gs), "that all wait")
        return [channels[k] for k in keep]

    kept = start()
    leaked = unreached(wanted, held, set(keep))
    assert set(map(int, found())) == leaked
    kept.clear()
    assert set(map(int, found())) == set(range(count)) - leaked


# --- who is spared ----------------------------------------------------------------------------


def spared(g: Goroutine) -> None:
    """Check that g is no leak, whatever the collector does."""
    parked(g)
    for _ in range(3):
        gc.collect()
        assert g not in [leak.goroutine for leak in runtime.find_leaks()]
    assert not g.done


def test_one_case_of_many_is_reached() -> None:
    """A select lives on as long as one of its channels can be reached."""
    mine: Chan[int] = Chan()
    g = go(lambda ch: select(recv(Chan()), recv(ch), send(Chan(), 1)), mine)
    spared(g)
    mine.send(1)
    g.join()


def test_frame_object() -> None:
    """Whoever has the frame can look into its variables."""
    frames: list[types.FrameType] = []

    def body() -> int:
        ch: Chan[int] = Chan()
        frames.append(sys._getframe())
        return ch.recv()

    g = go(body)
    spared(g)
    frames[0].f_locals["ch"].send(1)
    g.join()


def test_traceback() -> None:
    """A traceback that was kept has the frames of the goroutine that still runs."""
    errors: list[ValueError] = []

    def body() -> int:
        ch: Chan[int] = Chan()
        try:
            raise ValueError
        except ValueError as error:
            errors.append(error)
        return ch.recv()

    g = go(body)
    spared(g)
    tb = errors[0].__traceback__
    assert tb is not None
    tb.tb_frame.f_locals["ch"].send(1)
    g.join()


def test_select_without_cases() -> None:
    """Who waits for nothing at all was meant to."""
    done = run_program(
        """
        from goroutines import *
        g, h = go(select), go(select, recv(None))
        while not (g.wait_reason and h.wait_reason):
            gosched()
        for _ in range(3):
            assert runtime.find_leaks() == []
        print(g.wait_reason, h.wait_reason)
        """
    )
    assert done.stdout == "select (no cases) select\n", done


def test_an_iterator_held_elsewhere() -> None:
    """An iterator can only receive: it wakes a sender, and no receiver."""
    ch: Chan[int] = Chan()
    it = iter(ch)
    sender = go(ch.send, 1)
    del ch
    spared(sender)
    assert next(it) == 1
    sender.join()

    def receive(it: Iterator[int]) -> None:
        next(it)

    named(receive, it)
    assert found() == ["receive"]
    with pytest.raises(TimeoutError):
        select_timeout(it)


def select_timeout(it: Iterator[int]) -> None:
    """Find the channel of an iterator whole, and empty."""
    [ch] = [o for o in gc.get_referents(it) if isinstance(o, Chan)]
    ch.recv(timeout=0.001)


def test_what_a_running_one_holds() -> None:
    """Whatever is half evaluated in a goroutine that runs is reached."""
    g: list[Goroutine] = []

    def started() -> Chan[int]:
        ch: Chan[int] = Chan()
        g.append(go(ch.recv))
        return ch

    def look(*held: object) -> int:
        spared(g[-1])
        return len(held)

    def body() -> None:
        started().send(look())
        (started(), look())[0].send(1)
        {"x": started(), "y": look()}["x"].send(1)
        args = (started(),)
        look(*args)
        args[0].send(1)

    go(body).join()
    dead(*g)


def test_unknown_code_in_between() -> None:
    """What C code in the middle of a stack holds may still be used: no leak, and no crash."""

    class Waiting:
        def __init__(self) -> None:
            self.ch: Chan[int] = Chan()
            weak.append(weakref.ref(self.ch))
            self.value = self.ch.recv()

        def __index__(self) -> int:
            return self.ch.recv()

    weak: list[weakref.ref[Chan[int]]] = []
    g = go(lambda: [0] * Waiting().value)
    parked(g)
    gc.collect()
    runtime.find_leaks()
    ch = weak[0]()
    if ch is not None and not g.done:  # as C's `type` holds the new object, up to 3.12
        assert ch.try_send(1)
    g.join()


# --- destructors that wait ----------------------------------------------------------------------


def test_waiting_in_a_destructor() -> None:
    """Who waits while arguments are dropped is not judged by what was there before."""
    mine: list[Chan[int]] = [Chan() for _ in range(3)]

    class Dying:
        def __del__(self) -> None:
            mine[0].recv()

    class Target:
        pass

    def callback(ref: object) -> None:
        mine[1].recv()

    refs: list[object] = []

    def target() -> Target:
        t = Target()
        refs.append(weakref.ref(t, callback))
        return t

    def closing() -> Iterator[int]:
        try:
            yield 1
        finally:
            mine[2].recv()

    def suspended() -> Iterator[int]:
        it = closing()
        next(it)
        return it

    gs = [
        go(lambda: print(len([Dying()]), end="")),
        go(lambda: print(len([target()]), end="")),
        go(lambda: print(len([suspended()]), end="")),
    ]
    for g in gs:
        spared(g)
    for ch in mine:
        ch.send(1)
    dead(*gs)


def test_weak_reference_that_sends() -> None:
    """A channel's send may itself be the callback of a weak reference."""
    ch: Chan[object] = Chan()

    def body() -> None:
        t = Token()
        refs.append(weakref.ref(t, ch.send))
        print(len([t]), end="")
        del t

    refs: list[object] = []
    g = go(body)
    spared(g)
    assert ch.recv() is refs[0]
    g.join()


# --- the end --------------------------------------------------------------------------------------


def test_ended_by_any_collection() -> None:
    """The collector ends them: finally blocks run with all that they need in order."""
    log: list[object] = []

    def body(ch: Chan[int]) -> None:
        token = Token()
        ref = weakref.ref(token)
        gen = (x for x in range(3))
        next(gen)
        try:
            ch.recv()
        except GoroutineExit:
            log.append(ref() is token)  # no weak reference was cleared before
            log.append(next(gen))  # and no generator closed
            raise

    g = go(body, Chan())
    parked(g)
    gc.collect()
    dead(g)
    assert log == [True, 1]


def test_ended_again() -> None:
    """One that goes on in spite of it is found again when it waits again."""
    log: list[int] = []

    def body() -> None:
        ch: Chan[int] = Chan()
        for i in range(3):
            try:
                ch.recv()
            except GoroutineExit:
                log.append(i)

    g = go(body)
    for i in range(3):
        until(lambda: g.state == "waiting")
        assert [leak.goroutine for leak in runtime.find_leaks()] == [g]
        until(lambda i=i: len(log) == i + 1)  # type: ignore[misc]
    dead(g)


def test_clean_up_that_panics() -> None:
    """What the clean-up raises is a panic like any other."""
    seen: list[BaseException] = []

    def hook(g: Goroutine, error: BaseException) -> bool:
        seen.append(error)
        return True

    def body() -> None:
        try:
            Chan().recv()
        finally:
            raise KeyError("mine")

    old = set_panic_hook(hook)
    try:
        named(body)
        assert found() == ["body"]
    finally:
        set_panic_hook(old)
    assert [type(e) for e in seen] == [KeyError]


def test_no_other_end_is_lost() -> None:
    """A scope that could end the wait spares it: it is ended by that."""
    ctx = context.with_cancel(context.background())

    def body() -> None:
        with context.scope(ctx):
            Chan().recv()

    errors: list[BaseException] = []
    old = set_panic_hook(lambda g, e: bool(errors.append(e)) or True)
    try:
        g = go(body)
        spared(g)
        ctx.cancel()
        dead(g)
    finally:
        set_panic_hook(old)
    assert len(errors) <= 1


def test_after_fork() -> None:
    """A child of a fork finds its own leaks."""
    done = run_program(
        """
        import os
        from goroutines import *

        ch = Chan()
        go(ch.recv)
        go(lambda: Chan().recv())
        gosched()
        pid = os.fork()
        if pid == 0:
            assert runtime.find_leaks() == []
        leaks = []
        go(lambda: Chan().recv())
        gosched()
        leaks = runtime.find_leaks()
        if pid == 0:
            os._exit(len(leaks))
        status = os.waitpid(pid, 0)[1]
        print(os.waitstatus_to_exitcode(status), len(leaks))
        """
    )
    assert done.stdout == "1 2\n", done


def test_only_the_last_are_kept() -> None:
    """Who never asks keeps no more than so many."""
    count = _leaks.KEPT + 10

    def leak() -> None:
        for _ in range(count):
            ch: Chan[int] = Chan()
            go(ch.recv)

    go(leak).join()
    wait_all_blocked()
    gc.collect()
    leaks = runtime.find_leaks()
    assert len(leaks) == _leaks.KEPT
    dead(*(leak.goroutine for leak in leaks))
    wait_all_blocked()


def test_without_the_collectors_help() -> None:
    """find_leaks works when somebody took the callbacks of gc away."""
    callbacks = gc.callbacks[:]
    gc.callbacks.clear()
    try:
        named(in_loop)
        assert found() == ["in_loop"]
    finally:
        gc.callbacks[:] = callbacks


def test_searches_of_many_threads() -> None:
    """Threads may ask at the same time as goroutines start, wait, leak and end."""

    def work() -> None:
        for _ in range(scaled(30, 3)):
            ch: Chan[int] = Chan()
            gs = [go(ch.recv), go(lambda: Chan().recv())]
            until(lambda gs=gs: (runtime.find_leaks(), gs[1].done)[1])  # type: ignore[misc]
            assert not gs[0].done
            ch.send(1)
            gs[0].join()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for t in threads:
        t.start()
    work()
    for t in threads:
        t.join()


# --- testing.no_leaks ---------------------------------------------------------------------------


def test_no_leaks_tells_who_was_ended() -> None:
    """A goroutine that the collector ended inside the block was left behind all the same."""
    with pytest.raises(AssertionError) as caught:
        with no_leaks():
            g = go(in_loop)
            parked(g)
            gc.collect()
            dead(g)
    text = str(caught.value)
    assert "a goroutine was left behind" in text
    assert "nothing can wake it" in text
    assert str(g.created_by) in text
    line = in_loop.__code__.co_firstlineno + 3
    assert f"{os.path.basename(__file__)}:{line}" in text


def test_no_leaks_tells_where_it_waits() -> None:
    """One that is alive is named with the place where it waits."""
    ch: Chan[int] = Chan()

    def body() -> None:
        ch.recv()

    with pytest.raises(AssertionError) as caught:
        with no_leaks(grace=0.01):
            g = go(body)
            parked(g)
    code = body.__code__
    assert f"[chan receive at {code.co_filename}:{code.co_firstlineno + 1}]" in str(caught.value)
    assert "nothing can wake it" not in str(caught.value)
    ch.send(1)
    g.join()


# --- how much of a frame's stack is in use --------------------------------------------------------


def codes_of(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield a code object and all within it."""
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from codes_of(const)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="frames tell it themselves")
def test_depths() -> None:
    """The depth of the stack is known all through the code, and fills what CPython reserves."""
    for module in (threading, types, _leaks, gc and pytest, sys.modules[__name__]):
        path = str(module.__file__)
        with open(path, encoding="utf-8") as file:
            top = compile(file.read(), path, "exec")
        for code in codes_of(top):
            depths = _leaks.depths(code)
            assert depths, code
            assert max(depths.values()) <= code.co_stacksize
            if sys.version_info < (3, 13):  # which reserves a little more at times
                assert max(depths.values()) == code.co_stacksize, code
