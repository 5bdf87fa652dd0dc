"""A report from SQL: several queries at once in a Group, printed as a table.

    python report.py [--dsn postgresql://USER@HOST/DATABASE] [--limit N]

sqlite3, asked by default, would hold up all goroutines, so `blocking` takes its calls to
threads; psycopg 3 waits for PostgreSQL by the patched `select` and needs nothing.
"""

from goroutines.patch import patch

patch()

import argparse
import sqlite3
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

from goroutines import Group, blocking

Rows = list[tuple[Any, ...]]

SALES = """WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 49999)
SELECT i % 12 + 1 AS month, i % 7 AS shop, (i * 7919) % 1000 AS cents FROM n"""

REPORT = {
    "sales": "SELECT count(*) FROM sales",
    "turnover": "SELECT sum(cents) / 100 FROM sales",
    "best shop": "SELECT shop FROM sales GROUP BY shop ORDER BY sum(cents) DESC, shop LIMIT 1",
    "best months": "SELECT month FROM sales GROUP BY month ORDER BY sum(cents) DESC LIMIT 3",
}


def ask(connect: Callable[[], Any], query: str) -> Rows:
    """Run a query, in a connection of its own."""
    connection = connect()
    try:
        return list(connection.execute(query).fetchall())
    finally:
        connection.close()


def report(run: Callable[[str], Rows], prefix: str, limit: int) -> None:
    """Run the queries, `limit` at a time, and print the answers."""
    with Group(limit) as group:
        answers = {title: group.go(run, prefix + query) for title, query in REPORT.items()}
    for title, answer in answers.items():
        print(f"{title:<14}|{', '.join(str(value) for (value,) in answer.result()):>14}")


def report_postgres(dsn: str, limit: int) -> None:
    import psycopg  # after patch(), by which it chooses how to wait

    report(partial(ask, partial(psycopg.connect, dsn)), f"WITH sales AS ({SALES}) ", limit)


def report_sqlite(limit: int) -> None:
    with tempfile.NamedTemporaryFile(suffix=".sqlite3") as file:

        def run(query: str) -> Rows:
            return blocking(ask, partial(sqlite3.connect, file.name), query)

        run(f"CREATE TABLE sales AS {SALES}")
        report(run, "", limit)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dsn", help="a PostgreSQL database; nothing is written there")
    parser.add_argument("--limit", type=int, default=3, help="queries at a time (3)")
    args = parser.parse_args()
    report_postgres(args.dsn, args.limit) if args.dsn else report_sqlite(args.limit)


if __name__ == "__main__":
    main()
