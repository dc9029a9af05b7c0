"""Dashboard layouts: every odd form that metadata take has one defined result."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.rendering.layout import MAX_COLUMNS, MAX_HEIGHT, MAX_ROW, Layout, Slot, read_layout

GRID = {"grid_default": {"name": "grid", "type": "grid"}, "report_default": {"name": "report", "type": "report"}}


def notebook(views: object = None, active: object = "grid_default", **more: object) -> dict[str, Any]:
    dashboard = {"version": 1, "activeView": active, "views": GRID if views is None else views, **more}
    return {"extensions": {"jupyter_dashboards": dashboard}}


def cell(entry: object, view: str = "grid_default") -> dict[str, Any]:
    return {"metadata": {"extensions": {"jupyter_dashboards": {"version": 1, "views": {view: entry}}}}}


def old_cell(dashboard: object) -> dict[str, Any]:
    return {"metadata": {"urth": {"dashboard": dashboard}}}


def geometry(layout: Layout, slot: Slot, inner: int) -> tuple[float, int, float, int]:
    """Left, top, width and height in pixels, of a grid whose columns touch and whose rows are `gap` apart."""
    pitch = layout.row_height + layout.gap
    return (
        slot.col / layout.columns * inner,
        slot.row * pitch,
        slot.width / layout.columns * inner,
        slot.height * layout.row_height + (slot.height - 1) * layout.gap,
    )


TANKS = json.loads("""
{"metadata": {"kernelspec": {"name": "python3"}, "extensions": {"jupyter_dashboards": {
   "version": 1, "activeView": "grid_default", "views": {
     "grid_default": {"name": "grid", "type": "grid", "cellMargin": 8, "defaultCellHeight": 24, "maxColumns": 12},
     "report_default": {"name": "report", "type": "report"}}}}},
 "cells": [
   {"cell_type": "code", "source": "import random", "metadata": {"extensions": {"jupyter_dashboards": {"version": 1,
     "views": {"grid_default": {"hidden": true}, "report_default": {"hidden": true}}}}}},
   {"cell_type": "markdown", "source": "# Tank levels", "metadata": {"extensions": {"jupyter_dashboards": {"version": 1,
     "views": {"grid_default": {"hidden": false, "row": 0, "col": 0, "width": 12, "height": 2},
               "report_default": {"hidden": false}}}}}},
   {"cell_type": "code", "source": "print(1)", "metadata": {"extensions": {"jupyter_dashboards": {"version": 1,
     "views": {"grid_default": {"hidden": false, "row": 2, "col": 3, "width": 6, "height": 5},
               "report_default": {"hidden": false}}}}}},
   {"cell_type": "raw", "source": "never shown", "metadata": {}}]}
""")


def test_grid_of_a_complete_dashboard_has_the_expected_geometry() -> None:
    layout = read_layout(TANKS["metadata"], TANKS["cells"])
    assert (layout.type, layout.columns, layout.row_height, layout.gap) == ("grid", 12, 24, 8)
    hidden, title, levels, raw = layout.cells
    assert (hidden, raw) == ("hidden", "hidden")
    assert isinstance(title, Slot)
    assert isinstance(levels, Slot)
    assert geometry(layout, title, 1200) == (0, 0, 1200, 56)
    assert geometry(layout, levels, 1200) == (300, 64, 600, 152)


def test_report_of_the_same_dashboard_stacks_what_is_not_hidden() -> None:
    metadata = json.loads(json.dumps(TANKS["metadata"]))
    metadata["extensions"]["jupyter_dashboards"]["activeView"] = "report_default"
    layout = read_layout(metadata, TANKS["cells"])
    assert (layout.type, layout.cells) == ("report", ("hidden", "shown", "shown", "hidden"))


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        None,
        [],
        {"extensions": None},
        {"extensions": {"jupyter_dashboards": None}},
        {"extensions": {"jupyter_dashboards": []}},
        {"extensions": {"jupyter_dashboards": {}}},
        {"extensions": {"jupyter_dashboards": {"version": 1, "views": GRID}}},
        notebook(active=None),
        notebook(active=""),
        notebook(active=3),
        {"urth": {"dashboard": None}},
        {"urth": "x"},
    ],
)
def test_without_an_active_view_it_is_a_plain_notebook(metadata: object) -> None:
    layout = read_layout(metadata, [cell({"hidden": True}), {}])
    assert (layout.type, layout.cells) == ("none", ("shown", "shown"))


SHOWN_IN = [cell({"row": 0, "col": 0}), cell({}, "report_default"), cell({}, "mine")]


@pytest.mark.parametrize(
    ("views", "active", "kind", "shown"),
    [
        (GRID, "gone", "report", [True, True, True]),
        ({}, "grid_default", "report", [True, True, True]),
        ([], "grid_default", "report", [True, True, True]),
        ({"grid_default": None}, "grid_default", "report", [True, True, True]),
        ({"mine": {"type": "grid"}}, "grid_default", "grid", [False, False, True]),
        ({"mine": {"type": "report"}}, "report", "report", [False, False, True]),
        ({"mine": {"type": "report"}}, "grid_default", "report", [True, True, True]),
        ({"report_default": {}, "mine": {"type": "report"}}, "report_x", "report", [False, True, False]),
        ({"mine": {"type": "slides"}}, "mine", "report", [False, False, True]),
        ({"mine": {"type": "slides", "name": "grid"}}, "mine", "grid", [False, False, True]),
        ({"grid_default": {}}, "grid_default", "grid", [True, False, False]),
    ],
)
def test_missing_or_unknown_active_view_falls_back(views: object, active: str, kind: str, shown: list[bool]) -> None:
    layout = read_layout(notebook(views, active), SHOWN_IN)
    assert layout.type == kind
    assert [place != "hidden" for place in layout.cells] == shown


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"metadata": {}},
        {"metadata": None},
        {"metadata": {"extensions": {"jupyter_dashboards": {"version": 1}}}},
        {"metadata": {"extensions": {"jupyter_dashboards": {"views": None}}}},
        {"metadata": {"extensions": {"jupyter_dashboards": {"views": []}}}},
        {"metadata": {"extensions": []}},
        cell(None),
        cell([]),
        cell("x"),
        cell({}, "other_view"),
        None,
        "x",
    ],
)
@pytest.mark.parametrize("active", ["grid_default", "report_default"])
def test_cell_without_an_entry_for_the_view_is_hidden(odd: object, active: str) -> None:
    assert read_layout(notebook(active=active), [odd]).cells == ("hidden",)


@pytest.mark.parametrize(
    ("hidden", "result"),
    [
        *[(True, True), ("true", True), ("True ", True), (1, True), (1.0, True)],
        *[(False, False), (None, False), ("false", False), ("", False), (0, False), ([], False), ({}, False)],
    ],
)
def test_hidden_is_read_from_what_tools_and_people_write(hidden: object, result: bool) -> None:
    metadata = notebook(active="report_default")
    assert read_layout(metadata, [cell({"hidden": hidden}, "report_default")]).cells == (
        "hidden" if result else "shown",
    )
    assert read_layout(metadata, [cell({}, "report_default")]).cells == ("shown",)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        ({}, (12, 20, 10)),
        ({"maxColumns": 6, "defaultCellHeight": 30, "cellMargin": 0}, (6, 30, 0)),
        ({"numColumns": 8, "cellHeight": 40}, (8, 40, 10)),
        ({"maxColumns": 6, "numColumns": 8, "defaultCellHeight": 30, "cellHeight": 40}, (6, 30, 10)),
        ({"maxColumns": None, "numColumns": 8, "defaultCellHeight": "x", "cellHeight": 40}, (8, 40, 10)),
        ({"maxColumns": "24", "defaultCellHeight": " 25.9 ", "cellMargin": 7.5}, (24, 25, 7)),
        ({"maxColumns": 0, "defaultCellHeight": -1, "cellMargin": -5}, (12, 20, 10)),
        ({"maxColumns": True, "defaultCellHeight": [], "cellMargin": {}}, (12, 20, 10)),
        ({"maxColumns": 10**30, "defaultCellHeight": 1e300, "cellMargin": float("inf")}, (MAX_COLUMNS, 10_000, 10)),
        ({"maxColumns": float("nan"), "cellMargin": "nan", "defaultCellHeight": "9" * 400}, (12, 20, 10)),
        ({"layoutStrategy": "packed", "max_cols": 4, "max_rows": 17}, (12, 20, 10)),
    ],
)
def test_grid_settings_in_both_spellings_and_odd_values(view: dict[str, Any], expected: tuple[int, int, int]) -> None:
    layout = read_layout(notebook({"grid_default": {"type": "grid", **view}}), [])
    assert (layout.columns, layout.row_height, layout.gap) == expected


@pytest.mark.parametrize(
    ("entry", "slot"),
    [
        ({"row": 1, "col": 2, "width": 3, "height": 5}, Slot(1, 2, 3, 5)),
        ({"row": 1, "col": 2, "width": None}, Slot(1, 2, 4, 4)),
        ({"row": 1, "col": 10}, Slot(1, 10, 2, 4)),
        ({"row": 0, "col": 9, "width": 6, "height": 1}, Slot(0, 9, 3, 1)),
        ({"row": 0, "col": 0, "width": 50, "height": 1}, Slot(0, 0, 12, 1)),
        ({"row": 0, "col": 12, "width": 3, "height": 1}, Slot(0, 9, 3, 1)),
        ({"row": "2", "col": "3", "width": "5.0", "height": 2.9}, Slot(2, 3, 5, 2)),
        ({"row": 0, "col": 0, "width": 0, "height": -1}, Slot(0, 0, 4, 4)),
        ({"row": 0, "col": 0, "width": "wide", "height": []}, Slot(0, 0, 4, 4)),
        ({"row": -1, "col": 3, "width": 2, "height": 2}, Slot(0, 3, 2, 2)),
        ({"row": 10**20, "col": 10**20, "width": 10**20, "height": 10**20}, Slot(MAX_ROW, 0, 12, MAX_HEIGHT)),
        ({"col": 5}, Slot(0, 5, 4, 4)),
        ({"row": 7}, Slot(0, 0, 4, 4)),
        ({}, Slot(0, 0, 4, 4)),
    ],
)
def test_grid_entry_is_coerced_completed_and_kept_inside_the_columns(entry: dict[str, Any], slot: Slot) -> None:
    assert read_layout(notebook(), [cell(entry)]).cells == (slot,)


def test_default_width_is_clipped_to_few_columns() -> None:
    assert read_layout(notebook({"grid_default": {"maxColumns": 2}}), [cell({"row": 0, "col": 0})]).cells == (
        Slot(0, 0, 2, 4),
    )


def test_cells_without_place_follow_below_all_others_in_order() -> None:
    cells = [
        cell({}),
        cell({"row": 3, "col": 0, "height": 6}),
        cell({"col": 4, "height": 2}),
        cell({"hidden": True}),
        cell({"row": 1}),
    ]
    assert read_layout(notebook(), cells).cells == (
        Slot(9, 0, 4, 4),
        Slot(3, 0, 4, 6),
        Slot(13, 4, 4, 2),
        "hidden",
        Slot(15, 0, 4, 4),
    )


def test_overlapping_cells_are_both_kept() -> None:
    entry = {"row": 0, "col": 0, "width": 4, "height": 4}
    assert read_layout(notebook(), [cell(entry), cell(entry)]).cells == (Slot(0, 0, 4, 4), Slot(0, 0, 4, 4))


def test_old_grid_is_converted() -> None:
    metadata = {"urth": {"dashboard": {"cellMargin": 5, "defaultCellHeight": 30, "maxColumns": 6}}}
    cells = [
        old_cell({"layout": {"row": 1, "col": 2, "width": 3, "height": 4}}),
        old_cell({"row": 0, "col": 0, "width": 6, "height": 1}),
        old_cell({}),
        old_cell({"hidden": True, "layout": {"row": 9, "col": 0, "width": 1, "height": 1}}),
        old_cell({"hidden": False}),
        {"metadata": {}},
    ]
    layout = read_layout(metadata, cells)
    assert (layout.type, layout.columns, layout.row_height, layout.gap) == ("grid", 6, 30, 5)
    assert layout.cells == (Slot(1, 2, 3, 4), Slot(0, 0, 6, 1), "hidden", "hidden", Slot(5, 0, 4, 4), "hidden")


def test_old_report_shows_all_but_hidden_cells() -> None:
    cells = [old_cell({}), old_cell({"hidden": True}), {"metadata": {}}, old_cell({"layout": {"row": 1}})]
    layout = read_layout({"urth": {"dashboard": {"layout": "report"}}}, cells)
    assert (layout.type, layout.cells) == ("report", ("shown", "hidden", "shown", "shown"))


def test_new_metadata_goes_before_old() -> None:
    metadata = notebook(active="report_default") | {"urth": {"dashboard": {"layout": "grid"}}}
    assert read_layout(metadata, []).type == "report"


KEYS = [
    *["extensions", "jupyter_dashboards", "urth", "dashboard", "metadata", "views", "activeView", "grid", "report"],
    *["type", "layout", "hidden", "row", "col", "width", "height", "maxColumns", "numColumns", "cellHeight"],
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["grid", "report", "1e999"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


def check(layout: Layout, count: int) -> None:
    assert len(layout.cells) == count
    assert 1 <= layout.columns <= MAX_COLUMNS
    assert layout.row_height >= 0
    assert layout.gap >= 0
    for place in layout.cells:
        if isinstance(place, Slot):
            assert all(type(number) is int for number in place)
            assert 0 <= place.row <= MAX_ROW
            assert 0 <= place.col < place.col + place.width <= layout.columns
            assert 1 <= place.height <= MAX_HEIGHT


@settings(deadline=None)
@given(JSON, st.lists(JSON, max_size=4))
def test_no_metadata_whatsoever_raises(metadata: object, cells: list[object]) -> None:
    check(read_layout(metadata, cells), len(cells))


@settings(deadline=None)
@given(JSON, st.lists(JSON, max_size=4), st.booleans())
def test_no_view_or_entry_whatsoever_raises_or_leaves_the_grid(view: object, entries: list[object], old: bool) -> None:
    metadata = {"urth": {"dashboard": view}} if old else notebook({"grid": view}, "grid")
    check(read_layout(metadata, [old_cell(entry) if old else cell(entry, "grid") for entry in entries]), len(entries))
