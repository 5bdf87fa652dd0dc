"""Channels: Go's rules for values, waiters, closing and time-outs, from every kind of thread."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from goroutines import Chan, ChannelClosed, WaitGroup, go, gosched, recv, select

from ..conftest import Token, dead, in_thread, parked, run_program, scaled, until

# --- making -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cap", [0, 1, 2, 1000])
def test_new_channel(cap: int) -> None:
    """A new channel is empty, open, true and has the capacity asked for."""
    ch: Chan[int] = Chan(cap)
    assert (ch.cap, len(ch), ch.closed, bool(ch)) == (cap, 0, False, True)


def test_capacity_is_zero_unless_given() -> None:
    """Chan() is unbuffered, and cap may be given by name."""
    assert Chan().cap == 0
    assert Chan(cap=3).cap == 3


@pytest.mark.parametrize("cap", [-1, -(10**6), -(2**80)])
def test_negative_capacity(cap: int) -> None:
    """A negative capacity is a ValueError (or an OverflowError when absurd)."""
    with pytest.raises((ValueError, OverflowError) if cap < -(2**63) else ValueError):
        Chan(cap)


@pytest.mark.parametrize("cap", [1.5, "3", None, [], object()])
def test_capacity_of_a_wrong_type(cap: Any) -> None:
    """A capacity that is no integer is a TypeError."""
    with pytest.raises(TypeError):
        Chan(cap)


def test_absurd_capacity() -> None:
    """A capacity beyond any memory is an error or costs nothing, and never a crash."""
    with pytest.raises((OverflowError, ValueError, MemoryError)):
        Chan(2**80)
    try:
        ch: Chan[int] = Chan(sys.maxsize)
    except (OverflowError, ValueError, MemoryError):
        return
    assert ch.cap == sys.maxsize
    assert ch.try_send(1)


def test_huge_capacity_is_collected() -> None:
    """A channel with room for millions is visited and freed by the collector."""
    ch: Chan[Any] = Chan(10**7)
    ch.send(ch)
    alive = weakref.ref(ch)
    gc.collect()
    assert alive() is ch
    del ch
    until(lambda: gc.collect() >= 0 and alive() is None, "that the channel was freed")


def test_channels_compare_by_identity() -> None:
    """Two channels are never equal, and a channel may be a key."""
    a: Chan[int] = Chan()
    b: Chan[int] = Chan()
    assert a != b
    assert {a: "a", b: "b"}[a] == "a"


# --- sending and receiving --------------------------------------------------------------------


def test_unbuffered_send_waits_for_the_receiver() -> None:
    """A send on an unbuffered channel returns only when the value was taken."""
    ch: Chan[str] = Chan()
    log: list[str] = []

    def sender() -> None:
        ch.send("value")
        log.append("sent")

    g = go(sender)
    parked(g)
    assert (log, len(ch), g.wait_reason) == ([], 0, "chan send")
    assert ch.recv() == "value"
    g.join()
    assert log == ["sent"]


def test_unbuffered_recv_waits_for_the_sender() -> None:
    """A receiver that came first gets the value that comes later."""
    ch: Chan[str] = Chan()
    log: list[str] = []
    g = go(lambda: log.append(ch.recv()))
    parked(g)
    assert g.wait_reason == "chan receive"
    assert ch.send("value") is None
    g.join()
    assert log == ["value"]


def test_buffered_send_waits_when_full() -> None:
    """Sends up to the capacity do not wait, the next one does."""
    ch: Chan[int] = Chan(3)
    for i in range(3):
        ch.send(i)
        assert len(ch) == i + 1
    g = go(ch.send, 3)
    parked(g)
    assert (len(ch), g.wait_reason) == (3, "chan send")
    assert ch.recv() == 0
    g.join()
    assert len(ch) == 3
    assert [ch.recv() for _ in range(3)] == [1, 2, 3]
    assert len(ch) == 0


@pytest.mark.parametrize("cap", [0, 1, 3, 10])
def test_values_keep_their_order(cap: int) -> None:
    """Values arrive in the order in which they were sent, whatever the capacity."""
    ch: Chan[int] = Chan(cap)

    def sender() -> None:
        for i in range(100):
            ch.send(i)
        ch.close()

    go(sender)
    assert list(ch) == list(range(100))


@pytest.mark.parametrize("cap", [0, 2])
def test_waiting_senders_are_served_in_order(cap: int) -> None:
    """Buffered values first, then those of the senders in the order they came."""
    ch: Chan[int] = Chan(cap)
    for i in range(cap):
        ch.send(i)
    gs = []
    for i in range(cap, cap + 8):
        gs.append(go(ch.send, i))
        parked(gs[-1])
    assert [ch.recv() for _ in range(cap + 8)] == list(range(cap + 8))
    for g in gs:
        g.join()


@pytest.mark.parametrize("cap", [0, 2])
def test_waiting_receivers_are_served_in_order(cap: int) -> None:
    """The receiver that has waited longest gets the next value."""
    ch: Chan[int] = Chan(cap)
    got: dict[int, int] = {}

    def receiver(i: int) -> None:
        got[i] = ch.recv()

    gs = []
    for i in range(8):
        gs.append(go(receiver, i))
        parked(gs[-1])
    for i in range(8):
        ch.send(i)
    for g in gs:
        g.join()
    assert got == {i: i for i in range(8)}


@pytest.mark.parametrize("value", [None, False, 0, "", (), b"", ValueError("x"), Chan, ...])
@pytest.mark.parametrize("cap", [0, 1])
def test_every_object_can_be_sent(value: object, cap: int) -> None:
    """None, false values and exceptions pass through like everything else."""
    ch: Chan[object] = Chan(cap)
    go(ch.send, value)
    assert ch.recv() is value
    go(ch.send, value)
    received, ok = ch.recv_ok()
    assert received is value
    assert ok is True


def test_channel_through_itself() -> None:
    """A channel can be sent through itself."""
    ch: Chan[Any] = Chan(1)
    ch.send(ch)
    assert ch.recv() is ch


def test_recv_ok_of_an_open_channel() -> None:
    """recv_ok waits as recv does and adds True."""
    ch: Chan[int] = Chan()
    out: list[object] = []
    g = go(lambda: out.append(ch.recv_ok()))
    parked(g)
    ch.send(7)
    g.join()
    assert out == [(7, True)]


def test_try_send() -> None:
    """try_send succeeds into a buffer or a waiting receiver, and never waits."""
    ch: Chan[int] = Chan(1)
    assert ch.try_send(1) is True
    assert ch.try_send(2) is False
    assert ch.recv() == 1
    unbuffered: Chan[int] = Chan()
    assert unbuffered.try_send(1) is False
    got: list[int] = []
    g = go(lambda: got.append(unbuffered.recv()))
    parked(g)
    assert unbuffered.try_send(2) is True
    assert unbuffered.try_send(3) is False
    g.join()
    assert got == [2]


def test_try_recv() -> None:
    """try_recv takes from the buffer or a waiting sender, and never waits."""
    ch: Chan[int] = Chan(1)
    assert ch.try_recv() == (None, False)
    ch.send(1)
    assert ch.try_recv() == (1, True)
    assert ch.try_recv() == (None, False)
    unbuffered: Chan[int] = Chan()
    g = go(unbuffered.send, 2)
    parked(g)
    assert unbuffered.try_recv() == (2, True)
    assert unbuffered.try_recv() == (None, False)
    g.join()


def test_iteration_in_a_goroutine() -> None:
    """A for loop takes values until the channel is closed and drained."""
    ch: Chan[int] = Chan(2)
    out: list[int] = []

    def consume() -> None:
        for value in ch:
            out.append(value)
        out.append(-1)

    g = go(consume)
    for i in range(10):
        ch.send(i)
    ch.close()
    g.join()
    assert out == [*range(10), -1]


def test_iteration_takes_one_at_a_time() -> None:
    """Leaving the loop leaves what was not taken in the channel."""
    ch: Chan[int] = Chan(5)
    for i in range(5):
        ch.send(i)
    for value in ch:
        if value == 2:
            break
    assert len(ch) == 2
    assert (ch.recv(), ch.recv()) == (3, 4)


def test_ping_pong() -> None:
    """Two goroutines hand a number back and forth thousands of times."""
    there: Chan[int] = Chan()
    back: Chan[int] = Chan()
    rounds = scaled(5000)

    def pong() -> None:
        for value in there:
            back.send(value + 1)

    go(pong)
    value = 0
    for _ in range(rounds):
        there.send(value)
        value = back.recv()
    there.close()
    assert value == rounds


def test_prime_sieve() -> None:
    """The chain of filters of Go's tour, each its own goroutine, yields the primes."""

    def generate(out: Chan[int]) -> None:
        for i in range(2, 230):
            out.send(i)
        out.close()

    def filter_(source: Chan[int], out: Chan[int], prime: int) -> None:
        for value in source:
            if value % prime:
                out.send(value)
        out.close()

    source: Chan[int] = Chan()
    go(generate, source)
    primes = []
    while True:
        prime, ok = source.recv_ok()
        if not ok:
            break
        primes.append(prime)
        out: Chan[int] = Chan()
        go(filter_, source, out, prime)
        source = out
    assert primes[:10] == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
    assert (len(primes), primes[-1]) == (50, 229)


# --- closing ----------------------------------------------------------------------------------


def closed_channel(cap: int = 0) -> Chan[Any]:
    """Return a closed channel."""
    ch: Chan[Any] = Chan(cap)
    ch.close()
    return ch


@pytest.mark.parametrize(
    "operation",
    [
        lambda ch: ch.send(1),
        lambda ch: ch.send(1, timeout=0),
        lambda ch: ch.send(1, timeout=5),
        lambda ch: ch.try_send(1),
        lambda ch: ch.recv(),
        lambda ch: ch.recv(timeout=0),
        lambda ch: ch.recv(timeout=5),
        lambda ch: ch.close(),
        lambda ch: ch.sender.send(1),
        lambda ch: ch.sender.close(),
        lambda ch: ch.receiver.recv(),
    ],
    ids=[
        "send",
        "send now",
        "send timeout",
        "try_send",
        "recv",
        "recv now",
        "recv timeout",
        "close",
        "sender.send",
        "sender.close",
        "receiver.recv",
    ],
)
@pytest.mark.parametrize("cap", [0, 1])
def test_closed_channel_refuses(operation: Callable[[Chan[Any]], object], cap: int) -> None:
    """What a closed channel cannot do is ChannelClosed, which knows the channel and says so."""
    ch = closed_channel(cap)
    with pytest.raises(ChannelClosed, match="(?i)clos") as caught:
        operation(ch)
    assert caught.value.chan is ch


def test_closed_channel_answers() -> None:
    """recv_ok, try_recv and a loop tell of the end without an exception."""
    ch = closed_channel()
    assert ch.closed is True
    assert ch.recv_ok() == (None, False)
    assert ch.recv_ok(timeout=0) == (None, False)
    assert ch.try_recv() == (None, False)
    assert list(ch) == []
    assert bool(ch) is True


def test_close_leaves_the_buffer() -> None:
    """Values buffered when the channel was closed are still received, then it is over."""
    ch: Chan[int] = Chan(4)
    for i in range(4):
        ch.send(i)
    assert ch.close() is None
    assert (ch.closed, len(ch)) == (True, 4)
    with pytest.raises(ChannelClosed):
        ch.try_send(4)
    assert ch.recv() == 0
    assert ch.recv_ok() == (1, True)
    assert ch.try_recv() == (2, True)
    assert list(ch) == [3]
    with pytest.raises(ChannelClosed):
        ch.recv()


def test_close_wakes_receivers() -> None:
    """Every way of waiting for a value ends when the channel is closed."""
    ch: Chan[int] = Chan()
    out: list[object] = []

    def by_recv() -> None:
        try:
            ch.recv()
        except ChannelClosed as error:
            out.append(("recv", error.chan is ch))

    gs = [
        go(by_recv),
        go(lambda: out.append(("ok", ch.recv_ok()))),
        go(lambda: out.append(("timeout", ch.recv_ok(timeout=3600)))),
        go(lambda: out.append(("iter", list(ch)))),
        go(by_recv),
    ]
    parked(*gs)
    ch.close()
    for g in gs:
        g.join()
    assert sorted(out, key=str) == sorted(
        [
            ("recv", True),
            ("ok", (None, False)),
            ("timeout", (None, False)),
            ("iter", []),
            ("recv", True),
        ],
        key=str,
    )


@pytest.mark.parametrize("cap", [0, 2])
def test_close_wakes_senders(cap: int) -> None:
    """Senders that wait when the channel is closed fail, and their values never arrive."""
    ch: Chan[Any] = Chan(cap)
    for i in range(cap):
        ch.send(i)
    failed: list[int] = []

    def sender(i: int) -> None:
        try:
            ch.send(("late", i))
        except ChannelClosed as error:
            assert error.chan is ch
            failed.append(i)

    gs = [go(sender, i) for i in range(5)]
    parked(*gs)
    ch.close()
    for g in gs:
        g.join()
    assert sorted(failed) == list(range(5))
    assert list(ch) == list(range(cap))


def test_a_received_value_is_not_lost_to_a_close() -> None:
    """A receiver that was handed a value keeps it though the channel is closed right after."""
    ch: Chan[int] = Chan()
    out: list[object] = []
    g = go(lambda: out.append(ch.recv_ok()))
    parked(g)
    ch.send(1)
    ch.close()
    g.join()
    assert out == [(1, True)]


def test_a_sent_value_counts_though_closed_after() -> None:
    """A sender whose value was taken does not fail because of a later close."""
    ch: Chan[int] = Chan()
    log: list[str] = []

    def sender() -> None:
        ch.send(1)
        log.append("sent")

    g = go(sender)
    parked(g)
    assert ch.recv() == 1
    ch.close()
    g.join()
    assert log == ["sent"]


def test_channel_closed_is_an_ordinary_exception() -> None:
    """ChannelClosed is caught by `except Exception`."""
    assert issubclass(ChannelClosed, Exception)


# --- time-outs --------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, 0.0, 0.001])
@pytest.mark.parametrize("cap", [0, 1])
def test_receive_gives_up_without_a_trace(timeout: float, cap: int) -> None:
    """A receiver that timed out takes no value any more."""
    ch: Chan[int] = Chan(cap)
    with pytest.raises(TimeoutError):
        ch.recv(timeout=timeout)
    with pytest.raises(TimeoutError):
        ch.recv_ok(timeout=timeout)
    assert ch.try_send(1) is (cap == 1)
    assert ch.try_recv() == ((1, True) if cap else (None, False))


@pytest.mark.parametrize("timeout", [0, 0.0, 0.001])
@pytest.mark.parametrize("cap", [0, 1])
def test_send_gives_up_without_a_trace(timeout: float, cap: int) -> None:
    """The value of a sender that timed out is not in the channel."""
    ch: Chan[int] = Chan(cap)
    for i in range(cap):
        ch.send(i)
    with pytest.raises(TimeoutError):
        ch.send(99, timeout=timeout)
    assert len(ch) == cap
    assert [ch.recv() for _ in range(cap)] == list(range(cap))
    assert ch.try_recv() == (None, False)


def test_timeouts_leave_the_others_in_the_queue() -> None:
    """One waiter that gives up does not disturb the order of those around it."""
    ch: Chan[int] = Chan()
    got: dict[int, object] = {}

    def receiver(i: int) -> None:
        try:
            got[i] = ch.recv(timeout=0.001 if i % 2 else None)
        except TimeoutError:
            got[i] = "timeout"

    gs = []
    for i in range(6):
        g = go(receiver, i)
        until(lambda g=g: g.state in ("waiting", "dead"), "that the receiver waits")
        gs.append(g)
    dead(*gs[1::2])
    for value in ("a", "b", "c"):
        ch.send(value)  # type: ignore[arg-type]
    for g in gs:
        g.join()
    assert got == {0: "a", 1: "timeout", 2: "b", 3: "timeout", 4: "c", 5: "timeout"}


def test_timeout_zero_does_what_can_be_done() -> None:
    """timeout=0 still succeeds when nothing has to be waited for."""
    ch: Chan[int] = Chan(1)
    ch.send(1, timeout=0)
    assert ch.recv(timeout=0) == 1
    g = go(ch.recv)
    parked(g)
    ch.send(2, timeout=0)
    g.join()
    unbuffered: Chan[int] = Chan()
    h = go(unbuffered.send, 3)
    parked(h)
    assert unbuffered.recv_ok(timeout=0) == (3, True)
    h.join()


@pytest.mark.parametrize(
    ("who", "call"),
    [
        ("send", lambda ch: ch.send(1, 0.1, timeout=0.1)),
        ("send", lambda ch: ch.sender.send(1, 0.1, timeout=0.1)),
        ("recv", lambda ch: ch.recv(0.1, timeout=0.1)),
        ("recv_ok", lambda ch: ch.receiver.recv_ok(0.1, timeout=0.1)),
    ],
)
def test_timeout_given_twice(who: str, call: Callable[[Chan[int]], object]) -> None:
    """A time-out both by position and by name is a TypeError that says so, and does nothing."""
    ch: Chan[int] = Chan(1)
    with pytest.raises(TypeError, match=rf"^{who}\(\) got two values for timeout$"):
        call(ch)
    assert len(ch) == 0


def test_timeout_is_not_reached() -> None:
    """A wait with a time-out that is served in time ends like any other."""
    ch: Chan[int] = Chan()
    out: list[object] = []
    g = go(lambda: out.append(ch.recv(timeout=3600)))
    h = go(lambda: out.append(ch.recv(3600)))
    parked(g, h)
    ch.send(1, timeout=3600)
    ch.send(2, 3600)
    g.join()
    h.join()
    assert sorted(out, key=str) == [1, 2]


# --- the two ends -----------------------------------------------------------------------------


def test_ends_are_the_same_channel() -> None:
    """What goes in at the sender comes out at the receiver and at the channel."""
    ch: Chan[int] = Chan(2)
    source, sink = ch.receiver, ch.sender
    sink.send(1)
    assert sink.try_send(2) is True
    assert sink.try_send(3) is False
    assert (len(ch), len(source), len(sink)) == (2, 2, 2)
    assert (ch.cap, source.cap, sink.cap) == (2, 2, 2)
    assert source.recv() == 1
    assert source.try_recv() == (2, True)
    sink.send(3)
    assert source.recv_ok() == (3, True)
    sink.send(4)
    sink.close()
    assert (ch.closed, source.closed, sink.closed) == (True, True, True)
    assert list(source) == [4]


def test_ends_are_narrower() -> None:
    """The receiver can neither send nor close, the sender cannot receive."""
    ch: Chan[int] = Chan()
    for name in ("send", "try_send", "close"):
        assert not hasattr(ch.receiver, name)
    for name in ("recv", "recv_ok", "try_recv", "__iter__"):
        assert not hasattr(ch.sender, name)


def test_end_keeps_the_channel() -> None:
    """An end that outlives the channel object still works."""
    ch: Chan[int] = Chan(1)
    source, sink = ch.receiver, ch.sender
    del ch
    gc.collect()
    sink.send(1)
    assert source.recv() == 1


def test_error_through_an_end_names_the_channel() -> None:
    """ChannelClosed raised by an end carries the channel, not the end."""
    ch: Chan[int] = Chan()
    ch.close()
    for operation in (lambda: ch.sender.send(1), lambda: ch.receiver.recv(), ch.sender.close):
        with pytest.raises(ChannelClosed) as caught:
            operation()
        assert caught.value.chan is ch


# --- references -------------------------------------------------------------------------------


def test_received_values_are_let_go() -> None:
    """After it was received the channel holds no reference to a value."""
    ch: Chan[Token] = Chan(2)
    token = Token()
    alive = weakref.ref(token)
    ch.send(token)
    del token
    gc.collect()
    assert alive() is not None
    ch.recv()
    gc.collect()
    assert alive() is None


def test_values_of_failed_sends_are_let_go() -> None:
    """A send that timed out or met a closed channel keeps no reference."""
    ch: Chan[Token] = Chan()
    alive = []
    for timeout in (0, 0.001):
        token = Token()
        alive.append(weakref.ref(token))
        with pytest.raises(TimeoutError):
            ch.send(token, timeout=timeout)
        assert ch.try_send(token) is False
    ch.close()
    with pytest.raises(ChannelClosed):
        ch.send(token)
    del token
    gc.collect()
    assert [ref() for ref in alive] == [None, None]


def test_buffered_values_die_with_the_channel() -> None:
    """A channel that is dropped releases what is still in it, cycles too."""
    ch: Chan[Any] = Chan(3)
    plain, cyclic = Token(), Token()
    cyclic.channel = ch  # type: ignore[attr-defined]
    alive = [weakref.ref(plain), weakref.ref(cyclic)]
    ch.send(plain)
    ch.send(cyclic)
    ch.send(ch)
    del plain, cyclic, ch
    gc.collect()
    assert [ref() for ref in alive] == [None, None]


NESTS = {
    "channel": "last",
    "receiver": "last.receiver",
    "sender": "last.sender",
    "iterator": "iter(last)",
}


@pytest.mark.parametrize("inner", NESTS.values(), ids=NESTS)
@pytest.mark.parametrize("where", ["main", "goroutine"])
def test_deep_nesting_is_let_go(inner: str, where: str) -> None:
    """Channels that hold each other, directly or through something, die without recursion."""
    done = run_program(
        f"""
        import sys
        from goroutines import Chan, go

        def build():
            last = Chan(1)
            for _ in range(100_000):
                ch = Chan(1)
                ch.send({inner})
                last = ch

        if sys.argv[1] == "main":
            build()
        else:
            go(build).join()
        print("freed")
        """,
        where,
    )
    assert done == (0, "freed\n", "")


# --- plain threads ----------------------------------------------------------------------------


def test_thread_sends_to_goroutine() -> None:
    """A plain thread sends, a goroutine receives."""
    ch: Chan[int] = Chan()

    def body() -> None:
        for i in range(100):
            ch.send(i)
        ch.close()

    out: list[int] = []
    g = go(lambda: out.extend(ch))
    in_thread(body)
    g.join()
    assert out == list(range(100))


def test_goroutine_sends_to_thread() -> None:
    """A goroutine sends, a plain thread receives, blocking only itself."""
    ch: Chan[int] = Chan()

    def sender() -> None:
        for i in range(100):
            ch.send(i)
        ch.close()

    go(sender)
    assert in_thread(lambda: list(ch)) == list(range(100))


def test_main_receives_from_thread() -> None:
    """The main goroutine waits in recv while a plain thread gets the interpreter and sends."""
    ch: Chan[int] = Chan()
    thread = threading.Thread(target=lambda: [ch.send(i) for i in range(50)], daemon=True)
    thread.start()
    assert [ch.recv() for _ in range(50)] == list(range(50))
    thread.join()


def test_main_sends_to_thread() -> None:
    """The main goroutine waits in send while a plain thread receives."""
    ch: Chan[int] = Chan()
    out: list[int] = []
    thread = threading.Thread(target=lambda: out.extend(ch), daemon=True)
    thread.start()
    for i in range(50):
        ch.send(i)
    ch.close()
    thread.join()
    assert out == list(range(50))


def test_blocked_thread_is_a_waiter_like_others() -> None:
    """A thread that waits in recv can be met by try_send, one in send by try_recv."""
    ch: Chan[int] = Chan()
    out: list[int] = []
    thread = threading.Thread(target=lambda: out.append(ch.recv()), daemon=True)
    thread.start()
    until(lambda: ch.try_send(5), "that the thread is in recv")
    thread.join()
    assert out == [5]
    thread = threading.Thread(target=ch.send, args=(6,), daemon=True)
    thread.start()
    tries: list[tuple[int | None, bool]] = [(None, False)]

    def received() -> bool:
        tries.append(ch.try_recv())
        return tries[-1][1]

    until(received, "that the thread is in send")
    thread.join()
    assert tries[-1] == (6, True)
    assert set(tries[:-1]) == {(None, False)}


def test_close_wakes_threads() -> None:
    """A plain thread that waits for a value learns of the close."""
    ch: Chan[int] = Chan()
    out: list[object] = []

    def body() -> None:
        try:
            ch.recv()
            ch.recv()
        except ChannelClosed as error:
            out.append(error.chan)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    ch.send(1)
    ch.close()
    until(lambda: not thread.is_alive(), "that the thread has ended")
    assert out == [ch]


def test_timeouts_in_threads() -> None:
    """Time-outs of plain threads raise TimeoutError and leave nothing behind."""
    ch: Chan[int] = Chan()

    def body() -> list[str]:
        out = []
        for operation in (
            lambda: ch.recv(timeout=0),
            lambda: ch.recv(timeout=0.001),
            lambda: ch.send(1, timeout=0),
            lambda: ch.send(1, timeout=0.001),
        ):
            try:
                operation()
            except TimeoutError:
                out.append("timeout")
        return out

    assert in_thread(body) == ["timeout"] * 4
    assert ch.try_send(1) is False
    assert ch.try_recv() == (None, False)


def test_thread_to_thread() -> None:
    """Two plain threads use a channel with no goroutine anywhere."""
    ch: Chan[int] = Chan()
    out: list[int] = []
    threads = [
        threading.Thread(target=lambda: out.extend(ch), daemon=True),
        threading.Thread(target=lambda: [*map(ch.send, range(200)), ch.close()], daemon=True),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert out == list(range(200))


def test_select_between_thread_and_goroutine() -> None:
    """A select in a plain thread waits for channels that goroutines use."""
    a: Chan[int] = Chan()
    b: Chan[int] = Chan()
    go(b.send, 2)
    assert in_thread(lambda: select(recv(a), recv(b))) == (1, 2)


# --- many -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cap", [0, 7])
def test_many_to_many(cap: int) -> None:
    """Every value of many senders reaches exactly one of many receivers."""
    ch: Chan[int] = Chan(cap)
    wg = WaitGroup()
    out: list[int] = []

    def sender(base: int) -> None:
        for i in range(20):
            ch.send(base + i)
            if i % 3 == 0:
                gosched()
        wg.done()

    count = scaled(100)
    wg.add(count)
    receivers = [go(lambda: out.extend(ch)) for _ in range(30)]
    for n in range(count):
        go(sender, n * 20)
    wg.wait()
    ch.close()
    for g in receivers:
        g.join()
    assert sorted(out) == list(range(count * 20))
