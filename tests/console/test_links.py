"""Links to other apps: set in Settings, followed from the right panel."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from tests.console.reader import Reader
from tests.serving import Clients

Reading = Callable[..., Reader]


def test_links_are_set_refused_beside_where_they_are_wrong_shown_and_taken_away(
    client: Clients, reading: Reading
) -> None:
    client.send({"type": "identify", "userId": "ada", "traits": {"name": "Ada", "plan": "a b"}})
    [ada] = client.see("/api/users")["items"]
    client("admin").put("/api/settings", json={"currency": "EUR"})
    reader = reading(client, "admin", path=f"/console/users/{ada['id']}")
    reader.refused = {400}
    page = reader.page
    page.get_by_role("link", name="links to other apps").click()
    page.get_by_label("Name").last.fill("CRM")
    page.get_by_label("Address").last.fill("https://crm.example/{properties.plam}")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("did you mean plan")
    expect(page.get_by_label("Address").first).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Address").first.fill("https://crm.example/{properties.plan}")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Address")).to_have_count(2)
    expect(page.get_by_role("alert")).to_have_count(0)
    assert reader.violations() == []
    reader.go(f"/console/users/{ada['id']}")
    link = page.locator("aside").get_by_role("link", name="CRM")
    expect(link).to_have_attribute("href", "https://crm.example/a%20b")
    # What else is chosen stays, here and where that is changed.
    reader.go("/console/settings")
    expect(page.get_by_label("Currency")).to_have_value("EUR")
    page.get_by_role("button", name="Save").click()
    reader.go("/console/settings/links")
    for label in ("Name", "Address"):
        page.get_by_label(label).first.fill("")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Address")).to_have_count(1)
    settings = client("read").get("/api/settings").json()
    assert (settings["links"], settings["currency"]) == ([], "EUR")


def test_who_only_reads_sees_links_and_sets_none(client: Clients, reading: Reading) -> None:
    link = {"kind": "user", "name": "CRM", "url": "https://crm.example/{id}"}
    client("admin").put("/api/settings", json={"links": [link]})
    reader = reading(client, path="/console/settings/links")
    expect(reader.page.get_by_text("https://crm.example/{id}")).to_be_visible()
    expect(reader.page.get_by_role("button", name="Save")).to_have_count(0)
