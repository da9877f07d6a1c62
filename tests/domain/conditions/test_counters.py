"""Counters: conditions that test the same metadata share one, however they are written."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.calendar import LastDays, Moment
from domain.conditions import language as ask
from domain.conditions.counters import Counter, all_pass, counter_of, counters_of
from tests import random_conditions

NOW = Moment(datetime(2026, 5, 13, 12, tzinfo=UTC), UTC)
LARGE = ask.MetadataIs("sum", ask.Greater(100))
BY_CARD = ask.MetadataIs("via", ask.Is("card"))


def paid(*where: ask.MetadataIs) -> ask.Did:
    return ask.Did("event", "paid", where=list(where))


def test_the_order_of_tests_and_a_test_that_stands_twice_change_no_counter() -> None:
    assert counter_of(paid(LARGE, BY_CARD)) == counter_of(paid(BY_CARD, LARGE, BY_CARD))
    assert counter_of(paid(LARGE)).id != counter_of(paid(BY_CARD)).id


def test_how_often_and_in_which_period_is_counted_by_the_same_counter() -> None:
    often = ask.Did("event", "paid", ask.AtLeastTimes(3), LastDays(30), [LARGE])
    assert counter_of(often) == counter_of(paid(LARGE))


def test_the_id_of_a_counter_stays_the_same_for_ever() -> None:
    """It is stored: with another one all counters would be filled again."""
    assert str(counter_of(paid(LARGE, BY_CARD)).id) == "46de809f-c133-4296-bd62-9f1bd7645bb1"


def test_a_condition_needs_the_counters_of_all_its_parts() -> None:
    condition = ask.AllOf(
        [
            paid(LARGE),
            paid(),
            ask.OfAccounts(ask.AnyOf(), ask.Not(paid(BY_CARD))),
            ask.PropertyIs("plan", ask.IsSet()),
        ]
    )
    assert counters_of(condition) == {counter_of(paid(LARGE)), counter_of(paid(BY_CARD))}


def test_an_event_counts_where_its_metadata_passes_all_tests() -> None:
    counter = counter_of(paid(LARGE, BY_CARD))
    assert counter.counts({"sum": 101, "via": "card"}, NOW)
    assert not counter.counts({"sum": 101}, NOW)
    assert not counter.counts({"sum": 100, "via": "card"}, NOW)


@given(
    st.lists(random_conditions.tests_of_metadata(), min_size=1, max_size=4),
    st.dictionaries(st.sampled_from(random_conditions.METADATA), random_conditions.scalars),
)
def test_a_counter_counts_what_its_condition_would(
    where: list[ask.MetadataIs], metadata: dict[str, object]
) -> None:
    counter = counter_of(paid(*where))
    assert counter.counts(metadata, NOW) == all_pass(where, metadata, NOW)
    assert Counter(counter.activity, counter.name, counter.tests).id == counter.id


@pytest.mark.parametrize("zone", ["America/New_York", "UTC", "Pacific/Auckland"])
def test_a_day_in_metadata_is_that_day_in_every_zone(zone: str) -> None:
    moment = Moment(NOW.now, ZoneInfo(zone))
    before = counter_of(paid(ask.MetadataIs("due", ask.Before("2026-05-13"))))
    after = counter_of(paid(ask.MetadataIs("due", ask.After("2026-05-13"))))
    days = ["2026-05-12", "2026-05-13", "2026-05-14"]
    assert [before.counts({"due": day}, moment) for day in days] == [True, False, False]
    assert [after.counts({"due": day}, moment) for day in days] == [False, False, True]
    assert not before.counts({"due": "2026-02-30"}, moment)
