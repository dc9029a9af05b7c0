"""Values from the address of a page, set in its kernel: papermill's cell tagged `parameters`.

The defaults in that cell say which names there are and of which type; what a visitor sends becomes a number, truth
value or text, and only Python's own notation of that goes into the code.
"""

from __future__ import annotations

import ast
import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isfinite
from typing import Any
from urllib.parse import parse_qsl

from builder.errors import NbfolioError
from builder.paths import shown
from shim.kernels.program import Program

MAX_QUERY = 4096
"""Characters."""
MAX_PAIRS = 64
MAX_TEXT = 1000
"""Characters of one text."""
MAX_CELL = 100_000
"""Characters of a parameters cell that is looked into."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,99}\.?[0-9]{0,99}|\.[0-9]{1,99})([eE][+-]?[0-9]{1,3})?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MAGIC = re.compile(r"^[ \t]*[%!].*$", re.MULTILINE)
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_EXPECTED: dict[type, str] = {
    bool: "true or false",
    int: "a whole number of at most 18 digits",
    float: "a number",
    str: f"a text of at most {MAX_TEXT} characters",
}
_NAMES: dict[str, type] = {kind.__name__: kind for kind in _EXPECTED}
_SEQUENCES: dict[str, type] = {"list": list, "List": list, "tuple": tuple, "Tuple": tuple}
_LONGEST_CHOICES = 300

_warnings = threading.Lock()


class ParameterError(NbfolioError):
    """Raised for a value in the address that does not suit its parameter."""


@dataclass(frozen=True)
class _Parameter:
    """What may be set for one name; without a `kind` nothing may."""

    name: str
    kind: type | None
    """int, float, bool or str: of the value, or of each value of a sequence."""
    sequence: type | None = None
    choices: tuple[Any, ...] = ()

    def value(self, texts: list[str]) -> Any:
        """What these texts mean. Raises ParameterError."""
        if self.kind is None:
            raise ParameterError(
                f"The parameter {shown(self.name)} cannot be set in the address: "
                "it is no number, text or truth value, and no list of them."
            )
        if self.sequence:
            return self.sequence([self._one(text) for text in texts])
        if len(texts) > 1:
            raise ParameterError(f"The parameter {shown(self.name)} takes one value; it is in the address twice.")
        return self._one(texts[0])

    def _one(self, text: str) -> Any:
        for kind in dict.fromkeys(type(choice) for choice in self.choices) or (self.kind,):
            value = _typed(kind, text)
            if value is not None and (not self.choices or any(_same(value, choice) for choice in self.choices)):
                return value
        which = (
            f"Each value of the parameter {shown(self.name)}" if self.sequence else f"The parameter {shown(self.name)}"
        )
        raise ParameterError(f"{which} must be {self._expected()}.")

    def _expected(self) -> str:
        if not self.choices:
            return _EXPECTED[self.kind or str]
        listed = ", ".join(shown(str(choice)) for choice in self.choices)
        return f"one of {listed}" if len(listed) <= _LONGEST_CHOICES else "one of the values that the notebook allows"


@dataclass(frozen=True)
class _Annotation:
    """What a type annotation says, as far as it is understood."""

    kind: type | None = None
    sequence: type | None = None
    choices: tuple[Any, ...] = ()


def with_parameters(program: Program, query: str) -> Program:
    """The program with the values that the query string of the page's URL gives; itself where it gives none.

    Names that are no parameters are ignored, and so is everything where the notebook is not for a Python kernel, or
    its parameters cell cannot be understood. Raises ParameterError.
    """
    source = program.cells[program.parameters] if program.parameters is not None else None
    parameters = _parameters(source) if source and program.language == "python" else {}
    if not parameters:
        return program
    given: dict[str, list[str]] = {}
    for name, text in _pairs(query):
        if name in parameters:
            given.setdefault(name, []).append(text)
    if not given:
        return program
    lines = [f"{name} = {parameters[name].value(texts)!r}" for name, texts in given.items()]
    cells = list(program.cells)
    # The empty line ends a magic that goes on with a backslash: nothing of the cell may reach into what follows.
    cells[program.parameters or 0] = f"{source}\n\n" + "\n".join(lines)
    return replace(program, cells=tuple(cells))


def _pairs(query: str) -> list[tuple[str, str]]:
    text = query.removeprefix("?")
    if len(text) > MAX_QUERY:
        raise ParameterError(f"The address has more than {MAX_QUERY} characters of parameters.")
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_PAIRS)
    except UnicodeError:
        raise ParameterError("The parameters in the address are not valid UTF-8.") from None
    except ValueError:
        raise ParameterError(f"The address has more than {MAX_PAIRS} parameters.") from None


def _typed(kind: type | None, text: str) -> Any:
    """The value that a text means as one of a kind, None if it is none."""
    if kind is str:
        return None if len(text) > MAX_TEXT or _SURROGATE.search(text) else text
    text = text.strip(" ")
    if kind is bool:
        return _TRUTH.get(text.lower())
    if kind is int:
        return int(text) if _WHOLE.fullmatch(text) else None
    number = float(text) if kind is float and _NUMBER.fullmatch(text) else None
    return number if number is not None and isfinite(number) else None


def _same(value: Any, choice: Any) -> bool:
    return type(value) is type(choice) and bool(value == choice)


@lru_cache(maxsize=64)
def _parameters(source: str) -> Mapping[str, _Parameter]:
    """What a cell assigns at its top level that is written as a literal, by name; the last assignment counts."""
    return {name: _parameter(name, value, annotation) for name, value, annotation in _assignments(source)}


def _assignments(source: str) -> Iterator[tuple[str, Any, ast.expr | None]]:
    for node in _statements(source):
        annotation = None
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            target, value, annotation = node.target, node.value, node.annotation
        else:
            continue
        if isinstance(target, ast.Name):
            try:
                yield target.id, ast.literal_eval(value), annotation
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                continue


def _statements(source: str) -> list[ast.stmt]:
    """The statements of a cell; none when it is no Python, apart from lines that IPython takes as commands."""
    if len(source) > MAX_CELL or source.lstrip().startswith("%%"):
        return []
    for text in (source, _MAGIC.sub("", source)):
        try:
            # Python warns of what it parses, and of each cell only its author should hear that.
            with _warnings, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(text).body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            continue
    return []


def _parameter(name: str, default: Any, annotation: ast.expr | None) -> _Parameter:
    said = _annotation(annotation) if annotation else _Annotation()
    sequence = type(default) if isinstance(default, list | tuple) else said.sequence if default is None else None
    values = list(default) if isinstance(default, list | tuple) else [default]
    return _Parameter(name, _kind(values, said.kind), sequence, said.choices)


def _kind(defaults: list[Any], said: type | None) -> type | None:
    """The type of the values: what the defaults are; an annotation counts where they leave it open."""
    kinds = {type(value) for value in defaults if value is not None}
    if not kinds:
        return said or str
    if kinds <= {int, float}:
        return float if float in kinds or said is float else int
    kind = type(next(value for value in defaults if value is not None))
    return kind if kind in _EXPECTED else None


def _annotation(node: ast.expr) -> _Annotation:
    """What is said by `int`, `list[int]`, `Literal[...]`, and these with `Optional` or `| None`."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        sides = [side for side in (node.left, node.right) if not _is_none(side)]
        return _annotation(sides[0]) if len(sides) == 1 else _Annotation()
    if not isinstance(node, ast.Subscript):
        return _Annotation(_NAMES.get(_name(node)), _SEQUENCES.get(_name(node)))
    name, inner = _name(node.value), node.slice
    if name == "Literal":
        return _choices(inner.elts if isinstance(inner, ast.Tuple) else [inner])
    if name == "Optional":
        return _annotation(inner)
    if name in _SEQUENCES:
        first = inner.elts[0] if isinstance(inner, ast.Tuple) and inner.elts else inner
        return replace(_annotation(first), sequence=_SEQUENCES[name])
    return _Annotation()


def _choices(nodes: list[ast.expr]) -> _Annotation:
    try:
        values = [ast.literal_eval(node) for node in nodes]
    except ValueError:
        return _Annotation()
    choices = tuple(value for value in values if type(value) in (str, int, bool))
    return _Annotation(type(choices[0]), choices=choices) if choices else _Annotation()


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
