"""os.fork under patch(): the child has a clean runtime, its sockets work, so do the parent's."""

from __future__ import annotations

from .tools import only_patched, run_patched

QUIET = "import warnings; warnings.simplefilter('ignore')"
FORK = """
import traceback

def fork(body):
    "Run body in a forked child; its exit status."
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            body()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return pid

def wait(pid):
    got, status = os.waitpid(pid, 0)
    assert (got, status) == (pid, 0), status
"""


def test_child_uses_everything() -> None:
    """From main and from a goroutine: sockets, goroutines, threads, timers, programs."""
    run_patched(
        FORK
        + """
import queue, select, subprocess
def everything():
    assert threading.current_thread() is threading.main_thread()
    assert threading.enumerate() == [threading.main_thread()]
    if PATCHED:
        assert goroutines.num_goroutine() == 1
    a, b = socket.socketpair()
    task = parks(a.recv, 1)
    b.send(b"x")
    assert task.result() == b"x"
    task = parks(select.select, [a], [], [])
    b.send(b"x")
    task.result()
    q = queue.Queue()
    t = threading.Thread(target=lambda: (time.sleep(0.001), q.put(1)))
    t.start()
    assert q.get() == 1
    t.join()
    assert subprocess.run(["cat"], input=b"x", capture_output=True).stdout == b"x"
    assert threading.Event().wait(0.001) is False
    assert socket.gethostbyname("127.0.0.1") == "127.0.0.1"
    wait(fork(lambda: parks(time.sleep, 0.1).result()))  # and a child of its own

a, b = socket.socketpair()
others = [parks(a.recv, 1), parks(threading.Event().wait, 0.5), parks(time.sleep, 0.5)]
keep = threading.Thread(target=others[0].join)
keep.start()
wait(fork(everything))
start(lambda: wait(fork(everything))).result()
t = threading.Thread(target=lambda: wait(fork(everything)))
t.start()
t.join()
tasks = [start(lambda: wait(fork(everything))) for _ in range(3)]
for task in tasks:
    task.result()
b.send(b"x")
assert others[0].result() == b"x"
keep.join()
""",
        before=QUIET,
    )


def test_sockets_open_across_the_fork() -> None:
    """Both processes wait for what they share, each without disturbing the other."""
    run_patched(
        FORK
        + """
with socket.create_server(("127.0.0.1", 0)) as server:
    task = parks(server.accept)
    client = socket.create_connection(server.getsockname())
    served, _ = task.result()
    quiet, loud = socket.socketpair()
    reader = parks(quiet.recv, 1)  # registered in the parent while it forks
    def child():
        c, d = socket.socketpair()  # numbers of its own, other than the parent's next
        task = parks(c.recv, 1)
        d.send(b"x")
        task.result()
        inner = parks(served.recv, 10)  # an inherited one
        client.send(b"to the child")
        assert inner.result() == b"to the chi"
        assert served.recv(10) == b"ld"
        served.close()
        quiet.close()
        server.close()
    wait(fork(child))
    settle()
    assert not reader.done
    loud.send(b"x")
    assert reader.result() == b"x"
    task = parks(served.recv, 10)
    client.send(b"still")
    assert task.result() == b"still"
    task = parks(server.accept)
    socket.create_connection(server.getsockname()).close()
    task.result()[0].close()
""",
        before=QUIET,
    )


def test_preforked_servers() -> None:
    """Several processes accept from one listener, with a goroutine for each connection."""
    run_patched(
        FORK
        + """
with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
    def child():
        left = threading.Semaphore(0)
        def serve(s):
            with s:
                s.sendall(b"%d %s" % (os.getpid(), s.recv(10)))
        def loop():
            while True:
                start(serve, server.accept()[0])
        for _ in range(3):
            start(loop)
        time.sleep(1000)
    pids = [fork(child) for _ in range(2)]
    def ask(i):
        with socket.create_connection(server.getsockname()) as a:
            a.send(b"%d" % i)
            pid, text = a.recv(100).split()
            assert int(text) == i and int(pid) in pids
    tasks = [start(ask, i) for i in range(40)]
    for task in tasks:
        task.result()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
""",
        before=QUIET,
    )


def test_locks_across_the_fork() -> None:
    """What the forking goroutine holds it holds in the child; logging's locks are free."""
    run_patched(
        FORK
        + """
import logging
logging.basicConfig(stream=sys.stdout, format="%(message)s")
lock, rlock = threading.Lock(), threading.RLock()
def run():
    with lock, rlock:
        def child():
            assert lock.locked() and not lock.acquire(False)
            with rlock:
                pass
            assert start(rlock.acquire, False).result() is False
            logging.warning("in the child")
            task = parks(lambda: lock.acquire() and lock.release())
            lock.release()
            task.result()
        wait(fork(child))
handler = logging.getLogger().handlers[0]
gate = threading.Event()
def hold():
    handler.acquire()
    gate.wait()
    handler.release()
holder = parks(hold)
start(run).result()
gate.set()
holder.result()
""",
        before=QUIET,
    )


def test_at_fork_and_exit_in_the_child() -> None:
    """register_at_fork's functions run; a child that ends by itself ends cleanly."""
    done = run_patched(
        """
        import atexit
        log = []
        os.register_at_fork(
            before=lambda: log.append("before"),
            after_in_parent=lambda: log.append("parent"),
            after_in_child=lambda: log.append("child"),
        )
        others = [start(time.sleep, 1000 if PATCHED else 0.5) for _ in range(3)]
        t = threading.Thread(target=time.sleep, args=(0.2,))
        t.start()
        pid = os.fork()
        if pid == 0:
            assert log == ["before", "child"]
            atexit.register(print, "atexit in the child", flush=True)
            threading.Thread(target=lambda: (time.sleep(0.01), print("thread", flush=True))
                             ).start()
            sys.exit(3)
        assert log == ["before", "parent"]
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
        print("parent", flush=True)
        """,
        before=QUIET,
    )
    assert done.stdout.split("\n") == ["thread", "atexit in the child", "parent", ""]


@only_patched
def test_child_of_a_goroutine_goes_on() -> None:
    """A goroutine that forks goes on in the child as its main goroutine."""
    done = run_patched(
        """
        from goroutines import current
        def run():
            pid = os.fork()
            if pid == 0:
                g = goroutines.go(lambda: print("goroutine", flush=True))
                g.join()
                time.sleep(0.001)
                assert threading.current_thread() is threading.main_thread()
                print("child", flush=True)
                sys.exit(5)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(goroutines.go(lambda: None).join())
        got = []
        goroutines.go(lambda: got.append(run())).join()
        print(got)
        """,
        before=QUIET,
    )
    assert done.stdout.split("\n") == ["None", "goroutine", "child", "[5]", ""]
