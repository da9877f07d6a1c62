"""What a connection pool does beside its callers."""

from __future__ import annotations

import random
from contextlib import ExitStack

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
