"""What a notebook says of its page in `metadata.nbfolio`, over what site and folder say."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import unescape
from typing import Any, get_args

from builder.page import CodeMode, Finding, Heading, LayoutType, LiveMode, PageMeta, PageOptions

KEYS = ("title", "description", "draft", "live", "code", "order", "tags", "warm")
MOST_WARM = 16
"""The most kernels that a page may ask to be kept ready."""
DESCRIPTION = 200
"""The longest description taken from the text of a page, in characters."""

_PARAGRAPH = re.compile(r"<p>(.*?)</p>", re.DOTALL)
_NOT_TEXT = re.compile(r"<(math|code class=\"tex\"|a class=\"anchor\").*?</(math|code|a)>|<[^>]*>", re.DOTALL)


class Said:
    """The values of `metadata.nbfolio` that can be used; what is wrong with the others is in `findings`."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.findings: list[Finding] = []
        said = metadata.get("nbfolio", {})
        if not isinstance(said, Mapping):
            self._wrong("nbfolio", "a table of settings")
            said = {}
        for key in said:
            if key not in KEYS:
                self.findings.append(
                    Finding("warning", f"metadata.nbfolio has no key {key!r}; it knows {', '.join(KEYS)}")
                )
        self._said = said
        self.title = self._text("title") or _plain(metadata.get("title"))
        self.description = self._text("description")
        self.code: CodeMode | None = self._choice("code", get_args(CodeMode))
        self.live: LiveMode | None = self._choice("live", get_args(LiveMode))
        self.draft: bool | None = self._draft()
        self.order = self._order()
        self.tags = self._tags()
        self.warm = self._warm()

    def _wrong(self, key: str, wanted: str) -> None:
        self.findings.append(Finding("warning", f"metadata.nbfolio.{key} is ignored: it must be {wanted}"))

    def _text(self, key: str) -> str:
        value = self._said.get(key, "")
        if not isinstance(value, str):
            self._wrong(key, "a text")
        return _plain(value)

    def _choice(self, key: str, choices: tuple[str, ...]) -> Any:
        value = self._said.get(key)
        if value is not None and value not in choices:
            self._wrong(key, f"one of {', '.join(choices)}")
            return None
        return value

    def _draft(self) -> bool | None:
        value = self._said.get("draft")
        if value is not None and not isinstance(value, bool):
            self._wrong("draft", "true or false")
            return True  # whoever wrote it did not want the page published as it is
        return value

    def _order(self) -> float | None:
        value = self._said.get("order")
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self._wrong("order", "a number")
            return None
        return float(value)

    def _tags(self) -> tuple[str, ...]:
        value = self._said.get("tags", [])
        if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
            self._wrong("tags", "a list of texts")
            return ()
        return tuple(dict.fromkeys(tag for tag in map(_plain, value) if tag))

    def _warm(self) -> int:
        value = self._said.get("warm", 0)
        if type(value) is not int or not 0 <= value <= MOST_WARM:
            self._wrong("warm", f"a whole number from 0 to {MOST_WARM}")
            return 0
        return value


def page_meta(
    said: Said, options: PageOptions, code: CodeMode, live: LiveMode, headings: Sequence[Heading], html: str
) -> PageMeta:
    """The page's own words, else its first heading and first paragraph, else its name."""
    first = next((heading.text for heading in headings if heading.level == 1), "") or next(
        (h.text for h in headings), ""
    )
    return PageMeta(
        title=said.title or first or options.name,
        description=said.description or _first_paragraph(html),
        order=said.order,
        tags=said.tags,
        draft=options.draft if said.draft is None else said.draft,
        live=live,
        code=code,
        warm=said.warm,
    )


def code_mode(said: Said, options: PageOptions, layout: LayoutType) -> CodeMode:
    """How code is shown: as the notebook says, else hidden on a dashboard, else as site and folder say."""
    return said.code or ("hidden" if layout != "none" else options.code)


def live_mode(said: Said, options: PageOptions, layout: LayoutType, cells: Sequence[Mapping[str, Any]]) -> LiveMode:
    """Whether readers can run the cells of a notebook, and whether that begins by itself.

    `auto` of site or folder is for pages that show little until they run: dashboards, and those without stored outputs.
    """
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    if not any(cell["source"].strip() for cell in code):
        return "off"
    live = said.live or options.live
    if live != "auto" or said.live or layout != "none" or not any(cell["outputs"] for cell in code):
        return live
    return "button"


def _first_paragraph(html: str) -> str:
    for match in _PARAGRAPH.finditer(html, 0, 50_000):
        text = _plain(unescape(_NOT_TEXT.sub(" ", match[1])))
        if len(text) > DESCRIPTION:
            text = text[:DESCRIPTION].rpartition(" ")[0] + " …"
        if text:
            return text
    return ""


def _plain(value: object) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""
