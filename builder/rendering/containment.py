"""Keep an author's HTML inside the element it stands in: no tag of it may close, or swallow, the page around it."""

from __future__ import annotations

import re

from builder.rendering.references import segments

# Elements whose end tag may not be left out.
_NAMES = (
    "a|abbr|article|aside|audio|b|big|blockquote|button|canvas|center|cite|code|del|details|dfn|dialog|div|dl|em|"
    "fieldset|figcaption|figure|font|footer|form|h[1-6]|header|i|iframe|ins|kbd|label|main|map|mark|math|nav|noembed|"
    "noframes|noscript|object|ol|pre|q|s|samp|script|section|select|small|span|strike|strong|style|sub|summary|sup|"
    "svg|table|template|textarea|title|tt|u|ul|var|video|xmp"
)
_NAME = re.compile(_NAMES)
_TAG = re.compile(rf"<(/?)({_NAMES})(?=[\s/>]|$)", re.IGNORECASE)
_END_TAG = re.compile(r"</([A-Za-z][^\s/>]*)")
_SCRIPT = re.compile(r"<script(?=[\s/>])", re.IGNORECASE)
_SCRIPT_END = re.compile(r"</script(?=[\s/>])", re.IGNORECASE)
# What only a tokenizer understands: comments, stray signs, tags that hold signs in their attributes or never end.
_ODD = re.compile(
    r"""<[!?]|</(?![A-Za-z])|<[A-Za-z](?![^<>"']*+(?:"[^"<>]*+"[^<>"']*+|'[^'<>]*+'[^<>"']*+)*+>)|</[A-Za-z](?![^<>"']*+>)"""
)
# A sign that no tag follows, and that must not make one with what comes after a stray tag.
_LOOSE = re.compile(r"<(?=/|\Z)")
_RAW_TEXT = frozenset(["script", "style", "textarea", "xmp"])
# Elements of the page itself; the last swallows everything after it and cannot be closed.
_PAGE = re.compile(r"</?(?:html|head|body|frameset|plaintext)(?=[\s/>])", re.IGNORECASE)
_OPTIONAL = frozenset(["dd", "dt", "li", "p", "rp", "rt", "tbody", "td", "tfoot", "th", "thead", "tr"])


def contain_html(html: str) -> str:
    """Return `html` with missing end tags added and stray ones removed; unchanged when every element is closed."""
    return html if _is_closed(html) else _Mender(html).html()


def _is_closed(html: str) -> bool:
    """Whether every element is closed, and none before it opens; what stands in scripts is not looked at."""
    first, *scripts = _SCRIPT.split(html)
    outside = [first]
    for script in scripts:
        end = _SCRIPT_END.search(script)
        if end is None or "<!--" in script[: end.start()]:
            return False
        outside.append(script[end.end() :])
    html = "".join(outside)
    if _ODD.search(html) or _PAGE.search(html):
        return False
    depths: dict[str, int] = {}
    for slash, name in _TAG.findall(html):
        name = name.lower()
        depth = depths.get(name, 0) + (-1 if slash else 1)
        if depth < 0:
            return False
        depths[name] = depth
    return not any(depths.values())


class _Mender:
    """Writes HTML again with its elements properly nested, in linear time."""

    def __init__(self, html: str) -> None:
        self._out: list[str] = []
        self._open: list[str] = []
        self._counts: dict[str, int] = {}
        for segment, _ in segments(html):
            text = html[segment.start : segment.end]
            if self._open and self._open[-1] in _RAW_TEXT and not _END_TAG.match(text):
                self._raw_text(text)
            elif segment.end == len(html) and _is_cut(text):
                self._out.append(f"{text}-->" if text.startswith("<!--") else text.replace("<", "&lt;"))
            elif segment.kind == "text":
                self._out.append(_LOOSE.sub("&lt;", text))
            elif segment.kind == "tag":
                self._start(segment.name, text)
            elif end := _END_TAG.match(text):
                self._end(end[1].lower(), text)
            else:
                self._out.append(text)

    def html(self) -> str:
        while self._open:
            self._close()
        return "".join(self._out)

    def _raw_text(self, text: str) -> None:
        if self._open[-1] == "script" and "<!--" in text:
            # after `<!--` a `<script` would need an end tag of its own
            text = _SCRIPT.sub(lambda match: match[0].replace("<", "<\\"), text)
        self._out.append(text)

    def _start(self, name: str, text: str) -> None:
        if _PAGE.match(text):
            return
        self._out.append(text)
        foreign = self._counts.get("svg") or self._counts.get("math") or name in ("svg", "math")
        if not (foreign and text.endswith("/>")) and (_NAME.fullmatch(name) or name in _OPTIONAL):
            self._open.append(name)
            self._counts[name] = self._counts.get(name, 0) + 1

    def _end(self, name: str, text: str) -> None:
        if _PAGE.match(text):
            return
        if name in _OPTIONAL:
            if self._open and self._open[-1] == name:
                self._pop()
                self._out.append(text)
        elif not _NAME.fullmatch(name):
            self._out.append(text)
        elif self._counts.get(name):
            while self._open[-1] != name:
                self._close()
            self._pop()
            self._out.append(f"</{name}>")

    def _close(self) -> None:
        name = self._pop()
        if name not in _OPTIONAL:
            self._out.append(f"</{name}>")

    def _pop(self) -> str:
        name = self._open.pop()
        self._counts[name] -= 1
        return name


def _is_cut(text: str) -> bool:
    """Whether the last piece of a text is markup that does not end: it would swallow what follows."""
    return text.startswith("<") and len(list(segments(text + "<br>"))) == 1
