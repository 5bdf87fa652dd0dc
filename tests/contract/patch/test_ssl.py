"""patch(): TLS connections, whose every wait lets others run."""

from __future__ import annotations

import pytest

from .tools import only_patched, run_patched

TLS = """
import ssl
server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain(PEM)
client_context = ssl.create_default_context(cafile=PEM)

def raw_pair():
    return socket.socketpair()

def tcp_pair():  # an end of which may go without the other's notice
    with socket.create_server(("127.0.0.1", 0)) as listener:
        a = socket.create_connection(listener.getsockname())
        return a, listener.accept()[0]

def tls_pair(**kwargs):
    a, b = raw_pair()
    task = start(server_context.wrap_socket, b, server_side=True, **kwargs)
    a = client_context.wrap_socket(a, server_hostname="localhost", **kwargs)
    return a, task.result()
"""


def test_handshake() -> None:
    """Both ends of a handshake park, at once or when asked to."""
    run_patched(
        TLS
        + """
raw_pair = tcp_pair
a, b = raw_pair()
task = parks(server_context.wrap_socket, b, server_side=True)
a = client_context.wrap_socket(a, server_hostname="localhost")
b = task.result()
assert type(a) is ssl.SSLSocket and isinstance(a.context, ssl.SSLContext)
assert a.version() == b.version() and a.cipher()
assert ("DNS", "localhost") in a.getpeercert()["subjectAltName"]
task = parks(b.recv, 10)
a.sendall(b"hello")
assert task.result() == b"hello"
task = parks(a.recv, 10)
b.close()
assert task.result() == b""

a, b = raw_pair()
a = client_context.wrap_socket(a, server_hostname="localhost", do_handshake_on_connect=False)
task = parks(a.do_handshake)
b = server_context.wrap_socket(b, server_side=True, do_handshake_on_connect=False)
b.do_handshake()
task.result()

with socket.create_server(("127.0.0.1", 0)) as listener:  # accept() shakes hands
    with server_context.wrap_socket(listener, server_side=True) as tls_listener:
        def serve():
            b, _ = tls_listener.accept()
            assert type(b) is ssl.SSLSocket
            with b:
                b.sendall(b.recv(10).upper())
        task = parks(serve)
        with client_context.wrap_socket(socket.socket(), server_hostname="localhost") as a:
            a.connect(tls_listener.getsockname())
            a.send(b"hello")
            assert a.recv(10) == b"HELLO"
        task.result()

task_errors = []
a, b = raw_pair()
task = parks(server_context.wrap_socket, b, server_side=True)
strict = ssl.create_default_context()
error = outcome(strict.wrap_socket, a, server_hostname="localhost")
assert type(error) is ssl.SSLCertVerificationError, error
a.close()
task.error(OSError)
"""
    )


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_reads_and_writes(version: str) -> None:
    """Every call that reads or writes parks, to a slow reader as well."""
    run_patched(
        TLS
        + f"server_context.maximum_version = ssl.TLSVersion.{version}"
        + """
def into(call):
    buffer = bytearray(16)
    return bytes(buffer[: call(buffer)])

ways = [
    lambda s: s.recv(16), lambda s: s.read(16), lambda s: into(s.recv_into),
    lambda s: into(lambda b: s.read(16, b)), lambda s: s.makefile("rb", buffering=0).read(16),
    lambda s: s.makefile("rb").read1(16),
]
a, b = tls_pair()
for x, y in ((a, b), (b, a)):
    for way in ways:
        for send in (y.send, y.sendall, y.write):
            task = parks(way, x)
            send(b"abc")
            assert task.result() == b"abc"
    y.sendall(b"abcdef")
    assert x.recv(2) == b"ab" and x.pending() == 4 and x.recv(9) == b"cdef"
data = os.urandom(1 << 20) * 5
def send(s):
    sent = 0
    while sent < len(data):
        sent += s.send(memoryview(data)[sent:sent + 100_000])
import io
for way in (
    lambda s: s.sendall(data), send, lambda s: s.sendfile(io.BytesIO(data)),
):
    for x, y in ((a, b), (b, a)):
        task = parks(way, x)
        got = bytearray()
        while len(got) < len(data):
            got += y.recv(1 << 20)
        task.result()
        assert got == data
"""
    )


@only_patched
def test_both_directions_at_once() -> None:
    """One goroutine waits in a read while others write, and the reverse."""
    run_patched(
        TLS
        + """
a, b = tls_pair()
reader = parks(a.recv, 10)
a.sendall(b"request")
assert b.recv(10) == b"request"
b.sendall(b"answer")
assert reader.result() == b"answer"
data = os.urandom(3_000_000)
writer = parks(a.sendall, data)
reader = parks(a.recv, 10)
b.sendall(b"meanwhile")
assert reader.result() == b"meanwhile"
got = bytearray()
while len(got) < len(data):
    got += b.recv(1 << 20)
writer.result()
assert got == data
def echo(s):
    while part := s.recv(10_000):
        s.sendall(part)
server = start(echo, b)
def read_all():
    got = bytearray()
    while len(got) < len(data):
        got += a.recv(1 << 20)
    return got
reader = start(read_all)
a.sendall(data)
assert reader.result() == data
"""
    )


def test_timeouts() -> None:
    """Time running out in a handshake or a read is a TimeoutError; reading goes on later."""
    run_patched(
        TLS
        + """
a, b = raw_pair()
a.settimeout(0.01)
error = outcome(client_context.wrap_socket, a, server_hostname="localhost")
assert isinstance(error, TimeoutError), repr(error)
assert "handshake operation timed out" in str(error), error
a, b = raw_pair()
b.settimeout(0.01)
error = outcome(server_context.wrap_socket, b, server_side=True)
assert isinstance(error, TimeoutError), repr(error)

a, b = tls_pair()
a.settimeout(0.01)
for call in (lambda: a.recv(1), lambda: a.recv_into(bytearray(1)), lambda: a.read(1)):
    error = outcome(call)
    assert type(error) is TimeoutError, repr(error)
    assert "read operation timed out" in str(error), error
b.send(b"there")
assert a.recv(10) == b"there"
b.settimeout(0.01)
error = outcome(b.sendall, bytes(10_000_000))
assert type(error) is TimeoutError, repr(error)

a, b = tls_pair()
a.settimeout(1000)
task = parks(a.recv, 10)
b.send(b"there")
assert task.result() == b"there"
a.settimeout(0.01)
error = outcome(a.unwrap)  # the peer does not answer
assert isinstance(error, TimeoutError), repr(error)
"""
    )


def test_non_blocking() -> None:
    """A TLS socket that was told not to block says what it wants, and never waits."""
    run_patched(
        TLS
        + """
a, b = raw_pair()
a.setblocking(False)
b.setblocking(False)
a = client_context.wrap_socket(a, server_hostname="localhost", do_handshake_on_connect=False)
b = server_context.wrap_socket(b, server_side=True, do_handshake_on_connect=False)
assert type(outcome(a.do_handshake)) is ssl.SSLWantReadError
todo = [b, a]
while todo:
    s = todo.pop(0)
    error = outcome(s.do_handshake)
    if error is not None:
        assert type(error) is ssl.SSLWantReadError, error
        todo.append(s)
assert type(outcome(a.recv, 1)) is ssl.SSLWantReadError
assert not a.getblocking() and a.gettimeout() == 0
while not isinstance(error := outcome(a.send, bytes(100_000)), Exception):
    pass
assert type(error) is ssl.SSLWantWriteError, error
b.setblocking(True)
assert len(b.recv(100)) == 100
"""
    )


def test_ends() -> None:
    """unwrap(), the peer's end with and without a farewell, and going on in plain text."""
    run_patched(
        TLS
        + """
raw_pair = tcp_pair
a, b = tls_pair()
task = parks(a.unwrap)
assert b.recv(10) == b""
raw_b = b.unwrap()
raw_a = task.result()
task = parks(raw_a.recv, 10)
raw_b.send(b"plain")
assert task.result() == b"plain"

a, b = tls_pair()
task = parks(a.recv, 10)
b.shutdown(socket.SHUT_RDWR)  # no farewell
assert task.result() == b""
a, b = tls_pair(suppress_ragged_eofs=False)
task = parks(a.recv, 10)
b.shutdown(socket.SHUT_RDWR)
task.error(ssl.SSLEOFError)

a, b = tls_pair()
task = parks(b.recv, 10)
a.sendall(b"last")
a.shutdown(socket.SHUT_WR)
assert task.result() == b"last"
assert b.recv(10) == b""
dup = outcome(a.dup)
assert isinstance(dup, NotImplementedError)
"""
    )


@only_patched
def test_close_wakes() -> None:
    """close() by another goroutine ends a read, a write and a handshake with OSError."""
    run_patched(
        TLS
        + """
a, b = tls_pair()
reader = parks(a.recv, 1)
writer = parks(a.sendall, bytes(10_000_000))
a.close()
for task in (reader, writer):
    assert not isinstance(task.error(OSError, ValueError), TimeoutError)
a, b = raw_pair()
a = client_context.wrap_socket(a, server_hostname="localhost", do_handshake_on_connect=False)
task = parks(a.do_handshake)
a.close()
task.error(OSError, ValueError)
"""
    )


def test_contexts_made_before() -> None:
    """A context, its subclass and its callbacks made before patch() serve as others do."""
    run_patched(
        """
        sni = []
        server_context.sni_callback = lambda sock, name, context: sni.append(name)
        assert isinstance(server_context, ssl.SSLContext)
        assert isinstance(ssl.create_default_context(), ssl.SSLContext)
        for context in (server_context, Mine(ssl.PROTOCOL_TLS_SERVER)):
            context.load_cert_chain(PEM)
            client_context.load_verify_locations(PEM)
            a, b = socket.socketpair()
            task = parks(context.wrap_socket, b, server_side=True)
            a = client_context.wrap_socket(a, server_hostname="localhost")
            b = task.result()
            assert isinstance(b, ssl.SSLSocket) and b.context is context
            task = parks(b.recv, 10)
            a.send(b"hello")
            assert task.result() == b"hello"
            task = parks(a.recv, 10)
            b.send(b"hello")
            assert task.result() == b"hello"
        assert sni == ["localhost"]
        before.options |= ssl.OP_NO_TICKET
        before.minimum_version = ssl.TLSVersion.TLSv1_2  # recursed for ever in some patches
        ssl.create_default_context().minimum_version = ssl.TLSVersion.TLSv1_3
        """,
        before="""
        import ssl
        class Mine(ssl.SSLContext):
            pass
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        client_context = Mine(ssl.PROTOCOL_TLS_CLIENT)
        before = ssl.create_default_context()
        """,
    )


def test_memory_bio() -> None:
    """TLS without a socket (as asyncio uses it) is what it was."""
    run_patched(
        TLS
        + """
c_in, c_out, s_in, s_out = (ssl.MemoryBIO() for _ in range(4))
client = client_context.wrap_bio(c_in, c_out, server_hostname="localhost")
server = server_context.wrap_bio(s_in, s_out, server_side=True)
assert type(outcome(client.do_handshake)) is ssl.SSLWantReadError
while True:
    s_in.write(c_out.read())
    done = outcome(server.do_handshake)
    c_in.write(s_out.read())
    if outcome(client.do_handshake) is None and done is None:
        break
client.write(b"hello")
s_in.write(c_out.read())
assert server.read() == b"hello"
assert type(outcome(server.read)) is ssl.SSLWantReadError
"""
    )


def test_https() -> None:
    """http.client over TLS to a threading server; several requests at once."""
    run_patched(
        TLS
        + """
import http.client, http.server
slow = threading.Event()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            slow.wait()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode() * 10_000)
    def log_message(self, *args):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.socket = server_context.wrap_socket(
    server.socket, server_side=True, do_handshake_on_connect=False
)
runner = start(server.serve_forever, 0.01)
def get(path):
    connection = http.client.HTTPSConnection(
        "127.0.0.1", server.server_port, context=client_context, timeout=10
    )
    connection.request("GET", path)
    body = connection.getresponse().read()
    connection.close()
    return body
waiting = start(get, "/slow")
tasks = [start(get, "/%d" % i) for i in range(5)]
assert [t.result() for t in tasks] == [b"/%d" % i * 10_000 for i in range(5)]
assert not waiting.done
slow.set()
assert waiting.result() == b"/slow" * 10_000
server.shutdown()
runner.result()
server.server_close()
"""
    )
