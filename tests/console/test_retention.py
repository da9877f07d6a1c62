"""Retention: chosen with care, carried out under the reader's eyes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from playwright.sync_api import expect

from domain.definitions.retention import Counts, kept_since
from tests.console.reader import NARROW, Reader
from tests.serving import Clients, until

Reading = Callable[..., Reader]

PLACE = "/console/settings/retention"


def send_old(client: Clients) -> None:
    at = (datetime.now(UTC) - timedelta(days=100)).isoformat()
    client.send({"type": "track", "userId": "ada", "event": "login", "timestamp": at})
    client.see("/api/users")


def test_months_are_chosen_told_what_they_end_asked_again_and_refused_beside_the_field(
    client: Clients, reading: Reading
) -> None:
    send_old(client)
    client("admin").put("/api/settings", json={"currency": "EUR"})
    reader = reading(client, "admin", path="/console/settings")
    reader.refused = {400}
    page = reader.page
    page.get_by_role("link", name="Retention").click()
    months, save = page.get_by_label("Months"), page.get_by_role("button", name="Save")
    expect(months).to_have_value("")
    expect(page.get_by_text("Nothing yet")).to_be_visible()
    for wrong in ("0", "1201", "two", "9" * 5_000):
        months.fill(wrong)
        save.click()
        expect(months).to_have_attribute("aria-invalid", "true")
        expect(page.get_by_role("alert")).to_be_visible()
        expect(months).to_have_value(wrong)
    expect(page.locator("[aria-invalid]")).to_have_count(1)
    months.fill("2")
    page.get_by_label("Counts").select_option(label="go with it")
    save.click()
    ends = kept_since(datetime.now(UTC), 2)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(f"before {ends:%-d %B %Y} (UTC) becomes unreadable")
    expect(alert).to_contain_text("counts go too")
    assert reader.violations() == []
    page.get_by_role("link", name="Keep it").click()
    expect(months).to_have_value("")
    assert client("read").get("/api/settings").json()["retention"] is None
    months.fill("2")
    save.click()
    page.get_by_role("button", name="Save, and end it").click()
    expect(page.get_by_text("Saved", exact=True)).to_be_visible()
    expect(alert).to_have_count(0)
    expect(months).to_have_value("2")
    settings = client("read").get("/api/settings").json()
    assert settings["retention"] == {"months": 2, "counts": "keep"}
    assert settings["currency"] == "EUR"
    # What ends nothing more needs no second look.
    months.fill("")
    save.click()
    expect(months).to_have_value("")
    assert client("read").get("/api/settings").json()["retention"] is None


def test_a_run_is_followed_until_it_is_done_with_what_it_waits_for(
    client: Clients, reading: Reading
) -> None:
    send_old(client)
    aged = client.annals.retention
    aged.begin(kept_since(datetime.now(UTC), 2), Counts.DROP, by="upkeep")
    reader = reading(client, "audit", path=PLACE)
    page = reader.page
    row = page.locator("#runs tbody tr")
    runs = page.locator("#runs")
    expect(runs).to_contain_text("0 of 256 parts of the log are read")
    expect(page.get_by_label("Months")).not_to_be_editable()
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
    assert reader.violations() == []
    held = client("comply").post(
        "/api/holds", json={"kind": "user", "id": "external:ada", "reason": "claim-7"}
    )
    aged.go_on()
    expect(runs).to_contain_text("waits for the release of a legal hold, for claim-7")
    released = f"/api/holds/{client.taken(held)['id']}/release"
    client.taken(client("comply").post(released, json={"reason": "settled"}))
    until(lambda: aged.go_on() is None)
    expect(row).to_contain_text("done")
    expect(row).to_contain_text("gone")
    expect(runs).not_to_have_attribute("hx-trigger", "load delay:2s")
    # What is over is over: to keep less than that asks nothing again.
    admin = reading(client, "admin", path=PLACE, width=NARROW)
    expect(admin.page.locator("#runs tbody tr")).to_have_count(1)
    assert not admin.overflows()
    admin.page.get_by_label("Months").fill("2")
    admin.page.get_by_role("button", name="Save").click()
    expect(admin.page.get_by_label("Months")).to_have_value("2")
    expect(admin.page.get_by_role("alert")).to_have_count(0)


def test_who_only_reads_sees_what_is_chosen_and_no_runs(world: Clients, reading: Reading) -> None:
    reader = reading(world, path=PLACE)
    expect(reader.page.get_by_label("Months")).to_have_value("")
    expect(reader.page.get_by_label("Months")).not_to_be_editable()
    expect(reader.page.get_by_text("What was ended")).to_have_count(0)
