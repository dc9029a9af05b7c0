"""With which characters a match of a regular expression can begin, read from its parse tree."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

OTHER = "\x80"
"""Stands for all characters that are not ASCII."""

_ASCII = frozenset(map(chr, range(128)))
_ALL = _ASCII | {OTHER}
_CATEGORIES = {
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_DIGIT: r"\D",
    sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_NOT_WORD: r"\W",
}
_REPEATS = frozenset({sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT})
_EMPTY = frozenset({sre.AT, sre.ASSERT, sre.ASSERT_NOT})


def first_characters(pattern: re.Pattern[str]) -> frozenset[str] | None:
    """The characters before which `pattern` may match; None when it may match before any, or nothing at all.

    Never too few: what is not understood counts as any character.
    """
    try:
        tree = _parser.parse(pattern.pattern, pattern.flags)
        found, empty = _sequence(tree, bool(pattern.flags & re.IGNORECASE))
    except (re.error, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    return None if empty else frozenset(found)


def _sequence(items: Iterable[tuple[Any, Any]], fold: bool) -> tuple[frozenset[str], bool]:
    """First characters of a sequence, and whether it can be empty."""
    found: frozenset[str] = frozenset()
    for code, argument in items:
        some, empty = _item(code, argument, fold)
        found |= some
        if not empty:
            return found, False
    return found, True


def _item(code: Any, argument: Any, fold: bool) -> tuple[frozenset[str], bool]:
    if code is sre.LITERAL:
        return _folded({_character(argument)}, fold), False
    if code is sre.NOT_LITERAL:
        return (_ALL if fold else _ALL - {_character(argument)} | {OTHER}), False
    if code is sre.IN:
        return _set(argument, fold), False
    if code in _EMPTY:
        return frozenset(), True
    if code is sre.BRANCH:
        parts = [_sequence(branch, fold) for branch in argument[1]]
        return frozenset().union(*(part[0] for part in parts)), any(part[1] for part in parts)
    if code is sre.SUBPATTERN:
        _, added, removed, inner = argument
        return _sequence(inner, (fold or bool(added & re.IGNORECASE)) and not removed & re.IGNORECASE)
    if code is sre.ATOMIC_GROUP:
        return _sequence(argument, fold)
    if code in _REPEATS:
        least, _, inner = argument
        found, empty = _sequence(inner, fold)
        return found, empty or least == 0
    if code is sre.GROUPREF or code is sre.GROUPREF_EXISTS:
        return _ALL, True
    return _ALL, False  # ANY, and whatever a later Python brings


def _set(members: Sequence[tuple[Any, Any]], fold: bool) -> frozenset[str]:
    found: set[str] = set()
    negated = False
    for code, argument in members:
        if code is sre.NEGATE:
            negated = True
        elif code is sre.LITERAL:
            found.add(_character(argument))
        elif code is sre.RANGE:
            found.update(map(_character, range(argument[0], min(argument[1], 128) + 1)))
            if argument[1] >= 128:
                found.add(OTHER)
        else:
            kind = _CATEGORIES[argument]
            found.update(character for character in _ASCII if re.match(kind, character))
            found.add(OTHER)
    if not negated:
        return _folded(found, fold)
    # one character that is not ASCII may be excluded, never all; folding could only exclude fewer
    return (_ALL - _folded(found, False)) | {OTHER} if not fold else _ALL


def _folded(found: Iterable[str], fold: bool) -> frozenset[str]:
    plain = frozenset(found)
    if not fold:
        return plain
    # some characters that are not ASCII are equal to an ASCII letter when case is ignored
    return plain | {character.lower() for character in plain} | {character.upper() for character in plain} | {OTHER}


def _character(code: int) -> str:
    return chr(code) if code < 128 else OTHER
