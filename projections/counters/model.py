"""Read model: counts of events with certain metadata by subject and day.

It counts for the conditions alone that need it (`projections.counters.requests`). The projector
keeps a counter from its beginning; the filler (`projections.counters.filler`) counts earlier
events, and the keeper (`projections.counters.keeper`) ends unused counters. An account's count of a
user is deleted with the user's key, unlike plain counts of names.
"""

from __future__ import annotations

import uuid
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import ClassVar, NamedTuple

import psycopg

from domain.calendar import Moment, Zones
from domain.conditions.counters import Counter, all_pass
from domain.conditions.language import MetadataIs
from domain.events.payloads import Erased, Tracked
from domain.events.recorded import OpenedEvent, RecordedEvent
from domain.identity import SubjectId, SubjectKind, log_partition
from domain.workspace.dependencies import ACTIVITY, Fact
from projections.kernel import merges, pg_arrays
from projections.kernel.batch import Batch
from projections.models.changes import ADD_DUE, Facts, Id, packed

SELECT_KEPT = """
SELECT activity, name, tests FROM views.counters WHERE state IN ('filling', 'ready')"""

ADD = """
INSERT INTO views.counter_days AS d
       (log_partition, subject, counter, day, in_account, by_subject, count)
SELECT * FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(counters)b::uuid[],
                     %(days)b::date[], %(in_account)b::boolean[], %(by_subject)b::uuid[],
                     %(counts)b::bigint[])
ON CONFLICT (log_partition, subject, counter, day, in_account, by_subject) DO UPDATE
SET count = d.count + excluded.count"""

MOVE = """
WITH moved AS (
    DELETE FROM views.counter_days
    WHERE log_partition = ANY(%(all)s)
      AND (log_partition = %(from)s AND subject = %(loser)s OR by_subject = %(loser)s)
    RETURNING *),
renamed AS (
    SELECT CASE subject WHEN %(loser)s THEN %(to)s ELSE log_partition END AS log_partition,
           CASE subject WHEN %(loser)s THEN %(survivor)s ELSE subject END AS subject,
           counter, day, in_account,
           CASE by_subject WHEN %(loser)s THEN %(survivor)s ELSE by_subject END AS by_subject, count
    FROM moved)
INSERT INTO views.counter_days AS d
       (log_partition, subject, counter, day, in_account, by_subject, count)
SELECT log_partition, subject, counter, day, in_account, by_subject, sum(count)
FROM renamed GROUP BY 1, 2, 3, 4, 5, 6
ON CONFLICT (log_partition, subject, counter, day, in_account, by_subject) DO UPDATE
SET count = d.count + excluded.count"""

ERASE = """
DELETE FROM views.counter_days
WHERE log_partition = ANY(%(all)s)
  AND (log_partition = ANY(%(partitions)s) AND subject = ANY(%(subjects)s)
       OR by_subject = ANY(%(subjects)s))"""

SELECT_SHARES = """
SELECT DISTINCT d.by_subject, d.subject, c.activity, c.name
FROM views.counter_days d JOIN views.counters c ON c.id = d.counter
WHERE d.by_subject = ANY(%s) AND d.subject <> d.by_subject"""


class Key(NamedTuple):
    """A row: subject, counter, day, and the subject that acted."""

    log_partition: int
    subject: SubjectId
    counter: uuid.UUID
    day: date
    in_account: bool
    by_subject: SubjectId


class CounterDays:
    """Keeps counters from their beginning on."""

    tables: ClassVar[Sequence[str]] = ("counter_days", "counter_fills")

    def apply(self, conn: psycopg.Connection, batch: Batch) -> None:
        counters = [Counter(*row) for row in conn.execute(SELECT_KEPT)]
        if counters:
            zones = batch.workspace.zones
            since = batch.retention_bounds.metadata_counted_since
            add(conn, tallied(batch.opened, batch.survivors, counters, zones, since))
        gone = {event.row.stream: event.row for *_, event in batch.changes if _is_erasure(event)}
        if gone:
            self._note_shares(conn, gone)

    def _note_shares(
        self, conn: psycopg.Connection, gone: Mapping[SubjectId, RecordedEvent]
    ) -> None:
        """Makes the process manager evaluate the accounts whose counts decrease."""
        facts: Facts = {}
        for by, account, activity, name in conn.execute(SELECT_SHARES, (list(gone),)):
            fact, row = Fact(SubjectKind.ACCOUNT.value, ACTIVITY, (activity, name)), gone[by]
            facts.setdefault(fact, {})[Id(account.bytes)] = (row.log_partition, row.position)
        if facts:
            conn.execute(ADD_DUE, (uuid.uuid4(), packed(facts)))

    def merge(self, conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> None:
        conn.execute(
            MOVE,
            {
                "all": merges.ALL_PARTITIONS,
                "from": log_partition(loser),
                "loser": loser,
                "to": log_partition(survivor),
                "survivor": survivor,
            },
        )

    def erase(self, conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
        params = {
            "all": merges.ALL_PARTITIONS,
            "partitions": [log_partition(subject) for subject in subjects],
            "subjects": list(subjects),
        }
        conn.execute(ERASE, params)


def _is_erasure(event: OpenedEvent) -> bool:
    return isinstance(event.payload, Erased)


def tallied(
    opened: Iterable[OpenedEvent],
    survivors: Mapping[SubjectId, SubjectId],
    counters: Iterable[Counter],
    zones: Zones,
    since: date,
    is_wanted: Callable[[uuid.UUID, RecordedEvent], bool] | None = None,
) -> Tally[Key]:
    """Counts activity from a day on.

    Args:
        is_wanted: whether a counter, by id, lacks an event; None: all do.
    """
    wanted: dict[tuple[str, str], list[tuple[uuid.UUID, tuple[MetadataIs, ...]]]] = {}
    for counter in counters:
        name = (counter.activity, counter.name)
        wanted.setdefault(name, []).append((counter.id, counter.where))
    now = datetime.now(UTC)
    counts: Tally[Key] = Tally()
    for event in opened:
        payload, row = event.payload, event.row
        if not isinstance(payload, Tracked):
            continue
        did = payload.activity
        counting = wanted.get((did.kind.value, did.name))
        if counting is None:
            continue
        zone = zones.at(row.recorded_at)
        moment, day = Moment(now, zone), row.occurred_at.astimezone(zone).date()
        if day < since:
            continue
        for id, where in counting:
            if is_wanted is not None and not is_wanted(id, row):
                continue
            if not all_pass(where, did.metadata, moment):
                continue
            by = survivors.get(row.stream, row.stream)
            in_account = row.account is not None
            counts[Key(log_partition(by), by, id, day, in_account, by)] += 1
            if row.account is not None and event.account_part is not None:
                account = survivors.get(row.account, row.account)
                counts[Key(log_partition(account), account, id, day, True, by)] += 1
    return counts


def add(conn: psycopg.Connection, counts: Tally[Key]) -> None:
    """Adds counts to the stored ones."""
    if not counts:
        return
    rows = sorted(counts, key=lambda key: (key.log_partition, key.subject.bytes, key))
    conn.execute(
        ADD,
        {
            "partitions": pg_arrays.smallints([key.log_partition for key in rows]),
            "subjects": pg_arrays.uuids([key.subject for key in rows]),
            "counters": pg_arrays.uuids([key.counter for key in rows]),
            "days": pg_arrays.dates([key.day for key in rows]),
            "in_account": pg_arrays.booleans([key.in_account for key in rows]),
            "by_subject": pg_arrays.uuids([key.by_subject for key in rows]),
            "counts": pg_arrays.bigints([counts[key] for key in rows]),
        },
    )
