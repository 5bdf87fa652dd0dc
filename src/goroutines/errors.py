"""What the runtime raises.

Imported by the C core, so it imports nothing of the package.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from goroutines._runtime import Chan, Goroutine


class ChannelClosed(Exception):
    """A send to a closed channel, a receive from a closed and drained one, a second close.

    Attributes:
        chan: The channel itself, also when one of its ends was used.
        index: The position of the case in the select that raised it, or None.
    """

    def __init__(
        self,
        message: str = "channel is closed",
        chan: Chan[Any] | None = None,
        index: int | None = None,
    ) -> None:
        super().__init__(message)
        self.chan = chan
        self.index = index


class Panic(BaseException):
    """Raised in the main goroutine when another one ended with an uncaught exception.

    The exception is the ``__cause__``; its traceback was printed when it happened.
    Uncaught, it ends the program with status 2 and prints nothing more, as Go's panic.

    Attributes:
        goroutine: The goroutine that panicked.
    """

    def __init__(self, message: str = "", goroutine: Goroutine | None = None) -> None:
        super().__init__(message)
        self.goroutine = goroutine


class Deadlock(RuntimeError):
    """Raised in the main goroutine when it waits and nothing could ever wake anybody.

    The message lists every goroutine with its wait reason and stack.  Uncaught, it ends
    the program with status 2.
    """


class GoroutineExit(BaseException):
    """Ends a goroutine silently while its ``finally`` and ``with`` blocks run.

    Raised by ``runtime.goexit()``, and by the end of ``run()`` in what is still alive.
    """
