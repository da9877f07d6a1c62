"""API keys in Settings: made, copied, revoked; the last of scope admin only on second thoughts."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import expect

from tests.console.reader import Reader
from tests.serving import Clients

Reading = Callable[..., Reader]


def test_a_key_is_made_shown_once_and_revoked(client: Clients, reading: Reading) -> None:
    reader = reading(
        client,
        "admin",
        path="/console/settings",
        permissions=["clipboard-read", "clipboard-write"],
    )
    page = reader.page
    page.get_by_role("link", name="API keys").click()
    page.get_by_label("What it is for").fill("A dashboard")
    page.get_by_label("Scope").select_option("audit")
    page.get_by_role("button", name="Make a key").click()
    shown = page.locator("#made")
    expect(shown).to_have_text(re.compile("annals_audit_.{40}"))
    key = shown.inner_text()
    page.get_by_role("button", name="Copy the key").click()
    assert page.evaluate("navigator.clipboard.readText()") == key
    assert reader.violations() == []
    found = client.annals.api_keys.find(key)
    assert found is not None
    reader.go("/console/settings/keys")
    expect(page.get_by_text(key)).to_have_count(0)
    row = page.get_by_role("row").filter(has_text="A dashboard")
    row.get_by_label("Revoke A dashboard", exact=True).click()
    row.get_by_role("button", name="Revoke A dashboard for good").click()
    expect(page.get_by_role("row").filter(has_text="A dashboard")).to_contain_text("revoked")
    assert client.annals.api_keys.find(key) is None


def test_before_the_last_admin_key_goes_its_owner_is_told(
    client: Clients, reading: Reading
) -> None:
    reader = reading(client, "admin", path="/console/settings/keys")
    reader.refused = {409}
    page = reader.page
    row = page.get_by_role("row").filter(has=page.get_by_role("cell", name="admin", exact=True))
    row.locator("summary").click()
    row.get_by_role("button").click()
    expect(page.get_by_role("alert")).to_contain_text("last API key of scope admin")
    assert client.annals.api_keys.find(client.keys["admin"]) is not None
    page.get_by_role("button", name="Revoke the last one all the same").click()
    page.wait_for_url("**/console/sign-in**")


def test_who_is_no_admin_finds_no_keys(client: Clients, reading: Reading) -> None:
    reader = reading(client, path="/console/settings")
    reader.refused = {403}
    expect(reader.page.get_by_role("link", name="API keys")).to_have_count(0)
    reader.go("/console/settings/keys")
    expect(reader.page.get_by_role("heading", level=1)).to_have_text("Your key does not open this")
