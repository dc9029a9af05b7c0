"""Small notebooks and sites, made by the tests that need them."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Cell = dict[str, Any]


def notebook(*cells: Cell, minor: int = 5, **metadata: Any) -> dict[str, Any]:
    """A notebook of nbformat 4 with a Python kernel."""
    for number, cell in enumerate(cells):
        cell.setdefault("id", f"c{number}")
    python = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    return {"nbformat": 4, "nbformat_minor": minor, "metadata": {**python, **metadata}, "cells": list(cells)}


def markdown(source: str, **metadata: Any) -> Cell:
    """A Markdown cell."""
    return {"cell_type": "markdown", "metadata": metadata, "source": source}


def code(source: str, *outputs: Cell, count: int | None = 1, **metadata: Any) -> Cell:
    """A code cell with stored outputs."""
    return {
        "cell_type": "code",
        "metadata": metadata,
        "source": source,
        "execution_count": count,
        "outputs": list(outputs),
    }


def stream(text: str, name: str = "stdout") -> Cell:
    """A stream output."""
    return {"output_type": "stream", "name": name, "text": text}


def display(data: Mapping[str, Any], **metadata: Any) -> Cell:
    """A display_data output."""
    return {"output_type": "display_data", "data": dict(data), "metadata": metadata}


def result(data: Mapping[str, Any] | str, count: int = 1) -> Cell:
    """An execute_result output; a text is its text/plain."""
    bundle = {"text/plain": data} if isinstance(data, str) else dict(data)
    return {"output_type": "execute_result", "execution_count": count, "data": bundle, "metadata": {}}


def error(name: str, value: str, *traceback: str) -> Cell:
    """An error output."""
    return {"output_type": "error", "ename": name, "evalue": value, "traceback": list(traceback)}


def png(width: int = 2, height: int = 1, shade: int = 0) -> bytes:
    """A small valid PNG of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes([shade]) * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def png64(width: int = 2, height: int = 1, shade: int = 0) -> str:
    """`png` as notebooks store it."""
    return base64.b64encode(png(width, height, shade)).decode()


def write(folder: Path, name: str, content: Mapping[str, Any] | str | bytes) -> Path:
    """Write a file below `folder`, a mapping as JSON, and make the folders it needs."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Mapping):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path
