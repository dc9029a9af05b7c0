"""The pipeline: find sources, read what changed, render what changed, write, report. Read this file first."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from builder.cache import Cache
from builder.catalog import Catalog, LivePage
from builder.config import Config
from builder.errors import OutputError
from builder.fingerprint import quick_fingerprint
from builder.ledger import Ledger
from builder.report import PageReport, Report, Summary, summarise
from builder.scanning import Scan, rescan, scan
from builder.write import OutputFolder, open_output

if TYPE_CHECKING:
    from builder.bodies import Trial
    from builder.ledger import PageRecord
    from builder.pages import Before, Progress
    from builder.publish import Publisher
    from builder.site import Site
    from builder.survey import Survey
    from builder.workers import Pool, StartMethod

LOOKS = 3
"""How often a build looks again at files that change while it works; after that their pages wait for the next build."""


class Builder:
    """Builds one site, once or again and again; a context manager that holds the lock on the output folder.

    `method` is how renderer processes start: `fork` only in a program without threads. `excluded` are folders below the
    source that are none of it, besides output and state; `cache` is another one than that in the state folder.
    """

    def __init__(
        self,
        config: Config,
        *,
        method: StartMethod = "fork",
        clean: bool = False,
        excluded: Collection[Path] = (),
        cache: Cache | None = None,
    ) -> None:
        self.config = config
        self._method: StartMethod = method
        self._clean = clean
        self._emptied = False
        self._stack = ExitStack()
        self._ledger = Ledger(config.state_dir, config.output)
        self._cache = cache or Cache(config.state_dir / "cache")
        self._excluded = (config.output, config.state_dir, *excluded)
        self._output: OutputFolder
        self._survey: Survey | None = None
        self._pool: Pool | None = None
        self._scan: Scan | None = None
        self._last: Site | None = None
        self._fingerprint = ""
        self._catalog = Catalog()
        self._changed: frozenset[str] = frozenset()
        self._publisher: Publisher

    def __enter__(self) -> Builder:
        if not self.config.source.is_dir():
            raise OutputError(f"There is no folder {self.config.source}; name the folder that holds the notebooks.")
        self._output = self._stack.enter_context(open_output(self.config.output, self.config.source, clean=self._clean))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool:
            self._pool.close(kill=kind is not None)
        self._ledger.close()
        self._stack.close()

    def build(
        self,
        hints: Iterable[str] | None = None,
        *,
        force: bool = False,
        emptied: bool = False,
        progress: Progress | None = None,
    ) -> Report:
        """Bring the output in step with the source.

        `hints` are paths below the source that may have changed (None: look everywhere); `force` reads no cache;
        `emptied`: if no page is left, that is meant. Raises OutputError when the output cannot be written; a notebook
        that fails is in the report.
        """
        started = time.perf_counter()
        self._emptied = emptied
        found = self._look(hints)
        fingerprint = quick_fingerprint(self.config)
        if self._scan is None and not force and not self._clean:
            kept = self._ledger.unchanged(fingerprint, found.files, self.config.output)
            if kept is not None:
                return summarise(kept, time.perf_counter() - started)
        try:
            progress = progress or (lambda done, total, path: None)
            reports = self._update(found, fingerprint, hints is None, force, progress)
            for _ in range(LOOKS):
                if not self._changed:
                    break
                found = self._look(self._changed)
                reports = _together(reports, self._update(found, fingerprint, False, False, progress))
        except OSError as error:
            raise OutputError(f"{error.filename or self.config.output}: {error.strerror or error}") from error
        return summarise(reports, time.perf_counter() - started)

    def trial(self) -> Trial:
        """What it takes to try out files that may become pages, beside builds and by any thread."""
        from builder.bodies import Trial

        survey = self._survey_now()
        return Trial(self.site, self.config, self._cache, survey.limits)

    def forget(self, path: str) -> None:
        """Make the next build read, run and render the notebook of a page anew, whatever is known of it."""
        from msgspec.structs import replace

        survey = self._survey_now()
        if record := self._ledger.pages.get(path):
            self._cache.drop(record.body_key)
            self._ledger.pages[path] = replace(record, stat=(0, 0, 0), digest="")
            self._ledger.forget_origins(record.needs)
            survey.forget(record.file)

    def summaries(self) -> list[Summary]:
        """All pages there are, published or not, in the order of their paths."""
        from builder.pages import summary_of

        self._survey_now()
        return sorted(summary_of(source, self._ledger.pages.get(path)) for path, source in self.site.tree.pages.items())

    def catalog(self) -> dict[str, LivePage]:
        """Every page there is, drafts and failed ones too, as a server looks them up by their paths."""
        # The quick check of an unchanged site does not open the records.
        return self._catalog.pages(self._ledger.recorded() if self._survey is None else self._ledger.pages)

    def _survey_now(self) -> Survey:
        """The survey, after a build that looked at the pages; the quick check of an unchanged site does not."""
        if self._last is None:
            self._scan = None
            found = self._look(None)
            self._update(found, quick_fingerprint(self.config), True, False, lambda done, total, path: None)
        assert self._survey
        return self._survey

    def _look(self, hints: Iterable[str] | None) -> Scan:
        try:
            if hints is None or self._scan is None:
                return scan(self.config.source, self._excluded)
            return rescan(self._scan, self.config.source, self._excluded, hints)
        except OSError as error:
            raise OutputError(f"The folder {self.config.source} cannot be read: {error.strerror or error}") from error

    def _update(
        self, found: Scan, fingerprint: str, everything: bool, force: bool, progress: Progress
    ) -> list[PageReport]:
        """The steps of a run with work to do, in the order that keeps every published page whole."""
        from builder.pages import Before, Pages

        survey = self._open(fingerprint)
        if force:
            self._ledger.forget_origins(self._ledger.files)
            survey.forget()
        site = survey.site(found)
        self._refuse_sudden_emptiness(site)
        self._expect_pages(site)
        before: Before | None = None
        if not everything and self._last is not None and self._scan is not None:
            before = Before(self._last, _changed(self._scan, found))
        pages = Pages(
            self.config, site, self._publisher, self._ledger, self._cache, survey, self._workers,
            lambda file: file in rescan(found, self.config.source, self._excluded, [file]).files,
            force=force, retry=self._last is None or not self._last.has_settings_of(site), progress=progress,
        )  # fmt: skip
        self._publisher.assets()
        pages.update(before)
        pages.drop_removed()
        self._publisher.listings(pages.site, before.site if before else None)
        self._publisher.remove_unneeded(self._ledger.pages.values())
        self._ledger.save()
        self._scan, self._last, self._changed = found, pages.site, frozenset(pages.changed)
        reports = [*pages.reports(), *survey.problems(found)]
        if everything and not any(report.status == "failed" for report in reports):
            self._ledger.save_scan(fingerprint, found.files, reports)
        return reports

    def _open(self, fingerprint: str) -> Survey:
        """Open what only a run with work to do needs, and load the theme again when it changed."""
        if self._survey is None:
            from builder.survey import Survey

            self._survey = Survey(self.config)
            self._ledger.open()
            self._ledger.interrupted |= self._clean
            self._cache.prune()
        if fingerprint != self._fingerprint:
            from builder.fingerprint import theme_of
            from builder.publish import Publisher

            theme, limits = theme_of(self.config), self._survey.limits
            self._publisher = Publisher(self.config, self._output, self._ledger, self._cache, theme, limits)
            self._fingerprint = fingerprint
            self._last = None
        return self._survey

    def _refuse_sudden_emptiness(self, site: Site) -> None:
        """A folder that came up empty is more likely unmounted than meant: its pages stay until told otherwise."""
        published = sum(1 for record in self._ledger.pages.values() if record.outputs)
        if published > 1 and not site.tree.pages and not (self._clean or self._emptied):
            raise OutputError(
                f"{self.config.source} holds no notebook any more, but {published} pages are published from it; "
                "they stay. If this is meant, run build-site --clean."
            )

    def _expect_pages(self, site: Site) -> None:
        """Take for published what was, and what is new; rendering corrects it."""
        from builder.page import PageMeta

        for path, source in site.tree.pages.items():
            record = self._ledger.pages.get(path)
            if record is None or record.file != source.file:
                site.metas[path] = PageMeta(title=source.path)
            elif record.outputs and record.meta:
                site.metas[path] = record.meta

    def _workers(self, most: int) -> Pool:
        if self._pool is None:
            from builder.workers import Pool, worker_count

            size = worker_count(self.config.build.jobs)
            if self._method == "fork":
                with suppress(Exception):  # a worker says of each page what is wrong
                    import builder.render

                    builder.render.renderer()  # what the parent has imported and made, its forks need not
                size = min(size, most)
            self._pool = Pool(size, self._method)
        return self._pool

    @property
    def site(self) -> Site:
        """The site as the last build that had work to do left it."""
        assert self._last
        return self._last

    @property
    def records(self) -> Mapping[str, PageRecord]:
        """What is known of each page of `site`, by its path."""
        return self._ledger.pages

    def save_report(self, report: Report) -> None:
        """Leave the report where scripts find it: `build-report.json` in the state folder."""
        path = self.config.state_dir / "build-report.json"
        temporary = path.with_suffix(f".{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(report.json())
            os.replace(temporary, path)
        except OSError as error:
            raise OutputError(f"{path}: {error.strerror or error}") from error


def _together(before: list[PageReport], after: list[PageReport]) -> list[PageReport]:
    """The reports of a build that had to look again: what it did at first is not undone by "kept" or silence."""
    first = {report.path: report.status for report in before if report.status in ("built", "removed")}
    reports = [
        PageReport(one.path, first.get(one.path, "kept") if one.status == "kept" else one.status, one.message)
        for one in after
    ]
    known = {report.path for report in after}
    return [*reports, *(one for one in before if one.status == "removed" and one.path not in known)]


def _changed(before: Scan, after: Scan) -> frozenset[str]:
    """The files that appeared, changed or went between two scans."""
    names = before.files.keys() ^ after.files.keys()
    return frozenset(names).union(name for name, stat in after.files.items() if before.files.get(name, stat) != stat)
