"""netpoll.c: goroutines that wait for descriptors."""

from __future__ import annotations

import errno
import os
import socket
import tempfile

import pytest

from goroutines import WaitGroup, _runtime, go, sleep

from ..conftest import parked, run_program

READ, WRITE = 1, 2
READY, TIMEOUT, CLOSED, REFUSED = range(4)


@pytest.fixture
def pair():
    """Two connected sockets."""
    a, b = socket.socketpair()
    with a, b:
        yield a, b


def test_results(pair) -> None:
    """Ready, not in time, closed, refused; an error for what is no descriptor."""
    a, b = pair
    assert _runtime._wait_fds([(a.fileno(), WRITE)]) == READY
    assert _runtime._wait_fds([(a.fileno(), READ)], 0.001) == TIMEOUT
    with tempfile.TemporaryFile() as file:
        assert _runtime._wait_fds([(file.fileno(), READ)]) == REFUSED
    with pytest.raises(OSError) as caught:
        _runtime._wait_fds([(10**6, READ)])
    assert caught.value.errno == errno.EBADF
    got: list[int] = []
    g = go(lambda: got.append(_runtime._wait_fds([(a.fileno(), READ)])))
    parked(g)
    _runtime._fd_closed(a.fileno())
    g.join()
    assert got == [CLOSED]


def test_all_waiters_of_a_direction_are_woken(pair) -> None:
    """Each looks for itself who gets what there is."""
    a, b = pair
    wg, got = WaitGroup(), []
    for mode in (READ, READ, READ, READ | WRITE):
        wg.go(lambda mode=mode: got.append(_runtime._wait_fds([(a.fileno(), mode)])))
    b.send(b"x")
    wg.wait()
    assert got == [READY] * 4


def test_any_of_several(pair) -> None:
    """One of them is enough; the others are forgotten."""
    a, b = pair
    c, d = socket.socketpair()
    with c, d:
        for sender in (b, d):
            g = go(_runtime._wait_fds, [(a.fileno(), READ), (c.fileno(), READ)])
            parked(g)
            sender.send(b"x")
            g.join()
            (a if sender is b else c).recv(1)


def test_a_number_that_is_used_again() -> None:
    """What was told of a closed descriptor is not taken for the next one's."""
    for _ in range(20):
        r, w = os.pipe()
        os.write(w, b"x")
        assert _runtime._wait_fds([(r, READ)]) == READY
        os.close(r)
        os.close(w)
        r, w = os.pipe()
        assert _runtime._wait_fds([(r, READ)], 0) == TIMEOUT
        g = go(_runtime._wait_fds, [(r, READ)])
        parked(g)
        os.write(w, b"y")
        g.join()
        os.close(r)
        os.close(w)


def test_without_descriptors_left() -> None:
    """A wait raises, and a thread that has nothing to do sleeps all the same."""
    done = run_program("""
    import errno, os, resource
    from goroutines import Chan, _runtime, blocking, go, sleep
    r, w = os.pipe()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (w + 1, hard))
    try:
        _runtime._wait_fds([(r, 1)])
    except OSError as e:
        assert e.errno == errno.EMFILE
    sleep(0.001)
    ch = Chan()
    go(lambda: (sleep(0.001), ch.send(1)))
    assert ch.recv() == 1 and blocking(len, "ab") == 2
    """)
    assert done.returncode == 0, done.stderr


def test_always_ready_is_no_privilege() -> None:
    """A receiver that always finds data lets others run now and then."""
    done = run_program("""
    from goroutines.patch import patch
    patch(signal=False)  # no preemption
    import socket, threading
    a, b = socket.socketpair()
    stop = ran = False
    def flood():
        global stop
        while not stop:
            b.send(bytes(10))
            a.recv(10)
    def other():
        global stop, ran
        stop = ran = True
    flooding = threading.Thread(target=flood)
    flooding.start()
    threading.Thread(target=other).start()
    flooding.join()
    assert ran
    """)
    assert done.returncode == 0, done.stderr


def test_io_holds_a_deadlock_back(pair) -> None:
    """Who waits for a descriptor may be woken from outside."""
    a, b = pair
    g = go(_runtime._wait_fds, [(a.fileno(), READ)], 0.05)
    g.join()
    sleep(0)
