"""The list of users or accounts, as somebody works with it: the seed's first screen."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import expect

from projections.queries.export import BYTE_ORDER_MARK
from tests.console.reader import Reader
from tests.serving import Clients, until

Reading = Callable[..., Reader]


def define(clients: Clients, definition: dict[str, Any]) -> None:
    """A definition that is active, and decided for all who are there."""
    admin = clients("admin")
    made = clients.taken(admin.post("/api/definitions", json=definition))
    clients.taken(admin.post(f"/api/definitions/{made['id']}/activate"))


def healths(clients: Clients) -> dict[str, int]:
    """How many accounts have each health. They are decided in the background, after the stages."""
    return {one["health"]: one["count"] for one in clients.see("/api/accounts/bars")["health"]}


def of_property(name: str, op: str, **values: Any) -> dict[str, Any]:
    return {"type": "property", "name": name, "test": {"op": op, **values}}


def account(n: int, **traits: Any) -> dict[str, Any]:
    return {
        "type": "group",
        "userId": f"u{n}",
        "groupId": f"a{n}",
        "traits": {"name": f"Company {n:02}", "domain": f"c{n}.example", **traits},
    }


def test_the_menu_leads_to_users_and_the_head_switches_to_accounts_and_back(
    world: Clients, reading: Reading
) -> None:
    reader = reading(world)
    assert reader.names() == [one["name"] for one in world.see("/api/users")["items"]]
    expect(reader.page.locator("#total")).to_have_text("130 users")
    reader.page.get_by_role("link", name="Accounts").first.click()
    reader.page.wait_for_url("**/console/accounts")
    reader.settle()
    assert reader.names() == [one["name"] for one in world.see("/api/accounts")["items"]]
    assert reader.cells("MRR")[0].startswith("€")
    reader.page.locator(".switch").get_by_role("link", name="Users").click()
    reader.page.wait_for_url("**/console/users")


def test_the_bars_count_stages_with_their_healths_and_healths_with_their_mrr_and_filter_by_a_click(
    client: Clients, reading: Reading
) -> None:
    client.send(*[account(n, plan="pro", mrr=100.5, currency="EUR") for n in range(4)])
    client.send(*[account(n, plan="trial", mrr=10, currency="USD") for n in range(4, 6)])
    client.see("/api/accounts")
    pro, trial = of_property("plan", "is", value="pro"), of_property("plan", "is", value="trial")
    stages = [
        {"name": "Trial", "type": "trial", "condition": trial},
        {"name": "Customer", "type": "paying", "condition": pro},
    ]
    define(client, {"type": "stages", "kind": "account", "name": "Life", "stages": stages})
    profile = {"name": "Customers", "stages": ["Customer"], "good": pro}
    define(client, {"type": "health_profile", "kind": "account", **profile})
    decided = {"good": 4, "normal": 2, "bad": 0}
    until(lambda: healths(client) == decided)
    reader = reading(client, path="/console/accounts")
    customers = reader.page.locator("a.stage", has_text="Customer")
    good = reader.page.locator(".healths a", has_text="good")
    normal = reader.page.locator(".healths a", has_text="normal")
    expect(customers.locator(".detail")).to_be_hidden()
    customers.hover()
    expect(customers.locator(".detail")).to_be_visible()
    shown = customers.locator(".detail").inner_text().split()
    assert shown == ["●", "good", "4", "◐", "normal", "0", "○", "bad", "0"]
    assert "€402" in good.inner_text()
    assert "$20" in normal.inner_text()
    widths = [
        box["width"]
        for name in ("Trial", "Customer")
        if (box := reader.page.locator("a.stage", has_text=name).bounding_box())
    ]
    assert widths[1] > 1.8 * widths[0]
    reader.follow(customers)
    assert reader.query == {"stage": ["Customer"]}
    assert sorted(reader.names()) == [f"Company 0{n}" for n in range(4)]
    reader.follow(reader.page.locator(".healths a", has_text="normal"))
    assert reader.query == {"stage": ["Customer"], "health": ["normal"]}
    reader.shows("Nobody")
    reader.follow(reader.page.get_by_role("link", name="Leave out stage Customer"))
    assert sorted(reader.names()) == ["Company 04", "Company 05"]


def test_searching_as_one_types_narrows_list_bars_and_count_and_the_address_keeps_it(
    world: Clients, reading: Reading
) -> None:
    reader = reading(world)
    target = world.see("/api/users", limit=1)["items"][0]["external_id"]
    reader.page.get_by_role("searchbox", name="Search").type(target)
    told = world.see("/api/users", search=target, total=True)
    many = "1 user" if told["total"] == 1 else f"{told['total']} users"
    expect(reader.page.locator("#total")).to_have_text(many)
    reader.settle()
    assert reader.query == {"search": [target]}
    found = [one["name"] for one in told["items"]]
    until(lambda: reader.names() == found)  # of all that was typed
    assert 0 < told["total"] < 130
    expect(reader.page.locator("a.stage b")).to_have_text(str(told["total"]))
    reader.page.reload()
    reader.settle()
    expect(reader.page.get_by_role("searchbox", name="Search")).to_have_value(target)
    assert reader.names() == found


def test_quick_filters_at_the_left_narrow_the_list_and_the_back_button_takes_them_off_again(
    world: Clients, reading: Reading
) -> None:
    reader = reading(world, path="/console/accounts")
    everybody = reader.names()
    while not world.see("/api/accounts/filters")["as_of"]:
        pass  # values are counted in the background
    reader.page.reload()
    plans = reader.page.locator("#filters")
    plans.get_by_label("starter").check()
    expect(reader.page.locator("#results .chip")).to_have_count(1)
    reader.settle()
    assert reader.query == {"is.plan": ["starter"]}
    some = reader.names()
    asked = {"type": "property", "name": "plan", "test": {"op": "is", "value": "starter"}}
    told = world("read").post("/api/accounts", json={"filter": asked}).json()["items"]
    assert some == [one["name"] for one in told]
    assert 0 < len(some) < len(everybody)
    plans.get_by_label("mrr from").fill("40")
    reader.page.wait_for_url("**min.mrr=40**")
    reader.settle()
    assert set(reader.names()) <= set(some)
    reader.page.go_back()
    rows = reader.page.locator("#results tbody th")
    expect(rows).to_have_text(some)
    assert reader.query == {"is.plan": ["starter"]}
    expect(reader.page.locator("#filters").get_by_label("starter")).to_be_checked()
    reader.page.go_back()
    expect(rows).to_have_text(everybody)
    expect(reader.page.locator("#filters").get_by_label("starter")).not_to_be_checked()


@pytest.fixture(scope="module")
def four(standing: Clients) -> Clients:
    """Accounts that differ in all that a quick filter can ask."""
    day = datetime(2026, 1, 1, tzinfo=UTC)
    standing.send(
        *[
            account(
                n,
                plan=("pro", "free", "team", "none")[n],
                beta=n == 0,
                tags=["a"] if n % 2 else ["b"],
                seats=n + 1,
                since=f"{day + timedelta(n):%Y-%m-%d}",
            )
            for n in range(4)
        ]
    )
    standing.see("/api/accounts")
    return standing


@pytest.mark.parametrize(
    ("query", "condition"),
    [
        ("is.plan=pro&is.plan=free", of_property("plan", "in", values=["pro", "free"])),
        ("is.beta=true", of_property("beta", "is", value=True)),
        ("is.tags=a", of_property("tags", "contains", value="a")),
        ("min.seats=2&max.seats=3", None),
        ("min.since=2026-01-02&max.since=2026-01-03", None),
        ("min.since=2026-01-03", None),
        ("max.since=2026-01-02", None),
        ("stage=&health=normal", None),
    ],
)
def test_every_quick_filter_asks_what_it_says(
    four: Clients, reading: Reading, query: str, condition: Any
) -> None:
    expected = {
        "min.seats": [1, 2],
        "min.since=2026-01-02": [1, 2],
        "min.since=2026-01-03": [2, 3],
        "max.since": [0, 1],
        "is.plan": [0, 1],
        "is.beta": [0],
        "is.tags": [1, 3],
        "stage=": [0, 1, 2, 3],
    }
    reader = reading(four, path=f"/console/accounts?{query}")
    found = next(ns for start, ns in reversed(expected.items()) if query.startswith(start))
    assert sorted(reader.names()) == [f"Company {n:02}" for n in found]


def test_a_click_on_a_column_sorts_by_it_and_a_second_turns_it_round(
    world: Clients, reading: Reading
) -> None:
    reader = reading(world, path="/console/users?column=email&column=first_seen")
    for column, order, words in (
        ("name", "name", "ascending"),
        ("name", "-name", "descending"),
        ("email", "email", "ascending"),
        ("email", "-email", "descending"),
        ("first_seen", "-first_seen", "descending"),
        ("first_seen", "first_seen", "ascending"),
    ):
        reader.page.locator(f"#sort-{column}").click()
        reader.page.wait_for_url(f"**sort={order}**")
        reader.settle()
        told = world.see("/api/users", sort=order)["items"]
        assert reader.names() == [one["name"] for one in told]
        head = reader.page.locator("th[aria-sort]")
        expect(head).to_have_attribute("aria-sort", words)
        focused = reader.page.evaluate("document.activeElement.id")
        assert focused == f"sort-{column}"


def test_pages_go_on_and_back_and_show_everybody_once(world: Clients, reading: Reading) -> None:
    reader = reading(world, path="/console/users?sort=name")
    seen, ranges = [], []
    for _ in range(3):
        seen += reader.names()
        ranges.append(reader.page.locator(".range").inner_text())
        further = reader.page.get_by_role("link", name="Next")
        if further.count():
            reader.follow(further)
    assert ranges == ["1–50", "51–100", "101–130"]
    assert seen == [one["name"] for one in world.pages("/api/users", sort="name")]
    expect(further).to_have_count(0)
    for expected in ("51–100", "1–50"):
        reader.follow(reader.page.get_by_role("link", name="Previous"))
        expect(reader.page.locator(".range")).to_have_text(expected)
    assert reader.query == {"sort": ["name"]}


def test_the_gear_chooses_columns_and_their_order_and_the_browser_remembers_them(
    world: Clients, reading: Reading
) -> None:
    reader = reading(world)
    assert reader.titles() == ["Name", "E-mail", "Stage", "Health", "MRR", "Last seen"]
    reader.page.get_by_role("button", name="Choose columns").click()
    dialog = reader.page.get_by_role("dialog", name="Columns")
    expect(dialog).to_be_visible()
    dialog.get_by_label("MRR", exact=True).uncheck()
    dialog.get_by_label("country", exact=True).check()
    for _ in range(3):
        dialog.get_by_role("button", name="Health further up").click()
    rows = dialog.locator("#column-list li")
    rows.filter(has_text="country").drag_to(rows.first, target_position={"x": 20, "y": 2})
    dialog.get_by_role("button", name="Show these").click()
    reader.page.wait_for_url("**column=**")
    reader.settle()
    assert reader.titles() == ["Name", "country", "Health", "E-mail", "Stage", "Last seen"]
    told = world.see("/api/users")["items"]
    assert reader.cells("country") == [one["properties"].get("country", "–") for one in told]
    reader.go("/console/users")
    assert reader.titles() == ["Name", "country", "Health", "E-mail", "Stage", "Last seen"]
    assert reader.query["column"][0] == "property:country"
    reader.go("/console/accounts")
    assert "Domain" in reader.titles()
    other = reading(world, path="/console/users?column=stage")
    assert other.titles() == ["Name", "Stage"]


def test_an_export_has_all_rows_of_the_list_that_is_shown(world: Clients, reading: Reading) -> None:
    reader = reading(world, path="/console/accounts?is.plan=starter&sort=name&column=property:plan")
    reader.page.get_by_text("Export").click()
    with reader.page.expect_download() as started:
        reader.page.get_by_role("link", name="CSV").click()
    content = started.value.path().read_bytes()
    assert content.startswith(BYTE_ORDER_MARK)
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
    assert [row["name"] for row in rows] == reader.names()
    assert {row["property:plan"] for row in rows} == {"starter"}


def test_what_cannot_be_asked_is_said_in_place_of_the_list(
    world: Clients, reading: Reading
) -> None:
    reader = reading(world, path="/console/users?sort=nonsense")
    reader.refused = {400}
    reader.shows("cannot sort by")
    reader.go('/console/users?filter={"type":"property","name":"plam","test":{"op":"is_set"}}')
    reader.shows("unknown property of users")
    reader.go("/console/users?segment=5e9ae000-0000-4000-8000-000000000010")
    reader.shows("there is no such segment")


def test_a_workspace_without_anybody_says_what_would_be_here_and_how_to_get_it(
    client: Clients, reading: Reading
) -> None:
    reader = reading(client)
    reader.shows("No users yet")
    reader.shows("identify")
    reader.go("/console/accounts")
    reader.shows("No accounts yet")
    assert reader.violations() == []
