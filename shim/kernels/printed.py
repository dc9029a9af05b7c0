"""Source in printed text: warnings, tracebacks and debuggers quote lines of a cell; readers get what is around them.

Text comes in pieces that end anywhere. What is no source is passed on at once, so that progress bars move.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

MAX_LINE = 4096
"""Characters that are remembered of a line without end."""

_LINES = re.compile(r"[^\n]*\n|[^\n]+")
_COLOURS = re.compile(r"\x1b(?:\[[0-9;]*(?:m|$)|$)")
_TRACEBACK = re.compile(r"\(most recent call last\):?\s*$|  File \"[^\"]+\", line \d+, in \S+$")
_FRAME = re.compile(r"\s*(?:\| +)?File \".+\", line \d+|Cell In ?\[\d+\]|Input In \[|File \S.*:\d+, in ")
_PLACE = re.compile(r"> (?:<[^<>]*>|[^>]*)\(\d+\)<?\w+>?\(")
_WARNING = re.compile(r"(?:\.pyw?|>):\d+: (?=[^\W\d][\w.]*: )|:\d+: (?=\w*Warning: )")
# Of a group of exceptions every line has one.
_MARGIN = re.compile(r" *(?:\| ?|\+-[+-]?)")
_SOURCE = re.compile(r"[ \t]|-+>")
_UNTOLD = re.compile(r" *-*")
_QUOTED = re.compile(r"  \S")


class Mode(Enum):
    """What the lines before say of the next ones."""

    TEXT = 0
    FRAMES = 1
    """A traceback has begun: lines with an indent or an arrow are part of it, any other ends it."""
    WARNED = 2
    """A warning was shown: behind its message stands a line of source, with two spaces before it."""


class Reading(NamedTuple):
    """How far a stream was read."""

    mode: Mode = Mode.TEXT
    line: str = ""
    """What is remembered of the line that has no end yet."""
    passes: bool | None = None
    """Whether that line is passed on; None while nobody can tell, and nothing of it was."""
    quoted: bool = False
    """Whether a line of source behind a warning was left out."""


def without_source(text: str, reading: Reading, *, places: bool = False) -> tuple[str, Reading]:
    """The next piece of a stream without quoted source, and how far the stream was read then.

    With `places` only what a debugger shows of the place where it stops is taken out.
    """
    left: list[str] = []
    for piece in _LINES.findall(text):
        reading = _read(piece, reading, left, places)
    if reading.quoted and not reading.line:
        # Not earlier: the message itself can have such lines. Nor later: a warning is written in one go.
        reading = reading._replace(mode=Mode.TEXT if reading.mode is Mode.WARNED else reading.mode, quoted=False)
    return "".join(left), reading


class Streams:
    """What a kernel prints while it runs one cell."""

    def __init__(self) -> None:
        self._readings: dict[bool, Reading] = {}

    def read(self, name: str, text: str) -> str:
        """The next piece of a stream without quoted source."""
        places = name != "stderr"
        left, self._readings[places] = without_source(text, self._readings.get(places, Reading()), places=places)
        return left


def _read(piece: str, reading: Reading, left: list[str], places: bool) -> Reading:
    mode, before, passes, quoted = reading
    known = before + piece
    ended = piece[-1] == "\n"
    line = _COLOURS.sub("", known).rstrip("\r\n") if ended else _COLOURS.sub("", known)
    if passes is None:
        passes = _passes(line, mode, ended, places)
        if passes:
            left.append(known if places else _unplaced(known))
    elif passes:
        left.append(piece)
    if mode is Mode.WARNED and passes is False:
        quoted = True
    if mode is not Mode.FRAMES and not places and _WARNING.search(known):
        mode = Mode.WARNED
    if not ended:
        kept = known[max(known.rfind("\r"), 0) :] if passes else known
        return Reading(mode, kept[-MAX_LINE:], passes, quoted)
    if _begins_frames(line, places):
        mode = Mode.FRAMES
    elif mode is Mode.FRAMES and passes:
        mode = Mode.TEXT
    return Reading(mode, "", None, quoted)


def _passes(line: str, mode: Mode, ended: bool, places: bool) -> bool | None:
    """Whether a line is no source, None when its beginning does not tell."""
    if mode is Mode.FRAMES:
        body = _MARGIN.sub("", line, count=1) if _MARGIN.match(line) else line
        if _UNTOLD.fullmatch(line) or not body:
            return False if ended else None
        return not _SOURCE.match(body) and not (ended and _begins_frame(line, places))
    if mode is Mode.WARNED and not ended and not line.strip(" ") and len(line) <= 2:
        return None
    if mode is Mode.WARNED and _QUOTED.match(line):
        return False
    return not (ended and _begins_frame(line, places))


def _begins_frame(line: str, places: bool) -> bool:
    if len(line) > MAX_LINE:
        return False
    return bool(_PLACE.match(line) or (not places and _FRAME.match(line)))


def _begins_frames(line: str, places: bool) -> bool:
    last = line[-MAX_LINE:]
    return bool(_begins_frame(line, places) or _PLACE.search(last) or (not places and _TRACEBACK.search(last)))


def _unplaced(line: str) -> str:
    """A warning without the place it comes from: of files readers are told nothing."""
    if not (found := _WARNING.search(line)):
        return line
    before = line[: found.start()]
    start = max(before.rfind(sign) for sign in " \t\r]:<") + 1
    return line[: start - (before[start - 1 : start] == "<")] + line[found.end() :]
