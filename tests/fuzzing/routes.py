"""The whole application: whatever is asked, the answer is well formed, closed to strangers and tells nothing of the disk."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_to_bytes
from wsgiref.validate import validator

from argon2 import PasswordHasher
from fuzzing.archives import NOTEBOOK, one
from fuzzing.browsers import follow
from fuzzing.engine import Target
from fuzzing.mutation import CHARACTERS, NUMBERS, NUMBERS_LONG, data, joined, text
from fuzzing.paths import SEGMENTS, SEPARATORS
from fuzzing.requests import ADDRESSES, DATES, HOSTS, LISTS, ORIGINS, RANGES, SITES, header, wire
from making import code, markdown, notebook, write
from sites import build

from builder.config import load_config
from shim.answers import CLOSED
from shim.app import create_app, parts_of
from shim.background import Finished
from shim.logs import JsonLines, TextLines
from shim.metrics import Metrics
from shim.state import State

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from shim.identity import Logins

CANARY = "canary-e1b5-not-to-be-seen"
WORDS = "words-2c97-for-readers"
TOKEN, CACHE_TOKEN, PASSWORD = "token-3f1d-all", "token-77aa-cache", "password-9c"
ADMIN, VIEWER = f"token {TOKEN}", f"Bearer {CACHE_TOKEN}"
HIDDEN = (CANARY, TOKEN, CACHE_TOKEN, PASSWORD, "$argon2id")
"""What no answer shows."""
METHODS = (
    "GET",
    "HEAD",
    "POST",
    "DELETE",
    "PUT",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "get",
    "X" * 500,
    "G-T",
)
VALID = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})
PATHS = (
    "/", "/index.html", "/404.html", "/robots.txt", "/favicon.ico", "/feed.xml", "/dashboards", "/dashboards/", "/dashboards/first/", "/dashboards/first", "/dashboards/first/index.html",
    "/dashboards/a/b/", "/dashboards/a", "/dashboards/a/", "/dashboards-plain/first/", "/dashboards-plain/bundle/data.txt", "/dashboards/bundle/", "/dashboards/bundle/data.txt", "/dashboards/été/",
    "/dashboards/index", "/first", "/a/b/", "/bundle", "/media/", "/assets/", "/assets/page.js", "/_api", "/_api/", "/_api/notebooks", "/_api/notebooks/", "/_api/notebooks/first", "/_api/notebooks/a/b.ipynb",
    "/_api/notebooks/bundle", "/_api/notebooks/new", "/_api/notebooks/folder/new/", "/_api/cache", "/_api/cache/", "/_api/cache/first", "/login", "/login/", "/logout", "/healthz", "/readyz", "/metrics", "/openapi.json",
    "/api/kernels", "/dashboards/leak.txt", "/dashboards/leak/", "/dashboards/.hidden/", "/.nbfolio-output", "/dashboards/../../secret.txt", "/notes.txt", "/dashboards/first.ipynb", "/site.toml", "/.nbfolio/state.db",
    "//site.example/", "/dashboards//first/", "/dashboards/first/..", "", "dashboards/first/", "*", "http://site.example/", "/dashboards/pipe", "/notebooks/first", "/dashboards/first/?",
)  # fmt: skip
PARTS = (
    "/dashboards/",
    "/dashboards-plain/",
    "/media/",
    "/assets/",
    "/_api/notebooks/",
    "/_api/cache/",
    "/",
    "/login/",
    "first",
    "a",
    "b",
    "bundle",
    "secret.txt",
    "leak",
    "index",
    ".ipynb",
    ".zip",
    *SEGMENTS,
)
QUERIES = (
    "",
    "",
    "a=b",
    "next=/dashboards/first/",
    "next=//evil.example",
    "next=%2Fdb%2F",
    "next=/db/\\evil.example",
    "x\r\ny",
    "é",
    "&" * 30,
    "a=" + "x" * 9000,
    "%",
    "next=%00",
    "?",
    "\x7f",
    "next=javascript:1",
)
TYPES = (
    "multipart/form-data; boundary=b",
    "multipart/form-data",
    "application/json",
    "application/x-www-form-urlencoded",
    "text/plain",
    "",
    "application/json; charset=utf-16",
)
FORMS = (
    f"username=ada&password={PASSWORD}&next=/db/dashboards/", f"username=ada&password={PASSWORD}&next=//evil.example", "username=ada&password=no", "username=eve&password=no", "username=&password=", "=&&=", "%", "é", "a=1&" * 30,
    json.dumps({"username": "ada", "password": PASSWORD}), json.dumps({"username": "ada", "password": 1}), '{"username": "\\ud800", "password": "x"}', "[" * 3000, "null", "[]", "{}", '{"username": 1e999}',
)  # fmt: skip
NAMES = ("a.ipynb", "a.zip", "a.txt", "../x.ipynb", "")
CONTENTS = (b"", NOTEBOOK, b"{}", b"PK\5\6" + bytes(18), CANARY.encode(), b"[" * 5000)
COOKIES = (
    "{session}",
    "nbfolio={session}",
    "nbfolio=x; nbfolio={session}",
    "nbfolio=x",
    "__Host-nbfolio={session}",
    "__Secure-nbfolio={session}",
    "nbfolio=" + "x" * 5000,
    "nbfolio_user=ada",
    ";" * 200,
    "nbfolio=\x00",
)
TOKENS = (
    ADMIN,
    ADMIN,
    VIEWER,
    f"token {TOKEN}x",
    TOKEN,
    "Basic YTpi",
    "token",
    "bearer  ",
    f"token\t{TOKEN}",
    "é",
    "x" * 9000,
)
ACCEPTS = ("text/html", "application/json", "*/*", "text/html;q=0", *LISTS)
HEADERS: dict[str, tuple[str, ...]] = {
    "HTTP_ACCEPT": ACCEPTS,
    "HTTP_ACCEPT_ENCODING": LISTS,
    "HTTP_IF_NONE_MATCH": LISTS,
    "HTTP_IF_MATCH": LISTS,
    "HTTP_IF_MODIFIED_SINCE": DATES,
    "HTTP_IF_UNMODIFIED_SINCE": DATES,
    "HTTP_RANGE": RANGES,
    "HTTP_IF_RANGE": (*DATES, *LISTS),
    "HTTP_ORIGIN": tuple(f"{scheme}{host}" for scheme in ORIGINS for host in HOSTS[:6]),
    "HTTP_SEC_FETCH_SITE": tuple(site for site in SITES if site),
    "HTTP_SERVICE_WORKER": ("script", "Script", ""),
    "HTTP_X_FORWARDED_FOR": ADDRESSES,
    "HTTP_X_FORWARDED_PROTO": ("https", "http", ""),
    "HTTP_X_FORWARDED_HOST": HOSTS,
    "HTTP_X_FORWARDED_USER": ("ada", "eve", "", "é", "a,b", "<script>"),
    "HTTP_X_HTTP_METHOD_OVERRIDE": METHODS,
    "HTTP_CONTENT_ENCODING": ("gzip", "identity", ""),
    "HTTP_TRANSFER_ENCODING": ("chunked",),
}
USUAL = tuple(
    name
    for name in HEADERS
    if name not in ("HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE", "HTTP_SERVICE_WORKER", "HTTP_X_FORWARDED_HOST")
)
"""Headers that are no reason to refuse a request."""
SAFE_HEADERS = ("X-Content-Type-Options", "Referrer-Policy")


class Asked(NamedTuple):
    """One request: which of the sites, its WSGI variables, its body."""

    site: str
    environ: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Site:
    """One application and what its answers have to keep to."""

    app: WSGIApplication
    base: str
    prefix: str
    """What PATH_INFO begins with."""
    logins: Logins | None


class Sink(logging.Handler):
    """Keeps what the last request logged, as it would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Format as both formatters do."""
        self.lines += [TextLines().format(record), JsonLines().format(record)]


@contextmanager
def target(folder: Path) -> Iterator[Target]:
    """Three sites over one published folder, with things beside it that nobody may see."""
    sink, logger = Sink(), logging.getLogger("shim")
    before = logger.level, logger.propagate
    with closing(State(folder / "state")) as state:
        sites = _sites(folder, state)
        logger.addHandler(sink)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        try:
            yield Target(make, partial(check, folder, sites, sink))
        finally:
            logger.removeHandler(sink)
            logger.setLevel(before[0])
            logger.propagate = before[1]


def _sites(folder: Path, state: State) -> dict[str, Site]:
    source = folder / "source"
    for name in ("first", "a/b", "été", "folder/one"):
        write(
            source,
            f"{name}.ipynb",
            json.dumps(notebook(markdown(f"# {name}\n\n{WORDS}"), code("1 + 1"), canary=CANARY)).encode(),
        )
    write(source, "bundle.zip", one({"index.ipynb": NOTEBOOK, "data.txt": WORDS.encode(), ".env": CANARY.encode()}))
    output = source / "_site"
    build(source, build__jobs=1)
    for name in (
        "secret.txt",
        "source/notes.txt",
        "source/.env",
        "source/_site/.secret",
        "source/_site/dashboards/.hidden/index.html",
        "beside/index.html",
    ):
        write(folder, name, CANARY.encode())
    (output / "dashboards" / "leak.txt").symlink_to(folder / "secret.txt")
    (output / "dashboards" / "leak").symlink_to(folder / "beside")
    tokens = [
        {"name": "ci", "value": TOKEN, "scopes": ["admin"]},
        {"name": "cache", "value": CACHE_TOKEN, "scopes": ["cache"]},
    ]
    hashed = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    common = {"auth.token": tokens, "server.allowed_hosts": ["localhost", "site.example"]}
    closed = {
        "site.base_url": "/db",
        "auth.user": [{"name": "ada", "password_hash": hashed}],
        "auth.user_header": "X-Forwarded-User",
        "server.trusted_proxies": ["10.0.0.0/8"],
    }
    settings: dict[str, dict[str, Any]] = {
        "open": {},
        "closed": closed,
        "shown": {"site.base_url": "[/db]", "server.presentation_mode": True},
    }
    sites = {}
    for name, more in settings.items():
        config = load_config(source, None, {}, {**common, **more})
        parts = parts_of(config, Finished(config), Metrics(), state if name == "closed" else None)
        base = config.site.base_path
        sites[name] = Site(create_app(parts), base, "" if config.site.strips_prefix else base, parts.logins)
    return sites


def make(random: Random) -> Asked:
    """A request to one of the routes, as it should be or changed a little in some of its parts."""
    site, odd = random.choice(("open", "closed", "closed", "shown")), random.randrange(3)
    path = random.choice(PATHS)
    if odd and random.randrange(3) == 0:
        path = joined(random, PARTS, SEPARATORS, 4)
    if odd and random.randrange(3) == 0:
        path = text(random, path, PARTS, 2)
    raw = unquote_to_bytes(wire(path).encode("latin-1")) if random.randrange(6) else wire(path).encode("latin-1")
    if odd and random.randrange(20) == 0:
        raw = data(random, raw, (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"..", b"\0"), 2)
    if site == "closed" and random.randrange(30):
        raw = b"/db" + raw
    query = random.choice(QUERIES)
    environ = {
        "REQUEST_METHOD": _method(random, path),
        "PATH_INFO": raw.decode("latin-1"),
        "QUERY_STRING": wire(text(random, query, (*QUERIES, *CHARACTERS), 1) if odd else query),
        "SCRIPT_NAME": "",
        "REMOTE_ADDR": random.choice(("127.0.0.1", "10.0.0.1", "10.0.0.1", "203.0.113.9", random.choice(ADDRESSES))),
        "HTTP_HOST": random.choice(HOSTS) if odd == 2 and random.randrange(4) == 0 else "localhost:3000",
    }
    names = tuple(HEADERS) if odd == 2 else USUAL
    for name in random.sample(names, random.choice((0, 1, 2, 5))):
        environ[name] = _line(header(random, HEADERS[name]) if odd else wire(random.choice(HEADERS[name])))
    if random.randrange(2):
        environ["HTTP_COOKIE"] = _line(header(random, COOKIES, ("; ", ";")) if odd else "nbfolio={session}")
    if random.randrange(3):
        environ["HTTP_AUTHORIZATION"] = _line(header(random, TOKENS, ("",)) if odd == 2 else random.choice(TOKENS[:3]))
    return Asked(site, environ, _body(random, environ))


def _method(random: Random, path: str) -> str:
    if random.randrange(8) == 0:
        return random.choice(METHODS)
    if "/_api/" in path:
        return random.choice(("GET", "POST", "POST", "DELETE"))
    return random.choice(("POST", "POST", "GET") if path.startswith("/log") else ("GET", "GET", "HEAD"))


def _line(value: str) -> str:
    """What a web server hands on: a header is one line."""
    return re.sub(r"[\r\n\0]", "", value)


def _body(random: Random, environ: dict[str, str]) -> bytes:
    if environ["REQUEST_METHOD"] in ("GET", "HEAD") and random.randrange(10):
        return b""
    is_upload = bool(random.randrange(5)) == ("/_api/" in environ["PATH_INFO"])
    if is_upload:
        environ["CONTENT_TYPE"] = random.choice((TYPES[0], TYPES[0], TYPES[0], random.choice(TYPES)))
        disposition = f'Content-Disposition: form-data; name="file"; filename="{random.choice(NAMES)}"'
        body = f"--b\r\n{disposition}\r\n\r\n".encode() + random.choice(CONTENTS) + b"\r\n--b--\r\n"
    else:
        body = random.choice(FORMS).encode()
        environ["CONTENT_TYPE"] = random.choice((TYPES[2] if body[:1] in b"{[n" else TYPES[3], random.choice(TYPES)))
    if random.randrange(3) == 0:
        body = data(random, body, (b"--b", b"&", b"=", b'"', b"\0", b"\xff", b"%"), 2)
    environ["CONTENT_LENGTH"] = str(len(body)) if random.randrange(6) else random.choice((*NUMBERS, *NUMBERS_LONG, ""))
    return body


def check(folder: Path, sites: dict[str, Site], sink: Sink, asked: Asked) -> None:
    """Send it, and look at everything that came back."""
    site, environ = sites[asked.site], dict(asked.environ)
    session = _session(site) if "{session}" in environ.get("HTTP_COOKIE", "") else ""
    if session:
        environ["HTTP_COOKIE"] = environ["HTTP_COOKIE"].replace("{session}", session)
    sink.lines.clear()
    status, headers, body = _send(site.app, environ, asked.body)
    shown = "\n".join([*(f"{name}: {value}" for name, value in headers), body.decode("utf-8", "replace")])
    assert status != 500, sink.lines
    for word in (*HIDDEN, str(folder), "Traceback", *([session] if session else [])):
        assert word not in shown or _echoed(word, asked), (word, shown[:500])
    _check_headers(environ, status, headers, body, site)
    _check_right(environ, status, body, session, asked, site)
    for line in sink.lines:
        assert line.isprintable() and len(line) < 4000, line
        assert not [
            word for word in (TOKEN, PASSWORD, session) if word and word in line and not _echoed(word, asked)
        ], line


def _echoed(word: str, asked: Asked) -> bool:
    """Whether the request has a word in its path, of which errors tell."""
    return word in asked.environ["PATH_INFO"] or word in asked.environ["QUERY_STRING"]


def _session(site: Site) -> str:
    if site.logins is None:
        return "nobody-0c4d"
    fingerprint = site.logins.accounts.fingerprint("ada")
    assert fingerprint
    return site.logins.sessions.start("ada", fingerprint)


def _send(app: WSGIApplication, given: dict[str, str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        started.append((status, headers))
        return lambda data: None

    environ: dict[str, Any] = {
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(body),
        "wsgi.errors": logging.root,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **given,
    }
    if _conforms(given):
        app = validator(app)
        environ["wsgi.errors"] = _Errors()
    answer: Iterable[bytes] = app(environ, start_response)
    try:
        content = b"".join(answer)
    finally:
        if hasattr(answer, "close"):
            answer.close()
    ((status, headers),) = started
    assert re.fullmatch(r"[1-5][0-9]{2} [A-Za-z' -]+", status), status
    return int(status[:3]), headers, content


class _Errors:
    """Where a server's errors would go."""

    def write(self, text: str) -> None: ...
    def writelines(self, lines: list[str]) -> None: ...
    def flush(self) -> None: ...


def _conforms(environ: dict[str, str]) -> bool:
    """Whether wsgiref's validator takes the request itself for valid."""
    length = environ.get("CONTENT_LENGTH", "0")
    return (
        environ["REQUEST_METHOD"] in VALID
        and environ["PATH_INFO"].startswith("/")
        and bool(re.fullmatch("[0-9]{1,9}", length))
    )


def _check_headers(
    environ: dict[str, str], status: int, headers: list[tuple[str, str]], body: bytes, site: Site
) -> None:
    values = {name.lower(): value for name, value in headers}
    for name, value in headers:
        assert re.fullmatch("[A-Za-z0-9-]+", name), name
        assert value.isprintable() and value.isascii(), (name, value)
    assert len(values) == len([name for name, _ in headers if name != "Set-Cookie"]) + ("set-cookie" in values), headers
    policy = values["content-security-policy"]
    assert "frame-ancestors" in policy
    for name in SAFE_HEADERS:
        assert (name, values[name.lower()]) in CLOSED
    assert values.get("content-length", str(len(body))) == str(len(body)) or environ["REQUEST_METHOD"] == "HEAD"
    if environ["REQUEST_METHOD"] == "HEAD" or status in (204, 304):
        assert not body
    elif status >= 400:
        assert "x-request-id" in values and policy == "frame-ancestors 'none'"
        if values["content-type"] == "application/json":
            fields = json.loads(body)
            assert list(fields) == ["message", "status", "url", "error"]
            assert fields["status"] == status and fields["message"].isprintable()
        else:
            assert values["content-type"] == "text/html; charset=utf-8"
    if "location" in values:
        landing = follow(f"https://site.example{site.base}/login", values["location"])
        assert landing.origin == "https://site.example" and landing.path.startswith(f"{site.base}/"), landing
    else:
        assert status not in (301, 302, 303, 307, 308)


def _check_right(environ: dict[str, str], status: int, body: bytes, session: str, asked: Asked, site: Site) -> None:
    """Who is not let in reads and changes nothing."""
    path = environ["PATH_INFO"].removeprefix(site.prefix)
    if WORDS.encode() in body and site.logins:
        by_proxy = environ["REMOTE_ADDR"].startswith(("10.", "::ffff:10.")) and environ.get("HTTP_X_FORWARDED_USER")
        assert session or by_proxy, environ
    if path.startswith("/_api") and status < 400:
        assert TOKEN in environ.get("HTTP_AUTHORIZATION", "") or CACHE_TOKEN in environ.get("HTTP_AUTHORIZATION", "")
        assert environ["REQUEST_METHOD"] in ("GET", "HEAD", "DELETE")
    # Nothing can be published here, so nothing is ever created or gone.
    assert status not in (201, 507) and (status != 204 or path.startswith("/logout")), status
