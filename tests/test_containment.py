from __future__ import annotations

import time
from html.parser import HTMLParser

import nh3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.rendering.containment import contain_html

TAGS = ["div", "b", "span", "table", "tr", "td", "p", "ul", "li", "section", "details", "svg", "a", "pre", "h2", "x-y"]


@pytest.mark.parametrize(
    "html",
    [
        "",
        "text",
        "a &lt; b",
        "<div><b>x</b></div>",
        "<table><tr><td>1<td>2<tr><td>3</table>",
        "<p>one<p>two",
        "<ul><li>a<li>b</ul><br><hr><img src=x>",
        "<div id=a></div><script>if (a < b) { s = '<div><section>' }</script>",
        "<style>a > b { color: red }</style><DIV></div>",
        "<svg viewBox='0 0 1 1'><path d='M0 0'/><g><circle/></g></svg>",
    ],
)
def test_html_that_closes_what_it_opens_is_not_touched(html: str) -> None:
    assert contain_html(html) == html


@pytest.mark.parametrize(
    ("html", "contained"),
    [
        ("<div>a", "<div>a</div>"),
        ("a</div></section>b", "ab"),
        ("</div>text<div>", "text<div></div>"),
        ("<section><div>x</section>y", "<section><div>x</div></section>y"),
        ("<table><tr><td><div>1</td></tr></table>", "<table><tr><td><div>1</div></table>"),
        ("<b>bold", "<b>bold</b>"),
        ("<script>alert(1)", "<script>alert(1)</script>"),
        ("<style>a{}", "<style>a{}</style>"),
        ("<textarea><div>", "<textarea><div></textarea>"),
        ("x<!-- never closed", "x<!-- never closed-->"),
        ("x<!-- never > closed", "x<!-- never > closed-->"),
        ('x<div title="never closed', 'x&lt;div title="never closed'),
        ("<html><head></head><body style='margin:9em'><p>x</p></body></html>", "<p>x</p>"),
        ("<plaintext>a", "a"),
        ("<p>x</p></p></td>y</div>", "<p>x</p>y"),
        ("<div/>x", "<div/>x</div>"),
        ("<svg/>x</div>", "<svg/>x"),
        ("<div>x</div", "<div>x&lt;/div</div>"),
        ("<!-- <div> --></div>", "<!-- <div> -->"),
        ('<a title="<div>"></div></a>', '<a title="<div>"></a>'),
        ("</ <div>x</div>", "&lt;/ <div>x</div>"),
        ("<?php <div>x</div>", "<?php <div>x"),
        ('<script><!-- "<script>"</script>', '<script><!-- "<\\script>"</script>'),
    ],
)
def test_what_is_open_is_closed_and_what_is_stray_is_removed(html: str, contained: str) -> None:
    assert contain_html(html) == contained


markup = st.lists(
    st.one_of(
        st.sampled_from([f"<{tag}>" for tag in TAGS] + [f"</{tag}>" for tag in TAGS]),
        st.sampled_from(
            [
                "text",
                " & ",
                "<br>",
                "<path/>",
                "<svg/>",
                "<",
                "</",
                "<!--",
                "-->",
                "<script>",
                "</script>",
                "<style>",
                "</style>",
                "<textarea>",
                "<div title='",
                '<b class="',
                "<!x",
                "<html>",
                "</body>",
            ]
        ),
    )
).map("".join)


@settings(deadline=None)
@given(markup)
def test_whatever_an_author_writes_stays_inside(html: str) -> None:
    page = f"<main><div id='cell'>{contain_html(html)}</div><i id='last'></i></main>"
    # html5ever, the parser of nh3, reads it as a browser does
    kept = {*TAGS, "main", "i", "br", "path", "textarea"} - {"svg"}
    read = nh3.clean(page, tags=kept, attributes={"*": {"id"}}, clean_content_tags=set(), link_rel=None)
    assert read.startswith('<main><div id="cell">')
    assert read.endswith('</div><i id="last"></i></main>')


@settings(deadline=None)
@given(markup)
def test_containing_twice_changes_nothing_more(html: str) -> None:
    once = contain_html(html)
    assert contain_html(once) == once


class Text(HTMLParser):
    """Collects the text between tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found = ""
        self.feed(html)
        self.close()

    def handle_data(self, data: str) -> None:
        self.found += data


tags = [f"<{tag}>" for tag in TAGS] + [f"</{tag}>" for tag in TAGS]


@settings(deadline=None)
@given(st.lists(st.sampled_from([*tags, "text", " ", "&amp;"])).map("".join))
def test_no_text_is_lost(html: str) -> None:
    assert Text(contain_html(html)).found == Text(html).found


@pytest.mark.parametrize(
    "unit", ["<div>", "</div>", "<b><p>", "<table><td>", "<script>", "<!--", "<", "<a <", "<p></div>", "<a '", "</a"]
)
def test_hostile_nesting_takes_linear_time(unit: str) -> None:
    def seconds(size: int) -> float:
        html = unit * (size // len(unit)) + "</section>"
        start = time.thread_time()
        contain_html(html)
        return time.thread_time() - start

    assert seconds(160_000) < 40 * max(seconds(20_000), 0.002)


@pytest.mark.parametrize(
    "html", ["<</script>/div>", "<</b>/div>", "a <</b></i>/div>", "<</script>div>", "<</b>!--", "<</b>?"]
)
def test_a_stray_tag_that_is_removed_does_not_make_a_tag_of_its_neighbours(html: str) -> None:
    once = contain_html(html)
    assert "<" not in once
    assert contain_html(once) == once
