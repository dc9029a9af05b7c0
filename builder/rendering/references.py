"""What the HTML of one notebook refers to: URLs become markers, everything else stays as its author wrote it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import escape, unescape
from typing import Literal, NamedTuple, Protocol
from urllib.parse import unquote

from builder.page import Ref, marker

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_FORBIDDEN = re.compile("[\x00-\x1f\x7f\\\\\ud800-\udfff]")
_SUFFIX = re.compile(r"[?#]")
_BLANKS = " \t\n\r\f"


class Rewriter(Protocol):
    """Says what to write for a URL; both methods give back the escaped value of the attribute."""

    def link(self, url: str, cell: int) -> str:
        """A place to go to."""

    def file(self, url: str, cell: int) -> str:
        """Something the browser fetches for the page."""


class References:
    """Collects what one notebook refers to; gives back what to write into the attribute (already HTML-escaped)."""

    def __init__(self) -> None:
        self.refs: list[Ref] = []
        self._numbers: dict[tuple[str, str, str], int] = {}
        self._externals: dict[str, None] = {}

    @property
    def externals(self) -> list[str]:
        """URLs on other hosts that a browser fetches by itself, each once, in the order of the page."""
        return list(self._externals)

    def link(self, url: str, cell: int) -> str:
        """The `href` of `<a>` and `<area>`, or of a Markdown link."""
        return self._relative("link", url, cell)

    def file(self, url: str, cell: int) -> str:
        """A `src`, an item of `srcset`, a `poster`, the `data` of `<object>`: the browser fetches it by itself."""
        bare = url.strip(_BLANKS)
        if bare[:2] == "//" or bare[:8].lower().startswith(("http://", "https://")):
            self._externals[bare] = None
        return self._relative("file", url, cell)

    def media(self, name: str) -> str:
        """An image taken out of the notebook, `name` is `Media.name`."""
        return self._number(Ref("media", name))

    def _relative(self, kind: Literal["link", "file"], url: str, cell: int) -> str:
        bare = url.strip(_BLANKS)
        if not bare or bare[0] in "#/?" or _FORBIDDEN.search(bare) or _SCHEME.match(bare):
            return escape(url)
        split = _SUFFIX.search(bare)
        path, suffix = (bare[: split.start()], bare[split.start() :]) if split else (bare, "")
        try:
            target = unquote(path, errors="strict")
        except UnicodeDecodeError:
            return escape(url)
        if _FORBIDDEN.search(target):
            return escape(url)
        return self._number(Ref(kind, target, suffix, cell, bare))

    def _number(self, ref: Ref) -> str:
        key = (ref.kind, ref.target, ref.raw)
        number = self._numbers.setdefault(key, len(self.refs))
        if number == len(self.refs):
            self.refs.append(ref)
        return marker(number)


class Segment(NamedTuple):
    """A piece of HTML; `name` is the lower-case name of a start tag, else empty."""

    kind: Literal["text", "tag", "other"]
    """text: outside of tags; tag: a start tag; other: an end tag, a comment, the content of `<script>` and the like."""
    start: int
    end: int
    name: str = ""


_MARKUP = re.compile(r"<(?:(?P<comment>!--)|(?P<bogus>[!?])|/[A-Za-z]|(?P<name>[A-Za-z][^\s/>]*))")
_COMMENT_END = re.compile(r"--!?>")
# One attribute, or nothing but blanks and slashes; an unclosed quote does not match and ends the markup.
_ATTRIBUTE = re.compile(
    r"""[\s/]*+(?:(?P<name>[^\s/>][^\s/>=]*+)(?:\s*+=\s*+(?:"(?P<double>[^"]*+)"|'(?P<single>[^']*+)'"""
    r"""|(?P<bare>(?!["'])[^\s>]*+)))?+)?+"""
)
_UNCLOSED = re.compile(r"""\s*=\s*["']""")
_RAW_TEXT_END = {name: re.compile(rf"</{name}(?=[\s/>])", re.I) for name in ("script", "style", "textarea", "xmp")}


def _attributes(html: str, position: int) -> tuple[list[re.Match[str]], int]:
    """The attributes of the tag whose name ends at `position`, and where its `>` ends (-1: it has none)."""
    found: list[re.Match[str]] = []
    while position < len(html):
        match = _ATTRIBUTE.match(html, position)
        assert match is not None  # every part of the pattern is optional
        position = match.end()
        if match["name"] is not None:
            found.append(match)
            if _value(match) is None and _UNCLOSED.match(html, position):
                return found, -1
        if html.startswith(">", position):
            return found, position + 1
    return found, -1


def segments(html: str) -> Iterator[tuple[Segment, list[re.Match[str]]]]:
    """Cut HTML into pieces that together are all of it, each with its attributes; never fails, in linear time."""
    position = 0
    while (match := _MARKUP.search(html, position)) is not None:
        attributes: list[re.Match[str]] = []
        if match["comment"]:
            # `<!-->` is a whole comment
            close = _COMMENT_END.search(html, match.start() + 2)
            end = close.end() if close else -1
        elif match["bogus"]:
            end = html.find(">", match.end()) + 1 or -1
        else:
            attributes, end = _attributes(html, match.end())
        if match.start() > position:
            yield Segment("text", position, match.start()), []
        if end < 0:
            yield Segment("other", match.start(), len(html)), []
            return
        name = (match["name"] or "").lower()
        yield Segment("tag" if name else "other", match.start(), end, name), attributes
        position = end
        if name in _RAW_TEXT_END:
            close = _RAW_TEXT_END[name].search(html, end)
            position = close.start() if close else len(html)
            if position > end:
                yield Segment("other", end, position), []
    if position < len(html):
        yield Segment("text", position, len(html)), []


_QUICK = re.compile(r"src|href|poster|<object", re.I)
_CHARREF = re.compile(r"&(?:#[0-9]{1,7};?|#[xX][0-9a-fA-F]{1,6};?|[A-Za-z][A-Za-z0-9]{1,31};)")
_LINK_TAGS = frozenset({"a", "area"})
_FETCHED_RELS = re.compile(
    r"\b(?:stylesheet|icon|manifest|preload|prefetch|modulepreload|preconnect|dns-prefetch|apple-touch-icon)\b", re.I
)
_URL_ATTRIBUTES = frozenset({"src", "srcset", "href", "xlink:href", "poster", "data"})


def rewrite_html(html: str, references: Rewriter, cell: int) -> str:
    """Pass every src, srcset, href, poster of author HTML through `references`, leaving everything else byte for byte.

    Values that `references` only escapes stay as they are written. `<base>` is not a reference.
    """
    if not _QUICK.search(html):
        return html
    pieces: list[str] = []
    copied = 0
    for segment, attributes in segments(html):
        if segment.kind != "tag" or segment.name == "base":
            continue
        for attribute in attributes:
            value = _rewritten(segment.name, attribute, attributes, references, cell)
            if value is not None:
                start = max(attribute.start(group) for group in ("double", "single", "bare"))
                quote = '"' if attribute["bare"] is not None else ""
                pieces += (html[copied:start], quote, value, quote)
                copied = attribute.end()
                if not quote:
                    pieces.append(html[copied - 1])
    return "".join(pieces) + html[copied:] if pieces else html


def _rewritten(
    tag: str, attribute: re.Match[str], attributes: list[re.Match[str]], references: Rewriter, cell: int
) -> str | None:
    """The new value of an attribute, or None when it is to stay as it is."""
    name = attribute["name"].lower()
    if name not in _URL_ATTRIBUTES or (name == "data") != (tag == "object"):
        return None
    raw = _value(attribute)
    if raw is None:
        return None
    value = _CHARREF.sub(lambda match: unescape(match[0]), raw)
    if name == "srcset":
        new = _srcset(value, lambda url: references.file(url, cell))
        return None if new == _srcset(value, escape) else new
    is_link = name.endswith("href") and (tag in _LINK_TAGS or (tag == "link" and not _is_fetched(attributes)))
    new = references.link(value, cell) if is_link else references.file(value, cell)
    return None if new == escape(value) else new


def _value(attribute: re.Match[str]) -> str | None:
    return next((attribute[group] for group in ("double", "single", "bare") if attribute[group] is not None), None)


def _is_fetched(attributes: list[re.Match[str]]) -> bool:
    """Whether a browser asks for the `href` of this `<link>` without being told to."""
    return any(a["name"].lower() == "rel" and _FETCHED_RELS.search(_value(a) or "") for a in attributes)


_CANDIDATE = re.compile(r"([\s,]*+)([^\s,]\S*+)")
_DESCRIPTOR = re.compile(r"(?:[^,(]|\([^)]*+\)?)*+")


def _srcset(value: str, write: Callable[[str], str]) -> str:
    """`value` with each of its URLs passed through `write`."""
    pieces: list[str] = []
    position = 0
    while (match := _CANDIDATE.match(value, position)) is not None:
        url = match[2].rstrip(",")
        descriptor = ""
        position = match.end()
        if url == match[2]:
            found = _DESCRIPTOR.match(value, position)
            assert found is not None  # may be empty
            descriptor, position = found[0], found.end()
        pieces += (match[1], write(url), match[2][len(url) :], escape(descriptor))
    return "".join(pieces) + escape(value[position:])
