"""What a server knows of pages is what the pages say of themselves, and follows every build."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from making import Cell, code, markdown, notebook, stream, write
from sites import build, config_of

from builder.build import Builder
from builder.catalog import LivePage, published_catalog
from builder.frame import Frame
from builder.page import Body, PageOptions
from builder.render import renderer
from builder.rendering.notebook import read_notebook
from builder.settings import Site
from builder.theme import load_theme
from shim.background import BackgroundBuilder, Finished

GRID = {"jupyter_dashboards": {"activeView": "g", "views": {"g": {"type": "grid", "name": "grid"}}}}
REPORT = {"jupyter_dashboards": {"activeView": "r", "views": {"r": {"type": "report", "name": "report"}}}}
RUN = code("print(1)", stream("1"))
FRESH = code("print(1)", count=None)


def html_of(site: Path, path: str, tree: str = "dashboards") -> str:
    return (site / "_site" / tree / path / "index.html").read_text()


def said(html: str, name: str) -> str | None:
    """What an attribute of the page says, None without it."""
    match = re.search(rf'<(?:body|div class="nb[^"]*")[^>]* data-{name}="([^"]*)"', html)
    return match[1] if match else None


def body_of(*cells: Cell, live: Any = "button", **metadata: Any) -> Body:
    content = json.dumps(notebook(*cells, **metadata)).encode()
    return renderer().render(read_notebook(content, "n").node, PageOptions(name="n", live=live))[0]


def catalog_of(site: Path) -> dict[str, LivePage]:
    """The catalog after one build by a builder of its own."""
    with Builder(config_of(site)) as builder:
        builder.build()
        return builder.catalog()


@pytest.mark.parametrize(
    ("cells", "metadata", "options", "live"),
    [
        ([RUN], {}, "button", "button"),
        ([FRESH], {}, "button", "button"),
        ([RUN], {}, "off", "off"),
        ([RUN], {"nbfolio": {"live": "off"}}, "auto", "off"),
        ([RUN], {"nbfolio": {"live": "button"}}, "auto", "button"),
        ([FRESH], {"nbfolio": {"live": "button"}}, "auto", "button"),
        ([RUN], {"nbfolio": {"live": "auto"}}, "off", "auto"),
        ([RUN], {}, "auto", "button"),
        ([FRESH, RUN], {}, "auto", "button"),
        ([FRESH, FRESH], {}, "auto", "auto"),
        ([RUN], {"extensions": GRID}, "auto", "auto"),
        ([RUN], {"extensions": REPORT}, "auto", "auto"),
        ([RUN], {"extensions": GRID}, "button", "button"),
        ([markdown("text")], {"nbfolio": {"live": "auto"}}, "auto", "off"),
        ([code(" \n", count=None)], {"nbfolio": {"live": "auto"}}, "auto", "off"),
        ([], {}, "auto", "off"),
    ],
)
def test_a_page_starts_by_itself_when_its_author_says_so_or_it_shows_little_until_then(
    cells: list[Cell], metadata: dict[str, Any], options: str, live: str
) -> None:
    assert body_of(*cells, live=options, **metadata).meta.live == live


def test_the_body_lists_every_cell_with_code_in_order_whatever_is_shown_of_it() -> None:
    raw = {"cell_type": "raw", "metadata": {}, "source": "x"}
    cells = [
        markdown("# T"),
        code("a"),
        code("  "),
        code("b", tags=["remove-cell"]),
        raw,
        code("c", tags=["remove-input"]),
        code("d", tags=["hide-cell"]),
        code(""),
    ]
    html = body_of(*cells).html
    assert said(html, "cells") == "1 3 5 6"
    sections = re.findall(r'<section class="cell code"[^>]* data-cell="(\d+)"', html)
    assert sections == ["1", "2", "3", "5", "6", "7"], "there is a place for what each code cell says"
    assert said(body_of(*cells, extensions=GRID).html, "cells") == "1 3 5 6"
    assert said(body_of(markdown("# T")).html, "cells") is None


@pytest.mark.parametrize(("warm", "kept"), [(0, 0), (3, 3), (16, 16)])
def test_a_notebook_says_how_many_kernels_wait_for_its_readers(warm: int, kept: int) -> None:
    body = body_of(RUN, nbfolio={"warm": warm})
    assert body.meta.warm == kept
    assert not body.findings


@pytest.mark.parametrize("warm", [17, -1, 1.5, True, "2", None, [1]])
def test_a_wrong_number_of_waiting_kernels_is_none_and_reported(warm: Any) -> None:
    body = body_of(RUN, nbfolio={"warm": warm})
    assert body.meta.warm == 0
    assert [finding.message for finding in body.findings] == [
        "metadata.nbfolio.warm is ignored: it must be a whole number from 0 to 16"
    ]


def test_page_and_catalog_agree_on_version_and_liveness(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(RUN, nbfolio={"warm": 2}))
    write(tmp_path, "f/folder.toml", 'live = "auto"')
    write(tmp_path, "f/b.ipynb", notebook(FRESH))
    write(tmp_path, "f/c.ipynb", notebook(RUN))
    catalog = catalog_of(tmp_path)
    assert {path: page.live for path, page in catalog.items()} == {"a": "button", "f/b": "auto", "f/c": "button"}
    assert len({page.version for page in catalog.values()}) == 3
    assert [page.warm for page in catalog.values()] == [2, 0, 0]
    for path, page in catalog.items():
        for tree in ("dashboards", "dashboards-plain"):
            html = html_of(tmp_path, path, tree)
            assert re.fullmatch("[0-9a-f]{16}", page.version)
            assert (said(html, "version"), said(html, "live")) == (page.version, page.live)


def test_a_page_on_its_own_asks_for_no_kernel() -> None:
    body = body_of(FRESH, live="auto")
    assert body.meta.live == "auto"
    html = Frame(Site(), load_theme("paper", []), "style.css", "").standalone(body, body.html).decode()
    assert (said(html, "live"), said(html, "version")) == ("off", None)


def test_a_changed_page_has_another_version_and_the_same_text_the_same(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(code("1")))
    # Not of this very moment: a builder looks again at what is.
    os.utime(write(tmp_path, "b.ipynb", notebook(code("1"))), (1_700_000_000, 1_700_000_000))
    with Builder(config_of(tmp_path)) as builder:
        builder.build()
        before = builder.catalog()
        write(tmp_path, "a.ipynb", notebook(code("2")))
        builder.build(["a.ipynb"])
        after = builder.catalog()
        assert before is not after
        assert before["a"].version != after["a"].version == said(html_of(tmp_path, "a"), "version")
        assert after["b"] is before["b"], "what has not changed is not made again"
        assert before["a"].version not in html_of(tmp_path, "a")
        (tmp_path / "b.ipynb").unlink()
        builder.build(["b.ipynb"])
        assert builder.catalog().keys() == {"a"}
        assert before.keys() == {"a", "b"}, "nobody changes a catalog that somebody reads"


def test_drafts_and_failures_are_known_and_a_failing_page_keeps_its_version(tmp_path: Path) -> None:
    write(tmp_path, "draft.ipynb", notebook(RUN, nbfolio={"draft": True}))
    write(tmp_path, "never.ipynb", "{")
    write(tmp_path, "good.ipynb", notebook(RUN))
    with Builder(config_of(tmp_path)) as builder:
        builder.build()
        before = builder.catalog()
        write(tmp_path, "good.ipynb", "{")
        builder.build()
        after = builder.catalog()
    assert (before["draft"].draft, before["draft"].published, before["draft"].failure) == (True, False, "")
    assert (before["never"].published, before["never"].live) == (False, "off")
    assert before["good"].failure == ""
    assert (before["good"].draft, before["good"].published) == (False, True)
    assert "not JSON" in after["good"].failure
    assert after["good"].published
    assert after["good"].version == before["good"].version == said(html_of(tmp_path, "good"), "version")


def test_the_kind_says_whether_a_page_is_an_archive(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(RUN))
    write(tmp_path, "bundle/index.ipynb", notebook(RUN))
    write(tmp_path, "plain/index.ipynb", notebook(RUN))
    write(tmp_path, "plain/other.ipynb", notebook(RUN))
    folder = tmp_path / "packed"
    write(folder, "index.ipynb", notebook(RUN))
    shutil.make_archive(str(tmp_path / "zipped"), "zip", folder)
    shutil.rmtree(folder)
    found = {path: (page.file, page.kind) for path, page in catalog_of(tmp_path).items()}
    assert found == {
        "a": ("a.ipynb", "notebook"),
        "bundle": ("bundle/index.ipynb", "notebook"),
        "plain": ("plain/index.ipynb", "notebook"),
        "plain/other": ("plain/other.ipynb", "notebook"),
        "zipped": ("zipped.zip", "zip"),
    }


def test_a_build_in_which_nothing_changed_has_the_catalog_too(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(RUN))
    first = catalog_of(tmp_path)
    with Builder(config_of(tmp_path)) as builder:
        assert builder.build().kept == 1
        assert builder._last is None, "this must be the quick check"
        assert builder.catalog() == first
        write(tmp_path, "b.ipynb", notebook(FRESH))
        builder.build(["b.ipynb"])
        assert builder.catalog().keys() == {"a", "b"}
    assert published_catalog(config_of(tmp_path)).keys() == {"a", "b"}


def test_records_that_are_gone_are_made_again(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(RUN))
    first = catalog_of(tmp_path)
    (ledger,) = (tmp_path / ".nbfolio/outputs").glob("*/ledger.db")
    ledger.unlink()
    assert published_catalog(config_of(tmp_path)) == {}
    assert catalog_of(tmp_path) == first


def test_a_finished_site_is_known_from_what_the_builder_left(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert Finished(config).catalog == {}
    assert not config.state_dir.exists(), "looking makes nothing"
    write(tmp_path, "a.ipynb", notebook(RUN))
    first = catalog_of(tmp_path)
    assert Finished(config).catalog == first
    (ledger,) = config.state_dir.glob("outputs/*/ledger.db")
    ledger.write_bytes(b"no database" * 1000)
    assert Finished(config).catalog == {}


def test_a_finished_site_is_known_where_the_state_folder_cannot_be_written(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(RUN))
    first = catalog_of(tmp_path)
    (ledger,) = (tmp_path / ".nbfolio/outputs").glob("*/ledger.db")
    for name in ("ledger.db-shm", "ledger.db-wal"):
        # A folder in its place keeps SQLite from making the file, for the superuser, too.
        ledger.with_name(name).unlink(missing_ok=True)
        ledger.with_name(name).mkdir()
    assert Finished(config_of(tmp_path)).catalog == first


def test_a_site_that_an_older_version_built_is_known(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(RUN))
    build(tmp_path)
    with Builder(config_of(tmp_path)) as builder:
        ledger = builder._ledger
        ledger.open()
        blob = ledger._database.execute("SELECT record FROM pages").fetchone()[0]  # type: ignore[union-attr]
        assert b"\xa4warm\x00" in blob
        # a map with one entry less
        older = blob.replace(b"\xa4warm\x00", b"").replace(b"\x88\xa5title", b"\x87\xa5title")
        assert len(older) == len(blob) - 6
        ledger._database.execute("UPDATE pages SET record = ?", (older,))  # type: ignore[union-attr]
    page = published_catalog(config_of(tmp_path))["a"]
    assert (page.warm, page.live) == (0, "button")


def test_the_catalog_of_a_running_builder_follows_its_builds(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(RUN))
    at_report: list[object] = []
    builder = BackgroundBuilder(
        config_of(tmp_path, build__jobs=1), lambda report: at_report.append(report), lambda line: None
    )
    assert builder.catalog == {}
    with builder:
        assert builder.ready.wait(120)
        first = builder.catalog
        assert first.keys() == {"a"}
        write(tmp_path, "b.ipynb", notebook(FRESH))
        builder.refresh(["b.ipynb"])
        assert builder.catalog.keys() == {"a", "b"}
        assert first.keys() == {"a"}
        (tmp_path / "b.ipynb").unlink()
        builder.refresh(["b.ipynb"])
        assert builder.catalog == first
    assert builder.catalog == first, "a server that stops still knows its pages"
