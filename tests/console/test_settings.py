"""Settings: what the workspace chooses, with what is wrong beside where it is."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from tests.console.reader import Reader
from tests.serving import Clients

Reading = Callable[..., Reader]


def test_the_workspace_chooses_its_properties_and_is_told_what_it_cannot_choose(
    client: Clients, reading: Reading
) -> None:
    client.send({"type": "group", "userId": "u", "groupId": "a", "traits": {"revenue": 5}})
    client.see("/api/accounts")
    reader = reading(client, "admin", path="/console/settings")
    reader.refused = {400}
    page = reader.page
    page.get_by_label("Time zone").fill("Mars/Olympus")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Time zone")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Time zone")).to_be_focused()
    expect(page.get_by_role("alert")).to_contain_text("Mars/Olympus")
    page.get_by_label("Time zone").fill("Europe/Brussels")
    page.get_by_label("Property that supplies MRR").fill("revenue")
    expect(page.get_by_text("Saved", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved", exact=True)).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    chosen = client("read").get("/api/settings").json()
    assert (chosen["mrr_property"], chosen["time_zone"]) == ("revenue", "Europe/Brussels")
    assert reader.violations() == []


def test_what_the_overview_shows_and_how_late_facts_count_are_chosen_in_the_form(
    client: Clients, reading: Reading
) -> None:
    client.send(
        {"type": "identify", "userId": "u", "traits": {"plan": "pro", "role": "owner"}},
        {"type": "track", "userId": "u", "event": "login"},
    )
    client.see("/api/users")
    reader = reading(client, "admin", path="/console/settings")
    reader.refused = {400}
    page = reader.page
    page.get_by_label("Properties that the Overview of users shows").fill("role\nplan")
    events = page.get_by_label("Events that the Overview of users shows")
    events.fill("logni")
    page.get_by_label("What is told late").check()
    page.get_by_role("button", name="Save").click()
    expect(events).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("alert")).to_contain_text("did you mean login")
    expect(page.locator("[aria-invalid]")).to_have_count(1)
    events.fill("login")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    chosen = client("read").get("/api/settings").json()
    assert chosen["users"] == {"properties": ["role", "plan"], "events": ["login"]}
    assert chosen["accounts"] == {"properties": [], "events": []}
    assert chosen["backdated_stages"] is True
    page.get_by_label("What is told late").uncheck()
    reader.follow(page.get_by_role("button", name="Save"))
    assert client("read").get("/api/settings").json()["backdated_stages"] is False


def test_who_only_reads_sees_settings_and_changes_none(world: Clients, reading: Reading) -> None:
    reader = reading(world, path="/console/settings")
    expect(reader.page.get_by_role("heading", name="Settings")).to_be_visible()
    expect(reader.page.get_by_role("button", name="Save")).to_have_count(0)
    expect(reader.page.get_by_label("Time zone")).not_to_be_editable()
