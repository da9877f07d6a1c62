"""An event as the domain sees it: an envelope in clear, and an opened payload."""

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
from domain.events.topics import _TOPIC, _TRACKED_TOPIC, StreamKind
from domain.identity import SubjectId


class Event(msgspec.Struct, frozen=True):
    """An event as the domain sees it: envelope and opened payload.

    Attributes:
        kind: what the stream is about.
        stream: the subject that the event is about, or the stream of definitions.
        version: place in the aggregate's history, from 1; None for tracked activity, which no
            aggregate loads.
        occurred_at: by the sender's account, aware, UTC.
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
            return _TRACKED_TOPIC[self.kind, payload.activity.kind]
        return _TOPIC[self.kind, type(payload)]

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
        """Whether the account has to be there still: not for what was begun before it was erased,
        and only ends or is taken over now."""
        payload = self.payload
        if isinstance(payload, MembershipStarted):
            return payload.taken_from is None
        return not isinstance(payload, MembershipEnded | ActivitySummed)
