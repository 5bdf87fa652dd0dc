"""An echo server: a goroutine for each connection, and plain blocking code.

    python echo.py [--port 7007] [--grace SECONDS]

Try it with `nc 127.0.0.1 7007`. At SIGINT or SIGTERM it accepts no more, still echoes what
has arrived, and ends; who has not taken that after `--grace` seconds is cut off. Out of
descriptors, it leaves new connections in the kernel's queue until some are free.
"""

from goroutines.patch import patch

patch()

import argparse
import contextlib
import errno
import signal
import socket
import time

from goroutines import WaitGroup, context
from goroutines.signal import notify_context

TRY_LATER = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED}


def accept(listener: socket.socket) -> socket.socket:
    """Wait for a connection; when there is no room for it, try again a little later."""
    pause = 0.005
    while True:
        try:
            return listener.accept()[0]
        except OSError as e:
            if e.errno not in TRY_LATER:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 1.0)


def echo(conn: socket.socket, cut_off: context.Context) -> None:
    """Send everything back; a connection that breaks, or takes too long at the end, is over."""
    with conn, context.scope(cut_off), contextlib.suppress(OSError, context.Canceled):
        while data := conn.recv(1 << 16):
            conn.sendall(data)


def serve(listener: socket.socket, grace: float) -> None:
    """Serve until a signal arrives, then let each connection end after what it has received."""
    stop = notify_context(context.background(), signal.SIGINT, signal.SIGTERM)
    cut_off = context.with_cancel(context.background())
    handlers, connections = WaitGroup(), set[socket.socket]()
    with stop, contextlib.suppress(context.Canceled), context.scope(stop):
        while True:  # until accept() raises Canceled
            connections = {conn for conn in connections if conn.fileno() >= 0}
            connections.add(conn := accept(listener))
            handlers.go(echo, conn, cut_off)
    for conn in connections:
        with contextlib.suppress(OSError):
            conn.shutdown(socket.SHUT_RD)  # recv() gives the rest, then b""
    with contextlib.suppress(TimeoutError):
        handlers.wait(timeout=grace)
    cut_off.cancel()
    handlers.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="Send back whatever arrives.")
    parser.add_argument("--port", type=int, default=7007, help="0: any free one (7007)")
    parser.add_argument("--grace", type=float, default=5.0, help="seconds to end in (5)")
    args = parser.parse_args()
    with socket.create_server(("127.0.0.1", args.port), backlog=1024) as listener:
        print("listening on {}:{}".format(*listener.getsockname()), flush=True)
        serve(listener, args.grace)


if __name__ == "__main__":
    main()
