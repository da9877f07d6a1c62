"""The condition language: a condition about users or accounts, as data with a stable JSON form.

A condition is a tree: all / any / not over tests of properties, attributes, activity, decisions
(stage, health, score, signal, segment), memberships, and of the other kind (a user's accounts, an
account's users). `domain.conditions.evaluation` defines its meaning in plain Python,
`projections.conditions.compiler` compiles it to one SQL predicate, and
`domain.conditions.validation` checks it.

A test of a missing value fails. Only `is_not`, `not_in` and `is_not_set` hold then, for they are
the opposites of `is`, `in` and `is_set`.
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from domain.calendar import Days, Period

MAX_DEPTH = 12
MAX_NODES = 500
MAX_VALUES = 1_000

Scalar = str | int | float | bool
Number = int | float
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=2_048)]
Times = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
Instant = Annotated[
    str, msgspec.Meta(description="a day (2026-05-13, in the workspace's zone) or a date-time")
]


class _Test(msgspec.Struct, frozen=True, tag_field="op", forbid_unknown_fields=True):
    """A test of one value."""


class Is(_Test, frozen=True, tag="is"):
    """Equal to a value: texts exactly, numbers as decimals."""

    value: Scalar


class IsNot(_Test, frozen=True, tag="is_not"):
    """The opposite of `is`; also holds without a value."""

    value: Scalar


class In(_Test, frozen=True, tag="in"):
    """Equal to one of some values."""

    values: Annotated[list[Scalar], msgspec.Meta(min_length=1, max_length=MAX_VALUES)]


class NotIn(_Test, frozen=True, tag="not_in"):
    """The opposite of `in`."""

    values: Annotated[list[Scalar], msgspec.Meta(min_length=1, max_length=MAX_VALUES)]


class Contains(_Test, frozen=True, tag="contains"):
    """A text that contains another text exactly; a list that contains an item."""

    value: Name


class StartsWith(_Test, frozen=True, tag="starts_with"):
    value: Name


class Greater(_Test, frozen=True, tag="greater"):
    value: Number


class AtLeast(_Test, frozen=True, tag="at_least"):
    value: Number


class Less(_Test, frozen=True, tag="less"):
    value: Number


class AtMost(_Test, frozen=True, tag="at_most"):
    value: Number


class Between(_Test, frozen=True, tag="between"):
    """A number from `low` to `high`, both included."""

    low: Number
    high: Number


class Before(_Test, frozen=True, tag="before"):
    """A date before a day begins, or before an instant. A date that is a day is before an instant
    if it began before it."""

    at: Instant


class After(_Test, frozen=True, tag="after"):
    """A date after a day ended, or after an instant. A date that is a day is after an instant if it
    began after it."""

    at: Instant


class InPeriod(_Test, frozen=True, tag="in_period"):
    """A date in a window of calendar days."""

    period: Period


class InNextDays(_Test, frozen=True, tag="in_next_days"):
    """A date from today to `days` days ahead: in the next 1 day is today or tomorrow."""

    days: Days


class MoreThanDaysAgo(_Test, frozen=True, tag="more_than_days_ago"):
    """A date whose calendar day is more than `days` days before today."""

    days: Days


class IsSet(_Test, frozen=True, tag="is_set"):
    """There is a value; an empty text counts."""


class IsNotSet(_Test, frozen=True, tag="is_not_set"):
    """There is no value."""


Test = (
    Is
    | IsNot
    | In
    | NotIn
    | Contains
    | StartsWith
    | Greater
    | AtLeast
    | Less
    | AtMost
    | Between
    | Before
    | After
    | InPeriod
    | InNextDays
    | MoreThanDaysAgo
    | IsSet
    | IsNotSet
)


class _Count(msgspec.Struct, frozen=True, tag_field="op", forbid_unknown_fields=True):
    """A test of how often something happened."""


class Occurred(_Count, frozen=True, tag="occurred"):
    """At least once."""


class DidNotOccur(_Count, frozen=True, tag="did_not_occur"):
    """Never."""


class AtLeastTimes(_Count, frozen=True, tag="at_least"):
    times: Times


class AtMostTimes(_Count, frozen=True, tag="at_most"):
    """At most so many times; never counts too."""

    times: Times


class ExactlyTimes(_Count, frozen=True, tag="exactly"):
    times: Times


Count = Occurred | DidNotOccur | AtLeastTimes | AtMostTimes | ExactlyTimes


class _Quantifier(msgspec.Struct, frozen=True, tag_field="op", forbid_unknown_fields=True):
    """How many accounts of a user, or users of an account, must match. Only present memberships
    count."""


class AnyOf(_Quantifier, frozen=True, tag="any"):
    """At least one."""


class EveryOf(_Quantifier, frozen=True, tag="every"):
    """There is at least one, and all match."""


class AtLeastOf(_Quantifier, frozen=True, tag="at_least"):
    count: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


Quantifier = AnyOf | EveryOf | AtLeastOf


class _Condition(msgspec.Struct, frozen=True, tag_field="type", forbid_unknown_fields=True):
    """A condition about one subject."""


class AllOf(_Condition, frozen=True, tag="all"):
    """All of these hold; an empty list holds."""

    of: list[Condition]


class OneOf(_Condition, frozen=True, tag="any"):
    """At least one of these holds; an empty list does not."""

    of: list[Condition]


class Not(_Condition, frozen=True, tag="not"):
    of: Condition


class PropertyIs(_Condition, frozen=True, tag="property"):
    """A test of a property that came from outside."""

    name: Name
    test: Test


class Attribute(enum.StrEnum):
    """A value that Annals itself keeps of a subject."""

    NAME = "name"
    EXTERNAL_ID = "external_id"
    EMAIL = "email"
    DOMAIN = "domain"
    FIRST_SEEN = "first_seen"
    LAST_SEEN = "last_seen"
    REGISTERED_AT = "registered_at"


class AttributeIs(_Condition, frozen=True, tag="attribute"):
    """A test of an attribute."""

    name: Attribute
    test: Test


class MetadataIs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A test of a metadata value of an event."""

    name: Name
    test: Test


class Did(_Condition, frozen=True, tag="activity"):
    """How often something happened, in a period (null: ever).

    Attributes:
        name: of the event, screen, page, channel or campaign.
        where: tests of its metadata; all must hold.
    """

    activity: Literal["event", "page", "screen", "channel", "campaign"]
    name: Name
    count: Count = msgspec.field(default_factory=Occurred)
    period: Period | None = None
    where: Annotated[list[MetadataIs], msgspec.Meta(max_length=10)] = msgspec.field(
        default_factory=list
    )


class Health(enum.StrEnum):
    GOOD = "good"
    NORMAL = "normal"
    BAD = "bad"


class StageIs(_Condition, frozen=True, tag="stage"):
    """In one of the given stages; null stands for no stage."""

    stages: Annotated[list[str | None], msgspec.Meta(min_length=1, max_length=100)]


class HealthIs(_Condition, frozen=True, tag="health"):
    health: Annotated[list[Health], msgspec.Meta(min_length=1, max_length=3)]


class ScoreIs(_Condition, frozen=True, tag="score"):
    """A test of a score's value, 0 to 100."""

    score: Name
    test: Test


class SignalIs(_Condition, frozen=True, tag="signal"):
    signal: Name
    on: bool


class InSegment(_Condition, frozen=True, tag="segment"):
    """Membership of another segment of the same kind."""

    segment: UUID


class BelongsTo(_Condition, frozen=True, tag="membership"):
    """A membership of an account (for users) or of a user (for accounts).

    Attributes:
        other: the account or the user by our id; null: any.
        role: exactly this role; null: any or none.
        ended: asks for memberships that ended, in place of present ones.
    """

    other: UUID | None = None
    role: str | None = None
    ended: bool = False


class OfAccounts(_Condition, frozen=True, tag="accounts"):
    """For users: a condition about the accounts of the user."""

    quantifier: Quantifier
    where: Condition


class OfUsers(_Condition, frozen=True, tag="users"):
    """For accounts: a condition about the users of the account."""

    quantifier: Quantifier
    where: Condition


Condition = (
    AllOf
    | OneOf
    | Not
    | PropertyIs
    | AttributeIs
    | Did
    | StageIs
    | HealthIs
    | ScoreIs
    | SignalIs
    | InSegment
    | BelongsTo
    | OfAccounts
    | OfUsers
)
