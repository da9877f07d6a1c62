"""Typed values: what is kept, what is refused alone and why, how a write merges."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from domain.properties import (
    MAX_LIST_ITEMS,
    MAX_NAME_CHARS,
    MAX_TEXT_CHARS,
    PropertyType,
    PropertyWrite,
    checked_value,
    checked_write,
    converted,
    day_in,
    inferred_type,
    is_acceptable,
    merged,
    name_problem,
    parse_instant,
)
from domain.texts import character_problem, trimmed

MONDAY = datetime(2024, 5, 13, 9, tzinfo=UTC)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.datetimes(timezones=st.just(UTC)).map(lambda at: at.isoformat())
    | st.sampled_from(["2024-02-30", "2024-13-01", "2024-05-13", "0001-01-01T00:00:00+10:00", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)  # fmt: skip


def at_midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


names = st.sampled_from(["plan", "seats", "since", "tags", "active"])
sent = st.dictionaries(names, json_values, max_size=5)
types = st.dictionaries(names, st.sampled_from(PropertyType))
values = st.one_of(
    st.booleans(), st.integers(-5, 5), st.sampled_from([0.0, 1.0, 1.5]), st.sampled_from(["", "a"])
)
states = st.dictionaries(names, values)
writes = st.builds(
    lambda changed, deleted: PropertyWrite(
        changed, tuple(name for name in sorted(deleted) if name not in changed), ()
    ),
    states,
    st.sets(names),
)


def distinct(value: object) -> tuple[bool, object]:
    """1 and 1.0 are one value, and True is another."""
    return isinstance(value, bool), value


def after(state: dict[str, object], write: PropertyWrite) -> dict[str, object]:
    result = merged(state, {}, write, MONDAY)
    kept = {name: value for name, value in state.items() if name not in result.deleted}
    return kept | result.values


@given(sent, types)
def test_each_value_is_kept_deletes_its_key_or_is_refused_alone(
    sent: dict[str, object], types: dict[str, PropertyType]
) -> None:
    write = checked_write(sent, types)
    refused = {one.name for one in write.refused}
    assert sorted([*write.values, *write.deleted, *refused]) == sorted(sent)
    assert set(write.deleted) == {name for name, value in sent.items() if value is None}
    for name, value in sent.items():
        alone = checked_write({name: value}, types)
        assert alone.values.get(name, alone) == write.values.get(name, alone)
        assert (name in refused) == bool(alone.refused)


@given(sent, types)
def test_what_is_kept_has_the_fixed_type_and_can_be_stored_and_shown(
    sent: dict[str, object], types: dict[str, PropertyType]
) -> None:
    for name, value in checked_write(sent, types).values.items():
        if isinstance(value, datetime):
            assert types[name] is PropertyType.DATE
            assert value.tzinfo is UTC
            continue
        found = inferred_type(value)
        assert found is types[name] or (types[name], found) == (
            PropertyType.STRING,
            PropertyType.DATE,
        )
        text = json.dumps(value, allow_nan=False)
        assert "\\u0000" not in text
        text.encode()


@given(json_values)
def test_a_first_value_is_kept_under_the_type_that_it_suggests(value: object) -> None:
    kind = inferred_type(value)
    if is_acceptable(value):
        assert kind is not None
        assert checked_write({"plan": value}, {"plan": kind}).refused == ()
    elif value is not None:
        [refused] = checked_write({"plan": value}, {"plan": kind} if kind else {}).refused
        assert refused.name == "plan"
        assert refused.reason


@pytest.mark.parametrize(
    ("value", "expected", "reason"),
    [
        (True, PropertyType.DATE, "expected a date, got a boolean"),
        ("yes", PropertyType.BOOLEAN, "expected a boolean, got a string"),
        (1, PropertyType.BOOLEAN, "expected a boolean, got a number"),
        (True, PropertyType.NUMBER, "expected a number, got a boolean"),
        ("12", PropertyType.NUMBER, "expected a number, got a string"),
        (12, PropertyType.STRING, "expected a string, got a number"),
        ({}, PropertyType.STRING, "expected a string, got an object"),
        ("a", PropertyType.LIST, "expected a list of strings, got a string"),
        ([1], PropertyType.LIST, "expected a list of strings, got a list"),
        ("soon", PropertyType.DATE, "expected a date, got a string"),
        ("2024-02-30", PropertyType.DATE, "expected a date (ISO 8601), got an impossible one"),
        ("2024-05-13T10:00:00", PropertyType.DATE, "the time has no zone"),
        (math.nan, PropertyType.NUMBER, "the number is not finite or does not fit 64 bits"),
        (math.inf, PropertyType.NUMBER, "the number is not finite or does not fit 64 bits"),
        (1e300, PropertyType.NUMBER, "the number is not finite or does not fit 64 bits"),
        (2**63, PropertyType.NUMBER, "the number is not finite or does not fit 64 bits"),
        ("a\0b", PropertyType.STRING, "the text holds a NUL character"),
        ("\ud83d", PropertyType.STRING, "the text holds half a surrogate pair"),
        (["\ud83d"], PropertyType.LIST, "the text holds half a surrogate pair"),
        ("a" * (MAX_TEXT_CHARS + 1), PropertyType.STRING, "the text has 8193 characters"),
        (["a"] * (MAX_LIST_ITEMS + 1), PropertyType.LIST, "the list has 257 items"),
    ],
)
def test_a_refusal_says_what_was_expected_and_what_came(
    value: object, expected: PropertyType, reason: str
) -> None:
    with pytest.raises(ValueError, match="^" + reason.replace("(", r"\(").replace(")", r"\)")):
        checked_value(value, expected)


@pytest.mark.parametrize(
    "value", ["", "2024-05-13 at noon", "\U0001f600é", -(2**63) + 1, 2**63 - 1, 0.1, False, []]
)
def test_values_at_the_edges_are_kept_as_they_came(value: object) -> None:
    kind = inferred_type(value)
    assert kind is not None
    expected = PropertyType.STRING if kind is PropertyType.DATE else kind
    assert checked_value(value, expected) == value


def test_a_property_of_type_string_takes_a_text_that_looks_like_a_date() -> None:
    assert checked_value("2024-05-13", PropertyType.STRING) == "2024-05-13"


@given(st.datetimes(), st.integers(-23 * 60, 23 * 60))
def test_a_date_is_the_same_instant_whatever_its_offset(local: datetime, minutes: int) -> None:
    assume(1 < local.year < 9999)
    at = local.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert parse_instant(at.isoformat()) == at
    assert parse_instant(at.isoformat()).tzinfo is UTC


def test_a_bare_date_is_midnight_utc_and_z_is_an_offset() -> None:
    assert parse_instant("2024-05-13") == datetime(2024, 5, 13, tzinfo=UTC)
    assert parse_instant("2024-05-13T00:00Z") == datetime(2024, 5, 13, tzinfo=UTC)


@given(st.dates())
def test_a_date_without_a_time_is_a_calendar_day_and_stays_one(day: date) -> None:
    text = day.isoformat()
    assert checked_value(text, PropertyType.DATE) == text
    assert day_in(text) == day
    write = checked_write({"since": text}, {"since": PropertyType.DATE})
    assert merged({"since": text}, {}, write, MONDAY).values == {}


@given(st.datetimes(timezones=st.just(UTC)) | st.dates().map(at_midnight))
def test_a_date_with_a_time_is_an_instant_even_at_midnight_utc(at: datetime) -> None:
    assert checked_value(at.isoformat(), PropertyType.DATE) == at
    assert day_in(at.isoformat()) is None


def test_a_day_and_the_instant_of_its_midnight_are_two_values() -> None:
    write = checked_write({"since": "2024-05-13T00:00:00Z"}, {"since": PropertyType.DATE})
    changed, _, before, *_ = merged({"since": "2024-05-13"}, {}, write, MONDAY)
    assert changed == {"since": datetime(2024, 5, 13, tzinfo=UTC)}
    assert before == {"since": "2024-05-13"}


@pytest.mark.parametrize("text", ["2024-02-30", "0000-01-01", "2023-02-29", "2024-00-10"])
def test_an_impossible_day_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="an impossible one"):
        checked_value(text, PropertyType.DATE)


@pytest.mark.parametrize("text", ["0001-01-01T00:00+01:00", "9999-12-31T23:59-01:00", "2024-W20-9"])
def test_a_date_that_utc_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the reason differs, that there is one is the law
        parse_instant(text)


@given(st.text(max_size=MAX_NAME_CHARS + 5))
def test_a_name_that_is_taken_can_be_shown_and_stored(name: str) -> None:
    if name_problem(name) is None:
        assert name
        assert name == trimmed(name)
        assert character_problem(name) is None
        name.encode()


@pytest.mark.parametrize(
    "name",
    [
        "",
        " plan",
        "a\x01b",
        "a" * 129,
        "jo@x.be",
        "4f9a3c" * 6,
        "half \ud800",
        "a\u202eb",
        "a\u2028b",
    ],
)
def test_a_name_that_may_be_personal_or_cannot_be_shown_is_refused(name: str) -> None:
    assert name_problem(name)


@pytest.mark.parametrize(
    "name",
    [
        "hs_analytics_num_page_views_last_30_days",
        "👩\u200d💻 opened",
        "می\u200cخواهم",
        "Total\u202f€",
        "Total\xa0€",
        "100% @ home",
    ],
)
def test_a_name_may_hold_what_languages_and_emoji_need(name: str) -> None:
    assert name_problem(name) is None


def test_a_name_that_is_in_use_stays_whatever_the_rules_for_new_ones_are() -> None:
    name = "4f9a3c" * 6
    assert checked_write({name: 1}, {name: PropertyType.NUMBER}).values == {name: 1}
    assert checked_write({name: 1}, {}).refused[0].name == name


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-01 10:00 kick-off with the board",
        "2026-05-01 and later",
        "2026-05-01T10:00Z!",
        "2026-05-01\n",
        " 2026-05-01",
        "٢٠٢٦-٠٥-٠١",
        "２０２６-05-01",
        "2026-13-45",
        "2026-02-30",
        "2026-05-01T25:00Z",
        "2026-05-01T10:00+99:00",
        "20260501",
        "2026-W18-5",
        "2026-05",
        "1-2-3",
    ],
)
def test_a_first_text_that_is_no_date_from_beginning_to_end_is_a_text(text: str) -> None:
    assert inferred_type(text) is PropertyType.STRING
    assert is_acceptable(text)


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-01",
        "2026-05-01T10:00Z",
        "2026-05-01 10:00:00+02:00",
        "2026-05-01T10:00:00.123456789Z",
        "2026-05-01T10:00:00-0530",
        "2026-05-01T10:00:00,5+02",
    ],
)
def test_a_first_text_that_is_a_date_is_one(text: str) -> None:
    assert inferred_type(text) is PropertyType.DATE
    assert is_acceptable(text)


def test_a_first_time_without_a_zone_is_refused_with_the_remedy() -> None:
    [refused] = checked_write({"at": "2026-05-01T10:00:00"}, {"at": PropertyType.DATE}).refused
    assert refused.reason == "the time has no zone; end it with Z or an offset like +02:00"
    assert not is_acceptable("2026-05-01T10:00:00")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (3.0, 3),
        (-0.0, 0),
        (1e3, 1000),
        (float(2**53), 2**53),
        (1e17, 1e17),
        (0.5, 0.5),
        (True, True),
    ],
)
def test_a_number_has_one_form(sent: Any, kept: Any) -> None:
    kind = inferred_type(sent)
    assert kind is not None
    value = checked_value(sent, kind)
    assert (type(value), value) == (type(kept), kept)


@given(st.integers(-(2**53), 2**53))
def test_a_whole_number_that_was_sent_with_a_point_before_is_no_change(number: int) -> None:
    write = PropertyWrite({"seats": number}, (), ())
    assert merged({"seats": float(number)}, {}, write, MONDAY).values == {}


def test_composed_and_decomposed_letters_are_one_value() -> None:
    decomposed = checked_write({"city": "Lie\u0300ge"}, {"city": PropertyType.STRING})
    assert decomposed.values == {"city": "Liège"}


@given(states, writes)
def test_a_write_sets_what_it_names_deletes_nulls_and_leaves_the_rest(
    state: dict[str, object], write: PropertyWrite
) -> None:
    result = after(state, write)
    for name in {*state, *write.values, *write.deleted}:
        if name in write.values:
            assert result[name] == write.values[name]
        elif name in write.deleted:
            assert name not in result
        else:
            assert result[name] == state[name]


@given(states, writes)
def test_a_write_that_arrives_again_changes_nothing(
    state: dict[str, object], write: PropertyWrite
) -> None:
    said_at = dict.fromkeys((*write.values, *write.deleted), MONDAY)
    assert merged(after(state, write), said_at, write, MONDAY) == ({}, [], {}, [], {}, [])
    again = merged(after(state, write), said_at, write, MONDAY + timedelta(days=1))
    assert again == ({}, [], {}, [*write.values, *write.deleted], {}, [])


@given(states, writes)
def test_only_what_really_changed_is_recorded(
    state: dict[str, object], write: PropertyWrite
) -> None:
    result = merged(state, {}, write, MONDAY)
    for name, value in result.values.items():
        assert name not in state or distinct(state[name]) != distinct(value)
    assert set(result.deleted) <= state.keys()


@given(states, writes)
def test_the_values_before_a_write_turn_what_comes_of_it_back(
    state: dict[str, object], write: PropertyWrite
) -> None:
    changed, deleted, before, *_ = merged(state, {}, write, MONDAY)
    assert before.keys() <= changed.keys() | set(deleted)
    untouched = {name: value for name, value in after(state, write).items() if name not in changed}
    assert untouched | before == state


def test_true_and_one_are_two_values() -> None:
    write = PropertyWrite({"active": 1}, (), ())
    changed, _, before, *_ = merged({"active": True}, {}, write, MONDAY)
    assert (changed, before) == ({"active": 1}, {"active": True})
    assert before["active"] is True


moments = st.integers(0, 5).map(lambda days: MONDAY + timedelta(days=days))
dated = st.lists(st.tuples(moments, writes), unique_by=lambda one: one[0], max_size=6)


@given(dated, st.randoms(use_true_random=False))
def test_the_order_of_arrival_makes_no_difference(
    sent: list[tuple[datetime, PropertyWrite]], order: Random
) -> None:
    def written(arriving: list[tuple[datetime, PropertyWrite]]) -> dict[str, object]:
        state: dict[str, object] = {}
        said_at: dict[str, datetime] = {}
        for at, write in arriving:
            result = merged(state, said_at, write, at)
            kept = {name: value for name, value in state.items() if name not in result.deleted}
            state = kept | result.values
            said = (*result.values, *result.deleted, *result.confirmed)
            said_at |= dict.fromkeys(said, at)
        return state

    in_order = sorted(sent, key=lambda one: one[0])
    shuffled = list(sent)
    order.shuffle(shuffled)
    assert written(shuffled) == written(in_order)


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)
typed = st.one_of(
    st.booleans(),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(-9e18, 9e18),
    texts,
    st.sampled_from(["7", "007", "-1.50", "1e3", "true", "False", "2024-05-13", "9" * 30, "٣"]),
    st.datetimes(timezones=st.just(UTC)),
    st.lists(texts | st.sampled_from(["5", "true"]), max_size=2),
)


def as_json(value: object) -> object:
    """As a read model has it, where all numbers are decimals without an exponent."""
    if isinstance(value, float):
        return json.loads(f"{Decimal(repr(value)):f}") if value else 0.0
    return value if isinstance(value, bool | int | str | list) else msgspec.to_builtins(value)


@given(typed, st.sampled_from(PropertyType))
def test_a_converted_value_is_one_of_its_new_type_and_the_same_from_the_log_and_from_json(
    value: Any, to: PropertyType
) -> None:
    found = converted(value, to)
    again = converted(as_json(value), to)  # type: ignore[arg-type]
    assert (found is None) == (again is None)
    if found is None:
        return
    assert as_json(found) == as_json(again)
    if isinstance(found, datetime):
        assert to is PropertyType.DATE
        assert found.tzinfo is UTC
    elif to is PropertyType.DATE:
        assert day_in(found) is not None
    else:
        assert checked_value(found, to) == found
        assert type(checked_value(found, to)) is type(found)


@given(typed, st.sampled_from(PropertyType))
def test_what_was_converted_without_loss_comes_back(value: Any, to: PropertyType) -> None:
    assume(not isinstance(value, str | list))  # texts write the same number in several ways
    was = PropertyType.DATE if isinstance(value, datetime) else inferred_type(value)
    found = converted(value, to)
    assert was is not None
    assert found is None or as_json(converted(found, was)) == as_json(value)


@pytest.mark.parametrize(
    ("value", "to", "found"),
    [
        ("12", PropertyType.NUMBER, 12),
        ("-1.50", PropertyType.NUMBER, -1.5),
        ("1e3", PropertyType.NUMBER, None),
        ("9" * 30, PropertyType.NUMBER, None),
        (" 1", PropertyType.NUMBER, None),
        (2.5, PropertyType.STRING, "2.5"),
        (5.0, PropertyType.STRING, "5"),
        (1e16, PropertyType.STRING, "10000000000000000"),
        (True, PropertyType.STRING, "true"),
        ("FALSE", PropertyType.BOOLEAN, False),
        (1, PropertyType.BOOLEAN, True),
        (2, PropertyType.BOOLEAN, None),
        ("yes", PropertyType.BOOLEAN, None),
        ("2026-05-01", PropertyType.DATE, "2026-05-01"),
        ("2026-05-01T00:00:00Z", PropertyType.DATE, datetime(2026, 5, 1, tzinfo=UTC)),
        ("2026-05-01", PropertyType.STRING, "2026-05-01"),
        ("2026-05-01", PropertyType.LIST, ["2026-05-01"]),
        ("2026-05-01", PropertyType.NUMBER, None),
        ("2026-02-30", PropertyType.DATE, None),
        (datetime(2026, 5, 1, tzinfo=UTC), PropertyType.STRING, "2026-05-01T00:00:00Z"),
        (datetime(2026, 5, 1, tzinfo=UTC), PropertyType.NUMBER, None),
        ("a", PropertyType.LIST, ["a"]),
        (["7"], PropertyType.NUMBER, 7),
        (["a", "b"], PropertyType.STRING, None),
        ([], PropertyType.STRING, None),
    ],
)
def test_values_that_fit_are_converted(value: Any, to: PropertyType, found: object) -> None:
    assert converted(value, to) == found
    assert type(converted(value, to)) is type(found)
