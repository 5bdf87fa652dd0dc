"""Imports in several goroutines at once: no half-made module, no deadlock."""

from __future__ import annotations

from .tools import run_patched

MODULES = """
import sys, tempfile, os
directory = tempfile.mkdtemp()
sys.path.insert(0, directory)
def module(name, text):
    path = os.path.join(directory, name + ".py")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
"""


def test_one_slow_module() -> None:
    """Whoever imports a module that another is importing waits until it is whole."""
    run_patched(
        """
        def load():
            import slow
            return slow.first, slow.last
        tasks = [start(load) for _ in range(8)]
        other = start(lambda: __import__("fast").value)
        assert other.result() == 1
        assert load() == (1, 2)
        assert [task.result() for task in tasks] == [(1, 2)] * 8
        assert sys.modules["slow"].count == [1]
        """,
        before=MODULES
        + """
module("slow", '''
import time, builtins
first = 1
count = builtins.__dict__.setdefault("slow_count", [])
time.sleep(0.05)
count.append(1)
last = 2
''')
module("fast", "value = 1")
""",
    )


def test_circular_imports() -> None:
    """Modules that import each other, from both ends at once."""
    run_patched(
        """
        def load(name):
            module = __import__(name)
            return module.value
        tasks = [start(load, name) for name in ("one", "two", "one", "two")]
        values = [outcome(task.result) for task in tasks]
        assert all(isinstance(v, (int, ImportError, AttributeError)) for v in values), values
        assert load("one") == 1 and load("two") == 2
        assert sys.modules["one"].two is sys.modules["two"]
        assert sys.modules["two"].one is sys.modules["one"]
        """,
        before=MODULES
        + """
module("one", "import time; time.sleep(0.01); import two; value = 1")
module("two", "import time; time.sleep(0.01); import one; value = 2")
""",
    )


def test_imports_that_fail_and_threads_in_imports() -> None:
    """A failing import fails for each; a module may start and join threads."""
    run_patched(
        """
        tasks = [start(__import__, "broken") for _ in range(4)]
        results = [outcome(task.result) for task in tasks]
        # Who waited for it may be given the module that failed, by CPython.
        assert all("broken" in str(r) or type(r) is ZeroDivisionError for r in results), results
        assert any(type(r) is ZeroDivisionError for r in results)
        assert "broken" not in sys.modules
        tasks = [start(__import__, "threaded") for _ in range(4)]
        assert [task.result().got for task in tasks] == [[0, 1, 2]] * 4
        def load(i):
            return __import__("package.m%d" % i, fromlist=["x"]).x
        tasks = [start(load, i % 5) for i in range(20)]
        assert [task.result() for task in tasks] == [i % 5 for i in range(20)]
        """,
        before=MODULES
        + """
module("broken", "import time; time.sleep(0.005); 1 / 0")
module("threaded", '''
import threading, time
got = []
threads = [threading.Thread(target=lambda i=i: (time.sleep(0.001), got.append(i)))
           for i in range(3)]
for t in threads:
    t.start()
for t in threads:
    t.join()
got.sort()
''')
module("package/__init__", "import time; time.sleep(0.005)")
for i in range(5):
    module("package/m%d" % i, "import time; time.sleep(0.002); x = %d" % i)
""",
    )


def test_standard_modules() -> None:
    """Many goroutines import much of the standard library at once."""
    run_patched("""
        names = ["decimal", "email.message", "xml.dom.minidom", "sqlite3", "tarfile", "zipfile",
                 "html.parser", "http.cookies", "json.tool", "statistics", "difflib", "csv"]
        import importlib
        tasks = [start(importlib.import_module, name) for name in names * 3]
        for task, name in zip(tasks, names * 3):
            got = outcome(task.result)
            assert getattr(got, "__name__", name) == name or isinstance(got, ImportError)
        """)
