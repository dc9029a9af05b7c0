"""What shim-admin says about answers and failures: pure functions from them to sentences that say what to do."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException, IncompleteRead
from urllib.parse import urljoin, urlsplit

import msgspec
from requests import exceptions
from urllib3.exceptions import LocationParseError

from builder.paths import escaped

LONGEST = 500
"""How many characters of a text from the server are shown."""
_RESET = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, ssl.SSLEOFError)


@dataclass(frozen=True)
class Token:
    """A secret that the server knows, and the file or variable it came from."""

    value: str
    origin: str


@dataclass(frozen=True)
class Asked:
    """A request as messages name it: its method, the address of the server, the URL in full, and the token."""

    method: str
    address: str
    url: str
    token: Token | None


@dataclass(frozen=True)
class Answer:
    """What came back; `headers` are looked up without regard to case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def message(self) -> str | None:
        """The server's own sentence, None when the answer is not one of an nbfolio server."""
        try:
            return shown(msgspec.json.decode(self.body, type=_Error).message) or None
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return None


class _Error(msgspec.Struct):
    message: str


def shown(text: str) -> str:
    """A text from the server for the terminal: without control characters, and not endless."""
    return escaped(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")


def refusal(answer: Answer, asked: Asked, hints: Mapping[int, str] | None = None) -> str:
    """Why a request was not done, and what helps; any status that was not expected, and a success of a wrong form.

    `hints` say by status what helps, where it is not about dashboards.
    """
    if 300 <= answer.status < 400:
        return _redirected(answer, asked)
    said = answer.message
    if said is None or answer.status < 300:
        return _foreign(answer, asked)
    if answer.status == 401:
        return _unauthorized(said, asked.token)
    if answer.status == 403:
        return f"{said} The token came from {asked.token.origin}." if asked.token else said
    hint = (_hints(asked) if hints is None else hints).get(answer.status, "")
    if answer.status in (429, 503):
        hint = _retry(answer)
    elif answer.status >= 500:
        hint = f"The log of the server says more{_request_id(answer)}."
    return f"{said} {hint}".strip()


def _hints(asked: Asked) -> dict[int, str]:
    """What helps with dashboards."""
    address = f"Is {asked.address} the whole address of the server, with its prefix?"
    return {
        404: "shim-admin list names what there is." if asked.method == "DELETE" else address,
        413: "The limit is server.max_upload_mb of the server.",
        415: "The server takes .ipynb and .zip files.",
    }


def _unauthorized(said: str, token: Token | None) -> str:
    if token:
        return f"The server does not accept the token from {token.origin}: {said}"
    return "The server wants a token, and none is given: name its file with --token-file, or set NBFOLIO_TOKEN."


def _redirected(answer: Answer, asked: Asked) -> str:
    """Where a redirect leads, which is never followed: the token must not go there."""
    location = answer.headers.get("Location", "")
    try:
        target = urljoin(asked.url, location)
        kept = asked.url.removeprefix(asked.address)
        if location and target.endswith(kept):
            address = shown(target.removesuffix(kept))
            return f"{asked.address} sends every request on to {address}: use --url {address}"
    except ValueError:
        pass
    place = shown(location) or "nowhere"
    return (
        f"{asked.address} sends the request on to {place}, where the token does not go. "
        "Is that the address of the server itself, without a login before it?"
    )


def _foreign(answer: Answer, asked: Asked) -> str:
    """Refusals in somebody else's words: mostly those of a proxy."""
    host = urlsplit(asked.address).netloc
    if answer.status == 401:
        first = asked.url.removeprefix(asked.address).split("/")[1]
        return f"Something before the server at {host} wants a login of its own (401): it must let /{first} through."
    if answer.status == 403:
        return f"Something before the server at {host} does not let this request through (403)."
    if answer.status == 413:
        return f"A proxy before the server at {host} takes no file of this size (413): its limit must be raised."
    if answer.status in (429, 503):
        return f"{host} takes no requests now ({answer.status}). {_retry(answer)}"
    if answer.status in (502, 504):
        return f"A proxy at {host} gets no answer from the server ({answer.status}). Is run-shim running behind it?"
    return (
        f"{asked.address} answers with status {answer.status}, but not as nbfolio does. "
        "Check the address: http or https, port and prefix."
    )


def _retry(answer: Answer) -> str:
    seconds = answer.headers.get("Retry-After", "")
    known = seconds.isascii() and seconds.isdigit() and len(seconds) < 7
    return f"Try again in {int(seconds)} seconds." if known else "Try again later."


def _request_id(answer: Answer) -> str:
    number = answer.headers.get("X-Request-Id", "")
    return f" (request {shown(number)})" if number else ""


def failure(error: Exception, address: str) -> str:
    """Why there is no answer from `address`, and what helps; `error` is what requests raised."""
    host = urlsplit(address).netloc
    for cause in _causes(error):
        if sentence := _network(cause, host) or _library(cause, host):
            return sentence
    strange = [each.strerror for each in _causes(error) if isinstance(each, OSError) and each.strerror]
    return f"{host} cannot be asked: {shown(strange[-1] if strange else str(error))}."


def _library(error: BaseException, host: str) -> str:
    """What requests found out by itself."""
    match error:
        case exceptions.ProxyError():
            return (
                f"The proxy that HTTP_PROXY or HTTPS_PROXY names cannot be used for {host}; NO_PROXY makes exceptions."
            )
        case exceptions.ConnectTimeout():
            return f"{host} does not answer. Are the name and the port right, and does a firewall let you through?"
        case exceptions.ReadTimeout():
            return f"{host} took the request and did not finish its answer in time. It may still be at work: try list."
        case exceptions.InvalidURL() | LocationParseError() | UnicodeError():
            return f"{host} cannot be the address of a server."
    return ""


def _network(error: BaseException, host: str) -> str:
    """What lies below requests, most telling kind first."""
    match error:
        case ssl.SSLCertVerificationError():
            return (
                f"The certificate of {host} is not trusted: {shown(error.verify_message)}. "
                "When an authority of your own signed it, let REQUESTS_CA_BUNDLE name the file with its certificate."
            )
        case socket.gaierror():
            return f"The name {host} is not known. Is it spelled right, and is the network there?"
        case ConnectionRefusedError():
            return f"Nothing listens at {host}. Is run-shim running there, and on this port?"
    if isinstance(error, _RESET):
        return (
            f"{host} ended the connection without an answer. "
            "Is the file too large for it, does it restart just now, or does it want https?"
        )
    if isinstance(error, TimeoutError):
        return f"{host} stopped taking or sending data."
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or str(error)
        if reason.startswith("NO_CERTIFICATE"):
            return "The file that REQUESTS_CA_BUNDLE names holds no certificate."
        return f"{host} does not speak TLS with us ({shown(reason)}). Is it http instead of https?"
    if isinstance(error, IncompleteRead):
        return f"{host} ended the connection in the middle of its answer."
    if isinstance(error, HTTPException):
        return f"What listens at {host} does not speak HTTP. Is the port right, and is it https instead of http?"
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and all it wraps; requests and urllib3 keep what they wrap in four places."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inner = [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
        waiting += [other for other in inner if isinstance(other, BaseException)]
