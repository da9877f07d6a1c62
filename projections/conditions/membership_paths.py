"""Paths from subjects to subjects of the other kind, over memberships.

A merged account is its survivor, as in `projections.conditions.compiler` and the 360 view. Ended
memberships count too: conditions about them change when accounts are merged or erased.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

import sqlalchemy as sa

from domain.identity import log_partition

ACCOUNTS_OF = sa.text("""
SELECT w.s AS source, coalesce(g.survivor, m.account_id) AS target
FROM unnest(CAST(:partitions AS smallint[]), CAST(:subjects AS uuid[])) AS w(p, s)
JOIN views.memberships m ON m.log_partition = w.p AND m.user_id = w.s
LEFT JOIN views.merges g ON g.loser = m.account_id""")

USERS_OF = sa.text("""
WITH streams AS (
    SELECT s AS source, s AS stream FROM unnest(CAST(:subjects AS uuid[])) AS w(s)
    UNION ALL
    SELECT survivor, loser FROM views.merges WHERE survivor = ANY(:subjects))
SELECT streams.source, m.user_id AS target
FROM streams JOIN views.memberships m ON m.account_id = streams.stream""")

SURVIVORS = sa.text("""
SELECT loser, survivor FROM views.merges WHERE log_partition = ANY(:partitions)
  AND loser = ANY(:subjects)""")


def survivors(conn: sa.Connection, subjects: Sequence[UUID]) -> dict[UUID, UUID]:
    """The survivors of those subjects that were merged, by loser."""
    partitions = sorted({log_partition(subject) for subject in subjects})
    rows = conn.execute(SURVIVORS, {"partitions": partitions, "subjects": list(subjects)})
    return {row.loser: row.survivor for row in rows}


def reached_by(
    conn: sa.Connection, way: Sequence[str], subjects: Iterable[UUID]
) -> dict[UUID, set[UUID]]:
    """The subjects that a path of `domain.workspace.dependencies` leads to, from each subject."""
    reached = {subject: {subject} for subject in subjects}
    for kind in way:
        here = list(set().union(*reached.values())) if reached else []
        targets_of: dict[UUID, set[UUID]] = {}
        if here:
            params: dict[str, object] = {"subjects": here}
            if kind == "account":
                params["partitions"] = [log_partition(subject) for subject in here]
            for source, target in conn.execute(
                ACCOUNTS_OF if kind == "account" else USERS_OF, params
            ):
                targets_of.setdefault(source, set()).add(target)
        reached = {
            source: set().union(*(targets_of.get(target, set()) for target in targets))
            for source, targets in reached.items()
        }
    return reached
