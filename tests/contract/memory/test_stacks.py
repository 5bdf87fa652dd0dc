"""The stacks of goroutines, from the contract: set_max_stack, overflows, stack_bytes.

Whether main and plain threads are held to the maximum as well, and whether a new maximum
counts for goroutines that have started already, is left open. CPython has limits of its
own (sys.setrecursionlimit, nesting of C code); the programs here raise the former, so that
the stack's size is what ends a recursion. Where C code nests, a RecursionError or
MemoryError of CPython's own, or none at all, is as good: only a crash is not.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import pytest

from goroutines import Chan, current, go, gosched, runtime

from ...conftest import parked, run_program, until
from .tools import survives

KIB = 1024
DEFAULT = 256 * KIB

DEEP = """
import functools
import gc
import sys
from goroutines import *

def dive(seen, n=0):
    "Recurse until it is an error; seen[0] is how deep it went."
    seen[0] = n
    dive(seen, n + 1)

def dive_through_c(seen, n=0):
    "The same with C code in between."
    seen[0] = n
    functools.reduce(lambda a, b: dive_through_c(seen, n + 1), [0, 0])

def depth(how=dive):
    "How deep a recursion gets in a goroutine of its own."
    seen, errors = [0], []
    def body():
        try:
            how(seen)
        except RecursionError as error:
            errors.append(str(error))
    go(body).join()
    assert errors, seen
    return seen[0]

def descend(n, bottom):
    "Call bottom below n frames."
    return bottom() if n == 0 else (descend(n - 1, bottom), None)[0]
"""
LIMITLESS = DEEP + "\nsys.setrecursionlimit(1_000_000)\n"


def descend(n: int, bottom: Callable[[], Any]) -> Any:
    """Call `bottom` below `n` Python frames."""
    return bottom() if n == 0 else (descend(n - 1, bottom), None)[0]


def descend_through_c(n: int, bottom: Callable[[], Any]) -> Any:
    """Call `bottom` below `n` frames with C code in between."""
    if n == 0:
        return bottom()
    return functools.reduce(lambda a, b: descend_through_c(n - 1, bottom), [0, 0])


# --- the maximum ------------------------------------------------------------------------------


def test_default() -> None:
    """The default is 256 KiB, and set_max_stack answers what was set before."""
    assert runtime.set_max_stack(DEFAULT * 2) == DEFAULT
    assert runtime.set_max_stack(DEFAULT) == DEFAULT * 2
    assert runtime.set_max_stack(DEFAULT) == DEFAULT


@pytest.mark.parametrize(
    ("bad", "error"), [(-1, ValueError), ("1", TypeError), (1.5, TypeError), (None, TypeError)]
)
def test_bad_maximum(bad: Any, error: type[Exception]) -> None:
    """What is no size is refused and changes nothing."""
    with pytest.raises(error):
        runtime.set_max_stack(bad)
    assert runtime.set_max_stack(DEFAULT) == DEFAULT


def test_ordinary_recursion() -> None:
    """Within CPython's own limit of 1000, ordinary functions have room enough."""
    result: list[int] = []
    go(lambda: result.append(descend(400, lambda: 7))).join()
    go(lambda: result.append(descend_through_c(40, lambda: 8))).join()
    assert result == [7, 8]


@pytest.mark.parametrize("how", ["dive", "dive_through_c"])
def test_overflow(how: str) -> None:
    """Endless recursion is a RecursionError well before 256 KiB could hold its frames."""
    survives(
        f"""
        d = depth({how})
        assert 50 < d < 256 * 1024 / 40, d
        """,
        names=LIMITLESS,
    )


def test_depth_goes_with_the_maximum() -> None:
    """Four times the stack is about four times the depth, and back again."""
    survives(
        """
        first = depth()
        assert runtime.set_max_stack(1024 * 1024) == 256 * 1024
        assert 2 < depth() / first < 8, (depth(), first)
        runtime.set_max_stack(64 * 1024)
        assert 2 < first / depth() < 16, (depth(), first)
        runtime.set_max_stack(256 * 1024)
        assert 0.5 < depth() / first < 2
        """,
        names=LIMITLESS,
    )


def test_a_big_maximum() -> None:
    """With more room set, deeper recursion succeeds."""
    survives(
        """
        runtime.set_max_stack(64 << 20)
        results = []
        go(lambda: results.append(descend(50_000, lambda: 5))).join()
        assert results == [5]
        """,
        names=LIMITLESS,
    )


def test_a_tiny_maximum() -> None:
    """Where hardly anything fits, goroutines fail or work, and the rest goes on."""
    survives(
        """
        set_panic_hook(lambda g, error: isinstance(error, RecursionError))
        for size in (0, 1, 100, 1000, 4096, 10_000):
            try:
                runtime.set_max_stack(size)
            except ValueError:
                continue
            for _ in range(20):
                go(descend, 3, gosched).join()
        runtime.set_max_stack(256 * 1024)
        results = []
        go(lambda: results.append(descend(100, lambda: 5))).join()
        assert results == [5]
        """,
        names=DEEP,
    )


@pytest.mark.parametrize("size", [2**31, 2**40, 2**62, 2**63 - 1, 2**64, 10**30])
def test_an_absurd_maximum(size: int) -> None:
    """A maximum that nobody has is refused or taken; CPython's own limit still holds."""
    survives(
        f"""
        try:
            runtime.set_max_stack({size})
        except (ValueError, OverflowError):
            pass
        assert depth() > 50
        """,
        names=DEEP,
    )


# --- an overflow is one goroutine's own -------------------------------------------------------


def test_others_go_on() -> None:
    """While some overflow again and again, others keep their depth and finish."""
    survives(
        """
        ch = Chan()
        done = []

        def patient(i):
            done.append((i, descend(300, ch.recv)))

        def greedy():
            for _ in range(5):
                try:
                    dive([0])
                except RecursionError:
                    gosched()
                else:
                    raise AssertionError("no error")

        gs = [go(patient, i) for i in range(20)] + [go(greedy) for _ in range(20)]
        for i in range(20):
            ch.send(i)
        for g in gs:
            g.join()
        assert len(done) == 20
        """,
        names=LIMITLESS,
    )


def test_caught() -> None:
    """A goroutine that caught its overflow has all its room again."""
    survives(
        """
        depths = []

        def body():
            for _ in range(5):
                seen = [0]
                try:
                    dive(seen)
                except RecursionError:
                    depths.append(seen[0])
                gosched()

        go(body).join()
        assert len(depths) == 5
        assert max(depths) < 1.2 * min(depths), depths
        """,
        names=LIMITLESS,
    )


def test_clean_up() -> None:
    """finally and with blocks of all frames run on the way out."""
    survives(
        """
        entered, left = [0], [0]

        def body(n):
            entered[0] += 1
            try:
                body(n + 1)
            finally:
                left[0] += 1

        def start():
            try:
                body(0)
            except RecursionError:
                pass

        go(start).join()
        assert entered == left
        assert left[0] > 50
        """,
        names=LIMITLESS,
    )


def test_switching_while_deep() -> None:
    """Many goroutines recurse in turns, each up to its own end."""
    survives(
        """
        def body(results):
            seen = [0]
            def down(n):
                seen[0] = n
                if n % 50 == 0:
                    gosched()
                down(n + 1)
            try:
                down(0)
            except RecursionError:
                results.append(seen[0])

        results = []
        gs = [go(body, results) for _ in range(50)]
        for g in gs:
            g.join()
        assert len(results) == 50
        assert max(results) < 1.5 * min(results), sorted(results)
        """,
        names=LIMITLESS,
    )


@pytest.mark.parametrize("where", ["finalizer", "generator", "thread", "run", "handler", "sort"])
def test_overflow_in_odd_places(where: str) -> None:
    """Endless recursion somewhere inside something else ends as an error there."""
    survives(
        f"""
        where = {where!r}
        """
        """
        import threading
        caught = []

        def attempt():
            try:
                dive([0])
            except RecursionError:
                caught.append(True)

        class Dying:
            def __del__(self):
                attempt()

        def in_generator():
            yield attempt()

        def in_handler():
            try:
                1 / 0
            except ZeroDivisionError:
                attempt()

        def in_thread():
            t = threading.Thread(target=lambda: go(attempt).join())
            t.start()
            while t.is_alive():
                sleep(0.001)

        bodies = {
            "finalizer": Dying,
            "generator": lambda: list(in_generator()),
            "thread": in_thread,
            "run": attempt,
            "handler": in_handler,
            "sort": lambda: sorted([2, 1], key=lambda x: attempt() or x),
        }
        if where == "thread":
            in_thread()
        elif where == "run":
            run(lambda: go(attempt).join())
        else:
            go(bodies[where]).join()
        assert caught
        """,
        names=LIMITLESS,
    )


def test_panic_heading() -> None:
    """Nobody catches it: a panic headed as Go's, with the goroutine and its birth."""
    done = run_program(
        """
        import sys
        from goroutines import go, sleep
        sys.setrecursionlimit(1_000_000)

        def deeper(n):
            return deeper(n + 1) + 1

        go(deeper, 0)
        sleep(3600)
        """
    )
    assert done.returncode == 2, done
    assert done.stderr.startswith("panic: RecursionError: stack overflow\n"), done.stderr
    assert re.search(r"^goroutine \d+ \[running\]:$", done.stderr, re.MULTILINE), done.stderr
    assert "deeper" in done.stderr
    assert "created by" in done.stderr
    assert len(done.stderr.splitlines()) < 500  # repeated frames are told once, as Python does


def test_panic_hook_and_cause() -> None:
    """The hook gets the RecursionError, and Panic has it as its cause."""
    survives(
        """
        seen = []
        set_panic_hook(lambda g, error: seen.append(type(error)) or True)
        go(dive, [0]).join()
        assert seen == [RecursionError]
        set_panic_hook(None)
        go(dive, [0])
        try:
            sleep(3600)
        except Panic as panic:
            assert isinstance(panic.__cause__, RecursionError)
        else:
            raise AssertionError("no panic")
        """,
        names=LIMITLESS,
    )


# --- recursion in C ---------------------------------------------------------------------------

NESTS: dict[str, str] = {
    "json loads": "import json; json.loads('[' * N + ']' * N)",
    "json dumps": "import json; json.dumps(nested(N))",
    "pickle": "import pickle; pickle.loads(pickle.dumps(nested(N)))",
    "python pickle": "import io, pickle; pickle._Pickler(io.BytesIO()).dump(nested(N))",
    "marshal": "import marshal; marshal.loads(marshal.dumps(nested(N)))",
    "deepcopy": "import copy; copy.deepcopy(nested(N))",
    "repr": "repr(nested(N))",
    "equality": "nested(N) == nested(N)",
    "hash": "hash(nested(N, tuple))",
    "compile parentheses": "compile('(' * N + ')' * N, 'x', 'eval')",
    "compile minuses": "compile('-' * N + '1', 'x', 'eval')",
    "compile sums": "compile('+'.join('1' * N), 'x', 'eval')",
    "ast": "import ast; ast.literal_eval('[' * N + ']' * N)",
    "ast objects": "import ast\nnode = ast.Constant(1)\n"
    "for _ in range(N): node = ast.UnaryOp(ast.USub(), node)\n"
    "compile(ast.fix_missing_locations(ast.Expression(node)), 'x', 'eval')",
    "re compile": "import re; re.compile('(' * 5000 + ')' * 5000)",
    "re match": "import re; re.match('(?:a|(b))*$', 'ab' * N)",
    "sorted": "def rec(x): return sorted([x, x], key=rec)\nrec(1)",
    "map": "def rec(x): return list(map(rec, [x]))\nrec(1)",
    "reduce": "import functools\ndef rec(a, b): return functools.reduce(rec, [1, 2])\nrec(1, 2)",
    "partial": "import functools\ndef rec(): return functools.partial(rec)()\nrec()",
    "lru_cache": "import functools\n@functools.lru_cache(None)\ndef rec(n): return rec(n + 1)\n"
    "rec(0)",
    "getattr": "class A:\n    def __getattr__(self, name): return getattr(self, name + 'x')\nA().x",
    "call": "class A:\n    pass\nA.__call__ = A()\nA()()",
    "property": "class A:\n    @property\n    def x(self): return self.x\nA().x",
    "eq": "class A:\n    def __eq__(self, o): return [self] == [A()]\nA() == A()",
    "lt": "class A:\n    def __lt__(self, o): return max([A(), A()])\nA() < A()",
    "repr method": "class A:\n    def __repr__(self): return repr([A()])\nrepr(A())",
    "str format": "class A:\n    def __format__(self, s): return '{}'.format(self)\nf'{A()}'",
    "init": "class A:\n    def __init__(self): A()\nA()",
    "iter": "class A:\n    def __iter__(self): return iter(list(A()))\nlist(A())",
    "yield from": "def rec(): yield from rec()\nlist(rec())",
    "generators": "def rec(g):\n    for x in g: yield x\ng = iter([1])\n"
    "for _ in range(N): g = rec(g)\nnext(g)",
    "exec": "def rec(): exec('rec()', {'rec': rec})\nrec()",
    "isinstance": "isinstance(1, nested(N, tuple, str))",
    "xml": "import xml.etree.ElementTree as E; E.tostring(E.fromstring('<a>' * N + '</a>' * N))",
    "deallocation": "x = nested(N * 10); del x",
    "deallocation of objects": "class A: pass\nx = None\nfor _ in range(N * 10):\n"
    "    a = A(); a.x = x; x = a\ndel x, a",
    "deletion": "left = [N]\nclass A:\n    def __del__(self):\n        left[0] -= 1\n"
    "        if left[0] > 0: A()\nA()",
    "exceptions": "x = None\nfor _ in range(N):\n    e = ValueError(); e.__context__ = x; x = e\n"
    "del x, e",
    "traceback": "import traceback\ntry:\n    dive([0])\nexcept RecursionError:\n"
    "    traceback.format_exc()",
    "import": "import importlib\ndef rec(): importlib.import_module('json'); rec()\nrec()",
    "groups": "nested_group = ValueError()\nfor _ in range(N):\n"
    "    nested_group = ExceptionGroup('', [nested_group])\nnested_group.split(KeyError)",
    "union types": "x = int\nfor i in range(2000): x = list[x]\nrepr(x); hash(x); x == x",
    "slices": "from goroutines.memory import *\ns = None\nfor _ in range(N):\n"
    "    s = slice_of(object, s)\nrepr(s)",
    "arrays": "from goroutines.memory import *\na = array_of(object, 1)\nb = array_of(object, 1)\n"
    "for _ in range(N): a, b = array_of(object, a), array_of(object, b)\na == b\nhash(a)",
    "pickled slices": "import pickle\nfrom goroutines.memory import *\ns = None\n"
    "for _ in range(N): s = slice_of(object, s)\npickle.loads(pickle.dumps(s))",
    "pointers": "from goroutines.memory import *\np = new(object)\n"
    "for _ in range(N):\n    q = new(object); q.value = p; p = q\nrepr(p)",
    "maps": "from goroutines.memory import *\nm = None\nfor _ in range(N):\n"
    "    n = make(Map[string, object]); n['x'] = m; m = n\nrepr(m)",
}

IN_C = """
N = 20_000

def nested(n, kind=list, bottom=None):
    value = kind() if bottom is None else bottom
    for _ in range(n):
        value = kind([value])
    return value

outcomes = []

def body():
    try:
        exec(SOURCE, globals())
    except Exception as error:
        outcomes.append(type(error))
    else:
        outcomes.append(None)

allowed = {None, RecursionError, MemoryError, SyntaxError, AttributeError, OverflowError}
allowed.add(ValueError)  # marshal: object too deeply nested
for _ in range(2):
    g = go(body)
    g.join()
import re
try:
    import pickle
    allowed.add(pickle.PicklingError)
except ImportError:
    pass
assert len(outcomes) == 2 and set(outcomes) <= allowed, outcomes
results = []
go(lambda: results.append(descend(100, lambda: 5))).join()
assert results == [5]
assert descend(100, lambda: 6) == 6
"""


@pytest.mark.parametrize("what", NESTS)
def test_nesting_in_c(what: str) -> None:
    """C code that calls itself, or Python, ever deeper in a goroutine: no crash, all goes on."""
    survives(f"SOURCE = {NESTS[what]!r}\n{IN_C}", names=DEEP)


# Without the limit some of these end CPython's own main thread: here the maximum stops them.
LIMITLESS_NESTS = [
    "json loads",
    "json dumps",
    "pickle",
    "repr",
    "equality",
    "compile parentheses",
    "ast",
    "sorted",
    "map",
    "reduce",
    "getattr",
    "eq",
    "repr method",
    "init",
    "yield from",
    "slices",
    "arrays",
]


@pytest.mark.parametrize("what", LIMITLESS_NESTS)
def test_nesting_in_c_without_a_limit(what: str) -> None:
    """The same when sys.setrecursionlimit no longer protects: the stack's maximum does."""
    survives(f"SOURCE = {NESTS[what]!r}\n{IN_C}", names=LIMITLESS)


@pytest.mark.parametrize("what", LIMITLESS_NESTS)
def test_nesting_in_c_with_a_huge_maximum(what: str) -> None:
    """A maximum beyond what the thread has leaves CPython's own limits in force."""
    survives(f"runtime.set_max_stack(1 << 30)\nSOURCE = {NESTS[what]!r}\n{IN_C}", names=DEEP)


# --- accounting -------------------------------------------------------------------------------


def test_stack_bytes() -> None:
    """A parked goroutine says how much it holds: more when it is deeper."""
    ch: Chan[None] = Chan()
    gs = [go(descend, n, ch.recv) for n in (0, 100, 400)]
    parked(*gs)
    flat, middle, deep = (g.stack_bytes for g in gs)
    assert all(type(n) is int for n in (flat, middle, deep))
    assert 0 < flat < middle < deep
    assert middle - flat >= 100 * 50  # no frame is smaller
    assert deep - middle >= 300 * 50
    assert deep <= DEFAULT
    for _ in gs:
        ch.send(None)
    for g in gs:
        g.join()
        assert type(g.stack_bytes) is int
        assert 0 <= g.stack_bytes <= deep


def test_stack_bytes_counts_c() -> None:
    """The C stack counts as well."""
    ch: Chan[None] = Chan()
    gs = [go(way, 50, ch.recv) for way in (descend, descend_through_c)]
    parked(*gs)
    python, through_c = (g.stack_bytes for g in gs)
    assert through_c >= python + 50 * 100
    for _ in gs:
        ch.send(None)
    for g in gs:
        g.join()


def test_stack_bytes_of_main_and_oneself() -> None:
    """Any goroutine can be asked, the one that asks and main too."""
    sizes: list[int] = []
    go(lambda: sizes.append(descend(50, lambda: current().stack_bytes))).join()
    sizes.append(current().stack_bytes)
    assert all(type(n) is int and n >= 0 for n in sizes)
    unstarted = go(gosched)
    assert unstarted.stack_bytes >= 0
    unstarted.join()


def test_deep_once_gives_memory_back() -> None:
    """A goroutine that once was deep and parks where it is shallow gives its memory back."""
    ch: Chan[None] = Chan()

    def body() -> None:
        ch.recv()
        descend(400, ch.recv)
        for _ in range(3):
            ch.recv()

    g = go(body)
    parked(g)
    flat = g.stack_bytes
    ch.send(None)
    until(lambda: g.stack_bytes > flat and g.state == "waiting", "that it is deep")
    deep = g.stack_bytes
    assert deep > flat + 400 * 50
    ch.send(None)
    until(
        lambda: g.state == "waiting" and g.stack_bytes < flat + (deep - flat) / 4,
        f"that {g.stack_bytes} are less than {deep}",
    )
    for _ in range(3):
        ch.send(None)
    g.join()


def test_many_deep_ones_give_memory_back() -> None:
    """stack_inuse falls when hundreds of goroutines that once were deep park shallow."""
    survives(
        """
        ch, count = Chan(), 300

        def body():
            descend(400, ch.recv)
            ch.recv()

        def wait_all():
            while any(g.state != "waiting" for g in gs):
                gosched()

        gs = [go(body) for _ in range(count)]
        wait_all()
        deep = sum(g.stack_bytes for g in gs)
        inuse = runtime.read_mem_stats().stack_inuse
        assert deep > count * 400 * 50
        assert inuse > count * 400 * 50
        for _ in gs:
            ch.send(None)
        for _ in range(1000):
            wait_all()
            if sum(g.stack_bytes for g in gs) < deep / 4:
                if runtime.read_mem_stats().stack_inuse < inuse / 2:
                    break
            runtime.gc()
            sleep(0.001)
        else:
            raise AssertionError((deep, sum(g.stack_bytes for g in gs), inuse,
                                  runtime.read_mem_stats()))
        for _ in gs:
            ch.send(None)
        for g in gs:
            g.join()
        """,
        names=DEEP,
    )


def test_stack_stays_within_the_maximum() -> None:
    """Parked just before the overflow, a goroutine holds no more than the maximum."""
    survives(
        """
        ch = Chan()
        room = depth() * 9 // 10
        g = go(descend, room, ch.recv)
        while g.state != "waiting":
            gosched()
        assert 64 * 1024 < g.stack_bytes <= 256 * 1024, g.stack_bytes
        ch.send(0)
        g.join()
        """,
        names=LIMITLESS,
    )


def test_dump_of_a_deep_goroutine() -> None:
    """The dump of a goroutine at the bottom of its stack is bounded and does not crash."""
    survives(
        """
        ch = Chan()
        g = go(descend, depth() * 8 // 10, ch.recv)
        while g.state != "waiting":
            gosched()
        assert "descend" in runtime.stack(all=True)
        gc.collect()
        ch.send(0)
        g.join()
        """,
        names=LIMITLESS,
    )
