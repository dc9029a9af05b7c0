"""The pipeline from a folder of notebooks to a folder of pages, with real files and real renderer processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from making import code, display, error, markdown, notebook, png, png64, result, stream, write
from sites import broken_links, build, config_of, html_files, statuses

from builder.build import Builder
from builder.config import load_config
from builder.errors import OutputError

FULL, PLAIN = "dashboards", "dashboards-plain"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two notebooks in folders, one that links to the other and to a file."""
    folder = tmp_path / "notebooks"
    start = markdown("# Start\n\n[next](deeper/next.ipynb#part) [data](data.csv) ![](pic.png)")
    write(folder, "start.ipynb", notebook(start, code("1+1", result("2"))))
    write(folder, "deeper/next.ipynb", notebook(markdown("# Next\n\n## Part\n\n[back](../start.ipynb)")))
    write(folder, "data.csv", "1,2\n")
    write(folder, "pic.png", png())
    write(folder, "secret.txt", "nobody refers to this")
    return folder


def page(source: Path, path: str, tree: str = FULL) -> str:
    return (source / "_site" / tree / path / "index.html").read_text(encoding="utf-8")


def test_every_notebook_becomes_a_full_and_a_plain_page(source: Path) -> None:
    report = build(source)
    assert (report.built, report.failed) == (2, 0)
    for tree in (FULL, PLAIN):
        assert "<h1" in page(source, "start", tree)
        assert "Next" in page(source, "deeper/next", tree)
    assert sorted(os.listdir(source / "_site")) == [
        ".nbfolio-output", "404.html", "assets", FULL, PLAIN, "index.html",
    ]  # fmt: skip


def test_all_links_of_both_variants_lead_to_files_and_none_is_absolute(source: Path) -> None:
    build(source)
    assert broken_links(source / "_site") == []


def test_a_link_to_a_notebook_leads_to_the_page_of_the_same_variant_with_its_anchor(source: Path) -> None:
    build(source)
    for tree in (FULL, PLAIN):
        assert 'href="../deeper/next/index.html#part"' in page(source, "start", tree)
        assert 'href="../../start/index.html"' in page(source, "deeper/next", tree)


def test_only_files_that_pages_refer_to_are_published_under_both_variants(source: Path) -> None:
    build(source)
    for tree in (FULL, PLAIN):
        assert (source / "_site" / tree / "data.csv").read_text() == "1,2\n"
        assert (source / "_site" / tree / "pic.png").read_bytes() == png()
    published = {path.name for path in (source / "_site").rglob("*")}
    assert "secret.txt" not in published
    assert not any(name.endswith(".ipynb") for name in published)


def test_download_publishes_the_notebook_beside_its_page_and_links_it(source: Path) -> None:
    build(source, build__download=True)
    assert json.loads((source / "_site" / FULL / "start.ipynb").read_text())["nbformat"] == 4
    assert 'href="../start.ipynb"' in page(source, "start")
    assert broken_links(source / "_site") == []


@pytest.mark.parametrize(
    "name",
    [
        "with blank",
        "a#b",
        "100%",
        "what?",
        'it\'s "quoted"',
        "ümlaut/日本語",
        "a&b<c>",
        "very/deep/down/in/the/tree",
        "index.html.bak",
        "a:b",
        "+plus;semi=colon",
    ],
)
def test_any_name_works_in_every_link(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"{name}.ipynb", notebook(markdown("# Title"), code("x", display({"image/png": png64()}))))
    assert build(tmp_path).failed == 0
    assert (tmp_path / "_site" / FULL / name / "index.html").is_file()
    assert broken_links(tmp_path / "_site") == []


def test_images_of_outputs_are_stored_once_for_all_pages(tmp_path: Path) -> None:
    for name in ("a", "b/c"):
        write(tmp_path, f"{name}.ipynb", notebook(code("x", display({"image/png": png64()}))))
    build(tmp_path)
    assert [path.read_bytes() for path in (tmp_path / "_site/media").iterdir()] == [png()]
    assert 'src="../../media/' in page(tmp_path, "a")
    assert 'src="../../../media/' in page(tmp_path, "b/c")
    assert broken_links(tmp_path / "_site") == []


# --- incremental


def test_the_second_run_builds_nothing_and_touches_no_file(source: Path) -> None:
    build(source)
    before = html_files(source / "_site")
    report = build(source)
    assert (report.built, report.kept) == (0, 2)
    assert html_files(source / "_site") == before


def test_a_run_in_which_nothing_changed_imports_no_renderer(source: Path) -> None:
    build(source)
    program = (
        "import sys; from builder.cli import main; code = main(sys.argv[1:])\n"
        "heavy = {'nbconvert', 'nbformat', 'mistune', 'jinja2', 'pygments', 'multiprocessing', 'sqlite3', 'rich', 'watchdog'}\n"
        "print(sorted(heavy & set(sys.modules))); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(source)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0].startswith("built 0, kept 2, failed 0")
    assert done.stdout.splitlines()[1] == "[]"


def test_a_changed_notebook_rebuilds_its_two_pages_and_nothing_else(source: Path) -> None:
    build(source)
    before = html_files(source / "_site")
    write(
        source,
        "start.ipynb",
        notebook(markdown("# Start\n\nother text in the second paragraph\n\n"), code("2+2", result("4"))),
    )
    write(
        source, "start.ipynb", notebook(markdown("# Start\n\n[next](deeper/next.ipynb#part)"), code("2+2", result("4")))
    )
    report = build(source)
    after = html_files(source / "_site")
    assert (report.built, report.kept) == (1, 1)
    changed = {name for name in after if after[name] != before.get(name)}
    listings = {"index.html", f"{FULL}/index.html", f"{PLAIN}/index.html"}
    assert changed - listings == {f"{FULL}/start/index.html", f"{PLAIN}/start/index.html"}


def test_a_new_title_also_rebuilds_the_listings_that_show_it(source: Path) -> None:
    build(source)
    before = html_files(source / "_site")
    write(source, "deeper/next.ipynb", notebook(markdown("# Other")))
    build(source)
    after = html_files(source / "_site")
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {f"{tree}/deeper/{name}" for tree in (FULL, PLAIN) for name in ("index.html", "next/index.html")}
    assert "Other" in page(source, "deeper")


def test_a_touched_notebook_with_the_same_content_is_kept(source: Path) -> None:
    build(source)
    before = html_files(source / "_site")
    os.utime(source / "start.ipynb", (1, 1))
    assert build(source).built == 0
    assert html_files(source / "_site") == before


def test_force_renders_everything_again(source: Path) -> None:
    build(source)
    cached = next((source / ".nbfolio/cache/bodies").glob("*/*"))
    cached.write_bytes(b"would be an error if it were read")
    report = build(source, force=True)
    assert (report.built, report.failed) == (2, 0)
    assert cached.read_bytes() != b"would be an error if it were read"


def test_a_new_output_folder_is_filled_from_the_cache(source: Path) -> None:
    build(source)
    program = "import sys; from builder.cli import main; code = main(sys.argv[1:])\nprint('nbconvert' in sys.modules)"
    command = [sys.executable, "-c", program, str(source), "-o", str(source.parent / "elsewhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert broken_links(source.parent / "elsewhere") == []


def test_a_page_that_somebody_changed_or_deleted_in_the_output_is_put_back(source: Path) -> None:
    build(source)
    site = source / "_site"
    good = page(source, "start")
    (site / FULL / "start/index.html").write_text("defaced")
    (site / PLAIN / "deeper/next/index.html").unlink()
    (site / FULL / "data.csv").unlink()
    build(source)
    assert page(source, "start") == good
    assert broken_links(site) == []


def test_a_changed_file_that_a_page_shows_is_published_again(source: Path) -> None:
    build(source)
    before = html_files(source / "_site")
    write(source, "data.csv", "3,4,5\n")
    build(source)
    assert (source / "_site" / PLAIN / "data.csv").read_text() == "3,4,5\n"
    assert html_files(source / "_site") == before


def test_a_link_starts_to_work_when_its_target_appears_and_stops_when_it_goes(source: Path) -> None:
    write(source, "start.ipynb", notebook(markdown("[later](later.ipynb)")))
    report = build(source)
    assert 'href="later.ipynb"' in page(source, "start")
    assert "later.ipynb" in next(entry.message for entry in report.pages if entry.path == "start")
    write(source, "later.ipynb", notebook(markdown("# Later")))
    build(source)
    assert 'href="../later/index.html"' in page(source, "start")
    (source / "later.ipynb").unlink()
    build(source)
    assert 'href="later.ipynb"' in page(source, "start")
    assert not (source / "_site" / FULL / "later").exists()


def test_a_removed_notebook_takes_its_pages_files_and_images_with_it(source: Path) -> None:
    write(source, "deeper/next.ipynb", notebook(code("x", display({"image/png": png64(shade=7)}))))
    build(source)
    assert list((source / "_site/media").iterdir())
    shutil.rmtree(source / "deeper")
    report = build(source)
    assert statuses(report) == {"deeper/next": "removed", "start": "built"}
    assert not (source / "_site" / FULL / "deeper").exists()
    assert not (source / "_site/media").exists()
    (source / "start.ipynb").unlink()
    write(source, "other.ipynb", notebook())
    build(source)
    assert not (source / "_site" / FULL / "data.csv").exists()


def test_a_changed_setting_renders_what_it_concerns(source: Path) -> None:
    build(source)
    assert "1+1" not in page(source, "start") or "highlight" in page(source, "start")
    report = build(source, site__code="hidden")
    assert report.built >= 1
    assert "highlight" not in page(source, "start")
    report = build(source, site__code="hidden", site__title="Renamed")
    assert report.built == 2
    assert "Renamed" in page(source, "start")


# --- failures


def test_a_failed_notebook_keeps_its_last_good_page_and_does_not_stop_the_others(source: Path) -> None:
    build(source)
    good = page(source, "start")
    write(source, "start.ipynb", "{ not json")
    write(source, "third.ipynb", notebook(markdown("# Third")))
    report = build(source)
    assert statuses(report) == {"start": "failed", "third": "built", "deeper/next": "kept"}
    assert "not JSON" in next(entry.message for entry in report.pages if entry.path == "start")
    assert page(source, "start") == good
    assert build(source).failed == 1, "it is still failed in the next run"
    write(source, "start.ipynb", notebook(markdown("# Mended")))
    assert statuses(build(source))["start"] == "built"
    assert build(source).built == 0


def test_a_notebook_that_never_was_good_is_in_no_listing(tmp_path: Path) -> None:
    write(tmp_path, "good.ipynb", notebook(markdown("[x](bad.ipynb)")))
    write(tmp_path, "bad.ipynb", "")
    report = build(tmp_path)
    assert statuses(report) == {"bad": "failed", "good": "built"}
    assert "bad/index.html" not in page(tmp_path, "")
    assert broken_links(tmp_path / "_site") == [f"{tree}/good/index.html: bad.ipynb" for tree in (FULL, PLAIN)]


def test_an_unreadable_notebook_is_a_sentence(source: Path) -> None:
    if os.geteuid() == 0:
        target = source / "gone.ipynb"
        target.symlink_to(source / "nowhere.ipynb")
    else:
        (source / "start.ipynb").chmod(0)
    report = build(source)
    failed = [entry for entry in report.pages if entry.status == "failed"]
    assert len(failed) == 1
    assert "Traceback" not in failed[0].message


def test_a_root_that_came_up_empty_unpublishes_nothing_until_told(source: Path) -> None:
    build(source)
    before = html_files(source / "_site")
    for path in source.rglob("*.ipynb"):
        path.unlink()
    with pytest.raises(OutputError, match=r"holds no notebook any more.*--clean"):
        build(source)
    assert html_files(source / "_site") == before
    report = build(source, clean=True)
    assert report.removed == 2
    assert not (source / "_site" / FULL / "start").exists()


def test_the_last_single_notebook_may_go(tmp_path: Path) -> None:
    write(tmp_path, "only.ipynb", notebook())
    build(tmp_path)
    (tmp_path / "only.ipynb").unlink()
    assert build(tmp_path).removed == 1


def test_what_an_interrupted_build_left_is_removed(source: Path) -> None:
    build(source)
    with Builder(config_of(source)) as builder:
        builder.build()
        builder._ledger.open()
        builder._ledger.begin()  # as a build that is killed before it is done
    orphan = source / "_site" / FULL / "ghost/index.html"
    orphan.parent.mkdir()
    orphan.write_text("a page whose notebook went before the next run")
    own = source / "_site/CNAME"
    own.write_text("example.org")
    build(source)
    assert not orphan.parent.exists()
    assert own.exists(), "only our own folders are searched"


# --- bundles, folders, drafts


def test_a_folder_bundle_is_one_page_with_all_its_files(tmp_path: Path) -> None:
    write(tmp_path, "b/index.ipynb", notebook(markdown("# B\n\n![](img/a.png)")))
    write(tmp_path, "b/img/a.png", png())
    write(tmp_path, "b/unreferenced.txt", "public")
    write(tmp_path, "b/.hidden", "not public")
    write(tmp_path, "other.ipynb", notebook())
    assert build(tmp_path).failed == 0
    for tree in (FULL, PLAIN):
        assert 'src="img/a.png"' in page(tmp_path, "b", tree)
        assert (tmp_path / "_site" / tree / "b/unreferenced.txt").exists()
        assert not (tmp_path / "_site" / tree / "b/.hidden").exists()
        assert not (tmp_path / "_site" / tree / "b/index.ipynb").exists()
    assert broken_links(tmp_path / "_site") == []
    write(tmp_path, "b/unreferenced.txt", "changed")
    write(tmp_path, "b/new.txt", "new")
    build(tmp_path)
    assert (tmp_path / "_site" / PLAIN / "b/unreferenced.txt").read_text() == "changed"
    assert (tmp_path / "_site" / PLAIN / "b/new.txt").exists()


def zip_bundle(path: Path, **files: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), data)


def test_a_zip_bundle_is_one_page_with_all_its_files(tmp_path: Path) -> None:
    write(tmp_path, "other.ipynb", notebook(markdown("[z](z.zip)")))
    body = json.dumps(notebook(markdown("# Z\n\n![](img/a.png) [o](../other.ipynb)"))).encode()
    zip_bundle(tmp_path / "z.zip", index_dot_ipynb=body, img__a_dot_png=png(), notes_dot_txt=b"n")
    assert build(tmp_path).failed == 0
    for tree in (FULL, PLAIN):
        assert 'src="img/a.png"' in page(tmp_path, "z", tree)
        assert 'href="../other/index.html"' in page(tmp_path, "z", tree)
        assert 'href="../z/index.html"' in page(tmp_path, "other", tree)
        assert (tmp_path / "_site" / tree / "z/notes.txt").read_bytes() == b"n"
    assert broken_links(tmp_path / "_site") == []
    assert build(tmp_path).built == 0
    zip_bundle(tmp_path / "z.zip", index_dot_ipynb=body, img__a_dot_png=png(shade=9))
    build(tmp_path)
    assert (tmp_path / "_site" / FULL / "z/img/a.png").read_bytes() == png(shade=9)
    assert not (tmp_path / "_site" / FULL / "z/notes.txt").exists()


def test_a_hostile_zip_is_a_failed_page_and_writes_nothing_outside(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    body = json.dumps(notebook()).encode()
    with zipfile.ZipFile(source / "z.zip", "w") as archive:
        archive.writestr("index.ipynb", body)
        archive.writestr("../escaped.txt", b"x")
    write(source, "good.ipynb", notebook())
    report = build(source)
    assert statuses(report) == {"z": "failed", "good": "built"}
    assert not list(tmp_path.rglob("escaped.txt"))


def test_a_zip_that_is_no_bundle_is_a_plain_file(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(markdown("[data](data.zip)")))
    zip_bundle(tmp_path / "data.zip", x_dot_csv=b"1")
    assert statuses(build(tmp_path)) == {"a": "built"}
    assert (tmp_path / "_site" / FULL / "data.zip").exists()


def test_the_index_of_a_plain_folder_replaces_its_listing(tmp_path: Path) -> None:
    write(tmp_path, "f/index.ipynb", notebook(markdown("# Front\n\n[s](side.ipynb)")))
    write(tmp_path, "f/side.ipynb", notebook(markdown("# Side")))
    build(tmp_path)
    assert "Front" in page(tmp_path, "f")
    assert 'href="side/index.html"' in page(tmp_path, "f")
    assert "url=../index.html" in page(tmp_path, "f/index")
    assert broken_links(tmp_path / "_site") == []


def test_the_index_of_the_root_is_the_front_page_in_all_three_places(tmp_path: Path) -> None:
    write(tmp_path, "index.ipynb", notebook(markdown("# Front\n\n[s](side.ipynb) ![](p.png)")))
    write(tmp_path, "side.ipynb", notebook(markdown("# Side")))
    write(tmp_path, "p.png", png())
    build(tmp_path)
    root = (tmp_path / "_site/index.html").read_text()
    assert 'href="dashboards/side/index.html"' in root
    assert 'src="dashboards/p.png"' in root
    assert 'href="side/index.html"' in page(tmp_path, "")
    assert broken_links(tmp_path / "_site") == []


def test_a_notebook_beside_a_folder_of_its_name_links_the_pages_in_it(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(markdown("# A")))
    write(tmp_path, "a/child.ipynb", notebook(markdown("# The child")))
    build(tmp_path)
    assert 'href="child/index.html"' in page(tmp_path, "a")
    assert "The child" in page(tmp_path, "a")
    write(tmp_path, "a/child.ipynb", notebook(markdown("# Renamed child")))
    build(tmp_path)
    assert "Renamed child" in page(tmp_path, "a")
    assert broken_links(tmp_path / "_site") == []


def test_a_name_taken_twice_is_reported_and_the_notebook_wins(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(markdown("# The notebook")))
    write(tmp_path, "a/index.ipynb", notebook(markdown("# The bundle")))
    report = build(tmp_path)
    assert "The notebook" in page(tmp_path, "a")
    assert any(entry.path == "a/index.ipynb" and entry.message for entry in report.pages)


def test_a_file_never_takes_the_place_of_a_page(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(markdown("[x](a) [y](b/index.html)")))
    write(tmp_path, "a", "a file without ending")
    write(tmp_path, "b/index.html", "not a page of ours")
    write(tmp_path, "b/c.ipynb", notebook(markdown("# C")))
    build(tmp_path)
    assert "<main" in page(tmp_path, "a")
    assert "not a page of ours" not in page(tmp_path, "b")
    assert build(tmp_path).built == 0


def test_drafts_are_not_published_and_not_linked(tmp_path: Path) -> None:
    write(tmp_path, "a.ipynb", notebook(markdown("[d](d.ipynb)")))
    write(tmp_path, "d.ipynb", notebook(markdown("# Secret plans"), nbfolio={"draft": True}))
    report = build(tmp_path)
    assert "draft" in next(entry.message for entry in report.pages if entry.path == "d")
    assert not (tmp_path / "_site" / FULL / "d").exists()
    assert "Secret plans" not in page(tmp_path, "")
    write(tmp_path, "d.ipynb", notebook(markdown("# Secret plans")))
    build(tmp_path)
    assert 'href="../d/index.html"' in page(tmp_path, "a")
    write(tmp_path, "d.ipynb", notebook(markdown("# Secret plans"), nbfolio={"draft": True}))
    assert statuses(build(tmp_path))["d"] == "removed"
    assert not (tmp_path / "_site" / FULL / "d").exists()
    assert 'href="d.ipynb"' in page(tmp_path, "a")


def test_folder_settings_name_the_folder_and_reach_the_pages_below(tmp_path: Path) -> None:
    write(tmp_path, "f/folder.toml", 'title = "The folder"\ndescription = "What is in it"\ncode = "hidden"\n')
    write(tmp_path, "f/deep/a.ipynb", notebook(code("secret_code()", stream("shown"))))
    write(tmp_path, "f/deep/b.ipynb", notebook(code("open_code()"), nbfolio={"code": "shown"}))
    build(tmp_path)
    assert "The folder" in page(tmp_path, "")
    assert "What is in it" in page(tmp_path, "")
    assert "The folder" in page(tmp_path, "f/deep/a"), "in its breadcrumbs"
    assert "secret_code" not in page(tmp_path, "f/deep/a")
    assert "open_code" in page(tmp_path, "f/deep/b")
    write(tmp_path, "f/folder.toml", 'title = "The folder"\nkode = "hidden"\n')
    report = build(tmp_path)
    assert any("kode" in entry.message for entry in report.pages)


def test_where_code_is_hidden_neither_source_nor_traceback_is_in_the_html(tmp_path: Path) -> None:
    failing = code("raise_secret()", error("NameError", "the message", "line one", "    raise_secret()"))
    write(tmp_path, "a.ipynb", notebook(failing, nbfolio={"code": "hidden"}))
    build(tmp_path)
    for tree in (FULL, PLAIN):
        assert "raise_secret" not in page(tmp_path, "a", tree)
        assert "NameError" in page(tmp_path, "a", tree)
        assert "the message" in page(tmp_path, "a", tree)


def test_settings_and_folder_settings_are_never_published(tmp_path: Path) -> None:
    write(tmp_path, "site.toml", '[auth]\napi_token = "secret-token"\n')
    write(tmp_path, "f/folder.toml", 'title = "x"\n')
    (tmp_path / "site.toml").chmod(0o600)
    write(
        tmp_path, "a.ipynb", notebook(markdown("[c](site.toml) [f](f/folder.toml) [s](.nbfolio/x) ![](../outside.png)"))
    )
    write(tmp_path, "f/b.ipynb", notebook())
    write(tmp_path.parent, "outside.png", png())
    build(tmp_path)
    published = [path for path in (tmp_path / "_site").rglob("*") if path.is_file()]
    assert not any(path.suffix == ".toml" or path.name == "outside.png" for path in published)
    assert not any(b"secret-token" in path.read_bytes() for path in published)


def test_a_site_of_nothing_says_how_to_begin(tmp_path: Path) -> None:
    assert build(tmp_path).pages == ()
    assert ".ipynb" in (tmp_path / "_site/index.html").read_text()
    assert broken_links(tmp_path / "_site") == []


def test_a_source_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(OutputError, match="There is no folder"), Builder(config):
        pass


# --- one builder again and again, as the watcher and the shim use it


def test_hints_shorten_the_look_and_give_the_same_site(source: Path) -> None:
    with Builder(config_of(source)) as builder:
        builder.build()
        write(source, "start.ipynb", notebook(markdown("# Changed")))
        report = builder.build({"start.ipynb"})
        assert statuses(report) == {"start": "built", "deeper/next": "kept"}
        write(source, "new/n.ipynb", notebook(markdown("# New [s](../start.ipynb)")))
        assert statuses(builder.build({"new"}))["new/n"] == "built"
        (source / "deeper/next.ipynb").unlink()
        assert statuses(builder.build({"deeper/next.ipynb"}))["deeper/next"] == "removed"
        write(source, "start.ipynb", "broken")
        assert statuses(builder.build({"start.ipynb"}))["start"] == "failed"
        assert statuses(builder.build({"new/n.ipynb"}))["start"] == "failed"
    incremental = {name: (source / "_site" / name).read_bytes() for name in html_files(source / "_site")}
    (source / "start.ipynb").unlink()
    write(source, "start.ipynb", notebook(markdown("# Changed")))
    build(source)
    assert incremental == {name: (source / "_site" / name).read_bytes() for name in html_files(source / "_site")}


def test_the_report_is_left_in_the_state_folder(source: Path) -> None:
    with Builder(config_of(source)) as builder:
        builder.save_report(builder.build())
    report = json.loads((source / ".nbfolio/build-report.json").read_text())
    assert {name: report[name] for name in ("built", "kept", "failed", "removed")} == {
        "built": 2, "kept": 0, "failed": 0, "removed": 0,
    }  # fmt: skip
    assert report["pages"] == [
        {"path": "deeper/next", "status": "built", "message": ""},
        {"path": "start", "status": "built", "message": ""},
    ]


def output_files(folder: Path) -> dict[str, bytes]:
    """Every published file of an output folder with its content."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".nbfolio"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def clean_build(source: Path, aside: Path) -> dict[str, bytes]:
    """What a first build of `source` publishes."""
    build(source, build__output=str(aside / "out"), server__state_dir=str(aside / "state"))
    return output_files(aside / "out")


def test_a_listing_that_went_comes_back_with_its_folder(source: Path) -> None:
    content = (source / "deeper/next.ipynb").read_bytes()
    listing = source / "_site" / FULL / "deeper/index.html"
    with Builder(config_of(source)) as builder:
        builder.build()
        (source / "deeper/next.ipynb").unlink()
        builder.build({"deeper/next.ipynb"})
        assert not listing.exists()
        write(source, "deeper/next.ipynb", content)
        builder.build({"deeper/next.ipynb"})
    assert listing.is_file()
    assert broken_links(source / "_site") == []


def test_a_listing_takes_its_place_back_from_a_page(source: Path) -> None:
    listing = source / "_site" / FULL / "deeper/index.html"
    with Builder(config_of(source)) as builder:
        builder.build()
        before = listing.read_bytes()
        write(source, "deeper.ipynb", notebook(markdown("# In its place")))
        builder.build({"deeper.ipynb"})
        assert listing.read_bytes() != before
        (source / "deeper.ipynb").unlink()
        builder.build({"deeper.ipynb"})
    assert listing.read_bytes() == before


@pytest.mark.parametrize("hinted", [True, False])
def test_the_second_address_of_an_index_page_gives_way_to_a_folder_and_comes_back(tmp_path: Path, hinted: bool) -> None:
    source, inner = tmp_path / "source", "a/index/x.ipynb"
    write(source, "a/index.ipynb", notebook(markdown("# A")))
    with Builder(config_of(source)) as builder:
        builder.build()
        write(source, inner, notebook(markdown("# X")))
        builder.build({inner} if hinted else None)
        assert output_files(source / "_site") == clean_build(source, tmp_path / "with")
        (source / "a/index").joinpath("x.ipynb").unlink()
        builder.build({inner} if hinted else None)
    assert output_files(source / "_site") == clean_build(source, tmp_path / "without")


def test_a_zip_shows_its_own_files_and_not_those_of_a_folder_of_its_name(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write(source, "z/index.ipynb", notebook(markdown("# Unpacked")))
    write(source, "z/data.csv", "unpacked")
    with zipfile.ZipFile(source / "z.zip", "w") as archive:
        archive.writestr("index.ipynb", json.dumps(notebook(markdown("# Packed [data](data.csv)"))))
        archive.writestr("data.csv", "packed")
    write(source, "other.ipynb", notebook(markdown("[data](z/data.csv)")))
    build(source)
    published = source / "_site" / FULL / "z/data.csv"
    assert published.read_text() == "packed"
    (source / "z.zip").unlink()
    build(source)
    assert published.read_text() == "unpacked"
    assert output_files(source / "_site") == clean_build(source, tmp_path / "aside")


def test_the_last_good_page_of_a_broken_notebook_follows_theme_links_and_titles(source: Path) -> None:
    write(source, "deeper/other.ipynb", notebook(markdown("# Other")))
    build(source)
    write(source, "deeper/next.ipynb", "broken")
    write(source, "themes/ours/theme.toml", 'extends = "paper"\n')
    write(source, "deeper/folder.toml", 'title = "New name"\n')
    (source / "start.ipynb").unlink()
    assert build(source, site__theme="ours").failed == 1
    html = page(source, "deeper/next")
    assert "Next" in html
    assert "New name" in html
    assert [link for link in broken_links(source / "_site") if "start.ipynb" not in link] == []


def test_a_broken_notebook_is_not_rendered_again_when_only_its_frame_changed(source: Path) -> None:
    with Builder(config_of(source)) as builder:
        builder.build()
        write(source, "deeper/next.ipynb", "broken")
        builder.build({"deeper/next.ipynb"})
        (source / "start.ipynb").unlink()
        report = builder.build({"start.ipynb"})
    assert statuses(report) == {"deeper/next": "failed", "start": "removed"}
    assert "start/index.html" not in page(source, "deeper/next")


def test_a_broken_archive_in_place_of_a_notebook_keeps_its_title_in_listings(tmp_path: Path) -> None:
    write(tmp_path, "d/a.ipynb", notebook(markdown("# The title")))
    build(tmp_path)
    (tmp_path / "d/a.ipynb").unlink()
    write(tmp_path, "d/a.zip", b"PK broken")
    for _ in range(2):
        assert build(tmp_path).failed == 1
        assert ">The title</a>" in page(tmp_path, "d")
    assert "The title" in page(tmp_path, "d/a")


def test_the_settings_file_given_by_name_is_not_published_with_the_bundle_it_lies_in(tmp_path: Path) -> None:
    write(tmp_path, "bundle/index.ipynb", notebook(markdown("# A")))
    write(tmp_path, "bundle/data.csv", "1")
    file = write(tmp_path, "bundle/prod.toml", '[site]\ntitle = "T"\n')
    with Builder(load_config(tmp_path, file, {}, {"build.output": str(tmp_path / "_site")})) as builder:
        builder.build()
    assert {path.name for path in (tmp_path / "_site" / FULL / "bundle").iterdir()} == {
        "data.csv",
        "index",
        "index.html",
    }


def test_another_name_for_settings_or_a_notebook_does_not_publish_them(tmp_path: Path) -> None:
    write(
        tmp_path,
        "n.ipynb",
        notebook(markdown("[a](a.txt) [b](b.txt) [c](c.txt)"), code("the_source"), nbfolio={"code": "hidden"}),
    )
    write(tmp_path, "site.toml", '[site]\ntitle = "T"\n')
    write(tmp_path, "text", "fine")
    for name, target in (("a.txt", "site.toml"), ("b.txt", "n.ipynb"), ("c.txt", "text")):
        (tmp_path / name).symlink_to(target)
    report = build(tmp_path)
    assert {path.name for path in (tmp_path / "_site" / FULL).glob("*.txt")} == {"c.txt"}
    assert {"a.txt", "b.txt"} <= statuses(report).keys()


@pytest.mark.parametrize("hinted", [True, False])
def test_folder_settings_that_cannot_be_read_bring_nothing_hidden_to_light(tmp_path: Path, hinted: bool) -> None:
    write(tmp_path, "f/a.ipynb", notebook(markdown("# A"), code("the_source")))
    write(tmp_path, "drafts/b.ipynb", notebook(markdown("# B")))
    write(tmp_path, "c.ipynb", notebook(markdown("# C")))
    good = {"f/folder.toml": 'code = "hidden"\n', "drafts/folder.toml": "draft = true\n"}
    for name, text in good.items():
        write(tmp_path, name, text)
    with Builder(config_of(tmp_path)) as builder:
        builder.build()
        for name in good:
            write(tmp_path, name, "draft = tru\n")
        report = builder.build(good if hinted else None)
        assert statuses(report) == {
            "f/a": "failed", "drafts/b": "failed", "c": "kept", "f/folder.toml": "failed", "drafts/folder.toml": "failed",
        }  # fmt: skip
        assert "the_source" not in page(tmp_path, "f/a")
        assert not (tmp_path / "_site" / FULL / "drafts").exists()
        for name in good:
            (tmp_path / name).unlink()
        assert builder.build(good if hinted else None).failed == 0
    assert "the_source" in page(tmp_path, "f/a")
    assert "B" in page(tmp_path, "drafts/b")


def test_a_file_with_a_bar_in_its_name_is_not_published_again_and_again(tmp_path: Path) -> None:
    path = write(tmp_path, "a.ipynb", notebook(markdown("[data](<a|b.csv>)")))
    os.utime(path, (1, 1))  # what was saved a moment ago is read again in any case
    write(tmp_path, "a|b.csv", "1")
    worked: list[str] = []
    with Builder(config_of(tmp_path)) as builder:
        builder.build()
        assert (tmp_path / "_site" / FULL / "a|b.csv").is_file()
        builder.build(progress=lambda done, total, path: worked.append(path))
    assert worked == []


def test_a_new_description_of_a_folder_is_on_its_own_listing_after_a_hinted_build(tmp_path: Path) -> None:
    write(tmp_path, "f/folder.toml", 'description = "first words"')
    write(tmp_path, "f/a.ipynb", notebook())
    with Builder(config_of(tmp_path)) as builder:
        builder.build()
        write(tmp_path, "f/folder.toml", 'description = "other words"')
        builder.build({"f/folder.toml"})
    assert "other words" in page(tmp_path, "f")
