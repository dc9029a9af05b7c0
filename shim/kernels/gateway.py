"""One kernel gateway: a Kernel Gateway, a Jupyter Server or an Enterprise Gateway, and what is asked of it.

Requests hold nothing that a client sent, and of the answers only what was checked is handed on. Messages of errors are
for readers of pages and name no gateway; what an administrator should know is said once, when it begins.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote

from builder.errors import NbfolioError
from builder.paths import shown
from shim.kernels.opening import Upstream
from shim.kernels.replies import KernelModel, KernelSpecs, decode
from shim.kernels.replies import KernelSpec as KernelSpec

if TYPE_CHECKING:
    import ssl

    from shim.kernels.rest import Reply, RestClient

T = TypeVar("T")
START_SECONDS = 60.0
"""The longest that a gateway may take to start or restart a kernel; a cluster has to find room for it."""
ANSWER_SECONDS = 10.0
PROBE_SECONDS = 5.0
LOST_AFTER = 6
"""Probes in a row that a gateway must fail before its kernels are given up, and one of our own is killed."""
QUESTIONS = 4
"""Requests that may wait at a time until a gateway has listed the kernels that can be started."""
FULL = (b"Resource Limit", b"max kernels")
"""What Kernel Gateway and Enterprise Gateway say, beside 403, when they run as many kernels as they may."""

UNANSWERED = "The kernel server does not answer; try again later."
UNREADABLE = "The kernel server gave an answer that cannot be read."

_AWAY = frozenset({502, 503, 504})
"""What proxies answer when the gateway behind them does not."""


class GatewayError(NbfolioError):
    """Raised when a gateway is down, refused something, or gave an answer that cannot be used."""


class UnansweredStartError(GatewayError):
    """Raised when nobody knows whether a kernel was started: it may run, or appear later."""


class GatewayBusyError(GatewayError):
    """Raised when a gateway can start no other kernel now."""


class GatewayFullError(GatewayBusyError):
    """Raised when a gateway runs as many kernels as it may."""


class NoGatewayError(GatewayError):
    """Raised when no gateway may run a kernel, has it, or answers."""


@dataclass(frozen=True)
class Endpoint:
    """Where a gateway is, and how it lets us in."""

    name: str
    url: str
    """Without a final slash; it may have a path."""
    token: str = ""
    tls: ssl.SSLContext | None = None
    """For https."""


class LocalServer(Protocol):
    """A kernel server that this process runs itself."""

    @property
    def up(self) -> bool:
        """Whether it runs, or is about to."""
        ...

    @property
    def ready(self) -> bool:
        """Whether it has begun to answer, and is not about to end."""
        ...

    def wait(self) -> bool:
        """Wait a little until requests are answered; whether they are."""
        ...

    def kill(self) -> None:
        """End it by force, so that it starts anew."""
        ...


class Gateway:
    """One gateway; its methods may be called from any thread, and all of them end in time."""

    def __init__(self, endpoint: Endpoint, say: Callable[[str], None], local: LocalServer | None = None) -> None:
        """`say` is told when it begins and ceases to answer; `local`: it is our own, and takes working folders."""
        self.name = endpoint.name
        self.default = ""
        """Name of the kernel that starts where none is asked for; "" as long as that is not known."""
        self.specs: Mapping[str, KernelSpec] | None = None
        """The kernels that can be started by their names; None as long as they are not known."""
        self.failed = 0
        """How many probes it has failed in a row."""
        self._endpoint = endpoint
        self._say = say
        self._local = local
        self._answers = True
        self._client: RestClient | None = None
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._questions = threading.BoundedSemaphore(QUESTIONS)

    @property
    def healthy(self) -> bool:
        """Whether it can be expected to answer."""
        return self._answers and (self._local is None or self._local.up)

    def start(self, kernelspec: str, folder: Path | None, kernel: str) -> str:
        """Start a kernel, "" for the default one, and give its id at the gateway: `kernel`, a UUID, if it obeys.

        A gateway of our own starts it in `folder`; others do not know our folders. Raises UnansweredStartError,
        GatewayBusyError, GatewayFullError, GatewayError.
        """
        # Jupyter Server and Kernel Gateway read the id in the body, Enterprise Gateway reads the variable. Versions
        # that read neither make up an id of their own, and a kernel whose start they did not answer stays unknown.
        content: dict[str, Any] = {"kernel_id": kernel, "env": {"KERNEL_ID": kernel}}
        if kernelspec:
            content["name"] = kernelspec
        if folder and self._local:
            content["path"] = str(folder)
        reply = self._ask_to_start(content)
        if reply.status == 403 and any(words in reply.body for words in FULL):
            raise GatewayFullError("The kernel server runs as many kernels as it may; try again later.")
        if reply.status in (400, 404, 500):
            name = shown(kernelspec) if kernelspec else "for this page"
            raise GatewayError(f"The kernel server could not start the kernel {name}.")
        self._expect(reply, 201)
        model = decode(reply.body, KernelModel)
        if model is None:
            raise UnansweredStartError(UNREADABLE)
        return model.id

    def kernels(self) -> dict[str, str] | None:
        """The execution states of all kernels by their ids; None from a gateway that does not list them."""
        reply = self._ask("GET", "/api/kernels")
        if reply.status == 403:
            return None
        return {model.id: model.state for model in self._read(reply, 200, list[KernelModel])}

    def state(self, kernel: str) -> str | None:
        """The execution state of a kernel; None when there is no such kernel."""
        reply = self._ask("GET", _path(kernel))
        return None if reply.status == 404 else self._read(reply, 200, KernelModel).state

    def interrupt(self, kernel: str) -> None:
        """Interrupt what a kernel does."""
        self._expect(self._ask("POST", f"{_path(kernel)}/interrupt", {}), 204)

    def restart(self, kernel: str) -> None:
        """Start a kernel anew, under the same id."""
        self._expect(self._ask("POST", f"{_path(kernel)}/restart", {}, slow=True), 200)

    def delete(self, kernel: str) -> bool:
        """End a kernel; False when there is no such kernel."""
        reply = self._ask("DELETE", _path(kernel))
        if reply.status != 404:
            self._expect(reply, 204)
        return reply.status != 404

    def upstream(self, kernel: str, session: str) -> Upstream:
        """The WebSocket of a kernel, for a client that is known to the gateway as `session`."""
        at = self._endpoint
        headers = (("Authorization", f"token {at.token}"),) if at.token else ()
        # http becomes ws, https becomes wss.
        url = f"ws{at.url.removeprefix('http')}{_path(kernel)}/channels?session_id={quote(session, safe='')}"
        return Upstream(url, headers, at.tls)

    def probe(self) -> None:
        """Ask for the kernels that can be started: that shows whether the gateway answers, and whether it knows us."""
        if self._local and not self._local.ready:
            self.failed += 1
            return
        problem = self._probed()
        self.failed = self.failed + 1 if problem else 0
        self._changed(problem)
        if self._local and self.failed >= LOST_AFTER:
            self.failed = 0
            self._local.kill()

    def known_specs(self) -> Mapping[str, KernelSpec]:
        """The kernels that can be started by their names, asked for if they are not known yet."""
        if self.specs is None and self.healthy and self._questions.acquire(blocking=False):
            try:
                if self._local is None or self._local.wait():
                    self.probe()
            finally:
                self._questions.release()
        return self.specs or {}

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            if self._client:
                self._client.close()
            self._client = None

    def _probed(self) -> str:
        """Why it cannot be used; "" when it can."""
        from shim.kernels.rest import UnansweredError

        try:
            reply = self._rest().ask("GET", "/api/kernelspecs", seconds=PROBE_SECONDS)
        except UnansweredError as error:
            return str(error)
        specs = decode(reply.body, KernelSpecs) if reply.status == 200 else None
        if specs is None:
            refused = reply.status in (401, 403)
            return "it refuses the token" if refused else f"it does not list its kernels ({reply.status})"
        self.specs, self.default = specs.usable, specs.default
        return ""

    def _ask_to_start(self, content: dict[str, Any]) -> Reply:
        if self._local:
            return self._ask("POST", "/api/kernels", content, slow=True)
        # One at a time: Kernel Gateway mixes up the environments of kernels that start together, and hands on its
        # own environment where a request has none.
        if not self._starting.acquire(timeout=START_SECONDS):
            raise GatewayBusyError("Too many kernels are being started; try again later.")
        try:
            return self._ask("POST", "/api/kernels", content, slow=True)
        finally:
            self._starting.release()

    def _ask(self, method: str, path: str, content: dict[str, Any] | None = None, *, slow: bool = False) -> Reply:
        """The answer to a request, which nobody has to wait for when the last one was not answered."""
        from shim.kernels.rest import UnansweredError

        if self._local and not self._local.wait():
            raise GatewayError("The kernel server is being started; try again later.")
        if not self.healthy:
            raise GatewayError("The kernel server cannot be used right now; try again later.")
        unanswered = UnansweredStartError if path == "/api/kernels" and method == "POST" else GatewayError
        seconds = START_SECONDS if slow else ANSWER_SECONDS
        try:
            reply = self._rest().ask(method, path, seconds=seconds, content=content)
        except UnansweredError as error:
            self._changed(str(error))
            raise unanswered(UNANSWERED) from None
        if reply.status in _AWAY:
            self._changed(f"it answers {reply.status}")
            raise unanswered(UNANSWERED)
        return reply

    def _rest(self) -> RestClient:
        from shim.kernels.rest import RestClient

        with self._lock:
            if self._client is None:
                self._client = RestClient(self._endpoint.url, self._endpoint.token, self._endpoint.tls)
            return self._client

    def _changed(self, problem: str) -> None:
        """Note that it answers, "", or why it does not; only a change is said."""
        if problem and self._local and not self._local.ready:
            # Its supervisor says what becomes of it.
            return
        with self._lock:
            before, self._answers = self._answers, not problem
        what = "The kernel server" if self._local else f"The kernel gateway {shown(self.name)}"
        if before and problem:
            self._say(f"{what} cannot be used: {problem}.")
        elif not before and not problem:
            self._say(f"{what} can be used again.")

    def _read(self, reply: Reply, status: int, kind: type[T]) -> T:
        self._expect(reply, status)
        content = decode(reply.body, kind)
        if content is None:
            raise GatewayError(UNREADABLE)
        return content

    def _expect(self, reply: Reply, status: int) -> None:
        if reply.status in (401, 403):
            self._changed(f"it refuses the token ({reply.status})")
            raise GatewayError("The kernel server does not let this site in.")
        if reply.status == 404:
            raise GatewayError("The kernel is not there any more.")
        if reply.status != status:
            raise GatewayError(f"The kernel server could not do it ({reply.status}).")


def _path(kernel: str) -> str:
    return f"/api/kernels/{quote(kernel, safe='')}"
