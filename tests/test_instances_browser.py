"""A notebook instance of this machine from its creation to its end, as its owner sees it in a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from browsing import SCREENS, Watched, chromium
from dashboards import Shim, running, until
from playwright.sync_api import Browser, Page, TimeoutError, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SECONDS = 90
NOTEBOOK = "/api/v1/notebook"
LAB = re.compile(r"http://127\.0\.0\.1:\d+/lab")
TOKENS = [{"name": "ada", "value": "token-of-ada", "scopes": ["instances"], "owner": "ada"}]
expect.set_options(timeout=SECONDS * 1000)


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    with chromium(chromium_path) as one:
        yield one


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    """A server with instances on this machine, for owners of tokens."""
    with running(tmp_path_factory.mktemp("site"), instances__backend="local", auth__token=TOKENS) as one:
        yield one.as_("token-of-ada")


@contextmanager
def tab(browser: Browser, base: str, **settings: Any) -> Iterator[Page]:
    context = browser.new_context(**settings)
    context.set_default_timeout(SECONDS * 1000)
    try:
        yield Watched(context, base).page
    finally:
        context.close()


def create(shim: Shim, name: str) -> dict[str, Any]:
    wanted = {
        "meta": {"name": name},
        "environment": {"name": "notebook-env"},
        "spec": {"resources": "cpu=2,memory=4Gi", "envVars": {"GREETING": "hello from outside"}},
    }
    answer = shim(NOTEBOOK, "POST", json.dumps(wanted).encode(), content_type="application/json")
    assert answer.status == 200, answer.text
    made: dict[str, Any] = answer.json()["result"]
    return made


def status(shim: Shim, notebook_id: str) -> str:
    answer: str = shim(f"{NOTEBOOK}/{notebook_id}").json()["result"]["status"]
    return answer


def run_cell(page: Page, text: str, shows: str) -> None:
    """Run something in the first cell of the notebook that is shown, until its output is there."""
    expect(page.locator(".jp-NotebookPanel-toolbar [data-status='idle']")).to_be_attached()
    editor = page.locator(".jp-Notebook .jp-Cell .cm-content").first
    output = page.locator(".jp-OutputArea-output", has_text=shows)
    # A new notebook may be read from the disk once more, and what was typed is gone.
    for _ in range(10):
        editor.click()
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(text)
        page.keyboard.press("Shift+Enter")
        with suppress(TimeoutError):
            output.wait_for(timeout=SECONDS * 100)
            return
    raise AssertionError("the cell shows nothing")


def test_an_instance_is_opened_used_stopped_and_started_in_a_browser(browser: Browser, shim: Shim) -> None:
    base = f"http://localhost:{shim.server.port}"
    made = create(shim, "workbench")
    where = f"{base}{made['url']}"
    with tab(browser, base, viewport={"width": 1400, "height": 900}) as page:
        # The page asks for the token, waits for the instance, and goes on by itself.
        page.goto(where)
        page.get_by_label("Token").fill("token-of-ada")
        page.get_by_role("button", name="Open").click()
        page.wait_for_url(LAB, wait_until="commit")
        page.locator(".jp-LauncherCard[title*='ipykernel']").first.click()
        run_cell(
            page, "import os; open('kept.txt', 'w').write('x'); print(os.environ['GREETING'].upper())", "HELLO FROM"
        )
        page.locator(".lm-TabBar-addButton:visible").first.click()
        page.locator(".jp-LauncherCard", has_text="Terminal").click()
        page.locator(".jp-Terminal .xterm-helper-textarea").wait_for(state="attached")
        page.locator(".jp-Terminal").click()
        page.keyboard.type("echo terminal-$((6*7)) | tee echoed.txt\n")
        files = shim.config.state_dir / "instances" / made["notebookId"] / "files"
        until(lambda: (files / "echoed.txt").exists() and "terminal-42" in (files / "echoed.txt").read_text())
        assert (files / "kept.txt").read_text() == "x"
    assert shim(f"{NOTEBOOK}/{made['notebookId']}/stop", "POST", b"").status == 200
    assert status(shim, made["notebookId"]) == "stopped"
    with tab(browser, base, viewport={"width": 1400, "height": 900}) as page:
        page.goto(where)
        page.get_by_label("Token").fill("token-of-ada")
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_role("heading", name="stopped")).to_be_visible()
        page.get_by_role("button", name="Start it").click()
        page.wait_for_url(LAB, wait_until="commit")
        expect(page.locator(".jp-DirListing-item", has_text="kept.txt")).to_be_visible()
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    assert shim(f"{NOTEBOOK}/{made['notebookId']}", "DELETE").status == 200
    assert shim(f"{NOTEBOOK}/{made['notebookId']}").status == 404
    assert not (shim.config.state_dir / "instances" / made["notebookId"]).exists()
    until(lambda: {child.pid for child in psutil.Process().children(recursive=True)} < before)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_about_an_instance_fit_every_screen(browser: Browser, shim: Shim, scheme: Any) -> None:
    base = f"http://localhost:{shim.server.port}"
    with tab(browser, base, color_scheme=scheme) as page:
        for width, height in SCREENS.values():
            page.set_viewport_size({"width": width, "height": height})
            page.goto(f"{base}/notebook/default/{'a-very-long-name-' * 3}x/lab")
            expect(page.get_by_label("Token")).to_be_focused()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_be_visible()
