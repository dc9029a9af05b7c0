"""The notebooks and bundles of the source folder as the API changes them: one name is one dashboard.

An upload lands unchanged as one file, `P.ipynb` or `P.zip`. It is tried out before it takes its place, and what it
replaces comes back when it cannot be published after all.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from builder.bodies import Candidate
from builder.config import Config
from builder.errors import NbfolioError
from builder.report import DRAFT
from builder.scanning import ARCHIVE, NOTEBOOK
from builder.zipcheck import INDEX
from shim.background import Publisher
from shim.names import page_path
from shim.replacing import Change
from shim.shelf import Kind, Shelf, file_of
from shim.staging import Staging

if TYPE_CHECKING:
    from builder.report import Summary

logger = logging.getLogger("shim")


class UnusableError(NbfolioError):
    """Raised for an upload that cannot be a page; nothing was changed."""


class ExistsError(NbfolioError):
    """Raised when there is a dashboard of the name, and it was not to be replaced."""


class MissingError(NbfolioError):
    """Raised when there is nothing of the name."""


class Library:
    """Publishes, replaces and deletes dashboards of one source folder; any number of threads may use it."""

    def __init__(self, config: Config, publisher: Publisher) -> None:
        self._shelf = Shelf(config)
        self._publisher = publisher
        self._staging = Staging(config.source)
        self._queues = _Queues()
        self._placing = threading.Lock()
        """Held while files take or leave their places, never while a page is built."""

    def tidy(self) -> None:
        """Finish or take back what a program that was killed left half done; before the first build."""
        self._staging.recover()

    def change(self) -> AbstractContextManager[Change]:
        """Room for an upload in the file system of the notebooks, for `publish`."""
        return self._staging.change()

    def publish(self, name: str, kind: Kind, change: Change, *, replace: bool = True) -> bool:
        """Make `change.upload` the dashboard `name`; when this returns, its page is served. False: it is a draft.

        Raises UnusableError, ExistsError, ConflictError, UnsafePathError, NotBuildingError and OutputError; then
        nothing was changed.
        """
        file, page = file_of(name, kind), page_path(name, is_notebook=kind == "notebook")
        with self._queues.turn(page):
            self._forms_to_replace(name, kind, replace)
            if problem := self._publisher.try_out(Candidate(kind, page, file, change.upload)):
                raise UnusableError(_sentence(problem))
            with self._placing:
                others = [form for form in self._forms_to_replace(name, kind, replace) if form != file]
                change.apply(file, others)
            hints = [*_claimants(page), file, *others]
            with self._undone_on_error(change, hints):
                report = self._publisher.refresh(hints).get(page)
                if report is not None and report.message == DRAFT:
                    return False
                if report is None or report.status in ("failed", "removed"):
                    raise UnusableError(_sentence((report and report.message) or "is not published"))
                return True

    def delete(self, name: str) -> None:
        """Remove a dashboard in whatever form; when this returns, its page is gone.

        Raises MissingError, NoDashboardError, UnsafePathError, NotBuildingError and OutputError; then nothing was
        changed.
        """
        with self._queues.turn(page_path(name, is_notebook=True)), self._staging.change() as change:
            with self._placing:
                forms = self._shelf.forms(name)
                if not forms:
                    self._shelf.refuse_what_is_no_dashboard(name)
                    raise MissingError(f"There is no dashboard {name}.")
                change.apply(None, forms)
            hints = [*_claimants(name), *forms]
            with self._undone_on_error(change, hints):
                self._publisher.refresh(hints)

    def rebuild(self, name: str | None) -> None:
        """Make the page of a dashboard (None: all) anew from what is on the disk; an unknown name is no error."""
        # A notebook and a ZIP of one name may be two pages.
        for page in {None} if name is None else {page_path(name, is_notebook=True), name}:
            self._publisher.rebuild(page)

    def summaries(self) -> list[Summary]:
        """All dashboards, published or not, in the order of their names."""
        return self._publisher.summaries()

    def _forms_to_replace(self, name: str, kind: Kind, replace: bool) -> list[str]:
        forms = self._shelf.forms(name)
        if not replace and (forms or self._shelf.has(file_of(name, kind))):
            raise ExistsError(f"There is a dashboard {name} already.")
        self._shelf.refuse_conflicts(name, kind)
        return forms

    @contextmanager
    def _undone_on_error(self, change: Change, files: list[str]) -> Iterator[None]:
        """Take a change back, in the site too, when it could not be published."""
        try:
            yield
        except BaseException:
            with self._placing:
                change.undo()
            try:
                self._publisher.refresh(files)
            except NbfolioError as error:
                logger.error("The site shows what could not be published until it can be built again: %s", error)
            raise


class _Queues:
    """A lock for each page that somebody changes, for as long as somebody does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def turn(self, page: str) -> Iterator[None]:
        """Wait for those who came before for the same page."""
        with self._lock:
            lock, waiting = self._locks.get(page, (threading.Lock(), 0))
            self._locks[page] = lock, waiting + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, waiting = self._locks[page]
                if waiting == 1:
                    del self._locks[page]
                else:
                    self._locks[page] = lock, waiting - 1


def _claimants(page: str) -> list[str]:
    """The files that make a page, there or not: somebody else may have removed one, and the builder not know yet."""
    return [page + NOTEBOOK, page + ARCHIVE, f"{page}/{INDEX}"] if page else [INDEX]


def _sentence(problem: str) -> str:
    text = problem if problem[:1].isupper() else f"The notebook {problem}"
    return text if text.endswith((".", "!", "?")) else f"{text}."
