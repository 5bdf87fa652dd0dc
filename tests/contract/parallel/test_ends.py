"""How things end with goroutines on several threads: run, panics, deadlocks, signals, exit."""

from __future__ import annotations

import os
import random
import signal
import textwrap
import threading

import pytest

import goroutines
from goroutines import (
    Chan,
    Deadlock,
    GoroutineExit,
    Panic,
    WaitGroup,
    blocking,
    go,
    gosched,
    num_goroutine,
    recv,
    run,
    runtime,
    select,
    sleep,
)
from goroutines.sync import Mutex, Semaphore
from goroutines.sync.atomic import Bool, Int64

from ...conftest import Finished
from .tools import (
    PARALLEL,
    Spread,
    alone,
    in_threads,
    nap,
    preempts,
    program,
    scaled,
    several,
    spread,
    thread_id,
    within,
)

# --- run --------------------------------------------------------------------------------------


def wait_somehow(i: int) -> None:
    """Wait for ever, each in another way."""
    kind = i % 7
    if kind == 0:
        Chan[int]().recv()
    elif kind == 1:
        sleep(3600)
    elif kind == 2:
        select(recv(Chan[int]()), recv(Chan[int]()))
    elif kind == 3:
        mutex = Mutex()
        mutex.lock()
        mutex.lock()
    elif kind == 4:
        Semaphore(1).acquire() or Semaphore(1).acquire() or Chan[int]().send(1)
    elif kind == 5:
        wg = WaitGroup()
        wg.add()
        wg.wait()
    else:
        while True:
            gosched()


@alone()
def test_run_ends_what_lives_on_all_threads() -> None:
    """When run returns, GoroutineExit has reached every goroutine and its finally has run."""
    for _ in range(scaled(20)):
        entered, left = Int64(), Int64()

        def work(i: int, entered: Int64 = entered, left: Int64 = left) -> None:
            entered.add(1)
            try:
                wait_somehow(i)
            except GoroutineExit:
                if i % 5 == 0:
                    sleep(0.0001)
                raise
            finally:
                if i % 3 == 0:
                    gosched()
                left.add(1)

        def main(entered: Int64 = entered, work=work) -> str:
            spread(40, work)
            within(lambda: entered.load() == 40, "that all have begun")
            return "result"

        assert run(main) == "result"
        assert entered.load() == left.load() == 40
        assert num_goroutine() == 1


@alone()
def test_run_ends_them_at_any_moment() -> None:
    """Runs that end while their goroutines are being begun, wait, or end by themselves."""
    rng = random.Random(1)
    for _ in range(scaled(100)):
        entered, left = Int64(), Int64()

        def work(i: int, entered: Int64 = entered, left: Int64 = left) -> None:
            entered.add(1)
            try:
                for _ in range(i):
                    gosched()
                if i % 2:
                    wait_somehow(i)
            finally:
                left.add(1)

        def main(work=work) -> None:
            for i in range(30):
                go(work, i)
            for _ in range(rng.randrange(20)):
                gosched()
            if rng.random() < 0.5:
                sleep(0.0002)

        run(main)
        assert entered.load() == left.load()
        assert num_goroutine() == 1


@alone()
def test_run_that_raises() -> None:
    """What main raises comes out of run after the others are ended, on all threads."""
    left = Int64()

    def work(i: int) -> None:
        try:
            Chan[int]().recv()
        finally:
            left.add(1)

    def main() -> None:
        workers = spread(16, work)
        within(lambda: all(g.state == "waiting" for g in workers.gs), "that all wait")
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run(main)
    assert left.load() == 16


@alone()
def test_exit_comes_again_on_other_threads() -> None:
    """Who swallows GoroutineExit gets it at its next wait, wherever it runs."""
    swallowed = Int64()

    def work(i: int) -> None:
        for _ in range(3):
            try:
                sleep(3600)
            except GoroutineExit:
                swallowed.add(1)

    def main() -> None:
        workers = spread(16, work)
        within(lambda: all(g.state == "waiting" for g in workers.gs), "that all wait")

    run(main)
    assert swallowed.load() == 16 * 3


@several
@alone(2, 8)
def test_run_waits_for_who_computes() -> None:
    """A goroutine that computes on another thread gets the exit when it waits again."""
    computing, ended = Bool(), Bool()

    def work() -> None:
        total = 0
        try:
            computing.store(True)
            for i in range(300_000):
                total += i
            while True:
                gosched()
        finally:
            ended.store(total > 0)

    def main() -> None:
        go(work)
        while not computing.load():
            pass

    run(main)
    assert ended.load()


@alone()
def test_runs_in_several_plain_threads() -> None:
    """Each thread's run has its own goroutines, whichever thread they are run on."""
    results: list[int] = []

    def thread(i: int) -> None:
        for k in range(scaled(20)):
            entered, left = Int64(), Int64()

            def work(j: int, entered: Int64 = entered, left: Int64 = left) -> None:
                entered.add(1)
                try:
                    wait_somehow(j)
                finally:
                    left.add(1)

            def main(work=work, k: int = k) -> int:
                for j in range(10):
                    go(work, j)
                for _ in range(k):
                    gosched()
                return k

            results.append(run(main))
            assert left.load() == entered.load() <= 10

    threads = in_threads(4, thread)
    within(lambda: not any(t.is_alive() for t in threads), "that the threads have ended")
    assert sorted(results) == sorted(list(range(scaled(20))) * 4)


# --- panics -----------------------------------------------------------------------------------


@alone()
def test_panics_of_other_threads_come_to_main() -> None:
    """An exception that nobody catches is raised in main as Panic, with the cause."""
    goroutines.set_panic_hook(lambda g, exc: False)
    for _ in range(scaled(20)):

        def work(i: int) -> None:
            if i == 5:
                raise ValueError("from afar")
            sleep(0.001)

        workers = Spread(8, work, runtime.gomaxprocs() if PARALLEL else 1)
        with pytest.raises(Panic) as caught:
            Chan[int]().recv()
        assert isinstance(caught.value.__cause__, ValueError)
        for g in workers.gs:
            g.join()


@alone()
def test_panics_race() -> None:
    """Each of many panics on all threads reaches the hook once; main goes on."""
    seen: list[int] = []

    def hook(g: goroutines.Goroutine, exc: BaseException) -> bool:
        seen.append(exc.args[0])
        gosched()
        return True

    goroutines.set_panic_hook(hook)

    def fail(k: int) -> None:
        raise ValueError(k)

    def work(i: int) -> None:
        for k in range(scaled(50)):
            go(fail, i * 1000 + k)
            sleep(0.00005)

    spread(8, work).join()
    within(lambda: num_goroutine() == 1, "that all have ended")
    assert sorted(seen) == sorted(i * 1000 + k for i in range(8) for k in range(scaled(50)))


@pytest.mark.parametrize("procs", [1, 8] if PARALLEL else [8])
def test_a_panic_ends_the_program(procs: int) -> None:
    """Nobody catches it: status 2, one heading, its traceback and birth, once."""
    ended = program("""
        from goroutines import Chan, go, sleep
        def fail(i):
            sleep(0.001)
            if i == 11:
                raise KeyError("lost")
            Chan().recv()
        for i in range(16):
            go(fail, i)
        Chan().recv()
        """, procs=procs, returncode=2)  # fmt: skip
    assert ended.stderr.count("panic: KeyError: 'lost'") == 1
    assert "[running]:" in ended.stderr
    assert "created by" in ended.stderr


@pytest.mark.parametrize("procs", [1, 8] if PARALLEL else [8])
@pytest.mark.parametrize(
    ("what", "status"), [("SystemExit(5)", 5), ("KeyboardInterrupt()", -signal.SIGINT)]
)
def test_exits_raised_on_other_threads(what: str, status: int, procs: int) -> None:
    """SystemExit and KeyboardInterrupt that leave a goroutine are main's."""
    ended = program(f"""
        from goroutines import Chan, go, sleep
        def leave():
            sleep(0.01)
            raise {what}
        def other():
            sleep(3600)
        for i in range(16):
            go(other)
        go(leave)
        try:
            Chan().recv()
        finally:
            print("main ended")
        """, procs=procs, returncode=status)  # fmt: skip
    assert ended.stdout == "main ended\n"
    assert "panic" not in ended.stderr


# --- deadlocks --------------------------------------------------------------------------------


@alone()
def test_a_true_deadlock_is_found() -> None:
    """All wait, on all threads, for nobody: Deadlock in main, naming each."""
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # a handler could wake somebody
    gates: list[Chan[None]] = [Chan() for _ in range(16)]
    for _ in range(scaled(10)):
        workers = spread(16, lambda i: gates[i].recv_ok())
        with pytest.raises(Deadlock) as caught:
            Chan[int]().recv()
        text = str(caught.value)
        assert "all goroutines are asleep" in text
        assert text.count("chan receive") >= 17
        for gate in gates:
            gate.close()
        workers.join()
        gates = [Chan() for _ in range(16)]


@alone()
def test_a_deadlock_after_the_last_one_ended_elsewhere() -> None:
    """The last goroutine that could have gone on ends on another thread: found then."""
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    for k in range(scaled(50)):
        workers = Spread(8, lambda i, k=k: [gosched() for _ in range(k % 7)], 1)
        with pytest.raises(Deadlock):
            Chan[int]().recv()
        for g in workers.gs:
            g.join()


def test_a_deadlock_ends_the_program() -> None:
    """Status 2 and the stacks of all, those of other threads too."""
    ended = program("""
        from goroutines import Chan, WaitGroup, go, sleep
        def stuck_here(ch):
            sleep(0.001)
            ch.recv()
        for i in range(16):
            go(stuck_here, Chan())
        wg = WaitGroup()
        wg.add()
        wg.wait()
        """, procs=8, returncode=2)  # fmt: skip
    assert "all goroutines are asleep - deadlock!" in ended.stderr
    assert ended.stderr.count("stuck_here") >= 16


@alone()
def test_no_false_deadlock() -> None:
    """One thing at a time can go on, hopping over threads, timers and workers: no Deadlock."""
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    size = 16
    ring: list[Chan[int]] = [Chan() for _ in range(size)]
    ended: Chan[None] = Chan()

    def member(i: int) -> None:
        rng = random.Random(i)
        for token in ring[i]:
            kind = rng.randrange(12)
            if kind == 0:
                sleep(0.0001)
            elif kind == 1:
                blocking(nap, 0)
            elif kind == 2:
                go(gosched).join()
            elif kind == 3:
                gosched()
            if token == 0:
                ended.send(None)
                continue
            ring[(i + 1 + token % 5) % size].send(token - 1)

    members = spread(size, member)
    for _ in range(scaled(5)):
        ring[0].send(2000)
        ended.recv()  # Deadlock would be raised here
    for ch in ring:
        ch.close()
    members.join()


@alone()
def test_no_false_deadlock_beside_plain_threads() -> None:
    """Plain threads come, wake main, and go: never is there a deadlock in between."""
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    spread(8, lambda i: gosched()).join()
    for _ in range(scaled(200)):
        ch: Chan[int] = Chan()
        thread = threading.Thread(target=ch.send, args=(1,), daemon=True)
        thread.start()
        assert ch.recv() == 1
        thread.join()


def test_goexit_in_main() -> None:
    """The others run on, on their threads, and then it is a deadlock."""
    ended = program("""
        from goroutines import go, runtime, sleep
        def work(i):
            sleep(0.01)
            print("ran", flush=True)
        for i in range(8):
            go(work, i)
        runtime.goexit()
        """, procs=4, returncode=2)  # fmt: skip
    assert ended.stdout.split() == ["ran"] * 8
    assert "no goroutines (main called goexit)" in ended.stderr


# --- signals ----------------------------------------------------------------------------------

INTERRUPT = """
    import os, signal, sys, threading, time
    from goroutines import Chan, go, gosched, runtime, sleep
    from goroutines.sync.atomic import Int64
    {setup}
    counts = [0] * {hogs}
    stop = False
    caught_elsewhere = []
    def hog(i):
        try:
            while not stop:
                counts[i] += 1
        except BaseException as error:
            caught_elsewhere.append(error)
            raise
    gs = [go(hog, i) for i in range({hogs})]
    def interrupt():
        while not all(counts):
            nap(0.001)
        nap(0.01)
        os.kill(os.getpid(), signal.SIGINT)
    interrupter = start(interrupt)
    try:
        len(counts)  # 3.11 and 3.12 look for the handler one instruction before the loop
        {wait}
    except KeyboardInterrupt:
        print("main", flush=True)
    stop = True
    for g in gs:
        g.join()
    assert not caught_elsewhere
    """

UNPATCHED = """
    nap = time.sleep
    def start(fn):
        threading.Thread(target=fn, daemon=True).start()
    """
PATCHED = """
    from goroutines.patch import original, patch
    patch()
    nap = original("time", "sleep")
    def start(fn):
        original("_thread", "start_new_thread")(fn, ())
    """


def interrupted(setup: str, hogs: int, wait: str, procs: int) -> None:
    """Run INTERRUPT; main, and nobody else, has to get the KeyboardInterrupt."""
    source = textwrap.dedent(INTERRUPT).format(setup=textwrap.dedent(setup), hogs=hogs, wait=wait)
    assert program(source, procs=procs).stdout == "main\n"


@several
def test_ctrl_c_while_others_compute() -> None:
    """main computes, others compute on other threads: main gets the KeyboardInterrupt."""
    interrupted(UNPATCHED, 3, "while True: pass", 4)


@preempts
@pytest.mark.parametrize("wait", ["Chan().recv()", "time.sleep(3600)", "while True: pass"])
@pytest.mark.parametrize("hogs", [1, 6])
def test_ctrl_c_with_preemption(wait: str, hogs: int) -> None:
    """Patched: main gets it past hogs on every thread, waiting or computing."""
    interrupted(PATCHED, hogs, wait, 4)


def test_ctrl_c_while_all_wait() -> None:
    """All threads sleep: main is woken."""
    program("""
        import os, signal, threading, time
        from goroutines import Chan, go, sleep
        gs = [go(sleep, 0.2) for _ in range(16)]
        def interrupt():
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt, daemon=True).start()
        try:
            Chan().recv()
        except KeyboardInterrupt:
            for g in gs:
                g.join()
        else:
            raise AssertionError
        """)


def test_signal_handlers_run_in_the_main_thread() -> None:
    """A handler runs although others compute, and it may wake goroutines of any thread."""
    program("""
        import os, signal, threading
        from goroutines import Chan, go
        ch = Chan(10)
        seen = []
        def handler(number, frame):
            seen.append(threading.current_thread() is threading.main_thread())
            ch.try_send(number)
        signal.signal(signal.SIGUSR1, handler)
        got = []
        def wait():
            got.append(ch.recv())
        gs = [go(wait) for _ in range(8)]
        for g in gs:
            before = len(got)
            os.kill(os.getpid(), signal.SIGUSR1)
            while len(got) == before:
                go(int).join()
        for g in gs:
            g.join()
        assert got == [signal.SIGUSR1] * 8
        assert all(seen)
        """)


# --- fork -------------------------------------------------------------------------------------

quiet_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@quiet_fork
@several
@pytest.mark.parametrize("hooks", ["", "from goroutines.patch import patch; patch()"])
def test_fork_on_another_thread_than_main(hooks: str) -> None:
    """In the child of a goroutine of another thread only that one lives, and all works."""
    ended = program(f"""
        import os, sys, threading, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        {hooks}
        from goroutines.patch import original
        nap, tid = original("time", "sleep"), original("_thread", "get_native_id")
        from goroutines import Chan, WaitGroup, current, go, gosched, num_goroutine, runtime, sleep
        main = tid()
        over = False
        def other(i):
            while not over:
                gosched()
                sleep(0.0001)
        def in_child():
            assert num_goroutine() == 1, num_goroutine()
            ch, wg = Chan(), WaitGroup()
            for i in range(16):
                wg.go(ch.send, i)
            assert sum(ch.recv() for _ in range(16)) == 120
            wg.wait()
            seen = set()
            def show():
                for _ in range(50):
                    seen.add(tid())
                    nap(0.0002)
            for _ in range(8):
                wg.go(show)
            wg.wait()
            assert len(seen) > 1 or runtime.gomaxprocs() == 1, seen
            os._exit(7)
        results = []
        def forker():
            while tid() == main:  # not here: begin another one while this one keeps the thread
                return
            pid = os.fork()
            if pid == 0:
                try:
                    in_child()
                except BaseException:
                    import traceback
                    traceback.print_exc()
                finally:
                    os._exit(8)
            status = os.waitpid(pid, 0)[1]
            results.append(os.waitstatus_to_exitcode(status))
        gs = [go(other, i) for i in range(8)]
        while len(results) < 5:
            go(forker)
            end = time.monotonic() + 0.01
            while time.monotonic() < end:
                pass
            sleep(0.001)
        over = True
        for g in gs:
            g.join()
        assert set(results) == {{7}}, results
        """, procs=4)  # fmt: skip
    assert "Traceback" not in ended.stderr, ended.stderr


@quiet_fork
@alone(2, 8)
def test_forks_among_busy_threads() -> None:
    """Forks from everywhere with traffic on all threads; each child can use the runtime."""
    import warnings

    warnings.simplefilter("ignore", DeprecationWarning)
    ch: Chan[int] = Chan()
    over = Bool()

    def child() -> int:
        mine: Chan[int] = Chan()
        g = go(mine.send, 5)
        value = mine.recv()
        g.join()
        return 40 + value

    def work(i: int) -> list[int]:
        codes = []
        if i < 3:
            for _ in range(scaled(5)):
                pid = os.fork()
                if pid == 0:
                    status = 1
                    try:
                        status = child()
                    finally:
                        os._exit(status)
                codes.append(os.waitstatus_to_exitcode(blocking(os.waitpid, pid, 0)[1]))
            finished.done()
        elif i % 2:
            while not over.load():
                try:
                    ch.send(i, timeout=0.01)
                except TimeoutError:
                    pass
        else:
            while not over.load():
                try:
                    ch.recv(timeout=0.01)
                except TimeoutError:
                    pass
        return codes

    finished = WaitGroup()
    finished.add(3)
    workers = spread(11, work)
    finished.wait()
    over.store(True)
    parts = workers.join()
    assert [code for part in parts for code in part] == [45] * (3 * scaled(5))


@alone(2, 8)
def test_subprocesses_from_all_threads() -> None:
    """subprocess.run, which forks and waits, on several threads at once."""
    import subprocess

    def work(i: int) -> str:
        done = subprocess.run(
            ["echo", str(i)], capture_output=True, text=True, check=True, timeout=30
        )
        return done.stdout.strip()

    assert spread(8, work).join() == [str(i) for i in range(8)]


# --- the interpreter's end --------------------------------------------------------------------

EXIT = """
    import sys, threading, time
    from goroutines import Chan, WaitGroup, blocking, go, gosched, runtime, select, sleep
    from goroutines.patch import original
    tid = original("_thread", "get_native_id")
    main = tid()  # its goroutine could not go on if another one locked it
    {setup}
    began = [False] * {count}
    def work(i):
        began[i] = True
        {wait}
    for i in range({count}):
        go(work, i)
    end = time.monotonic() + 20
    while not {ready} and time.monotonic() < end:
        {turn}
        nap(0.001)
    print("end", flush=True)
    {end}
    """

WAITS = {
    "busy": "while True: pass",
    "busy calling": "while True: len([i])",
    "yielding": "while True: gosched()",
    "C call": "nap(3600)",
    "parked": "Chan().recv()",
    "selecting": "select()",
    "asleep": "sleep(3600)",
    "ticking": "while True: sleep(0.001)",
    "blocking": "blocking(nap, 3600)",
    "spawning": "while True: go(int).join()",
    "locked": "tid() == main or runtime.lock_os_thread(); Chan().recv()",
    "in a generator": "list(gosched() for _ in iter(int, 1))",
}
NEEDS_THREADS = ("busy", "busy calling", "C call")
"""Those that would keep the only thread there is for ever."""


def exit_with(
    wait: str, end: str = "", *, setup: str = "nap = time.sleep", status: int = 0, count: int = 0
) -> Finished:
    """Run EXIT, whose goroutines wait, and main ends, in the given way."""
    kept = wait in NEEDS_THREADS
    count = count or (3 if kept else 16)
    source = textwrap.dedent(EXIT).format(
        setup=textwrap.dedent(setup),
        wait=WAITS[wait],
        end=textwrap.dedent(end),
        count=count,
        # threads that are kept for good cannot begin the rest, nor give main's back
        ready="any(began)" if kept else "all(began)",
        turn="pass" if kept else "gosched()",
    )
    ended = program(source, procs=4, returncode=status)
    assert ended.stdout.startswith("end\n")
    return ended


def exits(wait: str) -> object:
    """The parameter `wait`, left out where it would never let main go on."""
    marks = [several] if wait in NEEDS_THREADS else []
    return pytest.param(wait, marks=marks)


each_wait = pytest.mark.parametrize("wait", [exits(wait) for wait in WAITS])


@each_wait
def test_exit(wait: str) -> None:
    """The program ends when main does, at once, with status 0 and no word."""
    ended = exit_with(wait)
    assert ended.stderr == ""


@each_wait
def test_exit_with_a_status(wait: str) -> None:
    """sys.exit's status is kept, whatever the other threads do."""
    ended = exit_with(wait, "sys.exit(3)", status=3)
    assert ended.stderr == ""


@each_wait
def test_exit_by_an_exception(wait: str) -> None:
    """A traceback of main's, and nothing else."""
    ended = exit_with(wait, "raise LookupError('mine')", status=1)
    assert ended.stderr.rstrip().endswith("LookupError: mine")
    assert ended.stderr.count("Traceback") == 1


@preempts
@pytest.mark.parametrize("wait", list(WAITS))
def test_exit_patched(wait: str) -> None:
    """With the library patched, and preemption on, the same."""
    setup = """
        from goroutines.patch import original, patch
        patch()
        nap = original("time", "sleep")
        """
    if wait == "C call" and not PARALLEL:
        pytest.skip("a C call keeps the only thread")
    ended = exit_with(wait, setup=setup)
    assert "Traceback" not in ended.stderr
    assert "Fatal" not in ended.stderr


@several
@pytest.mark.parametrize("wait", list(WAITS))
def test_exit_again_and_again(wait: str) -> None:
    """The end is a race with the other threads: it is tried some times, with more threads."""
    for _ in range(scaled(5)):
        assert exit_with(wait, count=3 if wait in NEEDS_THREADS else 64).stderr == ""


def test_atexit_functions_may_use_the_runtime() -> None:
    """Channels and goroutines work in atexit functions while other threads are busy."""
    ended = program("""
        import atexit
        from goroutines import Chan, go, gosched
        def busy():
            while True:
                gosched()
        for _ in range(8):
            go(busy)
        def late():
            ch = Chan()
            try:
                go(ch.send, 1)
            except RuntimeError:
                ch = Chan(1)
                ch.send(1)
            print("late", ch.recv(), flush=True)
        atexit.register(late)
        gosched()
        """)  # fmt: skip
    assert ended.stdout == "late 1\n"
    assert ended.stderr == ""


def test_exit_by_os_exit_on_another_thread() -> None:
    """os._exit in a goroutine ends the process, whichever thread it is on."""
    program("""
        import os
        from goroutines import Chan, go, sleep
        def leave():
            sleep(0.001)
            os._exit(9)
        for _ in range(8):
            go(sleep, 3600)
        go(leave)
        Chan().recv()
        """, returncode=9)  # fmt: skip


def test_finalizers_at_the_end() -> None:
    """Objects that die at the interpreter's end may use channels, with threads parked."""
    ended = program("""
        from goroutines import Chan, go, gosched
        class Thing:
            def __init__(self, ch): self.ch = ch
            def __del__(self): self.ch.try_send(1)
        ch = Chan(100)
        def hold():
            thing = Thing(ch)
            Chan().recv()
        for _ in range(16):
            go(hold)
        things = [Thing(ch) for _ in range(10)]
        for _ in range(100):
            gosched()
        """)
    assert ended.stderr == ""


@several
@alone(8)
def test_threads_that_run_goroutines_hold_nothing_up() -> None:
    """threading sees none of them that the interpreter would wait for at its end."""
    main = thread_id()
    workers = spread(8, lambda i: threading.current_thread().daemon or thread_id() == main)
    assert all(workers.join())
    assert [t for t in threading.enumerate() if not t.daemon] == [threading.main_thread()]
