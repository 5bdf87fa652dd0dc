"""Collections at any moment, and looking at goroutines of other threads while they run."""

from __future__ import annotations

import gc
import random
import sys
import threading
import traceback
import weakref
from typing import Any

import goroutines
from goroutines import Chan, current, go, gosched, num_goroutine, runtime, sleep
from goroutines.sync.atomic import Bool, Int64

from .tools import alone, in_threads, nap, scaled, spread, within


def made_of_text(i: int) -> tuple[Any, Any, Any]:
    """A function, a class and code that nothing but the caller's frame holds."""
    space: dict[str, Any] = {}
    exec(
        f"def top():\n  return {i}\n"
        f"class K:\n  x = [{i}]\n  def m(self): return self.x[0]\n"
        f"def outer():\n  y = [{i}]\n  def inner(): return y[0]\n  return inner\n",
        space,
    )
    top, kind, inner = space.pop("top"), space.pop("K"), space.pop("outer")()
    space.clear()
    return top, kind, inner


def hold(i: int, gate: Chan[int], alive: list[Any]) -> bool:
    """Wait with objects that only this frame refers to, cycles among them; then use them."""
    top, kind, inner = made_of_text(i)
    code = compile(f"{i} + 0", "held", "eval")
    cycle: dict[str, Any] = {"a": [i]}
    cycle["self"] = cycle
    thing = kind()
    thing.me = thing
    alive.append(weakref.ref(thing))
    numbers = (k + i for k in range(3))
    next(numbers)

    def closure() -> int:
        return cycle["self"]["a"][0] + len(text)

    text = "x" * i
    got = gate.recv() + [i, gate.recv()][0] - i  # with values on the stack
    assert top() == kind().m() == inner() == eval(code) == thing.me.m() == i
    assert closure() == 2 * i
    assert list(numbers) == [i + 1, i + 2]
    return got >= 0


@alone()
def test_what_only_a_parked_frame_holds_survives() -> None:
    """Collections while goroutines of all threads are parked free nothing of theirs."""
    gate: Chan[int] = Chan()
    alive: list[Any] = []
    count = scaled(400, 64)
    workers = spread(count, lambda i: hold(i, gate, alive))
    within(lambda: sum(g.state == "waiting" for g in workers.gs) == count, "that all wait")
    for _ in range(5):
        gc.collect()
    assert len(alive) == count
    assert all(ref() is not None for ref in alive)
    for k in range(2 * count):
        gate.send(k)
        if k % 100 == 0:
            gc.collect()
    assert all(workers.join())
    within(lambda: gc.collect() >= 0 and not any(ref() for ref in alive), "that all is freed")


@alone()
def test_collections_in_a_thread_at_any_moment() -> None:
    """A plain thread collects again and again while goroutines wait, wake, come and go."""
    over = Bool()
    collections = Int64()

    def collect(i: int) -> None:
        while not over.load():
            gc.collect()
            collections.add(1)
            # Without a rest the next collection stops the world before any thread that the
            # last one stopped has woken: on idle cores CPython's own threads starve as well.
            nap(0.0005)

    gate: Chan[int] = Chan()

    def work(i: int) -> int:
        good = 0
        for k in range(scaled(30)):
            if i % 2:
                good += hold(k, gate, [])
            else:
                gate.send(k)
                gate.send(k)
        return good

    workers = spread(16, work)
    threads = in_threads(1, collect)
    assert sum(workers.join()) == 8 * scaled(30)
    over.store(True)
    within(lambda: not threads[0].is_alive(), "that the collecting thread has ended")
    assert collections.load() > 0


@alone()
def test_collections_by_goroutines_of_all_threads() -> None:
    """gc.collect, and automatic collections, in goroutines on several threads at once."""
    ch: Chan[Any] = Chan(3)

    def work(i: int) -> int:
        total = 0
        for k in range(scaled(60)):
            if i % 2:
                cyclic: list[Any] = [i, k]
                cyclic.append(cyclic)
                ch.send(cyclic)
            else:
                cyclic = ch.recv()
                assert cyclic[2] is cyclic
                total += 1
            if k % 20 == i:
                gc.collect()
        return total

    old = gc.get_threshold()
    gc.set_threshold(50, 2, 2)
    try:
        assert sum(spread(8, work).join()) == 4 * scaled(60)
    finally:
        gc.set_threshold(*old)


@alone()
def test_finalizers_that_use_the_runtime() -> None:
    """__del__ and weak references' callbacks that send, run wherever the last reference goes."""
    ch: Chan[int] = Chan(10_000)
    callbacks = Int64()

    class Thing:
        def __init__(self, k: int) -> None:
            self.k, self.me = k, self

        def __del__(self) -> None:
            ch.send(self.k)

    def work(i: int) -> None:
        for k in range(scaled(50)):
            thing = Thing(i * 1000 + k)
            refs.append(weakref.ref(thing, lambda r: callbacks.add(1)))
            del thing
            if k % 10 == 0:
                gc.collect()
                gosched()

    refs: list[Any] = []
    spread(8, work).join()
    gc.collect()
    expected = 8 * scaled(50)
    within(lambda: gc.collect() >= 0 and len(ch) == expected, "that all were finalized")
    got = sorted(ch.recv() for _ in range(expected))
    assert got == sorted(i * 1000 + k for i in range(8) for k in range(scaled(50)))
    assert callbacks.load() == expected


@alone()
def test_objects_pass_between_threads() -> None:
    """Objects made on one thread, used on another and freed on a third; none leaks."""

    class Thing:
        made = Int64()

        def __init__(self) -> None:
            Thing.made.add(1)
            self.data = [self]

        def __del__(self) -> None:
            Thing.made.add(-1)

    stages: list[Chan[Thing]] = [Chan(2) for _ in range(4)]

    def work(i: int) -> None:
        for _ in range(scaled(300)):
            thing = Thing() if i == 0 else stages[i - 1].recv()
            thing.data.append(thing)
            if i < 4:
                stages[i].send(thing)
            del thing

    spread(5, work).join()
    within(lambda: gc.collect() >= 0 and Thing.made.load() == 0, "that all are freed")


@alone()
def test_the_list_and_dump_of_goroutines_that_run() -> None:
    """goroutines(), stack(all=True), and attributes, while the others run, wait, come and go."""
    over = Bool()
    ch: Chan[int] = Chan()

    def deeper(n: int) -> None:
        if n:
            return deeper(n - 1)
        sleep(0.0001)

    def work(i: int) -> None:
        k = 0
        while not over.load():
            k += 1
            kind = (i + k) % 4
            if kind == 0:
                go(gosched).join()
            elif kind == 1:
                deeper(20)
            elif kind == 2:
                try:
                    ch.send(k, timeout=0.0001)
                except TimeoutError:
                    pass
            else:
                ch.recv_ok(timeout=0) if len(ch) else gosched()

    workers = spread(8, work)
    states = set()
    for _ in range(scaled(100)):
        listed = goroutines.runtime.goroutines()
        assert len(listed) <= num_goroutine() + 32
        mine = {g.id for g in listed}
        assert {g.id for g in workers.gs} <= mine
        for g in listed:
            states.add(g.state)
            repr(g), g.wait_reason, g.created_by, g.name
        dump = runtime.stack(all=True)
        for g in workers.gs:
            assert f"goroutine {g.id} [" in dump
        gosched()
    over.store(True)
    workers.join()
    assert states <= {"runnable", "running", "waiting", "dead"}


@alone()
def test_dumps_from_all_threads_at_once() -> None:
    """Several that look at all the others, and collect, at the same time."""

    def work(i: int) -> None:
        for _ in range(scaled(20)):
            dump = runtime.stack(all=True)
            assert f"goroutine {current().id} [running]" in dump
            assert sum(g is current() for g in goroutines.runtime.goroutines()) == 1
            runtime.gc() if i == 0 else gosched()

    spread(8, work).join()


@alone()
def test_tracebacks_and_frames_of_other_threads() -> None:
    """Frames kept, walked and printed while their goroutine goes on elsewhere."""
    over = Bool()
    frames: list[Any] = []

    def work(i: int) -> None:
        while not over.load():
            frames.append(sys._getframe())
            inner(3)
            del frames[:-50]

    def inner(n: int) -> None:
        if n:
            return inner(n - 1)
        try:
            sleep(0.00005)
            raise ValueError(n)
        except ValueError as error:
            frames.append(error.__traceback__.tb_frame if error.__traceback__ else None)
            "".join(traceback.format_exception(error))

    workers = spread(4, work)
    for _ in range(scaled(100)):
        for frame in frames[-10:]:
            depth = 0
            while frame is not None and depth < 50:
                frame.f_code.co_name, frame.f_lineno
                frame, depth = frame.f_back, depth + 1
        gosched()
        sleep(0.0001)
    over.store(True)
    workers.join()
    frames.clear()


@alone()
def test_threads_frames_while_they_switch() -> None:
    """sys._current_frames and faulthandler's dump, from a thread, of threads that switch."""
    import faulthandler
    import tempfile

    over = Bool()

    def look(i: int) -> None:
        with tempfile.TemporaryFile() as file:
            while not over.load():
                assert sys._current_frames()
                faulthandler.dump_traceback(file, all_threads=i == 0)
                file.seek(0)

    workers = spread(8, lambda i: [gosched() for _ in range(scaled(3000))])
    (thread,) = in_threads(1, look)
    workers.join()
    over.store(True)
    within(lambda: not thread.is_alive(), "that the looking thread has ended")


@alone()
def test_memory_comes_back() -> None:
    """Rounds of goroutines on all threads that leave cycles behind: memory stays bounded."""
    rng = random.Random(3)

    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    def leave(i: int) -> None:
        ch: Chan[Any] = Chan(1)
        cycle: list[Any] = [ch, bytes(5000 + rng.randrange(100))]
        ch.send(cycle)
        gosched()

    def round_() -> None:
        spread(200, leave).join()
        gc.collect()

    for _ in range(5):
        round_()
    before = resident()
    for _ in range(scaled(30)):
        round_()
    assert resident() < before + 30_000_000, (before, resident(), threading.active_count())
