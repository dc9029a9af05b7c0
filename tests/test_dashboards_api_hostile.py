"""What nobody gets from the API of the dashboards server by any request: paths, archives, headers, logins, settings."""

from __future__ import annotations

import os
import re
import resource
import stat
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Iterator
from io import BytesIO
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, urlencode, urlsplit
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import pytest
from argon2 import PasswordHasher
from dashboards import Answer, Part, Shim, bundle, exchange, form, page_of, parsed, running, until, zipped
from making import write

from builder.config import load_config

NUMBERS = count(1)
TREES = ("dashboards", "dashboards-plain")
SECRET = "the-secret-of-this-machine"
TOKEN = "s3cret-token"
HASH = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("lovelace")
BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    """A server whose notebooks lie among things that are none of its business."""
    around = tmp_path_factory.mktemp("around")
    secret = page_of(f"# {SECRET}")
    for folder in ("", "deep/", "deep/notebooks-private/"):
        write(around, f"{folder}secret.ipynb", secret)
        write(around, f"{folder}secret.txt", SECRET)
        write(around, f"{folder}secret.zip", bundle(f"# {SECRET}", ("secret.txt", SECRET)))
        write(around, f"{folder}secret/index.ipynb", secret)
    write(around, "deep/notebooks.ipynb", secret)
    inside = around / "deep/notebooks"
    write(inside, ".hidden/secret.ipynb", secret)
    write(inside, ".secret.ipynb", secret)
    write(inside, ".ipynb_checkpoints/first.ipynb", secret)
    write(inside, "node_modules/secret.ipynb", secret)
    (inside / "out").symlink_to(around / "deep/notebooks-private")
    (inside / "leak.ipynb").symlink_to(around / "secret.ipynb")
    limits = {"server__max_upload_mb": 12, "server__max_unpacked_mb": 8, "server__state_dir": inside / "records"}
    with running(around, source="deep/notebooks", **limits) as shim:
        yield shim


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"name{next(NUMBERS)}"


def shows(answer: Answer, text: str) -> bool:
    """Whether an answer is a page with a text in it."""
    return answer.status == 200 and (answer["content-type"] or "").startswith("text/html") and text in answer.text


def state(shim: Shim) -> dict[str, bytes]:
    """Everything that a refused request must leave as it was: files around, in and below the source, and the site."""
    site = shim.config.output
    published = {
        f"site:{path.relative_to(site)}": path.read_bytes()
        for path in site.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    return shim.tree() | published


# --- paths

PATHS = {
    "dot-segments": ["../secret", "../../secret", "../../../secret", "a/../../secret", "a/../../../secret", "..", "../", "../..",
                     "first/../first", "./secret", "a/./b", "a/.", ".", "../notebooks-private/secret", "../notebooks", "..;/..;/secret"],
    "encoded-dots": ["%2e%2e/secret", "%2E%2E%2Fsecret", "%2e%2e%2f%2e%2e%2fsecret", ".%2e/secret", "%2e./secret", "%2e"],
    "encoded-slashes": ["..%2fsecret", "..%2f..%2fsecret", "..%2fnotebooks-private%2fsecret", "a/%2fb", "a%2f%2fb"],
    "backslashes": ["..%5csecret", "..%5C..%5Csecret", "..\\secret", "..\\..\\secret", "a%5cb", "C:%5csecret", "C:/secret"],
    "encoded-twice": ["%252e%252e%252fsecret", "%252e%252e/secret", "..%252fsecret", "..%255csecret", "%25252e%25252e%25252fsecret", "a%2500"],
    "nul": ["%00", "secret%00", "secret%00.ipynb", "%00/../secret", "../secret%00.ipynb", "a%00b"],
    "absolute": ["/etc/passwd", "//etc/passwd", "%2fetc%2fpasswd", "%2f%2fetc%2fpasswd", "a//b", "/../../secret"],
    "overlong-and-broken-utf-8": ["%c0%ae%c0%ae/secret", "%c0%ae%c0%ae%c0%afsecret", "..%c0%afsecret", "%e0%80%ae%e0%80%ae/secret",
                                  "%f0%80%80%ae/x", "%ff", "a%80x", "%ed%a0%80"],
    "control-characters": ["%0d%0aSet-Cookie:%20a=b", "a%0ab", "a%0d", "a%7fb", "a%c2%85b", "%09a", "a%1b[2J"],
    "blanks-and-marks": ["%20x", "x%20", "a/%20/b", "%3f/../../secret", "%23/../../../secret"],
    "too-long": ["x" * 300, "x/" * 3000 + "x", "%78" * 260],
    "links": ["out/secret"],
    "output": ["_site/x", "_site", "_site/dashboards/first/index", "_site/index.html", "a/index.html", "index.html", "index.html/x"],
    "records": ["records/x", "records", "records/cache/x", ".nbfolio/x", ".nbfolio-uploads/x", ".nbfolio-uploads"],
    "hidden": [".hidden/secret", ".hidden/new", ".secret", ".ipynb_checkpoints/first", "a/.git/x", ".ipynb", "a/.ipynb", ".IPYNB"],
    "ignored": ["node_modules/secret", "node_modules", "a/node_modules/x", "__pycache__/x", "x~", "a~/b", "%23x%23"],
}  # fmt: skip
LOOK_ALIKES = [
    "．．/secret",
    "．．／secret",
    "‥/secret",
    "..／secret",
    "..∕secret",
    "..⁄secret",
    "․․/secret",
    "..＼secret",
    "%EF%BC%8E%EF%BC%8E/secret",
]


def encoded(path: str) -> str:
    """A path with other letters than ASCII percent-encoded, and everything else as it is."""
    return "".join(letter if letter.isascii() else quote(letter) for letter in path)


@pytest.mark.parametrize("family", PATHS)
def test_no_upload_and_no_deletion_goes_where_it_should_not(server: Shim, family: str) -> None:
    before = state(server)
    for path in PATHS[family]:
        for transport in ("http", "wsgi"):
            shim = server.over(transport)
            for content, filename in ((page_of("# Mine now"), "a.ipynb"), (bundle("# Mine now"), "a.zip")):
                answer = shim(f"/_api/notebooks/{path}", "POST", form(Part("file", content, filename)))
                assert answer.status in (400, 404), path
            assert shim(f"/_api/notebooks/{path}", "POST").status in (400, 404, 415), path
            assert shim(f"/_api/notebooks/{path}", "DELETE").status in (400, 404), path
        assert server.tree().keys() == {key for key in before if not key.startswith("site:")}, path
    assert state(server) == before
    assert shows(server.page("first"), "First")


@pytest.mark.parametrize("family", PATHS)
def test_no_path_reads_what_is_not_published(server: Shim, family: str) -> None:
    # These mean pages that are published.
    honest = ("index.html", "a/index.html")
    for path in PATHS[family]:
        for prefix in ("/dashboards/", "/dashboards-plain/", "/", "/media/", "/assets/", "/_api/", "/_api/notebooks/"):
            for end in ("", ".ipynb", "/"):
                answer = server(f"{prefix}{path}{end}")
                assert SECRET not in answer.text
                assert answer.status in (400, 404, 405) or path in honest, f"{prefix}{path}{end}"
                if answer.status in (301, 302):
                    assert re.fullmatch(r"/[^/\\].*|/", answer["location"] or "")
            assert server(f"{prefix}{path}.txt", "HEAD").status in (400, 404, 405)
        assert SECRET not in server.over("wsgi")(f"/dashboards/{path}").text


@pytest.mark.parametrize("family", PATHS)
def test_clearing_the_cache_of_a_forbidden_name_does_nothing(server: Shim, family: str) -> None:
    before = server.tree()
    for path in PATHS[family]:
        # A name that is merely unknown is no error.
        well_formed = path.startswith(("out/", "_site", "records")) and "index.html" not in path
        assert server(f"/_api/cache/{path}", "DELETE").status in ((200,) if well_formed else (400, 404)), path
    assert server.tree() == before


@pytest.mark.parametrize("path", LOOK_ALIKES)
def test_letters_that_look_like_dots_and_slashes_are_refused_or_mere_names(server: Shim, path: str) -> None:
    before = state(server)
    for prefix in ("/dashboards/", "/dashboards-plain/", "/"):
        answer = server(f"{prefix}{encoded(path)}")
        assert answer.status in (400, 404) and SECRET not in answer.text
    answer = server(f"/_api/notebooks/{encoded(path)}", "POST", form(Part("file", page_of("# Odd"), "a.ipynb")))
    if answer.status == 201:
        made = state(server).keys() - before.keys()
        assert all(key.startswith(("deep/notebooks/", "site:dashboards", "site:media")) for key in made)
        assert shows(server(f"{urlsplit(answer.json()['link']).path}/"), "Odd")
        assert server(f"/_api/notebooks/{encoded(path)}", "DELETE").status == 204
    else:
        assert answer.status in (400, 404)
    after = state(server)
    made = {key for key in after.keys() - before.keys() if after[key] != b"(folder)"}
    assert not {key for key in made if not key.startswith("site:")}
    assert all(after[key] == value for key, value in before.items() if not key.startswith("site:"))


@pytest.mark.parametrize(
    "target",
    ["//evil.example/x", "//evil.example/..", "/%2fevil.example", "/%5cevil.example", "/\\evil.example/", "//evil.example//", "///evil.example/",
     "//first", "/.//evil.example", "/dashboards//evil.example/", "/dashboards/%2fevil.example"],
)  # fmt: skip
def test_no_redirect_leaves_the_site(server: Shim, target: str) -> None:
    for query in ("", "?x=1", "?next=//evil.example"):
        for method in ("GET", "HEAD"):
            answer = server(f"{target}{query}", method)
            location = answer["location"]
            assert location is None or re.fullmatch(r"/[^/\\].*", location), location
            assert answer.status in (301, 302, 400, 404)


@pytest.mark.parametrize(
    "target",
    ["*", "evil", "", "http://evil.example/_api/notebooks/x", "evil.example:80", "http://[/x", "/%", "/%zz", "/%u002e"],
)
def test_odd_targets_are_answered_and_change_nothing(server: Shim, target: str) -> None:
    before = server.tree()
    for method in ("GET", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"):
        answer = server(target, method, None if method in ("GET", "DELETE") else b"")
        assert 200 <= answer.status < 500
        assert SECRET not in answer.text
    assert server.tree() == before
    assert server("/healthz").status == 200


def test_symbolic_links_out_of_the_notebooks_are_no_dashboards(server: Shim) -> None:
    before = server.tree()
    assert server.page("leak").status == 404
    assert server.page("out/secret").status == 404
    for path in ("leak", "out/secret"):
        assert not server.listed().get(path, {}).get("published")
    assert server.upload("out/new", page_of("# Mine now")).status in (400, 409)
    assert server.delete("out/secret").status in (400, 404)
    assert server.tree() == before


def test_deleting_a_link_never_deletes_what_it_leads_to(server: Shim, name: str) -> None:
    (server.source / f"{name}.ipynb").symlink_to(server.surroundings / "secret.ipynb")
    (server.source / name).symlink_to(server.surroundings / "secret")
    secret = (server.surroundings / "secret.ipynb").read_bytes()
    assert server.delete(name).status in (204, 400, 404)
    assert (server.surroundings / "secret.ipynb").read_bytes() == secret
    assert (server.surroundings / "secret/index.ipynb").read_bytes() == secret
    assert server.upload(name, page_of("# New")).status in (201, 400, 409)
    assert (server.surroundings / "secret.ipynb").read_bytes() == secret
    for path in (server.source / f"{name}.ipynb", server.source / name):
        path.unlink(missing_ok=True)


# --- archives

INDEX = page_of("# From the archive")


def special(name: str, mode: int, content: bytes = b"") -> tuple[ZipInfo, bytes]:
    """An entry that is something else than a file."""
    info = ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info, content


def archive(*entries: tuple[str | ZipInfo, bytes], index: bool = True, method: int = ZIP_DEFLATED) -> bytes:
    """An archive of these entries after an index.ipynb."""
    buffer = BytesIO()
    with ZipFile(buffer, "w", method) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of duplicate names
        if index:
            file.writestr("index.ipynb", INDEX)
        for name, content in entries:
            file.writestr(name, content)
    return buffer.getvalue()


def raw_name(old: bytes, new: bytes) -> bytes:
    """An archive with a name that zipfile itself would not write."""
    content = archive((old.decode(), b"x"))
    assert len(old) == len(new) and content.count(old) == 2
    return content.replace(old, new)


def with_field(content: bytes, name: bytes, offset: int, value: bytes) -> bytes:
    """An archive with other bytes at a place of an entry in its directory."""
    at = content.rindex(name, 0, content.rindex(b"PK\5\6")) - 46
    assert content.startswith(b"PK\1\2", at)
    return content[: at + offset] + value + content[at + offset + len(value) :]


def encrypted(everywhere: bool) -> bytes:
    content = with_field(archive(("a.txt", b"x")), b"a.txt", 8, b"\1\0")
    at = content.index(b"a.txt") - 30
    return content[: at + 6] + b"\1\0" + content[at + 8 :] if everywhere else content


def of_many_entries(many: int) -> bytes:
    """An archive of very many empty files, without the larger format that this would take."""
    local, directory = bytearray(), bytearray()
    for number in range(many):
        name = b"index.ipynb" if not number else b"f%06d" % number
        data = INDEX if not number else b""
        sizes = struct.pack("<3L2H", zlib.crc32(data), len(data), len(data), len(name), 0)
        directory += struct.pack("<4s6H", b"PK\1\2", 20, 20, 0, 0, 0, 33) + sizes
        directory += struct.pack("<3H2L", 0, 0, 0, 0, len(local)) + name
        local += struct.pack("<4s5H", b"PK\3\4", 20, 0, 0, 0, 33) + sizes + name + data
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, many & 0xFFFF, many & 0xFFFF, len(directory), len(local), 0)
    return bytes(local + directory + end)


def with_one_body(names: list[str]) -> bytes:
    """An archive in which several names share one stored file, as hard links do."""
    content = archive((names[0], b"shared"), method=ZIP_STORED)
    at = content.rindex(names[0].encode(), 0, content.rindex(b"PK\5\6")) - 46
    end = content.rindex(b"PK\5\6")
    extra = content[at:end].replace(names[0].encode(), names[1].encode())
    record = bytearray(content[end:])
    entries, length = struct.unpack_from("<2xH", record, 8)[0] + 1, struct.unpack_from("<L", record, 12)[0] + len(extra)
    struct.pack_into("<2HL", record, 8, entries, entries, length)
    return content[:end] + extra + bytes(record)


def lying() -> bytes:
    """An archive whose directory says that a large file is small."""
    return with_field(archive(("big.bin", b"0" * 2_000_000)), b"big.bin", 24, struct.pack("<L", 10))


def damaged() -> bytes:
    content = archive(("a.txt", b"some stored text"), method=ZIP_STORED)
    return content.replace(b"some stored text", b"some spoilt text")


ARCHIVES = {
    "slip": archive(("../evil.txt", b"x")),
    "deep-slip": archive(("a/../../../evil.txt", b"x")),
    "slip-of-a-notebook": archive(("../secret.ipynb", INDEX)),
    "backslash-slip": raw_name(b"12/345678", b"..\\345678"),
    "absolute": archive(("/evil.txt", b"x")),
    "two-slashes": archive(("//evil.txt", b"x")),
    "drive": archive(("C:/evil.txt", b"x")),
    "nul": raw_name(b"evilXtxt", b"evil\0txt"),
    "control": raw_name(b"evilXtxt", b"evil\ntxt"),
    "empty-segment": archive(("a//b", b"x")),
    "symbolic-link": archive(special("link", stat.S_IFLNK | 0o777, b"/etc/passwd")),
    "link-as-index": archive(special("index.ipynb", stat.S_IFLNK | 0o777, b"/etc/passwd"), index=False),
    "link-to-folder-and-file-through-it": archive(
        special("link", stat.S_IFLNK | 0o777, b".."), ("link/evil.txt", b"x")
    ),
    "hard-link": with_one_body(["first.txt", "secnd.txt"]),
    "character-device": archive(special("device", stat.S_IFCHR | 0o666)),
    "block-device": archive(special("device", stat.S_IFBLK | 0o666)),
    "pipe": archive(special("pipe", stat.S_IFIFO | 0o666)),
    "socket": archive(special("socket", stat.S_IFSOCK | 0o666)),
    "same-name-twice": archive(("a.txt", b"1"), ("a.txt", b"2")),
    "two-indexes": archive(("index.ipynb", page_of("# Other"))),
    "two-indexes-one-with-dot": archive(("./index.ipynb", page_of("# Other"))),
    "same-name-in-other-case": archive(("a.txt", b"1"), ("A.TXT", b"2")),
    "index-in-other-case": archive(("INDEX.ipynb", b"{}")),
    "same-name-in-other-normal-form": archive(("\u00e9", b"1"), ("e\u0301", b"2")),
    "file-and-folder": archive(("a", b"1"), ("a/b", b"2")),
    "bomb-by-ratio": archive(("zeros", b"\0" * 7_000_000)),
    "bomb-by-sum": archive(*((f"f{number}", bytes(range(256)) * 4096) for number in range(9))),
    "bomb-in-index": archive(("index.ipynb", b" " * 7_000_000 + INDEX), index=False),
    "size-that-lies": lying(),
    "size-of-a-terabyte": with_field(archive(("a.txt", b"x")), b"a.txt", 24, b"\xfe\xff\xff\xff"),
    "hundred-thousand-entries": of_many_entries(100_000),
    "entries-that-do-not-add-up": of_many_entries(66_000)[:3_900_000],
    "encrypted": encrypted(True),
    "encrypted-in-directory": encrypted(False),
    "unknown-method": with_field(archive(("a.txt", b"x")), b"a.txt", 10, b"\x63\0"),
    "nested-index": archive(("top/index.ipynb", INDEX), index=False),
    "index-is-a-folder": archive(("index.ipynb/", b""), index=False),
    "index-is-a-folder-with-a-file": archive(("index.ipynb/a.txt", b"x"), index=False),
    "index-in-capitals": archive(("Index.ipynb", INDEX), index=False),
    "no-index": archive(("a.txt", b"x"), index=False),
    "index-without-json": archive(("index.ipynb", b"{not json"), index=False),
    "index-is-no-notebook": archive(("index.ipynb", b"{}"), index=False),
    "index-is-empty": archive(("index.ipynb", b""), index=False),
    "trailing-garbage": archive() + b"garbage",
    "leading-garbage": b"#!/bin/sh\n" + archive(),
    "second-archive-behind": archive() + archive(("a.txt", b"x")),
    "cut-off": archive(("a.txt", b"x" * 1000))[:-40],
    "end-only": b"PK\5\6" + b"\0" * 18,
    "damaged-content": damaged(),
    "no-archive": b"PK this is text",
    "zip64": archive()[:-22] + b"PK\6\7" + b"\0" * 16 + archive()[-22:],
}


@pytest.fixture(scope="module")
def kept(server: Shim) -> dict[str, bytes]:
    """Three good dashboards that no archive may harm: a ZIP, a notebook and a folder bundle."""
    assert server.upload("kept/zip", bundle("# Kept", ("a.txt", b"good"))).status == 201
    assert server.upload("kept/notebook", page_of("# Kept")).status == 201
    write(server.source, "kept/folder/index.ipynb", page_of("# Kept"))
    write(server.source, "kept/folder/a.txt", b"good")
    assert server.clear_cache("kept/folder").status == 200
    return state(server)


OVER = [("zip", case) for case in ARCHIVES] + [
    (over, case)
    for over in ("notebook", "folder", "nothing")
    for case in ("slip", "symbolic-link", "same-name-twice", "bomb-by-sum", "no-index", "index-without-json", "damaged-content", "no-archive")
]  # fmt: skip


@pytest.mark.parametrize(("over", "case"), OVER)
def test_hostile_archive_is_refused_and_the_old_version_stays_and_is_served(
    server: Shim, kept: dict[str, bytes], case: str, over: str
) -> None:
    before = state(server)
    answer = server.upload(f"kept/{over}", ARCHIVES[case], "bundle.zip")
    assert (answer.status, len(answer.message) > 20) == (422, True)
    assert state(server) == before
    for tree in TREES:
        if over == "nothing":
            assert server.page("kept/nothing", tree).status == 404
        else:
            assert shows(server.page(f"kept/{over}", tree), "Kept")
        if over in ("zip", "folder"):
            assert server.file(f"kept/{over}/a.txt", tree).body == b"good"
    assert server("/readyz").status == 200


@pytest.mark.parametrize("case", ["slip", "symbolic-link", "bomb-by-ratio", "no-archive", "index-without-json"])
def test_hostile_archive_through_wsgi(server: Shim, kept: dict[str, bytes], case: str) -> None:
    before = state(server)
    assert server.over("wsgi").upload("kept/zip", ARCHIVES[case], "bundle.zip").status == 422
    assert state(server) == before


@pytest.mark.parametrize("case", ["slip", "symbolic-link", "bomb-by-ratio", "damaged-content", "no-archive"])
def test_hostile_archive_put_into_the_folder_by_hand_harms_nothing(server: Shim, name: str, case: str) -> None:
    write(server.source, f"{name}.zip", ARCHIVES[case])
    outside = {key: value for key, value in server.tree().items() if not key.startswith("deep/notebooks/")}
    assert server.clear_cache(name).status == 200
    assert server.page(name).status == 404
    assert not server.listed().get(name, {}).get("published")
    assert {key: value for key, value in server.tree().items() if not key.startswith("deep/notebooks/")} == outside
    assert server.upload(name, page_of("# Mended")).status in (201, 409)


def test_archive_of_the_jupyter_bundler_works(server: Shim, name: str) -> None:
    content = zipped(("./", b""), ("./index.ipynb", INDEX), ("./data/", b""), ("./data/a.csv", b"1,2"))
    for shim in (server, server.over("wsgi")):
        assert shim.upload(name, content).status == 201
        for tree in TREES:
            assert shows(shim.page(name, tree), "From the archive")
            assert shim.file(f"{name}/data/a.csv", tree).body == b"1,2"


def test_hidden_files_and_notebooks_of_an_archive_are_not_published(server: Shim, name: str) -> None:
    entries = [(file, SECRET.encode()) for file in (".env", ".git/config", "a/.hidden/x", "folder.toml", "OLD.IPYNB")]
    assert server.upload(name, archive(*entries, ("index.html", b"<h1>Mine</h1>"), ("b.ipynb", INDEX))).status == 201
    assert shows(server.page(name), "From the archive")
    for file in (".env", ".git/config", "a/.hidden/x", "folder.toml", "OLD.IPYNB", "b.ipynb", "b/", "index.ipynb"):
        assert all(server.file(f"{name}/{file}", tree).status == 404 for tree in TREES), file


# --- headers


@pytest.mark.parametrize(
    "filename",
    ["a\r\nX-Evil: 1\r\n\r\n.ipynb", 'a"\r\nContent-Type: text/html\r\n\r\nx.ipynb', "a\nX: 1.ipynb", "a\0.ipynb", "a\x1b[2J.txt", "../" * 99 + "x.txt"],
)  # fmt: skip
def test_nothing_in_a_filename_gets_into_an_answer(server: Shim, name: str, filename: str) -> None:
    answer = server.upload(name, page_of("# Hello"), filename)
    assert answer.status in (201, 400, 415)
    assert not {"x-evil", "x"} & {key.lower() for key, _ in answer.headers}
    assert "Evil" not in answer.text and "\x1b" not in answer.text
    assert [path.name for path in server.source.glob(f"{name}*")] in ([], [f"{name}.ipynb"])


@pytest.mark.parametrize(
    "query", ["%0d%0aSet-Cookie:%20a=b", "%0aX-Evil:1", "\xff\xfe", '"><script>', "%", "a=%00", "x" * 2000]
)
def test_nothing_in_a_query_gets_into_a_header_as_it_is(server: Shim, query: str) -> None:
    answer = server(f"/dashboards/first?{query}")
    if not query.isascii():
        assert answer.status == 400
        return
    assert answer.status == 301
    location = answer["location"] or ""
    assert location.startswith("/dashboards/first/?") and location.isascii() and location.isprintable()
    assert not set(location) & set('"<> \\')


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "evil.example:3000", "localhost@evil.example", "localhost/evil", "localhost, evil.example",
     "localhost evil.example", "evil.example#localhost", "localhost:80:80", "localhost:x", "localhost%0d%0aX: 1", "[::1", "[evil]", "127.0.0.2",
     "0.0.0.0", "", "localhost\\evil", "user:pass@localhost", "\xff", "LOCALHOST.", "x" * 5000],
)  # fmt: skip
def test_foreign_host_is_400_on_every_route_and_changes_nothing(server: Shim, host: str) -> None:
    before = server.tree()
    body = form(Part("file", page_of("# Mine now"), "a.ipynb"))
    for answer in (
        server("/_api/notebooks/first", "POST", body, host=host),
        server("/_api/notebooks/first", "DELETE", host=host),
        server("/_api/notebooks", host=host),
        server("/_api/cache", "DELETE", host=host),
        server("/dashboards/first/", host=host),
        server("/dashboards/first", host=host),
        server("/", host=host),
    ):
        assert answer.status == 400
        assert answer["location"] is None
        assert "evil" not in answer.text
    assert server.tree() == before


def test_request_without_a_host_is_400(server: Shim) -> None:
    for version in ("1.0", "1.1"):
        request = f"DELETE /_api/notebooks/first HTTP/{version}\r\nConnection: close\r\n\r\n".encode()
        assert parsed(exchange(server.server.port, request)).status == 400
    assert shows(server.page("first"), "First")


def test_link_is_made_of_an_allowed_host_and_of_no_other_header(tmp_path: Path) -> None:
    evil = {f"x_forwarded_{what}": "evil.example" for what in ("host", "server", "proto", "port", "prefix")}
    evil |= {"forwarded": "host=evil.example;proto=https", "x_original_url": "/evil", "x_host": "evil.example"}
    with running(tmp_path, auth__api_token=TOKEN) as shim:
        for host in ("localhost", "LOCALHOST:8080", "127.0.0.1:3000", "[::1]:3000"):
            answer = shim.as_(TOKEN).upload("name", page_of("# Hello"), host=host, **evil)
            assert answer.status == 201
            assert answer.json()["link"] == f"http://{host.lower()}/dashboards/name"


@pytest.mark.parametrize("pattern", ["https://notebooks.example.org/{baseUrl}", ""])
def test_configured_public_address_is_in_the_link_whatever_the_host(tmp_path: Path, pattern: str) -> None:
    with running(tmp_path, server__public_link_pattern=pattern) as shim:
        answer = shim.upload("a b", page_of("# Hello"))
        assert answer.status == 201
        link = {"link": "https://notebooks.example.org/dashboards/a%20b"} if pattern else {}
        assert (
            answer.json()
            == {"message": "Notebook successfully uploaded", "status": 201, "url": "/notebooks/a%20b"} | link
        )
        if pattern:
            assert shim("/dashboards/first/", host="notebooks.example.org").status == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /_api/notebooks/first HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /_api/notebooks/first HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /_api/notebooks/first HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"DELETE /_api/notebooks/first HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\n X: folded\r\n\r\n",
        b"DELETE /_api/notebooks/first HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"DELETE /_api/notebooks/first HTTP/1.1\r\nConnection: close\r\nHost : localhost\r\n\r\n",
        b"DELETE /_api/notebooks/first\r\n\r\n",
        b"DELETE /_api/notebooks/fir\0st HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
    ids=["two-framings", "negative", "two-lengths", "folded", "two-hosts", "blank", "no-version", "nul", "tls"],
)
def test_requests_that_two_servers_might_read_differently_change_nothing(server: Shim, raw: bytes) -> None:
    before = server.tree()
    answer = exchange(server.server.port, raw)
    assert re.match(rb"HTTP/1\.[01] 4[0-9][0-9] |\Z", answer), answer
    assert b"Traceback" not in answer and b"waitress" not in answer.lower()
    assert server.tree() == before
    assert shows(server.page("first"), "First")


# --- other sites


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    """A server with a token and a user."""
    folder = tmp_path_factory.mktemp("guarded")
    settings = f'[auth]\napi_token = "{TOKEN}"\n[[auth.user]]\nname = "ada"\npassword_hash = "{HASH}"\n'
    write(folder, "notebooks/site.toml", settings).chmod(0o600)
    write(folder, "notebooks/bundle/index.ipynb", page_of("# Bundle"))
    write(folder, "notebooks/bundle/data.csv", b"1")
    with running(folder) as shim:
        yield shim


FOREIGN = {
    "foreign": {"origin": "https://evil.example"},
    "null": {"origin": "null"},
    "empty": {"origin": ""},
    "look-alike": {"origin": "http://localhost.evil.example"},
    "other-port": {"origin": "http://localhost:1"},
    "user": {"origin": "http://localhost@evil.example"},
    "path": {"origin": "http://localhost/evil"},
    "two": {"origin": "http://localhost http://evil.example"},
    "file": {"origin": "file://localhost"},
    "extension": {"origin": "chrome-extension://localhost"},
    "cross-site": {"sec_fetch_site": "cross-site"},
    "same-site": {"sec_fetch_site": "same-site"},
    "unknown": {"sec_fetch_site": "whatever"},
    "own-origin-cross-site": {"origin": "http://localhost", "sec_fetch_site": "cross-site"},
    "foreign-same-origin": {"origin": "https://evil.example", "sec_fetch_site": "same-origin"},
}


def log_in(shim: Shim, **headers: str | None) -> Answer:
    """Log in as a browser does it, with the form."""
    body = urlencode({"username": "ada", "password": "lovelace", "next": "/dashboards/first/"}).encode()
    kind = "application/x-www-form-urlencoded"
    return shim("/login", "POST", body, content_type=kind, accept=BROWSER, authorization=None, **headers)


def cookie(answer: Answer) -> str:
    """The session cookie that an answer sets, as a browser sends it back."""
    (value,) = [value for key, value in answer.headers if key.lower() == "set-cookie" and value.startswith("nbfolio=")]
    assert "HttpOnly" in value and "SameSite=Lax" in value
    return value.partition(";")[0]


@pytest.mark.parametrize("transport", ["http", "wsgi"])
@pytest.mark.parametrize("case", FOREIGN)
def test_pages_of_other_sites_change_nothing_not_even_with_a_valid_token(
    guarded: Shim, name: str, case: str, transport: str
) -> None:
    shim, headers = guarded.over(transport), FOREIGN[case]
    session = cookie(log_in(shim))
    before = guarded.tree()
    answers = [
        shim.upload(name, page_of("# Mine now"), **headers),
        shim.upload("first", page_of("# Mine now"), **headers),
        shim.delete("first", **headers),
        shim.clear_cache(**headers),
        shim.clear_cache("first", **headers),
        log_in(shim, **headers),
        shim("/logout", "POST", cookie=session, **headers),
        shim("/_api/notebooks/first", "PUT", **headers),
        shim("/nothing", "PATCH", **headers),
    ]
    assert [answer.status for answer in answers] == [403] * len(answers)
    assert not [key for answer in answers for key, _ in answer.headers if key.lower() == "set-cookie"]
    assert not [key for answer in answers for key, _ in answer.headers if key.lower().startswith("access-control")]
    assert guarded.tree() == before
    assert shim("/dashboards/first/", cookie=session, authorization=None).status == 200


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://localhost"}, {"sec_fetch_site": "same-origin"}, {"sec_fetch_site": "none"}, {"origin": "http://localhost", "sec_fetch_site": "same-origin"}],
)  # fmt: skip
def test_our_own_pages_may(guarded: Shim, name: str, headers: dict[str, str]) -> None:
    for shim in (guarded, guarded.over("wsgi")):
        assert shim.upload(name, page_of("# Hello"), **headers).status == 201
        assert shim.clear_cache(name, **headers).status == 200
        assert shim.delete(name, **headers).status == 204
        assert log_in(shim, **headers).status == 302


def test_no_page_may_install_a_service_worker(server: Shim) -> None:
    assert server("/dashboards/first/", service_worker="script").status == 403


# --- logins


@pytest.mark.parametrize("transport", ["http", "wsgi"])
def test_stranger_is_sent_to_the_login_and_scripts_get_401(guarded: Shim, transport: str) -> None:  # [L1]
    shim = guarded.as_("").over(transport)
    answer = shim("/dashboards", accept=BROWSER)
    assert answer.status == 302
    assert (answer["location"] or "").partition("?")[0] == "/login"
    for url in (
        "/",
        "/dashboards/",
        "/dashboards/first/",
        "/dashboards-plain/first/",
        "/dashboards/bundle/data.csv",
        "/media/x.png",
        "/first",
    ):
        assert shim(url, accept=BROWSER).status == 302, url
        answer = shim(url)
        assert (answer.status, answer["content-type"]) == (401, "application/json"), url
        assert shim(url, authorization=f"token {TOKEN}").status == 401, url
    assert shim("/_api/notebooks").status == 401
    assert shim("/login", accept=BROWSER).status == 200


@pytest.mark.parametrize("transport", ["http", "wsgi"])
def test_login_opens_pages_and_not_the_api(guarded: Shim, transport: str) -> None:  # [L2]
    shim = guarded.as_("").over(transport)
    answer = log_in(shim)
    assert (answer.status, answer["location"]) == (302, "/dashboards/first/")
    session = cookie(answer)
    for url in ("/", "/dashboards/", "/dashboards/first/", "/dashboards/bundle/data.csv"):
        page = shim(url, cookie=session)
        assert page.status == 200
        assert (page["cache-control"] or "").startswith("private")
    assert shim("/_api/notebooks", cookie=session).status == 401
    assert shim.upload("x", page_of("# X"), cookie=session).status == 401
    assert shim.delete("first", cookie=session).status == 401
    assert shim.clear_cache(cookie=session).status == 401


@pytest.mark.parametrize("transport", ["http", "wsgi"])
def test_old_cookie_is_worth_nothing_after_logout(guarded: Shim, transport: str) -> None:
    shim = guarded.as_("").over(transport)
    session = cookie(log_in(shim))
    assert shim("/dashboards/first/", cookie=session).status == 200
    assert shim("/logout", "GET", cookie=session, accept=BROWSER).status == 200
    assert shim("/dashboards/first/", cookie=session).status == 200
    assert shim("/logout", "POST", cookie=session, accept=BROWSER).status == 302
    assert shim("/dashboards/first/", cookie=session).status == 401


@pytest.mark.parametrize("transport", ["http", "wsgi"])
def test_session_id_changes_at_login_and_a_planted_one_is_not_taken(guarded: Shim, transport: str) -> None:
    shim = guarded.as_("").over(transport)
    planted = "nbfolio=" + "a" * 43
    first = cookie(log_in(shim, cookie=planted))
    second = cookie(log_in(shim, cookie=first))
    assert len({planted, first, second}) == 3
    for old in (planted, first):
        assert shim("/dashboards/first/", cookie=old).status == 401
    assert shim("/dashboards/first/", cookie=second).status == 200


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example/", "http:/evil.example", "/%5cevil.example", "/%2f/evil.example",
     "javascript:alert(1)", "/\t/evil.example", "/\n/evil.example", "///evil.example", "evil.example", "/..//evil.example", "/x\r\nSet-Cookie: a=b", " //evil.example"],
)  # fmt: skip
def test_login_returns_to_no_other_site(guarded: Shim, target: str) -> None:
    shim = guarded.as_("")
    body = urlencode({"username": "ada", "password": "lovelace", "next": target}).encode()
    answer = shim("/login", "POST", body, content_type="application/x-www-form-urlencoded", accept=BROWSER)
    assert (answer.status, answer["location"]) == (302, "/")
    session = cookie(answer)
    page = shim(f"/login?next={quote(target, safe='')}", accept=BROWSER)
    assert page.status == 200
    assert "evil" not in page.text and "javascript:" not in page.text
    assert shim(f"/login?next={quote(target, safe='')}", cookie=session, accept=BROWSER)["location"] == "/"


@pytest.mark.parametrize("target", ["//evil.example/x", "/\\evil.example/x", "/%5cevil.example", "/%2fevil.example"])
def test_page_of_a_stranger_that_looks_like_another_site_is_no_return_target(guarded: Shim, target: str) -> None:
    answer = guarded.as_("")(target, accept=BROWSER)
    if answer.status == 302:
        location = urlsplit(answer["location"] or "")
        assert (location.scheme, location.netloc, location.path) == ("", "", "/login")
        assert not re.search(r"next=(/|%2f)(/|%2f|\\|%5c|%255c|%252f)", answer["location"] or "", re.IGNORECASE)
    else:
        assert answer.status in (400, 404)


# --- settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('[[auth.user]]\nname = "ada"\n', "password"),
        ('[[auth.user]]\nname = "ada"\npassword_hash = ""\n', "password"),
        ('[[auth.user]]\nname = "ada"\npassword_hash = "lovelace"\n', "password"),
        ('[[auth.user]]\nname = "ada"\npassword_hash_file = "missing"\n', "cannot be read"),
        (f'[[auth.user]]\npassword_hash = "{HASH}"\n', "name"),
        ('[auth]\napi_token_file = "missing"\n', "cannot be read"),
        ('[[auth.token]]\nname = "ci"\nscopes = ["publish"]\n', "value"),
        ('[[auth.token]]\nname = "ci"\nvalue = "x"\nscopes = ["everything"]\n', "scopes"),
        ('[server]\nhost = "0.0.0.0"\n', "token"),
        ('[auth]\nuser_header = "X-User"\n', "trusted_proxies"),
    ],
)
def test_server_does_not_start_where_it_would_be_open_by_accident(tmp_path: Path, settings: str, said: str) -> None:
    write(tmp_path, "site.toml", settings).chmod(0o600)
    env = {key: value for key, value in os.environ.items() if not key.startswith("NBFOLIO_")}
    run = subprocess.run(
        [sys.executable, "-m", "shim", str(tmp_path), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=env,
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert said in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("text", "value"), [("false", False), ("0", False), ("no", False), ("False", False), ("true", True), ("1", True)]
)
def test_words_for_false_in_the_environment_are_false(tmp_path: Path, text: str, value: bool) -> None:
    config = load_config(tmp_path, None, {"NBFOLIO_SERVER__PRESENTATION_MODE": text}, {})
    assert config.server.presentation_mode is value


def test_server_with_presentation_mode_false_shows_listings_and_plain_pages(tmp_path: Path) -> None:
    config = load_config(tmp_path, None, {"NBFOLIO_SERVER__PRESENTATION_MODE": "false"}, {})
    with running(tmp_path, server__presentation_mode=config.server.presentation_mode) as shim:
        assert shows(shim("/"), 'class="listing')
        assert shows(shim.page("first", "dashboards-plain"), "First")
        assert shows(shim.page("first"), '<header class="top">')


# --- errors


@pytest.mark.parametrize("name", ["日本語", "été", "\U0001f600", "a b#c?"])
@pytest.mark.parametrize("transport", ["http", "wsgi"])
def test_errors_about_names_in_any_script_are_worded_and_name_their_url(
    server: Shim, name: str, transport: str
) -> None:
    shim = server.over(transport)
    url = f"/_api/notebooks/{quote(name)}"
    for answer, status in (
        (shim.delete(name), 404),
        (shim.upload(name, b"{}"), 422),
        (shim(url, "PUT", b""), 405),
        (shim(f"/_api/notebooks/{quote(name)}/%2e%2e/x", "DELETE"), 400),
    ):
        assert answer.status == status
        assert answer.json()["url"].startswith(url)
    assert shim(f"/{quote(name)}").json()["url"] == f"/{quote(name)}"
    assert shim(f"/{quote(name)}", accept=BROWSER).status == 404


def test_upload_for_which_there_is_no_room_changes_nothing_and_is_said_without_paths(tmp_path: Path) -> None:
    folder = tmp_path / "notebooks"
    write(folder, "first.ipynb", page_of("# First"))
    env = {key: value for key, value in os.environ.items() if not key.startswith("NBFOLIO_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "shim", str(folder), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )
    try:
        assert process.stdout
        port = urlsplit(process.stdout.readline().strip()).port
        config = load_config(folder, None, {}, {})
        shim = Shim(tmp_path, config, lambda *_: [], SimpleNamespace(port=port))  # type: ignore[arg-type]
        until(lambda: shim("/readyz").status == 200)
        assert shim.upload("old", page_of("# Old")).status == 201
        before = shim.tree()
        # Notebooks are smaller than that, and pages are larger.
        limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        for name in ("new", "old", "sub/new"):
            for content in (page_of("# New"), bundle("# New", ("a.txt", b"1"))):
                answer = shim.upload(name, content)
                assert answer.status == 507, answer
        assert shim.tree() == before
        assert shows(shim.page("old"), "Old")
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
        assert shim.upload("old", page_of("# Newer")).status == 201
        assert shows(shim.page("old"), "Newer")
        assert shim.page("new").status == 404
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_no_error_says_anything_of_the_machine(server: Shim, name: str) -> None:
    answers = [
        server(url, method, body, accept=accept)
        for url, method, body in (
            ("/dashboards/nothing", "GET", None),
            ("/_api/notebooks/first/x", "POST", form(Part("file", b"{}", "a.ipynb"))),
            ("/_api/notebooks/first", "POST", form(Part("file", b"PK\3\4", "a.zip"))),
            ("/_api/notebooks/leak", "DELETE", None),
            ("/_api/notebooks/out/x", "POST", form(Part("file", page_of("x"), "a.ipynb"))),
            ("/_api/notebooks", "PUT", b""),
            ("/%00", "GET", None),
        )
        for accept in (None, "application/json", BROWSER)
    ]
    # What the answers must not hold is looked for in every answer of this module.
    assert all(answer.status >= 400 or answer.status == 204 for answer in answers)
