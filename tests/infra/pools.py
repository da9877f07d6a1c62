"""Pools of which others use everything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import sqlalchemy as sa

from infra.postgres.pool import Pool


@contextmanager
def exhausted(*pools: Pool | sa.Engine) -> Iterator[None]:
    """All connections of some pools in use."""
    with ExitStack() as stack:
        for pool in pools:
            if isinstance(pool, Pool):
                for _ in range(pool.max_size):
                    stack.enter_context(pool.connection())
            else:
                assert isinstance(pool.pool, sa.QueuePool)
                for _ in range(pool.pool.size()):
                    stack.enter_context(pool.connect())
        yield
