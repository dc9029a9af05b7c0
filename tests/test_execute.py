"""Running notebooks: real kernels, and nothing of them is left."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import builder.execute
from builder.environment import kernel_environment
from builder.errors import NotebookError
from builder.execute import execute_notebook, needs_execution

GONE_SECONDS = 20.0


def notebook(*sources: str, kernel: Any = None) -> NotebookNode:
    nb = new_notebook(cells=[new_code_cell(source) for source in sources])
    if kernel is not None:
        nb.metadata["kernelspec"] = {"name": kernel, "display_name": "A kernel"}
    return nb


def execute(nb: NotebookNode, folder: Path, environ: Mapping[str, str] = os.environ, **limits: int) -> NotebookNode:
    limits = {"cell_timeout": 120, "notebook_timeout": 240, **limits}
    return execute_notebook(nb, folder, environ=environ, **limits)


def failure(nb: NotebookNode, folder: Path, **limits: int) -> tuple[str, int | None]:
    with pytest.raises(NotebookError) as caught:
        execute(nb, folder, **limits)
    assert str(caught.value).isprintable()
    return str(caught.value), caught.value.cell


def assert_ends(pid: int) -> None:
    """A process that was killed is gone, or waits for its parent to notice."""
    deadline = time.monotonic() + GONE_SECONDS
    try:
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, f"{process} is still there"
            process.wait(0.01) if process.ppid() == os.getpid() else os.sched_yield()
    except psutil.NoSuchProcess:
        pass


# --- what is run


@pytest.mark.parametrize(
    ("cells", "missing", "always"),
    [
        ([], False, False),
        ([new_markdown_cell("text")], False, False),
        ([new_code_cell(" \n")], False, False),
        ([new_code_cell("1")], True, True),
        ([new_code_cell("1", execution_count=1)], False, True),
        ([new_code_cell("1", outputs=[new_output("stream", text="1")])], False, True),
        ([new_code_cell("1"), new_code_cell("2", execution_count=2)], False, True),
        ([new_code_cell("", execution_count=3), new_code_cell("1")], True, True),
    ],
)
def test_only_notebooks_with_code_are_run_and_missing_means_no_trace_of_a_run(
    cells: list[NotebookNode], missing: bool, always: bool
) -> None:
    nb = new_notebook(cells=cells)
    assert needs_execution(nb, "missing") is missing
    assert needs_execution(nb, "always") is always
    assert needs_execution(nb, "never") is False


def test_a_kernel_gets_what_it_needs_to_start_and_no_secret() -> None:
    kept = {"PATH": "/bin", "HOME": "/h", "LC_ALL": "C", "PYTHONPATH": "/p", "JUPYTER_PATH": "/j", "TMPDIR": "/t"}
    secret = {"NBFOLIO_AUTH__API_TOKEN": "x", "JUPYTER_TOKEN": "x", "AWS_SECRET_ACCESS_KEY": "x", "DATA_DIR": "x"}
    assert kernel_environment(kept | secret) == kept


@given(st.dictionaries(st.text(), st.text()))
def test_nothing_of_our_own_settings_reaches_a_kernel(environ: dict[str, str]) -> None:
    given = {f"NBFOLIO_{name}": value for name, value in environ.items()}
    assert kernel_environment(given) == {}


# --- a run


def test_a_run_gives_outputs_in_a_copy_and_leaves_notebook_folder_and_process_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, temporary = tmp_path / "süß 'n' #1", tmp_path / "tmp"
    folder.mkdir()
    temporary.mkdir()
    (folder / "data.csv").write_text("1,2")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setenv("NBFOLIO_AUTH__API_TOKEN", "secret")
    old = new_output("stream", text="old")
    nb = notebook(
        "import os, sys\nprint(open('data.csv').read())\nos.write(1, b'raw'); os.write(2, b'raw');",
        "sorted(name for name in os.environ if 'TOKEN' in name)",
        "",
        "print('e', file=sys.stderr)\ndisplay({'text/html': '<b>x</b>'}, raw=True)",
        "import warnings; warnings.warn('shown to readers, not to us')",
    )
    nb.cells[0].outputs = [old]
    nb.cells.insert(1, new_markdown_cell("text"))
    before = copy.deepcopy(nb)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    done = execute(nb, folder)

    assert nb == before
    # what a notebook writes to the file descriptor itself, ipykernel passes on later, or not before the end
    assert done.cells[0].outputs[0]["text"] in ("1,2\n", "1,2\nraw")
    assert done.cells[2].outputs[0]["data"] == {"text/plain": "[]"}
    assert done.cells[3].outputs == []
    assert done.cells[4].outputs[-1]["data"] == {"text/html": "<b>x</b>"}
    assert [cell.get("execution_count") for cell in done.cells] == [1, None, 2, None, 3, 4]
    assert all("execution" not in cell.metadata for cell in done.cells)  # times of day would differ in every run
    assert done.metadata["language_info"]["name"] == "python"
    assert [path.name for path in folder.iterdir()] == ["data.csv"]
    assert not list(temporary.iterdir())
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert capfd.readouterr() == ("", "")


def test_the_state_of_widgets_is_kept(tmp_path: Path) -> None:
    source = """
    from comm import create_comm
    state = {"_model_name": "IntSliderModel", "_model_module": "@jupyter-widgets/controls", "value": 7}
    comm = create_comm(target_name="jupyter.widget", data={"state": state}, metadata={"version": "2.1.0"})
    """
    done = execute(notebook("\n".join(line.strip() for line in source.splitlines())), tmp_path)
    widgets = done.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]
    assert [model["state"]["value"] for model in widgets["state"].values()] == [7]


def test_cells_that_may_fail_and_cells_to_be_skipped_are_heard(tmp_path: Path) -> None:
    nb = notebook("1/0", "raise SystemError", "2")
    nb.cells[0].metadata["tags"] = ["raises-exception"]
    nb.cells[1].metadata["tags"] = ["skip-execution"]
    done = execute(nb, tmp_path)
    assert done.cells[0].outputs[0]["ename"] == "ZeroDivisionError"
    assert done.cells[1].outputs == []
    assert done.cells[2].outputs[0]["data"] == {"text/plain": "2"}


# --- what goes wrong


def test_an_exception_is_told_in_one_bounded_sentence_with_its_cell(tmp_path: Path) -> None:
    nb = notebook("a = 1", "raise ValueError('\\x1b[31mred\\n' + 'x' * 10**6)")
    message, cell = failure(nb, tmp_path)
    assert message.startswith("The cell raised ValueError: \\x1b[31mred xxx")
    assert len(message) < 400
    assert cell == 1


def test_a_cell_over_its_time_is_stopped_with_all_it_started(tmp_path: Path) -> None:
    source = """
import subprocess, pathlib, os, time, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("pids").write_text(f"{os.getpid()} {subprocess.Popen(['sleep', '1000']).pid}")
while True:
    time.sleep(1000)
"""
    message, cell = failure(notebook("1", source), tmp_path, cell_timeout=3)
    assert (message, cell) == ("The cell ran longer than 3 s and was stopped.", 1)
    for pid in (tmp_path / "pids").read_text().split():
        assert_ends(int(pid))


def test_what_a_notebook_started_and_forgot_ends_with_its_run(tmp_path: Path) -> None:
    done = execute(notebook("import subprocess\nprint(subprocess.Popen(['sleep', '1000']).pid)"), tmp_path)
    assert_ends(int(done.cells[0].outputs[0]["text"]))


def test_a_kernel_may_end_in_its_own_way_after_a_good_run(tmp_path: Path) -> None:
    source = "import atexit, pathlib\natexit.register(lambda: pathlib.Path('bye').touch())"
    execute(notebook(source), tmp_path)
    assert (tmp_path / "bye").exists()


@pytest.mark.parametrize("sources", [["import time; time.sleep(1000)"], ["import time; time.sleep(1.5)"] * 50])
def test_a_notebook_over_its_time_is_stopped_in_one_long_cell_and_between_short_ones(
    tmp_path: Path, sources: list[str]
) -> None:
    message, cell = failure(notebook(*sources), tmp_path, notebook_timeout=5)
    assert message == "The notebook ran longer than 5 s and was stopped."
    assert cell is not None
    assert cell < len(sources) / 2


def test_a_kernel_that_dies_is_told_and_what_it_started_ends(tmp_path: Path) -> None:
    source = """
import os, pathlib, subprocess
pathlib.Path("pid").write_text(str(subprocess.Popen(["sleep", "1000"]).pid))
os.kill(os.getpid(), 9)
"""
    message, cell = failure(notebook("1", source), tmp_path)
    assert (message, cell) == ("The kernel died (out of memory?).", 1)
    assert_ends(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(
    "source",
    [
        "while True: print('x' * 10000)",
        "from IPython.display import display\nwhile True: display({'application/json': [1] * 10000}, raw=True)",
        "print('x' * 2_000_000)",
    ],
)
def test_a_flood_of_outputs_ends_the_run_before_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setattr(builder.execute, "MAX_OUTPUT", 1_000_000)
    message, cell = failure(notebook(source), tmp_path)
    assert (message, cell) == ("The outputs of the run are larger than 1 MB.", 0)


def test_a_kernel_that_is_not_installed_is_named_with_what_to_do(tmp_path: Path) -> None:
    message, cell = failure(notebook("1", kernel="julia-1.10"), tmp_path)
    assert "'julia-1.10' is not installed here" in message
    assert "jupyter kernelspec list" in message
    assert cell is None


@pytest.mark.parametrize("name", ["../../etc", "a b\n\x1b[31m", "x" * 5000, "\udcff", "\0"])
def test_a_hostile_kernel_name_is_a_kernel_that_is_not_installed(tmp_path: Path, name: str) -> None:
    message, _ = failure(notebook("1", kernel=name), tmp_path)
    assert "is not installed here" in message
    assert len(message) < 500


@pytest.mark.parametrize("spec", [None, [], "python3", {}, {"name": 3}, {"name": ""}, {"name": ["python3"]}])
def test_a_notebook_without_a_usable_kernel_name_runs_with_python(spec: Any) -> None:
    nb = notebook("1")
    nb.metadata["kernelspec"] = spec
    assert builder.execute._kernel_name(nb) == "python3"


def install_kernel(folder: Path, name: str, argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    spec = folder / "share" / "kernels" / name
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": name, "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "share"))


@pytest.mark.parametrize(
    "argv",
    [["/nowhere/python", "{connection_file}"], [sys.executable, "-c", "1"], [sys.executable, "-c", "import zz"], []],
)
def test_a_kernel_that_does_not_start_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    install_kernel(tmp_path, "broken", argv, monkeypatch)
    message, cell = failure(notebook("1", kernel="broken"), tmp_path)
    assert message.startswith("The kernel 'broken' could not be used: ")
    assert cell is None
    assert capfd.readouterr() == ("", "")


def test_a_kernel_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_kernel(tmp_path, "mute", [sys.executable, "-c", "import time; time.sleep(1000)"], monkeypatch)
    message, _ = failure(notebook("1", kernel="mute"), tmp_path, notebook_timeout=1)
    assert message.startswith("The kernel 'mute' could not be used: ") or "ran longer than 1 s" in message


def test_a_folder_that_has_gone_is_told(tmp_path: Path) -> None:
    message, _ = failure(notebook("1"), tmp_path / "gone")
    assert message.startswith("The kernel 'python3' could not be used: ")


# --- where it runs

IN_A_WORKER = """
import asyncio, multiprocessing, os, sys
sys.path.insert(0, {here!r})
from pathlib import Path
from nbformat.v4 import new_code_cell, new_notebook

def work(connection):
    from builder.execute import execute_notebook
    for _ in range(2):
        nb = new_notebook(cells=[new_code_cell("6 * 7")])
        nb = execute_notebook(nb, Path({folder!r}), cell_timeout=60, notebook_timeout=60, environ=os.environ)
        connection.send(nb.cells[0].outputs[0]["data"]["text/plain"])

async def nothing():
    pass

if __name__ == "__main__":
    import builder.execute
    loop = asyncio.new_event_loop()  # the parent has a loop, which a forked worker must not use
    asyncio.set_event_loop(loop)
    loop.run_until_complete(nothing())
    context = multiprocessing.get_context({method!r})
    ours, theirs = context.Pipe()
    worker = context.Process(target=work, args=(theirs,), daemon=True)
    worker.start()
    theirs.close()
    print(ours.recv(), ours.recv())
    worker.join()
    loop.close()
    sys.exit(worker.exitcode)
"""


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_notebooks_run_one_after_the_other_in_a_worker_process(tmp_path: Path, method: str) -> None:
    assert method in multiprocessing.get_all_start_methods()
    script = tmp_path / "main.py"
    here = str(Path(__file__).parent.parent)
    script.write_text(IN_A_WORKER.format(here=here, folder=str(tmp_path), method=method))
    done = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "42 42\n", "")
