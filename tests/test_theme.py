"""Themes: which folder wins, what is refused, that colours can be read, that templates say what they should."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from builder.errors import ThemeError
from builder.page import Heading
from builder.resources import themes_dir
from builder.theme import TEMPLATES, Theme, load_theme

VOID = {"meta", "link", "br", "hr", "img", "input", "path", "circle"}


def make_theme(folder: Path, manifest: str = "", files: dict[str, str] | None = None) -> Path:
    """A theme in `folder` with the given files."""
    put(folder / "theme.toml", manifest)
    for name, content in (files or {}).items():
        put(folder / name, content)
    return folder


def put(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


# Finding a theme


def test_the_shipped_theme_is_found_and_lies_over_base() -> None:
    theme = load_theme("paper", [])
    assert theme.name == "paper"
    assert [folder.name for folder in theme.folders] == ["paper", "base"]


def test_a_theme_of_the_user_goes_before_a_shipped_one_of_the_same_name(tmp_path: Path) -> None:
    mine = make_theme(tmp_path / "paper")
    assert load_theme("paper", [tmp_path]).folders == (mine, themes_dir() / "base")


def test_the_first_of_several_user_folders_wins(tmp_path: Path) -> None:
    first, second = make_theme(tmp_path / "a" / "ours"), make_theme(tmp_path / "b" / "ours")
    assert load_theme("ours", [tmp_path / "a", tmp_path / "b"]).folders[0] == first
    assert load_theme("ours", [tmp_path / "b", tmp_path / "a"]).folders[0] == second


def test_an_absolute_path_names_a_themes_folder(tmp_path: Path) -> None:
    folder = make_theme(tmp_path / "any name")
    theme = load_theme(str(folder), [])
    assert (theme.name, theme.folders[0]) == ("any name", folder)


def test_a_theme_can_extend_a_shipped_one_even_of_its_own_name(tmp_path: Path) -> None:
    make_theme(tmp_path / "paper", 'extends = "paper"')
    make_theme(tmp_path / "ours", 'extends = "paper"\ndescription = "House style"')
    for name in ("paper", "ours"):
        assert load_theme(name, [tmp_path]).folders == (
            tmp_path / name,
            themes_dir() / "paper",
            themes_dir() / "base",
        )


@pytest.mark.parametrize(
    "name", ["", "..", "../paper", "paper/../paper", "a/b", "paper\0", "paper\\x", ".hidden", "~/x", "C:x"]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    make_theme(tmp_path / "paper")
    with pytest.raises(ThemeError, match="is no name of a theme"):
        load_theme(name, [tmp_path / "paper", tmp_path])


@given(st.text(max_size=20))
def test_any_text_gives_a_theme_or_a_sentence(name: str) -> None:
    try:
        folder = load_theme(name, []).folders[0]
    except ThemeError:
        return
    assert folder.parent == themes_dir()


def test_a_missing_theme_is_said_with_those_there_are() -> None:
    with pytest.raises(ThemeError, match=r"There is no theme 'papre'; the shipped themes are 'paper'\."):
        load_theme("papre", [])


@pytest.mark.parametrize("name", ["base", "runtime"])
def test_folders_beside_the_themes_are_no_themes(name: str) -> None:
    with pytest.raises(ThemeError, match=f"no theme '{name}'"):
        load_theme(name, [])


def test_a_folder_without_manifest_is_no_theme(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    for name in ("ours", str(tmp_path / "ours")):
        with pytest.raises(ThemeError, match=r"is no theme: it has no theme\.toml"):
            load_theme(name, [tmp_path])


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("extends = ", "cannot be read"),
        ("color = 'red'", "unknown key 'color'; known are description, extends"),
        ("description = 3", "'description' must be a text"),
        ("extends = 'nothing'", "'extends' names 'nothing', but the shipped themes are 'paper'"),
        ("extends = '../paper'", "'extends' names '../paper'"),
        ("extends = 'base'", "'extends' names 'base'"),
    ],
)
def test_a_wrong_manifest_is_said_with_its_file(manifest: str, message: str, tmp_path: Path) -> None:
    make_theme(tmp_path / "ours", manifest)
    with pytest.raises(ThemeError, match=re.escape(message)) as caught:
        load_theme("ours", [tmp_path])
    assert str(tmp_path / "ours" / "theme.toml") in str(caught.value)


def test_a_manifest_in_another_encoding_is_a_sentence(tmp_path: Path) -> None:
    put(make_theme(tmp_path / "ours") / "theme.toml", 'description = "naïve"'.encode("latin-1"))
    with pytest.raises(ThemeError, match="cannot be read"):
        load_theme("ours", [tmp_path])


# Templates


def test_a_template_of_the_theme_hides_that_of_base(tmp_path: Path) -> None:
    make_theme(tmp_path / "ours", files={"templates/error.html.j2": "<p>{{ home }}</p>"})
    theme = load_theme("ours", [tmp_path])
    assert theme.template("error.html.j2").render(home="<a>") == "<p>&lt;a&gt;</p>"
    assert "<main" in theme.template("page.html.j2").render(**page_context())


def test_a_missing_template_is_a_sentence(tmp_path: Path) -> None:
    make_theme(tmp_path / "ours")
    theme = load_theme("ours", [tmp_path])
    for name in ("nothing.html.j2", "../theme.toml", "/etc/hostname"):
        with pytest.raises(ThemeError, match="Theme 'ours' has no template"):
            theme.template(name)


def test_a_broken_template_is_named_with_its_line(tmp_path: Path) -> None:
    make_theme(tmp_path / "ours", files={"templates/page.html.j2": "<p>\n{% if %}"})
    with pytest.raises(ThemeError, match=r"template page\.html\.j2, line 2:"):
        load_theme("ours", [tmp_path]).template("page.html.j2")


def test_a_forgotten_value_is_an_error_not_a_hole() -> None:
    from jinja2 import UndefinedError

    context = page_context()
    del context["version"]
    with pytest.raises(UndefinedError, match="version"):
        PAPER.template("page.html.j2").render(**context)


def test_loading_and_fingerprint_do_not_import_jinja() -> None:
    code = "import sys; from builder.theme import load_theme; t = load_theme('paper', []); t.fingerprint, t.stylesheet"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'jinja2' not in sys.modules"], check=True)


# Files


def test_the_stylesheet_is_base_then_theme_each_in_file_name_order(tmp_path: Path) -> None:
    files = {"static/b.css": "b{}", "static/a.css": "a{}", "static/deep/c.css": "c{}"}
    make_theme(tmp_path / "ours", 'extends = "paper"', files)
    css = load_theme("ours", [tmp_path]).stylesheet.decode()
    marks = ["@layer base {", ":root {", "@media print", "@layer theme {", ".brand::before", "@layer site {"]
    marks += ["a{}", "b{}"]
    assert [css.index(mark) for mark in marks] == sorted(css.index(mark) for mark in marks)
    assert "c{}" not in css


def test_a_theme_without_css_has_that_of_base(tmp_path: Path) -> None:
    make_theme(tmp_path / "ours")
    css = load_theme("ours", [tmp_path]).stylesheet
    assert css.startswith(b"@layer base {\n")
    assert css.count(b"@layer") == 1


def test_static_files_are_all_but_the_css_and_the_themes_own_hide_those_of_base(tmp_path: Path) -> None:
    base, ours = tmp_path / "base", make_theme(tmp_path / "ours")
    for folder in (base, ours):
        put(folder / "static" / "logo.svg", folder.name)
    put(base / "static" / "runtime" / "page.js", "")
    put(base / "static" / "fonts" / "x.css", "")
    put(ours / "static" / ".DS_Store", "")
    put(ours / "static" / "look.css", "")
    put(ours / "templates" / "x.html.j2", "")
    theme = Theme("ours", (ours, base))
    assert theme.static == {"logo.svg": ours / "static/logo.svg", "fonts/x.css": base / "static/fonts/x.css"}


def test_the_fingerprint_follows_every_byte_and_name_in_every_folder(tmp_path: Path) -> None:
    base, ours = (
        tmp_path / "base",
        make_theme(tmp_path / "ours", files={"static/a.css": "a", "templates/p.html.j2": "p"}),
    )
    put(base / "static" / "a.css", "a")
    seen = {Theme("ours", (ours, base)).fingerprint}
    changes: list[tuple[Path, str]] = [
        (ours / "static" / "a.css", "b"),
        (ours / "templates" / "p.html.j2", "q"),
        (ours / "theme.toml", "# new"),
        (base / "static" / "a.css", "c"),
        (base / "static" / "new.css", ""),
    ]
    for path, content in changes:
        put(path, content)
        seen.add(Theme("ours", (ours, base)).fingerprint)
    (base / "static" / "new.css").rename(base / "static" / "newer.css")
    seen.add(Theme("ours", (ours, base)).fingerprint)
    assert len(seen) == len(changes) + 2


def test_the_fingerprint_does_not_know_where_the_theme_lies(tmp_path: Path) -> None:
    here, there = (make_theme(tmp_path / place / "ours", files={"static/a.css": "a"}) for place in "ab")
    assert Theme("ours", (here,)).fingerprint == Theme("ours", (there,)).fingerprint


def test_a_file_that_leads_out_of_the_theme_is_refused(tmp_path: Path) -> None:
    folder = make_theme(tmp_path / "ours")
    put(tmp_path / "secret", "secret")
    (folder / "static").mkdir()
    (folder / "static" / "innocent.png").symlink_to(tmp_path / "secret")
    theme = load_theme("ours", [tmp_path])
    for attribute in ("static", "fingerprint"):
        with pytest.raises(ThemeError, match="leads out of its folder"):
            getattr(theme, attribute)


# Colours

TOKEN = re.compile(r"(--[a-z-]+):\s*light-dark\((#[0-9a-f]{6}|transparent), (#[0-9a-f]{6}|transparent)\)")
HUES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
FOREGROUNDS = [f"--ansi-{hue}{weight}" for weight in ("", "-intense") for hue in HUES]
BACKGROUNDS = [f"--ansi-{hue}-bg" for hue in HUES]
CODE = [
    f"--code-{name}"
    for name in ("keyword", "name", "type", "builtin", "string", "number", "operator", "comment", "error")
]
KINDS = ("info", "success", "warning", "danger")
TEXT_PAIRS = [
    *itertools.product(["--color-text", "--color-muted", "--color-link"], ["--color-background", "--color-surface"]),
    *itertools.product(CODE, ["--color-surface", "--color-background"]),
    *itertools.product([*FOREGROUNDS, "--color-text"], ["--color-background", *BACKGROUNDS]),
    *itertools.product([*FOREGROUNDS, "--color-text"], ["--color-warning", "--color-danger"]),
    *((f"--color-{kind}-text", f"--color-{kind}") for kind in KINDS),
    ("--color-text", "--color-mark"),
]
SHAPE_PAIRS = list(itertools.product(["--color-control", "--color-accent"], ["--color-background", "--color-surface"]))


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.fixture(scope="module", params=["paper", "bare"])
def tokens(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """The colours, light and dark, of the shipped theme and of `base` alone."""
    root = tmp_path_factory.mktemp("themes")
    make_theme(root / "bare")
    css = load_theme(request.param, [root]).stylesheet.decode()
    return {name: (light, dark) for name, light, dark in TOKEN.findall(css)}


def test_contrast_is_computed_as_wcag_does() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("pairs", "least"), [(TEXT_PAIRS, 4.5), (SHAPE_PAIRS, 3.0)], ids=["text", "shapes"])
def test_every_pair_of_colours_meets_aa(
    tokens: dict[str, tuple[str, str]], scheme: int, pairs: list[tuple[str, str]], least: float
) -> None:
    ratios = {(front, back): contrast(tokens[front][scheme], tokens[back][scheme]) for front, back in pairs}
    assert {pair: round(ratio, 2) for pair, ratio in ratios.items() if ratio < least} == {}


def css_of_base() -> str:
    return "\n".join(path.read_text("utf-8") for path in sorted((themes_dir() / "base/static").glob("*.css")))


def test_every_ansi_class_and_every_pygments_class_has_its_colour() -> None:
    from pygments.token import STANDARD_TYPES  # type: ignore[import-untyped]

    css = css_of_base()
    for hue, weight, kind in itertools.product(HUES, ("", "-intense"), ("fg", "bg")):
        assert f".ansi-{hue}{weight}-{kind}" in css
    plain = {"", "w", "n", "x", "g", "esc", "ln", "ni", "nl", "py", "pm", "nx"}
    missing = {name for name in STANDARD_TYPES.values() if name not in plain and not re.search(rf"\.{name}[,) ]", css)}
    assert missing == set()


def test_pygments_classes_are_bound_to_code() -> None:
    """Some of them (`nb`, `p`, `s`) are words that authors and our own pages use as classes too."""
    code = (themes_dir() / "base" / "static" / "50-code.css").read_text("utf-8")
    for line in code.splitlines():
        if "{" in line and ".ansi-" not in line and not line.startswith("@media"):
            assert line.startswith(".highlight"), line


def test_css_uses_only_tokens_that_exist_and_asks_nobody_else() -> None:
    css = load_theme("paper", []).stylesheet.decode()
    given_in_html = {"--row", "--col", "--width", "--height"}
    used, defined = set(re.findall(r"var\((--[\w-]+)\)", css)), set(re.findall(r"(--[\w-]+):", css))
    assert used - defined == given_in_html
    assert "url(" not in css
    assert "@import" not in css
    assert "http" not in css
    assert css.count("{") == css.count("}")


# Pages


class Node(NamedTuple):
    tag: str
    attributes: dict[str, str | None]


class Reader(HTMLParser):
    """The elements of a page in order; fails on a tag that closes another element than the open one."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.nodes.append(Node(tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.nodes.append(Node(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, **wanted: str) -> list[Node]:
        wanted = {key.rstrip("_").replace("_", "-"): value for key, value in wanted.items()}
        return [node for node in self.nodes if node.tag == tag and wanted.items() <= node.attributes.items()]


PAPER = load_theme("paper", [])
HOSTILE = "<script>alert(1)</script> \"quoted\" 'single' & more"
HEADINGS = [Heading(1, "Title", "Title"), Heading(2, "a", "A"), Heading(3, "b", "B <i>"), Heading(2, "c", "C")]


def entry(kind: str, title: str, url: str, **changes: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "title": title,
        "url": url,
        "description": "",
        "tags": [],
        "name": "x",
        "count": None,
    } | changes


ENTRIES = [
    entry("page", "One", "one/index.html"),
    entry("folder", "Sub", "sub/index.html", description="Deep", count=1),
    entry("page", HOSTILE, "two/?a=1&b", description=HOSTILE, tags=["x", "y"]),
]


def page_context(**changes: Any) -> dict[str, Any]:
    page = {"path": "a/b", "title": "Title", "description": "", "tags": ()}
    page |= {"layout": "none", "live": "off", "version": "", "code": "shown"}
    return {
        "site": {"title": "Team"},
        "page": page | changes.pop("page", {}),
        "variant": "full",
        "root": "../../../",
        "crumbs": [{"title": "Team", "url": "../../index.html"}, {"title": "Folder a", "url": "../index.html"}],
        "folder": {"title": "Folder a", "url": "../index.html"},
        "headings": HEADINGS,
        "body": Markup('<div class="nb nb-notebook"><h1 id="Title">Title</h1></div>'),
        "children": [],
        "style": "../../../assets/style.css",
        "script": "../../../assets/page.js",
        "twin": "twin.html",
        "download": "",
        "canonical": "",
        "version": "1.2.3",
    } | changes


def page(**changes: Any) -> tuple[str, Reader]:
    html = PAPER.template("page.html.j2").render(**page_context(**changes))
    return html, Reader(html)


def listing(**changes: Any) -> tuple[str, Reader]:
    context = {
        "site": {"title": "Team"},
        "folder": {"path": "", "title": "Team", "description": "", "url": "index.html"},
        "variant": "full",
        "root": "",
        "crumbs": [],
        "entries": ENTRIES,
        "style": "assets/style.css",
        "script": "assets/page.js",
        "twin": "dashboards-plain/index.html",
        "version": "1.2.3",
    }
    html = PAPER.template("listing.html.j2").render(**context | changes)
    return html, Reader(html)


def test_a_full_page_has_its_frame() -> None:
    html, seen = page()
    assert html.startswith('<!doctype html>\n<html lang="en">\n<head>')
    assert "<title>Title · Team</title>" in html
    assert seen.all("a", class_="brand", href="../../../index.html")
    assert seen.all("nav", class_="crumbs", aria_label="Breadcrumb")
    assert seen.all("a", href="../index.html")
    assert seen.all("a", class_="skip", href="#page-content")
    assert seen.all("main", id="page-content")
    assert seen.all("button", class_="theme-switch", type="button")[0].attributes.keys() >= {"hidden", "aria-label"}
    assert seen.all("a", href="twin.html")


def test_a_plain_page_is_content_only() -> None:
    html, seen = page(variant="plain")
    for tag in ("header", "nav", "footer", "button", "a"):
        assert seen.all(tag) == []
    assert len(seen.all("main")) == 1
    assert "<title>Title</title>" in html
    assert seen.all("html", lang="en")
    assert seen.all("link", rel="stylesheet", href="../../../assets/style.css")


@pytest.mark.parametrize("variant", ["full", "plain"])
def test_the_script_is_classic_and_before_the_body_so_that_the_theme_is_set_before_paint(variant: str) -> None:
    html, seen = page(variant=variant)
    (script,) = seen.all("script")
    assert script.attributes == {"src": "../../../assets/page.js"}
    assert html.index("<script") < html.index("<body")
    assert "data-theme" not in html
    assert page(variant=variant, script="")[1].all("script") == []


@pytest.mark.parametrize("variant", ["full", "plain"])
def test_titles_from_notebooks_cannot_become_markup(variant: str) -> None:
    hostile = {"title": HOSTILE, "description": HOSTILE, "path": 'a"/><script>', "tags": (HOSTILE,)}
    headings = [Heading(2, f'x"{i}', HOSTILE) for i in range(4)]
    crumb = {"title": HOSTILE, "url": 'x"y'}
    places = {"crumbs": [crumb] * 3, "folder": crumb, "site": {"title": HOSTILE}}
    html, seen = page(variant=variant, page=hostile, headings=headings, **places)
    assert "alert(1)</script>" not in html
    assert len(seen.all("script")) == 1


def test_the_body_is_put_in_as_it_is() -> None:
    body = "<b>&amp;</b> \x021\x03"
    assert f'<main id="page-content" tabindex="-1">\n{body}\n' in page(body=Markup(body))[0]


def test_the_contents_leave_out_the_title_and_show_levels() -> None:
    html, seen = page()
    assert len(seen.all("nav", class_="contents")) == 1
    links = [str(node.attributes["href"]) for node in seen.all("a")]
    assert [link for link in links if len(link) == 2] == ["#a", "#b", "#c"]
    assert '<li class="depth-1"><a href="#b">B &lt;i&gt;</a></li>' in html
    assert 'href="#Title"' not in html


@pytest.mark.parametrize(
    ("headings", "shown"),
    [
        ([], 0),
        (HEADINGS[:3], 0),
        (HEADINGS, 3),
        ([Heading(1, str(i), "x") for i in range(3)], 3),
        ([Heading(3, "a", "x"), *(Heading(level, "b", "x") for level in (4, 4, 5, 6, 6))], 5),
        ([Heading(1, "a", "x"), *(Heading(level, "b", "x") for level in (2, 3, 4, 5, 6))], 3),
    ],
)
def test_contents_are_shown_for_three_headings_or_more_of_three_levels(headings: list[Heading], shown: int) -> None:
    html, seen = page(headings=headings)
    assert html.count('<li class="depth-') == shown
    assert len(seen.all("nav", class_="contents")) == (1 if shown else 0)


def test_a_grid_dashboard_keeps_its_full_width() -> None:
    html, seen = page(page={"layout": "grid"})
    assert seen.all("nav", class_="contents") == []
    assert "layout-grid" in html


@pytest.mark.parametrize(
    ("variant", "headings", "expected"),
    [
        ("full", HEADINGS, None),
        ("full", [], "title"),
        ("full", [Heading(2, "x", "Title")], "unseen"),
        ("plain", [], "unseen"),
        ("plain", HEADINGS, None),
    ],
)
def test_every_page_has_one_main_heading(variant: str, headings: list[Heading], expected: str | None) -> None:
    _, seen = page(variant=variant, headings=headings, body=Markup(""))
    assert [node.attributes["class"] for node in seen.all("h1")] == ([expected] if expected else [])


def test_what_is_empty_leaves_no_trace() -> None:
    html, seen = page(twin="", crumbs=[{"title": "Team", "url": "x"}])
    assert "Plain page" not in html
    assert "Download" not in html
    assert "crumbs" not in html
    assert not seen.all("link", rel="canonical")
    assert not seen.all("meta", name="description")
    html, seen = page(download="b.ipynb", canonical="https://example.org/a/b/", page={"description": "About"})
    assert "download" in seen.all("a", href="b.ipynb")[0].attributes
    assert seen.all("link", rel="canonical", href="https://example.org/a/b/")
    assert seen.all("meta", name="description", content="About")


@pytest.mark.parametrize("variant", ["full", "plain"])
def test_a_page_shows_the_pages_below_it(variant: str) -> None:
    _, seen = page(variant=variant, children=ENTRIES)
    assert seen.all("nav", class_="children")
    assert seen.all("a", href="one/index.html")


def test_the_frame_of_a_long_notebook_stays_small() -> None:
    sections = (Heading(2, f"section-number-{i}", f"Section number {i}") for i in range(15))
    headings = [Heading(1, "t", "Title"), *sections]
    body = Markup("x")
    assert len(page(headings=headings, body=body)[0]) < 5000
    assert len(page(headings=headings, body=body, variant="plain")[0]) < 1500


def test_a_listing_has_folders_first_and_counts_their_pages() -> None:
    html, seen = listing()
    assert html.index('"sub/index.html"') < html.index('"one/index.html"') < html.index('"two/?a=1&amp;b"')
    assert '<span class="count">1 page</span>' in html
    assert len(seen.all("ul", class_="tags")) == 1
    assert "alert(1)</script>" not in html
    assert "<title>Team</title>" in html
    assert len(seen.all("h1")) == 1
    assert "66 pages" in listing(entries=[ENTRIES[1] | {"count": 66}])[0]


def test_a_plain_listing_has_no_frame() -> None:
    _, seen = listing(variant="plain")
    for tag in ("header", "footer", "nav", "button"):
        assert seen.all(tag) == []
    assert seen.all("a", href="one/index.html")


def test_an_empty_site_says_how_to_begin_and_an_empty_folder_does_not() -> None:
    assert ".ipynb" in listing(entries=[])[0]
    assert "build-site" in listing(entries=[])[0]
    folder = {"path": "a", "title": "A", "description": "", "url": "index.html"}
    html = listing(entries=[], folder=folder)[0]
    assert "build-site" not in html
    assert "no pages" in html


def test_the_error_page_needs_no_other_file() -> None:
    html = PAPER.template("error.html.j2").render(site={"title": "Team & Co"}, home="/db/")
    seen = Reader(html)
    assert seen.all("a", href="/db/")
    assert "Team &amp; Co" in html
    assert "light-dark(" in html
    assert [node.tag for node in seen.nodes if "src" in node.attributes] == []
    assert [node.attributes["rel"] for node in seen.all("link")] == ["icon"]
    assert "url(" not in html
    assert "@import" not in html


def test_every_shipped_theme_is_complete() -> None:
    names = [path.parent.name for path in themes_dir().glob("*/theme.toml")]
    assert "paper" in names
    for name in names:
        theme = load_theme(name, [])
        for template in TEMPLATES:
            assert theme.template(template).render is not None
