"""Who asks: forwarding headers are believed from listed proxies alone, and nonsense in them means nothing."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from threading import Thread
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shim.client import MAX_HOPS, Client, Proxies
from shim.server import Server

PROXY = "10.0.0.7"
VISITOR = "203.0.113.9"
HEADERS = {
    "HTTP_X_FORWARDED_FOR": VISITOR,
    "HTTP_X_FORWARDED_PROTO": "https",
    "HTTP_X_FORWARDED_HOST": "notebooks.example.org",
    "HTTP_X_FORWARDED_USER": "ada",
}
TEXT = st.text(st.characters(max_codepoint=255), max_size=60)


def ask(peer: str, trusted: tuple[str, ...] = (PROXY,), user_header: str = "X-Forwarded-User", **more: str) -> Client:
    """The client of a request that `peer` sent with headers."""
    environ = {"REMOTE_ADDR": peer, "wsgi.url_scheme": "http", "HTTP_HOST": "internal:3000", **more}
    return Proxies(trusted, user_header).client(environ)


def came_through(forwarded_for: str, *trusted: str) -> str:
    """The address of a client behind a listed proxy."""
    return ask(PROXY, (PROXY, *trusted), HTTP_X_FORWARDED_FOR=forwarded_for).address


# Nobody is believed but the listed


@pytest.mark.parametrize(
    "peer", [VISITOR, "10.0.0.8", "127.0.0.1", "::1", "", "unix:", "10.0.0.7.evil", "fe80::1%eth0"]
)
@pytest.mark.parametrize("trusted", [(), (PROXY,), ("10.0.0.7/32", "2001:db8::/32")])
def test_forwarding_headers_of_anybody_else_are_ignored(peer: str, trusted: tuple[str, ...]) -> None:
    with_headers, without = ask(peer, trusted, **HEADERS), ask(peer, trusted)
    assert (without.scheme, without.host, without.user) == ("http", "internal:3000", "")
    assert (with_headers.address, with_headers.scheme) == (without.address, without.scheme)
    assert (with_headers.host, with_headers.user) == (without.host, without.user)


def test_only_a_request_without_any_trace_of_a_proxy_is_direct() -> None:
    assert ask("127.0.0.1").is_direct
    for name in ("X_FORWARDED_FOR", "X_FORWARDED_HOST", "X_FORWARDED_PROTO", "X_REAL_IP", "FORWARDED", "VIA"):
        assert not ask("127.0.0.1", **{f"HTTP_{name}": "x"}).is_direct
    assert not ask(PROXY).is_direct


@pytest.mark.parametrize(
    ("trusted", "peer"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("10.0.0.0/8", "10.255.0.1"),
        ("10.0.0.7", "::ffff:10.0.0.7"),
        ("::ffff:10.0.0.0/104", "10.1.2.3"),
        ("2001:db8::/32", "2001:db8:0::1"),
        ("fe80::1", "fe80::1%eth0"),
    ],
)
def test_a_listed_proxy_is_believed_however_its_address_is_written(trusted: str, peer: str) -> None:
    client = ask(peer, (trusted,), **HEADERS)
    assert client == Client(VISITOR, "https", "notebooks.example.org", "ada", is_direct=False)


def test_addresses_are_in_their_shortest_form_without_a_network_card() -> None:
    for peer, address in (("fe80:0::1%eth0", "fe80::1"), ("::ffff:203.0.113.9", VISITOR), ("unix:", "unix:")):
        assert ask(peer).address == address


# X-Forwarded-For


@pytest.mark.parametrize(
    ("forwarded_for", "address"),
    [
        ("", PROXY),
        (VISITOR, VISITOR),
        (f"1.2.3.4, {VISITOR}", VISITOR),  # what the visitor says of itself is hearsay
        (f"127.0.0.1,{VISITOR}", VISITOR),
        (f"1.2.3.4, {VISITOR}, 10.0.0.8", VISITOR),
        (f"1.2.3.4,{VISITOR}\t, 10.0.0.8,10.0.0.9", VISITOR),
        ("10.0.0.9, 10.0.0.8", "10.0.0.9"),  # the visitor is one of the proxies
        ("::ffff:203.0.113.9", VISITOR),
        ("2001:0DB8:0:0::5", "2001:db8::5"),
        ("[2001:db8::5]:4711", "2001:db8::5"),
        ("203.0.113.9:4711", VISITOR),
        ("unknown", PROXY),
        (f"{VISITOR}, unknown, 10.0.0.8", "10.0.0.8"),  # the last good one
        (f"{VISITOR}, ", PROXY),
        (f"{VISITOR}, 10.0.0.256", PROXY),
        (f"{VISITOR}, 010.0.0.8", PROXY),
        ("fe80::1%<script>", PROXY),
        ("[2001:db8::5", PROXY),
        ("1.2.3.4:", PROXY),
        ("2130706433", PROXY),
        ("localhost", PROXY),
        ("１.2.3.4", PROXY),
    ],
)
def test_the_client_is_the_nearest_address_that_is_no_listed_proxy(forwarded_for: str, address: str) -> None:
    assert came_through(forwarded_for, "10.0.0.8/31") == address


def test_a_proxy_list_is_read_up_to_a_limit() -> None:
    assert came_through(",".join([VISITOR, *["10.0.0.8"] * (MAX_HOPS - 1)]), "10.0.0.8") == VISITOR
    assert came_through(",".join([VISITOR, *["10.0.0.8"] * MAX_HOPS]), "10.0.0.8") == "10.0.0.8"
    assert came_through("10.0.0.8," * 100_000 + "10.0.0.8", "10.0.0.8") == "10.0.0.8"


@given(TEXT, st.lists(st.ip_addresses().map(str), max_size=4))
@example("1.2.3.4", [])
def test_what_is_prepended_to_the_visitors_address_changes_nothing(said: str, hops: list[str]) -> None:
    assert came_through(",".join([said, *hops, VISITOR, "10.0.0.8"]), "10.0.0.8") == VISITOR


@given(TEXT, TEXT, TEXT, TEXT)
def test_the_client_is_well_formed_whatever_a_proxy_sends(forwarded_for: str, proto: str, host: str, user: str) -> None:
    client = ask(
        PROXY,
        HTTP_X_FORWARDED_FOR=forwarded_for,
        HTTP_X_FORWARDED_PROTO=proto,
        HTTP_X_FORWARDED_HOST=host,
        HTTP_X_FORWARDED_USER=user,
    )
    assert str(ip_address(client.address)) == client.address
    assert client.scheme in ("http", "https")
    assert client.host
    assert not set(client.host) & set(" ,/\\@?#\r\n\0")
    assert client.user.isprintable()
    assert len(client.user) <= 256


# Scheme, host and user


@pytest.mark.parametrize(
    ("header", "scheme"),
    [
        ("https", "https"),
        ("HTTPS", "https"),
        ("http, https", "https"),
        ("https, http", "http"),
        ("", "http"),
        ("https,", "http"),
        ("wss", "http"),
        ("javascript", "http"),
    ],
)
def test_the_scheme_is_the_last_one_that_the_proxy_names(header: str, scheme: str) -> None:
    assert ask(PROXY, HTTP_X_FORWARDED_PROTO=header).scheme == scheme


def test_a_server_with_tls_of_its_own_is_believed() -> None:
    assert Proxies((), "").client({"REMOTE_ADDR": VISITOR, "wsgi.url_scheme": "https"}).scheme == "https"


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("notebooks.example.org", "notebooks.example.org"),
        ("evil.example, Notebooks.example.org:8443", "Notebooks.example.org:8443"),
        ("[::1]:3000", "[::1]:3000"),
        ("", "internal:3000"),
        ("good.example, ", "internal:3000"),
        ("a b", "internal:3000"),
        ("evil.example/x", "internal:3000"),
        ("user@evil.example", "internal:3000"),
        ("evil.example\r\nX: y", "internal:3000"),
    ],
)
def test_the_host_is_the_last_one_that_the_proxy_names(header: str, host: str) -> None:
    assert ask(PROXY, HTTP_X_FORWARDED_HOST=header).host == host


@pytest.mark.parametrize(
    ("header", "user"),
    [
        ("ada", "ada"),
        (" ada ", "ada"),
        ("Ada Lovelace", "Ada Lovelace"),
        ("ada@example.org", "ada@example.org"),
        ("Zoë".encode().decode("latin-1"), "Zoë"),
        ("a" * 256, "a" * 256),
        ("", ""),
        ("a" * 257, ""),
        ("Zo\xeb", ""),  # not UTF-8
        ("ada\0", ""),
        ("ada\nroot", ""),
        ("ada\x1b[31m", ""),
        ("\u202eada".encode().decode("latin-1"), ""),  # reversed text, for the log to mislead
        ("mallory, ada", ""),  # sent twice: one of the two is not the proxy's
        ("ada, ", ""),
    ],
)
def test_the_user_is_one_printable_name(header: str, user: str) -> None:
    assert ask(PROXY, HTTP_X_FORWARDED_USER=header).user == user


def test_without_a_user_header_in_the_settings_no_header_names_a_user() -> None:
    assert ask(PROXY, user_header="", **HEADERS, HTTP_="root").user == ""
    assert ask(PROXY, user_header="Remote-User", **HEADERS).user == ""
    assert ask(PROXY, user_header="Remote-User", HTTP_REMOTE_USER="ada").user == "ada"


# What the web server makes of headers


@pytest.fixture(scope="module")
def echo() -> Iterator[int]:
    """The port of a server that answers with the client it sees, and trusts 127.0.0.1."""
    proxies = Proxies(("127.0.0.1",), "X-Forwarded-User")

    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        body = json.dumps(vars(proxies.client(environ))).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    server = Server(app, "127.0.0.1", 0)
    thread = Thread(target=server.run)
    thread.start()
    yield server.port
    server.stop()
    thread.join()


def echoed(port: int, *lines: bytes) -> Client:
    """The client that the server sees when these header lines are sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        head = [b"GET / HTTP/1.1", b"Host: localhost", b"Connection: close", *lines]
        connection.sendall(b"\r\n".join([*head, b"", b""]))
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return Client(**json.loads(answer.read()))


def test_the_web_server_leaves_forwarding_headers_to_us(echo: int) -> None:
    client = echoed(echo, b"X-Forwarded-For: 203.0.113.9", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: a.example")
    assert client == Client(VISITOR, "https", "a.example", "", is_direct=False)


def test_repeated_headers_are_one_list_in_their_order(echo: int) -> None:
    client = echoed(echo, b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-For: 203.0.113.9", b"X-Forwarded-For: 127.0.0.1")
    assert client.address == VISITOR


def test_a_user_header_that_comes_twice_names_nobody(echo: int) -> None:
    assert echoed(echo, b"X-Forwarded-User: ada").user == "ada"
    assert echoed(echo, b"X-Forwarded-User: mallory", b"X-Forwarded-User: ada").user == ""


@pytest.mark.parametrize("name", [b"X_Forwarded_User", b"X-Forwarded_User", b"x_forwarded-user"])
def test_headers_with_underscores_are_not_taken_for_those_with_hyphens(echo: int, name: bytes) -> None:
    assert echoed(echo, name + b": mallory", b"X_Forwarded_For: 1.2.3.4").user == ""
    assert echoed(echo, b"X-Forwarded-User: ada", name + b": mallory").user == "ada"
