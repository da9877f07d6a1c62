"""Parked events: events that a reader of the log could not apply, and an admin's decision on them.

A reader parks an event that it cannot apply. Later events of the stream wait behind it, so that
each stream is applied in order. An event of an erasure never waits and is never skipped, because
erased values would stay.
"""

from __future__ import annotations

import enum
from datetime import datetime
from uuid import UUID

import msgspec

from domain.definitions.types import DefinitionKind
from domain.errors import InvalidInput
from domain.events.definitions import (
    DefinitionChanged,
    DefinitionCleaned,
    DefinitionMade,
    NamesRestored,
    NamesRetired,
    PropertyTypeChanged,
)
from domain.events.payloads import Erased
from domain.events.topics import PAYLOAD_OF_TOPIC

MAX_REASON_CHARS = 1_000

ERASED_TOPICS = frozenset(t for t, payload in PAYLOAD_OF_TOPIC.items() if payload is Erased)

ERASING_TOPICS = ERASED_TOPICS | {
    topic for topic, payload in PAYLOAD_OF_TOPIC.items() if payload is DefinitionCleaned
}
"""Topics of events by which an erasure reaches the read models."""

_RULING_PAYLOADS = (
    NamesRetired,
    NamesRestored,
    PropertyTypeChanged,
    DefinitionMade,
    DefinitionChanged,
)

RULING_TOPICS = frozenset(
    topic
    for topic, payload in PAYLOAD_OF_TOPIC.items()
    if payload in _RULING_PAYLOADS and topic.startswith(f"{DefinitionKind.SETTINGS}.")
)
"""Topics of events about the workspace. Read models take their effect from the definitions, which
skip no event."""


class ParkedState(enum.StrEnum):
    """
    failed: the reader could not apply the event.
    waiting: an earlier event of the stream failed, or the event was not retried yet.
    skipped: an admin decided to continue without the event.
    """

    FAILED = "failed"
    WAITING = "waiting"
    SKIPPED = "skipped"


OPEN_STATES = (ParkedState.FAILED, ParkedState.WAITING)


class Skip(msgspec.Struct, frozen=True):
    """The decision to continue without an event.

    Attributes:
        reason: as the admin typed it; null: destroyed with the key of the event's subject.
        by: id of the API key, or `operator`.
    """

    reason: str | None
    by: str
    at: datetime


class ParkedEvent(msgspec.Struct, frozen=True):
    """An event that a reader did not apply.

    Attributes:
        reader: `main` for the read models; others by name, like `counters`.
        position: partition and position in the log, like `12:345`.
        subject: its stream: a user, an account, a segment's list, or the definitions.
        error: the kind of error; null: not tried.
        tries: the number of tries, automatic and manual.
        tried_at: the last manual try; null: none.
        skip: null unless it is skipped.
    """

    reader: str
    position: str
    state: ParkedState
    subject: UUID | None
    topic: str | None
    error: str | None
    tries: int
    parked_at: datetime
    tried_at: datetime | None
    skip: Skip | None = None


class Retried(msgspec.Struct, frozen=True):
    """The result of retrying the parked events of a stream, in order.

    Attributes:
        applied: the number of events that were applied.
        left: the number of events that are still parked.
        error: the kind of error of the first of these; null: none is left.
    """

    applied: int
    left: int
    error: str | None


def checked_skip_reason(reason: str) -> str:
    """The reason without blanks at its ends.

    Raises:
        InvalidInput: empty, too long, or not storable as text.
    """
    reason = reason.strip()
    if not 0 < len(reason) <= MAX_REASON_CHARS or "\0" in reason:
        raise InvalidInput(
            f"say why, in 1 to {MAX_REASON_CHARS:,} characters: the reason stays on record",
            pointer="/reason",
        )
    try:
        reason.encode()
    except UnicodeEncodeError:
        raise InvalidInput(
            "the reason is no text: it has half a character", pointer="/reason"
        ) from None
    return reason
