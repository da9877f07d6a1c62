"""The log's format, written a second time from docs/log-format.md. Nothing of `infra` is used."""

from __future__ import annotations

import hashlib
import struct
import uuid
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime

import psycopg

GENESIS = bytes(32)
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

COLUMNS = """log_partition, position, stream, version, event_id, account, topic, schema_version,
    occurred_at, recorded_at, state, account_state"""
SMALLINT, BIGINT, UUID, TEXT, INSTANT, BYTES = range(6)
TYPES = (SMALLINT, BIGINT, UUID, BIGINT, UUID, UUID, TEXT, SMALLINT, INSTANT, INSTANT, BYTES, BYTES)


def instant(at: datetime) -> int:
    since = at - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def field(kind: int, value: object) -> bytes:
    if value is None:
        return b"\xff\xff\xff\xff"
    if kind == SMALLINT:
        data = value.to_bytes(2, "big", signed=True)
    elif kind == BIGINT:
        data = value.to_bytes(8, "big", signed=True)
    elif kind == UUID:
        data = bytes.fromhex(str(value).replace("-", ""))
    elif kind == TEXT:
        data = value.encode("utf-8")
    elif kind == INSTANT:
        data = instant(value).to_bytes(8, "big", signed=True)
    else:
        data = bytes(value)
    return struct.pack(">i", len(data)) + data


def stored(columns: Sequence[object]) -> bytes:
    return b"".join(field(kind, value) for kind, value in zip(TYPES, columns, strict=True))


def link(previous: bytes, columns: Sequence[object]) -> bytes:
    return hashlib.sha256(previous + stored(columns)).digest()


def partition_of(stream: uuid.UUID) -> int:
    return zlib.crc32(stream.bytes) % 256


def problems(database_url: str) -> list[str]:
    """Everything about the log that is not as the format says."""
    faults: list[str] = []
    ends: dict[int, tuple[int, bytes]] = dict.fromkeys(range(256), (0, GENESIS))
    with psycopg.connect(database_url) as conn:
        # One snapshot for the rows and the heads, so that writers may go on meanwhile.
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        rows = conn.execute(
            f"SELECT {COLUMNS}, hash FROM log.events ORDER BY log_partition, position"
        )
        for *columns, digest in rows:
            partition, position, stream = columns[:3]
            end, previous = ends[partition]
            if position != end + 1:
                faults.append(f"{partition}: after {end} comes {position}")
            if partition != partition_of(stream):
                faults.append(f"{partition}:{position}: a stream of another partition")
            if digest != link(previous, columns):
                faults.append(f"{partition}:{position}: the hash does not follow")
            ends[partition] = (position, digest)
        heads = {
            partition: (head, digest)
            for partition, head, digest in conn.execute("SELECT * FROM log.heads")
        }
    if heads != ends:
        faults.append("the heads are not the last rows")
    return faults
