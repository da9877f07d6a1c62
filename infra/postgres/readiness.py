"""Whether the database answers, by a connection and a thread of its own: busy readers do not delay
it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import psycopg
from psycopg_pool import PoolTimeout

from domain.errors import Unavailable
from infra.postgres import database

SECONDS = 1.0


class Readiness:
    """Thread-safe; one instance per process. Concurrent callers share an answer."""

    def __init__(self, url: str) -> None:
        self._pool = database.pool(url, "annals_log", size=1, name="readiness")
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="readiness")
        self._lock = threading.Lock()
        self._probe: Future[None] | None = None

    async def require(self) -> None:
        """Raises: Unavailable: the database does not answer within a second."""
        with self._lock:
            if self._probe is None or self._probe.done():
                self._probe = self._threads.submit(self._ask)
            probe = asyncio.wrap_future(self._probe)
        try:
            await asyncio.wait_for(asyncio.shield(probe), SECONDS)
        except (psycopg.Error, PoolTimeout, TimeoutError):
            raise Unavailable("the database does not answer; try again") from None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._pool.close()

    def _ask(self) -> None:
        with self._pool.connection(timeout=SECONDS) as conn:
            conn.execute("SELECT head FROM log.heads WHERE log_partition = 0")
