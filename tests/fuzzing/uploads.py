"""Bodies of uploads: every one is a file or a refusal, and the file is what was sent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from fuzzing.engine import Target
from fuzzing.mutation import NUMBERS, NUMBERS_LONG, data, text

from shim.answers import HttpError
from shim.uploads import Upload, receive

BOUNDARIES = ("b", "----WebKitFormBoundary7MA4YWxkTrZu0gW", "a'()+_,-./:=?b", "x" * 70, "a b", "--", "-", "0")
CONTENTS = (
    b"{}",
    b"x",
    b"PK\3\4",
    b"\r\n",
    b"--b",
    b"\r\n--b\r\n",
    b"\r\n--b--",
    b"-" * 100,
    b"\n--b\n",
    b"",
    b"\0" * 50,
    b"\xff\r" * 30,
)
FILENAMES = (
    "a.ipynb", "a.zip", "A.IPYNB", "x.txt", "", ".ipynb", "..", "../../a.ipynb", "C:\\x\\a.zip", "a.ipynb\0.txt", "é.ipynb", '%22.zip"', "a.zip;x",
    "a\r\nb.zip", "\u202e.ipynb", "a" * 5000 + ".zip", "a.ipynb/", "a.zip.", "noext",
)  # fmt: skip
TOKENS = (
    b"--b", b"--b--", b"\r\n", b"\n", b"\r", b"--", b"\r\n\r\n", b'Content-Disposition: form-data; name="file"; filename="x.ipynb"\r\n', b'name="file"', b"; filename=",
    b"filename*=utf-8''%e2%98%83.ipynb", b"filename*=iso-8859-1''a%ff.zip", b"filename*=utf-16''a.zip", b"Content-Transfer-Encoding: base64\r\n", b"Content-Length: 5\r\n",
    b"Content-Type: multipart/mixed; boundary=c\r\n", b":", b";", b'"', b"\\", b"=", b"\0", b"\xff\xfe", b"A" * 9000, b"x: " + b"y" * 9000 + b"\r\n", b'; name="other"',
    b"\r\n--b\r\n" * 70, b"file", b"form-data", b"attachment", b"=?utf-8?q?a.zip?=",
)  # fmt: skip
TYPES = (
    "multipart/form-data",
    "Multipart/Form-Data ",
    "multipart/mixed",
    "text/plain",
    "",
    "multipart/form-data;charset=x",
)
TYPE_TOKENS = (";", '"', "\\", "boundary=", "boundary*=utf-8''b", "=", " ", "é", "boundary*0=b", ",", "\t")
ENCODINGS = ("", "identity", "gzip", " Identity ", "chunked")


class Sent(NamedTuple):
    """A request, and the file and name it holds where that is known."""

    body: bytes
    environ: dict[str, Any]
    limit: int
    pieces: int
    """Bytes that the stream gives at a time, 0 for all."""
    expected: tuple[str, bytes] | None


class Slowly:
    """A stream that gives a few bytes at a time."""

    def __init__(self, body: bytes, most: int) -> None:
        self._body = BytesIO(body)
        self._most = most

    def read(self, count: int = -1) -> bytes:
        """At most so many bytes."""
        return self._body.read(self._most if count < 0 else min(count, self._most))


@contextmanager
def target(folder: Path) -> Iterator[Target]:
    """`receive` with a folder of its own."""
    yield Target(make, partial(check, folder))


def make(random: Random) -> Sent:
    """A form of a few parts, most of them changed afterwards."""
    boundary = random.choice(BOUNDARIES)
    parts = [_part(random, boundary) for _ in range(random.choice((1, 1, 1, 1, 1, 2, 3)))]
    body = _prologue(random) + b"".join(
        f"--{boundary}\r\n".encode() + head + content + b"\r\n" for head, content, _ in parts
    )
    body += f"--{boundary}--".encode() + random.choice((b"\r\n", b"", b"\r\n\r\n", b"\r\nepilogue"))
    kind = f'multipart/form-data; boundary="{boundary}"'
    environ: dict[str, Any] = {"REQUEST_METHOD": "POST", "CONTENT_TYPE": kind, "CONTENT_LENGTH": str(len(body))}
    expected = parts[0][2] if len(parts) == 1 and not body.startswith(b"pre") else None
    limit = random.choice((1 << 20, 1 << 20, 1, 100))
    if random.randrange(3):
        expected = None
        body = _changed(random, boundary, body, environ)
    return Sent(body, environ, limit, random.choice((0, 0, 1, 7, 1000)), expected)


def _prologue(random: Random) -> bytes:
    return random.choice((b"", b"", b"", b"\r\n", b"preamble\r\n"))


def _part(random: Random, boundary: str) -> tuple[bytes, bytes, tuple[str, bytes] | None]:
    name = random.choice(("file",) * 12 + ("other", "", "é"))
    filename = random.choice(FILENAMES if random.randrange(3) == 0 else FILENAMES[:3])
    content = b"".join(random.choice(CONTENTS) for _ in range(random.randrange(6)))
    if random.randrange(400) == 0:
        content += random.randbytes(random.randrange(130 << 10, 140 << 10))
    plain = filename in ("a.ipynb", "a.zip", "é.ipynb", "A.IPYNB") and name == "file"
    known = plain and f"--{boundary}".encode() not in content
    head = f'Content-Disposition: form-data; name="{name}"' + (
        f'; filename="{filename}"' if random.randrange(8) or known else ""
    )
    extra = random.choice(("", "", "Content-Type: application/json\r\n"))
    return f"{head}\r\n{extra}\r\n".encode(), content, (filename, content) if known else None


def _changed(random: Random, boundary: str, body: bytes, environ: dict[str, Any]) -> bytes:
    kind = random.randrange(6)
    if kind < 4:
        tokens = [
            token.replace(b"--b", b"--" + boundary.encode()) for token in (random.choice(TOKENS), random.choice(TOKENS))
        ]
        body = data(random, body, tokens, random.choice((1, 1, 3, 10)))
        environ["CONTENT_LENGTH"] = str(len(body))
    elif kind == 4:
        environ["CONTENT_LENGTH"] = random.choice(
            (*NUMBERS, *NUMBERS_LONG, "", str(len(body) + random.randrange(-20, 20)))
        )
    else:
        value = random.choice(TYPES) if random.randrange(2) else environ["CONTENT_TYPE"]
        environ["CONTENT_TYPE"] = text(random, value, TYPE_TOKENS).encode("utf-8", "replace").decode("latin-1")
        environ["HTTP_CONTENT_ENCODING"] = random.choice(ENCODINGS)
    if random.randrange(10) == 0:
        environ["CONTENT_LENGTH"] = ""
        environ["wsgi.input_terminated"] = True
    return body


def check(folder: Path, sent: Sent) -> None:
    """One file or a refusal in words; nothing beside it."""
    staged = folder / "staged"
    stream = Slowly(sent.body, sent.pieces) if sent.pieces else BytesIO(sent.body)
    try:
        try:
            upload = receive({**sent.environ, "wsgi.input": stream}, staged, sent.limit)
        except HttpError as refused:
            _check_refusal(refused, staged, sent)
        else:
            _check_file(upload, staged, sent)
    finally:
        left = os.listdir(folder)
        for name in left:
            os.unlink(folder / name)
    assert left in ([], ["staged"]), left


def _check_refusal(refused: HttpError, staged: Path, sent: Sent) -> None:
    assert refused.status in (400, 413, 415), refused
    assert refused.message.isprintable() and len(refused.message) < 300
    assert sent.expected is None or not sent.expected[1] or len(sent.expected[1]) > sent.limit, refused
    assert not staged.exists() or staged.stat().st_size <= sent.limit


def _check_file(upload: Upload, staged: Path, sent: Sent) -> None:
    assert upload.path == staged
    assert upload.filename.isprintable() and "/" not in upload.filename and "\\" not in upload.filename
    assert upload.filename.lower().endswith(".zip" if upload.kind == "zip" else ".ipynb")
    received = staged.read_bytes()
    assert 0 < len(received) <= sent.limit
    assert received in sent.body
    assert sent.expected is None or (upload.filename, received) == sent.expected
