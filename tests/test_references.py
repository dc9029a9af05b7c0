from __future__ import annotations

import time
from html import escape, unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.page import REF, Ref
from builder.rendering.references import References, rewrite_html, segments


def rewritten(html: str) -> tuple[str, References]:
    references = References()
    return rewrite_html(html, references, 3), references


@pytest.mark.parametrize(
    ("url", "target", "suffix"),
    [
        ("a.png", "a.png", ""),
        ("../data/a%20b.csv", "../data/a b.csv", ""),
        ("../data/a b.csv", "../data/a b.csv", ""),
        ("b.ipynb#part-1", "b.ipynb", "#part-1"),
        ("b.ipynb?x=1&y=%20#z?w", "b.ipynb", "?x=1&y=%20#z?w"),
        ("%25.png", "%.png", ""),
        ("%2523.png", "%23.png", ""),
        ("100%.png", "100%.png", ""),
        ("d%C3%A9j%C3%A0.png", "déjà.png", ""),
        ("  a.png\n", "a.png", ""),
        ("./1:2.png", "./1:2.png", ""),
        ("1:2.png", "1:2.png", ""),
    ],
)
def test_a_relative_url_becomes_a_marker_for_its_decoded_path(url: str, target: str, suffix: str) -> None:
    references = References()
    assert references.file(url, 7) == "\x020\x03"
    assert references.refs == [Ref("file", target, suffix, 7, url.strip())]
    assert references.externals == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "#top",
        "?page=2",
        "/absolute/x.png",
        "mailto:a@b.org",
        "javascript:alert('x')",
        "data:image/png;base64,AA==",
        "FTP://h/x",
        "a\\b.png",
        "a\x00b.png",
        "a\nb.png",
        "a%00b.png",
        "a%5Cb.png",
        "a%02b.png",
        "%FF.png",
        "\ud800.png",
        "C:\\x.png",
    ],
)
def test_absolute_urls_anchors_and_invalid_ones_stay_as_they_are(url: str) -> None:
    references = References()
    assert references.file(url, 0) == references.link(url, 0) == escape(url)
    assert not references.refs
    assert not references.externals


@pytest.mark.parametrize("url", ["http://h/a&b.png", "HTTPS://h/", "//h/x.js"])
def test_only_what_the_browser_fetches_from_another_host_is_external(url: str) -> None:
    references = References()
    assert references.link(url, 0) == escape(url)
    assert references.externals == []
    assert references.file(url, 0) == references.file(f" {url}", 1).strip() == escape(url)
    assert references.externals == [url]


def test_the_same_reference_has_one_number_and_link_and_file_differ() -> None:
    references = References()
    values = [references.file("a", 0), references.file("a", 1), references.link("a", 0), references.media("a")]
    assert values == ["\x020\x03", "\x020\x03", "\x021\x03", "\x022\x03"]
    assert [ref.kind for ref in references.refs] == ["file", "link", "media"]


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ('<img src="a.png">', '<img src="\x020\x03">'),
        ("<img src='a.png' alt='x>y'>", "<img src='\x020\x03' alt='x>y'>"),
        ("<IMG alt=x SRC=a.png>", '<IMG alt=x SRC="\x020\x03">'),
        ('<img\n  src = "a.png"\t/>', '<img\n  src = "\x020\x03"\t/>'),
        ("<img src=a.png/>", '<img src="\x020\x03">'),
        ("</p><a href=b.html>x", '</p><a href="\x020\x03">x'),
        ('<video poster="p.png" src="v.mp4">', '<video poster="\x020\x03" src="\x021\x03">'),
        ('<object data="m.svg"></object>', '<object data="\x020\x03"></object>'),
        ('<svg><image xlink:href="a.png"/></svg>', '<svg><image xlink:href="\x020\x03"/></svg>'),
        ('<img srcset="a.png 1x, b.png 2x">', '<img srcset="\x020\x03 1x, \x021\x03 2x">'),
        ('<img srcset=" a.png,b.png 2x , ">', '<img srcset=" \x020\x03 2x , ">'),
        ('<img srcset="a.png, b.png">', '<img srcset="\x020\x03, \x021\x03">'),
        ('<img srcset="data:a;base64,A 1x, a.png 2x">', '<img srcset="data:a;base64,A 1x, \x020\x03 2x">'),
        ('<img title="x"y src="a.png">', '<img title="x"y src="\x020\x03">'),
        ('a < b <img src="a.png">', 'a < b <img src="\x020\x03">'),
        ('<!-- <img src="x"> --><img src="a.png">', '<!-- <img src="x"> --><img src="\x020\x03">'),
        ('<script>"<img src=x>"</SCRIPT ><img src="a.png">', '<script>"<img src=x>"</SCRIPT ><img src="\x020\x03">'),
        ('<!--><img src="a.png">', '<!--><img src="\x020\x03">'),
        ('<img b="1"="2" src="a.png">', '<img b="1"="2" src="\x020\x03">'),
    ],
)
def test_attribute_values_become_markers_whatever_their_quotes(html: str, expected: str) -> None:
    assert rewritten(html)[0] == expected


@pytest.mark.parametrize(
    "html",
    [
        "",
        "src href poster",
        '<img src="/a.png?x=1&amp;y=2">',
        '<img data-src="a.png">',
        "<img src=https://h/a.png>",
        '<a href="#x" title="src">',
        '<base href="x/"><p data="y">',
        '<img alt="src=a.png">',
        '<img src="a.png',
        "<img src='a.png\">",
        '<img src="a.png"',
        '<img src alt="x">',
        '<style>a{background:url(x.png)}</style><p style="background:url(src.png)">',
        "<textarea><img src=a.png></textarea>",
        "<!-- <img src=a.png>",
        "<script>'<img src=a.png>'",
        "<?php <img src=a.png ?>",
        "</a href=x>",
        "< img src=a.png>",
        "<3 src=a.png>",
        '<img srcset="https://h/a,b.png 1x, /c.png (a,b) 2x">',
    ],
)
def test_everything_else_stays_byte_for_byte(html: str) -> None:
    result, references = rewritten(html)
    assert result == html
    assert references.refs == []


def test_entities_in_values_are_decoded_before() -> None:
    _, references = rewritten('<a href="a&amp;b.html?x=1&amp;copy=2&copy=3&#38;d&eacute;"><img src="&lt;é&gt;.png">')
    assert references.refs[0].raw == "a&b.html?x=1&copy=2&copy=3&dé"
    assert references.refs[0].target == "a&b.html"
    assert references.refs[1].target == "<é>.png"


@pytest.mark.parametrize(
    ("html", "kind"),
    [
        ("<a href=x>", "link"),
        ("<area href=x>", "link"),
        ("<link rel=canonical href=x>", "link"),
        ('<link rel="shortcut icon" href=x>', "file"),
        ("<link href=x rel=stylesheet>", "file"),
        ("<iframe src=x>", "file"),
        ("<use href=x>", "file"),
    ],
)
def test_a_link_is_told_from_what_is_fetched(html: str, kind: str) -> None:
    assert [ref.kind for ref in rewritten(html)[1].refs] == [kind]


def test_externals_are_what_the_browser_asks_for_by_itself() -> None:
    _, references = rewritten(
        "<a href=https://a/></a><script src=https://b/></script><link rel=stylesheet href=//c/>"
        "<link rel=author href=//d/>"
        "<img src=https://b/ srcset='http://e/ 2x'><iframe src=//f/></iframe><img alt='https://g/'>"
        "<object data=https://h/></object><link rel=preconnect href=https://i>"
    )
    assert references.externals == ["https://b/", "//c/", "http://e/", "//f/", "https://h/", "https://i"]


@pytest.mark.parametrize("url", ["&#2;0&#3;", "&#x02;0&#x3;", "a&#2;0&#3;b"])
def test_control_characters_written_as_entities_make_no_marker(url: str) -> None:
    result, references = rewritten(f'<img src="{url}"><a href=x>')
    assert [references.refs[int(number)].target for number in REF.findall(result)][-1] == "x"
    assert not any(set("\x02\x03") & set(ref.target + ref.raw) for ref in references.refs)


HOSTILE = [ "<a ", "<a/", '<a x="', "<a x='\"", "<!--", "<!", "</", "</script", "<script>", "<img src=", "&#",
    "<a =",
]  # fmt: skip


@pytest.mark.parametrize(
    ("piece", "size"), [("<", 1_000_000), ("<a" + " a" * 50, 1_000_000), *((piece, 150_000) for piece in HOSTILE)]
)
def test_markup_without_end_takes_linear_time(piece: str, size: int) -> None:
    html = piece * (size // len(piece)) + " src"
    started = time.process_time()
    assert rewritten(html)[0] == html
    # generous: quadratic behaviour takes minutes
    assert time.process_time() - started < 20


@pytest.mark.parametrize("value", [",", "a ", "a,", "a (", "(", " "])
def test_a_long_srcset_takes_linear_time(value: str) -> None:
    html = f'<img srcset="{value * 50_000}">'
    started = time.process_time()
    rewritten(html)
    assert time.process_time() - started < 20


FRAGMENTS = st.lists(
    st.sampled_from(
        ["<", ">", "a", "img", " ", "src", "=", '"', "'", "x.png", "/", "<!--", "-->", "<script>", "</script>", "&amp;",
         "\n", "<a href=", "srcset", ",", "2x", "<img src=\"b\">", "é", "</"]
    ),
    max_size=25,
).map("".join)  # fmt: skip


@given(FRAGMENTS)
def test_segments_are_all_of_the_html(html: str) -> None:
    pieces = [segment for segment, _ in segments(html)]
    assert "".join(html[piece.start : piece.end] for piece in pieces) == html
    assert all(piece.start < piece.end for piece in pieces)


@given(FRAGMENTS)
def test_putting_the_urls_back_gives_what_the_author_wrote(html: str) -> None:
    result, references = rewritten(html)
    back = REF.sub(lambda match: escape(references.refs[int(match[1])].raw), result)
    assert _parsed(back) == _parsed(html)


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.seen: list[object] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = [(name, " ".join((value or "").replace("/", "").split())) for name, value in attrs]
        self.seen.append((tag, values))

    def handle_data(self, data: str) -> None:
        self.seen.append(data)


def _parsed(html: str) -> list[object]:
    parser = _Parser()
    parser.feed(html)
    parser.close()
    return parser.seen


@given(st.text(max_size=60))
def test_any_text_as_a_url_gives_a_marker_or_the_escaped_text(url: str) -> None:
    references = References()
    value = references.link(url, 0)
    if references.refs:
        assert REF.fullmatch(value)
        assert references.refs[0].raw == url.strip(" \t\n\r\f")
        assert not any(character < " " or character == "\\" for character in references.refs[0].target)
    else:
        assert unescape(value) == url or value == escape(url)
