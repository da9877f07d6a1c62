"""Read model: on how many days, and how often, events with certain metadata occurred.

Kept for just those conditions that ask. A condition registers what it needs; a filler counts it
from the log, up to where the read models are, and from there on the projector keeps it. What an
account counts of a user goes with the user's key, unlike the plain counts of names.
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Generic, NamedTuple, Protocol, TypeVar

import psycopg
import sqlalchemy as sa
import structlog
from psycopg_pool import ConnectionPool

from domain.conditions import Condition
from domain.counters import Counter, counters_of
from domain.dependencies import ACTIVITY, Fact
from domain.errors import NotReady
from domain.events import ACTIVITY_OF_TOPIC, Erased, Tracked
from domain.identity import SubjectId, SubjectKind, log_partition
from domain.periods import Moment, Zones
from domain.retention import Kept
from domain.workspace import Workspace
from projections import arrays, merges
from projections.batch import Batch, Opened, Place
from projections.changes import ADD_DUE, Facts, Id, packed
from projections.idling import Idle

CHUNK_EVENTS = 20_000
LAST_EVENTS = 2_000
"""How many may be left for the last step, during which the projector waits."""

POLL_SECONDS = 0.2

SELECT_READY = "SELECT activity, name, tests FROM views.counters WHERE state = 'ready'"

ADD = """
INSERT INTO views.counter_days AS d
       (log_partition, subject, counter, day, in_account, by_subject, count)
SELECT * FROM unnest(%b::smallint[], %b::uuid[], %b::uuid[], %b::date[], %b::boolean[],
                     %b::uuid[], %b::bigint[])
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
WHERE log_partition = ANY(%s)
  AND (log_partition = ANY(%s) AND subject = ANY(%s) OR by_subject = ANY(%s))"""

SELECT_SHARES = """
SELECT DISTINCT d.by_subject, d.subject, c.activity, c.name
FROM views.counter_days d JOIN views.counters c ON c.id = d.counter
WHERE d.by_subject = ANY(%s) AND d.subject <> d.by_subject"""

SELECT_KNOWN = sa.text("SELECT id FROM views.counters WHERE id = ANY(:ids)")

WAKE_FILLERS = sa.text("NOTIFY annals")

REGISTER = sa.text("""
INSERT INTO views.counters (id, activity, name, tests) VALUES (:id, :activity, :name, :tests)
ON CONFLICT DO NOTHING""")

UNREADY = sa.text("""
SELECT c.activity, c.name,
       (SELECT coalesce(sum(f.position), 0) FROM views.counter_fills f WHERE f.counter = c.id)
           AS filled,
       (SELECT coalesce(sum(p.position), 0) FROM views.checkpoints p) AS whole
FROM views.counters c WHERE c.id = ANY(:ids) AND c.state <> 'ready' ORDER BY c.id""")

TAKE_BUILDING = """
SELECT id, activity, name, tests FROM views.counters WHERE state = 'building'
ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"""

ENSURE_FENCE = "INSERT INTO views.fences (projector) VALUES (%s) ON CONFLICT DO NOTHING"
SHARE_FENCE = "SELECT 1 FROM views.fences WHERE projector = %s FOR SHARE"
CLOSE_FENCE = "SELECT 1 FROM views.fences WHERE projector = %s FOR UPDATE"

SELECT_FILLS = "SELECT log_partition, position FROM views.counter_fills WHERE counter = %s"

# Anew, if the read models were emptied meanwhile.
CLEAR = "DELETE FROM views.counter_days WHERE log_partition = ANY(%s) AND counter = %s"

BEGIN_FILLS = """
INSERT INTO views.counter_fills (log_partition, counter, position)
SELECT p, %s, 0 FROM generate_series(0, 255) p"""

SELECT_CHECKPOINTS = "SELECT log_partition, position FROM views.checkpoints WHERE projector = %s"

MOVE_FILLS = """
UPDATE views.counter_fills f SET position = v.position
FROM unnest(%s::smallint[], %s::bigint[]) AS v(log_partition, position)
WHERE f.counter = %s AND f.log_partition = v.log_partition AND f.log_partition = ANY(%s)"""

END_FILLS = "DELETE FROM views.counter_fills WHERE log_partition = ANY(%s) AND counter = %s"

MAKE_READY = "UPDATE views.counters SET state = 'ready' WHERE id = %s"

log = structlog.get_logger()

Row = TypeVar("Row", bound=Place)
Row_co = TypeVar("Row_co", bound=Place, covariant=True)
Row_contra = TypeVar("Row_contra", bound=Place, contravariant=True)


class _Key(NamedTuple):
    """A row of the read model: whose, of which counter, on which day, done by whom."""

    log_partition: int
    subject: SubjectId
    counter: uuid.UUID
    day: date
    in_account: bool
    by_subject: SubjectId


class CounterDays:
    """Keeps the counters that are ready up to date."""

    def apply(self, conn: psycopg.Connection, batch: Batch) -> None:
        ready = [Counter(*row) for row in conn.execute(SELECT_READY)]
        if ready:
            zones = batch.workspace.zones
            since = batch.kept.metadata_counted_since
            _add(conn, _tallied(batch.opened, batch.survivors, ready, zones, since))
        gone = {one.row.stream: one.row for *_, one in batch.changes if _is_erasure(one)}
        if gone:
            self._note_shares(conn, gone)

    def _note_shares(self, conn: psycopg.Connection, gone: Mapping[SubjectId, Place]) -> None:
        """Has the decider look at the accounts that count less from here on."""
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
        gone = list(subjects)
        partitions = [log_partition(one) for one in subjects]
        conn.execute(ERASE, (merges.ALL_PARTITIONS, partitions, gone, gone))


def _is_erasure(event: Opened) -> bool:
    return isinstance(event.payload, Erased)


def _tallied(
    opened: Iterable[Opened],
    survivors: Mapping[SubjectId, SubjectId],
    counters: Iterable[Counter],
    zones: Zones,
    since: date,
) -> Tally[_Key]:
    """Counts what was done from a day on."""
    wanted: dict[tuple[str, str], list[tuple[uuid.UUID, Counter]]] = {}
    for counter in counters:
        wanted.setdefault((counter.activity, counter.name), []).append((counter.id, counter))
    now = datetime.now(UTC)
    counts: Tally[_Key] = Tally()
    for one in opened:
        payload, row = one.payload, one.row
        if not isinstance(payload, Tracked):
            continue
        did = payload.activity
        asked = wanted.get((did.kind.value, did.name))
        if asked is None:
            continue
        zone = zones.at(row.recorded_at)
        moment, day = Moment(now, zone), row.occurred_at.astimezone(zone).date()
        if day < since:
            continue
        for id, counter in asked:
            if not counter.counts(did.metadata, moment):
                continue
            by = survivors.get(row.stream, row.stream)
            in_account = row.account is not None
            counts[_Key(log_partition(by), by, id, day, in_account, by)] += 1
            if row.account is not None and one.account_part is not None:
                account = survivors.get(row.account, row.account)
                counts[_Key(log_partition(account), account, id, day, True, by)] += 1
    return counts


def _add(conn: psycopg.Connection, counts: Tally[_Key]) -> None:
    if not counts:
        return
    rows = sorted(counts, key=lambda key: (key.log_partition, key.subject.bytes, key))
    conn.execute(
        ADD,
        (
            arrays.smallints([key.log_partition for key in rows]),
            arrays.uuids([key.subject for key in rows]),
            arrays.uuids([key.counter for key in rows]),
            arrays.dates([key.day for key in rows]),
            arrays.booleans([key.in_account for key in rows]),
            arrays.uuids([key.by_subject for key in rows]),
            arrays.bigints([counts[key] for key in rows]),
        ),
    )


def require(conn: sa.Connection, condition: Condition) -> None:
    """Sees to it that what a condition asks of metadata is counted. To be called before a
    condition is compiled: what is not counted yet would have occurred to nobody.

    Args:
        conn: one that only reads otherwise: what is new is registered, and committed, here.

    Raises:
        NotReady: it is being counted from now on, or still; says how far that is.
    """
    wanted = {counter.id: counter for counter in counters_of(condition)}
    if not wanted:
        return
    known = set(conn.scalars(SELECT_KNOWN, {"ids": list(wanted)}))
    new = [
        {"id": id, "activity": one.activity, "name": one.name, "tests": one.tests}
        for id, one in sorted(wanted.items())
        if id not in known
    ]
    if new:
        conn.execute(REGISTER, new)
        conn.execute(WAKE_FILLERS)
        conn.commit()
    unready = conn.execute(UNREADY, {"ids": list(wanted)}).first()
    if unready is not None:
        share = int(100 * unready.filled / unready.whole) if unready.whole else 0
        raise NotReady(
            f"the metadata of {unready.activity} {unready.name!r} is being counted: {share} % of"
            " the log is read; ask again"
        )


class Log(Protocol[Row_co]):
    """What a filler asks of the log."""

    def read_after(self, after: Mapping[int, int], limit: int) -> Sequence[Row_co]: ...


class Opener(Protocol[Row_contra]):
    """What a filler asks of the keys."""

    def refresh(self) -> int: ...
    def generation(self) -> int: ...
    def kept(self) -> Kept: ...
    def open_rows(self, rows: Sequence[Row_contra]) -> Sequence[Opened]: ...


class Filler(Generic[Row]):
    """Counts what was registered from the log. One for each process that projects."""

    def __init__(
        self,
        *,
        log: Log[Row],
        opener: Opener[Row],
        pool: ConnectionPool,
        workspace: Callable[[], Workspace],
        projector: str,
        chunk_events: int = CHUNK_EVENTS,
    ) -> None:
        self._log = log
        self._opener = opener
        self._pool = pool
        self._workspace = workspace
        self._projector = projector
        self._chunk_events = chunk_events

    def run(self, stop: threading.Event, idle: Idle) -> None:
        """Works until told to stop."""
        while not stop.is_set():
            try:
                if not self.step():
                    idle.wait(POLL_SECONDS)
            except Exception as error:
                log.warning("counters.failed", error=type(error).__name__)
                stop.wait(1.0)

    def step(self) -> bool:
        """Counts a piece of the log for a counter; says whether there was one to count for.

        A piece is read while no merge and no erasure is under way, and the last one while no
        batch is at all: so the projector goes on with exactly the event after it."""
        generation = self._opener.refresh()
        with self._pool.connection() as conn, conn.transaction():
            row = conn.execute(TAKE_BUILDING).fetchone()
            if row is None:
                return False
            id, counter = row[0], Counter(*row[1:])
            fills: dict[int, int] = dict(conn.execute(SELECT_FILLS, (id,)).fetchall())
            if not fills:
                conn.execute(CLEAR, (merges.ALL_PARTITIONS, id))
                conn.execute(BEGIN_FILLS, (id,))
                fills = dict.fromkeys(merges.ALL_PARTITIONS, 0)
            is_last = self._left(conn, fills) <= LAST_EVENTS
            conn.execute(ENSURE_FENCE, (self._projector,))
            conn.execute(CLOSE_FENCE if is_last else SHARE_FENCE, (self._projector,))
            checkpoints = conn.execute(SELECT_CHECKPOINTS, (self._projector,))
            ends: dict[int, int] = dict(checkpoints.fetchall())
            behind = {
                partition: position
                for partition, position in fills.items()
                if position < ends.get(partition, 0)
            }
            reached = self._count(conn, counter, behind, ends, generation)
            if reached is None:
                raise psycopg.Rollback
            conn.execute(MOVE_FILLS, (list(reached), list(reached.values()), id, list(reached)))
            if is_last and all(reached.get(one) == ends[one] for one in behind):
                conn.execute(END_FILLS, (merges.ALL_PARTITIONS, id))
                conn.execute(MAKE_READY, (id,))
        return True

    def _left(self, conn: psycopg.Connection, fills: Mapping[int, int]) -> int:
        ends = conn.execute(SELECT_CHECKPOINTS, (self._projector,))
        return sum(max(position - fills[partition], 0) for partition, position in ends)

    def _count(
        self,
        conn: psycopg.Connection,
        counter: Counter,
        behind: Mapping[int, int],
        ends: Mapping[int, int],
        generation: int,
    ) -> dict[int, int] | None:
        """Counts a piece; returns how far in each partition, or None if a key went meanwhile."""
        if not behind:
            return {}
        limit = -(-self._chunk_events // len(behind))
        rows = [
            row
            for row in self._log.read_after(behind, limit)
            if row.position <= ends[row.log_partition]
        ]
        wanted = [row for row in rows if ACTIVITY_OF_TOPIC.get(row.topic) == counter.activity]
        opened, kept = self._opener.open_rows(wanted), self._opener.kept()
        if self._opener.generation() != generation:
            return None
        subjects = {row.stream for row in wanted} | {
            row.account for row in wanted if row.account is not None
        }
        survivors, zones = merges.survivors(conn, subjects), self._workspace().zones
        since = kept.metadata_counted_since
        _add(conn, _tallied(opened, survivors, [counter], zones, since))
        reached: dict[int, int] = {}
        for row in rows:
            reached[row.log_partition] = max(reached.get(row.log_partition, 0), row.position)
        return reached
