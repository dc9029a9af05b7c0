"""The content-addressed cache: what it gives back is whole, what is damaged counts as missing."""

from __future__ import annotations

import os
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from builder.cache import Cache, digest
from builder.page import Body, Finding, Heading, Media, PageMeta, Ref

BODY = Body(
    html='<p>ü <img src="\x020\x03"></p>',
    meta=PageMeta(title="T", tags=("a",), order=1.5),
    headings=(Heading(1, "t", "T"),),
    refs=(Ref("media", "ab12.png"),),
    media=("ab12.png",),
    findings=(Finding("warning", "odd", 3),),
)
IMAGES = (Media("ab12.png", b"png"),)


def test_a_body_comes_back_equal_with_its_images(tmp_path: Path) -> None:
    Cache(tmp_path).keep("00ff", BODY, IMAGES)
    other_process = Cache(tmp_path)
    assert other_process.body("00ff") == BODY
    assert other_process.media("ab12.png").read_bytes() == b"png"


def test_an_unknown_key_is_none(tmp_path: Path) -> None:
    assert Cache(tmp_path).body("00ff") is None


def test_a_damaged_body_counts_as_missing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.keep("00ff", BODY, IMAGES)
    path = next((tmp_path / "bodies").glob("*/00ff"))
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole + b"x", b"\xc1", b"text"):
        path.write_bytes(damaged)
        assert cache.body("00ff") is None


def test_a_body_whose_image_is_gone_counts_as_missing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.keep("00ff", BODY, IMAGES)
    cache.media("ab12.png").unlink()
    assert cache.body("00ff") is None


def test_prune_forgets_what_is_old_and_keeps_the_rest_and_looks_once_a_day(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.keep("00old", BODY, IMAGES)
    cache.keep("00new", BODY, IMAGES)
    long_ago = time.time() - 40 * 86_400
    os.utime(next((tmp_path / "bodies").glob("*/00old")), (long_ago, long_ago))
    cache.prune()
    assert cache.body("00old") is None
    assert cache.body("00new") == BODY
    os.utime(next((tmp_path / "bodies").glob("*/00new")), (long_ago, long_ago))
    cache.prune()
    assert cache.body("00new") == BODY


def test_a_body_in_use_is_not_pruned(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.keep("00ff", BODY, IMAGES)
    long_ago = time.time() - 40 * 86_400
    for path in (next((tmp_path / "bodies").glob("*/00ff")), cache.media("ab12.png")):
        os.utime(path, (long_ago, long_ago))
    os.link(cache.media("ab12.png"), tmp_path / "published.png")
    assert cache.body("00ff")
    cache.prune()
    assert cache.body("00ff") == BODY


def test_an_image_that_nothing_links_to_is_pruned(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.keep("00ff", BODY, IMAGES)
    long_ago = time.time() - 40 * 86_400
    os.utime(cache.media("ab12.png"), (long_ago, long_ago))
    cache.prune()
    assert not cache.media("ab12.png").exists()


@given(st.lists(st.binary(max_size=8), max_size=5), st.lists(st.binary(max_size=8), max_size=5))
def test_digests_of_different_parts_differ(one: list[bytes], other: list[bytes]) -> None:
    assert (digest(*one) == digest(*other)) == (one == other)
