"""patch(): os.read and os.write on pipes and terminals, children, popen; plain files as ever."""

from __future__ import annotations

from .tools import only_patched, run_patched


def test_pipes() -> None:
    """Reading an empty pipe and writing to a full one park."""
    run_patched("""
        r, w = os.pipe()
        task = parks(os.read, r, 10)
        assert os.write(w, b"hello") == 5
        assert task.result() == b"hello"
        os.write(w, b"hello")
        assert os.read(r, 3) == b"hel" and os.read(r, 10) == b"lo"

        data = os.urandom(500_000)
        def write():
            sent = 0
            while sent < len(data):
                sent += os.write(w, data[sent:])
        task = parks(write)
        got = bytearray()
        while len(got) < len(data):
            part = os.read(r, 5000)
            assert 0 < len(part) <= 5000
            got += part
        task.result()
        assert got == data
        assert os.get_blocking(r) and os.get_blocking(w)  # as far as others can see

        readers = [parks(os.read, r, 1) for _ in range(3)]
        os.write(w, b"abc")
        assert sorted(task.result() for task in readers) == [b"a", b"b", b"c"]
        readers = [parks(os.read, r, 1) for _ in range(3)]
        os.close(w)
        assert [task.result() for task in readers] == [b""] * 3
        os.close(r)
        r, w = os.pipe()
        def fill():
            while True:
                os.write(w, bytes(100_000))
        task = parks(fill)
        os.close(r)
        task.error(BrokenPipeError)
        for call in (lambda: os.read(r, 1), lambda: os.write(r, b"x")):
            assert outcome(call).errno == errno.EBADF
        assert isinstance(outcome(os.read, "x", 1), TypeError)
        assert isinstance(outcome(os.write, w, "x"), TypeError)
        assert isinstance(outcome(os.read, w, -1), OSError)
        """)


def test_vectors_and_pipes() -> None:
    """readv and writev park, too."""
    run_patched("""
        r, w = os.pipe()
        task = parks(os.readv, r, [a := bytearray(2), b := bytearray(10)])
        assert os.writev(w, [b"he", b"llo"]) == 5
        assert task.result() == 5 and a == b"he" and b[:3] == b"llo"
        def fill():
            for _ in range(20):
                os.writev(w, [bytes(10_000), bytes(10_000)])
        task = parks(fill)
        while not task.done:
            os.read(r, 10_000)
            settle()
        task.result()
        """)


def test_non_blocking_pipes() -> None:
    """A pipe that is not to block never waits."""
    run_patched("""
        r, w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        assert not os.get_blocking(r)
        assert isinstance(outcome(os.read, r, 1), BlockingIOError)
        while not isinstance(error := outcome(os.write, w, bytes(4096)), Exception):
            pass
        assert isinstance(error, BlockingIOError)
        os.set_blocking(w, True)
        task = parks(os.write, w, b"x")
        while not task.done:
            os.read(r, 4096)
            settle()
        assert task.result() == 1
        r, w = os.pipe()
        task = parks(os.read, r, 1)
        os.write(w, b"x")
        assert task.result() == b"x"
        os.set_blocking(r, False)
        assert isinstance(outcome(os.read, r, 1), BlockingIOError)
        """)


def test_terminals() -> None:
    """A pseudo terminal's both ends park, and its end is an error or nothing."""
    run_patched("""
        import pty, tty
        master, slave = pty.openpty()
        tty.setraw(slave)
        task = parks(os.read, master, 100)
        os.write(slave, b"from the program")
        assert task.result() == b"from the program"
        task = parks(os.read, slave, 100)
        os.write(master, b"from the user")
        assert task.result() == b"from the user"
        task = parks(os.read, master, 100)
        os.close(slave)
        error = outcome(task.result)
        assert error == b"" or error.errno == errno.EIO, error
        """)


def test_programs_on_terminals() -> None:
    """pty.fork() in a goroutine: the child has its terminal."""
    run_patched("""
        import pty, warnings
        warnings.simplefilter("ignore")
        def run():
            pid, fd = pty.fork()
            if pid == 0:
                os.execvp("sh", ["sh", "-c", "read x; test -t 0 && echo got $x"])
            os.write(fd, b"line\\n")
            got = b""
            while part := outcome(os.read, fd, 100):
                if isinstance(part, OSError):
                    break
                got += part
            assert os.waitpid(pid, 0) == (pid, 0)
            return got
        assert b"got line" in start(run).result()
        """)


def test_plain_files() -> None:
    """Files, directories and devices, which never wait, are read and written as ever."""
    run_patched("""
        with temporary() as directory:
            path = directory + "/file"
            fd = os.open(path, os.O_RDWR | os.O_CREAT)
            assert os.write(fd, b"0123456789") == 10
            assert os.lseek(fd, 0, os.SEEK_SET) == 0
            assert os.read(fd, 4) == b"0123" and os.read(fd, 100) == b"456789"
            assert os.read(fd, 100) == b""
            assert os.pread(fd, 3, 2) == b"234" and os.pwrite(fd, b"x", 0) == 1
            os.close(fd)
            tasks = [start(lambda: open(path, "rb").read()) for _ in range(5)]
            import warnings
            warnings.simplefilter("ignore")
            assert [task.result() for task in tasks] == [b"x123456789"] * 5
            fd = os.open(path, os.O_RDONLY)
            assert outcome(os.write, fd, b"x").errno == errno.EBADF
            os.close(fd)
            fd = os.open(directory, os.O_RDONLY)
            assert isinstance(outcome(os.read, fd, 1), IsADirectoryError)
            os.close(fd)
            fd = os.open("/dev/null", os.O_RDWR)
            assert os.read(fd, 1) == b"" and os.write(fd, b"x") == 1
            os.close(fd)
            fd = os.open("/dev/zero", os.O_RDONLY)
            assert os.read(fd, 3) == bytes(3)
            os.close(fd)
            os.mkfifo(directory + "/fifo")
            fd = os.open(directory + "/fifo", os.O_RDWR)
            task = parks(os.read, fd, 10)
            os.write(fd, b"through")
            assert task.result() == b"through"
            os.close(fd)
        """)


def test_sockets_by_number() -> None:
    """os.read and os.write of a socket's number park."""
    run_patched("""
        for a, b in stream_pairs():
            task = parks(os.read, a.fileno(), 10)
            os.write(b.fileno(), b"hello")
            assert task.result() == b"hello"
            def fill():
                for _ in range(200):
                    os.write(a.fileno(), bytes(100_000))
            task = parks(fill)
            a.setblocking(True)
            b.close()
            task.error(OSError)
        """)


def test_children() -> None:
    """Every way to wait for a child parks, also several at once."""
    run_patched("""
        import warnings
        warnings.simplefilter("ignore")
        def child(status):  # which ends when told to
            r, w = os.pipe()
            pid = os.posix_spawnp(
                "sh", ["sh", "-c", "read x; exit %d" % status], os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, r, 0)],
            )
            os.close(r)
            return pid, w

        ways = {
            "waitpid": lambda pid: os.waitpid(pid, 0),
            "waitpid any": lambda pid: os.waitpid(-1, 0),
            "waitpid group": lambda pid: os.waitpid(0, 0),
            "wait": lambda pid: os.wait(),
            "wait3": lambda pid: os.wait3(0)[:2],
            "wait4": lambda pid: os.wait4(pid, 0)[:2],
            "waitid": lambda pid: (lambda i: (i.si_pid, i.si_status << 8))(
                os.waitid(os.P_PID, pid, os.WEXITED)
            ),
        }
        for name, way in ways.items():
            pid, w = child(3)
            task = parks(way, pid)
            os.close(w)
            assert task.result() == (pid, 3 << 8), name
        pid, w = child(4)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is None
        os.close(w)
        until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid)
        for name, way in ways.items():
            assert isinstance(outcome(way, pid), ChildProcessError), name

        children = [child(i) for i in range(5)]
        tasks = [parks(os.waitpid, pid, 0) for pid, _ in children]
        for _, w in reversed(children):
            os.close(w)
        for i, (task, (pid, _)) in enumerate(zip(tasks, children)):
            assert task.result() == (pid, i << 8)

        pid, w = child(0)
        task = parks(os.waitpid, pid, os.WUNTRACED)
        os.kill(pid, signal.SIGSTOP)
        got, status = task.result()
        assert got == pid and os.WIFSTOPPED(status)
        os.kill(pid, signal.SIGCONT)
        task = parks(os.waitpid, pid, 0)
        os.kill(pid, signal.SIGKILL)
        assert os.WTERMSIG(task.result()[1]) == signal.SIGKILL
        """)


def test_fork_and_wait() -> None:
    """A forked child is waited for by goroutines."""
    run_patched("""
        import warnings
        warnings.simplefilter("ignore")
        def run(status):
            r, w = os.pipe()
            pid = os.fork()
            if pid == 0:
                os._exit(status)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        tasks = [start(run, i) for i in range(5)]
        assert [task.result() for task in tasks] == list(range(5))
        """)


def test_popen_system_and_spawn() -> None:
    """os.popen, os.system and os.spawn* let others run while the program does."""
    run_patched("""
        with temporary() as directory:
            fifo = directory + "/fifo"
            os.mkfifo(fifo)
            fd = os.open(fifo, os.O_RDWR)

            def popen():
                with os.popen("read x < %s; echo got $x" % fifo) as pipe:
                    return pipe.read()
            task = parks(popen)
            os.write(fd, b"something\\n")
            assert task.result() == "got something\\n"

            pipe = os.popen("exit 3")
            assert pipe.read() == "" and pipe.close() == 3 << 8
            with os.popen("read x; test $x = in", "w") as pipe:
                pipe.write("in\\n")

            task = parks(os.system, "read x < %s; exit 5" % fifo)
            os.write(fd, b"something\\n")
            assert task.result() == 5 << 8

            task = parks(os.spawnlp, os.P_WAIT, "sh", "sh", "-c", "read x < %s; exit 6" % fifo)
            os.write(fd, b"something\\n")
            assert task.result() == 6
        """)


@only_patched
def test_close_wakes() -> None:
    """os.close() by another goroutine ends the waits on that number; the next is new."""
    run_patched("""
        r, w = os.pipe()
        task = parks(os.read, r, 10)
        os.close(r)
        task.error(OSError)
        r2, w2 = os.pipe()
        assert r2 == r
        task = parks(os.read, r2, 10)
        os.write(w2, b"new")
        assert task.result() == b"new"
        """)
