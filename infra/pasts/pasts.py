"""Pasts: complete read models as of an instant, made from the log as far as it went then.

Each is filled by the projector that serves the present, in a database of its own, so that every
query serves it unchanged. A table names those that there are: all processes share them, and each
lives as long as the process that made it. What they hold is personal and in clear. So a past is
read only while no key was destroyed since it was begun, and an erasure drops them all, everywhere.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
import structlog
from psycopg.rows import class_row
from psycopg_pool import ConnectionPool

from domain.errors import NotFound, NotReady, NotYours, Refusal, TooManyAtOnce, Unavailable
from domain.workspace.aggregate import Workspace
from infra.keys.sealing import Sealer
from infra.log.event_log import EventLog
from infra.log.log_as_of import LogAsOf, bounds_at
from infra.pasts import registry
from infra.pasts.databases import PastDatabases, brief
from infra.pasts.registry import GIVES_WAY_SECONDS, LOST_SECONDS, PastRow
from infra.postgres import database
from infra.postgres.engines import Reading
from infra.postgres.pools import WORKERS_PATIENCE_SECONDS
from infra.write.definition_store import DefinitionStore
from projections.counters.filler import CounterFiller
from projections.counters.keeper import CounterKeeper
from projections.deciding.process_manager import NAME as DECIDER
from projections.kernel import fences
from projections.models import filters
from projections.projector.checkpoints import PROJECTOR
from projections.projector.parking import SkippedEvent
from projections.projector.projector import Projector

KEPT = 3
BY_KEY = 2
"""Of those that are being made, by one API key."""

IDLE_SECONDS = 3_600
POLL_SECONDS = 1.0
CONNECTIONS = 3
ROLE = "annals_views"
FENCE = "pasts"

# Nothing decides in a past. What was decided stands in the log, and what was not is not shown.
FORGET_WORK = "TRUNCATE views.sweeps, views.changes_due"

DECIDED = """
INSERT INTO views.deciding (decider, swept_day) VALUES (%s, %s)
ON CONFLICT (decider) DO UPDATE SET waits_for = NULL"""

FILLED = "SELECT coalesce(sum(position), 0)::bigint FROM views.checkpoints WHERE projector = %s"

log = structlog.get_logger()


@dataclass(frozen=True)
class Past:
    """A past that is ready to be read."""

    at: datetime
    log: LogAsOf
    definitions: DefinitionStore
    reading: Reading


def _now() -> datetime:
    return datetime.now(UTC)


class _Gone(Exception):
    """It is not wanted any more: dropped, outdated by an erasure, or the process ends."""


class Pasts:
    """One for each process; safe for use from many threads.

    Args:
        definitions: what was defined, as a log has it.
        reading: opens the connections by which a database of read models is read.
        defaults: what holds in a workspace that has chosen nothing.
        skipped: the events that read models go on without, by decision.
    """

    def __init__(
        self,
        *,
        databases: PastDatabases,
        log_pool: ConnectionPool,
        views: ConnectionPool,
        sealer: Sealer,
        definitions: Callable[[EventLog], DefinitionStore],
        reading: Callable[[str], Reading],
        defaults: Workspace,
        skipped: Callable[[], Sequence[SkippedEvent]],
    ) -> None:
        self._databases = databases
        self._log_pool = log_pool
        self._views = views
        self._sealer = sealer
        self._definitions = definitions
        self._reading = reading
        self._defaults = defaults
        self._skipped = skipped
        self._lock = threading.Lock()
        self._open: dict[uuid.UUID, Past] = {}
        self._own: dict[uuid.UUID, CounterFiller | None] = {}
        """Those made here; what counts metadata for them, once they are ready."""
        """The API keys for which they were begun."""
        self._pools: dict[uuid.UUID, ConnectionPool] = {}
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="past")

    def at(self, at: datetime, by: uuid.UUID | None = None) -> Past:
        """What was shown at an instant.

        Args:
            by: the API key that asks, by id; it is one of those that a past belongs to.

        Raises:
            NotReady: it is being made from here on; says how far it is, and where to look.
            Unavailable: it cannot be made, or others are being made; says why.
        """
        row = next(iter(self._rows(registry.SELECT_AT, at)), None)
        if row is None or row.is_lost or row.generation != self._sealer.generation():
            row = self.begin(at, by)
        if row.state == "failed":
            raise Unavailable(f"{row.error}; POST /api/pasts begins anew")
        if row.bounds is None:
            raise NotReady(
                f"what was shown then is being made, {row.progress:.0%} of"
                f" {row.whole:,} events: see GET /api/pasts/{row.id}, and ask again"
            )
        if row.is_untouched or (by is not None and by not in row.asked_by):
            self._touch(row, by)
        return self._opened(row, row.bounds)

    def begin(self, at: datetime, by: uuid.UUID | None = None) -> PastRow:
        """Has a past made, unless it is there or under way. The one longest unread gives way: of
        those that nobody else asked for, or of those that are unread for a while.

        Args:
            by: the API key that asks, by id.

        Raises:
            Unavailable: the database's user may not create databases, or others read as many as
                are kept.
            TooManyAtOnce: as many as may be are being made, in all or for this API key.
        """
        self._databases.require_right()
        generation, id = self._sealer.generation(), uuid.uuid4()
        with self._views.connection() as conn, conn.transaction():
            fences.close(conn, FENCE)
            rows = (
                conn.cursor(row_factory=class_row(PastRow)).execute(registry.SELECT_ALL).fetchall()
            )
            kept: list[PastRow] = []
            for row in rows:
                if not (row.generation != generation or row.is_lost or row.state == "failed"):
                    kept.append(row)
                    if row.at == at:
                        self._touch(row, by, conn)
                        return row
            making = [row for row in kept if row.state != "ready"]
            if by is not None and sum(by in row.asked_by for row in making) >= BY_KEY:
                raise TooManyAtOnce(
                    f"{BY_KEY} other pasts are being made for this API key: wait until one is"
                    " ready",
                    retry_after=10,
                )
            while len(kept) >= KEPT:
                kept.remove(_gives_way(kept, by))
            gone = [row.id for row in rows if row not in kept]
            conn.execute(registry.FORGET, (gone,))
            cursor = conn.cursor(row_factory=class_row(PastRow))
            begun = cursor.execute(registry.ADD, (id, at, generation, _asking(by))).fetchone()
            assert begun is not None
        with self._lock:
            self._own[id] = None
        self._threads.submit(self._drop, gone)
        self._threads.submit(self._make, begun)
        return begun

    def find(self, id: uuid.UUID) -> PastRow:
        """Raises: NotFound: there is none, or none any more."""
        found = self._rows(registry.SELECT_ONE, id)
        if not found:
            raise NotFound("there is no such past (any more); ask for it again")
        return found[0]

    def all(self) -> list[PastRow]:
        """The one longest unread first."""
        return self._rows(registry.SELECT_ALL)

    def give_up(self, id: uuid.UUID, by: uuid.UUID) -> None:
        """Takes an API key from those that a past belongs to; the last one drops it.

        Raises:
            NotFound: as `find`.
            NotYours: others asked for it, this key did not.
        """
        if by not in self.find(id).asked_by:
            raise NotYours("others asked for this past: it goes when they give it up, or by itself")
        with self._views.connection() as conn:
            left = conn.execute(registry.GIVE_UP, (by, id)).fetchone()
            if left is None or left[0]:
                return
            conn.execute(registry.FORGET, ([id],))
        self._drop([id])

    def forget(self, id: uuid.UUID) -> None:
        """Drops a past, made or not, whoever asked for it. Raises: NotFound: as `find`."""
        self.find(id)
        self._execute(registry.FORGET, [id])
        self._drop([id])

    def drop_all(self) -> None:
        """Drops every past of every process. One that is begun later is made without what was
        erased before."""
        self._execute(registry.FORGET_ALL)
        self._let_go(self._held())
        self._databases.drop(list(self._databases.names().values()))

    def tidy(self) -> None:
        """Drops what is old, outdated, or left behind by a process that is no more."""
        names = self._databases.names()
        self._execute(registry.LIVE_ON, list(self._own))
        self._execute(registry.FORGET_OLD, self._sealer.generation(), LOST_SECONDS, IDLE_SECONDS)
        held = self._held()
        with self._views.connection() as conn:
            there = {row[0] for row in conn.execute(registry.SELECT_IDS)}
        self._let_go(held - there)
        known = {brief(id) for id in there}
        self._databases.drop([name for id, name in names.items() if id not in known])

    def run(self, stop: threading.Event) -> None:
        """Tidies, and counts what is asked of metadata, until told to stop."""
        tidied_at = float("-inf")
        while not stop.wait(POLL_SECONDS):
            try:
                if time.monotonic() - tidied_at > LOST_SECONDS / 6:
                    self.tidy()
                    tidied_at = time.monotonic()
                self.count()
            except Exception as error:
                log.warning("pasts.failed", error=type(error).__name__)

    def count(self) -> None:
        """Counts what conditions on metadata wait for, in the pasts made here, a piece for each in
        turn."""
        with self._lock:
            fillers = [one for one in self._own.values() if one is not None]
        while fillers and not self._stop.is_set():
            fillers = [one for one in fillers if one.step()]

    def close(self) -> None:
        """Ends what is being made, and drops what was made here."""
        self._stop.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        own = list(self._own)
        try:
            if own:
                self._execute(registry.FORGET, own)
                self._drop(own)
        except (psycopg.Error, TimeoutError) as error:
            log.warning("pasts.left_behind", error=type(error).__name__)
        self._let_go(self._held())

    def _make(self, row: PastRow) -> None:
        try:
            self._fill(row)
            return
        except _Gone:
            error = None
        except Refusal as refusal:
            error = refusal.detail
        except Exception as unforeseen:
            error = "Annals failed at this; the operator's log says where"
            if self._is_wanted(row):
                log.error("past.failed", error=type(unforeseen).__name__)
        try:
            if error is None:
                self._execute(registry.FORGET, [row.id])
            else:
                self._execute(registry.FAIL, error, row.id)
            self._drop([row.id])
        except (psycopg.Error, TimeoutError) as unreachable:
            log.warning("past.left_behind", error=type(unreachable).__name__)
            # As its own it would be kept alive, and asked for again nobody would make it.
            self._let_go([row.id])

    def _fill(self, row: PastRow) -> None:
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

        projector = Projector(
            log=past_log,
            opener=self._sealer,
            pool=pool,
            workspace=workspace,
            skipped=self._skipped,
        )
        projector.start_over()
        whole, done = sum(bounds), 0
        while done < whole:
            self._report(row, done, whole)
            if not projector.step():
                self._stop.wait(POLL_SECONDS / 10)
            with pool.connection() as conn:
                [[done]] = conn.execute(FILLED, (PROJECTOR,)).fetchall()
        projector.release()
        with pool.connection() as conn:
            conn.execute(FORGET_WORK)
            conn.execute(DECIDED, (DECIDER, row.at.date()))
        filters.refresh(pool)
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("ANALYZE")
        self._report(row, done, whole)
        with self._lock:
            self._own[row.id] = CounterFiller(
                log=past_log,
                opener=self._sealer,
                pool=pool,
                workspace=workspace,
                projector=PROJECTOR,
                keeper=CounterKeeper(pool=pool, needed=None, projector=PROJECTOR, clock=_now),
                clock=_now,
            )
        self._execute(registry.MAKE_READY, bounds, row.id)

    def _report(self, row: PastRow, done: int, whole: int) -> None:
        """Says how far it is. Raises: _Gone."""
        if not self._is_wanted(row) or not self._execute(registry.REPORT, done, whole, row.id):
            raise _Gone

    def _is_wanted(self, row: PastRow) -> bool:
        return (
            not self._stop.is_set()
            and self._sealer.generation() == row.generation
            and bool(self._rows(registry.SELECT_ONE, row.id))
        )

    def _touch(
        self, row: PastRow, by: uuid.UUID | None, conn: psycopg.Connection | None = None
    ) -> None:
        """Notes that a past was asked for, and by whom."""
        touched = {"id": row.id, "by": _asking(by)}
        if conn is not None:
            conn.execute(registry.TOUCH, touched)
            return
        with self._views.connection() as own:
            own.execute(registry.TOUCH, touched)

    def _opened(self, row: PastRow, bounds: list[int]) -> Past:
        with self._lock:
            past = self._open.get(row.id)
            if past is None:
                past_log = LogAsOf(self._log_pool, bounds)
                reading = self._reading(self._databases.url_of(row.id))
                past = Past(row.at, past_log, self._definitions(past_log), reading)
                self._open[row.id] = past
            return past

    def _drop(self, ids: Collection[uuid.UUID]) -> None:
        if ids:
            self._let_go(ids)
            names = self._databases.names()
            self._databases.drop([names[brief(id)] for id in ids if brief(id) in names])

    def _held(self) -> set[uuid.UUID]:
        with self._lock:
            return {*self._open, *self._pools, *self._own}

    def _let_go(self, ids: Collection[uuid.UUID]) -> None:
        """Closes the connections to some pasts."""
        with self._lock:
            pasts = [self._open.pop(id) for id in ids if id in self._open]
            pools = [self._pools.pop(id) for id in ids if id in self._pools]
            for id in ids:
                self._own.pop(id, None)
        for past in pasts:
            past.reading.dispose()
        for pool in pools:
            pool.close()

    def _rows(self, query: str, *arguments: object) -> list[PastRow]:
        with self._views.connection() as conn:
            return conn.cursor(row_factory=class_row(PastRow)).execute(query, arguments).fetchall()

    def _execute(self, statement: str, *arguments: object) -> int:
        with self._views.connection() as conn:
            return conn.execute(statement, arguments).rowcount


def _asking(by: uuid.UUID | None) -> list[uuid.UUID]:
    return [] if by is None else [by]


def _gives_way(kept: Collection[PastRow], by: uuid.UUID | None) -> PastRow:
    """The past that is dropped for another one, of those that are kept, the one longest unread
    first. Raises: TooManyAtOnce, Unavailable: none can be."""
    ready = [row for row in kept if row.state == "ready"]
    if not ready:
        raise TooManyAtOnce(
            f"{KEPT} other pasts are being made: wait until one is ready", retry_after=10
        )
    for row in ready:
        if row.is_unread or set(row.asked_by) <= {by}:
            return row
    raise Unavailable(
        f"{KEPT} pasts are kept, and others read them: try again in {GIVES_WAY_SECONDS // 60}"
        " minutes"
    )
