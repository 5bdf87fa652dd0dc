"""@defers, defer, recover and set_return."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from goroutines import (
    Chan,
    WaitGroup,
    defer,
    defers,
    go,
    gosched,
    recover,
    run,
    runtime,
    set_return,
    sleep,
)

from .conftest import all_of, in_thread, parked

# --- defer ------------------------------------------------------------------------------------


def test_last_first() -> None:
    """Deferred calls run when the function returns, the last one first."""
    log: list[object] = []

    @defers
    def work() -> str:
        for i in range(3):
            defer(log.append, i)
        log.append("body")
        return "result"

    assert work() == "result"
    assert log == ["body", 2, 1, 0]


def test_arguments_of_the_call() -> None:
    """Positional and keyword arguments are kept as they were, even one called fn."""
    log: list[object] = []

    def note(*args: object, **kwargs: object) -> None:
        log.append((args, kwargs))

    @defers
    def work(value: int) -> None:
        defer(note, value, fn=value + 1)
        value = 100
        defer(note)

    work(1)
    assert log == [((), {}), ((1,), {"fn": 2})]


def test_runs_when_the_function_raises() -> None:
    """Deferred calls run on an exception too, which then goes on as it was."""
    log: list[str] = []
    error = ValueError("the function's")

    @defers
    def work() -> None:
        defer(log.append, "deferred")
        raise error

    with pytest.raises(ValueError, match="the function's") as caught:
        work()
    assert caught.value is error
    assert log == ["deferred"]
    assert error.__context__ is None


def test_only_what_was_reached() -> None:
    """A defer that the function never came to does not count."""
    log: list[str] = []

    @defers
    def work(early: bool) -> None:
        defer(log.append, "first")
        if early:
            return
        defer(log.append, "second")

    work(True)
    assert log == ["first"]
    work(False)
    assert log == ["first", "second", "first"]


def test_nothing_deferred() -> None:
    """A function that defers nothing is just itself."""

    @defers
    def work(a: int, *, b: int = 2) -> int:
        return a + b

    assert work(1) == 3
    assert work(1, b=5) == 6


def test_each_call_has_its_own() -> None:
    """Recursive and nested calls keep their deferred calls apart."""
    log: list[object] = []

    @defers
    def work(n: int) -> None:
        defer(log.append, ("end", n))
        log.append(("begin", n))
        if n:
            work(n - 1)

    work(2)
    assert log == [("begin", 2), ("begin", 1), ("begin", 0), ("end", 0), ("end", 1), ("end", 2)]


def test_a_deferred_function_may_defer() -> None:
    """A deferred call of a @defers function has deferred calls of its own."""
    log: list[str] = []

    @defers
    def cleanup() -> None:
        defer(log.append, "inner deferred")
        log.append("cleanup")

    @defers
    def work() -> None:
        defer(log.append, "last")
        defer(cleanup)
        log.append("body")

    work()
    assert log == ["body", "cleanup", "inner deferred", "last"]


def test_methods() -> None:
    """@defers works on methods, class methods and static methods."""
    log: list[object] = []

    class Worker:
        @defers
        def method(self, value: int) -> object:
            defer(log.append, ("method", value))
            return self

        @classmethod
        @defers
        def of_class(cls) -> object:
            defer(log.append, "class")
            return cls

        @staticmethod
        @defers
        def static() -> str:
            defer(log.append, "static")
            return "static"

    worker = Worker()
    assert worker.method(1) is worker
    assert Worker.method(worker, 2) is worker
    assert Worker.of_class() is Worker
    assert worker.static() == "static"
    assert log == [("method", 1), ("method", 2), "class", "static"]


def test_the_function_keeps_its_name() -> None:
    """A decorated function has the name, the docstring and the signature of its own."""

    @defers
    def work(a: int, *, b: str = "x") -> bool:
        """Work hard."""
        return True

    assert work.__name__ == "work"
    assert work.__doc__ == "Work hard."
    assert work.__module__ == __name__
    assert list(inspect.signature(work).parameters) == ["a", "b"]


# --- exceptions of deferred calls -------------------------------------------------------------


def fail(error: BaseException) -> None:
    """Raise `error`."""
    raise error


def test_every_deferred_call_runs() -> None:
    """A deferred call that raises does not keep the others from running."""
    log: list[str] = []
    errors = [ValueError("one"), KeyError("two")]

    @defers
    def work() -> None:
        defer(log.append, "first")
        defer(fail, errors[1])
        defer(log.append, "second")
        defer(fail, errors[0])
        defer(log.append, "third")

    with pytest.raises(KeyError) as caught:
        work()
    assert caught.value is errors[1]
    assert caught.value.__context__ is errors[0]
    assert log == ["third", "second", "first"]


def test_older_exceptions_become_context() -> None:
    """The newest exception leaves the function, the older ones are its chain of contexts."""
    errors = [ValueError("body"), KeyError("first"), LookupError("second")]

    @defers
    def work() -> None:
        defer(fail, errors[2])
        defer(fail, errors[1])
        raise errors[0]

    with pytest.raises(LookupError) as caught:
        work()
    assert caught.value is errors[2]
    assert errors[2].__context__ is errors[1]
    assert errors[1].__context__ is errors[0]
    assert errors[0].__context__ is None


# --- recover ----------------------------------------------------------------------------------


def test_recover_stops_the_exception() -> None:
    """recover in a deferred function gives the exception, and the function returns None."""
    error = ValueError("stopped")
    seen: list[BaseException | None] = []

    @defers
    def work() -> str:
        defer(lambda: seen.append(recover()))
        raise error

    assert work() is None
    assert seen == [error]
    assert sys.exception() is None


def test_recover_without_an_exception() -> None:
    """recover answers None when the function returns normally, and changes nothing."""
    seen: list[BaseException | None] = []

    @defers
    def work() -> int:
        defer(lambda: seen.append(recover()))
        return 5

    assert work() == 5
    assert seen == [None]


def test_recover_twice() -> None:
    """Once recovered the exception is gone for the same and for the later deferred calls."""
    error = ValueError("once")
    seen: list[BaseException | None] = []

    @defers
    def work() -> None:
        defer(lambda: seen.append(recover()))
        defer(lambda: seen.extend([recover(), recover()]))
        raise error

    assert work() is None
    assert seen == [error, None, None]


def test_recover_elsewhere_answers_none() -> None:
    """Only the deferred function itself can recover: not the body, not what it calls."""
    error = ValueError("goes on")
    seen: list[BaseException | None] = [recover()]

    def helper() -> BaseException | None:
        return recover()

    def deferred() -> None:
        seen.append(helper())

    @defers
    def work() -> None:
        defer(deferred)
        seen.append(recover())
        raise error

    with pytest.raises(ValueError, match="goes on") as caught:
        work()
    assert caught.value is error
    assert seen == [None, None, None]


def test_recover_in_a_function_called_from_a_handler() -> None:
    """In an ordinary except block recover has nothing to say."""
    try:
        raise ValueError("handled")
    except ValueError:
        assert recover() is None
        assert isinstance(sys.exception(), ValueError)


def test_recover_and_raise_another() -> None:
    """A deferred function that recovers and raises replaces the exception."""
    old, new = ValueError("old"), KeyError("new")

    def replace() -> None:
        assert recover() is old
        raise new

    @defers
    def work() -> None:
        defer(replace)
        raise old

    with pytest.raises(KeyError) as caught:
        work()
    assert caught.value is new


def test_recover_gets_the_newest() -> None:
    """recover answers the exception of a deferred call that replaced the first one."""
    first, second = ValueError("first"), KeyError("second")
    seen: list[BaseException | None] = []

    @defers
    def work() -> None:
        defer(lambda: seen.append(recover()))
        defer(fail, second)
        raise first

    assert work() is None
    assert seen == [second]
    assert second.__context__ is first


def test_recovered_after_a_return_the_value_stands() -> None:
    """An exception of a deferred call after a normal return, recovered, keeps the value."""
    seen: list[BaseException | None] = []

    @defers
    def work() -> int:
        defer(lambda: seen.append(recover()))
        defer(fail, ValueError("late"))
        return 5

    assert work() == 5
    assert [type(error) for error in seen] == [ValueError]


def test_recover_of_a_nested_function() -> None:
    """recover stops the exception where it was deferred, the callers go on normally."""
    log: list[object] = []

    @defers
    def inner() -> str:
        defer(lambda: log.append(type(recover())))
        raise ValueError("inner")

    @defers
    def outer() -> str:
        defer(lambda: log.append(recover()))
        log.append(inner())
        return "outer"

    assert outer() == "outer"
    assert log == [ValueError, None, None]


def test_a_deferred_function_does_not_recover_its_callers() -> None:
    """A @defers function called by a deferred one cannot stop the outer exception."""
    seen: list[BaseException | None] = []

    @defers
    def careful() -> None:
        defer(lambda: seen.append(recover()))

    def deferred() -> None:
        careful()

    @defers
    def work() -> None:
        defer(deferred)
        raise ValueError("goes on")

    with pytest.raises(ValueError, match="goes on"):
        work()
    assert seen == [None]


def test_recover_any_exception() -> None:
    """Also KeyboardInterrupt and SystemExit can be recovered."""
    for error in (KeyboardInterrupt(), SystemExit(3)):
        seen: list[BaseException | None] = []

        @defers
        def work(error: BaseException = error, seen: list[Any] = seen) -> None:
            defer(lambda: seen.append(recover()))
            raise error

        assert work() is None
        assert seen == [error]


# --- set_return -------------------------------------------------------------------------------


def test_set_return_after_a_recovery() -> None:
    """A deferred call sets what the function returns after a recovery."""

    def rescue() -> None:
        error = recover()
        set_return(f"rescued from {error}")

    @defers
    def work() -> str:
        defer(rescue)
        raise ValueError("boom")

    assert work() == "rescued from boom"


def test_set_return_after_a_return() -> None:
    """set_return replaces the value of a normal return, None and falsy values too."""
    for value in (7, None, False, ""):

        @defers
        def work(value: object = value) -> object:
            defer(lambda: set_return(value))
            return "original"

        assert work() is value


def test_set_return_the_last_one_counts() -> None:
    """Of several the call that ran last has its way."""

    @defers
    def work() -> object:
        defer(lambda: set_return("ran second"))
        defer(lambda: set_return("ran first"))
        return "original"

    assert work() == "ran second"


def test_set_return_before_the_recovery() -> None:
    """A value set by an earlier deferred call is what a later recovery returns."""

    @defers
    def work() -> object:
        defer(lambda: recover() and None)
        defer(lambda: set_return("set"))
        raise ValueError("boom")

    assert work() == "set"


def test_set_return_does_not_stop_an_exception() -> None:
    """Without recover the exception goes on."""

    @defers
    def work() -> object:
        defer(lambda: set_return("set"))
        raise ValueError("goes on")

    with pytest.raises(ValueError, match="goes on"):
        work()


# --- misuse -----------------------------------------------------------------------------------


def test_defer_outside() -> None:
    """defer in a function without @defers is a RuntimeError that says what is missing."""
    log: list[str] = []
    with pytest.raises(RuntimeError, match="defer"):
        defer(log.append, "never")

    def plain() -> None:
        defer(log.append, "never")

    with pytest.raises(RuntimeError, match="defer"):
        plain()
    assert log == []


def test_defer_is_lexical() -> None:
    """A helper called by a @defers function, or a deferred call, cannot defer for it."""
    log: list[str] = []
    errors: list[BaseException] = []

    def helper() -> None:
        try:
            defer(log.append, "never")
        except RuntimeError as error:
            errors.append(error)

    @defers
    def work() -> None:
        defer(log.append, "mine")
        helper()
        defer(helper)

    work()
    assert log == ["mine"]
    assert len(errors) == 2


def test_defer_in_a_goroutine_outside() -> None:
    """A goroutine started in a @defers function is not part of it."""
    errors: list[BaseException] = []

    def body() -> None:
        try:
            defer(print, "never")
        except RuntimeError as error:
            errors.append(error)

    @defers
    def work() -> None:
        go(body).join()

    work()
    assert len(errors) == 1


@pytest.mark.parametrize("fn", [None, 3, "call"])
def test_defer_not_callable(fn: Any) -> None:
    """What cannot be called is a TypeError."""

    @defers
    def work() -> None:
        defer(fn)

    with pytest.raises(TypeError, match="callable"):
        work()


def test_defer_needs_a_function() -> None:
    """defer() without anything is a TypeError."""

    @defers
    def work() -> None:
        defer()  # type: ignore[call-arg]

    with pytest.raises(TypeError):
        work()


def generator() -> Iterator[int]:
    """Yield once."""
    yield 1


async def coroutine() -> None:
    """Do nothing."""


@pytest.mark.parametrize("fn", [generator, coroutine, 3, None])
def test_defers_on_what_it_cannot_be(fn: Any) -> None:
    """@defers on a generator or coroutine function, or on no function, is a TypeError."""
    with pytest.raises(TypeError):
        defers(fn)


def test_wrong_arguments() -> None:
    """Arguments that do not fit are the ordinary TypeError of the function."""

    @defers
    def work(a: int) -> None:
        defer(print, "never")

    with pytest.raises(TypeError, match="work"):
        work()  # type: ignore[call-arg]


# --- with goroutines --------------------------------------------------------------------------


def test_wait_group_of_the_article() -> None:
    """`defer wg.done()` counts down however the worker leaves."""
    wg = WaitGroup()
    log: list[int] = []

    @defers
    def worker(w: int) -> None:
        defer(wg.done)
        sleep(0)
        if w == 1:
            runtime.goexit()
        log.append(w)

    for w in range(3):
        wg.add(1)
        go(worker, w)
    wg.wait()
    assert sorted(log) == [0, 2]


def test_goroutines_do_not_mix_their_deferred_calls() -> None:
    """Functions that park between their defers keep them apart."""

    def body(i: int) -> list[int]:
        log: list[int] = []

        @defers
        def work() -> None:
            for n in range(5):
                defer(log.append, i * 10 + n)
                gosched()

        work()
        return log

    assert all_of(20, body) == [[i * 10 + n for n in range(4, -1, -1)] for i in range(20)]


def test_one_function_in_many_goroutines() -> None:
    """The same @defers function runs in many goroutines at the same time."""
    log: dict[int, list[str]] = {}

    @defers
    def work(i: int) -> str:
        defer(log.setdefault(i, []).append, "last")
        gosched()
        defer(lambda: log[i].append(str(recover())))
        gosched()
        raise ValueError(i)

    assert all_of(20, work) == [None] * 20
    assert log == {i: [str(i), "last"] for i in range(20)}


def test_deferred_calls_may_wait() -> None:
    """Deferred calls park, and recover still answers afterwards."""

    def body(i: int) -> object:
        ch: Chan[int] = Chan()
        seen: list[object] = []

        def rescue() -> None:
            gosched()
            seen.append(ch.recv())
            error = recover()
            gosched()
            seen.append(error.args[0] if error else None)

        @defers
        def work() -> None:
            defer(gosched)
            defer(rescue)
            go(ch.send, i)
            raise ValueError(-i)

        work()
        return seen

    assert all_of(20, body) == [[i, -i] for i in range(20)]


def test_goexit_runs_deferred_calls() -> None:
    """goexit runs the deferred calls of every function on its way."""
    log: list[str] = []

    @defers
    def inner() -> None:
        defer(log.append, "inner")
        runtime.goexit()

    @defers
    def outer() -> None:
        defer(log.append, "outer")
        inner()
        log.append("never")

    go(outer).join()
    assert log == ["inner", "outer"]


def test_the_end_of_run_runs_deferred_calls() -> None:
    """Goroutines that run ends at its return run their deferred calls."""
    log: list[int] = []

    @defers
    def work(i: int) -> None:
        defer(log.append, i)
        Chan().recv()

    def main() -> None:
        parked(*[go(work, i) for i in range(5)])

    run(main)
    assert sorted(log) == list(range(5))


def test_in_plain_threads() -> None:
    """@defers works in plain threads."""
    log: list[str] = []

    @defers
    def work() -> str:
        defer(log.append, "deferred")
        return "result"

    assert in_thread(work) == "result"
    assert log == ["deferred"]


def test_deep_recursion() -> None:
    """A hundred nested functions each run their deferred call, also around an exception."""
    log: list[int] = []

    @defers
    def work(n: int, act: Callable[[], None]) -> None:
        defer(log.append, n)
        if n == 0:
            act()
        else:
            work(n - 1, act)

    work(100, gosched)
    assert log == list(range(101))
    log.clear()
    with pytest.raises(ValueError, match="bottom"):
        work(100, lambda: fail(ValueError("bottom")))
    assert log == list(range(101))
