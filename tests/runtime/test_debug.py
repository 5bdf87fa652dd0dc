"""The core's own fatal errors."""

from __future__ import annotations

import re
import signal

from ..conftest import run_program


def test_throw_dumps_and_aborts() -> None:
    """A broken invariant ends the process by SIGABRT, with every goroutine on stderr."""
    done = run_program(
        """
        import resource
        from goroutines import Chan, _runtime, go, gosched

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        def lonely():
            Chan().recv()

        g = go(lonely)
        while g.state != "waiting":
            gosched()
        print(g.id, flush=True)
        _runtime._debug_throw("x")
        print("never", flush=True)
        """
    )
    assert done.returncode == -signal.SIGABRT, done
    number = done.stdout.strip()
    assert number.isdecimal(), done
    assert done.stderr.startswith("fatal error: goroutines: x\n"), done.stderr
    assert re.search(
        r"^goroutine 1 \[running\]\n +<module>\n +\S*prog\.py:\d+$", done.stderr, re.MULTILINE
    )
    lonely = rf"^goroutine {number} \[waiting: chan receive\]\n +lonely\n +\S*prog\.py:\d+$"
    assert re.search(lonely, done.stderr, re.MULTILINE), done.stderr
