"""Paths from outside: what passes cannot leave its folder, and one path has one spelling."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import UnsafePathError
from builder.paths import (
    MAX_PATH,
    MAX_SEGMENT,
    contained,
    decode_once,
    escaped,
    join_below,
    name_problem,
    safe_relative,
    shown,
)

ODD = st.text(alphabet=st.sampled_from([*"ab./\\:%#? ~C", "\0", "\n", "\x85", "ü", "\ud800", "\u0301"]), max_size=30)
"""Short texts in which the characters that matter are frequent."""

REFUSED = {
    "": "is empty",
    "/etc/passwd": "is absolute",
    "//evil.example/x": "is absolute",
    "..": "segment '..'",
    "a/../../b": "segment '..'",
    "a/..": "segment '..'",
    ".": "segment '.'",
    "./a": "segment '.'",
    "a/./b": "segment '.'",
    ".git/config": "begins with a dot",
    "a/.ipynb_checkpoints/b": "begins with a dot",
    "...": "begins with a dot",
    "a//b": "empty segment",
    "a/": "empty segment",
    "a\\b": "backslash",
    "..\\..\\x": "backslash",
    "a\0.ipynb": "NUL",
    "a\nb": "control character",
    "a\x7f": "control character",
    "a\x9fb": "control character",
    "caf\udce9": "not valid UTF-8",
    "C:/windows": "drive letter",
    "c:": "drive letter",
    "x" * (MAX_SEGMENT + 1): "longer than 255 bytes",
    "ü" * 128: "longer than 255 bytes",
    "/".join(["abc"] * (MAX_PATH // 4 + 1)): "longer than 4096 bytes",
}

ACCEPTED = [
    "a",
    "a/b/c.ipynb",
    "with space/100 %/c# & d?.ipynb",
    'it\'s "quoted"',
    "日本語/Übung/e\u0301",
    "a..b/c...",
    "Q: what/b",
    "%2e%2e/x",
    "~root",
    "-rf",
    "x" * MAX_SEGMENT,
    "/".join(["abc"] * (MAX_PATH // 4)),
]


@pytest.mark.parametrize(("path", "reason"), REFUSED.items(), ids=lambda text: ascii(text)[:30])
def test_forbidden_form_is_refused_with_its_reason(path: str, reason: str) -> None:
    with pytest.raises(UnsafePathError, match=reason) as caught:
        safe_relative(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("path", ACCEPTED, ids=lambda text: ascii(text)[:30])
def test_ordinary_path_comes_back_unchanged(path: str) -> None:
    assert safe_relative(path) == path


def test_hidden_names_pass_on_request_but_dots_never() -> None:
    assert safe_relative("a/.hidden/b", hidden=True) == "a/.hidden/b"
    for path in ("..", "a/../b", ".", "a/./b"):
        with pytest.raises(UnsafePathError):
            safe_relative(path, hidden=True)


@settings(deadline=None)
@given(ODD | st.text(max_size=40), st.booleans())
def test_what_passes_stays_below_its_folder(text: str, hidden: bool) -> None:
    try:
        path = safe_relative(text, hidden=hidden)
    except UnsafePathError:
        return
    assert posixpath.normpath(posixpath.join("/site/folder", path)) == f"/site/folder/{path}"
    assert safe_relative(path, hidden=hidden) == path
    assert hidden or "/." not in f"/{path}"
    assert path.isprintable() or not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in path)


@pytest.mark.parametrize(
    ("base", "target", "result"),
    [
        ("", "a.png", "a.png"),
        ("a/b", "c.png", "a/b/c.png"),
        ("a/b", "./c.png", "a/b/c.png"),
        ("a/b", "../c.png", "a/c.png"),
        ("a/b", "../../c.png", "c.png"),
        ("a/b", "../..", ""),
        ("a/b", "", "a/b"),
        ("a", "b//c/./d/", "a/b/c/d"),
        ("a", "x/../../a/y", "a/y"),
        ("a", ".hidden/x", "a/.hidden/x"),
        ("a b", "100%.png", "a b/100%.png"),
        ("", "..", None),
        ("a/b", "../../../c.png", None),
        ("a", "../../a/x", None),
        ("a", "/x", None),
        ("a", "b\\c", None),
        ("a", "b\0", None),
    ],
)
def test_link_target_resolves_inside_the_root_only(base: str, target: str, result: str | None) -> None:
    assert join_below(base, target) == result


@settings(deadline=None)
@given(st.sampled_from(["", "a", "a/b", "a/b/c"]), ODD)
def test_resolved_link_never_leaves_the_root(base: str, target: str) -> None:
    result = join_below(base, target)
    expected = posixpath.normpath(posixpath.join("/0/1/2/3/4", base, target.lstrip("/") or "."))
    if result is None:
        return
    assert ".." not in result.split("/")
    assert not result.startswith("/")
    assert posixpath.normpath(posixpath.join("/0/1/2/3/4", result)) == expected


def test_containment_follows_symbolic_links(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "root-private"
    (root / "real").mkdir(parents=True)
    outside.mkdir()
    (root / "out").symlink_to(outside)
    (root / "in").symlink_to("real")
    (root / "chain").symlink_to("out")
    assert contained(root, "in/x") == root / "real" / "x"
    assert contained(root, "not/there") == root / "not" / "there"
    for path in ("out", "out/x", "chain/x", "../root-private/x", "in/../../x", "/etc/passwd", "a\0b"):
        with pytest.raises(UnsafePathError):
            contained(root, path)


def test_containment_works_when_the_root_itself_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert contained(tmp_path / "link", "x") == tmp_path / "real" / "x"


def test_containment_survives_a_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert contained(tmp_path, "loop/x").is_relative_to(tmp_path)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "a", "link", "out", "", "etc"]), max_size=8))
def test_contained_path_is_below_the_root_whatever_is_asked(parts: list[str]) -> None:
    root = Path(os.path.realpath(__file__)).parent
    try:
        assert contained(root, "/".join(parts)).is_relative_to(root)
    except UnsafePathError:
        assert ".." in parts or parts[:1] == [""]


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_decoding_undoes_encoding_once(text: str) -> None:
    assert decode_once(quote(text)) == text
    assert decode_once(quote(quote(text))) == quote(text)


def test_plus_and_plain_unicode_are_left_alone() -> None:
    assert decode_once("a+b/ü%20c") == "a+b/ü c"
    assert decode_once("%252e%252e") == "%2e%2e"


@pytest.mark.parametrize(
    "text", ["%", "a%2", "%zz", "%u0041", "%+1", "%c0%ae%c0%ae/x", "%ff", "%ed%a0%80", "%e9", "\ud800"]
)
def test_broken_or_overlong_encoding_is_refused(text: str) -> None:
    with pytest.raises(UnsafePathError):
        decode_once(text)


@settings(deadline=None)
@given(st.text())
def test_shown_text_is_one_printable_line_of_bounded_length(text: str) -> None:
    assert shown(text).isprintable()
    assert escaped(text).isprintable()
    assert len(shown(text)) < 1300
    assert name_problem(text) is not None or "\0" not in text


@pytest.mark.parametrize("path", ["loop/../out/file", "loop/x/../../out", "nowhere/../loop/../out", "first"])
def test_a_link_to_itself_hides_no_way_out(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside").mkdir()
    (root / "out").symlink_to("../outside")
    (root / "loop").symlink_to("loop")
    (root / "first").symlink_to("loop/../second")
    (root / "second").symlink_to("loop/../out")
    with pytest.raises(UnsafePathError):
        contained(root, path)


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
def test_what_cannot_name_a_file_is_refused_behind_a_link_to_itself(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UnsafePathError, match="cannot name a file"):
        contained(tmp_path, f"loop/{name}")
