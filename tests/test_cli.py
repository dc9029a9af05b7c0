"""The command `build-site` as people type it: exit codes, reports, progress, and a watch that is started and stopped."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from making import code, display, error, markdown, notebook, png64, write
from sites import html_files

from builder import __version__
from builder.cli import main
from builder.display import Display
from builder.report import PageReport, Report, summarise

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "builder"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two good notebooks, one with a broken link."""
    write(tmp_path, "source/a.ipynb", notebook(markdown("# A"), code("1", display({"image/png": png64()}))))
    write(tmp_path, "source/f/b.ipynb", notebook(markdown("# B\n\n[x](gone.txt)")))
    return tmp_path / "source"


@pytest.fixture(autouse=True)
def _no_progress_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is slow for a moment must not change what these tests read."""
    monkeypatch.setattr("builder.display.LINE_SECONDS", 1000.0)


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """`build-site` in a process of its own."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=100, **options)  # type: ignore[call-overload, no-any-return]


# --- exit codes


def test_a_build_without_failures_is_0_and_the_report_is_the_last_line(source: Path, capsys: Capture) -> None:
    assert main([str(source)]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"built 2, kept 0, failed 0 in \d+\.\d\d s\n", out)
    assert err == "warning: f/b: cell 0: the link 'gone.txt' leads to nothing that is published\n"


def test_failures_and_findings_are_1_only_under_strict(source: Path, capsys: Capture) -> None:
    assert main([str(source), "--strict"]) == 1, "a finding"
    write(source, "f/b.ipynb", notebook())
    assert main([str(source), "--strict"]) == 0
    write(source, "bad.ipynb", "{")
    assert main([str(source)]) == 0
    assert main([str(source), "--strict"]) == 1, "a failure"
    assert main([str(source), "--strict"]) == 1, "the same failure, found in the records"
    assert "failed: bad: The notebook is not JSON" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{}/nowhere"], "nowhere is not a folder"),
        (["{}/a.ipynb"], "a.ipynb is not a folder"),
        (["{}", "--theme", "sepia"], "sepia"),
        (["{}", "--base-url", "db"], "base_url"),
        (["{}", "-o", "{}"], "is or contains the source"),
        (["{}", "-o", "{}/.."], "is or contains the source"),
        (["{}", "-o", "{}/f"], "is not empty and was not made by build-site"),
        (["{}", "-o", "{}/a.ipynb"], "is a file"),
        (["{}", "-c", "{}/nowhere.toml"], "nowhere.toml"),
        (["init", "{}"], "is not empty"),
        (["init", "{}/a.ipynb"], "is not empty"),
        (["check", "{}/nowhere"], "nowhere is not a folder"),
    ],
)
def test_what_cannot_be_done_is_2_and_one_sentence(
    source: Path, capsys: Capture, arguments: list[str], sentence: str
) -> None:
    before = sorted(source.rglob("*"))
    assert main([argument.format(source) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.startswith("build-site")
    assert err.count("\n") == 1
    assert not [path for path in source.rglob("*.html") if path not in before]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--unknown"],
        ["-j", "many"],
        ["-j", "-1"],
        ["--format", "xml"],
        ["--poll", "0"],
        ["a", "b"],
        ["--watch", "--format", "json"],
        ["--poll", "1", "--format", "json"],
        ["-o"],
        ["init"],
        ["init", "a", "b"],
        ["check", "--watch"],
    ],
)
def test_wrong_usage_is_3_and_says_what_is_wrong(arguments: list[str], capsys: Capture) -> None:
    assert main(arguments) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search("^Error: ", err, re.M)


def test_the_exit_code_reaches_the_shell(source: Path) -> None:
    done = run(source, "--strict", "-q")
    assert (done.returncode, done.stdout) == (1, "")
    done = run("--unknown")
    assert (done.returncode, done.stdout) == (3, "")


# --- reports


def test_the_json_report_has_exactly_the_documented_form(source: Path, capsys: Capture) -> None:
    write(source, "bad.ipynb", "{")
    assert main([str(source), "--format", "json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert err == ""
    assert list(report) == ["built", "kept", "failed", "removed", "seconds", "pages"]
    assert [report[name] for name in ("built", "kept", "failed", "removed")] == [2, 0, 1, 0]
    assert isinstance(report["seconds"], float)
    assert [list(page) for page in report["pages"]] == [["path", "status", "message"]] * 3
    assert [(page["path"], page["status"]) for page in report["pages"]] == [
        ("a", "built"),
        ("bad", "failed"),
        ("f/b", "built"),
    ]
    assert json.loads((source / ".nbfolio/build-report.json").read_text()) == report
    (source / "bad.ipynb").unlink()
    (source / "a.ipynb").unlink()
    main([str(source), "--format", "json"])
    report = json.loads(capsys.readouterr().out)
    assert [(page["path"], page["status"]) for page in report["pages"]] == [("a", "removed"), ("f/b", "kept")]
    assert report["removed"] == 1


def test_names_of_all_languages_survive_a_terminal_that_knows_none(source: Path) -> None:
    write(source, "Größe 日本.ipynb", notebook(markdown("[x](gone)")))
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*COMMAND, source, "--format", "json"], capture_output=True, check=True, cwd=ROOT, env=environment
    )
    assert "Größe 日本" in {page["path"] for page in json.loads(done.stdout.decode())["pages"]}
    done = subprocess.run(
        [*COMMAND, source, "-v", "--force"], capture_output=True, check=True, cwd=ROOT, env=environment
    )
    assert b"Gr\\xf6\\xdfe" in done.stdout + done.stderr
    assert b"Traceback" not in done.stderr


def test_quiet_says_only_what_went_wrong_and_verbose_names_every_page(source: Path, capsys: Capture) -> None:
    write(source, "bad.ipynb", "{")
    assert main([str(source), "-q"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.partition(":")[0] for line in err.splitlines()] == ["failed"]
    assert main([str(source), "-v", "--force"]) == 0
    out, err = capsys.readouterr()
    assert re.search("^(kept|built) a$", out, re.M)
    assert {line.split(": ")[1] for line in err.splitlines()} == {"bad", "f/b"}


def test_a_long_list_of_findings_is_cut_unless_it_is_asked_for(capsys: Capture) -> None:
    pages = [PageReport(f"p{number:02}", "kept", "warned") for number in range(30)]
    report = summarise([*pages, PageReport("z", "failed", "broken")], 1.0)
    Display().report(report)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21
    assert lines[0] == "failed: z: broken"
    assert lines[-1].startswith("… and 11 more pages")
    Display(verbose=True).report(report)
    assert len(capsys.readouterr().err.splitlines()) == 31


def test_nothing_in_a_notebook_can_steer_the_terminal(source: Path, capsys: Capture) -> None:
    write(source, "a.ipynb", notebook(markdown("x"), code("1", error("E", "v", "t")), nbfolio={"\x1b[2Jtitle": 1}))
    main([str(source)])
    assert "\x1b" not in "".join(capsys.readouterr())


# --- options


def test_output_theme_and_prefix_can_be_given(source: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main([str(source), "-o", str(tmp_path / "elsewhere"), "--base-url", "/db", "--theme", "paper"]) == 0
    assert not (source / "_site").exists()
    assert 'href="/db/"' in (tmp_path / "elsewhere/404.html").read_text()
    capsys.readouterr()


def test_the_folder_of_the_settings_file_is_the_source_and_wins_over_the_working_folder(
    source: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(source, "site.toml", '[build]\noutput = "public"\n')
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert main(["-c", str(source / "site.toml")]) == 0
    assert (source / "public/index.html").exists()
    monkeypatch.chdir(source)
    assert main([]) == 0
    assert "built 0, kept 2" in capsys.readouterr().out
    assert main(["-o", "here"]) == 0
    assert (source / "here/index.html").exists(), "a path on the command line belongs to the working folder"


def test_force_renders_again_and_clean_takes_a_foreign_folder(source: Path, tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path, "home/thesis.txt", "mine")
    assert main([str(source), "-o", str(tmp_path / "home")]) == 2
    assert main([str(source), "-o", str(tmp_path / "home"), "--clean"]) == 0
    assert (tmp_path / "home/thesis.txt").read_text() == "mine"
    before = html_files(tmp_path / "home")
    assert main([str(source), "-o", str(tmp_path / "home"), "--force"]) == 0
    assert html_files(tmp_path / "home") == before, "the same bytes are not written again"
    capsys.readouterr()


def test_init_writes_a_site_that_builds_without_a_finding(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("new", "deep/er", "empty"):
        assert main(["init", str(tmp_path / name)]) == 0
        assert "build them with: build-site" in capsys.readouterr().out
    assert main([str(tmp_path / "new"), "--strict"]) == 0


def test_version_and_help_import_nothing_heavy() -> None:
    program = (
        "import sys\nfrom builder.cli import main\n"
        "assert main(['--version']) == 0 and main(['--help']) == 0\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & set(sys.argv[1:])))\n"
        "print(sorted(name for name in sys.modules if name.startswith('builder')))"
    )
    heavy = [
        "nbconvert",
        "nbformat",
        "mistune",
        "jinja2",
        "pygments",
        "msgspec",
        "rich",
        "watchdog",
        "multiprocessing",
        "sqlite3",
    ]
    done = subprocess.run([sys.executable, "-c", program, *heavy], capture_output=True, text=True, check=True, cwd=ROOT)
    lines = done.stdout.splitlines()
    assert lines[0] == f"build-site, version {__version__}"
    assert lines[-2] == "[]"
    assert lines[-1] == "['builder', 'builder.cli', 'builder.commandline', 'builder.errors']"
    for option in ("--watch", "--strict", "--format", "--base-url", "init DIR", "check [SOURCE]"):
        assert option in done.stdout


# --- progress


def on_a_terminal(*arguments: object) -> str:
    """What `build-site` writes to stderr when that is a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=theirs, cwd=ROOT, env=environment
    )
    os.close(theirs)
    said = b""
    try:
        while chunk := os.read(ours, 65536):
            said += chunk
    except OSError:  # Linux: nobody has the other end any more
        pass
    os.close(ours)
    assert process.wait(60) == 0
    return said.decode()


def test_a_terminal_shows_a_bar_with_count_rate_and_name_that_is_gone_in_the_end(source: Path) -> None:
    for number in range(20):
        write(source, f"folder/page{number}.ipynb", notebook(markdown(f"# {number}")))
    said = on_a_terminal(source)
    assert "22/22" in said
    assert re.search(r"\d+/s", said)
    assert re.search(r"folder/page\d+|f/b|\ba\b", said)
    assert said.rstrip().endswith("leads to nothing that is published"), "the summary follows the bar"
    assert "\x1b[2K" in said, "the bar is wiped"
    assert "/22" not in on_a_terminal(source, "-q", "--force"), "quiet"
    assert "/22" not in on_a_terminal(source, "--format", "json", "--force")


def test_without_a_terminal_there_are_plain_lines_now_and_then(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builder.display.LINE_SECONDS", 0.0)
    with Display() as display:
        display.progress(1, 3, "a")
        display.progress(2, 3, "b")
    out, err = capsys.readouterr()
    assert out == ""
    assert [re.sub(r"\d+/s", "N/s", line) for line in err.splitlines()] == [
        "1 of 3 pages, N/s, a",
        "2 of 3 pages, N/s, b",
    ]
    monkeypatch.setattr("builder.display.LINE_SECONDS", 1000.0)
    for shy in (Display(), Display(quiet=True), Display(json=True)):
        shy.progress(1, 3, "a")
    assert capsys.readouterr() == ("", "")


# --- watch


class Watching:
    """A `build-site --watch` and the lines it prints."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
        )
        self.said = b""

    def until(self, pattern: str) -> str:
        """The first line from now on in which `pattern` is found; what is said is awaited, not polled for."""
        assert self.process.stdout
        deadline = time.monotonic() + 60
        while True:
            line, newline, rest = self.said.partition(b"\n")
            if newline:
                self.said = rest
                if re.search(pattern, line.decode()):
                    return line.decode()
                continue
            assert select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0], f"no {pattern}"
            chunk = os.read(self.process.stdout.fileno(), 65536)
            assert chunk, self.process.communicate()
            self.said += chunk

    def stop(self, number: signal.Signals) -> tuple[int, str, str]:
        """Exit code and what was said from now on."""
        os.killpg(self.process.pid, number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, (self.said + out).decode(), err.decode()


@contextmanager
def watching(*arguments: object) -> Iterator[Watching]:
    watch = Watching(*arguments)
    try:
        yield watch
    finally:
        if watch.process.poll() is None:
            watch.process.kill()
            watch.process.communicate()


def test_watch_rebuilds_what_was_saved_says_why_and_ends_well_on_ctrl_c(source: Path) -> None:
    with watching(source, "--watch") as watch:
        watch.until("^built 2, kept 0")
        watch.until("watching .*Ctrl-C ends")
        write(source, "a.ipynb", notebook(markdown("# Changed")))
        watch.until(r"built a in \d+\.\d\d s")  # by an event, or by the look at everything that a watch begins with
        write(source, "a.ipynb", notebook(markdown("# Changed again")))
        watch.until(r"built a in \d+\.\d\d s \(a\.ipynb changed\)$")
        assert "Changed again" in (source / "_site/dashboards/a/index.html").read_text()
        (source / "a.ipynb").unlink()
        watch.until("removed a in .*changed")
        exit_code, out, err = watch.stop(signal.SIGINT)
    assert (exit_code, out) == (0, "")
    assert "Traceback" not in err
    assert not list((source / "_site").glob(".nbfolio-staging"))


def test_polling_sees_a_save_without_events_and_sigterm_ends_it(source: Path) -> None:
    with watching(source, "--poll", "0.1") as watch:
        watch.until("watching")
        write(source, "a.ipynb", notebook(markdown("# Changed")))
        watch.until("built a in .*found by looking at everything")
        exit_code, _, err = watch.stop(signal.SIGTERM)
    assert exit_code == 0
    assert "Traceback" not in err


def test_watch_goes_on_when_a_notebook_breaks_and_says_so(source: Path) -> None:
    with watching(source, "--watch") as watch:
        watch.until("watching")
        write(source, "a.ipynb", "{")
        write(source, "c.ipynb", notebook(markdown("# C")))
        watch.until(r"built c\b")
        exit_code, _, err = watch.stop(signal.SIGTERM)
    assert exit_code == 0
    assert "failed: a: The notebook is not JSON" in err
    assert 'id="A"' in (source / "_site/dashboards/a/index.html").read_text(), "its last good page stays"


def test_the_line_about_a_change_names_a_few_pages_and_counts_the_rest(capsys: Capture) -> None:
    pages = tuple(PageReport(f"p{number}", "built") for number in range(5))
    Display().change(Report(5, 0, 0, 0, 0.5, pages), None)
    assert (
        capsys.readouterr().out[9:]
        == "built p0, built p1, built p2 and 2 more in 0.50 s (found by looking at everything)\n"
    )
    Display().change(Report(0, 5, 0, 0, 0.5, ()), frozenset({"x"}))
    assert capsys.readouterr().out == "", "nothing happened"
