"""Every event of the log: its envelope, its payloads, and the topic each is stored under.

An event has an envelope in clear (random ids, topic, times, version) and a payload that is sealed
under the key of the subject whose stream it is in. What the account of a user's event may keep
(`AccountPart`) is sealed apart, under the account's key. Definitions of the workspace have streams
too, with keys of their own.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from uuid import UUID

import msgspec

from domain.activity import Activity
from domain.conditions.language import Health
from domain.definitions.types import Definition, DefinitionId, DefinitionKind
from domain.identity import Identity, SubjectId, SubjectKind
from domain.name_rules import NameScope
from domain.properties import PropertyType, Values


class Payload(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What an event says."""


class Registered(Payload, frozen=True):
    """The subject was seen for the first time, under these identities."""

    identities: tuple[Identity, ...]


class Identified(Payload, frozen=True):
    """Further identities of the subject became known."""

    identities: tuple[Identity, ...]


class PropertiesChanged(Payload, frozen=True):
    """Properties were set or deleted; only what really changed is recorded. `before` has the values
    that these properties had, where they had one."""

    values: Values = msgspec.field(default_factory=dict)
    deleted: list[str] = msgspec.field(default_factory=list)
    before: Values = msgspec.field(default_factory=dict)


class MembershipStarted(Payload, frozen=True):
    """The user became a member of the envelope's account (again, if it had left). `taken_from`
    is the merged user who had become it, at that time."""

    properties: Values = msgspec.field(default_factory=dict)
    taken_from: SubjectId | None = None


class MembershipChanged(Payload, frozen=True):
    """The properties of a membership (its role among them) changed. `before`: as of
    `PropertiesChanged`."""

    values: Values = msgspec.field(default_factory=dict)
    deleted: list[str] = msgspec.field(default_factory=list)
    before: Values = msgspec.field(default_factory=dict)


class MembershipEnded(Payload, frozen=True):
    """The user left the envelope's account; the record stays, with both dates."""


class Absorbed(Payload, frozen=True):
    """Another subject turned out to be this one. Holds what was taken over from it: identities
    and properties that this one did not have; memberships follow as events of their own, so that
    their accounts and dates outlive the user's key. `others` is that subject, and those that had
    been merged into it before."""

    others: tuple[SubjectId, ...]
    identities: tuple[Identity, ...]
    properties: Values = msgspec.field(default_factory=dict)


class MergedInto(Payload, frozen=True):
    """This subject turned out to be another one, and lives on in it."""

    survivor: SubjectId


class Erased(Payload, frozen=True):
    """The subject's key was destroyed. Nothing personal, and nothing sealed."""


class Tracked(Payload, frozen=True):
    """Something the subject did: an event, a page, a screen, or how its visit came."""

    activity: Activity


class AccountPart(msgspec.Struct, frozen=True):
    """What the account of a user's tracked activity keeps when the user is erased."""

    name: str


class SummedDay(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How often something was done on a day, and the first and the last time."""

    activity: str
    name: str
    day: date
    count: int
    first_at: datetime
    last_at: datetime


class ActivitySummed(Payload, frozen=True):
    """What is left of activity that occurred before the instant of the envelope and is no longer
    kept: its counts, by the days of the workspace's calendar. The account of the envelope keeps the
    same."""

    days: tuple[SummedDay, ...]


class OfEvent(msgspec.Struct, frozen=True, tag="event", gc=False):
    """The newest event of those that changed what a condition asks for."""

    partition: int
    position: int


class OfDay(msgspec.Struct, frozen=True, tag="day", gc=False):
    """A calendar day began: periods moved on."""

    day: date


class OfDefinition(msgspec.Struct, frozen=True, tag="definition", gc=False):
    """Something was made, changed, activated, archived or deleted.

    Attributes:
        version: that it has since.
        definition: where it need not be the one that decides; None: it is.
    """

    version: int
    definition: DefinitionId | None = None


class OfRebuild(msgspec.Struct, frozen=True, tag="rebuild", gc=False):
    """All was looked at again, once read models had been made anew."""


class OfTime(msgspec.Struct, frozen=True, tag="time", gc=False):
    """The clock reached an instant that was waited for."""

    at: datetime


Cause = OfEvent | OfDay | OfDefinition | OfRebuild | OfTime
"""Why something was decided of a subject."""


class Decision(Payload, frozen=True):
    """What a definition decided of the subject in whose stream this stands.

    Attributes:
        definition: what decided it; for a stage set by hand the list of stages that would have.
        ordinal: 1, 2, 3 and so on, of this subject and what
            `domain.subjects.decision_series.series` names: each
            is recorded once.
        version: of the definition.
        saw: what its conditions saw, by JSON pointer into the definition.
    """

    definition: DefinitionId
    ordinal: int
    version: int
    cause: Cause
    saw: dict[str, Any] = msgspec.field(default_factory=dict)


class SegmentTransition(Decision, frozen=True):
    """The subject entered or left a segment; odd ordinals enter."""


class SegmentEntered(SegmentTransition, frozen=True):
    """The subject became a member of a segment."""


class SegmentLeft(SegmentTransition, frozen=True):
    """The subject is no member of a segment any more."""


class StageTransition(Decision, frozen=True, kw_only=True):
    """The subject entered or left a stage; odd ordinals enter. From one stage to the next are two,
    recorded together."""

    stage: str


class StageEntered(StageTransition, frozen=True):
    """The subject came into a stage. `by_hand`: somebody put it there."""

    by_hand: bool = False


class StageLeft(StageTransition, frozen=True):
    """The subject went out of a stage."""


class HealthChanged(Decision, frozen=True, kw_only=True):
    """The subject became good, normal or bad. `definition` is the profile that was asked,
    or the list of stages where the stage that it is in has none."""

    before: Health
    after: Health


class ScoreChanged(Decision, frozen=True, kw_only=True):
    """A score, or which of its rules hold, became another.

    Attributes:
        before, after: 0 to 100, two decimals; None: there is no such score (yet, any more).
        held, missed: the rules that hold now and those that do not, by name.
    """

    before: float | None
    after: float | None
    held: list[str] = msgspec.field(default_factory=list)
    missed: list[str] = msgspec.field(default_factory=list)


class SignalTriggered(Decision, frozen=True, kw_only=True):
    """A signal turned on. `goal_due_at`: until when it is watched for its goal, if it has one."""

    goal_due_at: datetime | None = None


class SignalEnded(Decision, frozen=True):
    """A signal turned off."""


class GoalReached(Decision, frozen=True):
    """What a signal's playbook hoped for came true in time."""


class GoalMissed(Decision, frozen=True):
    """What a signal's playbook hoped for did not come true in time."""


class StageSet(Payload, frozen=True):
    """Somebody put the subject into a stage (None: into none); no rule moves it until released.
    `by` is the API key."""

    stage: str | None
    reason: str
    by: UUID


class StageReleased(Payload, frozen=True):
    """The rules decide its stage again."""

    by: UUID


class DefinitionMade(Payload, frozen=True):
    """Something was defined. `by` is the API key that did it."""

    id: DefinitionId
    definition: Definition
    by: UUID


class DefinitionChanged(Payload, frozen=True):
    """A definition was replaced by another of the same family."""

    id: DefinitionId
    definition: Definition
    by: UUID


class DefinitionActivated(Payload, frozen=True):
    """A draft decides from now on."""

    id: DefinitionId
    by: UUID


class DefinitionArchived(Payload, frozen=True):
    """A definition decides no more; it stays on record."""

    id: DefinitionId
    by: UUID


class DefinitionDeleted(Payload, frozen=True):
    """A definition holds no more."""

    id: DefinitionId
    by: UUID


class DefinitionCleaned(Payload, frozen=True):
    """What some versions of a definition say named somebody who was erased, and does no more."""

    id: DefinitionId
    versions: list[int]
    definition: Definition


class NamesRetired(Payload, frozen=True):
    """Names of the catalogue were retired: what is sent under them is refused from now on."""

    scope: NameScope
    names: list[str]
    by: UUID


class NamesRestored(Payload, frozen=True):
    """Names of the catalogue that were retired are in use again."""

    scope: NameScope
    names: list[str]
    by: UUID


class PropertyTypeChanged(Payload, frozen=True):
    """A property of users or accounts is of another type from now on. Values of before are shown as
    ones of this type, where they fit."""

    scope: NameScope
    name: str
    type: PropertyType
    by: UUID


class ListChange(Payload, frozen=True):
    """The list of a static segment, whose own stream this is, was changed by hand."""

    subjects: list[SubjectId]
    by: UUID


class MembersListed(ListChange, frozen=True):
    """Subjects were put on the list of a static segment."""


class MembersUnlisted(ListChange, frozen=True):
    """Subjects were taken off the list of a static segment."""


_AGGREGATE_PAYLOADS: dict[str, type[Payload]] = {
    "registered": Registered,
    "identified": Identified,
    "properties_changed": PropertiesChanged,
    "membership_started": MembershipStarted,
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
"""What a stream is about: the first part of its topics."""

_PAYLOADS: dict[StreamKind, dict[str, type[Payload]]] = {
    **dict.fromkeys(SubjectKind, _AGGREGATE_PAYLOADS | _DECISION_PAYLOADS),
    **dict.fromkeys(DefinitionKind, _DEFINITION_PAYLOADS | _LIST_PAYLOADS),
    DefinitionKind.SETTINGS: _DEFINITION_PAYLOADS | _LIST_PAYLOADS | _NAME_PAYLOADS,
}
_TOPIC: dict[tuple[StreamKind, type[Payload]], str] = {
    (kind, payload): f"{kind}.{verb}"
    for kind, payloads in _PAYLOADS.items()
    for verb, payload in payloads.items()
}
_TRACKED_TOPIC: dict[tuple[StreamKind, str], str] = {
    (kind, activity): f"{kind}.{verb}"
    for kind in SubjectKind
    for activity, verb in _ACTIVITY_TOPICS.items()
}
PAYLOAD_OF_TOPIC: dict[str, type[Payload]] = {
    topic: payload for (_, payload), topic in _TOPIC.items()
} | dict.fromkeys(_TRACKED_TOPIC.values(), Tracked)
"""Topic, like `user.properties_changed`, to the type of its payload."""

ACTIVITY_OF_TOPIC = {topic: activity for (_, activity), topic in _TRACKED_TOPIC.items()}
"""Topic, like `user.page_viewed`, to the kind of activity it records."""

SAYS = (DefinitionMade, DefinitionChanged, DefinitionCleaned)
"""Payloads with what a definition says. Each is sealed under a key of its own, by its event's id:
so a version that names somebody can be forgotten with them."""

SAYING_TOPICS = frozenset(topic for topic, payload in PAYLOAD_OF_TOPIC.items() if payload in SAYS)

SUMMED_TOPICS = frozenset(f"{kind}.activity_summed" for kind in SubjectKind)
"""Topics of what is left of activity that is no longer kept."""

_STREAM_KINDS: dict[str, StreamKind] = {
    kind.value: kind for kinds in (SubjectKind, DefinitionKind) for kind in kinds
}


def stream_kind(topic: str) -> StreamKind:
    """What the stream of an event with this topic is about.

    Raises:
        KeyError: a topic of a newer version.
    """
    return _STREAM_KINDS[topic.partition(".")[0]]


class Event(msgspec.Struct, frozen=True):
    """An event as the domain sees it: envelope and opened payload.

    Attributes:
        kind: what the stream is about.
        stream: the subject that the event is about, or the stream of definitions.
        version: place in the aggregate's history, from 1; None for tracked activity, which no
            aggregate loads.
        occurred_at: by the sender's account, aware, UTC.
        account: the account that a user's event concerns.
    """

    kind: StreamKind
    stream: SubjectId
    version: int | None
    occurred_at: datetime
    payload: Payload
    account: SubjectId | None = None

    @property
    def topic(self) -> str:
        payload = self.payload
        if isinstance(payload, Tracked):
            return _TRACKED_TOPIC[self.kind, payload.activity.kind]
        return _TOPIC[self.kind, type(payload)]

    @property
    def account_part(self) -> AccountPart | ActivitySummed | None:
        if self.account is None:
            return None
        match self.payload:
            case Tracked(activity):
                return AccountPart(activity.name)
            case ActivitySummed():
                return self.payload
            case _:
                return None

    @property
    def needs_account(self) -> bool:
        """Whether the account has to be there still: not for what was begun before it was erased,
        and only ends or is taken over now."""
        payload = self.payload
        if isinstance(payload, MembershipStarted):
            return payload.taken_from is None
        return not isinstance(payload, MembershipEnded | ActivitySummed)

    # The names under which the eventsourcing library knows the two.
    @property
    def originator_id(self) -> SubjectId:
        return self.stream

    @property
    def originator_version(self) -> int:
        return self.version or 0
