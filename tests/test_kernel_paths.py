"""Which page a client means: every form of a path that a page is served under, and what can be no path."""

from __future__ import annotations

from itertools import product
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import UnsafePathError
from builder.paths import MAX_PATH
from shim.kernels.paths import page_paths

FORMS = (
    "/{}",
    "/{}/",
    "{}",
    "{}.ipynb",
    "/{}.ipynb",
    "{}/index.ipynb",
    "/{}/index.html",
    "/dashboards/{}",
    "/dashboards/{}/",
    "dashboards/{}.ipynb",
    "/dashboards/{}/index.html",
    "/dashboards-plain/{}",
    "/dashboards-plain/{}/",
    "/dashboards-plain/{}/index.html",
    "//{}//",
    "/dashboards//{}",
)
NAMES = ("x", "a/b", "with space", "100%", "50%25", "é/数", "index-of-things", "dashboards-of/x", "a+b", "c#d?e")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_path_means_the_page(form: str) -> None:
    for name, prefix in product(NAMES, ("", "/db", "/a/b")):
        for path in (form.format(quote(name)), form.format(name)):
            for sent in (path, f"{prefix}/{path}"):
                assert name in page_paths(sent, prefix), sent


@pytest.mark.parametrize("path", ["/", "//", "/dashboards", "/dashboards/", "/dashboards-plain/", "/index.html"])
@pytest.mark.parametrize("prefix", ["", "/db"])
def test_the_root_page_has_forms_of_its_own(path: str, prefix: str) -> None:
    for sent in (path, prefix + path, f"{prefix}/index.ipynb", prefix or "/"):
        assert page_paths(sent, prefix)[0] == ""


def test_what_is_below_the_prefix_and_the_tree_goes_first() -> None:
    assert page_paths("/db/dashboards/x", "/db") == ("x", "dashboards/x", "db/dashboards/x")
    assert page_paths("/db/x/index.html", "/db") == ("x", "x/index.html", "db/x", "db/x/index.html")
    assert page_paths("/dbx", "/db") == ("dbx",)
    assert page_paths("/dashboardsX/x", "") == ("dashboardsX/x",)


def test_what_is_encoded_is_decoded_once() -> None:
    assert page_paths("/a%20b", "") == ("a b", "a%20b")
    assert page_paths("/50%2525", "")[0] == "50%25"


@pytest.mark.parametrize(
    "path",
    [
        "/../x",
        "/dashboards/../../etc/passwd",
        "/%2e%2e/x",
        "/a/%2e%2e%2fb",
        "/./x",
        "/a\0b",
        "/a%00b",
        "/a\\b",
        "/a%5cb",
        "/a\nb",
        "/a%0db",
        "/.git/config",
        "/%ff",
        "/\ud800",
        "/C:/x",
        "/" + "a" * 300,
        "/" + "a/" * MAX_PATH,
    ],
)
def test_what_can_be_no_path_is_refused(path: str) -> None:
    with pytest.raises(UnsafePathError):
        page_paths(path, "")


@given(st.text(max_size=80), st.sampled_from(["", "/db"]))
def test_no_path_that_is_found_leaves_the_site(path: str, prefix: str) -> None:
    try:
        found = page_paths(path, prefix)
    except UnsafePathError:
        return
    for one in found:
        assert not one.startswith("/")
        assert not one.endswith("/")
        assert {"..", "."}.isdisjoint(one.split("/"))
        assert "\0" not in one
        assert "\\" not in one
