"""Live pages as readers get them: the real run-shim with real kernels, in Chromium."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from browsing import SCREENS, Watched, chromium, served
from making import code, display, markdown, notebook, png64, stream, write
from playwright.sync_api import Browser, BrowserContext, FrameLocator, Locator, Page, Response, WebSocket, expect
from test_gateways import TOKEN, free_port, kernel_gateway
from test_shim_cli import environment

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SITE = Path(__file__).parent.parent / "site"
SECONDS = 90
"""The longest that anything is waited for: a machine may be busy with other tests."""
PINGED = 35
"""Seconds after which everybody on the way has asked for a sign of life."""
expect.set_options(timeout=SECONDS * 1000)

NO_COOKIES = "--test-third-party-cookie-phaseout"
HIDDEN = "hidden-from-readers"
"""Stands in the source of cells and in nothing they show."""


SETTINGS = """
[build]
jobs = 1

[kernels]
retention = 5
warm_min_free_mb = 0
"""

PORTAL = """<!doctype html>
<title>A portal</title>
<link rel="icon" href="data:,">
<script>window.heard = []; addEventListener("message", ({{data}}) => heard.push(data));</script>
<iframe name="live" src="{}" width="900" height="700"></iframe>
"""


# What the pages hold


def story() -> dict[str, Any]:
    return notebook(
        markdown("# A story"),
        code("import time\ncount = 0\nprint('begun')", stream("stored beginning\n")),
        code("count += 1\nprint('run', count)", stream("stored run\n")),
        code("time.sleep(600 if count == 3 else 0)\nprint('awake')", stream("stored end\n")),
        code("from IPython.display import Image, display\nimport base64\n"
             f"display(Image(base64.b64decode('{png64(300, 80, 90)}')))",
             display({"image/png": png64(300, 80, 90), "text/plain": "<Image>"})),
    )  # fmt: skip


def kinds() -> dict[str, Any]:
    """Every kind of output."""
    return notebook(
        markdown("# Kinds of outputs"),
        code("import plotly.graph_objects as go\ngo.Figure(go.Bar(y=[3, 1, 2]))", count=None),
        code("import altair as alt\nvalues = [{'x': 'a', 'y': 1}, {'x': 'b', 'y': 3}]\n"
             "alt.Chart(alt.Data(values=values)).mark_bar().encode(x='x:N', y='y:Q')"),
        code("from bokeh.io import output_notebook, show\nfrom bokeh.plotting import figure\n"
             "output_notebook(hide_banner=True)\nf = figure(height=200)\nf.line([1, 2], [1, 2])\nshow(f)"),
        code("import matplotlib.pyplot as plt\nplt.plot([1, 3, 2]);"),
        code("from IPython.display import *\ndisplay(HTML('<p id=\"made\">by no script</p>"
             "<script>document.getElementById(\"made\").textContent = \"by a script\"</script>'))"),
        code("display(Math(r'\\frac{a}{b}'), Markdown('**bold** and $x^2$'), JSON({'a': [1, {'b': None}]}))"),
        code("for part in range(5):\n    print(f'\\r{25 * part} %', end='')"),
        code("print('gone')\nclear_output()\nprint('kept')"),
        code("handle = display('first', display_id=True)\nhandle.update('second')"),
        code("display(SVG('<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"90\" height=\"40\">"
             "<circle cx=\"20\" cy=\"20\" r=\"9\"/></svg>'))"),
        code("display(Javascript('element.textContent = \"drawn by a script\"'))"),
        nbfolio={"live": "auto"},
    )  # fmt: skip


def failing() -> dict[str, Any]:
    captured = f"with out:\n    raise KeyError('inside')  # {HIDDEN}"
    return notebook(
        markdown("# What goes wrong"),
        code(f"import ipywidgets as widgets  # {HIDDEN}\nout = widgets.Output()\nout"),
        code(captured),
        code(f"secret = '{HIDDEN}'\ndef fails():\n    return 1 / 0  # {HIDDEN}\nfails()"),
        code(f"print('after', len('{HIDDEN}'))"),
        nbfolio={"live": "button", "code": "hidden"},
    )


def questions() -> dict[str, Any]:
    asks = "name = input('Your name? ')\nprint(f'Hello, {name}!')"
    return notebook(markdown("# Questions"), code(asks), nbfolio={"live": "button"})


def maps() -> dict[str, Any]:
    trace = {"type": "choropleth", "locations": ["FRA", "BRA"], "z": [1, 2]}
    figure = {"data": [trace], "layout": {"geo": {"scope": "world"}, "height": 300}}
    drawn = display({"application/vnd.plotly.v1+json": figure, "text/plain": "Figure"})
    stops = "breakpoint()\nimport pdb; pdb.set_trace()\nprint('went on')"
    source = (
        "import plotly.graph_objects as go\ngo.Figure(go.Scattergeo(locations=['FRA']), {'geo': {'scope': 'europe'}})"
    )
    return notebook(markdown("# Maps"), code(source, drawn), code(stops), nbfolio={"live": "button"})


def loan(**said: Any) -> dict[str, Any]:
    """The live dashboard of the starter site."""
    page: dict[str, Any] = json.loads((SITE / "gallery/loan.ipynb").read_text(encoding="utf-8"))
    page["metadata"]["nbfolio"] |= said
    return page


# A server, a browser


@contextmanager
def running(source: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """run-shim as a program with its port, once its pages are there; in the end it is told to stop."""
    command = [sys.executable, "-m", "shim", str(source), "--port", str(port)]
    with (source.parent / "shim.log").open("a+", encoding="utf-8") as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment())

        def ready() -> bool:
            assert process.poll() is None, Path(said.name).read_text(encoding="utf-8")
            return fetched(port, "/readyz").status_code == 200

        with process:
            try:
                assert process.stdout
                port = port or urlsplit(process.stdout.readline()).port or 0
                until(ready)
                yield process, port
            finally:
                process.terminate()
                process.wait(SECONDS)


def fetched(port: int, path: str) -> requests.Response:
    """The answer of a server; 503 while there is none."""
    try:
        return requests.get(f"http://127.0.0.1:{port}{path}", timeout=SECONDS)
    except requests.ConnectionError:
        answer = requests.Response()
        answer.status_code = 503
        return answer


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another program brings about."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)


@dataclass
class Site:
    """A running site."""

    port: int
    folder: Path
    """Its pages as files."""
    host: str
    """Address of another site, which may embed its pages."""

    def metric(self, name: str) -> float:
        """The value of a metric."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", fetched(self.port, "/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0


@pytest.fixture(autouse=True)
def _nothing_is_left() -> None:
    """Not looked at here: Chromium and the server live as long as this file, and their children come and go."""


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    """A Chromium in which no embedded page of another site has cookies."""
    with chromium(chromium_path, NO_COOKIES) as browser:
        yield browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """All pages of this file, served by one run-shim."""
    base = tmp_path_factory.mktemp("live")
    source = base / "notebooks"
    write(source, "story.ipynb", story())
    write(source, "kinds.ipynb", kinds())
    write(source, "failing.ipynb", failing())
    write(source, "questions.ipynb", questions())
    write(source, "maps.ipynb", maps())
    write(source, "loan.ipynb", loan(warm=0))
    write(source, "warm.ipynb", loan(warm=1))
    (base / "portal").mkdir()
    with served(base / "portal") as portal:
        embedding = f'[server]\nframe_ancestors = ["\'self\'", "{portal.rstrip("/")}"]\n'
        write(source, "site.toml", embedding + SETTINGS)
        with running(source) as (_, port):
            page = PORTAL.format(f"http://localhost:{port}/dashboards-plain/warm/")
            write(base / "portal", "index.html", page)
            yield Site(port, source / "_site", portal)


@dataclass
class Visitor(Watched):
    """A reader with a page of their own, and all that came over its WebSockets."""

    context: BrowserContext
    base: str
    sockets: int = 0
    """How many WebSockets were opened."""
    frames: list[str | bytes] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self.context, self.base)
        self.page.on("websocket", self.listen)
        self.page.on("response", lambda answer: self.answers.append(answer))

    def listen(self, opened: WebSocket) -> None:
        """Keep what comes."""
        self.sockets += 1
        self.note(self.outside(opened.url.replace("ws", "http", 1)), f"WebSocket to {opened.url}")
        opened.on("framereceived", lambda payload: self.frames.append(payload))

    def open(self, path: str, variant: str = "full") -> Page:
        """Open a page; the path may have a query."""
        path, _, query = path.partition("?")
        tree = "dashboards" if variant == "full" else "dashboards-plain"
        self.page.goto(f"{self.base}{tree}/{path}/?{query}".rstrip("?"))
        return self.page


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Callable[..., Visitor]]:
    """Makes visitors; the pages of none of them may have done wrong in the end."""
    visitors: list[Visitor] = []

    def make(screen: str = "laptop", base: str = "", **options: Any) -> Visitor:
        width, height = SCREENS[screen]
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(SECONDS * 1000)
        visitors.append(Visitor(context, base or f"http://127.0.0.1:{site.port}/"))
        return visitors[-1]

    yield make
    for visitor in visitors:
        visitor.context.close()
    assert [fault for visitor in visitors for fault in visitor.faults] == []


@pytest.fixture(scope="module", autouse=True)
def patient(browser: Browser, site: Site) -> Iterator[tuple[Visitor, float]]:
    """A reader who does nothing while all others come and go, and since when."""
    visitor = Visitor(browser.new_context(), f"http://127.0.0.1:{site.port}/")
    visitor.open("questions")
    press(visitor.page, "Run live")
    bar(visitor.page, "A cell asks for your input")
    yield visitor, time.monotonic()
    visitor.context.close()


# Looking at a live page

Place = Page | FrameLocator


def cell(page: Place, index: int) -> Locator:
    return page.locator(f".nb > .cell[data-cell='{index}']")


def outputs(page: Place, index: int) -> Locator:
    return cell(page, index).locator(".outputs")


def bar(page: Place, words: str | re.Pattern[str]) -> None:
    """Wait until the bar says something, also to those who do not see it."""
    expect(page.locator(".live-words")).to_have_text(words)
    expect(page.get_by_role("status")).to_have_text(words)


def press(page: Place, name: str) -> None:
    """Press a button of the bar."""
    page.get_by_role("group", name="Live cells").get_by_role("button", name=name, exact=True).click()


def run_cell(page: Page, index: int) -> None:
    """Run a cell as a reader does, with the button that shows under the pointer."""
    cell(page, index).hover()
    cell(page, index).get_by_role("button", name="Run this cell").click()


DRAWN = """image => image.complete && image.naturalWidth > 1 && image.getBoundingClientRect().width > 20"""


def slider(page: Place, name: str) -> Locator:
    return page.locator(".widget-slider", has_text=name)


def readout(page: Place, name: str) -> Locator:
    """The number beside a slider."""
    return slider(page, name).locator(".widget-readout")


def move(page: Place, name: str, key: str) -> None:
    """Move a slider with the keyboard."""
    slider(page, name).get_by_role("slider").press(key)


def picture(page: Place) -> bytes:
    """What is drawn on the dashboard of the loan: one picture and no more."""
    image = outputs(page, 5).locator("img")
    expect(image).to_have_count(1)
    assert image.evaluate(DRAWN)
    return image.screenshot()


def slider_draws(page: Place) -> None:
    """Moving a slider changes text and picture, again and again, and leaves one of each."""
    before = picture(page)
    for key, years, monthly in (("ArrowRight", 26, "1,222"), ("ArrowLeft", 25, "1,252"), ("End", 40, "968")):
        move(page, "Years", key)
        expect(readout(page, "Years")).to_have_text(str(years))
        expect(outputs(page, 4)).to_contain_text(f"{monthly} a month")
        expect(outputs(page, 4).locator("p")).to_have_count(2)
        expect(outputs(page, 5).get_by_alt_text(f"over {years} years")).to_have_count(1)
        after = picture(page)
        assert after != before
        before = after


def fits(page: Page) -> bool:
    """Whether nothing has to be scrolled sideways."""
    narrow: bool = page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    return narrow


# Pages with stored outputs


def test_a_frozen_page_comes_alive_and_back(visit: Any) -> None:
    page = visit().open("story")
    bar(page, "Stored results")
    assert outputs(page, 2).inner_text().strip() == "stored run"
    expect(cell(page, 2).get_by_role("button", name="Run this cell")).to_have_count(0)
    press(page, "Run live")
    bar(page, "Live")
    assert [outputs(page, index).inner_text().strip() for index in (1, 2, 3)] == ["begun", "run 1", "awake"]

    for run in (2, 3):
        run_cell(page, 2)
        expect(outputs(page, 2)).to_have_text(f"run {run}")
    run_cell(page, 3)
    expect(page.locator(".live-words")).to_have_text("Running cell 3 of 4")
    expect(page.get_by_role("status")).to_have_text("Running")
    expect(cell(page, 3)).to_have_attribute("data-state", "running")
    press(page, "Interrupt")
    bar(page, "Interrupted")
    expect(outputs(page, 3)).to_have_text("KeyboardInterrupt")

    press(page, "Restart")
    expect(outputs(page, 2)).to_have_text("run 1")
    bar(page, "Live")
    expect(outputs(page, 3)).to_have_text("awake")
    press(page, "Stop")
    bar(page, "Stored results")
    assert [outputs(page, index).inner_text().strip() for index in (1, 2, 3)] == [
        "stored beginning", "stored run", "stored end",
    ]  # fmt: skip
    expect(page.get_by_role("button", name="Run this cell")).to_have_count(0)


LOOK = """image => {
  const {width, height} = image.getBoundingClientRect();
  const {backgroundColor, padding, margin, borderRadius} = getComputedStyle(image);
  return {width, height, backgroundColor, padding, margin, borderRadius};
}"""


def test_a_live_picture_looks_like_the_stored_one(visit: Any) -> None:
    page = visit().open("story")
    image = outputs(page, 4).locator("img")

    def looks() -> list[Any]:
        found = []
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.mouse.move(0, 0)
            found += [image.evaluate(LOOK), image.screenshot()]
        return found

    image.scroll_into_view_if_needed()
    image.evaluate("image => image.decode()")
    stored = looks()
    assert stored[0] != stored[2], "a light sheet in the dark"
    page.emulate_media(color_scheme="light")
    press(page, "Run live")
    bar(page, "Live")
    assert image.get_attribute("src").startswith("data:")
    assert looks() == stored


# Dashboards


def test_a_dashboard_starts_by_itself_and_its_slider_draws(visit: Any) -> None:
    page = visit().open("loan")
    bar(page, "Live")
    slider_draws(page)
    assert fits(page)


def test_outlines_of_maps_come_with_the_site_and_a_double_click_starts_once(visit: Any) -> None:
    visitor = visit()
    page = visitor.open("maps")
    country = outputs(page, 1).locator(".choroplethlayer path")
    expect(country).to_have_count(2)
    assert country.first.bounding_box()["width"] > 5
    page.get_by_role("group", name="Live cells").get_by_role("button", name="Run live").dblclick()
    bar(page, "Live")
    expect(outputs(page, 1).locator(".scattergeolayer .point, .scattergeo path.point")).to_have_count(1)
    assert any("europe_110m" in answer.url for answer in visitor.answers)
    assert not any("_50m" in answer.url for answer in visitor.answers)
    # `breakpoint()` stops nowhere; what `pdb` asks for is not asked of the reader.
    expect(outputs(page, 2)).to_contain_text("Readers can give none")
    expect(outputs(page, 2)).to_contain_text("went on")
    assert "set_trace" not in str(visitor.frames)


def test_a_warm_kernel_has_its_outputs_ready(visit: Any, site: Site) -> None:
    warm = 'nbfolio_kernel_starts_total{outcome="warm"}'
    before, visitor = site.metric(warm), visit()

    def gets_one() -> bool:
        bar(visitor.open("warm"), "Live")
        return site.metric(warm) > before

    until(gets_one)
    slider_draws(visitor.page)


def test_on_a_phone_a_dashboard_fits_and_starts_where_the_address_says(visit: Any) -> None:
    page = visit(screen="phone", has_touch=True, is_mobile=True).open("loan?years=15&amount=180000&unknown=1")
    bar(page, "Live")
    expect(readout(page, "Years")).to_have_text("15")
    expect(outputs(page, 4)).to_contain_text("1,287 a month")
    assert outputs(page, 5).get_by_alt_text("A loan of 180,000 at 3.5 % over 15 years").evaluate(DRAWN)
    assert fits(page)
    move(page, "Years", "ArrowRight")
    expect(outputs(page, 5).get_by_alt_text("over 16 years")).to_have_count(1)
    picture(page)
    assert fits(page)


# Outputs


def test_every_kind_of_output_is_drawn(visit: Any) -> None:
    page = visit().open("kinds")
    bar(page, "Live")
    expect(outputs(page, 1).locator(".js-plotly-plot .bars path")).to_have_count(3)
    expect(outputs(page, 2).locator("svg .mark-rect path")).to_have_count(2)
    expect(outputs(page, 3).locator("canvas").first).to_be_visible()
    assert outputs(page, 4).locator("img").evaluate(DRAWN)
    expect(page.locator("#made")).to_have_text("by a script")
    expect(outputs(page, 6).locator("math")).to_have_count(2)
    expect(outputs(page, 6).locator("strong")).to_have_text("bold")
    expect(outputs(page, 6).locator("[data-mime='application/json']")).to_contain_text("null")
    for index, text in ((7, "100 %"), (8, "kept"), (9, "'second'"), (11, "drawn by a script")):
        expect(outputs(page, index)).to_have_text(text)
    assert outputs(page, 10).locator("img").evaluate(DRAWN)
    for width, height in SCREENS.values():
        page.set_viewport_size({"width": width, "height": height})
        assert fits(page)


# What goes wrong


def test_an_error_stays_in_its_cell_and_no_code_leaves_the_server(visit: Any) -> None:
    visitor = visit()
    page = visitor.open("failing")
    press(page, "Run live")
    bar(page, "Cell 3 failed; the cells after it were not run")
    expect(outputs(page, 1)).to_contain_text("KeyError: 'inside'")
    assert outputs(page, 3).inner_text().strip() == "ZeroDivisionError: division by zero"
    assert cell(page, 4).inner_text().strip() == "Not run."
    run_cell(page, 4)
    expect(outputs(page, 4)).to_have_text("after 19")
    bar(page, "Live")
    bodies = [answer.body() for answer in visitor.answers if answer.request.method != "HEAD" and answer.status != 204]
    spoken = [one.encode() if isinstance(one, str) else one for one in visitor.frames]
    assert len(bodies) > 5
    assert len(spoken) > 20
    assert any(b"KeyError" in one for one in spoken)
    assert not [one for one in bodies + spoken if HIDDEN.encode() in one]


def test_a_cell_asks_its_reader(visit: Any) -> None:
    page = visit().open("questions")
    press(page, "Run live")
    bar(page, "A cell asks for your input")
    field = page.get_by_label("Your name?")
    expect(field).to_be_focused()
    field.fill("Ada Łovelace")
    field.press("Enter")
    expect(outputs(page, 1)).to_contain_text("Hello, Ada Łovelace!")
    bar(page, "Live")
    expect(field).to_have_count(0)


def test_two_visitors_have_states_of_their_own(visit: Any) -> None:
    pages = [visit().open("story") for _ in range(2)]
    for page in pages:
        press(page, "Run live")
    for page in pages:
        bar(page, "Live")
    run_cell(pages[0], 2)
    expect(outputs(pages[0], 2)).to_have_text("run 2")
    run_cell(pages[1], 2)
    expect(outputs(pages[1], 2)).to_have_text("run 2")


# Lost connections

EXPECTED = re.compile("ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|404")
"""What the browser itself says of a server that is not there, and of a kernel that has ended."""


def test_a_page_survives_restarts_of_the_server(visit: Any, tmp_path: Path) -> None:
    gateway, source = free_port(), tmp_path / "notebooks"
    write(source, "story.ipynb", story())
    settings = f'[[kernels.gateway]]\nname = "main"\nurl = "http://127.0.0.1:{gateway}"\ntoken = "{TOKEN}"\n'
    write(source, "site.toml", settings).chmod(0o600)
    with kernel_gateway(gateway, "--JupyterWebsocketPersonality.list_kernels=True"):
        with running(source) as (shim, port):
            visitor = visit(base=f"http://127.0.0.1:{port}/")
            page = visitor.open("story")
            press(page, "Run live")
            bar(page, "Live")
            shim.send_signal(signal.SIGKILL)
            expect(page.get_by_role("status")).to_have_text("Connection lost")
            expect(page.locator(".live-words")).to_contain_text("trying again")
            assert outputs(page, 2).inner_text().strip() == "run 1"
            shim.wait()
        with running(source, port) as (shim, _):
            bar(page, "Live")
            run_cell(page, 2)
            expect(outputs(page, 2)).to_have_text("run 2")
            shim.terminate()
            expect(page.get_by_role("status")).to_have_text("Connection lost")
            shim.wait()
        with running(source, port):
            bar(page, "The kernel has ended")
            assert outputs(page, 2).inner_text().strip() == "run 2"
            press(page, "Restart")
            bar(page, "Live")
            expect(outputs(page, 2)).to_have_text("run 1")
            press(page, "Stop")
            bar(page, "Stored results")
    visitor.faults[:] = [fault for fault in visitor.faults if not EXPECTED.search(fault)]


# Elsewhere


def test_a_page_embedded_in_another_site_is_live_without_cookies(visit: Any, site: Site) -> None:
    visitor = visit(base=site.host)
    own = f"http://localhost:{site.port}/"
    visitor.outside = lambda url: not url.startswith((own, site.host, "data:", "blob:"))
    visitor.page.goto(site.host)
    frame = visitor.page.frame("live")
    assert frame
    frame.wait_for_load_state()
    refused = "document.cookie = 'a=b; SameSite=None; Secure'; document.cookie"
    assert frame.evaluate(refused) == "", "else this test shows nothing"
    page = visitor.page.frame_locator("iframe")
    bar(page, "Live")
    slider_draws(page)
    heard = visitor.page.evaluate("heard")
    assert {message["type"] for message in heard} == {"nbfolio:height"}
    height = frame.evaluate("Math.ceil(document.documentElement.getBoundingClientRect().height)")
    assert (heard[-1]["path"], heard[-1]["height"]) == ("/dashboards-plain/warm/", height)


def test_a_static_host_shows_what_is_stored(visit: Any, site: Site) -> None:
    with served(site.folder) as base:
        page = visit(base=base).open("loan")
        expect(page.locator(".widget-slider .widget-readout")).to_have_text(["250,000", "3.5", "25"])
        expect(outputs(page, 4)).to_contain_text("1,252 a month")
        image = outputs(page, 5).locator("img")
        image.scroll_into_view_if_needed()
        assert image.evaluate(DRAWN)
        page = visit(base=base).open("story")
        page.wait_for_load_state("networkidle")
        assert outputs(page, 2).inner_text().strip() == "stored run"
        expect(page.get_by_role("status")).to_have_count(0)


@pytest.mark.parametrize("scripts", [True, False])
def test_from_the_disk_a_page_is_complete_and_silent(visit: Any, site: Site, scripts: bool) -> None:
    base = site.folder.as_uri() + "/"
    visitor = visit(base=base, java_script_enabled=scripts)
    for path in ("story", "loan", "kinds"):
        visitor.page.goto(f"{base}dashboards/{path}/index.html")
        expect(visitor.page.get_by_role("status")).to_have_count(0)
        assert visitor.page.locator("h1").count() == 1
    visitor.page.goto(f"{base}dashboards/story/index.html")
    assert outputs(visitor.page, 2).inner_text().strip() == "stored run"


def test_without_javascript_a_page_shows_what_is_stored(visit: Any) -> None:
    page = visit(java_script_enabled=False).open("story")
    assert outputs(page, 2).inner_text().strip() == "stored run"
    expect(page.get_by_role("button", name="Run live")).to_have_count(0)


def test_a_page_on_which_nothing_happens_stays_connected(patient: tuple[Visitor, float]) -> None:
    visitor, since = patient
    until(lambda: time.monotonic() - since > PINGED)
    visitor.page.get_by_label("Your name?").fill("Grace")
    visitor.page.get_by_role("button", name="Send").click()
    expect(outputs(visitor.page, 1)).to_contain_text("Hello, Grace!")
    assert (visitor.sockets, visitor.faults) == (1, [])
