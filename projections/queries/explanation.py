"""Query: why a decision about a subject was made, from the log.

The decision holds the evidence of its conditions, and its cause; the history of the definition
holds its content at that version, and the API key that changed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.commands import Position
from domain.conditions.evidence import HELD, VALUE, held_by_evidence, leaves
from domain.conditions.language import Condition
from domain.conditions.wording import in_words
from domain.definitions.types import Definition, HealthProfile, Score, Segment, Stages
from domain.errors import Altered, NotFound
from domain.events.decisions import (
    DecisionEvent,
    HealthChanged,
    ScoreChanged,
    StageTransition,
)
from domain.events.recorded import OpenedEvent
from domain.identity import SubjectId, SubjectKind
from domain.workspace.references import parts
from projections.kernel.gaps import Gap, place_of
from projections.kernel.ports import Opener
from projections.queries.decision_cause import (
    CauseSeen,
    DefinitionSeen,
    Records,
    cause_of,
    definition_version,
)

SEGMENTS = sa.text("SELECT segment, name FROM views.segments")

VERBS_OF: dict[str, tuple[str, ...]] = {
    "stage": ("stage_entered", "stage_left"),
    "health": ("health_changed",),
    "score": ("score_changed",),
    "signal": ("signal_triggered", "signal_ended", "goal_reached", "goal_missed"),
    "segment": ("segment_entered", "segment_left"),
}
"""The subjects of a question, with the decisions about each."""

MAX_NAMED = 10
"""Positions named in one refusal, at most."""


class LeafSeen(msgspec.Struct, frozen=True):
    """A test of a condition.

    Attributes:
        place: JSON pointer into the definition.
        value: the evidence: a value, a count of activity, the number of matching users or accounts,
            or whether a fact held; null: there was none. Texts and lists are cut.
        held: whether the test held; null, with `value`: no evidence was kept.
    """

    place: str
    words: str
    condition: Condition
    value: Any
    held: bool | None


class RuleSeen(msgspec.Struct, frozen=True):
    """A condition of the definition at the time of the decision.

    Attributes:
        name: the stage, the rule of the score, `good`, `bad`, `condition` or `goal`.
        held: null: too little evidence was kept to tell.
    """

    place: str
    name: str
    words: str
    condition: Condition
    held: bool | None
    tests: list[LeafSeen]


class Why(msgspec.Struct, frozen=True):
    """A decision and its reason.

    Attributes:
        what: `stage_entered`, `stage_left`, `health_changed`, `score_changed`, `signal_triggered`,
            `signal_ended`, `goal_reached`, `goal_missed`, `segment_entered` or `segment_left`.
        ordinal: 1 for the first decision of its kind about the subject, and so on.
        stage: the stage entered or left. `before`, `after`: of health and scores.
        by_hand: whether a person overruled the rules.
        definition: null: its version is unknown here, or no longer known.
        rules: its conditions and their evidence; none if no rule was evaluated.
        gaps: positions of newer decisions of the same sort that do not open; one of them may be the
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
    """Explains the decision at a position.

    Args:
        streams: those that may hold the decision.

    Raises:
        NotFound: no such decision.
        Altered: the decision does not open.
    """
    row = records.at(place)
    if row is not None and row.stream in streams:
        opener.refresh()
        [event] = opener.open_each([row])
        if isinstance(event, Gap):
            raise Altered(f"the event at {place_of(row)} does not open: {event.reason}")
        if isinstance(event.payload, DecisionEvent):
            return _why(conn, records, opener, event, event.payload, [])
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
    """Why the last decision was made.

    Args:
        of: a key of `VERBS_OF`.
        definition: of a score, a signal or a segment.

    Raises:
        NotFound: no decision yet.
        Altered: no decision opens.
    """
    opener.refresh()
    newest: OpenedEvent | None = None
    gaps: list[Gap] = []
    for verb in VERBS_OF[of]:
        event = _newest(records, opener, subject, f"{kind}.{verb}", definition, gaps)
        if event is not None and (newest is None or event.row.position > newest.row.position):
            newest = event
    if newest is None or not isinstance(newest.payload, DecisionEvent):
        if gaps:
            raise Altered(
                f"the decisions about its {of} do not open, at"
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
    gaps: receives the gaps on the way.
    """
    for rows in records.newest(subject, topic):
        for event in opener.open_each(rows):
            if isinstance(event, Gap):
                gaps.append(event)
                continue
            payload = event.payload
            if isinstance(payload, DecisionEvent) and definition in (None, payload.definition):
                return event
    return None


def _why(
    conn: sa.Connection,
    records: Records,
    opener: Opener,
    event: OpenedEvent,
    decision: DecisionEvent,
    gaps: list[str],
) -> Why:
    version = definition_version(conn, decision.definition, decision.version)
    definition, seen = (None, None) if version is None else version
    stage = decision.stage if isinstance(decision, StageTransition) else None
    before: str | float | None = None
    after: str | float | None = None
    if isinstance(decision, HealthChanged):
        before, after = decision.before.value, decision.after.value
    elif isinstance(decision, ScoreChanged):
        before, after = decision.before, decision.after
    return Why(
        what=event.row.topic.partition(".")[2],
        at=event.row.occurred_at,
        position=place_of(event.row),
        ordinal=decision.ordinal,
        stage=stage,
        before=before,
        after=after,
        by_hand=bool(getattr(decision, "by_hand", False)),
        definition=seen,
        rules=_rules(conn, definition, decision),
        cause=cause_of(conn, records, opener, decision),
        gaps=gaps,
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
