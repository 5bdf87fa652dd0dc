"""patch(): logging, whose handlers and locks exist before the patch."""

from __future__ import annotations

from .tools import run_patched


def test_locks_made_before() -> None:
    """Handlers made before patch() take turns among goroutines; none blocks its thread."""
    done = run_patched(
        """
        class Parking(io.StringIO):
            def write(self, text):
                time.sleep(0.001)  # while the handler's lock is held
                return super().write(text)

        stream = Parking()
        handler.setStream(stream)
        def work(i):
            for j in range(5):
                log.info("%d %d", i, j)
        threads = [threading.Thread(target=work, args=(i,)) for i in range(10)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        lines = stream.getvalue().split()
        assert len(lines) == 100, len(lines)

        handler.acquire()
        task = parks(log.info, "x")
        handler.release()
        task.result()
        with logging._lock:
            task = parks(logging.getLogger, "a.new.one")
        task.result()
        handler.setStream(sys.stdout)
        task = start(log.info, "end")
        task.result()
        """,
        before="""
        import io, logging, logging.handlers
        handler = logging.StreamHandler(io.StringIO())
        logging.basicConfig(level=logging.INFO, handlers=[handler], format="%(message)s")
        log = logging.getLogger("before")
        """,
    )
    assert done.stdout == "end\n"


def test_records_name_the_thread() -> None:
    """threadName and thread are the thread's that logs."""
    run_patched("""
        import io, logging
        stream = io.StringIO()
        logging.basicConfig(stream=stream, format="%(threadName)s %(thread)d %(message)s")
        t = threading.Thread(target=logging.warning, args=("text",), name="Mine")
        t.start()
        t.join()
        assert stream.getvalue() == f"Mine {t.ident} text\\n"
        """)


def test_queue_listener() -> None:
    """QueueHandler and QueueListener."""
    run_patched("""
        import logging, logging.handlers, queue
        got = []
        class Keep(logging.Handler):
            def emit(self, record):
                got.append(record.getMessage())
        q = queue.Queue()
        listener = logging.handlers.QueueListener(q, Keep())
        listener.start()
        log = logging.getLogger("x")
        log.addHandler(logging.handlers.QueueHandler(q))
        for i in range(5):
            log.error("number %d", i)
        listener.stop()
        assert got == ["number %d" % i for i in range(5)]
        """)
