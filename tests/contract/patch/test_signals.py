"""patch(): Python's signal handlers run while the main goroutine waits, for whatever."""

from __future__ import annotations

import pytest

from .tools import only_patched, run_patched

# Each: its name, what main calls, what ends it.
WAITS = """
import concurrent.futures, queue, select, selectors, subprocess

def waits():
    a, b = socket.socketpair()
    yield "recv", lambda: a.recv(1), lambda: b.send(b"x")
    yield "recv_into", lambda: a.recv_into(bytearray(1)), lambda: b.send(b"x")
    yield "recvmsg", lambda: a.recvmsg(1), lambda: b.send(b"x")
    yield "makefile", lambda: a.makefile("rb").readline(), lambda: b.send(b"x\\n")
    def drain(size):
        while size:
            size -= len(b.recv(1 << 20))
    yield "sendall", lambda: a.sendall(bytes(3_000_000)), lambda: drain(3_000_000)
    server = socket.create_server(("127.0.0.1", 0))
    yield "accept", lambda: server.accept(), lambda: socket.create_connection(
        server.getsockname())
    yield "select", lambda: select.select([a], [], []), lambda: b.send(b"x")
    a.recv(1)
    p = select.poll()
    p.register(a, select.POLLIN)
    yield "poll", p.poll, lambda: b.send(b"x")
    a.recv(1)
    if hasattr(select, "epoll"):
        e = select.epoll()
        e.register(a, select.EPOLLIN)
        yield "epoll", e.poll, lambda: b.send(b"x")
        a.recv(1)
    s = selectors.DefaultSelector()
    s.register(a, selectors.EVENT_READ)
    def selected():  # which may come back with nothing at a signal
        while not s.select():
            pass
    yield "selector", selected, lambda: b.send(b"x")
    a.recv(1)
    r, w = os.pipe()
    yield "read", lambda: os.read(r, 1), lambda: os.write(w, b"x")
    yield "write", lambda: os.write(w, bytes(66_000)), lambda: os.read(r, 66_000)
    gate_r, gate = os.pipe()
    def process():
        return subprocess.Popen(["sh", "-c", "read x; exit 0"], stdin=gate_r,
                                stdout=subprocess.PIPE)
    p1 = process()
    yield "Popen.wait", p1.wait, lambda: os.write(gate, b"x\\n")
    p2 = process()
    yield "waitpid", lambda: os.waitpid(p2.pid, 0), lambda: os.write(gate, b"x\\n")
    p2.returncode = 0
    p3 = process()
    yield "Popen.communicate", p3.communicate, lambda: os.write(gate, b"x\\n")
    p4 = process()
    yield "Popen.stdout", p4.stdout.read, lambda: os.write(gate, b"x\\n")
    p4.wait()

    lock = threading.Lock()
    lock.acquire()
    yield "Lock", lock.acquire, lock.release
    yield "Lock by time", lambda: lock.acquire(timeout=1000), lock.release
    rlock, leave = threading.RLock(), threading.Event()
    def hold():
        with rlock:
            leave.wait()
    start(hold)
    until(lambda: not rlock.acquire(False) or rlock.release())
    yield "RLock", rlock.acquire, leave.set
    event = threading.Event()
    yield "Event", event.wait, event.set
    event2 = threading.Event()
    yield "Event by time", lambda: event2.wait(1000), event2.set
    cond = threading.Condition()
    def notify():
        with cond:
            cond.notify()
    def wait():
        with cond:
            assert cond.wait()
    yield "Condition", wait, notify
    sem = threading.Semaphore(0)
    yield "Semaphore", sem.acquire, sem.release
    barrier = threading.Barrier(2)
    yield "Barrier", barrier.wait, barrier.wait
    for kind in (queue.Queue, queue.PriorityQueue, queue.SimpleQueue):
        q = kind()
        yield kind.__name__, q.get, lambda: q.put(1)
        yield kind.__name__ + " by time", lambda: q.get(timeout=1000), lambda: q.put(1)
    q = queue.Queue(1)
    q.put(1)
    yield "Queue.put", lambda: q.put(2), q.get
    gone = threading.Event()
    thread = threading.Thread(target=gone.wait)
    thread.start()
    yield "Thread.join", thread.join, gone.set
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        event3 = threading.Event()
        future = executor.submit(event3.wait)
        yield "Future", future.result, event3.set
        event4 = threading.Event()
        future = executor.submit(event4.wait)
        yield "futures.wait", lambda: concurrent.futures.wait([future]), event4.set
    yield "time.sleep", lambda: time.sleep(0.3), lambda: None
"""


# Who sends the signal: a goroutine that runs, or another process while nothing runs.
SENDERS = {
    "goroutine": """
def send_signal(number):
    os.kill(os.getpid(), number)
""",
    "process": """
def send_signal(number):
    command = ["kill", "-%d" % number, str(os.getpid())]
    pid = os.posix_spawnp(command[0], command, os.environ)
    os.waitpid(pid, 0)
""",
}
# CPython's main thread may not notice what the kernel gives to another one.
SENT_BY = pytest.mark.parametrize(
    "sender", ["goroutine", pytest.param("process", marks=only_patched)]
)


@SENT_BY
def test_handlers_run_while_main_waits(sender: str) -> None:
    """In each kind of wait the handler runs, in the main thread, and the wait goes on."""
    run_patched(
        WAITS
        + SENDERS[sender]
        + """
handled = []
def handler(number, frame):
    handled.append((number, threading.current_thread(), threading.get_ident()))
signal.signal(signal.SIGUSR1, handler)

def disturb(end):
    for _ in range(2):
        settle()
        count = len(handled)
        send_signal(signal.SIGUSR1)
        until(lambda: len(handled) > count, "that the handler has run")
    settle()
    end()

for name, wait, end in waits():
    handled.clear()
    task = start(disturb, end)
    wait()
    task.result()
    main = threading.main_thread()
    assert handled == [(signal.SIGUSR1, main, main.ident)] * 2, (name, handled)
"""
    )


@SENT_BY
def test_exceptions_of_handlers_end_the_wait(sender: str) -> None:
    """A handler's exception is raised where main waits, which is as if it had not waited."""
    run_patched(
        WAITS
        + SENDERS[sender]
        + """
class Stop(Exception):
    pass
def handler(number, frame):
    raise Stop
signal.signal(signal.SIGUSR1, handler)

def disturb():
    settle()
    send_signal(signal.SIGUSR1)

for name, wait, end in waits():
    if name in ("sendall", "write", "Barrier"):  # when interrupted they are half done
        task = start(end) if name != "Barrier" else start(lambda: None)
        if name != "Barrier":
            wait()
        task.result()
        continue
    task = start(disturb)
    error = outcome(wait)
    assert type(error) is Stop, (name, error)
    task.result()
    task = start(lambda: (settle(), end()))
    wait()
    task.result()
"""
    )


@SENT_BY
@pytest.mark.parametrize("busy", [False, True])
def test_keyboard_interrupt(sender: str, busy: bool) -> None:
    """Ctrl-C ends main's wait with KeyboardInterrupt, not what threads are doing meanwhile."""
    run_patched(
        SENDERS[sender]
        + f"""
busy = {busy}"""
        + """
import queue
a, b = socket.socketpair()
def work():
    while busy:
        sum(range(1000))
        time.sleep(0)
worker = threading.Thread(target=work)
worker.start()
for wait in (
    lambda: a.recv(1), threading.Event().wait, queue.Queue().get, lambda: time.sleep(1000),
    lambda: threading.Event().wait(1000),
):
    sender = start(lambda: (time.sleep(0.01), send_signal(signal.SIGINT)))
    assert type(outcome(wait)) is KeyboardInterrupt
    assert not busy or worker.is_alive()
    sender.result()
busy = False
worker.join()
"""
    )


@SENT_BY
def test_uncaught_keyboard_interrupt(sender: str) -> None:
    """Ctrl-C that nobody catches ends the program by the signal, with a traceback."""
    done = run_patched(
        SENDERS[sender]
        + """
threading.Thread(
    target=lambda: (settle(), send_signal(signal.SIGINT), time.sleep(1000)), daemon=True
).start()
threading.Event().wait()
""",
        returncode=-2,
    )
    assert "KeyboardInterrupt" in done.stderr
    assert "panic" not in done.stderr


def test_timers_and_alarms() -> None:
    """alarm and setitimer reach main in a wait, and setting the wake-up descriptor works."""
    run_patched("""
        import queue
        q = queue.SimpleQueue()
        signal.signal(signal.SIGALRM, lambda number, frame: q.put(number))
        start(time.sleep, 1000) if not PATCHED else None
        keep = socket.socketpair()  # I/O could come
        task = start(keep[0].recv, 1)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        assert q.get() == signal.SIGALRM
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        assert [q.get() for _ in range(3)] == [signal.SIGALRM] * 3
        signal.setitimer(signal.ITIMER_REAL, 0)
        a, b = socket.socketpair()
        b.setblocking(False)
        assert signal.set_wakeup_fd(b.fileno()) == -1
        os.kill(os.getpid(), signal.SIGALRM)
        assert a.recv(1) == bytes([signal.SIGALRM])
        signal.set_wakeup_fd(-1)
        keep[1].send(b"x")
        task.result()
        """)


def test_handler_that_waits() -> None:
    """A handler may use what waits: it holds up main, nobody else."""
    run_patched("""
        a, b = socket.socketpair()
        c, d = socket.socketpair()
        got = []
        def handler(number, frame):
            got.append(c.recv(10))
        signal.signal(signal.SIGUSR1, handler)
        def disturb():
            settle()
            os.kill(os.getpid(), signal.SIGUSR1)
            settle()
            assert not got
            d.send(b"for the handler")
            until(lambda: got)
            b.send(b"for main")
        task = start(disturb)
        assert a.recv(10) == b"for main"
        task.result()
        assert got == [b"for the ha"]
        """)


def test_waiting_for_signals() -> None:
    """signal.pause, sigwait, sigwaitinfo and sigtimedwait let others run."""
    run_patched("""
        got = []
        signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
        task = start(lambda: (settle(), os.kill(os.getpid(), signal.SIGUSR1)))
        signal.pause()
        task.result()
        assert got == [signal.SIGUSR1]
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        for wait in (
            lambda: signal.sigwait([signal.SIGUSR2]),
            lambda: signal.sigwaitinfo([signal.SIGUSR2]).si_signo,
            lambda: signal.sigtimedwait([signal.SIGUSR2], 1000).si_signo,
        ):
            task = start(lambda: (settle(), os.kill(os.getpid(), signal.SIGUSR2)))
            assert wait() == signal.SIGUSR2
            task.result()
        assert signal.sigtimedwait([signal.SIGUSR2], 0) is None
        assert signal.sigtimedwait([signal.SIGUSR2], 0.01) is None
        """)


def test_signals_from_children() -> None:
    """SIGCHLD's handler may reap while goroutines wait for other things."""
    run_patched("""
        import subprocess
        reaped = []
        def handler(number, frame):
            while True:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    return
                if pid == 0:
                    return
                reaped.append(pid)
        signal.signal(signal.SIGCHLD, handler)
        a, b = socket.socketpair()
        task = start(lambda: (until(lambda: len(reaped) == 3), b.send(b"x")))
        children = [subprocess.Popen(["true"]) for _ in range(3)]
        assert a.recv(1) == b"x"
        task.result()
        assert {p.pid for p in children} == set(reaped)
        """)


@only_patched
def test_signals_and_goroutines_of_their_own() -> None:
    """goroutines.signal works beside Python's handlers."""
    run_patched("""
        import goroutines.signal
        seen = []
        signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
        ch = goroutines.signal.notify(signal.SIGUSR2)
        task = parks(ch.recv)
        os.kill(os.getpid(), signal.SIGUSR1)
        until(lambda: seen)
        os.kill(os.getpid(), signal.SIGUSR2)
        assert task.result() == signal.SIGUSR2
        """)
