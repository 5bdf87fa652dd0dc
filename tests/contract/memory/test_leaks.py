"""runtime.find_leaks and the collection of parked goroutines, from the contract.

How this suite reads "parked for ever on a channel or lock that nothing else can reach":
nothing but goroutines that are themselves parked so. Such a goroutine is garbage, as a
cycle of objects is. `find_leaks()`, called after a collection, answers a list with an
entry each, which tells (as text, or in attributes) where the goroutine was born and where
it parked, as file:line. Either the collection itself or find_leaks may end it, later
calls may name it again or not; but in the end, after some collections, its `finally`
blocks have run, and what only its frames held is free.

Left open: a goroutine whose Goroutine object is still held (nobody can wake it through
that), and whether one that waits for nothing at all (`select()`) counts.

All programs run in interpreters of their own, so that nothing leaks into other tests.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from goroutines import Chan, go, runtime
from goroutines.testing import no_leaks, wait_all_blocked

from ...conftest import parked, run_command, scaled
from .tools import survives

LEAKS = """
import gc
import sys
import threading
import weakref
from goroutines import *
from goroutines import context, runtime, signal, sync, testing, time
from goroutines.testing import wait_all_blocked

class Token:
    pass

LINES = open(__file__).read().splitlines()

def place(marker):
    "file:line of the line that ends with this comment."
    return f"{__file__}:{[i for i, line in enumerate(LINES, 1) if line.endswith('# ' + marker)][0]}"

def describe(leak):
    "All that an entry tells of itself."
    parts = [str(leak), repr(leak)]
    for name in dir(leak):
        if not name.startswith("_"):
            value = getattr(leak, name)
            if name == "stack" and callable(value):
                value = value()
            parts.append(f"{name}: {value}")
    return "\\n".join(parts)

def found():
    "What leaks, after a collection."
    wait_all_blocked()
    runtime.gc()
    return list(runtime.find_leaks())

def collected(condition):
    "Collect until the condition is true."
    for _ in range(200):
        if condition():
            return
        gc.collect()
        runtime.find_leaks()
        gosched()
        sleep(0.001)
    raise AssertionError(runtime.stack(all=True)[:5000])
"""


def leaking(source: str) -> None:
    """Run a program with LEAKS; it must end well."""
    survives(source, names=LEAKS)


# What is made, and how it is waited for in vain.
WAYS = {
    "recv": ("ch = Chan()", "ch.recv()"),
    "recv_ok": ("ch = Chan(3)", "ch.recv_ok()"),
    "iteration": ("ch = Chan()", "list(ch)"),
    "send": ("ch = Chan()", "ch.send(1)"),
    "full": ("ch = Chan(1); ch.send(1)", "ch.send(2)"),
    "select": ("a, b = Chan(), Chan()", "select(recv(a), send(b, 1))"),
    "prepared select": ("s = Select(recv(Chan()))", "s()"),
    "receiver": ("ch = Chan().receiver", "ch.recv()"),
    "Mutex": ("mu = Mutex(); mu.lock()", "mu.lock()"),
    "RWMutex": ("rw = RWMutex(); rw.lock()", "rw.rlock()"),
    "RWMutex writer": ("rw = RWMutex(); rw.rlock()", "rw.lock()"),
    "WaitGroup": ("wg = WaitGroup(); wg.add(1)", "wg.wait()"),
    "Semaphore": ("sem = Semaphore(1); sem.acquire()", "sem.acquire()"),
    "Cond": ("mu = Mutex(); cond = Cond(mu); mu.lock()", "cond.wait()"),
}


@pytest.mark.parametrize("way", WAYS)
def test_found(way: str) -> None:
    """Whatever it waits for: it is found, by the places of its birth and its parking."""
    make, wait = WAYS[way]
    leaking(
        f"""
        def leak():
            {make}
            def body():
                {wait}  # parked
            go(body)  # born

        leak()
        leaks = found()
        assert len(leaks) == 1, leaks
        text = describe(leaks[0])
        assert place("born") in text, text
        assert place("parked") in text, text
        """
    )


def test_deep_inside() -> None:
    """The place of parking is shown when it is deep inside other calls as well."""
    leaking(
        """
        def wait(ch):
            return [ch.recv() for _ in range(3)]  # parked

        def leak():
            ch = Chan()
            go(lambda: sorted([1], key=lambda x: wait(ch)))  # born

        leak()
        [leak] = found()
        text = describe(leak)
        assert place("born") in text, text
        assert place("parked") in text, text
        """
    )


def test_nothing_leaks() -> None:
    """Without leaks the answer is empty."""
    leaking(
        """
        assert found() == []
        g = go(gosched)
        g.join()
        assert found() == []
        ch = Chan()
        go(ch.recv)
        assert found() == []
        ch.send(1)
        wait_all_blocked()
        assert num_goroutine() == 1
        """
    )


def test_two_that_wait_for_each_other() -> None:
    """Goroutines that only reach one another are leaked together."""
    leaking(
        """
        def leak():
            a, b = Chan(), Chan()
            go(lambda: (a.recv(), b.send(1)))  # first
            go(lambda: (b.recv(), a.send(1)))  # second

        leak()
        leaks = found()
        assert len(leaks) == 2, leaks
        text = "\\n".join(map(describe, leaks))
        assert place("first") in text and place("second") in text, text
        """
    )


def test_many() -> None:
    """Each of many is found, started from many places on many threads."""
    leaking(
        """
        runtime.gomaxprocs(4)

        def leak(n):
            ch = Chan()
            go(ch.recv)
            if n:
                leak(n - 1)

        for _ in range(10):
            go(leak, 9)
        assert len(found()) == 100
        """
    )


def test_only_a_weak_reference() -> None:
    """A weak reference reaches nothing."""
    leaking(
        """
        def leak():
            holder = Token()
            holder.ch = Chan()
            go(lambda: holder.ch.recv())
            return weakref.ref(holder)

        ref = leak()
        assert len(found()) == 1
        collected(lambda: ref() is None)
        """
    )


def test_no_longer_reached() -> None:
    """What was reached is a leak as soon as the last who could reach it lets go."""
    leaking(
        """
        ch = Chan()
        go(ch.recv)
        assert found() == []
        del ch
        assert len(found()) == 1

        def sender():
            mine = Chan()
            go(mine.recv)
            gate.recv()

        gate = Chan()
        collected(lambda: num_goroutine() == 1)
        go(sender)
        assert found() == []
        gate.send(1)
        leaks = found()
        assert len(leaks) == 1, leaks
        """
    )


def test_asked_by_a_goroutine() -> None:
    """Any goroutine may ask."""
    leaking(
        """
        answers = []

        def ask():
            answers.append(len(found()))

        def leak():
            ch = Chan()
            go(ch.recv)

        leak()
        go(ask).join()
        assert answers == [1]
        """
    )


# What still reaches the channel `ch` that a goroutine waits for; `holder` is any object.
REACHED = {
    "global": "global ch_; ch_ = ch",
    "list in a dict in an object": "KEEP.append({'x': [holder]}); holder.ch = ch",
    "closure": "KEEP.append(lambda: ch)",
    "default": "def f(x=ch): pass\nKEEP.append(f)",
    "bound method": "KEEP.append(ch.send)",
    "narrow end": "KEEP.append(ch.sender)",
    "prepared select": "KEEP.append(Select(send(ch, 1)))",
    "generator": "def f():\n    mine = ch\n    yield\ng = f(); next(g); KEEP.append(g)",
    "partial": "import functools; KEEP.append(functools.partial(ch.send, 1))",
    "buffered in another": "other = Chan(1); other.send(ch); KEEP.append(other)",
    "slice": "KEEP.append(slice_of(object, ch))",
    "array": "KEEP.append(array_of(object, ch))",
    "pointer": "p = new(object); p.value = ch; KEEP.append(p)",
    "map": "m = make(Map[string, object]); m['x'] = ch; KEEP.append(m)",
    "sync.Map": "m = sync.Map(); m.store(1, ch); KEEP.append(m)",
    "atomic": "v = sync.atomic.Value(); v.store(ch); KEEP.append(v)",
    "context variable": "import contextvars\nv = contextvars.ContextVar('v'); v.set(ch)",
    "thread local": "local = threading.local(); local.ch = ch; KEEP.append(local)",
    "atexit": "import atexit; atexit.register(ch.close)",
    "module": "import types; m = types.ModuleType('m'); m.ch = ch; sys.modules['m'] = m",
    "class": "KEEP.append(type('A', (), {'ch': ch}))",
    "exception": "def f():\n    mine = ch\n    1 / 0\n"
    "try: f()\nexcept ZeroDivisionError as e: KEEP.append(e)",
    "sleeping goroutine": "def f():\n    mine = ch\n    sleep(3600)\ngo(f)",
    "goroutine's argument": "go(lambda c: sleep(3600), ch)",
    "goroutine in a chain": "def f():\n    mine = ch\n    GATE.recv()\ngo(f)",
    "chain of chains": "def f(depth, c):\n    if depth:\n        d = Chan(); go(f, depth - 1, d)\n"
    "        d.recv_ok(); c.close()\n    else:\n        GATE.recv()\n        c.close()\n"
    "go(f, 20, ch)",
    "running goroutine": "def f():\n    mine = ch\n    while not DONE: sleep(0.001)\ngo(f)",
    "timer function": "KEEP_NOT = time.after_func(3600, lambda: ch.send(1)); del KEEP_NOT",
    "deferred function": "@defers\ndef f():\n    defer(ch.close)\n    GATE.recv()\ngo(f)",
    "context's function": "c = context.with_cancel(context.background()); "
    "context.after_func(c, ch.close); KEEP.append(c)",
    "blocking call": "def f():\n    blocking(EVENT.wait)\n    ch.close()\ngo(f)",
    "blocking call's argument": "go(blocking, lambda c: EVENT.wait(), ch)",
    "plain thread": "def f(mine):\n    EVENT.wait()\n"
    "threading.Thread(target=f, args=(ch,), daemon=True).start()",
}


@pytest.mark.parametrize("how", REACHED)
def test_reached(how: str) -> None:
    """A goroutine that something could still wake is no leak, and stays as it is."""
    statements = textwrap.indent(REACHED[how], " " * 16)
    leaking(
        f"""
        KEEP, DONE, EVENT, GATE = [], [], threading.Event(), Chan()
        ENDED = []

        def waiter(ch):
            try:
                ch.recv_ok()
            finally:
                ENDED.append(True)

        def leak():
            ch, holder = Chan(), Token()
            go(waiter, ch)
            def reach(ch, holder):
{statements}
            reach(ch, holder)

        leak()
        sleep(0.01)
        """
        + """
        before = num_goroutine()
        for _ in range(3):
            runtime.gc()
            leaks = list(runtime.find_leaks())
            assert leaks == [], list(map(describe, leaks))
            sleep(0.001)
        assert not ENDED
        assert num_goroutine() == before >= 2
        DONE.append(True)
        EVENT.set()
        """
    )


def test_reached_from_main() -> None:
    """What main has in its locals, arguments and half evaluated expressions is reached."""
    leaking(
        """
        def look(*args):
            leaks = found()
            assert leaks == [], list(map(describe, leaks))
            return 1

        def started():
            ch = Chan()
            go(ch.recv)
            return ch

        def local():
            ch = started()
            look()
            ch.send(1)

        def on_the_stack():
            [started(), started(), look()]

        def argument():
            look(started())

        def nested():
            {"a": started(), "b": [look() for _ in range(2)]}

        for function in (local, on_the_stack, argument, nested):
            function()
            collected(lambda: num_goroutine() == 1)  # what it had is garbage now
        """
    )


# Goroutines whose wait ends by something that is no Python object.
WOKEN = {
    "sleep": "sleep(3600)",
    "recv with a timeout": "try: Chan().recv(timeout=3600)\nexcept TimeoutError: pass",
    "select with a timeout": "select(recv(Chan()), timeout=3600)",
    "lock with a timeout": "mu = Mutex(); mu.lock(); mu.lock(timeout=3600)",
    "after": "time.after(3600).recv()",
    "timer": "t = time.Timer(3600); t.c.recv()",
    "ticker": "time.Ticker(3600).c.recv()",
    "deadline": "context.with_timeout(context.background(), 3600).done().recv_ok()",
    "scope": "with context.scope(context.with_timeout(context.background(), 3600)): Chan().recv()",
    "signal": "import signal as s; signal.notify(s.SIGUSR1).recv()",
    "blocking": "blocking(EVENT.wait)",
}


@pytest.mark.parametrize("how", WOKEN)
def test_woken_from_outside(how: str) -> None:
    """Who waits for a time, a signal, or a blocking call is no leak."""
    statements = textwrap.indent(WOKEN[how], " " * 12)
    leaking(
        f"""
        EVENT = threading.Event()
        def body():
{statements}

        go(body)
        """
        + """
        sleep(0.01)
        for _ in range(3):
            runtime.gc()
            leaks = list(runtime.find_leaks())
            assert leaks == [], list(map(describe, leaks))
            sleep(0.001)
        assert num_goroutine() == 2
        EVENT.set()
        """
    )


def test_sockets() -> None:
    """Who waits for a socket is no leak, though nothing else has it."""
    leaking(
        """
        from goroutines.patch import patch
        patch()
        import socket

        PEERS = []

        def client():
            a, b = socket.socketpair()
            PEERS.append(a.detach())
            assert b.recv(1) == b"x"
            done.append(True)

        done = []
        go(client)
        sleep(0.01)
        for _ in range(3):
            runtime.gc()
            leaks = list(runtime.find_leaks())
            assert leaks == [], list(map(describe, leaks))
        assert num_goroutine() == 2
        peer = socket.socket(fileno=PEERS[0])
        peer.sendall(b"x")
        while not done:
            gosched()
        """
    )


def test_pools_and_groups() -> None:
    """Idle workers of a pool, and tasks of a group that is waited for, are no leaks."""
    leaking(
        """
        pool = Pool(3, idle=3600)
        assert list(pool.map(str, range(10))) == list(map(str, range(10)))
        leaks = found()
        assert leaks == [], list(map(describe, leaks))
        gate = Chan()
        with Group() as group:
            futures = [group.go(gate.recv) for _ in range(3)]
            go(lambda: [f.result() for f in futures])
            leaks = found()
            assert leaks == [], list(map(describe, leaks))
            for i in range(3):
                gate.send(i)
        assert sorted(f.result() for f in futures) == [0, 1, 2]
        assert pool.submit(int, "5").result() == 5
        pool.shutdown()
        """
    )


# --- collecting them --------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_finally_runs(way: str) -> None:
    """The clean-up of a leaked goroutine runs in the end, and the goroutine is gone."""
    make, wait = WAYS[way]
    leaking(
        f"""
        log = []

        def leak():
            {make}
            def body():
                token = Token()
                refs.append(weakref.ref(token))
                try:
                    {wait}
                except Exception:
                    log.append("an Exception")
                    raise
                finally:
                    log.append("finally")
                log.append("went on")
            go(body)

        refs = []
        leak()
        wait_all_blocked()
        collected(lambda: log and num_goroutine() == 1 and refs[0]() is None)
        assert log == ["finally"], log
        """
    )


def test_ended_by_goroutine_exit() -> None:
    """It ends as all goroutines do that are ended: by GoroutineExit, which is no panic."""
    leaking(
        """
        log = []

        def leak():
            ch = Chan()
            @defers
            def body():
                defer(log.append, "deferred")
                try:
                    ch.recv()
                except BaseException as error:
                    log.append(type(error))
                    raise
            go(body)

        leak()
        collected(lambda: num_goroutine() == 1)
        assert log == [GoroutineExit, "deferred"], log
        """
    )


def test_cycle_through_frames() -> None:
    """A cycle of objects through the frame of a parked goroutine is collected."""
    leaking(
        """
        class Holder:
            def __init__(self):
                self.ch = Chan()
                self.log = log
                self.goroutine = go(self.body)

            def body(self):
                me = [self]
                try:
                    self.ch.recv()
                finally:
                    self.log.append(me[0] is self)

        log = []
        refs = [weakref.ref(Holder()) for _ in range(50)]
        wait_all_blocked()
        collected(lambda: all(ref() is None for ref in refs))
        assert log == [True] * 50
        assert num_goroutine() == 1
        """
    )


def test_cycle_through_the_evaluation_stack() -> None:
    """Half evaluated expressions and iterators of a parked frame are part of it."""
    leaking(
        """
        refs = []

        def fresh(ch):
            token = Token()
            token.ch = ch
            refs.append(weakref.ref(token))
            return token

        def leak():
            ch = Chan()
            def body():
                for token in iter([fresh(ch), fresh(ch)]):
                    [fresh(ch), {"x": fresh(ch), "y": ch.recv()}]
            def in_generator():
                def g():
                    yield fresh(ch), ch.recv()
                list(g())
            go(body)
            go(in_generator)

        for _ in range(10):
            leak()
        wait_all_blocked()
        collected(lambda: num_goroutine() == 1 and all(ref() is None for ref in refs))
        assert len(refs) == 50
        """
    )


def test_those_that_are_reached_are_spared() -> None:
    """Among thousands only the garbage goes; what the others hold is whole."""
    leaking(
        f"""
        count = {scaled(2000, 100)}
        """
        + """
        kept, ended = [], []

        def body(i, ch):
            token = [i]
            try:
                assert ch.recv() == i
                assert token == [i]
                ended.append(i)
            except GoroutineExit:
                ended.append(-1)
                raise

        def start():
            for i in range(count):
                ch = Chan()
                go(body, i, ch)
                if i % 2:
                    kept.append((i, ch))

        start()
        wait_all_blocked()
        collected(lambda: len(ended) >= count // 2)
        assert ended == [-1] * (count // 2)
        assert num_goroutine() == 1 + count // 2
        for i, ch in kept:
            ch.send(i)
        collected(lambda: num_goroutine() == 1)
        assert sorted(ended[count // 2:]) == list(range(1, count, 2))
        """
    )


def test_leaking_for_ever() -> None:
    """A program that leaks goroutines again and again does not grow."""
    leaking(
        f"""
        rounds = {scaled(30, 10)}
        """
        + """
        def leak():
            ch, data = Chan(), bytearray(10_000)
            go(lambda: (ch.recv(), data))

        for _ in range(rounds):
            for _ in range(200):
                leak()
            wait_all_blocked()
            collected(lambda: num_goroutine() < 100)
        """
    )


@pytest.mark.parametrize("how", ["gc.collect()", "automatic"])
def test_collected_by(how: str) -> None:
    """The collector does it whenever it runs, though nobody calls find_leaks."""
    leaking(
        f"""
        how = {how!r}
        """
        + """
        log = []

        def leak():
            ch = Chan()
            def body():
                try:
                    ch.recv()
                finally:
                    log.append("finally")
            go(body)

        leak()
        wait_all_blocked()
        for _ in range(300):
            if log:
                break
            if how == "automatic":
                for _ in range(20_000):
                    cycle = []
                    cycle.append(cycle)
            else:
                gc.collect()
            sleep(0.001)
        assert log == ["finally"]
        """
    )


def test_clean_up_that_waits() -> None:
    """A finally block may sleep, send and lock; it is finished like any other code."""
    leaking(
        """
        out, mu, log = Chan(), Mutex(), []

        def leak(i):
            ch = Chan()
            def body():
                try:
                    ch.recv()
                finally:
                    with mu:
                        sleep(0.001)
                    out.send(i)
                    log.append(i)
            go(body)

        for i in range(20):
            leak(i)
        wait_all_blocked()
        gc.collect()
        runtime.find_leaks()
        gc.collect()
        assert sorted(out.recv(timeout=30) for _ in range(20)) == list(range(20))
        collected(lambda: num_goroutine() == 1)
        assert len(log) == 20
        """
    )


def test_clean_up_that_comes_back() -> None:
    """A finally block may put what was garbage within reach again, all whole."""
    leaking(
        """
        saved = []

        def leak(i):
            ch, data = Chan(), [i]
            def body():
                try:
                    ch.recv()
                finally:
                    saved.append((ch, data, current()))
            go(body)

        for i in range(20):
            leak(i)
        wait_all_blocked()
        collected(lambda: len(saved) == 20 and num_goroutine() == 1)
        gc.collect()
        for ch, data, g in saved:
            assert g.done
            assert len(data) == 1
            assert ch.try_send(1) is False
            ch.close()
        assert sorted(data[0] for _, data, _ in saved) == list(range(20))
        """
    )


def test_one_that_will_not_go() -> None:
    """A goroutine that swallows its end and waits again does no harm to others."""
    leaking(
        """
        tries = [0]

        def leak():
            ch = Chan()
            def body():
                while tries[0] < 5:
                    try:
                        ch.recv()
                    except BaseException:
                        tries[0] += 1
            go(body)

        leak()
        wait_all_blocked()
        for _ in range(20):
            gc.collect()
            runtime.find_leaks()
            sleep(0.001)
        assert tries[0] >= 1
        done = []
        go(done.append, 1).join()
        assert done == [1]
        """
    )


def test_clean_up_that_raises() -> None:
    """An exception in the clean-up is a panic, as of any goroutine."""
    leaking(
        """
        seen = []
        set_panic_hook(lambda g, error: seen.append(repr(error)) or True)

        def leak():
            ch = Chan()
            def body():
                try:
                    ch.recv()
                finally:
                    raise KeyError("clean-up")
            go(body)

        leak()
        wait_all_blocked()
        collected(lambda: seen)
        assert seen == ["KeyError('clean-up')"]
        """
    )


def test_finalizers_among_it() -> None:
    """Objects with finalizers and weak references in leaked frames are finalized once."""
    leaking(
        """
        died, called = [], []

        class Dying:
            def __init__(self, i, ch):
                self.i, self.ch = i, ch
            def __del__(self):
                gosched()
                died.append(self.i)

        def leak(i):
            ch = Chan()
            mine = Dying(i, ch)
            weakref.finalize(mine, called.append, i)
            def body():
                mine
                ch.recv()
            go(body)

        for i in range(50):
            leak(i)
        wait_all_blocked()
        collected(lambda: len(died) == len(called) == 50 and num_goroutine() == 1)
        assert sorted(died) == sorted(called) == list(range(50))
        """
    )


def test_in_a_plain_thread() -> None:
    """Goroutines of a plain thread are found and collected too, while it lives."""
    leaking(
        """
        log = []

        def leak():
            ch = Chan()
            def body():
                try:
                    ch.recv()  # parked
                finally:
                    log.append("finally")
            go(body)  # born

        def in_thread():
            leak()
            for _ in range(50):
                gosched()
            gc.collect()
            texts.extend(map(describe, runtime.find_leaks()))
            for _ in range(200):
                if log:
                    break
                gc.collect()
                sleep(0.001)

        texts = []
        t = threading.Thread(target=in_thread)
        t.start()
        while t.is_alive():
            sleep(0.001)
        assert any(place("born") in text and place("parked") in text for text in texts), texts
        assert log == ["finally"]
        """
    )


def test_collector_looks_at_parked_goroutines() -> None:
    """gc's functions take parked, running and dead goroutines without crashing."""
    leaking(
        """
        token = Token()

        def body(token):
            ch.recv()

        ch = Chan()
        gs = [go(body, token) for _ in range(20)]
        wait_all_blocked()
        for g in [*gs, current()]:
            for referent in gc.get_referents(g):
                repr(referent)
        gc.get_referrers(token)
        gc.get_objects()
        gc.freeze()
        gc.collect()
        gc.unfreeze()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        gc.garbage.clear()
        for _ in gs:
            ch.send(1)
        for g in gs:
            g.join()
            gc.get_referents(g)
        """
    )


def test_deadlock_is_still_one() -> None:
    """Leaked goroutines do not keep main's deadlock from being told."""
    leaking(
        """
        def leak():
            ch = Chan()
            go(ch.recv)

        leak()
        wait_all_blocked()
        try:
            Chan().recv()
        except Deadlock as error:
            assert "all goroutines are asleep - deadlock!" in str(error)
        else:
            raise AssertionError
        """
    )


def test_at_exit() -> None:
    """A program that ends with leaks ends quietly, their clean-up not being run, as in Go."""
    done = survives(
        """
        def leak():
            ch = Chan()
            def body():
                try:
                    ch.recv()
                except GoroutineExit:
                    pass
            go(body)

        for _ in range(20):
            leak()
        wait_all_blocked()
        gc.disable()
        """,
        names=LEAKS,
    )
    assert done.stdout == ""
    assert "Error" not in done.stderr


# --- testing.no_leaks -------------------------------------------------------------------------


def test_no_leaks_names_them() -> None:
    """no_leaks fails for a goroutine that waits for ever for what nobody has."""
    ch: Chan[None] | None = Chan()
    with pytest.raises(AssertionError) as caught:
        with no_leaks():
            assert ch is not None
            g = go(ch.recv)
            parked(g)
    assert str(g.created_by) in str(caught.value)
    ch.send(None)
    g.join()


def test_no_leaks_of_garbage() -> None:
    """One that nothing reaches is named too, and so is where it waits."""
    leaking(
        """
        def leak():
            ch = Chan()
            def body():
                ch.recv()  # parked
            go(body)  # born

        try:
            with testing.no_leaks():
                leak()
                wait_all_blocked()
        except AssertionError as error:
            assert place("born") in str(error), error
        else:
            raise AssertionError("no_leaks passed")
        """
    )


def test_no_leaks_fixture(tmp_path: Path) -> None:
    """In a test the fixture fails it and spares the next one."""
    path = tmp_path / "test_sample.py"
    path.write_text(
        textwrap.dedent(
            """
            from goroutines import Chan, go

            def test_that_leaks(no_leaks):
                go(lambda: Chan().recv())

            def test_that_does_not(no_leaks):
                go(int).join()
            """
        ),
        encoding="utf-8",
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(path)]
    done = run_command(command, cwd=tmp_path)
    assert done.returncode == 1, done
    assert "test_sample.py:5" in done.stdout
    assert "test_that_does_not" not in done.stdout.partition("short test summary")[2]


def test_find_leaks_here() -> None:
    """In this very process: what main reaches is not named."""
    ch: Chan[int] = Chan()
    g = go(ch.recv)
    wait_all_blocked()
    runtime.gc()
    assert str(g.created_by) not in "\n".join(map(str, runtime.find_leaks()))
    ch.send(1)
    g.join()
