"""The rules a ZIP bundle must keep: an archive comes from anybody, so its directory is checked before it is read."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from typing import IO, NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipInfo

from builder.errors import NotebookError, UnsafePathError
from builder.paths import safe_relative, shown
from builder.sources import fold

INDEX = "index.ipynb"
"""The notebook that makes a ZIP a dashboard, at its root."""
MAX_DEPTH = 64
"""Folders in folders; more would make checking the names slow."""
RATIO_FROM = 1024 * 1024
"""Entries that unpack to less than this may shrink as well as they can."""

_END = struct.Struct("<4s4H2LH")
_ENTRY = struct.Struct("<4s6H3L5H2L")


class BundleLimits(NamedTuple):
    """How large an archive may be; sizes in bytes."""

    max_packed: int = 200 * 1024 * 1024
    max_unpacked: int = 500 * 1024 * 1024
    max_entries: int = 10_000
    max_ratio: int = 500
    """Unpacked to packed size of one entry."""


class Zip64Error(NotebookError):
    """The archive is made for more than 4 GiB or 65,535 entries."""


class Directory(NamedTuple):
    """Where the central directory lies in the file, and how many entries it claims to have."""

    start: int
    size: int
    entries: int


def find_directory(file: IO[bytes], size: int) -> Directory:
    """Where the central directory lies, which must end where the end record starts, and that at the end of the file."""
    tail_size = min(size, _END.size + 0xFFFF)
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    at = len(tail) - _END.size
    if at < 0 or not (tail.startswith(b"PK\5\6", at) and tail.endswith(b"\0\0")):
        at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        raise NotebookError("The file is not a ZIP, or it is cut off.")
    _, disk, first_disk, here, count, length, start, comment = _END.unpack_from(tail, at)
    # zipfile follows such a locator even when the end record itself says all there is to say
    located = at >= 20 and tail.startswith(b"PK\6\7", at - 20)
    if located or 0xFFFF in (disk, first_disk, here, count) or 0xFFFFFFFF in (length, start):
        raise Zip64Error("The ZIP is in the ZIP64 format for huge archives: pack it again without that.")
    if disk or first_disk or here != count:
        raise NotebookError("The ZIP is one part of several: pack it again as one file.")
    if at + _END.size + comment != len(tail):
        raise NotebookError("The ZIP has bytes after its end: pack it again.")
    if start + length != size - len(tail) + at:
        raise NotebookError("The ZIP has bytes before its start, or it is damaged: pack it again.")
    return Directory(start, length, count)


def entry_names(file: IO[bytes], directory: Directory) -> Iterator[bytes]:
    """The raw names of all entries, one by one, so that a limit can stop before a list of millions is made."""
    left, count = directory.size, 0
    file.seek(directory.start)
    while left:
        header = file.read(_ENTRY.size)
        if left < _ENTRY.size or header[:4] != b"PK\1\2":
            raise NotebookError("The ZIP's directory is damaged.")
        name, extra, comment = _ENTRY.unpack(header)[10:13]
        left -= _ENTRY.size + name + extra + comment
        if left < 0:
            raise NotebookError("The ZIP's directory is damaged.")
        yield file.read(name)
        file.seek(extra + comment, os.SEEK_CUR)
        count += 1
    if count != directory.entries:
        raise NotebookError("The ZIP's directory does not have as many entries as it says.")


def check_entries(infos: list[ZipInfo], directory: Directory, limits: BundleLimits) -> dict[str, ZipInfo]:
    """The files by safe name; raises NotebookError for the first entry that breaks a rule."""
    _check_sizes(infos, directory, limits)
    tree = _Names()
    entries: dict[str, ZipInfo] = {}
    for info in infos:
        name = _decoded(info)
        while name.startswith("./"):  # written by the Jupyter bundler and by `zip -r x.zip .`
            name = name[2:]
        if not name and info.orig_filename.startswith("./"):
            continue
        is_folder = name.endswith("/")
        name = _safe(name.removesuffix("/"))
        _check_kind(info, name, is_folder)
        tree.add(name, is_folder)
        if not is_folder and not name.startswith("__MACOSX/"):
            entries[name] = info
    if INDEX not in entries:
        raise NotebookError(_no_index(entries, tree))
    if entries[INDEX].file_size > limits.max_packed:
        raise NotebookError(f"The {INDEX} in the ZIP has more than the {limits.max_packed} bytes allowed.")
    return entries


def _check_sizes(infos: list[ZipInfo], directory: Directory, limits: BundleLimits) -> None:
    """Bounds on what may come out, and no two entries made of the same bytes."""
    if sum(info.file_size for info in infos) > limits.max_unpacked:
        raise NotebookError(f"The ZIP unpacks to more than the {limits.max_unpacked} bytes allowed.")
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise NotebookError("The ZIP is damaged: entries overlap.")
        end = info.header_offset + 30 + info.compress_size
        if info.file_size > max(RATIO_FROM, info.compress_size * limits.max_ratio):
            name = shown(info.orig_filename)
            raise NotebookError(f"The file {name} in the ZIP unpacks to over {limits.max_ratio} times its packed size.")
    if end > directory.start:
        raise NotebookError("The ZIP is damaged: entries overlap its directory.")


def _decoded(info: ZipInfo) -> str:
    """The name in the directory; one without the UTF-8 mark is UTF-8 all the same when it can be."""
    name = info.orig_filename
    if not name.isascii() and not info.flag_bits & 0x800:
        try:
            return name.encode("cp437").decode()
        except UnicodeError:
            return name
    return name


def _safe(name: str) -> str:
    try:
        if name.count("/") >= MAX_DEPTH:
            raise UnsafePathError(f"The path {shown(name)} is more than {MAX_DEPTH} folders deep.")
        if name[1:2] == ":" and name[0].isalpha():
            raise UnsafePathError(f"The path {shown(name)} begins with a drive letter.")
        return safe_relative(name, hidden=True)
    except UnsafePathError as error:
        raise NotebookError(f"The ZIP has an entry with a forbidden name. {error}") from error


def _check_kind(info: ZipInfo, name: str, is_folder: bool) -> None:
    """Only plain files and folders, not encrypted, stored or deflated."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise NotebookError(f"The ZIP has a symbolic link, {shown(name)}: pack the file it leads to instead.")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise NotebookError(f"The ZIP has an entry that is neither file nor folder: {shown(name)}.")
    if (is_folder and info.file_size) or (kind == stat.S_IFDIR and not is_folder):
        raise NotebookError(f"The ZIP has an entry that is both file and folder: {shown(name)}.")
    if info.flag_bits & 0x2041:
        raise NotebookError(f"The file {shown(name)} in the ZIP is encrypted: pack it without a password.")
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise NotebookError(f"The file {shown(name)} in the ZIP is compressed by an unusual method: use 'deflate'.")


class _Names:
    """The files and folders of an archive, for finding those that cannot stand beside each other everywhere."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[str, bool]] = {}

    def add(self, name: str, is_folder: bool) -> None:
        """Take a name and the folders it lies in; NotebookError when it clashes with one that is there."""
        folded = fold(name)
        if not is_folder and self.seen.get(folded) == (name, False):
            raise NotebookError(f"The ZIP has two entries named {shown(name)}.")
        while name:
            other, other_is_folder = self.seen.setdefault(folded, (name, is_folder))
            if other != name:
                both = f"{shown(other)} and {shown(name)}"
                raise NotebookError(f"The ZIP has {both}, which are the same name on many systems: rename one.")
            if other_is_folder != is_folder:
                raise NotebookError(f"The ZIP has {shown(name)} both as a file and as a folder.")
            name, folded, is_folder = name.rpartition("/")[0], folded.rpartition("/")[0], True


def _no_index(entries: dict[str, ZipInfo], tree: _Names) -> str:
    """Why there is no page, with the likely mistake."""
    if (INDEX, True) in tree.seen.values():
        return f"The {INDEX} in the ZIP is a folder, not a notebook."
    wrong = next((name for name in entries if name.lower() == INDEX), None)
    if wrong:
        return f"The ZIP has no file {INDEX}: rename {shown(wrong)}."
    nested = next((name for name in sorted(entries) if name.endswith("/" + INDEX)), None)
    if nested:
        return f"The ZIP has no {INDEX} at its root, but {shown(nested)}: pack what is in that folder, not the folder."
    return f"The ZIP has no file {INDEX} at its root."
