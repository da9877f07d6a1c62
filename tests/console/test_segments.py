"""Segments: created, selected and deleted at the screen, from conditions built of sentences."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.console.reader import Reader
from tests.projections.read_models import owner
from tests.serving import Clients, until

Reading = Callable[..., Reader]


def new(kind: str, condition: dict[str, Any]) -> str:
    return f"/console/segments/new?kind={kind}&condition={quote(json.dumps(condition))}"


def built(reader: Reader) -> Any:
    """What the builder would send."""
    return json.loads(reader.page.locator("textarea[name=condition]").input_value())


def write(reader: Reader, condition: Any) -> None:
    """Writes JSON into the builder, as by hand."""
    reader.page.locator("textarea[name=condition]").evaluate(
        "(at, text) => { at.value = text; at.dispatchEvent(new Event('change')); }",
        json.dumps(condition),
    )


def test_a_segment_is_built_counted_saved_selected_edited_and_deleted(
    client: Clients, reading: Reading
) -> None:
    who = [("ada", "pro", 6), ("bob", "free", 6), ("cleo", "pro", 1)]
    for id, plan, sent in who:
        client.send({"type": "identify", "userId": id, "traits": {"name": id, "plan": plan}})
        client.send(*[{"type": "track", "userId": id, "event": "invoice sent"}] * sent)
    client.see("/api/users")
    reader = reading(client, "admin")
    page = reader.page
    page.get_by_role("link", name="Segment", exact=True).click()
    page.get_by_label("Name").fill("Senders on pro")
    count = page.locator("[data-count]")
    expect(count).to_contain_text("3 users")
    page.get_by_role("button", name="Add a condition here").click()
    page.get_by_label("Property").last.select_option("plan")
    page.get_by_label("Text").last.fill("pro")
    expect(count).to_contain_text("2 users")
    page.get_by_role("button", name="Add a condition here").click()
    page.get_by_label("Kind of condition").last.select_option("did")
    page.get_by_label("Name", exact=True).last.select_option("invoice sent")
    page.get_by_label("How often").select_option("at least")
    page.get_by_label("Times").fill("5")
    page.get_by_label("When").select_option("in the last")
    page.get_by_label("Days", exact=True).fill("30")
    expect(count).to_contain_text("1 user")
    expect(count).to_contain_text("ada")
    assert built(reader)["of"][1] == {
        "type": "activity",
        "activity": "event",
        "name": "invoice sent",
        "count": {"op": "at_least", "times": 5},
        "period": {"type": "last_days", "days": 30},
        "where": [],
    }
    page.get_by_role("button", name="Save as segment").click()
    page.wait_for_url("**/console/users?segment=*")
    [segment] = client.see("/api/segments")["items"]
    members = f"/api/segments/{segment['id']}/members"
    until(lambda: client.see(members)["items"])  # they follow in the background
    reader.go(f"{reader.path}?segment={segment['id']}")
    assert reader.names() == ["ada"]
    page.get_by_label("Segment: Senders on pro").click()
    page.get_by_role("link", name="Edit or delete").click()
    expect(page.get_by_label("Times")).to_have_value("5")
    page.get_by_label("Times").fill("1")
    expect(count).to_contain_text("2 users")
    page.get_by_label("Name").first.fill("Any sender on pro")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/console/users?segment=*")
    [segment] = client.see("/api/segments")["items"]
    assert (segment["name"], segment["version"]) == ("Any sender on pro", 2)
    reader.go(f"/console/segments/{segment['id']}")
    page.get_by_role("button", name="Delete segment").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete segment").click()
    page.wait_for_url("**/console/users")
    assert client.see("/api/segments")["items"] == []


CONDITIONS: list[tuple[str, dict[str, Any]]] = [
    ("user", {"type": "property", "name": "plan", "test": {"op": op, **of}})
    for op, of in (
        ("is", {"value": "pro"}),
        ("is_not", {"value": "pro"}),
        ("in", {"values": ["pro", "free"]}),
        ("not_in", {"values": ["pro"]}),
        ("contains", {"value": "r"}),
        ("starts_with", {"value": "p"}),
        ("is_set", {}),
        ("is_not_set", {}),
    )
]
CONDITIONS += [
    ("user", {"type": "property", "name": "seats", "test": {"op": op, **of}})
    for op, of in (
        ("greater", {"value": 2.5}),
        ("at_least", {"value": 3}),
        ("less", {"value": 9}),
        ("at_most", {"value": 0}),
        ("between", {"low": 1, "high": 3}),
    )
]
CONDITIONS += [
    ("user", {"type": "attribute", "name": "first_seen", "test": {"op": op, **of}})
    for op, of in (
        ("before", {"at": "2026-05-13"}),
        ("after", {"at": "2026-05-13T10:00:00+02:00"}),
        ("in_period", {"period": {"type": "this_quarter"}}),
        ("in_next_days", {"days": 3}),
        ("more_than_days_ago", {"days": 9}),
    )
]
CONDITIONS += [
    ("user", {"type": "property", "name": "beta", "test": {"op": "is", "value": True}}),
    ("user", {"type": "property", "name": "tags", "test": {"op": "contains", "value": "a"}}),
    ("user", {"type": "stage", "stages": [None]}),
    ("account", {"type": "health", "health": ["good", "bad"]}),
    ("user", {"type": "membership", "other": None, "role": "owner", "ended": True}),
    (
        "user",
        {
            "type": "activity",
            "activity": "event",
            "name": "paid",
            "count": {"op": "exactly", "times": 2},
            "period": {"type": "between", "first": "2026-01-01", "last": "2026-12-31"},
            "where": [
                {"name": "amount", "test": {"op": "at_least", "value": 5}},
                {"name": "method", "test": {"op": "is", "value": "card"}},
            ],
        },
    ),
    (
        "account",
        {
            "type": "users",
            "quantifier": {"op": "at_least", "count": 2},
            "where": {
                "type": "not",
                "of": {
                    "type": "activity",
                    "activity": "page",
                    "name": "a.example/x",
                    "count": {"op": "did_not_occur"},
                    "period": {"type": "since", "day": "2026-02-01"},
                    "where": [],
                },
            },
        },
    ),
    (
        "user",
        {
            "type": "accounts",
            "quantifier": {"op": "every"},
            "where": {
                "type": "any",
                "of": [
                    {"type": "property", "name": "name", "test": {"op": "is_set"}},
                    {"type": "all", "of": []},
                ],
            },
        },
    ),
]


def test_the_builder_shows_the_whole_language_without_changing_it_and_the_service_counts_it(
    client: Clients, reading: Reading
) -> None:
    client.send(
        {
            "type": "identify",
            "userId": "ada",
            "traits": {"plan": "pro", "seats": 3, "beta": True, "tags": ["a"]},
        },
        {"type": "group", "userId": "ada", "groupId": "acme", "traits": {"name": "Acme"}},
        {
            "type": "track",
            "userId": "ada",
            "event": "paid",
            "properties": {"amount": 7, "method": "card"},
        },
    )
    client.see("/api/users")
    reader = reading(client, path=None)
    for kind in ("user", "account"):
        parts = [condition for of, condition in CONDITIONS if of == kind]
        body = {"kind": kind, "condition": {"type": "any", "of": parts}}
        reader.go(new(kind, body["condition"]))
        for part, drawn in zip(
            parts, reader.page.locator("[data-tree] > .group > [data-path]").all(), strict=True
        ):
            shown = drawn.get_by_label("Kind of condition").first
            expect(shown).to_have_value(part["type"])
        assert built(reader) == body["condition"]
        count = reader.page.locator("[data-count] b")
        expect(count).to_be_visible()
        answer = client("read").post("/api/segments/preview", json=body)
        assert answer.status_code == 200, answer.text
        expect(count).to_have_text(str(answer.json()["count"]))


def test_every_type_of_condition_can_be_chosen_and_is_one_that_the_service_takes(
    client: Clients, reading: Reading
) -> None:
    client.send(
        {"type": "identify", "userId": "ada", "traits": {"plan": "pro"}},
        {"type": "group", "userId": "ada", "groupId": "acme", "traits": {"name": "Acme"}},
        {"type": "track", "userId": "ada", "event": "paid"},
    )
    client.see("/api/users")
    everybody = {"type": "all", "of": []}
    body = {"kind": "user", "name": "All", "condition": everybody}
    client.taken(client("admin").post("/api/segments", json=body))
    client.see("/api/segments")
    is_set = {"type": "property", "name": "plan", "test": {"op": "is_set"}}
    reader = reading(client, path=new("user", is_set))
    needs_a_definition = {"score", "signal"}
    kinds = reader.page.get_by_label("Kind of condition").last.locator("option").all()
    types = {str(one.get_attribute("value")) for one in kinds}
    assert types == {
        *("property", "attribute", "activity", "stage", "health", "score", "signal", "segment"),
        *("membership", "accounts", "all", "any", "not"),
    }
    for type in sorted(types - needs_a_definition):
        write(reader, is_set)
        reader.page.get_by_label("Kind of condition").last.select_option(value=type)
        assert built(reader)["of"][0]["type"] == type
        sent = {"kind": "user", "condition": built(reader)}
        answer = client("read").post("/api/segments/preview", json=sent)
        assert answer.status_code == 200, answer.text


def test_what_is_wrong_stands_beside_the_field_that_is_wrong(
    client: Clients, reading: Reading
) -> None:
    client.send({"type": "identify", "userId": "ada", "traits": {"plan": "pro", "seats": 3}})
    client.see("/api/users")
    good = {"type": "property", "name": "plan", "test": {"op": "is", "value": "pro"}}
    bad = {"type": "property", "name": "seats", "test": {"op": "between", "low": 5, "high": 2}}
    reader = reading(client, path=new("user", {"type": "any", "of": [good, bad]}))
    complaint = reader.page.locator(".complaint")
    expect(complaint).to_contain_text("2 is less than 5")
    field = reader.page.get_by_label("Greatest")
    expect(field).to_have_attribute("aria-invalid", "true")
    field.fill("7")
    expect(complaint).to_have_count(0)
    expect(reader.page.locator("[data-count] b")).to_have_text("1")


def test_json_can_be_written_by_hand_and_is_shown_as_sentences(
    client: Clients, reading: Reading
) -> None:
    client.send({"type": "identify", "userId": "ada", "traits": {"plan": "pro"}})
    client.see("/api/users")
    reader = reading(client, path="/console/segments/new?kind=user")
    reader.page.get_by_text("As JSON").click()
    text = reader.page.locator("textarea[name=condition]")
    text.fill('{"type": "property", "name": "plan", "test": {"op": "is", "value": "pro"}}')
    text.blur()
    expect(reader.page.get_by_label("Property")).to_have_value("plan")
    expect(reader.page.locator("[data-count] b")).to_have_text("1")
    reader.page.get_by_role("button", name="Show the list").click()
    reader.page.wait_for_url("**/console/users?filter=*")
    assert reader.names() == ["ada"]
    text = reader.page.locator("textarea[name=condition]")
    reader.page.get_by_role("link", name="Ask").click()
    expect(reader.page.get_by_label("Property")).to_have_value("plan")


def test_a_list_kept_by_hand_is_made_and_changed(client: Clients, reading: Reading) -> None:
    client.send(*[{"type": "identify", "userId": id, "traits": {"name": id}} for id in "abc"])
    client.see("/api/users")
    reader = reading(client, "admin", path="/console/segments/new?kind=user&static=1")
    reader.refused = {400}
    page = reader.page
    page.get_by_label("Name").fill("Advisers")
    page.get_by_label("Members").fill("external:a\nexternal:nobody")
    page.get_by_role("button", name="Save as segment").click()
    expect(page.get_by_role("alert")).to_contain_text("there is no such user")
    expect(page.get_by_label("Name")).to_have_value("Advisers")
    page.get_by_label("Members").fill("external:a\nexternal:b")
    page.get_by_role("button", name="Save as segment").click()
    page.wait_for_url("**/console/users?segment=*")
    [segment] = client.see("/api/segments")["items"]
    reader.go(f"/console/segments/{segment['id']}")
    page.get_by_label("Put on the list").fill("external:c")
    page.get_by_label("Take off the list").fill("external:a")
    reader.follow(page.get_by_role("button", name="Change the list"))
    members = f"/api/segments/{segment['id']}/members"
    # They follow in the background.
    until(lambda: {one["name"] for one in client.see(members)["items"]} == {"b", "c"})


@pytest.mark.parametrize("text", ["</script><script>alert(1)</script>", "<!--", "\u2028'\"&"])
def test_a_name_that_looks_like_markup_is_only_a_name(
    client: Clients, reading: Reading, text: str
) -> None:
    client.send({"type": "identify", "userId": "x", "traits": {"name": text, "plan": text}})
    client.see("/api/users")
    reader = reading(client)
    assert reader.names() == [text.replace("\u2028", "\n")] or text in reader.names()[0]
    reader.go(
        new("user", {"type": "property", "name": "plan", "test": {"op": "is", "value": text}})
    )
    expect(reader.page.get_by_label("Text").last).to_have_value(text)
    expect(reader.page.locator("[data-count] b")).to_have_text("1")


def test_a_list_says_while_its_segment_is_being_built_and_when_it_is(
    client: Clients, reading: Reading, database_url: str
) -> None:
    client.send({"type": "identify", "userId": "ada", "traits": {"plan": "pro"}})
    client.see("/api/users")
    pro = {"type": "property", "name": "plan", "test": {"op": "is", "value": "pro"}}
    with owner(database_url) as conn:
        conn.execute("REVOKE DELETE ON views.sweeps FROM annals_views")  # so none comes to its end
        made = client("admin").post(
            "/api/segments", json={"kind": "user", "name": "Pro", "condition": pro}
        )
        segment = client.taken(made)["id"]
        until(lambda: client.see("/api/users", segment=segment)["building"] == 1)
        reader = reading(client, path=f"/console/users?segment={segment}")
        mark = reader.page.locator("#building")
        expect(mark).to_contain_text("is being built")
        assert reader.violations() == []
        conn.execute("GRANT DELETE ON views.sweeps TO annals_views")
    # Then the mark says that it is built, or the list, told of who entered, has come anew.
    expect(reader.page.get_by_text("is being built")).to_have_count(0)
    all_of_it = reader.page.get_by_role("link", name="Show all who are in it")
    if all_of_it.count():
        all_of_it.click()
    expect(mark).to_have_count(0)
    assert len(reader.names()) == 1
    assert client.see("/api/users", segment=segment)["building"] is None
