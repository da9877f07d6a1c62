"""Pictures of the console for the pages in docs/, from the demo company. `make screenshots`."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from api.demo import company
from infra import embedded
from tests.console.conftest import BROWSERS, MISSING, fresh
from tests.console.reader import Reader
from tests.serving import Clients

FOLDER = Path(__file__).parents[2] / "docs" / "console"
SECONDS = 120


def define(clients: Clients, definition: dict[str, Any]) -> None:
    admin = clients("admin")
    made = clients.taken(admin.post("/api/definitions", json=definition))
    clients.taken(admin.post(f"/api/definitions/{made['id']}/activate"))


def plan(value: str) -> dict[str, Any]:
    return {"type": "property", "name": "plan", "test": {"op": "is", "value": value}}


def did(name: str, times: int, days: int) -> dict[str, Any]:
    count, period = {"op": "at_least", "times": times}, {"type": "last_days", "days": days}
    event = {"type": "activity", "activity": "event", "name": name}
    return event | {"count": count, "period": period}


def definitions(clients: Clients) -> None:
    paying = {"type": "property", "name": "plan", "test": {"op": "is_set"}}
    stages = [
        {"name": "Churned", "type": "churned", "condition": plan("cancelled")},
        {"name": "Trial", "type": "trial", "condition": plan("trial")},
        {"name": "Free", "type": "free", "condition": plan("free")},
        {"name": "Customer", "type": "paying", "condition": paying},
    ]
    of = {"kind": "account"}
    define(clients, {"type": "stages", "name": "Life", "stages": stages} | of)
    health = {
        "good": did("invoice sent", 3, 30),
        "bad": {"type": "not", "of": did("signed in", 1, 30)},
    }
    profile = {"type": "health_profile", "name": "Customers", "stages": ["Customer"]}
    define(clients, profile | health | of)
    rules = [
        {"name": "Sends invoices", "weight": 3, "condition": did("invoice sent", 1, 90)},
        {
            "name": "Connected an app",
            "weight": 2,
            "condition": did("integration connected", 1, 365),
        },
    ]
    define(clients, {"type": "score", "name": "Activation", "rules": rules} | of)
    signal = {"type": "signal", "name": "Upsell", "condition": did("usage limit reached", 1, 60)}
    define(clients, signal | of)


def main() -> None:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        sys.exit(MISSING)
    FOLDER.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as data,
        embedded.running(Path(data) / "server") as server,
        fresh(server, Path(data)) as clients,
        sync_playwright() as playwright,
    ):
        told = list(company.messages(until=datetime.now(UTC)))
        for start in range(0, len(told), 1_000):
            clients.send(*told[start : start + 1_000])
        clients.see("/api/accounts")
        definitions(clients)
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            bars = clients.see("/api/accounts/bars")
            decided = {one["stage"] for one in bars["stages"]} >= {"Customer", "Churned"}
            if decided and clients.see("/api/accounts/filters")["as_of"]:
                break
            time.sleep(1)
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        account = clients.see("/api/accounts")["items"][0]["id"]
        reader = Reader(browser, clients, "comply")
        for name, path in (
            ("contacts", "/console/accounts"),
            ("account", f"/console/accounts/{account}"),
            ("timeline", f"/console/accounts/{account}/timeline"),
            ("segment", "/console/segments/new?kind=account"),
        ):
            reader.go(path)
            reader.page.screenshot(path=FOLDER / f"{name}.png")
        reader.close()
        browser.close()


if __name__ == "__main__":
    main()
