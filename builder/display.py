"""What a build says on the terminal: a progress bar where there is one, plain lines elsewhere, JSON when asked."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

import click

from builder.paths import escaped

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from builder.report import PageReport, Report

SHOWN = 20
"""How many findings a summary lists before it only counts them."""
NAMED = 3
"""How many pages the line about a change names."""
LINE_SECONDS = 5.0
"""Where there is no terminal, a long build says this often how far it is."""


class Display:
    """Progress and messages go to stderr, the report to stdout; a context manager that ends the bar."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False, json: bool = False) -> None:
        self._quiet = quiet
        self._verbose = verbose
        self._json = json
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._started = self._drawn = time.monotonic()

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_bar()

    def progress(self, done: int, total: int, path: str) -> None:
        """Show how far a build is: done, rate and the page just done."""
        if self._quiet or self._json:
            return
        now = time.monotonic()
        rate, name = f"{done / max(now - self._started, 0.001):.0f}/s", escaped(path[-50:]) or "index"
        if not sys.stderr.isatty():
            if now - self._drawn >= LINE_SECONDS:
                self._drawn = now
                print(f"{done} of {total} pages, {rate}, {name}", file=sys.stderr, flush=True)
        elif now - self._drawn > 0.05 or done == total:
            if self._bar is None:
                self._start_bar(total)
            assert self._bar
            assert self._task is not None
            self._drawn = now
            self._bar.update(self._task, completed=done, total=total, rate=rate, name=name)
            self._bar.refresh()

    def _start_bar(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[name]}", markup=False),
        )
        # refreshed by hand: a refreshing thread would have to live through forks
        self._bar = Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True)
        self._task = self._bar.add_task("", total=total, rate="", name="")
        self._bar.start()

    def _end_bar(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None

    def report(self, report: Report) -> None:
        """Show a finished build."""
        self._end_bar()
        if self._json:
            click.echo(report.json(), nl=False)  # UTF-8, whatever the terminal takes
            return
        shown = [page for page in report.pages if page.status == "failed"]
        others = [] if self._quiet else [page for page in report.findings if page.status != "failed"]
        shown += others if self._verbose else others[: max(0, SHOWN - len(shown))]
        for page in shown:
            self._line(page)
        listed = sum(page.status != "failed" for page in shown)
        if (left := len(others) - listed) > 0:
            print(
                f"… and {left} more pages with findings (-v lists them, build-report.json has them all)",
                file=sys.stderr,
            )
        if self._verbose:
            for page in report.pages:
                if not page.message:
                    print(f"{page.status} {page.path or 'index'}")
        if not self._quiet:
            print(report, flush=True)

    def change(self, report: Report, hints: frozenset[str] | None) -> None:
        """Say in one line what a rebuild did and why; nothing when it did nothing."""
        done = [page for page in report.pages if page.status in ("built", "removed")]
        for page in report.pages:
            if page.status == "failed" and (hints is None or self._verbose or _touched(page, hints)):
                self._line(page)
        if not done:
            return
        names = ", ".join(f"{page.status} {page.path or 'index'}" for page in done[:NAMED])
        more = f" and {len(done) - NAMED} more" if len(done) > NAMED else ""
        self.say(f"{names}{more} in {report.seconds:.2f} s ({_why(hints)})")

    def say(self, text: str) -> None:
        """One line about what is going on."""
        if not self._quiet:
            self._end_bar()
            print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def _line(self, page: PageReport) -> None:
        word = "failed" if page.status == "failed" else "warning"
        print(f"{word}: {escaped(page.path) or 'index'}: {escaped(page.message)}", file=sys.stderr)


def _touched(page: PageReport, hints: frozenset[str]) -> bool:
    return any(page.path == hint or hint.startswith(page.path) or page.path.startswith(f"{hint}/") for hint in hints)


def _why(hints: frozenset[str] | None) -> str:
    if hints is None:
        return "found by looking at everything"
    first = min(hints, default="")
    return f"{first} changed" if len(hints) == 1 else f"{first} and {len(hints) - 1} more changed"
