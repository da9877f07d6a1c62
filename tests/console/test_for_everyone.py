"""For every eye, hand and screen: accessibility, keyboard, widths, schemes, odd data, few bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Route, expect

from api.console.definitions import FAMILIES
from tests.console.reader import NARROW, WIDE, Reader
from tests.serving import Clients

Reading = Callable[..., Reader]

SIGN_IN = "/console/sign-in"
FIRST_VISIT_BYTES = 150_000
ADMINISTRATION = (
    *(f"/console/settings/new?type={one.value}&kind=user" for one in FAMILIES),
    "/console/settings/destinations",
    "/console/settings/destinations/new",
    "/console/settings/keys",
    "/console/settings/links",
    "/console/settings/retention",
    "/console/settings/counters",
    "/console/backtests",
)
TO_COME = ".bars .skeleton, #filters > .skeleton, [data-count] .none:text-is('counting…')"
"""What comes by itself after a page, and is waited for."""


def paths(world: Clients) -> list[str]:
    user = world.see("/api/users", limit=1)["items"][0]["id"]
    account = world.see("/api/accounts", limit=1)["items"][0]["id"]
    return [
        "/console/users",
        "/console/accounts?is.plan=starter&search=a",
        f"/console/users/{user}",
        f"/console/accounts/{account}/timeline",
        f"/console/accounts/{account}/properties",
        f"/console/accounts/{account}/users",
        f"/console/users/{user}/pages",
        f"/console/accounts/{account}/events",
        "/console/segments",
        "/console/segments/new?kind=user",
        "/console/erasures",
        "/console/settings",
    ]


@pytest.mark.parametrize("scope", [None, "comply", "admin"])
def test_axe_finds_no_serious_violation_and_no_page_is_wider_than_its_window(
    world: Clients, reading: Reading, scope: str | None
) -> None:
    """Dark changes colours alone, whatever the width: it is looked at once."""
    pages = {None: [SIGN_IN], "comply": paths(world), "admin": ADMINISTRATION}[scope]
    reader = reading(world, scope, path=None)
    for path in pages:
        reader.page.goto(path)
        expect(reader.page.locator(TO_COME)).to_have_count(0)
        overflows = [width for width in (WIDE, NARROW) if reader.overflows_at(width)]
        assert overflows == [], path
        reader.thin()
        assert reader.violations() == [], path
        reader.resize(WIDE)
        assert reader.violations_in_both_schemes() == [], path


def test_everything_is_reached_by_keys_and_the_focus_is_always_seen(
    world: Clients, reading: Reading
) -> None:
    reader = reading(world, "comply")
    page = reader.page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the work")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox", name="Search")).to_be_focused()
    page.get_by_role("link", name="Next").focus()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("j")
    page.keyboard.press("j")
    links = page.locator("#results tbody th a")
    expect(links.nth(1)).to_be_focused()
    page.keyboard.press("k")
    expect(links.first).to_be_focused()
    page.keyboard.press("x")
    expect(page.get_by_role("button", name="Delete 1")).to_be_enabled()
    summary = page.get_by_label("Segment: All users")
    summary.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="All segments")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="All segments")).to_be_hidden()
    expect(summary).to_be_focused()
    for _ in range(25):
        page.keyboard.press("Tab")
        seen = page.evaluate(
            "(() => { const at = document.activeElement, style = getComputedStyle(at);"
            " return at === document.body || style.outlineStyle !== 'none'; })()"
        )
        assert seen, page.evaluate("document.activeElement.outerHTML")
    links.first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/users/*-*")


def test_long_names_right_to_left_text_and_200_properties_break_nothing(
    client: Clients, reading: Reading
) -> None:
    long, arabic = "W" * 200, "שלום عمر حسن"
    many = {f"property {n:03}": n for n in range(200)}
    client.send({"type": "identify", "userId": "long", "traits": {"name": long, **many}})
    client.send({"type": "identify", "userId": "rtl", "traits": {"name": arabic, "title": arabic}})
    client.see("/api/users")
    columns = "&".join(f"column=property:property {n:03}" for n in range(100))
    reader = reading(client, "comply", path=f"/console/users?{columns}&sort=name")
    for width in (WIDE, NARROW):
        assert not reader.overflows_at(width)
        assert reader.names() == [long, arabic]
        assert len(reader.titles()) == 101
        direction = (
            "getComputedStyle(document.querySelectorAll('#results tbody th a')[1]).direction"
        )
        assert reader.page.evaluate(direction) == "rtl"
        reader.page.get_by_role("button", name="Choose columns").click()
        choices = reader.page.locator("#column-list li")
        expect(choices).to_have_count(209)
        reader.page.get_by_label("Find a column").fill("property 19")
        expect(reader.page.locator("#column-list li:visible")).to_have_count(10)
        reader.page.get_by_label("Find a column").fill("")
        reader.page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    for id in ("long", "rtl"):
        for tab in ("", "/properties", "/timeline"):
            reader.go(f"/console/users/external:{id}{tab}")
            assert not reader.overflows_at(NARROW)
            assert not reader.overflows_at(WIDE)


def test_a_first_visit_is_small_and_loads_nothing_from_elsewhere(
    world: Clients, reading: Reading
) -> None:
    reader = reading(world, None, first=True)
    sizes = []
    for signing_in in (False, True):
        if signing_in:
            reader.sign_in(world.keys["comply"])
        reader.settle()
    for one in reader.answers:
        assert one.url.startswith(world.url), one.url
        size = one.request.sizes()
        sizes.append(size["responseBodySize"] + size["responseHeadersSize"])
    assert 0 < sum(sizes) < FIRST_VISIT_BYTES, sum(sizes)


def test_what_is_slow_shows_where_it_will_stand_and_what_cannot_be_reached_is_said(
    world: Clients, reading: Reading
) -> None:
    reader = reading(world, path=None)
    page = reader.page
    held: list[Route] = []
    page.route("**/bars*", lambda route: held.append(route))  # noqa: PLW0108 - Playwright counts its parameters
    page.goto("/console/users")
    expect(page.locator("#bars .skeleton").first).to_be_visible()
    assert len(reader.names()) == 50
    page.wait_for_timeout(50)
    held[0].continue_()
    expect(page.locator("a.stage").first).to_be_visible()
    page.unroute("**/bars*")
    page.route("**/console/users?*", lambda route: route.abort())
    page.get_by_role("searchbox", name="Search").fill("x")
    expect(page.get_by_role("status")).to_have_text("Annals cannot be reached; try again")
    reader.complaints.clear()
