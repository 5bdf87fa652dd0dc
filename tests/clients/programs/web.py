"""A web server of the standard library, in this process, for the programs that test clients."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext

BIG = bytes(range(256)) * 20_000  # 5 MB, more than any buffer on the way


class Handler(BaseHTTPRequestHandler):
    """Answers `/held/N` when told to, `/big`, `/stuck` when the server ends, POSTs with an echo."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def answer(self, body: bytes) -> None:
        """Send a response."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """Answer what the path asks for."""
        if self.path.startswith("/held/"):
            with self.server.count:
                self.server.in_flight += 1
            self.server.gate.wait()
            self.answer(self.path.encode())
        elif self.path == "/big":
            self.answer(BIG)
        elif self.path == "/stuck":
            self.server.over.wait()
            self.close_connection = True

    def do_POST(self) -> None:
        """Send back what came."""
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """A thread, that is a goroutine, for each connection."""

    request_queue_size = 128

    def __init__(self, tls: SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://localhost:{self.server_port}"
        self.count = threading.Lock()
        self.in_flight = 0
        self.gate = threading.Event()
        self.over = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that went away."""


@contextmanager
def serving(tls: SSLContext | None = None) -> Iterator[Server]:
    """Serve until the block ends."""
    server = Server(tls)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
