"""What request headers, cookies, queries and targets say: nothing raises, and nobody becomes somebody else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urljoin, urlsplit

from fuzzing.browsers import follow
from fuzzing.engine import Target
from fuzzing.mutation import NUMBERS, NUMBERS_LONG, SURROGATES, joined, text

from builder.formats import link_pattern
from builder.settings import Auth, Token
from shim.answers import HttpError, location
from shim.client import Client, Proxies
from shim.cookies import Cookies
from shim.headers import (
    RangeError,
    accepts_gzip,
    byte_range,
    has_etag,
    host_and_port,
    matches_etag,
    still_holds,
    timestamp,
    wants_html,
)
from shim.links import public_link
from shim.origins import is_foreign
from shim.targets import LONGEST, asked_target, login_location, return_target
from shim.tokens import Tokens, require

BASES = ("", "/db", "/a/b")
TARGETS = (
    "/", "/db/", "/db", "/a/b/", "dashboards/", "evil.example", "https:", "http://", "//", "///", "/\\", "\\\\", "javascript:", "data:",
    "..", ".", "/../", "/..%2f", "%2e%2e", "%2e", "%2f%2f", "%5c", "%5C%5C", "%09", "%0d%0a", "%00", "@", "?", "#", "?next=", "%3f",
    "\t", "\r\nSet-Cookie: a=b", "x" * 5000, "é", "\xa0", "login", "logout", "_api/", "//evil.example/", "/%2e%2e//evil.example",
)  # fmt: skip
HOSTS = (
    "localhost", "LOCALHOST", "site.example", "site.example:443", "site.example:80", "site.example:8080", "127.0.0.1", "[::1]", "[::1]:3000",
    "::1", "site.example.", "evil.example", "site.example@evil.example", "site.example:", "site.example:99999", "site.example, evil.example",
    "", " ", "a_b", "xn--e1afmkfd", "ｓｉｔｅ.example", "site.example/", "site.example:443\\", "[", "[]", "[v1.a]", ":80",
)  # fmt: skip
ORIGINS = (
    "null",
    "https://",
    "http://",
    "HTTPS://",
    "ftp://",
    "file://",
    "https:",
    "//",
    " ",
    "https://site.example https://evil.example",
)
ADDRESSES = (
    "127.0.0.1", "10.0.0.1", "10.255.255.255", "203.0.113.9", "::1", "::ffff:10.0.0.1", "::ffff:203.0.113.9", "2001:db8::1", "fe80::1%eth0",
    "[2001:db8::1]", "[2001:db8::1]:443", "10.0.0.1:8080", "unknown", "_hidden", "", " ", "0", "1.2.3", "010.0.0.1", "1.2.3.4.5", "::", "[::", "localhost",
    "999.1.1.1", "10.0.0.1\t", "\xa010.0.0.1", "0x7f.1", "2130706433",
)  # fmt: skip
LISTS = (
    "gzip", "x-gzip", "identity", "*", "br", "text/html", "application/xhtml+xml", "*/*", "application/json", ";q=0", ";q=0.0", ";q=1", ";q=1.000",
    ";q=0.5", "; q = 1", ";q=", ";q=nan", ";q=1e9", ";q=-1", ";Q=1", ";level=1;q=0.1", ",", ", ", ";", '"abc"', 'W/"abc"', '"', '"a,b"', "W/", "abc", '"abc-gzip"',
)  # fmt: skip
DATES = (
    "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Mon, 01 Jan 0001 00:00:00 +2359",
    "Fri, 31 Dec 9999 23:59:59 -2359", "1 Jan 99999 00:00:00 GMT", "Sun, 06 Nov 1994 25:61:61 GMT", "6 Nov", "Sun, 06 Nov 1994 08:49:37 +999999", "0",
)  # fmt: skip
RANGES = (
    "bytes=0-0",
    "bytes=-1",
    "bytes=0-",
    "bytes=5-2",
    "bytes=-",
    "bytes=0-1,2-3",
    "bytes=-0",
    "BYTES= 1-2 ",
    "items=0-1",
    *(f"bytes={n}-{n}" for n in NUMBERS),
)
TOKENS = ("secret-token", "ünïcode", "snow☃", "secret", "two words")
AUTHORIZATION = (
    "token ",
    "Bearer ",
    "TOKEN\t",
    "Basic ",
    "bearer",
    "token  ",
    ",",
    " ",
    "\t",
    "secret-token",
    "x" * 9000,
    *TOKENS,
)
PATTERNS = (
    "{protocol}://{host}/{baseUrl}", "https://site.example{baseUrl}", "{protocol}://{host}:{port}/{baseUrl}/", "{host}", "", "//{host}//{baseUrl}//",
    "{protocol}://{host}:8080{baseUrl}", "http://[::1]:{port}", "{port}{port}{host}:{host}",
)  # fmt: skip
COOKIES = (
    "nbfolio=abc",
    "__Host-nbfolio=def",
    "__Secure-nbfolio=ghi",
    "nbfolio=",
    "nbfolio",
    "=",
    ";",
    "; ",
    " nbfolio = x",
    '"nbfolio"=1',
    "a=b;" * 200,
    "nbfolio_user=x",
)
METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS", "get", "X")
SITES = (None, "same-origin", "none", "cross-site", "same-site", "", "SAME-ORIGIN", "same-origin, none")

Maker = Callable[[Random], tuple[Any, ...]]
Checker = Callable[..., None]


def wire(value: str) -> str:
    """A text as WSGI shows it: bytes, each as one character."""
    return value.encode("utf-8", "surrogatepass").decode("latin-1")


def header(random: Random, tokens: tuple[str, ...], separators: tuple[str, ...] = (",", ", ", "", " ", ";")) -> str:
    """A header value of some tokens, changed a little."""
    value = joined(random, tokens, separators, random.choice((1, 1, 3, 8, 100)))
    return wire(text(random, value, tokens, 2))


def _redirects(target: str, base: str) -> None:
    assert target.isascii() and target.isprintable() and " " not in target, target
    for page in ("https://site.example/login", "https://site.example/db/login"):
        landing = follow(page, target)
        assert landing.origin == "https://site.example", landing
        assert landing.path.startswith(f"{base}/"), landing
        parts = urlsplit(urljoin(page, target))
        assert (parts.scheme, parts.netloc) == ("https", "site.example")


def make_target(random: Random) -> tuple[Any, ...]:
    asked = text(random, joined(random, TARGETS, ("", "", "/"), 5), TARGETS)
    return random.choice(("return", "asked", "login", "location")), asked, random.choice(BASES)


def check_target(kind: str, asked: str, base: str) -> None:
    """Where a login leads back to stays on the site, as browsers read it."""
    path, _, query = wire(asked).partition("?")
    environ = {"PATH_INFO": f"/{path}", "QUERY_STRING": query, "REQUEST_METHOD": "GET"}
    if kind == "return":
        _redirects(return_target(asked, base), base)
        assert len(return_target(asked, base)) <= LONGEST
    elif kind == "asked":
        _redirects(asked_target(f"next={asked}", base), base)
        _redirects(asked_target(wire(asked), base), base)
    elif kind == "login":
        found = login_location(environ, base)
        _redirects(found, base)
        assert urlsplit(found).path == f"{base}/login"
        _redirects(asked_target(urlsplit(found).query, base), base)
    else:
        # What is redirected to is a page that exists, so its path is a safe one.
        found = location(base, "dashboards/" + asked.replace("/", "").replace("\0", "") + "x", wire(asked))
        _redirects(found, base)


def make_headers(random: Random) -> tuple[Any, ...]:
    kind = random.choice(("list", "date", "range", "host"))
    tokens = {"list": LISTS, "date": DATES, "range": (*RANGES, *NUMBERS_LONG), "host": HOSTS}[kind]
    return kind, header(random, tokens), random.choice((0, 1, 10, 1 << 40))


def check_headers(kind: str, value: str, size: int) -> None:
    """Nothing raises, and what is found lies where it should."""
    if kind == "list":
        assert accepts_gzip(value) in (True, False)
        assert not wants_html(value) or "html" in value.lower()
        assert not has_etag(value, '"abc"') or matches_etag(value, '"abc"')
        assert not matches_etag(value, '"abc"') or value == "*" or '"abc"' in value
    elif kind == "date":
        moment = timestamp(value)
        assert moment is None or abs(moment) < 1 << 40
        assert not still_holds(value, '"abc"', None) or value == '"abc"'
    elif kind == "range":
        try:
            found = byte_range(value, size)
        except RangeError:
            return
        assert found is None or (0 <= found.start < found.stop <= size and found.step == 1)
    elif parts := host_and_port(value):
        name, port = parts
        assert value.lower() == (f"{name}:{port}" if port else name)
        assert re.fullmatch(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]", name)
        assert re.fullmatch("[0-9]{0,5}", port)


def make_client(random: Random) -> tuple[Any, ...]:
    environ = {"REMOTE_ADDR": random.choice(ADDRESSES), "wsgi.url_scheme": random.choice(("http", "https"))}
    given = {
        "HTTP_HOST": HOSTS,
        "HTTP_X_FORWARDED_FOR": ADDRESSES,
        "HTTP_X_FORWARDED_PROTO": ("https", "http", "HTTPS", "ftp", "https,http", ""),
        "HTTP_X_FORWARDED_HOST": HOSTS,
        "HTTP_X_FORWARDED_USER": ("ada", "ada,eve", "", "\x00", "é", "a" * 300, " "),
        "HTTP_FORWARDED": ADDRESSES,
    }
    for name, tokens in given.items():
        if random.randrange(3):
            environ[name] = header(random, tokens, (",", ", ", ""))
    return (
        environ,
        random.choice(((), ("10.0.0.0/8",), ("::1", "127.0.0.1"), ("::ffff:10.0.0.0/104",), ("0.0.0.0/0",))),
    )


def check_client(environ: dict[str, str], trusted: tuple[str, ...]) -> None:
    """Only trusted proxies say who asks, and nobody left of a stranger does."""
    client = Proxies(trusted, "X-Forwarded-User").client(environ)
    networks = [ip_network(text) for text in trusted]
    named = [_plain(hop) for hop in environ.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    peer = _numbers(environ["REMOTE_ADDR"].partition("%")[0])
    believed = peer is not None and any(_within(peer, network) for network in networks)
    assert client.scheme in ("http", "https")
    if not believed:
        assert client.user == ""
        assert client.address == (peer or environ["REMOTE_ADDR"])
        assert (client.scheme, client.host) == (environ["wsgi.url_scheme"], environ.get("HTTP_HOST", ""))
        return
    assert not client.is_direct
    assert client.address == peer or client.address in named
    assert client.user.isprintable() and "," not in client.user and len(client.user) <= 256
    assert client.host == environ.get("HTTP_HOST", "") or host_and_port(client.host)


def _plain(hop: str) -> str | None:
    match = re.fullmatch(r"\s*(?:\[(.*)\](?::\d+)?|([\d.]+):\d+|(.*?))\s*", hop, re.DOTALL)
    return _numbers(next(part for part in match.groups() if part is not None)) if match else None


def _numbers(text: str) -> str | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


def _within(address: str, network: Any) -> bool:
    one = ip_address(address)
    return one in network or (one.version == 4 and network.version == 6 and ip_address(f"::ffff:{address}") in network)


def make_origin(random: Random) -> tuple[Any, ...]:
    origin = None if random.randrange(8) == 0 else text(random, random.choice(ORIGINS) + random.choice(HOSTS), HOSTS, 1)
    host = random.choice(HOSTS) if random.randrange(4) else text(random, random.choice(HOSTS), HOSTS, 1)
    return random.choice(METHODS), origin and wire(origin), random.choice(SITES), host


def check_origin(method: str, origin: str | None, site: str | None, host: str) -> None:
    """A page that may change something is one of this very host, or of an origin that the settings name."""
    own = frozenset({"https://own.example"})
    if is_foreign(method, origin, site, host, own) or method in ("GET", "HEAD", "OPTIONS"):
        return
    assert site in (None, "same-origin", "none")
    if origin is None or origin.lower() in own:
        return
    match = re.fullmatch(r"(https?)://([^/?#@\\\s]+)", origin, re.IGNORECASE)
    assert match
    default = ":443" if match[1].lower() == "https" else ":80"
    assert match[2].lower().removesuffix(default) == host.lower().removesuffix(default)


def make_link(random: Random) -> tuple[Any, ...]:
    pattern = text(random, random.choice(PATTERNS), (*PATTERNS, "/", ":", "{", "}"), 2)
    path = text(random, "dashboards/a/é", (*TARGETS, *SURROGATES[1:3]), 3)
    return pattern, random.choice(HOSTS), random.choice(("http", "https")), random.choice(BASES), path


def check_link(pattern: str, host: str, scheme: str, base: str, path: str) -> None:
    """Links have no blanks, and two slashes at their beginning alone."""
    try:
        pattern = link_pattern(pattern)
    except ValueError:
        return
    link = public_link(pattern, Client("::1", scheme, host, "", True), base, path)  # type: ignore[arg-type]
    if link is None:
        assert not pattern or not host_and_port(host)
        return
    assert not re.search(r"\s", link), link
    assert "//" not in re.sub(r"^[^/]*//", "", link), link
    assert "{" not in link and "}" not in link, link


def make_token(random: Random) -> tuple[Any, ...]:
    return (header(random, AUTHORIZATION, ("", " ")) if random.randrange(9) else None,)


def check_token(value: str | None) -> None:
    """Whoever is let in has sent a token, as UTF-8 or as Latin-1."""
    tokens = _tokens()
    try:
        grant = require(tokens, value, "publish")
    except HttpError:
        return
    assert value is not None
    sent = value.strip(" \t").partition(value.strip(" \t")[:6].rstrip(" \t"))[2].strip(" \t")
    spellings = {known for token in TOKENS for known in (token, wire(token))}
    assert any(sent == known for known in spellings), (sent, grant)


def _tokens() -> Tokens:
    return _TOKENS


_TOKENS = Tokens(Auth(token=tuple(Token(f"t{n}", value, scopes=("publish",)) for n, value in enumerate(TOKENS))))


def make_cookie(random: Random) -> tuple[Any, ...]:
    return (
        header(random, COOKIES, ("; ", ";", "")),
        random.choice(("http", "https")),
        random.choice(BASES),
        random.choice(("ada", "é", "a;b", "\x85", "a b", "\u2028", "a,b=c\\")),
    )


def check_cookie(value: str, scheme: str, base: str, user: str) -> None:
    """A few ids at most, all of them sent; what is set is one line."""
    cookies, client = Cookies(base, 3600), Client("::1", scheme, "localhost", "", True)  # type: ignore[arg-type]
    found = cookies.session_ids({"HTTP_COOKIE": value}, client)
    assert len(found) <= 4
    assert all(one and ";" not in one and f"{cookies.session_name(client)}" in value and one in value for one in found)
    for name, line in [*cookies.begin(client, "abc", user), *cookies.end(client)]:
        assert name == "Set-Cookie"
        assert line.isascii() and line.isprintable()
        assert "; SameSite=Lax" in line and f"; Path={base or '/'};" in line
        assert "=" in line.partition(";")[0] and "," not in line


KINDS: dict[str, tuple[Maker, Checker]] = {
    "target": (make_target, check_target),
    "headers": (make_headers, check_headers),
    "client": (make_client, check_client),
    "origin": (make_origin, check_origin),
    "link": (make_link, check_link),
    "token": (make_token, check_token),
    "cookie": (make_cookie, check_cookie),
}


@contextmanager
def target(folder: Path) -> Iterator[Target]:
    """All pure functions of requests."""
    yield Target(make, check)


def make(random: Random) -> tuple[str, tuple[Any, ...]]:
    """A function, and what it is given."""
    kind = random.choice(tuple(KINDS))
    return kind, KINDS[kind][0](random)


def check(made: tuple[str, tuple[Any, ...]]) -> None:
    """The invariants of that function."""
    KINDS[made[0]][1](*made[1])
