"""What a build did, for people, scripts and the next run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct, json

Status = Literal["built", "kept", "failed", "removed"]
DRAFT = "is a draft and not published"
"""The message of a page that its author does not want to be seen."""


class PageReport(Struct, frozen=True):
    """One page of a report; `message` says why it failed, or what its author may want to mend."""

    path: str
    status: Status
    message: str = ""


class Report(Struct, frozen=True):
    """The outcome of one build; its JSON form is part of the public interface."""

    built: int
    kept: int
    failed: int
    removed: int
    seconds: float
    pages: tuple[PageReport, ...]

    def json(self) -> bytes:
        """The report as one JSON object, UTF-8, with a final newline."""
        return json.format(json.encode(self), indent=1) + b"\n"

    @property
    def findings(self) -> tuple[PageReport, ...]:
        """The pages that have something to say."""
        return tuple(page for page in self.pages if page.message)

    def __str__(self) -> str:
        counts = [f"built {self.built}", f"kept {self.kept}", f"failed {self.failed}"]
        if self.removed:
            counts.append(f"removed {self.removed}")
        return f"{', '.join(counts)} in {self.seconds:.2f} s"


def summarise(pages: Iterable[PageReport], seconds: float) -> Report:
    """Count the pages by status, in the order of their paths."""
    ordered = tuple(sorted(pages, key=lambda page: page.path))
    count = dict.fromkeys(("built", "kept", "failed", "removed"), 0)
    for page in ordered:
        count[page.status] += 1
    return Report(**count, seconds=round(seconds, 3), pages=ordered)


class Summary(Struct, frozen=True, order=True):
    """A notebook or bundle of the source folder and what became of it; its fields are part of the public interface."""

    path: str
    title: str
    kind: Literal["notebook", "zip", "folder", "index"]
    published: bool
    message: str
    """Why it is not published, or what its author may want to mend."""
