"""TeX as text: environments, arguments, macros and rows; nothing here knows of HTML."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

from builder.errors import NbfolioError

MAX_LENGTH = 20_000
"""Characters of a formula, before and after its macros are expanded."""
MAX_NESTING = 100
"""Braces, environments and `\\left` inside each other: converters recurse, and browsers flatten deeper trees."""
MAX_EXPANSIONS = 1_000
MAX_MACROS = 2_000


class TexError(NbfolioError):
    """Raised when a formula is out of bounds; the message continues `The formula ..`."""


_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{([A-Za-z]+\*?)\}|\\.", re.S)
_NESTING = re.compile(r"\\begin(?![A-Za-z])|\\end(?![A-Za-z])|\\left(?![A-Za-z])|\\right(?![A-Za-z])|\\.|[{}]", re.S)
_OPENERS = frozenset({"{", r"\begin", r"\left"})
_CLOSERS = frozenset({"}", r"\end", r"\right"})
_BRACES = re.compile(r"\\.|[{}]", re.S)
_TOKEN = re.compile(r"\s*(\\(?:[A-Za-z]+|.)|[^\s{}])", re.S)
_COMMENT = re.compile(r"(\\.)|%[^\n]*\n?[ \t]*", re.S)


def environments(source: str) -> dict[int, int]:
    """Where each environment that is closed begins and ends, delimiters included."""
    open_: dict[str, list[int]] = {}
    closed: dict[int, int] = {}
    for match in _ENVIRONMENT.finditer(source):
        if match[1] == "begin":
            open_.setdefault(match[2], []).append(match.start())
        elif match[1] and open_.get(match[2]):
            closed[open_[match[2]].pop()] = match.end()
    return closed


def check_bounds(tex: str) -> None:
    """Raise a `TexError` for what would exhaust a converter."""
    if len(tex) > MAX_LENGTH:
        raise TexError(f"is longer than {MAX_LENGTH} characters")
    depth = 0
    for match in _NESTING.finditer(tex):
        depth += (match[0] in _OPENERS) - (match[0] in _CLOSERS)
        if depth > MAX_NESTING:
            raise TexError("is nested too deeply")


def is_balanced(tex: str) -> bool:
    """Whether every brace has its partner."""
    depth = 0
    for match in _BRACES.finditer(tex):
        depth += (match[0] == "{") - (match[0] == "}")
        if depth < 0:
            return False
    return not depth


def strip_comments(tex: str) -> str:
    """The formula without `% comments`."""
    return _COMMENT.sub(lambda match: match[1] or "", tex) if "%" in tex else tex


def argument(tex: str, position: int) -> tuple[str, int] | None:
    """The argument at `position`, a group without its braces or one token, and where it ends; None if there is none."""
    while tex[position : position + 1].isspace():
        position += 1
    if tex[position : position + 1] != "{":
        token = _TOKEN.match(tex, position)
        return (token[1], token.end()) if token else None
    depth = 0
    for match in _BRACES.finditer(tex, position):
        depth += (match[0] == "{") - (match[0] == "}")
        if not depth:
            return tex[position + 1 : match.start()], match.end()
    return None


class Macro(NamedTuple):
    """What a command stands for; `default` is the value of an optional first argument."""

    body: str
    arguments: int = 0
    default: str | None = None


DEFINES = re.compile(r"\\(newcommand|renewcommand|providecommand|g?def|let|DeclareMathOperator)(?![A-Za-z])")
_DEFINITION = re.compile(DEFINES.pattern + r"(\*?)\s*(?:\{\s*(\\(?:[A-Za-z]+|.))\s*\}|(\\(?:[A-Za-z]+|.)))\s*")
_SIGNATURE = re.compile(r"(?:\[(\d)\]\s*)?(?:\[([^\[\]]*)\]\s*)?")
_PARAMETERS = re.compile(r"((?:#\d)*)\s*(?=\{)")


def split_definitions(tex: str) -> tuple[str, dict[str, Macro]]:
    """The formula without its macro definitions, and these by name (`\\R`); an unreadable one stays in the formula."""
    rest: list[str] = []
    macros: dict[str, Macro] = {}
    position = 0
    while (match := _DEFINITION.search(tex, position)) is not None:
        defined = _definition(tex, match)
        if defined is None:
            break
        rest.append(tex[position : match.start()])
        macros[match[3] or match[4]], position = defined
    return "".join(rest) + tex[position:], macros


def _definition(tex: str, match: re.Match[str]) -> tuple[Macro, int] | None:
    kind, position = match[1], match.end()
    count, default = 0, None
    if kind == "let":
        position += tex.startswith("=", position)
    elif kind.endswith("def"):
        parameters = _PARAMETERS.match(tex, position)
        if parameters is None:
            return None
        count, position = len(parameters[1]) // 2, parameters.end()
    elif kind != "DeclareMathOperator":
        signature = _SIGNATURE.match(tex, position)
        assert signature is not None  # all of it is optional
        count, default, position = int(signature[1] or 0), signature[2], signature.end()
    body = argument(tex, position)
    if body is None:
        return None
    text = rf"\operatorname{match[2]}{{{body[0]}}}" if kind == "DeclareMathOperator" else body[0]
    return Macro(text, count, default), body[1]


class Macros:
    """The macros of a page; a later definition holds from its cell on, the first one before that too."""

    def __init__(self) -> None:
        self._definitions: dict[str, list[tuple[int, Macro]]] = {}
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._definitions)

    def add(self, macros: dict[str, Macro], cell: int) -> None:
        """Take in the definitions of a formula; cells come in order."""
        for name, macro in macros.items():
            if self._count < MAX_MACROS:
                self._count += 1
                self._definitions.setdefault(name, []).append((cell, macro))

    @property
    def depend_on_cell(self) -> bool:
        """Whether a name is defined more than once."""
        return self._count > len(self._definitions)

    def get(self, name: str, cell: int) -> Macro | None:
        """What `name` stands for in a cell."""
        definitions = self._definitions.get(name)
        if not definitions:
            return None
        return definitions[max(bisect_right(definitions, cell, key=lambda item: item[0]) - 1, 0)][1]


_COMMAND = re.compile(r"\\(?:[A-Za-z]+|.)", re.S)
_ENDS_IN_WORD = re.compile(r"\\[A-Za-z]+\Z")
_PARAMETER = re.compile(r"#(\d)")
_TAKES_ARGUMENT = re.compile(
    r"(?:[\^_]|\\(?:[dtc]?frac|[dt]?binom|sqrt|bar|vec|d{0,3}ot|(?:wide)?(?:hat|tilde)|(?:over|under)[a-z]+"
    r"|math[a-z]+|boldsymbol|bm|text[a-z]*))\s*\Z"
)


def expand(tex: str, macro: Callable[[str], Macro | None]) -> str:
    """The formula with its macros replaced; raises `TexError` when that does not end."""
    done: list[str] = []
    position = expansions = length = 0
    while (match := _COMMAND.search(tex, position)) is not None:
        found = macro(match[0])
        arguments = _arguments(tex, match.end(), found) if found else None
        if found is None or arguments is None:
            position = match.end()
            continue
        expansions += 1
        before, after = tex[: match.start()], tex[arguments[1] :]
        body = _substitute(found.body, arguments[0])
        if _TAKES_ARGUMENT.search(before[-30:]):
            body = f"{{{body}}}"
        done.append(before + _gap(before, body))
        length += len(before)
        tex = body + _gap(body, after) + after
        position = 0
        if expansions > MAX_EXPANSIONS or length + len(tex) > MAX_LENGTH:
            raise TexError("has macros that expand without end")
    return "".join(done) + tex


def _arguments(tex: str, position: int, macro: Macro) -> tuple[list[str], int] | None:
    values: list[str] = []
    if macro.default is not None:
        optional = re.compile(r"\s*\[([^\[\]]*)\]").match(tex, position)
        values.append(optional[1] if optional else macro.default)
        position = optional.end() if optional else position
    while len(values) < macro.arguments:
        value = argument(tex, position)
        if value is None:
            return None
        values.append(value[0])
        position = value[1]
    return values, position


def _substitute(body: str, values: list[str]) -> str:
    pieces: list[str] = []
    position = 0
    for match in _PARAMETER.finditer(body):
        index = int(match[1]) - 1
        for piece in (body[position : match.start()], values[index] if 0 <= index < len(values) else ""):
            pieces += (_gap(pieces[-1], piece) if pieces else "", piece)
        position = match.end()
    rest = body[position:]
    return "".join((*pieces, _gap(pieces[-1], rest) if pieces else "", rest))


def _gap(left: str, right: str) -> str:
    """The blank needed between both so that the name of a command does not go on."""
    return " " if right[:1].isalpha() and _ENDS_IN_WORD.search(left[-50:]) else ""


_STRUCTURE = re.compile(
    r"\\begin(?![A-Za-z])|\\end(?![A-Za-z])|\\\\\s*(?:\[[^\[\]\n]{0,20}\])?|\\cr(?![A-Za-z])|\\.|[{}&]", re.S
)


def split_top(tex: str, cells: bool = False) -> list[str]:
    r"""Cut at `\\` (or at `&`, for `cells`) outside of groups and environments."""
    parts: list[str] = []
    depth = start = 0
    for match in _STRUCTURE.finditer(tex):
        text = match[0]
        depth += (text in ("{", r"\begin")) - (text in ("}", r"\end"))
        if not depth and (text == "&" if cells else text.startswith((r"\\", r"\cr"))):
            parts.append(tex[start : match.start()])
            start = match.end()
    parts.append(tex[start:])
    return parts
