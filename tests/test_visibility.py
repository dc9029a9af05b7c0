from __future__ import annotations

from typing import Any

import pytest

from builder.page import CodeMode
from builder.rendering.visibility import CellVisibility, cell_visibility


def code_cell(*tags: Any, **metadata: Any) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {**metadata, **({"tags": list(tags)} if tags else {})}}


def markdown_cell(*tags: str, **metadata: Any) -> dict[str, Any]:
    return {**code_cell(*tags, **metadata), "cell_type": "markdown"}


@pytest.mark.parametrize(("code", "source"), [("shown", "shown"), ("folded", "folded"), ("hidden", "none")])
def test_the_page_decides_about_the_source_of_a_cell_without_tags(code: CodeMode, source: str) -> None:
    seen = cell_visibility(code_cell(), code)
    assert (seen.input, seen.output) == (source, "shown")


@pytest.mark.parametrize(
    ("tag", "source", "output"),
    [
        ("hide-input", "folded", "shown"),
        ("hide-output", "shown", "folded"),
        ("hide-cell", "folded", "folded"),
        ("remove-input", "none", "shown"),
        ("remove-output", "shown", "none"),
        ("remove-cell", "none", "none"),
        ("parameters", "shown", "shown"),
        ("injected-parameters", "shown", "shown"),
        ("hide_code", "shown", "shown"),
    ],
)
def test_each_tag_hides_what_it_says_in_both_spellings(tag: str, source: str, output: str) -> None:
    for spelling in (tag, tag.replace("-", "_")):
        seen = cell_visibility(code_cell(spelling), "shown")
        assert (seen.input, seen.output) == (source, output)


def test_removing_wins_over_hiding() -> None:
    seen = cell_visibility(code_cell("hide-input", "remove-input", "hide-output", "remove-output"), "folded")
    assert (seen.input, seen.output) == ("none", "none")


@pytest.mark.parametrize("tag", ["hide-input", "parameters", "hide-cell"])
def test_no_tag_brings_back_the_source_of_a_page_that_hides_code(tag: str) -> None:
    assert cell_visibility(code_cell(tag), "hidden").input == "none"


@pytest.mark.parametrize(
    ("cell", "code", "tracebacks"),
    [
        (code_cell(), "shown", True),
        (code_cell(), "folded", True),
        (code_cell("hide-input"), "shown", True),
        (code_cell(), "hidden", False),
        (code_cell("remove-input"), "shown", False),
    ],
)
def test_tracebacks_are_shown_only_where_the_source_is_on_the_page(
    cell: dict[str, Any], code: CodeMode, tracebacks: bool
) -> None:
    assert cell_visibility(cell, code).tracebacks is tracebacks


def test_what_jupyterlab_collapsed_is_folded() -> None:
    assert cell_visibility(code_cell(jupyter={"source_hidden": True}), "shown").input == "folded"
    assert cell_visibility(code_cell(jupyter={"outputs_hidden": True}), "shown").output == "folded"
    assert cell_visibility(code_cell(collapsed=True), "shown").output == "folded"
    assert cell_visibility(markdown_cell(jupyter={"source_hidden": True}), "shown").input == "folded"


def test_what_jupyterlab_stored_as_open_is_shown() -> None:
    seen = cell_visibility(
        code_cell(collapsed=False, jupyter={"source_hidden": False, "outputs_hidden": False}), "shown"
    )
    assert (seen.input, seen.output) == ("shown", "shown")


@pytest.mark.parametrize(
    ("tags", "content"),
    [((), "shown"), (("hide-cell",), "folded"), (("remove_cell",), "none"), (("hide-input", "remove-input"), "shown")],
)
def test_only_whole_cell_tags_touch_markdown(tags: tuple[str, ...], content: str) -> None:
    for code in ("shown", "folded", "hidden"):
        assert cell_visibility(markdown_cell(*tags), code) == CellVisibility(content, "none")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        [],
        "x",
        {"tags": "remove-cell"},
        {"tags": {"remove-cell": 1}},
        {"tags": [None, 1, ["remove-cell"]]},
        {"jupyter": ["source_hidden"]},
        {"jupyter": {"source_hidden": "yes"}},
        {"collapsed": 1},
    ],
)
def test_metadata_of_an_unknown_shape_hide_nothing(metadata: Any) -> None:
    seen = cell_visibility({"cell_type": "code", "metadata": metadata}, "shown")
    assert (seen.input, seen.output) == ("shown", "shown")
