"""What a rendered page is made of: plain records that travel between workers, cache and frame."""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

CodeMode = Literal["shown", "folded", "hidden"]
LiveMode = Literal["off", "button", "auto"]
LayoutType = Literal["grid", "report", "none"]

REF = re.compile("\x02([0-9]+)\x03")
"""A marker in `Body.html`: the number of a `Ref`, to be replaced by a URL once it is known where the page lies."""


def marker(number: int) -> str:
    """The text that stands in an attribute value for ref `number`."""
    return f"\x02{number}\x03"


class Finding(Struct, frozen=True):
    """Something a reader or author should know, with the place it was found at."""

    level: Literal["error", "warning"]
    message: str
    cell: int | None = None
    """0-based index in the notebook's cells."""


class Ref(Struct, frozen=True, array_like=True):
    """A URL of a page that depends on where the page and its target lie."""

    kind: Literal["link", "file", "media"]
    """link: a place to go to (`href`); file: something the page shows (`src`, `poster`); media: `Media.name`."""
    target: str
    """link, file: percent-decoded path relative to the notebook's folder, as written; media: its name in media/."""
    suffix: str = ""
    """`?query#fragment` as written."""
    cell: int | None = None
    raw: str = ""
    """The URL as the author wrote it: what stays in the page when the target is not there."""


class Heading(Struct, frozen=True, array_like=True):
    """A heading of the page, for its contents; `text` is plain text, `id` the anchor."""

    level: int
    id: str
    text: str


class Media(Struct, frozen=True):
    """An image taken out of an output: `name` is `<sha256>.<ext>` of `data`."""

    name: str
    data: bytes


class PageOptions(Struct, frozen=True):
    """What site and folder say about a page; the notebook's own `metadata.nbfolio` goes before it."""

    name: str
    """The last segment of the page's path, shown when a notebook has no title."""
    code: CodeMode = "shown"
    live: LiveMode = "button"
    draft: bool = False


class PageMeta(Struct, frozen=True):
    """What a page says of itself, after site, folder and notebook were heard."""

    title: str
    description: str = ""
    order: float | None = None
    tags: tuple[str, ...] = ()
    draft: bool = False
    live: LiveMode = "button"
    """Final: `auto` starts by itself, and a page without code to run is `off`."""
    code: CodeMode = "shown"
    warm: int = 0
    """How many kernels with the cells run are kept ready for readers."""


class Body(Struct, frozen=True):
    """A notebook rendered once, for the full and the plain page; without media bytes it goes to the cache."""

    html: str
    meta: PageMeta
    headings: tuple[Heading, ...] = ()
    refs: tuple[Ref, ...] = ()
    media: tuple[str, ...] = ()
    externals: tuple[str, ...] = ()
    """URLs on other hosts that a browser would fetch by itself when the page opens (scripts, images, styles)."""
    findings: tuple[Finding, ...] = ()
    libraries: tuple[str, ...] = ()
    """What the page may load beside the page runtime, see `libraries.libraries_of`."""
    layout: LayoutType = "none"
    language: str = ""
    """The kernel's language, lower case, as in `metadata.language_info.name`."""
    kernel: str = ""
    code_cells: int = 0
