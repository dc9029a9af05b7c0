"""Changes below a folder as the Linux kernel reports them.

watchdog reads the kernel's queue (`InotifyFD`); which folders are watched, and under which path, is kept here.
watchdog's own recursive emitter (7.1) is not used: it delays all events by half a second when something is moved out
of the tree, its thread ends with a KeyError after some moves of folders, it does not tell that events were lost, and
it passes over sub-folders in silence when the limit of watches is reached.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import threading
from collections.abc import Callable

from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyEvent, InotifyFD, Mask, WatchDescriptor

from builder.hints import Hints

# Neither OPEN nor CLOSE_NOWRITE: reading a notebook must not look like a change. ATTRIB counts for folders alone, a
# hard link to a source changes the attributes of the file.
MASK = Mask(
    InotifyConstants.IN_CREATE
    | InotifyConstants.IN_MODIFY
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_MOVE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_ATTRIB
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_DONT_FOLLOW
    | InotifyConstants.IN_EXCL_UNLINK
)
ROOT_MASK = Mask(MASK | InotifyConstants.IN_MOVE_SELF)
EXHAUSTED = {errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM}

logging.getLogger("watchdog").addHandler(logging.NullHandler())  # what it warns of is said by `watch`


class FolderTree:
    """Watches a folder and all folders below it that are not ignored, and adds to `hints` what happens there.

    Raises OSError when it cannot watch the whole tree. It implements watchdog's `WatchCallback`.
    """

    def __init__(self, root: str, ignored: Callable[[str], bool], hints: Hints, alarm: Callable[[], None]) -> None:
        self._root = root
        self._ignored = ignored
        self._hints = hints
        self._alarm = alarm
        self._lock = threading.Lock()
        self._ids = itertools.count()
        self._folders: dict[WatchDescriptor, tuple[str, CallbackId]] = {}
        self.error: OSError | None = None
        """Why part of the tree cannot be watched; set before `alarm` is called."""
        self.overflowed = False
        """Whether events were lost; set before `alarm` is called, reset by who makes the loss good."""
        self._reader = InotifyFD()
        self._reader.start()
        try:
            with self._lock:
                self._watch_tree("")
        except OSError:
            self.close()
            raise

    def is_reading(self) -> bool:
        """Whether the thread that reads the events is alive."""
        return self._reader.is_alive()

    def has_root(self) -> bool:
        """Whether the kernel still watches the root: not when the folder was removed or unmounted."""
        with self._lock:
            return self._is_watched("")

    def close(self) -> None:
        """Stop watching; no thread is left afterwards."""
        self._alarm = lambda: None
        self._reader.stop()
        self._reader.join()

    def on_event(self, event: InotifyEvent) -> None:
        """Turn one event of the kernel into a hint (called by the reading thread)."""
        with self._lock:
            known = self._folders.get(event.wd)
            if known is None:
                return
            folder = known[0]
            if not event.name:
                if event.is_move_self:
                    self._alarm()
                return
            path = _join(folder, os.fsdecode(event.name))
            if self._ignored(path):
                return
            if event.is_directory:
                self._on_folder(event, path)
            elif event.is_close_write or event.is_moved_to:
                self._hints.add(path, "written")
            elif event.is_create or event.is_modify:
                self._hints.add(path, "writing")
            elif event.is_delete or event.is_moved_from:
                self._hints.add(path, "other")

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Forget a folder that has gone or was unmounted (called by watchdog)."""
        with self._lock:
            path, _ = self._folders.pop(wd, (None, None))
        if path == "":
            self._alarm()

    def on_queue_overflow(self) -> None:
        """Begin anew after the kernel dropped events: new folders and moves may be among them (called by watchdog)."""
        with self._lock:
            self._unwatch("")
            self._watch_more("")
            self.overflowed = True
        self._alarm()

    def _on_folder(self, event: InotifyEvent, path: str) -> None:
        if event.is_moved_from:
            self._unwatch(path)
        elif event.is_create or event.is_moved_to or (event.is_attrib and not self._is_watched(path)):
            # Watched before the hint is given: what is written from now on is reported, the rest is found by the scan.
            self._watch_more(path)
        self._hints.add(path, "other")

    def _watch_more(self, top: str) -> None:
        try:
            self._watch_tree(top)
        except OSError as error:
            if error.errno in EXHAUSTED:
                self.error = error
                self._alarm()

    def _watch_tree(self, top: str) -> None:
        folders = [top]
        while folders:
            folder = folders.pop()
            try:
                self._watch_folder(folder)
                with os.scandir(self._absolute(folder)) as entries:
                    inside = [_join(folder, entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError as error:
                if folder == "" or error.errno in EXHAUSTED:
                    raise
                continue  # gone again, or not readable: the scan says so
            folders += [path for path in inside if not self._ignored(path)]

    def _watch_folder(self, folder: str) -> None:
        number = CallbackId(next(self._ids))
        wd = self._reader.add_callback(os.fsencode(self._absolute(folder)), MASK if folder else ROOT_MASK, self, number)
        if wd == -1:  # watchdog's answer for "permission denied"
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
        before = self._folders.get(wd)
        self._folders[wd] = (folder, number)
        if before:  # met twice: by the walk, and by the event of its creation
            self._reader.remove_callbacks([(wd, before[1])])

    def _is_watched(self, folder: str) -> bool:
        return any(path == folder for path, _ in self._folders.values())

    def _unwatch(self, top: str) -> None:
        inside = f"{top}/" if top else ""
        gone = [(wd, number) for wd, (path, number) in self._folders.items() if path == top or path.startswith(inside)]
        for wd, _ in gone:
            del self._folders[wd]
        self._reader.remove_callbacks(gone)

    def _absolute(self, path: str) -> str:
        return _join(self._root, path) if path else self._root


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
