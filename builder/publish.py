"""Puts pages, listings and files into the output, each only when it differs from what lies there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from builder import urls
from builder.assets import assets_of
from builder.bundles import Bundle, BundleLimits, open_bundle
from builder.cache import Cache, digest
from builder.catalog import version_of
from builder.config import Config
from builder.errors import ChangedError, NotebookError, UnsafePathError
from builder.frame import Frame, fill, redirect
from builder.ledger import FileRecord, Ledger, PageRecord
from builder.libraries import library_files
from builder.page import Body, Finding, Ref
from builder.paths import contained
from builder.scanning import ARCHIVE, Stat
from builder.site import Entry, Site, Target, ref_url
from builder.sources import Source
from builder.theme import Theme
from builder.urls import VARIANTS, Variant
from builder.write import OutputFolder, stat_of


class Publisher:
    """Writes to one output folder for one build; what it wrote is noted in the ledger."""

    def __init__(
        self, config: Config, output: OutputFolder, ledger: Ledger, cache: Cache, theme: Theme, limits: BundleLimits
    ) -> None:
        self._config = config
        self._output = output
        self._ledger = ledger
        self._cache = cache
        self._limits = limits
        self._assets = assets_of(theme)
        self._frame = Frame(config.site, theme, self._assets.style, self._assets.script)
        self._fingerprint = digest(
            theme.fingerprint.encode(),
            repr((config.site, config.build.download, config.site.base_url, sorted(self._assets.files))).encode(),
        )
        self._listed: set[str] = set()
        self._listing_keys: dict[str, str] = {}

    def assets(self) -> None:
        """Publish stylesheet, page runtime and the other files of the theme, and the 404 page."""
        for name, content in self._assets.files.items():
            if not self.intact(name):
                self._put(name, content())
        base = self._config.site.base_path
        self._put("404.html", self._frame.error(f"{base}/"))

    def frame_key(self, site: Site, source: Source, refs: tuple[Ref, ...], body_key: str) -> str:
        """Changes whenever the page's HTML or the files under it may change, its body apart from `body_key`."""
        targets = [_target_text(site, site.resolve(source, ref)) for ref in refs if ref.kind != "media"]
        files = [(file, site.hides(file)) for file in site.bundle_files(source)]
        return digest(
            self._fingerprint.encode(),
            body_key.encode(),
            repr(
                (targets, site.crumbs(source.path), self._children(site, source), files, _index_of(site, source))
            ).encode(),
        )

    def page(self, site: Site, source: Source, record: PageRecord, body: Body) -> tuple[PageRecord, bool]:
        """Publish both variants of a page and all they need; gives the finished record and whether any HTML changed."""
        targets = [None if ref.kind == "media" else site.resolve(source, ref) for ref in body.refs]
        needs = self._publish_needs(site, source, body, targets)
        wrote = False
        outputs = []
        for name, data in self._documents(site, source, body, targets, version_of(record.body_key)):
            wrote |= self._put(name, data)
            outputs.append(name)
        missing = [
            _missing(ref)
            for ref, target in zip(body.refs, targets, strict=True)
            if target is None and ref.kind != "media"
        ]
        missing += [_hidden(file) for file in site.bundle_files(source) if site.hides(file)]
        key = self.frame_key(site, source, body.refs, record.body_key)
        return (
            PageRecord(
                path=source.path,
                file=source.file,
                stat=record.stat,
                digest=record.digest,
                body_key=record.body_key,
                frame_key=key,
                meta=body.meta,
                refs=body.refs,
                findings=(*body.findings, *missing),
                outputs=tuple(outputs),
                needs=tuple(dict.fromkeys(needs)),
            ),
            wrote,
        )

    def listings(self, site: Site, before: Site | None) -> None:
        """Publish the listings of all folders without a page of their own, in both variants, and the root's third copy.

        After an incremental change `before` is the site as it was: a listing with the same entries is not made again.
        """
        known, self._listing_keys = self._listing_keys, {}
        for path in site.listed_folders():
            places = _places(path)
            self._listed.update(name for _, name in places)
            title, description = site.folder_title(path), site.folder_description(path)
            crumbs, entries = site.crumbs(path), site.entries(path)
            key = digest(self._fingerprint.encode(), repr((title, description, crumbs, entries)).encode())
            self._listing_keys[path] = key
            if before is not None and known.get(path) == key:
                continue
            for variant, name in places:
                self._put(name, self._frame.listing(variant, path, title, description, entries, crumbs, name))

    def intact(self, name: str) -> bool:
        """Whether an output file lies there as it was written."""
        record = self._ledger.files.get(name)
        return record is not None and self._output.stat(name) == record.stat

    def files_current(self, site: Site, record: PageRecord) -> bool:
        """Whether the copied files of a page were made from what lies in the source folder now."""
        for name in record.needs:
            origin = self._ledger.files[name].origin if name in self._ledger.files else ""
            file, bar, stat = origin.rpartition("|")
            if bar and (file not in site.files or _stat_text(site.files[file]) != stat):
                return False
        return True

    def remove_unneeded(self, pages: Iterable[PageRecord]) -> None:
        """Take away every file of ours that no page, listing or theme needs any more."""
        needed = {*self._assets.files, "404.html", *self._listed}
        for record in pages:
            needed.update(record.outputs)
            needed.update(record.needs)
        self._listed.clear()
        unneeded = {name for name in self._ledger.files if name not in needed}
        if self._ledger.interrupted:
            found = (name for tree in urls.OWNED_TREES for name in self._output.files(tree))
            unneeded.update(name for name in found if name not in needed)
        for name in sorted(unneeded, key=_pages_first):
            self._ledger.begin()
            self._output.remove(name)
            self._ledger.files.pop(name, None)

    def _documents(
        self, site: Site, source: Source, body: Body, targets: list[Target | None], version: str
    ) -> list[tuple[str, bytes]]:
        path, crumbs, children = source.path, site.crumbs(source.path), self._children(site, source)
        download = ""
        if self._config.build.download and source.kind != "zip":
            download = source.file
        documents = []
        html = ""
        for variant, name in _places(path):
            if not html or name == "index.html":
                html = fill(
                    body.html,
                    [ref_url(ref, target, name, variant) for ref, target in zip(body.refs, targets, strict=True)],
                )
            page = self._frame.page(variant, path, body, html, crumbs, children, download, name, version)
            documents.append((name, page))
        if index := _index_of(site, source):
            documents += [(urls.page_file(variant, index), redirect("../index.html", "Moved")) for variant in VARIANTS]
        return documents

    def _children(self, site: Site, source: Source) -> list[Entry]:
        return site.entries(source.path) if source.kind in ("notebook", "zip") else []

    def _publish_needs(self, site: Site, source: Source, body: Body, targets: list[Target | None]) -> list[str]:
        needs = []
        for name in body.media:
            media = urls.media_file(name)
            needs.append(media)
            if not self.intact(media):
                self._ledger.begin()
                self._note(media, self._output.link(self._cache.media(name), media), "media")
        needs += [self._publish_library(name, path) for name, path in library_files(body.libraries).items()]
        wanted = dict.fromkeys(
            [target.file for target in targets if target and target.file] + site.bundle_files(source)
        )
        if self._config.build.download and source.kind != "zip":
            wanted[source.file] = None
        with ExitStack() as stack:

            @cache
            def archive(file: str) -> Bundle:
                try:
                    return stack.enter_context(open_bundle(self._config.source / file, self._limits))
                finally:  # what is wrong with another version is no matter
                    self.refuse_another(site, file)

            for file in wanted:
                if not site.hides(file):
                    needs += self._publish_file(site, file, archive)
        if source.kind == "zip":
            self.refuse_another(site, source.file)
        return needs

    def _publish_library(self, name: str, path: Path) -> str:
        """Copy a file of an installed package, which all pages share."""
        origin = f"library|{_stat_text(stat_of(os.stat(path)))}"
        known = self._ledger.files.get(name)
        if not (known and known.origin == origin and self.intact(name)):
            self._ledger.begin()
            self._note(name, self._output.copy(path, name), origin)
        return name

    def refuse_another(self, site: Site, file: str) -> None:
        """Raise ChangedError when a file is not the one that the scan saw."""
        try:
            found = stat_of(os.stat(contained(self._config.source, file)))
        except OSError:
            found = None
        if found != site.files[file]:
            raise ChangedError(f"the file {file!r} has just changed")

    def _publish_file(self, site: Site, file: str, archive: Callable[[str], Bundle]) -> list[str]:
        """Copy one source file, or one file of a ZIP bundle, under both variants."""
        holder = site.holder(file)
        origin = f"{holder}|{_stat_text(site.files[holder])}"
        names = [urls.asset_file(variant, file) for variant in VARIANTS]
        for name in names:
            known = self._ledger.files.get(name)
            if known and known.origin == origin and self.intact(name):
                continue
            self._ledger.begin()
            if name is not names[0]:
                stat = self._output.link(self._output.root / names[0], name)
            else:
                try:
                    if holder != file:
                        inner = file.removeprefix(f"{holder.removesuffix(ARCHIVE)}/")
                        stat = self._output.write(name, archive(holder).read(inner))
                    else:
                        stat = self._output.copy(contained(self._config.source, file), name)
                except (FileNotFoundError, KeyError, UnsafePathError) as error:
                    raise ChangedError(f"the file {file!r} of this page has just changed") from error
                except OSError as error:
                    raise NotebookError(f"the file {file!r} of this page cannot be read: {error.strerror}") from error
            self._note(name, stat, origin)
        return names

    def _put(self, name: str, data: bytes) -> bool:
        origin = f"={digest(data)}"
        known = self._ledger.files.get(name)
        if known and known.origin == origin and self.intact(name):
            return False
        self._ledger.begin()
        self._note(name, self._output.write(name, data), origin)
        return True

    def _note(self, name: str, stat: Stat, origin: str) -> None:
        self._ledger.files[name] = FileRecord(stat, origin)


def _places(path: str) -> list[tuple[Variant, str]]:
    """The output files of a page or listing with their variants; the root's lies in the root of the output too."""
    places = [(variant, urls.page_file(variant, path)) for variant in VARIANTS]
    return places if path else [*places, ("full", "index.html")]


def _pages_first(name: str) -> tuple[bool, bool, str]:
    """The order of removal: a page goes before what it shows, so that it is never seen without."""
    return not name.endswith("/index.html"), not name.endswith(".html"), name


def _hidden(file: str) -> Finding:
    return Finding("warning", f"the file {file!r} is not published because a page has its address; rename it")


def _missing(ref: Ref) -> Finding:
    what = "the link" if ref.kind == "link" else "the file"
    return Finding("warning", f"{what} {ref.raw!r} leads to nothing that is published", ref.cell)


def _target_text(site: Site, target: Target | None) -> str:
    if target is None:
        return ""
    return (
        f"{target.page}|{target.file}|{site.holder(target.file)}|{site.hides(target.file)}"
        if target.file
        else f"{target.page}|"
    )


def _index_of(site: Site, source: Source) -> str:
    """The path `P/index` that leads to `P` itself, "" where it does not: beside a notebook, or where something lies."""
    if source.kind == "notebook":
        return ""
    index = f"{source.path}/index" if source.path else "index"
    taken = index in site.tree.pages or index in site.tree.folders
    return "" if taken or f"{index}/index.html" in site.bundle_files(source) else index


def _stat_text(stat: Stat) -> str:
    return f"{stat[0]} {stat[1]} {stat[2]}"
