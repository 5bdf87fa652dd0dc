"""select over several channels and a simple model of it, driven side by side by hypothesis.

Which of several ready cases select takes is its own choice, so the model does not
predict: it says what would have been right, checks that select did one of these
things, and follows.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from goroutines import Chan, ChannelClosed, Select, go, gosched, recv, recv_ok, select, send

from ..conftest import scaled, until

CLOSED = "closed"


class Case(NamedTuple):
    """What a case of a select wants; `where` is the number of a channel or None."""

    kind: str  # recv, recv_ok or send
    where: int | None
    value: int = 0


class Waiter(NamedTuple):
    """A parked select."""

    tag: int
    cases: tuple[Case, ...]

    def wants(self, where: int, direction: str) -> bool:
        """Tell whether one of the cases is for this channel and direction."""
        return any(c.where == where and c.kind.startswith(direction) for c in self.cases)


class SelectMachine(RuleBasedStateMachine):
    """Random selects of main and of goroutines over a few channels."""

    def __init__(self) -> None:
        super().__init__()
        self.counter = 0
        self.chans: list[Chan[int]] = []
        self.buffers: list[deque[int]] = []
        self.closed: list[bool] = []
        self.waiters: list[Waiter] = []  # in the order in which they parked
        self.goroutines: dict[int, Any] = {}
        self.outcomes: dict[int, tuple[int, Any]] = {}

    @initialize(caps=st.lists(st.sampled_from([0, 0, 1, 3]), min_size=1, max_size=3))
    def make(self, caps: list[int]) -> None:
        """Start with empty channels."""
        self.chans = [Chan(cap) for cap in caps]
        self.buffers = [deque() for _ in caps]
        self.closed = [False for _ in caps]

    def next(self) -> int:
        """Return a number not used before."""
        self.counter += 1
        return self.counter

    # the model

    def first_waiter(self, where: int, direction: str) -> Waiter | None:
        """Return who has waited longest to send to, or receive from, a channel."""
        return next((w for w in self.waiters if w.wants(where, direction)), None)

    def ready(self, case: Case) -> bool:
        """Tell whether a case can proceed now."""
        where = case.where
        if where is None:
            return False
        if self.closed[where]:
            return True
        if case.kind == "send":
            room = len(self.buffers[where]) < self.chans[where].cap
            return room or self.first_waiter(where, "recv") is not None
        return bool(self.buffers[where]) or self.first_waiter(where, "send") is not None

    def finish(self, waiter: Waiter, where: int, direction: str) -> tuple[Case, Any]:
        """Wait until a parked select is through by this channel; the case and its value."""
        self.waiters.remove(waiter)
        g = self.goroutines.pop(waiter.tag)
        until(lambda: g.done, f"that the select {waiter} is served")
        index, value = self.outcomes.pop(waiter.tag)
        case = waiter.cases[index]
        assert case.where == where
        assert case.kind.startswith(direction)
        return case, value

    @staticmethod
    def told(case: Case, value: int) -> Any:
        """Return how a receiving case tells of a value."""
        return (value, True) if case.kind == "recv_ok" else value

    def follow(self, case: Case, value: Any) -> None:
        """Check what a chosen case answered, and do the same to the model."""
        where = case.where
        assert where is not None
        if case.kind == "send":
            self.follow_send(where, case.value, value)
        else:
            self.follow_recv(case, where, value)

    def follow_send(self, where: int, sent: int, answer: Any) -> None:
        """A send took place: into a waiter or into the buffer."""
        if self.closed[where]:
            assert answer == CLOSED
            return
        assert answer is None
        waiter = self.first_waiter(where, "recv")
        if waiter is None:
            self.buffers[where].append(sent)
            return
        case, value = self.finish(waiter, where, "recv")
        assert value == self.told(case, sent)

    def follow_recv(self, case: Case, where: int, answer: Any) -> None:
        """A receive took place: from the buffer, a waiter, or a closed channel."""
        buffer = self.buffers[where]
        waiter = self.first_waiter(where, "send")
        if not buffer and waiter is None:
            assert self.closed[where]
            assert answer == ((None, False) if case.kind == "recv_ok" else CLOSED)
            return
        if waiter is not None:
            sending, nothing = self.finish(waiter, where, "send")
            assert nothing is None
            buffer.append(sending.value)
        assert answer == self.told(case, buffer.popleft())

    def settle(self) -> None:
        """Check that all whom the model has waiting do wait."""
        gosched()
        assert not self.outcomes
        for waiter in self.waiters:
            g = self.goroutines[waiter.tag]
            assert (g.state, g.wait_reason) == ("waiting", "select"), waiter

    # the real thing

    def real_cases(self, cases: tuple[Case, ...]) -> list[Any]:
        """Return the cases to hand to select."""
        made: list[Any] = []
        for case in cases:
            ch = None if case.where is None else self.chans[case.where]
            if case.kind == "send":
                made.append(send(ch, case.value))
            else:
                made.append((recv if case.kind == "recv" else recv_ok)(ch))
        return made

    def wanted(self, shape: list[tuple[str, int]]) -> tuple[Case, ...]:
        """Turn what hypothesis drew into cases; a number beyond the channels means None."""
        return tuple(
            Case(kind, n if n < len(self.chans) else None, self.next()) for kind, n in shape
        )

    shapes = st.lists(
        st.tuples(st.sampled_from(["recv", "recv_ok", "send", "send"]), st.integers(0, 3)),
        min_size=1,
        max_size=5,
    )

    @rule(shape=shapes, timeout=st.sampled_from([0, 0, 0.00001]), prepared=st.booleans())
    def main_selects(self, shape: list[tuple[str, int]], timeout: float, prepared: bool) -> None:
        """A select of main with a time-out does one of the things that are possible, or none."""
        cases = self.wanted(shape)
        possible = [i for i, case in enumerate(cases) if self.ready(case)]
        made = self.real_cases(cases)
        try:
            if prepared:
                index, value = Select(*made)(timeout=timeout)
            else:
                index, value = select(*made, timeout=timeout)
        except ChannelClosed as error:
            index, value = error.index, CLOSED
            assert error.chan is self.chans[shape[index][1]]
        if possible:
            assert index in possible
            self.follow(cases[index], value)
        else:
            assert (index, value) == (-1, None)
        self.settle()

    @rule(shape=shapes)
    def goroutine_selects(self, shape: list[tuple[str, int]]) -> None:
        """A select of a goroutine does one of the things that are possible, or waits."""
        cases = self.wanted(shape)
        if all(case.where is None for case in cases):
            return  # it would wait for ever
        possible = [i for i, case in enumerate(cases) if self.ready(case)]
        made = self.real_cases(cases)
        tag = self.next()

        def body() -> None:
            try:
                self.outcomes[tag] = select(*made)
            except ChannelClosed as error:
                assert error.chan is self.chans[shape[error.index][1]]
                self.outcomes[tag] = (error.index, CLOSED)

        g = go(body)
        until(lambda: g.state in ("waiting", "dead"), "that the goroutine did its select")
        if possible:
            until(lambda: g.done, "that the select proceeds")
            index, value = self.outcomes.pop(tag)
            assert index in possible
            self.follow(cases[index], value)
        else:
            self.goroutines[tag] = g
            self.waiters.append(Waiter(tag, cases))
        self.settle()

    @rule(n=st.integers(0, 2))
    def main_sends(self, n: int) -> None:
        """try_send goes to who has waited longest."""
        where = n % len(self.chans)
        case = Case("send", where, self.next())
        possible = self.ready(case)
        try:
            sent = self.chans[where].try_send(case.value)
        except ChannelClosed:
            assert self.closed[where]
            return
        assert sent == possible
        if sent:
            self.follow(case, None)
        self.settle()

    @rule(n=st.integers(0, 2))
    def main_receives(self, n: int) -> None:
        """try_recv takes from who has waited longest."""
        where = n % len(self.chans)
        case = Case("recv_ok", where)
        possible = self.ready(case)
        value, ok = self.chans[where].try_recv()
        if possible:
            self.follow(case, (value, ok))
        else:
            assert (value, ok) == (None, False)
        self.settle()

    @rule(n=st.integers(0, 2))
    def close(self, n: int) -> None:
        """Closing wakes every select with a case of the channel."""
        where = n % len(self.chans)
        if self.closed[where]:
            return
        self.chans[where].close()
        self.closed[where] = True
        for waiter in list(self.waiters):
            if waiter.wants(where, ""):
                case, value = self.finish(waiter, where, "")
                assert value == ((None, False) if case.kind == "recv_ok" else CLOSED)
        self.settle()

    @invariant()
    def attributes_agree(self) -> None:
        """len and closed are the model's."""
        assert [len(ch) for ch in self.chans] == [len(buffer) for buffer in self.buffers]
        assert [ch.closed for ch in self.chans] == self.closed

    def teardown(self) -> None:
        """Close all channels, so that nobody is left."""
        for ch in self.chans:
            if not ch.closed:
                ch.close()
        for g in self.goroutines.values():
            g.join()


def test_select_follows_the_model() -> None:
    """Random selects over random channels do only what Go's rules allow."""
    run_state_machine_as_test(
        SelectMachine,
        settings=settings(max_examples=scaled(150), stateful_step_count=40, deadline=None),
    )
