"""What read models show of decisions, read by queries of the tests' own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg

from domain.events.decisions import ScoreChanged, SignalEnded, SignalTriggered, StageEntered
from domain.identity import SubjectId
from tests.projections.decision_laws import (
    Decided,
    Record,
    Series,
    health_of,
    playbook_of,
    score_of,
    stage_of,
)
from tests.projections.read_models import owner
from tests.projections.settled_laws import Settled

LEFT = """
SELECT (SELECT count(*) FROM views.changes_due) + (SELECT count(*) FROM views.sweeps)
     + (SELECT count(*) FROM views.timers WHERE due_at <= %s)"""

STAGES = """
SELECT c.subject, c.stage, c.health, coalesce(s.stage_ordinal, 0), s.stage_since,
       coalesce(s.health_ordinal, 0), s.health_since, coalesce(s.is_by_hand, false), s.hand_stage
FROM views.contacts c LEFT JOIN views.standings s USING (log_partition, subject)"""

STANDINGS = "SELECT subject FROM views.standings"

SPELLS = """
SELECT subject, stage, entered_at, left_at, by_hand FROM views.stage_spells ORDER BY ordinal"""

SCORES = "SELECT subject, score, ordinal, value, held, since FROM views.scores"

SIGNALS = """
SELECT subject, signal, ordinal, is_on, triggers, triggered_at, ended_at, goal FROM views.signals"""

MEMBERS = "SELECT subject, segment, ordinal, entered_at FROM views.segment_members"

COUNTS = """
SELECT segment, sum(members)::int FROM views.segment_counts GROUP BY 1 HAVING sum(members) <> 0"""

BARS = """
SELECT kind, stage, health, sum(count)::int FROM views.bar_counts
GROUP BY 1, 2, 3 HAVING sum(count) <> 0"""


def assert_shown(url: str, settled: Settled) -> None:
    """Read models show what the log comes to: of everybody who is there, and of nobody else."""
    there = {SubjectId(id) for id in settled.everybody.world.subjects}
    series = {key: some for key, some in settled.record.series.items() if key.subject in there}
    with owner(url) as conn:
        _assert_stages(conn, settled, there)
        assert _all(conn, SPELLS) == _spells(series)
        assert _all(conn, SCORES) == _scores(series)
        assert _all(conn, SIGNALS) == _signals(settled.record, series)
        members = _members(series)
        assert _all(conn, MEMBERS) == members
        assert dict(conn.execute(COUNTS).fetchall()) == Counter(member[1] for member in members)


def _all(conn: psycopg.Connection, query: str) -> list[tuple[Any, ...]]:
    return sorted(conn.execute(query.encode()).fetchall(), key=repr)


def _assert_stages(conn: psycopg.Connection, settled: Settled, there: set[SubjectId]) -> None:
    record, expected, bars = settled.record, [], Counter[tuple[Any, ...]]()
    for id in there:
        stages = record.series.get(Series(id, "stage"), [])
        healths = record.series.get(Series(id, "health"), [])
        expected.append(
            (
                *(id, stage_of(stages), health_of(healths).value),
                *(len(stages), _last(stages), len(healths), _last(healths)),
                *(id in record.hands, record.hands.get(id)),
            )
        )
        kind = settled.everybody.world.subjects[id].kind
        bars[kind.value, stage_of(stages), health_of(healths).value] += 1
    assert _all(conn, STAGES) == sorted(expected, key=repr)
    assert {row for (row,) in conn.execute(STANDINGS)} <= there
    counted = conn.execute(BARS).fetchall()
    assert {(kind, stage or None, health): n for kind, stage, health, n in counted} == bars


def _last(history: Sequence[Decided]) -> datetime | None:
    return history[-1].at if history else None


Histories = dict[Series, list[Decided]]


def _spells(series: Histories) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for key, history in series.items():
        if key.family == "stage":
            ends = [decision.at for decision in history[1::2]] + [None]
            for decided, end in zip(history[::2], ends, strict=False):
                assert isinstance(decided.decision, StageEntered)
                found.append(
                    (key.subject, decided.decision.stage, decided.at, end, decided.decision.by_hand)
                )
    return sorted(found, key=repr)


def _scores(series: Histories) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for key, history in series.items():
        if key.family == "score":
            value, held = score_of(history) or (None, [])
            found.append((key.subject, key.definition, len(history), value, held, _since(history)))
    return sorted(found, key=repr)


def _since(history: Sequence[Decided]) -> dict[str, str]:
    """Since when each rule holds, or does not: as far back as it was told so without a break."""
    found: dict[str, str] = {}
    last = history[-1].decision
    assert isinstance(last, ScoreChanged)
    for name in last.held + last.missed:
        for decision in reversed(history):
            assert isinstance(decision.decision, ScoreChanged)
            told = decision.decision.held if name in last.held else decision.decision.missed
            if name not in told:
                break
            found[name] = decision.at.isoformat()
    return found


def _signals(record: Record, series: Histories) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for key, history in series.items():
        if key.family == "signal":
            state = playbook_of(record, key)
            ended = None
            for decision in history:
                if isinstance(decision.decision, SignalTriggered):
                    ended = None
                elif isinstance(decision.decision, SignalEnded):
                    ended = decision.at
            found.append(
                (
                    *(key.subject, key.definition, len(history), state.is_on),
                    *(state.triggers, state.triggered_at, ended, state.goal),
                )
            )
    return sorted(found, key=repr)


def _members(series: Histories) -> list[tuple[Any, ...]]:
    return sorted(
        (
            (key.subject, key.definition, len(history), history[-1].at)
            for key, history in series.items()
            if key.family == "segment" and len(history) % 2
        ),
        key=repr,
    )
