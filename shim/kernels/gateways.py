"""All kernel gateways of a site, and which of them starts the kernel of a page."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from builder.errors import ConfigError
from builder.paths import shown
from shim.kernels.gateway import Endpoint, Gateway, NoGatewayError
from shim.kernels.patterns import matches_any

if TYPE_CHECKING:
    from builder.config import Config
    from builder.settings import Gateway as GatewaySettings
    from shim.kernels.embedded import EmbeddedServer
    from shim.kernels.replies import KernelSpec

EMBEDDED = "embedded"
"""Name of the gateway that the shim runs itself."""
PROBES_AT_ONCE = 8


@dataclass(frozen=True)
class _Choice:
    """A gateway and what it is there for, as patterns."""

    gateway: Gateway
    kernelspecs: tuple[str, ...] = ("*",)
    paths: tuple[str, ...] = ("**",)

    def fits(self, kernelspec: str, path: str) -> bool:
        """Whether the gateway may run this kernel for this page."""
        # Which kernel the default one is has to be learnt from the gateway.
        name = kernelspec or self.gateway.default
        return matches_any(self.paths, path) and (not name or matches_any(self.kernelspecs, name))

    def has(self, kernelspec: str) -> bool:
        """Whether the kernel is installed there, as far as that is known."""
        return not kernelspec or self.gateway.specs is None or kernelspec in self.gateway.specs


class Gateways:
    """The gateways of the settings, or the one that the shim runs itself when they name none."""

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        """`say` is told of changes in one line each. Raises ConfigError."""
        settings = config.kernels.gateway
        self._say = say
        self._env = config.kernels.env
        self._embedded: EmbeddedServer | None = None
        self._choices = tuple(_Choice(_gateway(each, say), each.kernelspecs, each.paths) for each in settings)
        self.problem = "" if settings else _missing()
        """The sentence that says why no kernels can be had on this installation; "" when they can."""

    @property
    def available(self) -> bool:
        """Whether kernels can be had at all on this installation."""
        return not self.problem

    def open(self) -> None:
        """Start the server of our own where the settings name no other. Raises ConfigError."""
        if self._choices or not self.available:
            return
        # Imported here: sites with other gateways do without.
        from shim.kernels.embedded import EmbeddedServer, server_environment

        server = EmbeddedServer(server_environment(os.environ, self._env), self._say)
        gateway = Gateway(Endpoint(EMBEDDED, server.url, server.token), self._say, server)
        self._embedded, self._choices = server, (_Choice(gateway),)
        server.start(gateway.probe)

    def close(self) -> None:
        """Leave the gateways as they are, and end the server of our own with its kernels."""
        embedded, self._embedded = self._embedded, None
        if embedded:
            embedded.stop()
        for choice in self._choices:
            choice.gateway.close()
        if embedded:
            self._choices = ()

    def choose(self, kernelspec: str, path: str, load: Mapping[str, int]) -> Gateway:
        """The gateway for a kernel of a page: of those that fit and answer the one with the fewest kernels.

        `kernelspec` is "" for a gateway's default; `load` has the numbers of kernels by the names of gateways. Raises
        NoGatewayError.
        """
        what = f"the kernel {shown(kernelspec)}" if kernelspec else "the default kernel"
        fitting = [choice for choice in self._choices if choice.fits(kernelspec, path)]
        if not fitting:
            raise NoGatewayError(f"No kernel server is set up to run {what} for this page.")
        having = [choice.gateway for choice in fitting if choice.has(kernelspec)]
        if not having:
            raise NoGatewayError(f"The kernel {shown(kernelspec)} is not installed on the kernel server of this page.")
        healthy = [gateway for gateway in having if gateway.healthy]
        if not healthy:
            raise NoGatewayError("No kernel server answers right now; try again later.")
        return min(healthy, key=lambda gateway: load.get(gateway.name, 0))

    def named(self, name: str) -> Gateway | None:
        """The gateway of a name."""
        return next((choice.gateway for choice in self._choices if choice.gateway.name == name), None)

    def probe(self) -> None:
        """Ask each gateway whether it is there; to be called every few seconds, by one thread."""
        gateways = [choice.gateway for choice in self._choices]
        if len(gateways) < 2:
            for gateway in gateways:
                gateway.probe()
            return
        with ThreadPoolExecutor(min(len(gateways), PROBES_AT_ONCE), "probe") as pool:
            for done in [pool.submit(gateway.probe) for gateway in gateways]:
                done.result()

    def specs(self) -> dict[str, KernelSpec]:
        """The kernels that can be started now, by their names; of two with the same name that of the first gateway."""
        found: dict[str, KernelSpec] = {}
        for choice in self._choices:
            for name, spec in choice.gateway.known_specs().items() if choice.gateway.healthy else ():
                if matches_any(choice.kernelspecs, name):
                    found.setdefault(name, spec)
        return found

    @property
    def default(self) -> str:
        """Name of the kernel that starts where a page names none; "" as long as that is not known."""
        names = (choice.gateway.default for choice in self._choices if choice.gateway.healthy)
        return next(filter(None, names), "")


def _gateway(settings: GatewaySettings, say: Callable[[str], None]) -> Gateway:
    place = f"[kernels] gateway {shown(settings.name)}:"
    if not settings.token.isascii():
        raise ConfigError(f"{place} the token has characters that no header can carry")
    tls = None
    if settings.url.startswith("https:"):
        try:
            tls = ssl.create_default_context(cafile=settings.ca_file or None)
        except ssl.SSLError:
            raise ConfigError(f"{place} ca_file {shown(settings.ca_file)} holds no certificate") from None
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "impossible name"
            raise ConfigError(f"{place} ca_file {shown(settings.ca_file)} cannot be read: {why}") from None
    elif settings.ca_file:
        raise ConfigError(f"{place} ca_file is for gateways with an https address")
    return Gateway(Endpoint(settings.name, settings.url, settings.token, tls), say)


def _missing() -> str:
    """What to install before kernels can be had, "" when all is there; nothing is imported."""
    missing = [name for name in ("jupyter_server", "ipykernel") if find_spec(name) is None]
    if not missing:
        return ""
    return f"Live cells need {' and '.join(missing)}: python -m pip install 'nbfolio[live]', or name a kernel gateway."
