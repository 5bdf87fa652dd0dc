"""Thousands of goroutines doing random things, every value accounted for."""

from __future__ import annotations

import gc
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import goroutines
from goroutines import (
    Chan,
    ChannelClosed,
    GoroutineExit,
    Panic,
    Select,
    WaitGroup,
    blocking,
    go,
    gosched,
    num_goroutine,
    recv,
    recv_ok,
    run,
    select,
    send,
    sleep,
)

from ..conftest import FREE_THREADED, dead, scaled, until

SEEDS = (1, 2, 3)
each_seed = pytest.mark.parametrize("seed", SEEDS)


def random_channels(rng: random.Random, count: int) -> list[Chan[Any]]:
    """Return channels of various capacities, half of them unbuffered."""
    return [Chan(rng.choice((0, 0, 0, 1, 2, 16))) for _ in range(count)]


# --- senders ----------------------------------------------------------------------------------
# Each puts one value into one of two channels, and returns when it is certainly there.


def put(rng: random.Random, a: Chan[Any], b: Chan[Any], value: object) -> None:
    """Send plainly."""
    a.send(value)


def put_with_timeouts(rng: random.Random, a: Chan[Any], b: Chan[Any], value: object) -> None:
    """Send with time-outs that run out now and then."""
    while True:
        try:
            a.send(value, timeout=rng.choice((0, 0.0001, 0.001, 3600)))
        except TimeoutError:
            a, b = b, a
            gosched()
        else:
            return


def put_by_trying(rng: random.Random, a: Chan[Any], b: Chan[Any], value: object) -> None:
    """Send without waiting, as often as it takes."""
    for attempt in range(200):
        if a.try_send(value):
            return
        a, b = b, a
        gosched()
    a.send(value)


def put_by_select(rng: random.Random, a: Chan[Any], b: Chan[Any], value: object) -> None:
    """Send to whichever channel is ready first."""
    select(send(a, value), send(b, value), recv(None))


def put_by_select_with_timeouts(
    rng: random.Random, a: Chan[Any], b: Chan[Any], value: object
) -> None:
    """Send by a prepared select that gives up now and then."""
    either = Select(send(a, value), send(b, value))
    while either(timeout=rng.choice((0, 0.0001, 3600)))[0] < 0:
        gosched()


PUTS: tuple[Callable[..., None], ...] = (
    put,
    put_with_timeouts,
    put_by_trying,
    put_by_select,
    put_by_select_with_timeouts,
)

# --- receivers --------------------------------------------------------------------------------
# Each takes values from all channels until every one of them is closed and drained.


def take_by_select(rng: random.Random, chans: list[Chan[Any]], out: list[Any]) -> None:
    """Select among all channels that are still open."""
    open_: list[Chan[Any] | None] = list(chans)
    while any(open_):
        index, (value, ok) = select(*[recv_ok(ch) for ch in open_])
        if ok:
            out.append(value)
        else:
            open_[index] = None


def take_by_select_with_timeouts(
    rng: random.Random, chans: list[Chan[Any]], out: list[Any]
) -> None:
    """Select with time-outs, learning of the end from ChannelClosed."""
    open_: list[Chan[Any] | None] = list(chans)
    while any(open_):
        try:
            timeout = rng.choice((0, 0.0001, 0.01))
            index, value = select(*[recv(ch) for ch in open_], timeout=timeout)
        except ChannelClosed as closed:
            open_[closed.index] = None
        else:
            if index >= 0:
                out.append(value)
            else:
                gosched()


def take_one_by_one(rng: random.Random, chans: list[Chan[Any]], out: list[Any]) -> None:
    """Receive from one random channel after the other, with time-outs and without waiting."""
    open_ = list(chans)
    while open_:
        ch = rng.choice(open_)
        try:
            if rng.random() < 0.5:
                value, ok = ch.try_recv()
                if ok:
                    out.append(value)
                elif ch.closed and len(ch) == 0:
                    open_.remove(ch)
                else:
                    gosched()
            else:
                out.append(ch.recv(timeout=rng.choice((0, 0.0001, 0.001))))
        except TimeoutError:
            gosched()
        except ChannelClosed:
            open_.remove(ch)


def take_by_loops(rng: random.Random, chans: list[Chan[Any]], out: list[Any]) -> None:
    """Loop over each channel in a goroutine of its own."""
    gs = [go(lambda ch=ch: out.extend(ch)) for ch in chans]
    for g in gs:
        g.join()


TAKES = (take_by_select, take_by_select_with_timeouts, take_one_by_one, take_by_loops)


@each_seed
def test_every_value_arrives_once(seed: int) -> None:
    """Whatever way values are sent and received, each arrives exactly once."""
    rng = random.Random(seed)
    chans = random_channels(rng, 8)
    out: list[int] = []
    producers = WaitGroup()

    def produce(base: int, rng: random.Random) -> None:
        for i in range(20):
            a, b = rng.choice(chans), rng.choice(chans)
            rng.choice(PUTS)(rng, a, b, base + i)
            if rng.random() < 0.1:
                gosched()

    count = scaled(5000)
    consumers = [
        go(TAKES[i % len(TAKES)], random.Random(rng.random()), chans, out) for i in range(40)
    ]
    for i in range(count):
        producers.go(produce, i * 20, random.Random(rng.random()))
    producers.wait()
    for ch in chans:
        ch.close()
    for g in consumers:
        g.join()
    assert sorted(out) == list(range(count * 20))


@each_seed
def test_random_closes(seed: int) -> None:
    """Channels closed at random moments: what send accepted is received, nothing else is."""
    rng = random.Random(seed)
    chans = random_channels(rng, 100)
    out: list[int] = []
    sent: list[int] = []
    refused: list[int] = []

    def produce(base: int, rng: random.Random) -> None:
        for i in range(20):
            value = base + i
            a, b = rng.choice(chans), rng.choice(chans)
            try:
                rng.choice(PUTS)(rng, a, b, value)
            except ChannelClosed as closed:
                assert closed.chan in (a, b)
                refused.append(value)
            else:
                sent.append(value)

    def close(ch: Chan[Any], rng: random.Random) -> None:
        for _ in range(rng.randrange(1000)):
            gosched()
            if rng.random() < 0.02:
                sleep(0.0001)
        ch.close()

    count = scaled(2000)
    gs = [go(take_by_select, rng, chans, out) for _ in range(5)]
    gs += [go(take_by_select_with_timeouts, random.Random(seed + i), chans, out) for i in range(5)]
    gs += [go(produce, i * 20, random.Random(rng.random())) for i in range(count)]
    gs += [go(close, ch, random.Random(rng.random())) for ch in chans]
    for g in gs:
        g.join()
    assert sorted(out) == sorted(sent)
    assert sorted(sent + refused) == list(range(count * 20))


@each_seed
def test_close_race(seed: int) -> None:
    """Of many goroutines that close one channel exactly one succeeds."""
    rng = random.Random(seed)
    for _ in range(scaled(10_000)):
        ch: Chan[int] = Chan(rng.choice((0, 1)))
        results: Counter[str] = Counter()
        waiters = [go(ch.recv_ok) for _ in range(rng.randrange(5))]

        def close(ch: Chan[int] = ch, results: Counter[str] = results) -> None:
            try:
                ch.close()
            except ChannelClosed:
                results["late"] += 1
            else:
                results["closed"] += 1

        gs = [go(close) for _ in range(5)]
        for g in gs + waiters:
            g.join()
        assert results["closed"] == 1


# --- threads ----------------------------------------------------------------------------------


@each_seed
def test_threads_and_goroutines_mixed(seed: int) -> None:
    """Plain threads send and receive among goroutines, and nothing is lost."""
    rng = random.Random(seed)
    chans = random_channels(rng, 5)
    outs: list[list[int]] = [[] for _ in range(8)]
    finished = Chan[int](100)

    def produce(base: int, rng: random.Random) -> None:
        for i in range(50):
            a, b = rng.choice(chans), rng.choice(chans)
            rng.choice(PUTS)(rng, a, b, base + i)
        finished.send(base)

    def consume(i: int, rng: random.Random) -> None:
        TAKES[i % len(TAKES)](rng, chans, outs[i])

    def thread(fn: Callable[..., None], *args: Any) -> threading.Thread:
        thread = threading.Thread(target=fn, args=args, daemon=True)
        thread.start()
        return thread

    def rng_() -> random.Random:
        return random.Random(rng.random())

    takers = [go(consume, i, rng_()) for i in range(4)]
    threads = [thread(consume, i, rng_()) for i in range(4, 8)]
    count = scaled(600)
    for i in range(count):
        if i % 2:
            go(produce, i * 50, rng_())
        else:
            threads.append(thread(produce, i * 50, rng_()))
    for _ in range(count):
        finished.recv()
    for ch in chans:
        ch.close()
    for g in takers:
        g.join()
    until(lambda: not any(t.is_alive() for t in threads), "that the threads have ended")
    assert sorted(value for out in outs for value in out) == list(range(count * 50))


@each_seed
def test_threads_that_end_with_goroutines_left(seed: int) -> None:
    """Threads come and go and leave goroutines unstarted, parked and runnable."""
    rng = random.Random(seed)
    started: list[int] = []
    ended: list[int] = []
    ran: list[int] = []
    gs: list[goroutines.Goroutine] = []

    def linger(i: int, wait: int) -> None:
        started.append(i)
        try:
            if wait == 0:
                Chan().recv()
            elif wait == 1:
                sleep(3600)
            elif wait == 2:
                select(recv(Chan()), send(Chan(), 1))
            while True:
                gosched()
        finally:
            ended.append(i)

    def body(base: int, rng: random.Random) -> None:
        mine = [go(linger, base + i, rng.randrange(4)) for i in range(rng.randrange(5))]
        until(lambda: all(base + i in started for i in range(len(mine))), "that all began")
        gs.extend(mine)
        gs.extend(go(ran.append, base + i) for i in range(3))

    count = scaled(200)
    threads = [
        threading.Thread(target=body, args=(i * 10, random.Random(rng.random())), daemon=True)
        for i in range(count)
    ]
    for thread in threads:
        thread.start()
    until(lambda: not any(t.is_alive() for t in threads), "that the threads have ended")
    dead(*gs)
    assert sorted(ran) == [i * 10 + j for i in range(count) for j in range(3)]
    assert sorted(ended) == sorted(started)


# --- exceptions at every park point -----------------------------------------------------------


def random_wait(rng: random.Random, chans: list[Chan[Any]]) -> None:
    """Do one thing that may park, with any outcome."""
    a, b = rng.choice(chans), rng.choice(chans)
    kind = rng.randrange(9)
    try:
        if kind == 0:
            a.send(1)
        elif kind == 1:
            a.recv()
        elif kind == 2:
            a.recv_ok(timeout=rng.choice((0, 0.0001, 3600)))
        elif kind == 3:
            select(recv(a), send(b, 2), recv_ok(b))
        elif kind == 4:
            select(recv(a), timeout=rng.choice((0, 0.0001)))
        elif kind == 5:
            sleep(rng.choice((0, 0.0001, 3600)))
        elif kind == 6:
            gosched()
        elif kind == 7:
            go(gosched).join()
        else:
            sorted([2, 1], key=lambda n: a.try_send(n) or gosched() or n)
    except TimeoutError:
        pass


@each_seed
def test_exit_thrown_at_every_park_point(seed: int) -> None:
    """GoroutineExit reaches goroutines at whatever they wait for; all of them clean up."""
    rng = random.Random(seed)
    before = num_goroutine()
    for _ in range(scaled(150)):
        entered: list[int] = []
        left: list[int] = []

        def worker(i: int, rng: random.Random, chans: list[Chan[Any]]) -> None:
            entered.append(i)
            try:
                while True:
                    try:
                        random_wait(rng, chans)
                    except GoroutineExit:
                        if rng.random() < 0.5:
                            continue  # swallowed: it comes again
                        raise
                    finally:
                        if rng.random() < 0.1:
                            gosched()
            finally:
                if rng.random() < 0.2:
                    sleep(0.0001)
                left.append(i)

        def main() -> None:
            chans = random_channels(rng, 5)
            for i in range(100):
                go(worker, i, random.Random(rng.random()), chans)
            for _ in range(rng.randrange(30)):
                gosched()
            if rng.random() < 0.5:
                sleep(0.001)

        run(main)
        assert sorted(left) == sorted(entered)
        assert num_goroutine() == before


@each_seed
def test_values_survive_exits(seed: int) -> None:
    """When receivers and senders are ended at random no value appears twice or from nowhere."""
    rng = random.Random(seed)
    for _ in range(scaled(150)):
        chans = random_channels(rng, 4)
        offered: list[int] = []
        out: list[int] = []

        def produce(base: int, rng: random.Random, chans: list[Chan[Any]] = chans,
                    offered: list[int] = offered) -> None:  # fmt: skip
            for i in range(50):
                offered.append(base + i)
                rng.choice(PUTS)(rng, rng.choice(chans), rng.choice(chans), base + i)

        def main(
            chans: list[Chan[Any]] = chans,
            out: list[int] = out,
            produce: Callable[..., None] = produce,
        ) -> None:
            for i in range(20):
                go(produce, i * 50, random.Random(rng.random()))
            for i in range(4):
                go(TAKES[i], random.Random(rng.random()), chans, out)
            for _ in range(rng.randrange(60)):
                gosched()

        run(main)
        for ch in chans:  # what is left in the buffers; nobody waits there any more
            assert ch.cap > 0 or ch.try_recv() == (None, False)
            ch.close()
            out.extend(ch)
        assert len(out) == len(set(out))
        assert set(out) <= set(offered)


@each_seed
def test_panics_thrown_at_random(seed: int) -> None:
    """Goroutines that fail at random are each reported to the hook once, the rest go on."""
    rng = random.Random(seed)
    reported: list[int] = []
    raised: list[int] = []
    ended: list[int] = []

    def worker(i: int, rng: random.Random) -> None:
        ch: Chan[int] = Chan()
        for _ in range(rng.randrange(10)):
            kind = rng.randrange(3)
            if kind == 0:
                go(ch.send, i)
                assert ch.recv() == i
            elif kind == 1:
                sleep(0.0001)
            if rng.random() < 0.1:
                raised.append(i)
                raise ValueError(i)
        ended.append(i)

    def hook(g: goroutines.Goroutine, exc: BaseException) -> bool:
        gosched()
        assert isinstance(exc, ValueError)
        reported.append(exc.args[0])
        return True

    old = goroutines.set_panic_hook(hook)
    try:
        count = scaled(20_000)
        gs = [go(worker, i, random.Random(rng.random())) for i in range(count)]
        for g in gs:
            g.join()
        until(lambda: len(reported) == len(raised), "that every panic was reported")
    finally:
        goroutines.set_panic_hook(old)
    assert sorted(reported) == sorted(raised)
    assert sorted(raised + ended) == list(range(count))


@pytest.mark.skipif(
    FREE_THREADED and goroutines.runtime.gomaxprocs() > 1,
    reason="needs that main is interrupted where it waits only: the handler is not ready elsewhere",
)
@each_seed
def test_panics_interrupt_main_anywhere(seed: int) -> None:
    """Panics that reach main in the middle of its waits lose no value of the others."""
    rng = random.Random(seed)
    ch: Chan[int] = Chan(rng.choice((0, 3)))
    count = scaled(20_000)
    out: list[int] = []
    caught = [0]
    old = goroutines.set_panic_hook(lambda g, exc: False)  # main panics, nothing is printed

    begin: Chan[None] = Chan()

    def produce() -> None:
        begin.recv_ok()
        for i in range(count):
            ch.send(i)
            if i == 0 or rng.random() < 0.1:
                spawned.append(go(fail))
        ch.close()

    def fail() -> None:
        failed.append(1)
        raise ValueError("boom")

    failed: list[int] = []
    spawned: list[goroutines.Goroutine] = []
    reader = go(lambda: out.extend(ch))
    g = go(produce)
    try:
        while not (g.done and reader.done):
            try:
                if not begin.closed:
                    begin.close()
                rng.choice((g.join, reader.join, gosched, lambda: sleep(0.0001)))()
            except Panic as panic:
                assert isinstance(panic.__cause__, ValueError)
                caught[0] += 1
        left = len(spawned) + 1  # panics that may still be on their way
        while left > 0 or not all(g.done for g in spawned):
            left -= 1
            try:
                sleep(0.0001)
            except Panic:
                caught[0] += 1
    finally:
        goroutines.set_panic_hook(old)
    assert out == list(range(count))
    assert 0 < caught[0] <= len(failed)


# --- everything at once -----------------------------------------------------------------------


@each_seed
def test_collections_among_it(seed: int) -> None:
    """The collector runs at random moments while goroutines exchange cyclic garbage."""
    rng = random.Random(seed)
    chans = random_channels(rng, 4)
    out: list[int] = []
    wg = WaitGroup()

    def produce(base: int, rng: random.Random) -> None:
        for i in range(10):
            cyclic: dict[str, Any] = {"value": base + i}
            cyclic["self"] = cyclic
            rng.choice(PUTS)(rng, rng.choice(chans), rng.choice(chans), cyclic)
            del cyclic
            if rng.random() < often:
                gc.collect(rng.randrange(3))

    def consume(rng: random.Random) -> None:
        received: list[Any] = []
        take_by_select(rng, chans, received)
        out.extend(cyclic["self"]["value"] for cyclic in received)

    gc.freeze()
    old = gc.get_threshold()
    # a free-threaded interpreter looks at everything each time
    often, threshold = (0.001, 1000) if FREE_THREADED else (0.02, 20)
    gc.set_threshold(threshold, 2, 2)
    try:
        consumers = [go(consume, rng) for _ in range(5)]
        count = scaled(2000)
        for i in range(count):
            wg.go(produce, i * 10, random.Random(rng.random()))
        wg.wait()
        for ch in chans:
            ch.close()
        for g in consumers:
            g.join()
    finally:
        gc.set_threshold(*old)
        gc.unfreeze()
    assert sorted(out) == list(range(count * 10))


@each_seed
def test_ring_with_blocking_and_sleeps(seed: int) -> None:
    """A token goes round a ring whose members sleep, yield and call blocking functions."""
    rng = random.Random(seed)
    size = 100
    ring: list[Chan[int]] = [Chan(rng.choice((0, 1))) for _ in range(size)]
    rounds = scaled(500)

    def member(i: int, rng: random.Random) -> None:
        for _ in range(rounds):
            token = ring[i].recv()
            kind = rng.randrange(20)
            if kind == 0:
                sleep(0.0001)
            elif kind == 1:
                assert blocking(lambda: i) == i
            elif kind < 10:
                gosched()
            ring[(i + 1) % size].send(token + 1)

    gs = [go(member, i, random.Random(rng.random())) for i in range(1, size)]
    for n in range(rounds):
        ring[1].send(n * size)
        assert ring[0].recv() == n * size + size - 1
    for g in gs:
        g.join()


@pytest.mark.slow
def test_spawn_storm() -> None:
    """A hundred thousand goroutines are started by each other and all end."""
    count = scaled(100_000)
    ended: list[None] = []
    wg = WaitGroup()

    def spawn(n: int) -> None:
        if n > 1:
            wg.go(spawn, n // 2)
            wg.go(spawn, n - n // 2)
        else:
            ended.append(None)

    wg.go(spawn, count)
    wg.wait()
    assert len(ended) == count
