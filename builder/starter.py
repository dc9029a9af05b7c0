"""Copies the starter site to where a new site begins."""

from __future__ import annotations

import shutil
from pathlib import Path

from builder.errors import OutputError
from builder.resources import starter_dir


def write_starter(folder: Path) -> int:
    """Copy the starter site into a new or empty folder and give the number of files; OutputError when it is neither."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists and is not empty; a starter site goes into a new folder.")
    try:
        shutil.copytree(starter_dir(), folder, dirs_exist_ok=True, copy_function=shutil.copyfile, ignore=_built)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror or error}") from error
    return sum(1 for path in folder.rglob("*") if path.is_file())


def _built(folder: str, names: list[str]) -> list[str]:
    """A checkout's starter site may have been built in place; what that left is not part of it."""
    return [name for name in names if name in ("_site", ".nbfolio", ".ipynb_checkpoints")]
