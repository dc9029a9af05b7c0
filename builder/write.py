"""The only place that writes to the output: whole files or nothing, by one builder at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from builder.errors import OutputError
from builder.scanning import Stat

MARKER = ".nbfolio-output"
STAGING = ".nbfolio-staging"
MARKER_TEXT = "This folder is written by nbfolio: build-site replaces and removes files in it.\n"

_held: set[int] = set()
"""Locked descriptors. A lock belongs to all processes that inherit one, so forked workers give them up."""


def _give_up_locks() -> None:
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_give_up_locks)


def stat_of(status: os.stat_result) -> Stat:
    """The three numbers that tell whether a file was replaced or changed."""
    return Stat(status.st_mtime_ns, status.st_size, status.st_ino)


class OutputFolder:
    """An output folder that this process may write to, from `open_output`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._staging = root / STAGING
        self._folders: set[str] = set()
        self._count = 0

    def write(self, name: str, data: bytes) -> Stat:
        """Publish `data` as output file `name`; readers see the old file or the new one, whole."""
        with self._staged() as temporary:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                stat = stat_of(os.fstat(file.fileno()))
            self._publish(temporary, name)
        return stat

    def copy(self, source: Path, name: str) -> Stat:
        """Publish a copy of a file from outside, byte for byte; OSError when that file cannot be opened."""
        with open(source, "rb") as original, self._staged() as temporary:
            with open(temporary, "wb") as file:
                shutil.copyfileobj(original, file, 1 << 20)
            stat = stat_of(os.stat(temporary))
            self._publish(temporary, name)
        return stat

    def link(self, source: Path, name: str) -> Stat:
        """Publish a file that never changes, as a hard link where the file system has them, else as a copy."""
        with self._staged() as temporary:
            try:
                os.link(source, temporary)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOSPC):
                    raise
                shutil.copyfile(source, temporary)
            stat = stat_of(os.stat(temporary))
            self._publish(temporary, name)
        return stat

    def stat(self, name: str) -> Stat | None:
        """The stat of an output file as it lies there, None when there is none."""
        try:
            return stat_of(os.stat(self.root / name, follow_symlinks=False))
        except OSError:
            return None

    def remove(self, name: str) -> None:
        """Take an output file away, and the folders that became empty with it."""
        path = self.root / name
        try:
            path.unlink(missing_ok=True)
        except (IsADirectoryError, PermissionError):
            if not path.is_dir():
                raise
        for folder in path.parents:
            if folder == self.root:
                break
            self._folders.discard(str(folder))
            try:
                folder.rmdir()
            except OSError:
                break

    def files(self, tree: str) -> Iterator[str]:
        """The output files that lie below one top-level folder."""
        for folder, _, names in os.walk(self.root / tree):
            base = os.path.relpath(folder, self.root)
            yield from (f"{base}/{name}" for name in names)

    @contextmanager
    def _staged(self) -> Iterator[str]:
        self._count += 1
        temporary = f"{self._staging}/{self._count}"
        try:
            yield temporary
        except OSError as error:
            with suppress(OSError):
                os.unlink(temporary)
            raise OutputError(f"{self.root}: {_reason(error)}") from error

    def _publish(self, temporary: str, name: str) -> None:
        target = f"{self.root}/{name}"
        folder = target.rpartition("/")[0]
        if folder not in self._folders:
            self._make_folder(folder)
        try:
            os.replace(temporary, target)
        except FileNotFoundError:
            self._folders.clear()
            self._make_folder(folder)
            os.replace(temporary, target)
        except IsADirectoryError:
            # a page's folder stood where a file goes now; what lies in it has no page any more
            shutil.rmtree(target)
            self._folders.clear()
            os.replace(temporary, target)

    def _make_folder(self, folder: str) -> None:
        try:
            os.makedirs(folder, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            blocking = next(parent for parent in (Path(folder), *Path(folder).parents) if parent.is_file())
            blocking.unlink()
            os.makedirs(folder, exist_ok=True)
        self._folders.add(folder)


@contextmanager
def open_output(root: Path, source: Path, *, clean: bool = False) -> Iterator[OutputFolder]:
    """Lock an output folder and make it ready; OutputError says why it cannot be used.

    A folder that equals or contains the source is always refused, a filled one without our marker unless `clean`.
    """
    _refuse_unfit(root, source, clean)
    try:
        root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root / MARKER, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(f"{root}: {_reason(error)}") from error
    _held.add(descriptor)
    try:
        _lock(descriptor, root)
        try:
            yield _prepared(root, descriptor)
        finally:
            shutil.rmtree(root / STAGING, ignore_errors=True)
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _prepared(root: Path, descriptor: int) -> OutputFolder:
    """A locked output folder, with an empty staging folder and a word about who holds it."""
    try:
        os.ftruncate(descriptor, 0)
        with suppress(OSError):  # on a full disk only the number in another builder's message is missing
            os.pwrite(descriptor, f"{MARKER_TEXT}{os.getpid()}\n".encode(), 0)
        shutil.rmtree(root / STAGING, ignore_errors=True)
        (root / STAGING).mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{root}: {_reason(error)}") from error
    return OutputFolder(root)


def _refuse_unfit(root: Path, source: Path, clean: bool) -> None:
    output, origin = root.resolve(), source.resolve()
    if output == origin or output in origin.parents:
        raise OutputError(f"The output {root} is or contains the source {source}; choose another folder with --output.")
    if root.exists() and not root.is_dir():
        raise OutputError(f"The output {root} is a file; choose another folder with --output.")
    if not clean and root.is_dir() and not (root / MARKER).exists() and any(root.iterdir()):
        raise OutputError(
            f"The output {root} is not empty and was not made by build-site; "
            "choose another folder with --output, or allow it with --clean."
        )


def _lock(descriptor: int, root: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lines = os.pread(descriptor, 500, 0).decode(errors="replace").splitlines()
        holder = f" (process {lines[-1]})" if lines and lines[-1].isdigit() else ""
        raise OutputError(
            f"Another builder{holder} is writing to {root}; stop it first or choose another output."
        ) from None


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "no space left on the device; pages published so far are whole, run again when there is room"
    if error.errno == errno.EDQUOT:
        return "the disk quota is used up; pages published so far are whole, run again when there is room"
    return error.strerror or str(error)
