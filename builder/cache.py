"""Rendered bodies and extracted images by content, kept on disk for the next run or another machine."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec

from builder.page import Body, Media

KEEP_DAYS = 30
_PRUNED = ".pruned"


class Cache:
    """A content-addressed store below one folder; what is damaged or missing counts as not there.

    What it lacks is looked for in the one `behind` it, which is only read.
    """

    def __init__(self, folder: Path, behind: Cache | None = None) -> None:
        self._behind = behind
        self._bodies = folder / "bodies"
        self._media = folder / "media"
        self._folders: set[Path] = set()
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Body).decode

    def body(self, key: str) -> Body | None:
        """The body kept under `key`, None unless it and all of its images are there."""
        path = self._path(self._bodies, key)
        body = self._read(path)
        if body:
            _note_use(path)
        elif self._behind:
            body = self._behind._read(self._behind._path(self._behind._bodies, key))
        return body

    def _read(self, path: Path) -> Body | None:
        try:
            body = self._decode(path.read_bytes())
        except (OSError, msgspec.MsgspecError):
            return None
        return body if all(self.media(name).exists() for name in body.media) else None

    def keep(self, key: str, body: Body, media: tuple[Media, ...]) -> None:
        """Store a body and its images; the body comes last, so that it never lacks one."""
        for item in media:
            path = self.media(item.name)
            if not path.exists():
                self._write(path, item.data)
        self._write(self._path(self._bodies, key), self._encode(body))

    def drop(self, key: str) -> None:
        """Forget the body kept under `key`; its images may be others', too."""
        if key:
            self._path(self._bodies, key).unlink(missing_ok=True)

    def media(self, name: str) -> Path:
        """Where the image `name` is kept, or goes."""
        path = self._path(self._media, name)
        if self._behind and not path.exists():
            other = self._behind.media(name)
            return other if other.exists() else path
        return path

    def prune(self) -> None:
        """Once a day, forget what no build has asked for in 30 days."""
        stamp = self._bodies / _PRUNED
        now = time.time()
        with suppress(OSError):
            if now - stamp.stat().st_mtime < 86_400:
                return
        self._bodies.mkdir(parents=True, exist_ok=True)
        stamp.touch()
        for path in (*self._bodies.glob("*/*"), *self._media.glob("*/*")):
            with suppress(OSError):
                stat = path.stat()
                # an image that an output folder links to is in use whatever its age
                if now - stat.st_mtime > KEEP_DAYS * 86_400 and stat.st_nlink == 1:
                    path.unlink()

    def _path(self, folder: Path, name: str) -> Path:
        return folder / name[:2] / name

    def _write(self, path: Path, data: bytes) -> None:
        if path.parent not in self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
        temporary = f"{path}.{os.getpid()}-{threading.get_native_id()}"
        try:
            with open(temporary, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def _note_use(path: Path) -> None:
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > 86_400:
            os.utime(path)


def digest(*parts: bytes) -> str:
    """A SHA-256 over byte strings of any length, none of which can run into the next."""
    total = sha256()
    for part in parts:
        total.update(b"%d:" % len(part))
        total.update(part)
    return total.hexdigest()
