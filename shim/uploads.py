"""From the body of an upload to one staged file: multipart/form-data, read in blocks and bounded everywhere."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from multipart import (  # type: ignore[import-untyped]
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from shim.answers import HttpError

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

Kind = Literal["notebook", "zip"]

FRAMING = 256 << 10
"""Bytes that the body of an upload may be longer than its file: boundaries, heads of parts, plain fields."""
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of a file system that takes no more."""
_BLOCK = 64 << 10
_PARTS = 64
_FIELDS = 64 << 10
_SUFFIXES: dict[str, Kind] = {".ipynb": "notebook", ".zip": "zip"}
# RFC 2046 allows no others; whoever sends one that ends in a space could not write it on a line of its own.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_EXTENDED_NAME = re.compile(r";\s*filename\*\s*=\s*\"?(utf-8|iso-8859-1)'[^']*'([^;\"\s]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Upload:
    """A file that was received; `filename` is its client's name for it, without folders and fit for messages."""

    path: Path
    kind: Kind
    filename: str


def receive(environ: WSGIEnvironment, staged: Path, limit: int) -> Upload:
    """Write the file in the body of a request to `staged`, which must not exist, and flush it to disk.

    The file is the one part named `file`; plain fields are ignored. Raises HttpError for every body that is not
    like that, or whose file is larger than `limit` bytes. `staged` is the caller's to remove, then too.
    """
    boundary = _boundary(environ)
    length = _length(environ)
    if length is not None and length > limit + FRAMING:
        raise _too_large(limit)
    # Its strict mode refuses some good bodies: it takes the line end after the last boundary for garbage where that
    # happens to begin a block.
    parser = PushMultipartParser(boundary, max_segment_count=_PARTS)
    with _worded(), os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as target:
        parts = _Parts(target, limit)
        for block in _blocks(environ["wsgi.input"], length):
            for event in parser.parse(block):
                parts.take(event)
        parser.close()
        kind, filename = parts.result()
        target.flush()
        os.fsync(target.fileno())
    return Upload(staged, kind, filename)


class _Parts:
    """Takes what the parser finds: writes the file, and counts the rest."""

    def __init__(self, target: IO[bytes], limit: int) -> None:
        self._target = target
        self._room = self._limit = limit
        self._fields = _FIELDS
        self._in_file = False
        self._file: tuple[Kind, str] | None = None

    def take(self, event: MultipartSegment | bytes | bytearray | None) -> None:
        """Take the head of a part, a piece of its content, or its end (None)."""
        if isinstance(event, MultipartSegment):
            filename = _filename(event)
            self._in_file = bool(filename)
            if filename:
                self._begin(event.name, filename)
        elif event is not None and self._in_file:
            self._write(event)
        elif event is not None:
            self._fields -= len(event)
            if self._fields < 0:
                raise HttpError(413, "The form has too much text beside the file.")

    def result(self) -> tuple[Kind, str]:
        """Kind and name of the file, once the body has ended."""
        if self._file is None:
            raise HttpError(
                400,
                'No file provided: send it in a part called "file" that has a file name, '
                "as curl does with -F file=@NAME.ipynb.",
            )
        if self._room == self._limit:
            raise HttpError(400, "The file is empty.")
        return self._file

    def _begin(self, part: str, filename: str) -> None:
        if part != "file":
            raise HttpError(400, 'The part of the form that holds the file must be called "file".')
        if self._file:
            raise HttpError(400, "There is more than one file in the form; send each with a request of its own.")
        name = re.split(r"[/\\]", filename)[-1]
        kind = _SUFFIXES.get(name[name.rfind(".") :].lower()) if "." in name else None
        if not kind:
            raise HttpError(415, "Only notebooks (.ipynb) and bundles (.zip) can be published; the file is neither.")
        self._file = kind, "".join(letter if letter.isprintable() else "\ufffd" for letter in name)

    def _write(self, content: bytes | bytearray) -> None:
        self._room -= len(content)
        if self._room < 0:
            raise _too_large(self._limit)
        self._target.write(content)


def megabytes(count: int) -> str:
    """A limit in bytes as people read it."""
    return f"{count >> 20} MB" if count >= 1 << 20 else f"{count} bytes"


def _boundary(environ: WSGIEnvironment) -> str:
    if environ.get("HTTP_CONTENT_ENCODING", "").strip().lower() not in ("", "identity"):
        raise HttpError(415, "Send the body as it is, without Content-Encoding.")
    kind, options = parse_options_header(environ.get("CONTENT_TYPE", ""))
    if kind != "multipart/form-data":
        raise HttpError(415, 'Send the file as multipart/form-data, in a part called "file".')
    boundary: str = options.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise HttpError(400, "The Content-Type of the request names no valid boundary.")
    return boundary


def _length(environ: WSGIEnvironment) -> int | None:
    """Bytes of the body; None: it ends where its stream ends."""
    value = environ.get("CONTENT_LENGTH", "")
    if not value:
        return None if environ.get("wsgi.input_terminated") else 0
    if not re.fullmatch("[0-9]{1,18}", value):
        raise HttpError(400, "The Content-Length of the request is not a number.")
    return int(value)


def _blocks(stream: Any, length: int | None) -> Iterator[bytes]:
    """The body in full blocks: what the parser makes of odd bodies depends on where they are cut."""
    left = sys.maxsize if length is None else length
    block = bytearray()
    while piece := stream.read(min(_BLOCK - len(block), left)):
        left -= len(piece)
        block += piece
        if len(block) == _BLOCK or not left:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


def _filename(part: MultipartSegment) -> str:
    """What a part calls its file; empty for plain fields, and for forms that were sent without choosing a file."""
    # Forms should not have the extended notation, but libraries did write it.
    if extended := _EXTENDED_NAME.search(part.header("Content-Disposition", "")):
        return unquote(extended[2], encoding=extended[1], errors="replace")
    return part.filename or ""


def _too_large(limit: int) -> HttpError:
    return HttpError(413, f"The file is larger than {megabytes(limit)}, the most that server.max_upload_mb allows.")


@contextmanager
def _worded() -> Iterator[None]:
    """Tell the client what was wrong with its body, or that there is no room for it."""
    try:
        yield
    except ParserLimitReached:
        raise HttpError(413, "The form has too many parts, or parts with too long heads.") from None
    except MultipartError:
        raise HttpError(400, "The body of the request is not complete, or not valid multipart/form-data.") from None
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise HttpError(507, "The server's disk is full; the file was not stored.") from error
