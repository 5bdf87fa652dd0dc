"""The programs in examples/, run as a user runs them."""

import errno
import hashlib
import os
import pty
import re
import runpy
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import ONE_THREAD, TESTPROG, Finished, run_command, run_program

EXAMPLES = Path(__file__).parent.parent / "examples"
MD5ALL = EXAMPLES / "md5all.py"
ENDLESS = 1 << 38  # bytes of a sparse file: minutes of hashing

# Calls main() with something going wrong on the way, and looks for leaks behind it.
DRIVER = """
    import os, runpy, sys
    from goroutines import num_goroutine

    example, victim = sys.argv[1:3]
    sys.argv = [example, *sys.argv[3:]]
    names = runpy.run_path(example)
    children = names["main"].__globals__["children"]

    def children_and_then_gone(directory):
        found = children(directory)
        if victim in found:
            (os.unlink if os.path.isfile(victim) else os.rmdir)(victim)
        return found

    names["main"].__globals__["children"] = children_and_then_gone
    status = names["main"]()
    print(num_goroutine(), "goroutine", file=sys.stderr)
    sys.exit(status)
"""


def example(*args: str) -> Finished:
    path, *rest = args
    return run_program(EXAMPLES / path, *rest, env=ONE_THREAD)


def md5all(*args: str | Path) -> Finished:
    return run_program(MD5ALL, *map(str, args))


# ---- examples/article --------------------------------------------------------------------


def test_say_does_not_wait():
    end = example("article/say.py")
    assert (end.returncode, end.stderr) == (0, "")
    lines = end.stdout.splitlines()
    assert len(lines) == len(set(lines)) <= 9
    assert all(re.fullmatch(r"goroutine [012]: line [012]", line) for line in lines)


def test_say_waits_for_all_nine_lines():
    end = example("article/say.py", "--wait")
    assert (end.returncode, end.stderr) == (0, "")
    lines = end.stdout.splitlines()
    assert sorted(lines) == [f"goroutine {g}: line {n}" for g in range(3) for n in range(3)]
    for g in range(3):
        own = [line for line in lines if line.startswith(f"goroutine {g}:")]
        assert own == sorted(own)


def check_rounds(lines: Sequence[str], rounds: int) -> None:
    for w in range(3):
        own = [line for line in lines if line.startswith(f"worker {w}:")]
        assert own == [f"worker {w}: round {r}" for r in range(rounds)] + [f"worker {w}: exit"]


def test_workers_end_in_a_deadlock():
    end = example("article/workers.py", "--sleep", "0.001")
    assert end.returncode == 2
    lines = end.stdout.splitlines()
    assert len(lines) == 33
    check_rounds(lines, 10)
    assert end.stderr.startswith("fatal error: all goroutines are asleep - deadlock!\n\n")
    assert re.search(r"^goroutine 1 \[sync\.WaitGroup\.wait\]:$", end.stderr, re.MULTILINE)
    assert "Traceback" not in end.stderr


def test_workers_fixed():
    end = example("article/workers.py", "--fixed", "--sleep", "0.001", "--rounds", "4")
    assert (end.returncode, end.stderr) == (0, "")
    lines = end.stdout.splitlines()
    assert lines[-1] == "All workers exit."
    check_rounds(lines[:-1], 4)


def test_memory_prints_what_go_prints():
    """The Go program of the same statements printed this (go 1.27)."""
    end = example("article/memory.py")
    assert (end.returncode, end.stderr) == (0, "")
    assert end.stdout == (TESTPROG / "memory.go.txt").read_text()


# ---- examples/md5all.py -------------------------------------------------------------------

ODD_NAMES = [
    "plain", "with space", " leading", "trailing ", "-dash", "*", "quote'\"", "new\nline",
    "back\\slash", "back\\nslash\n", "\u00e4\u20ac\U0001f40d", ".hidden", "tab\t", "a.b", "a-b",
    "a0",
]  # fmt: skip
if sys.platform == "linux":  # others want UTF-8
    ODD_NAMES.append(os.fsdecode(b"not-utf8-\xff\xfe"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a tree with odd names, sizes around the chunk, and what is no regular file."""
    top = tmp_path / "tree"
    for directory in "", "a", "a/deep/er", "with space", "new\nline dir", "empty":
        (top / directory).mkdir(parents=True)
    for i, name in enumerate(ODD_NAMES):
        for directory in "a/deep", "new\nline dir":
            (top / directory / name).write_bytes(f"{directory}{i}".encode())
    for i, size in enumerate((0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20)):
        (top / f"size {i}").write_bytes(b"x" * size)
    (top / "link").symlink_to("size 1")
    (top / "dangling").symlink_to("nowhere")
    (top / "loop").symlink_to(".")
    os.mkfifo(top / "fifo")
    return top


def expected(top: Path) -> str:
    """Return what `find | sort | md5sum` print, in Python."""
    lines = []
    paths = [Path(d) / f for d, _, files in os.walk(top) for f in files]
    for path in sorted(paths, key=os.fsencode):
        if path.is_symlink() or not path.is_file():
            continue
        name = str(path).replace("\\", "\\\\").replace("\n", "\\n")
        digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        lines.append(f"{chr(92) if name != str(path) else ''}{digest}  {name}\n")
    return os.fsencode("".join(lines)).decode(errors="backslashreplace")


@pytest.mark.parametrize("workers", ["1", "2", "50"])
def test_md5all_prints_sorted_lines(tree: Path, workers: str):
    end = md5all(tree, "--workers", workers)
    assert (end.returncode, end.stderr) == (0, "")
    assert end.stdout == expected(tree)


@pytest.mark.skipif(shutil.which("md5sum") is None, reason="needs md5sum")
@pytest.mark.parametrize("slash", ["", "/"])
def test_md5all_equals_md5sum(tree: Path, slash: str):
    end = md5all(f"{tree}{slash}")
    theirs = run_command(
        [
            "sh",
            "-c",
            'find "$1" -type f -print0 | sort -z | xargs -0 md5sum',
            "-",
            f"{tree}{slash}",
        ],
        env={"LC_ALL": "C"},
    )
    if slash:
        assert end.stdout == md5all(tree).stdout
    assert end.stdout == theirs.stdout
    assert (end.returncode, end.stderr) == (0, "")


def test_md5all_escapes_carriage_returns_as_new_md5sums_do(tmp_path: Path):
    (tmp_path / "a\rb").write_bytes(b"")
    assert md5all(tmp_path).stdout == f"\\d41d8cd98f00b204e9800998ecf8427e  {tmp_path}/a\\rb\n"


def test_md5all_of_an_empty_tree(tmp_path: Path):
    assert md5all(tmp_path) == Finished(0, "", "")


def test_md5all_goes_deep(tmp_path: Path):
    bottom = str(tmp_path)
    for _ in range((os.pathconf(tmp_path, "PC_PATH_MAX") - len(bottom) - 100) // 2):
        bottom += "/d"
        os.mkdir(bottom)
    Path(bottom, "file").write_bytes(b"")
    end = md5all(tmp_path)
    os.unlink(f"{bottom}/file")
    assert end == Finished(0, f"d41d8cd98f00b204e9800998ecf8427e  {bottom}/file\n", "")
    while bottom != str(tmp_path):  # too deep for pytest's own cleaning
        os.rmdir(bottom)
        bottom = os.path.dirname(bottom)


def test_md5all_of_no_directory(tmp_path: Path):
    path = tmp_path / "missing"
    assert md5all(path) == Finished(1, "", f"md5all: {path}/: {os.strerror(errno.ENOENT)}\n")
    path.write_bytes(b"")
    assert md5all(path) == Finished(1, "", f"md5all: {path}/: {os.strerror(errno.ENOTDIR)}\n")


@pytest.mark.parametrize("args", [(), (".", "--workers", "0"), (".", "--workers", "x")])
def test_md5all_usage(args: tuple[str, ...]):
    end = md5all(*args)
    assert (end.returncode, end.stdout) == (2, "")
    assert end.stderr.startswith("usage:")


@pytest.mark.parametrize("workers", ["1", "20"])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_md5all_stops_at_the_first_error(tmp_path: Path, kind: str, workers: str):
    for name in "abcxyz":
        (tmp_path / name).write_bytes(b"")
    victim = tmp_path / "m"
    victim.write_bytes(b"") if kind == "file" else victim.mkdir()
    name = str(victim) if kind == "file" else f"{victim}/"
    os.truncate(tmp_path / "z", ENDLESS)  # not waited for

    end = run_program(DRIVER, str(MD5ALL), name, str(tmp_path), "--workers", workers)
    assert end.returncode == 1
    assert end.stdout == "".join(
        f"d41d8cd98f00b204e9800998ecf8427e  {tmp_path / name}\n" for name in "abc"
    )
    assert end.stderr == f"md5all: {name}: {os.strerror(errno.ENOENT)}\n1 goroutine\n"


def test_md5all_into_a_broken_pipe(tree: Path):
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(
        [sys.executable, str(MD5ALL), str(tree)], stdout=write, stderr=subprocess.PIPE, text=True
    ) as child:
        os.close(write)
        _, stderr = child.communicate()
    assert (child.returncode, stderr) == (1, f"md5all: {os.strerror(errno.EPIPE)}\n")


def run_on_terminal(
    command: Sequence[str], *, stdout: int | None, interrupt_at: bytes | None = None
) -> tuple[int, bytes, bytes]:
    """Run a command with a terminal as stderr (and as stdout if that is None).

    SIGINT is sent once the terminal has shown `interrupt_at`.  Returns status, stdout and
    what the terminal got.
    """
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=theirs if stdout is None else stdout,
        stderr=theirs,
    ) as child:  # fmt: skip
        os.close(theirs)
        shown = b""
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:  # EIO: nobody has the other end any more
                break
            if not data:
                break
            shown += data
            if interrupt_at is not None and interrupt_at in shown:
                child.send_signal(signal.SIGINT)
                interrupt_at = None
        os.close(ours)
        written = child.stdout.read() if child.stdout is not None else b""
    return child.returncode, written, shown


PROGRESS = rb"(\r\x1b\[K\d+ files)+\r\x1b\[K"


def test_md5all_ends_on_ctrl_c(tmp_path: Path):
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in "abz":
        (tree / name).write_bytes(b"")
    os.truncate(tree / "z", ENDLESS)
    driver = tmp_path / "driver.py"
    driver.write_text(
        "import runpy, sys\n"
        "from goroutines import num_goroutine\n"
        "sys.argv = sys.argv[1:]\n"
        "status = runpy.run_path(sys.argv[0])['main']()\n"
        "print('left:', num_goroutine())\n"
        "sys.exit(status)\n"
    )
    status, written, shown = run_on_terminal(
        [sys.executable, str(driver), str(MD5ALL), str(tree)],
        stdout=subprocess.PIPE,
        interrupt_at=b"2 files",
    )
    assert status == 130
    lines = os.fsdecode(written).splitlines()
    assert [line.rpartition("/")[2] for line in lines[:-1]] == ["a", "b"]
    assert lines[-1] == "left: 1"
    assert re.fullmatch(PROGRESS, shown)


def test_md5all_on_a_terminal_clears_the_progress_for_each_line(tree: Path):
    status, _, shown = run_on_terminal([sys.executable, str(MD5ALL), str(tree)], stdout=None)
    assert status == 0
    visible = re.sub(rb"\r\x1b\[K\d+ files(?=\r)", b"", shown).replace(b"\r\x1b[K", b"")
    text = visible.decode(errors="backslashreplace").replace("\r\n", "\n")
    assert text == expected(tree)


def test_md5all_bounds_what_is_under_way(tmp_path: Path):
    """No more jobs exist than `ordered` holds, plus one in each goroutine's hands."""
    for i in range(300):
        (tmp_path / str(i)).write_bytes(b"")
    scope = runpy.run_path(str(MD5ALL))["md5all"].__globals__
    live = most = 0

    class Counted(scope["Job"]):
        def __new__(cls, *args):
            nonlocal live, most
            live += 1
            most = max(most, live)
            return super().__new__(cls, *args)

        def __del__(self):
            nonlocal live
            live -= 1

    def open_null(file, *args, **kwargs):
        return open(os.devnull, "w") if file == 1 else open(file, *args, **kwargs)

    scope.update(Job=Counted, open=open_null)
    scope["md5all"](f"{tmp_path}/", 3)
    assert 0 < most <= 2 * 3 + 1 + 3 + 1


# ---- examples/linkcheck.py ----------------------------------------------------------------


def test_linkcheck_demo():
    end = example("linkcheck.py", "--demo", "--jobs", "5")
    assert end.returncode == 1, end.stderr
    assert "63 links checked, 3 broken" in end.stdout
    assert re.search(r"^page0\.html: lost\.html: no file ", end.stdout, re.M)
    assert end.stdout.count("HTTP Error 404") == 2
    assert end.stderr == ""


def test_linkcheck_deadline(tmp_path: Path):
    """What no server answers in time is reported; the rest is checked."""
    (tmp_path / "a.html").write_text('<a href="b.html">b</a><a href="http://127.0.0.1:1/">x</a>')
    (tmp_path / "b.html").write_text('<a href="a.html">a</a><img src="gone.png">')
    end = example("linkcheck.py", str(tmp_path), "--deadline", "0")
    assert end.returncode == 1, end.stderr
    assert "no answer by the deadline" in end.stdout
    assert "4 links checked, 2 broken" in end.stdout


def test_linkcheck_usage():
    end = example("linkcheck.py")
    assert end.returncode == 2
    assert "give a folder, or --demo" in end.stderr


# ---- servers ------------------------------------------------------------------------------

TIMEOUT = 60.0  # for what should come at once
BROKEN = struct.pack("ii", 1, 0)  # SO_LINGER: close() resets the connection
Address = tuple[str, int]


class Serving:
    """A server of examples/ as a child process, until the end of a `serving` block."""

    def __init__(self, child: subprocess.Popen[str], address: Address) -> None:
        self.child = child
        self.address = address

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, TIMEOUT)

    def end(self, sig: signal.Signals) -> tuple[int, str]:
        """Send a signal and wait for the end; return the exit status and stderr."""
        self.child.send_signal(sig)
        _, stderr = self.child.communicate(timeout=TIMEOUT)
        return self.child.returncode, stderr


@contextmanager
def serving(path: str, *args: str, files: int | None = None) -> Generator[Serving]:
    """Start a server, with at most so many open files, and wait until it listens."""
    limit = f"ulimit -n {files} && " if files is not None else ""
    command = ["sh", "-c", f'{limit}exec "$@"', "-", sys.executable, str(EXAMPLES / path), *args]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as child:
        try:
            host, _, port = child.stdout.readline().removeprefix("listening on ").rpartition(":")
            yield Serving(child, (host, int(port)))
        finally:
            child.kill()


def received(sock: socket.socket, count: int) -> bytes:
    """Receive so many bytes, or fewer if the stream ends."""
    data = b""
    while len(data) < count and (piece := sock.recv(count - len(data))):
        data += piece
    return data


def rest(sock: socket.socket) -> bytes:
    data = b""
    while piece := sock.recv(1 << 16):
        data += piece
    return data


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_echo_ends_gracefully(sig: signal.Signals):
    data = bytes(range(250)) * 200  # less than what sockets hold
    with serving("echo.py", "--port", "0") as server:
        with server.connect() as idle, server.connect() as busy, server.connect() as broken:
            broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, BROKEN)
            for sock in idle, busy, broken:
                sock.sendall(b"hello")
                assert received(sock, 5) == b"hello"
            broken.close()
            busy.sendall(data)
            assert server.end(sig) == (0, "")
            assert rest(idle) == b""
            assert rest(busy) == data


def test_echo_cuts_off_who_does_not_take_its_data():
    with serving("echo.py", "--port", "0", "--grace", "0.01") as server:
        with server.connect() as sock:
            sock.settimeout(0.2)
            with pytest.raises(TimeoutError):
                while True:
                    sock.sendall(bytes(1 << 20))
            assert server.end(signal.SIGTERM) == (0, "")


def test_echo_out_of_descriptors():
    """Connections for which there is no descriptor are served when others have ended."""
    with serving("echo.py", "--port", "0", files=30) as server:
        clients = []
        for _ in range(100):
            clients.append(server.connect())
            clients[-1].sendall(b"hello")
            if len(clients) == 1:  # all that it needs for itself is open then
                assert received(clients[0], 5) == b"hello"
                clients[0].sendall(b"hello")
        for sock in clients:  # the kernel's queue is in their order
            assert received(sock, 5) == b"hello"
            sock.close()
        assert server.end(signal.SIGTERM) == (0, "")


# ---- examples/chat.py ---------------------------------------------------------------------


def enter(server: Serving, name: str) -> socket.socket:
    """Come in, and wait until the broadcaster knows it."""
    sock = server.connect()
    sock.sendall(f"{name}\n".encode())
    hello = f"{name}: hello\n".encode()
    sock.sendall(b"hello\n")
    assert received(sock, len(hello)) == hello
    return sock


def expect(sock: socket.socket, *lines: str) -> None:
    want = "".join(f"{line}\n" for line in lines).encode()
    assert received(sock, len(want)) == want


def test_chat():
    with serving("chat.py", "--port", "0") as server:
        with enter(server, "ann") as ann:
            with enter(server, "bob") as bob:
                expect(ann, "bob has arrived", "bob: hello")
                ann.sendall("h\u00ed\n".encode())
                expect(ann, "ann: h\u00ed")
                expect(bob, "ann: h\u00ed")
            expect(ann, "bob has left")
            with enter(server, "eve") as eve:
                expect(ann, "eve has arrived", "eve: hello")
                eve.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, BROKEN)
            expect(ann, "eve has left")
        assert server.end(signal.SIGINT) == (0, "")


def test_chat_disconnects_who_does_not_read():
    with serving("chat.py", "--port", "0", "--queue", "10") as server:
        with enter(server, "ann") as ann, enter(server, "bob") as bob:
            expect(ann, "bob has arrived", "bob: hello")
            line, gone = b"x" * 900 + b"\n", b"bob has left\n"
            seen = b""
            while gone not in seen:
                ann.sendall(line)
                while not seen.endswith(line) and gone not in seen:
                    seen = seen[-len(gone) :] + ann.recv(1 << 16)
                seen = seen if gone in seen else b""
            rest(bob)
        assert server.end(signal.SIGINT) == (0, "")


# ---- examples/proxy.py --------------------------------------------------------------------


@contextmanager
def proxied() -> Generator[tuple[Serving, socket.socket]]:
    """Start a proxy to a listener of the test's."""
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(TIMEOUT)
        address = "{}:{}".format(*target.getsockname())
        with serving("proxy.py", address, "--listen", ":0") as proxy:
            yield proxy, target
            assert proxy.end(signal.SIGINT) == (0, "")


@pytest.mark.parametrize("first", ["client", "server"])
def test_proxy_passes_half_closes_on(first: str):
    with proxied() as (proxy, target), proxy.connect() as client, target.accept()[0] as server:
        one, other = (client, server) if first == "client" else (server, client)
        one.sendall(b"question")
        one.shutdown(socket.SHUT_WR)
        assert rest(other) == b"question"
        other.sendall(b"answer")  # the other direction is open still
        assert received(one, 6) == b"answer"
        other.sendall(b", and more")
        other.close()
        assert rest(one) == b", and more"


@pytest.mark.parametrize("first", ["client", "server"])
def test_proxy_passes_resets_on(first: str):
    with proxied() as (proxy, target), proxy.connect() as client, target.accept()[0] as server:
        one, other = (client, server) if first == "client" else (server, client)
        one.sendall(b"x")
        assert received(other, 1) == b"x"
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, BROKEN)
        one.close()
        with pytest.raises(ConnectionResetError):
            rest(other)


def test_proxy_without_a_target():
    with socket.socket() as nobody:  # bound, and not listening
        nobody.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*nobody.getsockname())
        with serving("proxy.py", address, "--listen", ":0") as proxy:
            with proxy.connect() as client:
                assert rest(client) == b""
            refused = os.strerror(errno.ECONNREFUSED)
            status, stderr = proxy.end(signal.SIGINT)
            assert (status, stderr) == (0, f"proxy: {address}: [Errno 111] {refused}\n")


# ---- examples/crawler.py, examples/report.py ------------------------------------------------


def test_crawler():
    end = example("crawler.py", "--jobs", "7")
    assert (end.returncode, end.stderr) == (0, "")
    pages = dict(re.findall(r"^http://127\.0\.0\.1:\d+/(\d+): (.*)$", end.stdout, re.M))
    assert pages == {**{str(n): "ok" for n in range(50)}, "50": "HTTP Error 404: Not Found"}


def test_crawler_timeout():
    """A server that never answers does not hold it up."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = "http://{}:{}/".format(*silent.getsockname())
        end = example("crawler.py", url, "--timeout", "0.1")
    assert (end.returncode, end.stderr) == (0, "")
    assert end.stdout.startswith(f"{url}: ")
    assert "context deadline exceeded" in end.stdout


def test_report():
    end = example("report.py", "--limit", "2")
    assert (end.returncode, end.stderr) == (0, "")
    table = [[cell.strip() for cell in line.split("|")] for line in end.stdout.splitlines()]
    assert table == [
        ["sales", "50000"],
        ["turnover", "249750"],
        ["best shop", "4"],
        ["best months", "10, 6, 7"],
    ]
