"""The API of the dashboards server, case by case as its own tests had them (their ids stand in brackets), and ours.

Every test runs against a real web server with the real builder; the central ones also through wsgiref's validator.
"""

from __future__ import annotations

import io
import mmap
import os
import shutil
import unicodedata
from collections.abc import Iterator
from html import unescape
from itertools import count
from pathlib import Path
from urllib.parse import quote, urlsplit
from zipfile import ZipFile, ZipInfo

import pytest
from dashboards import Answer, Part, Shim, bundle, form, page_of, running, until, zipped
from making import write

from builder.build import Builder

NUMBERS = count(1)
TREES = ("dashboards", "dashboards-plain")
UPLOADED = "Notebook successfully uploaded"
TOKEN = "s3cret-token"
BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    """One open server for the whole module; every test uses names of its own."""
    with running(tmp_path_factory.mktemp("around")) as shim:
        yield shim


@pytest.fixture(params=["http", "wsgi"])
def shim(request: pytest.FixtureRequest, server: Shim) -> Shim:
    """That server, over a socket and through the validator."""
    return server.over(request.param)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    """A server of few pages, for tests in which all of them are made anew."""
    with running(tmp_path_factory.mktemp("small")) as shim:
        yield shim


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"name{next(NUMBERS)}"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    """A server with tokens of all sorts."""
    folder = tmp_path_factory.mktemp("guarded")
    scopes = {"publisher": ["publish"], "cleaner": ["cache"], "starter": ["instances"], "chief": ["admin"]}
    tokens = "".join(
        f'[[auth.token]]\nname = "{name}"\nvalue = "{name}-token"\nscopes = ["{given[0]}"]\n'
        for name, given in scopes.items()
    )
    write(folder, "notebooks/site.toml", tokens)
    (folder / "notebooks/site.toml").chmod(0o600)
    with running(folder, auth__api_token=TOKEN) as shim:
        yield shim


def shows(answer: Answer, text: str) -> bool:
    """Whether an answer is a page with a text in it."""
    return answer.status == 200 and (answer["content-type"] or "").startswith("text/html") and text in answer.text


def is_gone(shim: Shim, name: str) -> bool:
    """Whether neither page nor listing entry of a dashboard is left."""
    return all(shim.page(name, tree).status == 404 for tree in TREES) and name not in shim.listed()


# --- uploads


def test_upload_lands_unchanged_as_one_file_in_a_folder_made_for_it(shim: Shim, name: str) -> None:  # [U1]
    content = page_of("# New name")
    before = shim.tree()
    assert shim.upload(f"{name}/newname", content, "nbname.ipynb").status == 201
    made = {key: value for key, value in shim.tree().items() if key not in before}
    assert made == {f"notebooks/{name}": b"(folder)", f"notebooks/{name}/newname.ipynb": content}


@pytest.mark.parametrize("suffix", [".ipynb", ".IPYNB", ".ipynb/", "/"])
def test_upload_to_a_url_that_ends_in_ipynb_survives_without_a_double_suffix(  # [U2]
    shim: Shim, name: str, suffix: str
) -> None:
    body = form(Part("file", page_of("# Still here"), "other.ipynb"))
    answer = shim(f"/_api/notebooks/{name}/newname{suffix}", "POST", body)
    assert (answer.status, answer.json()["link"]) == (201, f"http://localhost/dashboards/{name}/newname")
    assert [path.name for path in (shim.source / name).iterdir()] == ["newname.ipynb"]
    assert shows(shim.page(f"{name}/newname"), "Still here")


def test_uploaded_notebook_is_a_page_at_once_and_its_answer_has_exactly_four_fields(  # [D1]
    shim: Shim, name: str
) -> None:
    answer = shim.upload(f"{name}/with space", page_of("# Hello"))
    assert answer.status == 201
    assert answer.json() == {
        "message": UPLOADED,
        "status": 201,
        "url": f"/notebooks/{name}/with%20space",
        "link": f"http://localhost/dashboards/{name}/with%20space",
    }
    for tree in TREES:
        assert shows(shim.page(f"{name}/with space", tree), "Hello")


@pytest.mark.parametrize("filename", ["a.notanipynb", "a.txt", "ipynb", "zip", "a.ipynb.exe", "a.zip.", ".htaccess"])
def test_file_that_is_neither_notebook_nor_zip_is_415(shim: Shim, name: str, filename: str) -> None:  # [D2]
    answer = shim.upload(name, page_of("# Hello"), filename)
    assert (answer.status, answer.message.count(".ipynb")) == (415, 1)
    assert is_gone(shim, name)


@pytest.mark.parametrize("filename", ["A.IPYNB", "folder/a.ipynb", r"C:\folder\a.ipynb", "../../a.ipynb", "été.ipynb"])
def test_the_name_of_the_file_says_only_what_kind_it_is(shim: Shim, name: str, filename: str) -> None:
    before = shim.tree()
    assert shim.upload(name, page_of("# Hello"), filename).status == 201
    assert shim.tree().keys() - before.keys() == {f"notebooks/{name}.ipynb"}


def test_two_files_in_one_form_are_400_and_none_is_stored(shim: Shim, name: str) -> None:  # [D3]
    part = Part("file", page_of("# Hello"), "a.ipynb")
    before = shim.tree()
    assert shim(f"/_api/notebooks/{name}", "POST", form(part, part)).status == 400
    assert shim.tree() == before


def test_plain_field_beside_the_file_is_ignored(shim: Shim, name: str) -> None:  # [D4]
    part = Part("file", page_of("# Hello"), "a.ipynb")
    assert shim(f"/_api/notebooks/{name}", "POST", form(part)).status == 201
    assert shim(f"/_api/notebooks/{name}", "POST", form(part, Part("foo", b"bar"))).status == 201
    assert shows(shim.page(name), "Hello")


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, form(Part("foo", b"bar")), 400),
        ({}, form(Part("other", page_of("x"), "a.ipynb")), 400),
        ({}, form(Part("file", b"", "a.ipynb")), 400),
        ({}, form(Part("file", page_of("x"), "a.ipynb"))[:-20], 400),
        ({"content_type": "application/x-www-form-urlencoded"}, b"file=x", 415),
        ({"content_type": "application/json"}, b"{}", 415),
        ({"content_type": None}, b"{}", 415),
        ({"content_type": "multipart/form-data"}, b"{}", 400),
        ({}, b"", 400),
    ],
    ids=["no-file", "part-name", "empty", "cut-off", "urlencoded", "json", "no-type", "no-boundary", "no-body"],
)
def test_form_without_a_usable_file_is_refused_and_nothing_is_stored(
    shim: Shim, name: str, headers: dict[str, str | None], body: bytes, status: int
) -> None:
    before = shim.tree()
    assert shim(f"/_api/notebooks/{name}", "POST", body, **headers).status == status
    assert shim.tree() == before


def test_new_version_is_fresh_at_every_form_of_its_url(shim: Shim, name: str) -> None:  # [D5]
    urls = [f"/{name}", f"/{name}/", *(f"/{tree}/{name}{end}" for tree in TREES for end in ("", "/", "/index.html"))]

    def read(url: str) -> str:
        answer = shim(url)
        for _ in range(3):
            if answer.status not in (301, 302):
                break
            assert answer["cache-control"] == "no-cache"
            answer = shim(answer["location"] or "")
        assert answer.status == 200, url
        return answer.text

    for version in ("1st Upload", "2nd Upload", "3rd Upload"):
        assert shim.upload(name, page_of(f"# {version}")).status == 201
        for url in urls:
            assert version in read(url)
        assert shim.listed()[name]["title"] == version


def test_new_version_is_not_hidden_by_what_a_browser_keeps(shim: Shim, name: str) -> None:
    assert shim.upload(name, page_of("# Old text")).status == 201
    first = shim.page(name)
    assert first["cache-control"] == "no-cache"
    assert shim(f"/dashboards/{name}/", if_none_match=first["etag"]).status == 304
    assert shim.upload(name, page_of("# New text")).status == 201
    assert shows(shim(f"/dashboards/{name}/", if_none_match=first["etag"]), "New text")


def test_upload_into_a_folder_and_any_number_of_folders(shim: Shim, name: str) -> None:  # [D6]
    for path in (f"{name}/upload", f"{name}/a/b/c/d/e/f/g/h"):
        assert shim.upload(path, page_of("# Deep")).status == 201
        assert shows(shim.page(path), "Deep")


def test_name_of_more_than_sixteen_segments_is_400_with_a_sentence(shim: Shim, name: str) -> None:
    answer = shim.upload(f"{name}/" + "a/" * 40 + "x", page_of("# Deep"))
    assert (answer.status, "16" in answer.message) == (400, True)
    assert not (shim.source / name).exists()


def test_zip_is_a_page_with_its_files_in_both_variants(shim: Shim, name: str) -> None:  # [D7]
    content = bundle("# Hello", ("hello.txt", b"good day"), ("data/x.csv", b"1,2"), ("secret.ipynb", page_of("hid")))
    assert shim.upload(name, content).status == 201
    assert (shim.source / f"{name}.zip").read_bytes() == content
    for tree in TREES:
        assert shows(shim.page(name, tree), "Hello")
        assert shim.file(f"{name}/hello.txt", tree).body == b"good day"
        assert shim.file(f"{name}/data/x.csv", tree).body == b"1,2"
        assert shim.file(f"{name}/secret.ipynb", tree).status == 404
        assert shim.file(f"{name}/index.ipynb", tree).status == 404


def test_second_zip_replaces_the_first_with_all_its_files(shim: Shim, name: str) -> None:  # [D8]
    assert shim.upload(name, bundle("# Hello", ("hello.txt", b"1"), ("same.txt", b"old"))).status == 201
    assert shim.file(f"{name}/same.txt").body == b"old"
    assert shim.upload(name, bundle("# Goodbye", ("goodbye.txt", b"2"), ("same.txt", b"new"))).status == 201
    page = shim.page(name)
    assert shows(page, "Goodbye") and "Hello" not in page.text
    for tree in TREES:
        assert shim.file(f"{name}/goodbye.txt", tree).body == b"2"
        assert shim.file(f"{name}/same.txt", tree).body == b"new"
        assert shim.file(f"{name}/hello.txt", tree).status == 404


@pytest.mark.parametrize(
    "content",
    [
        zipped(("hello.txt", b"")),
        b"INVALID",
        b"PK\5\6" + b"\0" * 18,
        b"PK\3\4",
        zipped(("top/index.ipynb", page_of("x"))),
    ],
    ids=["D9-no-index", "D10-no-zip", "empty-zip", "cut-off", "index-in-a-folder"],
)
def test_zip_that_is_no_bundle_is_422_and_the_old_version_stays(shim: Shim, name: str, content: bytes) -> None:
    assert shim.upload(name, bundle("# Good version", ("a.txt", b"1"))).status == 201
    before = shim.tree()
    assert shim.upload(name, content, "bad.zip").status == 422
    assert shim.tree() == before
    assert shows(shim.page(name), "Good version")
    assert shim.file(f"{name}/a.txt").body == b"1"


@pytest.mark.parametrize(
    "content",
    [b"{}", b"[]", b"null", b"", b"text", b"\xff\xfe", b'{"cells": 1, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
     b"[" * 100_000, page_of("x")[:-10], b'{"nbformat": 99, "nbformat_minor": 0, "metadata": {}, "cells": []}'],
    ids=["object", "list", "null", "empty", "text", "bytes", "cells", "nested", "cut-off", "future"],
)  # fmt: skip
def test_broken_notebook_is_refused_and_changes_nothing(shim: Shim, name: str, content: bytes) -> None:
    before = shim.tree()
    new = shim.upload(name, content, "bad.ipynb")
    assert new.status == (422 if content else 400)
    assert shim.tree() == before
    assert is_gone(shim, name)
    assert shim.upload(name, page_of("# Good version")).status == 201
    before = shim.tree()
    assert shim.upload(name, content, "bad.ipynb").status == new.status
    assert shim.tree() == before
    assert shows(shim.page(name), "Good version")


def test_refused_upload_of_the_other_kind_keeps_the_old_version(shim: Shim, name: str) -> None:
    assert shim.upload(f"{name}/n", page_of("# Notebook")).status == 201
    assert shim.upload(f"{name}/z", bundle("# Bundle", ("a.txt", b"1"))).status == 201
    before = shim.tree()
    assert shim.upload(f"{name}/n", zipped(("hello.txt", b""))).status == 422
    assert shim.upload(f"{name}/z", b"{}", "bad.ipynb").status == 422
    assert shim.tree() == before
    assert shows(shim.page(f"{name}/n"), "Notebook")
    assert shows(shim.page(f"{name}/z"), "Bundle")
    assert shim.file(f"{name}/z/a.txt").body == b"1"


def test_upload_that_may_not_replace_is_412_where_there_is_a_dashboard(shim: Shim, name: str) -> None:
    assert shim.upload(name, page_of("# First"), if_none_match="*").status == 201
    before = shim.tree()
    assert shim.upload(name, page_of("# Second"), if_none_match="*").status == 412
    assert shim.upload(name, bundle("# Third"), if_none_match="*").status == 412
    assert shim.tree() == before
    assert shows(shim.page(name), "First")
    assert shim.upload(name, page_of("# Second")).status == 201


def test_draft_is_stored_and_shown_to_nobody(shim: Shim, name: str) -> None:
    answer = shim.upload(name, page_of("# Not yet", nbfolio={"draft": True}))
    assert answer.status == 201
    assert all(shim.page(name, tree).status == 404 for tree in TREES)
    entry = shim.listed()[name]
    assert (entry["published"], entry["link"]) == (False, None)
    assert "draft" in entry["message"]
    assert name not in shim("/dashboards/").text
    assert shim.upload(name, page_of("# Now")).status == 201
    assert shows(shim.page(name), "Now")
    assert shim.upload(name, page_of("# Not any more", nbfolio={"draft": True})).status == 201
    assert shim.page(name).status == 404
    assert shim.delete(name).status == 204
    assert is_gone(shim, name)


def test_the_answer_to_a_draft_links_to_no_page_that_is_not_there(shim: Shim, name: str) -> None:
    answer = shim.upload(name, page_of("# Not yet", nbfolio={"draft": True}))
    assert answer.status == 201
    link = answer.json().get("link")
    assert link is None or shim(f"{urlsplit(link).path}/").status == 200


# --- names


@pytest.mark.parametrize(
    "last",
    ["with space", "a  b", "été", unicodedata.normalize("NFD", "été"), "日本語", "a#b", "100%", "50%!", "what?", 'say "hi"',
     "it's", "<b>&amp;", "a+b", "a;b=c,d", "a:b@c", "~home", "a|b*", "(x)[y]{z}", "$HOME `id`", "x" * 200, "no.dots.v1.2",
     "x.zip", "con", "-rf", "index2", "\U0001f600"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["notebook", "zip"])
def test_every_name_round_trips_from_upload_to_link_listing_and_deletion(
    server: Shim, name: str, last: str, kind: str
) -> None:
    path = f"{name}/{last}/{last}"
    content = page_of("# Named") if kind == "notebook" else bundle("# Named", ("a b.txt", b"1"))
    answer = server.upload(path, content)
    assert answer.status == 201
    assert answer.json()["url"].isascii() and " " not in answer.json()["url"]
    link = answer.json()["link"]
    assert link.isascii() and not set(link) & set(' "<>#?\\')
    moved = server(urlsplit(link).path)
    assert moved.status == 301
    assert shows(server(moved["location"] or ""), "Named")
    assert server.listed()[path]["link"] == link
    listing = server.page(f"{name}/{last}")
    assert listing.status == 200
    (href,) = [url for url in _links(listing) if url.endswith("/index.html") and not url.startswith("..")]
    assert shows(server(f"/dashboards/{quote(name)}/{quote(last)}/{href}"), "Named")
    if kind == "zip":
        assert server.file(f"{path}/a b.txt").body == b"1"
    assert server.delete(path).status == 204
    assert is_gone(server, path)


def _links(page: Answer) -> list[str]:
    return [unescape(piece.partition('"')[0]) for piece in page.text.split('<a href="')[1:]]


def test_route_names_and_page_names_do_not_get_in_each_others_way(server: Shim, name: str) -> None:
    for path in ("login", "_api", "metrics", "media", "assets", "dashboards", "healthz", "api", "static", "404"):
        assert server.upload(f"{path}/{name}", page_of(f"# Page {path}")).status == 201
        assert shows(server.page(f"{path}/{name}"), f"Page {path}")
        assert server.delete(f"{path}/{name}").status == 204


# --- deletion


@pytest.mark.parametrize("suffix", ["", "/", ".ipynb", ".ipynb/"])
def test_deleted_notebook_is_gone_with_page_and_entry(shim: Shim, name: str, suffix: str) -> None:  # [D11]
    before = shim.tree()
    assert shim.upload(name, page_of("# Soon gone")).status == 201
    assert f"{name}/index.html" in shim("/dashboards/").text
    assert shim(f"/_api/notebooks/{name}{suffix}", "DELETE").status == 204
    assert shim.tree() == before
    assert is_gone(shim, name)
    assert shim(f"/{name}").status == 404
    for listing in ("/", "/dashboards/", "/dashboards-plain/"):
        assert name not in shim(listing).text
    assert shim.delete(name).status == 404


@pytest.mark.parametrize("asset", ["image.jpg", "data/x.csv", "data", "index", "index.ipynb", "helper"])
@pytest.mark.parametrize("form_", ["zip", "folder"])
def test_part_of_a_bundle_cannot_be_deleted_alone(  # [D12]
    server: Shim, name: str, asset: str, form_: str
) -> None:
    files = {"index.ipynb": page_of("# It"), "image.jpg": b"jpeg", "data/x.csv": b"1"}
    if form_ == "zip":
        assert server.upload(name, zipped(*files.items(), ("helper.ipynb", page_of("helper")))).status == 201
    else:
        if asset == "helper":
            pytest.skip("a folder with a second notebook is no bundle")
        for file, content in files.items():
            write(server.source / name, file, content)
        assert server.clear_cache(name).status == 200
    before = server.tree()
    answer = server.delete(f"{name}/{asset}")
    assert (answer.status, answer.message.startswith("Resource to be deleted must be a dashboard")) == (400, True)
    assert server.tree() == before
    assert shows(server.page(name), "It")
    assert server.file(f"{name}/image.jpg").body == b"jpeg"
    assert server.delete(f"{name}/nothing").status == 404


def test_what_is_no_dashboard_cannot_be_deleted(shim: Shim, name: str) -> None:
    assert shim.upload(f"{name}/sub/page", page_of("# Page")).status == 201
    write(shim.source / name, "data.csv", b"1")
    write(shim.source / name, "data.zip", zipped(("data.csv", b"1")))
    before = shim.tree()
    for path in (
        name,
        f"{name}/",
        f"{name}/sub",
        f"{name}/data.csv",
        f"{name}/data.zip",
        f"{name}/sub/page.ipynb.ipynb",
    ):
        assert shim.delete(path).status == 400, path
    for path in ("first/x", f"{name}/data", f"{name}/other", f"{name}/sub/page/x", "nothing/at/all"):
        assert shim.delete(path).status == 404, path
    assert shim.tree() == before


@pytest.mark.parametrize("form_", ["zip", "folder"])
def test_deleted_bundle_is_gone_with_all_its_files(shim: Shim, name: str, form_: str) -> None:  # [D13]
    before = shim.tree()
    files = {"index.ipynb": page_of("# Bundle"), "a.txt": b"1", "data/b.txt": b"2"}
    if form_ == "zip":
        assert shim.upload(name, zipped(*files.items())).status == 201
    else:
        for file, content in files.items():
            write(shim.source / name, file, content)
        assert shim.clear_cache(name).status == 200
    assert shim.file(f"{name}/data/b.txt").body == b"2"
    assert shim.delete(name).status == 204
    assert is_gone(shim, name)
    assert shim.tree() == before
    for file in ("a.txt", "data/b.txt"):
        assert all(shim.file(f"{name}/{file}", tree).status == 404 for tree in TREES)
        assert not (shim.config.output / "dashboards" / name / file).exists()


def test_deletion_takes_all_forms_of_a_name(shim: Shim, name: str) -> None:
    write(shim.source, f"{name}.ipynb", page_of("# Notebook"))
    write(shim.source, f"{name}.zip", bundle("# Zip"))
    write(shim.source / name, "index.ipynb", page_of("# Folder"))
    assert shim.clear_cache(name).status == 200
    assert shows(shim.page(name), "Notebook")
    assert shim.delete(name).status == 204
    assert is_gone(shim, name)
    assert not list(shim.source.glob(f"{name}*"))


def test_the_last_notebook_can_be_deleted(tmp_path: Path) -> None:
    with running(tmp_path) as shim:
        assert shim.delete("first").status == 204
        assert is_gone(shim, "first")
        assert "no notebooks here yet" in shim("/").text
        assert shim.upload("again", page_of("# Again")).status == 201
        assert shows(shim.page("again"), "Again")


# --- listings


@pytest.mark.parametrize("url", ["/", "/dashboards/", "/dashboards-plain/"])
def test_the_root_lists_what_was_just_uploaded(shim: Shim, name: str, url: str) -> None:  # [D14, D15]
    assert shim.upload(name, page_of(f"# Title {name}")).status == 201
    listing = shim(url)
    assert shows(listing, f"Title {name}</a>")
    assert listing.text.lower().startswith("<!doctype html>")
    assert "Team notebooks" in listing.text
    assert shim.listed()[name]["title"] == f"Title {name}"


def test_index_notebook_in_the_root_is_the_first_page(shim: Shim) -> None:  # [D16]
    assert shim.upload("index", page_of("# Front page")).status == 201
    try:
        for url in ("/", "/dashboards/", "/dashboards-plain/"):
            page = shim(url)
            assert shows(page, "Front page")
            assert 'class="listing' not in page.text
        assert shim("/dashboards/first/").status == 200
        assert shim.listed()[""]["kind"] == "index"
    finally:
        assert shim.delete("index").status == 204
    assert 'class="listing' in shim("/").text


def test_notebook_beside_a_folder_of_its_name_is_shown_and_the_folder_keeps_its_pages(  # [D17]
    shim: Shim, name: str
) -> None:
    assert shim.upload(f"{name}/child", page_of("# Child")).status == 201
    assert 'class="listing' in shim.page(name).text
    assert shim.upload(name, page_of("# Index Notebook")).status == 201
    for tree in TREES:
        page = shim.page(name, tree)
        assert shows(page, "Index Notebook")
        assert 'class="listing' not in page.text
        assert "child/index.html" in page.text
        assert shows(shim.page(f"{name}/child", tree), "Child")
    assert shim.delete(name).status == 204
    assert 'class="listing' in shim.page(name).text
    assert shows(shim.page(f"{name}/child"), "Child")


@pytest.mark.parametrize("depth", [1, 2])
def test_listing_of_a_folder_shows_the_way_up(server: Shim, name: str, depth: int) -> None:  # [D18]
    folder = "/".join([name, "sub", "subsub"][: depth + 1])
    assert server.upload(f"{folder}/page", page_of("# Page")).status == 201
    listing = server.page(folder)
    first = next(url for url in _links(listing) if not url.startswith("#"))
    up = server(_resolved(f"/dashboards/{folder}/", first))
    assert shows(up, "Team notebooks")
    nearest = [url for url in _links(listing) if url == "../index.html"]
    assert nearest
    assert shows(server(_resolved(f"/dashboards/{folder}/", nearest[0])), 'class="listing')


def _resolved(base: str, url: str) -> str:
    return os.path.normpath(base + url)


# --- the library: one name is one dashboard


def test_zip_over_a_notebook_and_back_leaves_one_file_and_the_new_page(shim: Shim, name: str) -> None:
    def files() -> list[str]:
        return sorted(path.name for path in shim.source.glob(f"{name}*"))

    assert shim.upload(name, page_of("# One")).status == 201
    assert shim.upload(name, bundle("# Two", ("a.txt", b"1"))).status == 201
    assert (files(), shows(shim.page(name), "Two")) == ([f"{name}.zip"], True)
    assert shim.file(f"{name}/a.txt").status == 200
    assert shim.listed()[name]["kind"] == "zip"
    assert shim.upload(name, page_of("# Three")).status == 201
    assert (files(), shows(shim.page(name), "Three")) == ([f"{name}.ipynb"], True)
    for tree in TREES:
        assert shim.file(f"{name}/a.txt", tree).status == 404
    assert shim.listed()[name]["kind"] == "notebook"


@pytest.mark.parametrize("content", [page_of("# New"), bundle("# New", ("b.txt", b"2"))], ids=["notebook", "zip"])
def test_upload_replaces_a_folder_bundle_of_its_name(shim: Shim, name: str, content: bytes) -> None:
    write(shim.source / name, "index.ipynb", page_of("# Old"))
    write(shim.source / name, "a.txt", b"1")
    assert shim.clear_cache(name).status == 200
    assert shim.file(f"{name}/a.txt").status == 200
    assert shim.listed()[name]["kind"] == "folder"
    assert shim.upload(name, content).status == 201
    assert shows(shim.page(name), "New")
    assert shim.file(f"{name}/a.txt").status == 404
    assert not (shim.source / name).exists()


@pytest.mark.parametrize("inside", ["page.ipynb", "data.csv", "index.ipynb and another", "sub/page.ipynb"])
def test_zip_onto_a_plain_folder_with_something_in_it_is_409(shim: Shim, name: str, inside: str) -> None:
    if inside.startswith("index"):
        write(shim.source / name, "index.ipynb", page_of("# Index"))
        inside = "another.ipynb"
    write(shim.source / name, inside, page_of("# Inside"))
    assert shim.clear_cache(name).status == 200
    before = shim.tree()
    answer = shim.upload(name, bundle("# Bundle"))
    assert (answer.status, name in answer.message) == (409, True)
    assert shim.tree() == before
    if inside.endswith(".ipynb"):
        assert shows(shim.page(f"{name}/{inside.removesuffix('.ipynb')}"), "Inside")


def test_zip_onto_an_empty_folder_is_a_bundle(shim: Shim, name: str) -> None:
    (shim.source / name).mkdir()
    assert shim.upload(name, bundle("# Bundle")).status == 201
    assert shows(shim.page(name), "Bundle")


@pytest.mark.parametrize("form_", ["zip", "folder"])
@pytest.mark.parametrize("below", ["page", "sub/page", "data.csv"])
def test_upload_below_a_bundle_is_409(server: Shim, name: str, form_: str, below: str) -> None:
    if form_ == "zip":
        assert server.upload(name, bundle("# Bundle", ("data.csv", b"1"))).status == 201
    else:
        write(server.source / name, "index.ipynb", page_of("# Bundle"))
        write(server.source / name, "data.csv", b"1")
        assert server.clear_cache(name).status == 200
    before = server.tree()
    for content in (page_of("# Below"), bundle("# Below")):
        assert server.upload(f"{name}/{below}", content).status == 409
    assert server.tree() == before
    assert shows(server.page(name), "Bundle")


def test_upload_below_a_file_is_409_and_what_is_in_the_way_stays(shim: Shim, name: str) -> None:
    write(shim.source, f"{name}.csv", b"1")
    (shim.source / f"{name}.ipynb").mkdir()
    write(shim.source, f"{name}-data.zip", zipped(("data.csv", b"1")))
    before = shim.tree()
    assert shim.upload(f"{name}.csv/page", page_of("# Page")).status == 409
    assert shim.upload(name, page_of("# Page")).status == 409
    assert shim.upload(f"{name}-data", bundle("# Page")).status == 409
    assert shim.tree() == before


def test_index_of_a_folder_replaces_its_listing_and_goes_again(shim: Shim, name: str) -> None:
    for page in ("a", "b"):
        assert shim.upload(f"{name}/{page}", page_of(f"# Page {page}")).status == 201
    answer = shim.upload(f"{name}/index", page_of("# Index of folder"))
    assert answer.status == 201
    assert shim(urlsplit(answer.json()["link"]).path).status == 301
    for tree in TREES:
        assert shows(shim.page(name, tree), "Index of folder")
        assert shows(shim.page(f"{name}/a", tree), "Page a")
    assert shim.listed()[name]["kind"] == "index"
    assert shim.upload(f"{name}/index", page_of("# Second index")).status == 201
    assert shows(shim.page(name), "Second index")
    assert shim.delete(name).status == 400
    assert shim.delete(f"{name}/index").status == 204
    assert 'class="listing' in shim.page(name).text


def test_index_in_a_new_folder_makes_a_bundle_that_is_deleted_as_a_whole(shim: Shim, name: str) -> None:
    assert shim.upload(f"{name}/index", page_of("# Alone")).status == 201
    assert shows(shim.page(name), "Alone")
    assert shim.listed()[name]["kind"] == "folder"
    assert shim.upload(f"{name}/index", page_of("# Again")).status == 201
    assert shows(shim.page(name), "Again")
    assert shim.delete(f"{name}/index").status == 400
    assert shim.delete(name).status == 204
    assert is_gone(shim, name)


@pytest.mark.parametrize("content", [page_of("# Holder"), bundle("# Holder")], ids=["notebook", "zip"])
def test_index_whose_page_another_dashboard_has_is_409(shim: Shim, name: str, content: bytes) -> None:
    assert shim.upload(name, content).status == 201
    before = shim.tree()
    assert shim.upload(f"{name}/index", page_of("# Index")).status == 409
    assert shim.tree() == before
    assert shows(shim.page(name), "Holder")


def test_index_that_would_swallow_bundles_of_its_folder_is_409(shim: Shim, name: str) -> None:
    assert shim.upload(f"{name}/zip", bundle("# Bundle")).status == 201
    before = shim.tree()
    assert shim.upload(f"{name}/index", page_of("# Index")).status == 409
    assert shim.tree() == before
    assert shows(shim.page(f"{name}/zip"), "Bundle")


def test_files_referred_to_by_an_uploaded_notebook_are_published_with_it(shim: Shim, name: str) -> None:
    write(shim.source / name, "data.csv", b"1,2")
    write(shim.source / name, "private.csv", b"3,4")
    assert shim.upload(f"{name}/page", page_of("# P\n\n[data](data.csv)")).status == 201
    until(lambda: shim.file(f"{name}/data.csv").body == b"1,2")  # the watch may hear of the file after the upload
    assert shim.file(f"{name}/private.csv").status == 404


def test_folder_and_api_agree_on_files_that_people_put_there_themselves(server: Shim, name: str) -> None:
    write(server.source, f"{name}.ipynb", page_of("# By hand"))
    until(lambda: server.page(name).status == 200)
    assert server.upload(name, page_of("# By API"), if_none_match="*").status == 412
    assert server.upload(name, page_of("# By API")).status == 201
    assert shows(server.page(name), "By API")
    (server.source / f"{name}.ipynb").unlink()
    until(lambda: server.page(name).status == 404)
    assert server.delete(name).status == 404


# --- the list


def test_list_says_of_each_dashboard_what_it_is_and_why_it_is_not_published(server: Shim, name: str) -> None:
    assert server.upload(f"{name}/nb", page_of("# Notebook")).status == 201
    assert server.upload(f"{name}/zip", bundle("# Zip")).status == 201
    write(server.source / name, "broken.ipynb", b"{")
    assert server.clear_cache(name).status == 200
    listed = server.listed()
    assert list(listed) == sorted(listed)
    assert listed[f"{name}/nb"] == {
        "path": f"{name}/nb",
        "title": "Notebook",
        "kind": "notebook",
        "published": True,
        "message": "",
        "link": f"http://localhost/dashboards/{name}/nb",
    }
    assert listed[f"{name}/zip"]["kind"] == "zip"
    assert listed[f"{name}/broken"]["link"] is None
    assert listed[f"{name}/broken"]["message"]
    assert server("/_api/notebooks/").json().keys() == {"notebooks"}
    head = server("/_api/notebooks", "HEAD")
    assert (head.status, head.body) == (200, b"")


# --- cache


@pytest.mark.parametrize(
    "path", ["", "/", "/first", "/first/", "/first.ipynb", "/nothing/of/that/name", "/with%20space"]
)
@pytest.mark.parametrize("transport", ["http", "wsgi"])
def test_clearing_the_cache_never_fails(small: Shim, path: str, transport: str) -> None:  # [A7]
    answer = small.over(transport)(f"/_api/cache{path}", "DELETE")
    assert (answer.status, answer.text) == (200, "OK")
    assert (answer["content-type"] or "").startswith("text/plain")
    assert shows(small.page("first"), "First")


def edited_unseen(path: Path, old: bytes, new: bytes) -> None:
    """Change a file in its place such that size, inode and time of change say nothing of it.

    Through memory, so that nobody who watches the folder hears of it while the time is another one.
    """
    before = path.stat()
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        assert content[:].count(old) == 1 and len(old) == len(new)
        content[:] = content[:].replace(old, new)
        content.flush()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)


def aged(path: Path) -> Path:
    """Give a file the time of an hour ago, so that its times are trusted."""
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns - 3600 * 10**9))
    return path


@pytest.mark.parametrize("whole", [True, False], ids=["all", "one"])
@pytest.mark.parametrize("at", ["page", "index"])
def test_edit_that_times_and_sizes_do_not_show_is_seen_after_clearing_the_cache(
    small: Shim, name: str, whole: bool, at: str
) -> None:
    path = f"{name}/{at}"
    page = path.removesuffix("/index")
    assert small.upload(f"{name}/beside", page_of("# Beside")).status == 201
    assert small.upload(path, page_of("# Version1")).status == 201
    file = aged(small.source / f"{path}.ipynb")
    assert small.clear_cache(name).status == 200
    edited_unseen(file, b"Version1", b"Version2")
    assert small.clear_cache("" if whole else path).status == 200
    for tree in TREES:
        assert shows(small.page(page, tree), "Version2")
    edited_unseen(file, b"Version2", b"Version3")
    assert small.clear_cache("" if whole else page).status == 200
    assert shows(small.page(page), "Version3")


@pytest.mark.parametrize("whole", [True, False], ids=["all", "one"])
def test_asset_whose_edit_times_and_sizes_do_not_show_is_fresh_after_clearing_the_cache(
    small: Shim, name: str, whole: bool
) -> None:
    write(small.source / name, "index.ipynb", page_of("# Bundle"))
    file = aged(write(small.source / name, "data.csv", b"old"))
    assert small.clear_cache(name).status == 200
    assert small.file(f"{name}/data.csv").body == b"old"
    edited_unseen(file, b"old", b"new")
    assert small.clear_cache("" if whole else name).status == 200
    for tree in TREES:
        assert small.file(f"{name}/data.csv", tree).body == b"new"


@pytest.mark.parametrize("whole", [True, False], ids=["all", "one"])
def test_bundle_whose_change_times_and_sizes_do_not_show_is_fresh_after_clearing_the_cache(
    small: Shim, name: str, whole: bool
) -> None:
    def stored(text: str) -> bytes:
        buffer = io.BytesIO()
        with ZipFile(buffer, "w") as archive:
            # ZipInfo without a time: the same text gives the same bytes.
            archive.writestr(ZipInfo("index.ipynb"), page_of(f"# {text}"))
            archive.writestr(ZipInfo("data.csv"), text)
        return buffer.getvalue()

    assert small.upload(name, stored("Version1")).status == 201
    path = aged(small.source / f"{name}.zip")
    assert small.clear_cache(name).status == 200
    edited_unseen(path, stored("Version1"), stored("Version2"))
    assert small.clear_cache("" if whole else name).status == 200
    assert shows(small.page(name), "Version2")
    assert small.file(f"{name}/data.csv").body == b"Version2"


# --- tokens


def test_token_opens_the_api_and_its_upload_is_a_page(guarded: Shim, name: str) -> None:  # [A1, A10]
    for transport in ("http", "wsgi"):
        assert guarded.over(transport).upload(name, page_of("# Hello")).status == 201
        page = guarded.as_("").over(transport).page(name)
        assert shows(page, "Hello")
        assert "Team notebooks" in page.text


@pytest.mark.parametrize(
    "authorization",
    [None, "", "badtoken", "token", "token ", "token wrong", f"token {TOKEN}x", f"token {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN,
     f"token {TOKEN} x", f"token{TOKEN}", f"token {TOKEN.upper()}", "token \xff", "token " + "x" * 20_000],
)  # fmt: skip
@pytest.mark.parametrize("transport", ["http", "wsgi"])
def test_without_a_token_of_ours_nothing_happens(  # [A2, A3, A4, A6]
    guarded: Shim, name: str, authorization: str | None, transport: str
) -> None:
    shim = guarded.over(transport)
    assert guarded.upload("kept", page_of("# Kept")).status == 201
    before = guarded.tree()
    answers = [
        shim.upload(name, page_of("# Hello"), authorization=authorization),
        shim.upload("kept", page_of("# Other"), authorization=authorization),
        shim.delete("kept", authorization=authorization),
        shim.delete(name, authorization=authorization),
        shim.clear_cache(authorization=authorization),
        shim.clear_cache("kept", authorization=authorization),
        shim("/_api/notebooks", authorization=authorization),
    ]
    for answer in answers:
        assert (answer.status, answer["www-authenticate"]) == (401, 'Bearer realm="nbfolio"')
        assert answer.message == "Authentication required. Please provide a valid auth token."
    assert guarded.tree() == before
    assert shim.page(name).status == 404
    assert shows(shim.page("kept"), "Kept")


@pytest.mark.parametrize("transport", ["http", "wsgi"])
def test_token_deletes_and_clears_the_cache(guarded: Shim, name: str, transport: str) -> None:  # [A5, A7]
    shim = guarded.over(transport)
    assert shim.upload(name, page_of("# Hello")).status == 201
    assert shim.clear_cache(name).status == 200
    assert shim("/_api/cache/", "DELETE").status == 200
    assert shim.delete(name).status == 204
    assert shim.page(name).status == 404


@pytest.mark.parametrize(
    "spelling", ["token {}", "Token {}", "TOKEN {}", "Bearer {}", "bearer {}", "token   {}", " token {} "]
)
def test_spellings_of_the_token_header(guarded: Shim, name: str, spelling: str) -> None:
    header = spelling.format(TOKEN)
    assert guarded.upload(name, page_of("# Hello"), authorization=header).status == 201
    assert guarded.clear_cache(authorization=header).status == 200


@pytest.mark.parametrize(
    ("token", "publishes", "clears"),
    [("publisher-token", True, False), ("cleaner-token", False, True), ("starter-token", False, False), ("chief-token", True, True)],
)  # fmt: skip
def test_token_does_what_its_scope_says_and_no_more(
    guarded: Shim, name: str, token: str, publishes: bool, clears: bool
) -> None:
    shim = guarded.as_(token)
    assert guarded.upload(f"{name}-kept", page_of("# Kept")).status == 201
    before = guarded.tree()
    answers = {
        "list": shim("/_api/notebooks"),
        "upload": shim.upload(name, page_of("# Hello")),
        "delete": shim.delete(f"{name}-kept"),
        "clear": shim.clear_cache(),
        "clear one": shim.clear_cache("first"),
    }
    wanted = {"list": 200, "upload": 201, "delete": 204} if publishes else {}
    wanted |= {"clear": 200, "clear one": 200} if clears else {}
    assert {key: answer.status for key, answer in answers.items()} == {key: wanted.get(key, 403) for key in answers}
    for answer in answers.values():
        if answer.status == 403:
            assert "scope" in answer.message
    if not publishes:
        assert guarded.tree() == before


def test_body_of_a_stranger_is_not_read(guarded: Shim, name: str) -> None:
    body = form(Part("file", page_of("x" * 5_000_000), "a.ipynb"))
    assert guarded.as_("").over("http")(f"/_api/notebooks/{name}", "POST", body).status == 401


# --- methods, limits, a server that does not build


@pytest.mark.parametrize(
    ("url", "method", "allow"),
    [
        ("/_api/notebooks/x", "GET", {"DELETE", "POST"}),
        ("/_api/notebooks/x", "PUT", {"DELETE", "POST"}),
        ("/_api/notebooks/x", "PATCH", {"DELETE", "POST"}),
        ("/_api/notebooks", "POST", {"GET", "HEAD"}),
        ("/_api/notebooks/", "POST", {"GET", "HEAD"}),
        ("/_api/notebooks", "DELETE", {"GET", "HEAD"}),
        ("/_api/cache", "GET", {"DELETE"}),
        ("/_api/cache/", "GET", {"DELETE"}),
        ("/_api/cache/x", "POST", {"DELETE"}),
        ("/dashboards/first/", "DELETE", {"GET", "HEAD"}),
        ("/dashboards/first/", "POST", {"GET", "HEAD"}),
    ],
)
def test_other_methods_are_405_and_say_which_are_allowed(shim: Shim, url: str, method: str, allow: set[str]) -> None:
    answer = shim(url, method)
    assert answer.status == 405
    assert allow == set((answer["allow"] or "").replace(" ", "").split(","))


@pytest.mark.parametrize(
    "url",
    [
        "/_api",
        "/_api/",
        "/_api/other",
        "/_api/notebooksx",
        "/_api/cachex",
        "/_API/notebooks",
    ],
)
def test_unknown_api_urls_are_404(shim: Shim, url: str) -> None:
    assert shim(url).status == 404


def test_api_urls_are_never_redirected(shim: Shim, name: str) -> None:
    body = form(Part("file", page_of("# Hello"), "a.ipynb"))
    assert shim(f"/_api/notebooks/{name}/", "POST", body).status == 201
    assert shim(f"/_api/notebooks/{name}/", "DELETE").status == 204
    assert shim("/_api/cache/", "DELETE").status == 200
    assert shim("/_api/notebooks/").status == 200


def test_errors_are_pages_for_who_asks_for_html(shim: Shim, name: str) -> None:
    for answer, status in (
        (shim.delete(name, accept=BROWSER), 404),
        (shim.upload(name, b"{}", accept=BROWSER), 422),
        (shim(f"/dashboards/{name}/", accept=BROWSER), 404),
    ):
        assert (answer.status, answer["content-type"]) == (status, "text/html; charset=utf-8")


def test_too_large_uploads_are_413_and_the_old_version_stays(tmp_path: Path) -> None:
    with running(tmp_path, server__max_upload_mb=1) as shim:
        assert shim.upload("page", page_of("# Good")).status == 201
        before = shim.tree()
        for size in (1 << 20, 2 << 20, 8 << 20):
            answer = shim.upload("page", page_of("x" * size))
            assert (answer.status, "1 MB" in answer.message) == (413, True)
            assert shim.over("wsgi").upload("page", page_of("x" * size)).status == 413
        assert shim.tree() == before
        assert shows(shim.page("page"), "Good")


def test_server_without_a_builder_serves_and_says_that_nothing_can_be_published(tmp_path: Path) -> None:
    folder = tmp_path / "notebooks"
    write(folder, "first.ipynb", page_of("# First"))
    with running(tmp_path, build=False) as shim:
        with Builder(shim.config) as builder:
            builder.build()
        before = shim.tree()
        for transport in ("http", "wsgi"):
            client = shim.over(transport)
            assert shows(client.page("first"), "First")
            for answer in (
                client.upload("new", page_of("# New")),
                client.upload("first", page_of("# New")),
                client.delete("first"),
                client("/_api/notebooks"),
            ):
                assert (answer.status, "--no-build" in answer.message) == (503, True)
                assert answer["retry-after"]
            assert client.clear_cache().status == 200
            assert client.clear_cache("first").status == 200
            assert client.delete("nothing").status == 404
        assert shim.tree() == before
        assert shows(shim.page("first"), "First")


@pytest.mark.parametrize("base_url", ["/db", "[/db]"])
def test_links_have_the_prefix_of_the_site_and_addresses_have_it_where_the_proxy_keeps_it(
    tmp_path: Path, base_url: str
) -> None:
    with running(tmp_path, site__base_url=base_url) as shim:
        prefix = "" if base_url.startswith("[") else "/db"
        body = form(Part("file", page_of("# Hello"), "a.ipynb"))
        for transport in ("http", "wsgi"):
            client = shim.over(transport)
            answer = client(f"{prefix}/_api/notebooks/a%20b", "POST", body)
            assert answer.status == 201
            assert answer.json()["url"] == "/notebooks/a%20b"
            assert answer.json()["link"] == "http://localhost/db/dashboards/a%20b"
            moved = client(f"{prefix}/dashboards/a%20b?x=1")
            assert (moved.status, moved["location"]) == (301, "/db/dashboards/a%20b/?x=1")
            assert shows(client(f"{prefix}/dashboards/a%20b/"), "Hello")
            if prefix:
                assert client("/_api/notebooks/a%20b", "POST", body).status == 404
                assert client("/dashboards/a%20b/").status == 404
            assert client(f"{prefix}/_api/cache/a%20b", "DELETE").status == 200
            assert client(f"{prefix}/_api/notebooks/a%20b", "DELETE").status == 204


def test_a_site_that_somebody_emptied_shows_pages_again_after_clearing_the_cache(tmp_path: Path) -> None:
    with running(tmp_path) as shim:
        shutil.rmtree(shim.config.output / "dashboards")
        assert shim.clear_cache().status == 200
        assert shows(shim.page("first"), "First")
