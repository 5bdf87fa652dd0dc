"""The thread that runs goroutines for threads which let none run.

A goroutine runs on the thread that started it while that waits in the runtime. A thread that
runs an asyncio event loop never does, a plain one perhaps not for long: what they submit to a
`Pool` goes here. Who goes here is the core's decision (``place_of`` in pool.c).
"""

from __future__ import annotations

import os
import threading
from collections import deque

from goroutines import _runtime
from goroutines._runtime import Chan, go

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class _Away:
    """The thread, started when it is first needed."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, in a forked child: the thread is the parent's."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._workers: deque[Callable[[], object]] = deque()
        self._come: Chan[None] = Chan(1)

    def start(self, worker: Callable[[], object]) -> None:
        """Call `worker` in a goroutine of that thread. Never waits."""
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="goroutines", daemon=True)
                thread.start()
                self._thread = thread
            self._workers.append(worker)
            self._come.try_send(None)

    def _run(self) -> None:
        for _ in self._come:
            while self._workers:
                go(self._workers.popleft())


_away = _Away()
os.register_at_fork(after_in_child=_away.forget)


def install() -> None:
    """Let the core start that thread when it needs it."""
    _runtime._set_away_hook(_away.start)
