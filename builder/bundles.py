"""ZIP bundles: opening them, reading and unpacking what is in them."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import IO

from builder.errors import NotebookError
from builder.paths import shown
from builder.sources import is_public
from builder.zipcheck import INDEX, BundleLimits, Zip64Error, check_entries, entry_names, find_directory

__all__ = ["Bundle", "BundleLimits", "is_bundle", "open_bundle"]

DEFAULT_LIMITS = BundleLimits()

_CHUNK = 256 * 1024
_MAGIC = b"PK"
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error)
"""What zipfile raises for archives that are damaged or use features it lacks."""


class Bundle:
    """An open archive whose whole directory was found harmless; a context manager that closes it.

    Names are POSIX paths below the bundle. Reading raises NotebookError when an entry turns out to be damaged.
    """

    def __init__(self, archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> None:
        self._archive = archive
        self._entries = entries
        self.names = tuple(sorted(entries))
        """All files, hidden ones and notebooks, too: what a kernel of the dashboard may see."""
        self.public = tuple(name for name in self.names if is_public(name))
        """The files that are published with the page."""

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        file = self._archive.fp
        self._archive.close()
        if file is not None:
            file.close()

    def read(self, name: str) -> bytes:
        """The content of a file; KeyError when `names` does not have it."""
        content = BytesIO()
        self.copy(name, content)
        return content.getvalue()

    def copy(self, name: str, target: IO[bytes]) -> None:
        """Write the content of a file to `target`, without holding all of it in memory."""
        entry = self._entries[name]
        left = entry.file_size
        with _explained(f"The file {shown(name)} in the ZIP is damaged"), self._archive.open(entry) as source:
            while chunk := source.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise zipfile.BadZipFile("it is larger than its directory says")
                target.write(chunk)
            if left:
                raise zipfile.BadZipFile("it is smaller than its directory says")

    def extract(self, folder: Path) -> None:
        """Unpack all files into `folder`, which must not exist; it is removed again when that fails."""
        folder.mkdir(mode=0o700)
        try:
            for name in self.names:
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as target:
                    self.copy(name, target)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def open_bundle(path: Path, limits: BundleLimits = DEFAULT_LIMITS) -> Bundle:
    """Open a ZIP bundle; NotebookError with one sentence when it is none, breaks a rule or exceeds a limit."""
    file = _open(path)
    try:
        size = os.fstat(file.fileno()).st_size
        if size > limits.max_packed:
            raise NotebookError(f"The ZIP has {size} bytes, more than the {limits.max_packed} allowed.")
        directory = find_directory(file, size)
        file.seek(0)
        if file.read(2) != _MAGIC:
            raise NotebookError("The ZIP has bytes before its start, or it is damaged: pack it again.")
        for count, _ in enumerate(entry_names(file, directory), 1):
            if count > limits.max_entries:
                raise NotebookError(f"The ZIP has more than the {limits.max_entries} entries allowed.")
        with _explained("The ZIP cannot be read"):
            archive = zipfile.ZipFile(file)
        return Bundle(archive, check_entries(archive.infolist(), directory, limits))
    except BaseException:
        file.close()
        raise


def is_bundle(path: Path) -> bool:
    """Whether a ZIP has `index.ipynb` at its root, so that it is a dashboard and no data.

    Looks at the directory only. True, too, for a ZIP that is cut off or damaged, so that `open_bundle` says what is
    wrong and the page is not taken for removed. False for what is no ZIP at all.
    """
    try:
        with _open(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size and file.read(2) != _MAGIC:
                return False
            names = entry_names(file, find_directory(file, size))
            return any(name.removeprefix(b"./") == INDEX.encode() for name in names)
    except Zip64Error:
        return False
    except NotebookError:
        return True


def _open(path: Path) -> IO[bytes]:
    """Open a regular file only: a pipe would block."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise NotebookError("The ZIP is not a regular file.")
        return path.open("rb")
    except OSError as error:
        raise NotebookError(f"The ZIP cannot be opened ({error.strerror}).") from error


@contextmanager
def _explained(sentence: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        reason = shown(str(error))[1:-1].rstrip(".")
        raise NotebookError(f"{sentence}: {reason}." if reason else f"{sentence}.") from error
