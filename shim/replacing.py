"""Changes of the source folder that happen wholly or not at all, also when the program is killed in between.

Every change has a folder of its own in a hidden staging folder of the same file system: the new file waits there for
its place, what it replaces waits there until the change is final, and a journal says what is still to be done.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from builder.errors import OutputError

REPLACED = "replaced"
"""The name in the folder of a change of what was at its target before."""
KEPT = "kept-"
"""What the folders of changes begin with that nobody but a person may remove."""


class StoreError(OutputError):
    """Raised when the source folder cannot be changed; its sentence names no path of the machine."""


class Change:
    """One change, at most once applied; `undo` takes it back, the end of its `Staging.change` makes it final."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder
        self.upload = folder / "upload"
        """Where the new file is written before it takes its place."""
        self._target: tuple[Path, str | None] | None = None
        self._moved: list[tuple[Path, Path]] = []
        self._made: list[Path] = []

    def apply(self, target: str | None, others: Sequence[str]) -> None:
        """Put the upload at `target`, then take `others` (files or folders) away; StoreError: nothing was changed.

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
            raise StoreError(f"The notebooks cannot be changed: {reason(error)}") from error

    def undo(self) -> None:
        """Bring everything back; what somebody else has put there meanwhile is left alone.

        StoreError when that cannot be done: the files stay in the staging folder then, for somebody to look after.
        """
        try:
            self._undo()
        except OSError as error:
            kept = self._folder.with_name(f"{KEPT}{self._folder.name}")
            with suppress(OSError):
                os.rename(self._folder, kept)
            raise StoreError(
                f"What was replaced cannot be put back ({reason(error)}); it lies in {kept.parent.name}/{kept.name}."
            ) from error

    def _undo(self) -> None:
        undo = _Undo(
            [(self._relative(path), old.name) for path, old in reversed(self._moved)],
            (self._relative(self._target[0]), self._target[1]) if self._target else None,
        )
        journal = self._folder / "journal"
        if journal.exists():
            try:
                _write_json(journal, {"undo": undo})
            except OSError:  # a full disk, which may be why; without a journal nothing more is taken away
                journal.unlink()
        undo.do(self._root, self._folder)
        self._moved.clear()
        self._target = None
        for made in reversed(self._made):
            with suppress(OSError):
                made.rmdir()
        self._made.clear()

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _place(self, path: Path) -> None:
        self._make_folders(path.parent)
        identity = _identity(self.upload)
        _keep_beside(path, self._folder / REPLACED)
        os.replace(self.upload, path)
        self._target = path, identity
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
        _write_json(self._folder / "journal", {"target": target, "others": known})


class _Undo(NamedTuple):
    """What it takes to undo a change; doing it twice is as good as once."""

    moved: Sequence[tuple[str, str]]
    """Where something was, and its name in the change's folder."""
    target: tuple[str, str | None] | None
    """Where the new file was put, and its identity: an inode alone may be somebody else's by now."""

    def do(self, root: Path, folder: Path) -> None:
        for path, old in self.moved:
            _restore(folder / old, root / path)
        if self.target:
            path, identity = self.target
            if _identity(root / path) == identity:
                try:
                    os.replace(folder / REPLACED, root / path)
                except FileNotFoundError:  # there was none before
                    (root / path).unlink()


def finish(root: Path, folder: Path) -> None:
    """Finish or take back the change of a program that was killed; what was placed is whole, what waits goes."""
    match _read_json(folder / "journal"):
        case {"undo": [list(moved), target]}:
            _Undo(moved, target).do(root, folder)
        case {"target": str() | None as target, "others": dict(others)}:
            if not target or not (folder / "upload").exists():
                _take_away_late(root, folder, others)


def _take_away_late(root: Path, folder: Path, others: Mapping[str, object]) -> None:
    for number, (other, identity) in enumerate(others.items()):
        path = root / other
        # What has the name now may be new: only what was there then is taken away.
        if _identity(path) == identity:
            os.rename(path, folder / f"late-{number}")


def _keep_beside(path: Path, old: Path) -> None:
    """Keep the file `path`, if there is one, under a second name."""
    try:
        os.link(path, old, follow_symlinks=False)
    except FileNotFoundError:
        return
    except OSError:  # a file system without hard links
        shutil.copy2(path, old, follow_symlinks=False)


def _restore(old: Path, path: Path) -> None:
    """Put a file or folder back unless its place is taken."""
    try:
        os.link(old, path, follow_symlinks=False)
    except (FileExistsError, FileNotFoundError):
        return
    except OSError:  # a folder, or a file system without hard links
        if not os.path.lexists(path):
            os.rename(old, path)


def _identity(path: Path) -> str | None:
    """What tells that a file, or a folder with all that is in it, is still the same one."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    own = f"{found.st_ino} {found.st_mtime_ns}"
    if not stat.S_ISDIR(found.st_mode):
        return own
    with os.scandir(path) as entries:
        inner = sorted(f"{entry.name} {_identity(path / entry.name)}" for entry in entries)
    return sha256(os.fsencode("\n".join([own, *inner]))).hexdigest()


def _write_json(path: Path, content: object) -> None:
    """Replace a file in one step, for good."""
    temporary = path.with_suffix(".new")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync(path.parent)


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _sync(folder: Path) -> None:
    """Make renames in a folder last; file systems that cannot are none of our business."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def reason(error: OSError) -> str:
    """Why the source folder cannot be changed, as the end of a sentence without paths."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "there is no space left for them."
    return f"{os.strerror(error.errno or 0)}."
