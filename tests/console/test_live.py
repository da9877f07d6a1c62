"""Live: a page looks again by itself when its data changed; its reader stays where they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect

from tests.console.reader import Reader
from tests.serving import Clients

Reading = Callable[..., Reader]
LISTENING = "performance.getEntriesByType('resource').some((one) => one.name.includes('/changes/'))"


def identify(client: Clients, id: str, **traits: Any) -> None:
    client.send({"type": "identify", "userId": id, "traits": traits})
    client.see("/api/users")


def opened(client: Clients, reading: Reading, tab: str = "", scope: str = "read") -> Reader:
    """The page of Ada, once it listens; what it is remembers that it was not loaded anew."""
    [ada] = client.see("/api/users", search="Ada")["items"]
    reader = reading(client, scope, path=f"/console/users/{ada['id']}{tab}")
    with reader.page.expect_response(lambda one: one.url == reader.page.url, timeout=20_000):
        pass
    reader.page.evaluate("window.isTheSame = true")
    return reader


def is_the_same(reader: Reader) -> bool:
    same: bool = reader.page.evaluate("window.isTheSame === true")
    return same


def test_a_contact_shows_what_changed_and_the_reader_stays_where_they_are(
    client: Clients, reading: Reading
) -> None:
    score = {"type": "score", "kind": "user", "name": "Fit"}
    rule = {"name": "named", "weight": 1, "condition": {"type": "all", "of": []}}
    saved = client("admin").post("/api/definitions", json=score | {"rules": [rule]}).json()
    client.taken(client("admin").post(f"/api/definitions/{saved['id']}/activate"))
    identify(client, "ada", name="Ada", **{f"property {n:02}": n for n in range(60)})
    reader = opened(client, reading, "/properties")
    page = reader.page
    page.locator("details.score summary").click()
    page.evaluate("window.scrollTo(0, 400); document.querySelector('.middle').scrollTop = 400")
    before = page.evaluate("[scrollY, document.querySelector('.middle').scrollTop]")
    assert max(before) > 100
    page.get_by_role("link", name="JSON").evaluate("one => one.focus({preventScroll: true})")
    identify(client, "ada", name="Ada Lovelace", **{"property 59": 5900})
    expect(page.get_by_role("heading", level=1)).to_have_text("Ada Lovelace")
    expect(page.locator("#pane")).to_contain_text("5,900")
    assert is_the_same(reader)
    assert page.evaluate("[scrollY, document.querySelector('.middle').scrollTop]") == before
    expect(page.locator("details.score")).to_have_attribute("open", "")
    expect(page.get_by_role("link", name="JSON")).to_be_focused()


def test_a_timeline_grows_at_its_top_and_keeps_what_is_open_and_typed(
    client: Clients, reading: Reading
) -> None:
    identify(client, "ada", name="Ada")
    event = {"type": "track", "userId": "ada", "event": "signed in", "properties": {"from": "home"}}
    client.send(event)
    client.see("/api/users")
    reader = opened(client, reading, "/timeline")
    page = reader.page
    row = page.locator(".happened").filter(has_text="signed in")
    row.locator("summary").click()
    page.locator("#work").evaluate("one => one.focus()")
    client.send(event | {"event": "bought"})
    expect(page.locator(".happened").first).to_contain_text("bought")
    expect(row.locator("details")).to_have_attribute("open", "")
    assert page.locator("#happened > li.day").count() == 1
    assert is_the_same(reader)


def test_a_list_shows_who_is_new_but_not_while_rows_are_chosen(
    client: Clients, reading: Reading
) -> None:
    identify(client, "ada", name="Ada")
    reader = reading(client, "comply", path="/console/users?sort=name")
    page = reader.page
    with page.expect_response(lambda one: one.url == page.url, timeout=20_000):
        pass
    page.get_by_label("Select Ada").check()
    identify(client, "bob", name="Bob")
    page.wait_for_timeout(6_500)
    assert reader.names() == ["Ada"]
    page.get_by_label("Select Ada").uncheck()
    page.locator("#work").evaluate("one => one.focus()")
    expect(page.locator("#results tbody tr")).to_have_count(2)
    assert reader.names() == ["Ada", "Bob"]


def test_a_page_of_whom_is_erased_says_so_and_shows_nothing_of_them(
    client: Clients, reading: Reading
) -> None:
    identify(client, "ada", name="Ada")
    reader = opened(client, reading)
    client.erase("user", "external:ada")
    expect(reader.page.get_by_role("alert")).to_contain_text("This user was erased")
    assert "Ada" not in reader.page.content()


def test_a_page_of_the_past_does_not_listen(client: Clients, reading: Reading) -> None:
    identify(client, "ada", name="Ada")
    reader = reading(client, path="/console/users?as_of=2020-01-01T00:00:00Z")
    reader.refused = {400, 404, 503}
    reader.page.wait_for_timeout(2_500)
    assert not reader.page.evaluate(LISTENING)
