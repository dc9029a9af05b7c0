"""The WSGI application: pages, files, redirects, errors, and whom it answers."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_to_bytes
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.config import load_config
from shim.app import create_app, parts_of
from shim.background import Finished
from shim.media_types import BINARY, TEXT, media_type
from shim.metrics import Metrics
from shim.state import State

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

SECRET = b"root:x:0:0"
LONG = b"<!doctype html><title>Long</title>" + b"<p>words, words, words.</p>\n" * 400
PAGES = ("", "a", "a/b", "with space", "100%", "été", "q?x#y", "index", "folder/index")


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Calls a WSGI application through the validator, as a browser on this machine would."""

    app: WSGIApplication
    headers: dict[str, str] = field(default_factory=lambda: {"Host": "localhost:3000"})
    checked: bool = True

    def __call__(self, url: str, method: str = "GET", **headers: str) -> Answer:
        """Keyword arguments are headers, `if_range` is If-Range; the URL is percent-decoded as servers do it."""
        path, _, query = url.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "SCRIPT_NAME": "",
            "REMOTE_ADDR": "127.0.0.1",
            "QUERY_STRING": query,
            "wsgi.input": BytesIO(),
        }
        setup_testing_defaults(environ)
        del environ["HTTP_HOST"]
        for name, value in {**self.headers, **headers}.items():
            environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            started.append((status, headers))
            return lambda data: None

        # wsgiref.validate wants a path that begins with a slash; what others send is tested without it.
        app: Any = validator(self.app) if self.checked else self.app
        result: Iterable[bytes] = app(environ, start_response)
        try:
            body = b"".join(result)
        finally:
            if hasattr(result, "close"):
                result.close()
        ((status, sent),) = started
        names = [name.lower() for name, _ in sent]
        assert len(names) == len(set(names)), names
        return Answer(int(status[:3]), {name.lower(): value for name, value in sent}, body)


@dataclass
class NotReady:
    """The state of a first build that goes on."""

    ready: threading.Event = field(default_factory=threading.Event)


def make_site(root: Path) -> Path:
    """A built site in `root`/_site, with files beside it that must never be served."""
    output = root / "_site"
    for tree in ("dashboards", "dashboards-plain"):
        for page in PAGES:
            folder = output / tree / page
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "index.html").write_bytes(f"<title>{tree} {page}</title>".encode())
    (output / "index.html").write_bytes(LONG)
    (output / "404.html").write_bytes(b"<h1>Lost</h1>")
    (output / "feed.xml").write_bytes(b"<feed/>")
    (output / ".nbfolio-output").write_bytes(SECRET)
    (output / "dashboards" / ".secret").mkdir()
    (output / "dashboards" / ".secret" / "index.html").write_bytes(SECRET)
    (output / "dashboards" / "empty").mkdir()
    (output / "dashboards" / "a" / "data.csv").write_bytes(b"0123456789")
    (output / "dashboards" / "a" / "image.png").write_bytes(b"PNG" * 1000)
    (output / "assets").mkdir()
    (output / "assets" / "page.abc123.js").write_bytes(b"'use strict';" * 100)
    (output / "media").mkdir()
    (output / "media" / "abc.png").write_bytes(b"PNG")
    (root / "secret.txt").write_bytes(SECRET)
    (root / "_site-other").mkdir()
    (root / "_site-other" / "index.html").write_bytes(SECRET)
    (output / "dashboards" / "leak.txt").symlink_to(root / "secret.txt")
    (output / "dashboards" / "leak").symlink_to(root / "_site-other")
    os.mkfifo(output / "dashboards" / "pipe")
    for path in output.rglob("*"):
        # Files of this very second have no date yet.
        if path.is_file() and not path.is_symlink():
            os.utime(path, (1_700_000_000, 1_700_000_000))
    return root


def client_of(root: Path, build: Any = None, **overrides: object) -> Client:
    """A client of the application for the site in `root`; overrides are written `site__base_url`."""
    config = load_config(root, None, {}, {name.replace("__", "."): value for name, value in overrides.items()})
    return Client(create_app(parts_of(config, build or Finished(config), Metrics())))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a site that no test changes."""
    return make_site(tmp_path_factory.mktemp("app"))


@pytest.fixture
def get(root: Path) -> Client:
    """A client of that site."""
    return client_of(root)


# Pages and files


def test_the_root_is_the_first_page(get: Client) -> None:
    answer = get("/")
    assert (answer.status, answer.body) == (200, LONG)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-length"] == str(len(LONG))


@pytest.mark.parametrize("tree", ["dashboards", "dashboards-plain"])
@pytest.mark.parametrize("page", PAGES)
def test_pages_end_with_a_slash_and_may_be_called_index_html(get: Client, tree: str, page: str) -> None:
    path = f"/{tree}/{quote(page)}/".replace("//", "/")
    for url in (path, f"{path}index.html"):
        answer = get(url)
        assert (answer.status, answer.body) == (200, f"<title>{tree} {page}</title>".encode())


@pytest.mark.parametrize("page", ["/dashboards", "/dashboards-plain", "/dashboards/a", "/dashboards-plain/a/b"])
def test_pages_without_slash_move_to_it_for_good(get: Client, page: str) -> None:
    answer = get(f"{page}?x=1&y=%2F%22é?/")
    assert (answer.status, answer.body) == (301, b"")
    assert answer.headers["location"] == f"{page}/?x=1&y=%2F%22%C3%A9?/".replace("%C3%A9", quote("é".encode("latin-1")))
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("page", ["with space", "100%", "été", "q?x#y"])
def test_redirects_encode_names(get: Client, page: str) -> None:
    answer = get(f"/dashboards/{quote(page)}")
    assert (answer.status, answer.headers["location"]) == (301, f"/dashboards/{quote(page)}/")


def test_redirects_are_never_made_from_the_host(root: Path) -> None:
    get = client_of(root, server__allowed_hosts=["evil.example"])
    get.headers = {"Host": "evil.example"}
    for url in ("/dashboards/a", "/a", "/a/b"):
        assert get(url).headers["location"].startswith("/dashboards/a/")


def test_index_of_a_page_is_the_page(get: Client) -> None:
    answer = get("/dashboards/a/index?x")
    assert (answer.status, answer.headers["location"]) == (301, "/dashboards/a/?x")


@pytest.mark.parametrize("path", ["/a", "/a/", "/a/b", "/with%20space"])
def test_short_addresses_lead_to_the_full_page_for_now(get: Client, path: str) -> None:
    answer = get(f"{path}?k=v")
    assert (answer.status, answer.headers["location"]) == (302, f"/dashboards{path.rstrip('/')}/?k=v")


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/dashboards/nothing",
        "/dashboards/nothing/",
        "/dashboards/empty",
        "/dashboards/empty/",
        "/dashboards/a/data.csv/",
        "/dashboards/a/data.csv/x",
        "/dashboards/a//",
        "/dashboards//a/",
        "/dashboards/a/index.html/",
        "/assets",
        "/assets/",
        "/media",
        "/media/",
        "/404.html",
        "/dashboards/pipe",
        "/dashboards/" + "x" * 5000,
        "/dashboards/" + "x/" * 3000,
    ],
)
def test_what_is_no_page_and_no_file_is_404(get: Client, path: str) -> None:
    answer = get(path)
    assert answer.status == 404
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/dashboards/a/data.csv", "text/csv; charset=utf-8"),
        ("/dashboards/a/image.png", "image/png"),
        ("/assets/page.abc123.js", "text/javascript; charset=utf-8"),
        ("/feed.xml", "application/xml; charset=utf-8"),
    ],
)
def test_types_come_from_our_own_table(get: Client, path: str, kind: str) -> None:
    answer = get(path)
    assert (answer.status, answer.headers["content-type"]) == (200, kind)
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_every_type_is_right_for_browsers() -> None:
    assert not TEXT.keys() & BINARY.keys()
    assert media_type("X.HTML") == ("text/html; charset=utf-8", True)
    assert media_type("m.mjs")[0] == "text/javascript; charset=utf-8"
    assert media_type("m.wasm") == ("application/wasm", False)
    assert media_type("m.svg") == ("image/svg+xml; charset=utf-8", True)
    assert media_type("m.woff2")[0] == "font/woff2"
    assert media_type("n.ipynb")[0].startswith("application/x-ipynb+json")
    assert media_type("README") == ("application/octet-stream", False)
    assert media_type("x.tar.gz") == ("application/gzip", False)


def test_assets_and_media_are_kept_for_good_and_pages_are_asked_for_again(
    root: Path, get: Client, tmp_path: Path
) -> None:
    assert get("/assets/page.abc123.js").headers["cache-control"] == "public, max-age=31536000, immutable"
    assert get("/media/abc.png").headers["cache-control"] == "public, max-age=31536000, immutable"
    assert get("/dashboards/a/data.csv").headers["cache-control"] == "no-cache"
    assert get("/assets/gone.js").headers["cache-control"] == "no-store"
    settings = {"auth.user_header": "X-Forwarded-User", "server.trusted_proxies": ("127.0.0.1",)}
    config = load_config(root, None, {}, settings)
    with closing(State(tmp_path)) as state:
        parts = parts_of(config, Finished(config), Metrics(), state)
    guarded = Client(create_app(parts), {"Host": "localhost", "X-Forwarded-User": "ada"})
    assert guarded("/").headers["cache-control"] == "private, no-cache"
    assert guarded("/media/abc.png").headers["cache-control"] == "private, max-age=31536000, immutable"
    assert guarded("/assets/page.abc123.js").headers["cache-control"] == "public, max-age=31536000, immutable"


def test_settings_say_who_may_frame_pages(root: Path, get: Client) -> None:
    assert get("/").headers["content-security-policy"] == "frame-ancestors 'self'"
    portal = client_of(root, server__frame_ancestors=["'self'", "https://portal.example"])
    assert portal("/").headers["content-security-policy"] == "frame-ancestors 'self' https://portal.example"
    nobody = client_of(root, server__frame_ancestors=[])
    assert nobody("/").headers["content-security-policy"] == "frame-ancestors 'none'"
    assert get("/nothing").headers["content-security-policy"] == "frame-ancestors 'none'"
    assert get("/healthz").headers["content-security-policy"] == "frame-ancestors 'none'"


def test_head_is_get_without_a_body(get: Client) -> None:
    for path in ("/", "/dashboards/a", "/dashboards/a/image.png", "/nothing", "/healthz", "/a"):
        for accept in ("", "gzip"):
            full = get(path, accept_encoding=accept)
            head = get(path, "HEAD", accept_encoding=accept)
            full.headers.pop("x-request-id", None)
            head.headers.pop("x-request-id", None)
            assert (head.status, head.headers, head.body) == (full.status, full.headers, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/dashboards/a/", "/dashboards-plain", "/media/abc.png", "/nothing", "/healthz"])
def test_pages_can_only_be_read(root: Path, method: str, path: str) -> None:
    get = client_of(root)
    get.checked = method != "TRACE"
    answer = get(path, method)
    assert answer.status == 405
    assert sorted(answer.headers["allow"].replace(" ", "").split(",")) == ["GET", "HEAD"]
    assert answer.json()["status"] == 405


# Compression


def test_text_is_compressed_for_those_who_take_it(get: Client) -> None:
    plain, zipped = get("/"), get("/", accept_encoding="br, gzip")
    assert zipped.headers["content-encoding"] == "gzip"
    assert gzip.decompress(zipped.body) == plain.body == LONG
    assert int(zipped.headers["content-length"]) == len(zipped.body) < len(LONG) / 5
    assert plain.headers["vary"] == zipped.headers["vary"] == "Accept-Encoding"
    assert plain.headers["etag"] != zipped.headers["etag"]
    assert "content-encoding" not in plain.headers


def test_images_and_small_files_are_sent_as_they_are(get: Client) -> None:
    image = get("/dashboards/a/image.png", accept_encoding="gzip")
    assert "content-encoding" not in image.headers
    assert "vary" not in image.headers
    small = get("/dashboards/a/data.csv", accept_encoding="gzip")
    assert "content-encoding" not in small.headers
    assert small.headers["vary"] == "Accept-Encoding"


def test_a_compressed_page_follows_its_file(tmp_path: Path) -> None:
    get = client_of(make_site(tmp_path))
    first = get("/", accept_encoding="gzip")
    assert get("/", accept_encoding="gzip") == first
    (tmp_path / "new.html").write_bytes(LONG[::-1])
    os.replace(tmp_path / "new.html", tmp_path / "_site" / "index.html")
    second = get("/", accept_encoding="gzip")
    assert gzip.decompress(second.body) == LONG[::-1]
    assert second.headers["etag"] != first.headers["etag"]
    assert get("/", if_none_match=first.headers["etag"], accept_encoding="gzip").status == 200


# Conditional requests and ranges


def test_an_unchanged_file_is_not_sent_again(get: Client) -> None:
    for encoding in ("", "gzip"):
        first = get("/", accept_encoding=encoding)
        again = get("/", accept_encoding=encoding, if_none_match=f'"x", W/{first.headers["etag"]}')
        assert (again.status, again.body) == (304, b"")
        for name in ("etag", "cache-control", "vary", "last-modified", "content-security-policy"):
            assert again.headers[name] == first.headers[name]
        assert not {"content-length", "content-type", "content-encoding"} & again.headers.keys()
        other = "" if encoding else "gzip"
        assert get("/", accept_encoding=other, if_none_match=first.headers["etag"]).status == 200


def test_dates_are_asked_about_when_there_is_no_entity_tag(get: Client) -> None:
    date = get("/").headers["last-modified"]
    assert get("/", if_modified_since=date).status == 304
    assert get("/", if_modified_since="Sun, 06 Nov 1994 08:49:37 GMT").status == 200
    assert get("/", if_modified_since="nonsense").status == 200
    assert get("/", if_modified_since=date, if_none_match='"other"').status == 200


@pytest.mark.parametrize(
    ("asked", "content_range", "body"),
    [
        ("bytes=2-4", "bytes 2-4/10", b"234"),
        ("bytes=7-", "bytes 7-9/10", b"789"),
        ("bytes=-2", "bytes 8-9/10", b"89"),
        ("bytes=0-99", "bytes 0-9/10", b"0123456789"),
    ],
)
def test_a_part_of_a_file_is_sent_as_it_is(get: Client, asked: str, content_range: str, body: bytes) -> None:
    answer = get("/dashboards/a/data.csv", range=asked, accept_encoding="gzip")
    assert (answer.status, answer.body) == (206, body)
    assert answer.headers["content-range"] == content_range
    assert answer.headers["content-length"] == str(len(body))
    assert answer.headers["etag"] == get("/dashboards/a/data.csv").headers["etag"]


def test_a_part_of_a_page_is_never_a_part_of_its_compressed_form(get: Client) -> None:
    answer = get("/", range="bytes=100-199", accept_encoding="gzip")
    assert (answer.status, answer.body) == (206, LONG[100:200])
    assert "content-encoding" not in answer.headers


def test_a_part_that_is_not_there_is_416(get: Client) -> None:
    answer = get("/dashboards/a/data.csv", range="bytes=10-")
    assert (answer.status, answer.json()["status"], answer.headers["content-range"]) == (416, 416, "bytes */10")
    assert answer.headers["cache-control"] == "no-store"


def test_if_range_asks_for_a_part_of_the_same_file_only(get: Client) -> None:
    path = "/dashboards/a/data.csv"
    headers = get(path).headers
    assert headers["accept-ranges"] == "bytes"
    for same in (headers["etag"], headers["last-modified"]):
        assert get(path, range="bytes=1-1", if_range=same).body == b"1"
    for other in ('"x"', f"W/{headers['etag']}", "Sun, 06 Nov 1994 08:49:37 GMT", "junk"):
        answer = get(path, range="bytes=1-1", if_range=other)
        assert (answer.status, answer.body) == (200, b"0123456789")
    assert get(path, range="bytes=99-", if_range='"x"').status == 200


def test_head_and_unreadable_ranges_mean_the_whole_file(get: Client) -> None:
    assert get("/dashboards/a/data.csv", "HEAD", range="bytes=1-2").status == 200
    assert get("/dashboards/a/data.csv", range="bytes=1-2,4-5").body == b"0123456789"


def test_large_files_are_sent_in_pieces_and_closed(tmp_path: Path) -> None:
    get = client_of(make_site(tmp_path))
    content = os.urandom(700_000)
    (tmp_path / "_site" / "media" / "big.mp4").write_bytes(content)
    assert get("/media/big.mp4").body == content
    assert get("/media/big.mp4", range="bytes=100000-600000").body == content[100_000:600_001]


# Paths from outside


TRAVERSALS = [
    "/../secret.txt",
    "/dashboards/../../secret.txt",
    "/dashboards/../index.html",
    "/dashboards/./a/",
    "/dashboards/%2e%2e/%2e%2e/secret.txt",
    "/dashboards/%2E%2E/index.html",
    "/dashboards/..%2f..%2fsecret.txt",
    "/dashboards/..%5c..%5csecret.txt",
    "/dashboards/%252e%252e/%252e%252e/secret.txt",
    "/dashboards/..%252f..%252fsecret.txt",
    "/dashboards/a%00/",
    "/dashboards/a/data.csv%00.html",
    "/dashboards/a%0a/",
    "/dashboards//etc/passwd",
    "/dashboards/%2fetc/passwd",
    "/dashboards/%c0%ae%c0%ae/secret.txt",
    "/dashboards/%ff/",
    "/dashboards/%ed%b0%80/",
    "//etc/passwd",
    "//_site-other/index.html",
    "/_site-other/",
    "/..%2f_site-other/index.html",
    "/assets/../../secret.txt",
    "/assets/..%2f.nbfolio-output",
    "/media/%2e%2e/.nbfolio-output",
    "/.nbfolio-output",
    "/dashboards/.secret/",
    "/dashboards/.secret",
    "/.secret/",
    "/dashboards/a/.",
    "/dashboards/a/..",
    "/dashboards/leak.txt",
    "/dashboards/leak/",
    "/dashboards/leak",
    "/leak",
    "/dashboards/C:/x",
]


@pytest.mark.parametrize("path", TRAVERSALS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_path_leads_out_of_the_published_folder(root: Path, get: Client, path: str, method: str) -> None:
    answer = get(path, method)
    assert answer.status == 404
    assert SECRET not in answer.body
    assert str(root).encode() not in answer.body
    assert "location" not in answer.headers


@given(
    st.lists(st.sampled_from(["..", ".", "", "a", "secret.txt", "leak", "_site", "%2e%2e", "\\", "\0", "/", "é", ".x"]))
)
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_combination_of_segments_leads_out(get: Client, segments: list[str]) -> None:
    for tree in ("", "dashboards/", "assets/"):
        answer = get(f"/{tree}{quote('/'.join(segments), safe='/')}")
        assert answer.status in (200, 301, 302, 404)
        assert SECRET not in answer.body
        assert answer.headers.get("location", "/dashboards/").startswith("/dashboards/")


@given(st.binary(max_size=30))
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_as_a_path_get_a_plain_answer(get: Client, path: bytes) -> None:
    answer = get("/dashboards/" + quote(path))
    assert answer.status in (200, 301, 404)
    assert SECRET not in answer.body


@given(st.text(st.characters(codec="ascii", exclude_characters="?"), max_size=40))
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_query_is_kept_as_one_header_line(get: Client, query: str) -> None:
    location = get(f"/dashboards/a?{query}").headers["location"]
    assert location.startswith("/dashboards/a/")
    assert location.isascii()
    assert location.isprintable()
    assert " " not in location


def test_paths_that_are_none_are_refused(get: Client) -> None:
    get.checked = False
    for path in ("*", "dashboards/a/", "http://evil.example/"):
        assert get(path).status == 400
    assert get("").status == 200


# Errors


def test_programs_get_json_and_people_the_page_of_the_site(get: Client) -> None:
    answer = get("/dashboards/no%20page/?token=x")
    assert (answer.status, answer.headers["content-type"]) == (404, "application/json")
    assert answer.json() == {
        "message": "There is nothing of that name.",
        "status": 404,
        "url": "/dashboards/no%20page/",
        "error": "Not Found",
    }
    page = get("/dashboards/nope/", accept="text/html,*/*;q=0.8")
    assert (page.status, page.body) == (404, b"<h1>Lost</h1>")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert (page.headers["vary"], page.headers["cache-control"]) == ("Accept", "no-store")


def test_errors_have_an_id_and_need_no_site(tmp_path: Path) -> None:
    get = client_of(tmp_path)
    first, second = get("/dashboards/x/", accept="text/html"), get("/")
    assert first.status == second.status == 404
    assert b"<h1>Not Found</h1>" in first.body
    assert len(first.headers["x-request-id"]) == 16
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


def test_a_failure_of_ours_shows_nothing_and_is_in_the_log_with_its_id(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        @property
        def ready(self) -> threading.Event:
            raise RuntimeError(f"at {root}")

    answer = client_of(root, Broken())("/readyz")
    assert answer.status == 500
    assert answer.json()["message"] == "Something went wrong; the log says what."
    assert str(root).encode() not in answer.body
    (record,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert record.__dict__["fields"]["request_id"] == answer.headers["x-request-id"]
    assert "RuntimeError" in caplog.text


def test_a_file_that_cannot_be_opened_for_now_is_500_and_an_unreadable_one_404(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    get = client_of(make_site(tmp_path))
    real = os.open
    problem = PermissionError(13, "Permission denied")

    def refuse(path: Any, flags: int, *more: Any, **names: Any) -> int:
        if str(path).endswith("data.csv"):
            raise problem
        return real(path, flags, *more, **names)

    monkeypatch.setattr("os.open", refuse)  # the tests may run as root, who is never refused
    assert get("/dashboards/a/data.csv").status == 404
    problem = OSError(24, "Too many open files")  # type: ignore[assignment]
    assert get("/dashboards/a/data.csv").status == 500
    assert "Too many open files" in caplog.text


# Health


def test_health_and_readiness(root: Path, tmp_path: Path) -> None:
    build = NotReady()
    get = client_of(root, build)
    assert (get("/healthz").status, get("/healthz/").json()) == (200, {"status": "ok"})
    answer = get("/readyz")
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert get("/").status == 200
    assert get("/nothing").status == 503
    assert get("/dashboards/nothing/").headers["retry-after"] == "2"
    assert b'http-equiv="refresh"' in client_of(tmp_path, build)("/", accept="text/html").body
    build.ready.set()
    assert (get("/readyz").status, get("/readyz/").json()) == (200, {"status": "ready"})
    assert get("/nothing").status == 404


def test_answers_of_the_program_are_not_kept(get: Client) -> None:
    headers = get("/healthz").headers
    assert (headers["cache-control"], headers["content-type"]) == ("no-store", "application/json")
    assert headers["x-content-type-options"] == "nosniff"


# Hosts


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1:3000", "[::1]:3000"])
def test_this_machine_is_answered_by_default(root: Path, host: str) -> None:
    get = client_of(root)
    get.headers = {"Host": host}
    assert get("/").status == 200


@pytest.mark.parametrize("path", ["/", "/healthz", "/dashboards/a", "/api/kernels", "/assets/page.abc123.js"])
@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.2", "", "localhost, evil", "a b"])
def test_other_hosts_are_refused_before_anything_else(root: Path, path: str, host: str) -> None:
    get = client_of(root)
    get.headers = {"Host": host}
    answer = get(path)
    assert (answer.status, answer.json()["status"]) == (400, 400)


def test_a_request_without_host_is_refused(root: Path) -> None:
    get = client_of(root)
    get.headers = {}
    assert get("/").status == 400


def test_hosts_come_from_settings_bind_address_and_public_pattern(root: Path) -> None:
    def answers(host: str, **overrides: object) -> bool:
        get = client_of(root, **overrides)
        get.headers = {"Host": host}
        return get("/").status == 200

    assert answers("10.0.0.7:3000", server__host="10.0.0.7")
    assert answers("[fd00::7]", server__host="fd00::7")
    pattern = "https://nb.example.org/{baseUrl}"
    assert answers("nb.example.org", server__public_link_pattern=pattern)
    assert answers("localhost", server__public_link_pattern=pattern)
    assert not answers("nb.example.org", server__public_link_pattern="{protocol}://{host}:{port}/{baseUrl}")
    assert answers("a.example:81", server__allowed_hosts=["a.example"])
    assert not answers("localhost", server__allowed_hosts=["a.example"])
    assert answers("a.example:81", server__allowed_hosts=["a.example:81"])
    assert not answers("a.example:82", server__allowed_hosts=["a.example:81"])


def test_pages_may_not_install_service_workers(get: Client) -> None:
    assert get("/dashboards/a/data.csv", service_worker="script").status == 403


# Prefixes


def test_a_prefix_that_the_proxy_keeps_is_part_of_every_path(root: Path) -> None:
    get = client_of(root, site__base_url="/db")
    assert get("/db/").body == LONG
    assert (get("/db").status, get("/db?x").headers["location"]) == (301, "/db/?x")
    assert get("/db/dashboards/a/").status == 200
    assert get("/db/dashboards/a?x=1").headers["location"] == "/db/dashboards/a/?x=1"
    assert get("/db/a").headers["location"] == "/db/dashboards/a/"
    assert get("/db/healthz").json() == {"status": "ok"}
    for path in ("/", "/dashboards/a/", "/dbx/", "/healthz", "/DB/", "/db/db/"):
        assert get(path).status == 404
    assert get("/db/nothing").json()["url"] == "/nothing"


def test_a_prefix_that_the_proxy_strips_is_part_of_every_redirect(root: Path) -> None:
    get = client_of(root, site__base_url="[/db]")
    assert get("/").body == LONG
    assert get("/dashboards/a?x=1").headers["location"] == "/db/dashboards/a/?x=1"
    assert get("/a").headers["location"] == "/db/dashboards/a/"
    assert get("/healthz").json() == {"status": "ok"}
    assert get("/db/").status == 404


@pytest.mark.parametrize("url", ["/dashboards/a", "/a", "/dashboards/a/index"])
def test_redirects_have_the_headers_of_every_answer(get: Client, url: str) -> None:
    answer = get(url)
    assert answer.status in (301, 302)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "strict-origin-when-cross-origin"
    assert answer.headers["content-security-policy"] == "frame-ancestors 'none'"


def test_the_redirect_to_a_prefix_has_them_too(root: Path) -> None:
    answer = client_of(root, site__base_url="/db")("/db")
    assert (answer.status, answer.headers["location"]) == (301, "/db/")
    assert answer.headers["referrer-policy"] == "strict-origin-when-cross-origin"
