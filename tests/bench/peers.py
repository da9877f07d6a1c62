"""What Annals is measured against: bare COPY, and the eventsourcing library's own machinery."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence

import psycopg
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg.conninfo import conninfo_to_dict

from domain.events.recorded import RecordedEvent

BARE_TABLE = """
CREATE SCHEMA IF NOT EXISTS bench;
DROP TABLE IF EXISTS bench.bare;
CREATE TABLE bench.bare (LIKE log.events INCLUDING STORAGE INCLUDING INDEXES);
"""

COPY_BARE = """
COPY bench.bare (log_partition, position, stream, version, event_id, account, topic,
                 schema_version, occurred_at, recorded_at, state, account_state, hash)
FROM STDIN (FORMAT binary)"""

_IDS, _TIMES, _BYTES = ["uuid", "uuid"], ["timestamptz"] * 2, ["bytea"] * 3
TYPES = ["int2", "int8", "uuid", "int8", *_IDS, "text", "int2", *_TIMES, *_BYTES]


class BareCopy:
    """Ready rows by psycopg's binary COPY into a table with the log's columns and indexes: no
    heads, no positions to take, no chain, no sealing. What a batch append can reach at the most."""

    def __init__(self, conninfo: str) -> None:
        self._conn = psycopg.connect(conninfo)
        self._conn.execute(BARE_TABLE)
        self._conn.commit()
        self._position = 0

    def append(self, rows: Sequence[RecordedEvent]) -> int:
        with self._conn.cursor() as cursor, cursor.copy(COPY_BARE) as copy:
            copy.set_types(TYPES)
            for row in rows:
                self._position += 1
                copy.write_row(
                    (
                        row.log_partition,
                        self._position,
                        row.stream,
                        row.version,
                        row.event_id,
                        row.account,
                        row.topic,
                        row.schema_version,
                        row.occurred_at,
                        row.recorded_at,
                        row.state,
                        row.account_state,
                        row.hash,
                    )
                )
        self._conn.commit()
        return len(rows)

    def close(self) -> None:
        self._conn.close()


class LibraryRecorder:
    """The library's PostgreSQL recorder as it comes: one order over all, under a table lock."""

    def __init__(self, conninfo: str, *, connections: int = 5) -> None:
        parts = conninfo_to_dict(conninfo)
        self.datastore = PostgresDatastore(
            dbname=parts["dbname"],
            host=parts["host"],
            port=parts["port"],
            user=parts["user"],
            password="",
            pool_size=connections,
            max_overflow=connections,
        )
        self.recorder = PostgresApplicationRecorder(
            self.datastore, events_table_name=f"events_{uuid.uuid4().hex[:8]}"
        )
        self.recorder.create_table()

    def append(self, events: Sequence[StoredEvent]) -> int:
        self.recorder.insert_events(events)
        return len(events)

    def close(self) -> None:
        self.datastore.close()


def stored_events(count: int, state_bytes: int) -> list[StoredEvent]:
    """Events as the library's recorder takes them, with as many bytes of state as ours have."""
    state = os.urandom(state_bytes)
    return [StoredEvent(uuid.uuid4(), 1, "user.event_tracked", state) for _ in range(count)]
