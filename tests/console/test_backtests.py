"""Back-tests from the form of a definition or a segment, before anything is saved."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import quote
from uuid import UUID

from playwright.sync_api import expect

from projections.queries import backtest
from projections.queries.backtest_reading import Progress
from tests.console.reader import NARROW, Reader
from tests.console.test_definitions import PRO, define
from tests.serving import Clients

Reading = Callable[..., Reader]

BIG: dict[str, Any] = {
    "type": "property",
    "name": "seats",
    "test": {"op": "at_least", "value": 5},
}


def people(client: Clients) -> None:
    who = [("ada", "pro", 6), ("bob", "pro", 1), ("cleo", "free", 9), ("dan", "team", 2)]
    client.send(
        *(
            {"type": "identify", "userId": id, "traits": {"name": id, "plan": plan, "seats": seats}}
            for id, plan, seats in who
        )
    )
    client.see("/api/users")


def life(condition: dict[str, Any]) -> dict[str, Any]:
    stage = {"name": "Pro", "type": "paying", "condition": condition}
    return {"type": "stages", "kind": "user", "name": "Life", "stages": [stage]}


def test_a_changed_definition_is_tested_before_it_is_saved_and_shows_whom_it_would_move(
    client: Clients, reading: Reading
) -> None:
    people(client)
    id = define(client, life(PRO))
    reader = reading(client, path=f"/console/settings/{id}")
    page = reader.page
    page.get_by_label("Text").fill("free")
    page.get_by_label("Days of the past").fill("7")
    page.get_by_label("Days of the past").press("Enter")
    page.wait_for_url("**/console/backtests/*")
    shown = page.locator("#backtest")
    expect(shown).to_contain_text("4 of 4 users were looked at")
    expect(shown).to_contain_text("3 would be elsewhere than they are, held against Life")
    expect(shown.locator("svg g")).to_have_count(7)
    expect(shown.locator("figcaption")).to_contain_text("Pro 1")
    shown.get_by_text("As a table").click()
    expect(shown.locator("figure tbody tr")).to_have_count(7)
    moves = page.locator("#moves tbody tr")
    expect(moves).to_have_count(2)
    expect(moves.nth(0)).to_have_text("Prono stage2")
    expect(page.locator("#who tbody th")).to_have_count(3)
    page.get_by_role("link", name="All", exact=True).click()
    expect(page.locator("#who tbody th")).to_have_count(4)
    moves.nth(1).get_by_role("link", name="1").click()
    page.wait_for_url("**before=none&outcome=Pro*")
    expect(page.locator("#who tbody th")).to_have_text(["cleo"])
    assert reader.violations() == []
    page.locator("#who").get_by_role("link", name="cleo").click()
    page.wait_for_url("**/console/users/*")
    kept = client.see(f"/api/definitions/{id}")
    assert (kept["version"], kept["definition"]["stages"][0]["condition"]) == (2, PRO)
    reader.go("/console/backtests")
    expect(page.get_by_role("row").filter(has_text="stages Life")).to_contain_text("done")
    page.locator("tbody a").click()
    page.get_by_role("button", name="Forget it").click()
    reader.shows("No back-tests now")


def test_a_segment_is_tested_before_it_is_saved_at_any_width(
    client: Clients, reading: Reading
) -> None:
    people(client)
    reader = reading(client, width=NARROW, scheme="dark", path="/console/segments/new?kind=user")
    page = reader.page
    page.get_by_role("button", name="Add a condition here").click()
    page.get_by_label("Property").select_option("seats")
    page.get_by_label("Test").select_option(value="at_least")
    page.get_by_label("Number").fill("5")
    page.get_by_role("button", name="Back-test").click()
    shown = page.locator("#backtest")
    expect(shown).to_contain_text("Nothing is active that it could be compared with")
    expect(shown.locator("figcaption")).to_contain_text("in 2")
    expect(page.locator("#who tbody tr")).to_have_count(4)
    assert reader.violations() == []
    assert not reader.overflows()
    shown.locator("figcaption a", has_text="in 2").click()
    page.wait_for_url("**outcome=in*")
    names = page.locator("#who tbody th")
    expect(names).to_have_count(2)
    assert set(names.all_inner_texts()) == {"ada", "cleo"}


def test_what_cannot_be_tested_is_said_beside_the_field(client: Clients, reading: Reading) -> None:
    people(client)
    id = define(client, life(BIG))
    reader = reading(client, path=f"/console/settings/{id}")
    reader.refused = {400}
    page = reader.page
    page.get_by_label("Name").nth(1).fill("")
    page.get_by_role("button", name="Back-test").click()
    stage = page.get_by_role("group", name="Stage 1")
    expect(stage.get_by_label("Name")).to_have_attribute("aria-invalid", "true")
    expect(stage.get_by_role("alert")).to_be_visible()
    stage.get_by_label("Name").fill("Big")
    days = page.get_by_label("Days of the past")
    days.fill("367")
    page.get_by_role("button", name="Back-test").click()
    expect(days).to_have_attribute("aria-invalid", "true")
    expect(stage.get_by_label("Name")).to_have_value("Big")
    nothing = quote('{"type":"segment"}')
    reader.go(f"/console/segments/new?kind=user&condition={nothing}")
    page.get_by_role("button", name="Back-test").click()
    expect(page.get_by_role("alert").first).to_be_visible()
    expect(page).to_have_url(f"{client.url}/console/backtests")


def test_how_far_it_is_shows_while_it_runs_and_that_it_failed_when_it_did(
    client: Clients, reading: Reading
) -> None:
    go_on, asked = threading.Event(), UUID(int=1)

    def work(progress: Progress) -> backtest.Tested:
        progress("reading", 40, 160)
        go_on.wait(60)
        raise RuntimeError

    job = client.annals.backtests.start(work, asked)
    reader = reading(client, path=f"/console/backtests/{job.id}")
    shown = reader.page.locator("#backtest")
    expect(shown).to_contain_text("Reading: 40 of 160")
    expect(shown.get_by_role("progressbar")).to_have_attribute("value", "40")
    assert reader.violations() == []
    go_on.set()
    expect(reader.page.get_by_role("alert")).to_contain_text("Failed")


def test_one_that_runs_is_cancelled(client: Clients, reading: Reading) -> None:
    def work(progress: Progress) -> backtest.Tested:
        while True:
            progress("reading", 1, 2)
            threading.Event().wait(0.02)

    asker = client.annals.api_keys.find(client.keys["read"])
    assert asker is not None
    job = client.annals.backtests.start(work, asker[0])
    reader = reading(client, path=f"/console/backtests/{job.id}")
    reader.page.get_by_role("button", name="Cancel").click()
    reader.page.wait_for_url("**/console/backtests")
    assert job.stop.is_set()
