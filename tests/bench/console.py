"""The console in headless Chromium: how long until Contacts shows something, and what a first visit
transfers."""

from __future__ import annotations

import shutil
import sys
from datetime import UTC
from statistics import median

from playwright.sync_api import Browser, BrowserContext, sync_playwright

from infra.bootstrap.annals import Annals
from projections.models import filters
from tests.bench.figures import Figure, Report
from tests.console.conftest import BROWSERS, MISSING
from tests.console.reader import Reader, window
from tests.serving import Clients, served

CONTACTS = "/console/users"

FIRST_PAINT = """
() => new Promise((told) => new PerformanceObserver((entries) => {
  const paint = entries.getEntriesByName("first-contentful-paint")[0];
  if (paint) told(paint.startTime);
}).observe({type: "paint", buffered: true}))"""


def run(annals: Annals, report: Report, *, rounds: int) -> None:
    """Over the population of `tests.bench.population`, the quick filters counted before. The
    browser, the server and its database share the machine; nothing is in the browser's cache."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        sys.exit(MISSING)
    filters.refresh(annals.views, lambda: UTC)
    with served(annals) as clients, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        visit = Reader(window(browser, clients.url), clients, "read")
        visit.settle()
        report.add(Figure("console.first_visit", round(_bytes(visit) / 1_000, 1), "kB"))
        taken = [_first_paint(browser, clients, visit.context) for _ in range(rounds + 1)][1:]
        visit.context.close()
        browser.close()
    report.add(Figure("console.first_paint", round(median(taken), 1), "ms"))
    report.note(f"console.first_paint: {min(taken):.0f} to {max(taken):.0f} ms")


def _bytes(visit: Reader) -> int:
    """All that came over the wire from the first page to the list, heads included."""
    sizes = [one.request.sizes() for one in visit.answers]
    return sum(one["responseBodySize"] + one["responseHeadersSize"] for one in sizes)


def _first_paint(browser: Browser, clients: Clients, signed_in: BrowserContext) -> float:
    """In ms from the beginning of the navigation, by somebody who is signed in."""
    context = browser.new_context(base_url=clients.url, storage_state=signed_in.storage_state())
    page = context.new_page()
    page.goto(CONTACTS)
    painted: float = page.evaluate(FIRST_PAINT)
    page.locator("#results tbody th").first.wait_for()
    page.wait_for_load_state("networkidle")
    context.close()
    return painted
