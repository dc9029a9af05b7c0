"""The starter site is what newcomers see first: its notebooks are valid, complete, clean, and lead nowhere wrong."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import nbformat
import pytest

from builder.config import load_config, load_folder
from builder.settings import SECTIONS, Record
from builder.values import element, settings_of

SITE = Path(__file__).parent.parent / "site"
MADE = {"_site", ".nbfolio", ".ipynb_checkpoints"}
"""What a build in place and JupyterLab leave behind; it is no part of the site."""
FILES = [path for path in sorted(SITE.rglob("*")) if path.is_file() and not MADE & set(path.relative_to(SITE).parts)]
NOTEBOOKS = {path.relative_to(SITE).as_posix(): path for path in FILES if path.suffix == ".ipynb"}
DASHBOARDS = {"gallery/bikes.ipynb": "grid", "gallery/electricity.ipynb": "report", "gallery/loan.ipynb": "grid"}
KB = 1024

every_notebook = pytest.mark.parametrize("name", NOTEBOOKS)


def read(name: str) -> dict[str, Any]:
    notebook = json.loads(NOTEBOOKS[name].read_text(encoding="utf-8"))
    assert isinstance(notebook, dict)
    return notebook


def text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)


def cells(name: str, kind: str) -> list[dict[str, Any]]:
    return [cell for cell in read(name)["cells"] if cell["cell_type"] == kind]


def outputs(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Cell id and output of all outputs of a notebook."""
    for cell in cells(name, "code"):
        for output in cell["outputs"]:
            yield cell["id"], output


def prose(name: str) -> str:
    """The Markdown of a notebook, without code blocks and code spans."""
    source = "\n\n".join(text(cell["source"]) for cell in cells(name, "markdown"))
    source = re.sub(r"(?ms)^```.*?^```$", "", source)
    source = re.sub(r"(?m)^ {4}\S.*$", "", source)
    return re.sub(r"`[^`\n]+`", "", source)


def headings(name: str) -> list[str]:
    source = "\n".join(text(cell["source"]) for cell in cells(name, "markdown"))
    source = re.sub(r"(?ms)^```.*?^```$", "", source)
    return re.findall(r"(?m)^(#{1,6} .+)$", source)


class Urls(HTMLParser):
    """Collects the URLs of HTML: those a browser fetches by itself, and those it goes to on a click."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(html)
        self.fetched += re.findall(r"url\(\s*['\"]?([^'\")]+)", html)
        self.fetched += re.findall(r"@import\s+['\"]([^'\"]+)", html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs))
        for key, value in attrs:
            if not value:
                continue
            if key == "href" and tag in ("a", "area"):
                self.links.append(value)
            elif key in ("src", "href", "xlink:href", "poster", "data", "action"):
                self.fetched.append(value)
            elif key == "srcset":
                self.fetched += [item.split()[0] for item in value.split(",")]


def markdown_images(name: str) -> list[tuple[str, str]]:
    """(alt text, URL) of the images in Markdown syntax."""
    return re.findall(r"!\[([^\]]*)\]\(([^)\s]+)", prose(name))


def links(name: str) -> list[str]:
    source = prose(name)
    found = re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s]+)", source)
    found += re.findall(r"(?m)^\[[^\]]+\]:\s*(\S+)", source)
    return found + Urls(source).links


def fetched(name: str) -> list[str]:
    """The URLs that a browser asks for when it shows the page."""
    found = [url for _, url in markdown_images(name)] + Urls(prose(name)).fetched
    for _, output in outputs(name):
        for mime, value in output.get("data", {}).items():
            if mime in ("text/html", "image/svg+xml"):
                found += Urls(text(value)).fetched
            elif mime == "text/markdown":
                found += re.findall(r"!\[[^\]]*\]\(([^)\s]+)", text(value))
    return found


def is_foreign(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.netloc) or parts.scheme not in ("", "data", "attachment")


def anchor(heading: str) -> str:
    """The id that Jupyter gives to a heading."""
    return re.sub(r"[*_`]", "", heading.lstrip("#").strip()).replace(" ", "-")


def without_images(name: str) -> str:
    """The file's text without base64, in which any letters can stand side by side."""
    return re.sub(r"[A-Za-z0-9+/=]{200,}", "", NOTEBOOKS[name].read_text(encoding="utf-8"))


def test_the_site_has_a_front_page_a_guide_a_gallery_and_a_bundle() -> None:
    guide = {"getting-started", "writing", "dashboards", "publishing", "embedding", "live-cells", "deploying"}
    assert {"index.ipynb", "gallery/station-report/index.ipynb", *DASHBOARDS} <= NOTEBOOKS.keys()
    assert {f"guide/{page}.ipynb" for page in (*guide, "themes", "commands", "configuration")} <= NOTEBOOKS.keys()


@every_notebook
def test_notebook_is_valid(name: str) -> None:
    notebook = read(name)
    nbformat.validate(nbformat.from_dict(notebook), relax_add_props=False)  # type: ignore[no-untyped-call]
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)


@every_notebook
def test_code_was_run_from_top_to_bottom(name: str) -> None:
    code = cells(name, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all(text(cell["source"]).strip() for cell in code)
    assert any(cell["outputs"] for cell in code) or not code


@every_notebook
def test_errors_and_warnings_are_stored_only_where_they_are_meant(name: str) -> None:
    tagged = {cell["id"] for cell in cells(name, "code") if "raises-exception" in cell["metadata"].get("tags", [])}
    assert {cell for cell, output in outputs(name) if output["output_type"] == "error"} == tagged
    assert not [cell for cell, output in outputs(name) if "Warning" in text(output.get("text", ""))]


@every_notebook
def test_metadata_holds_nothing_of_the_machine_it_was_made_on(name: str) -> None:
    notebook = read(name)
    metadata = notebook["metadata"]
    assert metadata.keys() <= {"kernelspec", "language_info", "nbfolio", "extensions", "widgets"}
    assert metadata["kernelspec"] == {"name": "python3", "display_name": "Python 3", "language": "python"}
    assert metadata["language_info"]["name"] == "python"
    for cell in notebook["cells"]:
        assert cell["metadata"].keys() <= {"tags", "extensions"}


@every_notebook
def test_no_path_of_a_machine_is_in_the_file(name: str) -> None:
    traces = re.compile(r"/(?:tmp|home|root|work|Users)/|[A-Z]:\\\\|site-packages|ipykernel_\d|0x[0-9a-f]{9,}")
    assert not traces.findall(without_images(name))


@every_notebook
def test_page_asks_no_other_host(name: str) -> None:
    assert not [url for url in fetched(name) if is_foreign(url)]
    stored = json.dumps([output for _, output in outputs(name)])
    assert not re.search(r"\bcdn\b|unpkg|jsdelivr|googleapis|require\.min\.js|<script[^>]+src", stored, re.IGNORECASE)


@every_notebook
def test_relative_links_lead_to_files_and_headings_that_exist(name: str) -> None:
    for url in links(name) + [url for url in fetched(name) if not url.startswith(("data:", "attachment:", "#"))]:
        parts = urlsplit(url)
        assert not is_foreign(url), f"{url}: the site links to nothing outside"
        target = (NOTEBOOKS[name].parent / unquote(parts.path)).resolve() if parts.path else NOTEBOOKS[name].resolve()
        assert target.is_file(), f"{url} is not there"
        assert target.is_relative_to(SITE.resolve()), f"{url} leads out of the site"
        if parts.fragment and target.suffix == ".ipynb":
            found = headings(target.relative_to(SITE.resolve()).as_posix())
            assert unquote(parts.fragment) in map(anchor, found), f"{url}: there is no such heading"


@every_notebook
def test_attachments_that_are_shown_are_in_the_cell(name: str) -> None:
    for cell in cells(name, "markdown"):
        shown = re.findall(r"\(attachment:([^)]+)\)", text(cell["source"]))
        assert set(shown) == set(cell.get("attachments", {}))


def test_every_page_can_be_reached_from_the_front_page() -> None:
    reached, waiting = set(), ["index.ipynb"]
    while waiting:
        name = waiting.pop()
        reached.add(name)
        for url in links(name):
            file = (NOTEBOOKS[name].parent / unquote(urlsplit(url).path)).resolve()
            target = file.relative_to(SITE.resolve()).as_posix()
            if target in NOTEBOOKS and target not in reached:
                waiting.append(target)
    assert reached == NOTEBOOKS.keys()


@every_notebook
def test_images_have_an_alternative_text(name: str) -> None:
    assert all(len(alt) > 8 for alt, _ in markdown_images(name))
    assert all(image.get("alt") for image in Urls(prose(name)).images)
    for cell, output in outputs(name):
        for mime in output.get("data", {}):
            if mime.startswith("image/"):
                assert len(output["metadata"].get(mime, {}).get("alt", "")) > 8, f"the {mime} of cell {cell} has none"


@every_notebook
def test_page_begins_with_its_only_first_level_heading(name: str) -> None:
    found = headings(name)
    assert [heading for heading in found if heading.startswith("# ")] == found[:1]
    assert text(read(name)["cells"][0]["source"]).startswith("# ")


@every_notebook
def test_page_says_what_it_is_in_lists(name: str) -> None:
    about = read(name)["metadata"]["nbfolio"]
    assert about.keys() <= {"title", "description", "order", "tags", "code", "live", "warm", "draft"}
    assert about["title"]
    assert about["description"].endswith(".")
    assert "order" in about or name == "index.ipynb"


@pytest.mark.parametrize("folder", ["guide", "gallery"])
def test_pages_of_a_folder_have_different_places(folder: str) -> None:
    orders = [read(name)["metadata"]["nbfolio"]["order"] for name in NOTEBOOKS if name.startswith(f"{folder}/")]
    assert sorted(orders) == list(range(1, len(orders) + 1))


@pytest.mark.parametrize(("name", "kind"), DASHBOARDS.items())
def test_dashboard_shows_the_layout_it_stands_for(name: str, kind: str) -> None:
    layout = read(name)["metadata"]["extensions"]["jupyter_dashboards"]
    assert layout["version"] == 1
    assert layout["views"][layout["activeView"]]["type"] == kind
    assert {view["type"] for view in layout["views"].values()} == {"grid", "report"}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboard_places_every_cell_without_overlap(name: str) -> None:
    notebook = read(name)
    views = notebook["metadata"]["extensions"]["jupyter_dashboards"]["views"]
    taken: dict[tuple[int, int], str] = {}
    for cell in notebook["cells"]:
        places = cell["metadata"]["extensions"]["jupyter_dashboards"]["views"]
        assert places.keys() <= views.keys()
        place = places["grid_default"]
        if place["hidden"]:
            assert place.keys() == {"hidden"}
            continue
        assert cell["cell_type"] != "raw"
        assert place["row"] >= 0
        assert place["col"] >= 0
        assert place["col"] + place["width"] <= views["grid_default"]["maxColumns"]
        for row in range(place["row"], place["row"] + place["height"]):
            for col in range(place["col"], place["col"] + place["width"]):
                assert (row, col) not in taken, f"{cell['id']} lies on {taken[row, col]}"
                taken[row, col] = cell["id"]
    rows = max(row for row, _ in taken) + 1
    assert {row for row, _ in taken} == set(range(rows)), "the grid has an empty row"


def test_no_other_notebook_has_a_layout() -> None:
    assert {name for name in NOTEBOOKS if "extensions" in read(name)["metadata"]} == DASHBOARDS.keys()


def test_gallery_stores_every_kind_of_output() -> None:
    found = [output for _, output in outputs("gallery/outputs.ipynb")]
    stored = {mime for output in found for mime in output.get("data", {})}
    assert stored >= {"image/png", "image/svg+xml", "text/html", "text/latex", "text/markdown"}
    assert stored >= {"application/json", "application/javascript"}
    assert stored >= {"application/vnd.plotly.v1+json", "application/vnd.vegalite.v6+json"}
    assert {output["output_type"] for output in found} == {"display_data", "error", "execute_result", "stream"}
    streams = "".join(text(output.get("text", "")) for output in found)
    assert "\x1b[31m" in streams
    assert "\r" in streams


def test_charts_are_stored_with_an_image_for_pages_without_scripts() -> None:
    for name in NOTEBOOKS:
        for _, output in outputs(name):
            data = output.get("data", {})
            if any("plotly" in mime or "vega" in mime for mime in data):
                assert data.keys() & {"image/png", "image/svg+xml"}
                assert "text/html" not in data


def test_bundle_is_a_folder_with_one_notebook_and_its_files() -> None:
    names = {path.name for path in FILES if path.is_relative_to(SITE / "gallery/station-report")}
    assert names == {"index.ipynb", "data.csv", "station.svg"}
    assert "data.csv" in links("gallery/station-report/index.ipynb")
    assert "station.svg" in fetched("gallery/station-report/index.ipynb")


def test_settings_are_read_without_a_warning() -> None:
    file = SITE / "site.toml"
    assert tomllib.loads(file.read_text(encoding="utf-8"))["site"]["title"]
    config = load_config(SITE, file, {}, {})
    assert not config.warnings
    assert config.source.samefile(SITE)
    assert config.output.parent.samefile(SITE)


@pytest.mark.parametrize("folder", ["guide", "gallery"])
def test_folder_has_title_description_and_place(folder: str) -> None:
    settings = load_folder(SITE / folder / "folder.toml")
    assert settings.title
    assert settings.description.endswith(".")
    assert settings.order


def settings_tables() -> str:
    found = cells("guide/configuration.ipynb", "markdown")
    return next(text(cell["source"]) for cell in found if cell["id"] == "tables")


def documented(section: str) -> list[dict[str, str]]:
    """The tables below a heading of the guide's settings page, each as default by key."""
    source = settings_tables()
    part = re.split(rf"(?m)^## {section}$", source)[1].split("\n## ")[0]
    tables = re.split(r"(?m)^\| Key .*\n\|[-:| ]+$", part)[1:]
    return [dict(re.findall(r"(?m)^\| `(\w+)` \| `?(.*?)`? \|", table)) for table in tables]


def expected(record: type[Record]) -> dict[str, str]:
    """Default by key, as TOML, of the settings that are no tables of their own."""
    plain = {key: setting for key, setting in settings_of(record).items() if not element(setting)}
    return {
        key: "required" if setting.default is msgspec.NODEFAULT else json.dumps(setting.default)
        for key, setting in plain.items()
    }


@pytest.mark.parametrize("section", SECTIONS)
def test_guide_names_every_setting_with_its_default(section: str) -> None:
    records = [SECTIONS[section], *filter(None, map(element, settings_of(SECTIONS[section]).values()))]
    assert documented(section) == [expected(record) for record in records]


def test_guide_names_the_tables_in_lists() -> None:
    source = settings_tables()
    for section, record in SECTIONS.items():
        for key, setting in settings_of(record).items():
            assert not element(setting) or f"[[{section}.{key}]]" in source


def test_nothing_but_sources_is_in_the_site() -> None:
    assert {path.suffix for path in FILES} == {".ipynb", ".toml", ".csv", ".svg"}
    assert not [path for path in FILES if path.name.startswith(".")]


def test_site_is_small() -> None:
    sizes = [path.stat().st_size for path in FILES]
    assert sum(sizes) < 1500 * KB
    assert max(sizes) < 400 * KB
