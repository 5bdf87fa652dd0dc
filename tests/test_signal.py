"""goroutines.signal: signals that come by a channel, and what they do when nobody asked."""

from __future__ import annotations

import signal

import pytest

from goroutines import signal as gosignal
from goroutines.context import background

from .conftest import run_program

PRELUDE = """\
import os, signal, subprocess
from goroutines import Chan, go, recv, select, sleep
from goroutines.context import Canceled, background, with_cancel, with_timeout, with_value
from goroutines.signal import notify, notify_context, stop

def kill(signum):
    os.kill(os.getpid(), signum)

def kill_later(signum):
    # From another process, so that nothing of this one's own could hold a deadlock back.
    name = signal.Signals(signum).name[3:]
    return subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -{name} {os.getpid()}"])

"""


def outcome(body: str, status: int = 0) -> list[str]:
    """Run the program, check how it ended, and return the lines that it printed."""
    done = run_program(PRELUDE + body)
    assert done.returncode == status, done
    return done.stdout.splitlines()


# --- notify -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGCHLD"])
def test_notify(name: str) -> None:
    """A signal that was asked for comes by the channel, instead of what it did before."""
    body = f"""
ch = notify(signal.{name})
for _ in range(3):
    kill(signal.{name})
    print(ch.recv() == signal.{name})
"""
    assert outcome(body) == ["True"] * 3


def test_several_signals_by_one_channel() -> None:
    """One channel tells several signals apart, and is not told of others."""
    body = """
ch = notify(signal.SIGUSR1, signal.SIGHUP)
other = notify(signal.SIGUSR2)
for signum in (signal.SIGHUP, signal.SIGUSR2, signal.SIGUSR1):
    kill(signum)
    if signum == signal.SIGUSR2:
        print(int(other.recv()) == signum)
    else:
        print(int(ch.recv()) == signum)
print(ch.try_recv(), other.try_recv())
"""
    assert outcome(body) == ["True", "True", "True", "(None, False) (None, False)"]


def test_every_channel_gets_its_own() -> None:
    """All channels that asked for a signal are told of it."""
    body = """
chans = [notify(signal.SIGUSR1) for _ in range(5)]
kill(signal.SIGUSR1)
for ch in chans:
    print(signal.Signals(ch.recv()).name)
"""
    assert outcome(body) == ["SIGUSR1"] * 5


def test_signal_while_waiting() -> None:
    """Waiting for a signal alone is no deadlock: one may always come."""
    body = """
ch = notify(signal.SIGUSR1)
child = kill_later(signal.SIGUSR1)
print(signal.Signals(ch.recv()).name)
child.wait()
"""
    assert outcome(body) == ["SIGUSR1"]


def test_signal_before_anybody_waits() -> None:
    """A signal that comes while nobody receives is kept."""
    body = """
ch = notify(signal.SIGUSR1)
kill(signal.SIGUSR1)
sleep(0.05)
print(signal.Signals(ch.recv()).name)
"""
    assert outcome(body) == ["SIGUSR1"]


def test_slow_receiver_blocks_nothing() -> None:
    """Signals to a channel that nobody reads are dropped, never waited for."""
    body = """
slow, ch = notify(signal.SIGUSR1), notify(signal.SIGUSR1)
for _ in range(1000):
    kill(signal.SIGUSR1)
    ch.recv()
print(1 <= len(slow) <= 1000)
"""
    assert outcome(body) == ["True"]


def test_in_a_goroutine() -> None:
    """A goroutine asks and waits as well as main, in a select too."""
    body = """
told = Chan()

def body():
    ch = notify(signal.SIGUSR1)
    told.send("ready")
    told.send(select(recv(ch), recv(Chan()))[0])

go(body)
print(told.recv())
kill(signal.SIGUSR1)
print(told.recv())
"""
    assert outcome(body) == ["ready", "0"]


def test_during_a_computation() -> None:
    """A signal that comes while main computes is told afterwards, and interrupts nothing."""
    body = """
ch = notify(signal.SIGINT)
kill(signal.SIGINT)
print(sum(range(100_000)))
print(signal.Signals(ch.recv()).name)
"""
    assert outcome(body) == ["4999950000", "SIGINT"]


# --- stop -------------------------------------------------------------------------------------


def test_stop_gives_sigint_back() -> None:
    """After stop SIGINT is KeyboardInterrupt again."""
    body = """
ch = notify(signal.SIGINT)
stop(ch)
try:
    kill(signal.SIGINT)
    sleep(10)
except KeyboardInterrupt:
    print("interrupted", ch.try_recv())
"""
    assert outcome(body) == ["interrupted (None, False)"]


def test_stop_gives_the_default_back() -> None:
    """After stop SIGTERM ends the process again."""
    body = """
stop(notify(signal.SIGTERM))
print("stopped", flush=True)
kill(signal.SIGTERM)
sleep(10)
print("never")
"""
    assert outcome(body, -signal.SIGTERM) == ["stopped"]


def test_stop_gives_a_handler_back() -> None:
    """After stop the handler that was there before is called again."""
    body = """
signal.signal(signal.SIGUSR1, lambda *args: print("handler"))
ch = notify(signal.SIGUSR1)
kill(signal.SIGUSR1)
ch.recv()
stop(ch)
kill(signal.SIGUSR1)
sleep(0.01)
"""
    assert outcome(body) == ["handler"]


def test_stop_of_one_of_two() -> None:
    """A channel that was stopped is told no more; the others are."""
    body = """
a, b = notify(signal.SIGUSR1), notify(signal.SIGUSR1, signal.SIGUSR2)
stop(a)
stop(a)
for signum in (signal.SIGUSR1, signal.SIGUSR2):
    kill(signum)
    print(int(b.recv()) == signum, a.try_recv())
"""
    assert outcome(body) == ["True (None, False)"] * 2


def test_notify_again() -> None:
    """A signal can be asked for again after a stop, any number of times."""
    body = """
for _ in range(20):
    ch = notify(signal.SIGUSR1)
    kill(signal.SIGUSR1)
    assert ch.recv() == signal.SIGUSR1
    stop(ch)
print(signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL)
"""
    assert outcome(body) == ["True"]


# --- notify_context ---------------------------------------------------------------------------


def test_notify_context() -> None:
    """The signal cancels the context."""
    body = """
with notify_context(background(), signal.SIGTERM, signal.SIGINT) as ctx:
    print(ctx.err())
    kill(signal.SIGTERM)
    print(ctx.done().recv_ok(), type(ctx.err()) is Canceled)
"""
    assert outcome(body) == ["None", "(None, False) True"]


def test_notify_context_wakes_who_waits() -> None:
    """Waiting for the context alone is no deadlock, and the signal ends the wait."""
    body = """
with notify_context(background(), signal.SIGTERM) as ctx:
    child = kill_later(signal.SIGTERM)
    ctx.done().recv_ok()
    print("canceled")
child.wait()
"""
    assert outcome(body) == ["canceled"]


@pytest.mark.parametrize("leave", ["ctx.cancel()", "ctx.__exit__(None, None, None)"])
def test_notify_context_left(leave: str) -> None:
    """Once the context was cancelled or its block was left, the signal does what it did."""
    body = f"""
ctx = notify_context(background(), signal.SIGINT)
ctx.__enter__()
{leave}
print(type(ctx.err()) is Canceled)
try:
    kill(signal.SIGINT)
    sleep(10)
except KeyboardInterrupt:
    print("interrupted")
"""
    assert outcome(body) == ["True", "interrupted"]


def test_notify_context_of_a_parent() -> None:
    """The parent's end, deadline and values are the context's too."""
    body = """
parent = with_cancel(with_value(background(), "key", 1))
with notify_context(parent, signal.SIGUSR1) as ctx:
    print(ctx.value("key"))
    parent.cancel()
    print(type(ctx.err()) is Canceled)
with with_timeout(background(), 0.01) as parent, notify_context(parent, signal.SIGUSR1) as ctx:
    ctx.done().recv_ok()
    print(isinstance(ctx.err(), TimeoutError))
print(signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL)
"""
    assert outcome(body) == ["1", "True", "True", "True"]


def test_second_interrupt() -> None:
    """The usual program: the first Ctrl-C asks for an orderly end, the second is a hard one."""
    body = """
with notify_context(background(), signal.SIGINT) as ctx:
    kill(signal.SIGINT)
    ctx.done().recv_ok()
    print("cleaning up")
try:
    kill(signal.SIGINT)
    sleep(10)
except KeyboardInterrupt:
    print("hard")
"""
    assert outcome(body) == ["cleaning up", "hard"]


# --- wrong arguments --------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [0, -1, 9999])
def test_no_such_signal(signum: int) -> None:
    """A number that is no signal is a ValueError at the call."""
    with pytest.raises(ValueError):
        gosignal.notify(signum)
    with pytest.raises(ValueError):
        gosignal.notify_context(background(), signum)


@pytest.mark.parametrize("signum", ["SIGINT", None, 1.5])
def test_signal_of_a_wrong_type(signum: object) -> None:
    """What is no signal at all is a TypeError, and changes nothing."""
    before = signal.getsignal(signal.SIGUSR2)
    with pytest.raises(TypeError):
        gosignal.notify(signal.SIGUSR2, signum)  # type: ignore[arg-type]
    assert signal.getsignal(signal.SIGUSR2) == before


def test_notify_context_without_a_parent() -> None:
    """A parent of None is a TypeError, as for every context."""
    with pytest.raises(TypeError):
        gosignal.notify_context(None, signal.SIGUSR2)  # type: ignore[arg-type]
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
