"""Keeps read models up to date from the log: in batches, exactly once, shared among workers.

A worker holds partitions by lease (`projections.projector.leases`). It reads past its checkpoints,
applies a batch to every read model and moves the checkpoints in the same transaction. The worker
parks an event that cannot be applied, logs it, and goes on (`projections.projector.parking`).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from domain.definitions.retention import RetentionBounds
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
from domain.workspace.workspace import Workspace
from projections.kernel import fences
from projections.kernel.database_errors import is_of_connection, is_of_contention
from projections.kernel.fences import FenceTaken
from projections.kernel.idle import Idle
from projections.kernel.ports import Log, Opener
from projections.kernel.read_ahead import Read, Reader
from projections.kernel.watchdog import Hung, watched
from projections.projector import checkpoints, parking, probe
from projections.projector.checkpoints import PROJECTOR
from projections.projector.leases import LeaseLost, Leases
from projections.projector.pace import Pace
from projections.projector.parking import ErasedWhileParked, SkippedEvent
from projections.projector.read_models import ReadModels
from projections.projector.retrying import Retrying

BATCH_EVENTS = 12_000
POLL_SECONDS = 0.05
TRIES = 3
"""Tries of a single event before the projector parks it."""

CONTENDED_TRIES = 6
"""Tries of a batch that other transactions block, before the projector halves it, or parks its only
event."""

CONTENDED_SECONDS = 0.02
"""Pause before the second of these tries; it doubles before each later one."""

PROOF_SECONDS = 1.0
"""How long a proof that read models work (`projections.projector.probe`) counts. Without a proof
the projector parks nothing: it reports the failure and tries again."""

log = structlog.get_logger()
_CLOSES_FENCE = {
    MergedInto,
    Erased,
    DefinitionMade,
    DefinitionChanged,
    DefinitionActivated,
    NamesRetired,
    NamesRestored,
    PropertyTypeChanged,
}


class _Outdated(Exception):
    """A key was destroyed, or an event parked or retried, while the batch was in memory."""


class Projector:
    """A worker of the projector. Each runs in a thread or process of its own.

    Args:
        workspace: returns the present workspace; called once per batch, inside the fence.
        skipped: returns the events that an admin skipped; called when a rebuild begins.
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
        self._opener = opener
        self._pool = pool
        self._workspace = workspace
        self._pace = Pace(batch_events)
        self._skipped = skipped
        self._models = ReadModels(pool)
        self._reader = Reader(log, opener)
        self._leases = Leases()
        self._applying = 0
        self._proved_at = -math.inf
        self.retrying = Retrying(
            log=log, opener=opener, pool=pool, projector=PROJECTOR, write=self._write
        )

    def run(self, stop: threading.Event, idle: Idle) -> None:
        """Works until `stop` is set, then releases its partitions."""
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
                self._leases.forget()
                stop.wait(1.0)
        self.release()

    def step(self) -> int:
        """Applies one batch; returns the number of its events. The watchdog cuts off a batch that
        hangs, and smaller ones follow it."""
        try:
            return self._step()
        except Hung:
            # The batch may be committed: the leases, taken anew, have the position.
            if self._applying:
                self._pace.hung(self._applying)
            self._leases.forget()
        except FenceTaken:
            log.warning("projector.waits_for_fence")
        return 0

    def _step(self) -> int:
        self._applying = 0
        if self._leases.is_due:
            with self._connection() as conn:
                self._leases.renew(conn)
        positions = self._leases.positions
        if not positions:
            return 0
        read = self._reader.next(positions, self._pace.events)
        if not read.rows:
            return 0
        try:
            self._project(read.rows, read)
            self._pace.done()
        except LeaseLost:
            self._leases.forget()
        return len(read.rows)

    def release(self) -> None:
        """Releases all partitions, so that another worker takes them at once."""
        try:
            with self._pool.connection(timeout=2) as conn:
                self._leases.release(conn)
        except (psycopg.Error, TimeoutError):
            log.warning("projector.leases_left_to_expire")
        self._leases.forget()
        self._reader.close()

    def start_over(self, stop: threading.Event | None = None) -> None:
        """Rebuilds the read models: empties them and moves the checkpoints to the beginning of the
        log. The steps that follow fill them again; readers see them empty at first. Skipped events
        stay skipped.

        Waits for batches and readers that are under way. Does nothing where `stop` is set before
        they end."""
        while stop is None or not stop.is_set():
            try:
                self._empty()
                break
            except psycopg.Error as error:
                # TRUNCATE takes locks that readers hold; PostgreSQL may cancel either side.
                if not is_of_contention(error):
                    raise
                log.warning("projector.waits_to_start_over")
        self._leases.forget()

    def _empty(self) -> None:
        skipped = self._skipped()
        with self._connection(self._pace.events) as conn, conn.transaction():
            fences.limit_wait(conn)
            fences.close(conn, PROJECTOR)
            self._models.empty(conn)
            parking.forget(conn, PROJECTOR, skipped)
            checkpoints.reset(conn)

    def _connection(self, events: int = 0) -> AbstractContextManager[psycopg.Connection]:
        """A connection for work on a number of events. Raises Hung if the work takes too long."""
        return watched(self._pool, "projector", self._pace.seconds(events))

    def _project(self, rows: Sequence[RecordedEvent], read: Read | None = None) -> None:
        """Applies rows, in their order; parks an event that cannot be applied.

        Args:
            read: the same rows, opened.
        """
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
            except (LeaseLost, Unavailable):
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
        """Applies rows and moves the checkpoints, in one transaction.

        Raises:
            ErasedWhileParked: see there.
            LeaseLost: another worker holds a partition.
            _Outdated: the caller must open the rows anew.
        """
        if read is not None and read.opened is not None:
            passed_before, generation, opened = None, read.generation, read.opened
        else:
            with self._pool.connection() as conn:
                passed_before = parking.passed(conn, PROJECTOR, rows)
            generation = self._opener.refresh()
            opened = self._opener.open_rows([row for row in rows if row not in passed_before])
        closes = not _CLOSES_FENCE.isdisjoint(type(event.payload) for event in opened)
        self._applying = len(rows)
        with self._connection(len(rows)) as conn, conn.transaction():
            fences.wait_to_lock(conn, PROJECTOR, closes=closes)
            self._leases.lock(conn, rows)
            if self._opener.generation() != generation:
                raise _Outdated
            passed = parking.passed(conn, PROJECTOR, rows)
            if passed_before is not None and passed.places != passed_before.places:
                raise _Outdated
            if passed_before is None and passed.places:
                opened = [event for event in opened if event.row not in passed]
            bounds = self._opener.kept()
            self._leases.begin(rows, bounds)
            self._write(conn, opened, bounds, self._leases.summed_before, is_fence_closed=closes)
            parking.add_waiting(conn, PROJECTOR, passed.waiting)
            positions = self._leases.move_checkpoints(conn, rows)
        self._leases.moved(positions)

    def _write(
        self,
        conn: psycopg.Connection,
        opened: Sequence[OpenedEvent],
        bounds: RetentionBounds,
        summed_before: Mapping[int, datetime],
        *,
        is_fence_closed: bool = True,
    ) -> None:
        self._models.write(
            conn, opened, self._workspace(), bounds, summed_before, is_fence_closed=is_fence_closed
        )

    def _prove(self) -> None:
        """Raises: Exception: the read models are at fault: known events fail too."""
        if time.monotonic() - self._proved_at > PROOF_SECONDS:
            probe.prove(self._pool, self._models, self._workspace())
            self._proved_at = time.monotonic()

    def _park(self, row: RecordedEvent, error: Exception, tries: int) -> None:
        with self._connection(1) as conn, conn.transaction():
            fences.wait_to_lock(conn, PROJECTOR, closes=False)
            self._opener.refresh()
            self._leases.begin([row], self._opener.kept())
            parking.park(conn, PROJECTOR, row, error, tries)
            positions = self._leases.move_checkpoints(conn, [row])
        log.error(
            "projector.parked",
            log_partition=row.log_partition,
            position=row.position,
            topic=row.topic,
            error=type(error).__name__,
        )
        self._leases.moved(positions)
