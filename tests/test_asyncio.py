"""goroutines.asyncio: goroutines awaited in event loops."""

from __future__ import annotations

import textwrap

from .conftest import run_program


def program(body: str) -> None:
    """Run a coroutine `main` in a patched program."""
    done = run_program(
        "from goroutines.patch import patch\npatch()\nimport asyncio, time\n"
        "from goroutines import Chan, Pool, go\nfrom goroutines.runtime import goexit\n"
        "import goroutines.asyncio as ga\n" + textwrap.dedent(body) + "\nasyncio.run(main())\n"
    )
    assert done.returncode == 0, done.stderr


def test_wrap() -> None:
    """The end of a goroutine is awaited while the loop goes on."""
    program("""
    async def main():
        ch, ticks = Chan(), 0
        waiting = ga.wrap(go(ch.recv))
        while ticks < 3:
            await asyncio.sleep(0)
            ticks += 1
        assert not waiting.done()
        ch.send(1)
        assert await waiting is None
        with Pool(2) as pool:
            assert await ga.wrap(pool.submit(lambda: 5)) == 5
        assert await ga.wrap(go(len, "")) is None
    """)


def test_call() -> None:
    """A result, an exception, arguments, an end without either, cancellation."""
    program("""
    async def main():
        assert await ga.call(lambda *a, **k: (a, k), 1, fn=2) == ((1,), {"fn": 2})
        try:
            await ga.call(lambda: 1 / 0)
        except ZeroDivisionError:
            pass
        else:
            raise AssertionError
        try:
            await ga.call(goexit)
        except asyncio.CancelledError:
            pass
        else:
            raise AssertionError
        ch = Chan()
        task = ga.call(ch.recv)
        task.cancel()
        await asyncio.sleep(0)
        ch.send(1)
        await asyncio.sleep(0.001)
        assert task.cancelled()
        assert await asyncio.gather(*(ga.call(time.sleep, 0.001) for _ in range(50))) == [None] * 50
    """)


def test_misuse() -> None:
    """Wrong arguments, no loop, a loop that lets no goroutine run: errors that say so."""
    program("""
    async def main():
        for bad in (lambda: ga.wrap(1), lambda: ga.call(1)):
            try:
                bad()
            except TypeError as e:
                assert "1" in str(e) or "int" in str(e)
            else:
                raise AssertionError
    try:
        ga.call(len, "")
    except RuntimeError as e:
        assert "no running event loop" in str(e)
    else:
        raise AssertionError
    """)
    done = run_program("""
    import asyncio, goroutines, goroutines.asyncio as ga
    async def main():
        ga.wrap(goroutines.go(len, ""))
    try:
        asyncio.run(main())
    except RuntimeError as e:
        assert "patch" in str(e)
    else:
        raise AssertionError
    """)
    assert done.returncode == 0, done.stderr


def test_two_loops_in_two_goroutines() -> None:
    """Each goroutine has its own running loop and current task, also while it waits."""
    program("""
    async def loop_of(n):
        mine = asyncio.get_running_loop()
        for _ in range(10):
            time.sleep(0)  # parks amid a task's step
            await asyncio.sleep(0)
            assert asyncio.get_running_loop() is mine
            assert asyncio.current_task().get_loop() is mine
        return n
    async def main():
        from goroutines import WaitGroup
        got, wg = [], WaitGroup()
        for n in range(10):
            wg.go(lambda n=n: got.append(asyncio.run(loop_of(n))))
        await ga.call(wg.wait)
        assert sorted(got) == list(range(10))
    """)
