"""One user or account whole, and how it is deleted: the seed's detail views, walked to the end."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from domain.identity import SubjectId
from tests.altered import ALTERATIONS, alter, places_of
from tests.console.reader import Reader
from tests.serving import Clients, until, user

Reading = Callable[..., Reader]

TABS = {
    "user": ["Overview", "Timeline", "Properties", "Companies"],
    "account": ["Overview", "Timeline", "Properties", "Users"],
}
ACTIVITIES = ["Events", "Screens", "Channels", "Campaigns", "Pages"]


def busiest(world: Clients, kind: str) -> dict[str, Any]:
    """Whoever did most, as the API shows it."""
    items = world.see(f"/api/{kind}s", sort="-last_seen")["items"]
    views = [world.see(f"/api/{kind}s/{one['id']}") for one in items[:10]]
    found: dict[str, Any] = max(views, key=lambda one: one["counts"]["events"])
    return found


@pytest.mark.parametrize("kind", ["user", "account"])
def test_pressing_on_a_name_brings_the_360_view_and_each_of_its_menu_shows_what_the_api_has(
    world: Clients, reading: Reading, kind: str
) -> None:
    contact = busiest(world, kind)
    path = f"/api/{kind}s/{contact['id']}"
    reader = reading(world, path=f"/console/{kind}s?search={contact['external_id']}")
    page = reader.page
    page.locator("#results tbody th a").filter(has_text=contact["name"]).first.click()
    page.wait_for_url(f"**/console/{kind}s/{contact['id']}")
    expect(page.get_by_role("heading", level=1)).to_have_text(contact["name"])
    expect(page.locator(".head .health")).to_contain_text(contact["health"])
    for label in ("MRR", "Renews"):
        expect(page.locator(".facts dt", has_text=label)).to_be_visible()
    for heading in ("Scores", "Signal playbooks", "Segments", "External ID"):
        expect(page.locator(".aside h2", has_text=heading)).to_be_visible()
    expect(page.locator(".aside")).to_contain_text(contact["external_id"])
    tabs = page.locator(".tabs a")
    shown = [one.split(" ")[0] for one in tabs.all_inner_texts()]
    assert shown == [*TABS[kind], *ACTIVITIES]
    for tab in ACTIVITIES:
        tabs.filter(has_text=tab).click()
        page.wait_for_url(f"**/{tab.lower()}")
        told = world.see(f"{path}/{tab.lower()}")["items"]
        rows = page.locator("#pane tbody tr")
        expect(rows).to_have_count(len(told))
        expect(rows.locator("th")).to_have_text([one["name"] for one in told])
        expect(rows.locator(".number")).to_have_text([f"{one['count']:,}" for one in told])
    tabs.filter(has_text="Properties").click()
    page.wait_for_url("**/properties")
    told = world.see(f"{path}/properties")["items"]
    expect(page.locator("#properties tr th")).to_have_text([one["name"] for one in told])
    page.get_by_placeholder("Find a property").fill(told[0]["name"])
    expect(page.locator("#properties tr:visible").first).to_contain_text(told[0]["name"])
    reader.follow(tabs.nth(3))
    other = "accounts" if kind == "user" else "users"
    members = world.see(f"{path}/{other}")["items"]
    expect(page.locator("#pane tbody tr")).to_have_count(len(members))


def test_a_timeline_scrolls_on_to_its_end_and_can_be_narrowed(
    world: Clients, reading: Reading
) -> None:
    account = busiest(world, "account")
    path = f"/api/accounts/{account['id']}/timeline"
    told = world.pages(path)
    reader = reading(world, path=f"/console/accounts/{account['id']}/timeline")
    rows = reader.page.locator(".happened")
    for reached in range(50, len(told) + 50, 50):
        expect(rows).to_have_count(min(reached, len(told)))
        if reached < len(told):
            reader.page.locator("#happened > li").last.scroll_into_view_if_needed()
    assert reader.page.locator("#happened .day").count() > 1
    reader.page.get_by_label("Show").select_option("Events")
    events = world.see(path, type="event")["items"]
    expect(rows.locator("b").first).to_have_text(events[0]["name"])
    expect(rows.locator(".hidden").filter(has_not_text="event")).to_have_count(0)


def test_the_external_id_is_copied_by_its_button(world: Clients, reading: Reading) -> None:
    user = busiest(world, "user")
    reader = reading(world, path=f"/console/users/{user['id']}")
    reader.context.grant_permissions(["clipboard-read", "clipboard-write"])
    reader.page.get_by_role("button", name="Copy user id").click()
    expect(reader.page.get_by_role("status")).to_have_text("Copied")
    assert reader.page.evaluate("navigator.clipboard.readText()") == user["external_id"]


def test_the_same_view_is_there_as_json_and_what_is_not_there_is_said(
    world: Clients, reading: Reading
) -> None:
    user = busiest(world, "user")
    reader = reading(world, path=f"/console/users/{user['id']}/json")
    assert json.loads(reader.page.locator("body").inner_text())["id"] == user["id"]
    reader.refused = {404, 400}
    reader.go("/console/users/5e9ae000-0000-4000-8000-000000000010")
    reader.shows("there is no such user")
    reader.go("/console/users/nonsense")
    reader.shows("ids are our own")
    reader.go("/console/nowhere")
    reader.shows("There is no such page")


def people(client: Clients, *ids: str) -> None:
    client.send(
        *[
            {"type": "identify", "userId": id, "traits": {"name": f"Name of {id}", "plan": "pro"}}
            for id in ids
        ],
        {"type": "track", "userId": ids[0], "event": "paid", "properties": {"amount": 5}},
    )
    client.see("/api/users")


def test_one_user_is_reviewed_deleted_with_the_word_and_gone_with_a_receipt(
    client: Clients, reading: Reading
) -> None:
    people(client, "ada", "bob")
    named = {"type": "attribute", "name": "external_id", "test": {"op": "is", "value": "ada"}}
    body = {"kind": "user", "name": "one", "condition": named}
    segment = client.taken(client("admin").post("/api/segments", json=body))["id"]
    reader = reading(client, "comply")
    page = reader.page
    page.get_by_role("searchbox", name="Search").fill("Name of ada")
    page.locator("#results").get_by_role("link", name="Name of ada").click()
    page.get_by_role("link", name="Review what is on file").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("All that is on file")
    expect(page.get_by_role("row", name="registered")).to_contain_text("user id: ")
    assert not {*"{}"} & set(page.get_by_role("main").inner_text())
    expect(page.locator("main")).to_contain_text("amount: 5")
    link = page.get_by_role("link", name=f"segment {segment[:8]}", exact=False)
    expect(link).to_have_attribute("href", f"/console/segments/{segment}")
    with page.expect_download() as started:
        page.get_by_role("link", name="Download the archive").click()
    with zipfile.ZipFile(io.BytesIO(started.value.path().read_bytes())) as archive:
        assert b"Name of ada" in archive.read(
            next(name for name in archive.namelist() if name.endswith("review.json"))
        )
    page.get_by_role("link", name="Name of ada").click()
    page.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Delete 1 user?")
    expect(dialog).to_contain_text("Name of ada")
    remove = dialog.get_by_role("button", name="Remove contact")
    for wrong in ("", "Confirm", "confirm ", "delete"):
        dialog.get_by_label("Type confirm").fill(wrong)
        expect(remove).to_be_disabled()
    dialog.get_by_label("Type confirm").fill("confirm")
    remove.click()
    page.wait_for_url("**/console/erasures/*")
    expect(page.locator("#progress")).to_contain_text("1 erased")
    expect(link).to_be_visible()
    expect(page.get_by_role("link", name="Receipt")).to_be_visible(timeout=120_000)
    with page.expect_download() as started:
        page.get_by_role("link", name="Receipt").click()
    assert "Name of ada" not in started.value.path().read_text()
    page.get_by_role("link", name="To the users").click()
    expect(page.locator("#results tbody th")).to_have_text(["Name of bob"])


def test_many_are_deleted_by_check_boxes_of_a_page_or_all_that_match(
    client: Clients, reading: Reading
) -> None:
    people(client, *[f"u{n:02}" for n in range(55)])
    reader = reading(client, "comply", path="/console/users?sort=name")
    page = reader.page
    page.get_by_label("Select Name of u00").check()
    page.get_by_label("Select Name of u01").check()
    expect(page.get_by_role("button", name="Delete 2")).to_be_enabled()
    page.get_by_label("Select this page").check()
    expect(page.get_by_role("button", name="Delete 50")).to_be_enabled()
    page.get_by_role("button", name="Select all 55 that match").click()
    expect(page.get_by_role("button", name="Delete 55")).to_be_enabled()
    page.get_by_label("Select Name of u01").uncheck()
    expect(page.get_by_role("button", name="Delete 49")).to_be_enabled()
    page.get_by_label("Select this page").check()
    page.get_by_role("button", name="Select all 55 that match").click()
    page.get_by_role("button", name="Delete 55").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Delete 55 users?")
    dialog.get_by_label("Type confirm").fill("confirm")
    dialog.get_by_role("button", name="Remove contact").click()
    page.wait_for_url("**/console/erasures/*")
    expect(page.locator("#progress")).to_contain_text("55 erased")
    until(lambda: client.see("/api/users")["items"] == [])  # the lists follow in the background
    reader.go("/console/users")
    reader.shows("No users yet")


def test_the_word_is_asked_for_by_the_service_too_and_pressing_twice_is_one_erasure(
    client: Clients, session: Callable[..., Any]
) -> None:
    people(client, "ada", "bob")
    [ada, bob] = [one["id"] for one in client.see("/api/users", sort="name")["items"]]
    http, token = session(client, "comply")
    form = {"ids": f"{ada} {bob}", "csrf": token, "key": "one", "confirm": "Confirm"}
    answer = http.post("/console/users/delete/confirmed", data=form)
    assert "send the word confirm" in answer.text
    assert len(client.see("/api/users")["items"]) == 2
    places = set()
    for _ in range(2):
        sent = form | {"confirm": "confirm"}
        answer = http.post("/console/users/delete/confirmed", data=sent)
        assert answer.status_code == 204
        places.add(answer.headers["hx-redirect"])
    assert len(places) == 1
    other, other_token = session(client, "admin")
    sent = form | {"csrf": other_token, "confirm": "confirm", "key": "two"}
    assert other.post("/console/users/delete/confirmed", data=sent).status_code == 403


def test_each_name_has_its_30_days_and_pressing_on_it_brings_the_larger_picture(
    world: Clients, reading: Reading
) -> None:
    account = busiest(world, "account")
    path = f"/console/accounts/{account['id']}/events"
    reader = reading(world, path=path)
    page = reader.page
    told = world.see(f"/api/accounts/{account['id']}/events")["items"]
    expect(page.locator("#by-name .spark")).to_have_count(len(told))
    [first] = world.see(f"/api/accounts/{account['id']}/events/days", name=told[0]["name"])["items"]
    shown = page.locator("#by-name .spark").first
    days = ", ".join(map(str, first["days"]))
    expect(shown).to_have_attribute("aria-label", f"{first['name']}: {days}")
    page.locator("#by-name tbody a").first.click()
    page.wait_for_url("**/events?name=*")
    picture = page.locator("#day-by-day")
    expect(picture).to_contain_text(f"{first['count']:,} in the last 30 days")
    expect(picture.locator("svg g")).to_have_count(30)
    picture.get_by_text("As a table").click()
    counted = picture.locator("tbody td.number").all_inner_texts()
    assert [int(one) for one in counted] == [one for one in reversed(first["days"]) if one]
    assert reader.violations() == []


def test_a_decision_unfolds_to_the_rule_what_it_saw_and_the_cause(
    client: Clients, reading: Reading
) -> None:
    client.send({"type": "identify", "userId": "ada", "traits": {"plan": "free", "seats": 1}})
    client.see("/api/users")
    plan = {"type": "property", "name": "plan", "test": {"op": "is", "value": "pro"}}
    seats = {"type": "property", "name": "seats", "test": {"op": "greater", "value": 5}}
    big = {"name": "Big", "type": "paying", "condition": {"type": "all", "of": [plan, seats]}}
    paying = {"name": "Paying", "type": "paying", "condition": plan}
    stages = {"type": "stages", "kind": "user", "name": "Life", "stages": [big, paying]}
    admin = client("admin")
    made = client.taken(admin.post("/api/definitions", json=stages))
    client.taken(admin.post(f"/api/definitions/{made['id']}/activate"))
    client.see("/api/users")
    until(lambda: client.see("/api/status")["deciding"] == [])
    client.send({"type": "identify", "userId": "ada", "traits": {"plan": "pro"}})
    until(lambda: client.see("/api/users/external:ada")["stage"])
    reader = reading(client, path="/console/users/external:ada/timeline?type=stage")
    entered = reader.page.locator(".happened", has_text="stage entered")
    entered.locator("summary", has_text="Why").focus()
    reader.page.keyboard.press("Enter")
    reason = entered.locator(".reason")
    expect(reason).to_contain_text("Because of properties changed")
    rules = reason.locator(".rules > li")
    expect(rules).to_have_count(2)
    expect(rules.nth(0)).to_contain_text("does not hold: Big")
    expect(rules.nth(0)).to_contain_text("saw 1")
    expect(rules.nth(1)).to_contain_text("holds: Paying: plan is pro saw pro")
    expect(reason).to_contain_text("Decided by stages Life, version 2")
    assert reader.violations() == []
    assert not reader.overflows()


def test_what_does_not_open_is_named_in_the_timeline_and_in_the_review(
    client: Clients, reading: Reading, database_url: str
) -> None:
    people(client, "ada", "bob")
    subject = SubjectId(client.see(user("ada"))["id"])
    [place] = places_of(database_url, subject, "user.event_tracked")
    alter(database_url, place, ALTERATIONS["state"])
    reader = reading(client, "comply", path=f"/console/users/{subject}/timeline")
    at = f"altered, at {place.log_partition}:{place.position} in the log"
    happened = reader.page.locator("#happened")
    expect(happened).to_contain_text("Does not open")
    expect(happened).to_contain_text(at)
    expect(happened).to_contain_text("Properties changed")
    assert reader.violations() == []
    reader.go(f"/console/users/{subject}/review")
    expect(reader.page.locator("main")).to_contain_text(at)
