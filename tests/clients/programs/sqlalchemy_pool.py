"""SQLAlchemy: its QueuePool, smaller than the crowd and as large, and its ORM: `DRIVER PORT`."""

import sys

from goroutines.patch import patch

patch()

from crowd import COUNT, all_of, held
from sqlalchemy import Engine, create_engine, func, select, text
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

driver, port = sys.argv[1:]
url = f"postgresql+{driver}://postgres@localhost:{port}/postgres"
outside = create_engine(url, isolation_level="AUTOCOMMIT").connect()


class Base(DeclarativeBase):
    """The tables."""


class Word(Base):
    """A row."""

    __tablename__ = "words"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[int]
    word: Mapped[str]


def in_flight() -> int:
    """Return how many queries wait for the lock, as the server sees it."""
    waiting = "select count(*) from pg_stat_activity where wait_event = 'advisory'"
    return int(outside.scalar(text(waiting)))


def backends(engine: Engine, at_once: int) -> set[int]:
    """Have `at_once` of a crowd wait in a query, the others for a connection of the pool."""

    def call(i: int) -> int:
        with engine.begin() as connection:
            connection.execute(text("select pg_advisory_xact_lock_shared(1)"))
            return int(connection.scalar(text("select pg_backend_pid()")))

    def release() -> None:
        outside.execute(text("select pg_advisory_unlock(1)"))

    outside.execute(text("select pg_advisory_lock(1)"))
    return set(held(call, in_flight, release, at_once=at_once))


small = create_engine(url, pool_size=8, max_overflow=2, pool_timeout=60)
assert 10 <= len(backends(small, 10)) < COUNT
assert small.pool.checkedin() <= 8
assert small.pool.checkedout() == 0
large = create_engine(url, pool_size=COUNT)
assert len(backends(large, COUNT)) == COUNT
assert large.pool.checkedin() == COUNT

Base.metadata.drop_all(small)
Base.metadata.create_all(small)
sessions = scoped_session(sessionmaker(small))  # one for each thread, by its `local`


def words(i: int) -> int:
    """Write with a session of this thread's own, and read it back."""
    session = sessions()
    assert not session.new
    assert not session.dirty
    session.add_all(Word(owner=i, word=f"word {n}") for n in range(5))
    session.commit()
    assert sessions() is session
    own = session.scalars(select(Word).where(Word.owner == i).order_by(Word.id)).all()
    assert [each.word for each in own] == [f"word {n}" for n in range(5)]
    sessions.remove()
    return id(session)


all_of(words)
with Session(small) as session:
    assert session.scalar(select(func.count()).select_from(Word)) == COUNT * 5
print("ok")
