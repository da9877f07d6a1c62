"""Read model: counts of each activity of each subject by day, in the calendar of the workspace."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from operator import itemgetter
from typing import ClassVar

import psycopg
from psycopg_pool import ConnectionPool

from domain.identity import SubjectId, log_partition
from projections.kernel import pg_arrays
from projections.kernel.batch import Batch, DayCount

ADD_DAYS = """
INSERT INTO views.activity_days AS d
       (log_partition, subject, name_id, day, in_account, count, first_at, last_at)
SELECT * FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(name_ids)b::int[],
                     %(days)b::date[], %(in_account)b::boolean[], %(counts)b::bigint[],
                     %(first_at)b::timestamptz[], %(last_at)b::timestamptz[])
ON CONFLICT (log_partition, subject, name_id, day, in_account) DO UPDATE
SET count = d.count + excluded.count,
    first_at = least(d.first_at, excluded.first_at),
    last_at = greatest(d.last_at, excluded.last_at)"""

MOVE_DAYS = """
WITH moved AS (
    DELETE FROM views.activity_days WHERE log_partition = %(from_partition)s AND subject = %(loser)s
    RETURNING name_id, day, in_account, count, first_at, last_at)
INSERT INTO views.activity_days AS d
       (log_partition, subject, name_id, day, in_account, count, first_at, last_at)
SELECT %(to_partition)s, %(survivor)s, name_id, day, in_account, count, first_at, last_at FROM moved
ON CONFLICT (log_partition, subject, name_id, day, in_account) DO UPDATE
SET count = d.count + excluded.count,
    first_at = least(d.first_at, excluded.first_at),
    last_at = greatest(d.last_at, excluded.last_at)"""

DELETE_DAYS = "DELETE FROM views.activity_days WHERE log_partition = ANY(%s) AND subject = ANY(%s)"

# A name that nothing counts is deleted: the path of a page can be about the only person who saw it.
DELETE_UNUSED_NAMES = """
DELETE FROM views.names n
WHERE NOT EXISTS (SELECT FROM views.activity_days d WHERE d.name_id = n.id)"""

# The index is over digests of names (migration 0024), as a name can be longer than an index entry.
SELECT_NAMES = """
SELECT kind, name, id FROM views.names
WHERE kind = ANY(%(kinds)s) AND views.digest_of(name) = ANY(views.digests_of(%(names)s))
  AND name = ANY(%(names)s)"""

TAKE_NAME = """
INSERT INTO views.names (kind, name, id)
SELECT %s, %s, coalesce(max(id), 0) + 1 FROM views.names
ON CONFLICT DO NOTHING"""


class Names:
    """Numbers for names of activity, which keep the counts narrow. All workers share them, and
    no worker caches them: an erasure deletes numbers without counts."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def ids(self, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """The number of each (activity, name); takes new numbers for new names.

        Commits transactions of its own, while no erasure is under way.
        """
        ids: dict[tuple[str, str], int] = {}
        missing = set(wanted)
        while missing:
            with self._pool.connection() as conn:
                kinds = sorted({kind for kind, _ in missing})
                params = {"kinds": kinds, "names": [name for _, name in missing]}
                rows = conn.execute(SELECT_NAMES, params)
                ids |= {(kind, name): id for kind, name, id in rows}
                missing -= ids.keys()
                if missing:  # a taken number is a conflict too: look again, and try those left
                    conn.cursor().executemany(TAKE_NAME, sorted(missing))
        return ids


class ActivityDays:
    tables: ClassVar[Sequence[str]] = ("activity_days",)

    def __init__(self, pool: ConnectionPool) -> None:
        self._names = Names(pool)

    def apply(self, conn: psycopg.Connection, batch: Batch) -> None:
        if not batch.tallies:
            return
        ids = self._names.ids(set(batch.uses))
        partitions: list[int] = []
        subjects: list[bytes] = []
        rows: list[tuple[int, date, bool, DayCount]] = []
        for partition, tally in batch.tallies:
            of_subject = [
                (ids[activity, name], day, in_account, count)
                for (activity, name, day, in_account), count in tally.days.items()
            ]
            of_subject.sort(key=itemgetter(0, 1, 2))
            rows += of_subject
            partitions += [partition] * len(of_subject)
            subjects += [tally.subject.bytes] * len(of_subject)
        conn.execute(
            ADD_DAYS,
            {
                "partitions": pg_arrays.smallints(partitions),
                "subjects": pg_arrays.ids(subjects),
                "name_ids": pg_arrays.integers([row[0] for row in rows]),
                "days": pg_arrays.dates([row[1] for row in rows]),
                "in_account": pg_arrays.booleans([row[2] for row in rows]),
                "counts": pg_arrays.bigints([row[3].count for row in rows]),
                "first_at": pg_arrays.instants([row[3].first_at for row in rows]),
                "last_at": pg_arrays.instants([row[3].last_at for row in rows]),
            },
        )

    def merge(self, conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> None:
        conn.execute(
            MOVE_DAYS,
            {
                "from_partition": log_partition(loser),
                "loser": loser,
                "to_partition": log_partition(survivor),
                "survivor": survivor,
            },
        )

    def erase(self, conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
        partitions = [log_partition(subject) for subject in subjects]
        conn.execute(DELETE_DAYS, (partitions, list(subjects)))
        conn.execute(DELETE_UNUSED_NAMES)
