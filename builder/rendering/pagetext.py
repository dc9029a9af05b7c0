"""What is known and collected while the texts of one notebook are rendered, cell after cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from builder.page import Finding, Heading, Media
from builder.rendering.attachments import ATTACHMENT, DATA, embedded_image
from builder.rendering.formulas import Formulas
from builder.rendering.references import References


@dataclass
class PageText:
    """One per notebook; `cell` and `attachments` are those of the cell being rendered."""

    references: References
    formulas: Formulas
    add_media: Callable[[Media], None]
    """Takes in an image that becomes a file; the same one may come several times."""
    cell: int = 0
    attachments: Mapping[str, object] = field(default_factory=dict)
    headings: list[Heading] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    tables: int = 0
    _ids: dict[str, int] = field(default_factory=dict)

    def warn(self, message: str) -> None:
        """Note something about the current cell."""
        self.findings.append(Finding("warning", message, self.cell))

    def unique_id(self, wanted: str) -> str:
        """`wanted`, or with the first free number after it when the page has that id: `x`, `x-1`, `x-2`."""
        candidate = wanted
        while candidate in self._ids:
            self._ids[wanted] = self._ids.get(wanted, 0) + 1
            candidate = f"{wanted}-{self._ids[wanted]}"
        self._ids[candidate] = 0
        return candidate

    def link(self, url: str, cell: int) -> str:
        """What to write for a place to go to; an attached image is one, too."""
        src = self._embedded(url)[0] if url.startswith(ATTACHMENT) else ""
        return src or self.references.link(url, cell)

    def file(self, url: str, cell: int) -> str:
        """What to write for something that the browser fetches."""
        src = self._embedded(url)[0] if url.startswith((ATTACHMENT, DATA)) else ""
        return src or self.references.file(url, cell)

    def image(self, url: str) -> tuple[str, tuple[int, int] | None] | None:
        """The `src` of an image and its size when that is known; None, after a warning, for a missing attachment."""
        if not url.startswith((ATTACHMENT, DATA)):
            return self.references.file(url, self.cell), None
        src, size = self._embedded(url)
        return (src, size) if src else None

    def _embedded(self, url: str) -> tuple[str, tuple[int, int] | None]:
        found = embedded_image(url, self.attachments)
        if isinstance(found, str):
            self.warn(found)
            return "", None
        self.add_media(found[0])
        return self.references.media(found[0].name), found[1]
