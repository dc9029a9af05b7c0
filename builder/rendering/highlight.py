"""Colour source code: Pygments' short classes around everything but names and blanks, the text itself unchanged."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from functools import cache, lru_cache
from html import escape
from itertools import islice
from typing import Any

from pygments.lexer import Lexer  # type: ignore[import-untyped]
from pygments.lexers import (  # type: ignore[import-untyped]
    find_lexer_class_for_filename,
    get_all_lexers,
    get_lexer_by_name,
)
from pygments.token import STANDARD_TYPES, Token  # type: ignore[import-untyped]

from builder.rendering.lexing import tokens_of

MAX_SOURCE = 200_000
"""Longer sources are shown without colours."""

MAX_SECONDS = 2.0
"""Processor time for one source; some lexers need quadratic time on unusual text."""

_BATCH = 64
_PYTHON = frozenset({"python", "python2", "python3", "py", "py3", "ipython", "ipython2", "ipython3"})
_MAGIC = re.compile(r"(\s*)(%%)([\w.!-]+)([^\n]*)(\n.*)?", re.DOTALL)
# Every rule that the IPython lexer adds to Python's needs one of these characters.
_MAGIC_CHARACTERS = re.compile("[%!?]")
_MAGIC_LANGUAGES = {
    "!": "bash", "bash": "bash", "sh": "bash", "sx": "bash", "system": "bash", "cmd": "batch",
    "html": "html", "svg": "xml", "javascript": "javascript", "js": "javascript", "css": "css",
    "latex": "latex", "markdown": "markdown", "sql": "sql", "bigquery": "sql", "r": "r", "julia": "julia",
    "perl": "perl", "ruby": "ruby", "cython": "cython", "fortran": "fortran", "octave": "octave", "matlab": "matlab",
}  # fmt: skip

Tokens = list[tuple[Any, str]]


def highlight(source: str, language: str) -> str:
    """Return the inner HTML of the `<code>` for `source`; its text is `source`, character for character.

    Python cells are read as IPython does, with magics and shell commands. An unknown language is shown without colours.
    """
    if not source or len(source) > MAX_SOURCE:
        return escape(source, quote=False)
    tokens = _tokens(source, language.strip().lower())
    if tokens is None or "".join([text for _, text in tokens]) != source:
        return escape(source, quote=False)
    return _spans(tokens)


def _tokens(source: str, language: str) -> Tokens | None:
    if language not in _PYTHON:
        return _lex(source, _lexer(language))
    if "%%" in source and (magic := _MAGIC.fullmatch(source)):
        return _cell_magic(*magic.groups(""))
    return _lex(source, _python_lexer(source))


def _cell_magic(blank: str, sign: str, name: str, arguments: str, rest: str) -> Tokens:
    tokens = [(Token.Text, blank), (Token.Operator, sign), (Token.Keyword, name), (Token.Text, arguments)]
    body = rest[1:]
    if rest:
        tokens.append((Token.Text, "\n"))
    if body:
        tokens += _lex(body, _magic_lexer(name.lower(), arguments.split(), body)) or [(Token.Text, body)]
    return tokens


def _magic_lexer(name: str, arguments: list[str], body: str) -> Lexer | None:
    if name == "script" and arguments:
        return _lexer(_MAGIC_LANGUAGES.get(arguments[0], arguments[0]))
    if name in ("writefile", "file") and arguments:
        return _file_lexer(arguments[-1][-100:]) or _python_lexer(body)
    if name in _MAGIC_LANGUAGES:
        return _lexer(_MAGIC_LANGUAGES[name])
    return _python_lexer(body)


def _lex(source: str, lexer: Lexer | None) -> Tokens | None:
    """Return the tokens of `source`, or None when there is no lexer, it fails, or it takes too long."""
    if lexer is None:
        return None
    # rules that match up to the end of a line need one
    ended = source if source.endswith("\n") else source + "\n"
    tokens: Tokens = []
    deadline = time.thread_time() + MAX_SECONDS
    try:
        stream = ((kind, text) for _, kind, text in tokens_of(lexer, ended))
        while batch := list(islice(stream, _BATCH)):
            tokens += batch
            if time.thread_time() > deadline:
                return None
    except Exception:  # a lexer is a heap of expressions by many hands: whatever fails, the text is still there
        return None
    if ended is not source and tokens and tokens[-1][1].endswith("\n"):
        kind, text = tokens[-1]
        tokens[-1] = (kind, text[:-1])
    return tokens


def _spans(tokens: Iterable[tuple[Any, str]]) -> str:
    out: list[str] = []
    run: list[str] = []
    current = ""
    for kind, text in tokens:
        css = "" if text.isspace() else _css_class(kind)
        if css != current:
            out.append(_span("".join(run), current))
            run = []
            current = css
        run.append(text)
    out.append(_span("".join(run), current))
    return "".join(out)


def _span(text: str, css: str) -> str:
    text = escape(text, quote=False)
    return f'<span class="{css}">{text}</span>' if css and text else text


@cache
def _css_class(kind: Any) -> str:
    while kind not in STANDARD_TYPES:
        kind = kind.parent
    css: str = STANDARD_TYPES[kind]
    return "" if css in ("n", "w") else css


@cache
def _aliases() -> frozenset[str]:
    # looked up first: for a name it does not know, Pygments searches all installed packages for plugins, every time
    return frozenset(alias for _, aliases, _, _ in get_all_lexers(plugins=False) for alias in aliases)


@lru_cache(maxsize=128)
def _lexer(language: str) -> Lexer | None:
    if language in ("ipython", "ipython3"):
        return _ipython_lexer()
    return get_lexer_by_name(language) if language in _aliases() else None


@lru_cache(maxsize=128)
def _file_lexer(name: str) -> Lexer | None:
    found = find_lexer_class_for_filename(name)
    return found() if found else None


def _python_lexer(source: str) -> Lexer | None:
    return _lexer("ipython" if _MAGIC_CHARACTERS.search(source) else "python")


@cache
def _ipython_lexer() -> Lexer | None:
    try:
        from ipython_pygments_lexers import IPython3Lexer  # type: ignore[import-untyped]
    except ImportError:
        return _lexer("python")
    return IPython3Lexer()
