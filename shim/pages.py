"""Which published file or redirect a URL path stands for; knows names, and nothing of HTTP."""

from __future__ import annotations

import re
from typing import NamedTuple, Protocol

FULL, PLAIN = "dashboards", "dashboards-plain"
PAGE_TREES = (FULL, PLAIN)
FOREVER = ("assets", "media")
"""Where the files have a hash of their content, or a version, in their name."""
EXTENSIONS = "assets/nbextensions"
"""The exception: widget libraries call their files as they were installed."""
ROOT_FILES = ("index.html", "feed.xml", "robots.txt", "sitemap.xml")
HEAD_BYTES = 64 << 10
"""Bytes of a page within which its body begins."""

_BODY = re.compile(rb"<body\b[^>]*>", re.IGNORECASE)
_ATTRIBUTE = re.compile(rb"""\s([^\s=>"']+)=(?:"([^"]*)"|'([^']*)'|([^\s>]*))""")


class Names(Protocol):
    """What is published."""

    def exists(self, name: str) -> bool:
        """Whether a published file has the name."""
        ...

    def head(self, name: str, count: int) -> bytes:
        """The first bytes of a published file, none when there is no such file."""
        ...


class File(NamedTuple):
    """The path is this published file, if there is one."""

    name: str


class Redirect(NamedTuple):
    """The path is another name of this page; both are relative, decoded, and a page ends with a slash."""

    path: str
    permanent: bool = True


def is_static(path: str) -> bool:
    """Whether the site, and no route of the program, owns a relative path."""
    return path.partition("/")[0] in ("", *PAGE_TREES, *FOREVER) or path in ROOT_FILES


def locate(path: str, published: Names, *, presentation: bool = False) -> File | Redirect | None:
    """What a relative, decoded path of the site stands for; None: nothing.

    In presentation mode pages are the plain ones under the addresses of the full ones, and there are no listings.
    """
    if presentation:
        return _present(path, published)
    tree = path.partition("/")[0]
    return _in_tree(path, tree, tree, published, listings=True) if tree in PAGE_TREES else File(path or "index.html")


def legacy(path: str, published: Names, *, presentation: bool = False) -> Redirect | None:
    """The page that `/P` means where no route is called so."""
    name = path.removesuffix("/")
    found = _is_page(f"{PLAIN if presentation else FULL}/{name}", published, listings=not presentation)
    return Redirect(f"{FULL}/{name}/", permanent=False) if found else None


def is_listing(head: bytes) -> bool:
    """Whether a page that begins so lists a folder: the class of its body says it."""
    body = _BODY.search(head)
    attributes = _ATTRIBUTE.finditer(body[0]) if body else ()
    return any(
        match[1].lower() == b"class" and b"listing" in b" ".join(match.groups(b"")[1:]).split() for match in attributes
    )


def _in_tree(path: str, tree: str, shown: str, published: Names, *, listings: bool) -> File | Redirect:
    """What a path below `shown` stands for when its files are those of `tree`."""
    name = tree + path.removeprefix(shown)
    if path.endswith("/"):
        return File(f"{name}index.html")
    if _is_page(name, published, listings=listings):
        return Redirect(f"{path}/")
    above, _, last = path.rpartition("/")
    if last == "index" and _is_page(name.rpartition("/")[0], published, listings=listings):
        return Redirect(f"{above}/")
    return File(name)


def _present(path: str, published: Names) -> File | Redirect | None:
    tree = path.partition("/")[0]
    if path in ("", "index.html"):
        return Redirect(f"{FULL}/", permanent=False) if _is_page(PLAIN, published, listings=False) else None
    if tree == PLAIN:
        return None
    if tree != FULL:
        return File(path)
    found = _in_tree(path, PLAIN, FULL, published, listings=False)
    if isinstance(found, File) and found.name.endswith("/index.html") and _lists(found.name, published):
        return None
    return found


def _is_page(path: str, published: Names, *, listings: bool) -> bool:
    name = f"{path}/index.html"
    return published.exists(name) and (listings or not _lists(name, published))


def _lists(name: str, published: Names) -> bool:
    return is_listing(published.head(name, HEAD_BYTES))
