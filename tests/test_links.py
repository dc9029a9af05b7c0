"""Public links are complete, percent-encoded, and have one slash at each join."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.settings import Server
from shim.client import Client
from shim.links import public_link

DEFAULT = Server().public_link_pattern
NAMES = st.text(st.characters(exclude_characters="/\\", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


def client(host: str = "192.168.99.100:3000", scheme: str = "http") -> Client:
    """Somebody who asked for a host."""
    return Client("203.0.113.9", "https" if scheme == "https" else "http", host, "", is_direct=True)


@pytest.mark.parametrize(
    ("pattern", "host", "base_path", "link"),
    [
        (DEFAULT, "192.168.99.100:3000", "", "http://192.168.99.100:3000/dashboards/p1"),
        (DEFAULT, "h", "", "http://h/dashboards/p1"),
        (DEFAULT, "H:80", "/db", "http://h:80/db/dashboards/p1"),
        (DEFAULT, "[::1]:3000", "/a/b", "http://[::1]:3000/a/b/dashboards/p1"),
        ("{protocol}://{host}{baseUrl}", "h:1", "/db", "http://h:1/db/dashboards/p1"),
        ("{protocol}://{host}{baseUrl}", "h:1", "", "http://h:1/dashboards/p1"),
        ("{protocol}://{host}/{baseUrl}/", "h:1", "/db", "http://h:1/db/dashboards/p1"),
        ("{protocol}://{host}/{baseUrl}/", "h:1", "", "http://h:1/dashboards/p1"),
        ("{protocol}://{host}//{baseUrl}//", "h:1", "", "http://h:1/dashboards/p1"),
        ("{protocol}://{host}:{port}/{baseUrl}", "h:1", "", "http://h:1/dashboards/p1"),
        ("{protocol}://{host}:{port}/{baseUrl}", "h", "", "http://h/dashboards/p1"),
        ("https://{host}:8443/{baseUrl}", "h:1", "", "https://h:8443/dashboards/p1"),
        ("https://nb.example.org:{port}", "h:1", "/db", "https://nb.example.org:1/dashboards/p1"),
        ("https://nb.example.org:{port}", "h", "/db", "https://nb.example.org/dashboards/p1"),
        ("https://nb.example.org/x/{baseUrl}", "h", "/db", "https://nb.example.org/x/db/dashboards/p1"),
        ("//{host}/{baseUrl}", "h:1", "/db", "//h:1/db/dashboards/p1"),
        ("/{baseUrl}", "h:1", "/db", "/db/dashboards/p1"),
        ("/", "h:1", "", "/dashboards/p1"),
    ],
)
def test_the_pattern_is_filled_in(pattern: str, host: str, base_path: str, link: str) -> None:
    assert public_link(pattern, client(host), base_path, "dashboards/p1") == link
    assert public_link(pattern, client(host), base_path, "/dashboards/p1/") == link


def test_the_protocol_is_the_clients() -> None:
    assert public_link(DEFAULT, client("h", "https"), "", "x") == "https://h/x"


def test_an_empty_pattern_gives_no_link() -> None:
    assert public_link("", client(), "/db", "dashboards/p1") is None


@pytest.mark.parametrize("host", ["", "a b", "evil.example/x", "user@evil.example", "h\r\nX: y", "{baseUrl}"])
def test_a_host_that_cannot_be_read_is_never_in_a_link(host: str) -> None:
    for pattern in (DEFAULT, "https://{host}:{port}/", "https://nb.example.org:{port}/"):
        assert public_link(pattern, client(host), "", "p") is None
    assert public_link("{protocol}://nb.example.org/{baseUrl}", client(host), "", "p") == "http://nb.example.org/p"


@pytest.mark.parametrize(
    ("path", "encoded"),
    [
        ("with space", "with%20space"),
        ("100%", "100%25"),
        ("100%25", "100%2525"),
        ("été", "%C3%A9t%C3%A9"),
        ("q?x#y", "q%3Fx%23y"),
        ("{host}", "%7Bhost%7D"),
        ("{baseUrl}", "%7BbaseUrl%7D"),
        ('a"b<c>', "a%22b%3Cc%3E"),
        ("a:b@c&d=e;f+g", "a:b@c&d=e;f+g"),
        ("\udcff", "%FF"),
    ],
)
def test_the_path_is_percent_encoded_once(path: str, encoded: str) -> None:
    link = public_link(DEFAULT, client("h:3000"), "", f"dashboards/{path}")
    assert link == f"http://h:3000/dashboards/{encoded}"


@given(
    st.sampled_from(["{protocol}://{host}/{baseUrl}", "{protocol}://{host}{baseUrl}", "{protocol}://{host}:{port}/"]),
    st.sampled_from(["", "/db", "/a/b"]),
    st.sampled_from(["h", "h:3000", "[::1]:80"]),
    PATHS,
)
def test_every_link_is_an_address_of_the_path(pattern: str, base_path: str, host: str, path: str) -> None:
    link = public_link(pattern, client(host), base_path, f"dashboards/{path}")
    assert link
    assert link.isascii() and link.isprintable() and " " not in link
    parts = urlsplit(link)
    prefix = base_path if "baseUrl" in pattern else ""
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("http", host, "", "")
    assert unquote(parts.path) == f"{prefix}/dashboards/{path}"
    assert "//" not in parts.path


@given(
    st.lists(
        st.sampled_from(["{protocol}", "://", "{host}", ":", "{port}", "/", "{baseUrl}", "x", "https"]), max_size=9
    ),
    st.text(max_size=12),
    PATHS,
)
def test_no_pattern_leaves_variables_or_doubled_slashes(pattern: list[str], host: str, path: str) -> None:
    link = public_link("".join(pattern), client(host), "/db", path)
    if link is not None:
        assert "{" not in link
        assert "//" not in link[link.find("//") + 2 :] or link.find("//") < 0
