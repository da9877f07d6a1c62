"""Names stand in the settings: retired, restored, given another type, with what comes of it."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from tests.console.reader import NARROW, WIDE, Reader
from tests.serving import Clients

Reading = Callable[..., Reader]

PLACE = "/console/settings/catalogue"


def sent(client: Clients) -> None:
    client.send(
        {"type": "identify", "userId": "ada", "traits": {"seats": "5", "plan_17": "x"}},
        {"type": "identify", "userId": "bob", "traits": {"seats": "many"}},
        {"type": "track", "userId": "ada", "event": "paid"},
    )
    client.see("/api/users")


def test_an_admin_retires_a_name_and_restores_it(client: Clients, reading: Reading) -> None:
    sent(client)
    reader = reading(client, "admin", path="/console/settings")
    page = reader.page
    page.get_by_role("link", name="Names", exact=True).click()
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    page.get_by_label("Retire plan_17").click()
    assert reader.violations_in_both_schemes() == []
    page.get_by_role("button", name="From now on refuse plan_17").click()
    expect(page.get_by_role("status").first).to_contain_text("Retired")
    expect(rows).to_have_count(2)
    page.get_by_role("link", name="Retired").click()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("plan_17")
    page.get_by_role("button", name="Restore plan_17").click()
    expect(page.get_by_role("status").first).to_contain_text("Restored")
    expect(page.get_by_text("No name is retired")).to_be_visible()


def test_another_type_is_confirmed_once_the_page_has_said_whose_values_do_not_fit(
    client: Clients, reading: Reading
) -> None:
    sent(client)
    reader = reading(client, "admin", path=PLACE)
    page = reader.page
    page.get_by_label("Type of seats", exact=True).click()
    row = page.get_by_role("row", name="seats")
    row.get_by_role("combobox").select_option("number")
    row.get_by_role("button", name="See what comes").click()
    told = page.get_by_role("alert")
    expect(told).to_contain_text("1 value will be shown as one, 1 value no longer")
    expect(told.get_by_role("link").first).to_have_attribute(
        "href", f"/console/users/{client.see('/api/users/external%3Abob')['id']}"
    )
    assert reader.violations() == []
    told.get_by_role("button", name="Change the type").click()
    expect(page.get_by_role("status").first).to_contain_text("The type is changed")
    expect(page.get_by_role("row", name="seats")).to_contain_text("number")


def test_who_may_not_change_names_reads_them_at_any_width(
    client: Clients, reading: Reading
) -> None:
    sent(client)
    reader = reading(client, "read", path=PLACE)
    expect(reader.page.locator("tbody tr")).to_have_count(3)
    expect(reader.page.get_by_text("Retire", exact=True)).to_have_count(0)
    for width in (NARROW, WIDE):
        assert not reader.overflows_at(width)
        assert reader.violations() == []
