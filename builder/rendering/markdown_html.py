"""mistune's tokens as the HTML of a page."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape, unescape
from typing import Any
from urllib.parse import unquote

from mistune import BlockState, HTMLRenderer
from mistune.util import escape_url, safe_entity

from builder.page import Heading
from builder.rendering.delimiters import Formula
from builder.rendering.formulas import BLOCK_END, BLOCK_START
from builder.rendering.pagetext import PageText
from builder.rendering.references import rewrite_html, segments

START, END = "\ufdd0", "\ufdd1"
"""Noncharacters around the number of what is held back while mistune works."""

Token = dict[str, Any]

_PLACEHOLDER = re.compile(f"{START}(\\d+){END}")
_PERCENT_ENCODED = re.compile(r"%EF%B7%90(\d+)%EF%B7%91")
_LANGUAGE = re.compile(r"[{.]*([\w+#.-]{1,40})")
_TEX_SOURCE = re.compile(r'<annotation encoding="application/x-tex">([^<]*)</annotation>')
_MATH = re.compile(r"<math .*?</math>", re.S)
_ALT = re.compile(r'<img [^<>]*?alt="([^"]*)"[^<>]*>')
_TAG = re.compile(r"<[^<>]*>")
_ID_BLANK = re.compile(r"[ \t\n\f\r]")
_PHRASING = frozenset({"heading", "emphasis", "strong", "link", "strikethrough"})
_BREAKS = frozenset({"softbreak", "linebreak"})


class PageRenderer(HTMLRenderer):
    """Writes the HTML of one cell after the other; `page` and `held` are set before each."""

    page: PageText
    held: list[tuple[Formula | None, str]]
    """What the placeholders in the source stand for, with its text as written; None for a data URL."""

    def __init__(self, highlight: Callable[[str, str], str]) -> None:
        super().__init__(escape=False, allow_harmful_protocols=True)
        self._highlight = highlight
        self._phrasing = 0

    def render_token(self, token: Token, state: BlockState) -> str:
        """One token with its children; block formulas are kept out of where only phrasing content may be."""
        if not self.held:
            return super().render_token(token, state)
        kind = token["type"]
        if kind == "paragraph" and not self._phrasing:
            return self._paragraph(token["children"], state)
        if kind not in _PHRASING:
            return super().render_token(token, state)
        return self._in_phrasing(token, state)

    def _in_phrasing(self, token: Token, state: BlockState) -> str:
        self._phrasing += 1
        try:
            return super().render_token(token, state)
        finally:
            self._phrasing -= 1

    def _paragraph(self, children: list[Token], state: BlockState) -> str:
        """A paragraph, ended before each block formula and begun anew after it, unless HTML tags might span it."""
        if any(child["type"] == "inline_html" for child in children):
            return self._in_phrasing({"type": "paragraph", "children": children}, state)
        parts: list[list[Token]] = [[]]
        for child in children:
            if self._is_block(child):
                parts += [[child], []]
            else:
                parts[-1].append(child)
        html = []
        for number, part in enumerate(parts):
            while part and part[-1]["type"] in _BREAKS:
                part.pop()
            while part and part[0]["type"] in _BREAKS:
                del part[0]
            text = self.render_tokens(part, state).strip()
            html.append(f"{text}\n" if number % 2 and text else self.paragraph(text) if text else "")
        return "".join(html)

    def _is_block(self, token: Token) -> bool:
        formula = self.held[int(token["raw"])][0] if token["type"] == "formula" else None
        return formula is not None and formula.kind == "block"

    def formula(self, number: str) -> str:
        """A formula, or what only looked like one."""
        formula, text = self.held[int(number)]
        return self._formula(formula.kind, formula.tex) if formula else escape(text, quote=False)

    def _formula(self, kind: str, tex: str) -> str:
        if kind == "dollar":
            return "$"
        if kind == "ref":
            return self.page.formulas.reference(tex, self.page.cell)
        html = self.page.formulas.convert(tex, kind == "block", self.page.cell)
        if self._phrasing and html.startswith(BLOCK_START):
            html = f'<span class="math">{html.removeprefix(BLOCK_START).removesuffix(BLOCK_END)}</span>'
        return html

    def _restored(self, text: str) -> str:
        """Text that is no Markdown, with the formulas in it as they were written."""
        if self.held and START in text:
            return _PLACEHOLDER.sub(lambda match: self.held[int(match[1])][1], text)
        return text

    def _restored_url(self, url: str) -> str:
        if self.held and "%EF%B7%90" in url:
            return _PERCENT_ENCODED.sub(self._in_url, url)
        return url

    def _in_url(self, match: re.Match[str]) -> str:
        formula, text = self.held[int(match[1])]
        return escape_url(text) if formula else text

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        """A heading with its anchor; noted for the contents of the page."""
        plain = _plain(text)
        anchor = self.page.unique_id(_ID_BLANK.sub("-", plain.replace("\n", " ").strip()) or "section")
        shown = _plain(text, " ").replace("$", "") if "<math" in text else _plain(text, " ")
        self.page.headings.append(Heading(level, anchor, " ".join(shown.split())))
        quoted = escape(anchor)
        link = f'<a class="anchor" href="#{quoted}" aria-label="Link to this section">¶</a>'
        return f'<h{level} id="{quoted}">{text}{link}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """A link."""
        href = self.page.link(self._restored_url(url), self.page.cell)
        return f'<a href="{href}"{self._title(title)}>{text}</a>'

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """An image; one that is missing from the notebook is named."""
        alt = _plain(text)
        found = self.page.image(self._restored_url(url))
        if found is None:
            name = alt or unquote(url.partition(":")[2])
            return f'<span class="missing">Missing image: {escape(name, quote=False)}</span>'
        src, size = found
        sides = f' width="{size[0]}" height="{size[1]}"' if size else ""
        return f'<img src="{src}" alt="{escape(alt)}"{self._title(title)}{sides} loading="lazy" decoding="async" />'

    def _title(self, title: str | None) -> str:
        return f' title="{safe_entity(self._restored(title))}"' if title else ""

    def codespan(self, text: str) -> str:
        """Code within a line."""
        return f"<code>{escape(self._restored(text), quote=False)}</code>"

    def block_code(self, code: str, info: str | None = None) -> str:
        """A block of code, coloured when its language is named."""
        code = self._restored(code).removesuffix("\n")
        match = _LANGUAGE.match(self._restored(info)) if info else None
        if match is None:
            inner, attribute = escape(code, quote=False), ""
        else:
            inner, attribute = self._highlight(code, match[1]), f' class="language-{escape(match[1])}"'
        return f'<div class="highlight"><pre tabindex="0"><code{attribute}>{inner}</code></pre></div>\n'

    def inline_html(self, html: str) -> str:
        """A tag or comment of the author."""
        return rewrite_html(self._restored(html), self.page, self.page.cell)

    def block_html(self, html: str) -> str:
        """A block of the author's HTML; formulas between its tags are formulas, as for JupyterLab's MathJax."""
        if self.held and START in html:
            html = self._with_formulas(html)
        return rewrite_html(html, self.page, self.page.cell) + "\n"

    def _with_formulas(self, html: str) -> str:
        pieces: list[str] = []
        verbatim = 0
        self._phrasing += 1
        for segment, _ in segments(html):
            text = html[segment.start : segment.end]
            if segment.kind == "text" and not verbatim:
                pieces.append(_PLACEHOLDER.sub(self._html_formula, text))
                continue
            verbatim += segment.name in ("pre", "code")
            verbatim -= bool(verbatim and text[:5].lower() in ("</pre", "</cod"))
            pieces.append(self._restored(text))
        self._phrasing -= 1
        return "".join(pieces)

    def _html_formula(self, match: re.Match[str]) -> str:
        formula, text = self.held[int(match[1])]
        return self._formula(formula.kind, unescape(formula.tex)) if formula else text

    def table(self, text: str) -> str:
        """A table that scrolls on its own where the page is narrow."""
        self.page.tables += 1
        label = f'aria-label="Table {self.page.tables}"'
        return f'<div class="table-wrap" tabindex="0" role="region" {label}>\n<table>\n{text}</table>\n</div>\n'

    def task_list_item(self, text: str, checked: bool = False) -> str:
        """An item of a task list; the box shows its state and cannot be changed."""
        state = 'aria-label="Done" checked' if checked else 'aria-label="To do"'
        box = f'<input class="task-list-item-checkbox" type="checkbox" {state} disabled /> '
        text = text.replace("<p>", f"<p>{box}", 1) if text.startswith("<p>") else box + text
        return f'<li class="task-list-item">{text}</li>\n'


def _plain(html: str, line_break: str = "") -> str:
    """The text of inline HTML: formulas as TeX between dollar signs, images by what they show."""
    if "<" in html:
        html = _MATH.sub(lambda match: "$" + "".join(_TEX_SOURCE.findall(match[0])[-1:]) + "$", html)
        html = _ALT.sub(r"\1", html)
        html = _TAG.sub(lambda match: line_break if match[0][:3].lower() == "<br" else "", html)
    return unescape(html)
