"""queue.SimpleQueue, that of C; the other queues are made of locks."""

from __future__ import annotations

import queue

from goroutines import _runtime


def install() -> None:
    """Have the methods of SimpleQueue park, for those that exist already too."""
    _runtime._redirect_methods(queue.SimpleQueue)
