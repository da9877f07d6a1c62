"""The one way into libpq's pipeline mode: statements are sent while earlier ones are carried out.

psycopg hangs where a pipeline is entered within another. It then waits for the results of all that
was sent so far (`BasePipeline._sync_gen`) and only reads while it waits. What the socket did not
take at once stays in libpq's buffer, the server waits for it, and both wait for ever. A pipeline's
end, and a fetch inside one, write and read in turn and do not hang. `conn.transaction()` enters two
pipelines of its own where one is under way: within a pipeline, say BEGIN and COMMIT.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.pq import PipelineStatus


class NestedPipeline(AssertionError):
    """A pipeline is under way on this connection: a mistake in the code that enters another."""


@contextmanager
def pipeline(conn: psycopg.Connection) -> Iterator[None]:
    """Sends the statements of the block without waiting for their results.

    Raises:
        NestedPipeline: the connection is in pipeline mode already.
    """
    if conn.pgconn.pipeline_status != PipelineStatus.OFF:
        raise NestedPipeline("a pipeline is entered within another")
    with conn.pipeline():
        yield
