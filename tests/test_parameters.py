"""Values in the address of a page become Python literals of the right type in the parameters cell, and nothing else."""

from __future__ import annotations

import ast
import math
import warnings
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager

from shim.kernels.parameters import ParameterError, with_parameters
from shim.kernels.program import Program

CELL = """\
# What readers may choose
count = 3
low: int = -1
rate = 0.5
share: float = 1
name = "north"
fast = False
since = None
top: int | None = None
region: Literal["north", "south"] = "north"
level: typing.Literal[1, 2, "max"] | None = 1
ids = [1, 2]
steps = [0, 0.5]
labels: list[str] = []
pair = (1.5, 2)
wanted: Optional[List[int]] = None
table = {"a": 1}
nested = [[1]]
raw = b"x"
a = b = 1
x, y = 1, 2
name.attribute = 1
computed = len("abc")
declared: int
def inner(hidden=1):
    local = 2
if True:
    inside = 1
"""


def program(source: str = CELL, language: str = "python") -> Program:
    return Program("p", "0" * 16, "python3", language, (None, "before", source, "after"), 2)


def changed(query: str, source: str = CELL) -> dict[str, Any]:
    """What a query sets: the names and values that the parameters cell assigns after all that it did before."""
    before = program(source)
    after = with_parameters(before, query)
    assert after.cells[:2] == before.cells[:2]
    assert after.cells[3:] == before.cells[3:]
    assert (after.path, after.kernelspec, after.parameters) == ("p", "python3", 2)
    text = after.cells[2]
    assert text is not None
    return appended(source, text)


def appended(source: str, text: str) -> dict[str, Any]:
    """The assignments that follow the statements of a cell; everything else must be as it was."""
    old, new = statements(f"{source}\n\n"), statements(text)
    assert [ast.dump(node) for node in new[: len(old)]] == [ast.dump(node) for node in old]
    found: dict[str, Any] = {}
    for node in new[len(old) :]:
        assert isinstance(node, ast.Assign)
        (target,) = node.targets
        assert isinstance(target, ast.Name)
        found[target.id] = ast.literal_eval(node.value)
    return found


def statements(source: str) -> list[ast.stmt]:
    """The statements that IPython runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(TransformerManager().transform_cell(source)).body  # type: ignore[no-untyped-call]


def refused(query: str, source: str = CELL) -> str:
    with pytest.raises(ParameterError) as caught:
        with_parameters(program(source), query)
    message = str(caught.value)
    assert message.endswith(".")
    assert message.isprintable()
    assert len(message) < 600
    return message


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("?count=7", {"count": 7}),
        ("count=-7", {"count": -7}),
        ("count=%2B007", {"count": 7}),
        ("low=+5", {"low": 5}),
        ("rate=2", {"rate": 2.0}),
        ("rate=-1e-3&count=4", {"rate": -0.001, "count": 4}),
        ("rate=.5", {"rate": 0.5}),
        ("share=0.25", {"share": 0.25}),
        ("name=", {"name": ""}),
        ("name=caf%C3%A9+au+lait", {"name": "café au lait"}),
        ("name=" + "x" * 1000, {"name": "x" * 1000}),
        ("fast=TRUE", {"fast": True}),
        ("fast=0", {"fast": False}),
        ("fast=yes", {"fast": True}),
        ("since=2024", {"since": "2024"}),
        ("top=5", {"top": 5}),
        ("region=south", {"region": "south"}),
        ("level=2", {"level": 2}),
        ("level=max", {"level": "max"}),
        ("ids=3", {"ids": [3]}),
        ("ids=3&count=1&ids=4", {"ids": [3, 4], "count": 1}),
        ("steps=1&steps=2.5", {"steps": [1.0, 2.5]}),
        ("labels=a&labels=", {"labels": ["a", ""]}),
        ("pair=1&pair=2", {"pair": (1.0, 2.0)}),
        ("wanted=1&wanted=2", {"wanted": [1, 2]}),
    ],
)
def test_values_have_the_type_of_their_default(query: str, values: dict[str, Any]) -> None:
    found = changed(query)
    assert found == values
    assert {name: type(value) for name, value in found.items()} == {n: type(v) for n, v in values.items()}
    for name, value in values.items():
        if isinstance(value, list | tuple):
            assert [type(item) for item in found[name]] == [type(item) for item in value]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("count=x", "The parameter 'count' must be a whole number of at most 18 digits."),
        ("count=", "'count' must be a whole number"),
        ("count=1.5", "'count' must be a whole number"),
        ("count=1_000", "'count' must be a whole number"),
        ("count=" + "9" * 19, "'count' must be a whole number"),
        ("count=%D9%A3", "'count' must be a whole number"),
        ("count=1%0A2", "'count' must be a whole number"),
        ("count=1&count=2", "'count' takes one value"),
        ("rate=nan", "'rate' must be a number"),
        ("rate=inf", "'rate' must be a number"),
        ("rate=1e999", "'rate' must be a number"),
        ("rate=1__0", "'rate' must be a number"),
        ("rate=0x10", "'rate' must be a number"),
        ("fast=on", "'fast' must be true or false"),
        ("fast=2", "'fast' must be true or false"),
        ("name=" + "x" * 1001, "'name' must be a text of at most 1000 characters"),
        ("name=\ud800", "'name' must be a text"),
        ("name=%ED%A0%80", "not valid UTF-8"),
        ("name=%FF", "not valid UTF-8"),
        ("top=many", "'top' must be a whole number"),
        ("region=west", "'region' must be one of 'north', 'south'."),
        ("region=%27north%27", "'region' must be one of"),
        ("level=3", "'level' must be one of '1', '2', 'max'."),
        ("level=true", "'level' must be one of"),
        ("ids=1&ids=x", "Each value of the parameter 'ids' must be a whole number"),
        ("table=1", "'table' cannot be set in the address"),
        ("nested=1", "'nested' cannot be set in the address"),
        ("raw=x", "'raw' cannot be set in the address"),
        ("count=1&" + "x" * 5000, "more than 4096 characters"),
        ("&".join(["utm=1"] * 65), "more than 64 parameters"),
    ],
)
def test_what_does_not_suit_is_refused_in_a_sentence(query: str, message: str) -> None:
    assert message in refused(query)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?",
        "utm_source=mail&lang=de",
        "a=2&b=2&x=2&y=2&computed=2&declared=2&hidden=2&local=2&inside=2&inner=2&attribute=2&name.attribute=2",
        "COUNT=2&count%20=2&%20count=2",
        "=3&&;",
    ],
)
def test_names_that_are_no_parameters_change_nothing(query: str) -> None:
    before = program()
    assert with_parameters(before, query) is before


@pytest.mark.parametrize("language", ["r", "bash", "julia", ""])
def test_other_languages_get_no_python(language: str) -> None:
    before = program("count = 3", language)
    assert with_parameters(before, "count=4") is before


@pytest.mark.parametrize(
    "source",
    [
        "",
        "count = 3 \\",
        "count = 3\n\\",
        "count = '''3",
        "count = (3",
        "count = 3\ndef f():",
        "count = 3\n  other = 4",
        "%%time\ncount = 3",
        "\n\n  %%bash\ncount=3",
        "count = 3\0",
        "count = 3\nfiles = !ls",
        "count = 3\ncount?",
        "count = " + "(" * 5000 + "3" + ")" * 5000,
        "count = " + "-" * 50_000 + "3",
        "count = 3 #" + "x" * 100_000,
    ],
)
def test_a_cell_that_cannot_be_understood_offers_no_parameters(source: str) -> None:
    before = program(source)
    assert with_parameters(before, "count=4") is before


def test_a_page_without_parameters_does_not_mind_what_its_address_says() -> None:
    without = Program("p", "v", "python3", "python", ("count = 3",), None)
    for query in ("count=4", "%FF", "x" * 10_000, "&" * 1000):
        assert with_parameters(without, query) is without


@pytest.mark.parametrize(
    "tail",
    [
        "",
        "\n",
        "\n\n\n",
        "\r",
        "\r\n",
        " # a comment",
        " # a comment \\",
        " ;",
        "\n%matplotlib inline",
        "\n%matplotlib inline \\",
        "\n%matplotlib inline \\\n",
        "\n!echo \\",
        "\n!echo '''",
        "\n!echo (",
        "\nif count:\n    pass",
        "\nif count:\n    %time\n    pass",
        "\ndef f():\n    return '\\d'",
        "\nclass A: x = 1",
        '\n"""\n% not a magic\n"""',
        "\ntext = '''\n%%bash\n'''",
        "\n\f",
    ],
)
def test_nothing_at_the_end_of_the_cell_swallows_what_is_set(tail: str) -> None:
    hostile = "'; import os\n!rm -rf \\ # \"\"\" ''' $(id) `id` {count}"
    source = f"count = 3{tail}"
    assert changed("count=4", source) == {"count": 4}
    query = urlencode({"count": 4, "name": hostile})
    assert changed(query, f"name = 'x'\n{source}") == {"count": 4, "name": hostile}


@pytest.mark.parametrize(
    ("source", "query", "value"),
    [
        ("n = 1\nn = 'a'", "n=x", "x"),
        ("n = 1\nn = f()", "n=2", 2),
        ("n: Literal['a', 'b'] | None = None", "n=b", "b"),
        ("n: list[Literal[1, 2]] = [1]", "n=2", [2]),
        ("n: tuple[int, ...] = ()", "n=2", (2,)),
        ("n: 'int' = 1", "n=2", 2),
        ("n: int | str = 1", "n=2", 2),
        ("n: pathlib.Path = 'a'", "n=b", "b"),
        ("n: Literal[f()] = 'a'", "n=b", "b"),
        ("n: Literal[()] = 'a'", "n=b", "b"),
        ("n: Optional = None", "n=b", "b"),
        ("n: List[()] = [1]", "n=2", [2]),
        ("n = [None, 2]", "n=3", [3]),
        ("n = True, 2", "n=yes", (True,)),
        ("größe = 1", "gr%C3%B6%C3%9Fe=2", 2),
    ],
)
def test_annotations_and_later_assignments_count(source: str, query: str, value: Any) -> None:
    (found,) = changed(query, source).values()
    assert found == value
    assert type(found) is type(value)


def test_many_choices_make_no_endless_message() -> None:
    choices = ", ".join(f"'choice {number}'" for number in range(500))
    assert "one of the values that the notebook allows" in refused("n=x", f"n: Literal[{choices}] = 'choice 1'")
    assert "\\x1b" in refused("n=x", "n: Literal['\\x1b[31m'] = None")


TEXTS = st.text(st.characters(exclude_categories=()), max_size=60)
NASTY = st.lists(
    st.sampled_from(["'", '"', "\\", "\n", "\r", "\0", "\u2028", "\x85", "#", "{", "%", "!", "\\N{DASH}", "x", "'''"])
).map("".join)

NAMES = st.sampled_from(["count", "rate", "name", "fast", "region", "ids", "pair", "labels", "computed", "a"])
VALUES = st.sampled_from(["1", "-2.5", "true", "north", "%00", "%27", "+", "%", ""])


@given(TEXTS | NASTY, st.sampled_from(["n = 'a'", 'n: str = "a" # \\', "%time\nn = ''", "n: Literal['a', 'b'] = 'a'"]))
@settings(deadline=None)
@example("\x02\x03\ufeff\U0010ffff", "n = ''")
def test_a_text_is_set_as_it_is_or_refused(text: str, source: str) -> None:
    query = urlencode({"n": text}, errors="surrogatepass")
    try:
        found = changed(query, source)
    except ParameterError:
        assert "Literal" in source or any("\ud800" <= letter <= "\udfff" for letter in text)
        return
    assert found == {"n": text}


@given(st.floats() | st.integers() | TEXTS, st.sampled_from([1, 0.5, True, [1], (0.5, 1), [True]]))
@settings(deadline=None)
def test_a_value_of_another_type_is_never_set(value: Any, default: Any) -> None:
    kind = type(default[0]) if isinstance(default, list | tuple) else type(default)
    try:
        (found,) = changed(urlencode({"n": value}, errors="surrogatepass"), f"n = {default!r}").values()
    except ParameterError:
        return
    assert type(found) is type(default)
    one = found[0] if isinstance(found, list | tuple) else found
    assert type(one) is kind
    assert math.isfinite(one)
    if type(value) is kind is not bool:
        assert one == value


@given(st.lists(st.tuples(NAMES | TEXTS, VALUES | TEXTS).map("=".join), max_size=4).map("&".join))
@settings(deadline=None)
@example("count=%")
@example("%zz=1&count=%u0041")
def test_any_query_sets_literals_or_is_refused(query: str) -> None:
    with suppress(ParameterError):
        changed(query)


@given(
    st.lists(
        st.sampled_from(["n = 1\n", "%magic \\\n", "# c\\\n", "'''", '"', "(", ")", "\\", "\n", "if n:", "  ", "!x "])
    ).map("".join)
)
@settings(deadline=None)
def test_whatever_the_cell_is_only_literals_are_added_to_what_it_does(source: str) -> None:
    before = program(source)
    after = with_parameters(before, "n=7")
    try:
        statements(source)
    except SyntaxError:
        return  # of which a kernel runs nothing
    if after is not before:
        assert appended(source, after.cells[2] or "") == {"n": 7}
