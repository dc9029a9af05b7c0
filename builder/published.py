"""A published page read again: what it links, loads and shows, as a browser would find it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from posixpath import dirname, join, normpath
from urllib.parse import unquote, urlsplit

from builder.rendering.references import segments

_LOADING = {
    "img": "src",
    "script": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "iframe": "src",
    "embed": "src",
    "object": "data",
}
"""Elements that fetch a file by themselves, with the attribute that names it."""


@dataclass(frozen=True)
class Image:
    """An `<img>` of a page."""

    src: str
    alt: str | None
    cell: int
    in_output: bool
    ours: bool
    """Written by the renderer; one the author wrote as HTML may have an empty `alt` on purpose."""


@dataclass
class PublishedPage:
    """What one HTML file of the output holds; `anchors` are links within it, each with its cell."""

    ids: set[str] = field(default_factory=set)
    anchors: list[tuple[str, int]] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    loads: set[str] = field(default_factory=set)
    """Relative URLs of what the browser fetches with the page."""


def read_published(html: str) -> PublishedPage:
    """Take a page apart; never fails."""
    page = PublishedPage()
    cell, code = -1, False
    for segment, found in segments(html):
        if segment.kind != "tag":
            continue
        values = {match["name"].lower(): _value(match.groupdict()) for match in reversed(found)}
        classes = values.get("class", "").split()
        if segment.name == "section" and "cell" in classes and values.get("data-cell", "").isdecimal():
            cell, code = int(values["data-cell"]), "code" in classes
        page.ids.update(values[name] for name in ("id", "name") if values.get(name))
        url = values.get(_LOADING.get(segment.name, "")) or (
            values.get("href") if _is_style(segment.name, values) else None
        )
        if url and not _leaves(url):
            page.loads.add(url)
        if segment.name == "a" and cell >= 0 and values.get("href", "").startswith("#"):
            page.anchors.append((values["href"], cell))
        if segment.name == "img" and cell >= 0:
            page.images.append(
                Image(values.get("src", ""), values.get("alt"), cell, code, values.get("decoding") == "async")
            )
    return page


def has_anchor(page: PublishedPage, fragment: str) -> bool:
    """Whether a browser finds the place `#fragment` of a page; "", `top` and text directives it finds on every page."""
    name = fragment.removeprefix("#").partition(":~:")[0]
    return name in ("", "top") or name in page.ids or unquote(name) in page.ids


def loaded_sizes(output: Path, file: str, page: PublishedPage) -> Mapping[str, int]:
    """The bytes of an HTML file of the output and of each file it loads; those that are not there are left out."""
    names: Iterable[str] = {file, *(normpath(join(dirname(file), unquote(urlsplit(url).path))) for url in page.loads)}
    return {name: (output / name).stat().st_size for name in sorted(names) if (output / name).is_file()}


def _value(groups: Mapping[str, str | None]) -> str:
    return unescape(next((groups[name] or "" for name in ("double", "single", "bare") if groups[name] is not None), ""))


def _is_style(tag: str, values: Mapping[str, str]) -> bool:
    return tag == "link" and "stylesheet" in values.get("rel", "").lower().split()


def _leaves(url: str) -> bool:
    """Whether a URL leads to another host, or is no URL at all."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return True
    return bool(parts.scheme or parts.netloc)
