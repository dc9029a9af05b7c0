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
from shim.kernels.relay import Upstream
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
FULL = (b"Resource Limit", b"max kernels")
"""What Kernel Gateway and Enterprise Gateway say, beside 403, when they run as many kernels as they may."""

_AWAY = frozenset({502, 503, 504})
"""What proxies answer when the gateway behind them does not."""


class GatewayError(NbfolioError):
    """Raised when a gateway is down, refused something, or gave an answer that cannot be used."""


class GatewayFullError(GatewayError):
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


class Gateway:
    """One gateway; its methods may be called from any thread, and all of them end in time."""

    def __init__(self, endpoint: Endpoint, say: Callable[[str], None], local: LocalServer | None = None) -> None:
        """`say` is told when it begins and ceases to answer; `local`: it is our own, and takes working folders."""
        self.name = endpoint.name
        self.default = ""
        """Name of the kernel that starts where none is asked for; "" as long as that is not known."""
        self.specs: Mapping[str, KernelSpec] | None = None
        """The kernels that can be started by their names; None as long as they are not known."""
        self._endpoint = endpoint
        self._say = say
        self._local = local
        self._answers = True
        self._client: RestClient | None = None
        self._lock = threading.Lock()
        self._starting = threading.Lock()

    @property
    def healthy(self) -> bool:
        """Whether it can be expected to answer."""
        return self._answers and (self._local is None or self._local.up)

    def start(self, kernelspec: str, folder: Path | None) -> str:
        """Start a kernel, "" for the default one, and give its id at the gateway.

        A gateway of our own starts it in `folder`; others do not know our folders.
        """
        content: dict[str, Any] = {"env": {}}
        if kernelspec:
            content["name"] = kernelspec
        if folder and self._local:
            content["path"] = str(folder)
        # One at a time: Kernel Gateway mixes up the environments of kernels that start together, and hands on its
        # own environment where a request has none.
        if not self._starting.acquire(timeout=START_SECONDS):
            raise GatewayFullError("Too many kernels are being started; try again later.")
        try:
            reply = self._ask("POST", "/api/kernels", content, slow=True)
        finally:
            self._starting.release()
        if reply.status == 403 and any(words in reply.body for words in FULL):
            raise GatewayFullError("The kernel server runs as many kernels as it may; try again later.")
        if reply.status in (400, 404, 500):
            name = shown(kernelspec) if kernelspec else "for this page"
            raise GatewayError(f"The kernel server could not start the kernel {name}.")
        return self._read(reply, 201, KernelModel).id

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

    def delete(self, kernel: str) -> None:
        """End a kernel; one that is not there is no error."""
        reply = self._ask("DELETE", _path(kernel))
        if reply.status != 404:
            self._expect(reply, 204)

    def upstream(self, kernel: str, session: str) -> Upstream:
        """The WebSocket of a kernel, for a client that is known to the gateway as `session`."""
        at = self._endpoint
        headers = (("Authorization", f"token {at.token}"),) if at.token else ()
        # http becomes ws, https becomes wss.
        url = f"ws{at.url.removeprefix('http')}{_path(kernel)}/channels?session_id={quote(session, safe='')}"
        return Upstream(url, headers, at.tls)

    def probe(self) -> None:
        """Ask for the kernels that can be started: that shows whether the gateway answers, and whether it knows us."""
        from shim.kernels.rest import UnansweredError

        if self._local and not self._local.ready:
            return
        try:
            reply = self._rest().ask("GET", "/api/kernelspecs", seconds=PROBE_SECONDS)
        except UnansweredError as error:
            self._changed(str(error))
            return
        specs = decode(reply.body, KernelSpecs) if reply.status == 200 else None
        if specs is None:
            refused = reply.status in (401, 403)
            self._changed("it refuses the token" if refused else f"it does not list its kernels ({reply.status})")
            return
        self.specs, self.default = specs.usable, specs.default
        self._changed("")

    def known_specs(self) -> Mapping[str, KernelSpec]:
        """The kernels that can be started by their names, asked for if they are not known yet."""
        if self.specs is None and self.healthy and (self._local is None or self._local.wait()):
            self.probe()
        return self.specs or {}

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            if self._client:
                self._client.close()
            self._client = None

    def _ask(self, method: str, path: str, content: dict[str, Any] | None = None, *, slow: bool = False) -> Reply:
        from shim.kernels.rest import UnansweredError

        if self._local and not self._local.wait():
            raise GatewayError("The kernel server is being started; try again later.")
        seconds = START_SECONDS if slow else ANSWER_SECONDS
        try:
            reply = self._rest().ask(method, path, seconds=seconds, content=content)
        except UnansweredError as error:
            self._changed(str(error))
            raise GatewayError("The kernel server does not answer; try again later.") from None
        if reply.status in _AWAY:
            self._changed(f"it answers {reply.status}")
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
            raise GatewayError("The kernel server gave an answer that cannot be read.")
        return content

    def _expect(self, reply: Reply, status: int) -> None:
        if reply.status in (401, 403):
            self._changed(f"it refuses the token ({reply.status})")
            raise GatewayError("The kernel server does not let this site in.")
        if reply.status in _AWAY:
            raise GatewayError("The kernel server does not answer; try again later.")
        if reply.status == 404:
            raise GatewayError("The kernel is not there any more.")
        if reply.status != status:
            raise GatewayError(f"The kernel server could not do it ({reply.status}).")


def _path(kernel: str) -> str:
    return f"/api/kernels/{quote(kernel, safe='')}"
