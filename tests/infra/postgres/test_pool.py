"""A pool tells at once that the server is away or that others use all of it, and gives out what
works."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from domain.activity import Activity, ActivityKind
from domain.commands import Request, Stored, Track
from domain.identity import Identity, Scheme
from infra.bootstrap.annals import Annals
from infra.postgres import database
from infra.postgres.pool import Pool, Unreachable
from tests.infra.pools import exhausted

FOR_EVER = 600.0
_numbers = count()


def store(annals: Annals) -> None:
    who = (Identity(Scheme.USER_ID, f"user {next(_numbers)}"),)
    deed = (Activity(ActivityKind.EVENT, "came"),)
    [outcome] = annals.handler.handle([Request(Track(who, (), deed, datetime.now(UTC)))])
    assert isinstance(outcome, Stored)


def terminate(url: str, *held: psycopg.Connection) -> None:
    """Has the server close connections, and waits until it has."""
    pids = [conn.info.backend_pid for conn in held]
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("SELECT pg_terminate_backend(pid, 10000) FROM unnest(%s) AS p(pid)", (pids,))


def number(pool: Pool) -> object:
    with pool.connection() as conn:
        return conn.execute("SELECT 7").fetchone()


def test_connections_that_the_server_closed_are_given_to_nobody(database_url: str) -> None:
    with database.pool(database_url, "annals_log", size=4, patience=30) as pool:
        with ExitStack() as stack:
            held = [stack.enter_context(pool.connection()) for _ in range(4)]
            pids = [conn.info.backend_pid for conn in held]
        with psycopg.connect(database_url, autocommit=True) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM unnest(%s) AS p(pid)", (pids,)
            )
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(lambda _: number(pool), range(16))) == [(7,)] * 16


def test_one_that_breaks_while_in_use_is_replaced(database_url: str) -> None:
    with database.pool(database_url, "annals_log", size=1, patience=30) as pool:
        with pool.connection() as conn:
            terminate(database_url, conn)
            with pytest.raises(psycopg.OperationalError):
                conn.execute("SELECT 7")
        assert number(pool) == (7,)


def test_all_who_ask_for_a_server_that_is_away_hear_so_without_waiting(tmp_path: Path) -> None:
    away = f"host={tmp_path} dbname=postgres user=postgres"
    with (
        database.pool(away, "annals_log", size=4, patience=FOR_EVER) as pool,
        ThreadPoolExecutor(50) as threads,
    ):
        for _ in range(2):
            asked = [threads.submit(number, pool) for _ in range(50)]
            for one in asked:
                with pytest.raises(Unreachable):
                    one.result(30)


def test_who_finds_all_in_use_hears_so_in_time(database_url: str) -> None:
    with (
        database.pool(database_url, "annals_log", size=1, patience=0.05) as pool,
        pool.connection(),
        pytest.raises(PoolTimeout),
    ):
        number(pool)


def test_a_process_with_thousands_of_open_files_reads_and_appends(
    open_annals: Callable[[], Annals],
) -> None:
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(1_100)]
    try:
        store(open_annals())
    finally:
        for one in files:
            os.close(one)


class TestNoneStarvesAnother:
    def test_workers_leave_requests_theirs(self, annals: Annals) -> None:
        workers = annals.pools.workers
        with exhausted(workers.log, workers.keys, workers.views, workers.queries):
            store(annals)
            assert annals.status().behind == 2  # that it began is an event of its own
            assert annals.api_keys.list() == []

    def test_readers_leave_intake_and_workers_theirs(self, annals: Annals) -> None:
        with exhausted(annals.pools.reading, annals.pools.readers.queries, annals.pools.views):
            store(annals)
            annals.projector().step()
        assert annals.status().behind == 0

    def test_intake_leaves_readers_and_workers_theirs(self, annals: Annals) -> None:
        store(annals)
        with exhausted(annals.pools.intake):
            annals.projector().step()
            annals.decider().step()
            assert annals.api_keys.list() == []
