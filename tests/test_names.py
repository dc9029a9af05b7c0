"""From the path of a URL to the name of a dashboard: every name is one file inside the source folder, or none."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from builder.errors import UnsafePathError
from builder.paths import MAX_SEGMENT, contained
from builder.scanning import NOTEBOOK, ignored
from shim.names import MAX_DEPTH, dashboard_name, page_path

ODD = ["..", ".", "", "a", "A", "é", "．．", "‥", "%2e", "%2E%2e", "%252e", "\\", "/", "//", "\0", "\n", "\x7f", "\x85", "~", "#", " ", ".ipynb", ".IPYNB",
       "index", "index.html", "INDEX.HTML", "C:", "node_modules", "__pycache__", ".git", "\ud800", "x" * 300]  # fmt: skip
PATHS = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(ODD), max_size=8).map("/".join),
    st.lists(st.sampled_from(ODD), max_size=8).map("".join),
)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a", "a"),
        ("a/", "a"),
        ("a.ipynb", "a"),
        ("a.IPYNB", "a"),
        ("a.ipynb/", "a"),
        ("a/b/c", "a/b/c"),
        ("a.zip", "a.zip"),
        ("a.ipynb.ipynb", "a.ipynb"),
        ("a.ipynb/b", "a.ipynb/b"),
        ("with space", "with space"),
        ("100%", "100%"),
        ("50%!", "50%!"),
        ("a#b?c", "a#b?c"),
        ("été", "été"),
        ("a/index", "a/index"),
        ("x" * (MAX_SEGMENT - len(NOTEBOOK)), "x" * (MAX_SEGMENT - len(NOTEBOOK))),
        ("/".join("a" * MAX_DEPTH), "/".join("a" * MAX_DEPTH)),
    ],
)
def test_name_is_the_path_without_final_slash_and_suffix(path: str, name: str) -> None:
    assert dashboard_name(path) == name


@pytest.mark.parametrize(
    "path",
    ["", "/", "//", "/a", "a//", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\\b", "a\0b", "a\nb", "a\x7f", "a\x85", ".a", "a/.b", ".ipynb", "a/.ipynb",
     "C:/a", "%2e%2e/a", "a%2fb", "a%5Cb", "a%00", "a%252e", "node_modules", "a/node_modules/b", "__pycache__/a", "a~", "#a#", " a", "a ", "a/ /b", "index.html",
     "a/Index.HTML/b", "\ud800", "x" * (MAX_SEGMENT - len(NOTEBOOK) + 1), "/".join("a" * (MAX_DEPTH + 1)), "x/" * 3000 + "x"],
)  # fmt: skip
def test_path_that_is_no_name_is_refused_with_one_sentence(path: str) -> None:
    with pytest.raises(UnsafePathError) as caught:
        dashboard_name(path)
    sentence = str(caught.value)
    assert sentence.endswith(".") and sentence.isprintable() and len(sentence) < 300


@given(PATHS)
@example("a.ipynb.ipynb/")
@example("a/..ipynb")
def test_every_name_is_one_file_inside_the_folder_that_a_scan_would_find(path: str) -> None:
    try:
        name = dashboard_name(path)
    except UnsafePathError:
        return
    root = Path("/source")
    for suffix in (".ipynb", ".zip"):
        file = contained(root, name + suffix)
        assert file == root / (name + suffix)
        assert root in file.parents
        assert len(file.name.encode()) <= MAX_SEGMENT
    segments = name.split("/")
    assert 0 < len(segments) <= MAX_DEPTH
    for segment in segments:
        assert segment not in ("", ".", "..")
        assert not ignored(segment)
        assert not ignored(f"{segment}.ipynb")
        assert segment == segment.strip()
    assert str(PurePosixPath(name)) == name


@given(PATHS)
def test_the_link_to_a_name_leads_back_to_the_name(path: str) -> None:
    try:
        name = dashboard_name(path)
    except UnsafePathError:
        return
    assert unquote(quote(name)) == name
    assume(not name.lower().endswith(NOTEBOOK))
    for spelling in (name, f"{name}/", f"{name}.ipynb", f"{name}.ipynb/"):
        assert dashboard_name(spelling) == name


@pytest.mark.parametrize(
    ("name", "is_notebook", "page"),
    [
        ("a", True, "a"),
        ("a/b", True, "a/b"),
        ("index", True, ""),
        ("a/index", True, "a"),
        ("a/b/index", True, "a/b"),
        ("index/a", True, "index/a"),
        ("a/Index", True, "a/Index"),
        ("index", False, "index"),
        ("a/index", False, "a/index"),
    ],
)
def test_the_page_of_an_index_notebook_is_that_of_its_folder(name: str, is_notebook: bool, page: str) -> None:
    assert page_path(name, is_notebook=is_notebook) == page
