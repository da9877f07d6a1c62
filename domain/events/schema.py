"""Schema versions of stored events, and how payloads of older forms are brought to today's.

A stored event names its topic and a schema version. The version says how the payload is sealed and
which form it has. The history of every topic:

- Version 1: sealed under the key of the subject. All topics began with it; most still have it.
- Version 2: tracked activity, sealed under a key of the subject for the month of the activity.
- Version 3: events with what a definition says, each sealed under a key of its own.
- Version 4: events with values of properties, where a calendar day is the text `2026-05-13`; it was
  the instant of its midnight UTC before.

A new field with a default needs no new version: a payload without it decodes. Any other change of
a form gets a new version, for its topics alone, and an upcaster for the versions before it. Stored
events are never rewritten.

Before that rule, one form changed within version 1: `segment_entered` and `segment_left` called
`definition` by the name `segment`. Also within version 1, `absorbed` once listed the memberships
that were taken over; they are events of their own since, and the list is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, time
from typing import Any

import msgspec

from domain.errors import UnreadableEvent
from domain.events.payloads import (
    Absorbed,
    MembershipChanged,
    MembershipStarted,
    Payload,
    PropertiesChanged,
    Tracked,
)
from domain.events.topics import PAYLOAD_OF_TOPIC, SAYS
from domain.properties import Values

FIRST_VERSION = 1
MONTH_KEYS_VERSION = 2
CONTENT_KEYS_VERSION = 3
DAYS_VERSION = 4

WITH_VALUES = (PropertiesChanged, MembershipStarted, MembershipChanged, Absorbed)
"""Payloads with values of properties."""

_FIELDS_WITH_VALUES = ("values", "before", "properties")


class NewerSchemaVersion(UnreadableEvent):
    """An event was stored by a newer version of Annals. Names its topic, version and position."""


def schema_version(payload: type[Payload]) -> int:
    """The version that payloads of a type are stored under today."""
    if payload is Tracked:
        return MONTH_KEYS_VERSION
    if payload in WITH_VALUES:
        return DAYS_VERSION
    return CONTENT_KEYS_VERSION if payload in SAYS else FIRST_VERSION


SCHEMA_VERSIONS: Mapping[str, tuple[int, ...]] = {
    topic: tuple(sorted({FIRST_VERSION, schema_version(payload)}))
    for topic, payload in PAYLOAD_OF_TOPIC.items()
}
"""Topic to the versions that it was ever stored under, the newest last."""


def _name_definition(payload: dict[str, Any]) -> dict[str, Any]:
    """The transition of a segment, which named its definition `segment` at first."""
    if "segment" not in payload:
        return payload
    rest = {name: value for name, value in payload.items() if name != "segment"}
    return {"definition": payload["segment"], **rest}


def _days(payload: dict[str, Any]) -> dict[str, Any]:
    """Values of properties, in which a calendar day was the instant of its midnight UTC."""
    return {
        field: _with_days(held) if field in _FIELDS_WITH_VALUES else held
        for field, held in payload.items()
    }


def _with_days(values: Values) -> Values:
    return {
        name: value.date().isoformat() if _was_day(value) else value
        for name, value in values.items()
    }


def _was_day(value: object) -> bool:
    return isinstance(value, datetime) and value.timetz() == time(tzinfo=UTC)


def _has_days(payload: Payload, fields: Sequence[str]) -> bool:
    for field in fields:
        for value in getattr(payload, field).values():
            if type(value) is datetime and _was_day(value):
                return True
    return False


Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTERS: Mapping[tuple[str, int], Upcaster] = {
    (f"{kind}.{verb}", FIRST_VERSION): _name_definition
    for kind in ("user", "account")
    for verb in ("segment_entered", "segment_left")
} | {
    (topic, FIRST_VERSION): _days
    for topic, payload in PAYLOAD_OF_TOPIC.items()
    if payload in WITH_VALUES
}
"""Topic and version to the function that converts a payload to the next version of the topic; for
the newest version, to today's form. Pure; leaves a payload of that form as it is."""


def upcast(topic: str, version: int, payload: dict[str, Any]) -> dict[str, Any]:
    """Brings a payload, as it was stored, to today's form.

    Raises:
        NewerSchemaVersion: the version is newer than those of the topic.
        UnreadableEvent: the topic was never stored under this version.
    """
    check_known(topic, version)
    for each in SCHEMA_VERSIONS[topic]:
        if each >= version and (topic, each) in UPCASTERS:
            payload = UPCASTERS[topic, each](payload)
    return payload


def check_known(topic: str, version: int) -> None:
    """
    Raises:
        NewerSchemaVersion: the version is newer than those of the topic.
        UnreadableEvent: no version of Annals so far stored the topic under this version.
    """
    versions = SCHEMA_VERSIONS.get(topic)
    if versions is None:
        raise UnreadableEvent(f"{topic} is no topic that this version of Annals knows")
    if version > versions[-1]:
        raise NewerSchemaVersion(
            f"{topic} has schema version {version}: a newer version of Annals stored it, for this"
            f" one reads versions up to {versions[-1]}; upgrade Annals"
        )
    if version not in versions:
        raise UnreadableEvent(f"{topic} never had schema version {version}")


def decoder(topic: str, version: int) -> Callable[[bytes], Payload]:
    """Returns the decoder of stored payloads (MessagePack) of a topic and version to today's type.
    Payloads of today's form, and with today's meaning, are decoded directly; others are upcast.

    Raises:
        NewerSchemaVersion, UnreadableEvent: see `upcast`.
    """
    check_known(topic, version)
    direct = msgspec.msgpack.Decoder(PAYLOAD_OF_TOPIC[topic]).decode
    versions = SCHEMA_VERSIONS[topic]
    if not any((topic, each) in UPCASTERS for each in versions if each >= version):
        return direct

    known = PAYLOAD_OF_TOPIC[topic].__struct_fields__
    fields = [field for field in _FIELDS_WITH_VALUES if field in known]

    def decode(stored: bytes) -> Payload:
        try:
            payload = direct(stored)
        except msgspec.ValidationError:
            pass
        else:
            if not _has_days(payload, fields):
                return payload
        older = msgspec.msgpack.decode(stored, type=dict[str, Any])
        return msgspec.convert(upcast(topic, version, older), PAYLOAD_OF_TOPIC[topic])

    return decode
