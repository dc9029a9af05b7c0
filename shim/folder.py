"""The published folder: files opened without following links, and the small ones kept in memory while they are true."""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import threading
import time
from collections import OrderedDict
from email.utils import formatdate
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from builder.errors import UnsafePathError
from builder.paths import safe_relative
from shim.headers import Headers
from shim.media_types import media_type

SMALL = 256 << 10
"""Bytes up to which a file is read at once and kept; larger ones are sent from the open file."""
GZIP_MIN, GZIP_MAX = 512, 16 << 20
MEMORY_BYTES = 64 << 20
ENTRY_BYTES = 4 << 10
"""What a kept file costs beside its content, roughly."""
SETTLED_NS = 100_000_000
"""Time stamps of files are coarser than the clock: younger than this, a file may change and look the same."""

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Not blocking: a named pipe has no writer.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MISSING = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EACCES,
    errno.EPERM,
    errno.ENXIO,
}
"""What the system says of names behind which there is no file to publish."""


class NotPublishedError(Exception):
    """Raised when no published file has the name; the answer is 404."""


class Stamp(NamedTuple):
    """What differs when a file is another one or was changed."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        """The stamp in what the system says of a file."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Document:
    """A published file at one moment: what answers say of it and, perhaps, its content."""

    def __init__(self, name: str, stamp: Stamp) -> None:
        kind, text = media_type(name)
        # Not the time of modification: programs that copy files set it.
        key = blake2b(f"{stamp.changed_ns} {stamp.size} {stamp.inode}".encode(), digest_size=12).hexdigest()
        self.stamp = stamp
        self.size = stamp.size
        self.modified = stamp.modified_ns // 1_000_000_000
        self.settled = time.time_ns() - stamp.changed_ns >= SETTLED_NS
        self.zippable = text and GZIP_MIN <= stamp.size <= GZIP_MAX
        self.etag, self.zipped_etag = f'"{key}"', f'"{key}-gzip"'
        self.type = ("Content-Type", kind)
        self._vary: Headers = [("Vary", "Accept-Encoding")] if text else []
        self._date: Headers | None = None
        self.body: bytes | None = None
        """The content of a small file."""
        self.zipped: bytes | None = None
        """The compressed content, once somebody asked for it."""

    def validators(self, *, zipped: bool, dated: bool) -> Headers:
        """The headers by which clients know this state of the file again; without `dated` not by its date."""
        etag = ("ETag", self.zipped_etag if zipped else self.etag)
        if not dated:
            return [etag, *self._vary]
        if self._date is None:
            self._date = [("Last-Modified", formatdate(self.modified, usegmt=True))]
        return [etag, *self._vary, *self._date]

    @property
    def weight(self) -> int:
        """Bytes of memory, roughly."""
        return ENTRY_BYTES + len(self.body or b"") + len(self.zipped or b"")


class Opened(NamedTuple):
    """A document with the open file it describes; small ones are in memory and have none."""

    document: Document
    stream: io.FileIO | None

    def close(self) -> None:
        """Close the file."""
        if self.stream:
            self.stream.close()

    def head(self, count: int) -> bytes:
        """The first bytes of it; the file is closed."""
        if not self.stream:
            return (self.document.body or b"")[:count]
        with self.stream as stream:
            return read_exactly(stream, min(count, self.document.size))

    def content(self) -> bytes:
        """All of it; the file is closed."""
        if self.document.body is not None or not self.stream:
            return self.document.body or b""
        with self.stream as stream:
            return read_exactly(stream, self.document.size)


class Folder:
    """The files below one folder, which need not exist yet; dot segments and links are not there.

    The folder itself may be a link, and may be replaced at any time.
    """

    def __init__(self, root: Path, limit: int = MEMORY_BYTES) -> None:
        self._root = os.fspath(root)
        self._memory = _Memory(limit)

    def exists(self, name: str) -> bool:
        """Whether a published file has the name."""
        known = self._memory.get(name)
        if known and self._is_current(name, known):
            return True
        try:
            _open_below(self._root, name)[0].close()
        except NotPublishedError:
            return False
        return True

    def open(self, name: str, *, zipped: bool = False) -> Opened:
        """A file, from memory if it is there unchanged; `zipped`: its compressed content will do.

        Raises NotPublishedError.
        """
        known = self._memory.get(name)
        held = known and (known.body is not None or (zipped and known.zipped))
        if known and held and self._is_current(name, known):
            return Opened(known, None)
        stream, stamp = _open_below(self._root, name)
        document = known if known and known.stamp == stamp else Document(name, stamp)
        if stamp.size > SMALL:
            return Opened(document, stream)
        with stream:
            # A change from here on changes the stamp: what was read is not asked for again.
            document.body = read_exactly(stream, stamp.size)
        self._memory.keep(name, document)
        return Opened(document, None)

    def zipped(self, name: str, opened: Opened) -> bytes:
        """The compressed content of an opened file, which is closed."""
        document = opened.document
        if document.zipped is None:
            # Outside any lock: two first readers of one page compress it twice, and nobody else waits.
            document.zipped = gzip.compress(opened.content(), 6, mtime=0)
            self._memory.keep(name, document)
        opened.close()
        return document.zipped

    def _is_current(self, name: str, known: Document) -> bool:
        # A folder on the way may have become a link: what lies there is the very file that was opened without one.
        try:
            found = os.stat(f"{self._root}/{name}", follow_symlinks=False)
        except OSError:
            return False
        return Stamp.of(found) == known.stamp


def read_exactly(stream: io.FileIO, count: int) -> bytes:
    """`count` bytes. Raises OSError when the file has become shorter than that."""
    block = stream.read(count)
    if len(block) == count:
        return block
    blocks = [block]
    while block and (count := count - len(block)):
        block = stream.read(count)
        blocks.append(block)
    if not block and count:
        raise OSError(errno.EIO, "a file became shorter while it was sent")
    return b"".join(blocks)


def _open_below(root: str, name: str) -> tuple[io.FileIO, Stamp]:
    """A regular file, reached from `root` step by step without following a link."""
    try:
        *folders, last = safe_relative(name).split("/")
        above = os.open(root, _FOLDER_FLAGS)
        try:
            for folder in folders:
                inner = os.open(folder, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=above)
                os.close(above)
                above = inner
            descriptor = os.open(last, _FILE_FLAGS, dir_fd=above)
        finally:
            os.close(above)
    except UnsafePathError:
        raise NotPublishedError from None
    except OSError as error:
        if error.errno in _MISSING:
            raise NotPublishedError from None
        raise
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise NotPublishedError
    return io.FileIO(descriptor), Stamp.of(found)


class _Memory:
    """Documents with their content by name; the least recently used leave first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._documents: OrderedDict[str, tuple[Document, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str) -> Document | None:
        """What is known of a name; it need not be true any more."""
        with self._lock:
            if not (entry := self._documents.get(name)):
                return None
            self._documents.move_to_end(name)
            return entry[0]

    def keep(self, name: str, document: Document) -> None:
        """Keep a document, unless its file was so young that it may have changed unseen."""
        if not document.settled:
            return
        weight = document.weight
        with self._lock:
            self._bytes += weight - self._documents.pop(name, (None, 0))[1]
            self._documents[name] = document, weight
            while self._bytes > self._limit:
                self._bytes -= self._documents.popitem(last=False)[1][1]
