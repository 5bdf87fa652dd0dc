r"""Hash every file of a directory tree, as `find DIR -type f | sort | xargs md5sum` does.

The pipeline of https://go.dev/blog/pipelines, with a bounded number of digesters:

    walk ----- jobs -----> digest (N goroutines) ---- each job's answer ---> main
        \------------------- ordered: the same jobs ----------------------/

Main takes the jobs from `ordered`, whose capacity bounds what is under way, and waits for
the answer of each, so the output is sorted by path (by its bytes, as in the C locale).
Files are read and hashed in threads, hence on several cores.  When main stops, at the end,
at an error or by Ctrl-C, it closes `done`: every goroutine sees that where it waits, and
ends.  Symbolic links below DIR are not followed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from goroutines import Chan, Receiver, Sender, WaitGroup, blocking, recv_ok, runtime, select, send

CHUNK = 1 << 20
CLEAR_LINE = "\r\x1b[K"
ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r"})


class Job(NamedTuple):
    path: str
    answer: Chan[str | OSError]  # holds one, so that who answers never waits


def children(directory: str) -> list[str]:
    """List the files and, with a slash behind, the directories; in reverse order."""
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found.append(entry.path + "/")
            elif entry.is_file(follow_symlinks=False):
                found.append(entry.path)
    return sorted(found, key=os.fsencode, reverse=True)


def files_below(top: str) -> Iterator[str]:
    """Yield the regular files of a tree in the order of their paths' bytes."""
    stack = [top]
    while stack:
        path = stack.pop()
        if path.endswith("/"):
            stack += blocking(children, path)
        else:
            yield path


def walk(top: str, ordered: Sender[Job], jobs: Sender[Job], done: Receiver[None]) -> None:
    """Send a job for each file to main and to the digesters; an error goes to main alone."""
    try:
        for path in files_below(top):
            job = Job(path, Chan(1))
            for stage in ordered, jobs:
                if select(send(stage, job), recv_ok(done))[0] == 1:
                    return
    except OSError as error:
        job = Job(top, Chan(1))
        job.answer.send(error)
        select(send(ordered, job), recv_ok(done))
    finally:
        ordered.close()
        jobs.close()


def md5(path: str, done: Receiver[None]) -> str:
    """Hash a file; stop early when nobody wants to know any more."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb", buffering=0) as file:
        while not done.closed and (chunk := file.read(CHUNK)):
            digest.update(chunk)
    return digest.hexdigest()


def digest(jobs: Receiver[Job], done: Receiver[None]) -> None:
    """Answer jobs until there are no more."""
    for path, answer in jobs:
        try:
            answer.send(blocking(md5, path, done))
        except OSError as error:
            answer.send(error)


def line_of(path: str, digest: str) -> str:
    """Format a result as md5sum does: a backslash in front tells of escapes in the name."""
    escaped = path.translate(ESCAPES)
    return f"{'' if escaped == path else chr(92)}{digest}  {escaped}"


def show(count: Callable[[], int], done: Receiver[None]) -> None:
    """Rewrite a line of the terminal ten times a second until `done` is closed."""
    try:
        while select(recv_ok(done), timeout=0.1)[0] < 0:
            print(f"{CLEAR_LINE}{count()} files", end="", file=sys.stderr, flush=True)
    finally:  # Ctrl-C arrives in whichever goroutine runs; main gets it from there
        print(CLEAR_LINE, end="", file=sys.stderr, flush=True)


def md5all(top: str, workers: int) -> None:
    """Print the digest of every file below `top`; raises the first error in path order."""
    ordered: Chan[Job] = Chan(2 * workers)
    jobs: Chan[Job] = Chan()
    done: Chan[None] = Chan()
    wg, count, terminal = WaitGroup(), 0, sys.stderr.isatty()
    # A stream of its own: names need not be text, and a broken pipe has to show here.
    with open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False) as out:
        try:
            wg.go(walk, top, ordered.sender, jobs.sender, done.receiver)
            for _ in range(workers):
                wg.go(digest, jobs.receiver, done.receiver)
            if terminal:
                wg.go(show, lambda: count, done.receiver)
            for path, answer in ordered:
                result = answer.recv()
                if isinstance(result, OSError):
                    raise result
                clear = CLEAR_LINE if terminal and out.isatty() else ""
                print(clear + line_of(path, result), file=out)
                count += 1
        finally:
            done.close()
            wg.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description="Print the MD5 sum of every file below DIR.")
    parser.add_argument("dir", metavar="DIR")
    parser.add_argument("--workers", type=int, default=2 * runtime.num_cpu() + 4, metavar="N")
    options = parser.parse_args()
    if options.workers < 1:
        parser.error("--workers: at least 1 is needed")
    try:
        md5all(os.path.join(options.dir, ""), options.workers)
    except OSError as error:
        name = f"{error.filename}: " if error.filename is not None else ""
        print(f"md5all: {name}{error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
