"""Channels and select between goroutines of several threads."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from goroutines import (
    Chan,
    ChannelClosed,
    Select,
    WaitGroup,
    go,
    gosched,
    recv,
    recv_ok,
    runtime,
    select,
    send,
    sleep,
)
from goroutines.sync.atomic import Int64

from .tools import alone, in_threads, scaled, spread, within

ITEMS = scaled(3000)
WAYS = 8


def carry(cap: int) -> None:
    """Have senders and receivers on all threads share one channel; count what arrives."""
    ch: Chan[int] = Chan(cap)
    senders = WaitGroup()
    senders.add(WAYS)

    def work(i: int) -> list[int]:
        if i % 2:
            return list(ch)
        for k in range(ITEMS):
            ch.send(i // 2 * ITEMS + k)
        senders.done()
        return []

    workers = spread(2 * WAYS, work)
    senders.wait()
    ch.close()
    got = [value for taken in workers.join() for value in taken]
    assert len(got) == WAYS * ITEMS
    assert sorted(got) == list(range(WAYS * ITEMS))


@alone()
def test_unbuffered_each_value_once() -> None:
    """Eight senders and eight receivers of an unbuffered channel: nothing lost or doubled."""
    carry(0)


@alone()
def test_buffered_each_value_once() -> None:
    """The same over buffers that are now full, now empty."""
    for cap in (1, 7, 128):
        carry(cap)


@alone()
def test_fifo_for_each_sender() -> None:
    """A receiver sees each sender's values in the order of its sends."""
    for cap in (0, 1, 64):
        ch: Chan[tuple[int, int]] = Chan(cap)

        def work(i: int, ch: Chan[tuple[int, int]] = ch) -> None:
            for k in range(ITEMS):
                ch.send((i, k))

        senders = spread(WAYS, work)
        seen: list[list[int]] = [[] for _ in range(WAYS)]
        for _ in range(WAYS * ITEMS):
            who, k = ch.recv()
            seen[who].append(k)
        senders.join()
        assert seen == [list(range(ITEMS))] * WAYS


@alone()
def test_each_receiver_sees_one_senders_values_in_order() -> None:
    """With several receivers what each of them gets of a sender is still ascending."""
    ch: Chan[int] = Chan(3)

    def take(i: int) -> list[int]:
        return list(ch)

    takers = spread(WAYS, take)
    for k in range(4 * ITEMS):
        ch.send(k)
    ch.close()
    got = takers.join()
    assert all(part == sorted(part) for part in got)
    assert sorted(k for part in got for k in part) == list(range(4 * ITEMS))


@alone()
def test_pairs_that_do_not_know_each_other() -> None:
    """Many pairs over channels of their own, each pair's ends on any threads."""
    chans: list[Chan[int]] = [Chan() for _ in range(WAYS)]

    def work(i: int) -> int:
        ch = chans[i // 2]
        if i % 2:
            return sum(ch.recv() for _ in range(ITEMS))
        for k in range(ITEMS):
            ch.send(k)
        return 0

    sums = spread(2 * WAYS, work).join()
    assert sums[1::2] == [ITEMS * (ITEMS - 1) // 2] * WAYS


@alone()
def test_ping_pong_across_threads() -> None:
    """Two that answer each other on two threads: no wake-up is ever lost."""
    ping: Chan[int] = Chan()
    pong: Chan[int] = Chan()

    def work(i: int) -> None:
        for k in range(4 * ITEMS):
            if i:
                ping.send(k)
                assert pong.recv() == -k
            else:
                assert ping.recv() == k
                pong.send(-k)

    spread(2, work).join()


@alone()
def test_ring_over_all_threads() -> None:
    """A token goes round a ring whose members are on all threads."""
    size = 32
    ring: list[Chan[int]] = [Chan() for _ in range(size)]

    def member(i: int) -> None:
        for lap in range(ITEMS // 10):
            if i == 0:
                ring[1].send(lap)
                assert ring[0].recv() == lap + size - 1
            else:
                ring[(i + 1) % size].send(ring[i].recv() + 1)

    spread(size, member).join()


@alone()
def test_close_meets_receivers() -> None:
    """A close wakes every receiver of every thread; all see the end, and what was sent."""
    for _ in range(scaled(100)):
        ch: Chan[int] = Chan(2)
        ends = Int64()

        def take(i: int, ch: Chan[int] = ch, ends: Int64 = ends) -> list[int]:
            got = list(ch)
            assert ch.recv_ok() == (None, False)
            ends.add(1)
            return got

        takers = spread(WAYS, take)
        for k in range(10):
            ch.send(k)
        ch.close()
        assert sorted(k for part in takers.join() for k in part) == list(range(10))
        assert ends.load() == WAYS


@alone()
def test_close_meets_senders() -> None:
    """Senders on all threads against a close: what send accepted is received, the rest raises."""
    rng = random.Random(1)
    for _ in range(scaled(100)):
        ch: Chan[int] = Chan(rng.choice((0, 1, 4)))
        got: list[int] = []

        def put(i: int, ch: Chan[int] = ch) -> list[int]:
            accepted = []
            for k in range(50):
                try:
                    ch.send(i * 50 + k)
                except ChannelClosed as closed:
                    assert closed.chan is ch
                    break
                accepted.append(i * 50 + k)
            return accepted

        senders = spread(WAYS, put)
        for _ in range(rng.randrange(WAYS * 40)):
            got.append(ch.recv())
        ch.close()
        got.extend(ch)
        accepted = [k for part in senders.join() for k in part]
        assert sorted(got) == sorted(accepted)


@alone()
def test_one_close_of_many_succeeds() -> None:
    """Of closes on all threads exactly one does not raise."""
    for _ in range(scaled(100)):
        ch: Chan[int] = Chan()

        def close(i: int, ch: Chan[int] = ch) -> bool:
            try:
                ch.close()
            except ChannelClosed:
                return False
            return True

        assert sum(spread(WAYS, close).join()) == 1
        assert ch.closed


@alone()
def test_try_operations_race() -> None:
    """try_send and try_recv on all threads: the sums agree, and neither ever waits."""
    ch: Chan[int] = Chan(4)
    going = Int64(WAYS)

    def work(i: int) -> int:
        total = 0
        if i % 2:
            for k in range(ITEMS):
                while not ch.try_send(k):
                    gosched()
                total += k
            going.add(-1)
        else:
            while True:
                last = going.load() == 0
                value, ok = ch.try_recv()
                if ok:
                    total += value or 0
                elif last:
                    break
                else:
                    gosched()
        return total

    sums = spread(2 * WAYS, work).join()
    assert sum(sums[1::2]) == sum(sums[0::2]) == WAYS * (ITEMS * (ITEMS - 1) // 2)
    assert len(ch) == 0


@alone()
def test_timeouts_race_with_values() -> None:
    """A receive that times out took nothing; a send that timed out gave nothing."""
    ch: Chan[int] = Chan()
    ending = Chan[None]()

    def work(i: int) -> list[int]:
        rng, done = random.Random(i), []
        if i % 2:
            for k in range(ITEMS // 10):
                try:
                    ch.send(i * ITEMS + k, timeout=rng.choice((0, 0.00001, 0.001)))
                except TimeoutError:
                    gosched()
                else:
                    done.append(i * ITEMS + k)
        else:
            while not ending.closed:
                try:
                    done.append(ch.recv(timeout=rng.choice((0, 0.00001, 0.001))))
                except TimeoutError:
                    gosched()
        return done

    workers = spread(2 * WAYS, work)
    for g in workers.gs[1::2]:
        g.join()
    ending.close()
    parts = workers.join()
    sent = [k for part in parts[1::2] for k in part]
    got = [k for part in parts[0::2] for k in part]
    assert sorted(sent) == sorted(got)


@alone()
def test_plain_threads_and_goroutines_share_channels() -> None:
    """Plain OS threads send and receive beside goroutines on all threads."""
    ch: Chan[int] = Chan(1)
    back: Chan[int] = Chan(1)

    def thread(i: int) -> None:
        for k in range(ITEMS // 4):
            ch.send(k)
            back.recv()

    def work(i: int) -> int:
        total = 0
        for value in ch:
            total += value
            back.send(value)
        return total

    workers = spread(WAYS, work)
    threads = in_threads(4, thread)
    within(lambda: not any(t.is_alive() for t in threads), "that the threads have ended")
    ch.close()
    each = ITEMS // 4
    assert sum(workers.join()) == 4 * (each * (each - 1) // 2)


@alone()
def test_a_wake_up_reaches_a_sleeping_thread() -> None:
    """When all threads sleep, one send wakes the one whose goroutine waits, each time."""
    chans: list[Chan[int]] = [Chan() for _ in range(WAYS)]
    back: Chan[int] = Chan()

    def work(i: int) -> None:
        for k in chans[i]:
            back.send(k)

    workers = spread(WAYS, work)
    for k in range(scaled(200)):
        sleep(0.0005)  # so that the others are idle
        chans[k % WAYS].send(k)
        assert back.recv() == k
    for ch in chans:
        ch.close()
    workers.join()


# --- select -----------------------------------------------------------------------------------


@alone()
def test_two_selects_meet() -> None:
    """Selects with send and receive cases on both sides, in opposite order, always pair up."""
    a: Chan[int] = Chan()
    b: Chan[int] = Chan()

    def work(i: int) -> tuple[int, int]:
        sent = got = 0
        for _ in range(ITEMS):
            if i:
                cases = (send(a, 1), recv(b))
            else:
                cases = (send(b, 1), recv(a))
            index, value = select(*cases)
            if index == 0:
                sent += 1
            else:
                assert value == 1
                got += 1
        return sent, got

    (sent0, got0), (sent1, got1) = spread(2, work).join()
    assert sent0 == got1
    assert sent1 == got0
    assert sent0 + got0 == sent1 + got1 == ITEMS


@alone()
def test_many_selects_lock_in_any_order() -> None:
    """Selects over the same channels named in many orders: no deadlock, nothing lost."""
    chans: list[Chan[int]] = [Chan(i % 2) for i in range(4)]
    stop: Chan[None] = Chan()

    def work(i: int) -> tuple[int, int]:
        rng, sent, got = random.Random(i), 0, 0
        if i % 2:
            for k in range(ITEMS // 3):
                order = rng.sample(chans, len(chans))
                select(*[send(ch, k) for ch in order])
                sent += k
            return sent, 0
        while True:
            order = rng.sample(chans, len(chans))
            index, value = select(*[recv(ch) for ch in order], recv_ok(stop))
            if index == len(chans):
                break
            got += value
        return 0, got

    workers = spread(2 * WAYS, work)
    for g in workers.gs[1::2]:
        g.join()
    rest = 0
    while (found := select(*[recv(ch) for ch in chans], timeout=0))[0] >= 0:
        rest += found[1]
    stop.close()
    totals = workers.join()
    assert sum(sent for sent, _ in totals) == sum(got for _, got in totals) + rest


@alone()
def test_both_sides_select_among_many() -> None:
    """Each select both sends and receives on every channel; what is sent arrives once."""
    chans: list[Chan[int]] = [Chan() for _ in range(3)]
    stop: Chan[None] = Chan()
    unfinished = Int64(WAYS)

    def work(i: int) -> tuple[list[int], list[int]]:
        rng = random.Random(i)
        sent: list[int] = []
        got: list[int] = []
        while True:
            value = i * 10_000_000 + len(sent)
            cases: list[Any] = [recv(ch) for ch in chans] + [send(ch, value) for ch in chans]
            order = rng.sample(range(len(cases)), len(cases))
            index, what = select(*[cases[j] for j in order], recv_ok(stop))
            if index == len(cases):
                return sent, got
            if order[index] < len(chans):
                got.append(what)
            else:
                sent.append(value)
            if len(sent) + len(got) == ITEMS // 4:
                unfinished.add(-1)

    workers = spread(WAYS, work)
    within(lambda: unfinished.load() <= 2, "that most have exchanged enough")
    stop.close()
    parts = workers.join()
    sent = [k for part, _ in parts for k in part]
    got = [k for _, part in parts for k in part]
    assert sorted(sent) == sorted(got)


@alone()
def test_the_same_channel_in_several_cases() -> None:
    """A select that names one channel several times, among others on other threads."""
    a: Chan[int] = Chan()
    b: Chan[int] = Chan()

    def work(i: int) -> int:
        total = 0
        for k in range(ITEMS):
            if i % 2:
                select(send(a, k), send(b, k), send(a, k))
            else:
                total += select(recv(a), recv(a), recv(b), recv(b))[1]
        return total

    sums = spread(WAYS, work).join()
    assert sum(sums) == WAYS // 2 * (ITEMS * (ITEMS - 1) // 2)


@alone()
def test_prepared_select_in_many_goroutines() -> None:
    """One Select object may be called by several goroutines at once."""
    a: Chan[int] = Chan()
    b: Chan[int] = Chan(3)
    either = Select(recv(a), recv(b))

    def work(i: int) -> int:
        if i % 2:
            for k in range(ITEMS):
                (a if k % 2 else b).send(k)
            return 0
        return sum(either()[1] for _ in range(ITEMS))

    sums = spread(2 * WAYS, work).join()
    assert sum(sums) == WAYS * (ITEMS * (ITEMS - 1) // 2)


@alone()
def test_select_with_timeouts_loses_nothing() -> None:
    """A select that times out while the other side fires took nothing."""
    a: Chan[int] = Chan()
    b: Chan[int] = Chan()
    over: Chan[None] = Chan()

    def work(i: int) -> list[int]:
        rng, done = random.Random(i), []
        if i % 2:
            for k in range(ITEMS // 10):
                value = i * ITEMS + k
                index, _ = select(send(a, value), send(b, value), timeout=rng.choice((0, 0.0001)))
                if index >= 0:
                    done.append(value)
        else:
            while not over.closed:
                index, value = select(recv(b), recv(a), timeout=rng.choice((0, 0.0001)))
                if index >= 0:
                    done.append(value)
                else:
                    gosched()
        return done

    workers = spread(2 * WAYS, work)
    for g in workers.gs[1::2]:
        g.join()
    over.close()
    parts = workers.join()
    sent = [k for part in parts[1::2] for k in part]
    got = [k for part in parts[0::2] for k in part]
    assert sorted(sent) == sorted(got)


@alone()
def test_close_meets_selects() -> None:
    """A close reaches each select that waits on the channel, on every thread."""
    for _ in range(scaled(100)):
        a: Chan[int] = Chan()
        b: Chan[int] = Chan()

        def work(i: int, a: Chan[int] = a, b: Chan[int] = b) -> int:
            return select(recv_ok(b), recv_ok(a), send(b, 1) if i == 0 else recv_ok(None))[0]

        workers = spread(WAYS, work)
        go(a.close)
        found = Counter(workers.join())
        assert found[0] == found[2] <= 1
        assert found[1] == WAYS - found[0] - found[2]


@alone()
def test_select_is_fair() -> None:
    """Among cases that are ready on other threads none is forgotten."""
    chans: list[Chan[int]] = [Chan() for _ in range(4)]
    stop: Chan[None] = Chan()

    def feed(i: int) -> None:
        while select(send(chans[i], i), recv_ok(stop))[0] == 0:
            pass

    def pick() -> Counter[int]:
        count = scaled(2000, 400)
        return Counter(select(*[recv(ch) for ch in chans])[1] for _ in range(count))

    feeders = spread(4, feed)
    found = pick()
    # The system may let a feeder's thread wait for longer than all that takes.
    within(lambda: found.update(pick()) or len(found) == 4, f"that all 4 are in {found}")
    stop.close()
    feeders.join()
    assert set(found) == {0, 1, 2, 3}, (found, runtime.gomaxprocs())
