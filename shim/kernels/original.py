"""The file that a page was made from, and no other version of it: cells are found by their numbers alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest, sha256
from io import BufferedReader
from pathlib import Path

from builder.bundles import Bundle, open_bundle
from builder.catalog import LivePage
from builder.config import Config
from builder.errors import ChangedError, NotebookError, UnsafePathError
from builder.paths import contained
from builder.scanning import Stat
from builder.survey import bundle_limits
from builder.write import stat_of
from builder.zipcheck import INDEX

MAX_NOTEBOOK = 256 * 1024 * 1024
"""Bytes of the largest notebook whose cells are run; parsing it takes a multiple of that."""

CHANGED = "The notebook of this page has just changed; reload the page in a moment."
FAILING = (
    "The notebook of this page has changed, and the page could not be made anew from it, so its cells cannot be run. "
    "Whoever publishes it finds the reason in the report of the build."
)


def refuse_failing(page: LivePage) -> None:
    """Raise ChangedError for a page that shows an older version, because the newest one cannot be shown."""
    if page.failure or not page.digest:
        raise ChangedError(FAILING)


def notebook_content(config: Config, page: LivePage) -> bytes:
    """The notebook of a page, from its file or its archive. Raises NotebookError, ChangedError."""
    if page.kind == "zip":
        with archive(config, page) as bundle:
            return _bounded(bundle.read(INDEX))
    with _opened(_path(config, page)) as file:
        content = _bounded(file.read(MAX_NOTEBOOK + 1))
    if sha256(content).hexdigest() != page.digest:
        raise ChangedError(CHANGED)
    return content


@contextmanager
def archive(config: Config, page: LivePage) -> Iterator[Bundle]:
    """The archive of a page. Raises NotebookError, and ChangedError also at the end: what was read is no good then."""
    path = _path(config, page)
    with _opened(path) as file:
        before = stat_of(os.fstat(file.fileno()))
        if file_digest(file, "sha256").hexdigest() != page.digest:
            raise ChangedError(CHANGED)
    try:
        with open_bundle(path, bundle_limits(config)) as bundle:
            yield bundle
    finally:  # what is wrong with another version is no matter
        _refuse_another(path, before)


def _path(config: Config, page: LivePage) -> Path:
    try:
        return contained(config.source, page.file)
    except UnsafePathError:
        raise ChangedError(CHANGED) from None


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file only: a pipe in its place would block."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ChangedError(CHANGED)
            yield file
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise ChangedError(CHANGED) from None
    except OSError as error:
        raise NotebookError(
            f"The notebook of this page cannot be read: {error.strerror or 'unknown reason'}."
        ) from None


def _refuse_another(path: Path, before: Stat) -> None:
    try:
        after = stat_of(path.stat())
    except OSError:
        raise ChangedError(CHANGED) from None
    if after != before:
        raise ChangedError(CHANGED)


def _bounded(content: bytes) -> bytes:
    if len(content) > MAX_NOTEBOOK:
        raise NotebookError(
            f"The notebook of this page has more than {MAX_NOTEBOOK >> 20} MB, too many to be run here."
        )
    return content
