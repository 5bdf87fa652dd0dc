"""native.c: CPython's locks and SimpleQueue, made before patch(), park."""

from __future__ import annotations

import textwrap

import pytest

from ..conftest import run_program

BEFORE = """
import _thread, queue, threading
lock, rlock, simple = threading.Lock(), threading.RLock(), queue.SimpleQueue()
acquire, release = lock.acquire, lock.release
from goroutines.patch import patch
patch()
from goroutines import WaitGroup, go, gosched, num_goroutine, sleep
wg = WaitGroup()
"""


def program(body: str) -> str:
    """Run a program that made its locks first; what it printed."""
    done = run_program(BEFORE + textwrap.dedent(body))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("way", ["lock", "rlock", "bound"])
def test_exclusion_among_goroutines(way: str) -> None:
    """Whoever waits in between, one goroutine at a time is inside."""
    program(f"""
    import contextlib
    @contextlib.contextmanager
    def bound():
        acquire()
        try: yield
        finally: release()
    inside = total = 0
    def work():
        global inside, total
        for _ in range(50):
            with {"bound()" if way == "bound" else way}:
                inside += 1
                assert inside == 1
                gosched()
                total, inside = total + 1, inside - 1
    for _ in range(20):
        wg.go(work)
    wg.wait()
    assert total == 1000
    """)


def test_rlock_belongs_to_a_goroutine() -> None:
    """To CPython all goroutines of a thread are one owner; here they are not."""
    program("""
    with rlock, rlock:
        got = []
        wg.go(lambda: got.append(rlock.acquire(False)))
        wg.wait()
        assert got == [False]
        wg.go(lambda: rlock.release())
        import goroutines
        goroutines.set_panic_hook(lambda g, exc: got.append(exc) or True)
        wg.wait()
        assert isinstance(got[1], RuntimeError), got
        assert rlock._is_owned() and rlock._recursion_count() == 2
    assert not rlock._is_owned()
    """)


def test_arguments_and_errors_are_cpythons() -> None:
    """What acquire and get refuse they refuse in CPython's words."""
    out = program("""
    def said(fn, *args, **kwargs):
        try: fn(*args, **kwargs)
        except Exception as e: print(type(e).__name__, e)
    said(lock.release)
    said(lock.acquire, False, 1)
    said(lock.acquire, True, -2)
    said(lock.acquire, wrong=1)
    said(rlock.release)
    said(simple.get, True, -1)
    said(simple.get, False)
    assert lock.acquire(timeout=0) and not lock.acquire(timeout=0.001)
    """)
    assert [line.partition(" ")[0] for line in out.splitlines()] == [
        "RuntimeError", "ValueError", "ValueError", "TypeError", "RuntimeError", "ValueError",
        "Empty",
    ]  # fmt: skip


def test_simple_queue_wakes_each_waiter() -> None:
    """As many getters as items are served, in whatever order."""
    program("""
    got = []
    for _ in range(100):
        wg.go(lambda: got.append(simple.get()))
    sleep(0)
    for i in range(50):
        simple.put(i)
        simple.put_nowait(50 + i)
    wg.wait()
    assert sorted(got) == list(range(100))
    """)


@pytest.mark.parametrize("name", ["lock", "rlock"])
def test_a_wake_up_is_passed_on(name: str) -> None:
    """Who is woken by a release and then cut short leaves the lock to the next waiter."""
    program(f"""
    from goroutines import context
    {name}.acquire()
    ctx = context.with_cancel(context.background())
    got = []
    def cut_short():
        with context.scope(ctx):
            try:
                {name}.acquire()
            except context.Canceled:
                got.append("canceled")
    def next_one():
        with {name}:
            got.append("has it")
    first = go(cut_short)
    while first.state != "waiting":
        gosched()
    wg.go(next_one)
    sleep(0.001)  # it waits behind the first
    {name}.release()
    ctx.cancel()
    wg.wait()
    first.join()
    assert "has it" in got and "canceled" in got, got
    """)


def test_a_real_thread_releases() -> None:
    """A thread from before patch() and goroutines share a lock."""
    done = run_program("""
    import threading
    lock, ready, end = threading.Lock(), threading.Event(), threading.Event()
    def hold():
        with lock:
            ready.set()
            end.wait()
    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait()
    from goroutines.patch import patch
    patch()
    from goroutines import go, sleep
    g = go(lock.acquire)
    sleep(0.01)
    assert not g.done
    end.set()
    g.join()
    thread.join()
    """)
    assert done.returncode == 0, done.stderr


def test_subinterpreters_keep_their_locks() -> None:
    """The method tables are theirs too; they have no goroutines."""
    done = run_program("""\
    try:
        import _interpreters as interpreters
    except ImportError:
        try:
            import _xxsubinterpreters as interpreters
        except ImportError:
            raise SystemExit
    from goroutines.patch import patch
    patch()
    sub = interpreters.create()
    run = getattr(interpreters, "exec", None) or interpreters.run_string
    failed = run(sub, '''if True:
        import threading, queue
        lock = threading.RLock()
        with lock, lock:
            q = queue.SimpleQueue()
            t = threading.Thread(target=q.put, args=(1,))
            try:
                t.start()
            except RuntimeError:  # 3.11: no threads in some
                q.put(1)
            assert q.get() == 1
    ''')
    assert failed is None, failed
    interpreters.destroy(sub)
    """)
    assert done.returncode == 0, done.stderr
