"""patch(): looking up names lets others run, in whatever way it is asked for."""

from __future__ import annotations

from .tools import run_patched

# Look-ups that really block their thread, until a byte is written for each.
SLOW = """
import _socket, os
gate_r, gate = os.pipe()
block = os.read
def slow(name):
    real = getattr(_socket, name)
    def call(*args, **kwargs):
        block(gate_r, 1)
        return real(*args, **kwargs)
    setattr(_socket, name, call)
for name in (
    "getaddrinfo", "getnameinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr",
):
    slow(name)
"""


def test_look_ups_let_others_run() -> None:
    """Every function that asks the resolver waits without its thread."""
    run_patched(
        """
        for call in (
            lambda: socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM),
            lambda: socket.getaddrinfo(host="127.0.0.1", port="80", proto=6),
            lambda: socket.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST),
            lambda: socket.gethostbyname("127.0.0.1"),
            lambda: socket.gethostbyname_ex("127.0.0.1"),
            lambda: socket.gethostbyaddr("127.0.0.1"),
        ):
            task = parks(call)
            os.write(gate, b"x")
            assert "127.0.0.1" in str(task.result()), task.result()
        tasks = [parks(socket.gethostbyname, "127.0.0.1") for _ in range(3)]
        os.write(gate, b"xxx")
        assert [task.result() for task in tasks] == ["127.0.0.1"] * 3
        """,
        before=SLOW,
    )


def test_results_and_errors() -> None:
    """What comes out of the look-ups, exceptions included, is what it was."""
    run_patched("""
        family, kind, proto, name, address = socket.getaddrinfo(
            "localhost", 80, socket.AF_INET, socket.SOCK_STREAM)[0]
        assert family is socket.AF_INET and kind is socket.SOCK_STREAM
        assert address == ("127.0.0.1", 80)
        assert socket.gethostbyname("localhost") == "127.0.0.1"
        for call in (
            lambda: socket.getaddrinfo("not a number", 80, flags=socket.AI_NUMERICHOST),
            lambda: socket.getaddrinfo(None, None),
            lambda: socket.gethostbyname("x" * 100 + ".invalid"),
        ):
            assert isinstance(outcome(call), (socket.gaierror, UnicodeError)), outcome(call)
        assert isinstance(outcome(socket.gethostbyname), TypeError)
        assert isinstance(outcome(socket.gethostbyname, 1), TypeError)
        assert socket.getfqdn("127.0.0.1")
        """)


def test_connect_to_a_name() -> None:
    """A socket that is given a host's name instead of its address resolves it."""
    run_patched("""
        with socket.create_server(("localhost", 0)) as server:
            port = server.getsockname()[1]
            for connect in (
                lambda s: s.connect(("localhost", port)),
                lambda s: s.connect_ex(("localhost", port)),
            ):
                with socket.socket() as a:
                    assert connect(a) in (None, 0)
                    server.accept()[0].close()
            with socket.create_connection(("localhost", port), 5):
                server.accept()[0].close()
            with socket.socket(type=socket.SOCK_DGRAM) as a:
                a.bind(("localhost", 0))
                assert a.sendto(b"x", ("localhost", a.getsockname()[1])) == 1
                assert a.sendto(b"x", ("", a.getsockname()[1])) == 1
                with socket.socket() as b:
                    b.bind(("", 0))
            with socket.socket() as a:
                assert isinstance(outcome(a.connect, (b"\\xff" * 300, port)), (OSError, ValueError))
        """)
