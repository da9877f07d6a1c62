"""Parked events: those that a reader of the log lacks, and what an admin decides about them.

An event that cannot be applied is parked, and the later events of its stream wait behind it, so
that each stream is applied in its order. What is about an erasure waits for nothing and is never
skipped: values would stay that have to go.
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
"""Topics of events that decide about the workspace: the read models take what these decide from the
definitions as they stand, in which nothing is skipped."""


class ParkedState(enum.StrEnum):
    """
    failed: it could not be applied.
    waiting: an earlier event of its stream could not be, or was not tried again yet.
    skipped: an admin decided to go on without it.
    """

    FAILED = "failed"
    WAITING = "waiting"
    SKIPPED = "skipped"


OPEN_STATES = (ParkedState.FAILED, ParkedState.WAITING)


class Skip(msgspec.Struct, frozen=True):
    """The decision to go on without an event.

    Attributes:
        reason: null: it went with the key of whom the event was about.
        by: id of the API key, or `operator`.
    """

    reason: str | None
    by: str
    at: datetime


class ParkedEvent(msgspec.Struct, frozen=True):
    """An event that a reader lacks.

    Attributes:
        reader: `main`: the read models; others by their own names, like `counters`.
        position: partition and position in the log, like `12:345`.
        subject: the stream that it is in: a user, an account, a segment's list, or definitions.
        error: the kind of error; null: it was not tried.
        tries: how often it was tried by hand and otherwise.
        tried_at: when for the last time, by hand; null: never.
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
    """What became of the parked events of a stream when they were tried again, in their order.

    Attributes:
        applied: how many the read models have now.
        left: how many are still parked.
        error: the kind of error of the first of them; null: none is left.
    """

    applied: int
    left: int
    error: str | None


def checked_skip_reason(reason: str) -> str:
    """Raises: InvalidInput: none, or one that is too long or not text."""
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
