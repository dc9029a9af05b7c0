"""Nothing of a notebook is lost on the way to its pages: compared with nbconvert, cell by cell, and counted."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
import warnings
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup, Tag
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from making import code, display, error, markdown, notebook, png, png64, result, stream, write
from nbconvert import HTMLExporter
from sites import broken_links, build

from builder.frame import fill
from builder.page import Body, Media, PageOptions
from builder.render import renderer

TREES = ("dashboards", "dashboards-plain")
Notebook = dict[str, Any]


# Two renderings of one notebook, cell by cell


def soup(html: str) -> BeautifulSoup:
    return BeautifulSoup(html, "html.parser")


def ours(content: Notebook) -> tuple[list[Tag], Body, tuple[Media, ...]]:
    """The cells of a notebook as nbfolio draws them, by position; a cell that is not shown is an empty tag."""
    node = nbformat.from_dict(nbformat.convert(nbformat.from_dict(deepcopy(content)), 4))
    body, media = renderer().render(node, PageOptions(name="test"))
    tree = soup(fill(body.html, [ref.target if ref.kind == "media" else ref.raw for ref in body.refs]))
    found = {int(cell["data-cell"]): cell for cell in tree.select(".cell:not([hidden])")}
    return [found.get(number) or soup("").new_tag("section") for number in range(len(node.cells))], body, media


@functools.cache
def _converter() -> HTMLExporter:
    return HTMLExporter()


def theirs(content: Notebook) -> list[Tag]:
    """The cells of a notebook as nbconvert draws them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        html, _ = _converter().from_notebook_node(
            nbformat.from_dict(nbformat.convert(nbformat.from_dict(deepcopy(content)), 4))
        )
    return soup(html).select(".jp-Cell")


DELIMITERS = re.compile(r"\$\$?|\\[\[\]()]|\\\\[\[\]()]")


def text_of(cell: Tag) -> str:
    """The words of a rendered cell: formulas as TeX without delimiters, no anchors and prompts, blanks evened out."""
    cell = deepcopy(cell)
    for tag in cell.select(
        ".anchor, .anchor-link, .prompt, .jp-Prompt, .jp-InputPrompt, .jp-OutputPrompt, .eqno, script, style"
    ):
        tag.decompose()
    for formula in cell.select("math"):
        source = formula.find("annotation")
        assert source, f"a formula without its source: {formula}"
        formula.replace_with(f" {source.get_text()} ")
    return "".join(DELIMITERS.sub("", cell.get_text()).split())


COUNTED = (
    "img", "table", "tr", "td", "th", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "hr", "em", "strong",
    "del", "dl", "dt", "dd", "input", "details", "kbd", "sub", "sup", "video", "iframe", "mark",
)  # fmt: skip


def counted(cell: Tag) -> dict[str, int]:
    """How many of each element that carries meaning there are."""
    return {name: count for name in COUNTED if (count := len(cell.find_all(name)))}


def links(cell: Tag) -> list[str]:
    return [link["href"] for link in cell.select("a[href]:not(.anchor):not(.anchor-link)")]


# Markdown

MARKDOWN = {
    "emphasis": "a *b* **c** ***d*** ~~e~~ `f` snake_case_name 2*3*4 __init__ _under_",
    "headings": "# One\n\n## Two *three*\n\n### Four `five`\n\n#### Six\n\n##### Seven\n\n###### Eight\n\nSetext\n======\n\nSecond\n------",
    "heading-without-blank": "#Heading\n\n##Another",
    "table": "| a | b |\n|---|:-:|\n| 1 | **2** |\n| 3 | `x | y` |\n| [l](m) |  |",
    "table-without-edges": "a | b\n--- | ---\n1 | 2",
    "bullets": "- a\n- b\n  - c\n    - d\n- e\n\n* f\n\n  paragraph in f\n\n+ g",
    "numbers": "1. a\n2. b\n   1. c\n\n7. from seven\n8. eight",
    "tasks": "- [x] done\n- [ ] open\n- not a task [x]",
    "quote": "> a\n> b\n>\n> > c\n\nafter",
    "definition": "Term\n: What it is\n: And more",
    "fences": "```python\ndef f(x):\n    return x < 1 & 2\n```\n\n~~~\nplain <b>\n~~~\n\n```bash\nls $HOME | wc\n```",
    "indented": "text\n\n    indented code <b>\n    more\n\ntext",
    "breaks": "one  \ntwo\\\nthree\nfour\n\n---\n\n***",
    "links": "[a](b.ipynb#c) [d](https://example.org \"title\") <https://example.org/x> https://example.org/y?z=1. [e][ref]\n\n[ref]: f.md",
    "mail": "<me@example.org> and [write](mailto:me@example.org)",
    "images": "![alt](pic.png) ![](other.png \"title\") <img src='third.png' width=30>",
    "raw-html": "<div align='center'>\n<b>bold</b> <kbd>Ctrl</kbd>\n</div>\n\nH<sub>2</sub>O <mark>x</mark> x<sup>2</sup>",
    "html-block-with-markdown": "<details><summary>More</summary>\n\n- **list** inside\n\n</details>",
    "html-table": "<table><tr><th>a</th></tr><tr><td>1</td></tr></table>",
    "video": '<video src="x.mp4" controls></video> <iframe src="https://example.org/embed"></iframe>',
    "entities": "&copy; &amp; &lt;b&gt; &#65; AT&T a < b > c \"quotes\" 'single'",
    "escapes": "\\*not\\* \\_this\\_ \\`nor\\` \\# that \\[x\\] 1\\. y",
    "unicode": "Ünïcödé 漢字 עברית 🎉 e\u0301 \u00a0 – — … ‘’",
    "comment": "before <!-- a comment --> after",
    "inline-math": "Let $a_i^2 + b_{jk}$ and $\\alpha$, $x*y*z$ be.",
    "display-math": "Before\n\n$$\\int_0^1 f(x)\\,dx = \\frac{a_1}{b_2}$$\n\nafter",
    "math-in-list": "- one $a_1$\n- two $$b_2$$",
    "math-in-table": "| f | g |\n|---|---|\n| $a_1$ | $b_2$ |",
    "math-environment": "\\begin{align}\na &= b \\\\\nc &= d\n\\end{align}",
    "math-in-code": "`$not_a_formula$` and\n\n```\n$$nor_this$$\n```",
    "price": "It costs \\$5 and no more.",
    "adjacent": "*a*b **c**d `e`f [g](h)i",
    "nested": "1. a\n\n   ```\n   code\n   ```\n\n   > quote\n\n2. b",
    "empty-link": "[](x) [ ](y) [a]() []()",
    "long": "word " * 3000,
    "lazy": "> quote\nlazy\n\n- item\nlazy",
    "two-alike": "## Same\n\n## Same",
}  # fmt: skip

FORMULAS = {
    "inline-math": 3, "display-math": 1, "math-in-list": 2, "math-in-table": 2, "math-environment": 1,
    "math-in-code": 0, "price": 0,
}  # fmt: skip


@functools.cache
def rendered_markdown() -> dict[str, tuple[Tag, Tag]]:
    content = notebook(*(markdown(source) for source in MARKDOWN.values()))
    return dict(zip(MARKDOWN, zip(ours(content)[0], theirs(content), strict=True), strict=True))


@pytest.mark.parametrize("name", MARKDOWN)
def test_a_markdown_cell_says_what_nbconvert_says(name: str) -> None:
    mine, other = rendered_markdown()[name]
    assert text_of(mine) == text_of(other)
    assert counted(mine) == counted(other)
    assert links(mine) == [unquote(link) if "%" in link else link for link in links(other)]


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_are_drawn_where_they_are_and_only_there(name: str) -> None:
    mine, _ = rendered_markdown()[name]
    assert len(mine.find_all("math")) == FORMULAS[name]
    assert not mine.select("code.tex")


def test_what_nbconvert_gets_wrong_is_right() -> None:
    fence = "```ipython\nIn [1]: %time\n```\n\n```nosuchlanguage\nplain\n```"
    content = notebook(
        markdown(fence),
        markdown("# A → B"),
        markdown("# a<br>b"),
        markdown("## Same"),
        markdown("## Same"),
        code("w", display({"image/png": png64()})),
        markdown("1. a\n\n   | x | y |\n   |---|---|\n   | 1 | 2 |\n\n2. b"),
    )
    cells, body, _ = ours(content)
    assert text_of(cells[0]) == "In[1]:%timeplain", "the language of a fence is no part of its code"
    heading = cells[1].find("h1")
    assert isinstance(heading, Tag)
    assert heading["id"] == "A-→-B", "not percent-encoded"
    assert cells[2].select("h1[id] a.anchor"), "a heading that is not well-formed XML has an anchor too"
    ids = [tag["id"] for cell in cells for tag in cell.select("h2[id]")]
    assert ids == ["Same", "Same-1"]
    image = cells[5].find("img")
    assert isinstance(image, Tag)
    assert "No description" not in str(image)
    assert counted(cells[6]) == {"ol": 1, "li": 2, "table": 1, "tr": 2, "th": 2, "td": 2}, (
        "tables in lists, as JupyterLab has"
    )
    assert not body.findings


def test_a_missing_attachment_and_old_widget_state_do_not_lose_the_notebook() -> None:
    missing = markdown("before ![picture](attachment:gone.png) after")
    content = notebook(missing, code("x", stream("kept\n")), widgets={"state": {}, "version": "1.1.2"})
    cells, body, _ = ours(content)
    assert text_of(cells[0]).startswith("before")
    assert text_of(cells[0]).endswith("after")
    assert "kept" in text_of(cells[1])
    assert any("gone.png" in finding.message for finding in body.findings)


def test_attachments_are_drawn_from_the_cell_that_holds_them() -> None:
    one, two = markdown("![a](attachment:x.png)"), markdown("![a](attachment:x.png) ![b](attachment:ein%20Bild.png)")
    one["attachments"] = {"x.png": {"image/png": png64(shade=1)}}
    two["attachments"] = {"x.png": {"image/png": png64(shade=2)}, "ein Bild.png": {"image/png": png64(shade=3)}}
    cells, _, media = ours(notebook(one, two))
    data = {item.name: item.data for item in media}
    drawn = [[data[str(image["src"])] for image in cell.find_all("img")] for cell in cells]
    assert drawn == [[png(shade=1)], [png(shade=2), png(shade=3)]]


# Outputs

FRAME = (
    '<div><style scoped>.dataframe td {vertical-align: top}</style><table border="1" class="dataframe"><thead><tr><th></th>'
    "<th>a</th></tr></thead><tbody><tr><th>0</th><td>1.5</td></tr></tbody></table></div>"
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><text>in the picture</text></svg>'
ANSI = "\x1b[0;31mred\x1b[0m \x1b[1mbold\x1b[22m \x1b[38;5;200mpink\x1b[0m \x1b[48;2;1;2;3mdeep\x1b[0m <tag> & done"

OUTPUTS = {
    "stream": [stream("plain <b> & \"quotes\"\n  indented\n\ttab\n")],
    "stderr": [stream("warning\n", "stderr")],
    "both": [stream("out\n"), stream("err\n", "stderr"), stream("out again\n")],
    "ansi": [stream(ANSI)],
    "text": [result("array([1, 2,\n       3])")],
    "frame": [result({"text/html": FRAME, "text/plain": "   a\n0  1.5"})],
    "picture": [display({"image/png": png64(5, 4), "text/plain": "<Figure>"})],
    "pictures": [display({"image/png": png64(5, 4, shade)}) for shade in (1, 2, 3)],
    "error": [error("ValueError", "it <broke>", "\x1b[0;31m-----\x1b[0m", "Traceback <module>", "\x1b[0;31mValueError\x1b[0m: it <broke>")],
    "markdown": [display({"text/markdown": "**bold** and\n\n- a\n- b", "text/plain": "plain"})],
    "latex": [display({"text/latex": "$\\displaystyle x^{2} + 1$", "text/plain": "x**2 + 1"})],
    "html": [display({"text/html": "<p>one <em>two</em></p><ul><li>three</li></ul>", "text/plain": "x"})],
    "several": [stream("a\n"), result("b"), display({"image/png": png64()}), stream("c\n"), result({"text/html": "<b>d</b>"})],
    "unicode": [stream("漢字 🎉 é\u0301 \u202e → ∑\n")],
    "long": [stream("".join(f"row {number}\n" for number in range(3000)))],
    "empty-line": [stream("\n\na\n\n\nb\n")],
}  # fmt: skip


@functools.cache
def rendered_outputs() -> dict[str, tuple[Tag, Tag]]:
    content = notebook(*(code(f"make({name!r})", *outputs) for name, outputs in OUTPUTS.items()))
    return dict(zip(OUTPUTS, zip(ours(content)[0], theirs(content), strict=True), strict=True))


def output_part(cell: Tag, selector: str) -> Tag:
    part = cell.select_one(selector)
    assert part, f"no {selector} in {cell}"
    return part


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_say_what_nbconvert_says(name: str) -> None:
    cell, other_cell = rendered_outputs()[name]
    mine, other = output_part(cell, ".outputs"), output_part(other_cell, ".jp-Cell-outputWrapper")
    assert text_of(mine) == text_of(other)
    assert counted(mine) == counted(other)
    assert len(mine.find_all("svg")) == len(other.find_all("svg"))
    assert output_part(cell, ".input code").get_text().strip() == f"make({name!r})"


def test_an_svg_is_drawn_whole() -> None:
    cells, _, media = ours(notebook(code("s", display({"image/svg+xml": SVG, "text/plain": "a figure"}))))
    stored = b"".join(item.data for item in media).decode()
    assert "in the picture" in str(cells[0]) + stored
    assert len(cells[0].find_all(["svg", "img"])) == 1


def test_prompts_are_those_of_the_notebook() -> None:
    cells, _, _ = ours(
        notebook(code("a", result("1", 7), count=7), code("b", count=None), code("c", result("2", 12), count=12))
    )
    assert [[prompt.get_text() for prompt in cell.select(".prompt")] for cell in cells] == [
        ["[7]:", "[7]:"],
        ["[ ]:"],
        ["[12]:", "[12]:"],
    ]


def test_an_output_that_nothing_can_draw_shows_its_text() -> None:
    kinds = ["application/x-unheard-of", "application/vnd.jupyter.widget-view+json", "application/vnd.plotly.v1+json"]
    kinds += ["application/vnd.vegalite.v5+json", "application/vnd.bokehjs_exec.v0+json"]
    cells, _, _ = ours(
        notebook(
            *(code("x", display({kind: {"model_id": "m"}, "text/plain": f"text {n}"})) for n, kind in enumerate(kinds))
        )
    )
    assert [f"text{n}" in text_of(cell) for n, cell in enumerate(cells)] == [True] * len(kinds)


TAGGED = {
    "hide-input": (False, True), "hide_input": (False, True), "remove-input": (False, True), "remove_input": (False, True),
    "hide-output": (True, False), "remove-output": (True, False), "remove-cell": (False, False), "hide-cell": (False, False),
}  # fmt: skip


@pytest.mark.parametrize("tag", TAGGED)
def test_a_tag_takes_away_just_what_it_names(tag: str) -> None:
    cells, body, _ = ours(
        notebook(code("the_source", stream("the output\n"), tags=[tag]), code("other", stream("kept\n")))
    )
    source, output = TAGGED[tag]
    open_text = deepcopy(cells[0])
    for fold in open_text.select("details"):
        fold.decompose()
    assert ("the_source" in open_text.get_text(), "the output" in open_text.get_text()) == (source, output)
    hidden = tag.startswith("hide")
    assert ("the_source" in body.html, "the output" in body.html) == (source or hidden, output or hidden)
    assert "kept" in cells[1].get_text()


def version_3() -> Notebook:
    """A notebook as IPython 2 wrote them."""
    outputs: list[dict[str, Any]] = [
        {"output_type": "stream", "stream": "stdout", "text": ["printed\n"]},
        {"output_type": "pyout", "prompt_number": 3, "text": ["42"], "html": ["<b>42</b>"], "metadata": {}},
        {"output_type": "display_data", "png": png64(6, 5, 99), "metadata": {}},
        {"output_type": "pyerr", "ename": "KeyError", "evalue": "'x'", "traceback": ["Traceback", "KeyError: 'x'"]},
    ]
    cells = [
        {"cell_type": "heading", "level": 2, "metadata": {}, "source": ["A heading cell"]},
        {"cell_type": "markdown", "metadata": {}, "source": ["Some *text* with $x^2$"]},
        {"cell_type": "code", "collapsed": False, "input": ["print(1)"], "language": "python", "metadata": {}, "outputs": outputs, "prompt_number": 3},
        {"cell_type": "raw", "metadata": {}, "source": ["raw text"]},
    ]  # fmt: skip
    return {
        "nbformat": 3,
        "nbformat_minor": 0,
        "metadata": {"name": "old"},
        "worksheets": [{"cells": cells, "metadata": {}}],
    }


def test_a_notebook_of_nbformat_3_is_whole(tmp_path: Path) -> None:
    write(tmp_path, "old.ipynb", version_3())
    assert build(tmp_path).failed == 0
    other = theirs(nbformat.reads(json.dumps(version_3()), as_version=4))
    for tree in TREES:
        page = soup((tmp_path / "_site" / tree / "old/index.html").read_text(encoding="utf-8"))
        mine = {int(cell["data-cell"]): cell for cell in page.select(".cell")}
        for number in (0, 1):
            assert text_of(mine[number]) == text_of(other[number])
            assert counted(mine[number]) == counted(other[number])
        outputs = output_part(mine[2], ".outputs")
        assert text_of(outputs) == text_of(output_part(other[2], ".jp-Cell-outputWrapper"))
        assert len(outputs.find_all("img")) == 1
        assert "raw text" in mine[3].get_text()
    assert (tmp_path / "_site/media" / f"{hashlib.sha256(png(6, 5, 99)).hexdigest()}.png").read_bytes() == png(6, 5, 99)


# Any notebook

WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=12)
TEX = st.sampled_from(
    [r"a_1", r"x^2+y", r"\frac{a}{b}", r"\sum_{i=1}^n i", r"\alpha\beta", r"\sqrt{2}", r"a<b", r"\left(x\right)"]
)
PRINTED = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn", "Co", "Zl", "Zp")), max_size=60)


def piece(number: int) -> st.SearchStrategy[tuple[str, int]]:
    """A block of Markdown with the number of formulas in it."""
    return st.one_of(
        WORDS.map(lambda word: (f"a *{word}* and **{word}** `{word}`", 0)),
        WORDS.map(lambda word: (f"### {word}", 0)),
        st.lists(WORDS, min_size=1, max_size=4).map(lambda words: ("\n".join(f"- {word}" for word in words), 0)),
        st.lists(WORDS, min_size=2, max_size=3).map(
            lambda words: (f"| {' | '.join(words)} |\n|{'---|' * len(words)}\n| {' | '.join(words)} |", 0)
        ),
        TEX.map(lambda tex: (f"the formula ${tex}$ in a line", 1)),
        TEX.map(lambda tex: (f"$$\n{tex}\n$$", 1)),
        st.tuples(TEX, TEX).map(lambda pair: (f"\\begin{{align}}\n{pair[0]} &= {pair[1]}\n\\end{{align}}", 1)),
        WORDS.map(lambda word: (f"```python\n{word} = 1 < 2\n```", 0)),
        WORDS.map(lambda word: (f"> {word}", 0)),
        WORDS.map(lambda word: (f"<div><b>{word}</b></div>", 0)),
    )


MARKDOWN_CELLS = st.lists(piece(0), min_size=1, max_size=5).map(
    lambda pieces: (markdown("\n\n".join(source for source, _ in pieces)), sum(count for _, count in pieces))
)
OUTPUT = st.one_of(
    PRINTED.map(lambda text: stream(f"{text}\n")),
    PRINTED.map(lambda text: stream(f"{text}\n", "stderr")),
    PRINTED.map(lambda text: result(text or "x")),
    WORDS.map(lambda word: result({"text/html": f"<table><tr><td>{word}</td></tr></table>", "text/plain": word})),
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 255)).map(
        lambda p: display({"image/png": png64(*p), "text/plain": "F"})
    ),
    st.tuples(WORDS, PRINTED).map(
        lambda pair: error(pair[0], pair[1], f"Traceback {pair[1]}", f"{pair[0]}: {pair[1]}")
    ),
)
CODE_CELLS = st.tuples(PRINTED, st.lists(OUTPUT, max_size=4)).map(lambda pair: (code(pair[0], *pair[1]), 0))
NOTEBOOKS = st.lists(st.one_of(MARKDOWN_CELLS, CODE_CELLS), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(NOTEBOOKS)
def test_any_notebook_says_what_nbconvert_says(drawn: list[tuple[dict[str, Any], int]]) -> None:
    content = notebook(*(deepcopy(cell) for cell, _ in drawn))
    cells, body, media = ours(content)
    assert not [finding for finding in body.findings if "formula" in finding.message.lower()]
    stored = {item.name: item.data for item in media}
    for mine, other, (source, formulas) in zip(cells, theirs(content), drawn, strict=True):
        if source["cell_type"] == "markdown":
            assert text_of(mine) == text_of(other)
            assert counted(mine) == counted(other)
            assert len(mine.find_all("math")) == formulas
            continue
        if source["source"].strip():
            assert output_part(mine, ".input code").get_text().strip("\n") == source["source"].strip("\n")
        pictures = [
            base64.b64decode(output["data"]["image/png"])
            for output in source["outputs"]
            if "image/png" in output.get("data", {})
        ]
        assert [stored[str(image["src"])] for image in mine.select(".outputs img")] == pictures
        if source["outputs"]:
            assert text_of(output_part(mine, ".outputs")) == text_of(output_part(other, ".jp-Cell-outputWrapper"))


# Links and files of a site

NAMES = st.text(st.sampled_from("ab ä漢#%?&+'\"()[]é~!,;=@$_-."), min_size=1, max_size=8).map(lambda name: f"n{name}z")
URL_WAYS = ("markdown", "angle", "anchor", "image")
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)
"""Without shrinking, which would build hundreds of sites."""


class Link:
    """A link of a notebook to something in the site, and where it must lead."""

    def __init__(self, number: int, origin: str, target: str, way: str) -> None:
        self.number, self.origin, self.target, self.way = number, origin, target, way
        up = origin.count("/")
        self.path = "../" * up + target

    @property
    def source(self) -> str:
        if self.way == "image":
            return f'<img src="{quote(self.path)}" alt="L{self.number}">'
        if self.way == "anchor":
            return f'<a href="{quote(self.path)}#part">L{self.number}</a>'
        if self.way == "angle":
            return f"[L{self.number}](<{quote(self.path, safe='/ äé漢')}>)"
        return f"[L{self.number}]({quote(self.path)})"


@st.composite
def sites(draw: st.DrawFn) -> tuple[list[str], list[str], list[Link]]:
    """Notebooks and files in folders, and links among them."""
    folders = ["", *draw(st.lists(NAMES.map(lambda name: f"{name}/"), max_size=2, unique_by=str.lower))]
    stems = draw(
        st.lists(
            st.tuples(st.sampled_from(folders), NAMES),
            min_size=2,
            max_size=4,
            unique_by=lambda p: (p[0] + p[1]).lower(),
        )
    )
    notebooks = [f"{folder}{stem}.ipynb" for folder, stem in stems]
    files = [f"{folder}f{number}{draw(NAMES)}.png" for number, folder in enumerate(folders)]
    links_: list[Link] = []
    for origin in notebooks:
        for _ in range(draw(st.integers(1, 4))):
            way = draw(st.sampled_from(URL_WAYS))
            target = draw(st.sampled_from(files if way == "image" else [*notebooks, *files]))
            links_.append(Link(len(links_), origin, target, way))
    return notebooks, files, links_


def expected(link: Link, tree: str) -> str:
    return (
        f"{tree}/{link.target.removesuffix('.ipynb')}/index.html"
        if link.target.endswith(".ipynb")
        else f"{tree}/{link.target}"
    )


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), phases=QUICK)
@given(sites())
def test_every_link_leads_to_its_target_in_both_variants(
    tmp_path_factory: pytest.TempPathFactory, drawn: tuple[list[str], list[str], list[Link]]
) -> None:
    notebooks, files, links_ = drawn
    folder = tmp_path_factory.mktemp("links")
    for name in notebooks:
        text = "# Part\n\n" + "\n\n".join(link.source for link in links_ if link.origin == name)
        write(folder, name, notebook(markdown(text)))
    for name in files:
        write(folder, name, png())
    report = build(folder, build__jobs=1)
    assert report.failed == 0
    assert [page.message for page in report.pages if page.message] == []
    for tree in TREES:
        for link in links_:
            place = f"{tree}/{link.origin.removesuffix('.ipynb')}/index.html"
            page = soup((folder / "_site" / place).read_text(encoding="utf-8"))
            name = f"L{link.number}"
            tag = page.find("img", alt=name) if link.way == "image" else page.find("a", string=name)
            assert isinstance(tag, Tag), name
            parts = urlsplit(urljoin(f"http://host/{quote(place)}", str(tag["src" if link.way == "image" else "href"])))
            assert unquote(parts.path) == f"/{expected(link, tree)}"
            assert parts.fragment == ("part" if link.way == "anchor" else "")
            assert (folder / "_site" / expected(link, tree)).is_file()
    assert broken_links(folder / "_site") == []


def test_every_way_to_refer_to_a_file_is_followed(tmp_path: Path) -> None:
    html = (
        '<img src="a/1.png" srcset="a/2.png 1x, a/3.png 2x"><video poster="a/4.png"><source src="a/5.mp4"></video>'
        '<picture><source srcset="a/6.png"><img src="a/7.png"></picture><object data="a/8.svg"></object>'
        "<audio src='a/9.mp3'></audio><a href=a/10.txt>x</a><iframe src=\"a/11.html\"></iframe>"
    )
    names = [
        "1.png",
        "2.png",
        "3.png",
        "4.png",
        "5.mp4",
        "6.png",
        "7.png",
        "8.svg",
        "9.mp3",
        "10.txt",
        "11.html",
        "12.png",
        "13.png",
    ]
    for name in names:
        write(tmp_path, f"deep/a/{name}", f"content of {name}")
    output = display({"text/html": '<img src="a/13.png">', "text/plain": "x"})
    write(tmp_path, "deep/n.ipynb", notebook(markdown(f"{html}\n\n![x](a/12.png)"), code("x", output)))
    report = build(tmp_path)
    assert [page.message for page in report.pages] == [""]
    for tree in TREES:
        page = (tmp_path / "_site" / tree / "deep/n/index.html").read_text()
        for name in names:
            assert (tmp_path / "_site" / tree / "deep/a" / name).read_text() == f"content of {name}"
            assert f"../a/{name}" in page, name
    assert broken_links(tmp_path / "_site") == []


def test_what_does_not_resolve_stays_as_written_and_is_reported(tmp_path: Path) -> None:
    write(tmp_path, "n.ipynb", notebook(markdown("[a](gone.ipynb#x) ![b](gone.png) <a href='no where.txt'>c</a>")))
    message = build(tmp_path).pages[0].message
    assert "cell 0" in message or "cell 1" in message
    for tree in TREES:
        page = soup((tmp_path / "_site" / tree / "n/index.html").read_text())
        cell = output_part(page, ".cell")
        assert links(cell) == ["gone.ipynb#x", "no where.txt"]
        assert [image["src"] for image in cell.find_all("img")] == ["gone.png"]


# Other hosts


def fetched(html: str) -> Iterator[str]:
    """URLs that a browser asks for by itself when it opens a page."""
    page = soup(html)
    for tag in page.find_all(True):
        for name in ("src", "poster", "data", "background", "xlink:href") + (
            ("href",) if tag.name in ("link", "use", "image") else ()
        ):
            if isinstance(value := tag.get(name), str) and (name != "xlink:href" or tag.name != "a"):
                yield value
        if isinstance(value := tag.get("srcset"), str):
            yield from (item.split()[0] for item in value.split(",") if item.split())
        if isinstance(value := tag.get("style"), str):
            yield from re.findall(r"url\(\s*['\"]?([^'\")]+)", value)
    for style in page.find_all("style"):
        yield from css_urls(style.get_text())


def css_urls(css: str) -> list[str]:
    return re.findall(r"url\(\s*['\"]?([^'\")]+)", css) + re.findall(r"@import\s+['\"]([^'\"]+)", css)


def external(urls: Iterator[str]) -> set[str]:
    return {url for url in urls if urlsplit(url).netloc or urlsplit(url).scheme in ("http", "https", "ws", "wss")}


AUTHORS = {"https://pictures.example.org/a.png", "https://cdn.example.org/lib.js", "//other.example.org/b.png"}


def test_no_page_asks_another_host_but_the_ones_its_author_wrote(tmp_path: Path) -> None:
    everything = [markdown(source) for source in MARKDOWN.values() if "iframe" not in source]
    everything += [code("x", *deepcopy(outputs)) for outputs in OUTPUTS.values()]
    everything += [code("w", display({"application/vnd.plotly.v1+json": {"data": []}, "text/plain": "chart"}))]
    write(tmp_path, "own.ipynb", notebook(*everything))
    page, script, other = sorted(AUTHORS, key=lambda url: ("pictures" not in url, "cdn" not in url))
    written = display({"text/html": f'<script src="{script}"></script><img src="{other}">', "text/plain": "x"})
    write(
        tmp_path,
        "sub/foreign.ipynb",
        notebook(markdown(f"![x]({page})\n\n[only a link](https://linked.example.org/)"), code("x", written)),
    )
    assert build(tmp_path).failed == 0
    site = tmp_path / "_site"
    asked = {
        file.relative_to(site).as_posix(): external(fetched(file.read_text(encoding="utf-8")))
        for file in site.rglob("*.html")
    }
    pages = {f"{tree}/sub/foreign/index.html" for tree in TREES}
    assert {name: urls for name, urls in asked.items() if urls} == dict.fromkeys(pages, AUTHORS)
    for sheet in (site / "assets").glob("*.css"):
        assert external(iter(css_urls(sheet.read_text()))) == set(), sheet.name
    # What these load when it is needed has addresses in it that nobody asks; browser tests watch the requests.
    for runtime in [*(site / "assets").glob("page.*.js"), *(site / "assets").glob("live.*.js")]:
        assert not re.search(r"""["'`](?:https?:)?//(?!www\.w3\.org/)[\w.-]+\.\w""", runtime.read_text()), runtime.name


def test_every_picture_of_a_site_is_stored_once_and_shown_with_its_size(tmp_path: Path) -> None:
    sized = display({"image/png": png64(8, 6, 5)}, **{"image/png": {"width": 80, "height": 60}})
    jpeg = base64.b64encode(b"\xff\xd8\xff\xe0 not much of a picture").decode()
    write(tmp_path, "a.ipynb", notebook(code("x", sized), code("y", display({"image/jpeg": jpeg}))))
    write(
        tmp_path,
        "b.ipynb",
        notebook(code("x", display({"image/png": png64(8, 6, 5)})), code("z", display({"image/png": png64(8, 6, 6)}))),
    )
    build(tmp_path)
    stored = sorted(file.read_bytes() for file in (tmp_path / "_site/media").iterdir())
    assert stored == sorted([png(8, 6, 5), png(8, 6, 6), base64.b64decode(jpeg)])
    for tree in TREES:
        image = soup((tmp_path / "_site" / tree / "a/index.html").read_text()).select_one(".output img")
        assert image
        assert (image["width"], image["height"]) == ("80", "60")


def test_a_whole_notebook_survives_json_in_any_shape(tmp_path: Path) -> None:
    """Texts as lists of lines, as nbformat stores them, and keys that nobody knows."""
    content = notebook(
        markdown("one\ntwo"), code("a\nb", stream("c\nd\n"), result({"text/html": "<i>e</i>", "text/plain": "f"}))
    )
    whole = ours(content)[1].html
    split = json.loads(json.dumps(content))
    for cell in split["cells"]:
        cell["source"] = cell["source"].splitlines(keepends=True)
        cell["metadata"]["unheard"] = {"of": [1, None]}
        for output in cell.get("outputs", []):
            if "text" in output:
                output["text"] = output["text"].splitlines(keepends=True)
    write(tmp_path, "split.ipynb", split)
    write(tmp_path, "whole.ipynb", content)
    build(tmp_path)
    cells = [
        [str(cell) for cell in soup((tmp_path / "_site/dashboards" / name / "index.html").read_text()).select(".cell")]
        for name in ("split", "whole")
    ]
    assert cells[0] == cells[1]
    assert "<i>e</i>" in whole
