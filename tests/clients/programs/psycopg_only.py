"""What only psycopg has: notifications, COPY, cancelling: `IMPLEMENTATION PORT`."""

import sys
import threading
from typing import Any

from goroutines.patch import patch

patch()

import psycopg
from crowd import ticking, until

assert psycopg.pq.__impl__ == sys.argv[1], psycopg.pq.__impl__
where = f"host=localhost port={sys.argv[2]} user=postgres dbname=postgres"
main = psycopg.connect(where, autocommit=True)


def value(connection: "psycopg.Connection[Any]", sql: str) -> Any:
    """Return the first value of the first row."""
    row = connection.execute(sql).fetchone()
    assert row is not None
    return row[0]


def listens(pid: int) -> Any:
    """Tell whether that connection waits for notifications."""
    last = f"select query from pg_stat_activity where pid = {pid} and state = 'idle'"
    return main.execute(last).fetchone() == ("listen news",)


def listen() -> None:
    """Take notifications as they come."""
    with psycopg.connect(where, autocommit=True) as connection:
        listener.append(connection.info.backend_pid)
        connection.execute("listen news")
        for notification in connection.notifies():
            if notification.payload == "end":
                return
            heard.append(notification.payload)


def wait_for_ever() -> None:
    """Run a query that ends only by being cancelled."""
    try:
        victim.execute("select pg_advisory_lock(2)")
    except psycopg.errors.QueryCanceled as error:
        cancelled.append(error)


listener: list[int] = []
heard: list[str] = []
sent = [str(i) for i in range(100)]
thread = threading.Thread(target=listen)
thread.start()
with ticking() as ticker:
    until(lambda: listener and listens(listener[0]))
    ticker.goes_on()
    for each in [*sent, "end"]:
        main.execute("select pg_notify('news', %s)", [each])
    thread.join()
assert heard == sent, heard

main.execute("create temporary table rows (n int, word text)")
with main.cursor() as cursor:
    with cursor.copy("copy rows from stdin") as copy:
        for n in range(50_000):
            copy.write_row((n, f"word {n}"))
    with cursor.copy("copy rows to stdout") as copy:
        copy.set_types(["int4", "text"])
        assert sum(row[0] for row in copy.rows()) == sum(range(50_000))
with main.pipeline():
    cursors = [main.execute("select %s::int", [n]) for n in range(100)]
assert [cursor.fetchone() for cursor in cursors] == [(n,) for n in range(100)]

cancelled: list[BaseException] = []
victim = psycopg.connect(where, autocommit=True)
main.execute("select pg_advisory_lock(2)")
thread = threading.Thread(target=wait_for_ever)
thread.start()
until(lambda: value(main, "select count(*) from pg_stat_activity where wait_event = 'advisory'"))
victim.cancel()
thread.join()
assert len(cancelled) == 1
assert value(victim, "select 1") == 1
victim.close()
main.close()
print("ok")
