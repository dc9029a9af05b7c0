"""Which published file or redirect a URL path stands for; knows names, and nothing of HTTP."""

from __future__ import annotations

from typing import NamedTuple, Protocol

PAGE_TREES = ("dashboards", "dashboards-plain")
FOREVER = ("assets", "media")
"""Folders whose file names change with the content."""
ROOT_FILES = ("index.html", "feed.xml", "robots.txt", "sitemap.xml")


class Names(Protocol):
    """What is published."""

    def exists(self, name: str) -> bool:
        """Whether a published file has the name."""
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


def locate(path: str, published: Names) -> File | Redirect:
    """What a relative, decoded path of the site stands for."""
    if path.partition("/")[0] not in PAGE_TREES:
        return File(path or "index.html")
    if path.endswith("/"):
        return File(f"{path}index.html")
    if _is_page(path, published):
        return Redirect(f"{path}/")
    above, _, name = path.rpartition("/")
    if name == "index" and _is_page(above, published):
        return Redirect(f"{above}/")
    return File(path)


def legacy(path: str, published: Names) -> Redirect | None:
    """The page that `/P` means where no route is called so."""
    page = f"{PAGE_TREES[0]}/{path.removesuffix('/')}"
    return Redirect(f"{page}/", permanent=False) if _is_page(page, published) else None


def _is_page(path: str, published: Names) -> bool:
    return published.exists(f"{path}/index.html")
