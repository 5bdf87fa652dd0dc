"""How many threads run goroutines, which runs which, and lock_os_thread."""

from __future__ import annotations

import contextvars
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from goroutines import Chan, WaitGroup, blocking, current, go, gosched, runtime, sleep
from goroutines.sync import Mutex
from goroutines.sync.atomic import Bool, Int64

from .tools import (
    PARALLEL,
    alone,
    in_threads,
    nap,
    program,
    scaled,
    several,
    spread,
    thread_id,
    within,
)


def spin(turns: int = 2000) -> int:
    """Compute for a while, without a wait."""
    total = 0
    for i in range(turns):
        total += i * i
    return total


def batch(count: int) -> set[int]:
    """Run goroutines that compute and wait in turns; the threads that ran them."""
    seen: set[int] = set()

    def work() -> None:
        for _ in range(3):
            spin()
            seen.add(thread_id())
            gosched()

    wg = WaitGroup()
    for _ in range(count):
        wg.go(work)
    wg.wait()
    return seen


# --- how many ---------------------------------------------------------------------------------


@several
@alone(2, 4, 8)
def test_goroutines_use_as_many_threads_as_allowed() -> None:
    """Goroutines that compute run on GOMAXPROCS threads, not on more."""
    n = runtime.gomaxprocs()
    for _ in range(5):
        workers = spread(4 * n, lambda i: spin())
        workers.join()
        assert len(workers.threads) == n


@several
@alone(2)
def test_two_run_at_the_same_time() -> None:
    """Two that wait for each other by computing alone get on: both really run."""
    at = [0, 0]

    def work(i: int) -> None:
        for k in range(1, scaled(200)):
            at[i] = k
            while at[1 - i] < k:
                nap(0)  # not a wait of the goroutine's: its thread is its own

    spread(2, work).join()


@alone(1)
def test_one_runs_all_on_one_thread() -> None:
    """With GOMAXPROCS=1 all goroutines, and main, share the main thread."""
    assert batch(200) == {thread_id()}
    assert runtime.gomaxprocs() == 1


@pytest.mark.skipif(PARALLEL, reason="several threads run goroutines here")
@alone(8)
def test_one_thread_under_a_gil() -> None:
    """With a GIL gomaxprocs answers what was set, and one thread runs the goroutines."""
    assert runtime.gomaxprocs() == 8
    assert batch(100) == {thread_id()}
    assert runtime.gomaxprocs(3) == 8
    assert runtime.gomaxprocs() == 3


@several
@alone(1)
def test_the_number_changes_both_ways() -> None:
    """gomaxprocs(n) takes effect for goroutines begun from then on, up and down."""
    at_most = 1
    for n in (4, 2, 8, 1, 3, 1):
        assert runtime.gomaxprocs(n) == at_most
        at_most = n
        workers = spread(2 * n, lambda i: spin())
        workers.join()

        def few(n: int = n) -> bool:
            return len(batch(8 * n)) <= n

        # Threads that are too many may still finish what they had begun.
        within(few, f"that {n} threads run goroutines")
        assert all(few() for _ in range(5)), n


@several
@alone(8)
def test_goroutines_outlive_their_thread_being_one_too_many() -> None:
    """Those parked on 8 threads go on, on the same ones, when the number falls to 1."""
    gate: Chan[None] = Chan()

    def work(i: int) -> int:
        before = thread_id()
        for _ in range(5):
            gate.recv_ok()
            sleep(0.0001)
            gosched()
        assert thread_id() == before
        return i

    workers = spread(32, work)
    within(lambda: all(g.state == "waiting" for g in workers.gs), "that all are parked")
    runtime.gomaxprocs(1)
    assert batch(10)
    gate.close()
    assert workers.join() == list(range(32))


@alone()
def test_the_number_flaps_under_load() -> None:
    """gomaxprocs is changed again and again by goroutines, with traffic on all threads."""
    before = runtime.gomaxprocs()
    ch: Chan[int] = Chan()
    over = Bool()

    def work(i: int) -> int:
        total = 0
        if i == 0:
            for k in range(scaled(200)):
                runtime.gomaxprocs(1 + k % 8)
                go(spin)
                sleep(0.0002)
            over.store(True)
        elif i % 2:
            while not over.load():
                ch.send(1)
                total += 1
        else:
            total = sum(ch)
        return total

    workers = spread(9, work)
    for g in workers.gs[1::2]:
        g.join()
    ch.close()
    sums = workers.join()
    assert sum(sums[1::2]) == sum(sums[2::2])
    runtime.gomaxprocs(before)


@alone()
def test_what_the_setter_takes() -> None:
    """None and less than 1 change nothing; something else is a TypeError; the old is returned."""
    n = runtime.gomaxprocs()
    assert n >= 1
    assert runtime.gomaxprocs(0) == runtime.gomaxprocs(-5) == runtime.gomaxprocs(None) == n
    with pytest.raises(TypeError):
        runtime.gomaxprocs("2")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        runtime.gomaxprocs(1.5)  # type: ignore[arg-type]
    assert runtime.gomaxprocs() == n


SHOW = "from goroutines import runtime; print(runtime.gomaxprocs(), runtime.num_cpu())"


@pytest.mark.parametrize(("value", "expected"), [("1", 1), ("3", 3), ("64", 64), ("007", 7)])
def test_environment(value: str, expected: int) -> None:
    """GOMAXPROCS is where it begins."""
    assert program(SHOW, env={"GOMAXPROCS": value}).stdout.split()[0] == str(expected)


@pytest.mark.parametrize(
    "value",
    ["", "0", "-1", "x", "1.5", " 5", "5 ", "+3", "1_0", "0x4", "٣", "2147483648", "9" * 30],
)
def test_bad_environment_is_ignored(value: str) -> None:
    """What Go would not read as a positive 32-bit number leaves the default."""
    found = program(SHOW, env={"GOMAXPROCS": value}).stdout.split()
    assert found == program(SHOW, env={"GOMAXPROCS": "0"}).stdout.split()
    assert 1 <= int(found[0]) <= int(found[1])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_default_is_what_the_process_may_use() -> None:
    """Without GOMAXPROCS: the CPUs of sched_getaffinity, not those of the machine."""
    source = """
        import os, sys
        if len(sys.argv) == 1:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
            os.environ.pop("GOMAXPROCS")
            os.execv(sys.executable, [sys.executable, __file__, "again"])
        from goroutines import go, runtime
        print(runtime.gomaxprocs(), runtime.num_cpu())
        go(print, "ran").join()
        """
    assert program(source).stdout.split() == ["1", "1", "ran"]


@several
def test_affinity_narrowed_later_does_no_harm() -> None:
    """Several threads on one CPU: all goroutines still get on."""
    program("""
        import os
        from goroutines import Chan, go, runtime
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
        assert runtime.gomaxprocs() == 8
        a, b = Chan(), Chan()
        def answer():
            for x in a:
                b.send(x + 1)
        gs = [go(answer) for _ in range(16)]
        for i in range(5000):
            a.send(i)
            assert b.recv() == i + 1
        a.close()
        for g in gs:
            g.join()
        """, procs=8)  # fmt: skip


# --- which runs which -------------------------------------------------------------------------


@alone()
def test_a_started_goroutine_stays_on_its_thread() -> None:
    """Over thousands of waits of every kind the thread is the same."""
    ch: Chan[int] = Chan()
    mutex = Mutex()
    turns = scaled(300)

    def work(i: int) -> None:
        me, here = current(), thread_id()
        for k in range(turns):
            kind = k % 5
            if kind == 0:
                ch.send(k) if i % 2 else ch.recv()
            elif kind == 1:
                gosched()
            elif kind == 2:
                sleep(0.00005)
            elif kind == 3:
                with mutex:
                    gosched()
            elif k % 50 == 4:
                assert blocking(thread_id) != here
            assert thread_id() == here
            assert current() is me

    spread(16, work).join()


@several
@alone(2, 8)
def test_unstarted_goroutines_are_taken_by_idle_threads() -> None:
    """What main starts and does not wait for begins elsewhere, while main computes on."""
    began: set[int] = set()
    for _ in range(20):
        left = 10
        count = Int64(left)

        def work(count: Int64 = count) -> None:
            began.add(thread_id())
            count.add(-1)

        for _ in range(left):
            go(work)
        while count.load():
            spin(10)  # never a wait
    assert began
    assert thread_id() not in began


@several
@alone(2, 8)
def test_a_busy_goroutine_keeps_none_of_what_it_started() -> None:
    """The goroutines started by one that never waits begin on the other threads."""

    def busy(i: int) -> None:
        if i:
            return
        for _ in range(50):
            flags = [Bool() for _ in range(5)]
            for flag in flags:
                go(flag.store, True)
            while not all(flag.load() for flag in flags):
                pass

    spread(2, busy).join()


@several
@alone(2, 4)
def test_a_thread_stuck_in_a_c_call_holds_up_nobody_unstarted() -> None:
    """While one thread is in a C call of seconds, goroutines started before on it begin."""
    over = Bool()

    def stuck() -> None:
        for _ in range(20):
            go(count.add, -1)
        while not over.load():
            nap(0.05)  # CPython's own sleep: the thread is gone

    count = Int64(20)
    g = go(stuck)
    while count.load():  # main does not wait, so that the stuck one is elsewhere
        nap(0.001)
    over.store(True)
    g.join()


@several
@alone(4)
def test_all_threads_but_one_stuck() -> None:
    """With all threads but one in C calls the last one runs what there is."""
    over = Bool()
    ends: Chan[int] = Chan()

    def work(i: int) -> None:
        if i == 3:
            gs = [go(ends.send, k) for k in range(100)]
            assert sorted(ends.recv() for _ in range(100)) == list(range(100))
            for g in gs:
                g.join()
            over.store(True)
        while not over.load():
            nap(0.001)

    spread(4, work).join()


@alone()
def test_join_from_other_threads() -> None:
    """Goroutines, main and plain threads join the same goroutines, wherever those run."""
    gate: Chan[None] = Chan()
    targets = spread(16, lambda i: gate.recv_ok()).begun()
    joined = Int64()

    def join_all(i: int) -> None:
        for g in targets.gs:
            g.join()
            assert g.done
        joined.add(1)

    joiners = spread(8, join_all)
    threads = in_threads(3, join_all)
    sleep(0.001)
    gate.close()
    joiners.join()
    targets.join()
    within(lambda: joined.load() == 11, "that all have joined all")
    within(lambda: not any(t.is_alive() for t in threads), "that the threads have ended")


@alone()
def test_join_times_out_beside_ends() -> None:
    """join with time-outs that race with the end raises or returns, and done agrees."""

    def work(i: int) -> None:
        for k in range(scaled(100)):
            g = go(spin, 50 * (k % 7))
            try:
                g.join(timeout=(k % 3) * 0.00002)
            except TimeoutError:
                g.join()
            assert g.done

    spread(8, work).join()


@alone()
def test_spawning_on_all_threads() -> None:
    """Goroutines that start goroutines, all over; every one runs once, and ids are unique."""
    ran, ids = Int64(), [set[int]() for _ in range(8)]

    def child(i: int, depth: int) -> None:
        ran.add(1)
        mine = ids[i]
        mine.add(current().id)
        if depth:
            for _ in range(3):
                wg.go(child, i, depth - 1)

    wg = WaitGroup()
    spread(8, lambda i: wg.go(child, i, 6)).join()
    wg.wait()
    each = (3**7 - 1) // 2
    assert ran.load() == 8 * each
    assert len(set.union(*ids)) == sum(map(len, ids)) == 8 * each


@alone()
def test_plain_threads_beside_goroutines() -> None:
    """threading's threads start goroutines, and what a thread leaves unstarted runs anyway."""
    ran = Int64()

    def thread(i: int) -> None:
        g = go(ran.add, 1)
        for _ in range(20):
            go(ran.add, 1)
        g.join()

    workers = spread(8, lambda i: [gosched() for _ in range(200)])
    for _ in range(scaled(10)):
        threads = in_threads(4, thread)
        within(lambda: not any(t.is_alive() for t in threads), "that the threads have ended")
    workers.join()
    within(lambda: ran.load() == scaled(10) * 4 * 21, "that all goroutines ran")


@alone()
def test_thread_pools_beside_goroutines() -> None:
    """A ThreadPoolExecutor's threads and goroutines hand each other values."""
    ch: Chan[int] = Chan(2)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(lambda k=k: [ch.send(k) for _ in range(50)]) for k in range(8)]

        def work(i: int) -> int:
            return sum(ch.recv() for _ in range(50))

        total = sum(spread(8, work).join())
        assert total == 50 * sum(range(8))
        assert all(len(future.result()) == 50 for future in futures)


# --- idle -------------------------------------------------------------------------------------

IDLE = """
import os, resource, sys, threading, time
from goroutines import Chan, WaitGroup, go, gosched, runtime, sleep
from goroutines.sync import Mutex
{setup}

def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime

def work(i):
    for _ in range(1000):
        gosched()
    if i % 3 == 0:
        Chan().recv()
    elif i % 3 == 1:
        sleep(3600)
    else:
        held.lock()

held = Mutex()
held.lock()
gs = [go(work, i) for i in range(64)]
for g in gs:
    while g.state != "waiting":
        sleep(0.001)
sleep(0.3)  # for who is still looking for work
before, began = cpu(), time.monotonic()
{idle}
share = (cpu() - before) / (time.monotonic() - began)
assert share < 0.05, f"{{share:.1%}} of a CPU with nothing to do"
"""


@pytest.mark.parametrize(
    ("setup", "idle"),
    [
        ("", "sleep(1)"),
        ("", "threading.Event().wait(1)"),
        ("from goroutines.patch import patch; patch()", "time.sleep(1)"),
        ("runtime.set_preemption(True)", "sleep(1)"),
        ("runtime.set_preemption(True); runtime.set_watchdog(0.1)", "sleep(1)"),
    ],
)
@pytest.mark.parametrize("procs", [1, 8] if PARALLEL else [8])
def test_an_idle_program_takes_no_cpu(setup: str, idle: str, procs: int) -> None:
    """With all goroutines parked the threads sleep: under a twentieth of a CPU, by far."""
    program(IDLE.format(setup=setup, idle=idle), procs=procs)


@alone(8)
def test_few_wake_ups_for_little_work() -> None:
    """One goroutine that ticks does not keep the other threads awake."""
    import resource

    def cpu() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    spread(8, lambda i: gosched()).join()
    sleep(0.2)
    before = cpu()
    for _ in range(100):
        sleep(0.01)
    share = cpu() - before  # of a second
    assert share < 0.3, f"{share:.0%} of a CPU for 100 ticks a second"


# --- lock_os_thread ---------------------------------------------------------------------------


@alone()
def test_a_locked_goroutine_keeps_its_thread() -> None:
    """Between lock_os_thread and unlock_os_thread the thread is one; main may lock, too."""
    runtime.lock_os_thread()
    here = thread_id()
    ch: Chan[int] = Chan()

    def work() -> None:
        runtime.lock_os_thread()
        mine = thread_id()
        for k in range(scaled(300)):
            ch.send(k)
            gosched()
            assert thread_id() == mine
        runtime.unlock_os_thread()

    g = go(work)
    for k in range(scaled(300)):
        assert ch.recv() == k
        assert thread_id() == here
    g.join()
    runtime.unlock_os_thread()


def locked_elsewhere(times: int) -> tuple[Chan[None], Chan[None], set[int]]:
    """Have a goroutine lock a thread that is not the caller's, `times`; wait until it did.

    The channels unlock it once, and end it; the set has the thread's id.
    """
    unlock: Chan[None] = Chan()
    end: Chan[None] = Chan()
    threads: set[int] = set()
    main = thread_id()

    def work(i: int) -> None:
        if thread_id() == main or not guard.try_lock():
            return
        for _ in range(times):
            runtime.lock_os_thread()
        threads.add(thread_id())
        for _ in range(times):
            unlock.recv_ok()
            runtime.unlock_os_thread()
            unlocked.send(None)
        end.recv_ok()

    unlocked: Chan[None] = Chan(times)
    guard = Mutex()
    spread_out = spread(runtime.gomaxprocs(), work)
    within(lambda: threads, "that a goroutine has locked its thread")
    within(
        lambda: all(g.done or g.wait_reason == "chan receive" for g in spread_out.gs),
        "that the others have ended",
    )
    return unlock, end, threads


@several
@alone(2, 4)
def test_no_other_goroutine_runs_on_a_locked_thread() -> None:
    """Nobody begins on it until it is unlocked as often as it was locked."""
    unlock, end, locked = locked_elsewhere(2)
    assert not batch(200) & locked
    unlock.send(None)  # one of two
    assert not batch(200) & locked
    unlock.send(None)
    within(lambda: batch(50) & locked, "that the thread is used again")
    end.close()
    within(lambda: runtime.num_goroutine() == 1, "that it has ended")


@several
@alone(2, 4)
def test_main_locks_its_thread() -> None:
    """While main has locked its thread the others run elsewhere, and main goes on."""
    runtime.lock_os_thread()
    for _ in range(10):
        assert thread_id() not in batch(50)
    runtime.unlock_os_thread()
    within(lambda: thread_id() in batch(50), "that main's thread is used again")


@alone()
def test_unlocking_what_is_not_locked_does_nothing() -> None:
    """As in Go, unlock_os_thread without a lock is a no-op, and does not count."""
    runtime.unlock_os_thread()
    runtime.unlock_os_thread()
    runtime.lock_os_thread()
    runtime.unlock_os_thread()
    assert len(batch(20)) >= 1
    go(runtime.unlock_os_thread).join()


@alone()
def test_a_goroutine_that_ends_while_locked() -> None:
    """Its thread is given up or cleaned; all the threads are there for the others after it."""

    def end_locked(i: int) -> None:
        runtime.lock_os_thread()
        if i % 2:
            runtime.lock_os_thread()
        gosched()
        if i % 3 == 0:
            runtime.goexit()

    for _ in range(10):
        gs = [go(end_locked, i) for i in range(8)]
        for g in gs:
            g.join()
        spread(8, lambda i: spin()).join()


@several
@alone(4)
def test_threads_do_not_pile_up() -> None:
    """Goroutines that end locked, and changes of gomaxprocs, leave no threads behind."""

    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    def round_() -> None:
        for n in (2, 4, 1, 4):
            runtime.gomaxprocs(n)
            for g in [go(lambda: (runtime.lock_os_thread(), gosched())) for _ in range(4)]:
                g.join()
            spread(4, lambda i: spin()).join()

    round_()
    before = threads()
    for _ in range(10):
        round_()
    within(lambda: threads() <= before + 2, f"that there are about {before} threads again")


@alone()
def test_locks_in_plain_threads() -> None:
    """A plain thread is its own; locking it is harmless."""
    found: list[int] = []

    def thread(i: int) -> None:
        runtime.lock_os_thread()
        found.append(thread_id())
        gosched()
        found.append(thread_id())
        runtime.unlock_os_thread()

    (t,) = in_threads(1, thread)
    within(lambda: not t.is_alive(), "that the thread has ended")
    assert found[0] == found[1] != thread_id()


# --- what a goroutine has of its own ----------------------------------------------------------

LEVEL: contextvars.ContextVar[int] = contextvars.ContextVar("level", default=-1)


@alone()
def test_contextvars() -> None:
    """Each goroutine has a copy of the context of who started it, on whichever thread."""
    LEVEL.set(7)

    def child(expected: int) -> int:
        assert LEVEL.get() == expected
        LEVEL.set(expected + 1000)
        sleep(0.0001)
        return LEVEL.get()

    def work(i: int) -> None:
        assert LEVEL.get() == 7
        LEVEL.set(i)
        for _ in range(scaled(50)):
            results: list[int] = []
            go(lambda: results.append(child(i))).join()
            assert results == [i + 1000]
            assert LEVEL.get() == i
            context = contextvars.copy_context()
            assert context.run(child, i) == i + 1000
            assert LEVEL.get() == i

    spread(16, work).join()
    assert LEVEL.get() == 7


@alone()
def test_exceptions() -> None:
    """Exceptions being handled are each goroutine's own, over waits on any thread."""
    ch: Chan[int] = Chan()

    def work(i: int) -> None:
        for k in range(scaled(200)):
            try:
                raise ValueError(i, k)
            except ValueError:
                ch.send(k) if i % 2 else ch.recv()
                error = sys.exception() if sys.version_info >= (3, 11) else None
                assert isinstance(error, ValueError)
                assert error.args == (i, k)
                try:
                    try:
                        gosched()
                        raise KeyError(i)
                    finally:
                        sleep(0)
                except KeyError as inner:
                    assert inner.__context__ is error
            assert sys.exc_info() == (None, None, None)

    spread(16, work).join()


@alone()
def test_generators_pass_between_threads() -> None:
    """A generator that waits, advanced by goroutines of several threads in turns."""
    ch: Chan[int] = Chan(1)
    turn = Mutex()

    def numbers():
        k = 0
        while True:
            ch.send(k)
            assert ch.recv() == k
            yield k
            k += 1

    shared = numbers()

    def work(i: int) -> list[int]:
        got = []
        for _ in range(scaled(100)):
            with turn:
                got.append(next(shared))
        return got

    got = sorted(k for part in spread(8, work).join() for k in part)
    assert got == list(range(8 * scaled(100)))


@alone()
def test_thread_locals_belong_to_threads() -> None:
    """Unpatched, threading.local is the OS thread's: a goroutine sees its thread's."""
    local = threading.local()

    def work(i: int) -> None:
        for _ in range(100):
            local.thread = thread_id()
            gosched()
            assert local.thread == thread_id()

    spread(16, work).join()
