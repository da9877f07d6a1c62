"""Query: the cause of a decision: an event, a person, a day, an instant, a definition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Protocol
from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.commands import Position
from domain.definitions.types import Definition, family_of
from domain.errors import NotFound
from domain.events.decisions import (
    DecisionCause,
    DecisionEvent,
    OfDay,
    OfDefinition,
    OfEvent,
    OfTime,
)
from domain.events.payloads import StageReleased, StageSet, Tracked
from domain.events.recorded import RecordedEvent
from domain.events.topics import ACTIVITY_OF_TOPIC
from domain.identity import SubjectId, SubjectKind
from projections.kernel.gaps import Gap, place_of
from projections.kernel.ports import Opener

SELECT_VERSION = sa.text("""
SELECT CAST(definition AS text) AS definition, status, at, by FROM views.definition_versions
WHERE id = :id AND version = :version""")

_definition: msgspec.json.Decoder[Definition] = msgspec.json.Decoder(Definition)


class Records(Protocol):
    """Reads the log by position and by topic."""

    def at(self, place: Position) -> RecordedEvent | None: ...
    def newest(self, stream: SubjectId, topic: str) -> Iterator[Sequence[RecordedEvent]]: ...


class DefinitionSeen(msgspec.Struct, frozen=True):
    """The definition that decided, at the version that it had.

    Attributes:
        changed_at, changed_by: the time and the API key of the change to this version.
    """

    id: UUID
    version: int
    type: str
    kind: SubjectKind | None
    name: str | None
    status: str
    changed_at: datetime
    changed_by: UUID


class ByEvent(msgspec.Struct, frozen=True, tag="event"):
    """An event caused the decision.

    Attributes:
        what: its type: `event`, `page`, `properties_changed`, ...
        name: of the activity; null for changes, and for events that are erased or do not open.
        position: in the log.
    """

    what: str
    name: str | None
    at: datetime
    recorded_at: datetime
    position: str


class ByPerson(msgspec.Struct, frozen=True, tag="by_hand"):
    """A person set the stage (null: no stage), or released it.

    Attributes:
        by: the API key, by id.
    """

    stage: str | None
    released: bool
    by: UUID
    reason: str | None
    at: datetime
    position: str


class ByDay(msgspec.Struct, frozen=True, tag="day"):
    """A calendar day began."""

    day: date


class ByTime(msgspec.Struct, frozen=True, tag="time"):
    """The clock reached an instant: the end of a re-entry wait, or the due time of a goal."""

    at: datetime


class ByDefinition(msgspec.Struct, frozen=True, tag="definition"):
    """A definition was made, changed, activated, archived or deleted.

    Attributes:
        status: of the definition since then. `by`: the API key, by id.
    """

    definition: DefinitionSeen


class ByRebuild(msgspec.Struct, frozen=True, tag="rebuild"):
    """The read models were rebuilt, and every subject was evaluated again."""


CauseSeen = ByEvent | ByPerson | ByDay | ByTime | ByDefinition | ByRebuild


def definition_version(
    conn: sa.Connection, id: UUID, version: int
) -> tuple[Definition, DefinitionSeen] | None:
    row = conn.execute(SELECT_VERSION, {"id": id, "version": version}).one_or_none()
    if row is None:
        return None
    definition = _definition.decode(row.definition)
    kind = getattr(definition, "kind", None)
    return definition, DefinitionSeen(
        id=id,
        version=version,
        type=family_of(definition).value,
        kind=None if kind is None else SubjectKind(kind),
        name=getattr(definition, "name", None),
        status=row.status,
        changed_at=row.at,
        changed_by=row.by,
    )


def cause_of(
    conn: sa.Connection, records: Records, opener: Opener, decision: DecisionEvent
) -> CauseSeen:
    cause: DecisionCause = decision.cause
    match cause:
        case OfEvent(partition, position):
            return event_cause(records, opener, Position(partition, position))
        case OfDay(day):
            return ByDay(day)
        case OfTime(instant):
            return ByTime(instant)
        case OfDefinition(version, other):
            recorded = definition_version(conn, other or decision.definition, version)
            if recorded is None:
                raise NotFound("the definition that was the cause is not known here yet; ask again")
            return ByDefinition(recorded[1])
        case _:
            return ByRebuild()


def event_cause(records: Records, opener: Opener, place: Position) -> CauseSeen:
    row = records.at(place)
    if row is None:
        raise NotFound("the event that was the cause is not in the log")
    [opened] = opener.open_each([row])
    event = None if isinstance(opened, Gap) else opened
    where = place_of(row)
    match event and event.payload:
        case StageSet(stage, reason, by):
            return ByPerson(stage, False, by, reason, row.occurred_at, where)
        case StageReleased(by):
            return ByPerson(None, True, by, None, row.occurred_at, where)
        case _:
            pass
    name: str | None = None
    if event is not None and isinstance(event.payload, Tracked):
        name = event.payload.activity.name
    elif event is not None and event.account_part is not None:
        name = event.account_part.name
    what = ACTIVITY_OF_TOPIC.get(row.topic) or row.topic.partition(".")[2]
    return ByEvent(what, name, row.occurred_at, row.recorded_at, where)
