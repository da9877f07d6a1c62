"""Every event of the log: its envelope, its payloads, and the topic each is stored under.

An event has an envelope in clear (random ids, topic, times, version) and a payload that is sealed
under the key of the subject whose stream it is in. What the account of a user's event may keep
(`AccountPart`) is sealed apart, under the account's key. Definitions of the workspace have streams
too, with keys of their own.
"""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

import msgspec

from domain.activity import Activity
from domain.identity import Identity, SubjectId
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


class StageSet(Payload, frozen=True):
    """Somebody put the subject into a stage (None: into none); no rule moves it until released.
    `by` is the API key."""

    stage: str | None
    reason: str
    by: UUID


class StageReleased(Payload, frozen=True):
    """The rules decide its stage again."""

    by: UUID
