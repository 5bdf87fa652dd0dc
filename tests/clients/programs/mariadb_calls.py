"""PyMySQL: many connections, all in one query at once: `PORT`."""

import sys
from typing import Any

from goroutines.patch import patch

patch()

import pymysql
from crowd import COUNT, all_of, held


def connect() -> Any:
    """Open a connection."""
    return pymysql.connect(host="127.0.0.1", port=int(sys.argv[1]), user="root", autocommit=True)


def query(connection: Any, sql: str, *values: object) -> Any:
    """Return the first value of the first row."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        row = cursor.fetchone()
        return row[0] if row else None


def wait_for_gate(i: int) -> Any:
    """Take a lock that somebody else holds, and give it on."""
    got = query(connections[i], "select get_lock('gate', 60)")
    query(connections[i], "do release_lock('gate')")
    return got


def in_flight() -> int:
    """Return how many queries wait for the lock, as the server sees it."""
    waiting = "select count(*) from information_schema.processlist where state = 'User lock'"
    return int(query(main, waiting))


def insert(i: int) -> None:
    """Insert rows, in a transaction that is rolled back and in one that is not."""
    connection = connections[i]
    connection.autocommit(False)
    for end in (connection.rollback, connection.commit):
        with connection.cursor() as cursor:
            rows = [(i, n) for n in range(20)]
            cursor.executemany("insert into clients.numbers values (%s, %s)", rows)
        end()
    connection.autocommit(True)


main = connect()
connections = all_of(lambda i: connect())
assert query(main, "select get_lock('gate', 0)") == 1
release = "select release_lock('gate')"
assert held(wait_for_gate, in_flight, lambda: query(main, release)) == [1] * COUNT

query(main, "create or replace database clients")
query(main, "create table clients.numbers (i int, n int) engine = innodb")
all_of(insert)
assert query(main, "select count(*) from clients.numbers") == COUNT * 20
assert len(query(main, "select repeat('x', 5000000)")) == 5_000_000  # more than fits a buffer
assert all_of(lambda i: query(connections[i], "select sleep(0.2)")) == [0] * COUNT
try:
    query(main, "select * from clients.nowhere")
except pymysql.ProgrammingError:
    print("ok")
for connection in [main, *connections]:
    connection.close()
