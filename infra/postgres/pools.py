"""All connections of a process to its database, in pools apart: none of their users can exhaust the
connections of another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from infra.postgres import database
from infra.postgres.engines import Reading, reading
from infra.postgres.pool import BUSY_SECONDS, Pool
from infra.postgres.readers import ReadersPool
from infra.settings import Settings

LOG, KEYS, VIEWS = "annals_log", "annals_keys", "annals_views"
WORKERS_PATIENCE_SECONDS = 30.0
"""Longest wait of a worker for a connection while others use all of them."""


@dataclass(frozen=True)
class WorkerPools:
    """The pools of background work: projector, process manager, filler, webhooks, erasures,
    retention, snapshots."""

    log: Pool
    keys: Pool
    views: Pool
    queries: sa.Engine


@dataclass(frozen=True)
class Pools:
    """
    Attributes:
        intake: of the log, for appends.
        keys: for the key ring and the identity index; each use is short.
        access: of the keys, for API keys.
        reading: of the log, for timelines, archives and other long reads; a statement is
            cancelled when its reader leaves.
        views: of the read models, for waits until they reach a position.
        listening: one connection, for the notices of other processes.
        readers: of the read models, for lists, views, previews and exports.
    """

    intake: Pool
    keys: Pool
    access: Pool
    reading: ReadersPool
    views: Pool
    listening: Pool
    readers: Reading
    workers: WorkerPools


@contextmanager
def opened(url: str, size: int, settings: Settings) -> Iterator[Pools]:
    """Opens pools, which make connections as they are needed; closes them on the way out.

    Args:
        size: most connections of each pool that many requests use at once.
    """
    with ExitStack() as stack:

        def pool(role: str, name: str, size: int, patience: float = BUSY_SECONDS) -> Pool:
            made = database.pool(url, role, size=size, name=name, patience=patience)
            return stack.enter_context(made)

        def workers_pool(role: str, size: int) -> Pool:
            return pool(role, f"workers {role}", size, WORKERS_PATIENCE_SECONDS)

        log_reading = database.readers_pool(
            url, LOG, size=6, name="reading", seconds=settings.long_query_seconds
        )
        stack.enter_context(log_reading)
        readers = reading(url, settings)
        stack.callback(readers.dispose)
        deciding = database.engine(url, VIEWS, size=3, patience=WORKERS_PATIENCE_SECONDS)
        stack.callback(deciding.dispose)
        yield Pools(
            intake=pool(LOG, "intake", size),
            keys=pool(KEYS, "keys", size),
            access=pool(KEYS, "access", 3),
            reading=log_reading,
            views=pool(VIEWS, "views", 4),
            listening=pool(LOG, "listening", 1),
            readers=readers,
            workers=WorkerPools(
                log=workers_pool(LOG, 6),
                keys=workers_pool(KEYS, 6),
                views=workers_pool(VIEWS, 6),
                queries=deciding,
            ),
        )
