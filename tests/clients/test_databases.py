"""psycopg, pg8000 and SQLAlchemy with PostgreSQL, PyMySQL with MariaDB."""

from __future__ import annotations

import pytest

from .conftest import needs, succeeds

PSYCOPG = {"psycopg-binary": "psycopg_binary", "psycopg-python": "psycopg"}


def implementation(driver: str) -> dict[str, str]:
    """The environment in which psycopg is the one of this name."""
    if driver not in PSYCOPG:
        return {}
    needs(PSYCOPG[driver])
    return {"PSYCOPG_IMPL": driver.partition("-")[2]}


@pytest.mark.parametrize(
    ("driver", "first"),
    [
        ("psycopg-binary", ""),
        ("psycopg-binary", "psycopg"),
        ("psycopg-python", ""),
        ("psycopg-python", "psycopg"),
        ("pg8000", ""),
        ("pg8000", "pg8000.dbapi"),
    ],
)
def test_postgres(postgres: int, driver: str, first: str) -> None:
    """Fifty connections wait in the server at once; rows, transactions, errors."""
    succeeds("postgres_calls", driver, postgres, first=first, env=implementation(driver))


@pytest.mark.parametrize("driver", PSYCOPG)
def test_psycopg(postgres: int, driver: str) -> None:
    """LISTEN, COPY, pipelines and cancelling, with either implementation."""
    name = driver.partition("-")[2]
    succeeds("psycopg_only", name, postgres, env=implementation(driver))


@pytest.mark.parametrize(
    ("driver", "first"),
    [
        ("psycopg", ""),
        ("psycopg", "sqlalchemy,sqlalchemy.orm,psycopg"),
        ("pg8000", ""),
        ("pg8000", "sqlalchemy,sqlalchemy.orm,pg8000.dbapi"),
    ],
)
def test_sqlalchemy(postgres: int, driver: str, first: str) -> None:
    """Its pool makes goroutines wait, and gives sessions that are each thread's own."""
    succeeds("sqlalchemy_pool", driver, postgres, first=first)


@pytest.mark.parametrize("first", ["", "pymysql"])
def test_pymysql(mariadb: int, first: str) -> None:
    """Fifty connections wait in the server at once; rows, transactions, errors."""
    succeeds("mariadb_calls", mariadb, first=first)
