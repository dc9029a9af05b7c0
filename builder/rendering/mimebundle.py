"""The MIME bundle of an output, and what drawing one needs whatever its type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

import msgspec

from builder.page import Finding
from builder.rendering.references import References
from builder.rendering.terminal import terminal_html

MAX_TEXT = 1_000_000
"""Characters of one text that are shown; of a longer one the beginning and the end."""

MAX_DOCUMENT = 20_000_000
"""Characters of HTML, SVG, scripts or chart JSON, which cannot be cut; longer ones give way to the next type."""

LONG_LINES = 100
LONG_TEXT = 20_000

_TAIL = 100_000


@dataclass
class OutputContext:
    """What the outputs of one notebook have in common: the ways to draw text, and what drawing them brings up."""

    references: References
    markdown: Callable[[str, int], str]
    """Markdown source and cell index to HTML."""
    latex: Callable[[str, int], str]
    """The content of text/latex (formulas with their delimiters) and cell index to HTML."""
    models: frozenset[str] = frozenset()
    """The ids of the widgets whose state is stored in the notebook: `widget_models(metadata)`."""
    media: dict[str, bytes] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    features: set[str] = field(default_factory=set)


class Drawn(NamedTuple):
    """The HTML of an output, and whether it is so long that it should scroll."""

    html: str
    long: bool = False


@dataclass(frozen=True)
class Bundle:
    """One MIME bundle and its place in the notebook."""

    data: Mapping[str, Any]
    metadata: Mapping[str, Any]
    context: OutputContext
    cell: int
    number: int
    """1-based position among the outputs of the cell."""
    caption: str = ""

    def about(self, mime: str) -> Mapping[str, Any]:
        """The metadata that are for `mime` alone."""
        value = self.metadata.get(mime)
        return value if isinstance(value, dict) else {}

    def warn(self, message: str) -> None:
        """Report something about this output."""
        self.context.findings.append(Finding("warning", f"Output {self.number}: {message}", self.cell))

    def text(self, mime: str) -> str:
        """The value of `mime` when it is text, else the empty string."""
        value = self.data.get(mime)
        return value if isinstance(value, str) else ""

    def document(self, mime: str) -> str | None:
        """The value of `mime` when it is text short enough to be kept whole."""
        text = self.text(mime)
        if len(text) > MAX_DOCUMENT:
            self.warn(f"{mime} is {len(text):,} characters long and was left out.")
            return None
        return text


def text_html(text: str, warn: Callable[[str], None]) -> str:
    """Return terminal text as HTML, without its middle when it is longer than `MAX_TEXT`."""
    if len(text) <= MAX_TEXT:
        return terminal_html(text)
    head, tail = text[: MAX_TEXT - _TAIL], text[-_TAIL:]
    left_out = f"{len(text) - MAX_TEXT:,} characters"
    warn(f"the text is {len(text):,} characters long; {left_out} in the middle were left out.")
    return f'{terminal_html(head)}\n<span class="note">… {left_out} left out …</span>\n{terminal_html(tail)}'


def is_long(text: str) -> bool:
    """Whether a text is too long to stand on a page in full height."""
    return len(text) > LONG_TEXT or text.count("\n") > LONG_LINES


def script_json(mime: str, value: Any) -> str | None:
    """Return JSON data inside a `<script>` that no browser runs; None when it cannot be written or is too long."""
    try:
        text = msgspec.json.encode(value)
    except (RecursionError, TypeError, ValueError):
        return None
    if len(text) > MAX_DOCUMENT:
        return None
    safe = text.decode().replace("<", "\\u003c")
    return f'<script type="{escape(mime)}">{safe}</script>'


def data_html(mime: str, html: str, attributes: str = "", *, long: bool = False, kind: str = "data") -> Drawn:
    """Return the `.data` element that holds `html`."""
    return Drawn(f'<div class="{kind}" data-mime="{escape(mime)}"{attributes}>{html}</div>', long)
