"""Any page as of a past instant: chosen in its header, plainly marked, with nothing to change."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import expect

from infra.pasts import filling
from tests.console.conftest import fresh
from tests.console.reader import WIDE, Reader

Reading = Callable[..., Reader]

BRUSSELS = {"timezone_id": "Europe/Brussels"}


def person(name: str, **traits: Any) -> dict[str, Any]:
    return {"type": "identify", "userId": "ada", "traits": {"name": name, **traits}}


@pytest.fixture(scope="module")
def told(server: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small world with a before and an after, the instant between them, and the user's id."""
    with fresh(server, tmp_path_factory.mktemp("past")) as clients:
        clients.send(
            person("Ada", plan="free"),
            {"type": "group", "userId": "ada", "groupId": "acme", "traits": {"name": "Acme"}},
            {"type": "track", "userId": "ada", "event": "login"},
        )
        id = clients.see("/api/users/external:ada")["id"]
        at = datetime.now(UTC)
        clients.send(person("Ada Lovelace", plan="pro"), {"type": "identify", "userId": "bob"})
        clients.see("/api/users")
        yield clients, at, id


def test_the_picker_in_the_header_takes_a_list_back_in_the_readers_own_zone_and_a_link_forward(
    told: Any, reading: Reading
) -> None:
    clients, _, _ = told
    reader = reading(clients, "comply", **BRUSSELS)
    page = reader.page
    before = reader.names()
    assert sorted(before) == ["Ada Lovelace", "bob"]
    expect(page.locator("#as-of summary")).to_have_text("as of: now")
    page.locator("#as-of summary").focus()
    page.keyboard.press("Enter")
    field = page.get_by_label("Date and time")
    expect(field).to_be_visible()
    field.fill("2026-01-05T14:00")
    page.get_by_role("button", name="Go back").click()
    expect(page.locator(".past")).to_contain_text("As of 5 Jan 2026, 14:00")
    assert reader.query["as_of"] == ["2026-01-05T13:00:00.000Z"]
    expect(page.locator("#results")).to_contain_text("No users yet")
    page.get_by_role("link", name="Back to now").first.click()
    page.wait_for_url("**/console/users")
    assert sorted(reader.names()) == sorted(before)


def test_a_list_of_the_past_leads_on_in_the_past_and_offers_nothing_that_changes(
    told: Any, reading: Reading
) -> None:
    clients, at, id = told
    reader = reading(clients, "admin", path=f"/console/users?as_of={at:%Y-%m-%dT%H:%M:%S.%f}Z")
    page = reader.page
    expect(page.locator("#results tbody th")).to_have_text(["Ada"])
    expect(page.locator("#total")).to_have_text("1 user")
    for name in ("Segment", "Delete"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
        expect(page.get_by_role("link", name=name, exact=True)).to_have_count(0)
    expect(page.locator("#results input[type=checkbox]")).to_have_count(0)
    page.get_by_label("Search").fill("nobody")
    expect(page.locator("#results")).to_contain_text("Nobody")
    assert reader.query["as_of"]
    page.get_by_label("Search").fill("ada")
    page.locator("#results tbody th a").filter(has_text="Ada").click()
    page.wait_for_url(f"**/console/users/{id}?as_of=*")
    expect(page.get_by_role("heading", level=1)).to_have_text("Ada")
    expect(page.locator(".past")).to_be_visible()
    expect(page.get_by_role("button", name="Delete")).to_have_count(0)
    for tab in ("Timeline", "Properties", "Companies", "Events"):
        page.locator(".tabs a").filter(has_text=tab).click()
        page.wait_for_url(f"**/{'accounts' if tab == 'Companies' else tab.lower()}?as_of=*")
        expect(page.locator(".past")).to_be_visible()
        expect(page.locator("#pane")).not_to_contain_text("Lovelace")
    page.locator(".tabs a").filter(has_text="Companies").click()
    page.locator("#pane tbody a").filter(has_text="Acme").click()
    page.wait_for_url("**/console/accounts/*?as_of=*")
    page.get_by_role("link", name="Back to now").first.click()
    page.wait_for_url(re.compile(r"/console/accounts/[\w-]+$"))
    expect(page.locator(".past")).to_have_count(0)


def test_while_a_past_is_made_a_bar_says_how_far_it_is_and_the_page_comes_by_itself(
    told: Any, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients, at, id = told
    reader = reading(clients, path=None)
    page = reader.page
    make, held = filling.bounds_at, []

    def held_back(*asked: Any) -> list[int]:
        held.append(page)
        while len(held) < 2:
            time.sleep(0.05)
        return make(*asked)

    monkeypatch.setattr(filling, "bounds_at", held_back)
    then = at + timedelta(microseconds=1)
    page.goto(f"/console/users/{id}?as_of={then:%Y-%m-%dT%H:%M:%S.%f}Z")
    expect(page.get_by_role("progressbar", name="How far it is")).to_be_visible()
    expect(page.locator(".past")).to_contain_text("As of")
    assert reader.violations() == []
    held.append(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Ada")


def test_pages_of_the_past_are_for_everyone(told: Any, reading: Reading) -> None:
    clients, at, id = told
    reader = reading(clients, path=None)
    for path in ("/console/users", f"/console/users/{id}"):
        reader.go(f"{path}?as_of={at:%Y-%m-%dT%H:%M:%S.%f}Z")
        expect(reader.page.locator(".past")).to_be_visible()
        reader.page.locator("#as-of summary").click()
        assert not reader.overflows_at(360)
        assert reader.violations() == [], path
        assert not reader.overflows_at(WIDE)
        assert reader.violations_in_both_schemes() == [], path


def test_what_is_no_past_instant_is_refused_with_the_reason(told: Any, session: Any) -> None:
    clients, _, _ = told
    client, _ = session(clients, "read")
    for sent, reason in (("tomorrow", "send an instant"), ("2999-01-01T00:00", "still to come")):
        answer = client.get("/console/users", params={"as_of": sent})
        assert answer.status_code == 400
        assert reason in answer.text


def test_an_export_of_the_past_holds_who_was_there_then(told: Any, session: Any) -> None:
    clients, at, _ = told
    client, _ = session(clients, "read")
    asked = {"as_of": at.isoformat(), "format": "csv"}
    while (answer := client.get("/console/users/export", params=asked)).status_code == 503:
        pass
    assert "ada" in answer.text
    assert "bob" not in answer.text
