"""Which pages the files of the source folder make, and what they are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Literal, NamedTuple

from builder.scanning import ARCHIVE, NOTEBOOK, SETTINGS_FILES, Files, Scan, Stat, ignored, rescan, scan

__all__ = [
    "Files",
    "Folder",
    "Scan",
    "Source",
    "Stat",
    "Tree",
    "classify",
    "fold",
    "ignored",
    "in_page_place",
    "is_public",
    "rescan",
    "scan",
]

_NOTEBOOK, _ZIP, _BUNDLE, _INDEX = range(4)  # who goes first when several claim a page
_PAGE_FILE = "index.html"


class Source(NamedTuple):
    """What one page is made of."""

    path: str
    """The page's path, "" for the root's index page."""
    kind: Literal["notebook", "zip", "folder", "index"]
    """folder: a folder bundle; index: `index.ipynb` of a plain folder or of the root."""
    file: str
    base: str
    """Folder where the page's relative links start, relative to the source folder; "" for a ZIP (inside it)."""


class Folder(NamedTuple):
    """A folder that holds pages at some depth; bundles are pages, not folders."""

    path: str
    pages: tuple[str, ...]
    """Paths of the pages right in it; its own index page (the page of the folder's path) is not among them."""
    folders: tuple[str, ...]


class Tree(NamedTuple):
    """All pages of a site and the folders they lie in."""

    pages: dict[str, Source]
    folders: dict[str, Folder]
    """The root "" is always there."""
    bundle_files: dict[str, tuple[str, ...]]
    """Page path of a folder bundle -> its public files, relative to the source folder."""
    collisions: tuple[tuple[str, str], ...]
    """(file that is not shown, sentence that says why and what to do)."""
    findings: tuple[tuple[str, str], ...] = ()
    """(file that is shown, sentence): names that break on other file systems."""


def is_public(name: str) -> bool:
    """Whether a bundle's file, named relative to the bundle, is published with its page."""
    if name.lower().endswith(NOTEBOOK) or in_page_place(name) or name.rpartition("/")[2] in SETTINGS_FILES:
        return False
    return not name.startswith(".") and "/." not in name


def in_page_place(name: str) -> bool:
    """Whether a bundle's file would lie where the bundle's page is written."""
    return name.partition("/")[0].lower() == _PAGE_FILE


def fold(name: str) -> str:
    """The form in which two names are equal on file systems that ignore case and Unicode normal forms."""
    if name.isascii():
        return name.lower()
    import unicodedata  # slow to import, and most names do without

    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def classify(files: Iterable[str], is_bundle: Callable[[str], bool] = lambda file: True) -> Tree:
    """Name the pages that `files` (paths relative to the source folder) make.

    `is_bundle` says of a ZIP whether it has an `index.ipynb` at its root; others are plain files. Where several files
    claim one path, the order is: notebook, ZIP, folder bundle, then the `index.ipynb` of the folder of that path.
    """
    names = sorted(files)
    bundles = _folder_bundles(names)
    claims: tuple[list[Source], ...] = ([], [], [], [])
    inner = _inner_files(names, bundles)
    within = frozenset(file for members in inner.values() for file in members)
    for file in names:
        if within and file in within:
            continue
        folder, _, last = file.rpartition("/")
        if last.endswith(NOTEBOOK):
            if last == "index.ipynb":
                claims[_INDEX].append(Source(folder, "index", file, folder))
            else:
                claims[_NOTEBOOK].append(Source(file[:-6], "notebook", file, folder))
        elif last.endswith(ARCHIVE) and is_bundle(file):
            claims[_ZIP].append(Source(file[:-4], "zip", file, ""))
    for bundle in bundles:
        claims[_BUNDLE].append(Source(bundle, "folder", f"{bundle}/index.ipynb", bundle))
    return _settle(claims, inner)


def _folder_bundles(names: Collection[str]) -> list[str]:
    """Folders with `index.ipynb` and no other notebook at any depth, sorted."""
    starts = [file.removesuffix("/index.ipynb") for file in names if file.endswith("/index.ipynb")]
    if not starts:
        return []
    counts = Counter(file.rpartition("/")[0] for file in names if file.endswith(NOTEBOOK))
    below = dict.fromkeys(starts, 0)
    for folder, count in counts.items():
        while folder:
            if folder in below:
                below[folder] += count
            folder = folder.rpartition("/")[0]
    return sorted(folder for folder in starts if below[folder] == 1)


def _inner_files(names: Iterable[str], bundles: Collection[str]) -> dict[str, list[str]]:
    """The files of each folder bundle."""
    inner: dict[str, list[str]] = {bundle: [] for bundle in bundles}
    homes: dict[str, list[str] | None] = {}
    for file in names if inner else ():
        folder = file.rpartition("/")[0]
        if folder not in homes:
            up = folder
            while up and up not in inner:
                up = up.rpartition("/")[0]
            homes[folder] = inner.get(up)
        if (home := homes[folder]) is not None:
            home.append(file)
    return inner


def _settle(claims: tuple[list[Source], ...], inner: dict[str, list[str]]) -> Tree:
    """Give each path to the first that claims it, and say what became of the others."""
    pages: dict[str, Source] = {}
    collisions: list[tuple[str, str]] = []
    indexes: set[str] = set()
    for rank, sources in enumerate(claims):
        for source in sources:
            if _is_reserved(source.path):
                collisions.append((source.file, _RESERVED.format(file=source.file)))
            elif (winner := pages.setdefault(source.path, source)) is not source:
                sentence = _LOSER.format(file=source.file, winner=winner.file, path=source.path)
                collisions.append((source.file, sentence))
            elif rank == _INDEX:
                indexes.add(source.path)
    bundle_files: dict[str, tuple[str, ...]] = {}
    for source in claims[_BUNDLE]:
        if pages.get(source.path) is source:
            files, start = inner[source.base], len(source.base) + 1
            bundle_files[source.path] = tuple(file for file in files if is_public(file[start:]))
            clashing = (file for file in files if in_page_place(file[start:]))
            collisions += [(file, _PAGE_WINS.format(file=file, winner=source.file)) for file in clashing]
    pages = {path: pages[path] for path in sorted(pages)}
    folders = _folders(pages, indexes)
    return Tree(pages, folders, bundle_files, tuple(sorted(collisions)), _look_alikes(pages, folders))


_LOSER = "{file} is not shown, because {winner} makes the page '{path}' already: rename or remove one of them."
_RESERVED = "{file} is not shown, because its page would lie where a file index.html is written: rename it."
_PAGE_WINS = "{file} is not published, because the page of {winner} is written to index.html: rename it."


def _is_reserved(path: str) -> bool:
    lowered = path.lower()
    return _PAGE_FILE in lowered and _PAGE_FILE in lowered.split("/")


def _folders(pages: dict[str, Source], indexes: Collection[str]) -> dict[str, Folder]:
    held: dict[str, list[str]] = {"": []}
    children: dict[str, list[str]] = {"": []}
    for path in pages:
        home = path if path in indexes else path.rpartition("/")[0]
        folder = home
        while folder not in held:
            held[folder], children[folder] = [], children.get(folder, [])
            parent = folder.rpartition("/")[0]
            children.setdefault(parent, []).append(folder)
            folder = parent
        if path not in indexes:
            held[home].append(path)
    return {path: Folder(path, tuple(held[path]), tuple(sorted(children[path]))) for path in sorted(held)}


def _look_alikes(pages: dict[str, Source], folders: dict[str, Folder]) -> tuple[tuple[str, str], ...]:
    """Names in one folder that are the same on file systems that ignore case or Unicode normal forms."""
    paths = pages.keys() | folders.keys()
    if len({path.lower() if path.isascii() else fold(path) for path in paths}) == len(paths):
        return ()
    first: dict[tuple[str, str], str] = {}
    findings = []
    for path in sorted(paths):
        parent, _, name = path.rpartition("/")
        other = first.setdefault((parent, fold(name)), path)
        if other != path:
            file = pages[path].file if path in pages else path
            findings.append((file, f"{path} and {other} are the same name on many other hosts: rename one of them."))
    return tuple(findings)
