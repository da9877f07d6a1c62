"""A row of the log and its stored, hashed and bound bytes, as docs/log-format.md specifies."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from domain.events.recorded import SealedEvent
from domain.identity import SubjectId

GENESIS = bytes(32)
"""The hash that the first row of a partition is chained to."""

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NULL = struct.pack(">i", -1)
_ID = struct.pack(">i", 16)
_LENGTH = struct.Struct(">i")
_PLACE = struct.Struct(">ihiq")
_BIGINT = struct.Struct(">iq")
_VERSIONED = struct.Struct(">i16siqi16s")
_UNVERSIONED = struct.Struct(">i16sii16s")
_SCHEMA = struct.Struct(">ihi")
_MICROSECONDS = struct.Struct(">q")


def microseconds(at: datetime) -> int:
    """Since 2000-01-01 UTC: how PostgreSQL counts an instant."""
    return (at - _EPOCH) // _MICROSECOND


def envelope(
    stream: int,
    version: int | None,
    event_id: bytes,
    account: SubjectId | None,
    topic: str,
    schema_version: int,
    occurred_at: datetime,
) -> bytes:
    """Returns the stored bytes from `stream` to `occurred_at`; sealed parts are bound to them."""
    at = (occurred_at - _EPOCH) // _MICROSECOND
    if version is None and account is None:
        pack, middle = _tracked(topic, schema_version)
        return pack(16, stream.to_bytes(16), -1, 16, event_id, middle, at)
    if version is None:
        start = _UNVERSIONED.pack(16, stream.to_bytes(16), -1, 16, event_id)
    else:
        start = _VERSIONED.pack(16, stream.to_bytes(16), 8, version, 16, event_id)
    middle = _NULL if account is None else _ID + account.int.to_bytes(16)
    return start + middle + _topic_and_schema(topic, schema_version) + _MICROSECONDS.pack(at)


@lru_cache(maxsize=1_024)
def _topic_and_schema(topic: str, schema_version: int) -> bytes:
    """With the length of the instant that follows."""
    text = topic.encode()
    return _LENGTH.pack(len(text)) + text + _SCHEMA.pack(2, schema_version, 8)


@lru_cache(maxsize=1_024)
def _tracked(topic: str, schema_version: int) -> tuple[Callable[..., bytes], bytes]:
    """How most envelopes, without version and account, are packed in one go."""
    middle = _NULL + _topic_and_schema(topic, schema_version)
    return struct.Struct(f"{_UNVERSIONED.format}{len(middle)}sq").pack, middle


def envelope_of(row: SealedEvent) -> bytes:
    return envelope(
        row.stream.int,
        row.version,
        row.event_id.int.to_bytes(16),
        row.account,
        row.topic,
        row.schema_version,
        row.occurred_at,
    )


def stored(
    partition: int,
    position: int,
    envelope: bytes,
    recorded_at: bytes,
    state: bytes,
    account_state: bytes | None,
) -> bytes:
    """The bytes that a row's hash covers, from the stored bytes of its envelope and instant."""
    return b"".join(
        (
            _PLACE.pack(2, partition, 8, position),
            envelope,
            recorded_at,
            _LENGTH.pack(len(state)),
            state,
            _NULL if account_state is None else _LENGTH.pack(len(account_state)) + account_state,
        )
    )


def instant(at: datetime) -> bytes:
    """The stored bytes of `recorded_at`."""
    return _BIGINT.pack(8, microseconds(at))


def stored_bytes(row: SealedEvent, partition: int, position: int, recorded_at: datetime) -> bytes:
    """The bytes of a row that its hash covers."""
    bound, at = envelope_of(row), instant(recorded_at)
    return stored(partition, position, bound, at, row.state, row.account_state)


def chained(previous: bytes, stored: bytes) -> bytes:
    """The hash that a row holds: SHA-256 of the hash before it and of its own stored bytes."""
    return hashlib.sha256(previous + stored).digest()
