"""Topics: the names that payloads are stored under, and the kind of stream of each."""

from __future__ import annotations

from domain.definitions.types import DefinitionKind
from domain.events.decisions import (
    GoalMissed,
    GoalReached,
    HealthChanged,
    ScoreChanged,
    SegmentEntered,
    SegmentLeft,
    SignalEnded,
    SignalTriggered,
    StageEntered,
    StageLeft,
)
from domain.events.definitions import (
    DefinitionActivated,
    DefinitionArchived,
    DefinitionChanged,
    DefinitionCleaned,
    DefinitionDeleted,
    DefinitionMade,
    MembersListed,
    MembersUnlisted,
    NamesRestored,
    NamesRetired,
    PropertyTypeChanged,
)
from domain.events.payloads import (
    Absorbed,
    ActivitySummed,
    Erased,
    Identified,
    IdentitiesReleased,
    MembershipBackdated,
    MembershipChanged,
    MembershipEnded,
    MembershipStarted,
    MergedInto,
    Payload,
    PropertiesBackdated,
    PropertiesChanged,
    PropertiesConfirmed,
    Registered,
    StageReleased,
    StageSet,
    Tracked,
)
from domain.identity import SubjectKind

_AGGREGATE_PAYLOADS: dict[str, type[Payload]] = {
    "registered": Registered,
    "identified": Identified,
    "identities_released": IdentitiesReleased,
    "properties_changed": PropertiesChanged,
    "properties_confirmed": PropertiesConfirmed,
    "properties_backdated": PropertiesBackdated,
    "membership_started": MembershipStarted,
    "membership_backdated": MembershipBackdated,
    "membership_changed": MembershipChanged,
    "membership_ended": MembershipEnded,
    "absorbed": Absorbed,
    "merged_into": MergedInto,
    "stage_set": StageSet,
    "stage_released": StageReleased,
    "erased": Erased,
    "activity_summed": ActivitySummed,
}

_DECISION_PAYLOADS: dict[str, type[Payload]] = {
    "segment_entered": SegmentEntered,
    "segment_left": SegmentLeft,
    "stage_entered": StageEntered,
    "stage_left": StageLeft,
    "health_changed": HealthChanged,
    "score_changed": ScoreChanged,
    "signal_triggered": SignalTriggered,
    "signal_ended": SignalEnded,
    "goal_reached": GoalReached,
    "goal_missed": GoalMissed,
}

_DEFINITION_PAYLOADS: dict[str, type[Payload]] = {
    "defined": DefinitionMade,
    "changed": DefinitionChanged,
    "activated": DefinitionActivated,
    "archived": DefinitionArchived,
    "deleted": DefinitionDeleted,
    "cleaned": DefinitionCleaned,
}

_LIST_PAYLOADS: dict[str, type[Payload]] = {
    "members_listed": MembersListed,
    "members_unlisted": MembersUnlisted,
}

_NAME_PAYLOADS: dict[str, type[Payload]] = {
    "names_retired": NamesRetired,
    "names_restored": NamesRestored,
    "property_type_changed": PropertyTypeChanged,
}

_ACTIVITY_TOPICS = {
    "event": "event_tracked",
    "page": "page_viewed",
    "screen": "screen_viewed",
    "channel": "channel_touched",
    "campaign": "campaign_touched",
}


StreamKind = SubjectKind | DefinitionKind
"""The kind of a stream, which is the first part of its topics."""

_PAYLOADS: dict[StreamKind, dict[str, type[Payload]]] = {
    **dict.fromkeys(SubjectKind, _AGGREGATE_PAYLOADS | _DECISION_PAYLOADS),
    **dict.fromkeys(DefinitionKind, _DEFINITION_PAYLOADS | _LIST_PAYLOADS),
    DefinitionKind.SETTINGS: _DEFINITION_PAYLOADS | _LIST_PAYLOADS | _NAME_PAYLOADS,
}

TOPIC_OF_PAYLOAD: dict[tuple[StreamKind, type[Payload]], str] = {
    (kind, payload): f"{kind}.{verb}"
    for kind, payloads in _PAYLOADS.items()
    for verb, payload in payloads.items()
}

TOPIC_OF_ACTIVITY: dict[tuple[StreamKind, str], str] = {
    (kind, activity): f"{kind}.{verb}"
    for kind in SubjectKind
    for activity, verb in _ACTIVITY_TOPICS.items()
}

PAYLOAD_OF_TOPIC: dict[str, type[Payload]] = {
    topic: payload for (_, payload), topic in TOPIC_OF_PAYLOAD.items()
} | dict.fromkeys(TOPIC_OF_ACTIVITY.values(), Tracked)
"""Topic, like `user.properties_changed`, to the type of its payload."""

ACTIVITY_OF_TOPIC = {topic: activity for (_, activity), topic in TOPIC_OF_ACTIVITY.items()}
"""Topic, like `user.page_viewed`, to the kind of activity it records."""

SAYS = (DefinitionMade, DefinitionChanged, DefinitionCleaned)
"""Payloads with the content of a definition. Each is sealed under a key of its own, by its event's
id, so that an erasure can destroy a single version."""

SAYING_TOPICS = frozenset(topic for topic, payload in PAYLOAD_OF_TOPIC.items() if payload in SAYS)

SUMMED_TOPICS = frozenset(f"{kind}.activity_summed" for kind in SubjectKind)
"""Topics of the counts that retention leaves of activity."""

_STREAM_KINDS: dict[str, StreamKind] = {
    kind.value: kind for kinds in (SubjectKind, DefinitionKind) for kind in kinds
}


def stream_kind(topic: str) -> StreamKind:
    """The kind of the stream of an event with this topic.

    Raises:
        KeyError: a topic of a newer version.
    """
    return _STREAM_KINDS[topic.partition(".")[0]]
