"""Published files: what is kept in memory is what is on disk, no link is followed, and conditions mean what they say."""

from __future__ import annotations

import gzip
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate
from io import BytesIO
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shim import folder as folder_module
from shim.answers import HttpError
from shim.folder import SMALL, Document, Folder, Stamp
from shim.static import NotPublishedError, StaticFiles

PAST = 1_700_000_000
TEXT = b"<!doctype html>" + b"<p>Words.</p>\n" * 200
LARGE = os.urandom(SMALL + 1000)


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


def get(files: StaticFiles, name: str, method: str = "GET", **headers: str) -> Answer:
    """The answer for a file through the validator; keyword arguments are headers."""
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "QUERY_STRING": "", "wsgi.input": BytesIO()}
    setup_testing_defaults(environ)
    environ.update({f"HTTP_{key.upper()}": value for key, value in headers.items()})
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        return files.answer(environ, start_response, name, "no-cache")

    def start_response(status: str, sent: list[tuple[str, str]], exc_info: Any = None) -> Any:
        started.append((status, sent))
        return lambda data: None

    result: Any = validator(application)(environ, start_response)
    try:
        body = b"".join(result)
    finally:
        result.close()
    ((status, sent),) = started
    return Answer(int(status[:3]), {key.lower(): value for key, value in sent}, body)


def refused(files: StaticFiles, name: str, **headers: str) -> HttpError:
    """The refusal for a file."""
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", **{f"HTTP_{k.upper()}": v for k, v in headers.items()}}
    with pytest.raises(HttpError) as caught:
        files.answer(environ, lambda *_: pytest.fail("an answer was begun"), name, "no-cache")
    return caught.value


def put(path: Path, content: bytes, modified: int = PAST) -> None:
    """Publish a file as builders do: whole, under its name at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(content)
    os.utime(new, (modified, modified))
    os.replace(new, path)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep files in memory however young they are."""
    monkeypatch.setattr(folder_module, "SETTLED_NS", 0)


@pytest.fixture
def root(tmp_path: Path, at_once: None) -> Path:
    """A folder with a page, a data file and a large one."""
    put(tmp_path / "site" / "a" / "index.html", TEXT)
    put(tmp_path / "site" / "a" / "data.csv", b"0123456789")
    put(tmp_path / "site" / "large.mp4", LARGE)
    put(tmp_path / "secret" / "index.html", b"secret")
    return tmp_path / "site"


# Memory


def test_a_page_that_did_not_change_is_not_opened_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = StaticFiles(root, [])
    first = [get(files, "a/index.html", accept_encoding=encoding) for encoding in ("", "gzip")]
    monkeypatch.setattr(os, "open", lambda *_, **__: pytest.fail("a file was opened"))
    monkeypatch.setattr(gzip, "compress", lambda *_, **__: pytest.fail("a file was compressed"))
    assert [get(files, "a/index.html", accept_encoding=encoding) for encoding in ("", "gzip")] == first
    assert files.exists("a/index.html")
    assert files.read("a/index.html") == TEXT
    assert get(files, "a/index.html", range="bytes=0-8").body == TEXT[:9]


def test_what_is_kept_follows_the_disk(root: Path) -> None:
    files, page = StaticFiles(root, []), root / "a" / "index.html"
    etags = {get(files, "a/index.html").headers["etag"]}
    put(page, TEXT[::-1])
    answer = get(files, "a/index.html")
    assert (answer.body, answer.headers["etag"] in etags) == (TEXT[::-1], False)
    page.write_bytes(TEXT + b"in place")
    assert get(files, "a/index.html").body == TEXT + b"in place"
    assert gzip.decompress(get(files, "a/index.html", accept_encoding="gzip").body) == TEXT + b"in place"
    page.unlink()
    with pytest.raises(NotPublishedError):
        get(files, "a/index.html")
    assert files.read("a/index.html") is None
    assert not files.exists("a/index.html")
    put(page, TEXT)
    assert get(files, "a/index.html").body == TEXT


@given(st.lists(st.sampled_from(["replace", "append", "remove", "folder", "link", "read"]), max_size=20))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_answer_is_what_lies_there_at_that_moment(at_once: None, tmp_path: Path, steps: list[str]) -> None:
    page, other = tmp_path / "root" / "p" / "index.html", tmp_path / "other"
    put(other, b"no file of the site")
    files = StaticFiles(tmp_path / "root", [])
    for number, step in enumerate(steps):
        if step != "append" and page.is_dir() and not page.is_symlink():
            page.rmdir()
        if step == "replace":
            put(page, b"x" * 1000 + b"y" * number)
        elif step == "append" and page.is_file() and not page.is_symlink():
            with page.open("ab") as stream:
                stream.write(b"more")
        elif step in ("remove", "folder", "link"):
            page.unlink(missing_ok=True)
            page.parent.mkdir(parents=True, exist_ok=True)
            if step == "folder":
                page.mkdir()
            elif step == "link":
                page.symlink_to(other)
        there = page.read_bytes() if page.is_file() and not page.is_symlink() else None
        assert files.read("p/index.html") == there
        assert files.exists("p/index.html") is (there is not None)
        if there is not None:
            zipped = get(files, "p/index.html", accept_encoding="gzip")
            assert gzip.decompress(zipped.body) == get(files, "p/index.html").body == there
    page.unlink(missing_ok=True) if not page.is_dir() or page.is_symlink() else page.rmdir()


def test_a_change_is_another_entity_tag_whatever_date_it_is_given() -> None:
    stamps = [Stamp(1, 2, 3, PAST, 4), Stamp(1, 2, 3, PAST, 5), Stamp(1, 2, 4, PAST, 4), Stamp(1, 3, 3, PAST, 4)]
    documents = [Document("a.txt", stamp) for stamp in stamps]
    assert len({document.etag for document in documents} | {document.zipped_etag for document in documents}) == 8


def test_a_file_that_may_still_change_unseen_is_not_kept(tmp_path: Path) -> None:
    now = time.time_ns()
    assert not Document("a.txt", Stamp(1, 2, 3, PAST, now)).settled
    assert not Document("a.txt", Stamp(1, 2, 3, PAST, now + 10**12)).settled
    assert Document("a.txt", Stamp(1, 2, 3, PAST, now - 10**9)).settled
    put(tmp_path / "a.txt", b"0123456789")
    folder = Folder(tmp_path)
    assert folder.open("a.txt").document.settled is (folder._memory.get("a.txt") is not None)


def test_memory_is_bounded_and_forgets_what_nobody_asked_for_longest(tmp_path: Path, at_once: None) -> None:
    for name in ("a", "b", "c"):
        put(tmp_path / f"{name}.txt", os.urandom(20_000))
    folder = Folder(tmp_path, 50_000)
    for name in ("a", "b", "a", "c"):
        folder.open(f"{name}.txt")
    memory = folder._memory
    assert list(memory._documents) == ["a.txt", "c.txt"]
    assert memory._bytes == sum(document.weight for document, _ in memory._documents.values()) <= 50_000
    folder.zipped("c.txt", folder.open("c.txt"))
    assert memory._bytes == sum(document.weight for document, _ in memory._documents.values()) <= 50_000
    assert folder.open("a.txt").content() == (tmp_path / "a.txt").read_bytes()


def test_large_files_are_never_kept_but_their_compressed_form_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root / "large.txt", TEXT * 100)
    files = StaticFiles(root, [])
    assert get(files, "large.mp4").body == LARGE
    zipped = get(files, "large.txt", accept_encoding="gzip")
    assert gzip.decompress(zipped.body) == get(files, "large.txt").body == TEXT * 100
    assert files._folder._memory._bytes < 100_000
    monkeypatch.setattr(gzip, "compress", lambda *_, **__: pytest.fail("a file was compressed"))
    assert get(files, "large.txt", accept_encoding="gzip") == zipped
    put(root / "large.txt", TEXT * 101)
    monkeypatch.undo()
    assert gzip.decompress(get(files, "large.txt", accept_encoding="gzip").body) == TEXT * 101


def test_readers_see_one_whole_state_while_a_page_is_replaced(root: Path) -> None:
    files, states = StaticFiles(root, []), [TEXT + b"x" * number for number in range(40)]
    by_etag: dict[str, set[bytes]] = {}
    problems: list[object] = []
    done = threading.Event()

    def read(encoding: str) -> None:
        try:
            while not done.is_set():
                answer = get(files, "a/index.html", accept_encoding=encoding)
                body = gzip.decompress(answer.body) if encoding else answer.body
                by_etag.setdefault(answer.headers["etag"], set()).add(body)
        except Exception as problem:
            problems.append(problem)

    put(root / "a" / "index.html", states[0])
    readers = [threading.Thread(target=read, args=(encoding,)) for encoding in ("", "gzip") * 2]
    for reader in readers:
        reader.start()
    for state in states:
        put(root / "a" / "index.html", state)
    done.set()
    for reader in readers:
        reader.join()
    assert not problems
    assert all(len(bodies) == 1 for bodies in by_etag.values())
    assert set().union(*by_etag.values()) <= set(states)
    assert files.read("a/index.html") == states[-1]


# Links


def test_no_link_is_followed_wherever_it_stands_or_leads(root: Path) -> None:
    (root / "file.html").symlink_to("a/index.html")
    (root / "inside").symlink_to("a")
    (root / "outside").symlink_to("../secret")
    (root / "a" / "up").symlink_to("..")
    (root / "loop").symlink_to("loop")
    files = StaticFiles(root, [])
    assert files.read("a/index.html") == TEXT
    for name in ("file.html", "inside/index.html", "outside/index.html", "a/up/a/index.html", "loop", "loop/x"):
        assert files.read(name) is None
        assert not files.exists(name)
        with pytest.raises(NotPublishedError):
            get(files, name)


def test_a_folder_that_becomes_a_link_hides_what_was_kept(root: Path) -> None:
    files = StaticFiles(root, [])
    assert get(files, "a/index.html").body == TEXT
    (root / "a").rename(root.parent / "a")
    (root / "a").symlink_to("../secret")
    with pytest.raises(NotPublishedError):
        get(files, "a/index.html")


def test_the_folder_itself_may_be_a_link_and_be_exchanged_or_come_later(root: Path) -> None:
    current = root.parent / "current"
    files = StaticFiles(current, [])
    assert not files.exists("a/index.html")
    current.symlink_to(root)
    assert get(files, "a/index.html").body == TEXT
    put(root.parent / "next" / "a" / "index.html", b"next")
    (root.parent / "new").symlink_to(root.parent / "next")
    os.replace(root.parent / "new", current)
    assert get(files, "a/index.html").body == b"next"
    assert not files.exists("a/data.csv")


@pytest.mark.parametrize("name", ["", "a", "a/", "/a/index.html", "../site/a/index.html", "a/../a/index.html", "a//x"])
def test_names_that_are_no_files_are_not_published(root: Path, name: str) -> None:
    assert not StaticFiles(root, []).exists(name)


def test_no_descriptor_stays_open(root: Path) -> None:
    files = StaticFiles(root, [])
    (root / "link").symlink_to("a")
    get(files, "a/index.html")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("a/index.html", "large.mp4", "a", "none", "link/index.html", "a/index.html/x", "..", "a/none"):
        files.exists(name)
        files.read(name)
        files.head(name, 10)
        for headers in ({}, {"if_none_match": "*"}, {"range": "bytes=5-9"}):
            for method in ("GET", "HEAD"):
                try:
                    get(files, name, method, **headers)
                except NotPublishedError:
                    continue
    refused(files, "large.mp4", if_match='"x"')
    refused(files, "large.mp4", range=f"bytes={len(LARGE)}-")
    assert len(os.listdir("/proc/self/fd")) == before


# Conditions and parts


def test_a_state_that_is_gone_is_not_answered_with_another_one(root: Path) -> None:
    files = StaticFiles(root, [])
    etag = get(files, "a/data.csv").headers["etag"]
    for held in (etag, "*", f'"x", {etag}'):
        assert get(files, "a/data.csv", if_match=held).status == 200
    for gone in ('"x"', f"W/{etag}", "junk"):
        assert refused(files, "a/data.csv", if_match=gone).status == 412
    # A part of another state would not fit the parts that the client has.
    assert get(files, "a/data.csv", if_match=etag, range="bytes=2-4").body == b"234"
    assert refused(files, "a/data.csv", if_match='"x"', range="bytes=2-4").status == 412
    assert refused(files, "a/data.csv", if_match='"x"', if_none_match="*").status == 412
    assert get(files, "a/data.csv", if_match=etag, if_none_match=etag).status == 304


def test_a_file_that_changed_since_a_date_is_not_sent_to_those_who_want_it_as_it_was(root: Path) -> None:
    files = StaticFiles(root, [])
    same, earlier = formatdate(PAST, usegmt=True), formatdate(PAST - 1, usegmt=True)
    etag = get(files, "a/data.csv").headers["etag"]
    assert get(files, "a/data.csv", if_unmodified_since=same).status == 200
    assert get(files, "a/data.csv", if_unmodified_since="junk").status == 200
    assert refused(files, "a/data.csv", if_unmodified_since=earlier).status == 412
    assert get(files, "a/data.csv", if_unmodified_since=earlier, if_match=etag).status == 200


@pytest.mark.parametrize("ahead", [0, 3600, 10**10])
def test_dates_that_are_not_past_are_neither_sent_nor_believed(root: Path, ahead: int) -> None:
    put(root / "young.csv", b"0123456789")
    now = int(time.time()) + 60  # this second, however long the test takes
    os.utime(root / "young.csv", (now + ahead, now + ahead))
    files = StaticFiles(root, [])
    assert "last-modified" not in get(files, "young.csv").headers
    for date in (formatdate(now, usegmt=True), formatdate(now + 3600, usegmt=True)):
        assert get(files, "young.csv", if_modified_since=date).status == 200
        assert get(files, "young.csv", range="bytes=1-1", if_range=date).body == b"0123456789"
    etag = get(files, "young.csv").headers["etag"]
    assert get(files, "young.csv", if_none_match=etag).status == 304
    assert get(files, "young.csv", range="bytes=1-1", if_range=etag).body == b"1"


def test_a_file_gets_its_date_once_that_is_past(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = StaticFiles(root, [])
    with monkeypatch.context() as clock:
        clock.setattr(time, "time", lambda: PAST + 0.9)
        assert "last-modified" not in get(files, "a/data.csv").headers
    assert get(files, "a/data.csv").headers["last-modified"] == formatdate(PAST, usegmt=True)


def test_a_part_that_is_not_there_has_none_of_the_headers_of_the_file(root: Path) -> None:
    files = StaticFiles(root, [("X-Common", "1")])
    for name, size in (("a/data.csv", 10), ("large.mp4", len(LARGE))):
        error = refused(files, name, range=f"bytes={size}-")
        assert (error.status, error.headers) == (416, [("Content-Range", f"bytes */{size}")])


@pytest.mark.parametrize("name", ["a/data.csv", "large.mp4"])
def test_parts_are_the_same_from_memory_and_from_disk(root: Path, name: str) -> None:
    files, content = StaticFiles(root, []), (root / name).read_bytes()
    for _ in range(2):
        for header, part in (("bytes=2-4", content[2:5]), ("bytes=-3", content[-3:]), ("bytes=0-", content)):
            answer = get(files, name, range=header)
            assert (answer.status, answer.body) == (206, part)
            assert answer.headers["content-length"] == str(len(part))
        head = get(files, name, "HEAD", range="bytes=2-4")
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(content)))


def test_an_empty_file_is_an_answer(root: Path) -> None:
    put(root / "empty.txt", b"")
    files = StaticFiles(root, [])
    for headers in ({}, {"range": "bytes=-5"}, {"accept_encoding": "gzip"}):
        answer = get(files, "empty.txt", **headers)
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
    assert refused(files, "empty.txt", range="bytes=0-").status == 416
