"""How fast `build-site` is, against `jupyter nbconvert` on the same notebooks in the same run.

    python tests/benchmarks/build_speed.py NOTEBOOKS [--copies N] [--runs N] [--skip-nbconvert]

NOTEBOOKS is a folder of notebooks; `--copies` multiplies it, each copy with a difference of its own so that no cache
helps. Commands are run in turn, A B A B, as whole processes; what counts are the ratios, pair by pair, because the
speed of a machine drifts. Wall seconds, and CPU seconds of all processes together.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

BUILD = [sys.executable, "-m", "builder"]
NBCONVERT = [sys.executable, "-m", "nbconvert", "--to", "html", "--log-level", "ERROR"]
ROOT = Path(__file__).resolve().parents[2]


class Time(NamedTuple):
    """What one command took."""

    wall: float
    cpu: float


def timed(command: list[str], folder: Path) -> Time:
    """Run a command to its end and give its time; it must succeed."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Time(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def multiply(notebooks: Path, target: Path, copies: int) -> int:
    """Copy the notebooks `copies` times, each copy with a cell of its own, the files beside them once per copy."""
    count = 0
    for number in range(copies):
        folder = target / f"part-{number:03}" if copies > 1 else target
        for path in sorted(notebooks.rglob("*")):
            if not path.is_file() or ".ipynb_checkpoints" in path.parts:
                continue
            place = folder / path.relative_to(notebooks)
            place.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".ipynb" and copies > 1:
                content = json.loads(path.read_bytes())
                content["cells"].append({"cell_type": "markdown", "metadata": {}, "source": f"Copy {number}."})
                place.write_text(json.dumps(content), encoding="utf-8")
            else:
                shutil.copyfile(path, place)
            count += path.suffix == ".ipynb"
    return count


def touch(notebook: Path) -> None:
    """Change one notebook for real."""
    content = json.loads(notebook.read_bytes())
    content["cells"].append({"cell_type": "markdown", "metadata": {}, "source": f"Saved at {time.time_ns()}."})
    notebook.write_text(json.dumps(content), encoding="utf-8")


def measure(name: str, runs: int, prepare: Callable[[], None], command: list[str], folder: Path) -> list[Time]:
    """Time a command several times, each after `prepare`."""
    times = []
    for _ in range(runs):
        prepare()
        times.append(timed(command, folder))
    print(f"  {name}: {statistics.median(t.wall for t in times):.3f} s", file=sys.stderr)
    return times


@contextmanager
def workplace(notebooks: Path, copies: int) -> Iterator[tuple[Path, int]]:
    """A fresh folder with the notebooks to build."""
    with tempfile.TemporaryDirectory(prefix="nbfolio-bench-") as name:
        source = Path(name) / "source"
        source.mkdir()
        yield source, multiply(notebooks, source, copies)


def row(what: str, times: list[Time], base: list[Time] | None, count: int) -> str:
    """A line of the table: median and range of the wall time, CPU, notebooks per second, ratio to the base."""
    walls = sorted(t.wall for t in times)
    cpu = statistics.median(t.cpu for t in times)
    ratio = ""
    if base:
        pairs = [other.wall / mine.wall for other, mine in zip(base, times, strict=False)]
        cpu_ratio = statistics.median(t.cpu for t in base) / cpu
        ratio = f"{statistics.median(pairs):.1f}x [{min(pairs):.1f}-{max(pairs):.1f}], CPU {cpu_ratio:.1f}x"
    median = statistics.median(walls)
    return f"| {what} | {median:.3f} [{walls[0]:.3f}-{walls[-1]:.3f}] | {cpu:.3f} | {count / median:.1f} | {ratio} |"


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", type=Path)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--skip-nbconvert", action="store_true")
    arguments = parser.parse_args()
    with workplace(arguments.notebooks, arguments.copies) as (source, count):
        output, state = source.parent / "out", source.parent / "state"
        build = [*BUILD, str(source), "-o", str(output), "-q"]
        os.environ["NBFOLIO_SERVER__STATE_DIR"] = str(state)
        everything = sorted(str(path) for path in source.rglob("*.ipynb"))
        convert = [*NBCONVERT, "--output-dir", str(source.parent / "converted"), *everything]
        first = Path(everything[len(everything) // 2])

        def fresh() -> None:
            for folder in (output, state, source.parent / "converted"):
                shutil.rmtree(folder, ignore_errors=True)

        fresh()
        timed(build, source)  # warms the file cache
        cold: list[Time] = []
        converted: list[Time] = []
        for _ in range(arguments.runs):
            cold += measure("build-site, cold", 1, fresh, build, source)
            if not arguments.skip_nbconvert:
                converted += measure("jupyter nbconvert", 1, lambda: None, convert, source)
        timed(build, source)
        nothing: list[Time] = []
        python: list[Time] = []
        for _ in range(arguments.runs * 2):
            python += measure("python -c pass", 1, lambda: None, [sys.executable, "-c", "pass"], source)
            nothing += measure("nothing changed", 1, lambda: None, build, source)
        one = measure("one notebook changed", arguments.runs, lambda: touch(first), build, source)
    print(f"\n{count} notebooks, {os.cpu_count()} cores, Python {sys.version.split()[0]}\n")
    print("| | wall s, median [range] | CPU s | notebooks/s | against |\n|---|---|---|---|---|")
    if converted:
        print(row("jupyter nbconvert --to html", converted, None, count))
    print(row("build-site, cold, full and plain", cold, converted or None, count))
    print(row("build-site, one notebook changed", one, None, count))
    print(row("python -c pass", python, None, count))
    slower = [mine.wall / other.wall for other, mine in zip(python, nothing, strict=True)]
    print(
        row("build-site, nothing changed", nothing, None, count).rstrip("| ")
        + f" | {statistics.median(slower):.1f} times python -c pass |"
    )


if __name__ == "__main__":
    main()
