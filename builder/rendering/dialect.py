"""TeX that MathJax understands and the converters do not, said in words that they know."""

from __future__ import annotations

import re
from collections.abc import Callable

from builder.rendering.tex import argument

_TEXT = re.compile(r"\\(?:text(?:rm|sf|tt|bf|it|up|normal)?|mbox|hbox|fbox)(?![A-Za-z])\s*(?=\{)")
_TEXT_SPECIAL = re.compile(r"(\\.|[_&#%])( *)", re.S)
_VERB = re.compile(r"\\verb([^A-Za-z\s*])([^\n]*?)\1")
_RENAMED = {
    "mbox": r"\text",
    "hbox": r"\text",
    "textup": r"\text",
    "textnormal": r"\text",
    "mathds": r"\mathbb",
    "mathbbm": r"\mathbb",
    "pmb": r"\boldsymbol",
    "strut": r"\mathstrut",
    "AA": "Å",
    "mathnormal": " ",
    "ensuremath": " ",
    "nonumber": " ",
    "notag": " ",
}
_NAME = re.compile(rf"\\({'|'.join(_RENAMED)})(?![A-Za-z])")
_DROPPED = re.compile(
    r"\\require\s*\{[^{}]*\}|\\(?:class|cssId)\s*\{[^{}]*\}(?=\s*\{)|\\bbox\s*\[[^\[\]]*\]|\\smash(?![A-Za-z])(?:\s*\[[tb]\])?"
)
_OPERATOR = re.compile(r"\\mathop\s*\{\s*\{?\\(?:rm|mathrm|text)(?![A-Za-z])\s*\{?([A-Za-z ~,\\]+)\}{0,2}\s*\}")
_LIMITS = re.compile(r"(\}\s*)\\limits(?![A-Za-z])")
_ENVIRONMENT_ARGUMENT = re.compile(
    r"(\\begin\s*\{(?:align(?:ed)?at\*?)\})\s*\{\d*\}|(\\begin\s*\{[pbBvV]?matrix\*\})\s*\[[lcr]\]"
)
_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{([A-Za-z]+)\*?\}")
_ENVIRONMENTS = {
    **dict.fromkeys(("split", "align", "alignat", "alignedat", "flalign", "eqnarray"), "aligned"),
    **dict.fromkeys(("gather", "multline"), "gathered"),
    **dict.fromkeys(("equation", "subequations"), ""),
}
_WITH_TABLE = re.compile(r"\\(matrix|pmatrix|cases|substack|(?:short)?intertext)\s*(?=\{)")


def normalise(tex: str) -> str:
    """The formula in the converters' dialect; numbered environments in it become their unnumbered inner forms."""
    tex = _VERB.sub(lambda match: rf"\texttt{{{_escaped(match[2])}}}", tex)
    tex = escape_text(tex)
    tex = _OPERATOR.sub(r"\\operatorname*{\1}", tex)
    tex = _DROPPED.sub("", tex)
    tex = _NAME.sub(lambda match: _RENAMED[match[1]], tex)
    tex = _ENVIRONMENT_ARGUMENT.sub(lambda match: match[1] or match[2], tex)
    tex = _ENVIRONMENT.sub(_environment, tex)
    tex = _LIMITS.sub(r"\1", tex)
    return _replace_groups(tex, _WITH_TABLE, _table)


def escape_text(tex: str) -> str:
    r"""`\text{..}` with its special characters escaped; a formula in it goes between two of them."""
    return _replace_groups(tex, _TEXT, _text)


def _replace_groups(tex: str, command: re.Pattern[str], replace: Callable[[str, str], str]) -> str:
    """Replace each command and its group by `replace(command, content of the group)`."""
    pieces: list[str] = []
    position = 0
    while (match := command.search(tex, position)) is not None:
        group = argument(tex, match.end())
        if group is None:
            break
        pieces += (tex[position : match.start()], replace(match[0].strip(), group[0]))
        position = group[1]
    return "".join(pieces) + tex[position:] if pieces else tex


def _text(command: str, content: str) -> str:
    parts = re.split(r"(?<!\\)\$", content)
    if len(parts) % 2 == 0:
        return f"{command}{{{_escaped(content)}}}"
    pieces = [part if number % 2 else f"{command}{{{_escaped(part)}}}" for number, part in enumerate(parts) if part]
    return pieces[0] if len(pieces) == 1 else f"{{{''.join(pieces)}}}"


def _escaped(text: str) -> str:
    def escaped(match: re.Match[str]) -> str:
        character, blanks = match.groups()
        # math-core would skip the blanks after `\\%`
        return (character if len(character) == 2 else "\\" + character) + (
            "\\ " if blanks and character[-1] != " " else ""
        )

    return _TEXT_SPECIAL.sub(escaped, text)


def _environment(match: re.Match[str]) -> str:
    name = match[2]
    if name == "smallmatrix":
        return r"\begin{subarray}{cccccccccc}" if match[1] == "begin" else r"\end{subarray}"
    if name in _ENVIRONMENTS:
        name = _ENVIRONMENTS[name]
    elif not name.endswith("matrix"):
        return match[0]
    return rf"\{match[1]}{{{name}}}" if name else ""


def _table(command: str, content: str) -> str:
    r"""`\substack{..}` and the plain TeX forms of matrices as environments, `\intertext{..}` as a row."""
    content = _replace_groups(content, _WITH_TABLE, _table)
    if command.endswith("intertext"):
        return rf"\text{{{_escaped(content)}}} \\ "
    if command == r"\substack":
        return rf"\begin{{subarray}}{{c}}{content}\end{{subarray}}"
    content = re.sub(r"\\cr(?![A-Za-z])", r"\\\\", content)
    return rf"\begin{{{command[1:]}}}{content}\end{{{command[1:]}}}"
