"""Payloads of the events about users and accounts.

A payload is sealed under the key of the subject whose stream the event is in. The part that the
account of a user's event keeps (`AccountPart`) is sealed apart, under the account's key. A stored
payload never changes: a new field has a default.
"""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

import msgspec

from domain.activity import Activity
from domain.identity import Identity, SubjectId
from domain.properties import Values


class Payload(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The sealed part of an event."""


class Registered(Payload, frozen=True):
    """The first event of a subject, with its identities."""

    identities: tuple[Identity, ...]


class Identified(Payload, frozen=True):
    """Further identities of the subject became known.

    Attributes:
        goes_by: the id by which the subject is shown from now on; None: as before.
    """

    identities: tuple[Identity, ...]
    goes_by: Identity | None = None


class IdentitiesReleased(Payload, frozen=True):
    """The subject gave identities up, such as an e-mail that is its property no more. They are free
    for others."""

    identities: tuple[Identity, ...]


class PropertiesChanged(Payload, frozen=True):
    """Properties were set or deleted, as of the event's time.

    Attributes:
        before: the earlier values of these properties, where they had one.
        confirmed: properties that were sent too, with the value that they had.
    """

    values: Values = msgspec.field(default_factory=dict)
    deleted: list[str] = msgspec.field(default_factory=list)
    before: Values = msgspec.field(default_factory=dict)
    confirmed: list[str] = msgspec.field(default_factory=list)


class PropertiesConfirmed(Payload, frozen=True):
    """Properties were sent with the value that they had: it holds as of the event's time, too. A
    value that is sent late, for an earlier time, does not replace it. With an account, they are
    properties of the membership."""

    names: list[str]


class PropertiesBackdated(Payload, frozen=True):
    """Properties were sent late: these values held at the event's time, and those of a later time
    hold now. With an account, they are properties of the membership."""

    values: Values = msgspec.field(default_factory=dict)
    deleted: list[str] = msgspec.field(default_factory=list)


class MembershipStarted(Payload, frozen=True):
    """The user became a member of the event's account.

    Attributes:
        taken_from: the merged user whose membership this was.
        said_at: the times that the properties were sent for, where they are not the event's.
    """

    properties: Values = msgspec.field(default_factory=dict)
    taken_from: SubjectId | None = None
    said_at: dict[str, datetime] = msgspec.field(default_factory=dict)


class MembershipBackdated(Payload, frozen=True):
    """The membership began at the event's time already, which was sent late."""


class MembershipChanged(Payload, frozen=True):
    """Properties of a membership, such as its role, changed. Fields as in `PropertiesChanged`."""

    values: Values = msgspec.field(default_factory=dict)
    deleted: list[str] = msgspec.field(default_factory=list)
    before: Values = msgspec.field(default_factory=dict)
    confirmed: list[str] = msgspec.field(default_factory=list)


class MembershipEnded(Payload, frozen=True):
    """The user left the event's account; the membership stays on record, with both dates."""


class Absorbed(Payload, frozen=True):
    """Another subject was merged into this one.

    Memberships follow as events of their own, so that their accounts and dates outlive the user's
    key.

    Attributes:
        others: the merged subject, and those that were merged into it before.
        identities: those of the merged subject that this one lacked.
        properties: those of the merged subject that this one lacked, or that were sent for a later
            time than this one's.
        deleted: properties of this one that the merged subject lost at a later time.
        said_at: the times that these were sent for; empty in events of releases before 0.2.0.
    """

    others: tuple[SubjectId, ...]
    identities: tuple[Identity, ...]
    properties: Values = msgspec.field(default_factory=dict)
    deleted: list[str] = msgspec.field(default_factory=list)
    said_at: dict[str, datetime] = msgspec.field(default_factory=dict)


Dating = (
    Registered
    | Identified
    | IdentitiesReleased
    | PropertiesChanged
    | PropertiesConfirmed
    | PropertiesBackdated
    | Absorbed
)
"""Payloads whose time says that the subject was on record then; those with an account excepted."""


class MergedInto(Payload, frozen=True):
    """This subject was merged into another one, and lives on in it."""

    survivor: SubjectId


class Erased(Payload, frozen=True):
    """The subject's key was destroyed. The payload is empty and not sealed."""


class Tracked(Payload, frozen=True):
    """Tracked activity: an event, page or screen, or the channel or campaign of a visit."""

    activity: Activity


class AccountPart(msgspec.Struct, frozen=True):
    """The part of a user's tracked activity that its account keeps when the user is erased."""

    name: str


class SummedDay(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The count of an activity on a day, with its first and last time."""

    activity: str
    name: str
    day: date
    count: int
    first_at: datetime
    last_at: datetime


class ActivitySummed(Payload, frozen=True):
    """The counts of activity that retention made unreadable, by the days of the workspace's
    calendar. It covers activity before the event's own instant; the event's account keeps the
    same counts."""

    days: tuple[SummedDay, ...]


class StageSet(Payload, frozen=True):
    """The stage was set manually (None: no stage) and overrides the rules until it is released.
    `by` is the id of the API key."""

    stage: str | None
    reason: str
    by: UUID


class StageReleased(Payload, frozen=True):
    """The rules decide the stage again."""

    by: UUID
