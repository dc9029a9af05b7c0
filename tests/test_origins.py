"""Requests that pages of other sites make a browser send are told by their Origin and Sec-Fetch-Site."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.config import load_config
from shim.origins import is_foreign, is_foreign_page, own_origins

HOST = "notebooks.example.org"
OWN = frozenset({"https://public.example.org", "https://public.example.org:8443"})
WRITING = ("POST", "PUT", "PATCH", "DELETE", "MKCOL", "post", "")
READING = ("GET", "HEAD", "OPTIONS", "TRACE")


@pytest.mark.parametrize("method", READING)
def test_reading_is_nobodys_attack(method: str) -> None:
    assert not is_foreign(method, "https://evil.example", "cross-site", HOST, OWN)


@pytest.mark.parametrize("method", WRITING)
def test_every_method_that_may_change_something_is_checked(method: str) -> None:
    assert is_foreign(method, "https://evil.example", None, HOST, OWN)
    assert is_foreign(method, None, "cross-site", HOST, OWN)
    assert not is_foreign(method, None, None, HOST, OWN)


@pytest.mark.parametrize(
    ("site", "foreign"),
    [
        ("same-origin", False),
        ("none", False),
        ("cross-site", True),
        ("same-site", True),  # a neighbour below the same domain
        ("", True),
        ("Same-Origin", True),
        ("same-origin, same-origin", True),
        ("something-new", True),
    ],
)
def test_what_the_browser_says_of_the_page(site: str, foreign: bool) -> None:
    assert is_foreign_page(None, site, HOST) is foreign
    assert is_foreign_page(f"https://{HOST}", site, HOST) is foreign
    assert is_foreign_page("https://evil.example", site, HOST)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://notebooks.example.org", "notebooks.example.org"),
        ("http://notebooks.example.org", "notebooks.example.org"),
        ("HTTPS://Notebooks.Example.org", "notebooks.example.ORG"),
        ("https://notebooks.example.org", "notebooks.example.org:443"),
        ("http://notebooks.example.org", "notebooks.example.org:80"),
        ("https://notebooks.example.org:443", "notebooks.example.org"),
        ("http://127.0.0.1:3000", "127.0.0.1:3000"),
        ("http://[::1]:3000", "[::1]:3000"),
        ("https://public.example.org", "internal:3000"),
        ("https://public.example.org:443", "internal:3000"),
        ("https://public.example.org:8443", "internal:3000"),
        ("https://public.example.org", ""),
    ],
)
def test_pages_of_the_host_that_was_asked_for_are_ours(origin: str, host: str) -> None:
    assert not is_foreign_page(origin, None, host, OWN)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("null", HOST),  # sandboxed frames, file:// and data: pages
        ("", HOST),
        ("https://evil.example", HOST),
        ("https://notebooks.example.org.evil.example", HOST),
        ("https://evil-notebooks.example.org", HOST),
        ("https://notebooks.example.org:8443", HOST),  # another port is another site
        ("http://notebooks.example.org", f"{HOST}:443"),
        ("https://notebooks.example.org:80", HOST),
        ("https://notebooks.example.org/", HOST),
        ("https://notebooks.example.org/x", HOST),
        ("https://user@notebooks.example.org", HOST),
        ("https://evil.example#notebooks.example.org", HOST),
        ("https://evil.example https://notebooks.example.org", HOST),
        ("https://notebooks.example.org, https://notebooks.example.org", HOST),
        ("notebooks.example.org", HOST),
        ("//notebooks.example.org", HOST),
        ("file://notebooks.example.org", HOST),
        ("chrome-extension://notebooks.example.org", HOST),
        ("https://notebooks.example.org\n", HOST),
        ("https://", ""),
        ("https://a b", "a b"),
        ("https://évil", "évil"),
        ("http://public.example.org", "internal:3000"),
        ("https://public.example.org:444", "internal:3000"),
    ],
)
def test_all_other_pages_are_foreign(origin: str, host: str) -> None:
    assert is_foreign_page(origin, None, host, OWN)
    assert is_foreign_page(origin, "same-origin", host, OWN)


@given(st.text(max_size=40), st.text(max_size=40))
def test_whatever_is_no_origin_is_foreign(origin: str, host: str) -> None:
    if not origin.lower().startswith(("http://", "https://")):
        assert is_foreign_page(origin, None, host, OWN)


@given(st.from_regex(r"[a-z0-9.-]{1,20}(:[0-9]{1,5})?", fullmatch=True), st.sampled_from(["http", "https"]))
def test_an_origin_is_ours_under_its_own_host_alone(host: str, scheme: str) -> None:
    assert not is_foreign_page(f"{scheme}://{host}", None, host)
    assert is_foreign_page(f"{scheme}://{host}", None, f"x{host}")
    assert is_foreign_page(f"{scheme}://x{host}", None, host)


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", set()),
        ("[site]\nurl = 'https://Public.example.org:443/team/'\n", {"https://public.example.org"}),
        ("[server]\npublic_link_pattern = ''\n", set()),
        ("[server]\npublic_link_pattern = 'http://10.0.0.7:3000/{baseUrl}'\n", {"http://10.0.0.7:3000"}),
        ("[server]\npublic_link_pattern = 'http://10.0.0.7:3000{baseUrl}'\n", {"http://10.0.0.7:3000"}),
        (
            "[server]\npublic_link_pattern = '{protocol}://nb.example.org/{baseUrl}'\n",
            {"http://nb.example.org", "https://nb.example.org"},
        ),
        ("[server]\npublic_link_pattern = 'https://{host}.example.org/'\n", set()),
        ("[server]\npublic_link_pattern = 'https://nb.example.org:{port}/'\n", set()),
        ("[server]\npublic_link_pattern = '/{baseUrl}'\n", set()),
        ("[server]\npublic_link_pattern = 'https://user@nb.example.org/'\n", set()),
        (
            "[site]\nurl = 'https://a.example'\n[server]\npublic_link_pattern = 'https://b.example/x/{baseUrl}'\n",
            {"https://a.example", "https://b.example"},
        ),
    ],
)
def test_the_settings_may_name_our_origins(tmp_path: Path, text: str, origins: set[str]) -> None:
    (tmp_path / "site.toml").write_text(text)
    assert own_origins(load_config(tmp_path, None, {}, {})) == origins
