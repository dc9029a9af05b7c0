"""Published files over HTTP: conditional requests, ranges and gzip, one state of the file for each answer."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from shim.answers import HttpError
from shim.folder import SMALL, Document, Folder, NotPublishedError, Opened, read_exactly
from shim.headers import Headers, RangeError, accepts_gzip, byte_range, has_etag, matches_etag, still_holds, timestamp

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

__all__ = ["Headers", "NotPublishedError", "StaticFiles"]

CHUNK = 64 << 10


class StaticFiles:
    """The files below one folder, which need not exist yet; dot segments and links are not there."""

    def __init__(self, root: Path, common: Headers) -> None:
        """`common` goes with every answer."""
        self._folder = Folder(root)
        self._common = common

    def exists(self, name: str) -> bool:
        """Whether a published file has the name."""
        return self._folder.exists(name)

    def read(self, name: str) -> bytes | None:
        """The content of a published file, None when there is none."""
        try:
            return self._folder.open(name).content()
        except NotPublishedError:
            return None

    def head(self, name: str, count: int) -> bytes:
        """The first bytes of a published file, none when there is no such file."""
        try:
            return self._folder.open(name).head(count)
        except NotPublishedError:
            return b""

    def answer(
        self, environ: WSGIEnvironment, start_response: StartResponse, name: str, cache_control: str
    ) -> Iterable[bytes]:
        """Answer GET or HEAD for a file.

        Raises NotPublishedError, and HttpError for conditions and ranges that do not hold, before anything was sent.
        """
        ranged = "HTTP_RANGE" in environ and environ["REQUEST_METHOD"] == "GET"
        zipped = not ranged and accepts_gzip(environ.get("HTTP_ACCEPT_ENCODING", ""))
        opened = self._folder.open(name, zipped=zipped)
        try:
            zipped = zipped and opened.document.zippable
            return self._answer(environ, start_response, opened, name, cache_control, ranged=ranged, zipped=zipped)
        except BaseException:
            opened.close()
            raise

    def _answer(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        opened: Opened,
        name: str,
        cache_control: str,
        *,
        ranged: bool,
        zipped: bool,
    ) -> Iterable[bytes]:
        document = opened.document
        # A date that is not past yet says nothing: the file may change once more in that second.
        dated = document.modified < int(time.time())
        headers = [*self._common, ("Cache-Control", cache_control), *document.validators(zipped=zipped, dated=dated)]
        if _unchanged(environ, document, zipped=zipped, dated=dated):
            opened.close()
            start_response("304 Not Modified", headers)
            return []
        headers.append(document.type)
        if zipped:
            body = self._folder.zipped(name, opened)
            headers += [("Content-Encoding", "gzip"), ("Content-Length", str(len(body)))]
            start_response("200 OK", headers)
            return [body] if environ["REQUEST_METHOD"] == "GET" else []
        part = _part(environ, document, dated=dated) if ranged else None
        return _identity(environ, start_response, opened, headers, part)


def _unchanged(environ: WSGIEnvironment, document: Document, *, zipped: bool, dated: bool) -> bool:
    """Whether the client has this very state of the file; HttpError 412 when it wants no other than one it names.

    RFC 9110, section 13.2.2: entity tags before dates.
    """
    etag = document.zipped_etag if zipped else document.etag
    if "HTTP_IF_MATCH" in environ:
        if not has_etag(environ["HTTP_IF_MATCH"], etag):
            raise _changed()
    elif "HTTP_IF_UNMODIFIED_SINCE" in environ:
        date = timestamp(environ["HTTP_IF_UNMODIFIED_SINCE"])
        if date is not None and document.modified > date:
            raise _changed()
    if "HTTP_IF_NONE_MATCH" in environ:
        return matches_etag(environ["HTTP_IF_NONE_MATCH"], etag)
    if not dated or "HTTP_IF_MODIFIED_SINCE" not in environ:
        return False
    date = timestamp(environ["HTTP_IF_MODIFIED_SINCE"])
    return date is not None and document.modified <= date


def _changed() -> HttpError:
    return HttpError(412, "The file is not the one that the request names; it has changed.")


def _part(environ: WSGIEnvironment, document: Document, *, dated: bool) -> range | None:
    """The bytes that are asked for, None for all; HttpError 416 when the file has none of them."""
    if "HTTP_IF_RANGE" in environ:
        modified = document.modified if dated else None
        if not still_holds(environ["HTTP_IF_RANGE"], document.etag, modified):
            return None
    try:
        return byte_range(environ["HTTP_RANGE"], document.size)
    except RangeError:
        # Without the file's own headers: nobody may keep this under the file's address.
        headers = [("Content-Range", f"bytes */{document.size}")]
        raise HttpError(416, "The file has no such part.", headers) from None


def _identity(
    environ: WSGIEnvironment, start_response: StartResponse, opened: Opened, headers: Headers, part: range | None
) -> Iterable[bytes]:
    """The file as it is, or a part of it."""
    size = opened.document.size
    headers.append(("Accept-Ranges", "bytes"))
    if part:
        headers.append(("Content-Range", f"bytes {part.start}-{part.stop - 1}/{size}"))
    sent = part if part is not None else range(size)
    body = _body(environ, opened, sent)
    headers.append(("Content-Length", str(len(sent))))
    start_response("206 Partial Content" if part else "200 OK", headers)
    return body


def _body(environ: WSGIEnvironment, opened: Opened, sent: range) -> Iterable[bytes]:
    if environ["REQUEST_METHOD"] == "HEAD":
        opened.close()
        return []
    if not opened.stream:
        content = opened.content()
        return [content if len(sent) == len(content) else content[sent.start : sent.stop]]
    file = _Part(opened.stream, sent)
    if len(sent) <= SMALL:
        with opened.stream:
            return [file.read(len(sent))]
    if wrapper := environ.get("wsgi.file_wrapper"):
        wrapped: Iterable[bytes] = wrapper(file, CHUNK)
        return wrapped
    return _Chunks(file)


class _Part:
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
        return read_exactly(self._stream, max(min(count, self._end - self._stream.tell()), 0))


class _Chunks:
    """The body for servers without wsgi.file_wrapper."""

    def __init__(self, file: _Part) -> None:
        self._file = file
        self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        while block := self._file.read(CHUNK):
            yield block
