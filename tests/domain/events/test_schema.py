"""Stored events of every topic and version there ever was decode to what they say today."""

from __future__ import annotations

from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import UnreadableEvent
from domain.events.decisions import OfDay, OfEvent, SegmentEntered
from domain.events.payloads import Absorbed, Payload
from domain.events.schema import (
    SCHEMA_VERSIONS,
    UPCASTERS,
    NewerSchemaVersion,
    decoder,
    schema_version,
    upcast,
)
from domain.events.topics import PAYLOAD_OF_TOPIC
from domain.identity import SubjectKind


class StoredPayload(msgspec.Struct, forbid_unknown_fields=True):
    """
    Attributes:
        stored_by: the version or, before the first, the commit whose code encoded it.
        payload: the MessagePack that was sealed, in hex.
        value: what it says today, as JSON of today's type.
    """

    stored_by: str
    topics: list[str]
    schema_version: int
    payload: str
    value: dict[str, Any]


STORED = msgspec.json.decode(
    (Path(__file__).parent / "stored_payloads.json").read_bytes(), type=list[StoredPayload]
)
"""Never changed, only added to: a new form of a payload gets an entry, the old one stays."""


@pytest.mark.parametrize("topic", PAYLOAD_OF_TOPIC)
def test_every_payload_that_was_ever_stored_decodes_to_what_it_says_today(topic: str) -> None:
    stored = [each for each in STORED if topic in each.topics]
    assert {each.schema_version for each in stored} == set(SCHEMA_VERSIONS[topic])
    for each in stored:
        payload = decoder(topic, each.schema_version)(bytes.fromhex(each.payload))
        assert payload == msgspec.convert(each.value, PAYLOAD_OF_TOPIC[topic]), each.stored_by


@pytest.mark.parametrize("topic", PAYLOAD_OF_TOPIC)
def test_what_is_stored_today_is_of_the_newest_version_and_decodes(topic: str) -> None:
    assert schema_version(PAYLOAD_OF_TOPIC[topic]) == SCHEMA_VERSIONS[topic][-1]
    newest = SCHEMA_VERSIONS[topic][-1]
    for each in STORED:
        if topic in each.topics:
            payload = decoder(topic, each.schema_version)(bytes.fromhex(each.payload))
            assert decoder(topic, newest)(msgspec.msgpack.encode(payload)) == payload


@pytest.mark.parametrize("topic", PAYLOAD_OF_TOPIC)
def test_a_newer_version_is_an_error_that_names_itself(topic: str) -> None:
    newer = SCHEMA_VERSIONS[topic][-1] + 1
    for read in (lambda: upcast(topic, newer, {}), lambda: decoder(topic, newer)):
        with pytest.raises(NewerSchemaVersion) as caught:
            read()
        assert f"{topic} has schema version {newer}" in str(caught.value)
        assert "upgrade" in str(caught.value)


@pytest.mark.parametrize(("topic", "version"), [("user.identified", 0), ("segment.defined", 2)])
def test_a_version_that_a_topic_never_had_is_an_error_too(topic: str, version: int) -> None:
    with pytest.raises(UnreadableEvent, match=f"never had schema version {version}") as caught:
        upcast(topic, version, {})
    assert not isinstance(caught.value, NewerSchemaVersion)


def test_a_segments_transition_once_called_its_definition_segment() -> None:
    first = [each for each in STORED if "segment" in msgpack(each)]
    assert {topic for each in first for topic in each.topics} == {
        f"{kind}.segment_{verb}" for kind in SubjectKind for verb in ("entered", "left")
    }
    entered = decoder("user.segment_entered", 1)(bytes.fromhex(first[0].payload))
    assert isinstance(entered, SegmentEntered)
    assert entered.cause == OfEvent(3, 17)
    entered = decoder("user.segment_entered", 1)(bytes.fromhex(first[1].payload))
    assert isinstance(entered, SegmentEntered)
    assert isinstance(entered.cause, OfDay)


def test_an_upcaster_leaves_a_payload_of_todays_form_as_it_is_and_changes_none_in_place() -> None:
    for (topic, version), each in UPCASTERS.items():
        for stored in STORED:
            if topic in stored.topics and stored.schema_version == version:
                before, payload = msgpack(stored), msgpack(stored)
                after = each(payload)
                assert payload == before
                assert each(after) == after


WITH_VALUES = [
    f"{kind}.{verb}"
    for kind in SubjectKind
    for verb in ("properties_changed", "membership_started", "membership_changed", "absorbed")
]
DAY = datetime(2024, 3, 5, tzinfo=UTC)


def with_values(topic: str, values: dict[str, Any]) -> bytes:
    """A payload of a topic that has the values in all places for values."""
    payload: dict[str, Any] = {"values": values, "deleted": [], "before": values}
    if topic.endswith("started"):
        payload = {"properties": values}
    if topic.endswith("absorbed"):
        payload = {"others": [], "identities": [], "properties": values}
    return msgspec.msgpack.encode(payload)


def values_of(payload: Payload) -> list[dict[str, Any]]:
    names = ("values", "before", "properties")
    return [getattr(payload, name) for name in names if hasattr(payload, name)]


@pytest.mark.parametrize("topic", WITH_VALUES)
def test_midnight_utc_once_stood_for_a_day_and_since_then_is_an_instant(topic: str) -> None:
    stored = with_values(topic, {"due": DAY, "met": DAY.replace(hour=9), "code": "x"})
    rest = {"met": DAY.replace(hour=9), "code": "x"}
    for values in values_of(decoder(topic, 1)(stored)):
        assert values == {"due": "2024-03-05", **rest}
    for values in values_of(decoder(topic, 4)(stored)):
        assert values == {"due": DAY, **rest}


@given(
    st.sampled_from(WITH_VALUES),
    st.dictionaries(
        st.text(max_size=3),
        st.datetimes(timezones=st.just(UTC))
        | st.dates().map(lambda day: datetime(day.year, day.month, day.day, tzinfo=UTC))
        | st.text(max_size=12)
        | st.integers(-5, 5)
        | st.lists(st.text(max_size=3), max_size=2),
        max_size=4,
    ),
)
def test_of_older_values_only_midnights_are_read_otherwise(
    topic: str, values: dict[str, Any]
) -> None:
    expected = {
        name: value.date().isoformat()
        if isinstance(value, datetime) and value.timetz() == time(tzinfo=UTC)
        else value
        for name, value in values.items()
    }
    stored = with_values(topic, values)
    assert all(read == expected for read in values_of(decoder(topic, 1)(stored)))
    assert all(read == values for read in values_of(decoder(topic, 4)(stored)))


def test_memberships_within_an_absorption_are_not_read() -> None:
    [first] = [each for each in STORED if "memberships" in msgpack(each)]
    payload = decoder("user.absorbed", 1)(bytes.fromhex(first.payload))
    assert isinstance(payload, Absorbed)
    assert payload.properties == {"plan": "pro"}


def msgpack(stored: StoredPayload) -> dict[str, Any]:
    return msgspec.msgpack.decode(bytes.fromhex(stored.payload), type=dict[str, Any])
