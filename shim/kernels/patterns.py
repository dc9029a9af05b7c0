"""Patterns for paths: `*`, `?` and `[...]` within a segment, `**` for any number of segments."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase


def matches(pattern: str, path: str) -> bool:
    """Whether a path like `a/b` matches a pattern like `a/*` or `**`; upper and lower case differ.

    `**` stands for no segment, too: `a/**` matches `a`.
    """
    segments = path.split("/")
    # How many segments the pattern may have taken so far: patterns with several `**` stay cheap.
    taken = {0}
    for part in pattern.split("/"):
        if part == "**":
            taken = set(range(min(taken), len(segments) + 1))
        else:
            taken = {count + 1 for count in taken if count < len(segments) and fnmatchcase(segments[count], part)}
        if not taken:
            return False
    return len(segments) in taken


def matches_any(patterns: Iterable[str], path: str) -> bool:
    """Whether a path matches one of the patterns."""
    return any(matches(pattern, path) for pattern in patterns)
