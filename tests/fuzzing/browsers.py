"""Where a browser goes: the parts of the WHATWG URL rules in which they differ from RFC 3986."""

from __future__ import annotations

import re
from typing import NamedTuple

_SPECIAL = {"http", "https", "ws", "wss", "ftp"}


class Landing(NamedTuple):
    """The origin ("" for a scheme without hosts) and the path, dot segments resolved."""

    origin: str
    path: str


def follow(page: str, location: str) -> Landing:
    """What a browser that shows the https page `page` makes of a Location or link."""
    scheme, _, rest = page.partition("://")
    host, _, here = rest.partition("/")
    text = re.sub(r"[\t\r\n]", "", location.strip("".join(map(chr, range(33)))))
    named = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", text)
    if named:
        if named[1].lower() not in _SPECIAL:
            return Landing("", text)
        text = text[named.end() :]
        if named[1].lower() != scheme or text[:1] in ("/", "\\"):
            scheme, text = named[1].lower(), "//" + text.lstrip("/\\")
    path = re.split(r"[?#]", text, maxsplit=1)[0].replace("\\", "/")
    if path.startswith("//"):
        host, _, path = path.lstrip("/").partition("/")
        host = host.rpartition("@")[2]
    elif not path.startswith("/"):
        path = f"{here.rpartition('/')[0]}/{path}"
    return Landing(f"{scheme}://{host.lower()}", _resolved(path))


def _resolved(path: str) -> str:
    segments: list[str] = []
    for segment in path.removeprefix("/").split("/"):
        plain = re.sub("%2e", ".", segment, flags=re.IGNORECASE)
        if plain == "..":
            del segments[-1:]
        elif plain != ".":
            segments.append(segment)
    return "/" + "/".join(segments)
