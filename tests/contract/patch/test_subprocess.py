"""patch(): subprocess, whose every wait lets others run, and programs that see no difference."""

from __future__ import annotations

from .tools import run_patched

GATED = """
import subprocess, warnings
warnings.simplefilter("ignore", DeprecationWarning)

def gated(command, **kwargs):
    "A shell command that starts when its returned gate is closed."
    r, w = os.pipe()
    process = subprocess.Popen(
        ["sh", "-c", "read x <&%d; " % r + command], pass_fds=[r], **kwargs
    )
    os.close(r)
    return process, w
"""


def test_wait() -> None:
    """Popen.wait() parks, with many waiters and timeouts, and tells the status to all."""
    run_patched(
        GATED
        + """
for timeout in (None, 1000):
    process, w = gated("exit 3")
    tasks = [parks(process.wait, timeout) for _ in range(5)]
    assert process.poll() is None
    os.close(w)
    assert [task.result() for task in tasks] == [3] * 5
    assert process.poll() == process.wait() == process.returncode == 3

process, w = gated("exit 4")
error = outcome(process.wait, 0.02)
assert type(error) is subprocess.TimeoutExpired and error.timeout == 0.02
assert type(outcome(process.wait, 0)) is subprocess.TimeoutExpired
waiter = parks(process.wait)
assert type(outcome(process.wait, 0.02)) is subprocess.TimeoutExpired
os.close(w)
assert waiter.result() == process.wait(0) == 4

for end, number in (("kill", 9), ("terminate", 15)):
    process, w = gated("exit 0")
    task = parks(process.wait)
    getattr(process, end)()
    assert task.result() == -number
    os.close(w)
    getattr(process, end)()  # too late, and no error
"""
    )


def test_communicate() -> None:
    """communicate() and run() park; much goes in and out at the same time."""
    run_patched(
        GATED
        + """
PIPE = subprocess.PIPE
process, w = gated("echo out; echo err >&2", stdout=PIPE, stderr=PIPE)
task = parks(process.communicate)
os.close(w)
assert task.result() == (b"out\\n", b"err\\n") and process.returncode == 0

process, w = gated("echo out", stdout=PIPE)
error = outcome(process.communicate, timeout=0.02)
assert type(error) is subprocess.TimeoutExpired
os.close(w)
assert process.communicate() == (b"out\\n", None)

data = os.urandom(1_000_000)
process, w = gated("cat", stdin=PIPE, stdout=PIPE)
task = parks(process.communicate, data)
os.close(w)
assert task.result() == (data, None)

done = subprocess.run(["cat"], input="text\\n", capture_output=True, text=True, check=True)
assert (done.stdout, done.stderr, done.returncode) == ("text\\n", "", 0)
error = outcome(subprocess.run, ["sh", "-c", "echo x; exit 7"], check=True, stdout=PIPE)
assert type(error) is subprocess.CalledProcessError
assert (error.returncode, error.stdout) == (7, b"x\\n")
error = outcome(subprocess.run, ["sh", "-c", "echo x; exec sleep 1000"], timeout=0.1,
                stdout=PIPE)
assert type(error) is subprocess.TimeoutExpired and error.stdout in (b"x\\n", None), error
error = outcome(subprocess.run, ["sleep", "1000"], timeout=0.02)
assert type(error) is subprocess.TimeoutExpired
assert subprocess.check_output("echo $((1 + 1)); echo e >&2", shell=True,
                               stderr=subprocess.STDOUT) == b"2\\ne\\n"
assert subprocess.getstatusoutput("echo hello; exit 2") == (2, "hello")
assert subprocess.call(["false"]) == 1
assert isinstance(outcome(subprocess.check_call, ["false"]), subprocess.CalledProcessError)

tasks = [
    start(subprocess.run, ["cat"], input=b"%d" % i, stdout=PIPE) for i in range(10)
]
assert [task.result().stdout for task in tasks] == [b"%d" % i for i in range(10)]
"""
    )


def test_pipes_of_a_process() -> None:
    """The file objects of a process park, and the program does not read too much or little."""
    run_patched(
        GATED
        + """
PIPE = subprocess.PIPE
with subprocess.Popen(["cat"], stdin=PIPE, stdout=PIPE) as process:
    for way in (
        lambda f: f.readline(), lambda f: f.read(6), lambda f: next(f), lambda f: f.read1(100),
        lambda f: os.read(f.fileno(), 100), lambda f: f.peek(1) and f.read(6),
    ):
        task = parks(way, process.stdout)
        process.stdin.write(b"hello\\n")
        process.stdin.flush()
        assert task.result() == b"hello\\n"[: len(task.result())]
        assert len(task.result()) >= 6
    task = parks(process.stdout.read)
    process.stdin.close()
    assert task.result() == b""
assert process.returncode == 0

with subprocess.Popen(
    ["cat"], stdin=PIPE, stdout=PIPE, text=True, bufsize=1, encoding="utf-8"
) as process:
    task = parks(process.stdout.readline)
    process.stdin.write("gr\u00fc\u00dfe\\n")
    assert task.result() == "gr\u00fc\u00dfe\\n"
    task = parks(lambda: list(process.stdout))
    process.stdin.write("one\\ntwo\\n")
    process.stdin.close()
    assert task.result() == ["one\\n", "two\\n"]

with subprocess.Popen(["cat"], stdin=PIPE, stdout=PIPE, bufsize=0) as process:
    task = parks(process.stdout.read, 100)
    process.stdin.write(b"raw")
    assert task.result() == b"raw"
    process.stdin.close()

process, w = gated("cat >/dev/null", stdin=PIPE)
def fill():
    process.stdin.write(bytes(1_000_000))
    process.stdin.close()
task = parks(fill)
os.close(w)
task.result()
assert process.wait() == 0

process = subprocess.Popen(["true"], stdin=PIPE)
process.wait()
error = outcome(lambda: (process.stdin.write(bytes(1_000_000)), process.stdin.flush()))
assert isinstance(error, BrokenPipeError)
outcome(process.stdin.close)
"""
    )


def test_pipelines() -> None:
    """A pipe of one process is another's input; both programs find it blocking."""
    run_patched(
        GATED
        + """
PIPE = subprocess.PIPE
first, w = gated("echo one; read x <&0; echo two", stdin=PIPE, stdout=PIPE)
second = subprocess.Popen(["cat"], stdin=first.stdout, stdout=PIPE)
first.stdout.close()
task = parks(second.communicate)
os.close(w)
first.stdin.write(b"go\\n")
first.stdin.close()
assert task.result() == (b"one\\ntwo\\n", None)
assert first.wait() == 0

# One that was waited for here before.
first = subprocess.Popen(["cat"], stdin=PIPE, stdout=PIPE, bufsize=0)
task = parks(first.stdout.read, 10)
first.stdin.write(b"mine")
assert task.result() == b"mine"
second = subprocess.Popen(["cat"], stdin=first.stdout, stdout=PIPE)
first.stdout.close()
task = parks(second.stdout.read)
first.stdin.write(b"yours")
settle()
first.stdin.close()
assert task.result() == b"yours"
assert (first.wait(), second.wait()) == (0, 0)

# And one that this process keeps reading while a child has it: stdin is passed on.
r, w = os.pipe()
task = parks(os.read, r, 1)
os.write(w, b"x")
task.result()
process = subprocess.Popen(["cat"], stdin=r, stdout=PIPE)
task = parks(process.stdout.read)
os.write(w, b"hello")
os.close(w)
assert task.result() == b"hello" and process.wait() == 0
"""
    )


def test_what_a_program_inherits() -> None:
    """Signals, their mask, descriptors, directory and environment are as without patch()."""
    run_patched(
        GATED
        + """
status = subprocess.check_output(["cat", "/proc/self/status"], text=True)
fields = dict(line.split(":", 1) for line in status.splitlines())
assert int(fields["SigBlk"], 16) == 0, fields["SigBlk"]
ignored = int(fields["SigIgn"], 16)
assert not ignored & 1 << signal.SIGPIPE - 1, fields["SigIgn"]
assert not ignored & 1 << signal.SIGINT - 1, fields["SigIgn"]
for inside in (False, True):
    def run():
        return subprocess.check_output(["sh", "-c", "ls /proc/self/fd | wc -l"])
    task_made = (start(run).result() if inside else run())
    assert int(task_made) == 4, task_made  # 0, 1, 2 and the directory
with temporary() as directory:
    got = subprocess.check_output(
        ["sh", "-c", "pwd; echo $VARIABLE"], cwd=directory, env={**os.environ, "VARIABLE": "v"},
        text=True,
    )
    assert got == os.path.realpath(directory) + "\\nv\\n"
assert isinstance(outcome(subprocess.Popen, ["/no/such/program"]), FileNotFoundError)
assert isinstance(outcome(subprocess.Popen, ["/"]), PermissionError)
def early():
    os.write(1, b"before ")
assert subprocess.check_output(["echo", "after"], preexec_fn=early) == b"before after\\n"
error = outcome(subprocess.Popen, ["true"], preexec_fn=lambda: 1 / 0)
assert isinstance(error, subprocess.SubprocessError)
process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
assert os.getsid(process.pid) == process.pid
process.kill()
assert process.wait() == -9
"""
    )


def test_many_at_once() -> None:
    """Many goroutines start and wait for programs; none gets another's status."""
    run_patched(
        GATED
        + """
def run(i):
    process = subprocess.Popen(["sh", "-c", "exit %d" % i])
    return process.wait()
tasks = [start(run, i) for i in range(40)]
assert [task.result() for task in tasks] == list(range(40))
assert isinstance(outcome(os.wait), ChildProcessError)
"""
    )
