"""Bodies of uploads: what real clients send arrives byte for byte, all else is refused in a sentence."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from wsgiref.validate import InputWrapper

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from requests_toolbelt import MultipartEncoder

from shim.answers import HttpError
from shim.server import Server
from shim.uploads import FRAMING, Upload, receive

LIMIT = 1 << 20
BLOCK = 64 << 10
DISPOSITION = 'form-data; name="file"; filename="a.ipynb"'
Part = tuple[str, bytes]


def form(*parts: Part, boundary: str = "XX", end: bytes = b"\r\n") -> bytes:
    """A body of parts, each from its Content-Disposition and its content."""
    body = b"".join(
        b"--%s\r\nContent-Disposition: %s\r\n\r\n%s\r\n" % (boundary.encode(), disposition.encode(), content)
        for disposition, content in parts
    )
    return body + b"--%s--%s" % (boundary.encode(), end)


def request(body: bytes, content_type: str = "multipart/form-data; boundary=XX", **more: Any) -> dict[str, Any]:
    """The WSGI environment of a request with that body."""
    return {"CONTENT_TYPE": content_type, "CONTENT_LENGTH": str(len(body)), "wsgi.input": BytesIO(body), **more}


def refused(folder: Path, environ: dict[str, Any], limit: int = LIMIT) -> tuple[int, str]:
    """Status and sentence of the refusal of a request."""
    with pytest.raises(HttpError) as error:
        receive(environ, folder / "staged", limit)
    assert set(folder.iterdir()) <= {folder / "staged"}
    assert str(folder) not in error.value.message
    assert error.value.message.endswith(".")
    return error.value.status.value, error.value.message


class Trickle:
    """A stream that gives less than it is asked for."""

    def __init__(self, content: bytes, sizes: list[int]) -> None:
        self._rest = BytesIO(content)
        self._sizes = sizes

    def read(self, size: int) -> bytes:
        """As many bytes as the next size says."""
        self._sizes.append(self._sizes.pop(0))
        return self._rest.read(min(size, self._sizes[0]))


# What is taken


@pytest.mark.parametrize(
    ("disposition", "kind", "filename"),
    [
        ('form-data; name="file"; filename="a.ipynb"', "notebook", "a.ipynb"),
        ('form-data; name="file"; filename="a.zip"', "zip", "a.zip"),
        ('form-data; name="file"; filename="A.IPYNB"', "notebook", "A.IPYNB"),
        ('form-data; name="file"; filename="A.Zip"', "zip", "A.Zip"),
        ("form-data; name=file; filename=a.zip", "zip", "a.zip"),
        ('form-data; filename="a.zip"; name="file"', "zip", "a.zip"),
        ('form-data; name="file"; filename="C:\\dir\\x.ipynb"', "notebook", "x.ipynb"),
        ('form-data; name="file"; filename="\\\\server\\share\\x.ipynb"', "notebook", "x.ipynb"),
        ('form-data; name="file"; filename="../../etc/x.ipynb"', "notebook", "x.ipynb"),
        ('form-data; name="file"; filename="a \\"b\\".ipynb"', "notebook", 'a "b".ipynb'),
        ('form-data; name="file"; filename="a %22b%22.ipynb"', "notebook", 'a "b".ipynb'),
        ('form-data; name="file"; filename="Übung 1.ipynb"', "notebook", "Übung 1.ipynb"),
        ('form-data; name="file"; filename="a; b.ipynb"', "notebook", "a; b.ipynb"),
        ("form-data; name=\"file\"; filename*=utf-8''%C3%9Cbung.ipynb", "notebook", "Übung.ipynb"),
        ("form-data; name=\"file\"; filename*=UTF-8'de'%C3%9Cbung.zip; x=y", "zip", "Übung.zip"),
        ("form-data; name=\"file\"; filename*=iso-8859-1''%DCbung.zip", "zip", "Übung.zip"),
        ('form-data; name="file"; filename="?.zip"; filename*=utf-8\'\'%C3%9C.zip', "zip", "Ü.zip"),
        ('form-data; name="file"; filename="a\x1b[31m\nb.zip"', "zip", "a\ufffd[31m\ufffdb.zip"),
    ],
)
def test_the_extension_of_the_clients_name_says_what_it_is(
    tmp_path: Path, disposition: str, kind: str, filename: str
) -> None:
    upload = receive(request(form((disposition, b"content"))), tmp_path / "staged", LIMIT)
    assert upload == Upload(tmp_path / "staged", kind, filename)  # type: ignore[arg-type]
    assert (tmp_path / "staged").read_bytes() == b"content"
    assert list(tmp_path.iterdir()) == [tmp_path / "staged"]


def test_plain_fields_around_the_file_are_ignored(tmp_path: Path) -> None:
    field = 'form-data; name="comment"'
    nothing_chosen = 'form-data; name="other"; filename=""'
    body = form(
        (field, b"x" * 1000), (nothing_chosen, b""), (DISPOSITION, b"content"), ('form-data; name="file"', b"y")
    )
    assert receive(request(body), tmp_path / "staged", LIMIT).kind == "notebook"
    assert (tmp_path / "staged").read_bytes() == b"content"


@pytest.mark.parametrize("content", [b"\r\n", b"\r\n--XX-", b"--XX--", b"\r\n--", b"\0" * 10, b"\r\n--XX"[:5] * 99])
def test_content_that_looks_like_framing_is_kept(tmp_path: Path, content: bytes) -> None:
    body = form((DISPOSITION, content), boundary="XXYY")
    receive(request(body, "multipart/form-data; boundary=XXYY"), tmp_path / "staged", LIMIT)
    assert (tmp_path / "staged").read_bytes() == content


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\n", b"\r\nepilogue"])
@pytest.mark.parametrize("over", range(-12, 4))
def test_the_end_of_the_body_may_fall_anywhere_in_a_block(tmp_path: Path, end: bytes, over: int) -> None:
    size = 2 * BLOCK + over - len(form((DISPOSITION, b"")))
    content = os.urandom(size)
    receive(request(form((DISPOSITION, content), end=end)), tmp_path / "staged", LIMIT)
    assert (tmp_path / "staged").read_bytes() == content


def test_the_staged_file_is_readable_for_others_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        receive(request(form((DISPOSITION, b"x"))), tmp_path / "staged", LIMIT)
    finally:
        os.umask(before)
    assert (tmp_path / "staged").stat().st_mode & 0o7777 == 0o640


def test_no_existing_file_or_link_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"old")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("precious", "link"):
        with pytest.raises(FileExistsError):
            receive(request(form((DISPOSITION, b"new"))), tmp_path / name, LIMIT)
    assert (tmp_path / "precious").read_bytes() == b"old"
    assert not (tmp_path / "nowhere").exists()


def test_a_file_as_large_as_the_limit_is_taken(tmp_path: Path) -> None:
    receive(request(form((DISPOSITION, b"x" * 100_000))), tmp_path / "staged", 100_000)
    assert (tmp_path / "staged").stat().st_size == 100_000


def test_a_body_without_length_ends_with_its_stream(tmp_path: Path) -> None:
    environ = request(form((DISPOSITION, b"content")), **{"wsgi.input_terminated": True})
    del environ["CONTENT_LENGTH"]
    assert receive(environ, tmp_path / "staged", LIMIT).kind == "notebook"


def test_no_more_is_read_than_the_request_has(tmp_path: Path) -> None:
    body = form((DISPOSITION, b"content"))
    stream = BytesIO(body + b"next request")
    environ = request(body, **{"wsgi.input": InputWrapper(stream)})
    receive(environ, tmp_path / "staged", LIMIT)
    assert stream.read() == b"next request"


# What is refused


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("", 415),
        ("application/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/mixed; boundary=XX", 415),
        ("multipart/form-datax; boundary=XX", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=", 400),
        ('multipart/form-data; boundary=""', 400),
        ("multipart/form-data; boundary=" + "X" * 71, 400),
        ('multipart/form-data; boundary="X\nX"', 400),
        ('multipart/form-data; boundary="XX "', 400),
        ('multipart/form-data; boundary="ÄX"', 400),
        ("multipart/form-data; boundary=YY", 400),
    ],
)
def test_other_content_types_are_refused(tmp_path: Path, content_type: str, status: int) -> None:
    assert refused(tmp_path, request(form((DISPOSITION, b"x")), content_type))[0] == status


def test_content_types_are_told_apart_as_the_standard_says(tmp_path: Path) -> None:
    environ = request(form((DISPOSITION, b"x")), 'Multipart/Form-Data; charset=utf-8; Boundary="XX"')
    assert receive(environ, tmp_path / "staged", LIMIT).filename == "a.ipynb"


@pytest.mark.parametrize(("encoding", "taken"), [("identity", True), ("", True), ("gzip", False), ("gzip, br", False)])
def test_encoded_bodies_are_refused(tmp_path: Path, encoding: str, taken: bool) -> None:
    environ = request(form((DISPOSITION, b"x")), HTTP_CONTENT_ENCODING=encoding)
    if taken:
        receive(environ, tmp_path / "staged", LIMIT)
    else:
        assert refused(tmp_path, environ)[0] == 415


@pytest.mark.parametrize("filename", ["a.txt", "a", "ipynb", "a.ipynb.exe", "a.ipynb ", "a.zip/b", "a.", "x.tar"])
def test_other_files_than_notebooks_and_bundles_are_refused(tmp_path: Path, filename: str) -> None:
    status, message = refused(tmp_path, request(form((f'form-data; name="file"; filename="{filename}"', b"x"))))
    assert status == 415
    assert ".ipynb" in message


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (('form-data; name="comment"', b"x"),),
        (('form-data; name="file"', b"x"),),
        (('form-data; name="file"; filename=""', b""),),
    ],
)
def test_a_form_without_file_is_refused(tmp_path: Path, parts: tuple[Part, ...]) -> None:
    status, message = refused(tmp_path, request(form(*parts)))
    assert (status, message.startswith("No file provided")) == (400, True)


@pytest.mark.parametrize("name", ["notebook", "FILE", "file[]", ""])
def test_a_part_of_another_name_is_told_the_right_one(tmp_path: Path, name: str) -> None:
    part = f'form-data; name="{name}"; filename="a.ipynb"', b"x"
    for parts in ((part,), (part, (DISPOSITION, b"x")), ((DISPOSITION, b"x"), part)):
        status, message = refused(tmp_path, request(form(*parts)))
        assert (status, '"file"' in message) == (400, True)
        (tmp_path / "staged").unlink()


def test_two_files_are_refused(tmp_path: Path) -> None:
    status, message = refused(tmp_path, request(form((DISPOSITION, b"x"), (DISPOSITION, b"y"))))
    assert (status, "more than one" in message) == (400, True)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    status, message = refused(tmp_path, request(form((DISPOSITION, b""))))
    assert (status, message) == (400, "The file is empty.")


def test_every_truncation_of_a_body_is_refused(tmp_path: Path) -> None:
    body = form(('form-data; name="comment"', b"y"), (DISPOSITION, b"content"), end=b"")
    for length in range(len(body)):
        # The connection broke, or the length was a lie.
        for environ in (request(body[:length]), request(body[:length], CONTENT_LENGTH=str(len(body)))):
            assert refused(tmp_path, environ)[0] == 400
            (tmp_path / "staged").unlink()


@pytest.mark.parametrize(
    "body",
    [
        b"--XX\nContent-Disposition: " + DISPOSITION.encode() + b"\n\nx\n--XX--\n",
        b"--XX\r\n\r\nx\r\n--XX--\r\n",
        b"--XX\r\nContent-Disposition: attachment; name=file; filename=a.zip\r\n\r\nx\r\n--XX--",
        b"--XX\r\nContent-Disposition: " + DISPOSITION.encode() + b"\r\nno colon\r\n\r\nx\r\n--XX--",
        b"--XX\r\nContent-Disposition: " + DISPOSITION.encode() + b"\r\nContent-Length: 9\r\n\r\nx\r\n--XX--",
        b'--XX\r\nContent-Disposition: form-data; name="file"; filename="\xff.zip"\r\n\r\nx\r\n--XX--',
        b"--XX\r\nContent-Disposition: " + DISPOSITION.encode() + b"\r\n\r\nx\r\n--XXmore--",
        b"PK\3\4",
    ],
)
def test_malformed_bodies_are_refused(tmp_path: Path, body: bytes) -> None:
    assert refused(tmp_path, request(body))[0] == 400


@pytest.mark.parametrize("length", ["x", "-1", "1e3", "٣", "1" * 5000, "+1"])
def test_lengths_that_are_none_are_refused(tmp_path: Path, length: str) -> None:
    assert refused(tmp_path, request(form((DISPOSITION, b"x")), CONTENT_LENGTH=length))[0] in (400, 413)


def test_a_body_whose_length_says_too_much_is_not_read(tmp_path: Path) -> None:
    environ = request(b"", CONTENT_LENGTH=str((200 << 20) + FRAMING + 1), **{"wsgi.input": None})
    status, message = refused(tmp_path, environ, 200 << 20)
    assert status == 413
    assert message == "The file is larger than 200 MB, the most that server.max_upload_mb allows."
    assert not (tmp_path / "staged").exists()


def test_a_file_that_grows_too_large_is_not_read_to_its_end(tmp_path: Path) -> None:
    body = form((DISPOSITION, bytes(50 * BLOCK)))
    environ = request(body, **{"wsgi.input_terminated": True})
    del environ["CONTENT_LENGTH"]
    status, message = refused(tmp_path, environ, 1000)
    assert status == 413
    assert "larger than 1000 bytes" in message
    assert environ["wsgi.input"].tell() <= 2 * BLOCK
    assert (tmp_path / "staged").stat().st_size <= 1000


FIELD = 'form-data; name="x"'


@pytest.mark.parametrize(
    "body",
    [
        form(*[(FIELD, b"x")] * 65, (DISPOSITION, b"x")),
        form((FIELD, bytes(40_000)), (FIELD, bytes(40_000)), (DISPOSITION, b"x")),
        form((DISPOSITION, b"x"), (FIELD, bytes(70_000))),
        form((f'{DISPOSITION}; x="{"y" * 5000}"', b"x")),
        form((DISPOSITION + "\r\nX: y" * 20, b"x")),
        form((DISPOSITION + "\r\nX: " + "y" * 200_000, b"x")),
        form((DISPOSITION + "\r\n y" * 5000, b"x")),
    ],
    ids=["parts", "fields", "field after", "disposition", "headers", "endless header", "folded header"],
)
def test_all_that_surrounds_the_file_is_bounded(tmp_path: Path, body: bytes) -> None:
    status, message = refused(tmp_path, request(body))
    assert (status, message.startswith("The form has too ")) == (413, True)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A file system that takes no more than that."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [5000, 500_000])
def test_a_disk_without_room_is_said(tmp_path: Path, size: int) -> None:
    with largest_file(4096):
        status, message = refused(tmp_path, request(form((DISPOSITION, bytes(size)))))
    assert (status, "disk is full" in message) == (507, True)


# Any body


ODD = [
    b"xxxxxxxxxx" + form((DISPOSITION, b"content")),
    form((DISPOSITION + "\nX", b"content")),
    form((DISPOSITION + "\r\nX: y\nz", b"content")),
]


@pytest.mark.parametrize("body", ODD)
def test_where_a_stream_pauses_changes_nothing(tmp_path: Path, body: bytes) -> None:
    whole = outcome(request(body), tmp_path)
    for first in range(1, len(body)):
        stream = Trickle(body, [len(body), first])
        assert outcome(request(body, **{"wsgi.input": stream}), tmp_path) == whole


NAMES = st.sampled_from(['"a.ipynb"', '"a.zip"', '"a.txt"', '""', '"a', "a.zip", '"C:\\a.zip"'])
DISPOSITIONS = st.one_of(
    st.builds('form-data; name="file"; filename={}'.format, NAMES),
    st.builds('form-data; name="x"; filename={}'.format, NAMES),
    st.just('form-data; name="comment"'),
    st.builds("form-data; name=\"file\"; filename*=utf-8''{}".format, st.text("a.zip%C3'\"; ", max_size=12)),
    st.text(max_size=30).map(lambda text: f"form-data; {text}".replace("\r\n", "")),
)
CONTENT = st.one_of(
    st.binary(max_size=300), st.lists(st.sampled_from([b"\r", b"\n", b"-", b"--XX", b"X"])).map(b"".join)
)
ANY_FOLDER = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(environ: dict[str, Any], folder: Path) -> tuple[str, bytes] | int:
    """Kind and content of what was received, or the status of the refusal; nothing is left."""
    staged = folder / "staged"
    try:
        upload = receive(environ, staged, 250)
        return upload.kind, staged.read_bytes()
    except HttpError as error:
        return error.status.value if error.message.isprintable() else 0
    finally:
        assert set(folder.iterdir()) <= {staged}
        staged.unlink(missing_ok=True)


@ANY_FOLDER
@given(
    content=st.binary(min_size=1, max_size=250),
    sizes=st.lists(st.integers(1, 400), min_size=1),
    end=st.binary(max_size=5),
)
def test_the_same_file_arrives_however_the_stream_gives_it(
    tmp_path: Path, content: bytes, sizes: list[int], end: bytes
) -> None:
    boundary = "a" * 40
    body = form((FIELD, b"y"), (DISPOSITION, content), boundary=boundary, end=end)
    environ = request(body, f"multipart/form-data; boundary={boundary}", **{"wsgi.input": Trickle(body, sizes)})
    assert outcome(environ, tmp_path) == ("notebook", content)


@ANY_FOLDER
@given(
    parts=st.lists(st.tuples(DISPOSITIONS, CONTENT), max_size=4),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9), st.binary(max_size=9)), max_size=4),
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=5),
    content_type=st.one_of(
        st.just("multipart/form-data; boundary=XX"), st.text().map(lambda text: f"multipart/form-data; boundary={text}")
    ),
)
def test_every_body_ends_in_a_file_or_a_refusal(
    tmp_path: Path, parts: list[Part], edits: list[tuple[float, int, bytes]], sizes: list[int], content_type: str
) -> None:
    body = form(*parts)
    for where, removed, added in edits:
        place = int(where * len(body))
        body = body[:place] + added + body[place + removed :]
    whole = outcome(request(body, content_type), tmp_path)
    assert isinstance(whole, tuple) or whole in (400, 413, 415)
    if isinstance(whole, tuple):
        assert whole[1] and whole[1] in body
    assert outcome(request(body, content_type, **{"wsgi.input": Trickle(body, sizes)}), tmp_path) == whole


# Real clients


@contextmanager
def receiving(folder: Path) -> Iterator[tuple[Server, list[Upload]]]:
    """A server that takes uploads, and what it took."""
    taken: list[Upload] = []

    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        try:
            taken.append(receive(environ, folder / f"staged{len(taken)}", LIMIT))
        except HttpError as error:
            start_response(f"{error.status.value} {error.status.phrase}", [])
            return [error.message.encode()]
        start_response("201 Created", [])
        return [b"{}"]

    server = Server(app, "127.0.0.1", 0, lambda method, path, headers: LIMIT + FRAMING)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server, taken
    finally:
        server.stop()
        thread.join(30)


@pytest.mark.parametrize("name", ["plain.ipynb", 'Übung 1 "x".ipynb', "semi;colon.zip", "per%cent.zip"])
@pytest.mark.parametrize("size", [1, 900_000])
def test_files_from_real_clients_arrive(tmp_path: Path, name: str, size: int) -> None:
    content = os.urandom(size)
    source = tmp_path / name
    source.write_bytes(content)
    sent = 1
    with receiving(tmp_path) as (server, taken):
        with source.open("rb") as file:
            assert requests.post(server.url, files={"file": file}, timeout=30).status_code == 201
        with source.open("rb") as file:
            encoder = MultipartEncoder({"comment": "x", "file": (name, file, "application/octet-stream")})
            headers = {"Content-Type": encoder.content_type}
            assert requests.post(server.url, data=encoder, headers=headers, timeout=30).status_code == 201
        sent += 1
        if curl := shutil.which("curl"):
            quoted = str(source).replace("\\", "\\\\").replace('"', '\\"')
            command = [curl, "-sS", "--noproxy", "*", "-F", "comment=x", "-F", f'file=@"{quoted}"', server.url]
            for option in ([], ["-H", "Transfer-Encoding: chunked"]):
                done = subprocess.run([*command, *option], capture_output=True, timeout=30, check=True)
                assert done.stdout == b"{}"
                sent += 1
    assert [upload.filename for upload in taken] == [name] * sent
    assert all(upload.path.read_bytes() == content for upload in taken)
