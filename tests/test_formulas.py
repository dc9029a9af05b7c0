from __future__ import annotations

import re
import subprocess
import sys
import time
from html import escape, unescape
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.rendering.delimiters import FormulaFinder
from builder.rendering.formulas import Formulas
from builder.rendering.tex import Macro, TexError, environments, expand, split_definitions, split_top


def shown(html: str) -> str:
    """MathML as its text, without the annotation."""
    html = re.sub(r"<annotation.*?</annotation>", "", html, flags=re.S)
    return unescape(re.sub(r"<[^>]*>", "", html)).replace("\u2061", "")


def convert(tex: str, *cells: str, block: bool = True) -> str:
    formulas = Formulas(cells or [f"$${tex}$$"])
    html = formulas.convert(tex, block, 0)
    assert formulas.findings == []
    parsed(html)
    return html


def parsed(html: str) -> ElementTree.Element:
    """The HTML as a tree; fails when a tag or quote is not closed."""
    return ElementTree.fromstring(re.sub(r"&(?!amp;|lt;|gt;|quot;|#)\w+;", " ", f"<p>{html}</p>"))


def found(text: str, markdown: bool = True) -> list[tuple[str, str]]:
    return [(formula.kind, formula.tex) for formula in FormulaFinder(text, markdown)]


# Delimiters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$x$", [("inline", "x")]),
        ("a $ x $ b", [("inline", " x ")]),
        ("$$x$$", [("block", "x")]),
        ("$$\na\n\nb\n$$", [("block", "\na\n\nb\n")]),
        (r"\\(x\\) \\[y\\]", [("inline", "x"), ("block", "y")]),
        (r"\(x^2\) \[\frac12\]", [("inline", "x^2"), ("block", r"\frac12")]),
        (r"\begin{align*}x\end{align*}", [("block", r"\begin{align*}x\end{align*}")]),
        (r"see \eqref{a_b} and \ref{c}", [("ref", r"\eqref{a_b}"), ("ref", r"\ref{c}")]),
        (r"$a\$b$", [("inline", r"a\$b")]),
        (r"$$a\\$$", [("block", r"a\\")]),
        ("$x$-axis, $y$.", [("inline", "x"), ("inline", "y")]),
        ("$2x$ and $10^5 $", [("inline", "2x"), ("inline", "10^5 ")]),
        (r"\\$5", [("dollar", "$")]),
        ("> $$\n> a\n> b\n> $$", [("block", "\na\nb\n")]),
        (r"\begin{a}\begin{a}x\end{a}\end{a}", [("block", r"\begin{a}\begin{a}x\end{a}\end{a}")]),
        ("a ` b\n\n$x$ ` c", [("inline", "x")]),
    ],
)
def test_formulas_are_found_by_their_delimiters(text: str, expected: list[tuple[str, str]]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "$5 and $10",
        "about $20,000-$30,000",
        "between $5, or more, and $1,000.50.",
        "It costs $5 (or 6$).",
        "from 5$ to 6$",
        "$5k for $ten",
        "| $5 | a $ |",
        r"\$5 and \$6",
        "$ $",
        "$$ $$",
        "$$$$",
        "`$x$`",
        "``$x` $y$``",
        "```\n$x$\n```",
        "- ~~~ sh\n  $x$\n  ~~~",
        "```sh\necho $A\necho $B",
        "$a\n\nb$",
        "- cost $a\n- and b$",
        "<b>$</b> and $",
        r"\[not a link\](x) and \(see below\)",
        r"\begin{a}x\end{b}",
        "$",
        "\\",
    ],
)
def test_prices_code_and_stray_delimiters_are_no_formulas(text: str) -> None:
    assert found(text) == []


def test_a_price_beside_a_formula_does_not_hide_it() -> None:
    assert found("costs $5 and $x^2$ of it") == [("inline", "x^2")]


def test_text_that_is_not_markdown_has_no_code_but_escaped_brackets_are_delimiters() -> None:
    assert found(r"\(x\) `$y$`", markdown=False) == [("inline", "x"), ("inline", "y")]


PIECES = ["$", "$$", "\\", "(", "\\)", "\\[", "\\]", "`", "```", "\n", " ", "a", "5", "> ", "~~~", "{", "}", "|"]
PIECES += ["\\begin{a}", "\\end{a}"]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_found_formulas_lie_in_order_and_are_what_stands_there(text: str) -> None:
    position = 0
    for formula in FormulaFinder(text):
        assert position <= formula.start < formula.end <= len(text)
        written = text[formula.start : formula.end]
        assert formula.kind == "dollar" or formula.tex in written or "> " in written
        position = formula.end


@pytest.mark.parametrize(
    "piece", ["$", "$$", "$a", "\\(", "\\\\[", "\\[a", "\\begin{a}", "`", "` `` ", "\\eqref{", "$a\\", "\\", "$$\\$"]
)
def test_delimiters_without_end_take_linear_time(piece: str) -> None:
    started = time.process_time()
    list(FormulaFinder(piece * (100_000 // len(piece))))
    assert time.process_time() - started < 10


# Macros


def test_macros_of_the_page_hold_in_every_formula() -> None:
    cells = [r"$\R^n$", r"$$\newcommand{\R}{\mathbb R}\def\half#1{\frac{#1}{2}}$$", r"$\DeclareMathOperator{\tr}{tr}$"]
    formulas = Formulas(cells)
    assert shown(formulas.convert(r"\R^n \half x \tr A", False, 0)) == "ℝnx2trA"
    assert formulas.findings == []


def test_mere_definitions_show_nothing_and_are_no_finding() -> None:
    formulas = Formulas([r"$$\newcommand{\R}{\mathbb R} \let\eps=\varepsilon$$"])
    assert formulas.convert(r"\newcommand{\R}{\mathbb R} \let\eps=\varepsilon ", True, 0) == ""
    assert formulas.findings == []


def test_a_macro_defined_again_holds_from_its_cell_on() -> None:
    formulas = Formulas([r"$\def\v{a}$", "", r"$\renewcommand\v{b}$"])
    assert [shown(formulas.convert(r"\v", False, cell)) for cell in (0, 1, 2, 3)] == ["a", "a", "b", "b"]


def test_definitions_in_code_do_not_count() -> None:
    formulas = Formulas([r"`$\def\v{a}$`"])
    formulas.convert(r"\v", False, 0)
    assert [finding.cell for finding in formulas.findings] == [0]


@pytest.mark.parametrize(
    ("tex", "expected"),
    [
        (r"\R", r"\mathbb R"),
        (r"\R x", r"\mathbb R x"),
        (r"\alp x\alp", r"\alpha x\alpha"),
        (r"\alp{}b\alp2", r"\alpha{}b\alpha2"),
        (r"x^\R\frac\R2", r"x^{\mathbb R}\frac{\mathbb R}2"),
        (r"\two ab", "b-a"),
        (r"\two{xy}\alp", r"\alpha-xy"),
        (r"\opt{z}\opt[y]{z}", "x+zy+z"),
        (r"\Rx \\R", r"\Rx \\R"),
        (r"\bold x", r"\mathbf x"),
        (r"\two a", r"\two a"),
    ],
)
def test_macros_expand_as_tex_does(tex: str, expected: str) -> None:
    macros = {
        r"\R": Macro(r"\mathbb R"),
        r"\alp": Macro(r"\alpha"),
        r"\two": Macro("#2-#1", 2),
        r"\opt": Macro("#1+#2", 2, "x"),
        r"\bold": Macro(r"\mathbf#1", 1),
    }
    assert expand(tex, macros.get) == expected


@pytest.mark.parametrize("body", [r"\x", r"\x\x", r"a\x", r"{\x}", r"\y\y", "#1#1\\x{#1#1}"])
def test_macros_that_loop_end_in_a_finding(body: str) -> None:
    tex = rf"\newcommand{{\x}}[1]{{{body}}}\newcommand{{\y}}{{\x\x}}\x{{ab}}"
    formulas = Formulas([f"$${tex}$$"])
    started = time.process_time()
    assert '<code class="tex">' in formulas.convert(tex, True, 0)
    assert time.process_time() - started < 10
    assert len(formulas.findings) == 1


def test_macros_that_explode_end_in_a_finding() -> None:
    tex = "".join(rf"\def\{a}{{\{b}\{b}\{b}\{b}\{b}\{b}\{b}\{b}}}" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    with pytest.raises(TexError, match="expand without end"):
        expand(r"\a", split_definitions(tex)[1].get)


@pytest.mark.parametrize(
    "tex", [r"\newcommand", r"\newcommand{\a}", r"\newcommand{\a}{x", r"\def\a#1.#2{x}", r"\let", "\\def\\"]
)
def test_unreadable_definitions_stay_and_are_reported(tex: str) -> None:
    assert split_definitions(tex) == (tex, {})
    formulas = Formulas([f"$${tex}$$"])
    assert '<code class="tex">' in formulas.convert(tex, True, 0)
    assert len(formulas.findings) == 1


# Numbers and references


def test_only_tagged_or_labelled_equations_show_numbers() -> None:
    for tex in (
        r"\begin{equation}x\end{equation}",
        r"\begin{align}x&=1\\y&=2\end{align}",
        r"\begin{gather}x\\y\end{gather}",
    ):
        assert "eqno" not in convert(tex)
    assert '</math><span class="eqno" id="eq-a">(1)</span></div>' in convert(
        r"\begin{equation}x\label{a}\end{equation}"
    )
    assert '</math><span class="eqno">(*)</span></div>' in convert(r"x\tag{*}")
    assert '<span class="eqno">*</span>' in convert(r"x\tag*{*}")


def test_lines_of_an_align_have_a_number_and_an_anchor_each() -> None:
    tex = r"\begin{align}a&=1\label{a}\\b&=2\\c&=3\tag{X}\label{c}\label{d}\\e&=\frac12\label{e e}\nonumber\end{align}"
    html = convert(tex)
    rows = re.findall(r"<mtr>.*?</mtr>", html)
    assert [re.findall(r'id="(.*?)"', row) for row in rows] == [["eq-a"], [], ["eq-c", "eq-d"], ["eq-e-e"]]
    assert [re.findall(r'"eqno".*?>(.*?)<', row) for row in rows] == [["(1)"], [], ["(X)"], ["(2)"]]


@pytest.mark.parametrize("name", ["gather", "eqnarray", "alignat", "flalign"])
def test_other_environments_number_their_lines_too(name: str) -> None:
    argument = "{2}" if name == "alignat" else ""
    html = convert(
        rf"\begin{{{name}}}{argument}a&=1\label{{a}}\\b&=2\label{{b}}\\\end{{{name}}}".replace(
            "&", "&" * (name != "gather")
        )
    )
    assert re.findall(r'id="(.*?)">(.*?)<', html) == [("eq-a", "(1)"), ("eq-b", "(2)")]


def test_references_resolve_over_the_page_and_before_their_equation() -> None:
    formulas = Formulas(
        [r"\eqref{b}", r"$$x\label{a}$$ \begin{equation}y\label{b}\end{equation}", r"$$z\tag{$\ast$}\label{c}$$"]
    )
    assert formulas.reference(r"\eqref{b}", 0) == '<a href="#eq-b">(2)</a>'
    assert formulas.reference(r"\ref{a}", 0) == '<a href="#eq-a">1</a>'
    assert "∗" in formulas.reference(r"\eqref{c}", 0)
    inside = formulas.convert(r"\text{by }\eqref{a}, x", False, 0)
    assert '<mtext><a href="#eq-a">(1)</a></mtext>' in inside
    assert formulas.findings == []


def test_an_unknown_reference_is_shown_and_reported() -> None:
    formulas = Formulas([])
    assert formulas.reference(r"\eqref{no}", 4) == "(???)"
    assert "???" in shown(formulas.convert(r"x \ref{no}", False, 5))
    assert [finding.cell for finding in formulas.findings] == [4, 5]


def test_a_label_used_twice_anchors_only_once() -> None:
    formulas = Formulas([r"$$x\label{a}$$ $$x\label{a}$$"])
    html = formulas.convert(r"x\label{a}", True, 0) + formulas.convert(r"x\label{a}", True, 0)
    assert html.count('id="eq-a"') == 1
    assert html.count("(1)") == 2


def test_labels_and_tags_of_a_formula_that_cannot_be_converted_are_kept() -> None:
    formulas = Formulas([])
    html = formulas.convert(r"\nosuch\label{a}", True, 0)
    assert 'id="eq-a">(1)</span>' in html
    assert '<code class="tex">\\nosuch\\label{a}</code>' in html


@pytest.mark.parametrize("label", ['"><b>', "a b", "é:1", "&amp;"])
def test_labels_are_escaped(label: str) -> None:
    formulas = Formulas([])
    html = formulas.convert(rf"x\label{{{label}}}", True, 0)
    element = parsed(html).find(".//span")
    link = parsed(formulas.reference(rf"\eqref{{{label}}}", 0)).find("a")
    assert element is not None
    assert link is not None
    assert link.get("href") == "#" + str(element.get("id"))


# Conversion


def test_inline_and_block_formulas_carry_their_source() -> None:
    assert convert(r" a<b ", block=False) == (
        '<math display="inline"><semantics><mrow><mi>a</mi><mo>&lt;</mo><mi>b</mi></mrow>'
        '<annotation encoding="application/x-tex">a&lt;b</annotation></semantics></math>'
    )
    assert convert("x").startswith('<div class="math"><math display="block"><semantics><mi>x</mi>')


EVERYDAY = r"""
\frac{a}{b} ;; \dfrac12 ;; \binom{n}{k} ;; \sqrt[3]{x} ;; \sum_{i=1}^n ;; \int_0^1 ;; \oint ;; \lim_{x\to0}
\mathbb{R} ;; \mathcal L ;; \mathfrak g ;; \mathbf x ;; \boldsymbol\beta ;; \bm x ;; \mathrm{d}x ;; \hat x
\vec x ;; \widehat{abc} ;; \widetilde{abc} ;; \overline{ab} ;; \overbrace{a+b}^n ;; \underbrace{a+b}_n
\overset{a}{b} ;; \stackrel{a}{=} ;; \xrightarrow{a} ;; \left(\frac ab\right) ;; \left.x\right|_0
\bigl( x \bigr) ;; \langle x\rangle ;; \lVert x\rVert ;; \|x\| ;; \text{if }x ;; \text{if $x>0$} ;; \mbox{a_b}
\textbf{a} ;; \text{50%} ;; \operatorname{foo}x ;; \operatorname*{arg\,max}_x ;; \mathop{\rm argmin}\limits_x
\begin{matrix}a\\b\end{matrix} ;; \begin{smallmatrix}a&b\\c&d\end{smallmatrix}
\begin{array}{l|r}a&b\\\hline c&d\end{array} ;; \begin{cases}a&b\\c&d\end{cases}
\begin{split}a&=b\\&=c\end{split} ;; \begin{gathered}a\\b\end{gathered} ;; \sum_{\substack{i<n\\j<m}}
a \lt b \gt c ;; \smash{x} ;; \verb|x_1| ;; \cancel{x} ;; \style{color:red}{x} ;; \unicode{x263a} ;; \AA
\phantom{x} ;; \hspace{1em} ;; \color{red}{x} ;; \boxed{x} ;; a \pmod b ;; \not= ;; f'' ;; \dots\cdots\ddots
90^\circ ;; 5\% \$ \& \# \_ ;; \{a\} ;; {a \over b} ;; {n \choose k} ;; {\bf x} ;; \left\{x \middle| y\right\}
\begin{pmatrix*}[r]a&b\end{pmatrix*} ;; \begin{alignedat}{2}a&=b\end{alignedat} ;; \mathds{1} ;; \bra{x}
\cfrac{1}{2} ;; \pmatrix{a&b\cr c&d} ;; \tiny x ;; \require{cancel}\cancel{x} ;; \class{a}{x}
\bbox[yellow]{x} ;; \pmb{x} ;; \root 3 \of x ;; \hbox{a} ;; \begin{multline}a\\b\end{multline}
\begin{align}a&=b\\ \intertext{and} c&=d\end{align} ;; a \\ b ;; a &= b \\ c ;; x % comment
""".replace("\n", ";;").split(";;")


@pytest.mark.parametrize("tex", [tex.strip() for tex in EVERYDAY if tex.strip()])
def test_everyday_constructs_become_mathml(tex: str) -> None:
    html = convert(tex)
    assert "<math" in html
    assert "\\" not in shown(html)
    assert "<mi>&" not in html


@pytest.mark.parametrize(
    ("tex", "expected"),
    [
        (r"\text{if $x_1>0$ or a_b at 50%}", "if x1>0 or a_b at 50%"),
        (r"\begin{eqnarray}a&=&b\\c&=&d\end{eqnarray}", "a=bc=d"),
        (r"\begin{alignat}{2}a&=b\end{alignat}", "a=b"),
        (r"\verb|a_1|", "a_1"),
        (r"\text{a<b & c_ 5\% d\_ e}", "a<b & c_ 5% d_ e"),
        (r"a % b" + "\nc", "ac"),
    ],
)
def test_nothing_is_lost_on_the_way(tex: str, expected: str) -> None:
    assert " ".join(shown(convert(tex)).replace("\u00a0", " ").split()) == expected


def test_lines_without_a_table_stay_lines() -> None:
    assert convert(r"a \\ b").count("<mtr>") == 2
    assert convert(r"\mathop{\rm argmin}\limits_x").count("<munder>") == 1


@pytest.mark.parametrize(
    "tex",
    [
        r"\nosuch",
        r"\ce{H2O}",
        r"\begin{tabular}{c}a\end{tabular}",
        r"\frac{",
        "}",
        r"\text{a<b}\tiny x",
        r"\left(x",
        "x^a^b",
        r"\hline",
    ],
)
def test_what_cannot_be_converted_is_shown_and_reported(tex: str) -> None:
    formulas = Formulas([])
    assert formulas.convert(tex, False, 6) == f'<code class="tex">{escape(tex)}</code>'
    assert formulas.convert(tex, True, 7).startswith('<div class="math"><code class="tex">')
    assert [finding.cell for finding in formulas.findings] == [6, 7]
    assert all(finding.level == "warning" and tex in finding.message for finding in formulas.findings)


@pytest.mark.parametrize(
    "tex",
    [
        r"\text{<script>alert(1)</script>}",
        r"\text{<script>alert(1)</script>}\tiny x",
        r"\style{\"><script>}{x}\tiny",
        r"\href{javascript:alert(1)}{x}",
        r"\nosuch <script>",
        r"\tag{<script>}",
        r"\tag{<script>$x$}",
        r"\unicode{<script>}",
        r"\ref{<script>}",
    ],
)
def test_formulas_bring_no_markup_into_the_page(tex: str) -> None:
    html = Formulas([f"$${tex}$$"]).convert(tex, True, 0)
    assert "<script" not in html
    assert "href=" not in html
    parsed(html)


@pytest.mark.parametrize(
    "piece", ["{", "x^{", r"\sqrt", r"\left(", r"\begin{matrix}", r"\frac", r"\hat", "_", r"\\", "&", r"\tag{a}"]
)
@pytest.mark.parametrize("size", [90, 19_000, 100_000])
def test_hostile_formulas_end_in_mathml_or_a_finding(piece: str, size: int) -> None:
    closing = {"{": "}", "x^{": "}", r"\left(": r"\right)", r"\begin{matrix}": r"\end{matrix}"}.get(piece, "")
    count = size // len(piece + closing)
    formulas = Formulas([])
    started = time.process_time()
    html = formulas.convert(piece * count + "x" + closing * count, True, 0)
    assert ("<math" in html) != bool(formulas.findings)
    assert time.process_time() - started < 10


TOKENS = [
    "\\",
    "{",
    "}",
    "\\frac",
    "\\text{",
    "$",
    "&",
    "\\\\",
    "x",
    "^",
    "_",
    "\\left(",
    "\\right)",
    " ",
    "%",
    "#1",
    "<",
]
TOKENS += ["\\begin{align}", "\\end{align}", "\\label{a}", "\\tag{b}", "\\def\\x", "\\x", "\\ref{a}", "\n"]


def test_nesting_and_length_are_bounded() -> None:
    formulas = Formulas([])
    assert "<math" in formulas.convert("{" * 100 + "x" + "}" * 100, False, 0)
    assert "<code" in formulas.convert("{" * 101 + "x" + "}" * 101, False, 0)
    assert "<code" in formulas.convert("x" * 20_001, False, 0)
    messages = [finding.message for finding in formulas.findings]
    assert "nested too deeply" in messages[0]
    assert "longer than 20000 characters" in messages[1]


@given(st.lists(st.sampled_from(TOKENS), max_size=15).map("".join), st.booleans())
def test_no_formula_is_dropped_and_none_raises(tex: str, block: bool) -> None:
    formulas = Formulas([f"$${tex}$$"])
    html = formulas.convert(tex, block, 0)
    if html:
        parsed(html)
    assert html or "\\def" in tex
    assert bool('<code class="tex">' in html) == any(
        "source is shown" in finding.message for finding in formulas.findings
    )


def test_text_with_formulas_is_escaped_around_them() -> None:
    formulas = Formulas([])
    html = formulas.convert_text(r"a<b $x$ \[y\] \begin{equation}z\label{q}\end{equation} \eqref{q} & $5", 0)
    assert html.startswith("a&lt;b <math")
    assert html.count("<math") == 3
    assert html.endswith(' <a href="#eq-q">(1)</a> &amp; $5')


def test_equal_formulas_are_converted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    formulas = Formulas([])
    first = formulas.convert("x", False, 0)
    monkeypatch.setattr("builder.rendering.formulas.to_mathml", None)
    assert formulas.convert("x", False, 1) == first


def test_the_lenient_converter_is_imported_only_when_needed() -> None:
    code = (
        "import sys; from builder.rendering.formulas import Formulas; f = Formulas([])\n"
        "f.convert(r'\\frac12', True, 0)\n"
        "assert 'latex2mathml' not in sys.modules\n"
        "f.convert(r'\\tiny x', True, 0); assert 'latex2mathml' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# TeX as text


def test_environments_are_paired_innermost_first() -> None:
    source = r"\begin{a}\begin{b}\end{a}\begin{a}\end{a}"
    assert environments(source) == {0: source.index(r"\end{a}") + 7, source.rindex(r"\begin{a}"): len(source)}


def test_lines_are_cut_only_outside_of_groups() -> None:
    assert split_top(r"a\\[2pt]{b\\c}\\\begin{x}d\\\end{x}\cr e") == ["a", r"{b\\c}", r"\begin{x}d\\\end{x}", " e"]
    assert split_top(r"a&{b&c}&\&", cells=True) == ["a", "{b&c}", r"\&"]
