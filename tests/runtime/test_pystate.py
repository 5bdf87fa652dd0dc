"""What a goroutine carries along: exceptions, frames, tracing; how it looks from outside."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import inspect
import re
import sys
import tempfile
import traceback
import tracemalloc
import types
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from goroutines import (
    Chan,
    current,
    go,
    gosched,
    runtime,
)

from ..conftest import all_of, parked

# --- exceptions -------------------------------------------------------------------------------


def test_exceptions_being_handled_are_a_goroutines_own() -> None:
    """In an except block that parks, sys.exception and a bare raise stay right."""

    def body(i: int) -> tuple[bool, object, bool]:
        error = ValueError(i)
        try:
            try:
                raise error
            except ValueError:
                gosched()
                try:
                    raise KeyError(i)
                except KeyError as inner:
                    gosched()
                    right = sys.exception() is inner and inner.__context__ is error
                gosched()
                right = right and sys.exception() is error
                raise
        except ValueError as caught:
            gosched()
            return right, caught.args[0], sys.exception() is error

    assert all_of(20, body) == [(True, i, True) for i in range(20)]
    assert sys.exception() is None


def test_new_goroutine_handles_nothing() -> None:
    """A goroutine started in an except block begins without an exception being handled."""
    seen: list[object] = []

    def body() -> None:
        seen.append(sys.exception())
        try:
            raise ValueError("own")
        except ValueError as error:
            seen.append(error.__context__)

    try:
        raise KeyError("starter's")
    except KeyError:
        g = go(body)
        g.join()
        assert isinstance(sys.exception(), KeyError)
    assert seen == [None, None]


def test_wait_in_finally_with_an_exception_on_its_way() -> None:
    """An exception that passes a finally block that parks is not lost or mixed up."""

    def body(i: int) -> object:
        try:
            try:
                raise ValueError(i)
            finally:
                gosched()
                with contextlib.suppress(TimeoutError):
                    Chan().recv(timeout=0.0001)
        except ValueError as error:
            return error.args[0], error.__context__

    assert all_of(20, body) == [(i, None) for i in range(20)]


def test_errors_of_waits_have_their_context() -> None:
    """A TimeoutError raised by a wait in an except block refers to what was handled."""

    def body(i: int) -> bool:
        handled = KeyError(i)
        try:
            raise handled
        except KeyError:
            try:
                Chan().recv(timeout=0.0001)
            except TimeoutError as error:
                return error.__context__ is handled
        return False

    assert all_of(20, body) == [True] * 20


def test_traceback_after_a_park() -> None:
    """A traceback has all frames, each line right, though the goroutine parked in between."""

    def inner(i: int) -> None:
        gosched()
        raise ValueError(i)

    def outer(i: int) -> None:
        gosched()
        inner(i)

    def body(i: int) -> BaseException:
        try:
            outer(i)
        except ValueError as error:
            gosched()
            return error
        raise AssertionError

    for error in all_of(10, body):
        gc.collect()
        frames = traceback.extract_tb(error.__traceback__)
        assert [frame.name for frame in frames] == ["body", "outer", "inner"]
        assert frames[-1].line == "raise ValueError(i)"
        assert "".join(traceback.format_exception(error)).count("in outer") == 1


def test_exception_groups_park() -> None:
    """except* blocks that park work."""

    def body(i: int) -> list[str]:
        out: list[str] = []
        try:
            gosched()
            raise ExceptionGroup("g", [ValueError(i), KeyError(i)])
        except* ValueError:
            gosched()
            out.append("value")
        except* KeyError:
            gosched()
            out.append("key")
        return out

    assert all_of(10, body) == [["value", "key"]] * 10


def test_warnings_and_stacklevel() -> None:
    """warnings.warn finds its caller in a goroutine, whatever stacklevel it is given."""

    def caller(stacklevel: int) -> None:
        gosched()
        warnings.warn("hello", UserWarning, stacklevel=stacklevel)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for level in (1, 2, 5, 50):
            go(caller, level).join()
    assert [str(warning.message) for warning in caught] == ["hello"] * 4
    assert caught[0].filename == __file__


# --- frames of parked goroutines --------------------------------------------------------------


def back_from(frame: types.FrameType | None) -> list[str]:
    """Return the names of the functions from `frame` outwards."""
    names: list[str] = []
    while frame is not None:
        names.append(frame.f_code.co_name)
        assert len(names) < 2000, "a circle of frames"
        frame = frame.f_back
    return names


class ParkedFrames:
    """Goroutines parked in `inner`, called by `outer`, and the frames of their `inner`."""

    def __init__(self, count: int, through: str = "python") -> None:
        self.ch: Chan[int] = Chan()
        self.frames: list[types.FrameType] = []
        self.results: list[object] = []
        self.through = through
        self.gs = [go(self.outer, i) for i in range(count)]
        parked(*self.gs)

    def inner(self, number: int) -> int:
        local = [number]
        self.frames.append(sys._getframe())
        self.ch.recv()
        return local[0]

    def outer(self, number: int) -> None:
        if self.through == "python":
            self.results.append(self.inner(number))
        elif self.through == "sort":
            self.results.append(sorted([number], key=self.inner)[0])
        elif self.through == "generator":
            self.results.append(next(self.inner(n) for n in [number]))
        elif self.through == "init":
            self.results.append(type("A", (), {"__init__": lambda s: self.add(number)})() and 0)
        elif self.through == "del":
            dying = type("A", (), {"__del__": lambda s: self.add(number)})()
            del dying
            self.results.append(number)

    def add(self, number: int) -> None:
        self.inner(number)

    def finish(self) -> None:
        """Let all of them end."""
        for _ in self.gs:
            self.ch.send(0)
        for g in self.gs:
            g.join()


def test_f_back_of_parked_frames() -> None:
    """f_back leads from the parked frame to its callers, and not into anybody else's."""
    made = ParkedFrames(5)
    for frame in made.frames:
        names = back_from(frame)
        assert names[:2] == ["inner", "outer"]
        assert "test_f_back_of_parked_frames" not in names
    made.finish()
    assert sorted(made.results) == list(range(5))  # type: ignore[type-var]
    assert [back_from(frame)[0] for frame in made.frames] == ["inner"] * 5


@pytest.mark.parametrize("through", ["python", "sort", "generator", "init", "del"])
def test_parked_frames_seen_from_outside(through: str) -> None:
    """Every way to look at frames of parked goroutines works, whatever C code lies between."""
    made = ParkedFrames(3, through)
    assert sorted(frame.f_locals["number"] for frame in made.frames) == [0, 1, 2]
    for frame in made.frames:
        assert back_from(frame)[0] == "inner"
        assert frame.f_locals["local"] == [frame.f_locals["number"]]
        assert frame.f_lineno > frame.f_code.co_firstlineno
        assert traceback.extract_stack(frame)[-1].name == "inner"
        assert inspect.getframeinfo(frame).function == "inner"
        assert inspect.getouterframes(frame)[0].function == "inner"
        assert any("inner" in line for line in traceback.format_stack(frame))
        gc.get_referents(frame)
        gc.get_referrers(frame)
        with pytest.raises(RuntimeError, match="clear an executing frame"):
            frame.clear()
    gc.collect()
    made.finish()
    assert len(made.results) == 3
    for frame in made.frames:
        assert back_from(frame)[0] == "inner"
        frame.clear()


def test_interpreter_wide_views() -> None:
    """_current_frames, faulthandler and gc look at the process while goroutines are parked."""
    made = [ParkedFrames(3, through) for through in ("python", "sort", "del")]
    frames = sys._current_frames()
    assert any("test_interpreter_wide_views" in back_from(frame) for frame in frames.values())
    for all_threads in (False, True):
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file, all_threads=all_threads)
            file.seek(0)
            text = file.read()
        # of all threads it shows a hundred, which need not include this one
        assert "(most recent call first)" in text
        assert all_threads or "test_interpreter_wide_views" in text
    assert len(gc.get_objects()) > 1000
    for parked_ones in made:
        parked_ones.finish()


def test_views_from_inside_a_goroutine() -> None:
    """A goroutine sees its own frames only: its first function has no caller."""

    def inner() -> tuple[list[str], list[str], list[str]]:
        gosched()
        frame = sys._getframe()
        stack = [info.function for info in inspect.stack()]
        return back_from(frame), stack, [f.name for f in traceback.extract_stack()]

    def outer(i: int) -> Any:
        return inner()

    for back, stack, extracted in all_of(3, outer):
        assert back[:2] == stack[:2] == extracted[-1:-3:-1] == ["inner", "outer"]
        assert "test_views_from_inside_a_goroutine" not in {*back, *stack, *extracted}

    def alone() -> None:
        try:
            sys._getframe(1)
        except ValueError as error:
            seen.append(str(error))

    seen: list[str] = []
    go(alone).join()
    assert seen == ["call stack is not deep enough"]


def test_frames_outlive_their_goroutine() -> None:
    """Kept frames, and exceptions with theirs, are whole after the goroutine is gone."""
    kept: list[Any] = []

    def inner(number: int) -> None:
        local = number * 2  # noqa: F841
        kept.append(sys._getframe())
        gosched()
        raise ValueError(number)

    def outer(number: int) -> None:
        try:
            inner(number)
        except ValueError as error:
            kept.append(error)

    gs = [go(outer, 21) for _ in range(10)]
    for g in gs:
        g.join()
    del gs, g
    for _ in range(3):
        all_of(100, lambda i: None)
        gc.collect()
    frames = [thing for thing in kept if isinstance(thing, types.FrameType)]
    errors = [thing for thing in kept if isinstance(thing, ValueError)]
    assert [frame.f_locals["local"] for frame in frames] == [42] * 10
    for frame in frames:
        assert back_from(frame)[0] == "inner"
    for error in errors:
        tb = error.__traceback__
        assert tb is not None
        assert back_from(tb.tb_frame)[0] == "outer"


def test_dump_of_one() -> None:
    """runtime.stack() tells of the caller alone, in Go's layout."""

    def caller() -> str:
        return runtime.stack()

    text = caller()
    assert text.startswith("goroutine 1 [running]:\n")
    assert "caller" in text
    assert "test_dump_of_one" in text
    ch: Chan[int] = Chan()
    g = go(ch.recv)
    parked(g)
    assert f"goroutine {g.id} " not in runtime.stack()
    ch.send(1)
    g.join()
    texts = all_of(1, lambda i: (current().id, caller()))
    (id_, text) = texts[0]
    assert text.startswith(f"goroutine {id_} [running]:\n")
    assert len(re.findall(r"^goroutine \d+ \[", text, re.MULTILINE)) == 1


@pytest.mark.parametrize("through", ["python", "sort", "generator", "init", "del"])
def test_dump_of_all(through: str) -> None:
    """runtime.stack(all=True) has every goroutine with reason, frames and birth."""
    made = ParkedFrames(3, through)
    living: Chan[None] = Chan()
    fresh = go(living.recv)
    text = runtime.stack(all=True)
    assert text.startswith("goroutine 1 [running]:\n")
    assert "test_dump_of_all" in text.split("\n\n")[0]
    for g in made.gs:
        pattern = rf"goroutine {g.id} \[chan receive[^]]*\]:\n(.*?)(?=\ngoroutine \d+ \[|\Z)"
        section = re.search(pattern, text, re.DOTALL)
        assert section, text
        assert "inner" in section[1]
        assert "outer" in section[1]
        assert re.search(r"created by \S+ in goroutine 1\b", section[1])
    assert f"goroutine {fresh.id} [" in text
    made.finish()
    living.send(None)
    fresh.join()


# --- tracing and profiling --------------------------------------------------------------------


@pytest.fixture
def tracing() -> Iterator[None]:
    """Put trace and profile functions back as they were."""
    trace, profile = sys.gettrace(), sys.getprofile()
    sys.settrace(None)
    sys.setprofile(None)
    yield
    sys.settrace(trace)
    sys.setprofile(profile)


def traced_work(n: int) -> int:
    """Park between lines."""
    total = n
    gosched()
    total += 1
    with contextlib.suppress(TimeoutError):
        Chan().recv(timeout=0.0001)
    total += 1
    return total


@pytest.mark.parametrize("yields", [False, True], ids=["plain", "yielding"])
def test_settrace(tracing: None, yields: bool) -> None:
    """A trace function sees a function that parks from its call to its return."""
    events: list[str] = []

    def tracer(frame: types.FrameType, event: str, arg: object) -> Any:
        if frame.f_code is not traced_work.__code__:
            return None
        events.append(event)
        if yields:
            gosched()
        return tracer

    def body() -> None:
        sys.settrace(tracer)
        try:
            result.append(traced_work(1))
        finally:
            sys.settrace(None)

    result: list[int] = []
    others = [go(lambda: [gosched() for _ in range(20)]) for _ in range(3)]
    go(body).join()
    for other in others:
        other.join()
    assert result == [3]
    assert events.count("call") == 1
    assert events.count("return") == 1
    assert events[0] == "call"
    assert events[-1] == "return"
    assert events.count("line") >= 6


def test_settrace_in_several_goroutines(tracing: None) -> None:
    """Trace functions that yield, in several goroutines at once, disturb nothing."""

    def tracer(frame: types.FrameType, event: str, arg: object) -> Any:
        if frame.f_code is traced_work.__code__:
            gosched()
        return tracer

    def body(i: int) -> int:
        sys.settrace(tracer)
        try:
            return traced_work(i)
        finally:
            sys.settrace(None)

    assert all_of(10, body) == [i + 2 for i in range(10)]


def test_settrace_in_main(tracing: None) -> None:
    """A trace function of the main thread still works after main was parked."""
    calls: list[str] = []

    def tracer(frame: types.FrameType, event: str, arg: object) -> None:
        calls.append(frame.f_code.co_name)

    def after() -> None:
        pass

    sys.settrace(tracer)
    go(gosched).join()
    after()
    assert sys.gettrace() is tracer
    sys.settrace(None)
    assert "after" in calls


@pytest.mark.parametrize("yields", [False, True], ids=["plain", "yielding"])
def test_setprofile(tracing: None, yields: bool) -> None:
    """A profile function sees call and return of a function that parks."""
    events: list[str] = []

    def profiler(frame: types.FrameType, event: str, arg: object) -> None:
        if frame.f_code is traced_work.__code__ and event in ("call", "return"):
            events.append(event)
            if yields:
                gosched()

    def body() -> None:
        sys.setprofile(profiler)
        try:
            result.append(traced_work(1))
        finally:
            sys.setprofile(None)

    result: list[int] = []
    others = [go(lambda: [gosched() for _ in range(20)]) for _ in range(3)]
    go(body).join()
    for other in others:
        other.join()
    assert result == [3]
    assert events == ["call", "return"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring came with 3.12")
def test_monitoring(tracing: None) -> None:
    """sys.monitoring counts each start and return once, though its callbacks yield."""
    monitoring = sys.monitoring
    tool = next(i for i in (4, 3, 2) if monitoring.get_tool(i) is None)
    events = monitoring.events.PY_START | monitoring.events.PY_RETURN
    counts = {"start": 0, "return": 0}

    def started(code: types.CodeType, offset: int) -> None:
        counts["start"] += 1
        gosched()

    def returned(code: types.CodeType, offset: int, value: object) -> None:
        counts["return"] += 1
        gosched()

    monitoring.use_tool_id(tool, "test")
    try:
        monitoring.register_callback(tool, monitoring.events.PY_START, started)
        monitoring.register_callback(tool, monitoring.events.PY_RETURN, returned)
        monitoring.set_local_events(tool, traced_work.__code__, events)
        assert all_of(20, traced_work) == [i + 2 for i in range(20)]
    finally:
        monitoring.set_local_events(tool, traced_work.__code__, 0)
        monitoring.free_tool_id(tool)
    assert counts == {"start": 20, "return": 20}


def test_tracemalloc() -> None:
    """Allocations in goroutines are traced with many frames, and nothing crashes."""
    tracemalloc.start(30)
    try:
        kept = all_of(20, lambda i: [gosched(), bytearray(1000 + i)])
        snapshot = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    assert len(kept) == 20
    traced = {frame.filename for trace in snapshot.traces for frame in trace.traceback}
    assert __file__ in traced
