"""select: readiness, fairness, closing, time-outs, and what losing cases must not leave behind."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from goroutines import Chan, ChannelClosed, Select, go, gosched, recv, recv_ok, select, send

from ..conftest import Token, in_thread, parked, run_program, scaled, until


def filled(*values: Any) -> Chan[Any]:
    """Return a channel whose buffer holds just `values`."""
    ch: Chan[Any] = Chan(max(1, len(values)))
    for value in values:
        ch.send(value)
    return ch


def closed() -> Chan[Any]:
    """Return a closed and drained channel."""
    ch: Chan[Any] = Chan()
    ch.close()
    return ch


# --- a case that is ready ---------------------------------------------------------------------


def test_recv_case() -> None:
    """A ready recv gives its position and the value."""
    assert select(recv(Chan()), recv(filled("x"))) == (1, "x")


def test_recv_ok_case() -> None:
    """A ready recv_ok gives its position, the value and True."""
    assert select(recv_ok(filled("x")), recv(Chan())) == (0, ("x", True))


def test_send_case() -> None:
    """A ready send puts its value into the channel and gives None."""
    ch: Chan[str] = Chan(1)
    assert select(recv(Chan()), recv(Chan()), send(ch, "x")) == (2, None)
    assert ch.recv() == "x"


def test_full_buffer_is_not_ready() -> None:
    """A send to a full channel loses against a case that is ready."""
    full = filled(1)
    for _ in range(20):
        assert select(send(full, 2), recv(filled("x"))) == (1, "x")
    assert len(full) == 1


def test_only_the_chosen_case_happens() -> None:
    """Of several ready cases exactly one takes place."""
    for _ in range(50):
        a, b, c = filled(1), filled(2), Chan[int](1)
        index, value = select(recv(a), recv(b), send(c, 3))
        assert (index, value) in {(0, 1), (1, 2), (2, None)}
        assert [len(a), len(b), 1 - len(c)] == [int(i != index) for i in range(3)]


def test_making_a_case_does_nothing() -> None:
    """recv(ch) and send(ch, value) only describe what select may do."""
    ch: Chan[int] = Chan(2)
    ch.send(1)
    recv(ch)
    recv_ok(ch)
    send(ch, 2)
    assert len(ch) == 1


def test_select_meets_a_waiting_goroutine() -> None:
    """A parked sender and a parked receiver make cases ready."""
    a: Chan[int] = Chan()
    b: Chan[int] = Chan()
    got: list[int] = []
    sender = go(a.send, 1)
    parked(sender)
    assert select(recv(a), recv(b), timeout=0) == (0, 1)
    receiver = go(lambda: got.append(b.recv()))
    parked(receiver)
    assert select(recv(a), send(b, 2), timeout=0) == (1, None)
    sender.join()
    receiver.join()
    assert got == [2]


def test_send_values_are_taken_as_they_are() -> None:
    """None and tuples as values are not confused with anything."""
    ch: Chan[Any] = Chan(2)
    assert select(send(ch, None)) == (0, None)
    assert select(send(ch, (None, False))) == (0, None)
    assert select(recv(ch)) == (0, None)
    assert select(recv_ok(ch)) == (0, ((None, False), True))


# --- fairness ---------------------------------------------------------------------------------


@pytest.mark.parametrize("prepared", [False, True], ids=["select", "Select"])
def test_choice_is_uniform(prepared: bool) -> None:
    """Among three ready cases each is chosen about a third of the time."""
    a, b = filled(1), filled(2)
    c: Chan[int] = Chan(1)
    prepared_select = Select(recv(a), recv(b), send(c, 3))
    seen: Counter[int] = Counter()
    for _ in range(3000):
        if prepared:
            index, _ = prepared_select()
        else:
            index, _ = select(recv(a), recv(b), send(c, 3))
        seen[index] += 1
        (lambda: a.send(1), lambda: b.send(2), c.recv)[index]()
    # a standard deviation is 26, so this fails by chance once in 10**13 runs
    assert sorted(seen) == [0, 1, 2]
    assert all(800 < count < 1200 for count in seen.values()), seen


def test_choice_among_two_of_five() -> None:
    """Cases that are not ready do not bias the choice among those that are."""
    a, b = filled(1), filled(2)
    idle: Chan[int] = Chan()
    seen: Counter[int] = Counter()
    for _ in range(2000):
        index, value = select(recv(idle), recv(a), recv(idle), recv(idle), recv(b))
        seen[index] += 1
        (a if index == 1 else b).send(value)
    # a standard deviation is 22
    assert sorted(seen) == [1, 4]
    assert all(800 < count < 1200 for count in seen.values()), seen


def test_a_case_that_will_raise_is_as_likely() -> None:
    """A closed channel neither wins over a ready one nor loses to it."""
    gone, ready = closed(), filled(1)
    seen: Counter[str] = Counter()
    for _ in range(2000):
        try:
            select(recv(gone), recv(ready))
        except ChannelClosed:
            seen["closed"] += 1
        else:
            seen["ready"] += 1
            ready.send(1)
    assert all(800 < seen[name] < 1200 for name in ("closed", "ready")), seen


# --- waiting ----------------------------------------------------------------------------------


def selecting(*cases: Any, **kwargs: Any) -> tuple[Any, list[Any]]:
    """Start a goroutine that selects over `cases`; it and the list its result goes to."""
    out: list[Any] = []

    def body() -> None:
        try:
            out.append(select(*cases, **kwargs))
        except ChannelClosed as error:
            out.append((error.index, error.chan))

    g = go(body)
    parked(g)
    assert g.wait_reason == "select"
    return g, out


@pytest.mark.parametrize("index", [0, 1, 2])
def test_waits_for_a_receive(index: int) -> None:
    """A parked select takes the value of whichever channel is first sent to."""
    chans: list[Chan[int]] = [Chan(), Chan(), Chan(1)]
    g, out = selecting(*[recv(ch) for ch in chans])
    chans[index].send(7)
    g.join()
    assert out == [(index, 7)]


@pytest.mark.parametrize("index", [0, 1, 2])
def test_waits_for_a_send(index: int) -> None:
    """A parked select sends to whichever channel is first received from."""
    chans: list[Chan[Any]] = [Chan(), Chan(), filled("old")]
    g, out = selecting(*[send(ch, n) for n, ch in enumerate(chans)])
    got = chans[index].recv()
    g.join()
    assert out == [(index, None)]
    assert got == ("old" if index == 2 else index)
    if index == 2:
        assert chans[2].recv() == 2


def test_losing_cases_leave_no_trace() -> None:
    """When one case fired no other channel has a waiter or a value of that select."""
    a: Chan[int] = Chan()
    b: Chan[int] = Chan()
    c: Chan[int] = Chan()
    d: Chan[int] = Chan(1)
    d.send(0)
    g, out = selecting(recv(a), recv_ok(b), send(c, 1), send(d, 2))
    a.send(5)
    g.join()
    assert out == [(0, 5)]
    assert a.try_send(1) is False
    assert b.try_send(1) is False
    assert c.try_recv() == (None, False)
    assert d.try_recv() == (0, True)
    assert d.try_recv() == (None, False)


def test_fires_once_though_several_could() -> None:
    """A parked select that could be served by many is served by one."""
    a: Chan[int] = Chan()
    b: Chan[int] = Chan()
    g, out = selecting(recv(a), recv(b))
    assert a.try_send(1) is True
    assert b.try_send(2) is False  # it is spoken for, though it has not run yet
    g.join()
    assert out == [(0, 1)]


def test_selects_queue_with_plain_waiters() -> None:
    """A select takes its place among goroutines that wait for the same channel."""
    ch: Chan[int] = Chan()
    other: Chan[int] = Chan()
    got: dict[str, int] = {}

    def plain(name: str) -> None:
        got[name] = ch.recv()

    first = go(plain, "first")
    parked(first)
    g, out = selecting(recv(other), recv(ch))
    last = go(plain, "last")
    parked(last)
    for value in (1, 2, 3):
        ch.send(value)
    for h in (first, g, last):
        h.join()
    assert got == {"first": 1, "last": 3}
    assert out == [(1, 2)]


def test_two_selects_can_meet() -> None:
    """A select that sends and one that receives find each other, on one channel only."""
    a: Chan[str] = Chan()
    b: Chan[str] = Chan()
    g, out = selecting(send(a, "via a"), recv(b))
    index, value = select(recv(a), send(b, "via b"))
    g.join()
    assert (index, value, out) in [
        (0, "via a", [(0, None)]),
        (1, None, [(1, "via b")]),
    ]


def test_select_does_not_meet_itself() -> None:
    """Sending and receiving on one channel in one select do not serve each other."""
    ch: Chan[int] = Chan()
    assert select(send(ch, 1), recv(ch), timeout=0) == (-1, None)
    g, out = selecting(send(ch, 1), recv(ch))
    ch.send(2)
    g.join()
    assert out == [(1, 2)]
    h, out = selecting(send(ch, 1), recv(ch))
    assert ch.recv() == 1
    h.join()
    assert out == [(0, None)]


def test_two_way_selects_pair_up() -> None:
    """Many selects that both send and receive on one channel pair off completely."""
    ch: Chan[int] = Chan()
    count = scaled(200) * 2
    results: list[tuple[int, Any]] = []

    def body(i: int) -> None:
        results.append(select(send(ch, i), recv(ch)))

    gs = [go(body, i) for i in range(count)]
    for g in gs:
        g.join()
    assert Counter(index for index, _ in results) == {0: count // 2, 1: count // 2}
    received = [value for index, value in results if index == 1]
    assert len(set(received)) == count // 2


def test_the_same_channel_in_several_cases() -> None:
    """A channel may stand in several cases; one of them takes the value."""
    ch: Chan[int] = Chan()
    g, out = selecting(recv(ch), recv(ch), recv_ok(ch))
    ch.send(4)
    g.join()
    assert out[0] in [(0, 4), (1, 4), (2, (4, True))]
    assert ch.try_send(5) is False
    buffered = filled(1)
    assert select(recv(buffered), recv(buffered))[1] == 1
    assert len(buffered) == 0


def test_the_same_channel_in_several_sends() -> None:
    """Of several sends to one channel exactly one value arrives."""
    ch: Chan[int] = Chan()
    g, out = selecting(send(ch, 10), send(ch, 11))
    value = ch.recv()
    g.join()
    assert out == [(value - 10, None)]
    assert ch.try_recv() == (None, False)


def test_many_cases() -> None:
    """A select over hundreds of channels finds the one that is served."""
    chans: list[Chan[int]] = [Chan() for _ in range(500)]
    for index in (0, 1, 250, 499):
        g, out = selecting(*[recv(ch) for ch in chans])
        chans[index].send(index)
        g.join()
        assert out == [(index, index)]
    assert not any(ch.try_send(0) for ch in chans)


def test_select_in_a_loop_merges() -> None:
    """The merge of Go's books: two sources are read until both are closed."""
    a: Chan[int] = Chan()
    b: Chan[int] = Chan(3)

    def source(ch: Chan[int], base: int) -> None:
        for i in range(100):
            ch.send(base + i)
        ch.close()

    go(source, a, 0)
    go(source, b, 1000)
    chans: list[Chan[int] | None] = [a, b]
    out: list[int] = []
    while any(chans):
        index, (value, ok) = select(*[recv_ok(ch) for ch in chans])
        if ok:
            out.append(value)
        else:
            chans[index] = None
    assert [v for v in out if v < 1000] == list(range(100))
    assert [v for v in out if v >= 1000] == list(range(1000, 1100))


# --- None channels ----------------------------------------------------------------------------


def test_none_is_never_ready() -> None:
    """Cases of None keep their position and never proceed."""
    assert select(recv(None), send(None, 1), recv_ok(None), timeout=0) == (-1, None)
    assert select(recv(None), recv(filled(1)), send(None, 2)) == (1, 1)
    ch: Chan[int] = Chan()
    g, out = selecting(recv(None), send(None, 1), recv(ch))
    ch.send(3)
    g.join()
    assert out == [(2, 3)]


# --- closing ----------------------------------------------------------------------------------


def test_recv_of_a_closed_channel() -> None:
    """recv of a closed channel raises ChannelClosed with the channel and the position."""
    ch = closed()
    with pytest.raises(ChannelClosed, match="(?i)clos") as caught:
        select(recv(Chan()), recv(ch))
    assert caught.value.chan is ch
    assert caught.value.index == 1


def test_send_to_a_closed_channel() -> None:
    """send to a closed channel raises ChannelClosed with the channel and the position."""
    ch = closed()
    with pytest.raises(ChannelClosed, match="(?i)clos") as caught:
        select(recv(Chan()), recv(None), send(ch, 1))
    assert caught.value.chan is ch
    assert caught.value.index == 2


def test_recv_ok_of_a_closed_channel() -> None:
    """recv_ok of a closed channel is an ordinary answer."""
    assert select(recv(Chan()), recv_ok(closed())) == (1, (None, False))


def test_closed_but_not_drained() -> None:
    """Values left in a closed channel are received before the end is told."""
    ch = filled(1, 2)
    ch.close()
    assert select(recv(ch)) == (0, 1)
    assert select(recv_ok(ch)) == (0, (2, True))
    with pytest.raises(ChannelClosed):
        select(recv(ch))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_close_wakes_a_waiting_select(index: int) -> None:
    """A parked select learns of the close of any of its channels."""
    chans: list[Chan[Any]] = [Chan(), Chan(), Chan()]
    g, out = selecting(recv(chans[0]), recv_ok(chans[1]), send(chans[2], 1))
    chans[index].close()
    g.join()
    assert out == [(1, (None, False)) if index == 1 else (index, chans[index])]
    others = [ch for ch in chans if not ch.closed]
    assert [ch.try_send(1) for ch in others] == [False, False]
    assert [ch.try_recv() for ch in others] == [(None, False)] * 2


def test_closed_through_an_end() -> None:
    """Cases made of the two ends work, and their error names the channel."""
    ch: Chan[int] = Chan(1)
    assert select(send(ch.sender, 1)) == (0, None)
    assert select(recv(ch.receiver)) == (0, 1)
    ch.close()
    assert select(recv_ok(ch.receiver)) == (0, (None, False))
    for case in (recv(ch.receiver), send(ch.sender, 1)):
        with pytest.raises(ChannelClosed) as caught:
            select(case)
        assert caught.value.chan is ch


# --- time-outs --------------------------------------------------------------------------------


def test_timeout_zero_is_default() -> None:
    """timeout=0 answers (-1, None) when nothing is ready, and else does what is."""
    a: Chan[int] = Chan()
    assert select(recv(a), send(a, 1), timeout=0) == (-1, None)
    assert select(recv(a), recv(filled(2)), timeout=0) == (1, 2)


def test_timeout_that_runs_out() -> None:
    """A select that waited in vain answers (-1, None) and leaves no waiters."""
    a: Chan[int] = Chan()
    b: Chan[int] = Chan()
    assert select(recv(a), send(b, 1), timeout=0.001) == (-1, None)
    assert a.try_send(1) is False
    assert b.try_recv() == (None, False)


def test_timeout_that_is_not_reached() -> None:
    """A select with a long time-out is served like one without."""
    ch: Chan[int] = Chan()
    g, out = selecting(recv(Chan()), recv(ch), timeout=3600)
    ch.send(1)
    g.join()
    assert out == [(1, 1)]


def test_no_cases_with_a_timeout() -> None:
    """select() without cases only waits for its time-out."""
    assert select(timeout=0) == (-1, None)
    assert select(timeout=0.001) == (-1, None)


# --- Select, prepared once --------------------------------------------------------------------


def test_prepared_select() -> None:
    """Select is called as often as one likes, each time a new selection."""
    a: Chan[int] = Chan(1)
    b: Chan[int] = Chan(1)
    ready = Select(recv(a), send(b, 9))
    assert ready() == (1, None)
    assert ready(timeout=0) == (-1, None)
    a.send(1)
    assert ready(timeout=0) == (0, 1)
    assert b.recv() == 9
    assert ready(timeout=None) == (1, None)
    b.close()
    assert b.recv() == 9
    with pytest.raises(ChannelClosed) as caught:
        ready()
    assert (caught.value.index, caught.value.chan is b) == (1, True)


def test_prepared_select_waits() -> None:
    """A prepared select parks, is served, and can be used again."""
    a: Chan[int] = Chan()
    b: Chan[int] = Chan()
    both = Select(recv(a), recv(b))
    out: list[tuple[int, Any]] = []

    def body() -> None:
        for _ in range(100):
            out.append(both())

    g = go(body)
    for i in range(50):
        a.send(i)
        b.send(i)
    g.join()
    assert out == [(j, i) for i in range(50) for j in range(2)]


def test_prepared_select_is_shared() -> None:
    """Several goroutines may wait in one Select at the same time."""
    a: Chan[int] = Chan()
    b: Chan[int] = Chan()
    both = Select(recv(a), recv(b))
    out: list[tuple[int, Any]] = []
    gs = [go(lambda: out.append(both())) for _ in range(10)]
    parked(*gs)
    for i in range(5):
        a.send(i)
        b.send(i)
    for g in gs:
        g.join()
    assert sorted(out) == [(j, i) for j in range(2) for i in range(5)]


def test_prepared_select_holds_and_frees() -> None:
    """A Select keeps its channels and values alive, and only as long as it lives."""
    token = Token()
    alive = weakref.ref(token)
    ready = Select(send(Chan(), token))
    del token
    gc.collect()
    assert alive() is not None
    assert ready(timeout=0) == (-1, None)
    del ready
    gc.collect()
    assert alive() is None


def test_cases_keep_nothing_alive() -> None:
    """After a select neither its values nor its losing sends are referred to."""
    token = Token()
    alive = weakref.ref(token)
    ch: Chan[Token] = Chan()
    assert select(send(ch, token), recv(filled(1))) == (1, 1)
    assert select(send(ch, token), timeout=0.001) == (-1, None)
    del token
    gc.collect()
    assert alive() is None


NESTS = {
    "case": "send(Chan(1), last)",
    "cases": "send(fill(last), None)",
    "Select": "Select(recv(Chan()), send(Chan(1), last))",
}


@pytest.mark.parametrize("outer", NESTS.values(), ids=NESTS)
@pytest.mark.parametrize("where", ["main", "goroutine"])
def test_deep_nesting_is_let_go(outer: str, where: str) -> None:
    """Cases and Selects that hold each other, 100,000 deep, die without recursion."""
    done = run_program(
        f"""
        import sys
        from goroutines import Chan, Select, go, recv, send

        def fill(value):
            ch = Chan(1)
            ch.send(value)
            return ch

        def build():
            last = None
            for _ in range(100_000):
                last = {outer}

        if sys.argv[1] == "main":
            build()
        else:
            go(build).join()
        print("freed")
        """,
        where,
    )
    assert done == (0, "freed\n", "")


# --- misuse -----------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", [3, "channel", [], object(), Chan])
@pytest.mark.parametrize(
    "make", [recv, recv_ok, lambda ch: send(ch, 1)], ids=["recv", "recv_ok", "send"]
)
def test_case_of_something_else(make: Callable[[Any], object], thing: object) -> None:
    """A case of something that is no channel is a TypeError when it is made."""
    with pytest.raises(TypeError, match="(?i)chan"):
        make(thing)


def test_case_of_the_wrong_end() -> None:
    """Receiving from a sender and sending to a receiver are TypeErrors."""
    ch: Chan[int] = Chan()
    for make in (recv, recv_ok):
        with pytest.raises(TypeError):
            make(ch.sender)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        send(ch.receiver, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", [None, 3, "case", Chan(), (0, 1)])
@pytest.mark.parametrize("how", [select, Select])
def test_not_a_case(how: Callable[..., object], case: object) -> None:
    """select takes cases only; a channel alone is a TypeError."""
    with pytest.raises(TypeError):
        how(recv(filled(1)), case)


def test_timeout_belongs_to_the_call() -> None:
    """Select does not take a time-out, its call does."""
    with pytest.raises(TypeError):
        Select(recv(Chan()), timeout=0)  # type: ignore[call-arg]


# --- elsewhere --------------------------------------------------------------------------------


def test_select_in_plain_threads() -> None:
    """Plain threads select among channels that goroutines and main use."""
    a: Chan[int] = Chan()
    b: Chan[int] = Chan()
    out: list[int] = []

    def body() -> None:
        chans: list[Chan[int] | None] = [a, b]
        while any(chans):
            index, (value, ok) = select(*[recv_ok(ch) for ch in chans])
            if ok:
                out.append(value)
            else:
                chans[index] = None

    def source(ch: Chan[int], base: int) -> None:
        for i in range(50):
            ch.send(base + i)
        ch.close()

    go(source, a, 0)
    go(source, b, 100)
    in_thread(body)
    assert sorted(out) == [*range(50), *range(100, 150)]


def test_select_in_a_thread_times_out() -> None:
    """Time-outs of select hold in plain threads as well."""
    ch: Chan[int] = Chan()
    assert in_thread(lambda: select(recv(ch), timeout=0)) == (-1, None)
    assert in_thread(lambda: select(recv(ch), timeout=0.001)) == (-1, None)
    assert in_thread(lambda: select(timeout=0.001)) == (-1, None)
    assert ch.try_send(1) is False


def test_spinning_select_does_not_starve() -> None:
    """A loop around select(timeout=0) with gosched lets the sender come."""
    ch: Chan[int] = Chan()
    go(ch.send, 5)
    answers: list[tuple[int, Any]] = []

    def poll() -> bool:
        answers.append(select(recv(ch), timeout=0))
        gosched()
        return answers[-1][0] == 0

    until(poll, "that the value came")
    assert answers[-1] == (0, 5)
