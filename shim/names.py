"""What dashboards are called through the API: from the path of a URL to a name, as pure functions."""

from __future__ import annotations

import re

from builder.errors import UnsafePathError
from builder.paths import MAX_SEGMENT, safe_relative, shown
from builder.scanning import NOTEBOOK, SETTINGS_FILES, ignored

MAX_DEPTH = 16
"""Segments of a name; more are a mistake."""

_ENCODED_AGAIN = re.compile(r"%(2e|2f|5c|00|25)", re.IGNORECASE)


def dashboard_name(path: str) -> str:
    """The name that a decoded URL path means: without final slash and without `.ipynb`; UnsafePathError if it is none.

    It is the path of the dashboard in the source folder, without the suffix of its file.
    """
    name = path.removesuffix("/")
    if name.lower().endswith(NOTEBOOK):
        name = name[: -len(NOTEBOOK)]
    name = safe_relative(name)
    if problem := _problem(name.split("/"), name):
        raise UnsafePathError(f"The name {shown(name)} {problem}.")
    return name


def page_path(name: str, *, is_notebook: bool) -> str:
    """The path of the page that a dashboard makes: a notebook `a/index` is the page of the folder `a`."""
    folder, _, last = name.rpartition("/")
    return folder if is_notebook and last == "index" else name


def _problem(segments: list[str], name: str) -> str | None:
    if len(segments) > MAX_DEPTH:
        return f"has more than {MAX_DEPTH} segments"
    if len(segments[-1].encode()) > MAX_SEGMENT - len(NOTEBOOK):
        return f"is longer than {MAX_SEGMENT - len(NOTEBOOK)} bytes"
    if _ENCODED_AGAIN.search(name):
        return "is percent-encoded twice"
    if any(segment.lower() == "index.html" for segment in segments):
        return "has a segment index.html, where pages are written"
    if any(segment.lower() in SETTINGS_FILES for segment in segments[:-1]):
        return "has a folder called like a file of settings"
    if any(segment != segment.strip() for segment in segments):
        return "has blanks at the beginning or the end of a segment"
    left_out = next((segment for segment in segments if ignored(segment)), None)
    return f"has a segment {shown(left_out)}, and folders and files called so are never shown" if left_out else None
