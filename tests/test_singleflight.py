"""singleflight: one call for a crowd, and what becomes of it when its leader fails."""

from __future__ import annotations

import pytest

from goroutines import Chan, go, run, sleep
from goroutines.group import singleflight

from .conftest import dead, in_thread, parked, scaled, until


def test_crowd_makes_one_call() -> None:
    """All who ask while the call is under way get its value."""
    flights, door, calls = singleflight.Group(), Chan[None](), []
    out: list[tuple[str, bool]] = []

    def work() -> str:
        calls.append(1)
        door.recv_ok()
        return "value"

    gs = [go(lambda: out.append(flights.do("k", work))) for _ in range(scaled(50, 2))]
    parked(*gs)
    door.close()
    dead(*gs)
    assert set(out) == {("value", True)}
    assert calls == [1]
    assert flights.do("k", lambda: "own") == ("own", False)
    assert flights._calls == {}


def test_failure_is_shared() -> None:
    """Those who share a call that fails get the very exception."""
    flights, door = singleflight.Group(), Chan[None]()
    errors: list[BaseException] = []

    def work() -> None:
        door.recv_ok()
        raise KeyError("x")

    def ask() -> None:
        try:
            flights.do("k", work)
        except KeyError as error:
            errors.append(error)

    gs = [go(ask) for _ in range(3)]
    parked(*gs)
    door.close()
    dead(*gs)
    assert len(errors) == 3
    assert len({id(e) for e in errors}) == 1


def test_the_lead_passes_on_when_the_leader_is_ended() -> None:
    """A leader that its run() ends leaves the lead to one who waits, whose own call counts."""
    flights, begun, out = singleflight.Group(), Chan[None](), []
    follower = go(lambda: (begun.recv(), out.append(flights.do("k", lambda: "second"))))

    def leader() -> None:
        begun.send(None)
        sleep(3600)

    def main() -> None:
        go(flights.do, "k", leader)
        until(lambda: follower.wait_reason == "future", "that the follower waits")

    in_thread(run, main)
    dead(follower)
    assert out == [("second", False)]


def test_forget_starts_anew() -> None:
    """After forget the next call does not join the old one, whose end leaves it alone."""
    flights, old, new = singleflight.Group(), Chan[None](), Chan[None]()
    out: dict[str, tuple[str, bool]] = {}

    def ask(who: str, door: Chan[None]) -> None:
        out[who] = flights.do("k", lambda: (door.recv_ok(), who)[1])

    first = go(ask, "first", old)
    parked(first)
    flights.forget("k")
    second = go(ask, "second", new)
    parked(second)
    old.close()
    dead(first)
    third = go(ask, "third", new)
    parked(third)
    new.close()
    dead(second, third)
    assert out == {
        "first": ("first", False),
        "second": ("second", True),
        "third": ("second", True),
    }


def test_bad_arguments() -> None:
    """A key without a hash and a function that is none are TypeErrors and leave nothing."""
    flights = singleflight.Group()
    with pytest.raises(TypeError):
        flights.do([], lambda: 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callable"):
        flights.do("k", 3)  # type: ignore[arg-type]
    assert flights._calls == {}
