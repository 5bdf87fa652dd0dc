"""context.scope: every kind of wait is ended by the cancel and by the deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from goroutines import (
    Chan,
    Cond,
    Group,
    Mutex,
    Once,
    RWMutex,
    Semaphore,
    WaitGroup,
    blocking,
    go,
    gosched,
    recv,
    select,
    send,
    sleep,
)
from goroutines.context import (
    Canceled,
    DeadlineExceeded,
    background,
    scope,
    with_cancel,
    with_timeout,
)
from goroutines.time import Timer, now

from .conftest import parked, until

virtual = pytest.mark.usefixtures("fake_clock")


def since(start: float) -> float:
    """The seconds of the (virtual) clock since `start`, rid of the rounding of floats."""
    return round(now() - start, 6)


def over() -> Any:
    """A context that was cancelled."""
    ctx = with_cancel(background())
    ctx.cancel()
    return ctx


# --- every kind of wait -----------------------------------------------------------------------
# Each yields a call that waits, and checks afterwards that giving it up left nothing behind.

Wait = Callable[[], Any]


@contextmanager
def chan_recv() -> Iterator[Wait]:
    ch: Chan[int] = Chan()
    yield ch.recv
    assert not ch.try_send(1)


@contextmanager
def chan_recv_ok() -> Iterator[Wait]:
    ch: Chan[int] = Chan(1)
    yield ch.recv_ok
    assert ch.try_send(1)
    assert len(ch) == 1


@contextmanager
def chan_iter() -> Iterator[Wait]:
    ch: Chan[int] = Chan()
    yield lambda: next(iter(ch))
    assert not ch.try_send(1)


@contextmanager
def chan_send() -> Iterator[Wait]:
    ch: Chan[int] = Chan()
    yield lambda: ch.send(1)
    assert ch.try_recv() == (None, False)


@contextmanager
def chan_send_full() -> Iterator[Wait]:
    ch: Chan[int] = Chan(1)
    ch.send(1)
    yield lambda: ch.send(2)
    assert ch.recv() == 1
    assert ch.try_recv() == (None, False)


@contextmanager
def select_cases() -> Iterator[Wait]:
    a: Chan[int] = Chan()
    b: Chan[int] = Chan()
    yield lambda: select(recv(a), send(b, 1))
    assert not a.try_send(1)
    assert b.try_recv() == (None, False)


@contextmanager
def select_nothing() -> Iterator[Wait]:
    yield select


@contextmanager
def asleep() -> Iterator[Wait]:
    yield lambda: sleep(1e6)


@contextmanager
def timer() -> Iterator[Wait]:
    yield Timer(1e6).c.recv


@contextmanager
def waitgroup() -> Iterator[Wait]:
    wg = WaitGroup()
    wg.add()
    yield wg.wait
    wg.done()
    wg.wait(timeout=0)


@contextmanager
def join() -> Iterator[Wait]:
    ch: Chan[None] = Chan()
    g = go(ch.recv)
    yield g.join
    assert not g.done
    ch.send(None)
    g.join()


@contextmanager
def mutex() -> Iterator[Wait]:
    mu = Mutex()
    mu.lock()
    yield mu.lock
    mu.unlock()
    assert mu.try_lock()


@contextmanager
def rw_lock() -> Iterator[Wait]:
    rw = RWMutex()
    rw.rlock()
    yield rw.lock
    assert rw.try_rlock()  # the writer that gave up holds no reader back


@contextmanager
def rw_rlock() -> Iterator[Wait]:
    rw = RWMutex()
    rw.lock()
    yield rw.rlock
    rw.unlock()
    assert rw.try_lock()


@contextmanager
def semaphore() -> Iterator[Wait]:
    sem = Semaphore(3)
    sem.acquire(2)
    yield lambda: sem.acquire(2)
    assert sem.try_acquire(1)
    sem.release(3)
    assert sem.try_acquire(3)


@contextmanager
def cond() -> Iterator[Wait]:
    mu = Mutex()
    cv = Cond(mu)

    def wait() -> None:
        with mu:
            cv.wait()

    yield wait
    assert mu.try_lock()
    cv.signal()


@contextmanager
def once() -> Iterator[Wait]:
    once_ = Once()
    ch: Chan[None] = Chan()
    first = go(once_.do, ch.recv)
    parked(first)
    yield lambda: once_.do(int)
    ch.send(None)
    first.join()


@contextmanager
def future() -> Iterator[Wait]:
    ch: Chan[int] = Chan()
    with Group() as group:
        fut = group.go(ch.recv)
        yield fut.result
        ch.send(7)
        assert fut.result() == 7


@contextmanager
def group_limit() -> Iterator[Wait]:
    ch: Chan[int] = Chan()
    with Group(limit=1) as group:
        group.go(ch.recv)
        yield lambda: group.go(int)
        ch.send(7)
        assert group.go(lambda: 8).result() == 8


@contextmanager
def in_blocking() -> Iterator[Wait]:
    event = threading.Event()
    yield lambda: blocking(event.wait)
    event.set()


Kind = Callable[[], AbstractContextManager[Wait]]
TIMED: list[Kind] = [
    chan_recv,
    chan_recv_ok,
    chan_iter,
    chan_send,
    chan_send_full,
    select_cases,
    select_nothing,
    asleep,
    timer,
    waitgroup,
    join,
    mutex,
    rw_lock,
    rw_rlock,
    semaphore,
    cond,
    once,
    future,
    group_limit,
]
KINDS: list[Kind] = [*TIMED, in_blocking]  # on a fake clock the thread of a call has no time
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@every_kind
def test_cancel_ends_the_wait(kind: Kind) -> None:
    """A goroutine that waits is woken by the cancel and gets err() raised there."""
    caught: list[BaseException] = []

    def body(wait: Wait) -> None:
        try:
            with scope(ctx):
                wait()
        except Exception as error:
            caught.append(error)

    with kind() as wait, with_cancel(background()) as ctx:
        g = go(body, wait)
        parked(g)
        assert caught == []
        ctx.cancel()
        g.join()
        assert [type(error) for error in caught] == [type(ctx.err())] == [Canceled]


@every_kind
def test_wait_in_a_done_scope(kind: Kind) -> None:
    """What would have to wait raises at once when the context is over already."""
    with kind() as wait:
        with pytest.raises(Canceled):
            with scope(over()):
                wait()


@virtual
@pytest.mark.parametrize("kind", TIMED, ids=lambda kind: kind.__name__)
def test_deadline_ends_the_wait(kind: Kind) -> None:
    """At the deadline the wait ends, with the TimeoutError that libraries know."""
    with kind() as wait, with_timeout(background(), 5) as ctx:
        start = now()
        with pytest.raises(TimeoutError) as caught:
            with scope(ctx):
                wait()
        assert type(caught.value) is DeadlineExceeded
        assert since(start) == 5


def test_cond_takes_its_lock_again() -> None:
    """Cond.wait that a scope ends returns with the lock held, however long that takes."""
    mu = Mutex()
    cv = Cond(mu)
    log: list[str] = []

    def body() -> None:
        mu.lock()
        try:
            with scope(ctx):
                cv.wait()
        except Canceled:
            log.append("canceled")
        mu.unlock()

    with with_cancel(background()) as ctx:
        g = go(body)
        parked(g)
        mu.lock()
        ctx.cancel()
        for _ in range(20):
            gosched()
        log.append("unlock")
        mu.unlock()
        g.join()
    assert log == ["unlock", "canceled"]
    assert not mu.locked()


def test_blocking_call_is_left_to_finish() -> None:
    """The wait for a blocking call ends, the call itself goes on in its thread."""
    release, ended = threading.Event(), threading.Event()

    def call() -> None:
        release.wait()
        ended.set()

    def body() -> None:
        with pytest.raises(Canceled), scope(ctx):
            blocking(call)

    with with_cancel(background()) as ctx:
        g = go(body)
        parked(g)
        ctx.cancel()
        g.join()
    assert not ended.is_set()
    release.set()
    until(ended.is_set, "that the call has ended")
