"""Settings: what the workspace chooses and defines, with what is wrong beside where it is."""

from __future__ import annotations

import json
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
    expect(page.get_by_role("alert")).to_contain_text("Mars/Olympus")
    page.get_by_label("Time zone").fill("Europe/Brussels")
    page.get_by_label("Property that supplies MRR").fill("revenue")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    chosen = client("read").get("/api/settings").json()
    assert (chosen["mrr_property"], chosen["time_zone"]) == ("revenue", "Europe/Brussels")
    assert reader.violations() == []


def test_a_score_is_drafted_activated_and_archived(client: Clients, reading: Reading) -> None:
    client.send({"type": "identify", "userId": "ada", "traits": {"plan": "pro"}})
    client.see("/api/users")
    reader = reading(client, "admin", path="/console/settings")
    reader.refused = {400}
    page = reader.page
    page.locator(".family", has_text="Scores").get_by_role("link", name="Of users").click()
    field = page.get_by_label("Definition, as JSON")
    draft = json.loads(field.input_value())
    assert (draft["type"], draft["kind"]) == ("score", "user")
    field.fill("{")
    page.get_by_role("button", name="Save as draft").click()
    expect(page.get_by_role("alert")).to_contain_text("This is no JSON")
    draft["name"], draft["rules"][0]["weight"] = "Fit", 0
    field.fill(json.dumps(draft))
    page.get_by_role("button", name="Save as draft").click()
    expect(page.get_by_role("alert")).to_contain_text("/rules/0/weight")
    draft["rules"][0]["weight"] = 2
    field.fill(json.dumps(draft))
    page.get_by_role("button", name="Save as draft").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Fit")
    for step, status in (("Activate", "active"), ("Archive", "archived")):
        page.get_by_role("button", name=step).click()
        page.wait_for_url("**/console/settings")
        row = page.get_by_role("row").filter(has_text="Fit")
        expect(row).to_contain_text(status)
        row.get_by_role("link").click()
    expect(page.get_by_role("button", name="Activate")).to_have_count(0)
    assert reader.violations() == []


def test_who_only_reads_sees_settings_and_changes_none(world: Clients, reading: Reading) -> None:
    reader = reading(world, path="/console/settings")
    expect(reader.page.get_by_role("heading", name="Settings")).to_be_visible()
    expect(reader.page.get_by_role("button", name="Save")).to_have_count(0)
    expect(reader.page.get_by_label("Time zone")).not_to_be_editable()
