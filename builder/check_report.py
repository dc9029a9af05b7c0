"""What `build-site check` found, for people and for scripts."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import Literal

from msgspec import Struct, json

from builder.paths import escaped

Level = Literal["error", "warning", "information"]
Kind = Literal[
    "failed",
    "file",
    "name",
    "settings",
    "notebook",
    "link",
    "anchor",
    "external",
    "formula",
    "page",
    "alt",
    "size",
    "draft",
]

_ORDER: tuple[Level, ...] = ("error", "warning", "information")


class CheckFinding(Struct, frozen=True):
    """One thing that is or may become wrong; `path` is a page, or a file that makes none."""

    path: str
    cell: int | None
    """0-based index in the notebook's cells."""
    level: Level
    kind: Kind
    message: str


class CheckReport(Struct, frozen=True):
    """All findings in the order of pages and cells; its JSON form is part of the public interface."""

    pages: int
    findings: tuple[CheckFinding, ...]

    def json(self) -> bytes:
        """The report as one JSON object, UTF-8, with a final newline."""
        return json.format(json.encode(self), indent=1) + b"\n"

    @property
    def problems(self) -> tuple[CheckFinding, ...]:
        """The findings that somebody should mend: all but information."""
        return tuple(finding for finding in self.findings if finding.level != "information")

    def __str__(self) -> str:
        lines = []
        for path, group in groupby(self.findings, key=lambda finding: finding.path):
            lines += [escaped(path) or "index", *_table(list(group)), ""]
        return "\n".join([*lines, self._summary()])

    def _summary(self) -> str:
        count = Counter(finding.level for finding in self.findings)
        found = [_counted(count[level], level) for level in _ORDER if count[level]]
        return f"{_counted(self.pages, 'page')} checked: {', '.join(found) or 'nothing to mend'}"


def check_report(pages: int, findings: list[CheckFinding]) -> CheckReport:
    """A report with each finding once, in order."""

    def place(finding: CheckFinding) -> tuple[str, int, int, str]:
        cell = -1 if finding.cell is None else finding.cell
        return finding.path, cell, _ORDER.index(finding.level), finding.message

    return CheckReport(pages, tuple(sorted(dict.fromkeys(findings), key=place)))


def _table(findings: list[CheckFinding]) -> list[str]:
    """The findings of one page, a line each, in columns."""
    rows = [
        (finding.level, "" if finding.cell is None else f"cell {finding.cell}", finding.kind, finding.message)
        for finding in findings
    ]
    level, cell, kind = (max(len(row[column]) for row in rows) for column in range(3))
    return [
        f"  {row[0]:{level}}  {row[1]:{cell}}{'  ' if cell else ''}{row[2]:{kind}}  {escaped(row[3])}" for row in rows
    ]


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" + ("s" if number != 1 and word != "information" else "")
