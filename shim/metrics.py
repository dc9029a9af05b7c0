"""What the server counts, in the text format that Prometheus reads."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from threading import Lock
from typing import Literal, get_args

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from builder import __version__
from shim.instances.backend import Status

Kind = Literal["page", "media", "assets", "api", "kernels", "instances", "login", "operation", "other"]
"""Which part of the server answers; the path itself is never a label, because there is no end of paths."""
Action = Literal["upload", "delete", "clear_cache"]
Start = Literal["ok", "warm", "busy", "failed"]
"""How it went when somebody asked for a kernel: a new one, a warm one, none to be had now, or a gateway's failure."""

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
METRICS = {
    "nbfolio_info": "1, with the version of nbfolio as a label.",
    "nbfolio_http_requests_total": "Answered requests by kind of route, method and class of status.",
    "nbfolio_http_requests_in_progress": "Requests that are being answered now.",
    "nbfolio_http_request_duration_seconds": "Seconds from a request to its answer by kind of route.",
    "nbfolio_publications_total": "Changes through the API that succeeded, by action.",
    "nbfolio_builds_total": "Runs of the builder by outcome: ok, incomplete (a notebook failed) or error.",
    "nbfolio_build_duration_seconds": "Seconds that a run of the builder took.",
    "nbfolio_built_pages_total": "Pages that were rendered anew.",
    "nbfolio_pages": "Pages in the site after the last run of the builder.",
    "nbfolio_failed_notebooks": "Notebooks that could not be rendered in the last run of the builder.",
    "nbfolio_logins_total": "Tries to log in by outcome: ok or failed.",
    "nbfolio_kernels": "Kernels that run, by use: reader, or warm for those that wait for one.",
    "nbfolio_kernels_waiting": "Readers in the line for a kernel.",
    "nbfolio_kernel_sockets": "Open WebSockets to kernels.",
    "nbfolio_kernel_starts_total": "Kernels that were asked for, by outcome: ok, warm, busy (a limit) or failed.",
    "nbfolio_kernel_messages_refused_total": "Messages to kernels that were refused.",
    "nbfolio_instances": "Notebook instances by status.",
}
"""Name and meaning of every metric; on Linux there are the usual process_* metrics beside them."""

REQUEST_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
"""Seconds; a page takes less than one millisecond, an upload waits for its build."""
BUILD_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)

_KINDS = frozenset(get_args(Kind))
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BOUNDS = [*map(floatToGoString, REQUEST_BUCKETS), "+Inf"]


class Metrics:
    """Counts what one application does; several can live in one process. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = _Requests()
        self._registry.register(self._requests)
        ProcessCollector(registry=self._registry)
        self._gauge("nbfolio_info", "version").labels(__version__).set(1)
        self._publications = self._counter("nbfolio_publications_total", "action")
        self._builds = self._counter("nbfolio_builds_total", "outcome")
        self._build_seconds = Histogram(
            *_named("nbfolio_build_duration_seconds"), buckets=BUILD_BUCKETS, registry=self._registry
        )
        self._built_pages = self._counter("nbfolio_built_pages_total")
        self._pages = self._gauge("nbfolio_pages")
        self._failed_notebooks = self._gauge("nbfolio_failed_notebooks")
        self._logins = self._counter("nbfolio_logins_total", "outcome")
        self._kernels = self._gauge("nbfolio_kernels", "use")
        self._kernels_waiting = self._gauge("nbfolio_kernels_waiting")
        self._kernel_sockets = self._gauge("nbfolio_kernel_sockets")
        self._kernel_starts = self._counter("nbfolio_kernel_starts_total", "outcome")
        self._kernel_messages_refused = self._counter("nbfolio_kernel_messages_refused_total")
        self._instances = _Instances()
        self._registry.register(self._instances)
        self._start_at_zero()

    def started(self) -> None:
        """A request came in; `request` has to follow, whatever becomes of it."""
        self._requests.started()

    def request(self, kind: str, method: str, status: int, seconds: float) -> None:
        """A request was answered; kinds and methods that are not known count as other."""
        self._requests.answered(kind, method, status, seconds)

    def published(self, action: Action) -> None:
        """An upload, a deletion or a cleared cache succeeded."""
        self._publications.labels(action).inc()

    def built(self, seconds: float, built: int, failed: int, pages: int) -> None:
        """A run of the builder came to its end: its seconds, what it rendered, what failed, and all pages there are."""
        self._builds.labels("incomplete" if failed else "ok").inc()
        self._build_seconds.observe(seconds)
        self._built_pages.inc(built)
        self._failed_notebooks.set(failed)
        self._pages.set(pages)

    def build_error(self) -> None:
        """A run of the builder ended with an error, and the site is as it was."""
        self._builds.labels("error").inc()

    def login(self, ok: bool) -> None:
        """Somebody tried to log in."""
        self._logins.labels("ok" if ok else "failed").inc()

    def count_kernels(
        self,
        readers: Callable[[], int],
        warm: Callable[[], int],
        waiting: Callable[[], int],
        sockets: Callable[[], int],
    ) -> None:
        """Ask these for their numbers from now on."""
        self._kernels.labels("reader").set_function(readers)
        self._kernels.labels("warm").set_function(warm)
        self._kernels_waiting.set_function(waiting)
        self._kernel_sockets.set_function(sockets)

    def count_instances(self, numbers: Callable[[], Mapping[str, int]]) -> None:
        """Ask this for the number of instances of each status from now on, once for each answer."""
        self._instances.numbers = numbers

    def kernel_start(self, outcome: Start) -> None:
        """Somebody asked for a kernel."""
        self._kernel_starts.labels(outcome).inc()

    def kernel_message_refused(self) -> None:
        """A message to a kernel was refused."""
        self._kernel_messages_refused.inc()

    def text(self) -> bytes:
        """All metrics now; the media type is CONTENT_TYPE."""
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """All metrics without the `_created` series, which say no more than process_start_time_seconds does."""
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric

    def _start_at_zero(self) -> None:
        """Show series before their first event: a rate over one that appears with 1 misses that event."""
        for action in get_args(Action):
            self._publications.labels(action)
        for outcome in ("ok", "incomplete", "error"):
            self._builds.labels(outcome)
        for outcome in ("ok", "failed"):
            self._logins.labels(outcome)
        for start in get_args(Start):
            self._kernel_starts.labels(start)
        for use in ("reader", "warm"):
            self._kernels.labels(use)

    def _counter(self, name: str, *labels: str) -> Counter:
        return Counter(*_named(name), labels, registry=self._registry)

    def _gauge(self, name: str, *labels: str) -> Gauge:
        return Gauge(*_named(name), labels, registry=self._registry)


class _Instances:
    """The number of instances of each status, asked for all at once: to look at each of them takes a while."""

    def __init__(self) -> None:
        self.numbers: Callable[[], Mapping[str, int]] = dict

    def collect(self) -> Iterator[Metric]:
        """What the registry asks for."""
        numbers = self.numbers()
        found = GaugeMetricFamily(*_named("nbfolio_instances"), labels=("status",))
        for status in get_args(Status):
            found.add_metric((status,), numbers.get(status, 0))
        yield found


class _Requests:
    """The metrics of requests under one lock; the library's own, with a lock for each number, take twice as long."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._in_progress = 0
        self._answered: dict[tuple[str, str, int], int] = {}
        self._buckets = {kind: [0] * len(_BOUNDS) for kind in _KINDS}
        self._seconds = dict.fromkeys(_KINDS, 0.0)

    def started(self) -> None:
        with self._lock:
            self._in_progress += 1

    def answered(self, kind: str, method: str, status: int, seconds: float) -> None:
        if kind not in _KINDS:
            kind = "other"
        series = (kind, method if method in _METHODS else "other", status // 100)
        buckets, bucket = self._buckets[kind], bisect_left(REQUEST_BUCKETS, seconds)
        with self._lock:
            self._in_progress -= 1
            self._answered[series] = self._answered.get(series, 0) + 1
            buckets[bucket] += 1
            self._seconds[kind] += seconds

    def collect(self) -> Iterator[Metric]:
        """What the registry asks for."""
        with self._lock:
            in_progress, answered, sums = self._in_progress, dict(self._answered), dict(self._seconds)
            buckets = {kind: list(counts) for kind, counts in self._buckets.items()}
        yield GaugeMetricFamily(*_named("nbfolio_http_requests_in_progress"), value=in_progress)
        total = CounterMetricFamily(*_named("nbfolio_http_requests_total"), labels=("kind", "method", "status"))
        for (kind, method, hundreds), count in answered.items():
            total.add_metric((kind, method, f"{hundreds}xx"), count)
        yield total
        duration = HistogramMetricFamily(*_named("nbfolio_http_request_duration_seconds"), labels=("kind",))
        for kind in get_args(Kind):
            cumulated = [*zip(_BOUNDS, accumulate(buckets[kind]), strict=True)]
            duration.add_metric((kind,), cumulated, sums[kind])
        yield duration


def _named(name: str) -> tuple[str, str]:
    return name, METRICS[name]
