"""What is counted of metadata stands in the console, with who needs it."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from tests.console.reader import Reader
from tests.serving import Clients, until

Reading = Callable[..., Reader]


def test_counters_are_listed_with_their_definitions_and_the_bound(
    client: Clients, reading: Reading
) -> None:
    sent = {"type": "track", "userId": "ann", "event": "paid", "properties": {"sum": 50}}
    client.send(sent)
    client.see("/api/users")
    where = [{"name": "sum", "test": {"op": "at_least", "value": 40}}]
    condition = {"type": "activity", "activity": "event", "name": "paid", "where": where}
    segment = {"kind": "user", "name": "Rich", "condition": condition}
    until(lambda: client("admin").post("/api/segments", json=segment).status_code == 200)
    page = reading(client, "read", path="/console/settings").page
    page.get_by_role("link", name="Counters").click()
    expect(page.get_by_text("1 counter of 500")).to_be_visible()
    row = page.get_by_role("row", name="event paid with sum is at least 40 occurred")
    expect(row).to_contain_text("ready")
    expect(row.get_by_role("link", name="Rich")).to_be_visible()
