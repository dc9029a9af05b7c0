"""One TeX formula to MathML: math-core, then latex2mathml, which is imported only when it is needed."""

from __future__ import annotations

import re
from functools import cache
from html import escape
from xml.etree import ElementTree

from math_core import LatexError, LatexToMathML

from builder.rendering.tex import TexError, is_balanced

_LEFTOVER = re.compile(r"<m(?:[ion]|text)\b[^>]*>\s*\\")
"""A command that a converter did not understand and took for an identifier."""
_POSITION = re.compile(r"\A\d+: ")
_ROOT = re.compile(r"\A<math[^>]*>")
_TAGS = re.compile(
    r"math|m(?:row|i|n|o|s|text|space|frac|sqrt|root|style|padded|phantom|enclose|sub|sup|subsup|under|over|underover"
    r"|multiscripts|prescripts|table|tr|td|labeledtr)|none"
)
_LENIENT_ENVIRONMENTS = re.compile(r"(?:[pbBvV]|small)?matrix|array|cases|aligned|gathered|subarray")
_BEGIN = re.compile(r"\\begin\s*\{([^{}]*)\}")


def to_mathml(tex: str, block: bool, source: str) -> str:
    """`<math>` with `source` as its annotation; raises `TexError` when no converter understands the whole formula."""
    try:
        return strict_mathml(tex, block, source)
    except TexError as error:
        mathml = _lenient_mathml(tex, source)
        if mathml is None:
            raise error from None
        return _finished(mathml, block, source)


def strict_mathml(tex: str, block: bool, source: str) -> str:
    """The same by math-core alone, which refuses what it does not know."""
    try:
        mathml = _converter().convert_with_local_state(tex, displaystyle=block)
    except LatexError as error:
        reason = _POSITION.sub("", str(error)).rstrip(".")
        raise TexError(f"cannot be converted ({reason[:1].lower()}{reason[1:]})") from None
    if _LEFTOVER.search(mathml):
        raise TexError("cannot be converted")
    return _finished(mathml.rpartition("<annotation")[0], block, source)


@cache
def _converter() -> LatexToMathML:
    return LatexToMathML(annotation=True, allow_unreliable_rendering=True, fancy_error=False)


def _lenient_mathml(tex: str, source: str) -> str | None:
    """latex2mathml's result up to the annotation, if nothing was lost or passed through unescaped."""
    from latex2mathml.converter import convert

    if not is_balanced(tex) or not all(map(_LENIENT_ENVIRONMENTS.fullmatch, _BEGIN.findall(tex))):
        return None
    try:
        root = ElementTree.fromstring(convert(tex))
    except Exception:  # it raises whatever comes, and does not escape text
        return None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        if not _TAGS.fullmatch(element.tag) or "href" in element.attrib:
            return None
    mathml = ElementTree.tostring(root, encoding="unicode")
    if _LEFTOVER.search(mathml) or not "".join(root.itertext()).strip():
        return None
    content = _ROOT.sub("", mathml).removesuffix("</math>")
    return f"<math><semantics>{content}"


def _finished(mathml: str, block: bool, source: str) -> str:
    start = f'<math display="{"block" if block else "inline"}">'
    tex = escape(source.strip(), quote=False)
    return f'{_ROOT.sub(start, mathml)}<annotation encoding="application/x-tex">{tex}</annotation></semantics></math>'
