"""Pages as readers get them: in Chromium, over http and from the disk, on any screen, by keyboard, without scripts."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin

import pytest
from browsing import SCREENS, Watched, chromium, served
from making import code, display, error, markdown, notebook, png, png64, result, stream, write
from playwright.sync_api import Browser, BrowserContext, Page
from sites import build

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parent.parent
AXE = ROOT / "themes/runtime/node_modules/axe-core/axe.min.js"
PREFIX = "some portal/team"
"""Where the sites lie on the server: any static host, below any folder."""

SHOWCASE = (
    "", "folder", "folder/deep", "long", "folded", "grid", "report", "bundle", "packed", "folder/front/side",
    "names/ä b #1", "names/100% sure?", 'names/it\'s "quoted" & <b>',
)  # fmt: skip
"""Pages of the site the tests make: every kind there is."""


KINDS = ("", "long", "folded", "grid", "report")
"""Those of which the plain variant differs from others in more than its text."""


def starter_pages() -> list[str]:
    """All pages and listings of the starter site."""
    site = ROOT / "site"
    made = {"_site", ".ipynb_checkpoints"}
    notebooks = [path.relative_to(site) for path in site.rglob("*.ipynb") if not made & set(path.parts)]
    pages = {(path.parent if path.stem == "index" else path.with_suffix("")).as_posix() for path in notebooks}
    return sorted("" if page == "." else page for page in pages | {path.parent.as_posix() for path in notebooks})


PAGES = [("showcase", path) for path in SHOWCASE] + [("starter", path) for path in starter_pages()]
every_page = pytest.mark.parametrize(("site", "path"), PAGES, ids=[f"{site}:{path or 'root'}" for site, path in PAGES])


# What the pages hold

LONG_MARKDOWN = """# A long notebook

Words with $a_i^2$ and a price of $5, **bold**, `code`, ~~gone~~ and a [link](folder/deep.ipynb#Part-two) to https://example.org/far.

## Tables and lists

| left | right | a column with a long heading | another one | and one more | the last of them all |
|:-----|------:|:----------------------------:|---|---|---|
| a    | 1     | $\\sqrt{2}$ | words words words | words words words | words words words |

- [x] done
- [ ] open
  1. numbered
  2. again

> A quotation
> of two lines

Term
: Definition

## Formulas

$$
\\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2} + \\sum_{i=1}^{n} \\alpha_i \\beta_i
+ \\frac{a+b+c+d+e+f+g}{h+i+j+k+l+m} + \\prod_{k=1}^{K} \\left(1 - x_k\\right)
$$

\\begin{align}
a &= b + c \\\\
d &= e \\cdot f
\\end{align}

## Images

![a picture in the folder](pictures/small%20one.png) and <img src="pictures/wide.png" alt="wide" width="1600">

![attached](attachment:att.png)

### Raw HTML

<details><summary>More</summary><p>Hidden words</p></details>

<div style="width: 40rem; white-space: nowrap">A block of the author that is wider than a telephone.</div>

## A heading with `code`, a $\\beta$ and a very_long_word_without_any_blank_in_it_that_no_line_of_a_telephone_can_hold

```python
def coloured(code: str) -> None:
    return "a long line of code, which does not end where the screen ends, but goes on, and on, and on, and on"
```

## Repeated

text

## Repeated

text
"""

WIDGET = "application/vnd.jupyter.widget-view+json"
CHART = "application/vnd.plotly.v1+json"
FRAME = (
    '<table border="1" class="dataframe"><thead><tr style="text-align: right;"><th></th>{heads}</tr></thead>'
    "<tbody>{rows}</tbody></table>"
)
SCRIPTED = (
    '<p id="scripted">not yet</p><script>document.getElementById("scripted").textContent = "done by a script"</script>'
)
CIRCLE = '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="40"><circle cx="20" cy="20" r="9"/></svg>'


def dataframe(columns: int = 30, rows: int = 4) -> str:
    heads = "".join(f"<th>column {number}</th>" for number in range(columns))
    row = "<td>0.123456789</td>" * columns
    return FRAME.format(heads=heads, rows="".join(f"<tr><th>{number}</th>{row}</tr>" for number in range(rows)))


def long_notebook() -> dict[str, Any]:
    prose = markdown(LONG_MARKDOWN)
    prose["attachments"] = {"att.png": {"image/png": png64(30, 20, 90)}}
    slider = {"model_name": "IntSliderModel", "model_module": "@jupyter-widgets/controls", "state": {}}
    widget = {"state": {"w1": slider}, "version_major": 2, "version_minor": 0}
    reference = {"model_id": "w1", "version_major": 2, "version_minor": 0}
    chart = {"data": [{"y": [1, 2]}], "layout": {}}
    lines = "".join(f"line {number} {'x' * 200}\n" for number in range(300))
    traceback = ("\x1b[0;31m----------\x1b[0m", "\x1b[0;31mZeroDivisionError\x1b[0m: division by zero")
    return notebook(
        prose,
        code("import this\n%time x = 1  # a comment\n!ls", stream(lines)),
        code("warn()", stream("\x1b[1;33mcareful\x1b[0m \x1b[38;5;208morange\x1b[0m\n", "stderr"), count=2),
        code("df", result({"text/html": dataframe(), "text/plain": "a frame"}, 3), count=3),
        code("plot()", display({"image/png": png64(900, 500, 200), "text/plain": "<Figure>"}), count=4),
        code("svg", display({"image/svg+xml": CIRCLE})),
        code("1/0", error("ZeroDivisionError", "division by zero", *traceback), count=6),
        code("slider", display({WIDGET: reference, "text/plain": "IntSlider(value=3)"})),
        code("chart", display({CHART: chart, "image/png": png64(400, 300, 30), "text/plain": "Figure"})),
        code("data", display({"application/json": {"a": [1, {"b": None}], "c": "</script>"}, "text/plain": "{...}"})),
        code("math", display({"text/latex": "$\\displaystyle \\frac{1}{2}$", "text/plain": "1/2"})),
        code("html", display({"text/html": SCRIPTED, "text/plain": "html"})),
        code("js", display({"application/javascript": "document.body.dataset.output = 'ran'", "text/plain": "js"})),
        code("hidden()", stream("output of folded code\n"), tags=["hide-input"]),
        code("shown()", stream("folded output\n"), tags=["hide-output"]),
        {"cell_type": "raw", "metadata": {}, "source": "raw text"},
        widgets={"application/vnd.jupyter.widget-state+json": widget},
    )  # fmt: skip


def view(kind: str, **entry: Any) -> dict[str, Any]:
    """The metadata of a dashboard cell."""
    return {"extensions": {"jupyter_dashboards": {"version": 1, "views": {f"{kind}_default": entry}}}}


def dashboard(kind: str, *cells: dict[str, Any], **settings: Any) -> dict[str, Any]:
    views = {f"{kind}_default": {"name": kind, "type": kind, **settings}}
    layout = {"version": 1, "activeView": f"{kind}_default", "views": views}
    return notebook(*cells, extensions={"jupyter_dashboards": layout})


def grid_dashboard() -> dict[str, Any]:
    """Cells 1 and 2 are those of the layout specification's example; the rest fills rows 7 and further down."""
    tall = "\n".join(f"line {number}" for number in range(60))
    return dashboard(
        "grid",
        code("secret = 1", **view("grid", hidden=True)),
        markdown("# Tank levels", **view("grid", hidden=False, row=0, col=0, width=12, height=2)),
        code("print()", stream("litres 4\n"), **view("grid", hidden=False, row=2, col=3, width=6, height=5)),
        {"cell_type": "raw", "metadata": {}, "source": "never shown"},
        code("plot()", display({"image/png": png64(900, 700, 120)}), **view("grid", row=7, col=0, width=4, height=9)),
        code("df", result({"text/html": dataframe()}), **view("grid", row=7, col=4, width=8, height=9)),
        code("long", stream(tall), **view("grid", row=16, col=0, width=12, height=6)),
        markdown("$$\\frac{a}{b}$$", **view("grid", row=22, col=11, width=1, height=3)),
        cellMargin=8, defaultCellHeight=24, maxColumns=12,
    )  # fmt: skip


def report_dashboard() -> dict[str, Any]:
    return dashboard(
        "report",
        markdown("# The report\n\nWith words.", **view("report", hidden=False)),
        code("setup()", **view("report", hidden=True)),
        code("plot()", display({"image/png": png64(1200, 400, 60)}), **view("report", hidden=False)),
        code("df", result({"text/html": dataframe()}), **view("report", hidden=False)),
        markdown("## Last words\n\n$x = 1$", **view("report", hidden=False)),
    )


def write_showcase(source: Path) -> None:
    write(source, "site.toml", '[site]\ntitle = "The showcase"\n')
    write(source, "long.ipynb", long_notebook())
    write(source, "pictures/small one.png", png(40, 30, 128))
    write(source, "pictures/wide.png", png(1600, 60, 128))
    folded = [markdown("# Folded"), code("folded_source()", stream("its output\n")), code("b = 2")]
    said = {"code": "folded", "tags": ["one", "two"], "description": "About it"}
    write(source, "folded.ipynb", notebook(*folded, nbfolio=said))
    write(source, "grid.ipynb", grid_dashboard())
    write(source, "report.ipynb", report_dashboard())
    parts = "".join(f"## Part {number}\n\n" + "words\n\n" * 60 for number in ("one", "two", "three"))
    deep = f"# Deep\n\n[up](../long.ipynb)\n\n{parts}"
    write(source, "folder/deep.ipynb", notebook(markdown(deep)))
    write(source, "folder/folder.toml", 'title = "A folder"\ndescription = "With a description."\n')
    side = markdown("No heading, [up](../deep.ipynb#Part-one).")
    write(source, "folder/front/side.ipynb", notebook(side, code("1 + 1", result("2"))))
    write(source, "bundle/index.ipynb", notebook(markdown("# Bundle\n\n![a picture](img/a.png) [data](data.csv)")))
    write(source, "bundle/img/a.png", png(50, 50, 60))
    write(source, "bundle/data.csv", "a,b\n")
    with zipfile.ZipFile(source / "packed.zip", "w") as archive:
        archive.writestr(
            "index.ipynb", json.dumps(notebook(markdown("# Packed\n\n![a picture](a%20b.png) [long](../long.ipynb)")))
        )
        archive.writestr("a b.png", png(60, 20, 60))
    for name in SHOWCASE:
        if name.startswith("names/"):
            page, image = quote("ä b #1.ipynb"), quote("ein Bild #%?.png")
            write(source, f"{name}.ipynb", notebook(markdown(f"# Named\n\n[first]({page}) ![a picture]({image})")))
    write(source, "names/ein Bild #%?.png", png(20, 20, 10))


# The sites, a server, a browser


@pytest.fixture(autouse=True)
def _nothing_is_left() -> None:
    """Not looked at here: Chromium starts and ends helpers when it likes, and they all end with this file."""


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root folder of a static host, with both sites below `PREFIX`."""
    base = tmp_path_factory.mktemp("browser")
    write_showcase(base / "showcase")
    made = shutil.ignore_patterns("_site", ".nbfolio", ".ipynb_checkpoints")
    shutil.copytree(ROOT / "site", base / "starter", ignore=made)
    for name in ("showcase", "starter"):
        report = build(base / name, build__output=str(base / "web" / PREFIX / name))
        assert report.failed == 0, report
    return base / "web"


@pytest.fixture(scope="module")
def host(web: Path) -> Iterator[str]:
    """The address of the static host."""
    with served(web) as address:
        yield address


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    with chromium(chromium_path) as browser:
        yield browser


@pytest.fixture(scope="module")
def bases(web: Path, host: str) -> dict[str, str]:
    """Where a site begins, by transport."""
    return {"http": urljoin(host, quote(PREFIX)) + "/", "file": (web / PREFIX).as_uri() + "/"}


class Visit(Watched):
    """A watched page of one of the sites."""

    def open(self, site: str, path: str, variant: str = "full", wait: str = "load") -> Page:
        tree = "dashboards" if variant == "full" else "dashboards-plain"
        place = f"{tree}/{path}/index.html" if path else f"{tree}/index.html"
        self.page.goto(f"{self.base}{site}/{quote(place)}", wait_until=wait)  # type: ignore[arg-type]
        return self.page


@pytest.fixture
def opened(browser: Browser, bases: dict[str, str]) -> Iterator[Any]:
    """Makes watched pages in contexts of their own; none of them may have done wrong in the end."""
    contexts: list[BrowserContext] = []
    watched: list[Visit] = []

    def make(transport: str = "http", screen: str = "laptop", **options: Any) -> Visit:
        width, height = SCREENS[screen]
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        watched.append(Visit(contexts[-1], bases[transport]))
        return watched[-1]

    yield make
    for context in contexts:
        context.close()
    assert [fault for page in watched for fault in page.faults] == []


# Looking at a page

SURVEY = """async () => {
  const images = [...document.images];
  for (const image of images) image.loading = "eager";
  await Promise.all(images.map(i => i.complete || new Promise(done => { i.onload = i.onerror = done; })));
  const clips = e => getComputedStyle(e).overflowX !== "visible";
  const scrolls = e => e && e !== document.body && (clips(e) || scrolls(e.parentElement));
  const name = e => `${e.tagName.toLowerCase()}.${e.getAttribute("class") ?? ""}`;
  const over = [...document.body.querySelectorAll("*")]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e) && e.checkVisibility());
  const boxes = [...document.querySelectorAll(".nb > .cell:not([hidden])")].map(e => [e.id, e.getBoundingClientRect()]);
  const beside = (p, q) => p.right <= q.left + 1 || q.right <= p.left + 1;
  const stacked = (p, q) => p.bottom <= q.top + 1 || q.bottom <= p.top + 1;
  const overlaps = boxes.flatMap(([a, p], i) =>
    boxes.slice(i + 1).filter(([, q]) => !beside(p, q) && !stacked(p, q)).map(([b]) => `${a} and ${b}`));
  const empty = box => box.width < 2 || box.height < 2;
  return {
    overflow: document.documentElement.scrollWidth > innerWidth ? ["the document", ...over.slice(0, 4).map(name)] : [],
    broken: images.filter(i => !i.naturalWidth).map(i => i.getAttribute("src")),
    undrawn: [...document.querySelectorAll("math")]
      .filter(m => m.checkVisibility() && empty(m.getBoundingClientRect())).map(m => m.textContent),
    overlaps,
  };
}"""
"""Loads all images of a page and says what is wrong with what is to be seen."""

WHOLE: dict[str, list[str]] = {"overflow": [], "broken": [], "undrawn": [], "overlaps": []}
BACKGROUND = """() => {
  const canvas = document.createElement("canvas").getContext("2d");
  for (const element of [document.documentElement, document.body]) {
    canvas.fillStyle = getComputedStyle(element).backgroundColor;
    canvas.fillRect(0, 0, 1, 1);
  }
  const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
  return alpha ? (red + green + blue) / 765 : 1;
}"""
"""How bright the page is, from 0 to 1."""


@every_page
@pytest.mark.parametrize("transport", ["http", "file"])
def test_a_page_is_whole_on_every_screen_and_asks_nobody(opened: Any, transport: str, site: str, path: str) -> None:
    watched = opened(transport)
    for variant in ("full", "plain") if site == "showcase" or transport == "http" else ("full",):
        page = watched.open(site, path, variant)
        for screen, (width, height) in SCREENS.items():
            page.set_viewport_size({"width": width, "height": height})
            assert page.evaluate(SURVEY) == WHOLE, (variant, screen)
        assert page.locator("h1").count() >= 1
        page.emulate_media(color_scheme="dark")
        dark = page.evaluate(BACKGROUND)
        page.emulate_media(color_scheme="light")
        assert dark < 0.25 < 0.75 < page.evaluate(BACKGROUND), "light and dark as the system has it"


def test_the_survey_can_find_something(opened: Any) -> None:
    watched = opened(screen="phone")
    page = watched.open("showcase", "report")
    wrong = '<div style="width: 900px">wide</div><math></math><img src="data:image/png;base64,AAAA">'
    page.evaluate("html => document.querySelector('main').insertAdjacentHTML('beforeend', html)", wrong)
    page.evaluate("document.querySelectorAll('.nb > .cell')[0].style.marginBlockEnd = '-3rem'")
    found = page.evaluate(SURVEY)
    assert {name: bool(faults) for name, faults in found.items()} == dict.fromkeys(WHOLE, True)


def test_the_watch_sees_what_a_page_does(opened: Any) -> None:
    watched = opened()
    page = watched.open("showcase", "folder")
    assert watched.faults == []
    page.evaluate("console.warn('warned')")
    page.evaluate("fetch('http://127.0.0.1:9/elsewhere').catch(() => fetch('missing.txt'))")
    page.wait_for_load_state("networkidle")
    seen = " ".join(watched.faults)
    for fault in ("console warning: warned", "request to http://127.0.0.1:9/", "404: "):
        assert fault in seen
    watched.faults.clear()


def axe_source() -> str:
    if not AXE.is_file():
        message = "axe-core is not installed: run `npm ci --ignore-scripts` in themes/runtime"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return AXE.read_text(encoding="utf-8")


AXE_RUN = """async rules => {
  for (const animation of document.getAnimations()) {
    if (animation.effect.getComputedTiming().endTime < Infinity) animation.finish();
  }
  const authors = [[".output [style]"], [".output [id^='T_']"]];
  const found = await axe.run({include: [["html"]], exclude: authors},
    {resultTypes: ["violations"], ...(rules ? {runOnly: rules} : {})});
  return found.violations.filter(v => ["serious", "critical"].includes(v.impact))
    .map(v => `${v.id}: ${v.nodes.slice(0, 3).map(n => n.html.slice(0, 150)).join(" | ")}`);
}"""
"""What axe-core finds, colours apart that authors gave to their outputs."""


@every_page
def test_axe_finds_nothing_serious(opened: Any, site: str, path: str) -> None:
    script = axe_source()
    watched = opened()
    for variant in ("full", "plain") if path in KINDS and site == "showcase" else ("full",):
        page = watched.open(site, path, variant)
        page.evaluate(script)
        assert page.evaluate(AXE_RUN, None) == [], variant
    page = watched.open(site, path)
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    page.evaluate(script)
    assert page.evaluate(AXE_RUN, None) == [], "dark, on a phone"


def test_axe_can_find_something(opened: Any) -> None:
    page = opened().open("showcase", "folder")
    page.evaluate(axe_source())
    pale = '<p style="color: #aaa; background: #fff">pale</p><img src="data:,">'
    page.evaluate("html => document.body.insertAdjacentHTML('beforeend', html)", pale)
    found = " ".join(page.evaluate(AXE_RUN, None))
    assert "color-contrast" in found
    assert "image-alt" in found


# What is on the pages


def test_the_long_notebook_shows_everything_in_it(opened: Any) -> None:
    page = opened().open("showcase", "long")
    page.evaluate(SURVEY)
    assert page.locator(".cell.markdown math").count() == 5, "in text, table, two blocks, heading"
    assert page.locator("math >> visible=true").count() == 6, "and the output"
    assert page.locator(".cell.markdown input[type=checkbox]").count() == 2
    assert page.locator(".cell.markdown img").count() == 3
    assert page.locator(".output :is(img, svg) >> visible=true").count() == 3, "plot, drawing, picture of the chart"
    assert page.locator("table.dataframe td").count() == 120
    for text in ("line 299", "careful", "ZeroDivisionError", "IntSlider(value=3)", "raw text", "a price of $5"):
        assert page.get_by_text(text).first.is_visible(), text
    assert page.locator("#scripted").inner_text() == "done by a script"
    assert page.evaluate("document.body.dataset.output") == "ran"
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert sorted(ids) == sorted(set(ids))


def test_a_very_long_output_scrolls_in_itself(opened: Any) -> None:
    page = opened(screen="phone").open("showcase", "long", "plain")
    inner, outer = page.locator(".output.stream.stdout pre").first.evaluate("e => [e.scrollHeight, e.clientHeight]")
    assert outer < 844 < inner


def test_a_wide_table_scrolls_in_itself(opened: Any) -> None:
    page = opened(screen="phone").open("showcase", "long")
    table = page.locator("table.dataframe")
    assert table.evaluate(
        """e => {
          const scrolls = e => e.scrollWidth > e.clientWidth && getComputedStyle(e).overflowX === "auto";
          while (e && !scrolls(e)) e = e.parentElement;
          return e !== null && e.getBoundingClientRect().right <= innerWidth;
        }"""
    )


# Dashboards


def boxes(page: Page) -> dict[str, dict[str, float]]:
    """The cells that are shown, by index, relative to the dashboard."""
    return page.evaluate(
        """() => { const outer = document.querySelector(".nb").getBoundingClientRect();
          return Object.fromEntries([...document.querySelectorAll(".nb > .cell:not([hidden])")].map(e => {
            const {left, top, width, height} = e.getBoundingClientRect();
            return [e.dataset.cell, {left: left - outer.left, top: top - outer.top, width, height, outer: outer.width}];
          })); }"""
    )


def test_grid_cells_lie_where_the_layout_says(opened: Any) -> None:
    page = opened().open("showcase", "grid", "plain")
    found = boxes(page)
    assert set(found) == {"1", "2", "4", "5", "6", "7"}
    width = found["1"]["outer"]
    assert width == pytest.approx(1200, abs=0.5)
    slot = (width + 8) / 12
    places = {"1": (0, 0, 12, 2), "2": (2, 3, 6, 5), "4": (7, 0, 4, 9), "5": (7, 4, 8, 9), "6": (16, 0, 12, 6)}
    places["7"] = (22, 11, 1, 3)
    for cell, (row, column, columns, rows) in places.items():
        assert found[cell]["left"] == pytest.approx(column * slot, abs=0.5), cell
        assert found[cell]["width"] == pytest.approx(columns * slot - 8, abs=0.5), cell
        assert found[cell]["top"] == pytest.approx(row * 32, abs=0.5), cell
        assert found[cell]["height"] == pytest.approx(rows * 32 - 8, abs=0.5), cell
    outer = page.locator(".nb").bounding_box()
    assert outer
    assert outer["height"] == pytest.approx(25 * 32 - 8, abs=0.5), "the footer comes below the last row"


@pytest.mark.parametrize("screen", ["laptop", "wide"])
def test_content_that_is_larger_than_its_grid_cell_can_be_reached(opened: Any, screen: str) -> None:
    page = opened(screen=screen).open("showcase", "grid")
    hidden = page.evaluate(
        """() => [...document.querySelectorAll(".nb > .cell:not([hidden])")].filter(e => {
             const cut = e.scrollHeight > e.clientHeight + 1 || e.scrollWidth > e.clientWidth + 1;
             return cut && !["auto", "scroll"].includes(getComputedStyle(e).overflowY); }).map(e => e.dataset.cell)"""
    )
    assert hidden == []
    image = page.locator(".cell[data-cell='4'] img")
    image.evaluate("i => i.decode()")
    bottom = "e => e.getBoundingClientRect().bottom"
    assert image.evaluate(bottom) <= page.locator(".cell[data-cell='4']").evaluate(bottom) + 1


@pytest.mark.parametrize("name", ["grid", "report"])
def test_a_dashboard_is_one_column_on_a_phone(opened: Any, name: str) -> None:
    for variant in ("full", "plain"):
        page = opened(screen="phone").open("showcase", name, variant)
        page.evaluate(SURVEY)
        found = boxes(page)
        cells = [found[number] for number in sorted(found, key=int)]
        assert len({cell["left"] for cell in cells}) == 1
        assert len({cell["width"] for cell in cells}) == 1
        for above, below in pairwise(cells):
            assert above["top"] + above["height"] <= below["top"]
        heights = page.locator(".nb > .cell:not([hidden])").evaluate_all(
            "all => all.map(e => e.scrollHeight - e.clientHeight)"
        )
        assert max(heights) <= 1, "each as high as what is in it"


@pytest.mark.parametrize("screen", SCREENS)
def test_report_cells_stand_in_order_and_are_equally_wide(opened: Any, screen: str) -> None:
    page = opened(screen=screen).open("showcase", "report")
    page.evaluate(SURVEY)
    found = boxes(page)
    assert list(found) == ["0", "2", "3", "4"]
    assert len({cell["width"] for cell in found.values()}) == 1
    assert "setup()" not in page.content()


# Theme


@pytest.mark.parametrize("transport", ["http", "file"])
def test_the_theme_switch_is_kept_over_pages_and_visits(opened: Any, transport: str) -> None:
    watched = opened(transport, color_scheme="light")
    page = watched.open("showcase", "folder/deep")
    switch = page.get_by_role("button", name="Theme")
    for expected in ("Theme: light", "Theme: dark"):
        switch.click()
        assert switch.get_attribute("aria-label") == expected
    assert page.evaluate(BACKGROUND) < 0.25
    page.get_by_role("link", name="up").click()
    page.wait_for_url("**/dashboards/long/index.html")
    assert page.evaluate(BACKGROUND) < 0.25
    page.reload()
    assert page.evaluate(BACKGROUND) < 0.25
    assert watched.open("showcase", "folder/deep", "plain").evaluate(BACKGROUND) < 0.25
    page = watched.open("showcase", "")
    page.get_by_role("button", name="Theme").click()
    assert page.get_by_role("button", name="Theme").get_attribute("aria-label") == "Theme: system"
    page.go_back()
    assert page.evaluate(BACKGROUND) > 0.75, "and a page from the back-forward cache follows"


# Getting about


def focus(page: Page) -> str:
    """What has the focus: tag, class or text."""
    said: str = page.evaluate(
        """() => {
          const e = document.activeElement;
          return `${e.tagName} ${e.className} ${e.closest("nav")?.className ?? ""} ${e.id}`;
        }"""
    )
    return said


def test_the_keyboard_reaches_text_switch_and_contents(opened: Any) -> None:
    page = opened().open("showcase", "long")
    order = []
    for _ in range(12):
        page.keyboard.press("Tab")
        order.append(focus(page))
    kinds = ["A skip", "A brand", "BUTTON theme-switch", "A  contents"]
    places = [next((at for at, one in enumerate(order) if one.startswith(kind)), None) for kind in kinds]
    assert None not in places, order
    assert places == sorted(places, key=lambda place: place or 0)
    assert places[0] == 0


def test_the_skip_link_shows_itself_and_leads_to_the_text(opened: Any) -> None:
    page = opened().open("showcase", "long")
    page.keyboard.press("Tab")
    box = page.locator(".skip").bounding_box()
    assert box
    assert box["y"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "page-content"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_the_focus_is_always_visible(opened: Any) -> None:
    page = opened().open("showcase", "long")
    for _ in range(30):
        page.keyboard.press("Tab")
        seen = page.evaluate(
            """() => { const e = document.activeElement, s = getComputedStyle(e), t = getComputedStyle(e, "::after");
              return [s, t].some(x => x.outlineStyle !== "none" && x.outlineWidth !== "0px") || s.boxShadow !== "none"; }"""
        )
        assert seen, focus(page)


def test_the_theme_switch_works_by_keyboard(opened: Any) -> None:
    page = opened(color_scheme="light").open("showcase", "folder")
    page.get_by_role("button", name="Theme").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


@pytest.mark.parametrize(("screen", "transport"), [("phone", "http"), ("laptop", "file"), ("wide", "http")])
def test_contents_lead_to_their_headings(opened: Any, screen: str, transport: str) -> None:
    page = opened(transport, screen).open("showcase", "long")
    if screen == "phone":
        page.locator("nav.contents summary").click()
    links = page.locator("nav.contents a")
    assert links.count() >= 6
    for number in range(links.count()):
        links.nth(number).click()
        fragment = links.nth(number).get_attribute("href")
        heading = page.evaluate_handle("id => document.getElementById(id)", unquote((fragment or "#")[1:]))
        assert page.evaluate("e => /^H[1-6]$/.test(e?.tagName)", heading), fragment
        page.wait_for_function(
            "e => Math.abs(e.getBoundingClientRect().top - innerHeight / 2) <= innerHeight / 2 + 1", arg=heading
        )
    texts = links.all_inner_texts()
    assert texts.count("Repeated") == 2
    assert len({links.nth(number).get_attribute("href") for number in range(links.count())}) == len(texts)


def test_contents_show_which_section_is_read(opened: Any) -> None:
    page = opened().open("showcase", "folder/deep")
    page.get_by_role("link", name="Part two", exact=True).click()
    page.wait_for_function("document.querySelector('nav.contents [aria-current]')?.textContent === 'Part two'")
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_function("document.querySelector('nav.contents [aria-current]')?.textContent !== 'Part two'")


@pytest.mark.parametrize("transport", ["http", "file"])
def test_back_returns_to_where_one_was(opened: Any, transport: str) -> None:
    watched = opened(transport)
    page = watched.open("showcase", "")
    start = page.url
    page.get_by_role("link", name="A folder").click()
    page.get_by_role("link", name="Deep", exact=True).click()
    page.wait_for_url("**/folder/deep/index.html")
    page.go_back()
    page.go_back()
    assert page.url == start
    page = watched.open("showcase", "folder/deep")
    page.get_by_role("link", name="up").click()
    page.get_by_role("link", name="link", exact=True).click()
    page.wait_for_url("**/deep/index.html#Part-two")
    page.wait_for_function("document.getElementById('Part-two').getBoundingClientRect().top < innerHeight")
    page.go_back()
    page.wait_for_url("**/long/index.html")


def test_every_full_page_leads_back_to_its_folder_and_to_the_start(opened: Any) -> None:
    watched = opened()
    for path, folder in (("long", ""), ("folder/deep", "folder"), ("bundle", ""), ("grid", "")):
        page = watched.open("showcase", path)
        assert page.locator("a.brand").evaluate("e => e.href") == f"{watched.base}showcase/index.html"
        back = page.locator("footer.bottom a").first.evaluate("e => e.href")
        assert back == f"{watched.base}showcase/dashboards/{folder}{'/' * bool(folder)}index.html"
        plain = watched.open("showcase", path, "plain")
        assert plain.locator("header, nav.crumbs, nav.contents, footer.bottom").count() == 0


@pytest.mark.parametrize("transport", ["http", "file"])
def test_every_page_can_be_reached_from_the_first_one(opened: Any, transport: str) -> None:
    watched = opened(transport)
    reached: set[str] = set()
    ahead = [f"{watched.base}showcase/index.html"]
    while ahead:
        url = ahead.pop()
        if url in reached:
            continue
        reached.add(url)
        watched.page.goto(url, wait_until="domcontentloaded")
        links = watched.page.evaluate("[...document.querySelectorAll('a[href]')].map(e => e.href.split('#')[0])")
        ahead += [link for link in links if link.startswith(watched.base) and link.endswith(".html")]
    for path in SHOWCASE:
        for tree in ("dashboards", "dashboards-plain"):
            place = quote(f"showcase/{tree}/{path}/index.html".replace("//", "/"))
            assert any(url.lower() == (watched.base + place).lower() for url in reached), place


# Without scripts


@pytest.mark.parametrize("transport", ["http", "file"])
def test_without_javascript_everything_is_there(opened: Any, transport: str) -> None:
    watched = opened(transport, "phone", java_script_enabled=False)
    page = watched.open("showcase", "folded")
    source = page.locator("code", has_text="folded_source")
    assert not source.is_visible()
    assert page.get_by_text("its output").is_visible()
    page.get_by_text("Show code").first.click()
    assert source.is_visible()
    page = watched.open("showcase", "long")
    contents = page.locator("nav.contents a").first
    assert not contents.is_visible()
    page.locator("nav.contents summary").click()
    contents.click()
    assert page.url.endswith("#Tables-and-lists")
    assert page.locator("math >> visible=true").count() == 6
    for text in ("IntSlider(value=3)", "line 299", "output of folded code"):
        assert page.get_by_text(text).first.is_visible(), text
    assert not page.get_by_role("button", name="Theme").is_visible(), "a switch that cannot switch is not shown"
    assert watched.open("showcase", "").get_by_role("link", name="A folder").is_visible()


def test_without_javascript_the_contents_stand_beside_the_text(opened: Any) -> None:
    page = opened(java_script_enabled=False).open("showcase", "long")
    assert page.locator("nav.contents a").first.is_visible()


# Paper, frames, errors


@pytest.mark.parametrize("path", ["long", "grid", "report", "folder", "folded"])
def test_print_shows_the_content_alone(opened: Any, path: str) -> None:
    page = opened(color_scheme="dark").open("showcase", path)
    page.emulate_media(media="print")
    for frame in (".top", ".skip", ".contents", ".bottom", "button.copy", "a.anchor"):
        shown = page.locator(f"{frame} >> visible=true").count()
        assert shown == 0, frame
    assert page.locator("main h1, main h2").first.is_visible()
    assert page.evaluate(BACKGROUND) > 0.9, "dark on white, also for those who read light on dark"


def test_an_embedded_plain_page_tells_its_height(opened: Any, bases: dict[str, str], tmp_path: Path) -> None:
    inner = f"{bases['http']}showcase/dashboards-plain/folded/index.html"
    listen = "heights = []; addEventListener('message', e => heights.push({origin: e.origin, ...e.data}))"
    portal_page = f"<!doctype html><title>Portal</title><link rel=icon href=data:,><script>{listen}</script>"
    write(tmp_path, "portal.html", f"{portal_page}<iframe src='{inner}' width=600 height=100></iframe>")
    with served(tmp_path) as portal:
        watched = opened()
        page = watched.page
        watched.base = "http://127.0.0.1:"
        page.goto(f"{portal}portal.html")
        page.wait_for_function("heights.length > 0")
        first = page.evaluate("heights.at(-1)")
        assert first["type"] == "nbfolio:height"
        assert first["path"].endswith("/showcase/dashboards-plain/folded/index.html")
        assert first["origin"] != portal.rstrip("/")
        frame = page.frames[1]
        assert first["height"] == frame.evaluate("Math.ceil(document.documentElement.getBoundingClientRect().height)")
        frame.get_by_text("Show code").first.click()
        page.wait_for_function("h => heights.at(-1).height > h", arg=first["height"])
        page.goto("about:blank")


def test_the_error_page_stands_alone(opened: Any) -> None:
    watched = opened()
    page = watched.page
    page.goto(f"{watched.base}showcase/404.html")
    assert page.evaluate(SURVEY) == WHOLE
    assert page.locator("a").count() == 1
    assert "not" in page.locator("h1").inner_text()
    page.evaluate(axe_source())
    assert page.evaluate(AXE_RUN, None) == []
