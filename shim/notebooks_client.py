"""What shim-admin asks of a running server about notebook instances; it knows no command line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qs, quote, urlsplit

import msgspec

from shim.admin_http import MAX_LIST, AdminError, AdminServer, PassingError, content
from shim.admin_messages import Answer, Asked, Token, refusal, shown

T = TypeVar("T")
ANSWER_SECONDS = 60
"""Instances are started after the answer."""
PAUSE_SECONDS, LONGEST_PAUSE = 0.2, 2.0
"""Between two looks at an instance that starts."""
MOST_FAILURES = 5
"""Looks in a row that may fail, as they do while a server restarts."""
LATE_SECONDS = 5
"""For how long after a start an instance may still be shown as it was before: clusters tell of changes late."""
MOST_NAMES = 20

_FORM = "application/x-www-form-urlencoded"
_NOTEBOOK = "/api/v1/notebook"
_ENVIRONMENT = "/api/v1/environment"
_ENDS = ("failed", "stopped", "terminating", "not_found")
_PASSING = (404, 429, 502, 503, 504)
"""404 as well: of several servers one may know of an instance later than the others."""


class OwnerNeededError(AdminError):
    """Raised by a server that does not know from a token whose an instance is to be."""


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    namespace: str
    owner_id: str | None = None


class _Environment(msgspec.Struct, frozen=True):
    name: str | None = None


class _Pod(msgspec.Struct, frozen=True):
    resources: str | None = None


class _Spec(msgspec.Struct, frozen=True):
    meta: _Meta
    environment: _Environment
    spec: _Pod


class Notebook(msgspec.Struct, frozen=True, rename="camel"):
    """An instance as the server describes it; all texts are somebody else's."""

    notebook_id: str
    name: str
    status: str
    spec: _Spec
    reason: str | None = None
    created_time: str | None = None


class _Envelope(msgspec.Struct, Generic[T]):
    result: T


class _Outcome(msgspec.Struct):
    success: bool | None


@dataclass(frozen=True)
class Wanted:
    """An instance to be created; what is None is left to the server."""

    name: str
    environment: str
    resources: str
    variables: Mapping[str, str]
    owner: str | None = None
    namespace: str | None = None

    def document(self) -> dict[str, Any]:
        """The body of the request."""
        meta = {"name": self.name, "namespace": self.namespace, "ownerId": self.owner}
        spec = {"envVars": self.variables or None, "resources": self.resources}
        return {"meta": _said(meta), "environment": {"name": self.environment}, "spec": _said(spec)}


class NotebooksClient:
    """The instances of a running server at `address`; every method raises AdminError."""

    def __init__(self, address: str, token: Token | None) -> None:
        self._server = AdminServer(address, token)

    @property
    def has_token(self) -> bool:
        """Whether the server is told with a token who asks."""
        return self._server.token is not None

    def documents(self) -> list[dict[str, Any]]:
        """All instances of the caller, the oldest first, with everything that the server says of them."""
        return self._result("GET", _NOTEBOOK, list[dict[str, Any]], limit=MAX_LIST)

    def notebooks(self) -> list[Notebook]:
        """The same, as far as it is understood."""
        return self._result("GET", _NOTEBOOK, list[Notebook], limit=MAX_LIST)

    def find(self, name: str) -> Notebook:
        """The instance of a name or an id."""
        wanted = (name, name.lower())
        found = [one for one in self.notebooks() if one.notebook_id == name or one.name in wanted]
        if not found:
            raise AdminError(
                f"There is no notebook instance {shown(name)}; shim-admin notebooks list names those that there are."
            )
        if len(found) > 1:
            ids = ", ".join(shown(one.notebook_id) for one in found[:MOST_NAMES])
            raise AdminError(f"Several notebook instances are called {shown(name)}; say which by its id: {ids}.")
        return found[0]

    def create(self, wanted: Wanted) -> Notebook:
        """Create an instance; the answer comes before it runs. Raises OwnerNeededError too."""
        body = json.dumps(wanted.document()).encode()
        asked, answer = self._ask("POST", _NOTEBOOK, headers={"Content-Type": "application/json"}, data=body)
        envelope = content(answer, 200, _Envelope[Notebook])
        if envelope:
            return envelope.result
        if answer.status == 400 and wanted.owner is None and "ownerId" in (answer.message or ""):
            raise OwnerNeededError(refusal(answer, asked, {}))
        raise _refused(answer, asked, self._environments() if answer.status == 404 else "")

    def start(self, notebook: Notebook) -> Notebook:
        """Run a stopped instance again; the answer comes before it runs."""
        return self._result("POST", f"{_place(notebook)}/start", Notebook)

    def stop(self, notebook: Notebook) -> Notebook:
        """Stop an instance; its files stay."""
        return self._result("POST", f"{_place(notebook)}/stop", Notebook)

    def delete(self, notebook: Notebook, keep_volumes: bool | None) -> Notebook:
        """Delete an instance; None: the server says what becomes of its files."""
        query = "" if keep_volumes is None else f"?keepVolumes={str(keep_volumes).lower()}"
        return self._result("DELETE", _place(notebook) + query, Notebook)

    def wait(self, notebook: Notebook, seconds: float, show: Callable[[Notebook], None], before: str = "") -> Notebook:
        """Wait until an instance runs; `show` gets every look at it on the way.

        `before` is the status it had before it was started. Raises AdminError also when it will not run, or not in
        that many seconds; it goes on starting then.
        """
        began = time.monotonic()
        for look in self._looks(notebook, began + seconds):
            notebook = look
            late = notebook.status == before and time.monotonic() < began + LATE_SECONDS
            if notebook.status in _ENDS and not late:
                raise AdminError(_ended(notebook))
            show(notebook)
            if notebook.status == "running":
                return notebook
        name = shown(notebook.name)
        raise AdminError(f"After {seconds:.0f} s {name} still is {told(notebook)}. It goes on starting.")

    def page(self, notebook: Notebook) -> str:
        """The address under which an instance is opened; there is no secret in it."""
        return self._server.address + _page(notebook)

    def door(self, notebook: Notebook) -> str:
        """The address that opens an instance in a browser: where there are tokens, for some minutes."""
        asked, answer = self._ask("POST", _page(notebook), headers={"Content-Type": _FORM}, data=b"")
        if answer.status != 303:
            raise _refused(answer, asked, "")
        # Of what the server says only the ticket counts: nothing of it may lead elsewhere.
        ticket = _ticket(answer.headers.get("Location", ""))
        return self.page(notebook) + (f"?ticket={quote(ticket, safe='')}" if ticket else "")

    def _looks(self, notebook: Notebook, end: float) -> Iterator[Notebook]:
        """An instance as it was found and then as it is, until `end`; some looks in between may fail."""
        pause, failures = PAUSE_SECONDS, 0
        yield notebook
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, LONGEST_PAUSE)
            try:
                yield self._result("GET", _place(notebook), Notebook, seconds=max(1.0, min(left, ANSWER_SECONDS)))
                failures = 0
            except PassingError:
                failures += 1
                if failures == MOST_FAILURES:
                    raise

    def _environments(self) -> str:
        """A sentence that names the environments, "" when they cannot be had."""
        _, answer = self._ask("GET", _ENVIRONMENT)
        envelope = content(answer, 200, _Envelope[list[dict[str, Any]]])
        specs = [each.get("environmentSpec") for each in envelope.result] if envelope else []
        names = [shown(str(spec.get("name"))) for spec in specs if isinstance(spec, dict)]
        return f"There are: {', '.join(names[:MOST_NAMES])}." if names else ""

    def _result(self, method: str, path: str, kind: type[T], **options: Any) -> T:
        asked, answer = self._ask(method, path, **options)
        envelope = content(answer, 200, _Envelope[kind])  # type: ignore[valid-type]
        if envelope is None:
            raise _refused(answer, asked, "" if path == _NOTEBOOK else "shim-admin notebooks list names what there is.")
        return envelope.result

    def _ask(self, method: str, path: str, **options: Any) -> tuple[Asked, Answer]:
        return self._server.ask(method, path, **{"seconds": ANSWER_SECONDS, **options})


def told(notebook: Notebook) -> str:
    """How an instance is, in the words of the server, without a full stop."""
    return f"{shown(notebook.status)}: {shown(notebook.reason or 'no reason is given').rstrip('.')}"


def _ended(notebook: Notebook) -> str:
    name = shown(notebook.name)
    if notebook.status == "stopped":
        return f"{name} is {told(notebook)}. shim-admin notebooks start {name} runs it again."
    return f"{name} {told(notebook)}." if notebook.status == "failed" else f"{name} is {told(notebook)}."


def _said(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _place(notebook: Notebook) -> str:
    return f"{_NOTEBOOK}/{quote(notebook.notebook_id, safe='')}"


def _page(notebook: Notebook) -> str:
    # Not the path that the server gives: the token goes there.
    return f"/notebook/{quote(notebook.spec.meta.namespace, safe='')}/{quote(notebook.name, safe='')}/lab"


def _ticket(location: str) -> str:
    """The ticket in the address of a page, "" where there is none."""
    try:
        return parse_qs(urlsplit(location).query).get("ticket", [""])[0]
    except ValueError:
        return ""


def _refused(answer: Answer, asked: Asked, missing: str) -> AdminError:
    """What was said instead; `missing` is what helps when something was not found."""
    try:
        msgspec.json.decode(answer.body, type=_Outcome)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        missing = (
            f"Is {asked.address} the whole address of the server, with its prefix, and its nbfolio new enough to have "
            "notebook instances?"
        )
    return (PassingError if answer.status in _PASSING else AdminError)(refusal(answer, asked, {404: missing}))
