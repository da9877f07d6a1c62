"""Recorded events: sealed, and opened where their keys still exist."""

from __future__ import annotations

import uuid
from datetime import datetime

import msgspec

from domain.events.event import Event
from domain.events.payloads import AccountPart, ActivitySummed, Payload
from domain.identity import SubjectId, SubjectKind


class SealedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event as it is stored: sealed, with its envelope in clear.

    Attributes:
        stream: the subject that the event is about.
        version: place in the aggregate's history, from 1; None for tracked activity.
        event_id: random; binds the sealed parts to this row.
        account: the account that a user's event concerns.
        state: payload, sealed under the stream's key.
        account_state: what the account keeps, sealed under the account's key.
    """

    stream: SubjectId
    version: int | None
    event_id: uuid.UUID
    account: SubjectId | None
    topic: str
    schema_version: int
    occurred_at: datetime
    state: bytes
    account_state: bytes | None


class RecordedEvent(SealedEvent, frozen=True, gc=False):
    """A row read back, with its place, its time of recording and its link of the chain."""

    log_partition: int
    position: int
    recorded_at: datetime
    hash: bytes


class OpenedEvent(msgspec.Struct, frozen=True):
    """A recorded event, opened where its keys still exist.

    Attributes:
        payload: None where the stream's subject is erased.
        account_part: None where there is none, or the account is erased.
        account_sums: the account's sums of activity that is no longer kept; None as for
            `account_part`.
        is_kept: False for tracked activity that is no longer kept; neither part opens then.
    """

    row: RecordedEvent
    payload: Payload | None
    account_part: AccountPart | None = None
    account_sums: ActivitySummed | None = None
    is_kept: bool = True

    @property
    def kind(self) -> SubjectKind:
        return SubjectKind(self.row.topic.partition(".")[0])


def event_of(opened: OpenedEvent, payload: Payload) -> Event:
    """The domain event that a row holds, with its payload."""
    row = opened.row
    return Event(opened.kind, row.stream, row.version, row.occurred_at, payload, row.account)
