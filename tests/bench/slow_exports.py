"""Lists while others read exports slowly: the 99th percentile of a page, against without."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import httpx

from domain.access import ApiScope
from infra.bootstrap.annals import Annals
from tests.bench.figures import Figure, Report
from tests.serving import NO_CERTIFICATES, served

CLIENTS = 20
BYTES_A_SECOND = 1_000
PAGES = 300


def run(annals: Annals, report: Report) -> None:
    """Over the population of `tests.bench.population`; each client has an API key of its own."""
    with served(annals) as clients, ExitStack() as stack:
        read = clients("read")
        _percentile(read)
        without = _percentile(read)
        statuses: list[int] = []
        stop, begun = threading.Event(), threading.Barrier(CLIENTS + 1)
        for n in range(CLIENTS):
            _, key = annals.api_keys.make(ApiScope.READ, name=f"slow {n}")
            thread = threading.Thread(
                target=_read_slowly, args=(clients.url, key, statuses, stop, begun), daemon=True
            )
            thread.start()
            stack.callback(thread.join, 30)
        stack.callback(stop.set)
        begun.wait()
        beside = _percentile(read)
    report.add(Figure("export.slow", round(beside, 1), "ms", "without", round(beside / without, 2)))
    report.note(
        f"export.slow: p99 {beside:.1f} ms beside {statuses.count(200)} exports of {CLIENTS} asked"
        f" for ({statuses.count(429)} were told 429), {without:.1f} without"
    )


def _read_slowly(
    url: str, key: str, statuses: list[int], stop: threading.Event, begun: threading.Barrier
) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    with (
        httpx.Client(base_url=url, headers=headers, timeout=60, verify=NO_CERTIFICATES) as client,
        client.stream("GET", "/api/users/export") as answer,
    ):
        statuses.append(answer.status_code)
        begun.wait()
        pieces = answer.iter_raw(BYTES_A_SECOND // 4)
        while answer.status_code == 200 and not stop.wait(0.25):
            try:
                next(pieces, None)
            except httpx.HTTPError:
                return


def _percentile(client: httpx.Client) -> float:
    """Milliseconds of a page of the list, 99th percentile."""
    taken = []
    for _ in range(PAGES):
        started = time.perf_counter()
        client.get("/api/users").raise_for_status()
        taken.append(1_000 * (time.perf_counter() - started))
    return sorted(taken)[round(0.99 * PAGES) - 1]
