"""Future: its states, its waiters, and what concurrent.futures sees of it."""

from __future__ import annotations

import concurrent.futures as cf
import gc
import threading
import weakref
from typing import Any

import pytest

from goroutines import go
from goroutines.pool import Future

from ..conftest import FREE_THREADED, Token, dead, in_thread, parked, scaled, until


class Abort(BaseException):
    """An exception that is not an Exception."""


def test_is_a_future_of_both_kinds() -> None:
    """A Future is concurrent.futures' without any of its attributes being made."""
    future: Future[int] = Future()
    assert isinstance(future, cf.Future)
    assert future.__dict__ == {}
    assert Future[int].__origin__ is Future  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        Future(1)  # type: ignore[call-arg]


def test_states_in_order() -> None:
    """pending, running, finished: each as the standard library's future says it."""
    ours: Future[int] = Future()
    theirs: cf.Future[int] = cf.Future()
    for change in (lambda f: f.set_running_or_notify_cancel(), lambda f: f.set_result(3)):
        assert change(ours) == change(theirs)
        for ask in ("running", "done", "cancelled", "cancel"):
            assert getattr(ours, ask)() == getattr(theirs, ask)(), ask
        assert ours._state == theirs._state
    assert (ours.result(), ours.exception(), ours._result) == (3, None, 3)


def test_cancelled_by_hand() -> None:
    """cancel() of a future without a task waits for its executor to notice."""
    future: Future[int] = Future()
    assert future.cancel()
    assert future.cancel()
    assert (future.cancelled(), future.done(), future._state) == (True, True, "CANCELLED")
    assert future.set_running_or_notify_cancel() is False
    assert future._state == "CANCELLED_AND_NOTIFIED"
    with pytest.raises(cf.CancelledError):
        future.result()
    with pytest.raises(cf.CancelledError):
        future.exception()
    with pytest.raises(RuntimeError):
        future.set_running_or_notify_cancel()


@pytest.mark.parametrize("settle", [lambda f: f.set_result(1), lambda f: f.cancel()])
def test_done_only_once(settle: Any) -> None:
    """What is done cannot be set again."""
    future: Future[int] = Future()
    settle(future)
    for again in (lambda: future.set_result(2), lambda: future.set_exception(ValueError())):
        with pytest.raises(cf.InvalidStateError):
            again()


def test_arguments_by_name() -> None:
    """The methods take the names that concurrent.futures gives their arguments."""
    future: Future[int] = Future()
    log: list[object] = []
    future.add_done_callback(fn=log.append)
    future.set_result(result=1)
    assert log == [future]
    failed: Future[int] = Future()
    failed.set_exception(exception=ValueError())
    for call in (lambda: future.set_result(), lambda: future.add_done_callback(cb=1)):
        with pytest.raises(TypeError):
            call()  # type: ignore[call-arg]


def test_exception_is_the_very_object() -> None:
    """result raises the object that was set, each time; exception returns it."""
    future: Future[int] = Future()
    error = ValueError("x")
    future.set_exception(error)
    for _ in range(2):
        with pytest.raises(ValueError, match="x") as caught:
            future.result()
        assert caught.value is error
    assert future.exception() is future._exception is error
    with pytest.raises(TypeError):
        Future().set_exception("no exception")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["result", "exception"])
def test_waiting(method: str) -> None:
    """Goroutines and threads wait, give up in time, and all hear of the end."""
    future: Future[int] = Future()
    wait = getattr(future, method)
    for timeout in (0, -1, 0.001):
        with pytest.raises(TimeoutError, match=rf"{method} timed out: <Future .*pending"):
            wait(timeout=timeout)
    for arguments in ((1, 2), ("x",)):
        with pytest.raises(TypeError):
            wait(*arguments)
    gs = [go(wait) for _ in range(10)]
    parked(*gs)
    assert gs[0].wait_reason == "future"
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    future.set_result(1)
    dead(*gs)
    until(lambda: not thread.is_alive(), "that the thread ended")
    in_thread(wait)


def test_set_in_a_thread() -> None:
    """A plain thread wakes the goroutine that waits."""
    future: Future[int] = Future()
    results: list[int] = []
    g = go(lambda: results.append(future.result()))
    parked(g)
    thread = threading.Thread(target=future.set_result, args=(7,), daemon=True)
    thread.start()
    g.join()
    thread.join()
    assert results == [7]


def test_callbacks(caplog: Any) -> None:
    """They are called once, in order, with the future; an Exception of one is logged."""
    future: Future[int] = Future()
    log: list[object] = []
    future.add_done_callback(lambda f: log.append(("a", f.result())))
    future.add_done_callback(lambda f: 1 / 0)
    future.add_done_callback(log.append)
    future.set_result(1)
    future.add_done_callback(lambda f: log.append("late"))
    assert log == [("a", 1), future, "late"]
    assert "exception calling callback" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    with pytest.raises(TypeError):
        future.add_done_callback(3)  # type: ignore[arg-type]


def test_callback_that_raises_no_exception() -> None:
    """What is no Exception goes to who set the result, after all callbacks were called."""
    future: Future[int] = Future()
    log: list[object] = []

    def abort(f: object) -> None:
        raise Abort

    future.add_done_callback(abort)
    future.add_done_callback(log.append)
    with pytest.raises(Abort):
        future.set_result(1)
    assert log == [future]


def test_repr_says_the_state() -> None:
    """The repr tells what became of it."""
    future: Future[int] = Future()
    assert "pending" in repr(future)
    future.set_running_or_notify_cancel()
    assert "running" in repr(future)
    future.set_result(1)
    assert "finished: returned int" in repr(future)
    failed: Future[int] = Future()
    failed.set_exception(KeyError())
    assert "finished: raised KeyError" in repr(failed)
    gone: Future[int] = Future()
    gone.cancel()
    assert "cancelled" in repr(gone)


@pytest.mark.skipif(FREE_THREADED, reason="when a cycle is found differs")
def test_cycles_are_collected() -> None:
    """A future in a cycle with its result, and one with its callback, is let go."""
    gone: list[weakref.ref[Token]] = []
    for attach in (
        lambda f, t: f.set_result(t),
        lambda f, t: f.add_done_callback(lambda _, t=t: t),
    ):
        future: Any = Future()
        token = Token()
        token.future = future  # type: ignore[attr-defined]
        attach(future, token)
        gone.append(weakref.ref(token))
        del future, token
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_held_looks_unchanged() -> None:
    """While its condition is held, a future's state stands still; its result does not wait."""
    future: Future[int] = Future()

    class Waiter:
        event: Any = None
        heard: list[object] = []

        def add_result(self, f: object) -> None:
            self.heard.append(f)

    with future._condition, future._condition:
        assert future._state == "PENDING"
        in_thread(future.set_result, 1)
        assert future._state == "PENDING"
        assert future.result(timeout=0) == 1
        waiter = Waiter()
        future._waiters.append(waiter)
        assert waiter.heard == []
    assert waiter.heard == [future]
    assert future._state == "FINISHED"
    with future._condition:
        future._waiters.remove(waiter)
        late = Waiter()
        late.heard = []
        future._waiters.append(late)
    assert late.heard == []
    with pytest.raises(RuntimeError):
        future._condition.release()


@pytest.mark.parametrize("how", [cf.FIRST_COMPLETED, cf.FIRST_EXCEPTION, cf.ALL_COMPLETED])
def test_wait_leaves_the_thread_to_others(how: str) -> None:
    """cf.wait parks: the goroutine of this thread that sets the futures runs."""
    futures: list[Future[int]] = [Future() for _ in range(3)]

    def setter() -> None:
        for i, future in enumerate(futures):
            future.set_result(i)

    go(setter)
    done, left = cf.wait(futures, return_when=how)
    assert done | left == set(futures)
    assert bool(left) <= (how != cf.ALL_COMPLETED)
    assert [f._waiters for f in futures] == [[], [], []]


def test_wait_for_futures_of_both_kinds() -> None:
    """Ours and a thread pool's can be waited for together."""
    ours: Future[int] = Future()
    with cf.ThreadPoolExecutor(1) as threads:
        theirs = threads.submit(len, "abc")
        go(ours.set_result, 1)
        assert cf.wait([ours, theirs]).not_done == set()
        assert {f.result() for f in cf.as_completed([theirs, ours])} == {1, 3}


def test_wait_while_futures_get_done() -> None:
    """No end is lost or told twice when threads set what others begin to wait for."""
    for _ in range(scaled(30)):
        futures: list[Future[int]] = [Future() for _ in range(20)]
        threads = [
            threading.Thread(target=lambda part: [f.set_result(1) for f in part], args=(part,))
            for part in (futures[::2], futures[1::2])
        ]
        for thread in threads:
            thread.start()
        g = go(cf.wait, futures)
        assert len(list(cf.as_completed(futures))) == 20
        g.join()
        for thread in threads:
            thread.join()
