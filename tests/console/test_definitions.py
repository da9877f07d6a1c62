"""Stages, health profiles, scores and signals, defined in forms whose conditions are sentences."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect

from tests.console.reader import NARROW, Reader
from tests.serving import Clients, until

Reading = Callable[..., Reader]

PRO = {"type": "property", "name": "plan", "test": {"op": "is", "value": "pro"}}


def ada(client: Clients) -> None:
    client.send({"type": "identify", "userId": "ada", "traits": {"plan": "pro", "seats": 3}})
    client.see("/api/users")


def define(client: Clients, definition: dict[str, Any], *, active: bool = True) -> str:
    admin = client("admin")
    made = client.taken(admin.post("/api/definitions", json=definition))
    if active:
        client.taken(admin.post(f"/api/definitions/{made['id']}/activate"))
    client.see("/api/definitions")
    return str(made["id"])


def saved(client: Clients, reader: Reader) -> Any:
    """The definition whose page was come to."""
    reader.page.wait_for_url("**/console/settings/*-*")
    found = client.see(f"/api/definitions/{reader.path.rpartition('/')[2]}")
    return found["definition"]


def test_stages_are_listed_put_in_order_by_keys_activated_and_archived(
    client: Clients, reading: Reading
) -> None:
    ada(client)
    reader = reading(client, "admin", path="/console/settings/new?type=stages&kind=user")
    page = reader.page
    expect(page.get_by_role("heading", level=1)).to_have_text("Stages of users")
    page.get_by_label("Name").first.fill("Life")
    page.get_by_role("button", name="Add a stage").click()
    second = page.get_by_role("group", name="Stage 2")
    expect(second.get_by_label("Name")).to_be_focused()
    second.get_by_label("Name").fill("Pro")
    second.get_by_role("combobox", name="Type", exact=True).select_option("paying")
    second.get_by_role("button", name="Add a condition here").click()
    second.get_by_label("Property").select_option("plan")
    second.get_by_label("Text").fill("pro")
    expect(second.locator("[data-count]")).to_contain_text("1 user")
    page.get_by_role("button", name="Add a stage").click()
    page.get_by_role("group", name="Stage 3").get_by_role("button", name="Remove").click()
    expect(page.locator(".parts > li")).to_have_count(2)
    up = second.get_by_role("button", name="Move up")
    up.focus()
    page.keyboard.press("Enter")
    first = page.get_by_role("group", name="Stage 1")
    expect(first.get_by_label("Name")).to_have_value("Pro")
    expect(first.get_by_role("button", name="Move up")).to_be_focused()
    expect(page.get_by_role("status")).to_have_text("Pro is 1 of 2")
    assert reader.violations() == []
    page.get_by_role("button", name="Save as draft").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Life")
    stages = saved(client, reader)["stages"]
    assert [(one["name"], one["type"]) for one in stages] == [
        ("Pro", "paying"),
        ("Customer", "paying"),
    ]
    assert stages[0]["condition"] == {"type": "all", "of": [PRO]}
    for step, status in (("Activate", "active"), ("Archive", "archived")):
        page.get_by_role("button", name=step).click()
        page.wait_for_url("**/console/settings")
        row = page.get_by_role("row").filter(has_text="Life")
        expect(row).to_contain_text(status)
        row.get_by_role("link").click()
    expect(page.get_by_role("button", name="Activate")).to_have_count(0)
    page.get_by_text("History").click()
    expect(page.locator("details", has_text="History")).to_contain_text("version 2, active")


def test_a_score_shows_what_its_weights_come_to_and_what_is_wrong_beside_the_field_that_is_wrong(
    client: Clients, reading: Reading
) -> None:
    ada(client)
    bad = {"type": "property", "name": "seats", "test": {"op": "between", "low": 5, "high": 2}}
    rules = [{"name": name, "weight": 2, "condition": PRO} for name in ("One", "Two")]
    score = {"type": "score", "kind": "user", "name": "Fit", "rules": rules}
    id = define(client, score)
    reader = reading(client, "admin", path=f"/console/settings/{id}")
    reader.refused = {400}
    page = reader.page
    second = page.get_by_role("group", name="Rule 2")
    expect(page.locator(".sum")).to_have_text("All weights together: 4")
    second.get_by_label("Weight").fill("0")
    expect(page.locator(".sum")).to_have_text("All weights together: 2")
    page.get_by_role("button", name="Save").click()
    expect(second.get_by_label("Weight")).to_be_focused()
    expect(page.locator("[aria-invalid]")).to_have_count(1)
    expect(second.get_by_role("alert")).to_contain_text("weight")
    second.get_by_label("Weight").fill("-1")
    text = page.get_by_label("Definition, as JSON")
    page.locator("details", has=text).last.locator("summary").last.click()
    sent = json.loads(text.input_value())
    assert sent["rules"][1]["weight"] == -1
    sent["rules"][1]["condition"] = bad
    text.fill(json.dumps(sent))
    text.blur()
    expect(second.get_by_label("Greatest")).to_have_value("2")
    page.get_by_role("button", name="Save").click()
    greatest = second.get_by_label("Greatest")
    expect(greatest).to_have_attribute("aria-invalid", "true")
    expect(second.locator(".complaint")).to_contain_text("2 is less than 5")
    greatest.fill("7")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("[aria-invalid]")).to_have_count(0)
    kept = saved(client, reader)["rules"]
    assert kept[0] == rules[0]
    assert (kept[1]["weight"], kept[1]["condition"]["test"]["high"]) == (-1, 7)


def test_what_is_looked_at_and_saved_again_is_the_same_to_the_service(
    client: Clients, reading: Reading
) -> None:
    ada(client)
    stage = {"name": "Pro", "type": "paying", "condition": PRO}
    define(client, {"type": "stages", "kind": "user", "name": "Life", "stages": [stage]})
    health = {"type": "health_profile", "kind": "user", "name": "All", "stages": ["Pro", None]}
    did = {"type": "activity", "activity": "page", "name": "a.example/x"}
    signal = {"type": "signal", "kind": "user", "name": "Upsell", "condition": did}
    goal = {"reentry_hours": 24, "goal": PRO, "goal_hours": 48}
    ids = [
        define(client, health | {"bad": {"type": "not", "of": PRO}}),
        define(client, signal | goal),
    ]
    reader = reading(client, "admin", width=NARROW, scheme="dark", path=None)
    for id in ids:
        reader.go(f"/console/settings/{id}")
        assert reader.violations() == []
        reader.follow(reader.page.get_by_role("button", name="Save"))
        assert client.see(f"/api/definitions/{id}")["version"] == 2
        assert not reader.overflows()
    page = reader.page
    page.get_by_label("With a goal").first.uncheck()
    page.get_by_label("Hours before it may trigger again").fill("")
    reader.follow(page.get_by_role("button", name="Save"))
    kept = client.see(f"/api/definitions/{ids[1]}")["definition"]
    assert not kept.keys() & {"goal", "goal_hours", "reentry_hours"}
    reader.go(f"/console/settings/{ids[0]}")
    page.get_by_label("no stage").uncheck()
    page.get_by_label("Good where").first.check()
    reader.follow(page.get_by_role("button", name="Save"))
    kept = client.see(f"/api/definitions/{ids[0]}")["definition"]
    assert (kept["stages"], kept["good"]) == (["Pro"], {"type": "all", "of": []})


def test_what_is_no_json_is_said_and_kept(client: Clients, reading: Reading) -> None:
    reader = reading(client, "admin", path="/console/settings/new?type=signal&kind=account")
    reader.refused = {400}
    page = reader.page
    text = page.get_by_label("Definition, as JSON")
    page.locator("details", has=text).last.locator("summary").last.click()
    text.fill("{")
    page.get_by_role("button", name="Save as draft").click()
    expect(page.get_by_role("alert")).to_contain_text("This is no JSON")
    expect(text).to_have_value("{")
    expect(text).to_be_visible()


def test_who_only_reads_sees_a_definition_in_sentences_and_cannot_save_it(
    client: Clients, reading: Reading
) -> None:
    ada(client)
    signal = {"type": "signal", "kind": "user", "name": "Upsell", "condition": PRO}
    reader = reading(client, path=f"/console/settings/{define(client, signal)}")
    expect(reader.page.get_by_label("Text")).to_have_value("pro")
    expect(reader.page.get_by_role("button", name="Save")).to_have_count(0)
    expect(reader.page.get_by_role("button", name="Archive")).to_have_count(0)


def test_a_long_name_widens_neither_its_form_nor_a_contact_nor_the_reason_of_a_decision(
    client: Clients, reading: Reading
) -> None:
    ada(client)
    long = "W" * 120
    stage = {"name": long, "type": "paying", "condition": PRO}
    stages = {"type": "stages", "kind": "user", "name": long, "stages": [stage]}
    id = define(client, stages)
    until(lambda: client.see("/api/users/external:ada")["stage"])
    reader = reading(client, width=NARROW, path=f"/console/settings/{id}")
    assert not reader.overflows()
    reader.go("/console/users/external:ada/timeline?type=stage")
    reader.page.locator("summary", has_text="Why").click()
    expect(reader.page.locator(".rules")).to_contain_text(long)
    assert not reader.overflows()
