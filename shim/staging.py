"""The hidden folder in which changes of the source folder wait for their place, each in a folder of its own.

It lies in the source folder, so that everything can be renamed from and to it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shim.replacing import KEPT, Change, StoreError, finish, reason

STAGING = ".nbfolio-uploads"
"""Hidden, so neither scanned nor published."""


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
            raise StoreError(f"The notebooks cannot be changed: {reason(error)}") from error
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
            finish(self._root, folder)
            shutil.rmtree(folder)
        finally:
            os.close(lock)
