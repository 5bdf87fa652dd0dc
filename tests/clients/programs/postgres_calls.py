"""psycopg or pg8000: many connections, all in one query at once: `DRIVER PORT`."""

import sys
from typing import Any

from goroutines.patch import patch

patch()

from crowd import COUNT, all_of, held

driver, port = sys.argv[1], int(sys.argv[2])
if driver == "pg8000":
    import pg8000.dbapi as dbapi

    arguments: dict[str, Any] = {"database": "postgres"}
else:
    import psycopg as dbapi

    assert dbapi.pq.__impl__ == driver.partition("-")[2], dbapi.pq.__impl__
    arguments = {"dbname": "postgres", "autocommit": True}


def connect() -> Any:
    """Open a connection, by the host's name."""
    connection = dbapi.connect(user="postgres", host="localhost", port=port, **arguments)
    connection.autocommit = True
    return connection


def query(connection: Any, sql: str, *values: object) -> Any:
    """Return the first value of the first row."""
    cursor = connection.cursor()
    cursor.execute(sql, values)
    return cursor.fetchone()[0]


def wait_for_gate(i: int) -> Any:
    """Ask for a lock that somebody else holds."""
    return query(connections[i], "select pg_advisory_lock_shared(1)::text || %s::text", i)


def in_flight() -> int:
    """Return how many queries wait for the lock, as the server sees it."""
    waiting = "select count(*) from pg_stat_activity where wait_event = 'advisory'"
    return int(query(main, waiting))


def insert(i: int) -> None:
    """Insert rows, in a transaction that is rolled back and in one that is not."""
    connection = connections[i]
    connection.autocommit = False
    cursor = connection.cursor()
    for end in (connection.rollback, connection.commit):
        cursor.executemany("insert into numbers values (%s, %s)", [(i, n) for n in range(20)])
        end()
    connection.autocommit = True


main = connect()
connections = all_of(lambda i: connect())
assert query(main, "select pg_advisory_lock(1)::text") == ""
assert held(wait_for_gate, in_flight, lambda: query(main, "select pg_advisory_unlock(1)")) == [
    str(i) for i in range(COUNT)
]

main.cursor().execute("create temporary table mine (i int)")
main.cursor().execute("drop table if exists numbers; create table numbers (i int, n int)")
all_of(insert)
assert query(main, "select count(*) from numbers") == COUNT * 20
assert query(main, "select count(distinct i) from numbers") == COUNT
assert len(query(main, "select repeat('x', 5000000)")) == 5_000_000  # more than fits a buffer
assert (
    all_of(lambda i: query(connections[i], "select pg_sleep(0.2)::text || %s", "!"))
    == ["!"] * COUNT
)
try:
    query(main, "select * from nowhere")
except dbapi.DatabaseError:
    print("ok")
for connection in [main, *connections]:
    connection.close()
