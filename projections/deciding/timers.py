"""Timers: the instants at which the clock alone may change what a rule decides of a subject."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa

from domain.identity import log_partition

LOCK_DUE = sa.text("""
SELECT subject, rule, due_at FROM views.timers WHERE due_at <= :now
ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED""")

SET_TIMERS = sa.text("""
INSERT INTO views.timers (log_partition, subject, rule, due_at)
SELECT * FROM unnest(CAST(:partitions AS smallint[]), CAST(:subjects AS uuid[]),
                     CAST(:rules AS text[]), CAST(:due AS timestamptz[]))
ON CONFLICT (log_partition, subject, rule) DO UPDATE SET due_at = excluded.due_at""")

DELETE_TIMERS = sa.text("""
DELETE FROM views.timers t
USING unnest(CAST(:partitions AS smallint[]), CAST(:subjects AS uuid[]), CAST(:rules AS text[]))
      AS w(p, s, rule)
WHERE t.log_partition = w.p AND t.subject = w.s AND t.rule = w.rule
  AND t.log_partition = ANY(:partitions)""")


class Timer(NamedTuple):
    """
    Attributes:
        rule: by key.
    """

    subject: UUID
    rule: str
    due_at: datetime


def lock_due(conn: sa.Connection, now: datetime, limit: int) -> list[Timer]:
    """The timers that are due, the oldest first, locked: other workers pass them."""
    rows = conn.execute(LOCK_DUE, {"now": now, "limit": limit})
    return [Timer(row.subject, row.rule, row.due_at) for row in rows]


def delete(conn: sa.Connection, timers: Sequence[Timer]) -> None:
    params = {
        "partitions": [log_partition(timer.subject) for timer in timers],
        "subjects": [timer.subject for timer in timers],
        "rules": [timer.rule for timer in timers],
    }
    conn.execute(DELETE_TIMERS, params)


def set_all(conn: sa.Connection, timers: Sequence[Timer]) -> None:
    """Sets timers; one for the same subject and rule replaces the one before it."""
    if not timers:
        return
    rows = sorted(
        (log_partition(timer.subject), timer.subject.bytes, timer.rule, timer) for timer in timers
    )
    params = {
        "partitions": [partition for partition, _, _, _ in rows],
        "subjects": [timer.subject for _, _, _, timer in rows],
        "rules": [timer.rule for _, _, _, timer in rows],
        "due": [timer.due_at for _, _, _, timer in rows],
    }
    conn.execute(SET_TIMERS, params)
