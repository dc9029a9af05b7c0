"""Where a login leads back to, as pure functions: nothing that comes in makes a redirect leave the site."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, quote, unquote_to_bytes

from shim.answers import location

LONGEST = 4096
"""Characters of a return target."""
_ASCII = re.compile(r"[!-\[\]-~]+")
"""What a URL may have in it when it is sent: no blanks, control characters, backslashes or letters outside ASCII."""
_NO_PAGES = frozenset({"_api", "api", "login", "logout"})


def return_target(asked: str, base_path: str) -> str:
    """`asked` when it is a path-absolute URL of the site, else the site's root."""
    root = f"{base_path}/"
    if len(asked) > LONGEST or not _ASCII.fullmatch(asked) or not asked.startswith(root):
        return root
    # Browsers take %2e for a dot; a proxy in between may decode slashes and backslashes.
    path = unquote_to_bytes(re.split(r"[?#]", asked, maxsplit=1)[0])
    if b"//" in path or re.search(rb"[\x00-\x1f\x7f\\]", path) or {b".", b".."} & set(path.split(b"/")):
        return root
    return asked


def asked_target(query: str, base_path: str) -> str:
    """The return target in the query of a login page."""
    try:
        fields = parse_qs(query, max_num_fields=20)
    except ValueError:
        return return_target("", base_path)
    return return_target(fields.get("next", [""])[0], base_path)


def login_location(environ: Mapping[str, Any], base_path: str) -> str:
    """Where a browser goes to log in, a path-absolute URL; a page that was asked for is what it comes back to.

    `base_path` is no part of PATH_INFO any more.
    """
    login = f"{base_path}/login"
    try:
        path = environ.get("PATH_INFO", "").removeprefix("/").encode("latin-1").decode()
    except UnicodeError:
        return login
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD") or path.partition("/")[0] in _NO_PAGES:
        return login
    target = return_target(location(base_path, path, environ.get("QUERY_STRING", "")), base_path)
    return login if target == f"{base_path}/" else f"{login}?next={quote(target, safe='/')}"
