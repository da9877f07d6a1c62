"""Query: why something was decided of a subject, straight from the log.

The decision says what its conditions saw and what brought it about; the definition's own history
says what it asked at that version, and who made it so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.commands import Position
from domain.conditions.evidence import HELD, VALUE, held_by_evidence, leaves
from domain.conditions.language import Condition
from domain.conditions.wording import in_words
from domain.definitions.types import Definition, HealthProfile, Score, Segment, Stages, family_of
from domain.errors import Altered, NotFound
from domain.events.decisions import (
    DecisionCause,
    DecisionEvent,
    HealthChanged,
    OfDay,
    OfDefinition,
    OfEvent,
    OfTime,
    ScoreChanged,
    StageTransition,
)
from domain.events.payloads import StageReleased, StageSet, Tracked
from domain.events.recorded import OpenedEvent, RecordedEvent
from domain.events.topics import ACTIVITY_OF_TOPIC
from domain.identity import SubjectId, SubjectKind
from domain.workspace.references import parts
from projections.kernel.gaps import Gap, place_of
from projections.kernel.ports import Opener

VERSION = sa.text("""
SELECT CAST(definition AS text) AS definition, status, at, by FROM views.definition_versions
WHERE id = :id AND version = :version""")

SEGMENTS = sa.text("SELECT segment, name FROM views.segments")

VERBS_OF: dict[str, tuple[str, ...]] = {
    "stage": ("stage_entered", "stage_left"),
    "health": ("health_changed",),
    "score": ("score_changed",),
    "signal": ("signal_triggered", "signal_ended", "goal_reached", "goal_missed"),
    "segment": ("segment_entered", "segment_left"),
}
"""What can be asked about, with the decisions about it."""

MAX_NAMED = 10
"""Positions in one refusal."""

_definition: msgspec.json.Decoder[Definition] = msgspec.json.Decoder(Definition)


class Records(Protocol):
    """What is asked of the log."""

    def at(self, place: Position) -> RecordedEvent | None: ...
    def newest(self, stream: SubjectId, topic: str) -> Iterator[Sequence[RecordedEvent]]: ...


class LeafSeen(msgspec.Struct, frozen=True):
    """One test of a condition.

    Attributes:
        place: JSON pointer into the definition.
        value: what it saw: a value, how often something was done, how many of the other kind were
            so, or whether something was so; null where there was nothing. Texts and lists are cut.
        held: null, with `value`: nothing was kept of it.
    """

    place: str
    words: str
    condition: Condition
    value: Any
    held: bool | None


class RuleSeen(msgspec.Struct, frozen=True):
    """A condition of the definition, as it was then.

    Attributes:
        name: the stage, the rule of the score, `good`, `bad`, `condition` or `goal`.
        held: null: too little was kept to tell.
    """

    place: str
    name: str
    words: str
    condition: Condition
    held: bool | None
    tests: list[LeafSeen]


class DefinitionSeen(msgspec.Struct, frozen=True):
    """The definition that decided, at the version that it had.

    Attributes:
        changed_at, changed_by: since when it was so, and which API key made it so.
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
    """Something happened.

    Attributes:
        what: its type: `event`, `page`, `properties_changed`, ...
        name: of the activity; null for changes, and where it was erased or does not open.
        position: in the log.
    """

    what: str
    name: str | None
    at: datetime
    recorded_at: datetime
    position: str


class ByPerson(msgspec.Struct, frozen=True, tag="by_hand"):
    """Somebody put it into a stage (null: into none), or released it.

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
    """The clock reached an instant: of a re-entry, or at which a goal was due."""

    at: datetime


class ByDefinition(msgspec.Struct, frozen=True, tag="definition"):
    """Something was defined, changed, activated, archived or deleted.

    Attributes:
        status: that it has since. `by`: the API key, by id.
    """

    definition: DefinitionSeen


class ByRebuild(msgspec.Struct, frozen=True, tag="rebuild"):
    """Read models had been made anew, and all was looked at again."""


CauseSeen = ByEvent | ByPerson | ByDay | ByTime | ByDefinition | ByRebuild


class Why(msgspec.Struct, frozen=True):
    """A decision and its reason.

    Attributes:
        what: `stage_entered`, `stage_left`, `health_changed`, `score_changed`, `signal_triggered`,
            `signal_ended`, `goal_reached`, `goal_missed`, `segment_entered` or `segment_left`.
        ordinal: 1 for the first decision of its kind about the subject, and so on.
        stage: that was entered or left. `before`, `after`: of health and scores.
        by_hand: whether somebody overruled the rules.
        definition: null: its version is not known here (any more).
        rules: its conditions, and what they saw; none where no rule was asked.
        gaps: positions of newer decisions of its sort that do not open: one of these may be the
            last.
    """

    what: str
    at: datetime
    position: str
    ordinal: int
    stage: str | None
    before: str | float | None
    after: str | float | None
    by_hand: bool
    definition: DefinitionSeen | None
    rules: list[RuleSeen]
    cause: CauseSeen
    gaps: list[str]


def at(
    conn: sa.Connection,
    records: Records,
    opener: Opener,
    streams: Sequence[SubjectId],
    place: Position,
) -> Why:
    """Why the decision at a position was taken.

    Args:
        streams: those of the subject that it has to be about.

    Raises:
        NotFound: there is no decision about the subject.
        Altered: it does not open.
    """
    row = records.at(place)
    if row is not None and row.stream in streams:
        opener.refresh()
        [one] = opener.open_each([row])
        if isinstance(one, Gap):
            raise Altered(f"the event at {place_of(row)} does not open: {one.reason}")
        if isinstance(one.payload, DecisionEvent):
            return _why(conn, records, opener, one, one.payload, [])
    raise NotFound("there is no decision about it at this position")


def last(
    conn: sa.Connection,
    records: Records,
    opener: Opener,
    kind: SubjectKind,
    subject: SubjectId,
    of: str,
    definition: UUID | None,
) -> Why:
    """Why the last decision was taken.

    Args:
        of: what about, of `VERBS_OF`.
        definition: of a score, a signal or a segment.

    Raises:
        NotFound: nothing has been decided.
        Altered: there are decisions, none of which opens.
    """
    opener.refresh()
    newest: OpenedEvent | None = None
    gaps: list[Gap] = []
    for verb in VERBS_OF[of]:
        found = _newest(records, opener, subject, f"{kind}.{verb}", definition, gaps)
        if found is not None and (newest is None or found.row.position > newest.row.position):
            newest = found
    if newest is None or not isinstance(newest.payload, DecisionEvent):
        if gaps:
            raise Altered(
                f"what has been decided about its {of} does not open, at"
                f" {', '.join(place_of(gap.row) for gap in gaps[:MAX_NAMED])}"
            )
        raise NotFound(f"nothing has been decided about its {of} yet")
    last = newest.row.position
    newer = [place_of(gap.row) for gap in gaps if gap.row.position > last]
    return _why(conn, records, opener, newest, newest.payload, newer)


def _newest(
    records: Records,
    opener: Opener,
    subject: SubjectId,
    topic: str,
    definition: UUID | None,
    gaps: list[Gap],
) -> OpenedEvent | None:
    """
    Args:
        gaps: takes those that are met on the way.
    """
    for rows in records.newest(subject, topic):
        for one in opener.open_each(rows):
            if isinstance(one, Gap):
                gaps.append(one)
                continue
            payload = one.payload
            if isinstance(payload, DecisionEvent) and definition in (None, payload.definition):
                return one
    return None


def _why(
    conn: sa.Connection,
    records: Records,
    opener: Opener,
    one: OpenedEvent,
    decision: DecisionEvent,
    gaps: list[str],
) -> Why:
    found = _version(conn, decision.definition, decision.version)
    definition, seen = (None, None) if found is None else found
    stage = decision.stage if isinstance(decision, StageTransition) else None
    before: str | float | None = None
    after: str | float | None = None
    if isinstance(decision, HealthChanged):
        before, after = decision.before.value, decision.after.value
    elif isinstance(decision, ScoreChanged):
        before, after = decision.before, decision.after
    return Why(
        what=one.row.topic.partition(".")[2],
        at=one.row.occurred_at,
        position=place_of(one.row),
        ordinal=decision.ordinal,
        stage=stage,
        before=before,
        after=after,
        by_hand=bool(getattr(decision, "by_hand", False)),
        definition=seen,
        rules=_rules(conn, definition, decision),
        cause=_cause(conn, records, opener, decision),
        gaps=gaps,
    )


def _version(
    conn: sa.Connection, id: UUID, version: int
) -> tuple[Definition, DefinitionSeen] | None:
    row = conn.execute(VERSION, {"id": id, "version": version}).one_or_none()
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


def _rules(
    conn: sa.Connection, definition: Definition | None, decision: DecisionEvent
) -> list[RuleSeen]:
    if definition is None:
        return []
    if isinstance(decision, HealthChanged) and not isinstance(definition, HealthProfile):
        return []  # its stage has no profile, and nothing was asked
    segments = {row.segment: row.name for row in conn.execute(SEGMENTS)}
    return [
        RuleSeen(
            place=part.pointer,
            name=_name(definition, part.pointer),
            words=in_words(part.condition, segments),
            condition=part.condition,
            held=held_by_evidence(part.condition, part.pointer, decision.saw),
            tests=[
                LeafSeen(
                    place=place,
                    words=in_words(leaf, segments),
                    condition=leaf,
                    value=decision.saw.get(place, {}).get(VALUE),
                    held=decision.saw.get(place, {}).get(HELD),
                )
                for place, leaf in leaves(part.condition, part.pointer)
            ],
        )
        for part in parts(definition)
    ]


def _name(definition: Definition, place: str) -> str:
    _, first, *rest = place.split("/")
    match definition:
        case Stages(_, _, stages):
            return stages[int(rest[0])].name
        case Score(_, _, rules):
            return rules[int(rest[0])].name
        case Segment() | _:
            return first


def _cause(
    conn: sa.Connection, records: Records, opener: Opener, decision: DecisionEvent
) -> CauseSeen:
    cause: DecisionCause = decision.cause
    match cause:
        case OfEvent(partition, position):
            return _event(records, opener, Position(partition, position))
        case OfDay(day):
            return ByDay(day)
        case OfTime(instant):
            return ByTime(instant)
        case OfDefinition(version, other):
            found = _version(conn, other or decision.definition, version)
            if found is None:
                raise NotFound("the definition that was the cause is not known here yet; ask again")
            return ByDefinition(found[1])
        case _:
            return ByRebuild()


def _event(records: Records, opener: Opener, place: Position) -> CauseSeen:
    row = records.at(place)
    if row is None:
        raise NotFound("the event that was the cause is not in the log")
    [found] = opener.open_each([row])
    one = None if isinstance(found, Gap) else found
    where = place_of(row)
    match one and one.payload:
        case StageSet(stage, reason, by):
            return ByPerson(stage, False, by, reason, row.occurred_at, where)
        case StageReleased(by):
            return ByPerson(None, True, by, None, row.occurred_at, where)
        case _:
            pass
    name: str | None = None
    if one is not None and isinstance(one.payload, Tracked):
        name = one.payload.activity.name
    elif one is not None and one.account_part is not None:
        name = one.account_part.name
    what = ACTIVITY_OF_TOPIC.get(row.topic) or row.topic.partition(".")[2]
    return ByEvent(what, name, row.occurred_at, row.recorded_at, where)
