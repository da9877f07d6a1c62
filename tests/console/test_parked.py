"""Parked events: noticed in the settings, tried again, skipped with a reason."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from tests.api.operations.test_parked_events import REASON, park
from tests.console.reader import NARROW, WIDE, Reader
from tests.projections.projector.test_parking import UNFIT, refusing
from tests.serving import Clients

Reading = Callable[..., Reader]

PLACE = "/console/settings/parked"


def test_an_admin_is_told_of_parked_events_tries_one_again_and_skips_the_other(
    client: Clients, reading: Reading, database_url: str
) -> None:
    park(client, database_url, "ada", "bob")
    reader = reading(client, "admin", path="/console/settings")
    reader.refused = {400}
    page = reader.page
    expect(page.get_by_role("alert")).to_contain_text("4 events could not be applied")
    page.get_by_role("link", name="see the parked events").click()
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(4)
    expect(page.get_by_text("CheckViolation")).to_have_count(2)
    assert reader.violations_in_both_schemes() == []
    retry = page.get_by_role("button", name="Try again")
    with refusing(database_url, "contacts", UNFIT["contacts"]):
        retry.first.click()
        expect(page.get_by_role("alert")).to_contain_text("0 events applied, 2 left.")
    retry.first.click()
    expect(page.get_by_role("status").first).to_contain_text("Done")
    expect(rows).to_have_count(2)
    page.get_by_text("Skip", exact=True).click()
    reason = page.get_by_label("Why")
    reason.fill("   ")
    page.get_by_role("button", name="For good").click()
    expect(page.get_by_role("alert")).to_contain_text("say why")
    expect(reason).to_have_attribute("aria-invalid", "true")
    reason.fill(REASON)
    page.get_by_role("button", name="For good").click()
    expect(page.get_by_text("nothing is parked", exact=False)).to_be_visible()
    page.get_by_role("link", name="Skipped").click()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text(REASON)
    reader.go("/console/settings")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_who_may_not_handle_them_reads_them_at_any_width(
    client: Clients, reading: Reading, database_url: str
) -> None:
    park(client, database_url, "ada")
    reader = reading(client, "read", path=PLACE)
    page = reader.page
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    expect(page.get_by_text("Skip", exact=True)).to_have_count(0)
    for width in (NARROW, WIDE):
        assert not reader.overflows_at(width)
        assert reader.violations() == []
