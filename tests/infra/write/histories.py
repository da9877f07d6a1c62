"""Histories of users, written straight to the log."""

from __future__ import annotations

import uuid

from domain.activity import Activity, ActivityKind
from domain.events.event import Event
from domain.events.payloads import PropertiesChanged, Registered, Tracked
from domain.identity import Identity, Scheme, SubjectId, SubjectKind
from domain.subjects.history import new_subject, replay
from infra.bootstrap.annals import Annals
from tests.infra.rows import AT

LOGIN = Tracked(Activity(ActivityKind.EVENT, "login"))


def new() -> SubjectId:
    return SubjectId(uuid.uuid4())


def history(user: SubjectId, count: int) -> list[Event]:
    begun = Registered((Identity(Scheme.USER_ID, str(user)),))
    payloads = [begun, *(PropertiesChanged({f"p{n % 7}": n}) for n in range(2, count + 1))]
    return [Event(SubjectKind.USER, user, n, AT, payload) for n, payload in enumerate(payloads, 1)]


def append(annals: Annals, *events: Event) -> None:
    annals.log.append(annals.sealer.seal_events(events))


def from_the_beginning(events: list[Event]) -> object:
    return replay(new_subject(SubjectKind.USER, events[0].stream), events)
