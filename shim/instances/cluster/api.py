"""Requests to the API server of a cluster: plain JSON, bounded in time and size, errors as sentences.

The `kubernetes` client finds the server and the credentials and keeps both current; its typed calls would read and
write the same dicts through thousands of classes.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import uniform
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

from shim.instances.cluster.answers import ConflictError, excuse, nonsense, refusal, retry_after
from shim.instances.errors import BackendError, InstanceError, UnavailableError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from builder.settings import Instances as Settings
    from shim.instances.cluster.manifests import Object

logger = logging.getLogger("shim.instances")

CALL_SECONDS = 10.0
"""The longest that a call may take, with all of its tries."""
CONNECT_SECONDS = 3.0
TRIES = 5
FIRST_PAUSE = 0.1
CONNECTIONS = 32
MOST_BYTES = 256 << 20
"""Of an answer: a list of everything."""
UNREACHABLE = "The cluster does not answer; try again later."


class Kind(NamedTuple):
    """A kind of object that instances need."""

    api: str
    """Path of its group and version."""
    plural: str


SECRETS = Kind("/api/v1", "secrets")
VOLUMES = Kind("/api/v1", "persistentvolumeclaims")
SERVICES = Kind("/api/v1", "services")
PODS = Kind("/api/v1", "pods")
EVENTS = Kind("/api/v1", "events")
STATEFUL_SETS = Kind("/apis/apps/v1", "statefulsets")
INGRESSES = Kind("/apis/networking.k8s.io/v1", "ingresses")


class Api:
    """One namespace of a cluster. Every method may be called from any thread.

    All methods raise UnavailableError when the server does not answer in time, BackendError when it refuses this
    server or answers nonsense, and what `answers.refusal` makes of other errors.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        """`folder` is where a relative path to a kubeconfig begins."""
        self.namespace = settings.namespace
        self._file = os.path.join(folder, os.path.expanduser(settings.kubeconfig)) if settings.kubeconfig else ""
        self._connecting = threading.Lock()
        self._connection: tuple[Any, Any] | None = None
        self._closing = threading.Event()
        self.inside = not self._file and bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
        """Whether this server runs in the cluster."""

    def close(self) -> None:
        """Try nothing again from now on."""
        self._closing.set()

    def disconnect(self) -> None:
        """Close the connections that are not in use."""
        if self._connection is not None:
            self._connection[1].clear()

    def get(self, kind: Kind, name: str) -> Object | None:
        """An object; None when there is none of its name."""
        return self._call("GET", kind, name, missing=True)

    def list(self, kind: Kind, selector: str) -> Object:
        """All objects of a label selector, as the server lists them, with the version of the list."""
        found = self._call("GET", kind, query={"labelSelector": selector} if selector else {})
        if found is None or not isinstance(found.get("items"), list) or not isinstance(found.get("metadata"), dict):
            raise nonsense()
        return found

    def create(self, kind: Kind, one: Object, *, dry_run: bool = False) -> Object:
        """Create an object, and give it back; it is not known whether it was after an UnavailableError."""
        query = {"fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
        return self._call("POST", kind, query=query, body=one) or {}

    def patch(self, kind: Kind, name: str, change: Object) -> Object | None:
        """Merge a change into an object, and give that back; None when there is none of its name."""
        return self._call("PATCH", kind, name, body=change, missing=True)

    def delete(self, kind: Kind, name: str, uid: str) -> Object | None:
        """Delete the object of a name and uid; None when it is gone, or another one, already."""
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            return self._call("DELETE", kind, name, body=options, missing=True)
        except ConflictError:
            return None

    @contextmanager
    def watch(self, kind: Kind, selector: str, version: str, seconds: float) -> Iterator[BaseHTTPResponse]:
        """The changes since a version, as lines of JSON, for some seconds. Raises ExpiredError, too."""
        query = {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version}
        query |= {"timeoutSeconds": str(int(seconds)), **({"labelSelector": selector} if selector else {})}
        # A server that says nothing for longer is not there any more.
        response = self._send("GET", self._path(kind, "", query), None, seconds + CALL_SECONDS)
        try:
            if response.status != 200:
                # What is no success has an end.
                deadline = time.monotonic() + CALL_SECONDS
                raise refusal(response.status, _json(_read(response, deadline)), "watch", kind.plural, response.headers)
            yield response
        finally:
            response.close()

    def _path(self, kind: Kind, name: str, query: Mapping[str, str]) -> str:
        path = f"{kind.api}/namespaces/{self.namespace}/{kind.plural}"
        return path + (f"/{quote(name, '')}" if name else "") + (f"?{urlencode(query)}" if query else "")

    def _call(
        self,
        method: str,
        kind: Kind,
        name: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        missing: bool = False,
    ) -> Object | None:
        """One call with all of its tries; what may have been done is not tried again unless twice is the same."""
        deadline, pause = time.monotonic() + CALL_SECONDS, FIRST_PAUSE
        path = self._path(kind, name, query or {})
        for left in reversed(range(TRIES)):
            wait = pause * uniform(0.5, 1.5)
            try:
                response = self._send(method, path, body, deadline - time.monotonic())
                answer = _json(_read(response, deadline))
            except UnavailableError:
                if method == "POST" or not left or time.monotonic() + wait > deadline:
                    raise
            else:
                if response.status == 404 and missing:
                    return None
                if response.status < 300 and answer:
                    return answer
                again = response.status in (429, 503) or (response.status >= 500 and method != "POST")
                wait = max(wait, retry_after(response.headers))
                if not again or not left or time.monotonic() + wait > deadline:
                    raise refusal(response.status, answer, method, kind.plural, response.headers)
            if self._closing.wait(wait):
                raise UnavailableError("The server is about to stop.")
            pause *= 2
        raise AssertionError("the last try returns or raises")

    def _send(self, method: str, path: str, body: Object | None, seconds: float) -> BaseHTTPResponse:
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError

        configuration, pool = self._connected()
        headers = {"Accept": "application/json", "User-Agent": "nbfolio", **self._authorization(configuration)}
        if body is not None:
            merge = "application/merge-patch+json" if method == "PATCH" else "application/json"
            headers["Content-Type"] = merge
        read = max(seconds, 0.1)
        timeout = Timeout(connect=min(CONNECT_SECONDS, read), read=read)
        content = None if body is None else json.dumps(body).encode()
        try:
            response: BaseHTTPResponse = pool.request(
                method,
                configuration.host.rstrip("/") + path,
                body=content,
                headers=headers,
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except (HTTPError, OSError) as error:
            raise UnavailableError(UNREACHABLE) from error
        return response

    def _authorization(self, configuration: Any) -> dict[str, str]:
        # A token in a file, or of a helper program, is renewed here; once for all threads.
        with self._connecting:
            try:
                settings = configuration.auth_settings().values()
            except Exception as error:
                raise excuse(error) from error
        return {one["key"]: one["value"] for one in settings if one["in"] == "header" and one["value"]}

    def _connected(self) -> tuple[Any, Any]:
        with self._connecting:
            if self._connection is None:
                try:
                    self._connection = _connect(self._file, self.inside)
                except Exception as error:
                    # The client has no errors of its own for a file that is damaged.
                    raise excuse(error) from error
            return self._connection


def _connect(file: str, inside: bool) -> tuple[Any, Any]:
    """The client's configuration, and its pool of connections, which has the certificates."""
    from kubernetes import client, config

    configuration = client.Configuration()
    configuration.retries = False
    configuration.connection_pool_maxsize = CONNECTIONS
    if inside:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        config.load_kube_config(config_file=file or None, client_configuration=configuration)  # type: ignore[no-untyped-call]
    return configuration, client.ApiClient(configuration).rest_client.pool_manager


def _read(response: BaseHTTPResponse, deadline: float) -> bytes:
    from urllib3.exceptions import HTTPError

    data = bytearray()
    try:
        # As it came: what claims to be compressed was not asked for, and could be of any size.
        while block := response.read1(1 << 20, decode_content=False):
            data += block
            if len(data) > MOST_BYTES:
                raise BackendError("The cluster answers with more than this server reads.")
            if time.monotonic() > deadline:
                raise UnavailableError(UNREACHABLE)
    except (HTTPError, OSError) as error:
        response.close()
        raise UnavailableError(UNREACHABLE) from error
    except InstanceError:
        response.close()
        raise
    response.release_conn()
    return bytes(data)


def _json(data: bytes) -> Object:
    """The object of an answer, {} for anything else: errors of proxies are pages."""
    try:
        read = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}
