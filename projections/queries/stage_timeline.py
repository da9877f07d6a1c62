"""Query: the stages of a user or an account over time, with the times in no stage.

Spells are as they were decided. Where the workspace backdates stages, a spell begins when the fact
occurred that caused its decision; an older decision about a later time gives way. The query
computes this: the record stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.commands import Position
from domain.events.decisions import OfEvent, StageEntered, StageTransition
from domain.events.recorded import RecordedEvent
from domain.identity import SubjectId, SubjectKind, log_partition
from projections.kernel.gaps import parted, place_of
from projections.kernel.ports import Opener
from projections.kernel.time_range import Stretch, timeline_key

SPELLS = sa.text("""
SELECT stage, definition, version, by_hand, entered_at, left_at, entered_at AS decided_at
FROM views.stage_spells
WHERE log_partition = :partition AND subject = :subject ORDER BY ordinal""")

ORDER = sa.text("""
SELECT jsonb_path_query_array(definition, '$.stages[*].name') FROM views.definitions
WHERE family = 'stages' AND kind = :kind AND status = 'active'""")

ROWS_AT_ONCE = 500


class StageLog(Protocol):
    """Reads the log for a stage timeline."""

    def read_topics(
        self, stretch: Stretch, topics: Sequence[str], limit: int
    ) -> list[RecordedEvent]: ...
    def occurred_at(self, places: Sequence[Position]) -> dict[Position, datetime]: ...


class Spell(msgspec.Struct, frozen=True):
    """A time in one stage, or in none.

    Attributes:
        stage: null: none.
        entered_at, left_at: null: it is the present stage.
        decided_at: the time of the decision; null for times in no stage.
        visit: 1 for the first time in this stage, 2 for the second, and so on.
        direction: `forward` or `back` from the stage before, in the order of today's stages; null:
            there is none to compare with.
        definition, version: the list of stages that decided it.
    """

    stage: str | None
    entered_at: datetime
    left_at: datetime | None
    decided_at: datetime | None
    visit: int
    direction: str | None
    by_hand: bool
    definition: UUID | None
    version: int | None


class StageSummary(msgspec.Struct, frozen=True):
    """All times in one stage, or in none.

    Attributes:
        visits: how often it was entered.
        seconds: in all; the present stage counts up to now.
    """

    stage: str | None
    visits: int
    seconds: float
    first_entered_at: datetime
    last_left_at: datetime | None


class StageTimeline(msgspec.Struct, frozen=True):
    """
    Attributes:
        spells: oldest first, with the times in no stage between them and after the last.
        summary: by stage, in the order of today's stages, then by name; no stage is last.
        backdated: whether late facts moved the stages.
        gaps: positions of decisions that do not open and are left out; empty if it is not
            backdated.
    """

    spells: list[Spell]
    summary: list[StageSummary]
    backdated: bool
    gaps: list[str]


class _Decided(msgspec.Struct, frozen=True):
    """A stage as it was decided."""

    stage: str
    definition: UUID
    version: int
    by_hand: bool
    entered_at: datetime
    left_at: datetime | None
    decided_at: datetime


def stage_timeline(
    conn: sa.Connection,
    log: StageLog,
    opener: Opener,
    kind: SubjectKind,
    subject: SubjectId,
    *,
    backdated: bool,
    now: datetime,
) -> StageTimeline:
    """The stage timeline of a subject, as decided, or with `backdated` as the facts occurred."""
    gaps: list[str] = []
    if backdated:
        decided, gaps = _moved(log, opener, kind, subject)
    else:
        rows = conn.execute(SPELLS, {"partition": log_partition(subject), "subject": subject})
        decided = [_Decided(*row) for row in rows]
    order: list[str] = conn.scalar(ORDER, {"kind": kind.value}) or []
    spells = with_gaps(decided, order)
    return StageTimeline(spells, summary(spells, order, now), backdated, gaps)


def _moved(
    log: StageLog, opener: Opener, kind: SubjectKind, subject: SubjectId
) -> tuple[list[_Decided], list[str]]:
    """The spells, and the positions of gaps."""
    opener.refresh()
    opened, gaps = parted(opener.open_each(_stage_rows(log, kind, subject)))
    transitions = [
        (event.row.occurred_at, event.payload)
        for event in opened
        if isinstance(event.payload, StageTransition)
    ]
    transitions.sort(key=lambda transition: transition[1].ordinal)
    causes = {
        Position(payload.cause.partition, payload.cause.position)
        for _, payload in transitions
        if isinstance(payload.cause, OfEvent)
    }
    occurred_at = log.occurred_at(sorted(causes))
    return moved(transitions, occurred_at), [place_of(gap.row) for gap in gaps]


def _stage_rows(log: StageLog, kind: SubjectKind, subject: SubjectId) -> list[RecordedEvent]:
    topics = [f"{kind}.stage_entered", f"{kind}.stage_left"]
    stretch = Stretch([subject], newest_first=False)
    events: list[RecordedEvent] = []
    while True:
        rows = log.read_topics(stretch, topics, ROWS_AT_ONCE)
        ends = [
            max(timeline_key(row) for row in rows if row.topic == topic)
            for topic in topics
            if sum(row.topic == topic for row in rows) >= ROWS_AT_ONCE
        ]
        if not ends:
            return events + rows
        horizon = min(ends)
        events += [row for row in rows if timeline_key(row) <= horizon]
        stretch = stretch.after(horizon)


def moved(
    transitions: Iterable[tuple[datetime, StageTransition]],
    occurred_at: Mapping[Position, datetime],
) -> list[_Decided]:
    """The stages at the times at which their causes occurred.

    Args:
        transitions: each with the instant of its decision, in order.
        occurred_at: of the events that were causes.
    """
    spells: list[_Decided] = []
    for decided_at, transition in transitions:
        at = decided_at
        if isinstance(transition.cause, OfEvent):
            cause = Position(transition.cause.partition, transition.cause.position)
            at = min(at, occurred_at.get(cause, at))
        # An older decision about a later time gives way.
        spells = [
            msgspec.structs.replace(spell, left_at=_earlier(spell.left_at, at))
            for spell in spells
            if spell.entered_at < at
        ]
        if isinstance(transition, StageEntered):
            spells.append(
                _Decided(
                    transition.stage,
                    transition.definition,
                    transition.version,
                    transition.by_hand,
                    at,
                    None,
                    decided_at,
                )
            )
    return spells


def _earlier(left_at: datetime | None, at: datetime) -> datetime:
    return at if left_at is None else min(left_at, at)


def with_gaps(decided: Sequence[_Decided], order: Sequence[str]) -> list[Spell]:
    """The spells, with the times in no stage between and after them, and with visits counted."""
    spells: list[Spell] = []
    visits: Counter[str | None] = Counter()
    before: str | None = None
    for n, stay in enumerate(decided):
        visits[stay.stage] += 1
        spells.append(
            Spell(
                stage=stay.stage,
                entered_at=stay.entered_at,
                left_at=stay.left_at,
                decided_at=stay.decided_at,
                visit=visits[stay.stage],
                direction=_direction(before, stay.stage, order),
                by_hand=stay.by_hand,
                definition=stay.definition,
                version=stay.version,
            )
        )
        before = stay.stage
        following = decided[n + 1].entered_at if n + 1 < len(decided) else None
        if stay.left_at is not None and stay.left_at != following:
            visits[None] += 1
            gap = visits[None]
            spells.append(Spell(None, stay.left_at, following, None, gap, None, False, None, None))
    return spells


def _direction(before: str | None, after: str, order: Sequence[str]) -> str | None:
    if before not in order or after not in order or before == after:
        return None
    return "forward" if order.index(before) < order.index(after) else "back"


def summary(spells: Sequence[Spell], order: Sequence[str], now: datetime) -> list[StageSummary]:
    """Visits and duration by stage."""
    of: dict[str | None, list[Spell]] = {}
    for spell in spells:
        of.setdefault(spell.stage, []).append(spell)
    places = {stage: n for n, stage in enumerate(order)}

    def place(stage: str | None) -> tuple[bool, int, str]:
        return stage is None, places.get(stage or "", len(order)), stage or ""

    return [
        StageSummary(
            stage,
            len(of[stage]),
            sum((_end(spell, now) - spell.entered_at).total_seconds() for spell in of[stage]),
            of[stage][0].entered_at,
            of[stage][-1].left_at,
        )
        for stage in sorted(of, key=place)
    ]


def _end(spell: Spell, now: datetime) -> datetime:
    return max(spell.left_at or now, spell.entered_at)
