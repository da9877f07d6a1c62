"""Specs of the domain: given events, when commands, then events and refusals. No server, no clock.

    given(
        ada(Registered(names("u1"))),
    ).when(
        identify("u1", plan="pro"),
        leave("u1", "a1"),
    ).then(
        ada(PropertiesChanged({"plan": "pro"})),
        refused("not-found", "there is no such account"),
    )

`then` lists all that the commands cause, in their order: events, commands that are refused
(`refused`) and values that are left out (`left_out`).
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from difflib import ndiff
from itertools import count
from typing import NamedTuple

import pytest

from domain.commands import Command, Track
from domain.errors import Refusal
from domain.events.event import Event
from domain.events.payloads import (
    Absorbed,
    Erased,
    Identified,
    MergedInto,
    Payload,
    Registered,
    Tracked,
)
from domain.identity import Known, SubjectId, SubjectKind
from domain.name_rules import NAMES_PER_SCOPE, NameScope
from domain.properties import PropertyType
from domain.subjects.account import Account
from domain.subjects.command_batch import CommandBatch, Target, new_names
from domain.subjects.history import new_subject, replay
from domain.subjects.user import User
from tests.commands import AT, named

FIRST_NEW = 1_000
SOMEBODY = uuid.UUID(int=99)
"""The API key behind what a person does."""


class Party(NamedTuple):
    """A subject of a spec. Called with a payload, it gives an event of its stream."""

    name: str
    kind: SubjectKind
    id: SubjectId

    def __call__(self, payload: Payload, account: Party | None = None, at: datetime = AT) -> Event:
        return Event(self.kind, self.id, None, at, payload, account and account.id)


def _party(name: str, kind: SubjectKind, number: int) -> Party:
    return Party(name, kind, SubjectId(uuid.UUID(int=number)))


ada, bob, cyd = (
    _party(name, SubjectKind.USER, n) for n, name in enumerate(("ada", "bob", "cyd"), 1)
)
acme, beta = (_party(name, SubjectKind.ACCOUNT, 10 + n) for n, name in enumerate(("acme", "beta")))


def new_user(n: int = 1) -> Party:
    """The n-th subject that the commands make, a user."""
    return _party(f"new {n}", SubjectKind.USER, FIRST_NEW + n)


def new_account(n: int = 1) -> Party:
    """The n-th subject that the commands make, an account."""
    return _party(f"new {n}", SubjectKind.ACCOUNT, FIRST_NEW + n)


def refused(code: str, detail: str, pointer: str = "") -> str:
    """Nothing of a command is carried out."""
    return f"refused as {code}{f' at {pointer}' if pointer else ''}: {detail}"


def left_out(name: str, reason: str) -> str:
    """A value is left out of a command that is carried out."""
    return f"left out {name}: {reason}"


class Caused(NamedTuple):
    """What commands caused, as lines to compare."""

    lines: list[str]
    events: list[Event]
    history: list[Event]
    batch: CommandBatch

    def then(self, *expected: Event | str) -> Caused:
        events = _numbered(self.history, [one for one in expected if isinstance(one, Event)])
        compare(
            [one if isinstance(one, str) else _line(next(events)) for one in expected], self.lines
        )
        return self

    def state(self, party: Party) -> User | Account:
        """The state of a subject that the batch decided on."""
        return self.batch.states[party.id]

    def user(self, party: Party) -> User:
        state = self.state(party)
        assert isinstance(state, User)
        return state


class Given:
    """Subjects with a history, and a catalogue of names."""

    def __init__(
        self,
        events: Sequence[Event],
        types: Mapping[NameScope, Mapping[str, PropertyType]],
        retired: Mapping[NameScope, Sequence[str]],
        claimed: Mapping[str, Party],
        names_per_scope: int,
    ) -> None:
        self.history: list[Event] = []
        self.history += _numbered(self.history, events)
        self._types = {scope: dict(types.get(scope, {})) for scope in NameScope}
        self._retired = {scope: retired.get(scope, ()) for scope in NameScope}
        self._names_per_scope = names_per_scope
        self._known = known_identities(self.history)
        for text, party in claimed.items():
            self._known[named(text).scheme, named(text).matching] = party.id

    def state_of(self, id: SubjectId, kind: SubjectKind | None = None) -> User | Account:
        """A subject's state after the given events.

        Args:
            kind: of a subject that may have no event.
        """
        stream = [event for event in self.history if event.stream == id]
        numbered = [event for event in stream if event.version is not None]
        return replay(new_subject(kind or SubjectKind(stream[0].kind), id), numbered)

    def user(self, party: Party) -> User:
        state = self.state_of(party.id, party.kind)
        assert isinstance(state, User)
        return state

    def account(self, party: Party) -> Account:
        state = self.state_of(party.id, party.kind)
        assert isinstance(state, Account)
        return state

    def when(self, *commands: Command) -> Caused:
        """Decides the commands as one batch."""
        self._name(commands)
        first = max((FIRST_NEW, *(event.stream.int for event in self.history))) + 1
        new_ids = (SubjectId(uuid.UUID(int=n)) for n in count(first))
        batch = CommandBatch(
            self._types.__getitem__,
            self._retired.__getitem__,
            dict(self._known),
            lambda: next(new_ids),
        )
        targets = [batch.resolve(command) for command in commands]
        for command, target in zip(commands, targets, strict=True):
            self._load(batch, command, target)
        lines: list[str] = []
        events: list[Event] = []
        for command, target in zip(commands, targets, strict=True):
            if isinstance(target, Refusal):
                lines.append(refused(target.code, target.detail, target.pointer))
                continue
            caused, values = batch.decide(command, target)
            events += caused
            lines += [_line(event) for event in caused]
            lines += [left_out(value.name, value.reason) for value in values]
        return Caused(lines, events, self.history, batch)

    def _name(self, commands: Sequence[Command]) -> None:
        """Takes new names into the catalogue, up to its limit, as the writer does."""
        for (scope, name), type in sorted(new_names(commands, self._types.__getitem__).items()):
            names = self._types[scope]
            if name not in self._retired[scope] and len(names) < self._names_per_scope:
                names[name] = type

    def _load(self, batch: CommandBatch, command: Command, target: Target | Refusal) -> None:
        """Loads what a command decides on. Tracked activity loads no subject that has begun."""
        for resolution, kind in () if isinstance(target, Refusal) else target:
            losers = [merge.loser for merge in resolution.merges]
            for id in (resolution.subject, *losers):
                state = self.state_of(id, kind)
                is_only_tracked = isinstance(command, Track) and not (resolution.claims or losers)
                if id not in batch.states and not (is_only_tracked and state.version):
                    batch.states[id] = state


def given(
    *events: Event,
    types: Mapping[NameScope, Mapping[str, PropertyType]] | None = None,
    retired: Mapping[NameScope, Sequence[str]] | None = None,
    claimed: Mapping[str, Party] | None = None,
    names_per_scope: int = NAMES_PER_SCOPE,
) -> Given:
    """
    Args:
        types: the names of the catalogue, with their types.
        retired: names that an admin retired.
        claimed: identities of subjects that have no event, for their writer died before it.
        names_per_scope: the limit of the catalogue.
    """
    return Given(events, types or {}, retired or {}, claimed or {}, names_per_scope)


def known_identities(history: Sequence[Event]) -> Known:
    """The subject of each identity after these events, as the identity index has it."""
    known: Known = {}
    for event in history:
        match event.payload:
            case Registered(identities) | Identified(identities):
                known |= {(one.scheme, one.matching): event.stream for one in identities}
            case Absorbed(_, identities):
                known |= {(one.scheme, one.matching): event.stream for one in identities}
            case MergedInto(survivor):
                for key, owner in known.items():
                    known[key] = survivor if owner == event.stream else owner
            case Erased():
                known = {key: owner for key, owner in known.items() if owner != event.stream}
    return known


def compare(expected: list[str], caused: list[str]) -> None:
    __tracebackhide__ = True
    if expected != caused:
        pytest.fail("\n".join(("", *ndiff(expected, caused))), pytrace=False)


def _numbered(history: Sequence[Event], events: Sequence[Event]) -> Iterator[Event]:
    """With their versions, which go on from those of the history; tracked activity has none."""
    versions: dict[SubjectId, int] = defaultdict(int)
    for event in history:
        versions[event.stream] = max(versions[event.stream], event.version or 0)
    for event in events:
        if isinstance(event.payload, Tracked | Erased):
            yield event
            continue
        versions[event.stream] += 1
        yield Event(
            event.kind,
            event.stream,
            versions[event.stream],
            event.occurred_at,
            event.payload,
            event.account,
        )


def _line(event: Event) -> str:
    version = "" if event.version is None else f" {event.version}"
    account = "" if event.account is None else f" in {_name_of(event.account)}"
    at = "" if event.occurred_at == AT else f" at {event.occurred_at:%Y-%m-%d %H:%M}"
    return f"{event.kind} {_name_of(event.stream)}{version}: {event.payload!r}{account}{at}"


def _name_of(id: SubjectId) -> str:
    for party in (ada, bob, cyd, acme, beta):
        if party.id == id:
            return party.name
    return f"new {id.int - FIRST_NEW}" if id.int > FIRST_NEW else str(id)
