"""sysmon.c: who runs on while others wait is preempted, once the library is patched."""

from __future__ import annotations

from ..conftest import run_program

PATCHED = """
from goroutines.patch import patch
patch()
import signal, threading, time
from goroutines import WaitGroup, go, runtime, sleep
"""


def test_hogs_share_the_thread() -> None:
    """Goroutines that never wait, and main, which does, all get on."""
    done = run_program(
        PATCHED
        + """
counts, stop = [0, 0, 0], False
def hog(i):
    while not stop:
        counts[i] += 1
threads = [threading.Thread(target=hog, args=(i,)) for i in range(3)]
for t in threads:
    t.start()
while min(counts) < 1000:
    time.sleep(0.001)
stop = True
for t in threads:
    t.join()
"""
    )
    assert done.returncode == 0, done.stderr


def test_interrupt_reaches_main_past_a_hog() -> None:
    """Ctrl-C while another goroutine runs on raises in main, and only there."""
    done = run_program(
        PATCHED
        + """
import _thread
stop, seen = False, []
def hog():
    try:
        _thread.interrupt_main()
        while not stop:
            pass
    except KeyboardInterrupt:
        seen.append("hog")
t = threading.Thread(target=hog)
t.start()
try:
    t.join()
except KeyboardInterrupt:
    seen.append("main")
stop = True
t.join()
assert seen == ["main"], seen
"""
    )
    assert done.returncode == 0, done.stderr


def test_not_in_a_finalizer_of_the_collector() -> None:
    """Code that the garbage collector runs is not a place to switch."""
    done = run_program(
        PATCHED
        + """
import gc
runtime.gomaxprocs(1)
ticks = 0
def tick():
    global ticks
    while True:
        sleep(0.001)
        ticks += 1
go(tick)
class Slow:
    def __init__(self): self.me = self
    def __del__(self):
        before, end = ticks, time.monotonic() + 0.1
        while time.monotonic() < end:
            pass
        assert ticks == before
Slow()
gc.collect()
while not ticks:
    time.sleep(0.001)
"""
    )
    assert done.returncode == 0, done.stderr
    assert "Assertion" not in done.stderr


def test_a_forked_child_has_its_own() -> None:
    """Preemption goes on in the child."""
    done = run_program(
        PATCHED
        + """
import os
pid = os.fork()
if pid == 0:
    stop = False
    def hog():
        while not stop:
            pass
    g = go(hog)
    sleep(0)
    time.sleep(0.001)
    stop = True
    g.join()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
"""
    )
    assert done.returncode == 0, done.stderr


def test_unpatched_programs_are_left_alone() -> None:
    """Without patch() there is no such thread, and no handler."""
    done = run_program("""
    import goroutines, signal, os
    handlers = [s for s in range(1, signal.NSIG) if callable(signal.getsignal(s))]
    assert handlers == [signal.SIGINT], handlers
    """)
    assert done.returncode == 0, done.stderr
