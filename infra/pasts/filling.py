"""Fills the database of a past: the projector that serves the present reads the log up to where it
stood at the instant.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime

import psycopg
from psycopg_pool import ConnectionPool

from domain.workspace.workspace import Workspace
from infra.keys.sealing import Sealer
from infra.log.event_log import EventLog
from infra.log.log_as_of import LogAsOf, bounds_at
from infra.pasts.databases import PastDatabases
from infra.pasts.registry import PastRegistry, PastRow
from infra.postgres import database
from infra.postgres.pools import WORKERS_PATIENCE_SECONDS
from infra.write.definition_store import DefinitionStore
from projections.counters.filler import CounterFiller
from projections.counters.keeper import CounterKeeper
from projections.deciding.process_manager import NAME as DECIDER
from projections.models import filters
from projections.projector.checkpoints import PROJECTOR
from projections.projector.parking import SkippedEvent
from projections.projector.projector import Projector

ROLE = "annals_views"
CONNECTIONS = 3
POLL_SECONDS = 0.1

# Nothing decides in a past. Decisions of that time are in the log; others are not shown.
FORGET_WORK = "TRUNCATE views.sweeps, views.changes_due"

SET_SWEPT = """
INSERT INTO views.deciding (decider, swept_day) VALUES (%(decider)s, %(day)s)
ON CONFLICT (decider) DO UPDATE SET waits_for = NULL"""

COUNT_APPLIED = """
SELECT coalesce(sum(position), 0)::bigint FROM views.checkpoints WHERE projector = %(projector)s"""


class NotWanted(Exception):
    """The past is forgotten, outdated by an erasure, or the process ends."""


def _now() -> datetime:
    return datetime.now(UTC)


class PastFiller:
    """Fills pasts in this process, and keeps the fillers that count metadata for them afterwards.

    Args:
        stop: set when the process ends.
        definitions: the definitions that a log holds.
        defaults: the settings of a workspace that has chosen none.
        skipped: the events that read models go on without, by decision.
    """

    def __init__(
        self,
        *,
        stop: threading.Event,
        databases: PastDatabases,
        registry: PastRegistry,
        log_pool: ConnectionPool,
        sealer: Sealer,
        definitions: Callable[[EventLog], DefinitionStore],
        defaults: Workspace,
        skipped: Callable[[], Sequence[SkippedEvent]],
    ) -> None:
        self._stop = stop
        self._databases = databases
        self._registry = registry
        self._log_pool = log_pool
        self._sealer = sealer
        self._definitions = definitions
        self._defaults = defaults
        self._skipped = skipped
        self._lock = threading.Lock()
        self._pools: dict[uuid.UUID, ConnectionPool] = {}
        self._counters: dict[uuid.UUID, CounterFiller | None] = {}
        """By past; None: it is not ready yet."""

    def expect(self, id: uuid.UUID) -> None:
        """Counts a past among those of this process, before it is filled."""
        with self._lock:
            self._counters[id] = None

    def fill(self, row: PastRow) -> None:
        """Fills a past, reports its progress, and makes it ready at the end.

        Raises:
            NotWanted: see there.
            Refusal: the database cannot be created.
        """
        self._report(row, 0, 0)
        url = self._databases.create(row.id)
        bounds = bounds_at(self._log_pool, row.at)
        past_log = LogAsOf(self._log_pool, bounds)
        definitions = self._definitions(past_log)
        pool = database.pool(url, ROLE, size=CONNECTIONS, patience=WORKERS_PATIENCE_SECONDS)
        with self._lock:
            self._pools[row.id] = pool

        def workspace() -> Workspace:
            return definitions.recent().workspace(self._defaults)

        self._project(row, past_log, pool, workspace, whole=sum(bounds))
        with pool.connection() as conn:
            conn.execute(FORGET_WORK)
            conn.execute(SET_SWEPT, {"decider": DECIDER, "day": row.at.date()})
        filters.refresh(pool, lambda: workspace().zone)
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("ANALYZE")
        self._report(row, sum(bounds), sum(bounds))
        with self._lock:
            self._counters[row.id] = CounterFiller(
                log=past_log,
                opener=self._sealer,
                pool=pool,
                workspace=workspace,
                projector=PROJECTOR,
                keeper=CounterKeeper(pool=pool, needed=None, projector=PROJECTOR, clock=_now),
                clock=_now,
            )
        self._registry.set_ready(row.id, bounds)

    def count(self) -> None:
        """Counts the metadata that conditions wait for, in the pasts made here, a piece for each in
        turn."""
        with self._lock:
            fillers = [filler for filler in self._counters.values() if filler is not None]
        while fillers and not self._stop.is_set():
            fillers = [filler for filler in fillers if filler.step()]

    def own(self) -> set[uuid.UUID]:
        """The pasts that this process makes or has made."""
        with self._lock:
            return {*self._pools, *self._counters}

    def is_wanted(self, row: PastRow) -> bool:
        return (
            not self._stop.is_set()
            and self._sealer.generation() == row.generation
            and self._registry.find(row.id) is not None
        )

    def let_go(self, ids: Collection[uuid.UUID]) -> None:
        """Closes the connections to some pasts."""
        with self._lock:
            pools = [self._pools.pop(id) for id in ids if id in self._pools]
            for id in ids:
                self._counters.pop(id, None)
        for pool in pools:
            pool.close()

    def _project(
        self,
        row: PastRow,
        past_log: LogAsOf,
        pool: ConnectionPool,
        workspace: Callable[[], Workspace],
        *,
        whole: int,
    ) -> None:
        projector = Projector(
            log=past_log,
            opener=self._sealer,
            pool=pool,
            workspace=workspace,
            skipped=self._skipped,
        )
        projector.start_over()
        done = 0
        while done < whole:
            self._report(row, done, whole)
            if not projector.step():
                self._stop.wait(POLL_SECONDS)
            with pool.connection() as conn:
                [[done]] = conn.execute(COUNT_APPLIED, {"projector": PROJECTOR}).fetchall()
        projector.release()

    def _report(self, row: PastRow, done: int, whole: int) -> None:
        """Raises: NotWanted."""
        if not self.is_wanted(row) or not self._registry.report(row.id, done, whole):
            raise NotWanted
