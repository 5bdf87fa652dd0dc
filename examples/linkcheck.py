"""Check the links of a folder of HTML: a pool, a deadline, a rate limit, progress.

    python linkcheck.py FOLDER [--jobs N] [--rate PER_SECOND] [--deadline SECONDS]
    python linkcheck.py --demo

Links to files must exist; http links are asked for, no more than `--rate` a second. What
is not answered by the deadline counts as broken. `--demo` makes a small site, serves it on
loopback and checks it. The exit status is 1 if there are broken links.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from goroutines import blocking, context
from goroutines.pool import Pool
from goroutines.time import Ticker


class Link(NamedTuple):
    """A link and the page that it stands in."""

    page: Path
    target: str


class LinkParser(HTMLParser):
    """Collects what a page links to."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [v for k, v in attrs if k in ("href", "src") and v]


def links_of(folder: Path) -> Iterator[Link]:
    """Yield the links of all pages; a page is read when its turn comes."""
    for page in sorted(folder.rglob("*.html")):
        parser = LinkParser()
        parser.feed(page.read_text(encoding="utf-8", errors="replace"))
        for target in parser.targets:
            yield Link(page, target)


class Checker:
    """Checks links until its context is done, `rate` requests a second."""

    def __init__(self, folder: Path, ctx: context.Context, rate: float) -> None:
        self.folder = folder
        self.ctx = ctx
        self.ticker = Ticker(1 / rate)

    def check(self, link: Link) -> tuple[Link, str | None]:
        """Return the link and what is wrong with it, if anything is."""
        return link, self.problem(link)

    def problem(self, link: Link) -> str | None:
        parts = urlsplit(link.target)
        if parts.scheme in ("http", "https"):
            return self.check_url(link.target)
        if parts.scheme or not parts.path:
            return None  # mailto: and the like; an anchor of the same page
        root = self.folder if parts.path.startswith("/") else link.page.parent
        path = root / unquote(parts.path).lstrip("/")
        return None if path.exists() else f"no file {path}"

    def check_url(self, url: str) -> str | None:
        try:
            with context.scope(self.ctx):  # the deadline reaches every wait in here
                self.ticker.c.recv()
                return blocking(fetch, url)
        except context.DeadlineExceeded:
            return "no answer by the deadline"


def fetch(url: str) -> str | None:
    """Ask for a page, in a thread; return what is wrong with it, or None."""
    try:
        with urllib.request.urlopen(url, timeout=10):
            return None
    except (urllib.error.URLError, OSError) as e:
        return str(e)


def linkcheck(folder: Path, jobs: int, rate: float, deadline: float) -> int:
    """Check all links below a folder, print the broken ones, return how many."""
    checked = broken = 0
    with context.with_timeout(context.background(), deadline) as ctx, Pool(jobs) as pool:
        checker = Checker(folder, ctx, rate)
        for link, wrong in pool.map(checker.check, links_of(folder), progress=True):
            checked += 1
            if wrong is not None:
                broken += 1
                print(f"{link.page.relative_to(folder)}: {link.target}: {wrong}")
    print(f"{checked} links checked, {broken} broken")
    return broken


class SilentHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def demo_site() -> Iterator[Path]:
    """Make a site of 20 pages with 3 broken links, and serve it on loopback."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        handler = lambda *args: SilentHandler(*args, directory=name)  # noqa: E731
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            base = f"http://127.0.0.1:{server.server_port}"
            for i in range(20):
                links = [f"page{(i + 1) % 20}.html", f"{base}/page{i * 7 % 20}.html", "#top"]
                if i % 8 == 0:
                    links.append(f"{base}/gone{i}.html" if i else "lost.html")
                body = "".join(f'<a href="{link}">{link}</a>' for link in links)
                (folder / f"page{i}.html").write_text(body, encoding="utf-8")
            yield folder
            server.shutdown()


def main() -> int:
    """Read the command line and check."""
    parser = argparse.ArgumentParser(description="Check the links of a folder of HTML.")
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--demo", action="store_true", help="check a site made for the purpose")
    parser.add_argument("--jobs", type=int, default=20, help="links checked at a time (20)")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second (200)")
    parser.add_argument("--deadline", type=float, default=60.0, help="seconds for it all (60)")
    args = parser.parse_args()
    if args.demo == (args.folder is not None):
        parser.error("give a folder, or --demo")
    if args.rate <= 0:
        parser.error("--rate must be more than 0")
    with demo_site() if args.demo else contextlib.nullcontext(args.folder) as folder:
        return 1 if linkcheck(folder, args.jobs, args.rate, args.deadline) else 0


if __name__ == "__main__":
    sys.exit(main())
