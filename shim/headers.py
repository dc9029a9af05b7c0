"""What request headers say, as pure functions; whatever cannot be read counts as not sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache

Headers = list[tuple[str, str]]
"""Names and values, as WSGI has them."""

MAX_ITEMS = 64
"""List items that are looked at; nobody honest sends more."""

_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.IGNORECASE)
_ETAG = re.compile(r'(W/)?("[^"]*")')
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")


class RangeError(Exception):
    """Raised when a readable Range lies outside the file; the answer is 416."""


def _items(header: str) -> Iterator[tuple[str, float]]:
    """The items of a list header with their quality."""
    for item in header.split(",", MAX_ITEMS)[:MAX_ITEMS]:
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = next((value[2:] for value in parameters if value.startswith("q=")), "1")
        yield name, float(quality) if re.fullmatch(r"[01](\.[0-9]{0,3})?", quality) else 0.0


@lru_cache(maxsize=64)
def accepts_gzip(accept_encoding: str) -> bool:
    """Whether a client takes a gzip body, and would not rather have the plain one."""
    if not accept_encoding:
        return False
    qualities = dict(_items(accept_encoding))
    # RFC 9110, section 8.4.1.3: x-gzip is another name of it.
    quality = qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0)))
    return quality > 0 and quality >= qualities.get("identity", 0.0)


def wants_html(accept: str) -> bool:
    """Whether a client names HTML; browsers do, and `*/*` alone does not."""
    return any(name in ("text/html", "application/xhtml+xml") and quality > 0 for name, quality in _items(accept))


def matches_etag(if_none_match: str, etag: str) -> bool:
    """Whether a list of entity tags has the strong `etag` in it, by weak comparison."""
    return if_none_match in (etag, "*") or etag in [tag for _, tag in _ETAG.findall(if_none_match)]


def has_etag(if_match: str, etag: str) -> bool:
    """Whether a list of entity tags has the strong `etag` in it, by strong comparison."""
    return if_match in (etag, "*") or ("", etag) in _ETAG.findall(if_match)


def timestamp(date: str) -> int | None:
    """The seconds of an HTTP date."""
    try:
        moment = parsedate_to_datetime(date)
        # The oldest of the three forms names no zone; all are in UTC.
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def still_holds(if_range: str, etag: str, modified: int | None) -> bool:
    """Whether the condition of a Range holds: the very same date or entity tag; a weak one never is.

    `modified` is None when the date is no strong validator.
    """
    return if_range == etag or (modified is not None and timestamp(if_range) == modified)


def byte_range(header: str, size: int) -> range | None:
    """The bytes of a file that a Range asks for; None: send all of it (also for several ranges, which is allowed)."""
    match = _RANGE.fullmatch(header.strip())
    if not match or match.group(1, 2) == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        if int(last) and not size:
            return None
        asked = range(max(size - int(last), 0), size)
    elif last and int(last) < int(first):
        return None
    else:
        asked = range(int(first), min(int(last) + 1, size) if last else size)
    if not asked:
        raise RangeError
    return asked


def host_and_port(header: str) -> tuple[str, str] | None:
    """The two parts of a Host header, the name in lower case, None when it is no such thing."""
    match = _HOST.fullmatch(header)
    return (match[1].lower(), match[2] or "") if match else None
