"""Sweeps: a rule decides anew about all subjects, some partitions at a time.

The projector begins a sweep when a definition changes. The process manager
(`projections.deciding.process_manager`) begins one when a calendar day begins and after a rebuild,
and advances all sweeps. The sweep of a rule waits for the sweeps of the rules that it rests on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec
import psycopg
import sqlalchemy as sa

from domain.events.decisions import DecisionCause
from domain.identity import LOG_PARTITIONS
from projections.kernel import pg_arrays

TABLES = ("sweeps", "deciding")

# The process manager then sweeps over all subjects, as after a rebuild.
DECIDE_ANEW = "DELETE FROM views.deciding"

BEGIN_OF_DEFINITION = """
INSERT INTO views.sweeps (rule, cause, next_partition)
SELECT coalesce(kind || CASE family WHEN 'stages' THEN '.stage'
                                    WHEN 'health_profile' THEN '.health' END, CAST(id AS text)),
       %(cause)b, 0
FROM views.definitions WHERE id = %(id)b AND family <> 'settings'
ON CONFLICT (rule) DO UPDATE SET cause = excluded.cause, next_partition = 0, waits_for = NULL"""

BEGIN_OF_RULES = sa.text("""
INSERT INTO views.sweeps (rule, cause, next_partition)
SELECT rule, :cause, 0 FROM unnest(CAST(:rules AS text[])) AS w(rule)
ON CONFLICT (rule) DO UPDATE SET next_partition = 0, waits_for = NULL""")

SELECT_PROGRESS = sa.text("SELECT rule, next_partition FROM views.sweeps ORDER BY rule")

SELECT_RULES = sa.text("SELECT rule FROM views.sweeps")

LOCK_UNFINISHED = sa.text("""
SELECT rule, cause, next_partition FROM views.sweeps
WHERE waits_for IS NULL AND rule = ANY(:rules) LIMIT 1 FOR UPDATE SKIP LOCKED""")

LOCK_DECIDED = sa.text("""
SELECT rule, waits_for FROM views.sweeps
WHERE waits_for IS NOT NULL FOR UPDATE SKIP LOCKED""")

ADVANCE = sa.text("""
UPDATE views.sweeps SET next_partition = :next, waits_for = :heads WHERE rule = :rule""")

END = sa.text("DELETE FROM views.sweeps WHERE rule = :rule")

_encode = msgspec.msgpack.Encoder().encode
_cause: msgspec.msgpack.Decoder[DecisionCause] = msgspec.msgpack.Decoder(DecisionCause)


class Sweep(msgspec.Struct, frozen=True):
    """The progress of a sweep.

    Attributes:
        rule: a definition's id; of stages and health `user.stage`, `account.health` and so on.
        done: 0 to 1. 1: all is decided, and the read models have yet to show it.
    """

    rule: str
    done: float


class UnfinishedSweep(NamedTuple):
    """
    Attributes:
        rule: by key.
        next_partition: the first partition that is not decided yet.
    """

    rule: str
    cause: DecisionCause
    next_partition: int


def sweep(conn: psycopg.Connection, definition: UUID, cause: DecisionCause) -> None:
    """Begins the sweep of a definition that the read model holds."""
    conn.execute(BEGIN_OF_DEFINITION, {"id": definition, "cause": _encode(cause)})


def sweep_all(conn: sa.Connection, rules: Sequence[str], cause: DecisionCause) -> None:
    """Begins sweeps of rules, by key. A sweep that is under way begins again, with the cause that
    it has."""
    conn.execute(BEGIN_OF_RULES, {"rules": list(rules), "cause": _encode(cause)})


def under_way(conn: sa.Connection) -> list[Sweep]:
    """The sweeps that have not ended."""
    rows = conn.execute(SELECT_PROGRESS)
    return [Sweep(row.rule, row.next_partition / LOG_PARTITIONS) for row in rows]


def swept_rules(conn: sa.Connection) -> list[str]:
    """The rules, by key, whose sweeps have not ended."""
    return list(conn.scalars(SELECT_RULES))


def lock_unfinished(conn: sa.Connection, rules: Sequence[str]) -> UnfinishedSweep | None:
    """Locks the sweep of one of the rules; None: all are decided, or locked by other workers."""
    row = conn.execute(LOCK_UNFINISHED, {"rules": list(rules)}).one_or_none()
    if row is None:
        return None
    return UnfinishedSweep(row.rule, _cause.decode(row.cause), row.next_partition)


def lock_decided(conn: sa.Connection) -> list[tuple[str, list[int]]]:
    """Locks the sweeps that have decided about all subjects.

    Returns:
        The rule, by key, and the position in each partition at which the decisions are recorded.
    """
    return [(row.rule, row.waits_for) for row in conn.execute(LOCK_DECIDED)]


def advance(
    conn: sa.Connection, rule: str, next_partition: int, heads: Sequence[int] | None
) -> None:
    """
    Args:
        heads: of the log, by partition, where the sweep has decided about all subjects.
    """
    reached = None if heads is None else pg_arrays.bigints(heads)
    conn.execute(ADVANCE, {"rule": rule, "next": next_partition, "heads": reached})


def end(conn: sa.Connection, rule: str) -> None:
    conn.execute(END, {"rule": rule})
