"""Dashboards whose every version has a mark of its own in all of its parts, and programs that serve them."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from making import code, display, markdown, notebook, png, stream

from builder.write import MARKER

ROOT = Path(__file__).parent.parent
PATIENCE = 60.0
"""Seconds after which something that should have come counts as a hang."""
TREES = ("dashboards", "dashboards-plain")
MARK = re.compile(r"\bv[a-z]+q\d+q")


def mark_of(name: str, number: int) -> str:
    """The mark of one version of a dashboard."""
    return f"v{re.sub('[^a-z]', '', name)}q{number}q"


def picture(mark: str) -> bytes:
    """A PNG that holds a mark."""
    text = b"tEXtComment\0" + mark.encode()
    chunk = (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
    plain = png()
    return plain[:-12] + chunk + plain[-12:]


def version(mark: str, links: str = "") -> bytes:
    """A notebook that shows its mark in text, output and image."""
    image = {"image/png": base64.b64encode(picture(mark)).decode()}
    cells = [
        markdown(f"# Title {mark}\n\n{mark} begins. {links}"),
        code("1", stream(f"{mark}\n"), display(image)),
        markdown(f"{mark} ends."),
    ]
    return json.dumps(notebook(*cells)).encode()


def bundle_files(mark: str) -> dict[str, bytes]:
    """The files of a bundle: some are called differently in each version, one is not."""
    links = f"![p](pic-{mark}.png) [d](data-{mark}.txt) [s](same.txt)"
    return {
        f"pic-{mark}.png": picture(mark),
        f"data-{mark}.txt": f"{mark} begins {mark} ends".encode(),
        "same.txt": f"{mark} begins {mark} ends".encode(),
        "index.ipynb": version(mark, links),
    }


def archive(mark: str) -> bytes:
    """The same as a ZIP."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, data in bundle_files(mark).items():
            file.writestr(f"./{name}" if name == "index.ipynb" else name, data)
    return content.getvalue()


@contextmanager
def program(
    source: Path, output: Path, log: Path, code: str = "from shim.cli import main; sys.exit(main(sys.argv[1:]))"
) -> Iterator[tuple[psutil.Popen, str]]:
    """A running server, in a session of its own, and its address; `code` runs it. It is killed at the end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NBFOLIO_")}
    with log.open("ab") as errors:
        process = psutil.Popen(
            [sys.executable, "-c", f"import sys; {code}", str(source), "-o", str(output), "--port", "0"],
            stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            yield process, process.stdout.readline().decode().strip()
        finally:
            with suppress(psutil.NoSuchProcess):
                process.kill()
            process.communicate()


def stop(process: psutil.Popen) -> None:
    """End a server in the orderly way."""
    process.terminate()
    assert process.wait(PATIENCE) == 0


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that is about to happen."""
    deadline = time.monotonic() + PATIENCE
    rest = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, what
        rest.wait(0.02)


def tree(site: Path) -> dict[str, bytes]:
    """Every published file with its content."""
    found = {}
    for path in site.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file() and path.name != MARKER:
                found[path.relative_to(site).as_posix()] = path.read_bytes()
    return found


def differences(ours: dict[str, bytes], clean: dict[str, bytes]) -> list[str]:
    """The names of files that only one of two sites has, or that are not the same."""
    return sorted(name for name in ours.keys() | clean.keys() if ours.get(name) != clean.get(name))
