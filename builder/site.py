"""The site as one build sees it: its pages and folders, what they are called, and where their links lead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from math import inf

from builder import urls
from builder.config import Config, FolderConfig
from builder.page import PageMeta, PageOptions, Ref
from builder.paths import join_below
from builder.scanning import SETTINGS_FILES, Files
from builder.sources import Source, Tree
from builder.urls import Variant

FOLDER_SETTINGS = "folder.toml"


@dataclass(frozen=True)
class Target:
    """Where a ref leads: another page or listing (`page`), or a file to publish (`file`, relative to SOURCE)."""

    page: str | None = None
    file: str = ""

    def output(self, variant: Variant) -> str:
        """The output file of the target in one variant."""
        return urls.page_file(variant, self.page) if self.page is not None else urls.asset_file(variant, self.file)


@dataclass(frozen=True)
class Entry:
    """A line of a listing."""

    kind: str
    name: str
    title: str
    path: str
    description: str = ""
    tags: tuple[str, ...] = ()
    count: int = 0
    url: str = ""


@dataclass(frozen=True)
class Site:
    """Tree, folder settings and archives of one moment; `metas` holds the pages that are, or will be, published."""

    config: Config
    files: Files
    tree: Tree
    folders: Mapping[str, FolderConfig]
    """Settings by folder path, only of folders that have a folder.toml."""
    archive: Callable[[str], tuple[str, ...]]
    """The public names inside a ZIP bundle, by its file."""
    metas: dict[str, PageMeta] = field(default_factory=dict)
    unsettled: frozenset[str] = frozenset()
    """Folders whose folder.toml cannot be used; what it hides must not come out meanwhile."""

    @cached_property
    def page_of_file(self) -> dict[str, str]:
        """The page of each notebook and archive."""
        return {source.file: path for path, source in self.tree.pages.items()}

    def options(self, source: Source) -> PageOptions:
        """What site and folders say about a page; the nearest folder.toml that speaks wins."""
        code, live, draft = self.config.site.code, self.config.site.live, False
        for folder in _ancestors(self._settled_by(source)):
            if settings := self.folders.get(folder):
                code, live = settings.code or code, settings.live or live
                draft = draft if settings.draft is None else settings.draft
        name = source.path.rpartition("/")[2] or self.config.site.title
        return PageOptions(name=name, code=code, live=live, draft=draft)

    def has_settings_of(self, other: Site) -> bool:
        """Whether folders say the same here and there."""
        return self.folders == other.folders and self.unsettled == other.unsettled

    def unsettled_folder(self, source: Source) -> str | None:
        """The outermost folder that should say something about a page, and cannot be understood."""
        if not self.unsettled:
            return None
        return next((folder for folder in _ancestors(self._settled_by(source)) if folder in self.unsettled), None)

    def _settled_by(self, source: Source) -> str:
        return source.base if source.kind != "zip" else source.path

    def folder_title(self, path: str) -> str:
        """What a folder is called: its own word, else its name; the root is called like the site."""
        settings = self.folders.get(path)
        return (settings.title if settings else "") or path.rpartition("/")[2] or self.config.site.title

    def folder_description(self, path: str) -> str:
        """What a folder says of itself in its folder.toml."""
        settings = self.folders.get(path)
        return settings.description if settings else ""

    def resolve(self, source: Source, ref: Ref) -> Target | None:
        """Where a link or file of a page leads, None when nothing that may be published is there."""
        wanted = join_below(source.path if source.kind == "zip" else source.base, ref.target)
        if wanted is None:
            return None
        if source.kind == "zip" and wanted.startswith(f"{source.path}/"):
            inner = wanted.removeprefix(f"{source.path}/")
            if inner == "index.ipynb":
                return Target(page=source.path)
            if inner in self.archive(source.file):
                return Target(file=wanted)
        if (path := self.page_of_file.get(wanted)) is not None:
            return Target(page=path) if path in self.metas else None
        if wanted in self.files:
            return Target(file=wanted) if self._may_publish(wanted) else None
        if ref.kind == "link" and (wanted in self.metas or wanted in self.tree.folders):
            return Target(page=wanted)
        return None

    def bundle_files(self, source: Source) -> list[str]:
        """The public files of a bundle, relative to SOURCE; nothing for other pages."""
        if source.kind == "folder":
            files = self.tree.bundle_files.get(source.path, ())
            return [file for file in files if file != self._settings_file]
        if source.kind == "zip":
            return [f"{source.path}/{name}" for name in self.archive(source.file)]
        return []

    def holder(self, file: str) -> str:
        """Where the content of a file to publish is: the ZIP bundle whose page it lies below, else the file itself."""
        for path in _ancestors(file.rpartition("/")[0]):
            source = self.tree.pages[path] if path in self.metas else None
            if source and source.kind == "zip" and file.removeprefix(f"{path}/") in self.archive(source.file):
                return source.file
        return file

    def hides(self, file: str) -> bool:
        """Whether a page or listing lies where the file would go; the page wins."""
        folder, _, name = file.rpartition("/")
        return (
            file in self.metas
            or file in self.tree.folders
            or (name == "index.html" and (folder in self.metas or folder in self.tree.folders))
        )

    def _may_publish(self, file: str) -> bool:
        return (
            not file.endswith(".ipynb")
            and file.rpartition("/")[2] not in SETTINGS_FILES
            and file != self._settings_file
        )

    @cached_property
    def _settings_file(self) -> str:
        file = self.config.file
        root = self.config.source.resolve()
        return file.resolve().relative_to(root).as_posix() if file and file.resolve().is_relative_to(root) else ""

    @cached_property
    def counts(self) -> dict[str, int]:
        """The number of published pages below each folder, at any depth."""
        counts: dict[str, int] = dict.fromkeys(self.tree.folders, 0)
        for path in self.metas:
            folder = path
            while folder:
                folder = folder.rpartition("/")[0]
                if folder in counts:
                    counts[folder] += 1
        return counts

    def listed_folders(self) -> Iterable[str]:
        """The folders that get a listing: the root, and those with pages below them and no page of their own."""
        return (path for path in self.tree.folders if path not in self.metas and (self.counts[path] or not path))

    def entries(self, path: str) -> list[Entry]:
        """What the listing of a folder shows: folders first, then pages, each by order and name."""
        folder = self.tree.folders.get(path)
        if not folder:
            return []
        return [
            *sorted(self._folder_entries(folder.folders), key=self._entry_order),
            *sorted(self._page_entries(folder.pages), key=self._entry_order),
        ]

    def _folder_entries(self, paths: Iterable[str]) -> Iterable[Entry]:
        for path in paths:
            if self.counts.get(path) and (path not in self.metas or self.tree.pages[path].kind == "index"):
                name, description = path.rpartition("/")[2], self.folder_description(path)
                yield Entry("folder", name, self.folder_title(path), path, description, count=self.counts[path])

    def _page_entries(self, paths: Iterable[str]) -> Iterable[Entry]:
        for path in paths:
            if meta := self.metas.get(path):
                yield Entry("page", path.rpartition("/")[2], meta.title, path, meta.description, meta.tags)

    def _entry_order(self, entry: Entry) -> tuple[float, str, str]:
        if entry.kind == "folder":
            settings = self.folders.get(entry.path)
            order = settings.order if settings else None
        else:
            order = self.metas[entry.path].order
        return (inf if order is None else order, entry.name.casefold(), entry.name)

    def crumbs(self, path: str) -> list[tuple[str, str]]:
        """(title, folder path) from the root listing to the folder that holds `path`; nothing for the root itself."""
        if not path:
            return []
        return [
            (self.folder_title(folder), folder)
            for folder in _ancestors(path.rpartition("/")[0])
            if folder in self.tree.folders
        ]


def ref_url(ref: Ref, target: Target | None, origin: str, variant: Variant) -> str:
    """The HTML-escaped attribute value for a ref on the page at output file `origin`."""
    if ref.kind == "media":
        return urls.relative(origin, urls.media_file(ref.target))
    if target is None:
        return escape(ref.raw)
    return urls.relative(origin, target.output(variant)) + escape(ref.suffix)


def _ancestors(path: str) -> list[str]:
    """The root, each folder on the way, and `path` itself."""
    parts = path.split("/") if path else []
    return ["", *("/".join(parts[: count + 1]) for count in range(len(parts)))]
