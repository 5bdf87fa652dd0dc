"""Real servers on loopback: each a subprocess with a folder and a port of its own.

Each is a context manager that gives the port once the server answers, and ends exactly
the process that it started.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

HOST = "127.0.0.1"
START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0


def binary(name: str, package: str, *patterns: str) -> str:
    """Return the path of a server's program, from PATH or by glob; skip where there is none."""
    found = [str(path) for pattern in patterns for path in sorted(Path("/").glob(pattern))]
    if found:
        return found[-1]
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.skip(f"no {name} here: install the package {package}")
    return path


def account(name: str) -> str | None:
    """Return who runs a server that refuses root: `name`, or None for ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(name)
    except KeyError:
        pytest.skip(f"the server refuses root, and there is no user {name}")
    return name


def free_port() -> int:
    """Return a port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    """Tell whether somebody accepts connections on this port."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=5):
        return True
    return False


@contextlib.contextmanager
def folder(user: str | None) -> Iterator[Path]:
    """Make a temporary folder that belongs to `user`."""
    with tempfile.TemporaryDirectory(prefix="clients-", ignore_cleanup_errors=True) as name:
        if user is not None:
            shutil.chown(name, user, pwd.getpwnam(user).pw_gid)
        yield Path(name)


def run(command: Sequence[str], user: str | None, cwd: Path) -> None:
    """Run a command that prepares a server."""
    done = subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        timeout=START_TIMEOUT,
        **identity(user),
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"


def identity(user: str | None) -> dict[str, Any]:
    """Return what makes subprocess run something as `user`."""
    if user is None:
        return {}
    group = pwd.getpwnam(user).pw_gid
    return {"user": user, "group": group, "extra_groups": [group]}


@contextlib.contextmanager
def server(
    command: Sequence[str], user: str | None, cwd: Path, ready: Callable[[], bool]
) -> Iterator[None]:
    """Run a server until the block ends."""
    log = cwd / "server.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            **identity(user),
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while not ready():
            if child.poll() is not None or time.monotonic() > deadline:
                text = log.read_text(encoding="utf-8", errors="backslashreplace")
                pytest.fail(f"{command[0]} does not answer (status {child.returncode}):\n{text}")
            time.sleep(0.02)
        yield
    finally:
        child.terminate()
        try:
            child.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextlib.contextmanager
def redis() -> Iterator[int]:
    """Run redis-server, which keeps nothing."""
    program, port = binary("redis-server", "redis-server"), free_port()
    command = [program, "--bind", HOST, "--port", str(port), "--save", "", "--appendonly", "no"]
    with folder(None) as home, server(command, None, home, lambda: accepts(port)):
        yield port


@contextlib.contextmanager
def postgres() -> Iterator[int]:
    """Run PostgreSQL with a user and a database `postgres`, and no password."""
    user, port = account("postgres"), free_port()

    def tool(name: str) -> str:
        return binary(name, "postgresql", f"usr/lib/postgresql/*/bin/{name}")

    with folder(user) as home:
        data = str(home / "data")
        initdb = [tool("initdb"), "--no-sync", "--auth=trust", "--username=postgres"]
        run([*initdb, "--encoding=UTF8", "--locale=C", "-D", data], user, home)
        settings = {
            "listen_addresses": HOST,
            "port": port,
            "unix_socket_directories": home,
            "max_connections": 150,
            "shared_buffers": "16MB",
            "fsync": "off",
            "synchronous_commit": "off",
            "autovacuum": "off",
        }
        command = [tool("postgres"), "-D", data]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]

        def ready() -> bool:
            ask = [tool("pg_isready"), "-q", "-h", HOST, "-p", str(port)]
            return accepts(port) and subprocess.run(ask).returncode == 0

        with server(command, user, home, ready):
            yield port


@contextlib.contextmanager
def mariadb() -> Iterator[int]:
    """Run MariaDB with a user `root` that has no password."""
    user, port = account("mysql"), free_port()
    small = ["--no-defaults", "--innodb-buffer-pool-size=8M", "--innodb-log-file-size=4M"]
    with folder(user) as home:
        small.append(f"--datadir={home / 'data'}")
        program = binary("mariadbd", "mariadb-server")
        install = [binary("mariadb-install-db", "mariadb-server"), *small, "--skip-test-db"]
        run([*install, "--auth-root-authentication-method=normal"], user, home)
        command = [
            *(program, *small, f"--port={port}", f"--bind-address={HOST}"),
            *(f"--socket={home / 'sock'}", f"--pid-file={home / 'pid'}"),
            *("--max-connections=150", "--innodb-flush-log-at-trx-commit=0"),
        ]
        with server(command, user, home, lambda: accepts(port)):
            yield port
