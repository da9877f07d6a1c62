"""What a connection pool does beside its callers."""

from __future__ import annotations

import random
from contextlib import ExitStack

import psycopg
import sqlalchemy as sa

from infra.postgres import database


class TestPool:
    def test_a_pool_that_grows_leaves_the_generator_that_hypothesis_watches_as_it_was(
        self, database_url: str
    ) -> None:
        before = random.getstate()
        with database.pool(database_url, "annals_views", size=3) as pool, ExitStack() as held:
            for _ in range(3):
                held.enter_context(pool.connection())
        assert random.getstate() == before


class TestEngine:
    def test_an_engine_makes_another_connection_where_the_server_ended_the_one_that_it_had(
        self, database_url: str
    ) -> None:
        engine = database.engine(database_url, "annals_views", size=1)
        pid = sa.select(sa.func.pg_backend_pid())
        with engine.connect() as conn:
            first = conn.scalar(pid)
        with engine.connect() as conn:
            assert conn.scalar(pid) == first
        with psycopg.connect(database_url) as owner:
            owner.execute("SELECT pg_terminate_backend(%s, 10000)", (first,))
        with engine.connect() as conn:
            assert conn.scalar(pid) not in (None, first)
        engine.dispose()
