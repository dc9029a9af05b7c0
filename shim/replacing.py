"""Changes of the source folder that happen wholly or not at all, also when the program is killed in between.

Every change has a folder of its own in a hidden staging folder of the same file system: the new file waits there for
its place, what it replaces waits there until the change is final, and a journal says what is still to be done.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from builder.errors import OutputError

STAGING = ".nbfolio-uploads"
"""Hidden, so neither scanned nor published."""

KEPT = "kept-"
"""What the folders of changes begin with that nobody but a person may remove."""

Identity = tuple[int, int]
"""What tells that a file or folder is still the same one: inode and modification time in nanoseconds."""


class Change:
    """One change, at most once applied; `undo` takes it back, the end of its `Staging.change` makes it final."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder
        self.upload = folder / "upload"
        """Where the new file is written before it takes its place."""
        self._target: tuple[Path, int] | None = None
        self._replaced: Path | None = None
        self._moved: list[tuple[Path, Path]] = []
        self._made: list[Path] = []

    def apply(self, target: str | None, others: Sequence[str]) -> None:
        """Put the upload at `target`, then take `others` (files or folders) away; OutputError: nothing was changed.

        All are relative to the source folder.
        """
        try:
            if len(others) + bool(target) > 1:
                self._write_journal(target, others)
            if target:
                self._place(self._root / target)
            for number, other in enumerate(others):
                self._take_away(self._root / other, self._folder / f"old-{number}")
        except OSError as error:
            self.undo()
            raise OutputError(f"The notebooks cannot be changed: {_reason(error)}") from error

    def undo(self) -> None:
        """Bring everything back; what somebody else has put there meanwhile is left alone.

        OutputError when that cannot be done: the files stay in the staging folder then, for somebody to look after.
        """
        try:
            self._undo()
        except OSError as error:
            kept = self._folder.with_name(f"{KEPT}{self._folder.name}")
            with suppress(OSError):
                os.rename(self._folder, kept)
            raise OutputError(f"What was replaced cannot be put back ({_reason(error)}); it lies in {kept}.") from error

    def _undo(self) -> None:
        for path, old in reversed(self._moved):
            _restore(old, path)
        self._moved.clear()
        # What is back must not be taken away by `recover` once the new file has gone.
        (self._folder / "journal").unlink(missing_ok=True)
        if self._target:
            path, inode = self._target
            if _inode(path) == inode:
                if self._replaced:
                    os.replace(self._replaced, path)
                else:
                    path.unlink()
            self._target = None
        for made in reversed(self._made):
            with suppress(OSError):
                made.rmdir()
        self._made.clear()

    def _place(self, path: Path) -> None:
        self._make_folders(path.parent)
        inode = os.stat(self.upload).st_ino
        old = self._folder / "replaced"
        if _keep_beside(path, old):
            self._replaced = old
        os.replace(self.upload, path)
        self._target = path, inode
        _sync(path.parent)

    def _make_folders(self, folder: Path) -> None:
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for path in reversed(missing):
            with suppress(FileExistsError):
                path.mkdir()
                self._made.append(path)

    def _take_away(self, path: Path, old: Path) -> None:
        with suppress(FileNotFoundError):  # gone by itself is gone
            os.rename(path, old)
            self._moved.append((path, old))
            _sync(path.parent)

    def _write_journal(self, target: str | None, others: Sequence[str]) -> None:
        known = {other: identity for other in others if (identity := _identity(self._root / other))}
        temporary = self._folder / "journal.new"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump({"target": target, "others": known}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._folder / "journal")
        _sync(self._folder)


class Staging:
    """The staging folder below one source folder; several programs may use it at a time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / STAGING

    @contextmanager
    def change(self) -> Iterator[Change]:
        """A change of the source folder; afterwards nothing of it is left in the staging folder."""
        try:
            folder = self._new_folder()
            lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise OutputError(f"The notebooks cannot be changed: {_reason(error)}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield Change(self._root, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
            with suppress(OSError):
                self._folder.rmdir()

    def _new_folder(self) -> Path:
        """A folder for one change; whoever ends another change at the same time may take the empty one above away."""
        folder = self._folder / secrets.token_hex(8)
        for _ in range(100):
            with suppress(FileExistsError):
                self._folder.mkdir(mode=0o700)
            with suppress(FileNotFoundError):
                folder.mkdir(mode=0o700)
                return folder
        raise FileNotFoundError(errno.ENOENT, "", str(folder))

    def recover(self) -> None:
        """Finish or take back changes of programs that were killed, and remove what they left."""
        try:
            left = [
                path
                for path in self._folder.iterdir()
                if not path.name.startswith(KEPT) and path.is_dir() and not path.is_symlink()
            ]
        except OSError:
            return
        for folder in left:
            with suppress(OSError):
                self._recover(folder)
        with suppress(OSError):
            self._folder.rmdir()

    def _recover(self, folder: Path) -> None:
        lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # somebody is at work
            self._finish(folder)
            shutil.rmtree(folder)
        finally:
            os.close(lock)

    def _finish(self, folder: Path) -> None:
        """What was placed is whole, so the rest of its change is done; what still waits for its place goes."""
        try:
            journal = json.loads((folder / "journal").read_bytes())
            target, others = journal["target"], dict(journal["others"])
        except (OSError, ValueError, KeyError, TypeError):
            return
        if target and (folder / "upload").exists():
            return
        for number, (other, identity) in enumerate(others.items()):
            path = self._root / other
            # What has the name now may be new: only what was there then is taken away.
            if _identity(path) == tuple(identity):
                os.rename(path, folder / f"late-{number}")


def _keep_beside(path: Path, old: Path) -> bool:
    """Keep the file `path` under a second name; False when there is none."""
    try:
        os.link(path, old, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:  # a file system without hard links
        shutil.copy2(path, old, follow_symlinks=False)
    return True


def _restore(old: Path, path: Path) -> None:
    """Put a file or folder back unless its place is taken."""
    try:
        os.link(old, path, follow_symlinks=False)
    except FileExistsError:
        return
    except OSError:  # a folder, or a file system without hard links
        if not os.path.lexists(path):
            os.rename(old, path)


def _identity(path: Path) -> Identity | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _inode(path: Path) -> int | None:
    try:
        return os.lstat(path).st_ino
    except OSError:
        return None


def _sync(folder: Path) -> None:
    """Make renames in a folder last; file systems that cannot are none of our business."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "there is no space left for them."
    return f"{os.strerror(error.errno or 0)}."
