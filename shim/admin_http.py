"""One request of shim-admin to a running server, and what may come back; it knows no route and no command line."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import requests
from urllib3.exceptions import HTTPError

from builder import __version__
from builder.errors import NbfolioError
from shim.admin_messages import Answer, Asked, Token, failure, refusal
from shim.startup import is_loopback

T = TypeVar("T")
CONNECT_SECONDS = 10
ANSWER_SECONDS = 600
"""A server builds the page before it answers."""
MAX_ANSWER = 1 << 20
MAX_LIST = 32 << 20
"""Bytes of a list: 10,000 dashboards with long names."""


class AdminError(NbfolioError):
    """Raised when the server, or the way to it, did not let something be done."""


class PassingError(AdminError):
    """Raised for what may be over soon: no answer at all, or that of a server that is busy or restarts."""


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Nowhere: a token goes to nobody else, and requests must not read all of an answer to look further."""
        return None


class AdminServer:
    """A running server at `address` (with its prefix, without a final slash), spoken to with a token."""

    def __init__(self, address: str, token: Token | None) -> None:
        self.address = address
        self.token = token

    def ask(
        self,
        method: str,
        path: str,
        *,
        limit: int = MAX_ANSWER,
        seconds: float | None = None,
        headers: dict[str, str] | None = None,
        data: Any = None,
    ) -> tuple[Asked, Answer]:
        """Ask for a quoted path below the address; redirects are not followed. Raises AdminError.

        `limit` is in bytes of the answer; `seconds` is how long the server may be silent.
        """
        url = self.address + path
        host = urlsplit(self.address).hostname or ""
        common = {
            "User-Agent": f"shim-admin/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        try:
            with (
                _Session() as session,
                session.request(
                    method,
                    url,
                    headers=common | (headers or {}),
                    data=data,
                    auth=self._authorize,
                    # Nobody's proxy has to do with a server on this machine.
                    proxies={"no_proxy": host} if is_loopback(host) else None,
                    timeout=(CONNECT_SECONDS, seconds or ANSWER_SECONDS),
                    stream=True,
                ) as response,
            ):
                answer = Answer(response.status_code, response.headers, _read(response, limit))
        except (OSError, ValueError, HTTPError) as error:
            raise PassingError(failure(error, self.address)) from None
        return Asked(method, self.address, url, self.token), answer

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Set our token, or nothing; without this function requests would send a password out of ~/.netrc."""
        if self.token:
            request.headers["Authorization"] = f"token {self.token.value}".encode()
        return request


def content(answer: Answer, status: int, kind: type[T]) -> T | None:
    """The content of an answer, None when it has another status or is of another kind."""
    if answer.status == status:
        with suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
            return msgspec.json.decode(answer.body, type=kind)
    return None


def expect(answer: Answer, asked: Asked, status: int, kind: type[T]) -> T:
    """The content of an answer that has to have this status and kind. Raises AdminError."""
    found = content(answer, status, kind)
    if found is None:
        raise AdminError(refusal(answer, asked))
    return found


def _read(response: requests.Response, limit: int) -> bytes:
    body = b""
    for block in response.iter_content(1 << 16):
        body += block
        if len(body) > limit:
            raise AdminError(f"The answer is longer than {limit >> 20} MB: no nbfolio server gives such a one.")
    return body
