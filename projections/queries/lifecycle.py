"""Query: the lifecycle of a user or an account: scores with their rules, signals, segments,
since when stage and health hold, and who set the stage."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.identity import SubjectId, SubjectKind, log_partition

# A single statement: each list is short, and a view waits for one answer instead of five.
STANDING = sa.text("""
SELECT s.stage_since, s.health_since, s.is_by_hand, s.hand_stage, s.hand_reason, s.hand_by,
       s.hand_at, scores.found AS scores, signals.found AS signals, segments.found AS segments
FROM (SELECT 1) one
LEFT JOIN views.standings s ON s.log_partition = :partition AND s.subject = :subject
CROSS JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_object(
        'id', d.id, 'name', d.name, 'rules', d.definition -> 'rules', 'value', o.value,
        'held', o.held, 'since', o.since, 'changed_at', o.changed_at) ORDER BY d.name) AS found
    FROM views.definitions d LEFT JOIN views.scores o
      ON o.log_partition = :partition AND o.subject = :subject AND o.score = d.id
    WHERE d.family = 'score' AND d.kind = :kind AND d.status = 'active') scores
CROSS JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_object(
        'id', d.id, 'name', d.name, 'is_on', o.is_on, 'triggered_at', o.triggered_at,
        'ended_at', o.ended_at, 'triggers', o.triggers, 'goal', o.goal,
        'goal_due_at', o.goal_due_at) ORDER BY o.is_on DESC, o.triggered_at DESC, d.name) AS found
    FROM views.signals o JOIN views.definitions d ON d.id = o.signal
    WHERE o.log_partition = :partition AND o.subject = :subject AND o.triggers > 0
      AND d.status IN ('active', 'archived')) signals
CROSS JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_object(
        'id', g.segment, 'name', g.name, 'entered_at', m.entered_at) ORDER BY g.name) AS found
    FROM views.segment_members m JOIN views.segments g ON g.segment = m.segment
    WHERE m.log_partition = :partition AND m.subject = :subject
      AND g.deleted_at IS NULL) segments""")


class ManualStage(msgspec.Struct, frozen=True):
    """A stage that was set by hand and not yet released; `by` is the API key."""

    stage: str | None
    reason: str
    by: UUID
    at: datetime


class Marker(msgspec.Struct, frozen=True):
    """A rule of a score.

    Attributes:
        held: whether it holds. since: the time since which it does, or does not. Both are null
            until the rule is evaluated.
    """

    name: str
    weight: int
    held: bool | None
    since: datetime | None


class ScoreItem(msgspec.Struct, frozen=True):
    """
    Attributes:
        value: 0 to 100, two decimals; null before the first decision.
        changed_at: when the value, or the set of rules that hold, last changed.
    """

    id: UUID
    name: str
    value: float | None
    changed_at: datetime | None
    rules: list[Marker]


class SignalItem(msgspec.Struct, frozen=True):
    """A signal that has triggered.

    Attributes:
        triggered_at: the last time. ended_at: when it turned off after that; null: it is on.
        triggers: how often it triggered.
        goal: of the last trigger: `waiting`, `reached` or `missed`; null: it has none.
        goal_due_at: the time by which the goal must be reached.
    """

    id: UUID
    name: str
    is_on: bool
    triggered_at: datetime
    ended_at: datetime | None
    triggers: int
    goal: str | None
    goal_due_at: datetime | None


class InSegmentSince(msgspec.Struct, frozen=True):
    id: UUID
    name: str
    entered_at: datetime


class Lifecycle(msgspec.Struct, frozen=True):
    stage_since: datetime | None
    health_since: datetime | None
    by_hand: ManualStage | None
    scores: list[ScoreItem]
    signals: list[SignalItem]
    segments: list[InSegmentSince]


def lifecycle(conn: sa.Connection, kind: SubjectKind, subject: SubjectId) -> Lifecycle:
    """The lifecycle of a subject; empty before the first decision."""
    row = conn.execute(
        STANDING,
        {"partition": log_partition(subject), "subject": subject, "kind": kind.value},
    ).one()
    by_hand = None
    if row.is_by_hand:
        by_hand = ManualStage(row.hand_stage, row.hand_reason, row.hand_by, row.hand_at)
    return Lifecycle(
        row.stage_since,
        row.health_since,
        by_hand,
        [_score(score) for score in row.scores or ()],
        msgspec.convert(row.signals or [], list[SignalItem]),
        msgspec.convert(row.segments or [], list[InSegmentSince]),
    )


def _score(score: Mapping[str, Any]) -> ScoreItem:
    held, since = score["held"], score["since"] or {}
    rules = [
        {
            "name": rule["name"],
            "weight": rule["weight"],
            "held": rule["name"] in held if rule["name"] in since else None,
            "since": since.get(rule["name"]),
        }
        for rule in score["rules"]
    ]
    return msgspec.convert(
        {name: score[name] for name in ("id", "name", "value", "changed_at")} | {"rules": rules},
        ScoreItem,
    )
