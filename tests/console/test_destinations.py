"""Destinations in Settings: made, their secret shown once, tested, paused; what is wrong stands
beside its field."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from infra import bootstrap
from infra.settings import Settings
from tests.console.reader import NARROW, Reader
from tests.receiver import Receiver
from tests.serving import Clients, served, until

Reading = Callable[..., Reader]
PLACE = "/console/settings/destinations"


@pytest.fixture
def here(database_url: str, tmp_path: Path) -> Iterator[Clients]:
    """A server that may post to the machine itself."""
    chosen = Settings(data=tmp_path, private_destinations="allow")
    with bootstrap.opened(chosen, database_url, connections=4) as annals, served(annals) as clients:
        clients.send({"type": "track", "userId": "ada", "event": "login"})
        clients.see("/api/users")
        yield clients


def test_a_destination_is_made_tested_activated_paused_and_archived(
    here: Clients, reading: Reading, receiver: Receiver
) -> None:
    reader = reading(
        here,
        "admin",
        path="/console/settings",
        permissions=["clipboard-read", "clipboard-write"],
    )
    reader.refused = {400}
    page = reader.page
    page.get_by_role("link", name="Destinations").click()
    reader.shows("None yet")
    page.get_by_role("link", name="New destination").click()
    page.get_by_label("Name", exact=True).fill("CRM")
    page.get_by_label("Address").fill(receiver.url)
    page.get_by_role("checkbox", name="Events").check()
    page.get_by_label("Events: only these").fill("logn")
    page.get_by_role("button", name="Save as draft").click()
    wrong = page.get_by_label("Events: only these")
    expect(wrong).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("alert")).to_contain_text("did you mean login?")
    expect(page.get_by_label("Name", exact=True)).to_have_value("CRM")
    wrong.fill("login")
    page.get_by_role("button", name="Save as draft").click()
    shown = page.locator("#made")
    expect(shown).to_have_text(re.compile("whsec_.{44}"))
    secret = shown.inner_text()
    page.get_by_role("button", name="Copy the secret").click()
    assert page.evaluate("navigator.clipboard.readText()") == secret
    assert reader.violations() == []
    page.get_by_role("button", name="Send a test message").click()
    reader.shows("The test message was taken.")
    expect(page.get_by_text(secret)).to_have_count(0)
    receiver.answer = lambda _: 503
    page.get_by_role("button", name="Send a test message").click()
    reader.shows("it answered 503")
    receiver.answer = lambda _: 204
    page.get_by_role("button", name="Activate").click()
    reader.shows("Told since")
    here.send({"type": "track", "userId": "ada", "event": "login"})
    until(lambda: len(receiver.taken()) == 1)
    page.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("button", name="Pause").wait_for()
    reader.go(PLACE)
    expect(page.get_by_role("row").filter(has_text="CRM")).to_contain_text("active")
    assert reader.violations() == []
    page.get_by_role("link", name="CRM").click()
    page.get_by_role("button", name="Archive").click()
    expect(page.locator("header small")).to_contain_text("archived")
    expect(page.get_by_role("button", name="Save")).to_have_count(0)


def test_the_receipt_of_an_erasure_says_who_was_told(
    here: Clients, reading: Reading, receiver: Receiver
) -> None:
    admin = here("admin")
    sent = {"name": "CRM", "url": receiver.url, "news": [{"about": "event"}]}
    id = admin.post("/api/destinations", json=sent).json()["id"]
    admin.post(f"/api/destinations/{id}/activate")
    here.erase("user", "external:ada")
    until(lambda: len(receiver.taken()) == 1)
    reader = reading(here, "comply", path="/console/erasures")
    reader.page.locator("tbody a").first.click()
    expect(reader.page.locator("#progress")).to_contain_text("CRM: told")


def test_the_form_fits_a_narrow_window(here: Clients, reading: Reading) -> None:
    admin = here("admin")
    sent = {"name": "C" * 200, "url": f"http://localhost/{'x' * 500}", "news": [{"about": "page"}]}
    id = admin.post("/api/destinations", json=sent).json()["id"]
    reader = reading(here, "admin", path=PLACE, width=NARROW)
    assert not reader.overflows()
    reader.go(f"{PLACE}/{id}")
    assert not reader.overflows()
    assert reader.violations_in_both_schemes() == []


def test_who_is_no_admin_finds_no_destinations(here: Clients, reading: Reading) -> None:
    reader = reading(here, path="/console/settings")
    reader.refused = {403}
    expect(reader.page.get_by_role("link", name="Destinations")).to_have_count(0)
    reader.go(PLACE)
    expect(reader.page.get_by_role("heading", level=1)).to_have_text("Your key does not open this")
