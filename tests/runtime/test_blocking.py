"""blocking: calls that would block the thread, on the pool."""

from __future__ import annotations

import contextvars
import threading
import time
import traceback
import weakref
from typing import Any

import pytest

from goroutines import (
    Chan,
    ChannelClosed,
    WaitGroup,
    blocking,
    current,
    go,
    num_goroutine,
    run,
    runtime,
)

from ..conftest import Token, in_thread, parked, run_program, scaled, until

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="unset")
PATIENCE = 60.0


def test_result_and_arguments() -> None:
    """blocking passes arguments, even one called fn, and returns the result."""
    assert blocking(lambda *args, **kwargs: (args, kwargs), 1, 2, fn=3) == ((1, 2), {"fn": 3})


def test_runs_in_another_thread() -> None:
    """The call runs on an OS thread of its own; the goroutine comes back to its own."""
    here = threading.get_ident()
    assert blocking(threading.get_ident) != here
    assert threading.get_ident() == here


def test_exception_comes_back() -> None:
    """The very exception of the call is raised, with the traceback of where it was."""
    error = LookupError("lost")

    def failing_call() -> None:
        raise error

    with pytest.raises(LookupError) as caught:
        blocking(failing_call)
    assert caught.value is error
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-1] == "failing_call"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), ValueError("x")])
def test_every_exception_comes_back(error: BaseException) -> None:
    """SystemExit and KeyboardInterrupt of a call are raised where it was asked for."""

    def failing_call() -> None:
        raise error

    caught: list[BaseException] = []

    def body() -> None:
        try:
            blocking(failing_call)
        except BaseException as raised:
            caught.append(raised)

    go(body).join()
    assert caught == [error]


@pytest.mark.parametrize("fn", [None, 3, "call"])
def test_not_callable(fn: Any) -> None:
    """What cannot be called is a TypeError."""
    with pytest.raises(TypeError, match="callable"):
        blocking(fn)


def test_others_run_meanwhile() -> None:
    """While a call blocks its thread, goroutines go on, and one of them may release it."""
    event = threading.Event()
    out: list[object] = []
    g = go(lambda: out.append(blocking(event.wait, PATIENCE)))
    parked(g)
    go(out.append, "other").join()
    assert (out, g.state) == (["other"], "waiting")
    event.set()
    g.join()
    assert out == ["other", True]


def test_main_may_call() -> None:
    """main waits for a call that a goroutine releases."""
    event = threading.Event()
    g = go(event.set)
    assert blocking(event.wait, PATIENCE) is True
    g.join()


def test_many_at_once() -> None:
    """Calls that need each other to go on all get a thread."""
    barrier = threading.Barrier(8)
    out: list[int] = []
    gs = [go(lambda: out.append(blocking(barrier.wait, PATIENCE))) for _ in range(8)]
    for g in gs:
        g.join()
    assert sorted(out) == list(range(8))


def test_the_cap_holds() -> None:
    """With a cap of two no third call starts before one ends, and all are served in the end."""
    done = run_program(
        """
        import threading, warnings
        from goroutines import blocking, go, gosched, runtime

        warnings.simplefilter("ignore")  # that calls wait
        runtime.set_max_threads(2)
        gate = threading.Semaphore(0)
        lock = threading.Lock()
        running, peak, threads, out = [0], [0], set(), []

        def call(i):
            with lock:
                threads.add(threading.get_native_id())
                running[0] += 1
                peak[0] = max(peak[0], running[0])
            assert gate.acquire(timeout=50)
            with lock:
                running[0] -= 1
            return i

        gs = [go(lambda i=i: out.append(blocking(call, i))) for i in range(50)]
        while running[0] < 2 or any(g.state != "waiting" for g in gs):
            gosched()
        for _ in range(200):
            gosched()
        print(running[0])
        for _ in range(50):
            gate.release()
        for g in gs:
            g.join()
        print(sorted(out) == list(range(50)), peak[0], len(threads))
        """
    )
    assert done == (0, "2\nTrue 2 2\n", "")


def test_threads_are_reused() -> None:
    """Calls one after the other find a thread that has served before."""
    local = threading.local()

    def count() -> int:
        local.served = getattr(local, "served", 0) + 1
        return int(local.served)

    assert max(blocking(count) for _ in range(50)) > 1


def test_set_max_threads_returns_the_old() -> None:
    """set_max_threads answers what was in force before."""
    old = runtime.set_max_threads(5)
    try:
        assert runtime.set_max_threads(7) == 5
    finally:
        assert runtime.set_max_threads(old) == 7
    assert isinstance(old, int)
    assert old > 0


@pytest.mark.parametrize("n", [0, -1])
def test_set_max_threads_too_few(n: int) -> None:
    """A pool without threads is a ValueError, and changes nothing."""
    old = runtime.set_max_threads(5)
    with pytest.raises(ValueError, match=r"\d|thread|positive"):
        runtime.set_max_threads(n)
    assert runtime.set_max_threads(old) == 5


@pytest.mark.parametrize("n", ["5", None, 1.5])
def test_set_max_threads_wrong_type(n: Any) -> None:
    """A number of threads that is no integer is a TypeError."""
    with pytest.raises(TypeError):
        runtime.set_max_threads(n)


def test_context_goes_along() -> None:
    """The call sees the goroutine's context variables."""
    out: list[str] = []

    def body(value: str) -> None:
        VAR.set(value)
        out.append(blocking(VAR.get))

    for value in ("a", "b"):
        go(body, value).join()
    assert out == ["a", "b"]
    assert blocking(VAR.get) == VAR.get()


def test_call_uses_channels() -> None:
    """A call may use channels, as any plain thread."""
    ch: Chan[int] = Chan()
    back: Chan[int] = Chan()

    def call() -> int:
        ch.send(20)
        return back.recv() + 1

    def peer() -> None:
        back.send(ch.recv() * 2)

    g = go(peer)
    assert blocking(call) == 41
    g.join()


def test_call_may_start_goroutines() -> None:
    """A call may start a goroutine and wait for it."""

    def call() -> list[str]:
        out: list[str] = []
        go(out.append, "ran").join()
        return out

    assert blocking(call) == ["ran"]


def test_state_while_it_blocks() -> None:
    """A goroutine in a blocking call is waiting, with a reason, and counted."""
    event = threading.Event()
    before = num_goroutine()
    g = go(blocking, event.wait, PATIENCE)
    parked(g)
    assert g.wait_reason
    assert num_goroutine() == before + 1
    event.set()
    g.join()


def test_from_plain_thread() -> None:
    """In a plain thread blocking gives the result as well."""
    assert in_thread(blocking, pow, 2, 10) == 1024


def test_under_run() -> None:
    """blocking works below run, and from there again."""

    def main() -> int:
        return blocking(lambda: 1) + blocking(lambda: 2)

    assert run(main) == 3
    assert blocking(run, main) == 3


def test_nothing_is_kept() -> None:
    """Arguments and results are let go when the call is over."""
    token = Token()
    alive = weakref.ref(token)
    blocking(lambda value: value, token)
    blocking(lambda: None)
    del token
    until(lambda: alive() is None, "that the argument was let go")


def test_current_is_unchanged() -> None:
    """After the call the goroutine is still itself."""
    seen: list[bool] = []

    def body() -> None:
        me = current()
        blocking(time.sleep, 0)
        seen.append(current() is me)

    gs = [go(body) for _ in range(20)]
    for g in gs:
        g.join()
    assert seen == [True] * 20


@pytest.mark.filterwarnings("ignore:blocking:RuntimeWarning")
def test_thousands_of_calls() -> None:
    """Many goroutines making many short calls get each its own answer."""
    wrong: list[tuple[int, int]] = []
    wg = WaitGroup()

    def body(i: int) -> None:
        for n in range(10):
            answer = blocking(lambda a, b: a * 100 + b, i, n)
            if answer != i * 100 + n:
                wrong.append((i, n))

    for i in range(scaled(200)):
        wg.go(body, i)
    wg.wait()
    assert wrong == []


def test_errors_of_channels_in_calls() -> None:
    """ChannelClosed in a call reaches the goroutine like every other exception."""
    ch: Chan[int] = Chan()
    ch.close()
    with pytest.raises(ChannelClosed) as caught:
        blocking(ch.recv)
    assert caught.value.chan is ch


def test_atexit_function_registered_before_the_import() -> None:
    """A call from an atexit function that runs after the pool has stopped is served."""
    done = run_program(
        """
        import atexit

        def last():
            print(blocking(lambda: 42))

        atexit.register(last)
        from goroutines import blocking, gosched
        print(blocking(lambda: 1))
        """
    )
    assert done == (0, "1\n42\n", "")


def test_stats_and_the_warning() -> None:
    """What waits for a thread is counted; the first that has to is told, once."""
    done = run_program("""
    import time, warnings
    from goroutines import WaitGroup, blocking, runtime
    runtime.set_max_threads(2)
    wg = WaitGroup()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(8):
            wg.go(blocking, time.sleep, 0.01)
        wg.wait()
    texts = [str(w.message) for w in caught]
    assert len(texts) == 1 and "set_max_threads" in texts[0], texts
    stats = runtime.blocking_stats()
    assert stats.threads == stats.max_threads == 2 and stats.calls == 8 and stats.queued == 0
    assert 0 < stats.longest_wait <= stats.waited
    """)
    assert done.returncode == 0, done.stderr


def test_the_warning_may_wait() -> None:
    """A hook that parks while it shows the warning loses no call."""
    done = run_program("""
    import time, warnings
    from goroutines import WaitGroup, blocking, runtime, sleep
    runtime.set_max_threads(1)
    warnings.showwarning = lambda *args, **kwargs: sleep(0.001)
    warnings.simplefilter("always")
    wg, ended = WaitGroup(), []
    for i in range(4):
        wg.go(lambda i=i: ended.append(blocking(lambda: time.sleep(0.001) or i)))
    wg.wait()
    assert sorted(ended) == [0, 1, 2, 3]
    """)
    assert done.returncode == 0, done.stderr
