"""Building small sites in tests, and looking at what came out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape, unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from builder.build import Builder
from builder.config import Config, load_config
from builder.report import Report

_URL = re.compile(r"""<[^>]*?\s(?:href|src|poster)\s*=\s*(?:"([^"]*)"|'([^']*)')""")


def config_of(source: Path, **overrides: Any) -> Config:
    """The settings of a test site; `overrides` by `section__key`."""
    return load_config(source, None, {}, {name.replace("__", "."): value for name, value in overrides.items()})


def build(source: Path, *, force: bool = False, clean: bool = False, **overrides: Any) -> Report:
    """One build of `source` into its `_site`."""
    with Builder(config_of(source, **overrides), clean=clean) as builder:
        return builder.build(force=force)


def statuses(report: Report) -> dict[str, str]:
    """Page to status."""
    return {page.path: page.status for page in report.pages}


def html_files(site: Path) -> dict[str, int]:
    """Every HTML file of a site with the time it was written."""
    return {path.relative_to(site).as_posix(): path.stat().st_mtime_ns for path in site.rglob("*.html")}


def urls_in(html: str) -> Iterator[str]:
    """All URLs of a page, decoded from HTML."""
    for match in _URL.finditer(html):
        yield unescape(match[1] if match[1] is not None else match[2])


def broken_links(site: Path) -> list[str]:
    """`page: URL` for every relative URL of every page that leads to no file, and for every one that is absolute in the site."""
    broken = []
    for page in sorted(site.rglob("*.html")):
        if page.name == "404.html":
            continue
        html = page.read_text(encoding="utf-8")
        for url in urls_in(html):
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            if url.startswith("/"):
                broken.append(f"{page.relative_to(site)}: {url}")
            elif parts.path:
                target = page.parent / unquote(parts.path)
                if not target.is_file():
                    broken.append(f"{page.relative_to(site)}: {url}")
            elif (
                parts.fragment
                and f'id="{escape(unquote(parts.fragment))}"' not in html
                and f'id="{escape(parts.fragment)}"' not in html
            ):
                broken.append(f"{page.relative_to(site)}: {url}")
    return broken
