"""A chat server: lines go to everybody (as in The Go Programming Language, 8.10).

    python chat.py [--port 8000] [--queue LINES]

Try it with `nc 127.0.0.1 8000`; the first line is one's name. Only one goroutine, the
broadcaster, knows who is there. It never waits for a client: each has a queue and a goroutine
that writes; who lets it run full is disconnected.
"""

from goroutines.patch import patch

patch()

import argparse
import contextlib
import socket

from goroutines import Chan, go, recv, select

Client = tuple[socket.socket, Chan[str]]  # the connection, and what is to be sent there
messages: Chan[str] = Chan()
entering: Chan[Client] = Chan()
leaving: Chan[Client] = Chan()


def broadcast() -> None:
    """Give each message to all clients there are."""
    clients: set[Client] = set()
    while True:
        match select(recv(messages), recv(entering), recv(leaving)):
            case 0, line:
                for conn, outgoing in clients:
                    if not outgoing.try_send(line):
                        with contextlib.suppress(OSError):
                            conn.shutdown(socket.SHUT_RDWR)  # its reader ends, and it leaves
            case 1, client:
                clients.add(client)
            case _, client:
                clients.discard(client)
                client[1].close()


def write(conn: socket.socket, outgoing: Chan[str]) -> None:
    with contextlib.suppress(OSError):
        for line in outgoing:
            conn.sendall(f"{line}\n".encode())


def handle(conn: socket.socket, queue: int) -> None:
    """Read a client's lines until it goes."""
    with conn, conn.makefile(errors="replace") as lines, contextlib.suppress(OSError):
        name = lines.readline(1000).strip()
        writer = go(write, *(client := (conn, Chan[str](queue))))
        messages.send(f"{name} has arrived")
        entering.send(client)
        try:
            while line := lines.readline(1000):
                messages.send(f"{name}: {line.strip()}")
        finally:
            leaving.send(client)
            messages.send(f"{name} has left")
            writer.join()


def main() -> None:
    parser = argparse.ArgumentParser(description="Pass lines on to everybody connected.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--queue", type=int, default=100, help="lines kept for a client (100)")
    args = parser.parse_args()
    go(broadcast)
    with contextlib.suppress(KeyboardInterrupt):
        listener = socket.create_server(("127.0.0.1", args.port))
        print("listening on {}:{}".format(*listener.getsockname()), flush=True)
        while True:
            go(handle, listener.accept()[0], args.queue)


if __name__ == "__main__":
    main()
