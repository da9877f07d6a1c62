"""Items of a timeline: the type of an event, its name, its changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.activity import ActivityKind
from domain.events.decisions import DecisionEvent, HealthChanged, StageTransition
from domain.events.payloads import (
    Absorbed,
    ActivitySummed,
    MembershipChanged,
    Payload,
    PropertiesBackdated,
    PropertiesChanged,
    StageSet,
    Tracked,
)
from domain.events.recorded import OpenedEvent
from domain.events.topics import ACTIVITY_OF_TOPIC, PAYLOAD_OF_TOPIC
from domain.identity import SubjectId, SubjectKind
from domain.properties import Values
from projections.kernel.gaps import Gap, GapReason, place_of
from projections.queries.contact_view import Named

DEFINITION_NAMES = sa.text("SELECT id, name FROM views.definitions WHERE id = ANY(:ids)")

DEFINITIONS_NAMED = sa.text("SELECT id FROM views.definitions WHERE name = ANY(:names)")

PROPERTIES_NAMED = sa.text("""
SELECT EXISTS (SELECT FROM views.catalogue
               WHERE scope IN ('user.property', 'account.property', 'membership.property')
                 AND name = ANY(:names))""")

GROUPS: dict[str, tuple[str, ...]] = {
    "property": ("properties_changed",),
    "membership": ("membership_started", "membership_changed", "membership_ended"),
    "stage": ("stage_entered", "stage_left"),
    "by_hand": ("stage_set", "stage_released"),
    "health": ("health_changed",),
    "score": ("score_changed",),
    "signal": ("signal_triggered", "signal_ended"),
    "goal": ("goal_reached", "goal_missed"),
    "segment": ("segment_entered", "segment_left"),
    "identity": (
        "registered",
        "identified",
        "identities_released",
        "absorbed",
        "merged_into",
        "erased",
    ),
}
"""Types of changes under one word each."""

_NAMED_BY_PROPERTIES = {
    f"{kind}.{verb}"
    for kind in SubjectKind
    for verb in ("properties_changed", "properties_backdated", "membership_changed", "absorbed")
}
_NAMED_BY_DECISIONS = {
    f"{kind}.{verb}"
    for kind in SubjectKind
    for group in ("stage", "health", "score", "signal", "goal", "segment")
    for verb in (*GROUPS[group], "stage_set")
}
_TYPE_OF_VERB = {
    "properties_backdated": "properties_changed",
    "membership_backdated": "membership_started",
}

HIDDEN_TOPICS = frozenset(f"{kind}.properties_confirmed" for kind in SubjectKind)
"""Topics of events that no timeline shows: nothing changed with them."""

_TOPICS_OF_TYPE: dict[str, list[str]] = {}
for _topic in PAYLOAD_OF_TOPIC:
    if _topic.partition(".")[0] in tuple(SubjectKind) and _topic not in HIDDEN_TOPICS:
        _verb = _topic.partition(".")[2]
        _type = ACTIVITY_OF_TOPIC.get(_topic) or _TYPE_OF_VERB.get(_verb, _verb)
        _TOPICS_OF_TYPE.setdefault(_type, []).append(_topic)

ITEM_TYPES = tuple(_TOPICS_OF_TYPE)
"""Every `type` that an item can have that is no gap."""

GAP = "gap"
"""The `type` of a gap."""

TYPES = tuple(dict.fromkeys((*ActivityKind, *GROUPS, *ITEM_TYPES)))
"""The item types that a timeline can be filtered by."""

TRACKED_EVENTS = frozenset(_TOPICS_OF_TYPE["event"])


class Party(msgspec.Struct, frozen=True):
    """The user or the account of an event; without a name once erased."""

    id: UUID
    external_id: str | None
    name: str | None
    erased: bool


class ValueChange(msgspec.Struct, frozen=True):
    """A change of a property's value; null: no value before, or none after."""

    name: str
    before: Any
    after: Any


class GapItem(msgspec.Struct, frozen=True):
    """Why an event does not open, though the keys that it needs are there.

    Attributes:
        topic: from its envelope, like `user.properties_changed`.
    """

    reason: GapReason
    topic: str


class TimelineItem(msgspec.Struct, frozen=True):
    """An item of a timeline: an event.

    Attributes:
        type: event, page, screen, channel, campaign, a change (`properties_changed`, ...), or
            `gap`: an event that does not open; only its envelope is shown.
        name: of the activity, the stage, the health, the score, the signal or the segment; null
            for other changes.
        changes: of properties of the subject or of its membership, by name; null: it changes none.
        details: metadata of the activity, or other facts; null: erased.
        position: partition and position in the log.
        kept: false: retention ended the activity; only its existence and time remain.
        gap: null unless `type` is `gap`.
    """

    at: datetime
    recorded_at: datetime
    type: str
    name: str | None
    user: Party | None
    account: Party | None
    changes: list[ValueChange] | None
    details: dict[str, Any] | None
    position: str
    kept: bool = True
    gap: GapItem | None = None


def topics_of(kind: SubjectKind, types: Iterable[str]) -> list[str]:
    """The topics of types and groups, as they concern a user or an account."""
    wanted = [named for type in types for named in GROUPS.get(type, (type,))]
    topics = dict.fromkeys(topic for named in wanted for topic in _TOPICS_OF_TYPE[named])
    of_users = f"{SubjectKind.USER}."
    return [topic for topic in topics if kind is SubjectKind.ACCOUNT or topic.startswith(of_users)]


def named_topics(topics: Iterable[str], *, properties: bool) -> list[str]:
    """The types whose items have a name to filter by.

    Args:
        properties: whether the name may be that of a property.
    """
    named = _NAMED_BY_DECISIONS | _NAMED_BY_PROPERTIES if properties else _NAMED_BY_DECISIONS
    return [topic for topic in topics if topic in named]


def name_of(event: OpenedEvent) -> str | None:
    """The name of activity, a stage or health; definitions have theirs in the read models."""
    match event.payload:
        case Tracked(activity):
            return activity.name
        case StageTransition(stage=stage) | StageSet(stage=stage):
            return stage
        case HealthChanged(after=after):
            return after.value
        case None if event.account_part is not None:
            return event.account_part.name
        case _:
            return None


def has_name(event: OpenedEvent, names: Collection[str], definitions: Collection[UUID]) -> bool:
    """Whether an event has one of these names, or is of one of the definitions with such a name."""
    name = name_of(event)
    if name is not None:
        return name in names
    match event.payload:
        case DecisionEvent(definition=definition):
            return definition in definitions
        case payload:
            return any(change.name in names for change in changes_of(payload) or ())


def changes_of(payload: Payload | None) -> list[ValueChange] | None:
    match payload:
        case PropertiesChanged(values, deleted, before) | MembershipChanged(
            values, deleted, before
        ):
            return _changes(before, values, deleted)
        case PropertiesBackdated(values, deleted):
            return _changes({}, values, deleted)
        case Absorbed(properties=properties, deleted=deleted):
            return _changes({}, properties, deleted)
        case _:
            return None


def _changes(before: Values, values: Values, deleted: Iterable[str]) -> list[ValueChange]:
    return [
        ValueChange(name, before.get(name), values.get(name))
        for name in sorted({*values, *deleted})
    ]


def items(
    conn: sa.Connection,
    events: Sequence[OpenedEvent | Gap],
    parties: Mapping[SubjectId, Named],
) -> list[TimelineItem]:
    """
    Args:
        parties: the users and accounts that exist.
    """
    ids = {
        event.payload.definition
        for event in events
        if not isinstance(event, Gap) and isinstance(event.payload, DecisionEvent)
    }
    names: dict[UUID, str] = {}
    if ids:
        names = {row.id: row.name for row in conn.execute(DEFINITION_NAMES, {"ids": list(ids)})}
    return [
        _gap(event, parties) if isinstance(event, Gap) else _item(event, parties, names)
        for event in events
    ]


def _gap(gap: Gap, parties: Mapping[SubjectId, Named]) -> TimelineItem:
    row = gap.row
    stream = _party(row.stream, parties, erased=row.stream not in parties)
    account = None
    if row.account is not None:
        account = _party(row.account, parties, erased=row.account not in parties)
    is_of_account = row.topic.startswith(f"{SubjectKind.ACCOUNT}.")
    return TimelineItem(
        at=row.occurred_at,
        recorded_at=row.recorded_at,
        type=GAP,
        name=None,
        user=None if is_of_account else stream,
        account=stream if is_of_account else account,
        changes=None,
        details=None,
        position=place_of(row),
        gap=GapItem(gap.reason, row.topic),
    )


def _item(
    event: OpenedEvent,
    parties: Mapping[SubjectId, Named],
    definitions: Mapping[UUID, str],
) -> TimelineItem:
    row, payload = event.row, event.payload
    kind, _, verb = row.topic.partition(".")
    name = name_of(event)
    if name is None and isinstance(payload, DecisionEvent):
        name = definitions.get(payload.definition)
    gone = payload is None if event.is_kept else row.stream not in parties
    stream = _party(row.stream, parties, erased=gone)
    account = None
    if row.account is not None:
        gone = row.account not in parties
        if row.topic in ACTIVITY_OF_TOPIC and event.is_kept:
            gone = event.account_part is None
        account = _party(row.account, parties, erased=gone)
    return TimelineItem(
        at=row.occurred_at,
        recorded_at=row.recorded_at,
        type=ACTIVITY_OF_TOPIC.get(row.topic) or _TYPE_OF_VERB.get(verb, verb),
        name=name,
        user=stream if kind == "user" else None,
        account=account if kind == "user" else stream,
        changes=changes_of(payload),
        details=_details(payload if payload is not None else event.account_sums),
        position=place_of(row),
        kept=event.is_kept,
    )


def _details(payload: Payload | None) -> dict[str, Any] | None:
    match payload:
        case None | PropertiesChanged() | PropertiesBackdated() | MembershipChanged():
            return None
        case Tracked(activity):
            return dict(activity.metadata)
        case ActivitySummed(days):
            return {"days": [msgspec.structs.asdict(day) for day in days]}
        case _:
            details: dict[str, Any] = msgspec.to_builtins(payload, str_keys=True)
            details.pop("said_at", None)  # the log's own account of values
            if isinstance(payload, Absorbed):
                for shown_as_changes in ("properties", "deleted"):
                    details.pop(shown_as_changes, None)
            return details


def _party(id: SubjectId, names: Mapping[SubjectId, Named], *, erased: bool) -> Party:
    named = names.get(id, Named(id, None, None))
    return Party(named.id, named.external_id, named.name, erased)
