"""CPython's own tests that fail under patch(), each with its reason.

None of them hangs or crashes. What also fails unpatched on the same machine need not be here:
the runner compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Known:
    """Tests, by a pattern of their id, and why they fail."""

    pattern: str
    reason: str


_NATIVE_ID = "goroutines share their thread's native id, and so threads that are goroutines do"
_ASYNC_EXC = "the C API looks for a thread with this ident, and a goroutine is none"
_BELOW = "it calls the C object below the socket, which blocks the thread of its own server"
_NAMED = "code of subinterpreters runs on threads of blocking, which have names of their own"
_DUMMY = "the Thread that stands for a goroutine goes with it, as from CPython 3.13 on"
_CLASS = "threading.Lock is a class, as from CPython 3.13 on"
_RUNNING = "the hooks of all threads reach goroutines that start later, not those that run"
_FRAME = "the caller's frame is in the traceback, and holds its arguments"

KNOWN = (
    Known("test.test_threading.ThreadTests.test_various_ops*", _NATIVE_ID),
    Known("test.test_threading.ThreadTests.test_PyThreadState_SetAsyncExc*", _ASYNC_EXC),
    Known("test.test_threading.ThreadTests.test_foreign_thread", _DUMMY),
    Known("test.test_threading.ThreadTests.test_ident_of_no_threading_threads", _DUMMY),
    Known("test.test_threading.ThreadTests.test_disallow_instantiation", _CLASS),
    Known("test.test_threading.ThreadTests.test_get*_all_threads", _RUNNING),
    Known("test.test_threading.ThreadTests.test_set*_all_threads", _RUNNING),
    Known("test.test_ssl.ThreadedTests.test_got_eof", _BELOW),
    Known("*.InterpreterPoolExecutorTest.test_thread_name_prefix_with_thread_get_name", _NAMED),
    Known("test.test_socket.GeneralModuleTests.testRefCountGetNameInfo", _FRAME),
)


def reason(test_id: str) -> str | None:
    """Return why a test is known to fail, or None if it is not."""
    return next((known.reason for known in KNOWN if fnmatchcase(test_id, known.pattern)), None)
