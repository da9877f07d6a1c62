"""All connections of a process to its database, in pools apart: none of those who use them can take
the others' away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from infra import database
from infra.pool import BUSY_SECONDS, Pool

LOG, KEYS, VIEWS = "annals_log", "annals_keys", "annals_views"
WORKERS_PATIENCE_SECONDS = 30.0
"""That a worker waits for a connection while others use them all."""


@dataclass(frozen=True)
class WorkerPools:
    """What the background work has: projector, deciders, fillers, deliverer, erasures, retention,
    pasts that are being made."""

    log: Pool
    keys: Pool
    views: Pool
    queries: sa.Engine


@dataclass(frozen=True)
class Pools:
    """
    Attributes:
        intake: of the log, for what appends.
        keys: for the key ring and the look-ups, whoever asks them: each use is short.
        access: of the keys, for what opens a door: API keys.
        reading: of the log, for timelines, archives and whatever else reads much of it.
        views: of the read models, for waiting until they are far enough.
        queries: of the read models, for lists and views.
    """

    intake: Pool
    keys: Pool
    access: Pool
    reading: Pool
    views: Pool
    queries: sa.Engine
    workers: WorkerPools


@contextmanager
def opened(url: str, size: int) -> Iterator[Pools]:
    """Pools that make connections as they are needed; closed on the way out.

    Args:
        size: of each pool that many requests use at once; the others have sizes of their own.
    """
    with ExitStack() as stack:

        def pool(role: str, name: str, size: int, patience: float = BUSY_SECONDS) -> Pool:
            made = database.pool(url, role, size=size, name=name, patience=patience)
            return stack.enter_context(made)

        def workers_pool(role: str, size: int) -> Pool:
            return pool(role, f"workers {role}", size, WORKERS_PATIENCE_SECONDS)

        def engine(size: int, patience: float = BUSY_SECONDS) -> sa.Engine:
            made = database.engine(url, VIEWS, size=size, patience=patience)
            stack.callback(made.dispose)
            return made

        yield Pools(
            intake=pool(LOG, "intake", size),
            keys=pool(KEYS, "keys", size),
            access=pool(KEYS, "access", 3),
            reading=pool(LOG, "reading", 6),
            views=pool(VIEWS, "views", 4),
            queries=engine(size),
            workers=WorkerPools(
                log=workers_pool(LOG, 6),
                keys=workers_pool(KEYS, 6),
                views=workers_pool(VIEWS, 6),
                queries=engine(3, WORKERS_PATIENCE_SECONDS),
            ),
        )
