"""How quickly many notebook instances are listed and looked at, and how little a cluster hears of it.

    python tests/benchmarks/instances.py [--count N] [--seconds S] [--connections N]

A run-shim of this process has its instances in the stand-in of a cluster that the tests use, over real connections. It
is asked first by one client and then by several, for all instances and for one. For each part the program tells how
many answers there were, how long they took, and what the API server was asked meanwhile: that must depend on time
alone. The numbers of the watch (lists and watches) are told apart from all others.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster import Cluster, cluster
from dashboards import Shim, running

NOTEBOOK = "/api/v1/notebook"


def create(shim: Shim, count: int) -> list[str]:
    """Create instances, and wait until all of them run; their ids."""
    ids = []
    for number in range(count):
        wanted = {
            "meta": {"name": f"instance-{number}", "ownerId": f"owner-{number % 20}"},
            "environment": {"name": "notebook-env"},
            "spec": {"resources": "cpu=1,memory=1Gi"},
        }
        answer = shim(NOTEBOOK, "POST", json.dumps(wanted).encode(), content_type="application/json")
        ids.append(answer.json()["result"]["notebookId"])
    while any(one["status"] != "running" for one in shim(NOTEBOOK).json()["result"]):
        time.sleep(0.2)
    return ids


def ask(port: int, targets: Sequence[str], until: float, took: list[float]) -> None:
    """Ask for one after the other until the time is over."""
    connection = HTTPConnection("127.0.0.1", port)
    number = 0
    while time.perf_counter() < until:
        began = time.perf_counter()
        connection.request("GET", targets[number % len(targets)], headers={"Host": "localhost"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        took.append(time.perf_counter() - began)
        number += 1
    connection.close()


def measure(name: str, shim: Shim, api: Cluster, targets: Sequence[str], seconds: float, connections: int) -> None:
    """Ask for a while and tell how it went."""
    before, took = len(api.requests), [list[float]() for _ in range(connections)]
    until = time.perf_counter() + seconds
    threads = [threading.Thread(target=ask, args=(shim.server.port, targets, until, one)) for one in took]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = sorted(second for one in took for second in one)
    heard = api.requests[before:]
    # A list of everything of a kind, and a watch, are what the cache is kept up to date with.
    of_watch = [one for one in heard if one.method == "WATCH" or (one.method == "GET" and "labelSelector" in one.query)]
    print(
        f"{name:24} {connections:2} connections: {len(times):6} answers, median {1000 * statistics.median(times):6.2f} ms, "
        f"99 % within {1000 * times[int(len(times) * 0.99)]:6.1f} ms; "
        f"API server: {len(heard) - len(of_watch)} requests, {len(of_watch)} of the watch",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, cluster() as api:
        place = Path(folder)
        with running(
            place,
            instances__backend="kubernetes",
            instances__kubeconfig=str(api.kubeconfig(place)),
            instances__public_url="https://{instance}.nb.example.org",
            instances__max_per_owner=options.count,
            instances__max_total=options.count,
        ) as shim:
            began = time.perf_counter()
            ids = create(shim, options.count)
            print(f"{options.count} instances created and running in {time.perf_counter() - began:.1f} s", flush=True)
            parts = {"nobody asks": [], "all": [NOTEBOOK], "of one owner": [f"{NOTEBOOK}?id=owner-3"]}
            parts["one"] = [f"{NOTEBOOK}/{notebook_id}" for notebook_id in ids]
            for name, targets in parts.items():
                if not targets:
                    before = len(api.requests)
                    time.sleep(options.seconds)
                    print(f"{name:24} API server: {len(api.requests) - before} requests", flush=True)
                    continue
                for connections in (1, options.connections):
                    measure(name, shim, api, targets, options.seconds, connections)


if __name__ == "__main__":
    main()
