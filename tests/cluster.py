"""A stand-in of a Kubernetes API server that tests steer: a real server on 127.0.0.1, for any client.

`cluster()` runs one. What it does, it does as a real one; what it does not know it refuses with 501. A test says what
becomes of pods (`Cluster.behave`), injects faults and looks at the requests that came. Methods are those of HTTP, and
WATCH for a GET that watches; targets are paths with their query.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from cluster_objects import KINDS, Change, Kind, Object, Store
from cluster_pods import Controllers
from cluster_rules import RefusedError, matcher, unknown

TOKEN = "a-token-of-the-stand-in"
THREADS = "stand-in of a cluster"
"""What names the threads of requests; the server waits for them at its end."""
SECONDS = 30
"""The longest that anything is waited for."""
_KNOWN = {"dryRun", "fieldManager", "fieldValidation", "pretty", "propagationPolicy", "gracePeriodSeconds"} | {
    *("labelSelector", "fieldSelector", "resourceVersion", "timeoutSeconds", "watch", "allowWatchBookmarks")
}


class Request(NamedTuple):
    """A request that came."""

    method: str
    path: str
    query: dict[str, str]
    body: Any = None

    @property
    def dry(self) -> bool:
        """Whether it shall change nothing."""
        body = self.body if isinstance(self.body, dict) else {}
        return "All" in (self.query.get("dryRun"), *(body.get("dryRun") or () if self.method == "DELETE" else ()))


Hook = Callable[[Request], object]


@dataclass
class Fault:
    """What happens to requests instead of, before or after what they ask for."""

    method: str
    pattern: str
    times: int
    refused: RefusedError | None = None
    """None: no answer at all, the connection ends."""
    hook: Hook | None = None
    after: bool = False
    """Once the request has been applied."""
    dry: bool = False
    """For dry runs, too."""


@dataclass
class _Target:
    kind: Kind
    namespace: str
    name: str


@dataclass
class Cluster:
    """The stand-in. All methods may be called from any thread."""

    store: Store = field(default_factory=Store)
    requests: list[Request] = field(default_factory=list)
    """All that came and had the token, in order."""
    future_seconds: float = 3.0
    """How long a list at a future resourceVersion waits."""
    bookmark_seconds: float = 0.2
    """After how long without events a watch that allows it gets a bookmark."""

    def __post_init__(self) -> None:
        self.controllers = Controllers(self.store)
        self.ended = threading.Event()
        self.delay = 0.0
        self.faults: list[Fault] = []
        self.watches: set[socket.socket] = set()
        self.server = _Server(self)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server.server_port}"

    def kubeconfig(self, folder: Path, token: str = TOKEN, namespace: str = "default") -> Path:
        """Write a file that says how it is reached."""
        named = [{"name": "stand-in", "cluster": {"server": self.url}}]
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": named,
            "users": [{"name": "tester", "user": {"token": token}}],
            "contexts": [{"name": "it", "context": {"cluster": "stand-in", "user": "tester", "namespace": namespace}}],
            "current-context": "it",
        }
        path = folder / "kubeconfig.json"
        path.write_text(json.dumps(content))
        return path

    def behave(self, name: str, what: str) -> None:
        """What becomes of the pods of a StatefulSet, or "*" of all others; see `tests.cluster_pods.LIVES`."""
        self.controllers.behave(name, what)

    def fail(
        self,
        method: str,
        pattern: str,
        status: int | None,
        times: int = 1,
        *,
        message: str = "as the test says",
        retry_after: int | None = None,
        after: bool = False,
        dry: bool = False,
    ) -> None:
        """Answer requests with an error, or end the connection (None); `after`: having done what they ask."""
        reason = {403: "Forbidden", 409: "Conflict", 410: "Expired", 422: "Invalid", 429: "TooManyRequests"}
        told = reason.get(status or 0, "InternalError")
        refused = RefusedError(status, told, message, retry_after) if status else None
        self.faults.append(Fault(method, pattern, times, refused, after=after, dry=dry))

    def on(
        self, method: str, pattern: str, hook: Hook, times: int = 1, *, after: bool = False, dry: bool = False
    ) -> None:
        """Call something before a request is looked at, or `after` it was done and before it is answered."""
        self.faults.append(Fault(method, pattern, times, hook=hook, after=after, dry=dry))

    def latency(self, seconds: float) -> None:
        """Let every request wait."""
        self.delay = seconds

    def mend(self) -> None:
        """No more faults."""
        self.delay = 0.0
        self.faults.clear()

    def compact(self) -> None:
        """Forget the history: nothing resumes at a resourceVersion before this."""
        with self.store.changed:
            self.store.version += 1
            self.store.compacted = self.store.version
            self.store.changed.notify_all()

    def drop_watches(self) -> int:
        """End all watches without a word; how many."""
        with self.store.changed:
            dropped = list(self.watches)
        for one in dropped:
            _shut(one)
        return len(dropped)

    def strike(self, request: Request, after: bool) -> None:
        """Let the faults happen that are meant for a request."""
        target = f"{request.path}?{'&'.join('='.join(pair) for pair in request.query.items())}"
        with self.store.changed:
            meant = [
                one
                for one in self.faults
                if (one.after, one.method) == (after, request.method)
                and one.times > 0
                and (one.dry or not request.dry)
                and re.search(one.pattern, target)
            ]
            for one in meant:
                one.times -= 1
        for one in meant:
            if one.hook:
                one.hook(request)
            elif one.refused:
                raise one.refused
            else:
                raise ConnectionAbortedError


def until(call: Callable[[], Any], what: Callable[[], object] | None = None) -> Any:
    """What a call gives as soon as that is true; fails after SECONDS, with `what` there is instead."""
    deadline = time.monotonic() + SECONDS
    while not (found := call()):
        assert time.monotonic() < deadline, f"did not come; there is {what() if what else found}"
        time.sleep(0.01)
    return found


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Run a stand-in with the namespace `default`."""
    one = Cluster()
    one.store.create("namespaces", "", {"metadata": {"name": "default"}})
    one.controllers.start()
    thread = threading.Thread(target=one.server.serve_forever, args=(0.02,), name="stand-in")
    thread.start()
    try:
        yield one
    finally:
        one.ended.set()
        one.server.shutdown()
        thread.join()
        one.controllers.end()
        one.server.end()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, owner: Cluster) -> None:
        self.owner = owner
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # Whoever watches comes back at any time, also while a test runs that has nothing to do with it.
        threading.current_thread().name = f"{THREADS} {client_address[1]}"
        super().process_request_thread(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def end(self) -> None:
        for one in list(self._open):
            _shut(one)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is told."""

    def _answer(self) -> None:
        owner, address = self.server.owner, urlsplit(self.path)
        query = dict(parse_qsl(address.query, keep_blank_values=True))
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        watching = self.command == "GET" and query.get("watch") in ("1", "true", "True")
        try:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise RefusedError(401, "Unauthorized", "Unauthorized")
            try:
                body = json.loads(data) if data else None
            except ValueError as error:
                raise RefusedError(400, "BadRequest", "the body of the request is no JSON") from error
            request = Request("WATCH" if watching else self.command, address.path, query, body)
            owner.requests.append(request)
            owner.ended.wait(owner.delay)
            owner.strike(request, after=False)
            target = _target(request)
            if watching:
                self._watch(request, target)
            else:
                code, answer = _do(owner, request, target, self.headers.get("Content-Type") or "")
                text = json.dumps(answer)
                owner.strike(request, after=True)
                self._send(code, text)
        except RefusedError as refused:
            self._send(refused.code, json.dumps(refused.body), refused.retry_after)
        except ConnectionAbortedError:
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

    def _send(self, code: int, text: str, retry_after: int | None = None) -> None:
        data = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        self._headers_buffer.append(b"\r\n" + data)  # type: ignore[attr-defined]
        self.flush_headers()

    def _watch(self, request: Request, target: _Target) -> None:
        owner, store, query = self.server.owner, self.server.owner.store, request.query
        matches = _matcher(request, target)
        version = _number(query.get("resourceVersion", ""))
        with store.changed:
            if version > store.version:
                raise unknown("watches at a future resourceVersion")
            owner.watches.add(self.connection)
            place = len(store.history)
            events = [_event("ADDED", one) for one in store.all(target.kind.plural, target.namespace) if matches(one)]
            if version:
                place = next((index for index, one in enumerate(store.history) if one.version > version), place)
                events = [_expired(version, store)] if version < store.compacted else []
        try:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if not (version and events):
                self._follow(request, target, events, place)
            else:
                self._chunk(events)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
        finally:
            with store.changed:
                owner.watches.discard(self.connection)

    def _follow(self, request: Request, target: _Target, events: list[Object], place: int) -> None:
        owner, store = self.server.owner, self.server.owner.store
        matches, told = _matcher(request, target), 0
        deadline = time.monotonic() + float(request.query.get("timeoutSeconds") or 1800)
        bookmarks = request.query.get("allowWatchBookmarks") in ("1", "true", "True")
        while not owner.ended.is_set():
            self._chunk(events)
            left = deadline - time.monotonic()
            if left <= 0:
                return
            with store.changed:
                version = store.version
                changes, place = store.since(place, target.kind.plural, target.namespace)
                events = list(filter(None, (_seen(change, matches) for change in changes)))
                if not changes:
                    idle = not store.changed.wait(min(owner.bookmark_seconds, left)) and store.version == version
                    if idle and bookmarks and told != version:
                        told = version
                        events = [_bookmark(target.kind, version)]
            if _gone(self.connection):
                return

    def _chunk(self, events: list[Object]) -> None:
        if events:
            data = b"".join(json.dumps(event).encode() + b"\n" for event in events)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))


def _target(request: Request) -> _Target:
    found = re.fullmatch(
        r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+/[^/]+))(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[^/]+)"
        r"(?:/(?P<name>[^/]+))?",
        request.path,
    )
    if found is None or set(request.query) - _KNOWN:
        raise unknown(f"{request.path} with {sorted(set(request.query) - _KNOWN)}")
    kind, namespace, name = KINDS.get(found["plural"]), unquote(found["namespace"] or ""), unquote(found["name"] or "")
    if kind is None or kind.api != (found["core"] or found["group"]) or (namespace and not kind.namespaced):
        raise unknown(request.path)
    if kind.namespaced and not namespace and (name or request.method not in ("GET", "WATCH")):
        raise unknown(request.path)
    return _Target(kind, namespace, name)


def _do(owner: Cluster, request: Request, target: _Target, content_type: str) -> tuple[int, Object]:
    store, plural, dry = owner.store, target.kind.plural, request.dry
    place = (plural, target.namespace, target.name)
    method = request.method + ("" if target.name else " all")
    if method in ("POST all", "PUT", "PATCH") and not isinstance(request.body, dict):
        raise RefusedError(400, "BadRequest", "the body of the request has to be an object")
    if method == "GET all":
        return 200, _list(owner, request, target)
    with store.changed:
        if method == "GET":
            return 200, store.get(*place)
        if method == "POST all":
            return 201, store.create(plural, target.namespace, request.body, dry)
        if method == "PUT":
            return 200, store.replace(*place, request.body, dry)
        if method == "PATCH":
            _check_patch(content_type, request.body)
            return 200, store.patch(*place, request.body, dry)
        if method == "DELETE":
            return 200, _delete(owner, request, target)
    raise unknown(f"{method} of {request.path}")


def _check_patch(content_type: str, patch: Object) -> None:
    if "strategic-merge-patch" in content_type:
        if _has_list(patch) or any(key.startswith("$") for key in _keys(patch)):
            raise unknown("strategic merge of lists")
    elif "application/merge-patch+json" not in content_type:
        raise unknown(f"a patch as {content_type}")


def _delete(owner: Cluster, request: Request, target: _Target) -> Object:
    options = {**(request.body or {})}
    for key in ("propagationPolicy", "gracePeriodSeconds"):
        if key in request.query:
            options[key] = int(request.query[key]) if key == "gracePeriodSeconds" else request.query[key]
    if options.get("propagationPolicy", "Background") not in ("Background", "Foreground"):
        raise unknown(f"deletion that is {options['propagationPolicy']}")
    plural, store = target.kind.plural, owner.store
    deleted = store.delete(plural, target.namespace, target.name, options, request.dry)
    if "deletionTimestamp" in deleted["metadata"] or target.kind.answers_deleted:
        return deleted
    details = {"name": target.name, "kind": plural, "uid": deleted["metadata"]["uid"]}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _list(owner: Cluster, request: Request, target: _Target) -> Object:
    store, matches = owner.store, _matcher(request, target)
    version = _number(request.query.get("resourceVersion", ""))
    with store.changed:
        if not store.changed.wait_for(lambda: store.version >= version or owner.ended.is_set(), owner.future_seconds):
            raise RefusedError(
                504, "Timeout", f"Timeout: Too large resource version: {version}, current: {store.version}", 1
            )
        items = [dict(one) for one in store.all(target.kind.plural, target.namespace) if matches(one)]
        meta = {"resourceVersion": str(store.version)}
    for one in items:
        # what is in a list does not say what it is
        del one["kind"], one["apiVersion"]
    return {"kind": f"{target.kind.name}List", "apiVersion": target.kind.api, "metadata": meta, "items": items}


def _matcher(request: Request, target: _Target) -> Callable[[Object], bool]:
    if target.name:
        raise unknown("watches of one object by its path")
    return matcher(target.kind.name, request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))


def _number(text: str) -> int:
    if text and not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        raise RefusedError(400, "BadRequest", f'resourceVersion: Invalid value: "{text}"')
    return int(text or 0)


def _event(kind: str, one: Object) -> Object:
    return {"type": kind, "object": one}


def _bookmark(kind: Kind, version: int) -> Object:
    meta = {"resourceVersion": str(version), "creationTimestamp": None}
    return _event("BOOKMARK", {"kind": kind.name, "apiVersion": kind.api, "metadata": meta})


def _expired(version: int, store: Store) -> Object:
    told = f"The resourceVersion for the provided watch is too old: {version} ({store.compacted})"
    return _event("ERROR", RefusedError(410, "Expired", told).body)


def _seen(change: Change, matches: Callable[[Object], bool]) -> Object | None:
    """A change as a watch with a selector sees it."""
    old, new = change.old, change.new
    if new is not None and matches(new):
        return _event("MODIFIED" if old is not None and matches(old) else "ADDED", new)
    if old is None or not matches(old):
        return None
    return _event("DELETED", old | {"metadata": old["metadata"] | {"resourceVersion": str(change.version)}})


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield key
            yield from _keys(part)


def _has_list(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, dict) and any(map(_has_list, value.values())))


def _gone(connection: socket.socket) -> bool:
    """Whether the client of a watch closed its connection."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
