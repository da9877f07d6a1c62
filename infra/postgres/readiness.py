"""Whether the database answers, asked by a connection and in a thread of its own: nothing that
readers keep busy stands in the way of it."""

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
    """One for each process; safe for use from many threads. Who asks meanwhile shares an answer."""

    def __init__(self, url: str) -> None:
        self._pool = database.pool(url, "annals_log", size=1, name="readiness")
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="readiness")
        self._lock = threading.Lock()
        self._asked: Future[None] | None = None

    async def require(self) -> None:
        """Raises: Unavailable: the database does not answer within a second."""
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = self._threads.submit(self._ask)
            asked = asyncio.wrap_future(self._asked)
        try:
            await asyncio.wait_for(asyncio.shield(asked), SECONDS)
        except (psycopg.Error, PoolTimeout, TimeoutError):
            raise Unavailable("the database does not answer; try again") from None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._pool.close()

    def _ask(self) -> None:
        with self._pool.connection(timeout=SECONDS) as conn:
            conn.execute("SELECT head FROM log.heads WHERE log_partition = 0")
