"""What is known of a cluster without asking: lists that watches keep current, one thread for each kind of object."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import uniform
from typing import TYPE_CHECKING, Any

from shim.instances.cluster.answers import BusyError, ExpiredError, nonsense, refusal
from shim.instances.cluster.evidence import Object, part, text
from shim.instances.errors import InstanceError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from shim.instances.cluster.api import Api, Kind

logger = logging.getLogger("shim.instances")

WATCH_SECONDS = 30.0
"""How long one watch lasts; the next one goes on where it ended."""
RELIST_SECONDS = 240.0
"""How long changes are believed to be all: then everything is listed anew."""
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 30.0
BRIEF = 1.0
"""Seconds; a watch that ends sooner was dropped, and the next one waits a little."""
STOP_SECONDS = 3.0
LONGEST_LINE = 8 << 20


class Store:
    """The objects of one kind by their names. Every method may be called from any thread.

    Answers to this server's own requests are put in, too, so that it sees at once what it did; what a watch or a list
    then says of before that is older and does not count.
    """

    def __init__(self, group: Callable[[Object], str] = lambda one: "") -> None:
        """`group` is what else objects are found by."""
        self._group = group
        self._lock = threading.Lock()
        self._objects: dict[str, Object] = {}
        self._groups: dict[str, dict[str, Object]] = defaultdict(dict)
        self._own: set[str] = set()
        self._gone: set[str] = set()

    def get(self, name: str) -> Object | None:
        """The object of a name."""
        with self._lock:
            return self._objects.get(name)

    def all(self) -> list[Object]:
        """All objects."""
        with self._lock:
            return list(self._objects.values())

    def grouped(self, group: str) -> tuple[Object, ...]:
        """The objects of a group."""
        with self._lock:
            return tuple(self._groups.get(group, {}).values())

    def put(self, one: Object, *, own: bool = False) -> None:
        """Take an object in, or how it is now; `own`: as the server answered, not as a watch told."""
        with self._lock:
            name, uid = _name(one), _uid(one)
            held = self._objects.get(name)
            if uid in self._gone or (held is not None and _version(one) < _version(held)):
                return
            (self._own.add if own else self._own.discard)(uid)
            self._set(name, one)

    def drop(self, one: Object) -> None:
        """Forget an object that is gone, but none that has its name since."""
        with self._lock:
            name, uid = _name(one), _uid(one)
            # Changes from before its end may still be on their way: of a watch, or in answers.
            self._gone.add(uid)
            self._own.discard(uid)
            if _uid(self._objects.get(name)) == uid:
                self._set(name, None)

    def replace(self, items: list[Object], version: int) -> None:
        """Know just what a list says; and what this server made while that was written."""
        with self._lock:
            listed = {_name(one): one for one in items if _uid(one) not in self._gone}
            newer = [one for one in self._objects.values() if _uid(one) in self._own and _version(one) > version]
            listed |= {_name(one): one for one in newer}
            self._gone &= {_uid(one) for one in items}
            self._own.clear()
            self._objects.clear()
            self._groups.clear()
            for name, one in listed.items():
                self._set(name, one)

    def _set(self, name: str, one: Object | None) -> None:
        held = self._objects.pop(name, None)
        if held is not None:
            group = self._group(held)
            self._groups[group].pop(name, None)
            if not self._groups[group]:
                del self._groups[group]
        if one is not None:
            # Who wrote which field is half of an object.
            part(one, "metadata").pop("managedFields", None)
            self._objects[name] = one
            self._groups[self._group(one)][name] = one


class Health:
    """Says when the cluster cannot be watched, and when it can again; once for all watchers."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._troubles: dict[str, str] = {}

    def tell(self, who: str, trouble: str) -> None:
        """What is wrong with one of them; "" for nothing."""
        with self._lock:
            before = set(self._troubles.values())
            self._troubles.pop(who, None)
            if trouble:
                self._troubles[who] = trouble
                if trouble not in before:
                    self._say(f"The state of instances is not known: {trouble}")
            elif before and not self._troubles:
                self._say("The state of instances is known again.")


class Watcher:
    """The thread that keeps one store current; `start` and `stop` are called once each."""

    def __init__(
        self, api: Api, kind: Kind, selector: str, store: Store, health: Health, keep: Callable[[Object], bool]
    ) -> None:
        self.known = threading.Event()
        """Set once there was a list, or no hope of one soon."""
        self.listed = False
        """Whether there was a list: before that the store says nothing."""
        self._api, self.kind, self._selector = api, kind, selector
        self._store, self._health, self._keep = store, health, keep
        self._version = ""
        self._relist_at = 0.0
        self._pause = FIRST_PAUSE
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._response: BaseHTTPResponse | None = None
        self._thread = threading.Thread(target=self._run, name=f"cluster-{kind.plural}", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Let it end, without waiting for that."""
        self._stopping.set()
        with self._lock:
            if self._response is not None:
                # It waits for the next change; that there is none it is told by the end of the stream.
                with suppress(ValueError, RuntimeError, OSError):
                    self._response.shutdown()

    def join(self, seconds: float) -> None:
        """Wait until it has ended."""
        if self._thread.ident is not None:
            self._thread.join(max(seconds, 0.0))

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            wait = 0.0
            try:
                self._follow()
            except ExpiredError:
                self._version = ""
            except InstanceError as error:
                wait = error.seconds if isinstance(error, BusyError) else 0.0
                self._health.tell(self.kind.plural, str(error))
            except Exception:
                logger.exception("Something went wrong while the cluster was watched.")
                self._version = ""
            self.known.set()
            if time.monotonic() - began >= BRIEF and not wait:
                self._pause = FIRST_PAUSE
            elif not self._stopping.is_set():
                self._stopping.wait(max(wait, self._pause * uniform(0.5, 1.0)))
                self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _follow(self) -> None:
        """List when that is due, then watch for a while."""
        if not self._version or time.monotonic() > self._relist_at:
            found = self._api.list(self.kind, self._selector)
            version = text(found["metadata"], "resourceVersion")
            items = [one for one in found["items"] if isinstance(one, dict) and self._keep(one)]
            self._store.replace(items, _number(version))
            self.listed = True
            self._version = version
            self._relist_at = time.monotonic() + RELIST_SECONDS * uniform(0.8, 1.2)
        with self._api.watch(self.kind, self._selector, self._version, WATCH_SECONDS) as response:
            self._health.tell(self.kind.plural, "")
            self.known.set()
            self._hold(response)
            try:
                for line in _lines(response):
                    self._take(line)
            finally:
                self._hold(None)

    def _hold(self, response: BaseHTTPResponse | None) -> None:
        with self._lock:
            self._response = response
        if response is not None and self._stopping.is_set():
            self.stop()

    def _take(self, line: bytes) -> None:
        """Do as one line of a watch says."""
        try:
            event: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise nonsense() from error
        kind, one = text(event, "type"), part(event, "object")
        if kind == "ERROR":
            code = one.get("code")
            raise refusal(code if isinstance(code, int) else 500, one, "watch", self.kind.plural, {})
        self._version = text(part(one, "metadata"), "resourceVersion") or self._version
        if kind == "DELETED":
            self._store.drop(one)
        elif kind in ("ADDED", "MODIFIED") and self._keep(one):
            self._store.put(one)


def stop_all(watchers: list[Watcher]) -> None:
    """End all, in bounded time."""
    for one in watchers:
        one.stop()
    deadline = time.monotonic() + STOP_SECONDS
    for one in watchers:
        one.join(deadline - time.monotonic())


def _lines(response: BaseHTTPResponse) -> Iterator[bytes]:
    """The lines of a stream as they come; it may end at any time."""
    from urllib3.exceptions import HTTPError

    buffer = b""
    while True:
        try:
            data = response.read1(1 << 16)
        except (HTTPError, OSError, ValueError, AttributeError):
            # A connection that breaks; the next watch goes on from the last whole line.
            return
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        if len(buffer) > LONGEST_LINE:
            raise nonsense()
        yield from filter(bytes.strip, lines)


def _name(one: object) -> str:
    return text(part(one, "metadata"), "name")


def _uid(one: object) -> str:
    return text(part(one, "metadata"), "uid")


def _version(one: object) -> int:
    return _number(text(part(one, "metadata"), "resourceVersion"))


def _number(version: str) -> int:
    return int(version) if version.isascii() and version.isdigit() and len(version) < 20 else 0
