"""`build-site check`: it names what readers would miss, publishes nothing and leaves the source as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from making import code, display, markdown, notebook, png, png64, result, write
from sites import build, config_of

from builder.check import check_site
from builder.check_report import CheckFinding, CheckReport, check_report
from builder.cli import main
from builder.errors import ThemeError
from builder.published import has_anchor, loaded_sizes, read_published


def check(source: Path, **overrides: Any) -> CheckReport:
    return check_site(config_of(source, **overrides))


def found(source: Path, kind: str, **overrides: Any) -> list[tuple[str, int | None, str]]:
    """(path, cell, level) of the findings of one kind; the others must not be there."""
    report = check(source, **overrides)
    assert {finding.kind for finding in report.findings} <= {kind}, report
    return [(finding.path, finding.cell, finding.level) for finding in report.findings]


def only_message(source: Path, **overrides: Any) -> str:
    (finding,) = check(source, **overrides).findings
    return finding.message


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file and folder with its time and content."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A site in which nothing is wrong."""
    text = "# A\n\n[b](b.ipynb#part) [up](#A) [data](data.csv) [web](https://example.org/x) ![a dot](dot.png)\n\n$x^2$"
    write(tmp_path, "a.ipynb", notebook(markdown(text), code("1", result("1"))))
    write(tmp_path, "b.ipynb", notebook(markdown("# B\n\n## part\n\n[folder](f) [z](z.zip)")))
    write(tmp_path, "f/c.ipynb", notebook(markdown("# C\n\n[top](../a.ipynb#top) [x](#) [y](../b.ipynb#:~:text=part)")))
    write(tmp_path, "data.csv", "1")
    write(tmp_path, "dot.png", png())
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("index.ipynb", json.dumps(notebook(markdown("# Z\n\n![dot](dot.png)"))))
        archive.writestr("dot.png", png())
    return tmp_path


# --- nothing wrong, nothing touched


def test_a_site_in_order_has_no_findings(good: Path) -> None:
    report = check(good)
    assert report == CheckReport(4, ())
    assert str(report) == "4 pages checked: nothing to mend"


def test_nothing_is_written_into_the_source_or_the_output(good: Path) -> None:
    before = snapshot(good)
    check(good)
    assert snapshot(good) == before, "before the first build"
    build(good)
    write(good, "a.ipynb", notebook(code("x", display({"image/png": png64(shade=9)}))))
    before = snapshot(good)
    check(good)
    assert snapshot(good) == before, "after a build, with a page that is not in its cache"
    assert build(good).built == 1


def test_the_output_and_state_of_the_site_are_no_sources(good: Path) -> None:
    build(good, build__download=True)
    assert list((good / "_site").rglob("*.ipynb")), "or this test says nothing"
    assert check(good, build__download=True).pages == 4


def test_what_the_cache_of_the_site_has_is_not_rendered_again(good: Path) -> None:
    build(good)
    program = (
        "import sys; from pathlib import Path; from builder.check import check_site; from builder.config import load_config\n"
        "print(check_site(load_config(Path(sys.argv[1]), None, {}, {})), 'nbconvert' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(good)], capture_output=True, text=True, check=True)
    assert done.stdout == "4 pages checked: nothing to mend False\n"


def test_a_damaged_cache_of_the_site_is_not_trusted(good: Path) -> None:
    build(good)
    for path in (good / ".nbfolio/cache/bodies").glob("*/*"):
        path.write_bytes(b"damaged")
    before = snapshot(good)
    assert check(good).findings == ()
    assert snapshot(good) == before


def test_notebooks_are_not_executed(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(code(f"open({str(tmp_path / 'ran')!r}, 'w')", count=None)))
    assert check(tmp_path, build__execute="always").findings == ()
    assert not (tmp_path / "ran").exists()


def test_a_folder_without_notebooks_has_no_pages(tmp_path: Path) -> None:
    assert check(tmp_path) == CheckReport(0, ())
    assert str(check(tmp_path)).startswith("0 pages checked")


def test_a_site_that_cannot_be_built_at_all_says_why(tmp_path: Path) -> None:
    with pytest.raises(ThemeError, match="sepia"):
        check(tmp_path, site__theme="sepia")


# --- links and anchors


def test_links_and_files_that_lead_nowhere_are_named_with_their_cell(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(markdown("# A"), markdown("[x](gone.ipynb) ![y](gone.png) [z](../out.txt)")))
    assert found(tmp_path, "link") == [("a", 1, "warning")] * 3
    messages = " ".join(finding.message for finding in check(tmp_path).findings)
    assert all(f"'{name}'" in messages for name in ("gone.ipynb", "gone.png", "../out.txt"))


def test_an_anchor_that_the_other_page_does_not_have_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(markdown("# A"), markdown("[x](f/b.ipynb#gone) [y](f/b.ipynb#there-it-is)")))
    write(tmp_path, "f/b.ipynb", notebook(markdown("# B\n\n## there it is")))
    assert found(tmp_path, "anchor") == [("a", 1, "warning")]
    assert only_message(tmp_path) == "the link 'f/b.ipynb#gone' leads to a place that the page 'f/b' does not have"


def test_an_anchor_that_its_own_page_does_not_have_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(markdown("# A b\n\n[x](#gone) [y](#A-b) [z](#cell-id=c0) <a href='#'>top</a>")))
    assert found(tmp_path, "anchor") == [("a", 0, "warning")]
    assert "'#gone'" in only_message(tmp_path)


@pytest.mark.parametrize("name", ["Größe", "a%20b", "x:y", "日本"])
def test_anchors_are_found_however_they_are_encoded(tmp_path: Path, name: str) -> None:
    write(
        tmp_path,
        "a.ipynb",
        notebook(markdown(f"# A\n\n## {name}\n\n<a id='{name}'></a><a href='#{name}'>x</a> [y](#{name})")),
    )
    assert found(tmp_path, "anchor") == []


# --- the page itself


def test_urls_that_a_page_fetches_by_itself_are_grouped_by_host(tmp_path: Path) -> None:
    html = '<script src="https://cdn.example.org/a.js"></script><script src="https://cdn.example.org/b.js"></script>'
    picture = '<img alt="x" src="http://pictures.example.net/p.png"><a href="https://links.example.com">no</a>'
    write(tmp_path, "a.ipynb", notebook(code("x", display({"text/html": html + picture}))))
    write(tmp_path, "b.ipynb", notebook(markdown("[only a link](https://links.example.com)")))
    assert found(tmp_path, "external") == [("a", None, "warning")] * 2
    first, second = sorted(finding.message for finding in check(tmp_path).findings)
    assert "http://pictures.example.net/p.png from pictures.example.net" in first
    assert "https://cdn.example.org/a.js and 1 more from cdn.example.org" in second


def test_the_whole_schema_is_checked_also_of_notebooks_that_are_shown(tmp_path: Path) -> None:
    cell = code("1", result("1")) | {"surprise": True}
    write(tmp_path, "a.ipynb", notebook(markdown("x"), cell))
    assert found(tmp_path, "notebook") == [("a", 1, "error")]
    assert "surprise" in only_message(tmp_path)


def test_the_schema_is_checked_in_archives_too(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("index.ipynb", json.dumps(notebook(markdown("x") | {"surprise": True})))
    assert found(tmp_path, "notebook") == [("z", 0, "error")]


@pytest.mark.parametrize("data", ["", "{", "[]", '{"nbformat": 5, "cells": []}', b"\xff\xfe\xfa"])
def test_what_is_no_notebook_is_one_error_and_not_two(tmp_path: Path, data: str | bytes) -> None:
    write(tmp_path, "a.ipynb", data)
    assert found(tmp_path, "notebook") == [("a", None, "error")]


def test_a_formula_shown_as_its_source_is_named_with_its_cell(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(markdown("# A"), markdown(r"$$\undefinedcommand{x}$$ and \eqref{nowhere}")))
    assert found(tmp_path, "formula") == [("a", 1, "warning")] * 2


def test_images_without_alt_text_are_named_unless_it_is_empty_on_purpose(tmp_path: Path) -> None:
    write(tmp_path, "p.png", png())
    html = '<img src="p.png"><img src="p.png" alt=""><img src="p.png" alt="a dot"><IMG SRC=p.png>'
    write(tmp_path, "a.ipynb", notebook(markdown("# A"), markdown("![](p.png) ![a dot](p.png)"), markdown(html)))
    assert found(tmp_path, "alt") == [("a", 1, "warning"), ("a", 2, "warning")]


def test_images_of_outputs_without_alt_text_are_counted_as_information(tmp_path: Path) -> None:
    plain, told = display({"image/png": png64()}), display({"image/png": png64(shade=3)}, alt="a curve")
    write(tmp_path, "a.ipynb", notebook(code("x", plain, told), code("y", plain)))
    assert found(tmp_path, "alt") == [("a", None, "information")]
    assert only_message(tmp_path).startswith("2 images of outputs have no alt text")


def test_a_page_over_the_budget_is_named_with_its_largest_part(tmp_path: Path) -> None:
    write(tmp_path, "noise.bin", os.urandom(3 << 20))
    write(tmp_path, "a.ipynb", notebook(markdown('# A\n\n<video src="noise.bin"></video>')))
    write(tmp_path, "b.ipynb", notebook(markdown("# B\n\n[only a link](noise.bin)")))
    assert found(tmp_path, "size") == [("a", None, "warning")]
    assert "the largest part is dashboards/noise.bin with 3072 KB" in only_message(tmp_path)
    assert found(tmp_path, "size", build__page_budget_kb=5000) == []


def test_drafts_are_information(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(markdown("[broken, but not published](gone.png)"), nbfolio={"draft": True}))
    assert found(tmp_path, "draft") == [("a", None, "information")]


# --- names, files, settings


def test_colliding_and_look_alike_names_are_named(tmp_path: Path) -> None:
    for name in ("a", "a/index", "Straße", "STRASSE"):
        write(tmp_path, f"{name}.ipynb", notebook())
    assert found(tmp_path, "name") == [("Straße.ipynb", None, "warning"), ("a/index.ipynb", None, "error")]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    write(tmp_path, "good.ipynb", notebook())
    (tmp_path / "folder.ipynb").mkdir()
    (tmp_path / "link.ipynb").symlink_to("nowhere")
    assert found(tmp_path, "file") == [("folder.ipynb", None, "error"), ("link.ipynb", None, "error")]


def test_a_hostile_archive_is_an_error_of_its_page(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("index.ipynb", json.dumps(notebook()))
        archive.writestr("../escaped.txt", "x")
    assert found(tmp_path, "failed") == [("z", None, "error")]


def test_wrong_folder_settings_and_open_secrets_are_named(tmp_path: Path) -> None:
    write(tmp_path, "f/a.ipynb", notebook())
    write(tmp_path, "f/folder.toml", "titel = 'x'\n")
    write(tmp_path, "site.toml", "[auth]\napi_token = 'secret-secret-secret'\n").chmod(0o644)
    assert found(tmp_path, "settings") == [("f/folder.toml", None, "error"), ("site.toml", None, "warning")]
    assert "secret-secret" not in str(check(tmp_path))


# --- the report


FINDINGS = [
    CheckFinding("b", 10, "warning", "link", "the link 'x' leads to nothing"),
    CheckFinding("b", 2, "error", "notebook", "wrong"),
    CheckFinding("b", None, "information", "draft", "is a draft"),
    CheckFinding("", None, "warning", "size", "too\x1b[31mlarge"),
    CheckFinding("b", 2, "error", "notebook", "wrong"),
]


def test_the_text_is_grouped_by_page_and_aligned() -> None:
    assert str(check_report(2, FINDINGS)) == (
        "index\n"
        "  warning  size  too\\x1b[31mlarge\n"
        "\n"
        "b\n"
        "  information           draft     is a draft\n"
        "  error        cell 2   notebook  wrong\n"
        "  warning      cell 10  link      the link 'x' leads to nothing\n"
        "\n"
        "2 pages checked: 1 error, 2 warnings, 1 information"
    )


def test_the_json_form_has_exactly_the_documented_keys() -> None:
    report = json.loads(check_report(2, FINDINGS[:2]).json())
    assert report == {
        "pages": 2,
        "findings": [
            {"path": "b", "cell": 2, "level": "error", "kind": "notebook", "message": "wrong"},
            {"path": "b", "cell": 10, "level": "warning", "kind": "link", "message": "the link 'x' leads to nothing"},
        ],
    }


def test_the_command_exits_with_1_when_there_is_something_to_mend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "a.ipynb", notebook(code("x", display({"image/png": png64()}))))
    assert main(["check", str(tmp_path)]) == 0, "information alone"
    assert capsys.readouterr().out.endswith("1 page checked: 1 information\n")
    assert main(["check", "-q", str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""
    write(tmp_path, "a.ipynb", notebook(markdown("[x](gone.txt)")))
    assert main(["check", "--format", "json", str(tmp_path)]) == 1
    assert json.loads(capsys.readouterr().out)["findings"][0]["kind"] == "link"
    assert main(["check", "-q", str(tmp_path)]) == 1
    assert "gone.txt" in capsys.readouterr().out


# --- reading a published page


def test_what_a_page_loads_is_counted_once_and_without_other_hosts(tmp_path: Path) -> None:
    html = (
        '<link rel="stylesheet" href="../s.css"><link rel=canonical href="../c"><script src="../s%20x.js?v=1"></script>'
        '<img src="p.png"><img src="p.png"><img src="//h/q.png"><img src="https://h/q.png"><img src="data:,x">'
        '<video poster="n" src="v.mp4"></video><a href="a.zip">a</a><object data="gone.svg"></object><img src="http://[">'
    )
    page = read_published(html)
    assert page.loads == {"../s.css", "../s%20x.js?v=1", "p.png", "v.mp4", "gone.svg"}
    for name in ("s.css", "s x.js", "d/p.png", "d/v.mp4", "d/index.html"):
        write(tmp_path, name, name)
    sizes = loaded_sizes(tmp_path, "d/index.html", page)
    assert sizes == {name: len(name) for name in ("s.css", "s x.js", "d/p.png", "d/v.mp4", "d/index.html")}


@pytest.mark.parametrize(
    ("fragment", "there"),
    [
        ("#a", True),
        ("#a%20b", True),
        ("#a b", True),
        ("#n", True),
        ("#", True),
        ("#top", True),
        ("#x", False),
        ("#A", False),
    ],
)
def test_a_place_is_found_by_id_or_name_encoded_or_not(fragment: str, there: bool) -> None:
    page = read_published("<p id=a><p id='a b'><a name=n></a><!-- <p id=x> --><script>'<p id=x>'</script>")
    assert has_anchor(page, fragment) == there
