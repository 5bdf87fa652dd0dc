"""A crawler: a goroutine for each page, a semaphore for politeness, a deadline for it all.

    python crawler.py [URL] [--jobs N] [--timeout SECONDS]

It follows the links of a site and prints what became of each page; without a URL, of a site
that it serves itself. `context.scope` brings the deadline to every wait inside of `urllib`.
"""

from goroutines.patch import patch

patch()

import argparse
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urldefrag, urljoin, urlsplit
from urllib.request import urlopen

from goroutines import Semaphore, WaitGroup, context

LINK = re.compile(r'<a\s[^>]*href="([^"]+)"', re.IGNORECASE)


def crawl(start: str, jobs: int, ctx: context.Context) -> dict[str, str]:
    slots, visits = Semaphore(jobs), WaitGroup()
    pages = {start: ""}

    def visit(url: str) -> None:
        try:
            with context.scope(ctx), slots, urlopen(url) as answer:
                text = answer.read().decode(errors="replace")
        except OSError as e:  # URLError is one, and DeadlineExceeded
            pages[url] = str(e)
            return
        pages[url] = "ok"
        for link in LINK.findall(text):
            found = urldefrag(urljoin(url, link)).url
            if found not in pages and urlsplit(found)[:2] == urlsplit(start)[:2]:
                pages[found] = ""
                visits.go(visit, found)

    visits.go(visit, start)
    visits.wait()
    return pages


class DemoPage(BaseHTTPRequestHandler):
    """Page n links to pages 2n + 1 and 2n + 2; there are 50, and the link to one more."""

    def do_GET(self) -> None:
        n = int(self.path[1:])
        time.sleep(0.05)  # this goroutine's sleep, not the server's
        self.send_response(200 if n < 50 else 404)
        self.end_headers()
        for link in range(2 * n + 1, min(2 * n + 3, 51)):
            self.wfile.write(f'<a href="{link}#top">page {link}</a>'.encode())

    def log_message(self, *args: object) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url", nargs="?", help="where to begin (a small site made for it)")
    parser.add_argument("--jobs", type=int, default=10, help="requests at a time (10)")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for it all (30)")
    args = parser.parse_args()
    with ThreadingHTTPServer(("127.0.0.1", 0), DemoPage) as demo:
        threading.Thread(target=demo.serve_forever).start()  # a goroutine, as every thread
        with context.with_timeout(context.background(), args.timeout) as ctx:
            url = args.url or f"http://127.0.0.1:{demo.server_port}/0"
            pages = crawl(url, args.jobs, ctx)
        demo.shutdown()
    print("\n".join(f"{page}: {what}" for page, what in pages.items()))


if __name__ == "__main__":
    main()
