"""What must survive a restart, in one SQLite file: the one place where the server writes records of its own."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from builder.errors import NbfolioError

FILE = "state.db"
BUSY_SECONDS = 10.0
"""How long one process waits for another one that writes."""

STEPS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE sessions (id BLOB PRIMARY KEY, user TEXT NOT NULL, fingerprint TEXT NOT NULL,"
        " began REAL NOT NULL, seen REAL NOT NULL) WITHOUT ROWID",
        "CREATE INDEX sessions_of_user ON sessions (user, began)",
    ),
    (
        "CREATE TABLE kernels (id TEXT PRIMARY KEY, gateway TEXT NOT NULL, kernel TEXT NOT NULL,"
        " ended INTEGER NOT NULL, record TEXT NOT NULL) WITHOUT ROWID",
    ),
    (
        "CREATE TABLE environments (name TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE instances (id TEXT PRIMARY KEY, namespace TEXT NOT NULL, name TEXT NOT NULL,"
        " record TEXT NOT NULL, UNIQUE (namespace, name)) WITHOUT ROWID",
    ),
)
"""What makes each version of the schema from the one before; steps are added and never changed."""

Parameters = Sequence[Any]


class StateError(NbfolioError):
    """Raised when the records cannot be read or kept: damaged, of a newer version, no space, no right to write."""


class State:
    """The records of one server; every method may be called from any thread, by several processes at a time.

    One connection behind one lock: reads take microseconds and writes are rare (a login, a kernel that starts), so a
    connection for each thread would save nothing.
    """

    def __init__(self, folder: Path, steps: Sequence[Sequence[str]] = STEPS) -> None:
        """Open `state.db` in `folder`, or make both, for their owner alone. Raises StateError."""
        self._path = folder / FILE
        self._lock = threading.RLock()
        with self._explained():
            _make_private(folder, self._path)
            self._database = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(steps)
            except BaseException:
                self._database.close()
                raise

    def read(self, sql: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """All rows of a query. Raises StateError."""
        with self._lock, self._explained():
            return self._database.execute(sql, parameters).fetchall()

    def write(self, sql: str, parameters: Parameters = ()) -> int:
        """Run one statement and give the number of rows it changed. Raises StateError."""
        with self._lock, self._explained():
            return self._database.execute(sql, parameters).rowcount

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Let the reads and writes inside happen together or, after an exception, not at all; they cannot be nested."""
        with self._lock:
            with self._explained():
                self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._roll_back()
                raise
            try:
                with self._explained():
                    self._database.execute("COMMIT")
            except StateError:
                self._roll_back()
                raise

    def close(self) -> None:
        """Close the file; nothing can be read or written afterwards."""
        with self._lock:
            self._database.close()

    def _roll_back(self) -> None:
        # SQLite itself rolls back when the disk is full.
        with suppress(sqlite3.Error):
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")

    def _prepare(self, steps: Sequence[Sequence[str]]) -> None:
        database = self._database
        self._use_wal()
        # A power failure may lose the last logins and can damage nothing.
        database.execute("PRAGMA synchronous=NORMAL")
        if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("its pages do not fit together")
        with self.transaction():
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version > len(steps):
                raise StateError(f"{self._path} is of a newer version of nbfolio; use that, or another state_dir.")
            for statement in (statement for step in steps[version:] for statement in step):
                database.execute(statement)
            database.execute(f"PRAGMA user_version={len(steps)}")

    def _use_wal(self) -> None:
        end = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._database.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                # Here SQLite does not wait by itself for another process that does the same.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(0.02)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StateError(f"{self._path} cannot be used: {error}.") from error
        except sqlite3.DatabaseError as error:
            advice = "Restore it, or move it away to begin anew without anybody logged in."
            raise StateError(f"{self._path} is damaged: {error}. {advice}") from error
        except OSError as error:
            raise StateError(f"{error.filename or self._path} cannot be used: {error.strerror}.") from error


def _make_private(folder: Path, file: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A build may have made the folder, for everybody to read. What many share (/tmp) stays as it is.
    if not folder.stat().st_mode & stat.S_ISVTX:
        with suppress(PermissionError):
            folder.chmod(0o700)
    # Only one that is new is opened here: closing it would end the locks that SQLite has on it in this process.
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    # SQLite gives the files beside this one the same rights.
    file.chmod(0o600)
