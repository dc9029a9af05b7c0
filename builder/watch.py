"""Keep a built site in step with its folder: `watch` calls back whenever something may have changed.

The scan of the folder is the truth. Events only shorten it, and where they cannot be had it runs every few seconds.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from builder.errors import NbfolioError
from builder.hints import Hints, Stopper
from builder.paths import escaped
from builder.scanning import ignored

if TYPE_CHECKING:
    from builder.inotify import FolderTree

POLL = 2.0
"""Seconds between looks when the system cannot report changes."""
ABSENT = 1.0
"""Seconds between looks for a root that has gone."""
RETRY_MAX = 30.0
"""The longest pause between two tries of a rebuild that fails."""
CURES = {
    errno.ENOSPC: " To have them reported raise fs.inotify.max_user_watches (sysctl) and start again.",
    errno.EMFILE: " To have them reported raise fs.inotify.max_user_instances (sysctl) or the limit of open files"
    " (ulimit -n) and start again.",
}
"""What the user can do about a limit of the system."""


class Rebuild(Protocol):
    """What `watch` calls; it raises NbfolioError or OSError when it could not do it now and should be asked again."""

    def __call__(self, hints: frozenset[str] | None) -> None:
        """Rebuild what `hints` touch: POSIX paths of files and folders below the root; None: look at everything."""


def watch(
    root: Path,
    excluded: Collection[Path],
    rebuild: Rebuild,
    stop: Stopper,
    say: Callable[[str], None],
    *,
    poll: float | None = None,
    settle: float = 0.04,
    health: float = 10.0,
    full: float = 60.0,
    retry: float = 1.0,
) -> None:
    """Call `rebuild` in this thread when something below `root` changed, until `stop` is set.

    The first call comes at once and asks for a look at everything, so nothing is missed between a build and the watch.
    While the root is missing `rebuild` is not called. `excluded` are paths whose content is no source (output, state).
    `poll`: no events, a look at everything every so many seconds. `settle`: seconds without events that end a burst.
    `health`, `full`: seconds between checks of the watch itself, and between looks at everything. `retry`: the first
    pause after a failed rebuild; it doubles up to half a minute. `say` gets one line about each trouble.
    Exceptions of `rebuild` other than NbfolioError and OSError are passed on.
    """
    watcher = _Watcher(root, excluded, rebuild, stop, say, poll, settle, health, full, retry)
    try:
        watcher.run()
    finally:
        watcher.detach()


class _Watcher:
    """The state of one `watch`; only `alarm` is called by another thread."""

    def __init__(
        self,
        root: Path,
        excluded: Collection[Path],
        rebuild: Rebuild,
        stop: Stopper,
        say: Callable[[str], None],
        poll: float | None,
        settle: float,
        health: float,
        full: float,
        retry: float,
    ) -> None:
        self.name = escaped(str(root))
        self.root = os.path.abspath(root)
        self.excluded = [os.path.abspath(path) for path in excluded]
        self.rebuild = rebuild
        self.stop = stop
        self.say = say
        self.poll = poll
        self.health = health
        self.full = full
        self.retry = retry
        self.hints = Hints(stop.wake, settle)
        self.tree: FolderTree | None = None
        """None: no events, because of `poll`, a limit of the system or a missing root."""
        self.identity: tuple[int, int] | None = None
        self.missing = False
        self.alarmed = True
        self.next_check = 0.0
        self.next_full = 0.0
        self.failures = 0
        self.failed_at = 0.0
        self.trouble = ""

    def run(self) -> None:
        """Check, rebuild what is due, sleep until something happens or is due."""
        while not self.stop.is_set():
            if self.alarmed or time.monotonic() >= self.next_check:
                self.check()
            due = self.due()
            if due <= time.monotonic():
                if self.is_in_place():
                    self.build()
            else:
                self.stop.wait(min(due, self.next_check) - time.monotonic())

    def due(self) -> float:
        """When to rebuild next."""
        if self.missing:
            return math.inf
        news = self.hints.due()
        if not self.failures:
            return self.next_full if news is None else min(news, self.next_full)
        # Something new may be the cure, but a full disk must not be tried at every event.
        again = self.failed_at + min(self.retry * 2.0 ** min(self.failures - 1, 10), RETRY_MAX)
        return again if news is None else min(again, max(news, self.failed_at + self.retry))

    def build(self) -> None:
        """Rebuild once; after a failure the next try looks at everything."""
        everything = self.failures > 0 or time.monotonic() >= self.next_full
        hints = self.hints.take()
        if everything:
            hints = None
        try:
            self.rebuild(hints)
        except (NbfolioError, OSError) as error:
            self.fail(error)
            return
        self.failures, self.trouble = 0, ""
        if hints is None:
            self.next_full = time.monotonic() + (self.full if self.tree else self.poll or POLL)

    def fail(self, error: Exception) -> None:
        """Note a failed rebuild, and say why unless that was said already."""
        self.failures += 1
        self.failed_at = time.monotonic()
        message = _sentence(error)
        if self.is_in_place() and message != self.trouble:
            self.say(f"The site is not up to date: {message} Trying again until it works.")
            self.trouble = message

    def check(self) -> None:
        """Make sure that what is watched is what now lies under the root's name, and that events come."""
        self.alarmed = False
        found = _identity(self.root)
        if found is None:
            self.lose()
        elif self.missing or found != self.identity:
            self.find(found)
        elif self.tree and not self.tree.is_reading():
            self.say(f"The watch of {self.name} had stopped; it was started again.")
            self.attach(found)
        elif self.tree and not self.tree.has_root():  # removed and made anew with the same inode
            self.find(found)
        elif self.tree and self.tree.error:
            self.fall_back(self.tree.error)
        elif self.tree and self.tree.overflowed:
            self.tree.overflowed = False
            self.next_full = 0.0
            self.say(f"More changed in {self.name} at once than the system reports; looking at everything.")
        self.next_check = time.monotonic() + (min(self.health, ABSENT) if self.missing else self.health)

    def alarm(self) -> None:
        """Ask for a check at once."""
        self.alarmed = True
        self.stop.wake()

    def is_in_place(self) -> bool:
        """Whether the root is still the folder that is watched; if not, a check comes next."""
        if _identity(self.root) == self.identity:
            return True
        self.alarmed = True
        return False

    def lose(self) -> None:
        """The root has gone: hold still, so that nothing is unpublished."""
        if not self.missing:
            self.say(f"The folder {self.name} is not there; its pages stay as they are until it is.")
        self.detach()
        self.missing = True

    def find(self, found: tuple[int, int]) -> None:
        """There is a root that is not watched yet, or not any more."""
        if self.missing and self.identity in (None, found):
            self.say(f"The folder {self.name} is there again.")
        elif self.identity is not None:
            self.say(f"The folder {self.name} was replaced; watching the new one.")
        self.missing, self.identity = False, found
        self.attach(found)

    def attach(self, found: tuple[int, int]) -> None:
        """Begin to watch the root anew, with a look at everything."""
        self.detach()
        self.next_full = 0.0
        if self.poll is not None:
            return
        try:
            self.tree = self.open_tree()
        except OSError as error:
            if _identity(self.root) == found:
                self.fall_back(error)
            else:
                self.alarmed = True

    def open_tree(self) -> FolderTree:
        """Ask the kernel for events; OSError when it has none for us."""
        if sys.platform != "linux":
            raise OSError(errno.ENOSYS, "this system does not tell")
        from builder.inotify import FolderTree  # not before it is needed: the import takes as long as a quick build

        real = os.path.realpath(self.root)
        inside = {_below(self.root, path) for path in self.excluded}
        inside |= {_below(real, os.path.realpath(path)) for path in self.excluded}
        return FolderTree(real, lambda path: path in inside or ignored(path.rpartition("/")[2]), self.hints, self.alarm)

    def fall_back(self, error: OSError) -> None:
        """Do without events from now on."""
        self.detach()
        self.next_full = 0.0
        self.say(
            f"Changes in {self.name} are not reported ({escaped(error.strerror or str(error))}), so it is looked at"
            f" every {POLL:g} seconds.{CURES.get(error.errno or 0, '')}"
        )

    def detach(self) -> None:
        """Stop the events; no thread is left."""
        if self.tree:
            self.tree.close()
            self.tree = None


def _identity(root: str) -> tuple[int, int] | None:
    try:
        found = os.stat(root)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None


def _below(root: str, path: str) -> str:
    """`path` relative to `root`; one that is not inside begins with `..` and so never meets an event's path."""
    return os.path.relpath(path, root)


def _sentence(error: Exception) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return escaped(text).rstrip(".") + "."
