"""patch(), its switches, is_patched, original, report; and the command that patches."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .tools import only_patched, run, run_patched

pytestmark = only_patched
UNPATCHED = {"GOROUTINES_TEST_SWITCHES": "none"}


def test_is_patched_and_original() -> None:
    """Both answer before and after, for modules and for names."""
    run_patched(
        """
        from goroutines.patch import is_patched, original, patch, report
        names = [
            "socket", "ssl", "select", "selectors", "threading", "queue", "subprocess", "os",
            "time", "signal", "concurrent.futures", "multiprocessing", "time.sleep",
            "threading.Lock", "threading.Thread", "select.select", "os.read", "os.waitpid",
        ]
        assert [name for name in names if is_patched(name)] == []
        before = {
            ("time", "sleep"): time.sleep, ("threading", "Lock"): threading.Lock,
            ("threading", "get_ident"): threading.get_ident, ("os", "read"): os.read,
            ("threading", "local"): threading.local, ("os", "waitpid"): os.waitpid,
        }
        import select
        before["select", "select"] = select.select
        for (module, name), function in before.items():
            assert original(module, name) is function, name
        patch()
        assert [name for name in names if not is_patched(name)] == []
        for name in ("math", "json", "time.monotonic", "nonsense", "time.nonsense", "os.getcwd"):
            assert is_patched(name) is False, name
        for (module, name), function in before.items():
            assert original(module, name) is function, name
        assert time.sleep is not before["time", "sleep"]
        assert original("os", "getcwd") is os.getcwd
        assert isinstance(outcome(original, "os", "nonsense"), AttributeError)
        assert isinstance(outcome(original, "no.such.module", "x"), ImportError)
        started = time.monotonic()
        original("time", "sleep")(0.01)
        lock = original("threading", "Lock")()
        assert lock.acquire() and not lock.acquire(False)
        assert isinstance(report(), list)
        """,
        env=UNPATCHED,
    )


def test_twice_is_harmless() -> None:
    """A second patch() changes nothing."""
    run_patched("""
        import select, ssl, queue
        from goroutines.patch import is_patched, original, patch
        things = lambda: [
            time.sleep, threading.Lock, threading.Thread, threading.local, socket.socket,
            socket.socket.recv, select.select, ssl.SSLContext, queue.SimpleQueue, os.read,
            os.waitpid, threading.get_ident, original("time", "sleep"), os.close,
        ]
        before = things()
        lock = threading.Lock()
        lock.acquire()
        task = parks(lock.acquire)
        assert patch() is None and patch() is None
        assert all(x is y for x, y in zip(before, things()))
        lock.release()
        task.result()
        task = parks(time.sleep, 0.01)
        task.result()
        """)


def test_unknown_switch() -> None:
    """A switch that is not there is a TypeError, and nothing was patched."""
    run_patched(
        """
        from goroutines.patch import is_patched, patch
        sleep = time.sleep
        error = outcome(patch, nonsense=False)
        assert type(error) is TypeError and "nonsense" in str(error), error
        assert type(outcome(patch, True)) is TypeError
        assert not is_patched("time") and time.sleep is sleep
        """,
        env=UNPATCHED,
    )


@pytest.mark.parametrize("switch", ["time", "threading", "socket", "select", "os", "queue"])
def test_switches(switch: str) -> None:
    """What is switched off stays as it is, and the rest works."""
    run_patched(
        f"""
SWITCH = {switch!r}
from goroutines.patch import is_patched, original, patch
import _thread, queue, select
before = dict(
    time=time.sleep, threading=_thread.start_new_thread, select=select.select, os=os.read,
    socket=socket.socket.recv, queue=queue.SimpleQueue,
)
"""
        + """
patch(**{SWITCH: False})
now = dict(
    time=time.sleep, threading=_thread.start_new_thread, select=select.select, os=os.read,
    socket=socket.socket.recv, queue=queue.SimpleQueue,
)
assert now[SWITCH] is before[SWITCH]
assert not is_patched(SWITCH)
if SWITCH == "threading":
    assert not is_patched("threading.Thread")
    seen = []
    t = threading.Thread(target=lambda: seen.append(threading.get_native_id()))
    t.start()
    t.join()
    assert seen != [threading.get_native_id()]  # a real thread
    lock = threading.Lock()
    assert lock.acquire() and not lock.acquire(False)
else:
    assert is_patched("threading")
    event = threading.Event()
    task = parks(event.wait)
    event.set()
    task.result()
if SWITCH != "time":
    parks(time.sleep, 0.01).result()
if SWITCH not in ("socket", "select"):
    a, b = socket.socketpair()
    task = parks(a.recv, 1)
    b.send(b"x")
    assert task.result() == b"x"
""",
        env=UNPATCHED,
    )


def test_switched_on_later() -> None:
    """patch() adds what was left out."""
    run_patched(
        """
        from goroutines.patch import is_patched, patch
        patch(threading=False)
        assert not is_patched("threading") and is_patched("time")
        lock = threading.Lock()
        patch()
        assert is_patched("threading")
        lock.acquire()
        task = parks(lock.acquire)
        lock.release()
        task.result()
        """,
        env=UNPATCHED,
    )


def test_report() -> None:
    """Nothing escapes from a clean start; what does is named, and where it is."""
    run_patched(
        """
        from goroutines.patch import report
        assert report() == []
        """,
        before="import sys",
    )
    run_patched(
        """
        from goroutines.patch import report
        told = report()
        assert isinstance(told, list) and len(told) >= 1
        assert any("time.sleep" in str(escape) for escape in told), told
        """,
        before="import functools, time, warnings\nescaped = functools.partial(time.sleep, 1)",
    )


# --- goroutines run ---------------------------------------------------------------------------

PROGRAM = """
import sys, threading, time
from goroutines.patch import is_patched
import goroutines, warnings
def body():
    time.sleep(0.01)
    print("thread", goroutines.current().id != 1, flush=True)
t = threading.Thread(target=body)
t.start()
t.join()
print(is_patched("socket"), is_patched("time.sleep"), __name__, sys.argv[1:])
sys.exit(3)
"""


def test_run_patches(tmp_path: Path) -> None:
    """`goroutines run` patches first; --no-patch does not."""
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    command = [sys.executable, "-m", "goroutines", "run"]
    done = run([*command, str(script), "a", "--no-patch"], returncode=3)
    assert done.stdout == "thread True\nTrue True __main__ ['a', '--no-patch']\n"
    done = run([*command, "--no-patch", str(script), "a"], returncode=3)
    assert done.stdout.endswith("False False __main__ ['a']\n")
    (tmp_path / "module.py").write_text(PROGRAM)
    done = run([*command, "-m", "module", "a"], returncode=3, env={"PYTHONPATH": str(tmp_path)})
    assert done.stdout == "thread True\nTrue True __main__ ['a']\n"


@pytest.mark.parametrize(
    ("program", "status", "text"),
    [
        ("import queue; queue.Queue().get()", 2, "deadlock"),
        ("import goroutines, time; goroutines.go(lambda: 1 / 0); time.sleep(9)", 2, "panic"),
        ("raise ValueError", 1, "ValueError"),
        ("import threading, time; threading.Timer(0.02, print, ['late']).start()", 0, ""),
    ],
)
def test_run_and_its_status(tmp_path: Path, program: str, status: int, text: str) -> None:
    """Exit status: the script's own, 2 for a panic or a deadlock."""
    script = tmp_path / "script.py"
    script.write_text(program)
    done = run([sys.executable, "-m", "goroutines", "run", str(script)], returncode=status)
    assert text in done.stderr
    if status == 0:
        assert (done.stdout, done.stderr) == ("late\n", "")
