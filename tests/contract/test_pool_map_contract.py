"""Pool.map from the contract: lazy, bounded, ordered or not, and closed early."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from goroutines import go, gosched, sleep
from goroutines.pool import Pool

from ..conftest import Token, in_thread, parked, scaled, until
from .tools import Gate, Meter, outcome

# More than any sensible pool of a few goroutines looks ahead when nobody says how much.
FAR = 1000

ordered_or_not = pytest.mark.parametrize("ordered", [True, False])


class Source:
    """An endless input that counts what was taken from it."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Iterator[int]:
        for i in itertools.count():
            self.taken += 1
            yield i


def unsteady(i: int) -> int:
    """A task of varying length that gives its input back."""
    for _ in range(i * 7 % 5):
        gosched()
    return i


def test_map_in_order() -> None:
    """Results come in the order of the inputs, however long each takes."""
    with Pool(4) as pool:
        assert list(pool.map(unsteady, range(scaled(200)))) == list(range(scaled(200)))
        assert list(pool.map(pow, [2, 3, 4], (i for i in range(2)))) == [1, 3]
        assert list(pool.map(unsteady, [])) == []


def test_map_unordered() -> None:
    """With ordered=False each result comes exactly once, as it is ready."""
    gate = Gate()
    with Pool(4) as pool:
        assert sorted(pool.map(unsteady, range(200), ordered=False)) == list(range(200))
        results = pool.map(lambda i: gate.wait(i) if i == 0 else i, range(5), ordered=False)
        assert sorted(next(results) for _ in range(4)) == [1, 2, 3, 4]
        gate.open()
        assert list(results) == [0]


def test_map_goes_on_behind_a_blocked_head() -> None:
    """While the first result is waited for, the tasks behind it run."""
    gate, meter = Gate(), Meter()

    def task(i: int) -> int:
        if i == 0:
            return gate.wait(i)
        meter.visit()
        return i

    results: list[int] = []
    with Pool(2) as pool:
        g = go(lambda: results.extend(pool.map(task, range(10), buffersize=10)))
        until(lambda: meter.total == 9, "that the others ran")
        assert results == []
        gate.open()
        g.join()
    assert results == list(range(10))


@ordered_or_not
def test_map_over_an_endless_input(ordered: bool) -> None:
    """map takes from its input only little more than its results were taken."""
    source = Source()
    with Pool(4) as pool:
        results = pool.map(unsteady, source, ordered=ordered)
        for count in range(1, scaled(3000)):
            next(results)
            assert source.taken - count <= FAR
        results.close()
        assert pool.submit(len, "abc").result() == 3


@ordered_or_not
@pytest.mark.parametrize("buffersize", [1, 3, 20])
def test_map_buffersize(ordered: bool, buffersize: int) -> None:
    """No more than buffersize inputs are under way or waiting to be taken."""
    source = Source()
    with Pool(4) as pool:
        results = pool.map(unsteady, source, ordered=ordered, buffersize=buffersize)
        for count in range(100):
            assert source.taken - count <= buffersize
            next(results)
            gosched()
        results.close()


def test_map_stops_taking_when_nothing_moves() -> None:
    """While all tasks block, the input is left alone, and the pool's size holds."""
    gate, source = Gate(), Source()
    got: list[int] = []
    with Pool(3) as pool:
        results = pool.map(gate.wait, source)
        g = go(lambda: got.append(next(results)))
        parked(g)
        until(lambda: pool.running == 3, "that the pool is busy")
        taken = source.taken
        for _ in range(100):
            gosched()
        assert source.taken == taken <= FAR
        gate.open()
        g.join()
        results.close()
    assert got == [0]


def test_map_results_are_let_go() -> None:
    """Inputs and results that were taken are not kept: the memory stays constant."""
    alive = Meter()

    class Big(Token):
        def __init__(self) -> None:
            alive.now += 1
            alive.peak = max(alive.peak, alive.now)

        def __del__(self) -> None:
            alive.now -= 1

    with Pool(4) as pool:
        for _ in pool.map(lambda i: Big(), range(scaled(3000))):
            pass
    assert 0 < alive.peak <= FAR


@ordered_or_not
def test_map_closed_early(ordered: bool) -> None:
    """Closing or dropping the iterator cancels what waits; the pool lives on."""
    gate = Gate()
    with Pool(2) as pool:
        for leave in ("close", "drop"):
            results: Any = pool.map(
                lambda i: i if i == 0 else gate.wait(i), itertools.count(), ordered=ordered
            )
            assert next(results) == 0
            if leave == "close":
                results.close()
                assert list(results) == []
            del results
            gate.open()
            until(lambda: pool.waiting + pool.running == 0, "that the pool is at rest")
            gate = Gate()
        assert pool.submit(len, "abc").result() == 3


@ordered_or_not
def test_map_task_that_fails(ordered: bool) -> None:
    """A task's exception comes out in its place and ends the iteration; the pool lives on."""
    source, results = Source(), []
    with Pool(3) as pool:
        it = pool.map(lambda i: 10 // (5 - i), source, ordered=ordered)
        with pytest.raises(ZeroDivisionError):
            for result in it:
                results.append(result)
        if ordered:
            assert results == [2, 2, 3, 5, 10]
        assert list(it) == []
        taken = source.taken
        until(lambda: pool.waiting + pool.running == 0, "that the pool is at rest")
        assert source.taken == taken
        assert pool.submit(len, "abc").result() == 3


def test_map_input_that_fails() -> None:
    """An exception out of the input reaches the caller; the pool lives on."""

    def inputs() -> Iterator[int]:
        yield from range(10)
        raise KeyError("input")

    with Pool(2) as pool:
        with pytest.raises(KeyError, match="input"):
            list(pool.map(abs, inputs()))
        with pytest.raises(TypeError):
            list(pool.map(abs, 3))  # type: ignore[arg-type]
        assert pool.submit(len, "abc").result() == 3


@ordered_or_not
@pytest.mark.parametrize("timeout", [0, 0.01])
def test_map_timeout(ordered: bool, timeout: float) -> None:
    """A result that is not there in time is a TimeoutError, and what waits is cancelled."""
    gate = Gate()
    with Pool(1) as pool:
        with pytest.raises(TimeoutError):
            list(pool.map(gate.wait, range(5), timeout=timeout, ordered=ordered))
        gate.open()
        until(lambda: pool.waiting + pool.running == 0, "that the pool is at rest")
        assert list(pool.map(abs, range(5), timeout=3600)) == list(range(5))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"buffersize": 0}, ValueError),
        ({"buffersize": -1}, ValueError),
        ({"buffersize": "1"}, TypeError),
        ({"timeout": float("nan")}, ValueError),
    ],
)
def test_map_bad_settings(settings: dict[str, Any], error: type[Exception]) -> None:
    """Settings that make no sense are refused at the call, not at the first result."""
    with Pool(1) as pool, pytest.raises(error):
        pool.map(abs, [1], **settings)


def test_map_waits_in_bounded_pools() -> None:
    """map obeys max_waiting: it waits for room and never sees PoolFull."""
    with Pool(2, max_waiting=0) as pool:
        assert list(pool.map(unsteady, range(50))) == list(range(50))
        assert sorted(pool.map(unsteady, range(50), ordered=False)) == list(range(50))


def test_maps_side_by_side() -> None:
    """Several maps, and a thread's, share a pool; each gets its own results."""
    out: dict[int, list[int]] = {}

    def body(base: int) -> None:
        out[base] = list(pool.map(unsteady, range(base, base + 50)))

    with Pool(3) as pool:
        gs = [go(body, i * 100) for i in range(5)]
        in_thread(body, 9000)
        for g in gs:
            g.join()
    assert out == {b: list(range(b, b + 50)) for b in [0, 100, 200, 300, 400, 9000]}


def test_map_while_the_pool_changes() -> None:
    """Resizing under a map loses nothing, and others' tasks get their turn."""
    with Pool(2) as pool:
        results = []
        for result in pool.map(unsteady, range(200)):
            results.append(result)
            pool.resize(1 + result % 5)
            if result % 50 == 0:
                assert pool.submit(len, "abc").result() == 3
        assert results == list(range(200))


def test_map_when_the_pool_shuts_down() -> None:
    """A map whose pool is shut down under it ends: with an exception or all its results."""
    gate = Gate()
    pool = Pool(1)
    ends: list[Any] = []
    g = go(lambda: ends.append(outcome(list, pool.map(gate.wait, range(20)))))
    until(lambda: pool.running == 1, "that the first runs")
    pool.shutdown(wait=False, cancel_futures=True)
    gate.open()
    g.join()
    pool.shutdown()
    assert isinstance(ends[0], BaseException) or ends[0] == list(range(20))


@pytest.mark.parametrize("inputs", [range(30), (i for i in range(30))])
def test_map_progress_off_a_terminal(inputs: Any, capfd: Any) -> None:
    """progress=True changes no result and writes nothing where there is no terminal."""
    with Pool(2) as pool:
        assert list(pool.map(unsteady, inputs, progress=True)) == list(range(30))
        results = pool.map(unsteady, range(30), ordered=False, progress=True)
        assert next(results) in range(30)
        results.close()
    assert tuple(capfd.readouterr()) == ("", "")


def test_map_lets_others_run() -> None:
    """Whoever waits for a result parks: other goroutines go on."""
    ticks: list[int] = []

    def ticker() -> None:
        while len(ticks) < 5:
            ticks.append(1)
            sleep(0.0001)
        gate.open()

    gate = Gate()
    go(ticker)
    with Pool(1) as pool:
        assert list(pool.map(gate.wait, range(3))) == [0, 1, 2]
    assert len(ticks) == 5
