from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping
from hashlib import sha256
from html import escape, unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mistune import Markdown

import builder.rendering.markdown
from builder.page import REF, Heading, Media
from builder.rendering.formulas import Formulas
from builder.rendering.markdown import MAX_MARKS, MAX_SOURCE, MarkdownRenderer, PageText, _InlineParser
from builder.rendering.references import References

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAADCAYAAAC56t6BAAAAEklEQVR4nGNkYPj/n4GBgYEBAAkFAQGvGtE9AAAAAElFTkSuQmCC"
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="5"/>'


def highlight(source: str, language: str) -> str:
    return f"[{language}]{escape(source, quote=False)}"


RENDERER = MarkdownRenderer(highlight)


def page_of(*cells: str, attachments: Mapping[str, object] | None = None) -> tuple[PageText, list[Media]]:
    media: list[Media] = []
    return PageText(References(), Formulas(cells), media.append, attachments=attachments or {}), media


def render(source: str) -> str:
    page, _ = page_of(source)
    html = RENDERER.render(source, page)
    assert page.findings == page.formulas.findings == []
    return html.strip()


def without_math(html: str) -> str:
    return re.sub(r"<math.*?<annotation[^>]*>(.*?)</annotation></semantics></math>", r"$\1$", html, flags=re.S)


@pytest.mark.parametrize(
    ("source", "html"),
    [
        ("a *b* **c** ~~d~~ `e`", "<p>a <em>b</em> <strong>c</strong> <del>d</del> <code>e</code></p>"),
        ("a  \nb\nc\\\nd", "<p>a<br />\nb\nc<br />\nd</p>"),
        ("- a\n  - b\n\n    c\n1. d", None),
        ("<https://a.org> https://b.org/x?y=1.", None),
        ("a\n: b", "<dl>\n<dt>a</dt>\n<dd>b</dd>\n</dl>"),
        ("> a\n\n---", "<blockquote>\n<p>a</p>\n</blockquote>\n<hr />"),
        ("a &amp; b &copy; <c", "<p>a &amp; b © &lt;c</p>"),
        ("[a](#x 'y\"z')", '<p><a href="#x" title="y&quot;z">a</a></p>'),
        ("a<br>b <kbd>c</kbd>", "<p>a<br>b <kbd>c</kbd></p>"),
        ("<div>\n*a*\n</div>", "<div>\n*a*\n</div>"),
        ("snake_case_name and 2*3*4", "<p>snake_case_name and 2<em>3</em>4</p>"),
        ("\r\na\rb", "<p>a\nb</p>"),
        ("", ""),
    ],
)
def test_markdown_is_rendered_as_in_jupyter(source: str, html: str | None) -> None:
    result = render(source)
    assert result == html or html is None
    assert _balanced(result)


def test_lists_nest_and_bare_urls_are_links() -> None:
    assert render("- a\n  - b") == "<ul>\n<li>a<ul>\n<li>b</li>\n</ul>\n</li>\n</ul>"
    assert render("see https://b.org/x?y=1.") == '<p>see <a href="https://b.org/x?y=1">https://b.org/x?y=1</a>.</p>'


CORPUS = [
    "# Title #\n\nText with *emphasis*, `code`, a [link](x.html) and https://example.org.\n",
    "| a | b |\n|---|:-:|\n| 1 | `x` |\n\n- [ ] open\n- [x] done\n",
    "Term\n: definition with ~~old~~ text\n\n> quote\n> - list\n",
    "- one\n\n  | a | b |\n  |---|---|\n  | 1 | 2 |\n- two\n",
    "a | b\n--|--\n1 | 2\n\n[ref]: http://x.org 'T'\n\n[ref] ![img](y.png)\n",
    "1. a\n   ```python\n   x = 1  # http://a.b\n   ```\n2. <b>b</b> [x]\n",
    "a: b\n\n:not a definition\n\n ~~ no ~~ [ ] http//\n",
    "Plain text\nwith two lines.\n\n    indented | code ~~x~~\n",
]


@pytest.mark.parametrize("source", CORPUS)
def test_fewer_rules_give_the_same_html(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = RENDERER.render(source, page_of(source)[0])
    every = tuple((lambda source: True, plugin) for _, plugin in builder.rendering.markdown._PLUGINS)
    monkeypatch.setattr(builder.rendering.markdown, "_PLUGINS", every)
    assert MarkdownRenderer(highlight).render(source, page_of(source)[0]) == expected


RULE_PIECES = ["|", "-", "\n", "a", ":", " ", "~~", "http://x", "[", "]", "[x]", "- ", "*", "\\", "\n\n", "(b)", "`"]


@given(st.lists(st.sampled_from(RULE_PIECES), max_size=25).map("".join))
def test_fewer_rules_give_the_same_html_for_any_text(source: str) -> None:
    assert EVERY_RULE.render(source, page_of(source)[0]) == RENDERER.render(source, page_of(source)[0])


class _EveryRule(MarkdownRenderer):
    """Always uses the parser with all rules."""

    def _parser(self, source: str) -> tuple[Markdown, _InlineParser]:
        return super()._parser("~~|http[\n: \ufdd0")


EVERY_RULE = _EveryRule(highlight)


def test_every_rule_declares_its_start_characters() -> None:
    # one rule without them turns mistune's fast path off
    inline = EVERY_RULE._parser("")[1]
    assert inline._get_fast_trigger_chars()


# Headings


def test_headings_have_an_anchor_and_are_collected() -> None:
    page, _ = page_of("")
    html = RENDERER.render("# A *b* `c`\n\n## A b c\n\nSetext\n---\n\n# A b c\n", page)
    link = '<a class="anchor" href="#A-b-c" aria-label="Link to this section">¶</a>'
    assert html.startswith(f'<h1 id="A-b-c">A <em>b</em> <code>c</code>{link}</h1>\n')
    assert page.headings == [
        Heading(1, "A-b-c", "A b c"),
        Heading(2, "A-b-c-1", "A b c"),
        Heading(2, "Setext", "Setext"),
        Heading(1, "A-b-c-2", "A b c"),
    ]


def test_ids_are_unique_over_cells_even_when_a_title_looks_numbered() -> None:
    page, _ = page_of("", "")
    for source in ("# x-1\n# x", "# x\n# x-1\n# x"):
        RENDERER.render(source, page)
    ids = [heading.id for heading in page.headings]
    assert len(set(ids)) == len(ids) == 5


@pytest.mark.parametrize(
    ("source", "anchor", "text"),
    [
        ("# a<br>b", "ab", "a b"),
        ("# R&amp;D <b>x</b>", "R&D-x", "R&D x"),
        ("# [Link](x.html) ![alt](y.png)", "Link-alt", "Link alt"),
        ("# Über → 100%", "Über-→-100%", "Über → 100%"),
        ("# The $x^2<y$ law", "The-$x^2<y$-law", "The x^2<y law"),
        ('# "quoted"', '"quoted"', '"quoted"'),
        ("#NoBlank", "NoBlank", "NoBlank"),
        ("# ", "section", ""),
        ("#", "section", ""),
        ("a\nb\n===", "a-b", "a b"),
    ],
)
def test_ids_are_the_text_with_hyphens_for_blanks(source: str, anchor: str, text: str) -> None:
    page, _ = page_of(source)
    html = RENDERER.render(source, page)
    assert page.headings == [Heading(1, anchor, text)]
    assert f'<h1 id="{escape(anchor)}">' in html
    assert f'href="#{escape(anchor)}"' in html


def test_many_equal_headings_take_linear_time() -> None:
    started = time.process_time()
    RENDERER.render("# a\n" * 10_000, page_of("")[0])
    assert time.process_time() - started < 20


# Links, images, raw HTML


def test_links_and_images_go_through_references() -> None:
    page, _ = page_of("")
    page.cell = 4
    html = RENDERER.render("[a](b%20c.ipynb#d) ![x \"y\"](<e f.png> 't') <img src=g.png> [h][i]\n\n[i]: j.csv", page)
    assert '<a href="\x020\x03">a</a>' in html
    assert '<img src="\x021\x03" alt="x &quot;y&quot;" title="t" loading="lazy" decoding="async" />' in html
    assert '<img src="\x022\x03">' in html
    assert [(ref.kind, ref.target, ref.suffix, ref.cell) for ref in page.references.refs] == [
        ("link", "b c.ipynb", "#d", 4),
        ("file", "e f.png", "", 4),
        ("file", "g.png", "", 4),
        ("link", "j.csv", "", 4),
    ]


def test_urls_are_escaped_and_external_images_noted() -> None:
    page, _ = page_of("")
    html = RENDERER.render('[a](http://x/?a=1&b="2) ![i](https://y/i.png)', page)
    assert '<a href="http://x/?a=1&amp;b=%222">' in html
    assert page.references.externals == ["https://y/i.png"]


def test_the_alt_text_of_an_image_is_plain() -> None:
    assert 'alt="a b $x$ &lt;c&gt;"' in render("![a *b* $x$ &lt;c&gt;](/i.png)")


def test_attached_images_become_files() -> None:
    attachments = {
        "a b.png": {"image/png": base64.b64encode(PNG).decode()},
        "s.svg": {"image/png": "AA==", "image/svg+xml": [SVG[:5], SVG[5:]]},
        "t.svg": {"image/svg+xml": base64.b64encode(SVG.encode()).decode()},
    }
    page, media = page_of("", attachments=attachments)
    html = RENDERER.render(
        "![x](<attachment:a b.png>)![](attachment:a%20b.png)<img src='attachment:s.svg'>"
        "![](attachment:t.svg)[l](attachment:t.svg)",
        page,
    )
    png, svg = f"{sha256(PNG).hexdigest()}.png", f"{sha256(SVG.encode()).hexdigest()}.svg"
    assert [(ref.kind, ref.target) for ref in page.references.refs] == [("media", png), ("media", svg)]
    assert {(item.name, item.data) for item in media} == {(png, PNG), (svg, SVG.encode())}
    assert html.count('src="\x020\x03"') == 2
    assert "<img src='\x021\x03'>" in html
    assert 'width="2" height="3" loading="lazy"' in html
    assert '<a href="\x021\x03">l</a>' in html
    assert page.findings == []


@pytest.mark.parametrize(
    "bundle",
    [None, {}, {"text/plain": "x"}, {"image/png": ""}, {"image/png": "é"}, {"image/png": "A"}, "text", ["image/png"]],
)
def test_a_missing_attachment_is_shown_and_reported(bundle: object) -> None:
    page, media = page_of("", attachments={"x<y.png": bundle} if bundle is not None else {})
    page.cell = 2
    html = RENDERER.render("![](attachment:x<y.png) <img src='attachment:x<y.png'>", page)
    assert '<span class="missing">Missing image: x&lt;y.png</span>' in html
    assert "<img src='attachment:x<y.png'>" in html
    assert [(finding.level, finding.cell) for finding in page.findings] == [("warning", 2)] * 2
    assert "x<y.png" in page.findings[0].message
    assert media == []


def test_data_urls_of_images_become_files_however_large() -> None:
    data = PNG + bytes(2_000_000)
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    page, media = page_of("")
    html = RENDERER.render(f"![a]({url}) <img src='{url}'>\n\n`{url}`", page)
    assert {item.data for item in media} == {data}
    assert html.count("\x020\x03") == 2
    assert f"<code>{url}</code>" in html
    assert page.findings == []


def test_raw_html_stays_as_it_is() -> None:
    html = "<div class=\"x\" onclick='f(1)'>\n  <p>a < b\n<script>let a = '$x$' && 1 < 2;</script>\n</div>"
    assert render(html) == html


def test_the_noncharacters_used_inside_never_come_through() -> None:
    assert render("a \ufdd00\ufdd1 $x$ `\ufdd0`").count("\ufffd") == 3


# Code


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("```python\nx < 1\n```", '<code class="language-python">[python]x &lt; 1</code>'),
        ("``` {.r, echo=F}\nx\n```", '<code class="language-r">[r]x</code>'),
        ("~~~ c++ hl=1\nx\n~~~", '<code class="language-c++">[c++]x</code>'),
        ("```\nx < 1\n\n```", "<code>x &lt; 1\n</code>"),
        ("    x < 1\n    y", "<code>x &lt; 1\ny</code>"),
        ("```\"><b>\nx\n```", "<code>x</code>"),
        ("```sh\necho $A $B\n```", '<code class="language-sh">[sh]echo $A $B</code>'),
        ("    $$x$$", "<code>$$x$$</code>"),
    ],
)  # fmt: skip
def test_code_blocks_are_coloured_by_their_language(source: str, code: str) -> None:
    assert render(source) == f'<div class="highlight"><pre tabindex="0">{code}</pre></div>'


def test_code_within_a_line_is_never_a_formula() -> None:
    assert render("`$x$` `` a`$y$ `` `<`") == "<p><code>$x$</code> <code>a`$y$</code> <code>&lt;</code></p>"


# Tables and task lists


def test_tables_scroll_in_a_labelled_region() -> None:
    html = render("|a|b|\n|-|:-|\n|1|2|\n\n- x\n\n  |c|\n  |-|\n  |3|\n")
    assert html.startswith('<div class="table-wrap" tabindex="0" role="region" aria-label="Table 1">\n<table>')
    assert 'style="text-align:left"' in html
    assert 'aria-label="Table 2"' in html


def test_a_bar_in_a_formula_separates_no_cells() -> None:
    html = without_math(render("|a|b|\n|-|-|\n|$P(A|B)$|$|x|$|\n"))
    assert re.findall(r"<td>(.*?)</td>", html) == ["$P(A|B)$", "$|x|$"]


def test_task_lists_show_labelled_boxes() -> None:
    html = render("- [ ] a\n- [x] b\n\n  c\n- [y] d")
    assert html.count('<li class="task-list-item">') == 2
    assert 'type="checkbox" aria-label="To do" disabled />' in html
    assert 'type="checkbox" aria-label="Done" checked disabled />' in html
    assert "[y] d" in html


# Formulas


@pytest.mark.parametrize(
    ("source", "html"),
    [
        ("a $x_1*y*z_2$ b", "<p>a $x_1*y*z_2$ b</p>"),
        ("a $$x$$ b", '<p>a</p>\n<div class="math">$x$</div>\n<p>b</p>'),
        ("a\n$$x\n- y\n\n# z$$\nb", '<p>a</p>\n<div class="math">$x\n- y\n\n# z$</div>\n<p>b</p>'),
        ("$$x$$", '<div class="math">$x$</div>'),
        ("> $$\n> x\n> $$", '<blockquote>\n<div class="math">$x$</div>\n</blockquote>'),
        ("- a\n  $$x$$", '<ul>\n<li>a\n<div class="math">$x$</div></li>\n</ul>'),
        ("*$$x$$*", '<p><em><span class="math">$x$</span></em></p>'),
        ("<b>$$x$$</b> a", '<p><b><span class="math">$x$</span></b> a</p>'),
        (r"\\(x\\) \\[y\\]", '<p>$x$</p>\n<div class="math">$y$</div>'),
        (r"\(x^2\)", "<p>$x^2$</p>"),
        (r"\begin{align}x\end{align}", r'<div class="math">$\begin{align}x\end{align}$</div>'),
        ("$5 and $10", "<p>$5 and $10</p>"),
        (r"\$5 and \\$6", "<p>$5 and $6</p>"),
        ("[$x$](/y)", '<p><a href="/y">$x$</a></p>'),
        ("[a](/y?$b$)", '<p><a href="/y?$b$">a</a></p>'),
        ("<div>\n$x<y$ <pre>$a$</pre> <i title='$b$'>$$z$$</i>\n</div>",
         "<div>\n$x&lt;y$ <pre>$a$</pre> <i title='$b$'><span class=\"math\">$z$</span></i>\n</div>"),
        ("$\\newcommand{\\R}{x}$", ""),
    ],
)  # fmt: skip
def test_formulas_are_mathml_where_they_stand(source: str, html: str) -> None:
    result = render(source)
    assert without_math(result) == html
    assert _balanced(result)


def test_raw_html_has_formulas_outside_of_verbatim_text_only() -> None:
    html = render("<div>\n<pre>$a$ <b>$b$</b></pre> <code>$c$</code> $d &lt; e$ <!-- $f$ -->\n</div>")
    assert "<pre>$a$ <b>$b$</b></pre> <code>$c$</code> <math" in html
    assert "<mo>&lt;</mo>" in html
    assert html.endswith("<!-- $f$ -->\n</div>")
    assert html.count("<math") == 1


def test_references_to_equations_resolve_in_text() -> None:
    html = render("By \\eqref{a_b} and \\ref{a_b}:\n$$x\\label{a_b}$$")
    assert 'By <a href="#eq-a_b">(1)</a> and <a href="#eq-a_b">1</a>:' in html
    assert '<span class="eqno" id="eq-a_b">(1)</span>' in html


def test_what_is_wrong_with_a_formula_is_noted_with_its_cell() -> None:
    page, _ = page_of("")
    page.cell = 9
    assert '<code class="tex">\\nosuch</code>' in RENDERER.render("a $\\nosuch$ b", page)
    assert [finding.cell for finding in page.formulas.findings] == [9]


def test_a_page_does_not_see_what_was_rendered_before() -> None:
    page, _ = page_of("")
    RENDERER.render("$a$ # x", page)
    other, _ = page_of("")
    assert "$b$" in without_math(RENDERER.render("$b$\n# x", other))
    assert other.headings == [Heading(1, "x", "x")]


# Hostile input


def test_a_cell_that_is_too_long_is_shown_as_it_is() -> None:
    page, _ = page_of("")
    source = "<b>*a*</b> $x$" * (MAX_SOURCE // 10)
    assert RENDERER.render(source, page) == f'<pre tabindex="0">{escape(source, quote=False)}</pre>\n'
    assert len(page.findings) == 1


def test_too_many_emphasis_marks_are_shown_as_they_are() -> None:
    page, _ = page_of("")
    source = "*a " * MAX_MARKS + "b* " * MAX_MARKS
    assert RENDERER.render(f"{source}\n\n*c*", page).strip() == f"<p>{source.strip()}</p>\n<p><em>c</em></p>"
    assert len(page.findings) == 1
    RENDERER.render("*a*", page)
    assert len(page.findings) == 1


NESTED = [
    ">" * 50_000 + "a",
    "> - " * 12_000 + "a",
    "- " * 25_000 + "a",
    "\n".join("  " * depth + "- a" for depth in range(200)),
    "\n".join(">" * depth + " a" for depth in range(300)),
    "[" * 25_000 + "a" + "](b)" * 6_000,
    "![" * 25_000,
    "[a](" * 10_000,
    "*a " * 15_000 + "a* " * 15_000,
    "a" + "_" * 50_000 + "a",
    " ".join("`" * length for length in range(300)),
    "<a " * 15_000,
    "<!--" * 12_000,
    "$$" * 25_000 + "\\begin{a}" * 3_000,
    "- a\n" * 12_000,
    "|a" * 20_000 + "\n" + "|-" * 20_000,
    "a\n: b\n" * 6_000,
    "[a]: <" * 8_000,
    "&#" * 25_000,
]


@pytest.mark.parametrize("source", NESTED, ids=lambda source: repr(source[:10]))
def test_hostile_markdown_is_rendered_in_bounded_time(source: str) -> None:
    page, _ = page_of(source)
    started = time.process_time()
    html = RENDERER.render(source, page)
    assert time.process_time() - started < 20
    assert html or not source.strip()


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=80))
def test_any_text_is_rendered_and_keeps_its_letters(source: str) -> None:
    page, _ = page_of(source)
    html = RENDERER.render(source, page)
    assert not re.search("[\ufdd0\ufdd1]", html)
    assert all(int(number) < len(page.references.refs) for number in REF.findall(html))


FORMULA_PIECES = ["$", "$$", "a", " ", "\n", "*", "`", "> ", "- ", "|", "<b>", "</b>", "[", "](x)", "\\[", "\\]", "# "]


@given(st.lists(st.sampled_from([*FORMULA_PIECES, "x^2"]), max_size=20).map("".join))
def test_formulas_anywhere_leave_no_placeholder(source: str) -> None:
    html = RENDERER.render(source, page_of(source)[0])
    assert not re.search("[\ufdd0\ufdd1]|%EF%B7%9[01]", html)


class _Balance(HTMLParser):
    VOID = frozenset({"br", "hr", "img", "input", "mspace"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.right = True

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            # a paragraph ends at a block, whatever was meant
            self.right = self.right and not (tag in ("p", "div", "pre", "table", "ul") and "p" in self.open)
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            self.right = self.right and bool(self.open) and self.open.pop() == tag


def _balanced(html: str) -> bool:
    parser = _Balance()
    parser.feed(html)
    parser.close()
    return parser.right and not parser.open


def test_unescape_gives_back_the_text() -> None:
    assert unescape(re.sub("<[^>]*>", "", render("a < b & c > d \"e\" 'f'"))) == "a < b & c > d \"e\" 'f'"
