"""URLs and output file names: relative, percent-encoded, the same shape in both variants."""

from __future__ import annotations

from posixpath import relpath
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from builder import urls

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda n: n not in (".", "..")
)
FILES = st.lists(NAMES, min_size=1, max_size=5).map("/".join)


@given(FILES, FILES)
def test_relative_is_the_shortest_way_between_two_files(origin: str, target: str) -> None:
    assume(not origin.startswith(f"{target}/"))
    folder = origin.rpartition("/")[0]
    assert unquote(urls.relative(origin, target)) == (relpath(target, folder) if folder else target)


@given(FILES, FILES)
def test_a_browser_finds_the_target_below_any_prefix(origin: str, target: str) -> None:
    base = "http://host/some/prefix/"
    page = base + "/".join(map(urls.quote, origin.split("/")))
    assert unquote(urlsplit(urljoin(page, urls.relative(origin, target))).path) == f"/some/prefix/{target}"


@given(FILES)
def test_no_relative_url_can_leave_its_attribute(target: str) -> None:
    assert not set("\"'<>& \n#?") & set(urls.relative("a/b", target))


@pytest.mark.parametrize(
    ("path", "full", "plain"),
    [
        ("", "dashboards/index.html", "dashboards-plain/index.html"),
        ("a/b c", "dashboards/a/b c/index.html", "dashboards-plain/a/b c/index.html"),
    ],
)
def test_pages_lie_in_a_folder_of_their_own(path: str, full: str, plain: str) -> None:
    assert (urls.page_file("full", path), urls.page_file("plain", path)) == (full, plain)


@given(FILES, FILES)
def test_links_between_pages_are_the_same_in_both_variants(one: str, other: str) -> None:
    links = {urls.relative(urls.page_file(v, one), urls.page_file(v, other)) for v in urls.VARIANTS}
    media = {urls.relative(urls.page_file(v, one), urls.media_file("x.png")) for v in urls.VARIANTS}
    assert len(links) == len(media) == 1


@pytest.mark.parametrize(("origin", "prefix"), [("index.html", ""), ("dashboards/a/index.html", "../../")])
def test_the_root_prefix_climbs_out_of_every_folder(origin: str, prefix: str) -> None:
    assert urls.root_prefix(origin) == prefix


def test_canonical_addresses_need_a_public_address_and_name_the_folder() -> None:
    assert urls.canonical("", "dashboards/a/index.html") == ""
    assert urls.canonical("https://x.org/db/", "dashboards/a b/index.html") == "https://x.org/db/dashboards/a%20b/"
