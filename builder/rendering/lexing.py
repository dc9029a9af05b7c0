"""Runs Pygments' regular-expression lexers several times as fast, with the same tokens.

At each position Pygments tries the rules of a state one after the other; a Python name is matched by the fortieth. Here
the rules that cannot match before the character at hand are left out, which is known from the expressions themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from pygments.lexer import RegexLexer  # type: ignore[import-untyped]
from pygments.token import Error, Whitespace, _TokenType  # type: ignore[import-untyped]

from builder.rendering.firstchars import first_characters

Rule = tuple[Callable[[str, int], re.Match[str] | None], Any, Any]
"""As Pygments compiles it: match method, token type or callback, and what happens to the stack of states."""

_OTHER = "\x80"
"""Stands for every character that is not ASCII: all of them are taken to be the same."""


def tokens_of(lexer: Any, text: str) -> Iterator[tuple[int, Any, str]]:
    """The tokens of `text` as `lexer.get_tokens_unprocessed(text)` gives them."""
    if getattr(type(lexer), "get_tokens_unprocessed", None) is not RegexLexer.get_tokens_unprocessed:
        yield from lexer.get_tokens_unprocessed(text)
        return
    states = _states(lexer.__class__)
    stack = ["root"]
    rules = states["root"]
    position, end = 0, len(text)
    while position < end:
        character = text[position]
        for match_at, action, change in rules(character if character < _OTHER else _OTHER):
            match = match_at(text, position)
            if match is None:
                continue
            if action is not None:
                if type(action) is _TokenType:
                    yield position, action, match.group()
                else:
                    yield from action(lexer, match)
            position = match.end()
            if change is not None:
                _change(stack, change)
                rules = states[stack[-1]]
            break
        else:  # no rule: Pygments begins anew after a line end, and calls anything else an error
            if character == "\n":
                stack = ["root"]
                rules = states["root"]
                yield position, Whitespace, "\n"
            else:
                yield position, Error, character
            position += 1
    # a rule may match nothing at the very end, but a token without text shows nothing


def _change(stack: list[str], change: Any) -> None:
    if isinstance(change, tuple):
        for state in change:
            _change(stack, -1 if state == "#pop" else state)
    elif isinstance(change, int):
        # Pygments never takes the last state away
        if abs(change) >= len(stack):
            del stack[1:]
        else:
            del stack[change:]
    elif change == "#push":
        stack.append(stack[-1])
    else:
        stack.append(change)


@cache
def _states(lexer: type[RegexLexer]) -> dict[str, Callable[[str], tuple[Rule, ...]]]:
    return {name: _chooser(tuple(rules)) for name, rules in lexer._tokens.items()}


def _chooser(rules: tuple[Rule, ...]) -> Callable[[str], tuple[Rule, ...]]:
    """A function from a character to the rules that can match before it, in their order."""
    starts = [first_characters(rule[0].__self__) for rule in rules]  # type: ignore[attr-defined]
    known: dict[str, tuple[Rule, ...]] = {}

    def choose(character: str) -> tuple[Rule, ...]:
        chosen = known.get(character)
        if chosen is None:
            chosen = known[character] = tuple(
                rule for rule, start in zip(rules, starts, strict=True) if start is None or character in start
            )
        return chosen

    return choose
