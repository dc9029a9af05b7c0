"""Show text written for a terminal as HTML: colours, overwritten lines and progress bars, no control sequences."""

from __future__ import annotations

import re
from functools import lru_cache
from html import escape
from typing import NamedTuple

_MAX_PARAMETERS = 200

# Groups: parameters and final character of a control sequence (CSI). Everything else that starts with ESC is dropped:
# operating system commands (hyperlinks, titles), device strings, character sets. Possessive, so linear.
_ESCAPE = r"\x1b(?:\[([0-?]*+)[ -/]*+([@-~]?)|[\]PX^_](?:[^\x07\x1b\n]*+(?:\x07|\x1b\\))?|[ -/]*+[0-Z\\`-~]?)"
_ESCAPES = re.compile(_ESCAPE)
_TOKENS = re.compile(_ESCAPE + r"|([\r\b\n])")
_MOVES = re.compile(r"[\r\b]|\x1b\[[0-9;]*[A-DGK]")

_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_CLASSES = tuple(f"ansi-{name}" for name in _COLOURS) + tuple(f"ansi-{name}-intense" for name in _COLOURS)

Colour = int | tuple[int, int, int] | None


class Style(NamedTuple):
    """How a stretch of text looks: a colour is an index into the 16 terminal colours or red, green and blue."""

    fg: Colour = None
    bg: Colour = None
    bold: bool = False
    underline: bool = False
    inverse: bool = False


_PLAIN = Style()


def terminal_html(text: str) -> str:
    """Return `text` as a terminal would show it, as the inner HTML of a `<pre>`.

    The classes are those of `nbconvert.filters.ansi2html`. Takes time and memory linear in the length of `text`.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    if _MOVES.search(text):
        return _Screen(text).html()
    if "\x1b" not in text:
        return escape(text, quote=False)
    return _coloured(text)


def _coloured(text: str) -> str:
    parts = _ESCAPES.split(text)
    style = _PLAIN
    out = [escape(parts[0], quote=False)]
    for parameters, final, chunk in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        if final == "m":
            style = _styled(style, parameters)
        if chunk:
            out.append(_span(chunk, style))
    return "".join(out)


def _span(text: str, style: Style) -> str:
    text = escape(text, quote=False)
    return f"{_tag(style)}{text}</span>" if style != _PLAIN else text


@lru_cache(maxsize=1024)
def _tag(style: Style) -> str:
    fg, bg = style.fg, style.bg
    if style.bold and type(fg) is int and fg < 8:
        fg += 8
    if style.inverse:
        fg, bg = bg, fg
    classes: list[str] = []
    styles: list[str] = []
    for colour, suffix, css in ((fg, "fg", "color"), (bg, "bg", "background-color")):
        if type(colour) is int:
            classes.append(f"{_CLASSES[colour]}-{suffix}")
        elif type(colour) is tuple:
            styles.append("{}: rgb({},{},{})".format(css, *colour))
        elif style.inverse:
            classes.append(f"ansi-default-inverse-{suffix}")
    classes += ["ansi-bold"] * style.bold + ["ansi-underline"] * style.underline
    attributes = f' class="{" ".join(classes)}"' if classes else ""
    if styles:
        attributes += f' style="{"; ".join(styles)}"'
    return f"<span{attributes}>"


@lru_cache(maxsize=1024)
def _styled(style: Style, parameters: str) -> Style:
    """Return the style after a "select graphic rendition" sequence."""
    if len(parameters) > _MAX_PARAMETERS or parameters.strip("0123456789;"):
        return style
    codes = [int(code or 0) for code in reversed(parameters.split(";"))]
    while codes:
        code = codes.pop()
        if code in (38, 48):
            colour = _extended(codes)
            if colour is None:
                break
            style = style._replace(fg=colour) if code == 38 else style._replace(bg=colour)
        else:
            style = _simple(style, code)
    return style


def _simple(style: Style, code: int) -> Style:
    match code:
        case 0:
            return _PLAIN
        case 1 | 5:
            return style._replace(bold=True)
        case 21 | 22:
            return style._replace(bold=False)
        case 4 | 24:
            return style._replace(underline=code == 4)
        case 7 | 27:
            return style._replace(inverse=code == 7)
        case 39:
            return style._replace(fg=None)
        case 49:
            return style._replace(bg=None)
    for first, base in ((30, 0), (90, 8)):
        if first <= code < first + 8:
            return style._replace(fg=base + code - first)
        if first + 10 <= code < first + 18:
            return style._replace(bg=base + code - first - 10)
    return style


def _extended(codes: list[int]) -> Colour:
    """Take a 256 or 24-bit colour off the reversed `codes`; None when there is none."""
    kind = codes.pop() if codes else 0
    if kind == 2 and len(codes) >= 3:
        red, green, blue = codes.pop(), codes.pop(), codes.pop()
        return (red, green, blue) if max(red, green, blue) < 256 else None
    if kind != 5 or not codes:
        return None
    index = codes.pop()
    if index < 16:
        return index
    if index < 232:
        index -= 16
        red, green, blue = (level and 55 + 40 * level for level in (index // 36, index // 6 % 6, index % 6))
        return red, green, blue
    level = (index - 232) * 10 + 8
    return (level, level, level) if index < 256 else None


class _Row:
    """A line on the screen: stretches while text is only appended, single characters once it is overwritten."""

    __slots__ = ("chars", "length", "parts", "styles")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.parts: list[tuple[str, Style]] = []
        self.chars: list[str] | None = None
        self.length = 0

    def write(self, column: int, text: str, style: Style) -> None:
        """Put `text` at `column`, which is never behind the end of the line."""
        if column == 0 and len(text) >= self.length:
            self.clear()
        if column == self.length and self.chars is None:
            self.parts.append((text, style))
        else:
            chars = self._split()
            chars[column : column + len(text)] = text
            self.styles[column : column + len(text)] = [style] * len(text)
        self.length = max(self.length, column + len(text))

    def cut(self, column: int) -> None:
        """Erase from `column` to the end."""
        if column == 0:
            self.clear()
        elif column < self.length:
            del self._split()[column:], self.styles[column:]
            self.length = column

    def _split(self) -> list[str]:
        if self.chars is None:
            self.chars = []
            self.styles: list[Style] = []
            for text, style in self.parts:
                self.chars += text
                self.styles += [style] * len(text)
            self.parts = []
        return self.chars

    def html(self) -> str:
        if self.chars is None:
            return "".join([_span(text, style) for text, style in self.parts])
        out: list[str] = []
        start = 0
        for end in range(1, self.length + 1):
            if end == self.length or self.styles[end] is not self.styles[start]:
                out.append(_span("".join(self.chars[start:end]), self.styles[start]))
                start = end
        return "".join(out)


class _Screen:
    """The part of a terminal that progress bars use: a cursor on lines without end.

    The cursor never stands behind the end of its line: else a few bytes could ask for megabytes of blanks.
    """

    def __init__(self, text: str) -> None:
        self._row = _Row()
        self._rows = [self._row]
        self._line = self._column = 0
        style = _PLAIN
        parts = _TOKENS.split(text)
        self._write(parts[0], style)
        for parameters, final, control, chunk in zip(parts[1::4], parts[2::4], parts[3::4], parts[4::4], strict=True):
            if control:
                self._control(control)
            elif final == "m":
                style = _styled(style, parameters)
            elif final:
                self._move(final, parameters)
            if chunk:
                self._write(chunk, style)

    def html(self) -> str:
        return "\n".join([row.html() for row in self._rows])

    def _write(self, text: str, style: Style) -> None:
        if text:
            self._row.write(self._column, text, style)
            self._column += len(text)

    def _control(self, control: str) -> None:
        if control == "\b":
            self._column -= self._column > 0
            return
        self._column = 0
        if control == "\n":
            if self._line + 1 == len(self._rows):
                self._rows.append(_Row())
            self._go(self._line + 1)

    def _go(self, line: int) -> None:
        self._line = min(max(line, 0), len(self._rows) - 1)
        self._row = self._rows[self._line]
        self._column = min(self._column, self._row.length)

    def _move(self, final: str, parameters: str) -> None:
        count = int(parameters) if parameters.isascii() and parameters.isdigit() and len(parameters) < 9 else 0
        match final:
            case "A":
                self._go(self._line - max(count, 1))
            case "B":
                self._go(self._line + max(count, 1))
            case "C":
                self._column = min(self._column + max(count, 1), self._row.length)
            case "D":
                self._column = max(self._column - max(count, 1), 0)
            case "G":
                self._column = min(max(count, 1) - 1, self._row.length)
            case "K" if count == 0:
                self._row.cut(self._column)
            case "K" if count == 2:
                self._row.clear()
                self._column = 0
