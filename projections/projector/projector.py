"""Keeps read models up to date from the log: in batches, exactly once, shared among workers.

A worker holds partitions by lease. It reads past its checkpoints, applies a batch to every read
model and moves the checkpoints on in one transaction, which a fencing token guards: a worker that
lost a lease while it was away cannot write. An event that cannot be applied is parked, said so, and
stops nobody: `projections.projector.parking`.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from domain.commands import Position
from domain.definitions.retention import ALWAYS, RetentionBounds
from domain.errors import Unavailable
from domain.events.definitions import (
    DefinitionActivated,
    DefinitionChanged,
    DefinitionMade,
    NamesRestored,
    NamesRetired,
    PropertyTypeChanged,
)
from domain.events.payloads import Erased, MergedInto
from domain.events.recorded import OpenedEvent, RecordedEvent
from domain.identity import LOG_PARTITIONS, SubjectId
from domain.workspace.workspace import Workspace
from projections.counters.model import CounterDays
from projections.kernel import merges, pg_arrays
from projections.kernel.batch import Batch
from projections.kernel.database_errors import is_of_connection, is_of_contention
from projections.kernel.idle import Idle
from projections.kernel.pipeline import pipeline
from projections.kernel.ports import Log, Opener
from projections.kernel.read_ahead import Read, Reader
from projections.kernel.watchdog import Hung, watched
from projections.models.activity_days import ActivityDays
from projections.models.catalogue import CatalogueModel
from projections.models.changes import Changes
from projections.models.contacts import Contacts
from projections.models.definitions import DefinitionsModel
from projections.models.filters import FilterModel
from projections.models.lifecycle import Lifecycles
from projections.models.members import Members
from projections.models.scores import Scores
from projections.models.segments import SegmentMembers, Segments
from projections.models.signals import Signals
from projections.projector import fences, parking, probe
from projections.projector.fences import FenceTaken
from projections.projector.pace import Pace
from projections.projector.parking import ErasedWhileParked, SkippedEvent
from projections.projector.retrying import Retrying

BATCH_EVENTS = 12_000
LEASE_SECONDS = 10
POLL_SECONDS = 0.05
TRIES = 3
"""Of an event alone, before it is parked."""

CONTENDED_TRIES = 6
"""Of a batch that others stand in the way of, before it is halved, or parked if it is one event."""

CONTENDED_SECONDS = 0.02
"""Before the second of these tries; each later one waits twice as long."""

PROOF_SECONDS = 1.0
"""How long read models count as working, once known events could be applied
(`projections.projector.probe`).
Where these cannot be, no event is parked: the worker says so and tries again."""
NAME = "main"

ENSURE_CHECKPOINTS = """
INSERT INTO views.checkpoints (projector, log_partition)
SELECT %s, p FROM generate_series(0, 255) p ON CONFLICT DO NOTHING"""

HEARTBEAT = """
INSERT INTO views.workers (projector, worker, seen_at) VALUES (%s, %s, now())
ON CONFLICT (projector, worker) DO UPDATE SET seen_at = excluded.seen_at"""

LIVE_WORKERS = """
SELECT count(*) FROM views.workers
WHERE projector = %s AND seen_at > now() - make_interval(secs => %s)"""

FREE_PARTITIONS = """
SELECT log_partition FROM views.checkpoints
WHERE projector = %s AND leased_until < now() ORDER BY log_partition LIMIT %s
FOR UPDATE SKIP LOCKED"""

TAKE_LEASE = """
UPDATE views.checkpoints
SET worker = %s, fencing_token = fencing_token + 1,
    leased_until = now() + make_interval(secs => %s)
WHERE projector = %s AND log_partition = %s AND leased_until < now()
RETURNING log_partition, position, fencing_token, summed_before"""

RENEW_LEASES = """
UPDATE views.checkpoints SET leased_until = now() + make_interval(secs => %s)
WHERE projector = %s AND worker = %s AND log_partition = ANY(%s)"""

RELEASE_LEASES = """
UPDATE views.checkpoints SET worker = NULL, leased_until = '-infinity'
WHERE projector = %s AND worker = %s AND log_partition = ANY(%s)"""

# Until the batch is over: it may take longer than a lease, and nobody is to begin it meanwhile.
HOLD_CHECKPOINTS = """
SELECT 1 FROM views.checkpoints c
JOIN unnest(%b::smallint[], %b::bigint[]) AS v(p, token)
  ON c.log_partition = v.p AND c.fencing_token = v.token
WHERE c.projector = %b AND c.log_partition = ANY(%b) AND c.worker = %b
ORDER BY c.log_partition FOR UPDATE OF c"""

FORGET_WORKER = "DELETE FROM views.workers WHERE projector = %s AND worker = %s"

MOVE_CHECKPOINTS = """
UPDATE views.checkpoints c
SET position = v.position, summed_before = v.summed_before,
    leased_until = now() + make_interval(secs => %b)
FROM unnest(%b::smallint[], %b::bigint[], %b::bigint[], %b::timestamptz[])
     AS v(log_partition, token, position, summed_before)
WHERE c.projector = %b AND c.log_partition = v.log_partition AND c.log_partition = ANY(%b)
  AND c.worker = %b AND c.fencing_token = v.token"""

# A batch that merges, erases or defines waits until no other is under way, which may have been
# opened before and would write for a subject that is gone, or know nothing of the definition.
SHARE_FENCE = "SELECT 1 FROM views.fences WHERE projector = %s FOR SHARE"

CLOSE_FENCE = "SELECT 1 FROM views.fences WHERE projector = %s FOR UPDATE"

ENSURE_FENCE = "INSERT INTO views.fences (projector) VALUES (%s) ON CONFLICT DO NOTHING"

EMPTY_READ_MODELS = """
TRUNCATE views.contacts, views.seen, views.merges, views.memberships, views.activity_days,
         views.catalogue, views.bar_counts, views.filter_values, views.filter_ranges,
         views.filter_states, views.definitions, views.definition_versions,
         views.segments, views.segment_lists, views.segment_members, views.segment_leavers,
         views.segment_counts, views.standings, views.stage_spells, views.scores, views.signals,
         views.timers, views.sweeps, views.changes_due, views.deciding,
         views.counter_days, views.counter_fills"""

# A token more: what other workers still have in memory is not written any more.
RESET_CHECKPOINTS = """
UPDATE views.checkpoints
SET position = 0, worker = NULL, fencing_token = fencing_token + 1, leased_until = '-infinity'
WHERE projector = %s"""

REACHED = """
SELECT count(*) FROM views.checkpoints c
JOIN unnest(%b::smallint[], %b::bigint[]) AS v(p, position)
  ON c.log_partition = v.p AND c.position >= v.position
WHERE c.projector = %b"""

log = structlog.get_logger()
_SETTLING = {
    MergedInto,
    Erased,
    DefinitionMade,
    DefinitionChanged,
    DefinitionActivated,
    NamesRetired,
    NamesRestored,
    PropertyTypeChanged,
}


class ReadModel(Protocol):
    """A read model: brought up to date by batches, told of merges and erasures."""

    def apply(self, conn: psycopg.Connection, batch: Batch) -> None: ...
    def merge(self, conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> None: ...
    def erase(self, conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None: ...


class _LeaseLost(Exception):
    """Another worker holds a partition of this batch now."""


class _Outdated(Exception):
    """A key was destroyed, or an event parked or tried again, while the batch was in memory."""


class Lease:
    """A partition that this worker holds: where it is, and the token that proves it.

    Attributes:
        summed_before: of activity before this the sums are counted.
    """

    __slots__ = ("position", "summed_before", "token")

    def __init__(self, position: int, token: int, summed_before: datetime | None) -> None:
        self.position = position
        self.token = token
        self.summed_before = summed_before


class Projector:
    """One worker. Run it in a thread or in a process of its own, as many as there is work for.

    Args:
        workspace: tells what holds now; asked once a batch, inside the fence.
        skipped: the events that readers go on without, by decision; asked when all begins anew.
    """

    def __init__(
        self,
        *,
        log: Log,
        opener: Opener,
        pool: ConnectionPool,
        workspace: Callable[[], Workspace],
        batch_events: int = BATCH_EVENTS,
        skipped: Callable[[], Sequence[SkippedEvent]] = tuple,
    ) -> None:
        self._log = log
        self._opener = opener
        self._pool = pool
        self._workspace = workspace
        self._pace = Pace(batch_events)
        self._skipped = skipped
        self._models: tuple[ReadModel, ...] = (
            FilterModel(),
            Contacts(),
            Members(),
            ActivityDays(pool),
            CounterDays(),
            CatalogueModel(),
            DefinitionsModel(),
            Segments(),
            SegmentMembers(),
            Lifecycles(),
            Scores(),
            Signals(),
            Changes(),
        )
        self._worker = uuid.uuid4()
        self._reader = Reader(log, opener)
        self._leases: dict[int, Lease] = {}
        self._renewed_at = -math.inf
        self._applying = 0
        self._proved_at = -math.inf
        self.retrying = Retrying(
            log=log, opener=opener, pool=pool, projector=NAME, write=self._write
        )

    def run(self, stop: threading.Event, idle: Idle) -> None:
        """Works until told to stop, then hands its partitions back."""
        while not stop.is_set():
            try:
                idle.begins(self._pace.seconds(self._pace.events))
                if self.step():
                    idle.moved()
                else:
                    idle.wait(POLL_SECONDS)
            except Exception as error:
                if is_of_connection(error):
                    log.warning("projector.database_unreachable", error=type(error).__name__)
                else:
                    log.error("projector.failed", error=type(error).__name__)
                self._let_go()
                stop.wait(1.0)
        self.release()

    def step(self) -> int:
        """Brings the read models on by one batch; returns the number of events it held. One that
        hangs is cut off, and smaller ones follow it."""
        try:
            return self._step()
        except Hung:
            # Whether it was committed is not known: the leases, taken anew, say so.
            if self._applying:
                self._pace.hung(self._applying)
            self._let_go()
        except FenceTaken:
            log.warning("projector.waits_for_fence")
        return 0

    def _step(self) -> int:
        self._applying = 0
        self._lease()
        if not self._leases:
            return 0
        places = {partition: lease.position for partition, lease in self._leases.items()}
        read = self._reader.next(places, self._pace.events)
        if not read.rows:
            return 0
        try:
            self._project(read.rows, read)
            self._pace.done()
        except _LeaseLost:
            self._let_go()
        return len(read.rows)

    def _let_go(self) -> None:
        """Has the next step take leases anew: memory and database may differ about them."""
        self._leases.clear()
        self._renewed_at = -math.inf

    def start_over(self, stop: threading.Event | None = None) -> None:
        """Empties the read models and goes back to the beginning of the log, whose steps then
        fill them again. Readers see them empty at first. What is skipped stays so.

        Waits for batches and readers that are under way. Told to stop before they are done, it
        does nothing."""
        while stop is None or not stop.is_set():
            try:
                self._empty()
                break
            except psycopg.Error as error:
                # Emptying takes locks that others hold, and a deadlock is told to either side.
                if not is_of_contention(error):
                    raise
                log.warning("projector.waits_to_start_over")
        self._let_go()

    def _empty(self) -> None:
        skipped = self._skipped()
        with self._connection(self._pace.events) as conn, conn.transaction():
            fences.limit_wait(conn)
            conn.execute(ENSURE_FENCE, (NAME,))
            conn.execute(CLOSE_FENCE, (NAME,))
            conn.execute(EMPTY_READ_MODELS)
            parking.forget(conn, NAME, skipped)
            conn.execute(RESET_CHECKPOINTS, (NAME,))

    def _connection(self, events: int = 0) -> AbstractContextManager[psycopg.Connection]:
        """For a piece of work on so many events. It raises Hung if that takes too long."""
        return watched(self._pool, "projector", self._pace.seconds(events))

    def _project(self, rows: Sequence[RecordedEvent], read: Read | None = None) -> None:
        """Applies rows, in their order; parks the one that cannot be. `read` has them opened."""
        tries = 0
        while True:
            tries += 1
            try:
                self._apply(rows, read)
                return
            except ErasedWhileParked as erased:
                if erased.index:
                    self._project(rows[: erased.index])
                self.retrying.release(erased.stream)
                rows, tries = rows[erased.index :], 0
            except _Outdated:
                if tries >= CONTENDED_TRIES and len(rows) > 1:
                    self._project_halves(rows)
                    return
            except (_LeaseLost, Unavailable):
                raise
            except Exception as error:
                if is_of_connection(error):
                    raise
                is_contended = is_of_contention(error)
                if is_contended and tries < CONTENDED_TRIES:
                    time.sleep(CONTENDED_SECONDS * 2 ** (tries - 1))
                elif len(rows) > 1:
                    self._project_halves(rows)
                    return
                elif tries >= TRIES:
                    self._prove()
                    self._park(rows[0], error, tries)
                    return
            read = None

    def _project_halves(self, rows: Sequence[RecordedEvent]) -> None:
        middle = len(rows) // 2
        self._project(rows[:middle])
        self._project(rows[middle:])

    def _apply(self, rows: Sequence[RecordedEvent], read: Read | None) -> None:
        if read is not None and read.opened is not None:
            known, generation, opened = None, read.generation, read.opened
        else:
            with self._pool.connection() as conn:
                known = parking.passed(conn, NAME, rows)
            generation = self._opener.refresh()
            opened = self._opener.open_rows([row for row in rows if row not in known])
        settles = not _SETTLING.isdisjoint(type(one.payload) for one in opened)
        self._applying = len(rows)
        with self._connection(len(rows)) as conn, conn.transaction():
            fences.wait_for(conn, CLOSE_FENCE if settles else SHARE_FENCE, NAME)
            self._hold(conn, rows)
            if self._opener.generation() != generation:
                raise _Outdated
            passed = parking.passed(conn, NAME, rows)
            if known is not None and passed.places != known.places:
                raise _Outdated
            if known is None and passed.places:
                opened = [one for one in opened if one.row not in passed]
            kept = self._opener.kept()
            self._begin(rows, kept)
            self._write(conn, opened, kept, self._summed_before(), settles=settles)
            parking.add_waiting(conn, NAME, passed.waiting)
            reached = self._move(conn, rows)
        for partition, position in reached.items():
            self._leases[partition].position = position

    def _write(
        self,
        conn: psycopg.Connection,
        opened: Sequence[OpenedEvent],
        kept: RetentionBounds,
        summed_before: Mapping[int, datetime],
        *,
        settles: bool = True,
    ) -> None:
        """Writes opened events to all read models; where one settles, with the fence closed."""
        batch = Batch(
            opened,
            merges.survivors(conn, _subjects(opened)),
            self._workspace(),
            kept,
            summed_before,
        )
        with pipeline(conn):  # the server writes one model while the next is worked out
            for model in self._models:
                model.apply(conn, batch)
        if settles:
            self._settle(conn, batch)

    def _summed_before(self) -> dict[int, datetime]:
        return {
            partition: lease.summed_before
            for partition, lease in self._leases.items()
            if lease.summed_before is not None
        }

    def _begin(self, rows: Sequence[RecordedEvent], kept: RetentionBounds) -> None:
        """Of activity that is gone when a partition is begun, sums are all that there is; of what
        goes later, they say what has been counted."""
        for partition in {row.log_partition for row in rows}:
            lease = self._leases[partition]
            if not lease.position:
                lease.summed_before = None if kept.since == ALWAYS else kept.since

    def _settle(self, conn: psycopg.Connection, batch: Batch) -> None:
        """Merges and erasures, after all that the batch says of the subjects concerned."""
        erased: list[SubjectId] = []
        for _, _, subject, _, event in batch.changes:
            if isinstance(event.payload, MergedInto):
                loser = event.row.stream
                survivor = merges.record(conn, loser, event.payload.survivor)
                for model in self._models:
                    model.merge(conn, loser, survivor)
            elif isinstance(event.payload, Erased):
                erased += [event.row.stream, subject]
        if erased:
            for model in self._models:
                model.erase(conn, erased)
            merges.forget(conn, erased)
            parking.forget_gaps(conn, NAME, erased)

    def _hold(self, conn: psycopg.Connection, rows: Sequence[RecordedEvent]) -> None:
        """Raises: _LeaseLost."""
        partitions = sorted({row.log_partition for row in rows})
        tokens = [self._leases[partition].token for partition in partitions]
        held = conn.execute(
            HOLD_CHECKPOINTS,
            (
                pg_arrays.smallints(partitions),
                pg_arrays.bigints(tokens),
                NAME,
                pg_arrays.smallints(partitions),
                self._worker,
            ),
        )
        if held.rowcount != len(partitions):
            raise _LeaseLost

    def _move(self, conn: psycopg.Connection, rows: Sequence[RecordedEvent]) -> dict[int, int]:
        reached = {row.log_partition: row.position for row in rows}
        leases = [self._leases[partition] for partition in reached]
        partitions = pg_arrays.smallints(list(reached))
        moved = conn.execute(
            MOVE_CHECKPOINTS,
            (
                LEASE_SECONDS,
                partitions,
                pg_arrays.bigints([lease.token for lease in leases]),
                pg_arrays.bigints(list(reached.values())),
                pg_arrays.instants([lease.summed_before for lease in leases]),
                NAME,
                partitions,
                self._worker,
            ),
        )
        if moved.rowcount != len(reached):
            raise _LeaseLost
        return reached

    def _prove(self) -> None:
        """Raises: Exception: it is not the events that are wrong: known ones fail too."""
        if time.monotonic() - self._proved_at > PROOF_SECONDS:
            probe.prove(self._pool, self._models, self._workspace())
            self._proved_at = time.monotonic()

    def _park(self, row: RecordedEvent, error: Exception, tries: int) -> None:
        with self._connection(1) as conn, conn.transaction():
            fences.wait_for(conn, SHARE_FENCE, NAME)
            self._opener.refresh()
            self._begin([row], self._opener.kept())
            parking.park(conn, NAME, row, error, tries)
            reached = self._move(conn, [row])
        log.error(
            "projector.parked",
            log_partition=row.log_partition,
            position=row.position,
            topic=row.topic,
            error=type(error).__name__,
        )
        for partition, position in reached.items():
            self._leases[partition].position = position

    def _lease(self) -> None:
        """Renews what is held and takes a fair share of what is free, at most once in a third of
        a lease."""
        now = time.monotonic()
        if now - self._renewed_at < LEASE_SECONDS / 3:
            return
        with self._connection() as conn:
            conn.execute(ENSURE_CHECKPOINTS, (NAME,))
            conn.execute(ENSURE_FENCE, (NAME,))
            conn.execute(HEARTBEAT, (NAME, self._worker))
            held = list(self._leases)
            renewed = conn.execute(RENEW_LEASES, (LEASE_SECONDS, NAME, self._worker, held))
            # Those that it forgot are still its own, and nobody takes them until they expire.
            if not held or renewed.rowcount != len(held):
                self._leases.clear()
                conn.execute(RELEASE_LEASES, (NAME, self._worker, list(range(LOG_PARTITIONS))))
            row = conn.execute(LIVE_WORKERS, (NAME, LEASE_SECONDS)).fetchone()
            share = math.ceil(LOG_PARTITIONS / (row[0] if row and row[0] else 1))
            surplus = list(self._leases)[share:]
            if surplus:
                conn.execute(RELEASE_LEASES, (NAME, self._worker, surplus))
                for partition in surplus:
                    del self._leases[partition]
            self._take(conn, share - len(self._leases))
        self._renewed_at = now

    def _take(self, conn: psycopg.Connection, wanted: int) -> None:
        if wanted <= 0:
            return
        free = conn.execute(FREE_PARTITIONS, (NAME, wanted)).fetchall()
        cursor = conn.cursor()
        cursor.executemany(
            TAKE_LEASE,
            [(self._worker, LEASE_SECONDS, NAME, partition) for (partition,) in free],
            returning=True,
        )
        while free:
            for partition, *lease in cursor.fetchall():
                self._leases[partition] = Lease(*lease)
            if not cursor.nextset():
                break

    def release(self) -> None:
        """Hands all partitions back, so that another worker goes on at once."""
        try:
            with self._pool.connection(timeout=2) as conn:
                conn.execute(RELEASE_LEASES, (NAME, self._worker, list(self._leases)))
                conn.execute(FORGET_WORKER, (NAME, self._worker))
        except (psycopg.Error, TimeoutError):
            log.warning("projector.leases_left_to_expire")
        self._leases.clear()
        self._renewed_at = -math.inf
        self._reader.close()


def _subjects(opened: Sequence[OpenedEvent]) -> Collection[SubjectId]:
    subjects: dict[int, SubjectId] = {}
    for one in opened:
        stream, account = one.row.stream, one.row.account
        subjects[stream.int] = stream
        if account is not None:
            subjects[account.int] = account
    return subjects.values()


def reached(conn: psycopg.Connection, positions: Sequence[Position]) -> bool:
    """Whether the read models have what stands at these positions."""
    row = conn.execute(
        REACHED,
        ([one.log_partition for one in positions], [one.position for one in positions], NAME),
    ).fetchone()
    return row is not None and row[0] == len(positions)
