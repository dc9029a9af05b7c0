"""The output folder: whole files or nothing, one builder at a time, nobody else's folder."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from builder.errors import OutputError
from builder.write import MARKER, STAGING, open_output


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    return folder


def test_write_makes_the_folders_a_file_needs(source: Path, tmp_path: Path) -> None:
    with open_output(tmp_path / "out", source) as output:
        stat = output.write("dashboards/a b/ü/index.html", b"page")
        assert output.stat("dashboards/a b/ü/index.html") == stat
    assert (tmp_path / "out/dashboards/a b/ü/index.html").read_bytes() == b"page"


def test_a_reader_who_opened_the_old_file_keeps_it_whole(source: Path, tmp_path: Path) -> None:
    with open_output(tmp_path / "out", source) as output:
        output.write("index.html", b"old" * 1000)
        with open(tmp_path / "out/index.html", "rb") as reader:
            output.write("index.html", b"new")
            assert reader.read() == b"old" * 1000
    assert (tmp_path / "out/index.html").read_bytes() == b"new"


def test_nothing_is_left_of_the_staging_folder(source: Path, tmp_path: Path) -> None:
    with open_output(tmp_path / "out", source) as output:
        output.write("index.html", b"x")
    assert sorted(os.listdir(tmp_path / "out")) == [MARKER, "index.html"]


def test_what_a_killed_builder_left_in_staging_is_removed(source: Path, tmp_path: Path) -> None:
    staging = tmp_path / "out" / STAGING
    with open_output(tmp_path / "out", source):
        pass
    staging.mkdir()
    (staging / "7").write_bytes(b"half a page")
    with open_output(tmp_path / "out", source) as output:
        assert list(staging.iterdir()) == []
        output.write("index.html", b"x")


def test_a_filled_folder_of_somebody_else_is_refused(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "home"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty and was not made by build-site"), open_output(other, source):
        pass
    assert os.listdir(other) == ["thesis.txt"]


def test_clean_takes_a_filled_folder_and_leaves_its_files(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "home"
    other.mkdir()
    (other / "CNAME").write_text("example.org")
    with open_output(other, source, clean=True) as output:
        output.write("index.html", b"x")
    assert (other / "CNAME").read_text() == "example.org"
    with open_output(other, source):  # it is ours from now on
        pass


@pytest.mark.parametrize("choice", ["notebooks", ".", "notebooks/../notebooks"])
def test_an_output_that_is_or_contains_the_source_is_always_refused(source: Path, tmp_path: Path, choice: str) -> None:
    with (
        pytest.raises(OutputError, match="is or contains the source"),
        open_output(tmp_path / choice, source, clean=True),
    ):
        pass


def test_a_symlink_to_the_source_is_refused_as_output(source: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(OutputError, match="is or contains the source"), open_output(tmp_path / "link", source):
        pass


def test_a_file_as_output_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="is a file"), open_output(tmp_path / "out", source):
        pass


def test_a_second_builder_is_told_who_holds_the_output(source: Path, tmp_path: Path) -> None:
    with open_output(tmp_path / "out", source):
        program = (
            "import sys; from pathlib import Path; from builder.write import open_output; from builder.errors import OutputError\n"
            "try:\n with open_output(Path(sys.argv[1]), Path(sys.argv[2])): pass\n"
            "except OutputError as error: print(error)"
        )
        command = [sys.executable, "-c", program, str(tmp_path / "out"), str(source)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"Another builder (process {os.getpid()}) is writing to" in said


def test_the_lock_of_a_dead_builder_does_not_hold(source: Path, tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from builder.write import open_output\n"
        "with open_output(Path(sys.argv[1]), Path(sys.argv[2])): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path / "out"), str(source)]).returncode == 9
    with open_output(tmp_path / "out", source) as output:
        output.write("index.html", b"x")


def test_link_makes_one_file_of_two_names(source: Path, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"image")
    with open_output(tmp_path / "out", source) as output:
        output.link(tmp_path / "blob", "media/x.png")
    assert (tmp_path / "out/media/x.png").stat().st_ino == (tmp_path / "blob").stat().st_ino


def test_copy_is_a_file_of_its_own(source: Path, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(b"1,2")
    with open_output(tmp_path / "out", source) as output:
        output.copy(tmp_path / "data.csv", "dashboards/data.csv")
    (tmp_path / "data.csv").write_bytes(b"changed")
    assert (tmp_path / "out/dashboards/data.csv").read_bytes() == b"1,2"


def test_remove_takes_empty_folders_with_it_but_not_filled_ones(source: Path, tmp_path: Path) -> None:
    with open_output(tmp_path / "out", source) as output:
        output.write("dashboards/a/b/index.html", b"x")
        output.write("dashboards/index.html", b"x")
        output.remove("dashboards/a/b/index.html")
        assert sorted(os.listdir(tmp_path / "out/dashboards")) == ["index.html"]
        output.write("dashboards/a/b/index.html", b"y")  # the folders come back
        output.remove("dashboards/nothing/here.html")


def test_a_file_may_take_the_place_of_a_folder_and_the_other_way_round(source: Path, tmp_path: Path) -> None:
    with open_output(tmp_path / "out", source) as output:
        output.write("dashboards/a/index.html", b"page")
        output.write("dashboards/a", b"file")
        assert (tmp_path / "out/dashboards/a").read_bytes() == b"file"
        output.write("dashboards/a/index.html", b"page")
        assert (tmp_path / "out/dashboards/a/index.html").read_bytes() == b"page"


def test_a_folder_of_the_output_that_vanishes_while_building_is_made_again(source: Path, tmp_path: Path) -> None:
    with open_output(tmp_path / "out", source) as output:
        output.write("dashboards/a/index.html", b"1")
        output.remove("dashboards/a/index.html")
        (tmp_path / "out/dashboards").mkdir(exist_ok=True)
        output.write("dashboards/a/index.html", b"2")
    assert (tmp_path / "out/dashboards/a/index.html").read_bytes() == b"2"


def test_a_write_that_cannot_be_finished_leaves_the_old_file_and_no_rest(source: Path, tmp_path: Path) -> None:
    """A real limit on file size stands for a full disk."""
    with open_output(tmp_path / "out", source) as output:
        output.write("index.html", b"old")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        import signal

        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            with pytest.raises(OutputError, match="File too large"):
                output.write("index.html", b"n" * 5000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)
        assert list((tmp_path / "out" / STAGING).iterdir()) == []
    assert (tmp_path / "out/index.html").read_bytes() == b"old"


def test_a_full_disk_is_said_in_a_sentence(source: Path, tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with open_output(tmp_path / "out", source) as output:
        staging = tmp_path / "out" / STAGING
        os.symlink("/dev/full", staging / "1")
        with pytest.raises(OutputError, match="no space left on the device; pages published so far are whole"):
            output.write("index.html", b"x" * 100_000)


def test_an_output_that_may_not_be_written_is_said_in_a_sentence(source: Path) -> None:
    reasons = r"Permission denied|Read-only|Not a directory|No such file"
    with pytest.raises(OutputError, match=reasons), open_output(Path("/proc/nbfolio-output"), source):
        pass
