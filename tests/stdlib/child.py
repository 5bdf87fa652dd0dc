"""Run one of CPython's own test modules, patched or not; print a line for each outcome.

    child.py [--plain] MODULE [TEST ID ...]

A line is ``ok``, ``skip`` or ``FAIL``, a tab, and the test's id; after a FAIL the traceback,
indented.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import unittest
from typing import Any


class _Result(unittest.TestResult):
    def __init__(self) -> None:
        super().__init__()
        self._failed: str | None = None

    def _say(self, word: str, test: Any, text: str = "") -> None:
        print(f"\n{word}\t{test.id()}", flush=True)  # they print too, and not whole lines
        for line in text.splitlines():
            print(f"    {line}")

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        self._failed = None
        print(f"start\t{test.id()}", flush=True)

    def _fail(self, test: Any, err: Any) -> None:
        self._failed = (self._failed or "") + self._exc_info_to_string(err, test)  # type: ignore[attr-defined]

    def addError(self, test: Any, err: Any) -> None:
        if isinstance(test, unittest.TestCase):
            self._fail(test, err)
        else:  # of setUpClass or setUpModule: there is no stopTest
            self._say("FAIL", test, self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    def addFailure(self, test: Any, err: Any) -> None:
        self._fail(test, err)

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            self._fail(test, err)

    def addSkip(self, test: Any, reason: str) -> None:
        self._say("skip", test)

    def addUnexpectedSuccess(self, test: Any) -> None:
        self._failed = "unexpected success"

    def stopTest(self, test: Any) -> None:
        if self._failed is None:
            self._say("ok", test)
        else:
            self._say("FAIL", test, self._failed)
        super().stopTest(test)


def main(argv: list[str]) -> None:
    plain = argv[:1] == ["--plain"]
    name, *ids = argv[plain:]
    name = name.removeprefix("test.")
    ids = ids or [f"test.{name}"]
    if not plain:
        from goroutines import _panic
        from goroutines.patch import patch

        patch()
        signal.signal(signal.SIGQUIT, _panic.dump_on_signal)
    faulthandler.enable()
    from test import support

    # test_socketserver asks for the network, and uses loopback only.
    support.use_resources = ["network"] if name.startswith("test_socketserver") else []
    sys.argv = [name]
    if name == "test_socket":  # a virtual machine's host need not answer
        import test.test_socket

        test.test_socket.HAVE_SOCKET_VSOCK = False
        test.test_socket.ThreadedVSOCKSocketStreamTest.__unittest_skip__ = True
        test.test_socket.ThreadedVSOCKSocketStreamTest.__unittest_skip_why__ = "a host is needed"
    suite = unittest.defaultTestLoader.loadTestsFromNames(ids)
    if suite.countTestCases() == 0:
        print(f"skip\t{name}", flush=True)
    suite.run(_Result())
    print("end\t", flush=True)
    sys.stdout.flush()
    os._exit(0)  # what a test left running must not keep us


if __name__ == "__main__":
    main(sys.argv[1:])
