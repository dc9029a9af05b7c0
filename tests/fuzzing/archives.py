"""ZIP bundles: damaged, forged and hostile ones are refused in words, and what is read is what the directory says."""

from __future__ import annotations

import os
import re
import shutil
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from random import Random
from typing import NamedTuple
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED, ZipFile, ZipInfo

from fuzzing.engine import Target
from fuzzing.mutation import data

from builder.bundles import BundleLimits, is_bundle, open_bundle
from builder.errors import NotebookError
from builder.paths import safe_relative

LIMITS = BundleLimits(max_packed=1 << 20, max_unpacked=1 << 21, max_entries=50)
NAMES = (
    "../x", "/etc/x", "..\\x", "C:\\x", "C:/x", "a/../../x", "./index.ipynb", "index.ipynb", "INDEX.IPYNB", "index.ipynb/", "a//b", "a/.", ".hidden", "a\0b", "a\nb", "é.txt",
    "e\u0301.txt", "a" * 300, "/".join("ab" * 40), "__MACOSX/x", ".", "..", "", "/", "data", "data/x", "DATA/x", "\u202ex", "con", "a:b", "~", "%2e%2e/x",
)  # fmt: skip
TOKENS = (
    b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\7\x08", b"PK\5\6" + bytes(18), b"\0" * 22, b"\xff" * 4, b"\xff" * 8, b"../../x", b"index.ipynb", b"\0", b"/", b"\\",
    b"PK\6\7" + bytes(16), struct.pack("<HHQQ", 1, 16, 1 << 40, 1 << 40), struct.pack("<HH", 0x7075, 9) + b"\1\0\0\0\0evil",
)  # fmt: skip
VALUES = (
    0,
    1,
    2,
    8,
    9,
    12,
    14,
    0x41,
    0x800,
    0x2000,
    0x7FFF,
    0xFFFE,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFE,
    0xFFFFFFFF,
)
FIELDS = {
    b"PK\1\2": (
        (4, 2),
        (6, 2),
        (8, 2),
        (10, 2),
        (12, 4),
        (16, 4),
        (20, 4),
        (24, 4),
        (28, 2),
        (30, 2),
        (32, 2),
        (34, 2),
        (36, 2),
        (38, 4),
        (42, 4),
    ),
    b"PK\3\4": ((4, 2), (6, 2), (8, 2), (10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)),
    b"PK\5\6": ((4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)),
    b"PK\6\6": ((4, 8), (12, 2), (14, 2), (16, 4), (20, 4), (24, 8), (32, 8), (40, 8), (48, 8)),
    b"PK\6\7": ((4, 4), (8, 8), (16, 4)),
}
"""Offset and size of the numbers in each record."""
NOTEBOOK = b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'


class Archive(NamedTuple):
    """The bytes of a file, whether they are a good bundle, and whether to unpack it."""

    content: bytes
    good: bool
    unpack: bool


@cache
def seeds() -> tuple[bytes, ...]:
    """Good bundles, written in the ways that programs write them."""
    files: dict[str, bytes] = {
        "index.ipynb": NOTEBOOK,
        "data/a.csv": b"1,2\n" * 500,
        "data/b.bin": bytes(range(256)) * 9,
        "é.txt": b"",
    }
    made = []
    for method in (ZIP_STORED, ZIP_DEFLATED):
        for comment in (b"", b"a comment"):
            buffer = BytesIO()
            with ZipFile(buffer, "w", method) as archive:
                archive.writestr(ZipInfo("data/"), b"")
                for name, content in files.items():
                    archive.writestr(ZipInfo(name), content, method)
                archive.comment = comment
            made.append(buffer.getvalue())
    return (*made, _streamed(files), one({"./index.ipynb": NOTEBOOK, "./": b"", "__MACOSX/x": b"y"}), _bomb())


def one(files: dict[str, bytes], method: int = ZIP_DEFLATED, attributes: int = 0o100644 << 16) -> bytes:
    """An archive with these entries."""
    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            info = ZipInfo("x")
            info.filename, info.compress_type, info.external_attr = name, method, attributes
            archive.writestr(info, content)
    return buffer.getvalue()


def _streamed(files: dict[str, bytes]) -> bytes:
    class Pipe(BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

    buffer = Pipe()
    with ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(ZipInfo(name), content, ZIP_DEFLATED)
    return buffer.getvalue()


@cache
def _too_much() -> tuple[bytes, ...]:
    many = {f"{number}.txt": b"" for number in range(LIMITS.max_entries)}
    large = {str(number): bytes(range(256)) * 3000 for number in range(3)}
    bomb = {"zeros": bytes(LIMITS.max_unpacked - 1000)}
    return tuple(one({"index.ipynb": NOTEBOOK, **more}) for more in (many, large, bomb))


def _bomb() -> bytes:
    return one({"index.ipynb": NOTEBOOK, "zeros": bytes(1 << 20)})


@contextmanager
def target(folder: Path) -> Iterator[Target]:
    """The functions that open bundles, with a file and a folder of their own."""
    (folder / "canary").write_bytes(b"canary")
    yield Target(make, partial(check, folder))


def make(random: Random) -> Archive:
    """A good bundle with wrong numbers, flipped bytes, other names, or parts of another one."""
    content, good = random.choice(seeds()), False
    kind = random.randrange(12)
    if kind == 0:
        good = True
    elif kind < 6:
        content = _with_other_numbers(random, content)
    elif kind < 8:
        content = data(random, content, TOKENS, 3)
    elif kind == 8:
        content = _end_changed(random, content)
    elif kind == 9:
        content = _forged(random)
    elif kind == 10:
        content = _renamed(random, content)
    else:
        other = random.choice(seeds())
        content = random.choice(
            (
                content + other,
                content[: random.randrange(len(content))] + other,
                other[:30] + content,
                b"#!" + content,
                content + b"\n",
            )
        )
    return Archive(content, good, random.randrange(10) == 0)


def _with_other_numbers(random: Random, content: bytes) -> bytes:
    """One to three fields of records set to what is special about them, and often made to fit together again."""
    changed = bytearray(content)
    for _ in range(random.randrange(1, 4)):
        signature = random.choice((b"PK\1\2", b"PK\1\2", b"PK\3\4", b"PK\5\6"))
        places = [match.start() for match in re.finditer(re.escape(signature), content)]
        offset, size = random.choice(FIELDS[signature])
        at = random.choice(places) + offset
        if at + size <= len(changed):
            before = int.from_bytes(changed[at : at + size], "little")
            value = random.choice(
                (
                    *VALUES,
                    before + 1,
                    before - 1,
                    before ^ (1 << random.randrange(8 * size)),
                    random.randrange(len(content)),
                )
            )
            changed[at : at + size] = (value % (1 << (8 * size))).to_bytes(size, "little")
    return bytes(changed)


def _end_changed(random: Random, content: bytes) -> bytes:
    """A directory of the huge format in front of the end record, with wrong numbers."""
    at = content.rfind(b"PK\5\6")
    count, size, start = struct.unpack_from("<HLL", content, at + 10)
    values = [random.choice((value, value, *VALUES, 1 << 40, (1 << 64) - 1)) for value in (count, count, size, start)]
    record = struct.pack("<4sQHHLL4Q", b"PK\6\6", 44, 45, 45, 0, 0, *values)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, random.choice((at, 0, at + 1, 1 << 40)), random.choice((1, 0, 2)))
    end = bytearray(content[at:])
    if random.randrange(2):
        end[8:20] = random.choice((b"\xff" * 12, end[8:12] + b"\xff" * 8))
    return content[:at] + random.choice((record + locator, locator, record)) + bytes(end)


def _forged(random: Random) -> bytes:
    """An archive whose entries have other names, kinds and methods than honest ones, or are too many or too large."""
    if random.randrange(8) == 0:
        return random.choice(_too_much())
    names = {"index.ipynb", *(random.choice(NAMES) for _ in range(random.randrange(4)))}
    files = {
        name: random.choice((b"", NOTEBOOK, b"x" * 2000)) for name in sorted(names, key=lambda name: random.random())
    }
    method = random.choice((ZIP_DEFLATED, ZIP_DEFLATED, ZIP_STORED, ZIP_BZIP2, ZIP_LZMA))
    return one(files, method, random.choice((0o100644, 0o100644, 0, 0o120777, 0o040755, 0o010644, 0o104755)) << 16)


def _renamed(random: Random, content: bytes) -> bytes:
    """The name of an entry replaced by one of the same length, in the directory, in front of the data, or in both."""
    old = random.choice((b"index.ipynb", b"data/a.csv", b"data/b.bin"))
    attack = random.choice(NAMES).encode()[: len(old)]
    new = attack + b"x" * (len(old) - len(attack))
    return content.replace(old, new, random.choice((1, 2, -1)))


def check(folder: Path, made: Archive) -> None:
    """Refusals are sentences; what opens has safe names and the sizes its directory says."""
    path = folder / "a.zip"
    path.write_bytes(made.content)
    shown = is_bundle(path)
    assert isinstance(shown, bool)
    try:
        with open_bundle(path, LIMITS) as bundle:
            assert shown
            names = bundle.names
            assert "index.ipynb" in names and len(names) <= LIMITS.max_entries
            assert set(bundle.public) <= set(names)
            for name in names:
                assert safe_relative(name, hidden=True) == name
            if made.unpack:
                _unpacked(folder, bundle.extract, names)
            contents = {name: bundle.read(name) for name in names}
        assert sum(map(len, contents.values())) <= LIMITS.max_unpacked
        if made.good:
            assert zlib.crc32(contents["index.ipynb"]) == zlib.crc32(NOTEBOOK)
    except NotebookError as refused:
        message = str(refused)
        assert not made.good, message
        assert message.isprintable() and len(message) < 700, message
        assert str(folder) not in message
    assert os.listdir(folder) in (["canary", "a.zip"], ["a.zip", "canary"])


def _unpacked(folder: Path, extract: object, names: tuple[str, ...]) -> None:
    place = folder / "unpacked"
    try:
        extract(place)  # type: ignore[operator]
        found = {
            path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file() and not path.is_symlink()
        }
        assert found == set(names)
    except NotebookError:
        assert not place.exists()
        raise
    finally:
        shutil.rmtree(place, ignore_errors=True)
