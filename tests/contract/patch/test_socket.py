"""patch(): plain sockets of every family; each call that waits lets others run."""

from __future__ import annotations

from .tools import only_patched, run_patched

# --- streams ----------------------------------------------------------------------------------


def test_stream_reads() -> None:
    """Every way to read from a stream parks until something comes."""
    run_patched("""
        def into(a, call, *args):
            buffer = bytearray(16)
            got = call(buffer, *args)
            return bytes(buffer[: got if isinstance(got, int) else got[0]])

        ways = {
            "recv": lambda a: a.recv(16),
            "recv at most": lambda a: a.recv(3),
            "recv waitall": lambda a: a.recv(3, socket.MSG_WAITALL),
            "peek": lambda a: (a.recv(16, socket.MSG_PEEK), a.recv(16))[0],
            "recv_into": lambda a: into(a, a.recv_into),
            "recv_into with a size": lambda a: into(a, a.recv_into, 3),
            "recvfrom": lambda a: a.recvfrom(16)[0],
            "recvfrom_into": lambda a: into(a, a.recvfrom_into),
            "recvmsg": lambda a: a.recvmsg(16)[0],
            "recvmsg_into": lambda a: into(a, lambda b: a.recvmsg_into([b])),
            "read1": lambda a: a.makefile("rb").read1(16),
            "raw read": lambda a: a.makefile("rb", buffering=0).read(16),
        }
        for a, b in stream_pairs():
            for name, read in ways.items():
                task = parks(read, a)
                b.sendall(b"abc")
                assert task.result() == b"abc", (a.family, name)
                b.sendall(b"abc")  # and without waiting
                assert read(a) == b"abc", (a.family, name)
            task = parks(a.recv, 16)
            b.shutdown(socket.SHUT_WR)
            assert task.result() == b""
            for name, read in ways.items():
                assert read(a) == b"", (a.family, name)
        """)


def test_stream_writes() -> None:
    """Whoever sends to a slow reader parks, and nothing is lost or sent twice."""
    run_patched("""
        import tempfile
        data = os.urandom(1 << 20) * 5

        def send(a):
            sent = 0
            while sent < len(data):
                sent += a.send(memoryview(data)[sent:])

        def sendmsg(a):
            sent = 0
            while sent < len(data):
                middle = sent + 1000
                sent += a.sendmsg([memoryview(data)[sent:middle], memoryview(data)[middle:]])

        def sendfile(a):
            with tempfile.TemporaryFile() as file:
                file.write(b"head" + data)
                assert a.sendfile(file, 4, len(data)) == len(data)
                assert file.tell() == 4 + len(data)

        def makefile(a):
            with a.makefile("wb") as file:
                for i in range(0, len(data), 100_000):
                    file.write(data[i : i + 100_000])

        for way in (lambda a: a.sendall(data), send, sendmsg, sendfile, makefile):
            for a, b in stream_pairs():
                task = parks(way, a)
                got = bytearray()
                while len(got) < len(data):
                    part = b.recv(1 << 20)
                    assert part
                    got += part
                    if len(got) < 3 << 20:
                        settle()  # it fills up again
                task.result()
                assert got == data, (a.family, way)
                b.setblocking(False)
                assert isinstance(outcome(b.recv, 1), BlockingIOError)
        """)


def test_sendfile_of_other_files() -> None:
    """What has no descriptor is sent too, from where it is and as much as asked for."""
    run_patched("""
        import io
        for a, b in stream_pairs():
            file = io.BytesIO(b"0123456789" * 100_000)
            file.seek(5)
            assert a.sendfile(file, count=10) == 10
            assert b.recv(100) == b"5678901234"
            file = io.BytesIO(b"0123456789" * 1_000_000)
            task = parks(a.sendfile, file, 1)
            got = bytearray()
            while len(got) < 9_999_999:
                got += b.recv(1 << 20)
            assert task.result() == 9_999_999 and got == file.getvalue()[1:]
            with open(__file__) as text:
                assert isinstance(outcome(a.sendfile, text), ValueError)
        """)


def test_accept_and_connect() -> None:
    """accept() parks; what it gives is an ordinary socket with the peer's address."""
    run_patched("""
        for listener in listeners():
            task = parks(listener.accept)
            with socket.socket(listener.family) as a:
                a.connect(listener.getsockname())
                b, address = task.result()
                assert type(b) is socket.socket
                assert b.family == listener.family and b.type == socket.SOCK_STREAM
                assert b.gettimeout() is None and b.getblocking()
                assert not b.get_inheritable()
                assert address == a.getsockname()
                assert b.getpeername() == a.getsockname()
                assert a.connect_ex(listener.getsockname()) == errno.EISCONN
                b.close()
        """)


def test_connect_to_a_full_backlog() -> None:
    """connect() waits for room among the waiting, or until its time is up."""
    run_patched("""
        with temporary() as directory:
            for family, address in (
                (socket.AF_UNIX, directory + "/s"),
                (socket.AF_INET, ("127.0.0.1", 0)),
            ):
                with socket.socket(family) as listener:
                    listener.bind(address)
                    listener.listen(0)
                    address = listener.getsockname()
                    first = []
                    while True:  # fill it
                        a = socket.socket(family)
                        a.settimeout(0.02)
                        error = outcome(a.connect, address)
                        if error is not None:
                            break
                        first.append(a)
                    # The kernel does not tell when a UNIX socket has room again.
                    full = TimeoutError if family == socket.AF_INET else BlockingIOError
                    assert type(error) in (full, TimeoutError), (family, error)
                    a.close()
                    with socket.socket(family) as a:
                        a.settimeout(0.02)
                        assert a.connect_ex(address) == errno.EAGAIN
                    a = socket.socket(family)
                    task = parks(a.connect, address)
                    for _ in range(len(first) + 1):
                        listener.accept()[0].close()
                    task.result()
                    a.close()
                    for a in first:
                        a.close()
        """)


def test_connect_errors() -> None:
    """connect() and connect_ex() tell of what went wrong as ever."""
    run_patched("""
        with temporary() as directory, socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            for family, address, error in (
                (socket.AF_INET, unused.getsockname(), ConnectionRefusedError),
                (socket.AF_UNIX, directory + "/none", FileNotFoundError),
            ):
                for timeout in (None, 5):
                    with socket.socket(family) as a:
                        a.settimeout(timeout)
                        failed = outcome(a.connect, address)
                        assert type(failed) is error, failed
                    with socket.socket(family) as a:
                        a.settimeout(timeout)
                        assert errno.errorcode[a.connect_ex(address)] == errno.errorcode[
                            failed.errno
                        ]
            with socket.socket() as a:
                assert isinstance(outcome(a.connect, "not an address"), TypeError)
                assert isinstance(outcome(a.connect, ("127.0.0.1", 1 << 20)), OverflowError)
            address = unused.getsockname()
            error = outcome(socket.create_connection, address, 5)
            assert type(error) is ConnectionRefusedError, error
            # An error on the connection wakes its reader.
            import struct
            for a, b in stream_pairs():
                if a.family == socket.AF_UNIX:
                    continue
                task = parks(a.recv, 1)
                b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                b.close()
                task.error(ConnectionResetError)
        for a, b in stream_pairs():
            task = parks(a.sendall, bytes(10_000_000))
            b.close()
            task.error(ConnectionResetError, BrokenPipeError)
        """)


def test_helpers_of_the_module() -> None:
    """create_server, create_connection, socketpair, send_fds, recv_fds, fromfd."""
    run_patched("""
        with socket.create_server(("127.0.0.1", 0), backlog=5, reuse_port=True) as server:
            task = parks(server.accept)
            address = server.getsockname()
            with socket.create_connection(address, timeout=5) as a:
                assert a.gettimeout() == 5
                b, peer = task.result()
                assert peer == a.getsockname()
                b.close()
            task = parks(server.accept)
            with socket.create_connection(address, source_address=("127.0.0.1", 0)) as a:
                assert a.gettimeout() is None
                task.result()[0].close()
        if socket.has_dualstack_ipv6():
            with socket.create_server(
                ("", 0), family=socket.AF_INET6, dualstack_ipv6=True
            ) as server:
                task = parks(server.accept)
                with socket.create_connection(("127.0.0.1", server.getsockname()[1])):
                    task.result()[0].close()

        a, b = socket.socketpair()
        with a, b:
            assert type(a) is type(b) is socket.socket
            task = parks(socket.recv_fds, b, 10, 1)
            r, w = os.pipe()
            socket.send_fds(a, [b"x"], [r])
            data, [fd], flags, _ = task.result()
            os.write(w, b"through")
            assert (data, os.read(fd, 10)) == (b"x", b"through")
            with socket.fromfd(a.fileno(), a.family, a.type) as c:
                task = parks(c.recv, 10)
                b.send(b"y")
                assert task.result() == b"y"
        a, b = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with a, b:
            task = parks(a.recv, 10)
            b.send(b"packet")
            assert task.result() == b"packet"
        """)


def test_kinds_of_objects() -> None:
    """Classes, methods and attributes stay what they were."""
    run_patched("""
        import inspect, _socket
        assert socket.SocketType is _socket.socket or issubclass(
            socket.socket, socket.SocketType
        )
        a, b = socket.socketpair()
        assert isinstance(a, socket.socket) and isinstance(a, _socket.socket)
        assert socket.timeout is TimeoutError and socket.error is OSError
        assert "fd=%d" % a.fileno() in repr(a)
        class Mine(socket.socket):
            def recv(self, size):
                return super().recv(size).upper()
        c = Mine(fileno=a.detach())
        assert a.fileno() == -1 and "[closed]" in repr(a)
        task = parks(c.recv, 10)
        b.send(b"abc")
        assert task.result() == b"ABC"
        task = parks(socket.socket.recv, c, 10)  # the unbound method
        b.send(b"abc")
        assert task.result() == b"abc"
        recv = c.__class__.__mro__[1].recv
        assert callable(inspect.unwrap(recv)) and recv.__name__ == "recv"
        import weakref, gc
        fd = c.fileno()
        ref = weakref.ref(c)
        c.close()
        del c, task
        gc.collect()
        assert ref() is None
        # One that is forgotten is closed, and its number is good again.
        import warnings
        warnings.simplefilter("ignore")
        for _ in range(5):
            c, d = socket.socketpair()
            task = parks(c.recv, 10)
            d.send(b"abc")
            assert task.result() == b"abc"
            del c, d, task
            gc.collect()
        """)


# --- datagrams --------------------------------------------------------------------------------


def test_datagrams() -> None:
    """Reading datagrams parks; their limits and senders are kept."""
    run_patched("""
        def into(call):
            buffer = bytearray(16)
            size, *rest = call(buffer)
            return (bytes(buffer[:size]), rest[-1])

        ways = {
            "recvfrom": lambda a: a.recvfrom(16),
            "recvfrom_into": lambda a: into(a.recvfrom_into),
            "recvmsg": lambda a: (lambda m: (m[0], m[3]))(a.recvmsg(16)),
            "recvmsg_into": lambda a: into(lambda b: a.recvmsg_into([b])),
        }
        for a, b in dgram_pairs():
            for name, read in ways.items():
                task = parks(read, a)
                b.send(b"one")
                assert task.result() == (b"one", b.getsockname()), (a.family, name)
            sends = [
                lambda: b.send(b"one"),
                lambda: b.sendall(b"one"),
                lambda: b.sendmsg([b"o", b"ne"]),
            ]
            for send in sends:
                task = parks(a.recv, 2)
                send()
                send()
                assert task.result() == b"on"  # the rest of a datagram is lost
                assert a.recv(10) == b"one"
            task = parks(a.recv, 10)
            b.send(b"")
            assert task.result() == b""
        """)


def test_datagrams_to_anybody() -> None:
    """sendto() and sendmsg() with an address, their flags, and their errors."""
    run_patched("""
        with temporary() as directory:
            for family, address in (
                (socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, directory + "/s")
            ):
                with (
                    socket.socket(family, socket.SOCK_DGRAM) as a,
                    socket.socket(family, socket.SOCK_DGRAM) as b,
                ):
                    a.bind(address)
                    to = a.getsockname()
                    for send in (
                        lambda: b.sendto(b"abc", to),
                        lambda: b.sendto(b"abc", 0, to),
                        lambda: b.sendmsg([b"a", b"bc"], [], 0, to),
                    ):
                        task = parks(a.recv, 10)
                        assert send() == 3
                        assert task.result() == b"abc"
                    assert isinstance(outcome(b.send, b"x"), OSError)  # not connected
                    assert isinstance(outcome(b.sendto, b"x"), TypeError)
        """)


def test_datagrams_to_a_slow_reader() -> None:
    """Where the kernel holds datagrams back their sender parks."""
    run_patched("""
        with temporary() as directory:
            with (
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as a,
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as b,
            ):
                a.bind(directory + "/a")
                b.connect(directory + "/a")
                for send in (
                    lambda: b.send(b"xyz"),
                    lambda: b.sendall(b"xyz"),
                    lambda: b.sendmsg([b"xyz"]),
                    lambda: b.sendto(b"xyz", directory + "/a"),
                ):
                    def fill():
                        for _ in range(2000):
                            send()
                    task = parks(fill)
                    for _ in range(2000):
                        assert a.recv(10) == b"xyz"
                    task.result()
        """)


# --- timeouts and non-blocking ----------------------------------------------------------------


def test_timeouts() -> None:
    """Every call that waits gives up in time, and the socket is as good as before."""
    run_patched("""
        big = bytes(10_000_000)
        for a, b in stream_pairs():
            a.settimeout(0.01)
            buffer = bytearray(10)
            for call in (
                lambda: a.recv(1), lambda: a.recv_into(buffer), lambda: a.recvfrom(1),
                lambda: a.recvfrom_into(buffer), lambda: a.recvmsg(1),
                lambda: a.recvmsg_into([buffer]), lambda: a.makefile("rb").read(1),
                lambda: a.makefile("rb").readline(),
            ):
                error = outcome(call)
                assert type(error) is TimeoutError and str(error) == "timed out", error
            assert type(outcome(lambda: a.sendall(big))) is TimeoutError
            for call in (
                lambda: a.send(big), lambda: a.sendmsg([big]),
            ):
                while not isinstance(error := outcome(call), Exception):
                    pass
                assert type(error) is TimeoutError and str(error) == "timed out", error
            assert a.gettimeout() == 0.01 and a.getblocking()
            b.sendall(b"there")
            assert a.recv(10) == b"there"
            a.settimeout(None)
            task = parks(a.recv, 10)
            b.sendall(b"there")
            assert task.result() == b"there"
        for listener in listeners():
            listener.settimeout(0.01)
            error = outcome(listener.accept)
            assert type(error) is TimeoutError and str(error) == "timed out", error
        for a, b in dgram_pairs():
            a.settimeout(0.01)
            for call in (lambda: a.recv(1), lambda: a.recvfrom(1)):
                assert type(outcome(call)) is TimeoutError
            b.send(b"there")
            assert a.recv(10) == b"there"
            assert isinstance(outcome(a.settimeout, -1), ValueError)
            assert isinstance(outcome(a.settimeout, float("nan")), ValueError)
            assert isinstance(outcome(a.settimeout, "1"), TypeError)
        a, b = socket.socketpair()
        a.settimeout(0.01)
        file = a.makefile("rb", buffering=0)
        assert isinstance(outcome(file.read, 1), TimeoutError)
        assert str(outcome(file.read, 1)) == "cannot read from timed out object"
        a.settimeout(1000)  # one that does not run out
        task = parks(a.recv, 10)
        b.send(b"x")
        assert task.result() == b"x"
        """)


def test_default_timeout() -> None:
    """setdefaulttimeout() goes for new sockets, accepted ones among them."""
    run_patched("""
        socket.setdefaulttimeout(0.01)
        assert socket.getdefaulttimeout() == 0.01
        with socket.create_server(("127.0.0.1", 0)) as server:
            assert server.gettimeout() == 0.01
            assert type(outcome(server.accept)) is TimeoutError
            server.settimeout(None)
            task = parks(server.accept)
            with socket.create_connection(server.getsockname()) as a:
                assert a.gettimeout() == 0.01
                b, _ = task.result()
                with b:
                    assert b.gettimeout() == 0.01
                    assert type(outcome(b.recv, 1)) is TimeoutError
        socket.setdefaulttimeout(None)
        a, b = socket.socketpair()
        assert a.gettimeout() is None
        """)


def test_non_blocking() -> None:
    """A socket that was told not to block never waits, in no call."""
    run_patched("""
        big = bytes(10_000_000)
        for unblock in (lambda s: s.setblocking(False), lambda s: s.settimeout(0)):
            for a, b in stream_pairs():
                unblock(a)
                assert a.gettimeout() == 0 and not a.getblocking()
                assert not os.get_blocking(a.fileno())
                buffer = bytearray(10)
                for call in (
                    lambda: a.recv(1), lambda: a.recv_into(buffer), lambda: a.recvfrom(1),
                    lambda: a.recvfrom_into(buffer), lambda: a.recvmsg(1),
                    lambda: a.recvmsg_into([buffer]), lambda: a.sendall(big),
                ):
                    error = outcome(call)
                    assert type(error) is BlockingIOError, error
                    assert error.errno == errno.EAGAIN
                assert a.makefile("rb", buffering=0).read(1) is None
                for call in (lambda: a.send(big), lambda: a.sendmsg([big])):
                    while not isinstance(error := outcome(call), Exception):
                        pass
                    assert type(error) is BlockingIOError, error
                b.sendall(b"there")
                assert a.recv(10) == b"there"
                a.setblocking(True)
                assert a.gettimeout() is None and a.getblocking()
                task = parks(a.recv, 10)
                b.sendall(b"there")
                assert task.result() == b"there"
            for listener in listeners():
                unblock(listener)
                assert type(outcome(listener.accept)) is BlockingIOError
                with socket.socket(listener.family) as a:
                    unblock(a)
                    code = a.connect_ex(listener.getsockname())
                    assert code in (0, errno.EINPROGRESS), code
                    listener.setblocking(True)
                    b, _ = listener.accept()
                    with b:
                        assert b.gettimeout() is None
                        a.setblocking(True)
                        b.send(b"x")
                        assert a.recv(1) == b"x"
        with socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as a:
            assert a.gettimeout() == 0 and a.type == socket.SOCK_STREAM
            assert a.connect_ex(("127.0.0.1", 9)) in (errno.EINPROGRESS, errno.ECONNREFUSED)
        a, b = socket.socketpair()
        assert type(outcome(a.recv, 1, socket.MSG_DONTWAIT)) is BlockingIOError
        """)


def test_timeout_change_while_waiting() -> None:
    """Another goroutine's settimeout() or setblocking() does not end a wait."""
    run_patched("""
        for a, b in stream_pairs():
            task = parks(a.recv, 10)
            a.settimeout(0.01)
            assert type(outcome(a.recv, 10)) is TimeoutError
            assert not task.done
            b.send(b"x")
            assert task.result() == b"x"
        """)


# --- several at one socket --------------------------------------------------------------------


def test_several_readers() -> None:
    """Several goroutines read from one socket; each byte goes to one."""
    run_patched("""
        for a, b in stream_pairs():
            tasks = [parks(a.recv, 1) for _ in range(8)]
            b.send(b"01")
            until(lambda: sum(task.done for task in tasks) == 2)
            settle()
            assert sum(task.done for task in tasks) == 2
            b.sendall(b"234567")
            assert sorted(task.result() for task in tasks) == [b"%d" % i for i in range(8)]
            tasks = [parks(a.recv, 1) for _ in range(3)]
            b.shutdown(socket.SHUT_WR)
            assert [task.result() for task in tasks] == [b""] * 3
        for a, b in dgram_pairs():
            tasks = [parks(a.recv, 9) for _ in range(8)]
            for i in range(8):
                b.send(b"number %d" % i)
            assert sorted(t.result() for t in tasks) == [b"number %d" % i for i in range(8)]
        """)


def test_several_acceptors() -> None:
    """Several goroutines accept from one listener."""
    run_patched("""
        for listener in listeners():
            tasks = [parks(listener.accept) for _ in range(5)]
            clients = [socket.socket(listener.family) for _ in range(5)]
            for client in clients:
                client.connect(listener.getsockname())
            served = [task.result()[0] for task in tasks]
            for s in served:
                s.send(b"hello")
            assert [client.recv(5) for client in clients] == [b"hello"] * 5
            for s in served + clients:
                s.close()
        """)


def test_both_directions() -> None:
    """A reader and writers of one socket wait at the same time and do not disturb."""
    run_patched("""
        for a, b in stream_pairs():
            reader = parks(a.recv, 10)
            writers = [parks(a.sendall, bytes([65 + i]) * 10_000_000) for i in range(3)]
            b.send(b"hello")
            assert reader.result() == b"hello"
            settle()
            assert not any(writer.done for writer in writers)
            reader = parks(a.recv, 10)
            got = bytearray()
            while len(got) < 30_000_000:
                got += b.recv(1 << 20)
            for writer in writers:
                writer.result()
            assert [got.count(bytes([65 + i])) for i in range(3)] == [10_000_000] * 3
            assert not reader.done
            b.send(b"again")
            assert reader.result() == b"again"
        """)


def test_timeouts_of_one_among_several() -> None:
    """One waiter whose time is up leaves the others where they are."""
    run_patched("""
        for a, b in stream_pairs():
            patient = [parks(a.recv, 1) for _ in range(3)]
            a.settimeout(0.01)
            for task in [start(a.recv, 1) for _ in range(3)]:
                task.error(TimeoutError)
            settle()
            assert not any(task.done for task in patient)
            b.send(b"abc")
            assert sorted(task.result() for task in patient) == [b"a", b"b", b"c"]
        """)


# --- close ------------------------------------------------------------------------------------


@only_patched
def test_close_wakes_waiters() -> None:
    """close() by another goroutine ends every wait on the socket with OSError."""
    run_patched("""
        for a, b in stream_pairs():
            waits = [
                parks(a.recv, 1), parks(a.recv_into, bytearray(1)), parks(a.recvmsg, 1),
                parks(a.recvfrom, 1), parks(a.sendall, bytes(10_000_000)),
                parks(a.sendmsg, [bytes(10_000_000)]),
            ]
            a.close()
            for task in waits:
                error = task.error(OSError)
                assert not isinstance(error, TimeoutError), error
            assert a.fileno() == -1
            assert outcome(a.recv, 1).errno == errno.EBADF
        for a, b in stream_pairs():
            a.settimeout(1000)
            waits = [parks(a.recv, 1), parks(a.sendall, bytes(10_000_000))]
            a.close()
            for task in waits:
                assert not isinstance(task.error(OSError), TimeoutError)
        for listener in listeners():
            waits = [parks(listener.accept) for _ in range(3)]
            listener.close()
            for task in waits:
                task.error(OSError)
        for a, b in dgram_pairs():
            waits = [parks(a.recvfrom, 10), parks(a.recv, 10)]
            a.close()
            for task in waits:
                task.error(OSError)
        with temporary() as directory, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(directory + "/s")
            listener.listen(0)
            clients = []
            while True:
                a = socket.socket(socket.AF_UNIX)
                a.setblocking(False)
                if a.connect_ex(directory + "/s"):
                    break
                clients.append(a)
            a.setblocking(True)
            task = parks(a.connect, directory + "/s")
            a.close()
            task.error(OSError)
        """)


@only_patched
def test_number_used_again_at_once() -> None:
    """A new socket with a closed one's number has nothing to do with that one's waiters."""
    run_patched("""
        for a, b in stream_pairs():
            fd = a.fileno()
            old = [parks(a.recv, 10) for _ in range(3)]
            old.append(parks(a.sendall, bytes(10_000_000)))
            a.close()
            c, d = socket.socketpair()
            assert fd in (c.fileno(), d.fileno())
            if d.fileno() == fd:
                c, d = d, c
            d.send(b"not for you")
            for task in old:
                task.error(OSError)
            assert c.recv(100) == b"not for you"
            task = parks(c.recv, 10)
            d.send(b"for you")
            assert task.result() == b"for you"
            filling = parks(c.sendall, bytes(5_000_000))
            left = 5_000_000
            while left:
                left -= len(d.recv(1 << 20))
            filling.result()
            c.close(), d.close()
        # Without anybody waiting in between, many times.
        for _ in range(100):
            a, b = socket.socketpair()
            task = start(a.recv, 10)
            b.send(b"x")
            assert task.result() == b"x"
            a.close()
            b.close()
        """)


@only_patched
def test_number_taken_by_dup2_and_os_close() -> None:
    """Numbers that change hands behind the socket's back do not hang or mislead."""
    run_patched("""
        a, b = socket.socketpair()
        assert b.send(b"x") == 1 and a.recv(1) == b"x"
        os.close(a.detach())
        c, d = socket.socketpair()
        task = parks(c.recv, 10)
        d.send(b"y")
        assert task.result() == b"y"
        # Another socket is put in the place of this one.
        e, f = socket.socketpair()
        task = parks(c.recv, 10)
        d.send(b"z")
        assert task.result() == b"z"
        os.dup2(e.fileno(), c.fileno())
        task = parks(c.recv, 10)
        f.send(b"to e")
        assert task.result() == b"to e"
        """)


def test_shutdown_wakes() -> None:
    """shutdown() by another goroutine ends reads with nothing and accept with an error."""
    run_patched("""
        for a, b in stream_pairs():
            tasks = [parks(a.recv, 1) for _ in range(3)]
            a.shutdown(socket.SHUT_RD)
            assert [task.result() for task in tasks] == [b""] * 3
            assert a.send(b"still") == 5 and b.recv(10) == b"still"
            task = parks(a.sendall, bytes(10_000_000))
            a.shutdown(socket.SHUT_WR)
            task.error(BrokenPipeError)
        for listener in listeners():
            task = parks(listener.accept)
            listener.shutdown(socket.SHUT_RDWR)
            task.error(OSError)
        """)


def test_dup_and_detach() -> None:
    """A duplicate is a socket of its own: closing one leaves the other's waiters alone."""
    run_patched("""
        for a, b in stream_pairs():
            c = a.dup()
            assert c.fileno() != a.fileno() and c.gettimeout() is None
            task, other = parks(c.recv, 3), parks(a.recv, 3)
            b.send(b"onetwo")
            assert {task.result(), other.result()} == {b"one", b"two"}
            task = parks(c.recv, 10)
            a.close()
            settle()
            assert not task.done
            b.send(b"x")
            assert task.result() == b"x"
            with socket.socket(fileno=c.detach()) as d:
                assert c.fileno() == -1
                assert (d.family, d.type) == (b.family, b.type)
                task = parks(d.recv, 10)
                b.send(b"y")
                assert task.result() == b"y"
        """)


# --- files over sockets -----------------------------------------------------------------------


def test_makefile() -> None:
    """A file over a socket parks line by line, and keeps the socket open."""
    run_patched("""
        for a, b in stream_pairs():
            lines = a.makefile("r", encoding="utf-8", newline="\\n")
            out = b.makefile("w", encoding="utf-8")
            task = parks(lines.readline)
            out.write("first ")
            out.flush()
            settle()
            assert not task.done
            out.write("line\\nsecond\\nthird")
            out.flush()
            assert task.result() == "first line\\n"
            task = parks(lambda: list(lines))
            a.close()  # the file holds the connection
            out.close()
            b.shutdown(socket.SHUT_WR)
            assert task.result() == ["second\\n", "third"]
            lines.close()
        for a, b in stream_pairs():
            with a.makefile("rwb") as x, b.makefile("rwb") as y:
                task = parks(y.read, 6)
                x.write(b"abc")
                x.flush()
                x.write(b"def")
                x.flush()
                assert task.result() == b"abcdef"
                task = parks(x.readinto, buffer := bytearray(4))
                y.write(b"four")
                y.flush()
                assert task.result() == 4 and buffer == b"four"
        """)


# --- servers ----------------------------------------------------------------------------------


def test_echo_server_with_many_clients() -> None:
    """Many connections, a goroutine at both ends of each."""
    run_patched("""
        def serve(b):
            with b:
                while data := b.recv(1000):
                    b.sendall(data)

        def accept(listener, n):
            for _ in range(n):
                start(serve, listener.accept()[0])

        def client(listener, i):
            with socket.socket(listener.family) as a:
                a.connect(listener.getsockname())
                for j in range(5):
                    text = b"%d-%d" % (i, j)
                    a.sendall(text)
                    assert a.recv(len(text), socket.MSG_WAITALL) == text
                a.shutdown(socket.SHUT_WR)
                assert a.recv(1) == b""
            return i

        for listener in listeners(100):
            acceptor = start(accept, listener, 60)
            tasks = [start(client, listener, i) for i in range(60)]
            assert [task.result() for task in tasks] == list(range(60))
            acceptor.result()
        """)


def test_standard_servers_and_clients() -> None:
    """socketserver's threads, http.server, http.client and urllib."""
    run_patched("""
        import http.client, http.server, socketserver, urllib.request

        class Echo(socketserver.StreamRequestHandler):
            def handle(self):
                for line in self.rfile:
                    self.wfile.write(line.upper())

        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
            runner = start(server.serve_forever, 0.01)
            clients = [socket.create_connection(server.server_address) for _ in range(3)]
            files = [client.makefile("rwb") for client in clients]
            for file in files:  # all are open at once
                file.write(b"hello\\n")
                file.flush()
                assert file.readline() == b"HELLO\\n"
            for file, client in zip(files, clients):
                file.close()
                client.close()
            server.shutdown()
            runner.result()

        slow = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def do_GET(self):
                if self.path == "/slow":
                    slow.wait()
                body = self.path.encode() * 1000
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            def log_message(self, *args):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            base = "http://127.0.0.1:%d" % server.server_port
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            def get(path):
                with opener.open(base + path, timeout=10) as response:
                    return response.read()
            waiting = start(get, "/slow")
            tasks = [start(get, "/%d" % i) for i in range(10)]
            assert [t.result() for t in tasks] == [b"/%d" % i * 1000 for i in range(10)]
            assert not waiting.done
            slow.set()
            assert waiting.result() == b"/slow" * 1000
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
            for path in ("/a", "/b"):
                connection.request("GET", path)
                assert connection.getresponse().read() == path.encode() * 1000
            connection.close()
            server.shutdown()
            thread.join()
        """)


def test_too_many_open_files() -> None:
    """accept() without a number left raises EMFILE; when there is one it works again."""
    # One thread: another one would take the numbers of its netpoll when it starts.
    run_patched(
        """
        import resource
        with socket.create_server(("127.0.0.1", 0)) as server:
            clients = [socket.create_connection(server.getsockname()) for _ in range(2)]
            server.accept()[0].close()  # whatever is opened at the first call is open now
            resource.setrlimit(resource.RLIMIT_NOFILE, (60, resource.getrlimit(
                resource.RLIMIT_NOFILE)[1]))
            taken = []
            while not isinstance(fd := outcome(os.dup, 0), OSError):
                taken.append(fd)
            assert fd.errno == errno.EMFILE
            error = outcome(server.accept)
            assert type(error) is OSError and error.errno == errno.EMFILE, error
            assert outcome(socket.socket).errno == errno.EMFILE
            os.close(taken.pop())
            b, address = server.accept()
            assert address == clients[1].getsockname()
            with b:
                os.close(taken.pop())
                task = parks(b.recv, 1)
                clients[1].send(b"x")
                assert task.result() == b"x"
            task = parks(server.accept)  # and one that waits already
            os.close(taken.pop())
            clients.append(socket.socket())
            while not isinstance(fd := outcome(os.dup, 0), OSError):
                taken.append(fd)
            clients[-1].connect(server.getsockname())
            task.join()
            if PATCHED:  # an unpatched accept() takes its number when it starts
                assert task.error(OSError).errno == errno.EMFILE
                os.close(taken.pop())
                server.accept()[0].close()
        """,
        env={"GOMAXPROCS": "1"},
    )


def test_sockets_given_to_programs() -> None:
    """A program that inherits a socket finds it blocking, as it may well expect."""
    run_patched("""
        import subprocess
        a, b = socket.socketpair()
        with a, b:
            task = parks(b.recv, 1)  # it has been waited for
            a.send(b"x")
            task.result()
            process = subprocess.Popen(["cat"], stdin=b, stdout=b)
            task = parks(a.recv, 10)
            a.send(b"hello")
            assert task.result() == b"hello"
            a.shutdown(socket.SHUT_WR)
            assert process.wait() == 0
        """)
