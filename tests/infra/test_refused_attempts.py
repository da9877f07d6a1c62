"""How long attempts with a key of another scope stay on record."""

from __future__ import annotations

import uuid

import psycopg
import pytest

from domain.access import ApiScope
from infra import workers
from infra.bootstrap.annals import Annals
from infra.refused_attempts import ROWS_AT_A_TIME
from tests.serving import until

OF_AGE = """
INSERT INTO keys.refused_attempts (minute, key_id, method, route, scope)
SELECT date_trunc('minute', now()) - %s::interval - n * interval '1 minute', %s, 'GET', '/', 'read'
FROM generate_series(1, %s) n"""


def count(annals: Annals) -> int:
    return len(annals.refused_attempts.list(None, 10).items)


def test_attempts_are_forgotten_after_a_year_and_no_sooner(
    annals: Annals, database_url: str
) -> None:
    key = uuid.uuid4()
    with psycopg.connect(database_url) as owner:
        owner.execute(OF_AGE, ("1 year", key, 2 * ROWS_AT_A_TIME + 1))
        owner.execute(OF_AGE, ("364 days", key, 1))
    annals.refused_attempts.note(key, ApiScope.READ, method="GET", route="/")
    with workers.working(annals, project=False):
        until(lambda: count(annals) == 2)
    annals.refused_attempts.forget()
    assert count(annals) == 2


def test_who_writes_them_can_neither_delete_nor_move_what_is_younger(
    annals: Annals, database_url: str
) -> None:
    annals.refused_attempts.note(uuid.uuid4(), ApiScope.READ, method="GET", route="/")
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("SET ROLE annals_keys")
        assert conn.execute("DELETE FROM keys.refused_attempts").rowcount == 0
        for column in ("minute", "key_id", "method", "route", "scope", "first_at"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(f"UPDATE keys.refused_attempts SET {column} = {column}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("TRUNCATE keys.refused_attempts")
    assert count(annals) == 1
