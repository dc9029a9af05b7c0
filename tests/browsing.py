"""A Chromium, a static host, and pages that are watched for everything they should not do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

SCREENS = {"phone": (390, 844), "laptop": (1280, 800), "wide": (1920, 1080)}
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-features=SpareRendererForSitePerProcess,Translate,OptimizationHints,MediaRouter",
]  # fmt: skip


@contextmanager
def chromium(path: str, *flags: str) -> Iterator[Browser]:
    """One Chromium for a file of tests, and no longer: the event loop inside would be in the way of others."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*FLAGS, *flags])
        yield browser
        browser.close()


class Handler(SimpleHTTPRequestHandler):
    """A static host; quiet, and never kept waiting by a connection that was opened in advance."""

    timeout = 0.5

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """`folder` on a free port of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class Watched:
    """A page of the browser together with everything it should not have done."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        self.page: Page = context.new_page()
        self.base = base
        self.faults: list[str] = []
        on = self.page.on
        on("console", lambda said: self.note(said.type in ("error", "warning"), f"console {said.type}: {said.text}"))
        on("pageerror", lambda raised: self.note(True, f"exception: {raised}"))
        on("request", lambda request: self.note(self.outside(request.url), f"request to {request.url}"))
        on("requestfailed", self.note_failure)
        on("response", lambda answer: self.note(answer.status >= 400, f"{answer.status}: {answer.url}"))

    def note(self, fault: bool, text: str) -> None:
        """Keep what happened if it was wrong."""
        if fault:
            self.faults.append(text)

    def note_failure(self, request: Request) -> None:
        """A request that was under way when the reader went on is none that failed."""
        self.note(request.failure != "net::ERR_ABORTED", f"failed: {request.url} {request.failure}")

    def outside(self, url: str) -> bool:
        """Whether a URL leads to another host, or out of the site."""
        return not url.startswith((self.base, "data:", "blob:"))
