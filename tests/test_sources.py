"""Scanning the source folder and naming pages: nothing is lost, nothing hidden is found, a rescan equals a scan."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.scanning import MAX_HINTS, MAX_LINKS
from builder.sources import Folder, Source, Stat, classify, fold, ignored, is_public, rescan, scan


def make(root: Path, *names: str) -> Path:
    """Create files below `root`; a name that ends in a slash is a folder."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
    return root


def found(root: Path, *excluded: Path) -> list[str]:
    return sorted(scan(root, excluded).files)


def kinds(*files: str) -> dict[str, str]:
    return {path: source.kind for path, source in classify(files).pages.items()}


# ---- scan


def test_scan_gives_stat_of_regular_files_at_any_depth(tmp_path: Path) -> None:
    make(tmp_path, "a.ipynb", "b/c/d.png", "empty/")
    info = (tmp_path / "b/c/d.png").stat()
    result = scan(tmp_path)
    assert set(result.files) == {"a.ipynb", "b/c/d.png"}
    assert result.files["b/c/d.png"] == Stat(info.st_mtime_ns, info.st_size, info.st_ino)
    assert result.findings == ()


@pytest.mark.parametrize(
    "name", ["with space", "100%", "a#b", "a?b", 'it\'s "x"', "日本", "e\u0301", "&<>", "Q: x", "~x", "4913x"]
)
def test_unusual_but_sound_names_are_found(tmp_path: Path, name: str) -> None:
    make(tmp_path, f"{name}/{name}.ipynb")
    assert found(tmp_path) == [f"{name}/{name}.ipynb"]
    assert scan(tmp_path).findings == ()


HIDDEN = [
    *[".hidden.ipynb", ".git/x.ipynb", ".ipynb_checkpoints/a-checkpoint.ipynb", "a/.b/c", "node_modules/x/y.ipynb"],
    *["__pycache__/m.pyc", "a.ipynb~", "#a.ipynb#", ".#a.ipynb", "4913", "a/4913", "...ipynb"],
]


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_temporary_and_cache_files_are_not_looked_at(tmp_path: Path, name: str) -> None:
    make(tmp_path, name, "kept.ipynb", "4913dir/4913/kept.ipynb")
    result = scan(tmp_path)
    assert sorted(result.files) == ["4913dir/4913/kept.ipynb", "kept.ipynb"]
    assert result.findings == ()


def test_ignored_names() -> None:
    assert all(map(ignored, [".x", "x~", "#x#", "node_modules", "__pycache__", "..", "."]))
    assert not any(map(ignored, ["x", "#x", "x#", "~x", "node_modules2", ""]))


@pytest.mark.parametrize(
    ("name", "path", "word"),
    [
        (b"a\nb.ipynb", "a\\nb.ipynb", "control"),
        (b"caf\xe9.ipynb", "caf\\udce9.ipynb", "UTF-8"),
        (b"a\\b.ipynb", "a\\b.ipynb", "backslash"),
        (b"\x1b[31m/x.ipynb", "\\x1b[31m", "control"),
    ],
)
def test_name_that_cannot_be_published_is_reported_and_left_out(
    tmp_path: Path, name: bytes, path: str, word: str
) -> None:
    full = os.path.join(os.fsencode(tmp_path), name)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w"):
        pass
    result = scan(tmp_path)
    assert result.files == {}
    ((where, message),) = result.findings
    assert where == path
    assert word in message
    assert where.isprintable()


def test_folder_with_the_name_of_a_notebook_is_reported_and_left_out(tmp_path: Path) -> None:
    make(tmp_path, "x.ipynb/inner.ipynb", "y.zip/inner.ipynb")
    result = scan(tmp_path)
    assert list(result.files) == ["y.zip/inner.ipynb"]
    assert [path for path, _ in result.findings] == ["x.ipynb"]


def test_notebook_with_upper_case_ending_is_reported(tmp_path: Path) -> None:
    make(tmp_path, "A.IPYNB", "b.Ipynb", "c.ipynb")
    assert [path for path, _ in scan(tmp_path).findings] == ["A.IPYNB", "b.Ipynb"]


def test_pipe_is_no_notebook(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.ipynb")
    os.mkfifo(tmp_path / "y")
    result = scan(tmp_path)
    assert result.files == {}
    assert [path for path, _ in result.findings] == ["x.ipynb"]


def test_excluded_folders_are_left_out_however_they_are_named(tmp_path: Path) -> None:
    root = make(tmp_path / "src", "a.ipynb", "_site/b.ipynb", "sub/state/c.ipynb", "_sitex/d.ipynb")
    (tmp_path / "link").symlink_to("src")
    expected = ["_sitex/d.ipynb", "a.ipynb"]
    assert found(root, root / "_site", root / "sub/../sub/state") == expected
    assert found(root, tmp_path / "link/_site", tmp_path / "link/sub/state") == expected
    assert found(tmp_path / "link", root / "_site", root / "sub/state", tmp_path / "elsewhere") == expected


def test_scan_of_a_missing_root_fails(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        scan(tmp_path / "gone")


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder with a notebook 1,200 folders deep, and below it folders whose path is longer than the system takes."""
    folder = os.open(tmp_path, os.O_RDONLY)
    for name in ["d"] * 1200 + ["e" * 250] * 9:
        os.mkdir(name, dir_fd=folder)
        inner = os.open(name, os.O_RDONLY, dir_fd=folder)
        if name != "d":
            os.close(os.open("x.ipynb", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
        os.close(folder)
        folder = inner
    os.close(folder)
    yield tmp_path
    subprocess.run(["rm", "-r", str(tmp_path / "d")], check=True)  # shutil would go as deep in recursion


def test_deep_nesting_is_no_problem_and_too_deep_a_finding(deep: Path) -> None:
    result = scan(deep)
    assert "d/" * 1200 + "x.ipynb" in result.files
    assert 1 < len(result.files) < 9
    assert result.findings
    assert all("cannot be" in message and path.endswith(("e", "x.ipynb")) for path, message in result.findings)


# ---- symbolic links


def test_links_inside_the_source_are_followed(tmp_path: Path) -> None:
    make(tmp_path, "real/a.ipynb", "b.ipynb")
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "real/c.ipynb").symlink_to("../b.ipynb")
    result = scan(tmp_path)
    assert sorted(result.files) == ["b.ipynb", "folder/a.ipynb", "folder/c.ipynb", "real/a.ipynb", "real/c.ipynb"]
    assert result.files["folder/c.ipynb"] == result.files["b.ipynb"]
    assert result.findings == ()


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("../outside/secret.ipynb", "out of"),
        ("../outside", "out of"),
        ("/etc/hostname", "out of"),
        ("../src-private/x.ipynb", "out of"),
        ("missing.ipynb", "nowhere"),
        ("link.ipynb", "nowhere"),
        (".hidden/x.ipynb", "hidden"),
        ("_site", "hidden"),
        ("_site/page", "hidden"),
        (".", "back"),
        ("../src", "back"),
    ],
)
def test_link_to_a_place_a_scan_would_not_get_to_is_refused(tmp_path: Path, target: str, word: str) -> None:
    make(tmp_path, "outside/secret.ipynb", "src-private/x.ipynb")
    root = make(tmp_path / "src", "a.ipynb", ".hidden/x.ipynb", "_site/page")
    (root / "link.ipynb").symlink_to(target)
    result = scan(root, [root / "_site"])
    assert sorted(result.files) == ["a.ipynb"]
    ((path, message),) = result.findings
    assert path == "link.ipynb"
    assert word in message
    assert str(tmp_path) not in message


def test_links_crosswise_end(tmp_path: Path) -> None:
    names = [f"f{number}" for number in range(5)]
    for name in names:
        make(tmp_path, f"{name}/{name}.txt")
        for other in names:
            (tmp_path / name / f"to-{other}").symlink_to(f"../{other}")
    result = scan(tmp_path)
    assert "f0/to-f1/to-f2/f2.txt" in result.files
    assert max(path.count("to-") for path in result.files) == MAX_LINKS
    messages = {message for _, message in result.findings}
    assert len(messages) == 2


# ---- rescan


def test_rescan_without_hints_is_the_scan_before(tmp_path: Path) -> None:
    make(tmp_path, "a.ipynb", "x.ipynb/y")
    before = scan(tmp_path)
    make(tmp_path, "unseen.ipynb")
    assert rescan(before, tmp_path, (), []) == before


def test_rescan_sees_what_is_hinted_only(tmp_path: Path) -> None:
    make(tmp_path, "a.ipynb", "b/c.ipynb", "b/d.ipynb")
    before = scan(tmp_path)
    make(tmp_path, "new/deep/x.ipynb", "unseen.ipynb", ".git/y")
    (tmp_path / "b/c.ipynb").unlink()
    after = rescan(before, tmp_path, (), ["new", "b/c.ipynb", ".git/y", ".git", "nowhere/x"])
    assert sorted(after.files) == ["a.ipynb", "b/d.ipynb", "new/deep/x.ipynb"]


def test_rescan_hint_at_the_root_looks_everywhere(tmp_path: Path) -> None:
    make(tmp_path, "a.ipynb")
    before = scan(tmp_path)
    make(tmp_path, "b.ipynb")
    assert rescan(before, tmp_path, (), [""]) == scan(tmp_path) != before


def test_rescan_of_a_file_below_a_folder_that_is_gone_or_became_a_file(tmp_path: Path) -> None:
    make(tmp_path, "a/b/c.ipynb", "a/b/d.ipynb", "z.ipynb")
    before = scan(tmp_path)
    shutil.rmtree(tmp_path / "a")
    assert rescan(before, tmp_path, (), ["a/b/c.ipynb"]) == scan(tmp_path)
    (tmp_path / "a").write_text("now a file")
    assert rescan(before, tmp_path, (), ["a/b/c.ipynb"]) == scan(tmp_path)
    before = scan(tmp_path)
    (tmp_path / "a").unlink()
    make(tmp_path, "a/b/c.ipynb", "a/e.ipynb")
    assert rescan(before, tmp_path, (), ["a/b/c.ipynb"]) == scan(tmp_path)


def test_rescan_sees_a_change_under_all_names_a_link_gives_it(tmp_path: Path) -> None:
    make(tmp_path, "real/a.ipynb")
    before = scan(tmp_path)
    (tmp_path / "link").symlink_to("real")
    linked = rescan(before, tmp_path, (), ["link"])
    assert linked == scan(tmp_path)
    make(tmp_path, "real/b.ipynb")
    assert "link/b.ipynb" in rescan(linked, tmp_path, (), ["real/b.ipynb"]).files


def test_rescan_drops_findings_that_are_mended_and_keeps_others(tmp_path: Path) -> None:
    make(tmp_path, "a.ipynb/x", "b/c.IPYNB", "b/d.IPYNB")
    before = scan(tmp_path)
    (tmp_path / "b/c.IPYNB").rename(tmp_path / "b/c.ipynb")
    after = rescan(before, tmp_path, (), ["b/c.IPYNB", "b/c.ipynb"])
    assert [path for path, _ in after.findings] == ["a.ipynb", "b/d.IPYNB"]
    assert after == scan(tmp_path)


def test_rescan_of_a_folder_and_of_what_lies_in_it_reports_once(tmp_path: Path) -> None:
    before = scan(tmp_path)
    make(tmp_path, "b/c.IPYNB", "b/d/e.IPYNB")
    assert rescan(before, tmp_path, (), ["b/d/e.IPYNB", "b", "b/c.IPYNB", "b/d"]) == scan(tmp_path)


def test_rescan_does_not_go_into_a_folder_with_the_name_of_a_notebook(tmp_path: Path) -> None:
    before = scan(tmp_path)
    make(tmp_path, "a/x.ipynb/y.ipynb")
    assert rescan(before, tmp_path, (), ["a/x.ipynb/y.ipynb"]) == scan(tmp_path)


def test_rescan_with_very_many_hints_equals_a_scan(tmp_path: Path) -> None:
    before = scan(tmp_path)
    names = [f"n{number}.ipynb" for number in range(MAX_HINTS + 1)]
    make(tmp_path, *names)
    assert rescan(before, tmp_path, (), names) == scan(tmp_path)


def test_rescan_of_a_root_that_vanished_fails(tmp_path: Path) -> None:
    root = make(tmp_path / "src", "a.ipynb")
    before = scan(root)
    shutil.rmtree(root)
    with pytest.raises(OSError, match="src"):
        rescan(before, root, (), ["a.ipynb"])


SEGMENT = st.sampled_from(["a", "b", "c.ipynb", "D.IPYNB", ".h", "_site", "x~", "e\nf", "caf\udce9"])
WHERE = st.lists(SEGMENT, min_size=1, max_size=3).map("/".join)
CHANGE = st.one_of(
    st.tuples(st.sampled_from(["write", "write", "folder", "remove", "pipe"]), WHERE, WHERE),
    st.tuples(st.sampled_from(["move", "link"]), WHERE, WHERE),
)


def change(root: Path, how: str, path: Path, other: Path) -> Iterable[Path]:
    """Do one thing to the file system, and say which paths a watcher would name."""
    try:
        if how == "remove":
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            return [path]
        if how == "move":
            other.parent.mkdir(parents=True, exist_ok=True)
            path.rename(other)
            return [path, other, *other.parents]
        path.parent.mkdir(parents=True, exist_ok=True)
        if how == "folder":
            path.mkdir()
        elif how == "pipe":
            os.mkfifo(path)
        elif how == "link":
            path.symlink_to(other)
        elif path.is_file() or not path.exists():  # writing to a pipe would wait for a reader
            path.write_text(str(path.stat().st_size) * 2 if path.exists() else "new", encoding="utf-8")
    except OSError:
        pass
    return [path, other, *path.parents, *other.parents]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(CHANGE, min_size=1, max_size=4), min_size=1, max_size=6))
def test_rescan_equals_scan_after_any_changes(rounds: list[list[tuple[str, str, str]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        excluded = [root / "_site"]
        current = scan(root, excluded)
        for changes in rounds:
            touched: set[Path] = set()
            for how, where, other in changes:
                touched.update(change(root, how, root / where, root / other))
            hints = [path.relative_to(root).as_posix() for path in touched if root in path.parents]
            current = rescan(current, root, excluded, hints)
            assert current == scan(root, excluded)


# ---- classify


def test_notebooks_zips_and_bundles_are_pages() -> None:
    tree = classify(["a/b.ipynb", "a/z.zip", "c/index.ipynb", "c/data/x.csv", "index.ipynb", "a/data.csv"])
    assert tree.pages == {
        "": Source("", "index", "index.ipynb", ""),
        "a/b": Source("a/b", "notebook", "a/b.ipynb", "a"),
        "a/z": Source("a/z", "zip", "a/z.zip", ""),
        "c": Source("c", "folder", "c/index.ipynb", "c"),
    }
    assert tree.folders == {"": Folder("", ("c",), ("a",)), "a": Folder("a", ("a/b", "a/z"), ())}
    assert tree.bundle_files == {"c": ("c/data/x.csv",)}
    assert tree.collisions == tree.findings == ()


def test_nothing_makes_an_empty_root() -> None:
    assert classify([]) == ({}, {"": Folder("", (), ())}, {}, (), ())
    assert classify(["a/b.txt"]).folders == {"": Folder("", (), ())}


def test_zip_without_index_is_a_plain_file() -> None:
    asked: list[str] = []

    def is_bundle(file: str) -> bool:
        asked.append(file)
        return file == "dash.zip"

    tree = classify(["dash.zip", "data.zip", "b/index.ipynb", "b/inner.zip", "x.ipynb"], is_bundle)
    assert set(tree.pages) == {"dash", "b", "x"}
    assert asked == ["dash.zip", "data.zip"]
    assert tree.bundle_files["b"] == ("b/inner.zip",)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["index.ipynb"], {"": "index"}),
        (["index.ipynb", "data.csv"], {"": "index"}),
        (["p/index.ipynb"], {"p": "folder"}),
        (["p/Index.ipynb"], {"p/Index": "notebook"}),
        (["p/index.ipynb", "p/q/r/s.csv"], {"p": "folder"}),
        (["p/index.ipynb", "p/x.ipynb"], {"p": "index", "p/x": "notebook"}),
        (["p/index.ipynb", "p/q/x.ipynb"], {"p": "index", "p/q/x": "notebook"}),
        (["p/index.ipynb", "p/q/index.ipynb"], {"p": "index", "p/q": "folder"}),
        (["p/q/index.ipynb"], {"p/q": "folder"}),
        (["p/index.ipynb", "pq/x.ipynb", "p-q/x.ipynb"], {"p": "folder", "pq/x": "notebook", "p-q/x": "notebook"}),
        (["p/index.zip", "p/x.ipynb"], {"p/index": "zip", "p/x": "notebook"}),
        (["p/index/index.ipynb", "p/x.ipynb"], {"p/index": "folder", "p/x": "notebook"}),
        (["p/index/index.ipynb", "p/index/x.ipynb"], {"p/index": "index", "p/index/x": "notebook"}),
        (["x.ipynb.ipynb"], {"x.ipynb": "notebook"}),
        (["A.IPYNB", "b.ZIP"], {}),
    ],
)
def test_kind_and_path_of_pages(files: list[str], expected: dict[str, str]) -> None:
    assert kinds(*files) == expected


@pytest.mark.parametrize(
    ("files", "winner", "losers"),
    [
        (["p.ipynb", "p.zip"], "p.ipynb", ["p.zip"]),
        (["p.ipynb", "p/index.ipynb"], "p.ipynb", ["p/index.ipynb"]),
        (["p.zip", "p/index.ipynb"], "p.zip", ["p/index.ipynb"]),
        (["p.zip", "p.ipynb", "p/index.ipynb", "p/a.csv"], "p.ipynb", ["p.zip", "p/index.ipynb"]),
        (["p.ipynb", "p/index.ipynb", "p/x.ipynb"], "p.ipynb", ["p/index.ipynb"]),
        (["p.zip", "p/index.ipynb", "p/x.ipynb"], "p.zip", ["p/index.ipynb"]),
    ],
)
def test_of_equal_names_one_wins_and_the_others_are_reported(files: list[str], winner: str, losers: list[str]) -> None:
    tree = classify(files)
    assert tree.pages["p"].file == winner
    assert [file for file, _ in tree.collisions] == losers
    for file, sentence in tree.collisions:
        assert file in sentence
        assert winner in sentence
        assert "rename" in sentence
    assert "p" not in tree.bundle_files


def test_children_of_a_folder_beside_a_page_of_its_name_stay() -> None:
    tree = classify(["p.ipynb", "p/x.ipynb", "p/q/y.ipynb"])
    assert set(tree.pages) == {"p", "p/x", "p/q/y"}
    assert tree.folders[""] == Folder("", ("p",), ("p",))
    assert tree.folders["p"] == Folder("p", ("p/x",), ("p/q",))
    assert tree.collisions == ()


def test_own_index_page_is_not_listed_in_its_folder() -> None:
    tree = classify(["p/index.ipynb", "p/x.ipynb", "q/index.ipynb", "q/r/y.ipynb"])
    assert tree.folders == {
        "": Folder("", (), ("p", "q")),
        "p": Folder("p", ("p/x",), ()),
        "q": Folder("q", (), ("q/r",)),
        "q/r": Folder("q/r", ("q/r/y",), ()),
    }


def test_folders_with_pages_only_far_below_are_there() -> None:
    tree = classify(["a/b/c/x.ipynb", "a/d/y.csv", "a/b/z/w.zip"])
    assert tree.folders["a"] == Folder("a", (), ("a/b",))
    assert tree.folders["a/b"] == Folder("a/b", (), ("a/b/c", "a/b/z"))
    assert "a/d" not in tree.folders


def test_public_files_of_a_bundle() -> None:
    names = [
        "index.ipynb",
        "a.csv",
        "sub/b.png",
        "lib.py",
        "folder.toml",
        "sub/site.toml",
        "OLD.IPYNB",
        "data.zip",
        "index.html",
    ]
    tree = classify([f"p/{name}" for name in names])
    assert tree.bundle_files["p"] == ("p/a.csv", "p/data.zip", "p/lib.py", "p/sub/b.png")
    ((file, sentence),) = tree.collisions
    assert file == "p/index.html"
    assert "p/index.ipynb" in sentence


@pytest.mark.parametrize(
    "name", [".x", "a/.x", ".a/x", "a.ipynb", "a/b.IPYNB", "index.html", "Index.HTML/x", "folder.toml"]
)
def test_what_a_bundle_never_publishes(name: str) -> None:
    assert not is_public(name)


@pytest.mark.parametrize("name", ["a.py", "a/index.html", "a.b/c", "index.htm", "a/b.ipynb.txt"])
def test_what_a_bundle_publishes(name: str) -> None:
    assert is_public(name)


@pytest.mark.parametrize(
    "file", ["index.html.ipynb", "a/Index.HTML.ipynb", "a/index.html/x.ipynb", "index.html/index.ipynb"]
)
def test_page_in_the_place_of_a_listing_is_refused(file: str) -> None:
    tree = classify([file, "ok.ipynb"])
    assert set(tree.pages) == {"ok"}
    assert [loser for loser, _ in tree.collisions] == [file]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a/x.ipynb", "a/X.ipynb"),
        ("é.ipynb", "e\u0301.ipynb"),
        ("STRASSE.ipynb", "straße.ipynb"),
        ("X.zip", "x/index.ipynb"),
    ],
)
def test_names_that_differ_in_case_or_normal_form_only_are_shown_with_a_warning(one: str, other: str) -> None:
    tree = classify([one, other])
    assert len(tree.pages) == 2
    assert tree.collisions == ()
    ((file, sentence),) = tree.findings
    assert file in (one, other)
    assert "rename" in sentence


def test_look_alike_folders_are_named_once() -> None:
    tree = classify(["Data/x.ipynb", "Data/y.ipynb", "data/x.ipynb"])
    assert [file for file, _ in tree.findings] == ["data"]


def test_same_page_and_folder_name_is_no_look_alike() -> None:
    assert classify(["p.ipynb", "p/x.ipynb", "q/P.ipynb"]).findings == ()


def test_order_of_the_files_does_not_matter() -> None:
    files = ["p.zip", "p/index.ipynb", "p.ipynb", "a/b.ipynb", "A/b.ipynb"]
    assert classify(files) == classify(reversed(files))


@settings(deadline=None)
@given(st.text(alphabet="aA\u00e9e\u0301\u00dfsS\u0130i\u212bk\u212a", max_size=6))
def test_fold_is_stable_and_blind_to_case_and_normal_form(name: str) -> None:
    assert fold(fold(name)) == fold(name)
    assert fold(unicodedata.normalize("NFD", name)) == fold(unicodedata.normalize("NFC", name)) == fold(name)
    assert fold(name.casefold()) == fold(name)


NAMES = st.sampled_from(
    [
        *["index.ipynb", "a.ipynb", "A.ipynb", "b.ipynb", "index.zip", "a.zip", "x.csv", "index.html"],
        "index.html.ipynb",
        "b.IPYNB",
    ]
)
FILES = st.sets(
    st.tuples(st.lists(st.sampled_from(["a", "b", "index", "A", "index.html"]), max_size=3), NAMES).map(
        lambda t: "/".join([*t[0], t[1]])
    ),
    max_size=14,
)


@settings(deadline=None)
@given(FILES, st.booleans())
def test_no_notebook_is_ever_lost(files: set[str], zips_are_bundles: bool) -> None:
    tree = classify(files, lambda file: zips_are_bundles)
    shown = {source.file for source in tree.pages.values()}
    reported = {file for file, _ in tree.collisions}
    wanted = {file for file in files if file.endswith(".ipynb")}
    assert wanted <= shown | reported
    assert not shown & reported
    assert shown <= files
    for path, source in tree.pages.items():
        assert source.path == path


@settings(deadline=None)
@given(FILES)
def test_every_page_is_in_one_folder_and_every_folder_below_another(files: set[str]) -> None:
    tree = classify(files)
    listed = [path for folder in tree.folders.values() for path in folder.pages]
    assert len(listed) == len(set(listed))
    own = set(tree.pages) - set(listed)
    assert all(path in tree.folders for path in own)
    for folder in tree.folders.values():
        assert all(path in tree.pages for path in folder.pages)
        assert all(path in tree.folders and path.rpartition("/")[0] == folder.path for path in folder.folders)
    reached = {""} | {path for folder in tree.folders.values() for path in folder.folders}
    assert reached == set(tree.folders)


@settings(deadline=None)
@given(FILES)
def test_files_of_a_bundle_are_public_and_its_own(files: set[str]) -> None:
    tree = classify(files)
    for path, members in tree.bundle_files.items():
        base = tree.pages[path].base
        assert tree.pages[path].kind == "folder"
        assert all(file.startswith(f"{base}/") and is_public(file.removeprefix(f"{base}/")) for file in members)
    assert set(tree.bundle_files) == {path for path, source in tree.pages.items() if source.kind == "folder"}
