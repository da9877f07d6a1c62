"""Webhook items: the data that a destination gets of an event.

An item holds only what this module names: no reason that a person typed, no evidence of a decision,
no property that the destination does not name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from domain.definitions.destinations import Destination, SubscriptionKind
from domain.events.decisions import (
    DecisionEvent,
    HealthChanged,
    ScoreChanged,
    SegmentTransition,
    SignalTriggered,
    StageEntered,
    StageTransition,
)
from domain.events.payloads import (
    Absorbed,
    Identified,
    IdentitiesReleased,
    MembershipBackdated,
    MembershipChanged,
    MembershipEnded,
    MembershipStarted,
    MergedInto,
    Payload,
    PropertiesChanged,
    Registered,
    Tracked,
)
from domain.events.topics import ACTIVITY_OF_TOPIC
from domain.identity import Identity, SubjectId, SubjectKind
from domain.properties import Values

ERASED = "contact.erased"
"""The type of the item that all active destinations get, whatever they subscribe to."""

ERASED_TOPICS = frozenset(f"{kind}.erased" for kind in SubjectKind)

_VERBS: dict[SubscriptionKind, tuple[str, ...]] = {
    SubscriptionKind.PROPERTY: ("properties_changed", "absorbed"),
    SubscriptionKind.IDENTITY: ("registered", "identified", "identities_released"),
    SubscriptionKind.MEMBERSHIP: (
        "membership_started",
        "membership_backdated",
        "membership_changed",
        "membership_ended",
    ),
    SubscriptionKind.MERGE: ("absorbed", "merged_into"),
    SubscriptionKind.STAGE: ("stage_entered", "stage_left"),
    SubscriptionKind.HEALTH: ("health_changed",),
    SubscriptionKind.SCORE: ("score_changed",),
    SubscriptionKind.SEGMENT: ("segment_entered", "segment_left"),
    SubscriptionKind.SIGNAL: ("signal_triggered", "signal_ended"),
    SubscriptionKind.GOAL: ("goal_reached", "goal_missed"),
}

Data = dict[str, Any]


def topics(destination: Destination) -> frozenset[str]:
    """The topics of the events that a destination subscribes to, erasures excepted."""
    wanted = {news.about for news in destination.news}
    verbs = {verb for about in wanted for verb in _VERBS.get(about, ())}
    subscribed = {topic for topic, activity in ACTIVITY_OF_TOPIC.items() if activity in wanted}
    subscribed |= {f"{kind}.{verb}" for kind in SubjectKind for verb in verbs}
    if destination.kind is SubjectKind.USER:
        subscribed = {topic for topic in subscribed if topic.startswith(f"{SubjectKind.USER}.")}
    return frozenset(subscribed)


def item_data(
    destination: Destination,
    stream: SubjectId,
    payload: Payload | None,
    definitions: Mapping[UUID, str],
) -> Data | None:
    """The data of an item about an event of the destination's `topics`.

    None: the destination subscribes to other names, or the payload no longer opens.

    Args:
        stream: the stream of the event.
        definitions: the names of definitions, by id.
    """
    names_by_kind = {news.about: news.names for news in destination.news}
    match payload:
        case Tracked(activity):
            names = names_by_kind[SubscriptionKind(activity.kind.value)]
            if names is not None and activity.name not in names:
                return None
            return {"name": activity.name, "metadata": dict(activity.metadata)}
        case PropertiesChanged(values, deleted, before):
            changes = _changes(before, values, deleted, names_by_kind[SubscriptionKind.PROPERTY])
            return {"changes": changes} if changes else None
        case Absorbed():
            return _absorbed(payload, names_by_kind)
        case MergedInto(survivor):
            return {"merged": stream, "survivor": survivor}
        case Registered(identities) | Identified(identities) | IdentitiesReleased(identities):
            return {"identities": _identities(identities)} if identities else None
        case MembershipStarted(properties):
            return {"changes": _changes({}, properties, ())}
        case MembershipChanged(values, deleted, before):
            return {"changes": _changes(before, values, deleted)}
        case DecisionEvent():
            return _decided(payload, definitions)
        case MembershipEnded() | MembershipBackdated():
            return {}
        case _:
            return None


def is_own_segment(destination: Destination, payload: Payload | None) -> bool:
    """Whether an event enters or leaves the destination's own segment.

    Such an item is sent though the subject that left is no longer a member."""
    return isinstance(payload, SegmentTransition) and payload.definition == destination.segment


def _absorbed(
    payload: Absorbed, names_by_kind: Mapping[SubscriptionKind, list[str] | None]
) -> Data | None:
    changes: list[Data] = []
    if SubscriptionKind.PROPERTY in names_by_kind:
        names = names_by_kind[SubscriptionKind.PROPERTY]
        changes = _changes({}, payload.properties, payload.deleted, names)
    if SubscriptionKind.MERGE not in names_by_kind and not changes:
        return None
    return {"others": list(payload.others), "changes": changes}


def _decided(payload: DecisionEvent, definitions: Mapping[UUID, str]) -> Data:
    data: Data = {
        "definition": payload.definition,
        "version": payload.version,
        "name": definitions.get(payload.definition),
    }
    match payload:
        case StageTransition(stage=stage):
            data["stage"] = stage
            if isinstance(payload, StageEntered):
                data["by_hand"] = payload.by_hand
        case HealthChanged(before=before, after=after):
            data |= {"before": before, "after": after}
        case ScoreChanged(before=before, after=after, held=held, missed=missed):
            data |= {"before": before, "after": after, "held": held, "missed": missed}
        case SignalTriggered(goal_due_at=goal_due_at):
            data["goal_due_at"] = goal_due_at
        case _:
            pass
    return data


def _changes(
    before: Values, values: Values, deleted: Collection[str], names: list[str] | None = None
) -> list[Data]:
    return [
        {"name": name, "before": before.get(name), "after": values.get(name)}
        for name in sorted({*values, *deleted})
        if names is None or name in names
    ]


def _identities(identities: Collection[Identity]) -> list[Data]:
    return [{"scheme": identity.scheme, "value": identity.value} for identity in identities]
