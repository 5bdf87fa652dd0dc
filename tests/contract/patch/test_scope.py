"""context.scope ends the waits of the patched standard library with ctx.err()."""

from __future__ import annotations

from .tools import only_patched, run_patched

pytestmark = only_patched

# Each: its name, a call that waits, and one that shows that giving it up broke nothing.
WAITS = """
import concurrent.futures, queue, select, selectors, ssl, subprocess
from goroutines.context import *

def waits():
    a, b = socket.socketpair()
    def fine():
        b.send(b"x")
        assert a.recv(1) == b"x"
    buffer = bytearray(1)
    yield "recv", lambda: a.recv(1), fine
    yield "recv_into", lambda: a.recv_into(buffer), fine
    yield "recvfrom", lambda: a.recvfrom(1), fine
    yield "recvmsg", lambda: a.recvmsg(1), fine
    yield "recvmsg_into", lambda: a.recvmsg_into([buffer]), fine
    yield "makefile", lambda: a.makefile("rb", buffering=0).read(1), fine
    a.settimeout(1000)
    yield "recv by time", lambda: a.recv(1), fine
    a.settimeout(None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        def accept():
            with socket.create_connection(server.getsockname()):
                server.accept()[0].close()
        yield "accept", server.accept, accept
    yield "sendall", lambda: b.sendall(bytes(5_000_000)), lambda: None
    a, b = socket.socketpair()
    b.setblocking(False)
    while not isinstance(outcome(b.send, bytes(100_000)), Exception):
        pass
    b.setblocking(True)
    yield "send", lambda: b.send(b"x"), lambda: None
    yield "sendmsg", lambda: b.sendmsg([b"x"]), lambda: None
    with temporary() as directory, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(directory + "/s")
        listener.listen(0)
        full = []
        while True:
            full.append(socket.socket(socket.AF_UNIX))
            full[-1].setblocking(False)
            if full[-1].connect_ex(directory + "/s"):
                break
        full[-1].setblocking(True)
        yield "connect", lambda: full[-1].connect(directory + "/s"), lambda: None
        for s in full:
            s.close()
    a, b = socket.socketpair()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(PEM)
    client_context = ssl.create_default_context(cafile=PEM)
    c, d = socket.socketpair()
    def shake():
        t = start(server_context.wrap_socket, b, server_side=True)
        client_context.wrap_socket(a, server_hostname="localhost").close()
        t.result().close()
    yield "handshake", lambda: server_context.wrap_socket(
        d, server_side=True), shake
    a, b = socket.socketpair()
    t = start(server_context.wrap_socket, b, server_side=True)
    a = client_context.wrap_socket(a, server_hostname="localhost")
    b = t.result()
    yield "SSLSocket.recv", lambda: a.recv(1), fine_tls(a, b)
    a.close(), b.close()

    a, b = socket.socketpair()
    def select_fine():
        b.send(b"x")
        assert select.select([a], [], []) == ([a], [], [])
        a.recv(1)
    yield "select", lambda: select.select([a], [], []), select_fine
    yield "select of nothing", lambda: select.select([], [], [], 1000), select_fine
    p = select.poll()
    p.register(a, select.POLLIN)
    yield "poll", p.poll, select_fine
    e = select.epoll()
    e.register(a, select.EPOLLIN)
    yield "epoll", e.poll, select_fine
    e.close()
    s = selectors.DefaultSelector()
    s.register(a, selectors.EVENT_READ)
    yield "selector", s.select, select_fine
    s.close()

    r, w = os.pipe()
    def pipe_fine():
        os.write(w, b"x")
        assert os.read(r, 1) == b"x"
    yield "read", lambda: os.read(r, 1), pipe_fine
    process = subprocess.Popen(["sleep", "1000"], stdout=subprocess.PIPE)
    yield "Popen.wait", process.wait, lambda: None
    yield "Popen.wait by time", lambda: process.wait(1000), lambda: None
    yield "communicate", process.communicate, lambda: None
    yield "stdout", process.stdout.read, lambda: None
    yield "waitpid", lambda: os.waitpid(process.pid, 0), lambda: None
    process.kill()
    assert process.wait() == -9

    for lock in (threading.Lock(), threading.RLock(), threading.Semaphore(0), BEFORE):
        held = start(lock.acquire) if not hasattr(lock, "_value") else None
        if held is not None:
            held.result()
        def lock_fine():
            if held is None:
                lock.release()
            elif not isinstance(lock, type(threading.RLock())):
                lock.release()
                assert lock.acquire(timeout=1000)
        yield str(lock), lock.acquire, lock_fine
        if held is not None:
            yield str(lock) + " by time", lambda: lock.acquire(timeout=1000), lambda: None
    event = threading.Event()
    yield "Event", event.wait, lambda: None
    yield "Event by time", lambda: event.wait(1000), lambda: (event.set(), event.wait())
    cond = threading.Condition()
    def wait():
        with cond:
            cond.wait()
    def cond_fine():
        task = parks(wait)
        with cond:
            cond.notify()
        task.result()
    yield "Condition", wait, cond_fine
    barrier = threading.Barrier(2)
    yield "Barrier", barrier.wait, lambda: None
    for kind in (queue.Queue, queue.LifoQueue, queue.PriorityQueue, queue.SimpleQueue):
        q = kind()
        def queue_fine():
            q.put(1)
            assert q.get(timeout=1000) == 1
        yield kind.__name__, q.get, queue_fine
        yield kind.__name__ + " by time", lambda: q.get(timeout=1000), queue_fine
    q = queue.Queue(1)
    q.put(1)
    yield "Queue.put", lambda: q.put(2), lambda: None
    yield "Queue.join", q.join, lambda: None
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait)
    thread.start()
    yield "Thread.join", thread.join, lambda: None
    yield "Thread.join by time", lambda: thread.join(1000), lambda: (leave.set(), thread.join())
    future = concurrent.futures.Future()
    yield "Future.result", future.result, lambda: None
    yield "futures.wait", lambda: concurrent.futures.wait([future]), lambda: None
    yield "as_completed", lambda: list(concurrent.futures.as_completed([future])), lambda: None
    yield "sleep", lambda: time.sleep(1000), lambda: None

def fine_tls(a, b):
    def fine():
        b.send(b"x")
        assert a.recv(1) == b"x"
    return fine
"""
BEFORE = "import threading\nBEFORE = threading.Lock()"


def test_cancel_ends_every_wait() -> None:
    """Canceled is raised at the wait, whatever it is, and nothing is left behind."""
    run_patched(
        WAITS
        + """
for name, wait, fine in waits():
    ctx = with_cancel(background())
    def body():
        with scope(ctx):
            wait()
    task = parks(body)
    ctx.cancel()
    error = task.error(BaseException)
    assert isinstance(error, Canceled), (name, error)
    fine()
""",
        before=BEFORE,
    )


def test_deadline_ends_every_wait() -> None:
    """DeadlineExceeded, a TimeoutError, is raised at the wait, also in main."""
    run_patched(
        WAITS
        + """
for name, wait, fine in waits():
    with with_timeout(background(), 0.005) as ctx, scope(ctx):
        error = outcome(wait)
    assert isinstance(error, DeadlineExceeded), (name, error)
    assert isinstance(error, TimeoutError)
    fine()
""",
        before=BEFORE,
    )


def test_libraries_see_a_timeout() -> None:
    """http.client and urllib inside a scope; the tightest of scope and timeout counts."""
    run_patched("""
        import http.client, urllib.request
        from goroutines.context import *
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            def get():
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1000)
                connection.request("GET", "/")
                return connection.getresponse()
            with with_timeout(background(), 0.02) as ctx, scope(ctx):
                assert isinstance(outcome(get), DeadlineExceeded)
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with with_timeout(background(), 0.02) as ctx, scope(ctx):
                error = outcome(opener.open, "http://127.0.0.1:%d/" % port)
                assert isinstance(error, TimeoutError), error
        a, b = socket.socketpair()
        a.settimeout(0.01)
        with with_timeout(background(), 1000) as ctx, scope(ctx):
            error = outcome(a.recv, 1)
            assert type(error) is TimeoutError, error
            with scope(without_cancel(ctx)):
                b.send(b"x")
                assert a.recv(1) == b"x"
        """)


def test_a_thread_does_not_inherit_the_scope() -> None:
    """A scope is its goroutine's: a thread started in it waits on."""
    run_patched("""
        from goroutines.context import *
        a, b = socket.socketpair()
        got = []
        with with_timeout(background(), 0.01) as ctx, scope(ctx):
            t = threading.Thread(target=lambda: got.append(outcome(a.recv, 1)))
            t.start()
            assert isinstance(outcome(time.sleep, 1000), DeadlineExceeded)
        b.send(b"x")
        t.join()
        assert got == [b"x"]
        """)


def test_look_ups_are_left_to_finish() -> None:
    """A blocking call, as looking up a name is, ends in its own time."""
    run_patched(
        """
        from goroutines.context import *
        ctx = with_cancel(background())
        def body():
            with scope(ctx):
                return outcome(socket.gethostbyname, "127.0.0.1")
        task = parks(body)
        ctx.cancel()
        os.write(gate, b"x")
        result = task.result()
        assert result == "127.0.0.1" or isinstance(result, Canceled), result
        """,
        before="""
import _socket, os
gate_r, gate = os.pipe()
block, real = os.read, _socket.gethostbyname
_socket.gethostbyname = lambda name: (block(gate_r, 1), real(name))[1]
""",
    )
