"""context.scope: a context that ends every wait of a goroutine, at its waits and nowhere else."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from goroutines import (
    Chan,
    ChannelClosed,
    Mutex,
    Once,
    RWMutex,
    Semaphore,
    WaitGroup,
    go,
    gosched,
    recv,
    recv_ok,
    run,
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
    with_value,
    without_cancel,
)
from goroutines.time import now

from .conftest import in_thread, parked, scaled, until

virtual = pytest.mark.usefixtures("fake_clock")


def since(start: float) -> float:
    """The seconds of the (virtual) clock since `start`, rid of the rounding of floats."""
    return round(now() - start, 6)


def over() -> Any:
    """A context that was cancelled."""
    ctx = with_cancel(background())
    ctx.cancel()
    return ctx


# --- what a scope leaves alone ----------------------------------------------------------------


def test_done_scope_leaves_alone_what_need_not_wait() -> None:
    """In a scope that is over everything that can be done at once is done as ever."""
    ch: Chan[int] = Chan(2)
    closed: Chan[int] = Chan()
    closed.close()
    mu, rw, sem, wg, once_ = Mutex(), RWMutex(), Semaphore(2), WaitGroup(), Once()
    ended = go(int)
    ended.join()
    with scope(over()):
        ch.send(1)
        assert ch.try_send(2)
        assert ch.recv() == 1
        assert select(recv(ch), recv(Chan())) == (0, 2)
        assert select(recv(ch), send(Chan(), 1), timeout=0) == (-1, None)
        assert select(send(ch, 3)) == (0, None)
        assert list(iter([ch.recv()])) == [3]
        assert ch.try_recv() == (None, False)
        assert closed.recv_ok() == (None, False)
        assert list(closed) == []
        with pytest.raises(ChannelClosed):
            closed.recv()
        with mu, rw, pytest.raises(TimeoutError):
            mu.lock(timeout=0)
        with rw.reader:
            sem.acquire(2)
            sem.release(2)
        wg.wait()
        ended.join()
        assert once_.do(int) is None


@pytest.mark.parametrize("timeout", [0, -1])
def test_never_waiting_is_an_ordinary_timeout(timeout: float) -> None:
    """timeout=0 does not wait, so a scope that is over changes nothing about it."""
    with scope(over()):
        with pytest.raises(TimeoutError):
            Chan().recv(timeout=timeout)
        with pytest.raises(TimeoutError):
            Chan().send(1, timeout=timeout)


def test_partner_that_waits_already() -> None:
    """A value for a receiver that waits, or from a sender that waits, goes over at once."""
    ch: Chan[int] = Chan()
    got: list[int] = []
    receiver = go(lambda: got.append(ch.recv()))
    parked(receiver)
    with scope(over()):
        ch.send(1)
    receiver.join()
    sender = go(ch.send, 2)
    parked(sender)
    with scope(over()):
        got.append(ch.recv())
    sender.join()
    assert got == [1, 2]


def test_computing_is_not_disturbed() -> None:
    """A cancel raises nothing between the waits, not even when the block is left."""
    log: list[str] = []
    with with_cancel(background()) as ctx, scope(ctx):
        log.append("before")
        ctx.cancel()
        log.append("after")
        assert sum(range(1000)) == 499_500
    assert log == ["before", "after"]


def test_scope_that_is_not_over() -> None:
    """As long as the context lives, waits go on as without a scope."""
    ch: Chan[int] = Chan()
    with with_cancel(background()) as ctx:
        go(lambda: [gosched() for _ in range(10)] and ch.send(1))
        with scope(ctx):
            assert ch.recv() == 1
            sleep(0.001)
            with pytest.raises(TimeoutError) as caught:
                ch.recv(timeout=0.001)
        assert type(caught.value) is TimeoutError


@virtual
def test_own_timeout_that_is_tighter() -> None:
    """Of an operation's own timeout and the scope's deadline the earlier ends the wait."""
    start = now()
    with with_timeout(background(), 5) as ctx, scope(ctx):
        with pytest.raises(TimeoutError) as caught:
            Chan().recv(timeout=2)
        assert (type(caught.value), since(start)) == (TimeoutError, 2)
        assert select(recv(Chan()), timeout=1) == (-1, None)
        with pytest.raises(DeadlineExceeded):
            Chan().recv(timeout=3)
        assert since(start) == 5


def test_block_left_clean() -> None:
    """After the block no wait is ended any more, however the block was left."""
    for error in (None, ValueError("the block's")):
        ctx = with_cancel(background())
        ch: Chan[int] = Chan()
        try:
            with scope(ctx):
                if error is not None:
                    raise error
        except ValueError as caught:
            assert caught is error
        ctx.cancel()
        g = go(lambda: [gosched() for _ in range(10)] and ch.send(1))
        assert ch.recv() == 1
        g.join()


def test_exception_of_the_block_goes_on() -> None:
    """A block that raises after its context is over raises its own exception."""
    error = ValueError("the block's")
    with pytest.raises(ValueError, match="the block's") as caught:
        with scope(over()):
            raise error
    assert caught.value is error


def test_each_wait_is_ended() -> None:
    """A library that swallows the error gets it again at its next wait."""
    count = 0
    with scope(over()):
        for _ in range(5):
            try:
                Chan().recv()
            except Canceled:
                count += 1
    assert count == 5


def test_goroutines_started_inside_are_not_covered() -> None:
    """A scope is one goroutine's own; those that it starts wait as long as they like."""
    ch: Chan[int] = Chan()
    got: list[int] = []
    with with_cancel(background()) as ctx:
        with scope(ctx):
            g = go(lambda: got.append(ch.recv()))
            parked(g)
            ctx.cancel()
            late = go(lambda: got.append(ch.recv()))
            for _ in range(20):
                gosched()
            assert not g.done
            assert not late.done
        parked(late)
    ch.send(1)
    ch.send(1)
    g.join()
    late.join()
    assert got == [1, 1]


def test_other_goroutines_are_not_covered() -> None:
    """Of two goroutines at one channel only the one inside the scope is woken."""
    ch: Chan[int] = Chan()
    got: list[Any] = []

    def scoped() -> None:
        try:
            with scope(ctx):
                got.append(ch.recv())
        except Canceled:
            got.append("canceled")

    with with_cancel(background()) as ctx:
        inside = go(scoped)
        outside = go(lambda: got.append(ch.recv()))
        parked(inside, outside)
        ctx.cancel()
        inside.join()
        assert got == ["canceled"]
        ch.send(1)
        outside.join()
    assert got == ["canceled", 1]


@pytest.mark.parametrize("ctx", [None, 1, "ctx"])
def test_what_is_no_context(ctx: Any) -> None:
    """A scope of what is no context is a TypeError."""
    with pytest.raises(TypeError):
        with scope(ctx):
            pass


# --- nesting ----------------------------------------------------------------------------------


@virtual
@pytest.mark.parametrize(("outer", "inner"), [(3, 8), (8, 3)])
def test_tightest_counts(outer: float, inner: float) -> None:
    """Of nested scopes the one that is over first ends the wait."""
    start = now()
    with with_timeout(background(), outer) as a, with_timeout(background(), inner) as b:
        with pytest.raises(DeadlineExceeded), scope(a), scope(b):
            Chan().recv()
        assert since(start) == 3
        with pytest.raises(DeadlineExceeded), scope(a):
            sleep(100)
        assert since(start) == outer


def test_error_is_that_of_the_scope_that_ended() -> None:
    """The wait raises the error of the context that is over, inner or outer."""
    for late in (lambda ctx: (ctx, background()), lambda ctx: (background(), ctx)):
        with with_timeout(background(), 0) as ctx:
            outer, inner = late(ctx)
            with pytest.raises(DeadlineExceeded), scope(outer), scope(inner):
                Chan().recv()
        outer, inner = late(over())
        with pytest.raises(Canceled), scope(outer), scope(inner):
            Chan().recv()


def test_inner_scope_gone() -> None:
    """After the inner block the outer scope alone counts."""
    ch: Chan[int] = Chan()
    with with_cancel(background()) as outer, scope(outer):
        with pytest.raises(Canceled), scope(over()):
            ch.recv()
        g = go(lambda: [gosched() for _ in range(10)] and ch.send(1))
        assert ch.recv() == 1
        g.join()
        outer.cancel()
        with pytest.raises(Canceled):
            ch.recv()


def test_many_nested_scopes() -> None:
    """A hundred scopes in one another: each is ended by its own context and those outside."""
    ctxs = [with_cancel(background()) for _ in range(100)]

    def nest(depth: int) -> int:
        if depth == len(ctxs):
            ctxs[50].cancel()
            Chan().recv()
        try:
            with scope(ctxs[depth]):
                return nest(depth + 1)
        except Canceled:
            sleep(0)
            if depth == 50:
                sleep(0.0001)  # the scopes outside live on, so this waits
                return depth
            raise

    assert nest(0) == 50
    for ctx in ctxs:
        ctx.cancel()


def test_shield() -> None:
    """Clean-up inside scope(without_cancel(ctx)) may wait although ctx is over."""
    ch: Chan[str] = Chan()
    log: list[str] = []
    ctx = with_value(over(), "key", 1)
    with pytest.raises(Canceled), scope(ctx):
        try:
            ch.recv()
        finally:
            with scope(without_cancel(ctx)):
                go(lambda: [gosched() for _ in range(10)] and ch.send("cleaned"))
                log.append(ch.recv())
                sleep(0.001)
            with pytest.raises(Canceled):
                ch.recv()
    assert log == ["cleaned"]


@virtual
def test_shield_with_a_deadline_of_its_own() -> None:
    """Clean-up that is shielded from ctx can have a deadline of its own."""
    start = now()
    ctx = over()
    with scope(ctx), with_timeout(without_cancel(ctx), 4) as cleanup:
        with pytest.raises(DeadlineExceeded), scope(cleanup):
            Chan().recv()
        assert since(start) == 4


# --- around code that knows nothing of it -----------------------------------------------------


@virtual
def test_deadline_for_code_that_takes_none() -> None:
    """A deadline reaches the waits of a library that has no timeout= anywhere."""
    start = now()
    mu = Mutex()

    def library(ch: Any) -> str:
        try:
            with mu:
                for _ in range(10):
                    sleep(1)
                return str(ch.recv())
        except TimeoutError:
            return "timed out"

    with with_timeout(background(), 3.5) as ctx, scope(ctx):
        assert library(Chan()) == "timed out"
    assert since(start) == 3.5
    assert not mu.locked()


def test_scopes_of_a_run() -> None:
    """The main goroutine of a run has scopes like any other."""

    def main() -> str:
        with with_timeout(background(), 0.001) as ctx, scope(ctx):
            try:
                Chan().recv()
            except DeadlineExceeded:
                return "ended"
        return "never"

    assert run(main) == "ended"


def test_plain_threads() -> None:
    """In a plain OS thread a scope ends the waits of that thread."""
    waiting: Chan[None] = Chan(1)

    def body(ctx: Any, wait: Callable[[], Any]) -> str:
        try:
            with scope(ctx):
                waiting.send(None)
                wait()
        except (Canceled, DeadlineExceeded) as error:
            return type(error).__name__
        return "never"

    for wait in (Chan().recv, lambda: Chan().send(1), lambda: sleep(1e6), select):
        with with_cancel(background()) as ctx:
            go(lambda ctx=ctx: (waiting.recv(), gosched(), ctx.cancel()))
            assert in_thread(body, ctx, wait) == "Canceled"
        with with_timeout(background(), 0.005) as ctx:
            assert in_thread(body, ctx, wait) == "DeadlineExceeded"
            waiting.recv()


# --- nothing is lost --------------------------------------------------------------------------


def test_value_and_cancel_in_one_moment() -> None:
    """A value that was taken from its sender arrives, one that was not stays with it."""
    for first in ("send", "cancel"):
        ch: Chan[int] = Chan()
        got: list[int] = []

        def body() -> None:
            try:
                with scope(ctx):
                    got.append(ch.recv())
            except Canceled:
                pass

        with with_cancel(background()) as ctx:
            g = go(body)
            parked(g)
            if first == "send":
                assert ch.try_send(1)
                ctx.cancel()
                sent = True
            else:
                ctx.cancel()
                sent = ch.try_send(1)
            g.join()
        assert len(got) == sent


def scoped(rng: random.Random, op: Callable[[], Any]) -> Any:
    """Do `op()` in a scope that somebody cancels about now; raise what it raises."""
    with with_cancel(background()) as ctx:
        turns = rng.randrange(4)
        go(lambda: ([gosched() for _ in range(turns)], ctx.cancel()))
        with scope(ctx):
            return op()


@pytest.mark.parametrize("how", ["operation", "select"])
@pytest.mark.parametrize("threads", [False, True], ids=["goroutines", "threads"])
@pytest.mark.parametrize("cap", [0, 1, 3])
def test_no_value_is_lost(cap: int, threads: bool, how: str) -> None:
    """What senders count as sent is what receivers get, whatever is cancelled meanwhile."""
    ch: Chan[tuple[int, int]] = Chan(cap)
    never: Chan[Any] = Chan()
    count = scaled(100)
    sent: list[tuple[int, int]] = []
    got: list[tuple[int, int]] = []

    def producer(i: int) -> None:
        rng = random.Random(i)
        for n in range(count):
            try:
                if how == "select":
                    scoped(rng, lambda: select(recv(never), send(ch, (i, n))))
                else:
                    scoped(rng, lambda: ch.send((i, n)))
            except Canceled:
                continue
            sent.append((i, n))

    def consumer(i: int) -> None:
        rng = random.Random(-i)
        while True:
            try:
                if how == "select":
                    value, ok = scoped(rng, lambda: select(recv(never), recv_ok(ch)))[1]
                else:
                    value, ok = scoped(rng, ch.recv_ok)
            except Canceled:
                continue
            if not ok:
                return
            got.append(value)

    producers = WaitGroup()
    consumers = [go(consumer, i) for i in range(1, 4)]
    foreign = threading.Thread(target=consumer, args=(4,), daemon=True)
    for i in range(3):
        producers.go(producer, i)
    if threads:
        foreign.start()
        in_thread(producer, 3)
    producers.wait()
    ch.close()
    for g in consumers:
        g.join()
    until(lambda: not foreign.is_alive(), "that the consumer's thread has ended")
    assert sorted(sent) == sorted(got)


@pytest.mark.parametrize(
    ("new", "take", "give", "free"),
    [
        (Mutex, lambda o: o.lock(), lambda o: o.unlock(), lambda o: o.try_lock()),
        (RWMutex, lambda o: o.lock(), lambda o: o.unlock(), lambda o: o.try_lock()),
        (RWMutex, lambda o: o.rlock(), lambda o: o.runlock(), lambda o: o.try_lock()),
        (
            lambda: Semaphore(2),
            lambda o: o.acquire(2),
            lambda o: o.release(2),
            lambda o: o.try_acquire(2),
        ),
    ],
    ids=["Mutex", "RWMutex", "RWMutex.reader", "Semaphore"],
)
def test_no_lock_is_lost(new: Any, take: Any, give: Any, free: Any) -> None:
    """A lock whose waiters are cancelled is held by who got it and free in the end."""
    lock = new()
    outcomes: list[bool] = []

    def body(i: int) -> None:
        rng = random.Random(i)
        for _ in range(scaled(100)):
            try:
                scoped(rng, lambda: take(lock))
            except Canceled:
                outcomes.append(False)
                continue
            gosched()
            give(lock)
            outcomes.append(True)

    wg = WaitGroup()
    for i in range(6):
        wg.go(body, i)
    wg.wait()
    assert len(outcomes) == 6 * scaled(100)
    assert free(lock)
