"""A soak test: a patched server and many clients, random faults, every byte accounted for.

    python soak.py [--seconds 60] [--clients 100] [--connections 10000] [--seed N]

All of it runs in one process, on loopback. Clients exchange random amounts of data with a
server, in both directions at once, over TCP, TLS, Unix socket pairs and pipes. Meanwhile
connections are reset, shut down and closed in the middle, sockets are closed under a
goroutine that waits for them and their numbers used again at once, waits time out, signals
arrive, the collector runs, and descriptors run out.

The bytes of a stream are a function of its key and the offset, so whatever arrives is
verified where it arrives. A stream that no fault was meant for must be received as it was
sent, to the last byte; a fault may only cost what is in the buffers of the two sockets.

The load is run twice, each time with many connections dropped at once at the end. After
each half nothing may be left: no goroutine, no descriptor. Both halves are alike, so what
the second one needs, the first one has left behind: the memory in use may not grow but for
the noise of fragmented arenas (`MOST_GROWTH`) and a few caches (`MOST_BLOCKS`). A leak of
one object per connection is far beyond that.

The exit status is 1 if anything was wrong; the seed repeats the choices, not their timing.
"""

from goroutines.patch import patch

patch()

import argparse
import errno
import faulthandler
import gc
import itertools
import os
import random
import resource
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from goroutines import Chan, WaitGroup, context, go, gosched, runtime

T = TypeVar("T")

PATTERN_SIZE = (1 << 20) - 3
BUFFER = 64 << 10  # of each socket; the kernel makes it twice that
MOST_LOST = 1 << 20  # of a stream: what both sockets buffer, and a piece on its way
MOST_GROWTH = 16 << 20  # bytes of resident memory between the halves
MOST_BLOCKS = 5000  # objects and the like between the halves
PATIENCE = 30.0  # seconds for everything to end once no more is begun
RESET = struct.pack("ii", 1, 0)
HELLO = struct.Struct("!Q")
NO_ROOM = {errno.EMFILE, errno.ENFILE}

FAULTS = {"none": 60, "reset": 10, "shutdown": 5, "vanish": 10}
SPICES = ("slow reader", "slow writer", "timeouts", "deadlines", "half-close")


class Tls(NamedTuple):
    server: ssl.SSLContext
    client: ssl.SSLContext


class Ledger:
    """What happened (roughly: nothing locks the counts), and what must not have happened."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []

    def violation(self, what: str) -> None:
        self.violations.append(what)
        if len(self.violations) <= 20:
            print(f"VIOLATION: {what}", file=sys.stderr, flush=True)


LEDGER = Ledger()
COUNTS = LEDGER.counts
_pattern = b""


def pattern(key: int, offset: int, size: int) -> bytes:
    """Return `size` bytes (at most 64 KiB) of the stream `key` from this offset on."""
    start = (key + offset) % PATTERN_SIZE
    return _pattern[start : start + size]


def make_pattern(rng: random.Random) -> None:
    global _pattern
    data = rng.randbytes(PATTERN_SIZE)
    _pattern = data + data[: 64 << 10]


# ---- streams ------------------------------------------------------------------------------


class Stream:
    """One direction of an exchange."""

    def __init__(self, name: str, key: int, size: int) -> None:
        self.name = name
        self.key = key
        self.size = size
        self.sent = 0
        self.in_doubt = 0  # handed to a call that failed: some of it may have been sent
        self.received = 0

    def next_piece(self, most: int) -> bytes:
        return pattern(self.key, self.sent, min(most, self.size - self.sent))

    def take(self, data: bytes | bytearray | memoryview) -> None:
        """Verify what was received."""
        if data != pattern(self.key, self.received, len(data)):
            LEDGER.violation(f"{self.name}: other bytes than were sent, at {self.received}")
        self.received += len(data)
        COUNTS["bytes"] += len(data)

    def settle(self, broken: bool) -> None:
        """Compare what was sent and what has arrived, when both are final."""
        where = f"{self.name}: {self.sent} of {self.size} sent, {self.received} received"
        if self.received > self.sent + self.in_doubt:
            LEDGER.violation(f"{where}: more than was sent")
        lost = self.sent - self.received
        if not broken and not self.size == self.sent == self.received:
            LEDGER.violation(f"{where}, though nothing broke it")
        elif lost > MOST_LOST:
            LEDGER.violation(f"{where}: more was lost than buffers hold")
        COUNTS["bytes lost"] += max(0, lost)


class Exchange:
    """Two streams between two ends, what is to go wrong, and how the ends behave."""

    def __init__(self, kind: str, number: int, rng: random.Random) -> None:
        self.kind = kind
        self.number = number
        self.rng = rng
        self.spices = {s for s in SPICES if rng.random() < 0.15}
        self.up = self._stream("up")
        self.down = self._stream("down")
        if "half-close" in self.spices:
            rng.choice((self.up, self.down)).size //= 100
        self.fault = rng.choices(list(FAULTS), list(FAULTS.values()))[0]
        self.fault_stream = rng.choice((self.up, self.down))
        self.fault_by_sender = rng.random() < 0.5
        self.fault_at = int(self.fault_stream.size * rng.random())
        self.broken = False
        self.served = threading.Event()
        for what in (kind, *self.spices):
            COUNTS[what] += 1

    def _stream(self, direction: str) -> Stream:
        size = int(2 ** self.rng.uniform(0, 18)) - 1
        name = f"{self.kind} {self.number} {direction}"
        return Stream(name, self.rng.randrange(PATTERN_SIZE), size)

    def fault_due(self, stream: Stream, sender: bool) -> bool:
        """Tell whether this end of this stream must break the connection now."""
        if self.fault == "none" or self.broken or stream is not self.fault_stream:
            return False
        done = stream.sent if sender else stream.received
        return sender == self.fault_by_sender and done >= self.fault_at

    def failed(self, who: str, error: BaseException) -> None:
        """Note an error that a stream has met; without a fault there is no excuse."""
        if not self.broken:
            self.broken = True
            trace = "".join(traceback.format_exception(error)).rstrip()
            LEDGER.violation(f"{self.kind} {self.number}: {who}: {error!r}\n{trace}")

    def settle(self) -> None:
        self.up.settle(self.broken)
        self.down.settle(self.broken)
        COUNTS["exchanges"] += 1


class SocketEnd:
    """An end of a connection: one goroutine writes, one reads."""

    def __init__(self, sock: socket.socket, exchange: Exchange, out: Stream, into: Stream) -> None:
        self.sock = sock
        self.exchange = exchange
        self.out = out
        self.into = into
        self.rng = random.Random(exchange.rng.random())
        self.is_tls = isinstance(sock, ssl.SSLSocket)
        if "timeouts" in exchange.spices:
            sock.settimeout(0.002)

    def run(self) -> None:
        """Send and receive until both are over, and close."""
        writer = go(self._guard, self._write, "writer")
        self._guard(self._read, "reader")
        writer.join()
        if self.is_tls and not self.exchange.broken:
            self._guard(self._unwrap, "unwrap")
        self.sock.close()

    def _guard(self, fn: Callable[[], None], who: str) -> None:
        try:
            fn()
        except (OSError, ValueError) as e:
            self.exchange.failed(who, e)

    def _unwrap(self) -> None:
        self.sock.settimeout(None)
        self.sock = self.sock.unwrap()  # type: ignore[attr-defined]

    def _break(self) -> None:
        """Do what was planned to this connection; somebody may be waiting for it."""
        self.exchange.broken = True
        COUNTS[self.exchange.fault] += 1
        with suppress(OSError):  # the other end may have broken it by now
            if self.exchange.fault == "reset":
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            if self.exchange.fault == "shutdown":
                # Not SSLSocket's, after which recv() gives what arrives as it is.
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
        if self.exchange.fault != "shutdown":
            self.sock.close()

    def _pause(self, spice: str) -> None:
        if spice in self.exchange.spices and self.rng.random() < 0.2:
            time.sleep(self.rng.random() * 0.01)
        elif self.rng.random() < 0.05:
            gosched()

    # ---- writing

    def _write(self) -> None:
        while self.out.sent < self.out.size:
            if self.exchange.fault_due(self.out, True):
                self._break()
                return
            piece = self.out.next_piece(self.rng.randint(1, 48 << 10))
            self.out.in_doubt = len(piece)
            self.out.sent += self._send(piece)
            self.out.in_doubt = 0
            self._pause("slow writer")
        if not self.is_tls and not self.exchange.broken:
            self.sock.shutdown(socket.SHUT_WR)

    def _send(self, piece: bytes) -> int:
        """Send a piece or a part of it by one of the calls there are."""
        if "timeouts" not in self.exchange.spices and self.rng.random() < 0.5:
            self.sock.sendall(piece)
            return len(piece)
        if not self.is_tls and self.rng.random() < 0.2:
            return self._retried(lambda: self.sock.sendmsg([piece[:100], piece[100:]]))
        return self._retried(lambda: self.sock.send(piece))

    def _retried(self, call: Callable[[], T]) -> T:
        """Make a call that a timeout ends without effect until it succeeds."""
        while True:
            try:
                return call()
            except context.DeadlineExceeded:
                raise
            except TimeoutError:
                COUNTS["timeouts hit"] += 1

    # ---- reading

    def _read(self) -> None:
        while True:
            if self.exchange.fault_due(self.into, False):
                self._break()
                return
            if self.is_tls and self.into.received == self.into.size:
                return
            data = self._recv(self.rng.randint(1, 64 << 10))
            if not data:
                return
            self.into.take(data)
            self._pause("slow reader")

    def _recv(self, most: int) -> bytes | bytearray:
        """Receive by one of the calls there are, in spite of timeouts and deadlines."""
        if "deadlines" not in self.exchange.spices:
            return self._retried(lambda: self._recv_once(most))
        while True:
            try:
                timeout = self.rng.random() * 0.004
                with context.with_timeout(context.background(), timeout) as ctx:
                    with context.scope(ctx):
                        return self._retried(lambda: self._recv_once(most))
            except context.DeadlineExceeded:
                COUNTS["deadlines hit"] += 1

    def _recv_once(self, most: int) -> bytes | bytearray:
        how = self.rng.random()
        if how < 0.3:
            buffer = bytearray(most)
            return buffer[: self.sock.recv_into(buffer)]
        if how < 0.5 and not self.is_tls:
            return self.sock.recvmsg(most)[0]
        if how < 0.6 and not self.is_tls:
            select.select([self.sock], [], [])
        return self.sock.recv(most)


class PipeEnds:
    """An exchange whose two streams are two pipes."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.rng = random.Random(exchange.rng.random())

    def run(self) -> None:
        wg = WaitGroup()
        for stream in self.exchange.up, self.exchange.down:
            r, w = os.pipe()
            wg.go(self._guard, self._read, r, stream)
            wg.go(self._guard, self._write, w, stream)
        wg.wait()

    def _guard(self, fn: Callable[[int, Stream], None], fd: int, stream: Stream) -> None:
        try:
            fn(fd, stream)
        except OSError as e:
            self.exchange.failed(fn.__name__, e)
        finally:
            os.close(fd)

    def _stop(self, stream: Stream, sender: bool) -> bool:
        if not self.exchange.fault_due(stream, sender):
            return False
        self.exchange.broken = True
        COUNTS["pipe closed early"] += 1
        return True

    def _write(self, fd: int, stream: Stream) -> None:
        while stream.sent < stream.size and not self._stop(stream, True):
            piece = stream.next_piece(self.rng.randint(1, 20000))
            stream.in_doubt = len(piece)
            stream.sent += os.write(fd, piece)
            stream.in_doubt = 0

    def _read(self, fd: int, stream: Stream) -> None:
        while not self._stop(stream, False) and (data := os.read(fd, 10000)):
            stream.take(data)


# ---- server -------------------------------------------------------------------------------


class Server:
    """Accepts connections; each names the exchange that it belongs to."""

    def __init__(self, tls: Tls | None) -> None:
        self.tls = tls
        self.exchanges: dict[int, Exchange] = {}
        self.handlers = WaitGroup()
        self.accepted = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        for option in socket.SO_SNDBUF, socket.SO_RCVBUF:
            self.listener.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        self.address = self.listener.getsockname()
        self.loop = threading.Thread(target=self._accept_all)
        self.loop.start()

    def _accept_all(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError as e:
                if e.errno == errno.EBADF:
                    return  # closed while we were waiting
                if e.errno not in NO_ROOM:
                    LEDGER.violation(f"accept: {e!r}")
                COUNTS["EMFILE at accept"] += 1
                time.sleep(0.002)
                continue
            self.accepted += 1
            self.handlers.add()
            threading.Thread(target=self._handle, args=(sock,)).start()

    def _handle(self, sock: socket.socket) -> None:
        exchange = None
        try:
            with sock:
                exchange = self._greet(sock)
        finally:
            if exchange is not None:
                exchange.served.set()
            self.handlers.done()

    def _greet(self, sock: socket.socket) -> Exchange | None:
        try:
            hello = sock.recv(HELLO.size, socket.MSG_WAITALL)
        except ConnectionResetError:
            return None  # one of those dropped at once
        if len(hello) < HELLO.size:
            return None
        exchange = self.exchanges.pop(HELLO.unpack(hello)[0])
        try:
            if exchange.kind == "tls" and self.tls is not None:
                sock = self.tls.server.wrap_socket(sock, server_side=True)
            sock.sendall(hello)
        except OSError as e:
            exchange.failed("server's greeting", e)
            return exchange
        SocketEnd(sock, exchange, exchange.down, exchange.up).run()
        return exchange

    def close(self) -> None:
        """Stop accepting: the loop gets EBADF where it waits."""
        self.listener.close()
        self.loop.join(PATIENCE)


# ---- clients ------------------------------------------------------------------------------


class Clients:
    """Goroutines that have exchanges, one after the other, until they are stopped."""

    def __init__(self, server: Server, tls: Tls | None, rng: random.Random) -> None:
        self.server = server
        self.tls = tls
        self.rng = rng
        self.numbers = itertools.count(1)  # who is preempted in next() has got his already
        self.stopped = False
        self.running = WaitGroup()
        self.actions: dict[str, tuple[Callable[[random.Random], None], int]] = {
            "tcp": (self._over_tcp, 50),
            "unix": (self._over_unix, 20),
            "pipe": (self._over_pipes, 10),
            "close": (close_under_reader, 10),
        }
        if tls is not None:
            self.actions["tls"] = (self._over_tls, 10)
            self.actions["tls-close"] = (lambda rng: tls_closed_under(rng, tls), 5)

    def start(self, n: int) -> None:
        self.stopped = False
        for _ in range(n):
            self.running.go(self._work, random.Random(self.rng.random()))

    def _work(self, rng: random.Random) -> None:
        actions, weights = zip(*self.actions.values(), strict=True)
        while not self.stopped:
            try:
                rng.choices(actions, weights)[0](rng)
            except OSError as e:
                if e.errno not in NO_ROOM:
                    trace = "".join(traceback.format_exception(e)).rstrip()
                    LEDGER.violation(f"client: {e!r}\n{trace}")
                COUNTS["EMFILE at clients"] += 1
                time.sleep(rng.random() * 0.02)

    def _exchange(self, kind: str, rng: random.Random) -> Exchange:
        return Exchange(kind, next(self.numbers), rng)

    def connect(self) -> socket.socket:
        sock = socket.socket()
        for option in socket.SO_SNDBUF, socket.SO_RCVBUF:
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        try:
            sock.connect(self.server.address)
        except BaseException:
            sock.close()
            raise
        COUNTS["connections"] += 1
        return sock

    def _over_tcp(self, rng: random.Random, kind: str = "tcp") -> None:
        with self.connect() as sock:
            exchange = self._exchange(kind, rng)
            self.server.exchanges[exchange.number] = exchange
            self._greet(sock, exchange)
        exchange.served.wait()
        exchange.settle()

    def _over_tls(self, rng: random.Random) -> None:
        self._over_tcp(rng, "tls")

    def _greet(self, sock: socket.socket, exchange: Exchange) -> None:
        hello = HELLO.pack(exchange.number)
        sock.sendall(hello)
        try:
            if exchange.kind == "tls" and self.tls is not None:
                sock = self.tls.client.wrap_socket(sock)
            if sock.recv(HELLO.size) != hello and not exchange.broken:
                LEDGER.violation(f"{exchange.kind} {exchange.number}: greeted as somebody else")
        except OSError as e:
            exchange.failed("client's greeting", e)
            sock.close()
            return
        SocketEnd(sock, exchange, exchange.up, exchange.down).run()

    def _over_unix(self, rng: random.Random) -> None:
        a, b = socket.socketpair()
        exchange = self._exchange("unix", rng)
        with a, b:
            other = go(SocketEnd(b, exchange, exchange.down, exchange.up).run)
            SocketEnd(a, exchange, exchange.up, exchange.down).run()
            other.join()
        exchange.settle()

    def _over_pipes(self, rng: random.Random) -> None:
        exchange = self._exchange("pipe", rng)
        PipeEnds(exchange).run()
        exchange.settle()

    def drop_at_once(self, n: int) -> None:
        """Make n connections over which nothing is said, and close all in one go."""
        before, socks = self.server.accepted, list[socket.socket]()
        wg = WaitGroup()
        for _ in range(20):
            wg.go(lambda: socks.extend(self.connect() for _ in range(n // 20)))
        wg.wait()
        wait_until(lambda: self.server.accepted >= before + len(socks), "all are accepted")
        COUNTS["dropped at once"] += len(socks)
        for i, sock in enumerate(socks):
            if i % 2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.close()


# ---- sockets closed under those who wait ----------------------------------------------------


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Let others run until the condition holds; it is a violation if it does not soon."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            LEDGER.violation(f"it never came true that {what}\n{runtime.stack(all=True)}")
            return
        time.sleep(0.0005)


def reuse_numbers(rng: random.Random, number: int) -> None:
    """Take the number just closed, and see that all bytes find their way."""
    stream = Stream(f"on number {number}", rng.randrange(PATTERN_SIZE), 10000)
    c, d = socket.socketpair()
    with c, d:
        COUNTS["numbers reused"] += number in (c.fileno(), d.fileno())
        if d.fileno() == number:
            c, d = d, c
        d.sendall(stream.next_piece(stream.size))
        stream.sent = stream.size
        d.shutdown(socket.SHUT_WR)
        gosched()
        while data := c.recv(4096):
            stream.take(data)
    stream.settle(broken=False)


def close_under(rng: random.Random, a: Any, b: Any, recv: Callable[[], Any], late: bool) -> None:
    """Close `a` while a goroutine is in recv(); with `late`, just when it got something."""
    ends: list[object] = []

    def reader() -> None:
        try:
            while recv():
                pass
            ends.append("end of stream")
        except (OSError, ValueError) as e:
            ends.append(e)

    g = go(reader)
    wait_until(lambda: g.state != "runnable" or g.done, "a reader has started")
    if late:
        b.sendall(b"x")
        for _ in range(rng.randrange(4)):
            gosched()
    number = a.fileno()
    a.close()
    reuse_numbers(rng, number)
    try:
        g.join(PATIENCE)
    except TimeoutError:
        LEDGER.violation(
            f"who waited for a socket that was closed waits on\n{runtime.stack(all=True)}"
        )
        return
    if not isinstance(ends[0], OSError | ValueError):
        LEDGER.violation(f"recv on a socket closed meanwhile: {ends[0]}")
    COUNTS["closed under a reader"] += 1


def close_under_reader(rng: random.Random) -> None:
    """The same on a pair of plain sockets."""
    a, b = socket.socketpair()
    with a, b:
        close_under(rng, a, b, lambda: a.recv(100), rng.random() < 0.5)


def tls_closed_under(rng: random.Random, tls: Tls) -> None:
    """The same on a pair of TLS sockets."""
    a, b = socket.socketpair()
    with a, b, tls_pair(a, b, tls) as (ta, tb):
        close_under(rng, ta, tb, lambda: ta.recv(100), rng.random() < 0.5)
        COUNTS["closed under a TLS reader"] += 1


@contextmanager
def tls_pair(
    a: socket.socket, b: socket.socket, tls: Tls
) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    made: list[ssl.SSLSocket] = []
    server = go(lambda: made.append(tls.server.wrap_socket(b, server_side=True)))
    with tls.client.wrap_socket(a) as ta:
        server.join()
        with made[0] as tb:
            yield ta, tb


# ---- chaos ---------------------------------------------------------------------------------


class Chaos:
    """What happens to the process as a whole while clients and server work."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.stop = threading.Event()
        self.running = WaitGroup()
        self.ticks: Chan[None] = Chan(1)

    def start(self) -> None:
        self.stop.clear()
        self.running.go(self._collect)
        self.running.go(self._run_out_of_files)
        signal.signal(signal.SIGALRM, self._alarm)
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)

    def end(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.stop.set()
        self.running.wait(PATIENCE)

    def _alarm(self, signum: int, frame: object) -> None:
        COUNTS["signals"] += 1
        self.ticks.try_send(None)
        self.ticks.try_recv()

    def _collect(self) -> None:
        while not self.stop.wait(self.rng.random() * 0.2):
            gc.collect()
            COUNTS["collections"] += 1

    def _run_out_of_files(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        while not self.stop.wait(self.rng.random() * 0.5):
            resource.setrlimit(resource.RLIMIT_NOFILE, (8, hard))
            try:
                self.stop.wait(self.rng.random() * 0.03)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            COUNTS["EMFILE episodes"] += 1


# ---- the whole ------------------------------------------------------------------------------


def make_tls() -> Tls | None:
    """Return contexts with a certificate made on the spot, or None without openssl."""
    if shutil.which("openssl") is None:
        return None
    with tempfile.TemporaryDirectory() as name:
        cert, key = str(Path(name) / "cert.pem"), str(Path(name) / "key.pem")
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        files = ["-keyout", key, "-out", cert, "-subj", "/CN=localhost"]
        subprocess.run(["openssl", "req", "-x509", *curve, *files], check=True, capture_output=True)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(cert, key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return Tls(server, client)


def open_files() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that lists
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Soak:
    """Two halves of load, and a look at what each has left."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        rng = random.Random(args.seed)
        make_pattern(rng)
        tls = make_tls()
        self.server = Server(tls)
        self.clients = Clients(self.server, tls, random.Random(rng.random()))
        self.chaos = Chaos(random.Random(rng.random()))
        if args.only:
            every = self.clients.actions
            self.clients.actions = {kind: every[kind] for kind in args.only.split(",")}

    def run(self) -> tuple[int, int]:
        """Return by how much resident memory and allocated blocks grew in the second half."""
        time.sleep(0)
        known, alive = open_files(), runtime.num_goroutine()
        memory = []
        for _ in range(2):
            self.half(self.args.seconds / 2)
            self.check_leftovers(known, alive)
            memory.append((resident(), sys.getallocatedblocks()))
        self.server.close()
        if (left := runtime.num_goroutine()) != 1:
            LEDGER.violation(f"{left} goroutines left\n{runtime.stack(all=True)}")
        return memory[1][0] - memory[0][0], memory[1][1] - memory[0][1]

    def half(self, seconds: float) -> None:
        self.chaos.start()
        self.clients.start(self.args.clients)
        time.sleep(seconds)
        self.clients.stopped = True
        self.wait(self.clients.running, "clients")
        self.chaos.end()
        self.clients.drop_at_once(self.args.connections)
        self.wait(self.server.handlers, "handlers")

    def wait(self, what: WaitGroup, name: str) -> None:
        try:
            what.wait(PATIENCE)
        except TimeoutError:
            LEDGER.violation(f"{name} do not end\n{runtime.stack(all=True)}")
            finish(self.args, None)

    def check_leftovers(self, known: dict[int, str], alive: int) -> None:
        wait_until(lambda: runtime.num_goroutine() <= alive, "all goroutines have ended")
        for _ in range(3):
            gc.collect()
        left = {fd: name for fd, name in open_files().items() if fd not in known}
        if runtime.gomaxprocs() > 1:  # a thread that was started meanwhile has a netpoll of its own
            left = {fd: name for fd, name in left.items() if "[event" not in name}
        if left:
            LEDGER.violation(f"{len(left)} descriptors left open: {left}")
        if self.server.exchanges:
            LEDGER.violation(f"{len(self.server.exchanges)} exchanges were never served")


def finish(args: argparse.Namespace, grown: tuple[int, int] | None) -> None:
    """Print the summary, and end with the status that it deserves."""
    if grown is not None and (grown[0] > MOST_GROWTH or grown[1] > MOST_BLOCKS):
        LEDGER.violation(f"the second half needed {grown[0]} bytes, {grown[1]} blocks more")
    bad = len(LEDGER.violations)
    counts = ", ".join(f"{what} {n}" for what, n in sorted(COUNTS.items()))
    memory = "" if grown is None else f"; memory {grown[0] / 1024:+.0f} KiB, {grown[1]:+d} blocks"
    print(f"soak: seed {args.seed}, {args.seconds:g} s: {counts}{memory}; {bad} violations")
    sys.stdout.flush()
    os._exit(1 if bad else 0) if grown is None else sys.exit(1 if bad else 0)


def main() -> None:
    parser = argparse.ArgumentParser(description="Exchange data while everything goes wrong.")
    parser.add_argument("--seconds", type=float, default=60.0, help="for both halves (60)")
    parser.add_argument("--clients", type=int, default=100, help="clients at a time (100)")
    parser.add_argument("--connections", type=int, default=10_000, help="to drop at once (10000)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--only", help="tcp, unix, pipe, close, tls, tls-close; or some of these")
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    args.connections = min(args.connections, (hard - 100) // 2)
    print(f"soak: seed {args.seed}, Python {sys.version.split()[0]}", flush=True)
    faulthandler.dump_traceback_later(args.seconds + 4 * PATIENCE, exit=True)
    finish(args, Soak(args).run())


if __name__ == "__main__":
    main()
