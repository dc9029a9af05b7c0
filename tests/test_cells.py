"""What a body holds of its cells, and above all what it does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from making import Cell, code, display, error, markdown, notebook, stream

from builder.page import Body, CodeMode, PageOptions
from builder.render import renderer
from builder.rendering.notebook import read_notebook


def body_of(*cells: Cell, code_mode: CodeMode = "shown", **metadata: Any) -> Body:
    """A notebook of these cells, rendered."""
    content = json.dumps(notebook(*cells, **metadata)).encode()
    read = read_notebook(content, "The notebook")
    return renderer().render(read.node, PageOptions(name="n", code=code_mode), read.findings)[0]


TABLE = {
    "text/html": '<div><style scoped>td{}</style><table class="dataframe"><tr><td>the data</td></tr></table></div>'
}


@pytest.mark.parametrize("mode", ["shown", "hidden"])
@pytest.mark.parametrize("tags", [["remove-cell"], ["remove-input", "remove-output"]])
def test_removed_outputs_are_gone_whatever_style_or_script_they_hold(mode: CodeMode, tags: list[str]) -> None:
    styled = {"text/html": "<style>p{}</style><p>the data</p>"}
    html = body_of(code("x = 1", display(TABLE), display(styled), tags=tags), code_mode=mode).html
    assert "the data" not in html
    assert "data-cell" in html


def test_the_description_is_what_the_author_wrote_and_not_an_output() -> None:
    hidden = code("x", display({"text/html": "<style></style><p>an output</p>"}), tags=["remove-cell"])
    shown = code("y", display({"text/html": "<p>another output</p>"}))
    assert (
        body_of(hidden, shown, markdown("folded", tags=["hide-cell"]), markdown("The words.")).meta.description
        == "The words."
    )


def test_a_traceback_that_quotes_removed_code_is_left_out_and_others_stay() -> None:
    secret = code("def secret(): raise ValueError", tags=["remove-input"])
    quoting = error("ValueError", "wrong", "\x1b[31m----> 1\x1b[0m \x1b[32mdef\x1b[39m secret(): raise ValueError")
    other = error("KeyError", "k", "in line 7")
    html = body_of(secret, code("secret()", quoting), code("z", other)).html
    assert "secret():" not in html
    assert "wrong" in html
    assert "in line 7" in html


def test_a_warning_does_not_quote_hidden_code() -> None:
    text = "/tmp/ipykernel_1/2.py:1: FutureWarning: is old\n  frame.the_source()\nmore\n"
    html = body_of(code("frame.the_source()", stream(text, "stderr")), code_mode="hidden").html
    assert "the_source" not in html
    assert "is old" in html
    assert "more" in html


def test_widget_state_holds_no_traceback_where_code_is_hidden() -> None:
    failure = {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["1 the_source"]}
    model = {
        "model_name": "OutputModel",
        "model_module": "m",
        "model_module_version": "1",
        "state": {"outputs": [failure]},
    }
    state = {"version_major": 2, "version_minor": 0, "state": {"m": model}}
    widgets = {"application/vnd.jupyter.widget-state+json": state}
    view = display({"application/vnd.jupyter.widget-view+json": {"model_id": "m"}})
    assert "the_source" in body_of(code("x = 1", view), widgets=widgets).html
    assert "the_source" not in body_of(code("x = 1", view), code_mode="hidden", widgets=widgets).html
