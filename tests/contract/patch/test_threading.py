"""patch(): threading.Thread is a goroutine, and otherwise what it was."""

from __future__ import annotations

import pytest

from .tools import only_patched, run_patched

# --- threads ----------------------------------------------------------------------------------


@only_patched
def test_a_thread_is_a_goroutine() -> None:
    """Threads are counted among the goroutines, park as they do and use their things."""
    run_patched("""
        from goroutines import Chan, current, num_goroutine
        ch, seen = Chan(), []
        before = num_goroutine()
        threads = []
        for i in range(200):
            t = threading.Thread(target=lambda: (seen.append(current().id), ch.recv_ok()))
            t.start()
            threads.append(t)
        until(lambda: len(seen) == 200)
        assert num_goroutine() >= before + 200
        assert len(set(seen)) == 200
        assert threading.active_count() == 201
        with open("/proc/self/status") as file:
            count = [int(line.split()[1]) for line in file if line.startswith("Threads")][0]
        assert count < 50, count
        ch.close()
        for t in threads:
            t.join()
        assert threading.active_count() == 1
        """)


def test_life_of_a_thread() -> None:
    """start, is_alive, join with and without a time, enumerate; and their errors."""
    run_patched("""
        gate = threading.Event()
        t = threading.Thread(target=gate.wait, name="mine")
        assert not t.is_alive() and t.ident is None and t.name == "mine" and not t.daemon
        assert "initial" in repr(t)
        for wrong in (t.join,):
            assert isinstance(outcome(wrong), RuntimeError)
        t.start()
        assert isinstance(outcome(t.start), RuntimeError)
        assert t.is_alive() and "started" in repr(t)
        assert t in threading.enumerate() and threading.active_count() == 2
        assert t.join(0) is None and t.join(0.01) is None and t.join(-1) is None
        assert t.is_alive()
        joiners = [parks(t.join), parks(t.join, 1000)]
        gate.set()
        for joiner in joiners:
            joiner.result()
        t.join(), t.join(0)
        assert not t.is_alive() and "stopped" in repr(t)
        assert t not in threading.enumerate()
        assert isinstance(outcome(t.start), RuntimeError)
        assert isinstance(outcome(threading.current_thread().join), RuntimeError)
        errors = []
        def join_myself():
            errors.append(outcome(threading.current_thread().join))
        t = threading.Thread(target=join_myself)
        t.start()
        t.join()
        assert isinstance(errors[0], RuntimeError), errors
        """)


def test_identity() -> None:
    """ident, native_id, names, current_thread and get_ident inside and outside."""
    run_patched("""
        main = threading.main_thread()
        assert threading.current_thread() is main and main.name == "MainThread"
        assert main.ident == threading.get_ident() and main.is_alive() and not main.daemon
        assert main.native_id == threading.get_native_id() == os.getpid()
        gate, seen = threading.Event(), {}
        def body():
            me = threading.current_thread()
            seen[me] = (me.ident, threading.get_ident(), me.native_id)
            gate.wait()
        threads = [threading.Thread(target=body) for _ in range(20)]
        for t in threads:
            t.start()
        until(lambda: len(seen) == 20)
        assert set(seen) == set(threads)
        for t, (ident, got, native) in seen.items():
            assert t.ident == ident == got
            assert t.native_id == native and isinstance(native, int)
            assert threading._active[ident] is t if hasattr(threading, "_active") else True
        idents = {t.ident for t in threads} | {main.ident}
        assert len(idents) == 21
        assert 0 not in idents
        assert len({t.name for t in threads}) == 20
        assert all("body" in t.name for t in threads)  # Thread-7 (body)
        gate.set()
        for t in threads:
            t.join()
            assert t.ident in idents
        t = threading.Thread(target=lambda: None, name="first")
        t.name = "second"
        assert t.name == "second"
        """)


@only_patched
def test_goroutines_as_seen_by_threading() -> None:
    """A plain goroutine has an ident and a current_thread of its own, forgotten after it."""
    run_patched("""
        import gc
        from goroutines import go
        def body():
            me = threading.current_thread()
            assert me is threading.current_thread()
            assert me is not threading.main_thread() and me.is_alive()
            settle()
            assert me is threading.current_thread()
            return threading.get_ident(), me.ident, me.name
        tasks = [start(body) for _ in range(10)]
        results = [task.result() for task in tasks]
        assert all(a == b for a, b, _ in results)
        gate = threading.Event()
        idents = []
        tasks = [
            start(lambda: (idents.append(threading.get_ident()), gate.wait()))
            for _ in range(10)
        ]
        until(lambda: len(idents) == 10)
        assert len({*idents, threading.get_ident()}) == 11
        gate.set()
        for task in tasks:
            task.result()
        del tasks, task
        gc.collect()
        until(lambda: len(threading.enumerate()) == 1)
        """)


def test_subclasses() -> None:
    """A subclass's run(), and its own attributes and methods."""
    run_patched("""
        class Mine(threading.Thread):
            def __init__(self, n):
                super().__init__(daemon=True)
                self.n = n
            def run(self):
                self.who = threading.current_thread()
                self.result = self.n * 2
        threads = [Mine(i) for i in range(5)]
        for t in threads:
            assert t.daemon
            t.start()
        for t in threads:
            t.join()
        assert [t.result for t in threads] == [0, 2, 4, 6, 8]
        assert all(t.who is t for t in threads)
        got = []
        t = threading.Thread(None, lambda *a, **k: got.append((a, k)), "x", (1, 2), {"y": 3})
        t.start(), t.join()
        assert got == [((1, 2), {"y": 3})]
        t = threading.Thread()
        t.start(), t.join()
        assert isinstance(outcome(threading.Thread, 1), (AssertionError, TypeError))
        """)


def test_daemon() -> None:
    """daemon is inherited, can be changed before the start only."""
    run_patched("""
        gate = threading.Event()
        seen = []
        def body():
            seen.append(threading.current_thread().daemon)
            seen.append(threading.Thread().daemon)
            gate.wait()
        for daemon in (True, False):
            t = threading.Thread(target=body, daemon=daemon)
            t.start()
            until(lambda: len(seen) == 2)
            assert seen == [daemon, daemon]
            assert isinstance(outcome(setattr, t, "daemon", True), RuntimeError)
            seen.clear()
            gate.set()
            t.join()
            gate.clear()
        """)


def test_non_daemon_threads_are_joined_at_exit() -> None:
    """The program ends after its threads, before atexit, and without its daemons."""
    done = run_patched("""
        import atexit
        atexit.register(print, "atexit")
        def body():
            t = threading.Thread(target=lambda: (time.sleep(0.1), print("its child")))
            t.start()
            time.sleep(0.03)
            print("slept")
        def endless():
            try:
                time.sleep(1000)
            finally:
                print("never")
        threading.Thread(target=endless, daemon=True).start()
        threading.Thread(target=body).start()
        print("main ends")
        """)
    assert done.stdout.split("\n") == ["main ends", "slept", "its child", "atexit", ""]


@pytest.mark.parametrize(
    ("end", "status"), [("raise SystemExit(3)", 3), ("raise ValueError", 1), ("os._exit(4)", 4)]
)
def test_exit_status_with_threads(end: str, status: int) -> None:
    """The status is main's, however long the threads take."""
    done = run_patched(
        f"""
        threading.Thread(target=lambda: (time.sleep(0.02), print("slept", flush=True))).start()
        {end}
        """,
        returncode=status,
    )
    assert done.stdout == ("" if "_exit" in end else "slept\n")


def test_deadlocked_thread_at_exit_is_interrupted() -> None:
    """SIGINT while the end waits for a thread ends the program."""
    run_patched(
        """
        def interrupt():
            settle()
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=lambda: (interrupt(), time.sleep(0.01))).start()
        """,
        # The exception is printed and ignored by the interpreter.
        returncode=0,
    )


def test_excepthook() -> None:
    """An exception goes to threading.excepthook; nothing panics, the others go on."""
    done = run_patched("""
        t = threading.Thread(target=lambda: 1 / 0, name="broken")
        t.start()
        t.join()
        assert not t.is_alive()
        seen = []
        threading.excepthook = lambda args: seen.append(args)
        t = threading.Thread(target=lambda: int("x"))
        t.start()
        t.join()
        args, = seen
        assert args.exc_type is ValueError and isinstance(args.exc_value, ValueError)
        assert args.thread is t and args.exc_traceback is not None
        threading.excepthook = threading.__excepthook__
        t = threading.Thread(target=sys.exit, args=("quietly",))
        t.start()
        t.join()
        print("goes on")
        """)
    assert done.stdout == "goes on\n"
    assert "Exception in thread broken:" in done.stderr
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "panic" not in done.stderr
    assert "ValueError" not in done.stderr
    assert "quietly" not in done.stderr


def test_trace_and_profile() -> None:
    """threading.settrace and setprofile go for threads that start afterwards."""
    run_patched("""
        def traced():
            return 1
        for name in ("settrace", "setprofile"):
            calls = []
            def hook(frame, event, arg):
                if event == "call" and frame.f_code is traced.__code__:
                    calls.append(threading.current_thread())
            getattr(threading, name)(hook)
            assert getattr(threading, name.replace("set", "get"))() is hook
            threads = [threading.Thread(target=traced) for _ in range(3)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            getattr(threading, name)(None)
            traced()
            assert len(calls) == 3 and set(calls) == set(threads), (name, calls)
            t = threading.Thread(target=traced)
            t.start(), t.join()
            assert len(calls) == 3
        """)


def test_low_level_threads() -> None:
    """_thread.start_new_thread and its locks."""
    run_patched("""
        import _thread
        done = _thread.allocate_lock()
        done.acquire()
        seen = []
        def body(*args, **kwargs):
            seen.append((args, kwargs, _thread.get_ident()))
            done.release()
        ident = _thread.start_new_thread(body, (1,), {"x": 2})
        done.acquire()
        assert seen == [((1,), {"x": 2}, ident)]
        assert isinstance(outcome(_thread.start_new_thread, 3, ()), TypeError)
        _thread.start_new_thread(_thread.exit, ())
        assert _thread._count() >= 0
        """)


def test_stack_size() -> None:
    """stack_size() can be asked and set."""
    run_patched("""
        assert isinstance(threading.stack_size(), int)
        old = threading.stack_size(1 << 20)
        t = threading.Thread(target=lambda: None)
        t.start(), t.join()
        threading.stack_size(old)
        assert isinstance(outcome(threading.stack_size, 1), ValueError)
        """)


def test_timer() -> None:
    """A Timer runs its function later, unless it is cancelled."""
    run_patched("""
        got = []
        t = threading.Timer(0.01, lambda *a, **k: got.append((a, k)), [1], {"x": 2})
        t.start()
        t.join()
        assert got == [((1,), {"x": 2})]
        t = threading.Timer(1000, got.append, [3])
        t.start()
        task = parks(t.join)
        t.cancel()
        task.result()
        assert len(got) == 1 and not t.is_alive()
        """)


def test_many_threads() -> None:
    """Threads that start threads, a thousand in all."""
    run_patched("""
        lock, count = threading.Lock(), 0
        def body(depth):
            global count
            with lock:
                count += 1
            if depth:
                children = [threading.Thread(target=body, args=(depth - 1,)) for _ in range(9)]
                for t in children:
                    t.start()
                for t in children:
                    t.join()
        body(3)
        assert count == 1 + 9 + 81 + 729
        """)


# --- local ------------------------------------------------------------------------------------


def test_local() -> None:
    """Each goroutine has its own attributes, made by __init__, gone with it."""
    run_patched("""
        import gc, weakref
        local = threading.local()
        local.x = "main"
        def body(i):
            assert not hasattr(local, "x")
            local.x = i
            settle()
            assert local.x == i and local.__dict__ == {"x": i}
            del local.x
            assert isinstance(outcome(lambda: local.x), AttributeError)
        tasks = [start(body, i) for i in range(10)]
        for task in tasks:
            task.result()
        threads = [threading.Thread(target=body, args=(i,)) for i in range(10)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert local.x == "main"

        class Mine(threading.local):
            shared = []
            __slots__ = ("slot",)
            def __init__(self, value):
                self.value = [value]
                self.shared.append(1)
            def get(self):
                return self.value
        mine = Mine("given")
        assert mine.get() == ["given"]
        tasks = [start(mine.get) for _ in range(5)]
        values = [task.result() for task in tasks]
        assert values == [["given"]] * 5 and len({id(v) for v in values}) == 5
        assert len(Mine.shared) == 6
        mine.slot = 1
        assert start(lambda: mine.slot).result() == 1  # slots are everybody's
        assert isinstance(outcome(threading.local, 1), TypeError)

        class Thing:
            pass
        def leave():
            local.thing = Thing()
            return weakref.ref(local.thing)
        task = start(leave)
        ref = task.result()
        del task
        until(lambda: (gc.collect(), ref() is None)[1])
        def outlive():
            mine = threading.local()
            mine.thing = Thing()
            ref = weakref.ref(mine.thing)
            del mine
            gc.collect()
            return ref()
        assert start(outlive).result() is None
        """)


# --- locks ------------------------------------------------------------------------------------


def test_lock() -> None:
    """A Lock parks, gives up in time, is anybody's to release."""
    run_patched("""
        lock = threading.Lock()
        assert lock.acquire() is True and lock.locked()
        assert lock.acquire(False) is False and lock.acquire(blocking=False) is False
        assert lock.acquire(timeout=0.01) is False and lock.acquire(timeout=0) is False
        assert isinstance(outcome(lock.acquire, False, 1), ValueError)
        assert isinstance(outcome(lock.acquire, True, -2), ValueError)
        assert isinstance(outcome(lock.acquire, timeout=1e20), OverflowError)
        waiters = [
            parks(lock.acquire), parks(lock.acquire, timeout=1000), parks(lock.acquire, True, -1)
        ]
        for _ in range(3):
            lock.release()
            until(lambda: sum(task.done for task in waiters) > 0)
            done = [task for task in waiters if task.done]
            assert len(done) == 1 and done[0].result() is True
            waiters.remove(done[0])
            assert lock.locked()
        start(lock.release).result()
        assert not lock.locked()
        assert isinstance(outcome(lock.release), RuntimeError)
        with lock:
            assert lock.locked()
        def use():
            with lock:
                1 / 0
        assert isinstance(outcome(use), ZeroDivisionError) and not lock.locked()
        assert "unlocked" in repr(lock)
        import weakref
        assert weakref.ref(lock)() is lock
        assert isinstance(lock, type(threading.Lock()))
        if isinstance(threading.Lock, type):
            assert isinstance(lock, threading.Lock)
        """)


def test_rlock() -> None:
    """An RLock belongs to the goroutine that took it."""
    run_patched("""
        for kind in (threading.RLock, threading._PyRLock):
            lock = kind()
            assert lock.acquire() and lock.acquire(False) and lock.acquire(timeout=1)
            assert start(lock.acquire, False).result() is False
            assert start(lock.acquire, timeout=0.01).result() is False
            def use():
                with lock, lock:
                    return threading.get_ident()
            task = parks(use)
            start(lock.release).error(RuntimeError)  # it is not his
            lock.release(), lock.release()
            settle()
            assert not task.done
            lock.release()
            task.result()
            assert isinstance(outcome(lock.release), RuntimeError)
            with lock:
                assert lock._is_owned()
                assert start(lock._is_owned).result() is False
            if hasattr(lock, "locked"):
                assert not lock.locked()
            assert "count=0" in repr(lock)
        """)


def test_exclusion() -> None:
    """Only one is in a lock at a time, however it is switched."""
    run_patched("""
        inside = 0
        for lock in (threading.Lock(), threading.RLock(), threading.Condition(),
                     threading.Semaphore(1), threading.BoundedSemaphore(1)):
            def body(i):
                global inside
                for j in range(20):
                    with lock:
                        inside += 1
                        assert inside == 1
                        if j % 5 == i % 5:
                            time.sleep(0)
                        assert inside == 1
                        inside -= 1
            tasks = [start(body, i) for i in range(20)]
            for task in tasks:
                task.result()
        """)


def test_condition() -> None:
    """wait, wait_for, notify, notify_all, with either lock and by time."""
    run_patched("""
        for lock in (None, threading.Lock(), threading.RLock()):
            cond = threading.Condition(lock)
            for call in (cond.wait, cond.notify, cond.notify_all):
                assert isinstance(outcome(call), RuntimeError)  # it is not locked
            ready = []
            def wait(timeout=None):
                with cond:
                    result = cond.wait(timeout)
                    assert cond._is_owned()
                    return result
            tasks = [parks(wait), parks(wait, 1000), parks(wait)]
            with cond:
                assert cond.wait(0.01) is False and cond.wait(0) is False
            with cond:
                cond.notify()
            until(lambda: sum(task.done for task in tasks) == 1)
            settle()
            assert sum(task.done for task in tasks) == 1
            with cond:
                cond.notify(5)
            assert [task.result() for task in tasks] == [True] * 3
            with cond:
                cond.notify_all()  # nobody there
            def wait_for(timeout=None):
                with cond:
                    return cond.wait_for(lambda: list(ready), timeout)
            tasks = [parks(wait_for), parks(wait_for, 1000)]
            assert wait_for(0.01) == []
            with cond:
                cond.notify_all()
            settle()
            assert not any(task.done for task in tasks)
            with cond:
                ready.append(1)
                cond.notify_all()
            assert [task.result() for task in tasks] == [[1]] * 2
        cond = threading.Condition(threading.RLock())
        def nested():
            with cond, cond:
                return cond.wait()
        task = parks(nested)
        with cond:
            cond.notify()
        assert task.result()
        """)


def test_event() -> None:
    """wait parks until set; many, by time, and again after clear."""
    run_patched("""
        event = threading.Event()
        assert event.wait(0) is False and event.wait(0.01) is False and not event.is_set()
        for _ in range(3):
            tasks = [parks(event.wait), parks(event.wait, 1000), parks(event.wait, timeout=1e6)]
            assert event.wait(timeout=0.01) is False
            event.set()
            assert [task.result() for task in tasks] == [True] * 3
            assert event.wait() and event.is_set()
            event.clear()
        """)


def test_semaphores() -> None:
    """Semaphore and BoundedSemaphore."""
    run_patched("""
        for kind in (threading.Semaphore, threading.BoundedSemaphore):
            sem = kind(2)
            assert sem.acquire() and sem.acquire(timeout=1)
            assert sem.acquire(False) is False and sem.acquire(timeout=0.01) is False
            assert isinstance(outcome(sem.acquire, False, 1), ValueError)
            tasks = [parks(sem.acquire) for _ in range(3)]
            sem.release()
            until(lambda: sum(task.done for task in tasks) == 1)
            sem.release(2)
            assert [task.result() for task in tasks] == [True] * 3
            sem.release(2)
            with sem, sem:
                assert not sem.acquire(blocking=False)
            assert isinstance(outcome(kind, -1), ValueError)
            assert isinstance(outcome(sem.release, 0), ValueError)
        assert isinstance(outcome(sem.release), ValueError)  # above its bound
        """)


def test_barrier() -> None:
    """All pass together; a timeout, abort and reset break it."""
    run_patched("""
        actions = []
        barrier = threading.Barrier(3, action=lambda: actions.append(1))
        for _ in range(3):
            tasks = [parks(barrier.wait), parks(barrier.wait, 1000)]
            assert barrier.n_waiting == 2
            numbers = [barrier.wait(), *(task.result() for task in tasks)]
            assert sorted(numbers) == [0, 1, 2]
        assert len(actions) == 3
        for end in (barrier.reset, barrier.abort):
            tasks = [parks(barrier.wait) for _ in range(2)]
            end()
            for task in tasks:
                task.error(threading.BrokenBarrierError)
        assert barrier.broken
        barrier.reset()
        assert not barrier.broken
        task = parks(barrier.wait)
        assert isinstance(outcome(barrier.wait, 0.01), threading.BrokenBarrierError)
        task.error(threading.BrokenBarrierError)
        assert barrier.broken
        """)


def test_producer_and_consumer_with_one_condition() -> None:
    """A bounded buffer, by hand."""
    run_patched("""
        cond, buffer, got = threading.Condition(), [], []
        def produce():
            for i in range(200):
                with cond:
                    cond.wait_for(lambda: len(buffer) < 3)
                    buffer.append(i)
                    cond.notify_all()
        def consume():
            for _ in range(200):
                with cond:
                    while not buffer:
                        cond.wait()
                    got.append(buffer.pop(0))
                    cond.notify_all()
        threads = [threading.Thread(target=f) for f in (produce, consume) * 3]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert sorted(got) == sorted([*range(200)] * 3)
        """)
