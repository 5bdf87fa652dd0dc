"""The patched standard library with goroutines on several threads."""

from __future__ import annotations

import contextvars
import logging
import queue
import random
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from goroutines import go, sleep
from goroutines.sync.atomic import Int64
from goroutines.testing import wait_all_blocked

from .tools import TIMEOUT, alone, scaled, spread, thread_id, within

WAYS = 8
ROUNDS = scaled(200)


def threads(count: int, fn) -> list[threading.Thread]:
    """Start patched threads, which are goroutines, on as many Ms as there are."""
    started = [threading.Thread(target=fn, args=(i,)) for i in range(count)]
    for t in started:
        t.start()
    return started


@alone(patched=True)
def test_threads_are_goroutines_on_all_threads() -> None:
    """threading.Thread objects run, are joined, and know themselves, wherever they are."""
    seen: set[int] = set()
    idents: list[int] = []

    def work(i: int) -> None:
        seen.add(thread_id())
        me, ident = threading.current_thread(), threading.get_ident()
        idents.append(ident)
        for _ in range(20):
            time.sleep(0.0001)
            assert threading.current_thread() is me
            assert threading.get_ident() == ident
        assert me in threading.enumerate()

    for t in threads(64, work):
        t.join()
        assert not t.is_alive()
    assert seen
    assert len(idents) == 64
    spread(WAYS, lambda i: [t.join() for t in threads(4, work)]).join()


@alone(patched=True)
def test_thread_locals() -> None:
    """threading.local belongs to the goroutine, even beside others on the same thread."""
    local = threading.local()

    def work(i: int) -> None:
        assert not hasattr(local, "value")
        for k in range(ROUNDS):
            local.value = (i, k)
            time.sleep(0) if k % 2 else sleep(0.00005)
            assert local.value == (i, k)

    for t in threads(32, work):
        t.join()
    assert not hasattr(local, "value")


@alone(patched=True)
def test_locks_exclude() -> None:
    """Lock, RLock, Condition, Semaphore guard what several threads change in two steps."""
    locks = [threading.Lock(), threading.RLock(), threading.Condition(), threading.Semaphore()]
    counts = [0] * len(locks)

    def work(i: int) -> None:
        for k in range(ROUNDS * 4):
            which = (i + k) % len(locks)
            with locks[which]:
                if which == 1:
                    locks[1].acquire()
                value = counts[which]
                if k % 32 == i:
                    time.sleep(0)
                counts[which] = value + 1
                if which == 1:
                    locks[1].release()

    spread(WAYS, work).join()
    assert sum(counts) == WAYS * ROUNDS * 4


@alone(patched=True)
def test_lock_timeouts_and_tries() -> None:
    """acquire with and without waiting: held by one at a time, released to the next."""
    lock, inside, entered = threading.Lock(), Int64(), Int64()

    def work(i: int) -> None:
        rng = random.Random(i)
        for _ in range(ROUNDS):
            how = rng.choice(({"blocking": False}, {"timeout": 0.0005}, {}))
            if lock.acquire(**how):
                assert inside.add(1) == 1
                entered.add(1)
                if rng.random() < 0.1:
                    time.sleep(0)
                inside.add(-1)
                lock.release()

    spread(WAYS, work).join()
    assert entered.load() > 0
    assert not lock.locked()


@alone(patched=True)
def test_rlocks_belong_to_a_goroutine() -> None:
    """Another goroutine, on the same thread or not, can neither enter nor release an RLock."""
    rlock = threading.RLock()

    def work(i: int) -> None:
        for _ in range(ROUNDS):
            with rlock, rlock:
                time.sleep(0)
            try:
                rlock.release()
            except RuntimeError:
                continue
            raise AssertionError("released what another one holds")

    spread(WAYS, work).join()


@alone(patched=True)
def test_events_barriers_conditions() -> None:
    """Events and barriers bring all threads together, again and again."""
    barrier = threading.Barrier(WAYS)
    events = [threading.Event() for _ in range(20)]
    at = [0] * WAYS

    def work(i: int) -> None:
        for k, event in enumerate(events):
            at[i] = k
            if barrier.wait() == 0:
                assert at == [k] * WAYS
                event.set()
            assert event.wait(30)
            barrier.wait()

    spread(WAYS, work).join()


@alone(patched=True)
def test_queues() -> None:
    """Every kind of queue between threads: each item once, and join ends."""
    for make in (queue.Queue, queue.LifoQueue, queue.PriorityQueue, queue.SimpleQueue):
        q = make() if make is queue.SimpleQueue else make(3)

        def work(i: int, q=q) -> list[int]:
            if i % 2:
                for k in range(ROUNDS):
                    q.put(i * ROUNDS + k)
                return []
            got = [q.get() for _ in range(ROUNDS)]
            if hasattr(q, "task_done"):
                for _ in got:
                    q.task_done()
            return got

        parts = spread(WAYS, work).join()
        got = sorted(k for part in parts for k in part)
        assert got == sorted(i * ROUNDS + k for i in range(1, WAYS, 2) for k in range(ROUNDS))
        assert q.empty()
        if hasattr(q, "join"):
            q.join()


@alone(patched=True)
def test_queue_timeouts() -> None:
    """get with time-outs that race with put lose nothing."""
    q: queue.SimpleQueue[int] = queue.SimpleQueue()
    left = Int64(WAYS // 2)

    def work(i: int) -> int:
        total = 0
        if i % 2:
            for k in range(ROUNDS):
                q.put(k)
                if k % 16 == 0:
                    time.sleep(0.0002)
            left.add(-1)
            return 0
        while True:
            ending = left.load() == 0
            try:
                total += q.get(timeout=0.0002)
            except queue.Empty:
                if ending:
                    return total

    assert sum(spread(WAYS, work).join()) == WAYS // 2 * sum(range(ROUNDS))


@alone(patched=True)
def test_executors() -> None:
    """ThreadPoolExecutor on patched threads, used from all of them."""
    with ThreadPoolExecutor(8) as pool:

        def work(i: int) -> int:
            return sum(pool.map(lambda k: time.sleep(0) or k, range(ROUNDS)))

        assert spread(4, work).join() == [sum(range(ROUNDS))] * 4


def pairs(count: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Connected stream sockets over the loopback."""
    with socket.create_server(("127.0.0.1", 0), backlog=count) as server:
        for _ in range(count):
            a = socket.create_connection(server.getsockname())
            b, _ = server.accept()
            yield a, b


@alone(2, 8, patched=True)
def test_one_socket_used_by_several_threads() -> None:
    """Who reads, writes, accepts and asks for its timeout never sees it without one."""
    a, b = socket.socketpair()
    a.settimeout(TIMEOUT)
    server = socket.create_server(("127.0.0.1", 0), backlog=ROUNDS)
    piece, count = b"x" * 1000, scaled(500)
    over = Int64()

    def write() -> None:
        for _ in range(count):
            a.sendmsg([piece[:500], piece[500:]])

    def read(sock: socket.socket) -> None:
        left = count * len(piece)
        while left:
            left -= len(sock.recv(10_000) if left % 2 else sock.recvmsg(10_000)[0])

    def answer() -> None:
        for _ in range(count):
            b.sendall(piece)

    def ask() -> None:
        while not over.load():
            assert a.gettimeout() == a.timeout == TIMEOUT
            assert a.getblocking()
            assert server.gettimeout() is None
            sleep(0)

    def accept() -> None:
        for _ in range(ROUNDS):
            server.accept()[0].close()

    def connect() -> None:
        for _ in range(2 * ROUNDS):
            socket.create_connection(server.getsockname()).close()

    work = [write, lambda: read(a), answer, lambda: read(b), accept, accept, connect, ask]
    done = Int64()

    def run(i: int) -> None:
        try:
            work[i]()
        finally:
            over.add(done.add(1) >= len(work) - 1 or work[i] is ask)

    spread(len(work), run).join()
    for sock in a, b, server:
        sock.close()


@alone(2, 8, patched=True)
def test_wait_all_blocked_with_data_for_other_threads() -> None:
    """Data that lies there for goroutines of other threads is read before it comes back."""
    pairs = [socket.socketpair() for _ in range(4)]
    read = Int64()

    def work(i: int) -> None:
        while pairs[i][1].recv(1):
            read.add(1)

    workers = spread(4, work)
    for k in range(1, scaled(300)):
        for sender, _ in pairs:
            sender.send(b"x")
        wait_all_blocked()
        assert read.load() == 4 * k
    for sender, _ in pairs:
        sender.close()
    workers.join()


@alone(patched=True)
def test_sockets_across_threads() -> None:
    """Each end of a connection on any thread: what is sent arrives, in order, all of it."""
    conns = list(pairs(WAYS))
    data = bytes(range(256)) * 256

    def work(i: int) -> None:
        a, b = conns[i // 2]
        if i % 2:
            for _ in range(10):
                a.sendall(data)
            a.shutdown(socket.SHUT_WR)
            assert a.recv(1) == b"."
        else:
            got = bytearray()
            while part := b.recv(50_000):
                got += part
            assert got == data * 10
            b.sendall(b".")

    spread(2 * WAYS, work).join()
    for a, b in conns:
        a.close()
        b.close()


@alone(patched=True)
def test_echo_servers_and_clients() -> None:
    """A server with a goroutine for each connection, and clients, all over the threads."""
    server = socket.create_server(("127.0.0.1", 0), backlog=128)

    def serve(conn: socket.socket) -> None:
        with conn:
            while data := conn.recv(4096):
                conn.sendall(data)

    def accept() -> None:
        for _ in range(64):
            go(serve, server.accept()[0])

    def client(i: int) -> None:
        for k in range(64 // WAYS):
            with socket.create_connection(server.getsockname()) as sock:
                for j in range(20):
                    message = b"%d %d %d." % (i, k, j)
                    sock.sendall(message)
                    got = b""
                    while len(got) < len(message):
                        got += sock.recv(100)
                    assert got == message

    acceptor = go(accept)
    spread(WAYS, client).join()
    acceptor.join()
    server.close()


@alone(patched=True)
def test_one_socket_read_and_written_on_two_threads() -> None:
    """A reader and a writer of the same socket on different threads do not disturb each other."""
    ((a, b),) = pairs(1)
    sizes = 300_000

    def work(i: int) -> None:
        sock = (a, b)[i // 2]
        if i % 2:
            sock.sendall(bytes(sizes))
        else:
            left = sizes
            while left:
                left -= len(sock.recv(left))

    spread(4, work).join()
    a.close()
    b.close()


@alone(patched=True)
def test_a_socket_closed_on_another_thread() -> None:
    """close() wakes who waits for it, on whichever thread, with an error; numbers are reused."""
    for _ in range(scaled(20)):
        conns = list(pairs(4))

        def work(i: int, conns=conns) -> str:
            a = conns[i % 4][0]
            if i >= 4:
                sleep(0.0005)
                a.close()
                return "closed"
            try:
                return "data" if a.recv(10) else "end"
            except OSError:
                return "error"

        found = spread(8, work).join()
        assert found[4:] == ["closed"] * 4
        assert set(found[:4]) == {"error"}
        for _, b in conns:
            b.close()


@alone(patched=True)
def test_select_and_poll() -> None:
    """select.select and poll on several threads, on their own and on common sockets."""
    ((a, b),) = pairs(1)
    own = list(pairs(WAYS))

    def work(i: int) -> None:
        mine, other = own[i]
        for _ in range(20):
            assert select.select([mine], [], [], 0.0001) == ([], [], [])
            go(other.send, b"x")
            if i % 2:
                poll = select.poll()
                poll.register(mine, select.POLLIN)
                assert poll.poll(30_000)
            else:
                assert select.select([mine], [], [], 30)[0] == [mine]
            assert mine.recv(1) == b"x"
        assert select.select([b], [], [], 30)[0] == [b]

    workers = spread(WAYS, work)
    sleep(0.002)
    a.send(b"!")
    workers.join()
    for pair in [(a, b), *own]:
        for sock in pair:
            sock.close()


@alone(patched=True)
def test_subprocesses_and_pipes() -> None:
    """subprocess with pipes from all threads; each waits for its own."""

    def work(i: int) -> None:
        for k in range(3):
            source = "import sys; sys.stdout.write(sys.stdin.read() * 2); sys.exit(3)"
            done = subprocess.run(
                [sys.executable, "-S", "-c", source],
                input=f"{i} {k};",
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.stdout == f"{i} {k};{i} {k};"
            assert done.returncode == 3

    spread(4, work).join()


@alone(patched=True)
def test_logging() -> None:
    """Records logged on all threads come out whole, each once."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            sleep(0)  # with the handler's lock held
            lines.append(text)

    logger = logging.getLogger("parallel")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(Keep())

    def work(i: int) -> None:
        for k in range(ROUNDS):
            logger.info("%d-%d", i, k)

    spread(WAYS, work).join()
    assert sorted(lines) == sorted(f"{i}-{k}" for i in range(WAYS) for k in range(ROUNDS))


@alone(patched=True)
def test_imports_on_all_threads() -> None:
    """Goroutines that import the same modules at once all get them whole."""
    names = ["colorsys", "fractions", "statistics", "wave", "plistlib", "zipapp", "sched", "cmd"]

    def work(i: int) -> int:
        import importlib

        found = 0
        for k in range(len(names)):
            module = importlib.import_module(names[(i + k) % len(names)])
            found += hasattr(module, "__all__") or len(vars(module)) > 8
        return found

    for name in names:
        sys.modules.pop(name, None)
    assert spread(WAYS, work).join() == [len(names)] * WAYS


@alone(patched=True)
def test_contexts_and_timers_of_threading() -> None:
    """threading.Timer and contextvars under patched threads."""
    level = contextvars.ContextVar("level", default=0)
    fired = Int64()

    def work(i: int) -> None:
        level.set(i)
        timers = [threading.Timer(0.0005 * k, fired.add, (1,)) for k in range(10)]
        for timer in timers:
            timer.start()
        timers[9].cancel()
        for timer in timers:
            timer.join()
        assert level.get() == i

    spread(WAYS, work).join()
    assert WAYS * 9 <= fired.load() <= WAYS * 10


@alone(patched=True)
def test_asyncio_loops_side_by_side() -> None:
    """An event loop in each of several threads, with streams between them."""
    import asyncio

    async def talk(i: int) -> int:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        total = 0
        for k in range(20):
            writer.write(b"%d\n" % k)
            total += int(await reader.readline())
            await asyncio.sleep(0)
        writer.close()
        server.close()
        return total + i

    assert spread(4, lambda i: asyncio.run(talk(i))).join() == [190 + i for i in range(4)]


@alone(patched=True)
def test_plain_and_patched_waiters_of_one_lock() -> None:
    """Goroutines of all threads and real threads want one patched lock."""
    from goroutines.patch import original

    start = original("_thread", "start_new_thread")
    lock, count, ended = threading.Lock(), [0], Int64()

    def work(i: int) -> None:
        for _ in range(ROUNDS):
            with lock:
                value = count[0]
                count[0] = value + 1

    def plain() -> None:
        work(0)
        ended.add(1)

    workers = spread(WAYS, work)
    for _ in range(3):
        start(plain, ())
    workers.join()
    within(lambda: ended.load() == 3, "that the threads have ended")
    assert count[0] == (WAYS + 3) * ROUNDS
