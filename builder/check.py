"""`build-site check`: build aside, then look at what came out; nothing is published and the source stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from msgspec.structs import replace

from builder import urls
from builder.build import Builder
from builder.bundles import open_bundle
from builder.cache import Cache
from builder.check_report import CheckFinding, CheckReport, Kind, check_report
from builder.config import Config
from builder.errors import NbfolioError
from builder.ledger import PageRecord
from builder.page import Body, Finding
from builder.paths import contained
from builder.published import PublishedPage, has_anchor, loaded_sizes, read_published
from builder.rendering.notebook import check_notebook
from builder.report import DRAFT, Report
from builder.site import FOLDER_SETTINGS, Site
from builder.survey import Survey

_FORMULA = ("The formula ", "\\eqref{", "\\ref{")
"""How the sentences about formulas begin."""


def check_site(config: Config) -> CheckReport:
    """Everything that would go wrong, or that readers would miss, when the site is published.

    Bodies that the site's cache has are not rendered again; notebooks are not executed. Raises NbfolioError when the
    site cannot be built at all.
    """
    with TemporaryDirectory(prefix="nbfolio-check-") as name:
        folder = Path(name)
        build = replace(config.build, execute="never")
        aside = replace(config, output=folder / "site", state_dir=folder / "state", build=build)
        cache = Cache(folder / "cache", behind=Cache(config.state_dir / "cache"))
        with Builder(aside, excluded=(config.output, config.state_dir), cache=cache) as builder:
            report = builder.build()
            site = builder.site
            look = _Look(aside, site, cache)
            findings = [*_settings(config), *_left_out(report, site, dict(builder.records))]
            for record in builder.records.values():
                findings += look.page(record)
    return check_report(len(site.tree.pages), findings)


def _settings(config: Config) -> Iterator[CheckFinding]:
    name = config.file.name if config.file else ""
    for warning in config.warnings:
        yield CheckFinding(name, None, "warning", "settings", warning)


def _left_out(report: Report, site: Site, records: dict[str, PageRecord]) -> Iterator[CheckFinding]:
    """What could not be taken into the site, or has a name that makes trouble."""
    names = {path for path, _ in (*site.tree.collisions, *site.tree.findings)}
    for entry in report.pages:
        if entry.path not in records:
            settings = entry.path.rpartition("/")[2] == FOLDER_SETTINGS
            kind: Kind = "settings" if settings else "name" if entry.path in names else "file"
            yield CheckFinding(
                entry.path, None, "error" if entry.status == "failed" else "warning", kind, entry.message
            )


class _Look:
    """Looks at one page after the other; what several of them need is read once."""

    def __init__(self, config: Config, site: Site, cache: Cache) -> None:
        self._config = config
        self._site = site
        self._cache = cache
        self._limits = Survey(config).limits
        self._pages: dict[str, PublishedPage] = {}

    def page(self, record: PageRecord) -> Iterator[CheckFinding]:
        """All findings of one page."""
        notes = self._notebook(record)
        for note in notes:
            yield _from(record, "notebook", note)
        waits = self._site.unsettled_folder(self._site.tree.pages[record.path]) is not None  # a finding of its own
        if record.failure and not waits and not any(note.message in record.failure for note in notes):
            yield CheckFinding(record.path, None, "error", "failed", record.failure)
        if record.meta and record.meta.draft:
            yield CheckFinding(record.path, None, "information", "draft", DRAFT)
        body = self._cache.body(record.body_key) if record.outputs else None
        if body:
            yield from self._published(record, body, notes)

    def _notebook(self, record: PageRecord) -> list[Finding]:
        """What the schema says of the notebook; nothing when it cannot be read, which its failure says."""
        try:
            path = contained(self._config.source, record.file)
            if not record.file.endswith(".zip"):
                return check_notebook(path.read_bytes(), "The notebook")
            with open_bundle(path, self._limits) as bundle:
                return check_notebook(bundle.read("index.ipynb"), "The notebook")
        except (OSError, KeyError, NbfolioError):
            return []

    def _published(self, record: PageRecord, body: Body, notes: list[Finding]) -> Iterator[CheckFinding]:
        rendering, publishing = body.findings, record.findings[len(body.findings) :]
        for finding in rendering:
            if finding not in notes:
                yield _from(record, "formula" if finding.message.startswith(_FORMULA) else "page", finding)
        for finding in publishing:
            yield _from(record, "link", finding)
        yield from _externals(record, body)
        file = urls.page_file("full", record.path)
        page = self._read(file)
        yield from self._anchors(record, page)
        yield from _images(record, page)
        yield from self._size(record, file, page)

    def _read(self, file: str) -> PublishedPage:
        if file not in self._pages:
            html = (self._config.output / file).read_text(encoding="utf-8", errors="replace")
            self._pages[file] = read_published(html)
        return self._pages[file]

    def _anchors(self, record: PageRecord, page: PublishedPage) -> Iterator[CheckFinding]:
        for anchor, cell in page.anchors:
            if not has_anchor(page, anchor):
                yield CheckFinding(
                    record.path, cell, "warning", "anchor", f"the link {anchor!r} leads to no place of this page"
                )
        source = self._site.tree.pages[record.path]
        for ref in record.refs:
            target = self._site.resolve(source, ref) if ref.kind == "link" and "#" in ref.suffix else None
            if target is None or target.page is None:
                continue
            other = self._read(target.output("full"))
            if not has_anchor(other, ref.suffix[ref.suffix.index("#") :]):
                message = (
                    f"the link {ref.raw!r} leads to a place that the page {target.page or 'index'!r} does not have"
                )
                yield CheckFinding(record.path, ref.cell, "warning", "anchor", message)

    def _size(self, record: PageRecord, file: str, page: PublishedPage) -> Iterator[CheckFinding]:
        sizes = loaded_sizes(self._config.output, file, page)
        total, budget = sum(sizes.values()), self._config.build.page_budget_kb
        if total > budget << 10:
            largest = max(sizes, key=lambda name: sizes[name])
            part = "its own HTML" if largest == file else largest
            message = (
                f"the page has {total >> 10} KB with all it loads, more than the {budget} KB of build.page_budget_kb; "
                f"the largest part is {part} with {sizes[largest] >> 10} KB"
            )
            yield CheckFinding(record.path, None, "warning", "size", message)


def _from(record: PageRecord, kind: Kind, finding: Finding) -> CheckFinding:
    return CheckFinding(record.path, finding.cell, finding.level, kind, finding.message)


def _externals(record: PageRecord, body: Body) -> Iterator[CheckFinding]:
    """One finding for each host that the page asks as soon as it opens."""
    hosts: dict[str, list[str]] = {}
    for url in body.externals:
        try:
            host = urlsplit(url).netloc or url
        except ValueError:
            host = url
        hosts.setdefault(host, []).append(url)
    for host, found in hosts.items():
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        message = (
            f"the page loads {found[0]}{more} from {host} by itself: "
            f"it does not work offline and tells {host} who reads it"
        )
        yield CheckFinding(record.path, None, "warning", "external", message)


def _images(record: PageRecord, page: PublishedPage) -> Iterator[CheckFinding]:
    """Images without a word for those who do not see them; those of outputs are counted only."""
    outputs = sum(1 for image in page.images if image.in_output and not image.alt)
    for image in page.images:
        if not image.in_output and (image.alt is None or (image.ours and not image.alt)):
            yield CheckFinding(record.path, image.cell, "warning", "alt", f"the image {image.src!r} has no alt text")
    if outputs:
        images = "1 image of an output has" if outputs == 1 else f"{outputs} images of outputs have"
        yield CheckFinding(
            record.path, None, "information", "alt", f"{images} no alt text; the metadata key alt of an output sets it"
        )
