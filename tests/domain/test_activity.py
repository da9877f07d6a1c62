"""What subjects did, and how their visits came."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.activity import (
    MAX_METADATA_KEYS,
    channel_of,
    checked_metadata,
    event_name,
    occurrence,
    page_name,
)
from domain.errors import InvalidInput
from domain.texts import nfc

SITE = "https://www.shop.example/cart"


@pytest.mark.parametrize(
    ("campaign", "referrer", "channel"),
    [
        ({"medium": "cpc", "source": "google"}, None, "paid"),
        ({"medium": "Paid-Social"}, None, "paid"),
        ({"medium": "newsletter"}, None, "email"),
        ({"medium": "E-mail"}, "https://google.com/", "email"),
        ({"medium": "social-media"}, None, "social"),
        ({"medium": "Podcast"}, None, "podcast"),
        ({"source": "flyer"}, "https://google.com/", "campaign"),
        ({}, "", "direct"),
        ({}, "https://www.google.be/search?q=shop", "organic"),
        ({}, "https://m.facebook.com/", "social"),
        ({}, "https://blog.example/post", "referral"),
        ({}, "https://shop.example/", None),
        ({}, "not a url", None),
        ({}, "https://[broken", None),
        ({}, None, None),
    ],
)
def test_a_visit_has_the_channel_by_which_it_came(
    campaign: dict[str, str], referrer: str | None, channel: str | None
) -> None:
    assert channel_of(campaign, referrer, SITE) == channel


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://shop.example", "shop.example/"),
        ("https://SHOP.example/Cart/", "shop.example/Cart"),
        ("https://u:p@shop.example:8443/a/b?email=jo@x.be#jo", "shop.example/a/b"),
        ("//shop.example/a", "shop.example/a"),
    ],
)
def test_a_page_is_counted_under_host_and_path_alone(url: str, name: str) -> None:
    assert page_name(url, pointer="/url") == name


@pytest.mark.parametrize(
    "url", [None, 5, "", "/cart", "cart", "https://", "https://[x", "https://x/\ny", "h" * 3000]
)
def test_what_is_no_web_address_is_no_page(url: object) -> None:
    with pytest.raises(InvalidInput) as refusal:
        page_name(url, pointer="/properties/url")
    assert refusal.value.pointer == "/properties/url"


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_page_name_never_holds_query_or_fragment(path: str, secret: str) -> None:
    try:
        name = page_name(f"https://shop.example/{path}?{secret}#{secret}", pointer="/url")
    except InvalidInput:
        return
    assert "?" not in name
    assert "#" not in name


@pytest.mark.parametrize("name", [None, 5.5, True, [], {}, "", " \t", "a\nb", "jo@x.be"])
def test_an_event_has_a_name_that_the_catalogue_takes(name: object) -> None:
    with pytest.raises(InvalidInput) as refusal:
        event_name(name, pointer="/event")
    assert refusal.value.pointer == "/event"


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (" signed up\n", "signed up"),
        ("Ouvert le cafe\u0301", "Ouvert le café"),
        (404, "404"),
        (404.0, "404"),
        ("👩\u200d💻 opened", "👩\u200d💻 opened"),
        (
            "onboarding_step_2_company_details_completed",
            "onboarding_step_2_company_details_completed",
        ),
    ],
)
def test_the_name_of_an_event_is_trimmed_and_composed(sent: object, name: str) -> None:
    assert event_name(sent, pointer="/event") == name


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
        | st.lists(st.integers(), max_size=1),
        max_size=6,
    )
)  # fmt: skip
def test_each_metadata_value_is_kept_or_refused_alone(sent: dict[str, object]) -> None:
    kept, refused = checked_metadata(sent)
    assert len(kept) + len(refused) == sum(value is not None for value in sent.values())
    for name, value in kept.items():
        assert value == (nfc(sent[name]) if isinstance(sent[name], str) else sent[name])
    for value in kept.values():
        assert isinstance(value, str) or (math.isfinite(value) and abs(value) < 2**63)


def test_metadata_has_room_for_so_many_keys() -> None:
    kept, refused = checked_metadata({f"k{n}": n for n in range(MAX_METADATA_KEYS + 2)})
    assert len(kept) == MAX_METADATA_KEYS
    assert [one.name for one in refused] == ["k256", "k257"]


@given(
    st.datetimes(), st.integers(-23 * 60, 23 * 60),
    st.sampled_from(["Pacific/Kiritimati", "Pacific/Niue", "Europe/Brussels"]),
)  # fmt: skip
def test_what_is_taken_as_a_time_has_a_calendar_day_everywhere(
    local: datetime, minutes: int, zone: str
) -> None:
    at = local.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    try:
        instant = occurrence(at)
    except ValueError:
        assert local.year in (1, 2, 9998, 9999)
        return
    assert instant == at
    assert instant.tzinfo is UTC
    instant.astimezone(ZoneInfo(zone)).date()
