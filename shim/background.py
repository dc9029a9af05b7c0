"""The builder beside the server: the first build, every later one, and those that an upload or a deletion waits for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from builder.catalog import LivePage, published_catalog
from builder.config import Config
from builder.errors import NbfolioError
from builder.hints import Stopper
from builder.workers import SparePools, worker_count

if TYPE_CHECKING:
    from builder.bodies import Candidate
    from builder.build import Builder
    from builder.report import PageReport, Report, Summary

logger = logging.getLogger("shim")

LONGEST_WAIT = 600.0
"""Seconds that somebody waits for the builder while it works for others."""


class NotBuildingError(NbfolioError):
    """Raised where a page should be built and no builder is there for it."""


class BuildState(Protocol):
    """What the application wants to know of the builder."""

    @property
    def ready(self) -> threading.Event:
        """Set once the first build is done, and cleared when the site is not kept up to date any more."""

    @property
    def catalog(self) -> Mapping[str, LivePage]:
        """The pages after the last build, by path; empty before the first. It is replaced as a whole, never changed."""


class Publisher(BuildState, Protocol):
    """Brings changes of the source folder to the readers; everything raises NotBuildingError where nothing is built."""

    def try_out(self, candidate: Candidate) -> str:
        """Render a file that is to become a page; the sentence that says why it cannot, or ""."""
        ...

    def refresh(self, hints: Iterable[str]) -> dict[str, PageReport]:
        """Publish what changed in files of the source folder; the reports of all pages by their paths."""
        ...

    def rebuild(self, path: str | None) -> None:
        """Read, run and render a page anew, None: all of them."""
        ...

    def summaries(self) -> list[Summary]:
        """All notebooks and bundles, published or not."""
        ...


class _Request(NamedTuple):
    """Somebody's wish that the site follow some files; whoever builds next builds for all who wait."""

    hints: frozenset[str]
    outcome: Future[dict[str, PageReport]]


class BackgroundBuilder:
    """Builds the site in a thread of its own, then watches the folder; a context manager that stops it.

    `built` is told of every build, None: it ended with an error. Requests of other threads take turns with the watch,
    one build at a time.
    """

    def __init__(self, config: Config, built: Callable[[Report | None], None], say: Callable[[str], None]) -> None:
        self.ready = threading.Event()
        self._config = config
        self._built = built
        self._say = say
        self._stop = Stopper()
        self._builder: Builder | None = None
        self._turn = threading.Lock()
        self._queue = threading.Lock()
        self._spares = SparePools(worker_count(config.build.jobs))
        self._requests: list[_Request] = []
        self._catalog: Mapping[str, LivePage] = {}
        self._trouble = "The site is being built; try again in a moment."
        self._thread = threading.Thread(target=self._run, name="builder", daemon=True)

    @property
    def catalog(self) -> Mapping[str, LivePage]:
        """The pages after the last build, by path; empty before the first. It is replaced as a whole, never changed."""
        return self._catalog

    def __enter__(self) -> BackgroundBuilder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, timeout: float = 10.0) -> None:
        """Ask for the end and wait for it; a page that is being written is finished."""
        self._stop.set()
        self._thread.join(timeout)
        self._spares.close()

    def try_out(self, candidate: Candidate) -> str:
        """Render a file that is to become a page; the sentence that says why it cannot, or ""."""
        with self._my_turn() as builder:
            trial = builder.trial()
        # A notebook may run for long; others are built meanwhile.
        with self._spares.pool() as pool:
            return trial.problem(candidate, pool)

    def refresh(self, hints: Iterable[str]) -> dict[str, PageReport]:
        """Publish what changed in files of the source folder; the reports of all pages by their paths."""
        request = _Request(frozenset(hints), Future())
        with self._queue:
            self._requests.append(request)
        with self._my_turn() as builder:
            if not request.outcome.done():
                # Those who came while another build ran are served together.
                with self._queue:
                    together, self._requests = self._requests, []
                _serve(together, lambda: self._build(builder, frozenset().union(*(one.hints for one in together))))
        return request.outcome.result()

    def rebuild(self, path: str | None) -> None:
        """Read, run and render a page anew, None: all of them."""
        with self._my_turn() as builder:
            if path is not None:
                builder.forget(path)
            self._build(builder, None, force=path is None)

    def summaries(self) -> list[Summary]:
        """All notebooks and bundles, published or not."""
        with self._my_turn() as builder:
            return builder.summaries()

    @contextmanager
    def _my_turn(self) -> Iterator[Builder]:
        if not self._turn.acquire(timeout=LONGEST_WAIT):
            raise NotBuildingError("The site is being built; try again later.")
        try:
            if self._builder is None:
                raise NotBuildingError(self._trouble)
            yield self._builder
        finally:
            self._turn.release()

    def _build(self, builder: Builder, hints: frozenset[str] | None, *, force: bool = False) -> dict[str, PageReport]:
        """One build that was asked for: what it leaves away is meant to go."""
        return {page.path: page for page in self._report(builder, hints, force=force, emptied=True).pages}

    def _report(
        self, builder: Builder, hints: frozenset[str] | None, *, force: bool = False, emptied: bool = False
    ) -> Report:
        try:
            report = builder.build(hints, force=force, emptied=emptied)
        except (NbfolioError, OSError):
            self._built(None)
            raise
        finally:
            # After an error, too: some pages may have been published before it.
            self._catalog = builder.catalog()
        self._built(report)
        return report

    def _run(self) -> None:
        try:
            self._build_and_watch()
        except (NbfolioError, OSError) as error:
            self._give_up(str(error))
        except Exception:
            logger.exception("The builder failed where it should not have.")
            self._give_up("see above.")

    def _build_and_watch(self) -> None:
        # Imported here: the server listens before the renderers are there.
        from builder.build import Builder
        from builder.watch import watch

        with Builder(self._config, method="forkserver") as builder:

            def rebuild(hints: frozenset[str] | None) -> None:
                with self._turn:
                    report = self._report(builder, hints)
                    builder.save_report(report)
                    self._builder = builder
                self.ready.set()

            try:
                watch(
                    self._config.source,
                    (self._config.output, self._config.state_dir),
                    rebuild,
                    self._stop,
                    self._say,
                )
            finally:
                with self._turn:
                    self._builder = None
                    self._trouble = "The server is about to stop."

    def _give_up(self, why: str) -> None:
        # What is published stays readable; /readyz says that it is not the site of today.
        self.ready.clear()
        self._trouble = "The site is not kept up to date; the log of the server says why."
        logger.error("The site is not kept up to date: %s", why)


def _serve(requests: list[_Request], build: Callable[[], dict[str, PageReport]]) -> None:
    """Do one build for several who wait, and tell each of them how it went."""
    try:
        reports = build()
    except BaseException as error:
        for request in requests:
            request.outcome.set_exception(error)
    else:
        for request in requests:
            request.outcome.set_result(reports)


class Announcer:
    """Says what builds did, where that is news."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._failed: list[PageReport] | None = None

    def __call__(self, report: Report) -> None:
        """Say the failures when there are others than before, and what was done."""
        failed = [page for page in report.pages if page.status == "failed"]
        if report.built or report.removed or failed != self._failed:
            for page in failed:
                self._say(f"{page.path}: {page.message}")
            self._say(str(report))
        self._failed = failed


class Finished:
    """Stands for the builder of a site that is served as it is."""

    def __init__(self, config: Config) -> None:
        self.ready = threading.Event()
        self.ready.set()
        self.catalog: Mapping[str, LivePage] = published_catalog(config)

    def try_out(self, candidate: Candidate) -> str:
        """Nothing is built here."""
        raise NotBuildingError("This server shows a finished site (--no-build): nothing can be published here.")

    def refresh(self, hints: Iterable[str]) -> dict[str, PageReport]:
        """Nothing is built here."""
        raise NotBuildingError("This server shows a finished site (--no-build): nothing can be published here.")

    def rebuild(self, path: str | None) -> None:
        """There is no cache."""

    def summaries(self) -> list[Summary]:
        """Nothing is known here of the notebooks."""
        raise NotBuildingError("This server shows a finished site (--no-build): it does not know the notebooks.")
