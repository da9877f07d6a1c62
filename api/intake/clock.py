"""When a message occurred, by a sender's clock that may be off.

As Segment does: a message that was written ten seconds before it was sent occurred ten seconds
before it was received, whatever the sender's clock shows.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from domain.activity import occurrence
from domain.errors import InvalidInput
from domain.identity import json_type

WRONG_CLOCK = timedelta(minutes=5)
"""From here on, the time between sending and receipt is no latency: the sender's clock is off."""

LONGEST_WAIT = timedelta(days=30)
"""A message that was to be sent this long after its time does not have that time from the clock
that sent it: it tells of the past, and is left where it says."""

SKEW_WORTH_NOTING = timedelta(seconds=1)


def instant(sent: object) -> datetime | None:
    """A `sentAt`; None: it is no instant."""
    if not isinstance(sent, str):
        return None
    try:
        at = datetime.fromisoformat(sent.strip())
        return None if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def skew(received_at: datetime, sent_at: datetime | None) -> float | None:
    """Seconds from sending, by the sender's clock, to receipt; None: below a second, or unknown."""
    if sent_at is None or abs(received_at - sent_at) < SKEW_WORTH_NOTING:
        return None
    return (received_at - sent_at).total_seconds()


def occurred_at(timestamp: object, received_at: datetime, sent_at: datetime | None) -> datetime:
    """The instant of a message, never after its receipt.

    Args:
        timestamp: as sent; null or empty: the message occurred when it was received.

    Raises:
        InvalidInput: no date with a zone, at `/timestamp`.
    """
    if timestamp is None:
        return received_at
    if not isinstance(timestamp, str):
        raise InvalidInput(
            f"expected a date (ISO 8601), got {json_type(timestamp)}", pointer="/timestamp"
        )
    text = timestamp.strip()
    if not text:
        return received_at
    at = _read(text)
    if sent_at is not None:
        at = _corrected(at, received_at, sent_at)
    return min(at, received_at)


def _read(timestamp: str) -> datetime:
    try:
        if not timestamp.isascii() or not timestamp.isprintable():
            raise ValueError
        at = datetime.fromisoformat(timestamp)
    except ValueError:
        raise InvalidInput("the timestamp is no date (ISO 8601)", pointer="/timestamp") from None
    if at.tzinfo is None:
        raise InvalidInput(
            "the timestamp has no zone; end it with Z or an offset like +02:00",
            pointer="/timestamp",
        )
    try:
        return occurrence(at)
    except ValueError as reason:
        raise InvalidInput(str(reason), pointer="/timestamp") from None


def _corrected(at: datetime, received_at: datetime, sent_at: datetime) -> datetime:
    """The instant by our clock, where the sender's is off and wrote it."""
    off = received_at - sent_at
    if abs(off) < WRONG_CLOCK or not -WRONG_CLOCK <= sent_at - at <= LONGEST_WAIT:
        return at
    return at + off
