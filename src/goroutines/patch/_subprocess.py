"""subprocess: waiting for a child, and its pipes."""

from __future__ import annotations

import io
import os
import subprocess
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

from goroutines._runtime import now
from goroutines.patch import _os, _registry


class PipeIO(io.RawIOBase):
    """The raw file of a pipe's end: its reads and writes park the goroutine."""

    def __init__(self, fd: int, mode: str) -> None:
        self._fd = fd
        self._mode = mode
        self.name = fd

    @property
    def mode(self) -> str:
        return self._mode

    def fileno(self) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        return self._fd

    def readable(self) -> bool:
        return "r" in self._mode

    def writable(self) -> bool:
        return "w" in self._mode

    def readinto(self, buffer: Any, /) -> int | None:
        with memoryview(buffer).cast("B") as view:
            try:
                data = os.read(self.fileno(), len(view))
            except BlockingIOError:
                return None
            view[: len(data)] = data
            return len(data)

    def write(self, data: Any, /) -> int | None:
        try:
            return os.write(self.fileno(), data)
        except BlockingIOError:
            return None

    def close(self) -> None:
        if not self.closed:
            try:
                super().close()
            finally:
                os.close(self._fd)


def open_pipe(fd: Any, mode: str = "r", buffering: int = -1, **others: Any) -> Any:
    """As ``io.open(fd, mode, buffering)`` for a binary file of a pipe."""
    if not isinstance(fd, int) or "b" not in mode or others:
        return open(fd, mode, buffering, **others)
    raw = PipeIO(fd, mode.replace("b", ""))
    if buffering == 0:
        return raw
    if buffering == 1:
        text = "line buffering (buffering=1) isn't supported in binary mode"
        warnings.warn(f"{text}, the default buffer size will be used", RuntimeWarning, 3)
    size = io.DEFAULT_BUFFER_SIZE if buffering in (-1, 1) else buffering
    return io.BufferedReader(raw, size) if raw.readable() else io.BufferedWriter(raw, size)


class _IO(ModuleType):
    """The module io as subprocess sees it: the pipes of its children park."""

    open = staticmethod(open_pipe)

    def __getattr__(self, name: str) -> Any:
        return getattr(io, name)


def _wait(original: Callable[..., Any]) -> Callable[..., Any]:
    def _wait(self: Any, timeout: float | None) -> Any:
        """Park until the child ends, then do what Popen does."""
        if self.returncode is None and hasattr(os, "pidfd_open"):
            deadline = None if timeout is None else now() + timeout
            if not _os.wait_for_process(self.pid, timeout):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            timeout = None if deadline is None else max(0.0, deadline - now()) + 1.0
        return original(self, timeout)

    return _wait


def install() -> None:
    popen: Any = subprocess.Popen
    _registry.replace(popen, "_wait", _wait(popen._wait))
    _registry.replace(subprocess, "io", _IO("io"))
