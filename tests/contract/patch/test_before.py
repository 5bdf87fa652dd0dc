"""patch() after everything was imported and in use: what exists already works afterwards."""

from __future__ import annotations

import pytest

from .tools import only_patched, run_patched

IMPORTS = "import ssl, logging, concurrent.futures, http.client, urllib.request, queue, threading"


def test_after_imports() -> None:
    """Names bound by `from ... import` before patch() park as the modules' own do."""
    run_patched(
        """
        a, b = socketpair()
        task = parks(a.recv, 1)
        b.send(b"x")
        task.result()
        with create_server(("127.0.0.1", 0)) as server:
            task = parks(server.accept)
            create_connection(server.getsockname()).close()
            task.result()[0].close()
        task = parks(sleep, 0.1)
        task.result()
        task = parks(nap, 0.1)
        task.result()
        for kind in (Lock, RLock, Semaphore, Condition):
            lock = kind()
            lock.acquire()
            task = parks(lock.acquire)
            if kind is not RLock and kind is not Condition:
                lock.release()
            else:
                lock.release()
            task.result()
        event = Event()
        task = parks(event.wait)
        event.set()
        task.result()
        t = Thread(target=lambda: sleep(0.1))
        t.start()
        task = parks(t.join)
        task.result()
        for kind in (Queue, LifoQueue, PriorityQueue, SimpleQueue):
            q = kind()
            task = parks(q.get)
            q.put(1)
            task.result()
        r, w = pipe()
        task = parks(read, r, 1)
        write(w, b"x")
        task.result()
        task = parks(select, [r], [], [])
        write(w, b"x")
        assert task.result() == ([r], [], [])
        p = poll()
        p.register(r, 1)
        assert p.poll() == [(r, 1)]
        os.read(r, 1)
        task = parks(p.poll)
        write(w, b"x")
        task.result()
        task = parks(run, ["sleep", "0.1"])
        assert task.result().returncode == 0
        process = Popen(["sleep", "0.1"])
        task = parks(process.wait)
        assert task.result() == 0
        process = Popen(["sleep", "0.1"])
        task = parks(waitpid, process.pid, 0)
        assert task.result()[1] == 0
        process.returncode = 0
        with DefaultSelector() as selector:
            selector.register(r, 1)
            os.read(r, 1)
            task = parks(selector.select)
            write(w, b"x")
            assert task.result()
        local_ = local()
        local_.x = 1
        assert start(hasattr, local_, "x").result() is False
        assert start(get_ident).result() != get_ident()
        assert start(current_thread).result() is not current_thread()
        with ThreadPoolExecutor(1) as pool:
            event = Event()
            task = parks(pool.submit(event.wait).result)
            event.set()
            task.result()
        """,
        before=IMPORTS
        + """
from concurrent.futures import ThreadPoolExecutor
from os import pipe, read, waitpid, write
from queue import LifoQueue, PriorityQueue, Queue, SimpleQueue
from select import poll, select
from selectors import DefaultSelector
from socket import create_connection, create_server, socketpair
from subprocess import Popen, run
from threading import (
    Condition, Event, Lock, RLock, Semaphore, Thread, current_thread, get_ident, local)
from time import sleep
from time import sleep as nap
""",
    )


def test_locks_made_before() -> None:
    """Locks of every kind, in every place, held or not, park goroutines from now on."""
    run_patched(
        """
        def exclusive(acquire, release):
            assert acquire()
            task = parks(acquire)
            release()
            assert task.result() is True
            release()

        for lock in (
            plain, low, listed[0], keyed["x"], (lambda: closure())(), Holder.shared,
            Holder().own, Slots().slot, default(), in_tuple[0], partial.args[0],
        ):
            exclusive(lock.acquire, lock.release)
            with lock:
                assert not lock.acquire(False)
                task = parks(lock.acquire, timeout=1000)
            assert task.result()
            lock.release()
        exclusive(bound_acquire, bound_release)
        exclusive(bound_enter, lambda: bound_exit(None, None, None))
        with rlock, rlock:
            assert start(rlock.acquire, False).result() is False
            task = parks(lambda: rlock.acquire() and rlock.release() is None)
        assert task.result()

        # Held while patch() ran, by main.
        for held_lock in (held, held_r):
            task = parks(lambda: held_lock.acquire() and held_lock.release() is None)
            held_lock.release()
            assert task.result()
            assert held_lock.acquire(False)
            held_lock.release()
        assert not held.locked()
        task = parks(sem.acquire)
        sem.release()
        assert task.result()
        task = parks(event.wait)
        event.set()
        assert task.result()
        def wait():
            with cond:
                return cond.wait(), "notified"
        tasks = [parks(wait), parks(wait)]
        with cond:
            cond.notify_all()
        assert [task.result() for task in tasks] == [(True, "notified")] * 2
        tasks = [parks(barrier.wait)]
        barrier.wait()
        tasks[0].result()
        """,
        before="""
import _thread, functools, threading

plain, low = threading.Lock(), _thread.allocate_lock()
listed, keyed, in_tuple = [threading.Lock()], {"x": threading.Lock()}, (threading.Lock(),)
partial = functools.partial(print, threading.Lock())
def make():
    lock = threading.Lock()
    return lambda: lock
closure = make()
def default(lock=threading.Lock()):
    return lock
class Holder:
    shared = threading.Lock()
    instances = []
    def __init__(self):
        self.own = keep
class Slots:
    __slots__ = ("slot",)
    def __init__(self):
        self.slot = keep
keep = threading.Lock()
other = threading.Lock()
bound_acquire, bound_release = other.acquire, other.release
bound_enter, bound_exit = other.__enter__, other.__exit__
rlock = threading.RLock()
held, held_r = threading.Lock(), threading.RLock()
held.acquire(), held_r.acquire()
sem, event, cond = threading.Semaphore(0), threading.Event(), threading.Condition()
barrier = threading.Barrier(2)
""",
    )


def test_queues_and_executors_made_before() -> None:
    """Queues, futures and executors, some with threads at work already, serve goroutines."""
    run_patched(
        """
        for q in queues:
            task = parks(q.get)
            q.put(1)
            assert task.result() == 1
            task = parks(q.get, timeout=1000)
            q.put(2)
            assert task.result() == 2
            assert isinstance(outcome(q.get, timeout=0.01), queue.Empty)
        assert small.full()
        task = parks(small.put, 2)
        assert small.get() == 1
        task.result()
        task = parks(get)
        put("bound")
        assert task.result() == "bound"

        gate = threading.Event()
        futures_ = [used.submit(gate.wait) for _ in range(2)]
        task = parks(futures_[1].result)
        gate.set()
        assert task.result() is True
        gate.clear()
        f = fresh.submit(gate.wait)
        task = parks(f.result)
        gate.set()
        assert task.result() is True
        assert list(used.map(abs, range(-5, 0))) == [5, 4, 3, 2, 1]
        task = parks(future.result)
        future.set_result(5)
        assert task.result() == 5
        used.shutdown()
        fresh.shutdown()
        """,
        before="""
import concurrent.futures, queue
queues = [queue.Queue(), queue.LifoQueue(), queue.PriorityQueue(), queue.SimpleQueue()]
small = queue.Queue(1)
small.put(1)
simple = queue.SimpleQueue()
get, put = simple.get, simple.put
used = concurrent.futures.ThreadPoolExecutor(2)
used.submit(abs, 1).result()
fresh = concurrent.futures.ThreadPoolExecutor(2)
future = concurrent.futures.Future()
""",
    )


def test_threads_that_run_already() -> None:
    """A thread started before stays one; locks, events and queues join it to goroutines."""
    run_patched(
        """
        assert worker.is_alive() and worker in threading.enumerate()
        def ask(i):
            reply = queue.SimpleQueue()
            requests.put((i, reply))
            return reply.get()
        tasks = [start(ask, i) for i in range(20)]
        assert [task.result() for task in tasks] == [i * 2 for i in range(20)]
        assert ask(21) == 42
        lock.acquire()
        task = parks(lambda: lock.acquire() and lock.release())
        lock.release()
        task.result()
        with cond:
            state.append("main")
            cond.notify_all()
            assert cond.wait_for(lambda: "thread" in state, 1000)
        assert outcomes == []
        requests.put(None)
        task = start(worker.join)
        task.result()
        assert not worker.is_alive()
        assert outcomes == [(True, worker.ident)], outcomes
        """,
        before="""
import queue, threading
requests, lock, cond, state = queue.Queue(), threading.Lock(), threading.Condition(), []
outcomes = []
def work():
    me = threading.current_thread(), threading.get_ident()
    with cond:
        cond.wait_for(lambda: False, 0.01)
    while (item := requests.get()) is not None:
        i, reply = item
        with lock:
            reply.put(i * 2)
        if i == 21:
            with cond:
                cond.wait_for(lambda: "main" in state)
                state.append("thread")
                cond.notify_all()
    outcomes.append(((threading.current_thread(), threading.get_ident()) == me, me[1]))
worker = threading.Thread(target=work)
worker.start()
""",
    )


def test_locals_made_before() -> None:
    """threading.local objects from before keep main's values and are each goroutine's own."""
    run_patched(
        """
        assert local.x == "main" and mine.value == 0 and mine.y == 1
        def body(i):
            assert not hasattr(local, "x") and mine.value == 0 and not hasattr(mine, "y")
            local.x = mine.value = i
            settle()
            return local.x, mine.value
        tasks = [start(body, i) for i in range(5)]
        assert [task.result() for task in tasks] == [(i, i) for i in range(5)]
        assert local.x == "main" and mine.value == 0
        assert set_x() == "main"
        """,
        before="""
import threading
local = threading.local()
local.x = "main"
class Mine(threading.local):
    value = None
    def __init__(self, value):
        self.value = value
mine = Mine(0)
mine.y = 1
set_x = lambda: local.x
""",
    )


def test_sockets_made_before() -> None:
    """Sockets, pipes and programs opened before park (methods bound before do not)."""
    run_patched(
        """
        task = parks(server.accept)
        client = socket.create_connection(server.getsockname())
        served, _ = task.result()
        task = parks(client.recv, 10)
        served.send(b"x")
        assert task.result() == b"x"
        for way in (a.recv, raw_recv):
            task = parks(way, 10)
            b.send(b"y")
            assert task.result() == b"y"
        task = parks(file.readline)
        b.send(b"line\\n")
        assert task.result() == b"line\\n"
        assert isinstance(outcome(timed.recv, 1), TimeoutError)
        assert isinstance(outcome(nonblocking.recv, 1), BlockingIOError)
        task = parks(process.wait)
        process.stdin.close()
        assert task.result() == 0
        task = parks(selector.select)
        b.send(b"z")
        assert len(task.result()) == 1
        """,
        before="""
import select, selectors, socket, subprocess
server = socket.create_server(("127.0.0.1", 0))
a, b = socket.socketpair()
raw_recv = lambda n: socket.socket.recv(a, n)
file = a.makefile("rb", buffering=0)
timed, _t = socket.socketpair()
timed.settimeout(0.01)
nonblocking, _n = socket.socketpair()
nonblocking.setblocking(False)
process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
selector = selectors.DefaultSelector()
selector.register(a, selectors.EVENT_READ)
""",
    )


@only_patched
def test_methods_of_sockets_taken_before() -> None:
    """A socket's bound method that was stored before patch() parks, or is reported."""
    run_patched(
        """
        from goroutines.patch import report
        if "recv" not in str(report()):
            task = parks(recv, 10)
            b.send(b"y")
            assert task.result() == b"y"
        """,
        before="""
import socket
a, b = socket.socketpair()
recv = a.recv
""",
    )


@only_patched
@pytest.mark.parametrize("kind", ["poll", "epoll"])
def test_pollers_made_before(kind: str) -> None:
    """A poll or epoll object made before patch() parks, or report() tells of it."""
    run_patched(
        """
        from goroutines.patch import report
        a, b = socket.socketpair()
        poller.register(a, 1)
        if kind not in str(report()):
            task = parks(poller.poll)
            b.send(b"z")
            assert task.result() == [(a.fileno(), 1)]
        """,
        before=f"import select\nkind = {kind!r}\npoller = select.{kind}()",
    )


@only_patched
@pytest.mark.parametrize(
    "place",
    [
        "holder = time.sleep",
        "class C: nap = staticmethod(time.sleep)\nholder = C.nap",
        "class C: nap = time.sleep\nholder = C.nap",
        "def f(t, nap=time.sleep): nap(t)\nholder = f",
        "def f(t, *, nap=time.sleep): nap(t)\nholder = f",
        "def make():\n    nap = time.sleep\n    return lambda t: nap(t)\nholder = make()",
        "things = [time.sleep]\nholder = lambda t: things[0](t)",
        "things = {'nap': time.sleep}\nholder = lambda t: things['nap'](t)",
        "class C: pass\nc = C()\nc.nap = time.sleep\nholder = lambda t: c.nap(t)",
        "things = (time.sleep,)\nholder = lambda t: things[0](t)",
        "import functools\nholder = functools.partial(time.sleep)",
    ],
)
def test_works_or_is_reported(place: str) -> None:
    """Whatever held a function before patch() has the new one, or report() tells of it."""
    done = run_patched(
        """
        from goroutines.patch import report
        if "time.sleep" in str(report()):
            print("reported")
        else:
            task = parks(holder, 0.02)
            task.result()
            print("parks")
        """,
        before="import time, warnings\nwarnings.simplefilter('ignore')\n" + place,
    )
    if "partial" not in place and "(time.sleep,)" not in place:
        assert done.stdout in ("parks\n", "reported\n")


@only_patched
def test_requests_and_the_like() -> None:
    """Third-party libraries that are there are none the worse for being imported first."""
    run_patched(
        """
        import http.server
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                gate.wait()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"body")
            def log_message(self, *args):
                pass
        gate = threading.Event()
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            runner = start(server.serve_forever, 0.01)
            url = "http://127.0.0.1:%d/" % server.server_port
            tasks = [parks(get, url) for get in getters]
            gate.set()
            assert [task.result() for task in tasks] == [b"body"] * len(getters)
            server.shutdown()
            runner.result()
        """,
        before="""
import os, urllib.request
for name in list(os.environ):
    if name.lower().endswith("_proxy"):
        del os.environ[name]
getters = [lambda url: urllib.request.urlopen(url).read()]
try:
    import requests
    getters.append(lambda url: requests.get(url).content)
except ImportError:
    pass
try:
    import urllib3
    pool = urllib3.PoolManager()
    getters.append(lambda url: pool.request("GET", url).data)
except ImportError:
    pass
""",
    )
