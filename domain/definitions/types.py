"""Definitions that people save: segments, stages, health, scores, signals.

Definitions refer to one another (a segment in a segment), and rules hold over all of them: none may
refer back to itself. So they are one aggregate with one history,
`domain.workspace.definitions.Definitions`; each has its own id and counts its own versions.
"""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Generic, NewType, TypeVar
from uuid import UUID

import msgspec

from domain.conditions.language import Condition
from domain.definitions.destinations import Destination
from domain.definitions.links import Link
from domain.definitions.retention import Retention
from domain.errors import InvalidInput
from domain.identity import SubjectKind

DefinitionId = NewType("DefinitionId", UUID)
"""Random (version 4)."""

MAX_NAME_CHARS = 200


class DefinitionKind(enum.StrEnum):
    """The families of definitions; each has topics of its own in the log."""

    SEGMENT = "segment"
    STAGES = "stages"
    HEALTH = "health_profile"
    SCORE = "score"
    SIGNAL = "signal"
    SETTINGS = "settings"
    DESTINATION = "destination"

    @property
    def in_words(self) -> str:
        """The name of the family in messages."""
        return "list of stages" if self is DefinitionKind.STAGES else self.value.replace("_", " ")


class Status(enum.StrEnum):
    """Only an active definition decides. A draft can be back-tested; an archived one stays on
    record."""

    DRAFT = "draft"
    ACTIVE = "active"
    ARCHIVED = "archived"


class Segment(msgspec.Struct, frozen=True, tag="segment", omit_defaults=True):
    """Users or accounts under a name.

    Attributes:
        condition: selects the members. None: a static segment, whose list is kept by hand.
    """

    kind: SubjectKind
    name: str
    condition: Condition | None = None


class StageType(enum.StrEnum):
    FREE = "free"
    TRIAL = "trial"
    PAYING = "paying"
    CHURNED = "churned"
    OTHER = "other"


class Stage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stage of life of users or accounts, identified by its name."""

    name: str
    type: StageType
    condition: Condition


class Stages(msgspec.Struct, frozen=True, tag="stages", omit_defaults=True):
    """The stages of users or of accounts, in order: the first whose condition holds wins. At most
    one list is active for each kind."""

    kind: SubjectKind
    name: str
    stages: list[Stage]


class HealthProfile(msgspec.Struct, frozen=True, tag="health_profile", omit_defaults=True):
    """The health of users or accounts in some stages: good is tested first, then bad, else normal.

    Attributes:
        stages: the names of the stages that it covers; null stands for no stage. A stage has at
            most one profile; without one its health is normal.
    """

    kind: SubjectKind
    name: str
    stages: list[str | None]
    good: Condition | None = None
    bad: Condition | None = None


class ScoreRule(msgspec.Struct, frozen=True):
    """A part of a score. `weight` may be negative, but not 0."""

    name: str
    weight: int
    condition: Condition


class Score(msgspec.Struct, frozen=True, tag="score", omit_defaults=True):
    """A score, 0 to 100 %: the weight of the rules that hold, divided by the weight of all,
    clamped."""

    kind: SubjectKind
    name: str
    rules: list[ScoreRule]


class Signal(msgspec.Struct, frozen=True, tag="signal", omit_defaults=True):
    """A signal playbook: on while its condition holds; turning on, it triggers.

    Attributes:
        reentry_hours: hours before it may trigger again, at least 1. None: it triggers once for
            each subject.
        goal: the condition hoped for after a trigger.
        goal_hours: the time to reach the goal, else it is missed; with `goal` only.
    """

    kind: SubjectKind
    name: str
    condition: Condition
    reentry_hours: int | None = None
    goal: Condition | None = None
    goal_hours: int | None = None


class Preferred(msgspec.Struct, frozen=True, omit_defaults=True):
    """The properties and events that the Overview shows first, by name, in order."""

    properties: list[str] = msgspec.field(default_factory=list)
    events: list[str] = msgspec.field(default_factory=list)


class Settings(msgspec.Struct, frozen=True, tag="settings", omit_defaults=True):
    """The settings of the workspace. There is one instance, always active.

    Attributes:
        mrr_property, renewal_property: that supply MRR and renewal date.
        currency: ISO 4217, for MRR values without a currency.
        time_zone: the zone that days are counted in; None: the server's.
        backdated_stages: whether a late fact moves the stage timeline to when it occurred. Recorded
            history never changes.
        retention: how long tracked activity stays readable; None: for ever.
        links: to the records of users and accounts in other apps, in order.
    """

    mrr_property: str | None = None
    currency: str | None = None
    renewal_property: str | None = None
    time_zone: str | None = None
    users: Preferred = msgspec.field(default_factory=Preferred)
    accounts: Preferred = msgspec.field(default_factory=Preferred)
    backdated_stages: bool = False
    links: list[Link] = msgspec.field(default_factory=list)
    retention: Retention | None = None


Definition = Segment | Stages | HealthProfile | Score | Signal | Settings | Destination
"""Any definition."""

Undeciding = Settings | Destination
"""Definitions by which nothing is decided of users or accounts."""


def family_of(definition: Definition) -> DefinitionKind:
    return DefinitionKind(str(definition.__struct_config__.tag))


D_co = TypeVar("D_co", bound=Definition, covariant=True)


class Defined(msgspec.Struct, Generic[D_co], frozen=True):
    """A definition as it stands.

    Attributes:
        version: from 1; each change of its content or status adds 1.
        by, created_by: the API key that changed it last, that made it.
    """

    id: DefinitionId
    version: int
    definition: D_co
    status: Status
    created_at: datetime
    created_by: UUID
    changed_at: datetime
    by: UUID


def checked_name(value: str, *, pointer: str = "/name") -> str:
    """Raises: InvalidInput: empty, too long, blank at an end, or with control characters."""
    if not value or len(value) > MAX_NAME_CHARS:
        raise InvalidInput(f"a name has 1 to {MAX_NAME_CHARS} characters", pointer=pointer)
    if value != value.strip() or not value.isprintable():
        raise InvalidInput(
            "the name begins or ends with a space, or holds a control character", pointer=pointer
        )
    return value
