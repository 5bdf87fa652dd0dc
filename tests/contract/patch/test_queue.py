"""patch(): the four queues between goroutines."""

from __future__ import annotations

from .tools import run_patched


def test_get_and_put() -> None:
    """get() of an empty queue and put() to a full one park."""
    run_patched("""
        import queue
        for kind in (queue.Queue, queue.LifoQueue, queue.PriorityQueue):
            q = kind(2)
            task = parks(q.get)
            q.put(1)
            assert task.result() == 1
            q.put(2), q.put(1)
            assert q.full() and q.qsize() == 2
            task = parks(q.put, 3)
            first = q.get()
            assert first == (2 if kind is queue.Queue else 1)
            task.result()
            rest = [q.get(), q.get()]
            expected = {
                queue.Queue: [1, 3], queue.LifoQueue: [3, 2], queue.PriorityQueue: [2, 3],
            }[kind]
            assert rest == expected, (kind, rest)
            assert q.empty()
        q = queue.SimpleQueue()
        task = parks(q.get)
        q.put("x")
        assert task.result() == "x"
        task = parks(q.get, True, 1000)
        q.put_nowait("y")
        assert task.result() == "y" and q.empty() and q.qsize() == 0
        """)


def test_time_runs_out() -> None:
    """Empty and Full come in time, and at once without waiting; nothing is lost."""
    run_patched("""
        import queue
        for q in (queue.Queue(1), queue.LifoQueue(1), queue.PriorityQueue(1),
                  queue.SimpleQueue()):
            for call in (
                lambda: q.get(timeout=0.01), lambda: q.get(True, 0.01), lambda: q.get(False),
                lambda: q.get(timeout=0), q.get_nowait, lambda: q.get(block=False, timeout=5),
            ):
                assert type(outcome(call)) is queue.Empty, q
            assert isinstance(outcome(q.get, timeout=-1), ValueError)
            patient = parks(q.get)
            assert type(outcome(q.get, timeout=0.01)) is queue.Empty
            q.put(1)
            assert patient.result() == 1
            if hasattr(q, "maxsize"):
                q.put(1)
                for call in (
                    lambda: q.put(2, timeout=0.01), lambda: q.put(2, False),
                    lambda: q.put_nowait(2),
                ):
                    assert type(outcome(call)) is queue.Full, q
                assert isinstance(outcome(q.put, 2, timeout=-1), ValueError)
                patient = parks(q.put, 2, True, 1000)
                assert type(outcome(q.put, 3, timeout=0.01)) is queue.Full
                assert q.get() == 1
                patient.result()
                assert q.get() == 2
        """)


def test_join_and_task_done() -> None:
    """join() parks until every task is done."""
    run_patched("""
        import queue
        q = queue.Queue()
        for i in range(3):
            q.put(i)
        task = parks(q.join)
        for _ in range(3):
            assert not task.done
            q.get()
            q.task_done()
        task.result()
        assert isinstance(outcome(q.task_done), ValueError)
        q.join()
        """)


def test_shutdown() -> None:
    """shutdown() (3.13) ends the waits on either side."""
    run_patched("""
        import queue
        if hasattr(queue, "ShutDown"):
            for kind in (queue.Queue, queue.LifoQueue, queue.PriorityQueue):
                q = kind(1)
                tasks = [parks(q.get) for _ in range(3)]
                q.shutdown()
                for task in tasks:
                    task.error(queue.ShutDown)
                q = kind(1)
                q.put(1)
                tasks = [parks(q.put, 2), parks(q.join)]
                q.shutdown(immediate=True)
                tasks[0].error(queue.ShutDown)
                tasks[1].join()
        """)


def test_many_producers_and_consumers() -> None:
    """Each value arrives once, in a producer's order, whoever takes it."""
    run_patched("""
        import queue
        for q in (queue.Queue(3), queue.Queue(), queue.SimpleQueue()):
            got = [[] for _ in range(5)]
            def consume(i):
                while (item := q.get()) is not None:
                    got[i].append(item)
            def produce(p):
                for n in range(100):
                    q.put((p, n))
            consumers = [start(consume, i) for i in range(5)]
            producers = [start(produce, p) for p in range(5)]
            for task in producers:
                task.result()
            for _ in consumers:
                q.put(None)
            for task in consumers:
                task.result()
            everything = sum(got, [])
            assert sorted(everything) == [(p, n) for p in range(5) for n in range(100)]
            for mine in got:
                for p in range(5):
                    numbers = [n for who, n in mine if who == p]
                    assert numbers == sorted(numbers)
        """)


def test_queue_from_a_finalizer() -> None:
    """SimpleQueue.put may be called by a finalizer in the midst of a get or a put."""
    run_patched("""
        import gc, queue
        q = queue.SimpleQueue()
        class Node:
            def __init__(self):
                self.me = self
            def __del__(self):
                q.put("finalized")
        gc.set_threshold(5)
        def consume():
            return [q.get() for _ in range(300)]
        task = start(consume)
        for _ in range(300):
            Node()
        gc.collect()
        assert task.result() == ["finalized"] * 300
        """)
