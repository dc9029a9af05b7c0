"""The dashboard layout an author gave to a notebook: where each cell stands, read from metadata of version 1 or 0.

Metadata come from tools of several generations and from people's editors, so nothing in it is trusted to have a type.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from builder.page import LayoutType

COLUMNS = 12
ROW_HEIGHT = 20
GAP = 10
WIDTH = 4
HEIGHT = 4

MAX_COLUMNS = 1000
MAX_ROW = 99_999
MAX_HEIGHT = 10_000
MAX_PIXELS = 10_000


class Slot(NamedTuple):
    """The place of a cell in a grid: all 0-based and in slots, `col + width` never more than the columns there are."""

    row: int
    col: int
    width: int
    height: int


Place = Slot | Literal["shown", "hidden"]
"""shown: in the order of the notebook, with the height its content takes."""


class Layout(NamedTuple):
    """A page's layout; `none` is a plain notebook, where `cells` are all shown."""

    type: LayoutType
    columns: int
    row_height: int
    """Pixels."""
    gap: int
    """Pixels between slots."""
    cells: tuple[Place, ...]
    """The place of each cell, by index."""


class _Entry(NamedTuple):
    """What a cell says of its place in a grid; None where it says nothing."""

    row: int | None
    col: int | None
    width: int | None
    height: int | None


def read_layout(notebook_metadata: object, cells: Sequence[object]) -> Layout:
    """The layout in a notebook's metadata for its `cells` (as in the file); never raises, whatever is in them."""
    dashboard = _get(notebook_metadata, "extensions", "jupyter_dashboards")
    if isinstance(dashboard, dict):
        return _version_1(dashboard, [_get(cell, "metadata", "extensions", "jupyter_dashboards") for cell in cells])
    dashboard = _get(notebook_metadata, "urth", "dashboard")
    if isinstance(dashboard, dict):
        return _version_0(dashboard, [_get(cell, "metadata", "urth", "dashboard") for cell in cells])
    return _stacked("none", ["shown"] * len(cells))


def _version_1(dashboard: dict[str, Any], cells: list[object]) -> Layout:
    active = dashboard.get("activeView")
    if not isinstance(active, str) or not active:
        return _stacked("none", ["shown"] * len(cells))
    views = dashboard.get("views")
    known = {name: view for name, view in views.items() if isinstance(view, dict)} if isinstance(views, dict) else {}
    name = active if active in known else _similar(active, known)
    if name is None:
        return _stacked("report", ["shown"] * len(cells))
    entries = [_get(cell, "views", name) for cell in cells]
    if _type(known[name], name) == "grid":
        return _grid(known[name], [_visible(entry) for entry in entries])
    return _stacked("report", ["hidden" if _visible(entry) is None else "shown" for entry in entries])


def _similar(wanted: str, views: dict[str, Any]) -> str | None:
    """The first view of the type that the name of a missing view speaks of."""
    kind = _type({}, wanted)
    return next((name for name, view in views.items() if kind and _type(view, name) == kind), None)


def _type(view: dict[str, Any], name: str) -> Literal["grid", "report"] | None:
    """A view's type, or what its names suggest; None: it cannot be told."""
    for text in (view.get("type"), view.get("name"), name.partition("_")[0]):
        if text == "grid":
            return "grid"
        if text == "report":
            return "report"
    return None


def _version_0(dashboard: dict[str, Any], cells: list[object]) -> Layout:
    """The layout before there were views: no word about a cell hides it in a grid and shows it in a report."""
    if dashboard.get("layout") == "report":
        return _stacked("report", ["hidden" if _truth(_get(cell, "hidden")) else "shown" for cell in cells])
    entries: list[dict[str, Any] | None] = []
    for cell in cells:
        place = _get(cell, "layout")
        visible = _visible(cell) if cell != {} else None
        entries.append(place if visible is not None and isinstance(place, dict) else visible)
    return _grid(dashboard, entries)


def _stacked(kind: LayoutType, places: Iterable[Place]) -> Layout:
    return Layout(kind, COLUMNS, ROW_HEIGHT, GAP, tuple(places))


def _grid(view: dict[str, Any], entries: list[dict[str, Any] | None]) -> Layout:
    columns = _first(view, ("maxColumns", "numColumns"), 1, MAX_COLUMNS, COLUMNS)
    height = _first(view, ("defaultCellHeight", "cellHeight"), 0, MAX_PIXELS, ROW_HEIGHT)
    gap = _first(view, ("cellMargin",), 0, MAX_PIXELS, GAP)
    placed = [entry if entry is None else _entry(entry) for entry in entries]
    slots = [
        None if entry is None or entry.row is None or entry.col is None else _slot(entry, columns, 0)
        for entry in placed
    ]
    below = max((slot.row + slot.height for slot in slots if slot), default=0)
    places: list[Place] = []
    for entry, slot in zip(placed, slots, strict=True):
        if entry is None:
            places.append("hidden")
            continue
        if slot is None:
            slot = _slot(entry._replace(row=None), columns, below)
            below = slot.row + slot.height
        places.append(slot)
    return Layout("grid", columns, height, gap, tuple(places))


def _entry(entry: dict[str, Any]) -> _Entry:
    return _Entry(
        _whole(entry.get("row"), 0, MAX_ROW),
        _whole(entry.get("col"), 0, MAX_ROW),
        _whole(entry.get("width"), 1, MAX_COLUMNS),
        _whole(entry.get("height"), 1, MAX_HEIGHT),
    )


def _slot(entry: _Entry, columns: int, below: int) -> Slot:
    """A place inside the grid; a width that sticks out is clipped, a cell that is wholly outside is moved in."""
    width = min(entry.width or WIDTH, columns)
    col = entry.col or 0
    if col >= columns:
        col = columns - width
    row = below if entry.row is None else entry.row
    return Slot(min(row, MAX_ROW), col, min(width, columns - col), entry.height or HEIGHT)


def _visible(entry: object) -> dict[str, Any] | None:
    """What a cell says in a view where it is to be seen; without an entry it is not."""
    return entry if isinstance(entry, dict) and not _truth(entry.get("hidden")) else None


def _get(value: object, *keys: str) -> object:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _first(view: dict[str, Any], names: Iterable[str], least: int, most: int, default: int) -> int:
    """The first usable number among the spellings of a field."""
    numbers = (_whole(view.get(name), least, most) for name in names)
    return next((number for number in numbers if number is not None), default)


def _truth(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in ("true", "1")
    return value is True or (type(value) in (int, float) and value == 1)


def _whole(value: object, least: int, most: int) -> int | None:
    """A number, also one in a string, without its fraction and at most `most`; None for anything else or too small."""
    if isinstance(value, str) and len(value) <= 32:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value < least:
        return None
    return most if value >= most else int(value)
