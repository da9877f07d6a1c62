"""Commands, short to write, for the tests of the handler."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from domain.activity import Activity, ActivityKind
from domain.commands import Alias, Change, Command, Join, Leave, Outcome, Request, Stored, Track
from domain.events.event import Event
from domain.identity import Identity, Scheme, SubjectId, SubjectKind
from domain.subjects.aggregates import Account, User
from infra.bootstrap import Annals

AT = datetime(2026, 5, 13, 12, tzinfo=UTC)


def named(name: str) -> Identity:
    """An identity by its look: `u1`, `ada@example.com`, `a1`, `example.com`."""
    if "@" in name:
        return Identity(Scheme.EMAIL, name)
    if "." in name:
        return Identity(Scheme.DOMAIN, name)
    return Identity(Scheme.USER_ID if name.startswith("u") else Scheme.ACCOUNT_ID, name)


def names(text: str) -> tuple[Identity, ...]:
    return tuple(named(name) for name in text.split())


def identify(who: str, at: datetime = AT, **properties: object) -> Command:
    kind = names(who)[0].scheme.kind
    return Change(kind, names(who), properties, at)


def group(user: str, account: str, at: datetime = AT, **membership: object) -> Command:
    return Join(names(user), names(account), {}, membership, at)


def leave(user: str, account: str, at: datetime = AT) -> Command:
    return Leave(names(user), names(account), at)


def track(user: str = "", account: str = "", *events: str, at: datetime = AT) -> Command:
    done = tuple(Activity(ActivityKind.EVENT, each) for each in events or ("login",))
    return Track(names(user), names(account), done, at)


def alias(user: str, previous: str, at: datetime = AT) -> Command:
    return Alias(names(user), names(previous), at)


def send(annals: Annals, *commands: Command) -> list[Outcome]:
    return annals.handler.handle([Request(command, str(uuid.uuid4())) for command in commands])


def stored(annals: Annals, *commands: Command) -> None:
    for outcome in send(annals, *commands):
        assert isinstance(outcome, Stored), outcome


def subject_of(annals: Annals, name: str) -> SubjectId | None:
    return annals.handler.find(named(name))


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


def values(identities: Sequence[Identity]) -> list[str]:
    return [name.value for name in identities]
