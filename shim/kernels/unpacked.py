"""Where the kernels of a page work: the folder of its notebook, or an unpacked copy of its archive.

A copy is named after the archive's content and never changed by us, so all kernels of that version share it. It goes
when it was given out last longer ago than a kernel may run: then no kernel can be at work in it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

from builder.catalog import LivePage
from builder.config import Config
from builder.errors import ChangedError, NotebookError, UnsafePathError
from builder.paths import contained
from shim.kernels.original import CHANGED, archive, refuse_failing

FOLDER = "unpacked"
"""In the state folder."""
SPARE_SECONDS = 3600.0
"""How long a copy stays after the last kernel that may have used it."""

_lock = threading.Lock()


def working_folder(config: Config, page: LivePage) -> Path:
    """The folder in which a kernel of a page works. Raises NotebookError, and ChangedError as `read_program` does."""
    refuse_failing(page)
    if page.kind == "zip":
        with _lock:
            return _copy(config, page)
    try:
        folder = contained(config.source, page.file.rpartition("/")[0])
    except UnsafePathError:
        raise ChangedError(CHANGED) from None
    if not folder.is_dir():
        raise ChangedError(CHANGED)
    return folder


def tidy(config: Config) -> None:
    """Remove the copies that no kernel can use any more, and what a killed server left half done."""
    with _lock:
        _tidy(config)


def _copy(config: Config, page: LivePage) -> Path:
    folder = config.state_dir / FOLDER
    copy = folder / page.digest[:16]
    try:
        if not copy.is_dir():
            _tidy(config)
            config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            _unpack(config, page, copy)
        os.utime(copy)  # when it was given out last
    except OSError as error:
        raise NotebookError(
            f"The files of this page cannot be unpacked: {error.strerror or 'unknown reason'}."
        ) from None
    return copy


def _unpack(config: Config, page: LivePage, copy: Path) -> None:
    """Make a copy that is whole from its first moment on."""
    half = _hidden(copy)
    try:
        with archive(config, page) as bundle:
            bundle.extract(half)
        half.rename(copy)
    except OSError:
        if not copy.is_dir():  # another server may have been faster
            raise
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _tidy(config: Config) -> None:
    oldest = time.time() - config.kernels.max_hours * 3600 - SPARE_SECONDS
    with suppress(OSError):
        for path in sorted((config.state_dir / FOLDER).iterdir()):
            with suppress(OSError):
                if path.lstat().st_mtime < oldest:
                    _remove(path)


def _remove(path: Path) -> None:
    """Take a copy away so that a server that is killed meanwhile does not leave one that looks whole."""
    gone = _hidden(path)
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name.lstrip('.')[:16]}-{secrets.token_hex(8)}")
