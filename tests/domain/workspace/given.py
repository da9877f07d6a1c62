"""Specs of definitions: given events, when a command, then events or a refusal.

given(
    DefinitionMade(IDS[0], LIFE, BY),
).when(
    editing.activate, IDS[0], BY
).then(
    DefinitionActivated(IDS[0], BY),
)
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Concatenate, NamedTuple, ParamSpec

from domain.definitions.types import Definition, DefinitionId
from domain.errors import Refusal
from domain.events.event import Event
from domain.events.payloads import Payload
from domain.identity import SubjectId
from domain.workspace import editing
from domain.workspace.definitions import Definitions
from tests.domain.given import compare, refused

P = ParamSpec("P")

BY = uuid.UUID(int=1)
STREAM = SubjectId(uuid.UUID(int=2))
NOON = datetime(2026, 5, 13, 12, tzinfo=UTC)
IDS = [DefinitionId(uuid.UUID(int=10 + n)) for n in range(6)]


class Caused(NamedTuple):
    """What a command caused, as lines to compare, and the state after it."""

    lines: list[str]
    state: Definitions

    def then(self, *expected: Payload | str) -> Caused:
        compare([one if isinstance(one, str) else repr(one) for one in expected], self.lines)
        return self


class Given(NamedTuple):
    state: Definitions

    def when(
        self,
        command: Callable[Concatenate[Definitions, P], Sequence[Payload]],
        *args: P.args,
        **options: P.kwargs,
    ) -> Caused:
        try:
            payloads = command(self.state, *args, **options)
        except Refusal as refusal:
            line = refused(refusal.code, refusal.detail, refusal.pointer)
            return Caused([line], self.state)
        return Caused([repr(payload) for payload in payloads], after(self.state, payloads))


def given(*payloads: Payload) -> Given:
    return Given(after(Definitions(), payloads))


def after(state: Definitions, payloads: Sequence[Payload], at: datetime = NOON) -> Definitions:
    """The state after further events."""
    for payload in payloads:
        family = state.family_of(payload)
        state = state.evolve(Event(family, STREAM, state.version + 1, at, payload))
    return state


def made(state: Definitions, *definitions: Definition) -> Definitions:
    """The state with more definitions that are active, the n-th under `IDS[n]`."""
    for definition in definitions:
        id = IDS[len(state.current)]
        state = after(state, editing.make(state, id, definition, BY))
        state = after(state, editing.activate(state, id, BY))
    return state
