"""Deadlocks are found under patch(), and nothing that could still go on is taken for one."""

from __future__ import annotations

import pytest

from .tools import only_patched, run_patched

pytestmark = only_patched

# A handler could wake what waits, so that which shows where a program hangs is removed.


def test_every_wait_without_a_waker() -> None:
    """main in a lock, queue, event, join, future ... that nobody can end: Deadlock."""
    run_patched("""
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        import concurrent.futures, queue
        from goroutines import Deadlock
        lock, rlock = threading.Lock(), threading.RLock()
        lock.acquire()
        start(rlock.acquire).result()
        cond = threading.Condition()
        def wait():
            with cond:
                cond.wait()
        full = queue.Queue(1)
        full.put(1)
        daemon = threading.Thread(target=lock.acquire, daemon=True)
        daemon.start()
        for name, call in {
            "Lock": lock.acquire, "RLock": rlock.acquire, "Condition": wait,
            "Event": threading.Event().wait, "Semaphore": threading.Semaphore(0).acquire,
            "Barrier": threading.Barrier(2).wait, "Queue.get": queue.Queue().get,
            "LifoQueue.get": queue.LifoQueue().get, "SimpleQueue.get": queue.SimpleQueue().get,
            "Queue.put": lambda: full.put(2), "Queue.join": full.join, "join": daemon.join,
            "Future": concurrent.futures.Future().result,
        }.items():
            error = outcome(call)
            assert isinstance(error, Deadlock), (name, error)
            assert "all goroutines are asleep" in str(error)
        """)


@pytest.mark.parametrize(
    "wait",
    ["threading.Event().wait()", "lock.acquire()", "queue.Queue().get()",
     "queue.SimpleQueue().get()", "thread.join()"],
)  # fmt: skip
def test_exit_status(wait: str) -> None:
    """A deadlock that nobody catches ends the program with 2 and shows who waits."""
    done = run_patched(
        f"""
        import queue
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        lock = threading.Lock()
        lock.acquire()
        thread = threading.Thread(target=lock.acquire, name="stuck")
        thread.start()
        {wait}
        """,
        returncode=2,
    )
    assert "all goroutines are asleep - deadlock!" in done.stderr
    assert "goroutine 1 [" in done.stderr
    assert "prog.py" in done.stderr


def test_not_while_something_could_come() -> None:
    """I/O, a child process, a timer, a timeout, a plain thread: main waits on."""
    run_patched("""
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        import concurrent.futures, queue, subprocess, _thread
        from goroutines import blocking
        from goroutines.patch import original

        def wakes(start_waker):
            event = threading.Event()
            keep = start_waker(event)
            event.wait()
            return keep

        a, b = socket.socketpair()
        def reader(event):
            start(lambda: (a.recv(1), event.set()))
            return subprocess.Popen(["sh", "-c", "sleep 0.05; printf x"], stdout=b)
        wakes(reader)
        def selecting(event):
            import select
            start(lambda: (select.select([a], [], []), event.set()))
            return subprocess.Popen(["sh", "-c", "sleep 0.05; printf x"], stdout=b)
        wakes(selecting)
        def piped(event):
            p = subprocess.Popen(["sh", "-c", "sleep 0.05; printf x"], stdout=subprocess.PIPE)
            start(lambda: (p.stdout.read(), event.set()))
            return p
        wakes(piped)
        def child(event):
            p = subprocess.Popen(["sleep", "0.05"])
            start(lambda: (p.wait(), event.set()))
            return p
        wakes(child)
        def any_child(event):
            subprocess.Popen(["sleep", "0.05"])
            start(lambda: (os.wait(), event.set()))
        wakes(any_child)
        wakes(lambda event: threading.Timer(0.05, event.set).start())
        wakes(lambda event: start(lambda: (time.sleep(0.05), event.set())))
        wakes(lambda event: start(lambda: (blocking(original("time", "sleep"), 0.05),
                                           event.set())))
        def plain(event):
            nap = original("time", "sleep")
            original("_thread", "start_new_thread")(lambda: (nap(0.05), event.set()), ())
        wakes(plain)
        wakes(lambda event: threading.Thread(
            target=lambda: (threading.Event().wait(0.05), event.set())).start())
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            wakes(lambda event: pool.submit(lambda: (time.sleep(0.05), event.set())))
        assert threading.Event().wait(0.05) is False
        assert isinstance(outcome(queue.Queue().get, timeout=0.05), queue.Empty)
        subprocess.run(["sleep", "0.05"])
        """)


def test_a_program_that_waits_for_a_signal() -> None:
    """main waits for an event that only a signal's handler sets, as servers do."""
    run_patched("""
        import subprocess
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
        subprocess.Popen(["sh", "-c", "sleep 0.1; kill -TERM %d" % os.getpid()])
        stop.wait()
        """)


def test_dump_names_what_is_waited_for() -> None:
    """runtime.stack(all=True) shows every wait's reason and place."""
    run_patched("""
        import queue, select, subprocess
        from goroutines.runtime import stack
        a, b = socket.socketpair()
        lock = threading.Lock()
        lock.acquire()
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        def in_recv(): return a.recv(1)
        def in_select(): return select.select([a], [], [])
        def in_sleep(): return time.sleep(1000)
        def in_lock(): return lock.acquire()
        def in_get(): return queue.Queue().get()
        def in_simple_get(): return queue.SimpleQueue().get()
        def in_wait(): return process.wait()
        expected = {
            in_recv: "IO wait", in_select: "IO wait", in_sleep: "sleep", in_lock: "Lock",
            in_get: "", in_simple_get: "SimpleQueue", in_wait: "",
        }
        tasks = {fn: parks(fn) for fn in expected}
        dump = stack(all=True)
        for fn, reason in expected.items():
            task = tasks[fn]
            assert reason in task.reason, (fn, task.reason)
            block, = [part for part in dump.split("\\n\\n")
                      if part.startswith("goroutine %d [" % task.g.id)]
            assert block.startswith("goroutine %d [%s" % (task.g.id, task.reason)), block
            assert fn.__name__ + "(" in block and "prog.py" in block, block
        os._exit(0)
        """)


def test_wait_all_blocked_with_io_that_has_come() -> None:
    """testing.wait_all_blocked lets those run first whose data is there already."""
    run_patched("""
        from goroutines.testing import wait_all_blocked
        for a, b in stream_pairs():
            got = []
            def echo():
                while data := a.recv(10):
                    got.append(data)
                    a.send(data)
            task = parks(echo)
            for i in range(3):
                b.send(b"x")
                if a.family == socket.AF_UNIX:
                    wait_all_blocked()
                    assert len(got) == i + 1
                assert b.recv(10) == b"x"
            b.close()
            task.result()
        """)
