"""HTTP requests to one kernel gateway: built from scratch, with bounded answers and times.

Nothing of the environment takes part: no proxies, no passwords out of ~/.netrc. Cookies are not kept, and redirects are
answers like any other. Importing this module imports requests.
"""

from __future__ import annotations

import errno
import json
import os
import ssl
import time
from collections.abc import Iterator
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NamedTuple

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from builder import __version__
from builder.paths import shown

CONNECT_SECONDS = 3.0
MAX_ANSWER = 1 << 20
"""Bytes of an answer: thousands of kernels, or hundreds of kernel specifications."""
CONNECTIONS = 8
"""Connections that are kept open between requests."""


class UnansweredError(Exception):
    """Raised when no whole answer came; the text says why, as the end of a sentence for the log."""


class Reply(NamedTuple):
    """What came back."""

    status: int
    body: bytes


class RestClient:
    """The way to one gateway; usable from all threads."""

    def __init__(self, url: str, token: str, tls: ssl.SSLContext | None) -> None:
        """`url` has no final slash; `token` is "" where none is asked for; `tls` is used for https."""
        self._url = url
        self._token = token
        self._session = _Session()
        self._session.trust_env = False
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = _Adapter(tls)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def ask(self, method: str, path: str, *, seconds: float, content: dict[str, Any] | None = None) -> Reply:
        """One request with `content` as its JSON, answered within `seconds`. Raises UnansweredError."""
        deadline = time.monotonic() + CONNECT_SECONDS + seconds
        headers = {
            "User-Agent": f"nbfolio/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        if self._token:
            # Kernel Gateway knows no other spelling.
            headers["Authorization"] = f"token {self._token}"
        if content is not None:
            headers["Content-Type"] = "application/json"
        try:
            with self._session.request(
                method,
                self._url + path,
                data=None if content is None else json.dumps(content).encode(),
                headers=headers,
                timeout=(CONNECT_SECONDS, seconds),
                stream=True,
            ) as response:
                return Reply(response.status_code, _body(response, deadline))
        except (OSError, ValueError, HTTPError) as error:
            raise UnansweredError(_reason(error)) from None

    def close(self) -> None:
        """Close all connections."""
        self._session.close()


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Nowhere: a token goes to nobody else, and requests must not read all of an answer to look further."""
        return None


class _Adapter(HTTPAdapter):
    """Connections whose certificates are checked by one TLS context and nothing besides."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        super().__init__(pool_connections=1, pool_maxsize=CONNECTIONS, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Prepare connections."""
        super().init_poolmanager(*args, ssl_context=self._tls, **kwargs)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing to add: requests would make the context trust its own list of authorities, too."""


def _body(response: requests.Response, deadline: float) -> bytes:
    body = b""
    # As it came: what claims to be compressed is not asked for, and could be of any size.
    while block := response.raw.read1(1 << 16, decode_content=False):
        body += block
        if len(body) > MAX_ANSWER:
            raise UnansweredError(f"its answer is longer than {MAX_ANSWER >> 20} MB")
        if time.monotonic() > deadline:
            raise UnansweredError("its answer takes too long to arrive")
    return body


def _reason(error: BaseException) -> str:
    """Why there is no answer: the innermost cause that says something."""
    causes = [*_causes(error)]
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({shown(cause.verify_message)})"
        if isinstance(cause, ssl.SSLError):
            return "it does not speak TLS with us"
    if any(isinstance(cause, requests.ConnectTimeout) for cause in causes):
        return f"no connection within {CONNECT_SECONDS:g} s"
    if any(isinstance(cause, requests.Timeout | TimeoutError) for cause in causes):
        return "no answer in time"
    numbers = [cause.errno or 0 for cause in causes if isinstance(cause, OSError)]
    known = [number for number in numbers if number in errno.errorcode]
    return os.strerror(known[-1]).lower() if known else "it does not answer as an HTTP server does"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it wraps; requests and urllib3 keep that in several places."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < 50:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inner = [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
        waiting += [one for one in inner if isinstance(one, BaseException)]
