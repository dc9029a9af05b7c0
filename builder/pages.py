"""Brings the pages of a site up to date: which are stale, what is read and rendered, what is published, what failed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from builder.bodies import body_key, execution_of, notebook_bytes, unsettled
from builder.bundles import open_bundle
from builder.cache import Cache
from builder.config import Config
from builder.errors import ChangedError, NotebookError, UnsafePathError
from builder.ledger import Ledger, PageRecord
from builder.page import Body, PageMeta, PageOptions
from builder.paths import contained, join_below
from builder.publish import Publisher
from builder.report import DRAFT, PageReport, Status, Summary
from builder.scanning import Stat
from builder.site import Site
from builder.sources import Source
from builder.workers import Job, Pool, Result
from builder.write import stat_of

if TYPE_CHECKING:
    from builder.survey import Survey

Progress = Callable[[int, int, str], None]
"""Called with pages done, pages to do, and the path of the one just done."""

RACY_NS = 50_000_000
"""A file changed this shortly before it was read may change again within the resolution of its time stamp."""


@dataclass(frozen=True)
class Before:
    """What an incremental build goes by: the site as the last build left it, and the files that changed since."""

    site: Site
    changed: frozenset[str]


@dataclass(frozen=True)
class _Read:
    """A source file as it was read: stat, SHA-256, and the key of the body it makes."""

    stat: Stat
    digest: str
    key: str


class Pages:
    """The pages of one build; `site` and `statuses` are its outcome."""

    def __init__(
        self,
        config: Config,
        site: Site,
        publisher: Publisher,
        ledger: Ledger,
        cache: Cache,
        survey: Survey,
        pool: Callable[[int], Pool],
        appeared: Callable[[str], bool],
        *,
        force: bool,
        retry: bool,
        progress: Progress,
    ) -> None:
        self.site = site
        self.statuses: dict[str, tuple[Status, str]] = {}
        self.changed: set[str] = set()
        """Files that were not what the scan saw; their pages stay as they were until the next look at them."""
        self._config = config
        self._publisher = publisher
        self._ledger = ledger
        self._cache = cache
        self._survey = survey
        self._pool = pool
        self._appeared = appeared
        self._force = force
        self._retry = retry
        self._progress = progress
        self._reads: dict[str, _Read] = {}
        self._done = self._total = 0

    def update(self, before: Before | None) -> None:
        """Render and publish every page that is not what it was made from any more; None: look at every page."""
        self._render([source for source in self.site.tree.pages.values() if not self._is_current(source, before)])
        self._force = False
        for _ in range(3):  # titles and drafts known only now may change listings below pages and links between them
            self.site = replace(self.site)
            stale = [source for source in self._frames_in_doubt(before) if self._frame_is_stale(source)]
            if not stale:
                break
            failing = {source.path: self._ledger.pages[source.path].failure for source in stale}
            for source in stale:
                if message := failing[source.path]:  # running and rendering it again would only fail again
                    self._fail(source, (ChangedError if source.file in self.changed else NotebookError)(message))
            self._render([source for source in stale if not failing[source.path]])

    def drop_removed(self) -> None:
        """Forget the pages whose source is gone; their files go when nothing needs them any more."""
        pages = self._ledger.pages
        for path in [path for path in pages if path not in self.site.tree.pages]:
            if pages.pop(path).outputs:
                self._say(path, "removed")

    def reports(self) -> Iterator[PageReport]:
        """One report for each page there is or was."""
        for path, record in self._ledger.pages.items():
            if path not in self.statuses:
                yield PageReport(path, "kept", message_of(record))
        for path, (status, message) in self.statuses.items():
            yield PageReport(path, status, message)

    def _say(self, path: str, status: Status, message: str = "") -> None:
        """Note what became of a page; one that was built stays built."""
        if self.statuses.get(path, ("kept",))[0] != "built" or status != "kept":
            self.statuses[path] = (status, message)

    def _is_current(self, source: Source, before: Before | None) -> bool:
        record = self._ledger.pages.get(source.path)
        if self._force or record is None or record.file != source.file or record.stat != self.site.files[source.file]:
            return False
        if record.failure:
            if self._retry:
                return False
            self._say(source.path, "failed", record.failure)
            return True
        if before is not None and before.site.has_settings_of(self.site):
            return not before.changed or self._publisher.files_current(self.site, record)
        if record.body_key != self._body_key(self.site.options(source), record.digest):
            return False
        intact = all(map(self._publisher.intact, (*record.outputs, *record.needs)))
        return intact and self._publisher.files_current(self.site, record)

    def _frames_in_doubt(self, before: Before | None) -> Iterable[Source]:
        """The pages whose frame must be compared; where no name is new or gone, only those that list others."""
        pages = self.site.tree.pages
        published = (pages[path] for path in self.site.metas)
        if before is None or before.site.tree is not self.site.tree or not before.site.has_settings_of(self.site):
            return published
        if before.site.metas.keys() != self.site.metas.keys() or any(
            file not in before.site.files for file in before.changed
        ):
            return published
        return (source for source in published if source.path in self.site.tree.folders)

    def _frame_is_stale(self, source: Source) -> bool:
        record = self._ledger.pages[source.path]
        return record.frame_key != self._publisher.frame_key(self.site, source, record.refs, record.body_key)

    def _render(self, sources: list[Source]) -> None:
        """Publish each source's page, from the cache where it can be, else through a worker, the largest first."""
        sources.sort(key=lambda source: -self.site.files[source.file].size)
        self._done, self._total = 0, len(sources)
        jobs = self._jobs(sources)
        first = next(jobs, None)
        if first is not None:
            for job, result in self._pool(len(sources)).run(chain((first,), jobs)):
                self._take(job, result)

    def _step(self, path: str) -> None:
        self._done += 1
        self._progress(self._done, self._total, path)

    def _jobs(self, sources: list[Source]) -> Iterator[Job]:
        for source in sources:
            try:
                if job := self._job(source):
                    yield job
                    continue
            except NotebookError as error:
                self._fail(source, error)
            self._step(source.path)

    def _job(self, source: Source) -> Job | None:
        """Publish a page whose body is known; a job for the others."""
        if (folder := self.site.unsettled_folder(source)) is not None:
            raise NotebookError(unsettled(folder))
        options = self.site.options(source)
        record = self._ledger.pages.get(source.path)
        stat = self.site.files[source.file]
        if record and record.digest and record.file == source.file and record.stat == stat and not self._force:
            key = self._body_key(options, record.digest)
            if body := self._cache.body(key):
                self._refuse_another_version(source.file, stat)
                self._publish(source, body, _Read(stat, record.digest, key))
                return None
        try:
            read, data = self._read(source, options)
        except FileNotFoundError:
            raise ChangedError("has just gone") from None
        except OSError as error:
            raise NotebookError(f"cannot be read: {error.strerror or error}") from None
        self._reads[source.path] = read
        if not self._force and (body := self._cache.body(read.key)):
            self._publish(source, body, read)
            return None
        place = self._config.source / (source.file if source.kind == "zip" else source.base)
        return Job(source.path, data, options, execution_of(self._config.build, place))

    def _refuse_another_version(self, file: str, stat: Stat) -> None:
        """Raise ChangedError when a file is not what the scan saw: files of its page that are gone may be replaced."""
        try:
            now = stat_of(os.stat(self._config.source / file))
        except OSError:
            raise ChangedError("has just gone") from None
        if now != stat:
            raise ChangedError("has just changed")

    def _read(self, source: Source, options: PageOptions) -> tuple[_Read, bytes]:
        """The bytes of a notebook, or of the one in an archive, with the digest of the whole file."""
        path = contained(self._config.source, source.file)
        with open(path, "rb") as file:
            stat = stat_of(os.fstat(file.fileno()))
            data = notebook_bytes(file, stat.size)
        if stat != self.site.files[source.file]:
            raise ChangedError("has just changed")
        content = sha256(data).hexdigest()
        if source.kind == "zip":
            try:
                with open_bundle(path, self._survey.limits) as bundle:
                    data = bundle.read("index.ipynb")
            finally:  # what is wrong with another version is no matter
                self._publisher.refuse_another(self.site, source.file)
        if time.time_ns() - stat.mtime_ns < RACY_NS:
            stat = Stat(0, stat.size, stat.inode)
        return _Read(stat, content, self._body_key(options, content)), data

    def _body_key(self, options: PageOptions, content: str) -> str:
        return body_key(self._config.build, options, content)

    def _take(self, job: Job, result: Result) -> None:
        source = self.site.tree.pages[job.path]
        if result.body is None:
            self._fail(source, NotebookError(result.failure))
        else:
            read = self._reads[job.path]
            self._cache.keep(read.key, result.body, result.media)
            try:
                self._publish(source, result.body, read)
            except NotebookError as error:
                self._fail(source, error)
        self._step(job.path)

    def _publish(self, source: Source, body: Body, read: _Read) -> None:
        old = self._ledger.pages.get(source.path)
        record = PageRecord(source.path, source.file, read.stat, read.digest, read.key, meta=body.meta)
        if body.meta.draft:
            self.site.metas.pop(source.path, None)
            self._ledger.pages[source.path] = record
            self._say(source.path, "removed" if old and old.outputs else "kept", DRAFT)
            return
        self._refuse_what_lacks_new_files(source, body)
        self.site.metas[source.path] = body.meta
        record, wrote = self._publisher.page(self.site, source, record, body)
        self._ledger.pages[source.path] = record
        self._say(source.path, "built" if wrote or self._force else "kept", message_of(record))

    def _refuse_what_lacks_new_files(self, source: Source, body: Body) -> None:
        """Raise ChangedError when a page shows files that came after the scan."""
        for ref in body.refs:
            if ref.kind != "media" and self.site.resolve(source, ref) is None:
                wanted = join_below(source.path if source.kind == "zip" else source.base, ref.target)
                if wanted and wanted not in self.site.files and self._appeared(wanted):
                    self.changed.add(wanted)
                    raise ChangedError(f"the file {wanted!r} of this page has just come")

    def _fail(self, source: Source, error: NotebookError) -> None:
        """Note a failure; a page that was good before keeps its content."""
        message = str(error)
        old = self._ledger.pages.get(source.path)
        read = self._reads.get(source.path) or _Read(self.site.files[source.file], "", "")
        if old is None or not old.outputs:
            old = PageRecord(source.path, source.file)
            self.site.metas.pop(source.path, None)
        elif isinstance(error, ChangedError):
            # With its files: those of its sources may be gone by now.
            self.site.metas[source.path] = old.meta or PageMeta(title=source.path)
        else:
            old = self._framed_again(source, old)
        if isinstance(error, ChangedError):
            # Nobody knows yet what is wrong with what lies there now.
            self.changed.add(source.file)
            read = _Read(Stat(0, 0, 0), "", "")
        self._ledger.pages[source.path] = msgspec.structs.replace(
            old, file=source.file, stat=read.stat, digest=read.digest, failure=message
        )
        self._say(source.path, "failed", message)

    def _framed_again(self, source: Source, old: PageRecord) -> PageRecord:
        """The last good content of a failed page in today's frame: theme, links and breadcrumbs must not grow stale."""
        if old.meta:
            self.site.metas[source.path] = old.meta
        if old.file != source.file:  # its links started at another place; what they meant cannot be said any more
            return msgspec.structs.replace(old, body_key="")
        body = self._cache.body(old.body_key) if old.body_key else None
        if body is None:
            return old
        try:
            if source.kind == "zip":
                open_bundle(contained(self._config.source, source.file), self._survey.limits).close()
            return self._publisher.page(self.site, source, old, body)[0]
        except (NotebookError, UnsafePathError, OSError):
            return old


def summary_of(source: Source, record: PageRecord | None) -> Summary:
    """What is known of a page after a build."""
    title = record.meta.title if record and record.meta else source.path.rpartition("/")[2]
    published = bool(record and record.outputs)
    return Summary(source.path, title, source.kind, published, message_of(record) if record else "")


def message_of(record: PageRecord) -> str:
    """What the author of a page may want to mend, in one line."""
    if record.failure:
        return record.failure
    if record.meta and record.meta.draft:
        return DRAFT
    if not record.findings:
        return ""
    first = record.findings[0]
    where = f"cell {first.cell}: " if first.cell is not None else ""
    more = len(record.findings) - 1
    return f"{where}{first.message}" + (f" (and {more} more)" if more else "")
