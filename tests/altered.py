"""Rows of the log that somebody altered in the database, as only its owner can."""

from __future__ import annotations

from domain.commands import Position
from domain.identity import SubjectId
from tests.projections.read_models import owner

ALTERATIONS = {
    "state": "state = set_byte(state, 20, get_byte(state, 20) # 1)",
    "cut": "state = substring(state FOR 9)",
    "emptied": "state = ''",
    "later": "occurred_at = occurred_at + interval '1 second'",
    "event id": "event_id = '5e9ae000-0000-4000-8000-00000000000e'",
    "another topic": "topic = 'user.absorbed'",
    "no topic": "topic = 'user.nonsense'",
    "newer": "schema_version = 99",
    "never": "recorded_at = '-infinity', state = substring(state FOR 12)",
}
"""What makes a row of a user not open, by name, as assignments."""

KNOWN_TOPICS = set(ALTERATIONS) - {"no topic"}


def _of(place: Position) -> tuple[int, int]:
    return place.log_partition, place.position


def alter(url: str, place: Position, assignment: str) -> None:
    """Alters one row."""
    with owner(url) as conn:
        done = conn.execute(
            f"UPDATE log.events SET {assignment} WHERE log_partition = %s AND position = %s",
            _of(place),
        )
    assert done.rowcount == 1


def swap(url: str, position: Position, other: Position) -> None:
    """Gives each of two rows what the other holds."""
    with owner(url) as conn, conn.transaction():
        held = [
            conn.execute(
                "SELECT state FROM log.events WHERE log_partition = %s AND position = %s",
                _of(place),
            ).fetchone()
            for place in (position, other)
        ]
        for place, row in zip((other, position), held, strict=True):
            assert row is not None
            conn.execute(
                "UPDATE log.events SET state = %s WHERE log_partition = %s AND position = %s",
                (row[0], *_of(place)),
            )


def restore(url: str, place: Position, state: bytes) -> None:
    """Puts back what a row held."""
    with owner(url) as conn:
        conn.execute(
            "UPDATE log.events SET state = %s WHERE log_partition = %s AND position = %s",
            (state, *_of(place)),
        )


def state_at(url: str, place: Position) -> bytes:
    """What a row holds, sealed."""
    with owner(url) as conn:
        row = conn.execute(
            "SELECT state FROM log.events WHERE log_partition = %s AND position = %s", _of(place)
        ).fetchone()
    assert row is not None
    return bytes(row[0])


def places_of(url: str, stream: SubjectId, topic: str) -> list[Position]:
    """Where events with a topic stand in a stream, in their order."""
    with owner(url) as conn:
        rows = conn.execute(
            "SELECT log_partition, position FROM log.events WHERE stream = %s AND topic = %s"
            " ORDER BY log_partition, position",
            (stream, topic),
        )
        return [Position(*row) for row in rows]
