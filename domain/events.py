"""Every event of the log: its envelope, its payloads, and the topic each is stored under.

An event has an envelope in clear (random ids, topic, times, version) and a payload that is sealed
under the key of the subject whose stream it is in. What the account of a user's event may keep
(`AccountPart`) is sealed apart, under the account's key.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from domain.activity import Activity
from domain.identity import Identity, SubjectId, SubjectKind
from domain.properties import Values


class Payload(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What an event says."""


class Registered(Payload, frozen=True):
    """The subject was seen for the first time, under these identities."""

    identities: tuple[Identity, ...]


class Identified(Payload, frozen=True):
    """Further identities of the subject became known."""

    identities: tuple[Identity, ...]


class PropertiesChanged(Payload, frozen=True):
    """Properties were set or deleted; only what really changed is recorded."""

    values: Values = msgspec.field(default_factory=dict)
    deleted: list[str] = msgspec.field(default_factory=list)


class MembershipStarted(Payload, frozen=True):
    """The user became a member of the envelope's account (again, if it had left). `taken_from`
    is the merged user who had become it, at that time."""

    properties: Values = msgspec.field(default_factory=dict)
    taken_from: SubjectId | None = None


class MembershipChanged(Payload, frozen=True):
    """The properties of a membership (its role among them) changed."""

    values: Values = msgspec.field(default_factory=dict)
    deleted: list[str] = msgspec.field(default_factory=list)


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


_AGGREGATE_PAYLOADS: dict[str, type[Payload]] = {
    "registered": Registered,
    "identified": Identified,
    "properties_changed": PropertiesChanged,
    "membership_started": MembershipStarted,
    "membership_changed": MembershipChanged,
    "membership_ended": MembershipEnded,
    "absorbed": Absorbed,
    "merged_into": MergedInto,
    "erased": Erased,
}
_ACTIVITY_TOPICS = {
    "event": "event_tracked",
    "page": "page_viewed",
    "screen": "screen_viewed",
    "channel": "channel_touched",
    "campaign": "campaign_touched",
}

PAYLOAD_OF_TOPIC: dict[str, type[Payload]] = {
    f"{kind}.{verb}": payload
    for kind in SubjectKind
    for verb, payload in (
        _AGGREGATE_PAYLOADS | dict.fromkeys(_ACTIVITY_TOPICS.values(), Tracked)
    ).items()
}
"""Topic, like `user.properties_changed`, to the type of its payload."""

_TOPIC = {
    (kind, payload): f"{kind}.{verb}"
    for kind in SubjectKind
    for verb, payload in _AGGREGATE_PAYLOADS.items()
}
_TRACKED_TOPIC = {
    (kind, activity): f"{kind}.{verb}"
    for kind in SubjectKind
    for activity, verb in _ACTIVITY_TOPICS.items()
}
ACTIVITY_OF_TOPIC = {topic: activity for (_, activity), topic in _TRACKED_TOPIC.items()}
"""Topic, like `user.page_viewed`, to the kind of activity it records."""


class Event(msgspec.Struct, frozen=True):
    """An event as the domain sees it: envelope and opened payload.

    Attributes:
        kind: what the stream's subject is.
        stream: the subject that the event is about.
        version: place in the aggregate's history, from 1; None for tracked activity, which no
            aggregate loads.
        occurred_at: by the sender's account, aware, UTC.
        account: the account that a user's event concerns.
    """

    kind: SubjectKind
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
    def account_part(self) -> AccountPart | None:
        if self.account is None or not isinstance(self.payload, Tracked):
            return None
        return AccountPart(self.payload.activity.name)

    @property
    def needs_account(self) -> bool:
        """Whether the account has to be there still: not for what was begun before it was erased,
        and only ends or is taken over now."""
        payload = self.payload
        if isinstance(payload, MembershipStarted):
            return payload.taken_from is None
        return not isinstance(payload, MembershipEnded)

    # The names under which the eventsourcing library knows the two.
    @property
    def originator_id(self) -> SubjectId:
        return self.stream

    @property
    def originator_version(self) -> int:
        return self.version or 0
