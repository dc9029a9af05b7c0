"""The one place where paths from outside are checked: URLs, ZIP entries, link targets, names found on disk."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from builder.errors import UnsafePathError

if TYPE_CHECKING:
    from pathlib import Path

MAX_PATH = 4096
"""Longest path in bytes of UTF-8."""
MAX_SEGMENT = 255
"""Longest segment in bytes of UTF-8: what common file systems take."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DRIVE = re.compile(r"[A-Za-z]:")


def escaped(text: str) -> str:
    """`text` with everything that does not print (control characters, lone surrogates) as backslash escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def shown(text: str) -> str:
    """`text` quoted for a message: escaped, and cut when it is long."""
    return f"'{escaped(text if len(text) <= 120 else text[:117] + '...')}'"


def name_problem(name: str) -> str | None:
    """Why a name cannot stand in a published path, as the end of a sentence, or None; looks at characters only."""
    if name.isascii() and name.isprintable() and "\\" not in name:
        return None
    if "\0" in name:
        return "holds a NUL character"
    if _CONTROL.search(name):
        return "holds a control character"
    if "\\" in name:
        return "holds a backslash"
    if _SURROGATE.search(name):
        return "is not valid UTF-8"
    return None


def safe_relative(text: str, *, hidden: bool = False) -> str:
    """A relative POSIX path, percent-decoded by the caller, that cannot leave the folder it is joined to.

    The path comes back as it is: there is one spelling of a path, others are refused. With `hidden`, names that
    begin with a dot pass (never `.` and `..`). Raises UnsafePathError.
    """
    if problem := _problem(text, hidden):
        raise UnsafePathError(f"The path {shown(text)} {problem}.")
    return text


def _problem(text: str, hidden: bool) -> str | None:
    if not text:
        return "is empty"
    if problem := name_problem(text):
        return problem
    if text[0] == "/":
        return "is absolute"
    if len(text.encode()) > MAX_PATH:
        return f"is longer than {MAX_PATH} bytes"
    segments = text.split("/")
    if _DRIVE.fullmatch(segments[0]):
        return "begins with a drive letter"
    return next((problem for segment in segments if (problem := _segment_problem(segment, hidden))), None)


def _segment_problem(segment: str, hidden: bool) -> str | None:
    if not segment:
        return "has an empty segment"
    if segment in (".", ".."):
        return f"has a segment '{segment}'"
    if segment[0] == "." and not hidden:
        return "has a segment that begins with a dot"
    if len(segment.encode()) > MAX_SEGMENT:
        return f"has a segment longer than {MAX_SEGMENT} bytes"
    return None


def join_below(base: str, target: str) -> str | None:
    """Where a link target as written (percent-decoded; may hold `.` and `..`) leads from the relative folder `base`.

    The answer is relative to the same root, "" for the root itself. None when it leaves the root or cannot name a file.
    """
    if target.startswith("/") or name_problem(target):
        return None
    segments = base.split("/") if base else []
    for segment in target.split("/"):
        if segment == "..":
            if not segments:
                return None
            segments.pop()
        elif segment not in ("", "."):
            segments.append(segment)
    return "/".join(segments)


def contained(root: Path, relative: str) -> Path:
    """`relative` below `root`, with all symbolic links resolved; it need not exist.

    Raises UnsafePathError when the result lies outside `root`.
    """
    top = os.path.realpath(root)
    try:
        # Behind a link that leads to itself nothing is looked up, so it must be said here.
        if b"\0" in os.fsencode(relative):
            raise ValueError("embedded null byte")
        real = os.path.realpath(os.path.join(top, relative))
        # There `..` is taken off the text, too, and what is left may be a link that was never followed.
        settled = os.path.realpath(real) == real
    except ValueError as error:
        raise UnsafePathError(f"The path {shown(relative)} cannot name a file.") from error
    if not settled or (real != top and not real.startswith(os.path.join(top, ""))):
        raise UnsafePathError(f"The path {shown(relative)} leads out of its folder.")
    return type(root)(real)


def decode_once(text: str) -> str:
    """Percent-decoded `text`; raises UnsafePathError for broken escapes and for bytes that are not (shortest) UTF-8."""
    from urllib.parse import unquote_to_bytes  # slow to import, and a build in which nothing changed does without

    if _BAD_ESCAPE.search(text):
        raise UnsafePathError(f"The path {shown(text)} has a '%' without two hexadecimal digits.")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeError as error:
        raise UnsafePathError(f"The path {shown(text)} is not valid UTF-8.") from error
