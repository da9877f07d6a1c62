"""Builds the parts for readers: engines over the read models, admission, the change feed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import sqlalchemy as sa
from psycopg_pool import ConnectionPool

from domain.identity import SubjectId
from infra.api_keys import ApiKeys
from infra.backtest_jobs import BacktestJobs
from infra.backtest_planner import BacktestPlanner
from infra.bootstrap.defaults import workspace_defaults
from infra.bootstrap.key_parts import KeyParts
from infra.bootstrap.log_parts import LogParts
from infra.bootstrap.write_parts import WriteParts
from infra.change_feed import ChangeFeed
from infra.postgres.admission import Admission
from infra.postgres.pools import Pools
from infra.postgres.readiness import Readiness
from infra.refused_attempts import RefusedAttempts
from infra.settings import Settings
from projections.projector.checkpoints import PROJECTOR
from projections.queries import contact_view


@dataclass(frozen=True, kw_only=True)
class ReaderParts:
    """
    Attributes:
        views: waits until the read models have reached a position.
        queries: answers questions that take a moment.
        long_queries: answers previews, reviews and back-tests.
        streams: answers exports.
        admission: admits as many questions at a time as there are connections.
        change_feed: notifies open connections of changes.
    """

    views: ConnectionPool
    queries: sa.Engine
    long_queries: sa.Engine
    streams: sa.Engine
    admission: Admission
    api_keys: ApiKeys
    refused_attempts: RefusedAttempts
    change_feed: ChangeFeed
    backtests: BacktestJobs
    backtest_planner: BacktestPlanner
    readiness: Readiness


def build_readers(
    settings: Settings,
    url: str,
    pools: Pools,
    log: LogParts,
    keys: KeyParts,
    write: WriteParts,
    closing: ExitStack,
) -> ReaderParts:
    """
    Args:
        url: of the database.
        closing: ends back-tests and the connection that tells whether the database answers.
    """
    readiness = Readiness(url=url)
    closing.callback(readiness.close)
    backtests = BacktestJobs()
    closing.callback(backtests.close)
    queries = pools.readers.queries
    api_keys = ApiKeys(pool=pools.access)
    return ReaderParts(
        views=pools.views,
        queries=queries,
        long_queries=pools.readers.long,
        streams=pools.readers.streams,
        admission=Admission(),
        api_keys=api_keys,
        refused_attempts=RefusedAttempts(pool=pools.access),
        change_feed=ChangeFeed(
            log_pool=pools.workers.log,
            views=pools.workers.views,
            api_keys=api_keys,
            projector=PROJECTOR,
            streams_of=_streams_of(queries),
        ),
        backtests=backtests,
        backtest_planner=BacktestPlanner(
            definitions=write.definitions,
            checks=write.checks,
            workspace=lambda state: state.workspace(workspace_defaults(settings)),
            queries=pools.readers.long,
            log=log.log,
            records=log.records,
            sealer=keys.sealer,
        ),
        readiness=readiness,
    )


def _streams_of(queries: sa.Engine) -> Callable[[SubjectId], list[SubjectId]]:
    """Returns: a function that gives all streams of a subject, merged ones included."""

    def streams_of(subject: SubjectId) -> list[SubjectId]:
        with queries.connect() as conn:
            return contact_view.streams_of(conn, contact_view.survivor_of(conn, subject))

    return streams_of
