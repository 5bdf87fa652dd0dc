"""patch(): multiprocessing; a child starts with a runtime of its own, with nothing in it."""

from __future__ import annotations

import pytest

from .tools import only_patched, run_patched

QUIET = "import warnings; warnings.simplefilter('ignore')"


def run_with(method: str, source: str, **kwargs: str) -> None:
    """Run a program whose METHOD is a start method; its `main` only in the parent."""
    program = source + '\nif __name__ == "__main__":\n    main()\n'
    run_patched(
        f"import multiprocessing as mp\nMETHOD = {method!r}\nctx = mp.get_context(METHOD)\n"
        + program,
        before=QUIET,
        **kwargs,  # type: ignore[arg-type]
    )


METHODS = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])


@METHODS
def test_process(method: str) -> None:
    """start, join with and without a time, exit codes, terminate; waiting parks."""
    run_with(
        method,
        """
def child(connection, status):
    try:
        connection.recv()
    except EOFError:
        pass
    os._exit(status) if METHOD == "fork" and status == 9 else sys.exit(status)

def start_child(status):
    mine, theirs = ctx.Pipe()
    process = ctx.Process(target=child, args=(theirs, status), name="mine")
    process.start()
    theirs.close()
    return process, mine

def main():
    process, mine = start_child(3)
    assert process.is_alive() and process.exitcode is None and process.name == "mine"
    process.join(0.01), process.join(0)
    assert process.is_alive()
    assert mp.active_children() == [process]
    task = parks(process.join)
    mine.send("go")
    task.result()
    assert process.exitcode == 3 and not process.is_alive()
    process.close()
    process, mine = start_child(0)
    task = parks(process.join)
    process.terminate()
    task.result()
    assert process.exitcode == -signal.SIGTERM
    process, mine = start_child(0)
    import multiprocessing.connection as connection
    task = parks(connection.wait, [process.sentinel])
    process.kill()
    assert task.result() == [process.sentinel]
    process.join()
    assert process.exitcode == -signal.SIGKILL
""",
    )


@METHODS
def test_clean_runtime(method: str) -> None:
    """A child has none of the parent's goroutines, and everything works in it."""
    run_with(
        method,
        """
import queue

def child(out):
    try:
        assert threading.current_thread() is threading.main_thread()
        assert threading.active_count() <= 2, threading.enumerate()  # a queue has a feeder
        if PATCHED:
            assert goroutines.num_goroutine() == 1, goroutines.runtime.goroutines()
            g = goroutines.go(lambda: None)
            g.join()
        a, b = socket.socketpair()
        task = parks(a.recv, 10)
        b.send(b"x")
        assert task.result() == b"x"
        q = queue.Queue()
        t = threading.Thread(target=lambda: (time.sleep(0.001), q.put(1)))
        t.start()
        assert q.get() == 1
        t.join()
        out.send("fine")
    except BaseException as error:
        out.send(repr(error))

def main():
    a, b = socket.socketpair()
    busy = True
    def work():
        while busy:
            time.sleep(0)
    tasks = [start(a.recv, 1), start(work), start(time.sleep, 0.01)]
    thread = threading.Thread(target=work)
    thread.start()
    children = []
    for _ in range(2):
        mine, theirs = ctx.Pipe(False)
        p = ctx.Process(target=child, args=(theirs,))
        p.start()
        children.append((p, mine, theirs))
    for p, mine, theirs in children:
        assert (got := mine.recv()) == "fine", got
        p.join()
        assert p.exitcode == 0
    busy = False
    b.send(b"x")
    for task in tasks:
        task.result()
    thread.join()
""",
    )


def test_start_in_goroutines() -> None:
    """Processes may be started by goroutines and threads."""
    run_with(
        "fork",
        """
def child(n, out):
    out.send((n * 2, threading.current_thread() is threading.main_thread()))

def run(n):
    mine, theirs = ctx.Pipe(False)
    p = ctx.Process(target=child, args=(n, theirs))
    p.start()
    result = mine.recv()
    p.join()
    assert p.exitcode == 0
    return result

def main():
    tasks = [start(run, i) for i in range(6)]
    assert [task.result() for task in tasks] == [(i * 2, True) for i in range(6)]
    got = []
    threads = [threading.Thread(target=lambda i=i: got.append(run(i)[0])) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(got) == [0, 2, 4, 6]
""",
    )


@METHODS
def test_pipe_and_queue(method: str) -> None:
    """recv and poll of a Pipe, get and put of the Queues park."""
    run_with(
        method,
        """
import queue

def echo(connection, inbox, outbox):
    while (item := connection.recv()) is not None:
        connection.send(item)
    while (item := inbox.get()) is not None:
        outbox.put(item)

def main():
    mine, theirs = ctx.Pipe()
    inbox, outbox = ctx.Queue(), ctx.SimpleQueue()
    process = ctx.Process(target=echo, args=(theirs, inbox, outbox))
    process.start()
    task = parks(mine.recv)
    mine.send({"big": "x" * 1_000_000})
    assert len(task.result()["big"]) == 1_000_000
    assert not mine.poll() and not mine.poll(0.01)
    task = parks(mine.poll, None)
    mine.send(1)
    assert task.result() is True and mine.recv() == 1
    task = parks(mine.poll, 1000)
    mine.send_bytes(b"\\x80\\x04K\\x05.")
    assert task.result() is True and mine.recv() == 5
    mine.send(None)

    task = parks(outbox.get)
    inbox.put("x")
    assert task.result() == "x"
    for i in range(100):
        inbox.put(i)
    assert [outbox.get() for _ in range(100)] == list(range(100))
    inbox.put(None)
    process.join()
    assert process.exitcode == 0

    q = ctx.Queue(1)
    assert isinstance(outcome(q.get, timeout=0.01), queue.Empty)
    assert isinstance(outcome(q.get, False), queue.Empty)
    task = parks(q.get)
    q.put(1)
    assert task.result() == 1
    q.put(2)
    assert isinstance(outcome(q.put, 3, timeout=0.01), queue.Full)
    task = parks(q.put, 3)
    assert q.get() == 2
    task.result()
    assert q.get() == 3
    j = ctx.JoinableQueue()
    j.put(1)
    task = parks(j.join)
    j.get()
    j.task_done()
    task.result()
    for x in (q, j, inbox):
        x.close()
        x.join_thread()
""",
    )


@METHODS
def test_locks(method: str) -> None:
    """Locks between processes: waiting for one parks, in this process and across."""
    run_with(
        method,
        """
def child(lock, sem, event, cond, barrier, value):
    with lock:
        sem.release()
        event.wait()
    with cond:
        cond.notify_all()
    barrier.wait()
    for _ in range(100):
        with value.get_lock():
            value.value += 1

def main():
    lock, sem, event = ctx.Lock(), ctx.Semaphore(0), ctx.Event()
    cond, barrier, value = ctx.Condition(), ctx.Barrier(2), ctx.Value("i", 0)
    process = ctx.Process(target=child, args=(lock, sem, event, cond, barrier, value))
    waiting = parks(sem.acquire)
    process.start()
    waiting.result()
    assert lock.acquire(timeout=0.01) is False and lock.acquire(False) is False
    task = parks(lock.acquire)
    other = parks(lock.acquire, timeout=1000)
    assert event.wait(0.01) is False
    with cond:
        event.set()
        assert cond.wait(1000)
    until(lambda: task.done or other.done)
    lock.release()
    assert task.result() is True and other.result() is True
    lock.release()
    barrier.wait()
    for _ in range(100):
        with value.get_lock():
            value.value += 1
    process.join()
    assert process.exitcode == 0 and value.value == 200

    # Among the goroutines of one process.
    rlock = ctx.RLock()
    with rlock, rlock:
        task = parks(lambda: rlock.acquire() and rlock.release())
        assert start(rlock.acquire, False).result() is False
    task.result()
    inside = 0
    def work():
        nonlocal inside
        for _ in range(20):
            with lock:
                inside += 1
                assert inside == 1
                time.sleep(0)
                inside -= 1
    tasks = [start(work) for _ in range(10)]
    for task in tasks:
        task.result()
    event.clear()
    tasks = [parks(event.wait) for _ in range(3)]
    event.set()
    assert [task.result() for task in tasks] == [True] * 3
    def wait():
        with cond:
            return cond.wait()
    tasks = [parks(wait) for _ in range(3)]
    with cond:
        cond.notify(3)
    assert [task.result() for task in tasks] == [True] * 3
    bounded = ctx.BoundedSemaphore(1)
    with bounded:
        task = parks(bounded.acquire)
    assert task.result()
    bounded.release()
    assert isinstance(outcome(bounded.release), ValueError)
""",
    )


@METHODS
def test_pool(method: str) -> None:
    """A pool's calls from several goroutines at once."""
    run_with(
        method,
        """
def square(x):
    return x * x

def fail(x):
    raise ValueError(x)

def gated(path):
    while not os.path.exists(path):
        time.sleep(0.005)
    return "gone"

def main():
    with temporary() as directory, ctx.Pool(2) as pool:
        task = parks(pool.apply, gated, (directory + "/go",))
        result = pool.apply_async(gated, (directory + "/go",))
        waiter = parks(result.get)
        assert isinstance(outcome(result.get, 0.01), mp.TimeoutError)
        open(directory + "/go", "w").close()
        assert task.result() == waiter.result() == "gone"
        tasks = [start(pool.map, square, range(i)) for i in range(5)]
        assert [t.result() for t in tasks] == [[x * x for x in range(i)] for i in range(5)]
        assert list(pool.imap(square, range(10))) == [x * x for x in range(10)]
        assert sorted(pool.imap_unordered(square, range(4))) == [0, 1, 4, 9]
        assert isinstance(outcome(pool.apply, fail, (1,)), ValueError)
        pool.close()
        pool.join()
    with mp.pool.ThreadPool(3) as pool:
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
""",
    )


def test_connections_and_managers() -> None:
    """Listener and Client, a manager's objects."""
    run_with(
        "fork",
        """
import multiprocessing.connection as connection

def main():
    for family in ("AF_INET", "AF_UNIX"):
        with connection.Listener(family=family, authkey=b"key") as listener:
            task = parks(listener.accept)
            with connection.Client(listener.address, authkey=b"key") as client:
                with task.result() as served:
                    task = parks(served.recv)
                    client.send([1])
                    assert task.result() == [1]
                    ready = parks(connection.wait, [client, served])
                    served.send(2)
                    assert ready.result() == [client] and client.recv() == 2
                    assert connection.wait([client], 0.01) == []
                    task = parks(served.recv)
                    client.close()
                    task.error(EOFError)
    with ctx.Manager() as manager:
        d, q = manager.dict(), manager.Queue()
        task = parks(q.get)
        d["x"] = 1
        q.put(dict(d))
        assert task.result() == {"x": 1}
""",
    )


@only_patched
def test_shared_lock_of_a_child_that_waits() -> None:
    """A child's goroutine that holds a shared lock gives it up to another process' one."""
    run_with(
        "fork",
        """
def child(lock, ready):
    held = start(lambda: (lock.acquire(), ready.set(), time.sleep(0.02), lock.release()))
    waiting = start(lambda: (ready.wait(), lock.acquire(), lock.release()))
    held.result()
    waiting.result()

def main():
    lock, ready = ctx.Lock(), ctx.Event()
    processes = [ctx.Process(target=child, args=(lock, ready)) for _ in range(2)]
    for p in processes:
        p.start()
    ready.wait()
    tasks = [start(lambda: lock.acquire() and lock.release()) for _ in range(3)]
    for task in tasks:
        task.result()
    for p in processes:
        p.join()
        assert p.exitcode == 0
""",
    )
