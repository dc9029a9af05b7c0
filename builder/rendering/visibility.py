"""Decide what of a cell a page shows, from its tags, its metadata and what the page says of code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from builder.page import CodeMode

Visibility = Literal["shown", "folded", "none"]


@dataclass(frozen=True)
class CellVisibility:
    """What of a cell is shown; the input of a Markdown or raw cell is its content."""

    input: Visibility = "shown"
    output: Visibility = "none"
    tracebacks: bool = True
    """Whether errors may show their tracebacks: only where the source is on the page, which they quote."""


def cell_visibility(cell: Mapping[str, Any], code: CodeMode) -> CellVisibility:
    """Return what to show of `cell` on a page whose code is `code`.

    Tags are hide-input, hide-output, hide-cell, remove-input, remove-output and remove-cell, also with underscores;
    what JupyterLab stored as collapsed is folded. Removing wins over hiding, and hidden code over both.
    """
    metadata = cell.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    tags = _tags(metadata)
    collapsed = metadata.get("jupyter")
    collapsed = collapsed if isinstance(collapsed, dict) else {}
    source_hidden = collapsed.get("source_hidden") is True
    if cell.get("cell_type") != "code":
        return CellVisibility(_either("remove-cell" in tags, "hide-cell" in tags or source_hidden))
    hidden = code == "hidden"
    shown_input = _either(
        hidden or bool(tags & {"remove-cell", "remove-input"}),
        code == "folded" or source_hidden or bool(tags & {"hide-cell", "hide-input"}),
    )
    outputs_hidden = collapsed.get("outputs_hidden") is True or metadata.get("collapsed") is True
    shown_output = _either(
        bool(tags & {"remove-cell", "remove-output"}), outputs_hidden or bool(tags & {"hide-cell", "hide-output"})
    )
    return CellVisibility(shown_input, shown_output, shown_input != "none")


def _either(removed: bool, folded: bool) -> Visibility:
    return "none" if removed else "folded" if folded else "shown"


def _tags(metadata: Mapping[str, Any]) -> set[str]:
    tags = metadata.get("tags")
    return {tag.replace("_", "-") for tag in tags if isinstance(tag, str)} if isinstance(tags, list) else set()
