"""Read model: the survivor of each merged subject. Chains are kept short: each loser points at
the subject that exists today."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import psycopg

from domain.identity import SubjectId, log_partition
from projections.kernel import pg_arrays

TABLES = ("merges",)

SELECT_SURVIVORS = """
SELECT m.loser, m.survivor FROM views.merges m
JOIN unnest(%b::smallint[], %b::uuid[]) AS w(p, s) ON m.log_partition = w.p AND m.loser = w.s"""

SELECT_LOSERS = "SELECT loser FROM views.merges WHERE survivor = ANY(%s) ORDER BY loser"

LOCK_CONTACTS = """
SELECT 1 FROM views.contacts WHERE log_partition = ANY(%b) AND subject = ANY(%b)
ORDER BY log_partition, subject FOR UPDATE"""

SHORTEN = """
UPDATE views.merges SET survivor = %(survivor)s
WHERE log_partition = ANY(%(all)s) AND survivor = %(loser)s"""

ADD_MERGE = """
INSERT INTO views.merges (log_partition, loser, survivor)
VALUES (%(partition)s, %(loser)s, %(survivor)s)
ON CONFLICT (log_partition, loser) DO UPDATE SET survivor = excluded.survivor"""

DELETE_MERGES = """
DELETE FROM views.merges
WHERE log_partition = ANY(%(all)s)
  AND (loser = ANY(%(subjects)s) OR survivor = ANY(%(subjects)s))"""

ALL_PARTITIONS = pg_arrays.smallints(range(256))


def survivors(
    conn: psycopg.Connection, subjects: Iterable[SubjectId]
) -> dict[SubjectId, SubjectId]:
    """The survivors of those subjects that were merged, by loser."""
    rows = conn.execute(SELECT_SURVIVORS, pg_arrays.placed(list(subjects)), binary=True)
    return {SubjectId(loser): SubjectId(survivor) for loser, survivor in rows}


def losers(conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> list[SubjectId]:
    """The subjects that were merged into these."""
    return [SubjectId(row[0]) for row in conn.execute(SELECT_LOSERS, (list(subjects),))]


def record(conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> SubjectId:
    """Records a merge; returns the survivor of today, which may be a later one.

    Locks both contacts first, so that two workers with merges of one chain go one after the other.
    """
    both = sorted((log_partition(subject), subject.bytes, subject) for subject in (loser, survivor))
    conn.execute(
        LOCK_CONTACTS, ([subject[0] for subject in both], [subject[2] for subject in both])
    )
    today = survivors(conn, [survivor]).get(survivor, survivor)
    merge = {"partition": log_partition(loser), "loser": loser, "survivor": today}
    conn.execute(ADD_MERGE, merge)
    conn.execute(SHORTEN, {"all": ALL_PARTITIONS, "loser": loser, "survivor": today})
    return today


def forget(conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
    """Deletes each merge of the erased subjects."""
    conn.execute(DELETE_MERGES, {"all": ALL_PARTITIONS, "subjects": list(subjects)})
