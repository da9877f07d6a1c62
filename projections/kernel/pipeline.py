"""The only way into libpq's pipeline mode, which sends statements while the server runs earlier
ones.

psycopg hangs where a pipeline begins inside another. It then waits for the results of all
statements (`BasePipeline._sync_gen`) and only reads while it waits. Bytes that the socket did not
take stay in libpq's buffer, the server waits for them, and both wait for ever. The end of a
pipeline, and a fetch inside it, write and read in turn and do not hang. `conn.transaction()` inside
a pipeline begins two more: execute BEGIN and COMMIT instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.pq import PipelineStatus


class NestedPipeline(AssertionError):
    """A pipeline is open on this connection: a mistake of the caller."""


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
