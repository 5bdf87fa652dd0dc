"""A TCP proxy: two copies for each connection, as with `io.Copy` in Go.

    python proxy.py HOST:PORT [--listen 127.0.0.1:7070]

When one side says that it will send no more, exactly that is passed on, and the other
direction goes on until it ends as well. When a side breaks, so does the other.
"""

from goroutines.patch import patch

patch()

import argparse
import contextlib
import socket
import struct
import sys

from goroutines import go

Address = tuple[str, int]
RESET = struct.pack("ii", 1, 0)  # linger for 0 s: closing says "broken", not "that was all"


def copy(source: socket.socket, to: socket.socket) -> None:
    """Copy to the end of the stream, and pass the end on."""
    try:
        while data := source.recv(1 << 16):
            to.sendall(data)
        to.shutdown(socket.SHUT_WR)
    except OSError:  # one of them broke, or the other copy has seen that before us
        for sock in source, to:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.close()  # who waits for it, wherever, gets an OSError


def handle(client: socket.socket, target: Address, timeout: float) -> None:
    """Serve a connection to its end."""
    with client:
        try:
            server = socket.create_connection(target, timeout)
        except OSError as e:
            print("proxy: {}:{}: {}".format(*target, e), file=sys.stderr, flush=True)
            return
        with server:
            server.settimeout(None)
            back = go(copy, server, client)
            copy(client, server)
            back.join()


def address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host.strip("[]") or "127.0.0.1", int(port)


def main() -> None:
    parser = argparse.ArgumentParser(description="Pass TCP connections on to another address.")
    parser.add_argument("target", type=address, metavar="HOST:PORT")
    parser.add_argument("--listen", type=address, default="127.0.0.1:7070", metavar="HOST:PORT")
    parser.add_argument("--timeout", type=float, default=10.0, help="to connect within (10 s)")
    args = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        listener = socket.create_server(args.listen, backlog=1024)
        print("listening on {}:{}".format(*listener.getsockname()), flush=True)
        while True:
            go(handle, listener.accept()[0], args.target, args.timeout)


if __name__ == "__main__":
    main()
