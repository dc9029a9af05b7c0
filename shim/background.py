"""The builder beside the server: the first build and every later one, in one thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from builder.config import Config
from builder.errors import NbfolioError
from builder.hints import Stopper

logger = logging.getLogger("shim")

Say = Callable[[str], None]
Work = Callable[[Config, threading.Event, Stopper, Say], None]


class BackgroundBuilder:
    """Builds the site in a thread of its own, then watches the folder; a context manager that stops it."""

    def __init__(self, config: Config, say: Say, work: Work | None = None) -> None:
        self.ready = threading.Event()
        """Set once the first build is done."""
        self._stop = Stopper()
        self._say = say
        self._thread = threading.Thread(
            target=self._run, args=(config, work or build_and_watch), name="builder", daemon=True
        )

    def __enter__(self) -> BackgroundBuilder:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin with the first build; it returns at once."""
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Ask for the end and wait for it; a page that is being written is finished."""
        self._stop.set()
        self._thread.join(timeout)

    def _run(self, config: Config, work: Work) -> None:
        try:
            work(config, self.ready, self._stop, self._say)
        except (NbfolioError, OSError) as error:
            self._give_up(str(error))
        except Exception:
            logger.exception("The builder failed where it should not have.")
            self._give_up("see above.")

    def _give_up(self, why: str) -> None:
        # What is published stays readable; /readyz says that it is not the site of today.
        self.ready.clear()
        logger.error("The site is not kept up to date: %s", why)


class Finished:
    """The builder of a site that is served as it is."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.ready.set()


def build_and_watch(config: Config, ready: threading.Event, stop: Stopper, say: Say) -> None:
    """Build once, set `ready`, and rebuild what changes until `stop`."""
    # Imported here: the server listens before the renderers are there.
    from builder.build import Builder
    from builder.report import PageReport
    from builder.watch import watch

    with Builder(config, method="forkserver") as builder:
        said: list[PageReport] = []

        def rebuild(hints: frozenset[str] | None) -> None:
            report = builder.build(hints)
            builder.save_report(report)
            failed = [page for page in report.pages if page.status == "failed"]
            if not ready.is_set() or report.built or report.removed or failed != said:
                for page in failed:
                    say(f"{page.path}: {page.message}")
                say(str(report))
            said[:] = failed
            ready.set()

        watch(config.source, (config.output, config.state_dir), rebuild, stop, say)
