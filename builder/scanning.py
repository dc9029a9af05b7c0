"""What lies in the source folder: a full scan, and a shorter one when it is known what may have changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from builder.paths import escaped, name_problem

if TYPE_CHECKING:
    from pathlib import Path

NOTEBOOK = ".ipynb"
ARCHIVE = ".zip"
SETTINGS_FILES = frozenset({"folder.toml", "site.toml"})
"""Names of files that are never published."""
MAX_LINKS = 3
"""Symbolic links to folders that one path may go through; folders linked crosswise would otherwise multiply."""
MAX_HINTS = 200
"""With more hints than this a full scan is quicker."""

LISTS = 5
"""How often a folder that changes is listed, until no file goes before it was looked at."""

_IGNORED = frozenset({"node_modules", "__pycache__"})


class Stat(NamedTuple):
    """What tells that a file changed without reading it."""

    mtime_ns: int
    size: int
    inode: int


Files = dict[str, Stat]
"""POSIX path relative to the source folder -> stat; regular files only, without hidden and ignored ones."""


class Scan(NamedTuple):
    """What lies in the source folder."""

    files: Files
    findings: tuple[tuple[str, str], ...]
    """(path, message) of what was left out or needs a look, sorted; a path is escaped where it does not print."""
    linked: bool = False
    """A symbolic link was seen, so one file may have several names."""


def ignored(name: str) -> bool:
    """Whether a file or folder of this name is never looked at: hidden, caches, editors' temporary files."""
    return name.startswith(".") or name in _IGNORED or name.endswith("~") or (name.endswith("#") and name[0] == "#")


def scan(root: Path, excluded: Collection[Path] = ()) -> Scan:
    """Look at everything below `root` except what lies in `excluded`; OSError when `root` itself cannot be listed."""
    walk = _Walk(root, excluded)
    for entry in _entries(walk.root):
        walk.look(entry, "", 0)
    walk.descend()
    return walk.result()


def rescan(before: Scan, root: Path, excluded: Collection[Path], hints: Iterable[str]) -> Scan:
    """What `scan` would give now, when nothing but the `hints` (paths relative to `root`, files or folders) changed."""
    walk = _Walk(root, excluded)
    known = before.files.keys() | {path for path, _ in before.findings}
    names = {walk.widened(hint, known) for hint in hints if not walk.left_out(hint)}
    if before.linked or "" in names or len(names) > MAX_HINTS or any(map(name_problem, names)):
        return scan(root, excluded)
    names = {name for name in names if not any(parent in names for parent in _parents(name))}
    others = {other for name in names for other in _same_page(name)} - names
    files = dict(before.files)
    for other in others:
        files.pop(other, None)
    prefixes = tuple(name + "/" for name in names if files.pop(name, None) is None)
    if prefixes:
        files = {path: stat for path, stat in files.items() if not path.startswith(prefixes)}
    seen = names | others
    findings = [(path, text) for path, text in before.findings if path not in seen and not path.startswith(prefixes)]
    if not walk.look_at(seen):
        return scan(root, excluded)
    return Scan(files | walk.files, tuple(sorted(findings + walk.findings)))


class _Walk:
    """One look at the source folder, or at parts of it."""

    def __init__(self, root: Path, excluded: Collection[Path]) -> None:
        self.root = os.path.abspath(root)
        self.real = os.path.realpath(root)
        self.excluded = {
            inside
            for path in excluded
            for inside in (_below(self.root, os.path.abspath(path)), _below(self.real, os.path.realpath(path)))
            if inside
        }
        self.files: Files = {}
        self.findings: list[tuple[str, str]] = []
        self.linked = False
        self.pending: list[tuple[str, int]] = []

    def result(self) -> Scan:
        return Scan(self.files, tuple(sorted(self.findings)), self.linked)

    def report(self, path: str, message: str) -> None:
        self.findings.append((escaped(path), message))

    def look(self, entry: os.DirEntry[str], prefix: str, links: int) -> None:
        name = entry.name
        path = prefix + name
        if ignored(name) or path in self.excluded:
            return
        if problem := name_problem(name):
            self.report(path, f"The name {problem}, so it is left out: rename it.")
            return
        try:
            if entry.is_file(follow_symlinks=False):
                self.add_file(path, entry.stat(follow_symlinks=False))
            elif entry.is_dir(follow_symlinks=False):
                self.add_folder(path, links)
            elif entry.is_symlink():
                self.linked = True
                self.follow(entry.path, path, links)
            else:
                self.add_special(path)
        except FileNotFoundError:
            return  # gone since the folder was listed
        except OSError as error:
            self.report(path, f"It cannot be looked at ({error.strerror}), so it is left out.")

    def add_file(self, path: str, found: os.stat_result) -> None:
        ending = path[-6:]
        if ending != NOTEBOOK:
            if ending.lower() == NOTEBOOK:
                self.report(path, f"It makes no page, because its name does not end in {NOTEBOOK}: rename it.")
            elif path.rpartition("/")[2] == "4913":
                return  # vim writes and removes such a file to see whether it may
        self.files[path] = Stat(found.st_mtime_ns, found.st_size, found.st_ino)

    def add_special(self, path: str) -> None:
        if path.endswith((NOTEBOOK, ARCHIVE)):
            self.report(path, "It is not a regular file, so it is left out.")

    def add_folder(self, path: str, links: int) -> None:
        if path.endswith(NOTEBOOK):
            self.report(path, "It is a folder with a notebook's name, so it is left out with its files: rename it.")
        else:
            self.pending.append((path, links))

    def follow(self, link: str, path: str, links: int) -> None:
        """Take the file or folder a symbolic link leads to, if it is one that would be seen without the link, too."""
        target = os.path.realpath(link)
        inside = _below(self.real, target)
        if inside is None:
            self.report(path, "The symbolic link leads out of the source folder, so it is left out.")
            return
        if self.left_out(inside):
            self.report(path, "The symbolic link leads to a hidden or excluded place, so it is left out.")
            return
        if _is_private(inside) and not _is_private(path):
            self.report(
                path, "The symbolic link gives another name to a file that is not published, so it is left out."
            )
            return
        try:
            found = os.stat(link)
        except OSError:
            self.report(path, "The symbolic link leads nowhere, so it is left out.")
            return
        if stat.S_ISREG(found.st_mode):
            self.add_file(path, found)
        elif not stat.S_ISDIR(found.st_mode):
            self.add_special(path)
        elif links >= MAX_LINKS:
            self.report(path, f"More than {MAX_LINKS} symbolic links follow each other here, so it is left out.")
        elif target in self.ancestors(path):
            self.report(path, "The symbolic link leads back to a folder it lies in, so it is left out.")
        else:
            self.add_folder(path, links + 1)

    def ancestors(self, path: str) -> set[str]:
        """The real paths of the folders that `path` lies in."""
        return {self.real, *(os.path.realpath(f"{self.root}/{parent}") for parent in _parents(path))}

    def descend(self) -> None:
        """Look at all folders that were met; a list instead of recursion, because folders may be nested deeply."""
        while self.pending:
            folder, links = self.pending.pop()
            try:
                for entry in _entries(f"{self.root}/{folder}"):
                    self.look(entry, folder + "/", links)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                self.report(folder, f"The folder cannot be read ({error.strerror}), so its files are left out.")

    def left_out(self, path: str) -> bool:
        """Whether a scan would not get to `path`, because of its name or that of a folder it lies in."""
        if any(not part or ignored(part) for part in path.split("/")):
            return path != ""
        return path in self.excluded or any(parent in self.excluded for parent in _parents(path))

    def widened(self, path: str, known: Collection[str]) -> str:
        """The topmost part of `path` that no scan goes into now, or that was something else than a folder before."""
        for parent in _parents(path):
            if parent in known or parent.endswith(NOTEBOOK) or not _is_folder(f"{self.root}/{parent}"):
                return parent
        return path

    def look_at(self, paths: Collection[str]) -> bool:
        """Look at single files and folders; False when that is not enough and everything must be looked at."""
        wanted: dict[str, set[str]] = {}
        for path in paths:
            folder, _, name = path.rpartition("/")
            wanted.setdefault(folder, set()).add(name)
        for folder, names in wanted.items():
            prefix = folder + "/" if folder else ""
            try:
                for entry in _entries(f"{self.root}/{folder}", names):
                    self.look(entry, prefix, 0)
            except OSError:
                return False
        self.descend()
        return not self.linked


def _entries(folder: str, names: Collection[str] | None = None) -> list[os.DirEntry[str]]:
    """The entries of a folder, None: all of them, as they were at one moment.

    Of a file that is replaced by one of another name, one of the two is always there: a list with neither is wrong.
    """
    for _ in range(LISTS):
        with os.scandir(folder) as found:
            entries = [entry for entry in found if names is None or entry.name in names]
        try:
            for entry in entries:
                if entry.is_file(follow_symlinks=False) and not ignored(entry.name):
                    entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError:
            pass  # whoever looks at it says what is wrong with it
        break
    return entries


def _parents(path: str) -> Iterator[str]:
    """The folders a path lies in, from the top, without the root."""
    return (path[:index] for index, char in enumerate(path) if char == "/")


def _same_page(name: str) -> tuple[str, str]:
    """The notebook and the archive that make the page of a file or folder.

    Who replaces one by the other puts the new one there first; to look at the old one alone would show neither.
    """
    stem = name.removesuffix(ARCHIVE).removesuffix(NOTEBOOK)
    return stem + NOTEBOOK, stem + ARCHIVE


def _below(root: str, path: str) -> str | None:
    if path == root:
        return ""
    start = os.path.join(root, "")
    return path[len(start) :] if path.startswith(start) else None


def _is_private(path: str) -> bool:
    """Whether a file of this name is never published as it is, because it holds code or settings."""
    return path.endswith(NOTEBOOK) or path.rpartition("/")[2] in SETTINGS_FILES


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False
