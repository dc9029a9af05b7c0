from __future__ import annotations

import copy
import json
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import NotebookError
from builder.rendering.notebook import check_notebook, read_notebook


def notebook(*cells: Any, **fields: Any) -> dict[str, Any]:
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells), **fields}


def code(source: Any = "", *outputs: Any, **fields: Any) -> dict[str, Any]:
    cell = {"cell_type": "code", "metadata": {}, "source": source, "outputs": list(outputs), "execution_count": None}
    return {**cell, **fields}


def markdown(source: Any = "", **fields: Any) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source, **fields}


def display(**data: Any) -> dict[str, Any]:
    return {"output_type": "display_data", "metadata": {}, "data": {k.replace("_", "/"): v for k, v in data.items()}}


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


def read(value: Any) -> Any:
    return read_notebook(value if isinstance(value, bytes) else encode(value), "a.ipynb").node


def warnings(value: Any) -> list[tuple[int | None, str]]:
    found = read_notebook(encode(value), "a.ipynb").findings
    return [(finding.cell, finding.message) for finding in found]


def refusal(data: bytes) -> str:
    with pytest.raises(NotebookError) as error:
        read_notebook(data, "a.ipynb")
    return str(error.value)


def full() -> dict[str, Any]:
    """A notebook that uses every part of the format."""
    stream = {"output_type": "stream", "name": "stdout", "text": ["a\n", "b"]}
    result = {
        "output_type": "execute_result",
        "execution_count": 3,
        "metadata": {"image/png": {"width": 3}},
        "data": {"text/plain": ["x\n", "y"], "application/json": {"a": ["x", "y"]}, "image/png": "QUJD\n"},
    }
    error = {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["one", "two"]}
    return notebook(
        {**markdown(["# T\n", "t"], attachments={"a.png": {"image/png": "QUJD"}}), "id": "m1"},
        {**code(["a\n", "b"], stream, result, error, execution_count=3), "id": "c1"},
        {"cell_type": "raw", "metadata": {"format": "x"}, "source": "raw", "id": "r1"},
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}, "widgets": {"x": [{"y": 1}]}},
    )


def test_a_valid_notebook_is_read_as_nbformat_reads_it() -> None:
    data = encode(full())
    ours = read_notebook(data, "a.ipynb")
    theirs = nbformat.reads(data.decode(), as_version=4)
    assert ours.node == theirs
    assert ours.findings == ()
    assert ours.node.cells[1].outputs[1].data["text/plain"] == "x\ny"
    assert ours.node.metadata.kernelspec.name == "python3"
    nbformat.validate(ours.node)


def test_the_node_can_be_changed_and_copied_like_nbformats() -> None:
    node = copy.deepcopy(read(full()))
    node.cells[0].source = "new"
    node.metadata.title = "t"
    assert node.metadata["title"] == "t"


@pytest.mark.parametrize("minor", [0, 2, 4, 5, 9])
def test_every_minor_version_of_nbformat_4_is_read(minor: int) -> None:
    assert read(notebook(markdown("x"), nbformat_minor=minor)).cells[0].source == "x"


@pytest.mark.parametrize("missing", ["metadata", "nbformat_minor"])
def test_a_notebook_without_parts_nobody_needs_is_read(missing: str) -> None:
    raw = notebook(markdown("x"))
    del raw[missing]
    node = read(raw)
    assert node.metadata == {}
    assert node.cells[0].source == "x"


def test_nbformat_3_is_upgraded_and_the_same_on_every_read() -> None:
    cells = [
        {"cell_type": "heading", "level": 2, "metadata": {}, "source": ["Title"]},
        {"cell_type": "markdown", "metadata": {}, "source": ["one\n", "two"]},
        {
            "cell_type": "code",
            "metadata": {},
            "language": "python",
            "collapsed": False,
            "prompt_number": 7,
            "input": ["a = 1\n", "a"],
            "outputs": [
                {"output_type": "pyout", "prompt_number": 7, "metadata": {}, "text": ["1"], "png": "QUJD"},
                {"output_type": "stream", "stream": "stderr", "text": ["bad\n", "news"]},
                {"output_type": "pyerr", "ename": "E", "evalue": "v", "traceback": ["t"]},
            ],
        },
    ]
    data = encode({"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": "n"}, "worksheets": [{"cells": cells}]})
    node = read(data)
    assert [cell.source for cell in node.cells] == ["## Title", "one\ntwo", "a = 1\na"]
    result, stream, error = node.cells[2].outputs
    assert result.data == {"text/plain": "1", "image/png": "QUJD"}
    assert (stream.name, stream.text) == ("stderr", "bad\nnews")
    assert error.ename == "E"
    assert node.cells[2].execution_count == 7
    assert node == read(data), "nbformat gives new cells random ids"


def test_a_wrong_cell_of_nbformat_3_does_not_cost_the_others() -> None:
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": "kept"},
        "no cell",
        {"cell_type": "code", "input": "x", "outputs": "none"},
        {"cell_type": "code", "input": "kept too", "outputs": [], "language": "python"},
    ]
    raw = {"nbformat": 3, "metadata": None, "worksheets": [{"cells": cells}, None]}
    assert [cell.source for cell in read(raw).cells] == ["kept", "", "", "kept too"]
    assert [cell for cell, _ in warnings(raw)] == [1, 2]


def test_older_formats_are_upgraded_too() -> None:
    old = {"nbformat": 2, "metadata": {}, "worksheets": [{"cells": [{"cell_type": "markdown", "source": "two"}]}]}
    assert read(old).cells[0].source == "two"
    assert read({"nbformat": 1, "cells": [{"cell_type": "code", "code": "one"}]}).cells[0].source == "one"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a.ipynb is empty."),
        (b" \n", "a.ipynb is empty."),
        (b"\xef\xbb\xbf", "a.ipynb is empty."),
        (b'{\n "cells": [,]}', "a.ipynb is not JSON: Expecting value (line 2, column 12)."),
        (b"<<<<<<< HEAD\n{}", "a.ipynb is not JSON: Expecting value (line 1, column 1)."),
        (b'{"a": "\x01"}', "a.ipynb is not JSON: Invalid control character at (line 1, column 8)."),
        (b"[1]", "a.ipynb is JSON but no notebook: it holds a list."),
        (b"null", "a.ipynb is JSON but no notebook: it holds null."),
        (b"3", "a.ipynb is JSON but no notebook: it holds a number."),
        (b'"x"', "a.ipynb is JSON but no notebook: it holds a text."),
        (b"{}", "a.ipynb is JSON but no notebook: it has no list of cells."),
        (b'{"nbformat": 4}', "a.ipynb is JSON but no notebook: it has no list of cells."),
        (b'{"nbformat": 4, "cells": {}}', "a.ipynb is JSON but no notebook: it has no list of cells."),
        (b'{"nbformat": 3, "cells": []}', "a.ipynb is JSON but no notebook: it has no list of cells."),
        (b'{"nbformat": 0, "cells": []}', "a.ipynb is JSON but no notebook: it has no list of cells."),
        (b'{"nbformat": 5, "cells": []}', "a.ipynb is in nbformat 5, this nbfolio reads 3 and 4."),
        ("{'é'".encode("latin-1"), "a.ipynb is not UTF-8 text: byte e9 at offset 2. Save it as UTF-8."),
        (b'\xef\xbb\xbf{"\xe9"', "a.ipynb is not UTF-8 text: byte e9 at offset 5. Save it as UTF-8."),
        (b"\x89PNG\r\n\x1a\n" + bytes(9), "a.ipynb is not UTF-8 text: byte 89 at offset 0. Save it as UTF-8."),
        (b"\xff\xfe{\x00\x00", "a.ipynb is not UTF-16 text: byte 00 at offset 4. Save it as UTF-8."),
        (b"[" * 100_000, "a.ipynb is nested too deeply to be a notebook."),
        (b'{"nbformat": 4, "cells": [], "x": ' + b"9" * 5000 + b"}", "a.ipynb is not usable JSON: Exceeds the limit"),
    ],
)
def test_what_is_no_notebook_is_refused_in_one_sentence(data: bytes, message: str) -> None:
    assert refusal(data).startswith(message)
    assert "\n" not in refusal(data)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_unicode_encodings_are_recognised(encoding: str) -> None:
    data = json.dumps(notebook(markdown("é漢")), ensure_ascii=False).encode(encoding)
    assert read(data).cells[0].source == "é漢"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("text", "The cell is not an object and was left out."),
        (None, "The cell is not an object and was left out."),
        ({"cell_type": "video", "source": "x"}, "The cell has no known cell_type; its source is shown as it is."),
        ({"source": "x"}, "The cell has no known cell_type; its source is shown as it is."),
        ({"cell_type": ["code"], "source": "x"}, "The cell has no known cell_type; its source is shown as it is."),
        ({"cell_type": "code"}, "The cell has no source that is text; it is shown empty."),
        (code(7), "The cell has no source that is text; it is shown empty."),
        (code(["a", 1]), "The cell has no source that is text; it is shown empty."),
        (markdown("x", metadata=[]), "The metadata is not an object and was ignored."),
        (code("x", outputs={}), "The outputs of the cell are not a list and were left out."),
        (code("x", "text"), "Output 1 has no known output_type and was left out."),
        (code("x", {"output_type": "pyout"}), "Output 1 has no known output_type and was left out."),
        (code("x", {"output_type": "new", "data": {}}), "Output 1 has no known output_type; its data is shown."),
        (code("x", {"output_type": "stream"}), "Output 1 has no text."),
        (code("x", {"output_type": "display_data"}), "Output 1 has no data."),
        (code("x", display(text_html=3)), "Output 1: text/html is not text and was left out."),
        (code("x", display(text_plain=None)), "Output 1: text/plain is not text and was left out."),
        (markdown("x", attachments={"a.png": 1}), "The attachment 'a.png' has no data."),
    ],
)
def test_one_wrong_cell_is_repaired_and_reported(cell: Any, message: str) -> None:
    raw = notebook(markdown("before"), cell, markdown("after"))
    assert warnings(raw) == [(1, message)]
    node = read(raw)
    assert [node.cells[0].source, node.cells[2].source] == ["before", "after"]
    assert node.cells[1].cell_type in ("code", "markdown", "raw")
    assert isinstance(node.cells[1].source, str)


def test_missing_fields_of_errors_and_counts_are_filled_in() -> None:
    error = {"output_type": "error", "traceback": ["a", 1, None]}
    result = {"output_type": "execute_result", "data": {}, "execution_count": "*"}
    cell = read(notebook(code("x", error, result, execution_count="*"))).cells[0]
    assert (cell.outputs[0].ename, cell.outputs[0].evalue, cell.outputs[0].traceback) == ("", "", ["a"])
    assert cell.execution_count is None
    assert cell.outputs[1].execution_count is None
    assert cell.outputs[1].metadata == {}


def test_cell_ids_are_unique_and_safe() -> None:
    raw = notebook(*(markdown(id=name) for name in ["a", "a", "", "b c", '"><script>', 7, "x" * 65, "ok-1_B"]))
    assert [cell.get("id") for cell in read(raw).cells] == ["a", None, None, None, None, None, None, "ok-1_B"]
    assert warnings(raw) == [(1, "The cell id a occurs more than once; links to it go to the first cell.")]


def test_a_file_without_version_is_read_by_its_shape() -> None:
    raw = {"cells": [markdown("x")], "nbformat": "4"}
    assert read(raw).cells[0].source == "x"
    assert warnings(raw) == [(None, "The file does not say its nbformat; it was read as 4.")]


def test_the_characters_of_markers_are_removed_from_every_text() -> None:
    raw = full()
    raw["cells"][0]["source"] = ["\x020\x03a", "b\x02"]
    raw["cells"][1]["outputs"][0]["text"] = "x\x03y"
    raw["cells"][1]["outputs"][1]["data"]["application/json"] = {"k\x02": ["\x03v"]}
    raw["cells"][1]["outputs"][2]["traceback"] = ["\x02t"]
    raw["metadata"]["title"] = "\x021\x03"
    node = read(raw)
    assert "\\u0002" not in json.dumps(node)
    assert "\\u0003" not in json.dumps(node)
    assert node.cells[0].source == "0ab"
    assert node.cells[1].outputs[1].data["application/json"] == {"k": ["v"]}


def test_other_escapes_are_not_mistaken_for_markers() -> None:
    assert read(notebook(markdown("\\u0002 \x00\x01\x04"))).cells[0].source == "\\u0002 \x00\x01\x04"


def test_lone_surrogates_become_replacement_characters() -> None:
    data = encode(notebook(code("\ud800 \U0001f600", display(text_plain="\udfff\x02"))))
    node = read(data)
    assert node.cells[0].source == "\ufffd \U0001f600"
    assert node.cells[0].outputs[0].data["text/plain"] == "\ufffd"


def test_numbers_that_json_does_not_know_become_null() -> None:
    data = encode(notebook(code("", display(application_json=[float("nan"), float("inf"), 1.5]))))
    data = data.replace(b"1.5", b"1.5, 1e400, -Infinity")
    assert read(data).cells[0].outputs[0].data["application/json"] == [None, None, 1.5, None, None]


def test_deep_json_costs_one_output_or_the_metadata_only() -> None:
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    raw = notebook(code("kept", display(application_json=deep, text_plain="shown"), metadata={"x": deep}))
    assert read(raw).cells[0].outputs[0].data == {"text/plain": "shown"}
    assert [message for _, message in warnings(raw)] == [
        "The metadata is nested more than 100 levels deep and was ignored.",
        "Output 1: application/json is nested more than 100 levels deep; left out.",
    ]
    almost: Any = "x"
    for _ in range(99):
        almost = {"k": almost}
    node = read(notebook(code("", display(application_json=almost))))
    assert json.dumps(copy.deepcopy(node)).count('"k"') == 99


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
outputs = st.fixed_dictionaries(
    {},
    optional={
        "output_type": st.sampled_from(["stream", "error", "display_data", "execute_result", "pyout"]) | json_values,
        "text": json_values,
        "name": json_values,
        "data": st.dictionaries(st.sampled_from(["text/html", "application/json", "x"]), json_values) | json_values,
        "traceback": json_values,
        "metadata": json_values,
        "execution_count": json_values,
    },
)
cells = st.fixed_dictionaries(
    {},
    optional={
        "cell_type": st.sampled_from(["code", "markdown", "raw"]) | json_values,
        "source": json_values,
        "metadata": json_values,
        "outputs": st.lists(outputs | json_values, max_size=2) | json_values,
        "attachments": json_values,
        "id": json_values,
        "input": json_values,
        "language": json_values,
    },
)


@settings(deadline=None)
@given(st.lists(cells | json_values, max_size=3), json_values, st.sampled_from([1, 2, 3, 4, None, "4"]))
def test_any_notebook_is_read_or_refused_in_a_sentence(raw: list[Any], metadata: Any, version: Any) -> None:
    sheets = [{"cells": raw, "metadata": metadata}]
    data = encode({"nbformat": version, "metadata": metadata, "cells": raw, "worksheets": sheets})
    try:
        found = read_notebook(data, "a.ipynb")
    except NotebookError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert version in (1, 2, 3)
        assert "could not be upgraded" in refused
        return
    json.dumps(found.node, allow_nan=False).encode()
    assert len(found.node.cells) == len(raw)
    for cell in found.node.cells:
        assert isinstance(cell.source, str)
        assert isinstance(cell.metadata, dict)
        for output in cell.get("outputs", []):
            assert output.output_type in ("stream", "error", "display_data", "execute_result")


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,\\u0nbformat4cells\x02\ufeff', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused_in_a_sentence(data: bytes) -> None:
    refused = "a.ipynb is "
    try:
        read_notebook(data, "a.ipynb")
    except NotebookError as error:
        refused = str(error)
    assert refused.startswith("a.ipynb is ")
    assert "\n" not in refused
    assert isinstance(check_notebook(data), list)


def test_check_has_nothing_against_a_valid_notebook() -> None:
    assert check_notebook(encode(full())) == []


@pytest.mark.parametrize(
    ("change", "cell", "message"),
    [
        (
            {"cell_type": "code", "metadata": {}, "source": "x", "outputs": []},
            1,
            "'execution_count' is a required property.",
        ),
        (markdown("x", extra=1), 1, "Additional properties are not allowed ('extra' was unexpected)."),
        (markdown(7), 1, "source: 7 is not of type 'string'."),
        (markdown("x", id="a b"), 1, "id: 'a b' does not match '^[a-zA-Z0-9-_]+$'."),
        (code("", {"output_type": "stream", "text": "x"}, id="c"), 1, "outputs.0: 'name' is a required property."),
    ],
)
def test_check_says_which_cell_breaks_which_rule(change: dict[str, Any], cell: int, message: str) -> None:
    raw = notebook({**markdown("fine"), "id": "a"}, {"id": "b", **change})
    findings = [finding for finding in check_notebook(encode(raw)) if finding.level == "error"]
    assert [(finding.cell, finding.message) for finding in findings] == [(cell, message)]


def test_check_reports_what_cannot_be_read_at_all() -> None:
    assert [finding.message for finding in check_notebook(b"[]", "b.ipynb")] == [
        "b.ipynb is JSON but no notebook: it holds a list."
    ]
    assert check_notebook(b"[" * 100_000)[0].level == "error"


def test_check_stays_short_for_long_and_many_errors() -> None:
    raw = notebook(*({"cell_type": "markdown", "metadata": {}, "source": {"x" * 500: n}} for n in range(100)))
    findings = [finding for finding in check_notebook(encode(raw)) if finding.level == "error"]
    assert len(findings) == 51
    assert all(len(finding.message) < 300 for finding in findings)
