"""One migrated database for all specs of read models."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg_pool import ConnectionPool

from tests.databases import migrated

pytest.register_assert_rewrite("tests.projections.given")

from tests.projections.given import Tables  # noqa: E402


@pytest.fixture(scope="session")
def tables(server: str) -> Iterator[Tables]:
    """The read models, empty before each spec: specs roll their transactions back."""
    with migrated(server) as url, ConnectionPool(url, min_size=1, max_size=2) as pool:
        yield Tables(pool)
