"""Which page a client means: its path in any form that the page is served under, as pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

from builder.errors import UnsafePathError
from builder.paths import MAX_PATH, safe_relative
from builder.scanning import NOTEBOOK
from shim.pages import PAGE_TREES

_SLASHES = re.compile("/+")


def page_paths(text: str, base_path: str) -> tuple[str, ...]:
    """The paths of pages that `text` can mean, the likeliest first; the root of the site is "".

    `text` is the path of a URL (full or plain page, short address, with or without the site's prefix) or of a notebook,
    percent-encoded or not. Raises UnsafePathError for what can be no path.
    """
    if len(text) > MAX_PATH:
        raise UnsafePathError(f"The path is longer than {MAX_PATH} characters.")
    found: dict[str, None] = {}
    # A name may hold a percent sign, so what is not encoded is tried, too.
    for spelled in dict.fromkeys((_decoded(text), text)):
        relative = _SLASHES.sub("/", spelled).strip("/")
        if relative:
            safe_relative(relative)
        for form in _without_prefix(relative, base_path.strip("/")):
            found |= dict.fromkeys(_names(form))
    return tuple(found)


def _decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise UnsafePathError("The path is not valid UTF-8.") from None


def _without_prefix(path: str, prefix: str) -> Iterator[str]:
    """The path below the prefix of the site and below the tree of pages, then as it stands."""
    for below in dict.fromkeys((_below(path, prefix), path) if prefix else (path,)):
        if below is not None:
            yield from (rest for tree in PAGE_TREES if (rest := _below(below, tree)) is not None)
            yield below


def _below(path: str, folder: str) -> str | None:
    return "" if path == folder else path.removeprefix(f"{folder}/") if path.startswith(f"{folder}/") else None


def _names(path: str) -> Iterator[str]:
    """The page of a file: `x.ipynb` is the page `x`, and an index is that of its folder."""
    name = path[: -len(NOTEBOOK)] if path.lower().endswith(NOTEBOOK) else path
    above, _, last = name.rpartition("/")
    if last in ("index", "index.html"):
        yield above
    yield name
