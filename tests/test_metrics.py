"""Metrics: names, labels without end, and numbers that stay right with many threads."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

from builder import __version__
from shim.metrics import CONTENT_TYPE, METRICS, REQUEST_BUCKETS, Metrics

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def series(metrics: Metrics) -> Series:
    """Every sample of the text by its name and labels."""
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """One number of the text."""
    return series(metrics)[name, frozenset(labels.items())]


def requests(metrics: Metrics, **labels: str) -> float:
    """How many requests with these labels were counted."""
    return value(metrics, "nbfolio_http_requests_total", **labels)


def exercised() -> Metrics:
    """Metrics of a server to which everything happened once."""
    metrics = Metrics()
    metrics.started()
    metrics.request("page", "GET", 200, 0.001)
    metrics.built(0.2, built=3, failed=1, pages=7)
    metrics.build_error()
    metrics.published("upload")
    metrics.login(True)
    return metrics


def test_every_metric_is_listed_with_its_meaning_and_nothing_else_is_shown() -> None:
    told = {line.split(" ", 3)[2] for line in exercised().text().decode().splitlines() if line.startswith("# HELP")}
    assert {name for name in told if not name.startswith("process_")} == set(METRICS)
    assert all(meaning.endswith(".") for meaning in METRICS.values())


def test_names_follow_the_conventions_of_prometheus() -> None:
    types = dict(line.split(" ")[2:] for line in exercised().text().decode().splitlines() if line.startswith("# TYPE"))
    for name in METRICS:
        assert name.startswith("nbfolio_")
        assert name.endswith("_total") == (types[name] == "counter"), name
        assert name.endswith("_seconds") == (types[name] == "histogram"), name


def test_the_media_type_is_that_of_the_text() -> None:
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
    assert series(exercised())


def test_a_request_is_counted_by_kind_method_and_class_of_status() -> None:
    metrics = Metrics()
    for kind, method, status in (
        ("page", "GET", 200),
        ("page", "GET", 206),
        ("page", "GET", 404),
        ("api", "POST", 201),
    ):
        metrics.started()
        metrics.request(kind, method, status, 0.003)
    assert requests(metrics, kind="page", method="GET", status="2xx") == 2
    assert requests(metrics, kind="page", method="GET", status="4xx") == 1
    assert requests(metrics, kind="api", method="POST", status="2xx") == 1


def test_what_clients_make_up_never_becomes_a_label() -> None:
    metrics = Metrics()
    for number in range(500):
        metrics.started()
        metrics.request(f"kind{number}", f"METHOD{number}", 404, 0.001)
    assert requests(metrics, kind="other", method="other", status="4xx") == 500
    assert "METHOD1" not in metrics.text().decode()


def test_durations_land_in_the_first_bucket_that_holds_them() -> None:
    metrics = Metrics()
    name = "nbfolio_http_request_duration_seconds"
    for seconds in (REQUEST_BUCKETS[0], 0.003, 1000.0):
        metrics.started()
        metrics.request("page", "GET", 200, seconds)
    counts = [value(metrics, f"{name}_bucket", kind="page", le=str(bound)) for bound in REQUEST_BUCKETS]
    assert counts == [1 if bound < 0.003 else 2 for bound in REQUEST_BUCKETS]
    assert value(metrics, f"{name}_bucket", kind="page", le="+Inf") == 3
    assert value(metrics, f"{name}_count", kind="page") == 3
    assert value(metrics, f"{name}_sum", kind="page") == pytest.approx(1000.0035)


def test_requests_in_progress_go_up_and_down() -> None:
    metrics = Metrics()
    metrics.started()
    metrics.started()
    assert value(metrics, "nbfolio_http_requests_in_progress") == 2
    metrics.request("other", "GET", 500, 0.1)
    assert value(metrics, "nbfolio_http_requests_in_progress") == 1


def test_series_are_there_before_their_first_event() -> None:
    metrics = Metrics()
    for action in ("upload", "delete", "clear_cache"):
        assert value(metrics, "nbfolio_publications_total", action=action) == 0
    for outcome in ("ok", "incomplete", "error"):
        assert value(metrics, "nbfolio_builds_total", outcome=outcome) == 0
    for outcome in ("ok", "failed"):
        assert value(metrics, "nbfolio_logins_total", outcome=outcome) == 0


def test_builds_publications_and_logins_are_told_apart() -> None:
    metrics = Metrics()
    metrics.built(0.2, built=3, failed=0, pages=3)
    metrics.built(0.3, built=2, failed=1, pages=4)
    metrics.build_error()
    metrics.published("delete")
    metrics.login(False)
    assert value(metrics, "nbfolio_builds_total", outcome="ok") == 1
    assert value(metrics, "nbfolio_builds_total", outcome="incomplete") == 1
    assert value(metrics, "nbfolio_builds_total", outcome="error") == 1
    assert value(metrics, "nbfolio_build_duration_seconds_count") == 2
    assert value(metrics, "nbfolio_built_pages_total") == 5
    assert value(metrics, "nbfolio_pages") == 4
    assert value(metrics, "nbfolio_failed_notebooks") == 1
    assert value(metrics, "nbfolio_publications_total", action="delete") == 1
    assert value(metrics, "nbfolio_publications_total", action="upload") == 0
    assert value(metrics, "nbfolio_logins_total", outcome="failed") == 1


def test_two_applications_in_one_process_count_for_themselves() -> None:
    first, second = Metrics(), Metrics()
    first.login(True)
    assert value(first, "nbfolio_logins_total", outcome="ok") == 1
    assert value(second, "nbfolio_logins_total", outcome="ok") == 0


def test_the_version_and_on_linux_the_process_are_shown() -> None:
    metrics = Metrics()
    assert value(metrics, "nbfolio_info", version=__version__) == 1
    if sys.platform == "linux":
        assert value(metrics, "process_resident_memory_bytes") > 0


def test_no_request_is_lost_between_threads() -> None:
    metrics = Metrics()

    def some(_: int) -> None:
        for _ in range(500):
            metrics.started()
            metrics.request("page", "GET", 200, 0.001)

    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(some, range(8)))
    finally:
        sys.setswitchinterval(switching)
    assert requests(metrics, kind="page", method="GET", status="2xx") == 4000
    assert value(metrics, "nbfolio_http_request_duration_seconds_count", kind="page") == 4000
    assert value(metrics, "nbfolio_http_requests_in_progress") == 0
