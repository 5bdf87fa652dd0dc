"""A report from SQL: several queries at once in a Group, printed as a table.

    python report.py [--dsn postgresql://USER@HOST/DATABASE] [--limit N]

Each query has a connection of its own. Without `--dsn` they go to a file of sqlite3, by way
of `blocking`, since it would hold up all goroutines. PostgreSQL is asked by psycopg 3, which
waits by the patched `select` and so needs nothing.
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
    """Run a query in a connection of its own."""
    connection = connect()
    try:
        return list(connection.execute(query).fetchall())
    finally:
        connection.close()


def report(run: Callable[[str], Rows], prefix: str, limit: int) -> None:
    """Run all queries, `limit` at a time, and print the answers in their order."""
    with Group(limit) as group:
        answers = {title: group.go(run, prefix + query) for title, query in REPORT.items()}
    for title, answer in answers.items():
        values = [str(value) for row in answer.result() for value in row]
        print(f"{title:<14}|{', '.join(values):>14}")


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
    parser = argparse.ArgumentParser(description="Print a report on some sales.")
    parser.add_argument("--dsn", help="a PostgreSQL database; nothing is written there")
    parser.add_argument("--limit", type=int, default=3, help="queries at a time (3)")
    args = parser.parse_args()
    if args.dsn:
        report_postgres(args.dsn, args.limit)
    else:
        report_sqlite(args.limit)


if __name__ == "__main__":
    main()
