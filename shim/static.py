"""Published files over HTTP: conditional requests, ranges and gzip, one open file for each answer."""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import UnsafePathError
from builder.paths import contained, safe_relative
from shim.headers import RangeError, accepts_gzip, byte_range, matches_etag, still_holds, timestamp
from shim.media_types import media_type

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

Headers = list[tuple[str, str]]

SMALL = 256 << 10
"""Bytes up to which a body is read at once; larger ones are sent from the open file."""
CHUNK = 64 << 10
GZIP_MIN, GZIP_MAX = 512, 16 << 20
CACHE_BYTES = 64 << 20

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


class _Opened(NamedTuple):
    stream: io.FileIO
    size: int
    modified: int
    key: str
    """Changes when the file does: what entity tags are made of."""


class StaticFiles:
    """The files below one folder, which need not exist yet; dot segments and links out of it are not there."""

    def __init__(self, root: Path, common: Headers) -> None:
        """`common` goes with every answer."""
        self._root = root
        self._common = common
        self._zipped = _ZipCache(CACHE_BYTES)

    def exists(self, name: str) -> bool:
        """Whether a published file has the name."""
        try:
            self._open(name).stream.close()
        except NotPublishedError:
            return False
        return True

    def read(self, name: str) -> bytes | None:
        """The content of a published file, None when there is none."""
        try:
            with self._open(name).stream as stream:
                return stream.readall()
        except NotPublishedError:
            return None

    def answer(
        self, environ: WSGIEnvironment, start_response: StartResponse, name: str, cache_control: str
    ) -> Iterable[bytes]:
        """Answer GET or HEAD for a file. Raises NotPublishedError before anything was sent."""
        opened = self._open(name)
        try:
            return self._answer(environ, start_response, opened, name, cache_control)
        except BaseException:
            opened.stream.close()
            raise

    def _open(self, name: str) -> _Opened:
        try:
            path = contained(self._root, safe_relative(name))
            # The name was resolved: a link here appeared just now. Not blocking: a named pipe has no writer.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(path, flags)
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
        key = f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"
        return _Opened(io.FileIO(descriptor), found.st_size, int(found.st_mtime), key)

    def _answer(
        self, environ: WSGIEnvironment, start_response: StartResponse, opened: _Opened, name: str, cache_control: str
    ) -> Iterable[bytes]:
        kind, text = media_type(name)
        ranged = "HTTP_RANGE" in environ and environ["REQUEST_METHOD"] == "GET"
        zipped = (
            text
            and not ranged
            and GZIP_MIN <= opened.size <= GZIP_MAX
            and accepts_gzip(environ.get("HTTP_ACCEPT_ENCODING", ""))
        )
        etag = f'"{opened.key}-gzip"' if zipped else f'"{opened.key}"'
        headers = [*self._common, ("Cache-Control", cache_control), ("ETag", etag)]
        if text:
            headers.append(("Vary", "Accept-Encoding"))
        headers.append(("Last-Modified", formatdate(opened.modified, usegmt=True)))
        if _unchanged(environ, etag, opened.modified):
            opened.stream.close()
            start_response("304 Not Modified", headers)
            return []
        headers.append(("Content-Type", kind))
        if zipped:
            body = self._zipped.get(opened)
            start_response("200 OK", [*headers, ("Content-Encoding", "gzip"), ("Content-Length", str(len(body)))])
            return [body] if environ["REQUEST_METHOD"] == "GET" else []
        return _identity(environ, start_response, opened, etag, headers, ranged=ranged)


def _unchanged(environ: WSGIEnvironment, etag: str, modified: int) -> bool:
    if "HTTP_IF_NONE_MATCH" in environ:
        return matches_etag(environ["HTTP_IF_NONE_MATCH"], etag)
    since = timestamp(environ.get("HTTP_IF_MODIFIED_SINCE", ""))
    return since is not None and modified <= since


def _identity(
    environ: WSGIEnvironment,
    start_response: StartResponse,
    opened: _Opened,
    etag: str,
    headers: Headers,
    *,
    ranged: bool,
) -> Iterable[bytes]:
    """The file as it is, or a part of it."""
    part = None
    if ranged and ("HTTP_IF_RANGE" not in environ or still_holds(environ["HTTP_IF_RANGE"], etag, opened.modified)):
        try:
            part = byte_range(environ["HTTP_RANGE"], opened.size)
        except RangeError:
            opened.stream.close()
            start_response(
                "416 Range Not Satisfiable",
                [*headers, ("Content-Range", f"bytes */{opened.size}"), ("Content-Length", "0")],
            )
            return []
    headers.append(("Accept-Ranges", "bytes"))
    if part:
        headers.append(("Content-Range", f"bytes {part.start}-{part.stop - 1}/{opened.size}"))
    sent = part if part is not None else range(opened.size)
    body = _body(environ, opened, sent)
    start_response("206 Partial Content" if part else "200 OK", [*headers, ("Content-Length", str(len(sent)))])
    return body


def _body(environ: WSGIEnvironment, opened: _Opened, sent: range) -> Iterable[bytes]:
    if environ["REQUEST_METHOD"] == "HEAD":
        opened.stream.close()
        return []
    file = _WholeFile(opened.stream, sent)
    if len(sent) <= SMALL:
        with opened.stream:
            return [file.read(len(sent))]
    if wrapper := environ.get("wsgi.file_wrapper"):
        wrapped: Iterable[bytes] = wrapper(file, CHUNK)
        return wrapped
    return _Chunks(file)


class _WholeFile:
    """The part of an open file that was promised in Content-Length.

    A file that becomes shorter while it is sent raises OSError, upon which the server drops the connection. Without
    it waitress would wait forever for the missing bytes, at full load.
    """

    def __init__(self, stream: io.FileIO, sent: range) -> None:
        self._stream = stream
        self._end = sent.stop
        self.seek, self.tell, self.close, self.seekable = stream.seek, stream.tell, stream.close, stream.seekable
        stream.seek(sent.start)

    def read(self, count: int) -> bytes:
        """`count` bytes, fewer only at the end of the part."""
        wanted = min(count, self._end - self._stream.tell())
        blocks = []
        while wanted > 0:
            block = self._stream.read(wanted)
            if not block:
                raise OSError(errno.EIO, "a file became shorter while it was sent")
            blocks.append(block)
            wanted -= len(block)
        return b"".join(blocks)


class _Chunks:
    """The body for servers without wsgi.file_wrapper."""

    def __init__(self, file: _WholeFile) -> None:
        self._file = file
        self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        while block := self._file.read(CHUNK):
            yield block


class _ZipCache:
    """Compressed bodies in memory, the least recently used leave first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, opened: _Opened) -> bytes:
        """The compressed content of an open file, which is closed."""
        with opened.stream as stream:
            with self._lock:
                if body := self._bodies.get(opened.key):
                    self._bodies.move_to_end(opened.key)
                    return body
            # Outside the lock: two first readers of one page compress it twice, and nobody else waits.
            body = gzip.compress(stream.readall(), 6, mtime=0)
            self._keep(opened.key, body)
            return body

    def _keep(self, key: str, body: bytes) -> None:
        with self._lock:
            self._bytes += len(body) - len(self._bodies.pop(key, b""))
            self._bodies[key] = body
            while self._bytes > self._limit:
                self._bytes -= len(self._bodies.popitem(last=False)[1])
