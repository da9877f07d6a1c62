"""Sweeps: rules that decide anew about all subjects, some partitions at a time.

One is asked for by a projector where a definition changes, and by the decider where the calendar
moves on or read models were made anew; the decider (`projections.deciding.process_manager`) brings
them on. Those that others rest on are over before these begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec
import psycopg
import sqlalchemy as sa

from domain.events.decisions import DecisionCause
from domain.identity import LOG_PARTITIONS

TABLES = ("sweeps", "deciding")

# The decider then looks at everybody again, as when read models were made anew.
DECIDE_ANEW = "DELETE FROM views.deciding"

OF_DEFINITION = """
INSERT INTO views.sweeps (rule, cause, next_partition)
SELECT coalesce(kind || CASE family WHEN 'stages' THEN '.stage'
                                    WHEN 'health_profile' THEN '.health' END, CAST(id AS text)),
       %(cause)b, 0
FROM views.definitions WHERE id = %(id)b AND family <> 'settings'
ON CONFLICT (rule) DO UPDATE SET cause = excluded.cause, next_partition = 0, waits_for = NULL"""

OF_RULES = sa.text("""
INSERT INTO views.sweeps (rule, cause, next_partition)
SELECT rule, :cause, 0 FROM unnest(CAST(:rules AS text[])) AS w(rule)
ON CONFLICT (rule) DO UPDATE SET next_partition = 0, waits_for = NULL""")

UNDER_WAY = sa.text("""
SELECT rule, next_partition FROM views.sweeps ORDER BY rule""")

_encode = msgspec.msgpack.Encoder().encode


class Sweep(msgspec.Struct, frozen=True):
    """How far a rule is with deciding anew about all subjects.

    Attributes:
        rule: a definition's id; of stages and health `user.stage`, `account.health` and so on.
        done: 0 to 1. 1: all is decided, and the read models have yet to show it.
    """

    rule: str
    done: float


def sweep(conn: psycopg.Connection, definition: UUID, cause: DecisionCause) -> None:
    """Has a definition, which the read model holds, decide anew about all subjects."""
    conn.execute(OF_DEFINITION, {"id": definition, "cause": _encode(cause)})


def sweep_all(conn: sa.Connection, rules: Sequence[str], cause: DecisionCause) -> None:
    """Has rules, by key, decide anew about all subjects. One that is at it already begins again,
    and goes on naming its own cause."""
    conn.execute(OF_RULES, {"rules": list(rules), "cause": _encode(cause)})


def under_way(conn: sa.Connection) -> list[Sweep]:
    """The sweeps that are not over yet."""
    return [Sweep(row.rule, row.next_partition / LOG_PARTITIONS) for row in conn.execute(UNDER_WAY)]
