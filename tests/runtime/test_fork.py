"""fork: in the child only the caller lives, and everything works there anew."""

from __future__ import annotations

import textwrap

import pytest

from ..conftest import run_program

PRELUDE = """\
import os, sys, threading, traceback
from goroutines import (
    Chan, Deadlock, WaitGroup, blocking, current, go, gosched, num_goroutine, recv, run, runtime,
    select, sleep,
)

def in_child(check, *args):
    # Forks, calls `check` in the child, and returns the child's exit status.
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            check(*args)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def everything_works():
    ch = Chan()
    g = go(ch.send, 41)
    assert ch.recv() == 41
    g.join()
    sleep(0.001)
    try:
        ch.recv(timeout=0.001)
    except TimeoutError:
        pass
    else:
        raise AssertionError("no timeout")
    assert select(recv(ch), timeout=0.001) == (-1, None)
    assert blocking(lambda: 7) == 7
    wg = WaitGroup()
    out = []
    for i in range(100):
        wg.go(lambda i=i: (sleep(0.0001), out.append(i)))
    wg.wait()
    assert sorted(out) == list(range(100)), out
    received = []
    thread = threading.Thread(target=lambda: received.extend(ch))
    thread.start()
    for i in range(5):
        ch.send(i)
    ch.close()
    thread.join()
    assert received == [0, 1, 2, 3, 4]

def wait_for(condition):
    for _ in range(1_000_000):
        if condition():
            return
        gosched()
    raise AssertionError("never came true")
"""


def forked(body: str) -> None:
    """Run PRELUDE and `body`, and expect status 0 and the output `ok`."""
    done = run_program(PRELUDE + textwrap.dedent(body), flags=["-W", "ignore"])
    assert (done.returncode, done.stdout) == (0, "ok\n"), done


def test_fork_in_main_before_anything_else() -> None:
    """A fork right after the import leaves both processes able to do everything."""
    forked(
        """
        assert in_child(everything_works) == 0
        everything_works()
        print("ok")
        """
    )


def test_fork_in_main_after_use() -> None:
    """Poller, timers and pool threads of the parent do not hinder the child."""
    forked(
        """
        everything_works()
        assert in_child(everything_works) == 0
        everything_works()
        assert in_child(everything_works) == 0
        print("ok")
        """
    )


def test_child_has_only_the_caller() -> None:
    """Parked, sleeping and unstarted goroutines stay in the parent, where they go on."""
    forked(
        """
        runtime.gomaxprocs(1)  # so that `fresh` does not begin
        ch = Chan()
        out = []
        gs = [go(lambda: out.append(ch.recv())) for _ in range(10)]
        sleeper = go(sleep, 0.05)
        wait_for(lambda: all(g.state == "waiting" for g in gs))
        fresh = go(out.append, "fresh")

        def check():
            assert num_goroutine() == 1, num_goroutine()
            assert runtime.goroutines() == [current()]
            everything_works()
            assert out == [], out
            assert ch.try_send(1) is False      # nobody waits there any more
            assert num_goroutine() == 1

        assert in_child(check) == 0
        for i in range(10):
            ch.send(i)
        for g in [*gs, sleeper, fresh]:
            g.join()
        assert sorted(out, key=str) == [*range(10), "fresh"], out
        print("ok")
        """
    )


def test_fork_in_a_goroutine() -> None:
    """A goroutine that forks is the one that lives in the child, main is not."""
    forked(
        """
        out = Chan()

        def check(me):
            assert num_goroutine() == 1, num_goroutine()
            assert current() is me
            everything_works()

        def forker():
            out.send(in_child(check, current()))

        others = [go(Chan().recv) for _ in range(5)]
        go(forker)
        assert out.recv() == 0
        everything_works()
        assert all(g.state == "waiting" for g in others)
        print("ok")
        """
    )


def test_fork_deep_in_a_goroutine() -> None:
    """The child of a goroutine returns through the frames that called fork."""
    forked(
        """
        out = Chan()

        def forker(depth):
            if depth:
                # through C code as well as through Python
                return sorted([depth], key=lambda d: forker(depth - 1))
            gosched()
            status.append(in_child(everything_works))

        status = []
        go(gosched)
        go(forker, 20).join()
        assert status == [0], status
        print("ok")
        """
    )


def test_run_in_the_child_of_a_goroutine() -> None:
    """The goroutine that forked is main in the child: run works there, and so does Panic."""
    forked(
        """
        import goroutines

        goroutines.set_panic_hook(lambda g, error: False)

        def check(me):
            assert current() is me
            assert me.name == "main", me.name
            assert run(lambda: (everything_works(), 5)) == (None, 5)
            try:
                go(lambda: 1 / 0).join()
            except goroutines.Panic as panic:
                assert isinstance(panic.__cause__, ZeroDivisionError)
            else:
                raise AssertionError("no panic")

        def forker():
            name = current().name
            status.append(in_child(check, current()))
            assert current().name == name != "main", name

        status = []
        go(forker).join()
        assert status == [0], status
        print("ok")
        """
    )


def test_fork_under_run() -> None:
    """fork below run works in both processes."""
    forked(
        """
        def main():
            parked = go(Chan().recv)
            wait_for(lambda: parked.state == "waiting")
            assert in_child(everything_works) == 0
            everything_works()
            return "ok"

        print(run(main))
        """
    )


def test_fork_in_a_plain_thread() -> None:
    """The thread that forks is the child's main thread, with goroutines."""
    forked(
        """
        out = Chan()
        parked = go(out.recv)
        wait_for(lambda: parked.state == "waiting")
        status = []
        thread = threading.Thread(target=lambda: status.append(in_child(everything_works)))
        thread.start()
        wait_for(lambda: not thread.is_alive())
        assert status == [0], status
        out.send(1)
        parked.join()
        print("ok")
        """
    )


def test_many_forks_among_running_goroutines() -> None:
    """Forks from several goroutines while others run, sleep and block."""
    forked(
        """
        stop = []
        ticks = [0]

        def ticker():
            while not stop:
                ticks[0] += 1
                sleep(0.0001)

        def caller():
            while not stop:
                blocking(lambda: None)

        def forker():
            for _ in range(5):
                statuses.append(in_child(lambda: go(Chan(1).send, 1).join()))
                gosched()

        statuses = []
        others = [go(ticker), go(ticker), go(caller)]
        forkers = [go(forker) for _ in range(3)]
        for g in forkers:
            g.join()
        stop.append(1)
        for g in others:
            g.join()
        assert statuses == [0] * 15, statuses
        assert ticks[0] > 0
        print("ok")
        """
    )


def test_child_of_a_child() -> None:
    """A child may fork again."""
    forked(
        """
        def check(depth):
            everything_works()
            if depth:
                assert in_child(check, depth - 1) == 0

        go(Chan().recv)
        assert in_child(check, 3) == 0
        print("ok")
        """
    )


def test_hooks_of_others_may_use_the_runtime() -> None:
    """A hook that was registered with os.register_at_fork finds the child ready."""
    forked(
        """
        seen = []

        def hook():
            ch = Chan(1)
            ch.send(num_goroutine())
            seen.append(ch.recv())
            go(seen.append, "hook's")

        os.register_at_fork(after_in_child=hook)
        others = [go(Chan().recv) for _ in range(3)]
        wait_for(lambda: all(g.state == "waiting" for g in others))

        def check():
            wait_for(lambda: len(seen) == 2)
            assert seen == [1, "hook's"], seen

        assert in_child(check) == 0
        print("ok")
        """
    )


def test_deadlock_is_found_in_the_child() -> None:
    """The child's main finds its own deadlock, for nobody of the parent can wake it."""
    forked(
        """
        ch = Chan()
        sleeper = go(sleep, 0.05)
        wait_for(lambda: sleeper.state == "waiting")

        def check():
            try:
                ch.recv()
            except Deadlock:
                return
            raise AssertionError("no deadlock")

        assert in_child(check) == 0
        sleeper.join()
        print("ok")
        """
    )


def test_child_that_ends_normally() -> None:
    """A forked main that runs to its end exits silently, the parent's goroutines in mind."""
    done = run_program(
        PRELUDE
        + textwrap.dedent(
            """
            others = [go(Chan().recv) for _ in range(3)]
            wait_for(lambda: all(g.state == "waiting" for g in others))
            pid = os.fork()
            if pid == 0:
                sys.exit(7)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            """
        ),
        flags=["-W", "ignore"],
    )
    assert done == (0, "7\n", "")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method: str) -> None:
    """A process started and joined in a goroutine does its work, however it is started."""
    done = run_program(
        """
        import multiprocessing, sys
        from goroutines import Chan, blocking, go

        def work(connection):
            ch = Chan()
            go(ch.send, 41)
            connection.send(ch.recv() + 1)
            sys.exit(3)

        def start(out):
            context = multiprocessing.get_context(sys.argv[1])
            here, there = context.Pipe()
            process = context.Process(target=work, args=(there,))
            process.start()
            answer = blocking(here.recv)
            blocking(process.join)
            out.send((answer, process.exitcode))

        if __name__ == "__main__":
            out = Chan()
            go(start, out)
            print(*out.recv())
        """,
        method,
        flags=["-W", "ignore"],
    )
    assert done == (0, "42 3\n", "")


def test_subprocess_in_a_goroutine() -> None:
    """subprocess works in a goroutine with others parked."""
    forked(
        """
        import subprocess

        def start(out):
            done = subprocess.run(
                [sys.executable, "-c", "print(40 + 2)"], capture_output=True, text=True
            )
            out.send(done.stdout)

        out = Chan()
        parked = go(Chan().recv)
        go(start, out)
        assert out.recv() == "42\\n"
        print("ok")
        """
    )
