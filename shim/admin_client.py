"""What shim-admin asks of a running server about dashboards; it knows no command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote

import msgspec
from requests_toolbelt.multipart.encoder import (  # type: ignore[import-untyped]
    MultipartEncoder,
    MultipartEncoderMonitor,
)

from builder.paths import safe_relative, shown
from shim.admin_http import MAX_LIST, AdminError, AdminServer, expect
from shim.admin_messages import Token, refusal

TYPES = {".ipynb": "application/x-ipynb+json", ".zip": "application/zip"}

Progress = Callable[[int, int], None]
"""Called while a file is sent, with the bytes that are gone and their whole number."""


class ExistsError(AdminError):
    """Raised when a dashboard of that name is there and was not to be replaced."""


class Dashboard(msgspec.Struct, frozen=True):
    """One line of the server's list; `message` says what its author should mend, or why it is not published."""

    path: str
    title: str
    kind: str
    message: str
    published: bool = True
    link: str | None = None
    """None where nothing is published."""


class Listing(msgspec.Struct, frozen=True):
    """All dashboards, sorted by path."""

    notebooks: tuple[Dashboard, ...]


class _Uploaded(msgspec.Struct):
    message: str
    link: str = ""


class AdminClient:
    """A running server at `address` (with its prefix, without a final slash), spoken to with a token."""

    def __init__(self, address: str, token: Token | None) -> None:
        self._server = AdminServer(address, token)

    def upload(self, file: Path, path: str, *, overwrite: bool, progress: Progress) -> str:
        """Publish a .ipynb or .zip file as the dashboard `path`, and give its link.

        Raises ExistsError when it is there and `overwrite` is not set, AdminError and UnsafePathError otherwise.
        """
        suffix = file.suffix.lower()
        if suffix not in TYPES:
            raise AdminError(f"{shown(str(file))} is neither a notebook (.ipynb) nor a bundle (.zip).")
        place = _path("notebooks", path)
        with _opened(file) as content:
            # The server goes by the ending; the local name is nobody's business.
            name = path.rpartition("/")[2].removesuffix(".ipynb") + suffix
            encoder = MultipartEncoder({"file": (name, content, TYPES[suffix])})
            body = MultipartEncoderMonitor(encoder, lambda monitor: progress(monitor.bytes_read, monitor.len))
            headers = {"Content-Type": body.content_type} | ({} if overwrite else {"If-None-Match": "*"})
            asked, answer = self._server.ask("POST", place, headers=headers, data=body)
        if answer.status == 412 and not overwrite:
            raise ExistsError(f"{shown(path)} exists already; --overwrite replaces it.")
        uploaded = expect(answer, asked, 201, _Uploaded)
        return uploaded.link or f"{self._server.address}/dashboards/{_quoted(path.removesuffix('.ipynb'))}"

    def delete(self, path: str) -> None:
        """Remove a dashboard. Raises AdminError, UnsafePathError."""
        asked, answer = self._server.ask("DELETE", _path("notebooks", path))
        if answer.status != 204:
            raise AdminError(refusal(answer, asked))

    def clear_cache(self, path: str | None) -> None:
        """Let the server read one dashboard anew, or all of them. Raises AdminError, UnsafePathError."""
        asked, answer = self._server.ask("DELETE", _path("cache", path))
        if answer.status != 200 or answer.body.strip() != b"OK":
            raise AdminError(refusal(answer, asked))

    def dashboards(self) -> Listing:
        """What there is. Raises AdminError."""
        asked, answer = self._server.ask("GET", _path("notebooks", None), limit=MAX_LIST)
        return expect(answer, asked, 200, Listing)


def _path(kind: str, path: str | None) -> str:
    return f"/_api/{kind}" + ("" if path is None else f"/{_quoted(path)}")


def _quoted(path: str) -> str:
    return "/".join(quote(segment, safe="") for segment in safe_relative(path).split("/"))


class _Content:
    """What a file held when it was opened; one that ends early is an error, and no wait for the rest of it."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self.len = os.fstat(stream.fileno()).st_size
        """The bytes still to be read; the encoder asks for it."""
        self._stream = stream
        self._name = name

    def read(self, size: int) -> bytes:
        """Up to `size` bytes. Raises AdminError."""
        try:
            block = self._stream.read(min(size, self.len))
        except OSError as error:
            raise AdminError(f"{self._name} cannot be read: {error.strerror}.") from None
        if not block and size and self.len:
            raise AdminError(f"{self._name} became shorter while it was sent; nothing was published.")
        self.len -= len(block)
        return block


@contextmanager
def _opened(file: Path) -> Iterator[_Content]:
    """A file to send, which is there, readable and not empty. Raises AdminError."""
    name = shown(str(file))
    try:
        # Looked at first: to open a named pipe would wait for whoever writes to it.
        if not file.is_file():
            raise AdminError(f"{name} is not there." if not file.exists() else f"{name} is not a file.")
        descriptor = os.open(file, os.O_RDONLY)
    except OSError as error:
        raise AdminError(f"{name} cannot be read: {error.strerror}.") from None
    with os.fdopen(descriptor, "rb") as stream:
        content = _Content(stream, name)
        if not content.len:
            raise AdminError(f"{name} is empty.")
        yield content
