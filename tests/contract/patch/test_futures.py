"""patch(): concurrent.futures, whose workers are goroutines or processes."""

from __future__ import annotations

import pytest

from .tools import only_patched, run_patched


def test_thread_pool() -> None:
    """submit, map, results, exceptions, callbacks, shutdown."""
    run_patched("""
        from concurrent.futures import *
        import concurrent.futures as cf
        gate = threading.Event()
        with ThreadPoolExecutor(3, thread_name_prefix="w") as pool:
            futures = [pool.submit(gate.wait) for _ in range(5)]
            settle()
            assert [f.running() for f in futures] == [True] * 3 + [False] * 2
            task = parks(futures[0].result)
            other = parks(futures[4].exception, 1000)
            assert isinstance(outcome(futures[1].result, 0.01), TimeoutError)
            gate.set()
            assert task.result() is True and other.result() is None
            seen = threading.Event()
            f = pool.submit(lambda: 1 / 0)
            f.add_done_callback(lambda f: seen.set())
            assert isinstance(outcome(f.result), ZeroDivisionError)
            seen.wait()
            assert list(pool.map(pow, [1, 2, 3], [2, 2, 2])) == [1, 4, 9]
            names = set(pool.map(lambda i: threading.current_thread().name, range(10)))
            assert all(name.startswith("w_") for name in names) and len(names) <= 3
        assert isinstance(outcome(pool.submit, print), RuntimeError)

        def slow(i):
            time.sleep(0.001)
            return i
        with ThreadPoolExecutor(50) as pool:
            assert list(pool.map(slow, range(200))) == list(range(200))
        gate.clear()
        with ThreadPoolExecutor(1) as pool:
            first, second = pool.submit(gate.wait), pool.submit(print)
            assert second.cancel() and not first.cancel()
            assert isinstance(outcome(second.result), CancelledError)
            assert isinstance(outcome(list, pool.map(slow, [1], timeout=0.01)), TimeoutError)
            gate.set()
        pool = ThreadPoolExecutor(1, initializer=lambda: 1 / 0)
        import logging
        logging.disable()
        assert isinstance(outcome(pool.submit(print).result), BrokenExecutor)
        pool.shutdown()
        gate.clear()
        pool = ThreadPoolExecutor(1)
        futures = [pool.submit(gate.wait) for _ in range(3)]
        until(futures[0].running)
        pool.shutdown(wait=False, cancel_futures=True)
        gate.set()
        assert futures[0].result() and futures[2].cancelled()
        """)


def test_wait_and_as_completed() -> None:
    """wait in its three ways and as_completed park."""
    run_patched("""
        from concurrent.futures import *
        import concurrent.futures as cf
        with ThreadPoolExecutor(4) as pool:
            gates = [threading.Event() for _ in range(3)]
            futures = [pool.submit(gate.wait) for gate in gates]
            assert cf.wait(futures, 0.01) == (set(), set(futures))
            first = parks(cf.wait, futures, return_when=FIRST_COMPLETED)
            every = parks(cf.wait, futures)
            error = parks(cf.wait, futures, 1000, FIRST_EXCEPTION)
            ordered = parks(lambda: list(as_completed(futures)))
            assert isinstance(outcome(list, as_completed(futures, 0.01)), TimeoutError)
            gates[1].set()
            assert first.result().done == {futures[1]}
            settle()
            assert not every.done and not error.done and not ordered.done
            gates[2].set()
            futures[2].result()
            gates[0].set()
            assert every.result() == (set(futures), set())
            assert error.result() == (set(futures), set())
            assert {*ordered.result()} == {*futures} and ordered.result()[0] is futures[1]
            failing = pool.submit(lambda: 1 / 0)
            gate = threading.Event()
            patient = pool.submit(gate.wait)
            done, rest = cf.wait([failing, patient], return_when=FIRST_EXCEPTION)
            assert done == {failing} and rest == {patient}
            gate.set()
        f = Future()  # by hand, between goroutines
        tasks = [parks(f.result) for _ in range(3)]
        f.set_result("x")
        assert [task.result() for task in tasks] == ["x"] * 3
        """)


def test_pool_left_at_exit() -> None:
    """What was submitted is finished before the program ends."""
    done = run_patched("""
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(2)
        for i in range(6):
            pool.submit(lambda: (time.sleep(0.01), print("done")))
        """)
    assert done.stdout.count("done") == 6


@only_patched
def test_workers_that_wait_for_io() -> None:
    """A hundred workers that wait in sockets hold up nobody."""
    run_patched("""
        from concurrent.futures import ThreadPoolExecutor
        pairs = [socket.socketpair() for _ in range(100)]
        with ThreadPoolExecutor(100) as pool:
            futures = [pool.submit(a.recv, 10) for a, _ in pairs]
            settle()
            assert all(f.running() for f in futures)
            for i, (_, b) in enumerate(pairs):
                b.send(b"%d" % i)
            assert [f.result() for f in futures] == [b"%d" % i for i in range(100)]
        """)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_process_pool(method: str) -> None:
    """Results, exceptions and broken pools of processes; waiting for them parks."""
    run_patched(
        """
        import concurrent.futures as cf
        import multiprocessing

        def sleeper(directory):
            while not os.path.exists(directory + "/go"):
                time.sleep(0.005)
            return os.getpid()

        def inside(_):  # goroutines and threads in the worker
            got = []
            if PATCHED:
                g = goroutines.go(got.append, 1)
                g.join()
            t = threading.Thread(target=got.append, args=(1,))
            t.start()
            t.join()
            return len(got)

        if __name__ == "__main__":
            context = multiprocessing.get_context(METHOD)
            with temporary() as directory, cf.ProcessPoolExecutor(2, context) as pool:
                f = pool.submit(sleeper, directory)
                task = parks(f.result)
                open(directory + "/go", "w").close()
                assert task.result() != os.getpid()
                assert list(pool.map(pow, range(5), [2] * 5)) == [0, 1, 4, 9, 16]
                assert set(pool.map(inside, range(2))) == {2 if PATCHED else 1}
                error = outcome(pool.submit(int, "x").result)
                assert isinstance(error, ValueError)
                assert len(list(cf.as_completed([pool.submit(abs, -i) for i in range(5)]))) == 5
            if METHOD == "fork":
                with cf.ProcessPoolExecutor(1, context) as pool:
                    f = pool.submit(os._exit, 3)
                    assert isinstance(outcome(f.result), cf.process.BrokenProcessPool)
        """.replace("METHOD", repr(method)),
        before="import warnings; warnings.simplefilter('ignore')",
    )
