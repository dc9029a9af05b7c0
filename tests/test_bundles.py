"""ZIP bundles are hostile: each rule of the directory, each limit and each kind of damage has its sentence."""

from __future__ import annotations

import os
import stat
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.bundles import BundleLimits, is_bundle, open_bundle
from builder.errors import NotebookError
from builder.zipcheck import MAX_DEPTH

INDEX = b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
LIMITS = BundleLimits(max_packed=2_000_000, max_unpacked=3_000_000, max_entries=50, max_ratio=100)

Entry = tuple[str | zipfile.ZipInfo, bytes]


def packed(*entries: Entry, index: bool = True, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The bytes of an archive with these entries, in this order, after an index.ipynb."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of duplicate names
        if index:
            archive.writestr("index.ipynb", INDEX)
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def special(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def saved(folder: Path, content: bytes) -> Path:
    path = folder / "bundle.zip"
    path.write_bytes(content)
    return path


def refusal(folder: Path, content: bytes, limits: BundleLimits = LIMITS) -> str:
    """The sentence with which an archive is refused; that no file handle is left is what warnings as errors see."""
    with pytest.raises(NotebookError) as caught:
        open_bundle(saved(folder, content), limits).close()
    sentence = str(caught.value)
    assert sentence.isprintable()
    assert len(sentence) < 500
    assert sentence.endswith(".")
    return sentence


def renamed(content: bytes, old: bytes, new: bytes) -> bytes:
    """Names replaced in local headers and directory alike, which zipfile itself would not write."""
    assert len(old) == len(new)
    assert content.count(old) == 2
    return content.replace(old, new)


def patched(content: bytes, name: bytes, offset: int, value: bytes) -> bytes:
    """Bytes of an entry's record in the directory replaced."""
    at = content.rindex(name, 0, content.rindex(b"PK\5\6")) - 46
    assert content[at : at + 4] == b"PK\1\2"
    return content[: at + offset] + value + content[at + offset + len(value) :]


# ---- what is accepted


def test_good_bundle_gives_names_public_files_and_content(tmp_path: Path) -> None:
    content = packed(
        ("data/x.csv", b"1,2"),
        ("other.ipynb", b"{}"),
        (".env", b"secret"),
        ("a/.git/config", b""),
        ("OLD.IPYNB", b"{}"),
        ("folder.toml", b""),
        ("index.html", b""),
        ("sub/index.html", b"ok"),
        ("empty/", b""),
        ("__MACOSX/._x.csv", b"junk"),
    )
    with open_bundle(saved(tmp_path, content), LIMITS) as bundle:
        assert bundle.public == ("data/x.csv", "sub/index.html")
        assert set(bundle.names) - set(bundle.public) == {
            *["index.ipynb", "other.ipynb", ".env", "a/.git/config", "OLD.IPYNB", "folder.toml", "index.html"]
        }
        assert bundle.read("index.ipynb") == INDEX
        assert bundle.read("data/x.csv") == b"1,2"
        with pytest.raises(KeyError):
            bundle.read("__MACOSX/._x.csv")
        with pytest.raises(KeyError):
            bundle.read("../bundle.zip")


def test_entries_that_begin_with_a_dot_slash_are_what_the_jupyter_bundler_makes(tmp_path: Path) -> None:
    content = packed(("./", b""), ("./index.ipynb", INDEX), ("./data/", b""), ("./data/x", b"1"), index=False)
    path = saved(tmp_path, content)
    assert is_bundle(path)
    with open_bundle(path) as bundle:
        assert bundle.names == ("data/x", "index.ipynb")
        assert bundle.read("data/x") == b"1"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_stored_and_deflated_entries_of_any_size_come_back(tmp_path: Path, method: int) -> None:
    big = os.urandom(700_000)
    with open_bundle(saved(tmp_path, packed(("big", big), ("none", b""), method=method)), LIMITS) as bundle:
        assert bundle.read("big") == big
        assert bundle.read("none") == b""


def test_unix_modes_and_folders_of_real_tools_are_accepted(tmp_path: Path) -> None:
    content = packed(
        (special("run.sh", stat.S_IFREG | 0o4755), b"#!"),
        (special("d/", stat.S_IFDIR | 0o2775), b""),
        (special("d/x", 0o644), b""),
        ("e/", b""),
        ("e/", b""),
    )
    with open_bundle(saved(tmp_path, content), LIMITS) as bundle:
        assert bundle.names == ("d/x", "index.ipynb", "run.sh")


def test_comment_of_the_archive_is_no_harm(tmp_path: Path) -> None:
    path = saved(tmp_path, packed())
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"0123456789abcdef"
    assert is_bundle(path)
    open_bundle(path).close()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (packed(("grüße/日本.csv", b"1")), "grüße/日本.csv"),
        (packed(("AA.csv", b"1")).replace(b"AA.csv", "ü.csv".encode()), "ü.csv"),
        (packed(("AAA.csv", b"1")).replace(b"AAA.csv", b"\x84\x81\x94.csv"), "äüö.csv"),
    ],
    ids=["UTF-8 with its mark", "UTF-8 without it", "code page 437"],
)
def test_name_beyond_ascii_is_read_as_its_tool_meant_it(tmp_path: Path, content: bytes, name: str) -> None:
    with open_bundle(saved(tmp_path, content), LIMITS) as bundle:
        assert bundle.public == (name,)
        assert bundle.read(name) == b"1"


# ---- names


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("../evil", "'..'"),
        ("a/../../evil", "'..'"),
        ("./../evil", "'..'"),
        ("a/..", "'..'"),
        ("/etc/cron.d/x", "absolute"),
        ("//host/x", "absolute"),
        (".//x", "absolute"),
        ("a//b", "empty segment"),
        ("a/./b", "'.'"),
        (".", "'.'"),
        ("a\\b", "backslash"),
        ("..\\evil", "backslash"),
        ("C:/x", "drive"),
        ("c:x", "drive"),
        ("a\nb", "control"),
        ("\x1b[2J", "control"),
        ("x" * 256, "longer"),
        ("d/" * MAX_DEPTH + "x", "folders deep"),
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_entry_with_an_unsafe_name_is_refused(tmp_path: Path, name: str, word: str) -> None:
    sentence = refusal(tmp_path, packed((name, b"x")))
    assert word in sentence
    assert "forbidden name" in sentence


def test_nul_in_a_name_does_not_hide_its_rest(tmp_path: Path) -> None:
    content = renamed(packed(("a.png_../../x", b"x")), b"a.png_", b"a.png\0")
    assert "NUL" in refusal(tmp_path, content)


def test_empty_name_is_refused(tmp_path: Path) -> None:
    assert "is empty" in refusal(tmp_path, packed((zipfile.ZipInfo(""), b"")))


def test_invalid_utf8_in_a_marked_name_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path, renamed(packed(("ü.csv", b"")), "ü.csv".encode(), b"\xff\xff.csv"))


@pytest.mark.parametrize(
    ("entries", "word"),
    [
        ([("a", b"1"), ("a", b"2")], "two entries"),
        ([("index.ipynb", b"2")], "two entries"),
        ([("a", b"1"), ("./a", b"2")], "two entries"),
        ([("Data.csv", b"1"), ("data.csv", b"2")], "same name"),
        ([("Data/x", b"1"), ("data/y", b"2")], "same name"),
        ([("é", b"1"), ("e\u0301", b"2")], "same name"),
        ([("straße", b"1"), ("STRASSE", b"2")], "same name"),
        ([("INDEX.ipynb", b"1")], "same name"),
        ([("a", b"1"), ("a/b", b"2")], "both as a file and as a folder"),
        ([("a/b", b"1"), ("a", b"2")], "both as a file and as a folder"),
        ([("a/", b""), ("a", b"2")], "both as a file and as a folder"),
        ([("a", b"1"), ("a/", b"")], "both as a file and as a folder"),
        ([("index.ipynb/x", b"1")], "both as a file and as a folder"),
        ([("A/b/c", b"1"), ("a", b"2")], "same name"),
    ],
)
def test_names_that_cannot_stand_beside_each_other_are_refused(tmp_path: Path, entries: list[Entry], word: str) -> None:
    assert word in refusal(tmp_path, packed(*entries))


# ---- kinds


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, 0o160000])
def test_special_files_are_refused(tmp_path: Path, kind: int) -> None:
    assert "neither file nor folder" in refusal(tmp_path, packed((special("x", kind | 0o644), b"")))


@pytest.mark.parametrize("target", [b"/etc/passwd", b"../..", b"index.ipynb"])
def test_symbolic_links_are_refused(tmp_path: Path, target: bytes) -> None:
    assert "symbolic link" in refusal(tmp_path, packed((special("link", stat.S_IFLNK | 0o777), target)))


def test_symbolic_link_as_index_is_refused(tmp_path: Path) -> None:
    content = packed((special("index.ipynb", stat.S_IFLNK | 0o777), b"/etc/passwd"), index=False)
    assert "symbolic link" in refusal(tmp_path, content)


def test_folder_with_content_or_with_a_files_name_is_refused(tmp_path: Path) -> None:
    assert "both file and folder" in refusal(tmp_path, packed(("a/", b"content")))
    assert "both file and folder" in refusal(tmp_path, packed((special("a", stat.S_IFDIR | 0o755), b"")))


@pytest.mark.parametrize("flag", [0x1, 0x40, 0x2000])
def test_encrypted_entry_is_refused(tmp_path: Path, flag: int) -> None:
    assert "encrypted" in refusal(tmp_path, patched(packed(("x", b"1")), b"x", 8, struct.pack("<H", flag)))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compression_is_refused(tmp_path: Path, method: int) -> None:
    assert "unusual method" in refusal(tmp_path, packed(("x", b"1" * 100), method=method))


@pytest.mark.parametrize("method", [9, 93, 99, 12345])
def test_unknown_compression_is_refused(tmp_path: Path, method: int) -> None:
    assert "unusual method" in refusal(tmp_path, patched(packed(("x", b"1")), b"x", 10, struct.pack("<H", method)))


# ---- sizes


def test_archive_over_the_packed_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    assert "bytes, more than" in refusal(tmp_path, b"no archive at all" * 10, LIMITS._replace(max_packed=100))


def test_number_of_entries_is_limited(tmp_path: Path) -> None:
    entries = [(f"f{number}", b"") for number in range(LIMITS.max_entries - 1)]
    open_bundle(saved(tmp_path, packed(*entries)), LIMITS).close()
    assert "more than the 50 entries" in refusal(tmp_path, packed(*entries, ("one more", b"")))


def test_lying_about_the_number_of_entries_does_not_help(tmp_path: Path) -> None:
    content = packed(*[(f"f{number}", b"") for number in range(60)])
    at = content.rindex(b"PK\5\6") + 8
    assert "more than the 50 entries" in refusal(tmp_path, content[:at] + struct.pack("<HH", 1, 1) + content[at + 4 :])
    content = packed(("x", b""))
    at = content.rindex(b"PK\5\6") + 8
    assert "as many entries" in refusal(tmp_path, content[:at] + struct.pack("<HH", 1, 1) + content[at + 4 :])


def test_unpacked_size_is_limited(tmp_path: Path) -> None:
    chunk = os.urandom(1000) * 900  # compresses well enough to pass the ratio, being short of 1 MiB
    assert "unpacks to more than" in refusal(tmp_path, packed(*[(f"f{number}", chunk) for number in range(4)]))


def test_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    assert "times its packed size" in refusal(tmp_path, packed(("bomb", b"\0" * 2_000_000)))


def test_small_files_may_shrink_well(tmp_path: Path) -> None:
    with open_bundle(saved(tmp_path, packed(("zeros", b"\0" * 1_000_000))), LIMITS) as bundle:
        assert len(bundle.read("zeros")) == 1_000_000


def test_entry_that_unpacks_to_more_than_declared_is_not_read_on(tmp_path: Path) -> None:
    content = patched(packed(("x.csv", b"\0" * 1_000_000)), b"x.csv", 24, struct.pack("<L", 10))
    with open_bundle(saved(tmp_path, content), LIMITS) as bundle, pytest.raises(NotebookError, match="damaged"):
        bundle.read("x.csv")


def test_entry_that_unpacks_to_less_than_declared_is_damaged(tmp_path: Path) -> None:
    content = patched(packed(("x.csv", b"12345")), b"x.csv", 24, struct.pack("<L", 10))
    with open_bundle(saved(tmp_path, content), LIMITS) as bundle, pytest.raises(NotebookError, match="damaged"):
        bundle.read("x.csv")


def test_entries_made_of_the_same_bytes_are_refused(tmp_path: Path) -> None:
    content = packed(("a.csv", os.urandom(1000)), ("b.csv", os.urandom(1000)))
    with zipfile.ZipFile(BytesIO(content)) as archive:
        offset = archive.getinfo("a.csv").header_offset
    assert "overlap" in refusal(tmp_path, patched(content, b"b.csv", 42, struct.pack("<L", offset)))
    assert "overlap" in refusal(tmp_path, patched(content, b"b.csv", 42, struct.pack("<L", len(content) - 60)))


def test_directory_of_very_long_unlike_names_is_checked_in_reasonable_time(tmp_path: Path) -> None:
    entries = [(f"{number}/" + "ü/" * (MAX_DEPTH - 2) + "é" * 100, b"") for number in range(2000)]
    with open_bundle(saved(tmp_path, packed(*entries)), LIMITS._replace(max_entries=3000)) as bundle:
        assert len(bundle.names) == 2001


# ---- shape of the file


@pytest.mark.parametrize("content", [b"", b"INVALID", b"PK", b"PK\3\4" + b"\0" * 100, b"\0" * 70_000, b"PK\5\6"])
def test_what_is_no_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "not a ZIP" in refusal(tmp_path, content)


def test_empty_archive_has_no_index(tmp_path: Path) -> None:
    assert "no file index.ipynb" in refusal(tmp_path, packed(index=False))


def test_bytes_before_or_after_the_archive_are_refused(tmp_path: Path) -> None:
    good = packed(("x", b"1"))
    assert "after its end" in refusal(tmp_path, good + b"garbage")
    assert "before its start" in refusal(tmp_path, b"#!/bin/sh\n" + good)
    assert "before its start" in refusal(tmp_path, good + good)


def test_hidden_second_directory_in_zip64_form_is_refused(tmp_path: Path) -> None:
    """zipfile would follow the locator to another directory than the one whose entries were counted."""
    good = packed(("x", b"1"))
    end = good.rindex(b"PK\5\6")
    start = struct.unpack_from("<L", good, end + 16)[0]
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2, 2, end - start, start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    assert "ZIP64" in refusal(tmp_path, good[:end] + end64 + locator + good[end:])
    at = good.rindex(b"x", 0, end) - 46
    hidden = good[: at + 32] + struct.pack("<H", len(end64 + locator)) + good[at + 34 : end] + end64 + locator
    longer = struct.pack("<L", len(hidden) - start)
    content = hidden + good[end : end + 12] + longer + good[end + 16 :]
    with zipfile.ZipFile(BytesIO(content)) as archive:
        assert len(archive.infolist()) == 2
    assert "ZIP64" in refusal(tmp_path, content)


def test_archive_of_several_parts_is_refused(tmp_path: Path) -> None:
    good = packed()
    at = good.rindex(b"PK\5\6") + 4
    assert "several" in refusal(tmp_path, good[:at] + b"\1\0" + good[at + 2 :])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_archive_cut_off_is_refused(tmp_path: Path, share: float) -> None:
    good = packed(("x.csv", os.urandom(5000)))
    assert "cut off" in refusal(tmp_path, good[: int(len(good) * share)])


def test_changed_content_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    good = packed(("x.csv", b"0123456789"), method=zipfile.ZIP_STORED)
    with open_bundle(saved(tmp_path, good.replace(b"0123456789", b"0123456780")), LIMITS) as bundle:
        assert bundle.read("index.ipynb") == INDEX
        with pytest.raises(NotebookError, match=r"'x\.csv' in the ZIP is damaged"):
            bundle.read("x.csv")


def test_local_header_with_another_name_is_noticed(tmp_path: Path) -> None:
    good = packed(("x.csv", b"1"))
    at = good.index(b"x.csv")
    content = good[:at] + b"y" + good[at + 1 :]
    with open_bundle(saved(tmp_path, content), LIMITS) as bundle, pytest.raises(NotebookError, match="damaged"):
        bundle.read("x.csv")


def test_file_that_cannot_be_opened_or_is_none_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    for path in (tmp_path / "gone.zip", tmp_path, tmp_path / "pipe.zip"):
        with pytest.raises(NotebookError):
            open_bundle(path)


# ---- the index


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (["hello.txt"], "no file index.ipynb"),
        (["index.ipynb/"], "is a folder"),
        (["index.ipynb/x"], "is a folder"),
        (["top/index.ipynb", "top/x.csv"], "pack what is in that folder"),
        (["Index.ipynb"], "rename 'Index.ipynb'"),
        (["__MACOSX/index.ipynb"], "no file index.ipynb"),
    ],
)
def test_archive_without_index_says_what_is_likely_wrong(tmp_path: Path, names: list[str], word: str) -> None:
    content = packed(*[(name, b"") for name in names], index=False)
    assert word in refusal(tmp_path, content)
    assert not is_bundle(saved(tmp_path, content))


def test_quick_check_tells_bundles_from_data(tmp_path: Path) -> None:
    assert is_bundle(saved(tmp_path, packed(("x", b"1"))))
    assert not is_bundle(saved(tmp_path, packed(("x.csv", b"1"), index=False)))
    assert not is_bundle(saved(tmp_path, packed(("top/index.ipynb", b"1"), index=False)))
    assert not is_bundle(saved(tmp_path, b"version https://git-lfs.github.com/spec/v1\n"))


def test_quick_check_keeps_the_page_of_an_archive_that_is_being_written(tmp_path: Path) -> None:
    good = packed(("x", b"1"))
    assert is_bundle(saved(tmp_path, b""))
    assert is_bundle(saved(tmp_path, good[: len(good) // 2]))
    assert is_bundle(saved(tmp_path, good[:-1]))


def test_quick_check_does_not_wait_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.zip")
    assert is_bundle(tmp_path / "x.zip")


# ---- extract


def test_extract_unpacks_all_files_with_plain_modes(tmp_path: Path) -> None:
    content = packed((special("bin/run", stat.S_IFREG | 0o4777), b"#!"), (".env", b"x"), ("b.ipynb", b"{}"))
    target = tmp_path / "out"
    with open_bundle(saved(tmp_path, content), LIMITS) as bundle:
        bundle.extract(target)
        assert sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()) == list(
            bundle.names
        )
    assert (target / "bin/run").read_bytes() == b"#!"
    assert not (target / "bin/run").stat().st_mode & (stat.S_ISUID | 0o111)
    assert target.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("prepare", [Path.mkdir, Path.touch, lambda path: path.symlink_to("elsewhere")])
def test_extract_wants_a_new_folder(tmp_path: Path, prepare: Callable[[Path], None]) -> None:
    target = tmp_path / "out"
    prepare(target)
    with open_bundle(saved(tmp_path, packed()), LIMITS) as bundle, pytest.raises(FileExistsError):
        bundle.extract(target)
    assert not (tmp_path / "elsewhere").exists()


def test_extract_leaves_nothing_when_an_entry_is_damaged(tmp_path: Path) -> None:
    content = packed(("a", b"1"), ("z", b"0123456789"), method=zipfile.ZIP_STORED).replace(b"0123456789", b"012345678x")
    with open_bundle(saved(tmp_path, content), LIMITS) as bundle, pytest.raises(NotebookError, match="damaged"):
        bundle.extract(tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- anything


def survives(content: bytes) -> None:
    """An archive either opens and yields its files below one folder, or is refused with a NotebookError."""
    with tempfile.TemporaryDirectory() as folder:
        path = saved(Path(folder), content)
        is_bundle(path)
        try:
            with open_bundle(path, LIMITS) as bundle:
                bundle.extract(Path(folder) / "out")
        except NotebookError:
            assert not (Path(folder) / "out").exists()
        assert set(os.listdir(folder)) <= {"bundle.zip", "out"}


BASE = packed(("a/b.csv", b"1,2,3\n" * 20), ("ü", b""), ("d/", b""))


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, len(BASE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_archive_with_any_bytes_changed_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    content = bytearray(BASE)
    for at, value in changes:
        content[at] = value
    survives(bytes(content))


@settings(deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_refused(content: bytes, with_end: bool) -> None:
    survives(content + BASE[-22:] if with_end else content)


NAME = st.text(alphabet=st.sampled_from([*"ab./\\:A", "\n", "é", "\u0301"]), min_size=1, max_size=8)


@settings(deadline=None)
@given(st.lists(NAME, max_size=4))
def test_archive_with_any_names_is_unpacked_below_its_folder_or_refused(names: list[str]) -> None:
    survives(packed(*[(name, b"" if name.endswith("/") else b"x") for name in names]))


# Found by tests/benchmarks/fuzz.py


def test_a_file_that_is_a_zip_only_from_its_middle_is_no_bundle_for_anybody(tmp_path: Path) -> None:
    buffer = BytesIO(b"#!/bin/sh\n")
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("index.ipynb", INDEX)
    path = saved(tmp_path, buffer.getvalue())
    assert zipfile.is_zipfile(path)
    assert not is_bundle(path)
    with pytest.raises(NotebookError, match="bytes before its start"):
        open_bundle(path, LIMITS)
