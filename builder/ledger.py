"""What the last build published, and from what: read by the next one to find out what changed.

Two files per output folder: `scan`, text lines that are compared in every run, and `ledger.db` (SQLite), which is
opened only when something moved.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from builder.errors import OutputError
from builder.page import Finding, PageMeta, Ref
from builder.report import PageReport
from builder.scanning import Stat

if TYPE_CHECKING:
    import sqlite3

SCHEMA = 1
_DAMAGE = (1, 11, 26)
"""SQLITE_ERROR (tables of somebody else), SQLITE_CORRUPT, SQLITE_NOTADB: with these begin anew, with others stop."""


class PageRecord(Struct, frozen=True, array_like=True):
    """A page as it was published; `outputs` is empty for a draft and for a notebook that never rendered."""

    path: str
    file: str
    stat: tuple[int, int, int] = (0, 0, 0)
    digest: str = ""
    body_key: str = ""
    frame_key: str = ""
    meta: PageMeta | None = None
    refs: tuple[Ref, ...] = ()
    findings: tuple[Finding, ...] = ()
    outputs: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    """Output files that this page shares with others: media and files it refers to."""
    failure: str = ""


class FileRecord(Struct, frozen=True, array_like=True):
    """A published file: its own stat, and what its content was made from."""

    stat: tuple[int, int, int]
    origin: str


class Ledger:
    """The records of one output folder; a damaged database counts as none."""

    def __init__(self, state_dir: Path, output: Path) -> None:
        name = sha256(os.fsencode(output.resolve())).hexdigest()[:12]
        self.folder = state_dir / "outputs" / name
        self.pages: dict[str, PageRecord] = {}
        self.files: dict[str, FileRecord] = {}
        self.interrupted = False
        self._begun = False
        self._database: sqlite3.Connection | None = None
        self._saved_pages: dict[str, PageRecord] = {}
        self._saved_files: dict[str, FileRecord] = {}

    @property
    def _scan(self) -> Path:
        return self.folder / "scan"

    @property
    def _file(self) -> Path:
        return self.folder / "ledger.db"

    def unchanged(self, fingerprint: str, sources: Mapping[str, Stat], output: Path) -> list[PageReport] | None:
        """What the last build said of each page; None when settings, sources or published files are not the same."""
        try:
            text = self._scan.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None
        head, was_sources, was_files, was_pages = [*text.split("\n\n", 3), "", "", ""][:4]
        if head != fingerprint or was_sources != _lines(sources.items()) or not self._file.exists():
            return None
        root = f"{output}/"
        try:
            for line in filter(None, was_files.split("\n")):
                mtime, size, inode, name = line.split(" ", 3)
                now = os.stat(root + name)
                if now.st_mtime_ns != int(mtime) or now.st_size != int(size) or now.st_ino != int(inode):
                    return None
        except (OSError, ValueError):
            return None
        return [
            PageReport(path, "kept", message)
            for path, _, message in (line.partition("\t") for line in filter(None, was_pages.split("\n")))
        ]

    def open(self) -> None:
        """Read all records; afterwards `pages` and `files` may be changed, and `save` writes the difference."""
        import sqlite3

        self.folder.mkdir(parents=True, exist_ok=True)
        with _explained(self.folder):
            try:
                self._open()
            except (sqlite3.DatabaseError, msgspec.MsgspecError) as error:
                self.close()
                if getattr(error, "sqlite_errorcode", 1) not in _DAMAGE:
                    raise
                for path in self.folder.glob("ledger.db*"):
                    path.unlink()
                self._open()

    def recorded(self) -> dict[str, PageRecord]:
        """The pages as the last `save` left them, without opening the records for changes; none when they are damaged.

        For a program that builds nothing, and may not be able to write there.
        """
        import sqlite3

        address = self._file.absolute().as_uri()
        decode = msgspec.msgpack.Decoder(PageRecord).decode
        for mode in ("", "&immutable=1"):  # the second one where SQLite cannot write its own notes beside
            try:
                with closing(sqlite3.connect(f"{address}?mode=ro{mode}", timeout=10, uri=True)) as database:
                    if database.execute("PRAGMA user_version").fetchone()[0] == SCHEMA:
                        return {path: decode(blob) for path, blob in database.execute("SELECT * FROM pages")}
            except (sqlite3.Error, msgspec.MsgspecError):
                continue
        return {}

    def _open(self) -> None:
        import sqlite3

        self._database = sqlite3.connect(self._file, timeout=10, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=OFF")  # losing the newest rows costs a rebuild, never a page
        if self._database.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
            self._database.executescript(
                "DROP TABLE IF EXISTS pages; DROP TABLE IF EXISTS files; DROP TABLE IF EXISTS state;"
                "CREATE TABLE pages (path TEXT PRIMARY KEY, record BLOB) WITHOUT ROWID;"
                "CREATE TABLE files (name TEXT PRIMARY KEY, record BLOB) WITHOUT ROWID;"
                "CREATE TABLE state (interrupted INTEGER);"
                f"INSERT INTO state VALUES (1); PRAGMA user_version={SCHEMA};"
            )
        decode_page = msgspec.msgpack.Decoder(PageRecord).decode
        decode_file = msgspec.msgpack.Decoder(FileRecord).decode
        self.pages = {path: decode_page(blob) for path, blob in self._database.execute("SELECT * FROM pages")}
        self.files = {name: decode_file(blob) for name, blob in self._database.execute("SELECT * FROM files")}
        self.interrupted = bool(self._database.execute("SELECT interrupted FROM state").fetchone()[0])
        self._saved_pages, self._saved_files = dict(self.pages), dict(self.files)

    def forget_origins(self, names: Iterable[str]) -> None:
        """Forget from which source files others were copied, so that the next build copies them anew."""
        for name in list(names):
            if (record := self.files.get(name)) and "|" in record.origin:
                self.files[name] = FileRecord(record.stat, "")

    def begin(self) -> None:
        """Note that files are about to be written: if the run is killed, the next one looks for orphans."""
        if not self._begun:
            assert self._database
            self._scan.unlink(missing_ok=True)
            with _explained(self.folder):
                self._database.execute("UPDATE state SET interrupted = 1")
            self._begun = True

    def save(self) -> None:
        """Write what changed since `open` or the last `save`."""
        encode = msgspec.msgpack.Encoder().encode
        with _explained(self.folder), self._transaction() as database:
            for table, key, now, saved in (
                ("pages", "path", self.pages, self._saved_pages),
                ("files", "name", self.files, self._saved_files),
            ):
                changed = [(name, encode(record)) for name, record in now.items() if saved.get(name) is not record]
                database.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", changed)
                database.executemany(
                    f"DELETE FROM {table} WHERE {key} = ?", [(name,) for name in saved.keys() - now.keys()]
                )
            database.execute("UPDATE state SET interrupted = 0")
        self._saved_pages, self._saved_files = dict(self.pages), dict(self.files)
        self.interrupted = self._begun = False

    def save_scan(self, fingerprint: str, sources: Mapping[str, Stat], reports: Iterable[PageReport]) -> None:
        """Write the lines that `unchanged` compares; only after a build in which everything was looked at."""
        published = _lines((name, record.stat) for name, record in self.files.items())
        said = "\n".join(
            f"{page.path}\t{' '.join(page.message.split())}" for page in reports if page.status != "removed"
        )
        text = f"{fingerprint}\n\n{_lines(sources.items())}\n\n{published}\n\n{said}"
        temporary = self._scan.with_name(f"scan.{os.getpid()}")
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
        os.replace(temporary, self._scan)

    def _transaction(self) -> _Transaction:
        assert self._database
        return _Transaction(self._database)

    def close(self) -> None:
        """Close the database, if it was opened."""
        if self._database:
            self._database.close()
            self._database = None


class _Transaction:
    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> sqlite3.Connection:
        self._database.execute("BEGIN IMMEDIATE")
        return self._database

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._database.in_transaction:  # SQLite itself rolls back when the disk is full
            self._database.execute("ROLLBACK" if kind else "COMMIT")


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Say what SQLite cannot do as OutputError: a full disk, a folder that may not be written to."""
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        raise OutputError(f"{folder}: the records of the site cannot be kept: {error}") from error


def _lines(entries: Iterable[tuple[str, tuple[int, int, int]]]) -> str:
    return "\n".join([f"{stat[0]} {stat[1]} {stat[2]} {name}" for name, stat in entries])
