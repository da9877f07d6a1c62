"""The history of a subject: its first state, the events that follow, and their replay."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TypeVar

from domain.events.event import Event
from domain.events.payloads import Payload
from domain.identity import SubjectId, SubjectKind
from domain.subjects.account import Account
from domain.subjects.subject import Subject
from domain.subjects.user import User

S = TypeVar("S", bound=Subject)


def new_subject(kind: SubjectKind, id: SubjectId) -> User | Account:
    """The state of a subject before its first event."""
    return User(id) if kind is SubjectKind.USER else Account(id)


def replay(state: S, events: Iterable[Event]) -> S:
    """The state after `events`, in order of version."""
    for event in events:
        state = state.evolve(event)
    return state


def numbered(
    state: Subject, payloads: Iterable[Payload], at: datetime, account: SubjectId | None = None
) -> list[Event]:
    """The events that `payloads` become in the stream of `state`."""
    return [
        Event(state.kind, state.id, state.version + n, at, payload, account)
        for n, payload in enumerate(payloads, 1)
    ]
