"""Pasts: complete read models as of an instant, made from the log up to its position then.

The projector that serves the present fills each, in a database of its own, so that every query
serves it unchanged. All processes share the pasts (`infra.pasts.registry`); each lives as long as
the process that made it. Pasts hold personal data in clear. So a past is read only while no key was
destroyed since it was begun, and an erasure drops all pasts, of every process.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from domain.errors import NotReady, NotYours, Refusal, Unavailable
from domain.workspace.workspace import Workspace
from infra.keys.sealing import Sealer
from infra.log.event_log import EventLog
from infra.log.log_as_of import LogAsOf
from infra.pasts.databases import PastDatabases, brief
from infra.pasts.filling import NotWanted, PastFiller
from infra.pasts.registry import LOST_SECONDS, PastRegistry, PastRow
from infra.postgres.engines import Reading
from infra.write.definition_store import DefinitionStore
from projections.projector.parking import SkippedEvent

POLL_SECONDS = 1.0
TIDY_SECONDS = LOST_SECONDS / 6

log = structlog.get_logger()


@dataclass(frozen=True)
class Past:
    """A past that is ready to be read."""

    at: datetime
    log: LogAsOf
    definitions: DefinitionStore
    reading: Reading


class Pasts:
    """Thread-safe; one instance per process.

    Args:
        definitions: the definitions that a log holds.
        reading: opens the connections by which a database of read models is read.
        defaults: the settings of a workspace that has chosen none.
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
        self._sealer = sealer
        self._definitions = definitions
        self._reading = reading
        self._registry = PastRegistry(views)
        self._stop = threading.Event()
        self._filler = PastFiller(
            stop=self._stop,
            databases=databases,
            registry=self._registry,
            log_pool=log_pool,
            sealer=sealer,
            definitions=definitions,
            defaults=defaults,
            skipped=skipped,
        )
        self._lock = threading.Lock()
        self._open: dict[uuid.UUID, Past] = {}
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="past")

    def at(self, at: datetime, by: uuid.UUID | None = None) -> Past:
        """The read models as of an instant.

        Args:
            by: the API key that asks, by id; the past belongs to it from now on.

        Raises:
            NotReady: it is being made from here on; says how far it is, and where to look.
            Unavailable: it cannot be made, or others are being made; says why.
        """
        row = self._registry.of_instant(at)
        if row is None or row.is_lost or row.generation != self._sealer.generation():
            row = self.begin(at, by)
        if row.state == "failed":
            raise Unavailable(f"{row.error}; POST /api/pasts begins anew")
        if row.bounds is None:
            raise NotReady(
                f"the past is being made, {row.progress:.0%} of"
                f" {row.whole:,} events: see GET /api/pasts/{row.id}, and ask again"
            )
        if row.is_untouched or (by is not None and by not in row.asked_by):
            self._registry.touch(row.id, by)
        return self._opened(row, row.bounds)

    def begin(self, at: datetime, by: uuid.UUID | None = None) -> PastRow:
        """Begins a past, unless it exists or is being made.

        Args:
            by: the API key that asks, by id.

        Raises:
            Unavailable: the database's user may not create databases, or others read as many pasts
                as are kept.
            TooManyAtOnce: the limit of pasts being made is reached, in all or for this API key.
        """
        self._databases.require_right()
        begun = self._registry.begin(at, by, self._sealer.generation())
        if begun.is_new:
            self._filler.expect(begun.row.id)
            self._threads.submit(self._drop, begun.replaced)
            self._threads.submit(self._make, begun.row)
        return begun.row

    def find(self, id: uuid.UUID) -> PastRow:
        """Raises: NotFound: there is none, or none any more."""
        return self._registry.get(id)

    def all(self) -> list[PastRow]:
        """The one longest unread first."""
        return self._registry.all()

    def give_up(self, id: uuid.UUID, by: uuid.UUID) -> None:
        """Takes an API key from those that a past belongs to; drops the past after the last one.

        Raises:
            NotFound: as `find`.
            NotYours: others asked for it, this key did not.
        """
        if by not in self.find(id).asked_by:
            raise NotYours("others asked for this past: it goes when they give it up, or by itself")
        if self._registry.give_up(id, by):
            self._drop([id])

    def forget(self, id: uuid.UUID) -> None:
        """Drops a past, made or not, for every API key. Raises: NotFound: as `find`."""
        self.find(id)
        self._registry.forget([id])
        self._drop([id])

    def drop_all(self) -> None:
        """Drops every past of every process. A past that is begun later holds nothing that was
        erased before."""
        self._registry.forget_all()
        self._let_go(self._in_use())
        self._databases.drop(list(self._names().values()))

    def tidy(self) -> None:
        """Drops pasts that are old, outdated, or left behind by a process that is no more."""
        names = self._names()
        self._registry.set_seen(self._filler.own())
        self._registry.forget_old(self._sealer.generation())
        in_use = self._in_use()
        known = self._registry.ids()
        self._let_go(in_use - known)
        kept = {brief(id) for id in known}
        self._databases.drop([name for id, name in names.items() if id not in kept])

    def run(self, stop: threading.Event) -> None:
        """Tidies, and counts the metadata that conditions ask for, until told to stop."""
        tidied_at = float("-inf")
        while not stop.wait(POLL_SECONDS):
            try:
                if time.monotonic() - tidied_at > TIDY_SECONDS:
                    self.tidy()
                    tidied_at = time.monotonic()
                self._filler.count()
            except Exception as error:
                log.warning("pasts.failed", error=type(error).__name__)

    def count(self) -> None:
        """See `PastFiller.count`."""
        self._filler.count()

    def close(self) -> None:
        """Stops filling pasts, and drops those that this process made."""
        self._stop.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        own = self._filler.own()
        try:
            if own:
                self._registry.forget(own)
                self._drop(own)
        except (psycopg.Error, TimeoutError) as error:
            log.warning("pasts.left_behind", error=type(error).__name__)
        self._let_go(self._in_use())

    def _make(self, row: PastRow) -> None:
        """Fills a past; where that fails, stores why and drops it."""
        try:
            self._filler.fill(row)
            return
        except NotWanted:
            error = None
        except Refusal as refusal:
            error = refusal.detail
        except Exception as unforeseen:
            error = "Annals failed at this; the operator's log says where"
            if self._filler.is_wanted(row):
                log.error("past.failed", error=type(unforeseen).__name__)
        try:
            if error is None:
                self._registry.forget([row.id])
            else:
                self._registry.set_failed(row.id, error)
            self._drop([row.id])
        except (psycopg.Error, TimeoutError) as unreachable:
            log.warning("past.left_behind", error=type(unreachable).__name__)
            # Among its own, this process would keep it alive, and never make it again.
            self._let_go([row.id])

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
        """Drops the databases of some pasts."""
        if ids:
            self._let_go(ids)
            names = self._names()
            self._databases.drop([names[brief(id)] for id in ids if brief(id) in names])

    def _names(self) -> dict[str, str]:
        with self._log_pool.connection() as conn:
            return self._databases.names(conn)

    def _in_use(self) -> set[uuid.UUID]:
        """The pasts that this process has connections to, or makes."""
        with self._lock:
            return {*self._open, *self._filler.own()}

    def _let_go(self, ids: Collection[uuid.UUID]) -> None:
        """Closes the connections to some pasts."""
        with self._lock:
            pasts = [self._open.pop(id) for id in ids if id in self._open]
        for past in pasts:
            past.reading.dispose()
        self._filler.let_go(ids)
