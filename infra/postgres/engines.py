"""The engines of readers, apart from the pools of intake and workers and from each other: a busy
engine does not make another kind of question wait."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from infra.postgres import database
from infra.postgres.admission import BOUNDS, Demand
from infra.postgres.readers import attend
from infra.settings import Settings

ROLE = "annals_views"

STREAMS = "annals_streams"
"""The name of the connections that stream exports, as the server shows it: an erasure ends them."""

SPARE = 2
"""Connections for questions that need no place, such as those of definitions."""


@dataclass(frozen=True)
class Reading:
    """Engines over one set of read models.

    Attributes:
        queries: for lists, bars, views.
        long: for previews, reviews and back-tests.
        streams: for exports, which keep a connection for as long as they are read.
    """

    queries: sa.Engine
    long: sa.Engine
    streams: sa.Engine

    def dispose(self) -> None:
        for engine in (self.queries, self.long, self.streams):
            engine.dispose()


def reading(url: str, settings: Settings) -> Reading:
    """Engines over the database of `url`; they connect as they are needed."""
    short, long = settings.query_seconds, settings.long_query_seconds
    streams = BOUNDS[Demand.EXPORT].in_all
    return Reading(
        queries=attend(
            database.engine(url, ROLE, size=BOUNDS[Demand.QUESTION].in_all + SPARE, seconds=short)
        ),
        long=attend(
            database.engine(
                url,
                ROLE,
                size=BOUNDS[Demand.PREVIEW].in_all + BOUNDS[Demand.REVIEW].in_all + SPARE,
                seconds=long,
            )
        ),
        streams=attend(database.engine(url, ROLE, size=streams, seconds=long, application=STREAMS)),
    )
