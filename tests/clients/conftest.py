"""The servers, started once for all tests, and how a client program is run."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conftest import run_program
from . import servers

PROGRAMS = Path(__file__).parent / "programs"
IMPORTED_FIRST = str(PROGRAMS / "imported_first.py")
TIMEOUT = 40.0  # seconds; a program takes one to five


def needs(*modules: str) -> None:
    """Skip the test where a library has no wheel for this interpreter, and is not there."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed (extra: clients)")


def succeeds(
    program: str, *args: object, first: str = "", env: dict[str, str] | None = None
) -> None:
    """Run ``programs/<program>.py`` to its end, which it tells by ``ok``.

    `first` are modules, with commas between, that are imported before the program patches.
    """
    env = {"NO_PROXY": "*", "no_proxy": "*", **(env or {})}
    flags = [IMPORTED_FIRST, first] if first else []
    path = PROGRAMS / f"{program}.py"
    done = run_program(path, *map(str, args), flags=flags, env=env, timeout=TIMEOUT)
    ended_well = done.returncode == 0 and done.stdout == "ok\n"
    assert ended_well, f"{program}: status {done.returncode}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="session")
def redis() -> Iterator[int]:
    """The port of a redis-server."""
    with servers.redis() as port:
        yield port


@pytest.fixture(scope="session")
def postgres() -> Iterator[int]:
    """The port of a PostgreSQL server."""
    with servers.postgres() as port:
        yield port


@pytest.fixture(scope="session")
def mariadb() -> Iterator[int]:
    """The port of a MariaDB server."""
    with servers.mariadb() as port:
        yield port
