"""A channel and a simple model of it, driven side by side by hypothesis."""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from goroutines import Chan, ChannelClosed, go, gosched

from ..conftest import scaled, until

CLOSED = "closed"
WOULD_BLOCK = "would block"
WAITS = {"recv": "chan receive", "recv_ok": "chan receive", "iter": "chan receive",
         "send": "chan send"}  # fmt: skip


class Model:
    """Go's channel in a few lines; operations that cannot proceed answer WOULD_BLOCK.

    Waiters are tags. What is completed for a waiter by somebody else's operation is
    written to `finished`.
    """

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.buffer: deque[int] = deque()
        self.closed = False
        self.receivers: deque[int] = deque()
        self.senders: deque[tuple[int, int]] = deque()
        self.finished: dict[int, object] = {}

    def send(self, value: int) -> object:
        """Send without waiting."""
        if self.closed:
            return CLOSED
        if self.receivers:
            self.finished[self.receivers.popleft()] = value
        elif len(self.buffer) < self.cap:
            self.buffer.append(value)
        else:
            return WOULD_BLOCK
        return None

    def recv(self) -> object:
        """Receive without waiting."""
        if self.buffer:
            value = self.buffer.popleft()
            if self.senders:
                tag, waiting = self.senders.popleft()
                self.buffer.append(waiting)
                self.finished[tag] = None
            return value
        if self.senders:
            tag, value = self.senders.popleft()
            self.finished[tag] = None
            return value
        return CLOSED if self.closed else WOULD_BLOCK

    def close(self) -> object:
        """Close; all waiters end."""
        if self.closed:
            return CLOSED
        self.closed = True
        for tag in [*self.receivers, *(tag for tag, _ in self.senders)]:
            self.finished[tag] = CLOSED
        self.receivers.clear()
        self.senders.clear()
        return None


class ChannelMachine(RuleBasedStateMachine):
    """Does the same to a Chan and to a Model, with operations of main and of goroutines."""

    def __init__(self) -> None:
        super().__init__()
        self.counter = 0
        self.outcomes: dict[int, object] = {}
        self.goroutines: dict[int, tuple[Any, str]] = {}

    @initialize(cap=st.sampled_from([0, 0, 1, 2, 5]))
    def make(self, cap: int) -> None:
        """Start with an empty channel."""
        self.ch: Chan[int] = Chan(cap)
        self.model = Model(cap)

    def next(self) -> int:
        """Return a number not used before, for a value or a tag."""
        self.counter += 1
        return self.counter

    def settle(self) -> None:
        """Wait until goroutines and model agree on who has finished, and compare results."""
        while self.model.finished:
            tag, expected = self.model.finished.popitem()
            g, kind = self.goroutines.pop(tag)
            until(lambda g=g: g.done, f"that the {kind} of {tag} is served")
            assert self.outcomes.pop(tag) == self.told(kind, expected)
        gosched()
        for tag, (g, kind) in self.goroutines.items():
            assert (g.state, g.wait_reason) == ("waiting", WAITS[kind]), (tag, kind)
            assert tag not in self.outcomes

    @staticmethod
    def told(kind: str, outcome: object) -> object:
        """Return how an operation of this kind tells of `outcome`."""
        if kind == "recv_ok":
            return (None, False) if outcome == CLOSED else (outcome, True)
        if kind == "iter":
            return "end" if outcome == CLOSED else outcome
        return outcome

    # operations of main that never wait

    @rule()
    def try_send(self) -> None:
        """try_send agrees with the model."""
        value = self.next()
        expected = self.model.send(value)
        try:
            outcome: object = None if self.ch.try_send(value) else WOULD_BLOCK
        except ChannelClosed:
            outcome = CLOSED
        assert outcome == expected
        self.settle()

    @rule(timeout=st.sampled_from([0, -1, 0.00001]))
    def send_with_timeout(self, timeout: float) -> None:
        """A send that gives up agrees with the model."""
        value = self.next()
        expected = self.model.send(value)
        try:
            outcome: object = self.ch.send(value, timeout=timeout)
        except ChannelClosed:
            outcome = CLOSED
        except TimeoutError:
            outcome = WOULD_BLOCK
        assert outcome == expected
        self.settle()

    @rule()
    def try_recv(self) -> None:
        """try_recv agrees with the model."""
        expected = self.model.recv()
        value, ok = self.ch.try_recv()
        if ok:
            assert value == expected
        else:
            assert value is None
            assert expected in (CLOSED, WOULD_BLOCK)
        self.settle()

    @rule(timeout=st.sampled_from([0, -1, 0.00001]), ok=st.booleans())
    def recv_with_timeout(self, timeout: float, ok: bool) -> None:
        """A receive that gives up agrees with the model."""
        expected = self.model.recv()
        try:
            outcome: object = (self.ch.recv_ok if ok else self.ch.recv)(timeout=timeout)
        except ChannelClosed:
            assert not ok
            outcome = CLOSED
        except TimeoutError:
            outcome = WOULD_BLOCK
        if ok and expected != WOULD_BLOCK:
            expected = self.told("recv_ok", expected)
        assert outcome == expected
        self.settle()

    @rule()
    def close(self) -> None:
        """Close agrees with the model and wakes everybody."""
        expected = self.model.close()
        try:
            outcome: object = self.ch.close()
        except ChannelClosed:
            outcome = CLOSED
        assert outcome == expected
        self.settle()

    @precondition(lambda self: not self.model.closed)
    @rule(count=st.integers(2, 6))
    def several_at_once(self, count: int) -> None:
        """Operations in a row, before any of those that they woke could run, keep the order."""
        expected: list[object] = []
        outcomes: list[object] = []
        for i in range(count):
            if i % 2:
                expected.append(self.model.recv())
                value, ok = self.ch.try_recv()
                outcomes.append(value if ok else WOULD_BLOCK)
            else:
                number = self.next()
                expected.append(self.model.send(number))
                outcomes.append(None if self.ch.try_send(number) else WOULD_BLOCK)
        assert outcomes == expected
        self.settle()

    # operations of goroutines, which park when they have to

    def start(self, kind: str, value: int | None = None) -> int:
        """Start a goroutine that does one operation and notes how it went."""
        tag = self.next()

        def body() -> None:
            try:
                if kind == "send":
                    self.outcomes[tag] = self.ch.send(value)  # type: ignore[func-returns-value, arg-type]
                elif kind == "recv":
                    self.outcomes[tag] = self.ch.recv()
                elif kind == "recv_ok":
                    self.outcomes[tag] = self.ch.recv_ok()
                else:
                    self.outcomes[tag] = next(iter(self.ch), "end")
            except ChannelClosed as error:
                assert error.chan is self.ch
                self.outcomes[tag] = CLOSED

        g = go(body)
        until(lambda: g.state in ("waiting", "dead"), "that the goroutine did its operation")
        self.goroutines[tag] = (g, kind)
        return tag

    @rule()
    def goroutine_sends(self) -> None:
        """A goroutine sends, waiting if it must."""
        value = self.next()
        outcome = self.model.send(value)
        tag = self.start("send", value)
        if outcome == WOULD_BLOCK:
            self.model.senders.append((tag, value))
        else:
            self.model.finished[tag] = outcome
        self.settle()

    @rule(kind=st.sampled_from(["recv", "recv_ok", "iter"]))
    def goroutine_receives(self, kind: str) -> None:
        """A goroutine receives, waiting if it must."""
        outcome = self.model.recv()
        tag = self.start(kind)
        if outcome == WOULD_BLOCK:
            self.model.receivers.append(tag)
        else:
            self.model.finished[tag] = outcome
        self.settle()

    @invariant()
    def attributes_agree(self) -> None:
        """len, cap and closed are the model's."""
        if hasattr(self, "ch"):
            assert len(self.ch) == len(self.model.buffer)
            assert self.ch.cap == self.model.cap
            assert self.ch.closed == self.model.closed

    def teardown(self) -> None:
        """Close the channel, so that nobody is left."""
        if hasattr(self, "ch"):
            if not self.ch.closed:
                self.ch.close()
            for g, _ in self.goroutines.values():
                g.join()


def test_channel_follows_the_model() -> None:
    """Random operations give what Go's rules say, for values, waiters and closing."""
    run_state_machine_as_test(
        ChannelMachine,
        settings=settings(max_examples=scaled(150), stateful_step_count=40, deadline=None),
    )
