"""Event: the envelope in clear and the decrypted payload of an event of the log."""

from __future__ import annotations

from datetime import datetime

import msgspec

from domain.events.payloads import (
    AccountPart,
    ActivitySummed,
    MembershipEnded,
    MembershipStarted,
    Payload,
    Tracked,
)
from domain.events.topics import TOPIC_OF_ACTIVITY, TOPIC_OF_PAYLOAD, StreamKind
from domain.identity import SubjectId


class Event(msgspec.Struct, frozen=True):
    """
    Attributes:
        kind: the kind of the stream.
        stream: the subject that the event is about, or the stream of definitions.
        version: in the aggregate's history, from 1; None for tracked activity, which no aggregate
            loads.
        occurred_at: as the sender says; aware, UTC.
        account: the account that a user's event concerns.
    """

    kind: StreamKind
    stream: SubjectId
    version: int | None
    occurred_at: datetime
    payload: Payload
    account: SubjectId | None = None

    @property
    def topic(self) -> str:
        payload = self.payload
        if isinstance(payload, Tracked):
            return TOPIC_OF_ACTIVITY[self.kind, payload.activity.kind]
        return TOPIC_OF_PAYLOAD[self.kind, type(payload)]

    @property
    def account_part(self) -> AccountPart | ActivitySummed | None:
        if self.account is None:
            return None
        match self.payload:
            case Tracked(activity):
                return AccountPart(activity.name)
            case ActivitySummed():
                return self.payload
            case _:
                return None

    @property
    def needs_account(self) -> bool:
        """Whether an append requires the account's key: not for a membership that began before
        the account was erased, and only ends or is taken over now."""
        payload = self.payload
        if isinstance(payload, MembershipStarted):
            return payload.taken_from is None
        return not isinstance(payload, MembershipEnded | ActivitySummed)
