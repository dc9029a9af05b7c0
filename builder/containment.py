"""Keep an author's HTML inside the element it stands in: no stray end tag may close the page around it."""

from __future__ import annotations

import re

MAX_MENDED = 50_000
"""Characters of HTML that are parsed to be mended: for hostile nesting that takes quadratic time."""

MAX_FAULTS = 30
"""Elements left open that are mended: each may be repeated in every paragraph that follows."""

# Elements whose end tag may not be left out. In the others (p, li, td, ...) the parent's end closes them.
_NAMES = (
    "a|abbr|article|aside|audio|b|big|blockquote|button|canvas|center|cite|code|del|details|dfn|dialog|div|dl|em|"
    "fieldset|figcaption|figure|font|footer|form|h[1-6]|header|i|iframe|ins|kbd|label|main|map|mark|math|nav|"
    "noscript|object|ol|pre|q|s|samp|section|select|small|span|strike|strong|style|sub|summary|sup|svg|table|"
    "template|textarea|title|tt|u|ul|var|video"
)
_TAG = re.compile(rf"<(/?)({_NAMES})(?=[\s/>]|$)", re.IGNORECASE)
_SCRIPT = re.compile(r"<script(?=[\s/>])", re.IGNORECASE)
_SCRIPT_END = re.compile(r"</script(?=[\s/>])", re.IGNORECASE)
_PAGE = re.compile(r"<(?:html|head|body|plaintext|xmp|noembed|noframes|frameset)(?=[\s/>])", re.IGNORECASE)


def contain_html(html: str) -> str | None:
    """Return `html` with missing end tags added and stray ones removed, as `innerHTML` would do it.

    HTML that needs none of this is returned as it is; None when it is too long or too broken to be mended.
    """
    faults = _faults(html)
    if not faults:
        return html
    if len(html) > MAX_MENDED or faults > MAX_FAULTS:
        return None
    from selectolax.lexbor import LexborHTMLParser

    return LexborHTMLParser(html, is_fragment=True).html or ""


def _faults(html: str) -> int:
    """Count the elements that are not closed, or closed before they open, and what else reaches past the end."""
    first, *scripts = _SCRIPT.split(html)
    outside = [first]
    for script in scripts:
        end = _SCRIPT_END.search(script)
        if end is None:
            return 1
        outside.append(script[end.end() :])
    html = "".join(outside)
    faults = int(html.rfind("<!--") > html.rfind("-->") or html.rfind("<") > html.rfind(">"))
    faults += len(_PAGE.findall(html))
    depths: dict[str, int] = {}
    for slash, name in _TAG.findall(html):
        name = name.lower()
        depth = depths.get(name, 0) + (-1 if slash else 1)
        if depth < 0:
            faults += 1
            depth = 0
        depths[name] = depth
    return faults + sum(depths.values())
