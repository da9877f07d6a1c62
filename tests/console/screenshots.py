"""Pictures of the console for the pages in docs/, from the demo company. `make screenshots`."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import sync_playwright

from api.demo import company, rules
from infra import embedded
from tests.console.conftest import BROWSERS, MISSING, fresh
from tests.console.reader import Reader, window
from tests.databases import make_template

FOLDER = Path(__file__).parents[2] / "docs" / "console"
SECONDS = 120


def main() -> None:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        sys.exit(MISSING)
    FOLDER.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as data,
        embedded.running(Path(data) / "server") as server,
        fresh(make_template(server), Path(data)) as clients,
        sync_playwright() as playwright,
    ):
        told = list(company.messages(until=datetime.now(UTC)))
        clients.send(*told[: rules.KNOWN_AFTER])
        clients.see("/api/accounts")
        rules.define(clients("admin"), [rules.COMPANY])
        for start in range(rules.KNOWN_AFTER, len(told), 1_000):
            clients.send(*told[start : start + 1_000])
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            bars = clients.see("/api/accounts/bars")
            decided = {one["stage"] for one in bars["stages"]} >= {"Customer", "Churned"}
            if decided and clients.see("/api/accounts/filters")["as_of"]:
                break
            time.sleep(1)
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        account = clients.see("/api/accounts")["items"][0]["id"]
        reader = Reader(window(browser, clients.url), clients, "comply")
        for name, path in (
            ("contacts", "/console/accounts"),
            ("account", f"/console/accounts/{account}"),
            ("timeline", f"/console/accounts/{account}/timeline"),
            ("segment", "/console/segments/new?kind=account"),
        ):
            reader.go(path)
            reader.page.screenshot(path=FOLDER / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
