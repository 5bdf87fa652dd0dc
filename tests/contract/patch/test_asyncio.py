"""patch(): asyncio in goroutines, each with a loop of its own."""

from __future__ import annotations

import pytest

from .tools import only_patched, run_patched


@only_patched
def test_a_loop_lets_goroutines_run() -> None:
    """An event loop with nothing to do parks its goroutine, in main or elsewhere."""
    run_patched("""
        import asyncio
        async def main(seconds):
            await asyncio.sleep(seconds)
            return "over"
        task = parks(asyncio.run, main(0.05))
        assert task.result() == "over"
        done = []
        other = start(lambda: (settle(), done.append(1)))
        assert asyncio.run(main(0.02)) == "over"
        assert done == [1]
        """)


def test_two_loops_at_once() -> None:
    """The running loop and the current task are each goroutine's own."""
    run_patched("""
        import asyncio
        async def step(name, log):
            loop = asyncio.get_running_loop()
            me = asyncio.current_task()
            for i in range(20):
                await asyncio.sleep(0)
                assert asyncio.get_running_loop() is loop
                assert asyncio.current_task() is me
                time.sleep(0)  # another loop runs in the midst of this step
                assert asyncio.get_running_loop() is loop
                assert asyncio.current_task() is me
                assert me in asyncio.all_tasks()
                log.append(name)
            return id(loop)
        async def main(log):
            mine = asyncio.all_tasks()
            assert mine == {asyncio.current_task()}
            ids = await asyncio.gather(step("a", log), step("b", log))
            assert len(set(ids)) == 1
            await asyncio.sleep(0.01)
            return ids[0]
        gate = threading.Event()
        async def open_gate():
            gate.set()
        def run():
            log = []
            result = asyncio.run(main(log))
            assert sorted(log) == ["a"] * 20 + ["b"] * 20
            return result
        tasks = [start(run) for _ in range(5)]
        for task in tasks:
            task.result()
        assert isinstance(outcome(asyncio.get_running_loop), RuntimeError)
        """)


@only_patched
def test_waiting_inside_a_coroutine() -> None:
    """A call that waits holds up its own loop, no other; threads see no running loop."""
    run_patched("""
        import asyncio
        a, b = socket.socketpair()
        async def blocked():
            loop = asyncio.get_running_loop()
            data = a.recv(10)
            assert asyncio.get_running_loop() is loop
            return data
        task = parks(asyncio.run, blocked())
        assert isinstance(outcome(asyncio.get_running_loop), RuntimeError)
        async def other():
            await asyncio.sleep(0.001)
            return asyncio.current_task().get_name()
        assert asyncio.run(other())
        seen = []
        async def with_thread():
            t = threading.Thread(target=lambda: seen.append(outcome(asyncio.get_running_loop)))
            t.start()
            t.join()
            asyncio.get_running_loop()
        asyncio.run(with_thread())
        assert isinstance(seen[0], RuntimeError)
        b.send(b"x")
        assert task.result() == b"x"
        async def nested():
            c = other()
            try:
                return outcome(asyncio.run, c)
            finally:
                c.close()
        assert isinstance(asyncio.run(nested()), RuntimeError)
        """)


def test_bridges() -> None:
    """to_thread, run_in_executor, run_coroutine_threadsafe, call_soon_threadsafe."""
    run_patched("""
        import asyncio, contextvars
        var = contextvars.ContextVar("var", default=None)
        a, b = socket.socketpair()
        async def main():
            var.set("mine")
            loop = asyncio.get_running_loop()
            ticks = 0
            async def tick():
                nonlocal ticks
                while True:
                    await asyncio.sleep(0.001)
                    ticks += 1
            ticker = asyncio.create_task(tick())
            reading = asyncio.create_task(asyncio.to_thread(a.recv, 10))
            while ticks < 5:  # the loop goes on
                await asyncio.sleep(0.001)
            b.send(b"x")
            assert await reading == b"x"
            assert await asyncio.to_thread(var.get) == "mine"
            assert await loop.run_in_executor(None, time.sleep, 0.001) is None
            try:
                await asyncio.to_thread(int, "x")
            except ValueError:
                pass
            results = await asyncio.gather(*(asyncio.to_thread(abs, -i) for i in range(20)))
            assert results == list(range(20))

            async def double(x):
                await asyncio.sleep(0.001)
                return x * 2
            def outside():
                future = asyncio.run_coroutine_threadsafe(double(4), loop)
                return future.result()
            task = start(outside)
            while not task.done:
                await asyncio.sleep(0.001)
            assert task.result() == 8
            f = loop.create_future()
            start(lambda: (settle(), loop.call_soon_threadsafe(f.set_result, 1)))
            ticker.cancel()
            assert await f == 1  # wakes a loop that has nothing else
        asyncio.run(main())
        """)


@only_patched
def test_a_loop_in_another_thread() -> None:
    """A loop that runs for ever in a thread serves goroutines."""
    run_patched("""
        import asyncio
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        async def double(x):
            await asyncio.sleep(0.001)
            return x * 2
        def ask(i):
            return asyncio.run_coroutine_threadsafe(double(i), loop).result()
        tasks = [start(ask, i) for i in range(20)]
        assert [task.result() for task in tasks] == [i * 2 for i in range(20)]
        async def forever():
            await asyncio.sleep(1000)
        f = asyncio.run_coroutine_threadsafe(forever(), loop)
        assert isinstance(outcome(f.result, 0.01), TimeoutError)
        f.cancel()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        """)


def test_streams_and_subprocesses() -> None:
    """Servers, clients and programs of asyncio; synchronous clients from goroutines."""
    run_patched("""
        import asyncio
        async def serve(reader, writer):
            while line := await reader.readline():
                writer.write(line.upper())
                await writer.drain()
            writer.close()
        async def main():
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            def client(i):
                with socket.create_connection(address) as a, a.makefile("rwb") as file:
                    for j in range(3):
                        file.write(b"line %d %d\\n" % (i, j))
                        file.flush()
                        assert file.readline() == b"LINE %d %d\\n" % (i, j)
                return i
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"hello\\n")
            assert await reader.readline() == b"HELLO\\n"
            writer.close()
            clients = [asyncio.to_thread(client, i) for i in range(5)]
            assert await asyncio.gather(*clients) == list(range(5))
            server.close()

            process = await asyncio.create_subprocess_exec(
                "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
            assert await process.communicate(b"text") == (b"text", None)
            assert await process.wait() == 0
            process = await asyncio.create_subprocess_shell("exit 3")
            assert await process.wait() == 3
            loop = asyncio.get_running_loop()
            infos = await loop.getaddrinfo("127.0.0.1", 80)
            assert infos[0][4] == ("127.0.0.1", 80)
            async with asyncio.timeout(1000):
                a, b = socket.socketpair()
                a.setblocking(False)
                b.setblocking(False)
                read = asyncio.create_task(loop.sock_recv(a, 10))
                await loop.sock_sendall(b, b"x")
                assert await read == b"x"
        asyncio.run(main())
        """)


def test_tls_streams() -> None:
    """asyncio's TLS works beside patched sockets."""
    run_patched("""
        import asyncio, ssl
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_context.load_cert_chain(PEM)
        client_context = ssl.create_default_context(cafile=PEM)
        async def serve(reader, writer):
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()
        async def main():
            server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=client_context, server_hostname="localhost")
            writer.write(b"hello\\n")
            assert await reader.readline() == b"HELLO\\n"
            writer.close()
            def client():
                raw = socket.create_connection(("127.0.0.1", port))
                with client_context.wrap_socket(raw, server_hostname="localhost") as tls:
                    tls.sendall(b"again\\n")
                    return tls.recv(10)
            assert await asyncio.to_thread(client) == b"AGAIN\\n"
            server.close()
        asyncio.run(main())
        """)


def test_signals_and_interrupts() -> None:
    """Handlers of a loop in main, and Ctrl-C, which cancels the main task."""
    run_patched("""
        import asyncio
        async def main():
            loop = asyncio.get_running_loop()
            got = asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR1, got.set)
            task = start(lambda: (settle(), os.kill(os.getpid(), signal.SIGUSR1)))
            await got.wait()
            loop.remove_signal_handler(signal.SIGUSR1)
        asyncio.run(main())
        cancelled = []
        async def endless():
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                cancelled.append(1)
                raise
        task = start(lambda: (settle(), os.kill(os.getpid(), signal.SIGINT)))
        assert isinstance(outcome(asyncio.run, endless()), KeyboardInterrupt)
        assert cancelled == [1]
        """)


@pytest.mark.parametrize("before", ["", "import asyncio, asyncio.events, asyncio.tasks"])
def test_asyncio_imported_before_and_after(before: str) -> None:
    """It does not matter when asyncio was imported."""
    run_patched(
        """
        import asyncio
        async def child(n):
            await asyncio.sleep(0.001)
            assert asyncio.current_task().get_name() == "child %d" % n
            return n
        async def main():
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(child(i), name="child %d" % i) for i in range(10)
                ]
            queue = asyncio.Queue(1)
            async def produce():
                for i in range(5):
                    await queue.put(i)
            async with asyncio.TaskGroup() as group:
                group.create_task(produce())
                got = [await queue.get() for _ in range(5)]
            return [t.result() for t in tasks], got
        tasks = [start(asyncio.run, main()) for _ in range(5)]
        for task in tasks:
            assert task.result() == (list(range(10)), list(range(5)))
        with asyncio.Runner() as runner:
            assert runner.run(main())[1] == list(range(5))
        """,
        before=before,
    )


@only_patched
def test_two_loops_one_goroutine_after_the_other() -> None:
    """A loop may be run by one goroutine and later by another."""
    run_patched("""
        import asyncio
        loop = asyncio.new_event_loop()
        async def who():
            assert asyncio.get_running_loop() is loop
            await asyncio.sleep(0.001)
            return threading.get_ident()
        first = loop.run_until_complete(who())
        assert first == threading.get_ident()
        assert start(lambda: loop.run_until_complete(who())).result() != first
        async def forever():
            await asyncio.sleep(0.05)
        task = parks(loop.run_until_complete, forever())
        c = who()
        assert isinstance(outcome(loop.run_until_complete, c), RuntimeError)
        c.close()
        task.result()
        loop.close()
        """)


@only_patched
def test_wrap() -> None:
    """goroutines.asyncio.wrap: a loop's coroutine waits for what goroutines wait for."""
    run_patched("""
        import goroutines.asyncio
        assert callable(goroutines.asyncio.wrap)
        """)
