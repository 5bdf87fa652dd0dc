"""patch(): select, poll, epoll and selectors wait without holding up others."""

from __future__ import annotations

from .tools import only_patched, run_patched


def test_select() -> None:
    """select() parks until something is ready, and tells what as ever."""
    run_patched("""
        import select
        a, b = socket.socketpair()
        r, w = os.pipe()
        task = parks(select.select, [a, r], [], [])
        b.send(b"x")
        assert task.result() == ([a], [], [])
        assert select.select([a, r], [], []) == ([a], [], [])
        os.write(w, b"x")
        assert select.select([a, r], [b, w], [a]) == ([a, r], [b, w], [])
        a.recv(1), os.read(r, 1)
        assert select.select([a, r], [], [], 0) == ([], [], [])
        assert select.select([a, r], [], [], 0.01) == ([], [], [])
        assert select.select([], [], [], 0.01) == ([], [], [])
        assert select.select([], [], [], 0) == ([], [], [])
        assert select.select([], [b], [], None) == ([], [b], [])

        b.setblocking(False)
        while not isinstance(outcome(b.send, bytes(100_000)), BlockingIOError):
            pass
        task = parks(select.select, (), (b,), (), 1000)
        while not task.done:
            a.recv(100_000)
            settle()
        assert task.result() == ([], [b], [])

        with open(__file__) as file:  # always ready
            assert select.select([file], [], [], 1000) == ([file], [], [])
            assert select.select([file, r], [], []) == ([file], [], [])
        task = parks(select.select, [r], [], [])
        os.close(w)
        assert task.result() == ([r], [], [])  # the end is to be read
        """)


def test_select_errors() -> None:
    """select() refuses what it has refused."""
    run_patched("""
        import select
        r, w = os.pipe()
        for args, error in (
            (([-1], [], []), ValueError),
            ((["x"], [], []), TypeError),
            (([object()], [], []), TypeError),
            ((1, [], []), TypeError),
            (([], [], [], -1), ValueError),
            (([], [], [], "x"), TypeError),
            (([1 << 20], [], []), ValueError),
        ):
            got = outcome(select.select, *args)
            assert type(got) is error, (args, got)
        os.close(w)
        assert outcome(select.select, [w], [], [], 1000).errno == errno.EBADF
        assert outcome(select.select, [r, w], [], []).errno == errno.EBADF
        """)


def test_out_of_band() -> None:
    """Exceptional conditions are waited for too."""
    run_patched("""
        import select
        for a, b in stream_pairs():
            if a.family == socket.AF_UNIX:
                continue
            task = parks(select.select, [], [], [a])
            b.send(b"!", socket.MSG_OOB)
            assert task.result() == ([], [], [a])
            assert a.recv(1, socket.MSG_OOB) == b"!"
            break
        """)


def test_poll() -> None:
    """poll objects park; what is registered and reported stays as it was."""
    run_patched("""
        import select
        a, b = socket.socketpair()
        r, w = os.pipe()
        p = select.poll()
        p.register(a, select.POLLIN)
        p.register(r)
        for timeout in (None, -1, 1_000_000, 1e6):
            task = parks(p.poll, timeout)
            b.send(b"x")
            assert task.result() == [(a.fileno(), select.POLLIN)]
            a.recv(1)
        task = parks(p.poll)
        b.send(b"x")
        task.result()
        a.recv(1)
        assert p.poll(0) == [] == p.poll(5)
        p.modify(a, select.POLLIN | select.POLLOUT)
        assert p.poll() == [(a.fileno(), select.POLLOUT)]
        p.unregister(a)
        assert isinstance(outcome(p.unregister, a), KeyError)
        assert outcome(p.modify, a, select.POLLIN).errno == errno.ENOENT
        task = parks(p.poll)
        os.close(w)
        assert task.result() == [(r, select.POLLHUP)]
        os.close(r)
        assert p.poll() == [(r, select.POLLNVAL)]
        p.unregister(r)
        assert isinstance(outcome(p.register, -1), ValueError)
        assert isinstance(outcome(p.poll, "x"), TypeError)
        with open(__file__) as file:
            p.register(file, select.POLLIN)
            assert p.poll() == [(file.fileno(), select.POLLIN)]
        """)


def test_epoll() -> None:
    """epoll objects park, with every way of waking."""
    run_patched("""
        import select
        a, b = socket.socketpair()
        r, w = os.pipe()
        with select.epoll() as e:
            assert isinstance(e, select.epoll) and not e.closed and e.fileno() > 2
            e.register(a, select.EPOLLIN)
            e.register(r, select.EPOLLIN | select.EPOLLET)
            for timeout in (None, -1, 1000):
                task = parks(e.poll, timeout)
                b.send(b"x")
                assert task.result() == [(a.fileno(), select.EPOLLIN)]
                a.recv(1)
            task = parks(e.poll)
            os.write(w, b"x")
            assert task.result() == [(r, select.EPOLLIN)]
            assert e.poll(0) == []  # by edge
            assert e.poll(0.01) == []
            b.send(b"x")
            assert e.poll(maxevents=1) == [(a.fileno(), select.EPOLLIN)]
            assert e.poll() == [(a.fileno(), select.EPOLLIN)]  # by level
            e.modify(a, select.EPOLLIN | select.EPOLLONESHOT)
            assert e.poll() == [(a.fileno(), select.EPOLLIN)]
            assert e.poll(0) == []
            e.modify(a, 0)
            assert e.poll(0.01) == []
            e.unregister(a)
            assert isinstance(outcome(e.register, r), FileExistsError)
            assert isinstance(outcome(e.modify, a, 1), FileNotFoundError)
            with open(__file__) as file:
                assert isinstance(outcome(e.register, file), PermissionError)
            task = parks(e.poll)  # registered while another waits
            e.register(b, select.EPOLLOUT)
            assert task.result() == [(b.fileno(), select.EPOLLOUT)]
            e.unregister(b)
            tasks = [parks(e.poll) for _ in range(3)]  # several at one
            e.register(b, select.EPOLLOUT)
            for task in tasks:
                assert task.result() == [(b.fileno(), select.EPOLLOUT)]
            e.unregister(b)
            other = select.epoll.fromfd(e.fileno())
            task = parks(other.poll)
            e.register(b, select.EPOLLOUT)
            assert task.result() == [(b.fileno(), select.EPOLLOUT)]
            assert isinstance(outcome(e.poll, maxevents=-2), ValueError)
        assert e.closed
        assert isinstance(outcome(e.poll), ValueError)
        assert isinstance(outcome(e.register, a), ValueError)
        """)


def test_selectors() -> None:
    """Each of the selectors parks."""
    run_patched("""
        import selectors
        kinds = [selectors.DefaultSelector, selectors.SelectSelector]
        for name in ("PollSelector", "EpollSelector"):
            if hasattr(selectors, name):
                kinds.append(getattr(selectors, name))
        for kind in kinds:
            a, b = socket.socketpair()
            with kind() as s, a, b:
                key = s.register(a, selectors.EVENT_READ, "data")
                for timeout in (None, 1000):
                    task = parks(s.select, timeout)
                    b.send(b"x")
                    assert task.result() == [(key, selectors.EVENT_READ)], kind
                    assert s.select() == [(key, selectors.EVENT_READ)]
                    a.recv(1)
                assert s.select(0) == s.select(-1) == s.select(0.01) == []
                key = s.modify(a, selectors.EVENT_READ | selectors.EVENT_WRITE)
                assert s.select() == [(key, selectors.EVENT_WRITE)]
                b.close()
                assert s.select() == [(key, selectors.EVENT_READ | selectors.EVENT_WRITE)]
                s.unregister(a)
                assert s.select(0.01) == []
        """)


def test_with_other_waiters() -> None:
    """A selector, a reader and a writer wait on one socket; each gets what it waits for."""
    run_patched("""
        import select
        for a, b in stream_pairs():
            tasks = [parks(select.select, [a], [], []) for _ in range(3)]
            p = select.poll()
            p.register(a, select.POLLIN)
            tasks.append(parks(p.poll))
            writer = parks(a.sendall, bytes(10_000_000))
            b.send(b"x")
            assert [task.result() for task in tasks[:3]] == [([a], [], [])] * 3
            assert tasks[3].result() == [(a.fileno(), select.POLLIN)]
            assert a.recv(1) == b"x"
            assert not writer.done
            left = 10_000_000
            while left:
                left -= len(b.recv(1 << 20))
            writer.result()
        """)


@only_patched
def test_select_of_a_number_closed_and_used_again() -> None:
    """Numbers that were closed and came back are waited for anew."""
    # One thread: another one would take the numbers of its netpoll when it starts.
    run_patched(
        """
        import select
        for _ in range(20):
            r, w = os.pipe()
            task = parks(select.select, [r], [], [])
            os.write(w, b"x")
            assert task.result() == ([r], [], [])
            os.close(r), os.close(w)
            a, b = socket.socketpair()
            assert {a.fileno(), b.fileno()} == {r, w}
            task = parks(a.recv, 1)
            b.send(b"x")
            assert task.result() == b"x"
            task = parks(select.select, [a], [], [])
            b.send(b"x")
            assert task.result() == ([a], [], [])
            a.close(), b.close()
        """,
        env={"GOMAXPROCS": "1"},
    )
