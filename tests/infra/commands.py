"""Commands, short to write, for the tests of the handler."""

from __future__ import annotations

import uuid

from domain.commands import Command, Outcome, Request, Stored
from domain.events.event import Event
from domain.identity import SubjectId, SubjectKind
from domain.subjects.account import Account
from domain.subjects.user import User
from infra.bootstrap.annals import Annals
from tests.commands import named


def send(annals: Annals, *commands: Command) -> list[Outcome]:
    return annals.handler.handle([Request(command, str(uuid.uuid4())) for command in commands])


def stored(annals: Annals, *commands: Command) -> None:
    for outcome in send(annals, *commands):
        assert isinstance(outcome, Stored), outcome


def subject_of(annals: Annals, name: str) -> SubjectId | None:
    return annals.subject_lookup.find(named(name))


def loaded(annals: Annals, name: str) -> User | Account:
    id = subject_of(annals, name)
    assert id is not None
    return annals.aggregates.load({id: named(name).scheme.kind})[id]


def user_of(annals: Annals, name: str) -> User:
    state = loaded(annals, name)
    assert isinstance(state, User)
    return state


def events_of(annals: Annals, *streams: SubjectId) -> list[Event]:
    """Every event of some streams that still opens, in the order of the log by stream."""
    annals.sealer.refresh()
    rows = annals.log.read_after(dict.fromkeys(range(256), 0), 1_000_000)
    return annals.sealer.open_events([row for row in rows if row.stream in streams])


def begun(annals: Annals, kind: SubjectKind) -> set[SubjectId]:
    """The subjects of a kind that the log knows, merged ones included."""
    rows = annals.log.read_after(dict.fromkeys(range(256), 0), 1_000_000)
    return {row.stream for row in rows if row.topic == f"{kind}.registered"}
