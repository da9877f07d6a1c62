"""Evidence: what each part of a condition saw of a subject when something was decided of it.

It is recorded with the decision, so it is kept small: one entry for each test that a condition
makes of the subject itself, by JSON pointer. What was asked about the other kind is a number, for
what others did and are is theirs. `seen` says in plain Python what evidence is; the one that is
recorded is made by `projections.conditions.evidence`, in SQL, and the two are tested against each
other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from domain.calendar import Moment
from domain.conditions import language as ask
from domain.conditions.evaluation import World, holds, others_so, value_of
from domain.conditions.tree import parts

MAX_SEEN = 100
"""Tests of which evidence is kept, the first ones of a decision."""

MAX_SEEN_CHARS = 200
"""Of a text, and of each text of a list."""

MAX_SEEN_ITEMS = 20
"""Of a list."""

VALUE, HELD = "value", "held"
"""What an entry has: what the test saw (null: nothing there), and whether it held."""


def leaves(condition: ask.Condition, pointer: str) -> Iterator[tuple[str, ask.Condition]]:
    """The tests that a condition makes of its own subject, each with its JSON pointer. A question
    across the two kinds is one of them, whatever it asks about the others."""
    match condition:
        case ask.AllOf() | ask.OneOf() | ask.Not():
            for part, step in parts(condition):
                yield from leaves(part, f"{pointer}{step}")
        case _:
            yield pointer, condition


def all_leaves(asked: Mapping[str, ask.Condition]) -> list[tuple[str, ask.Condition]]:
    """The tests of which evidence is kept, of several conditions, each by where it stands."""
    found = [leaf for pointer, one in asked.items() for leaf in leaves(one, pointer)]
    return found[:MAX_SEEN]


def seen(
    asked: Mapping[str, ask.Condition], subject: UUID, world: World, moment: Moment
) -> dict[str, dict[str, Any]]:
    """What the tests of some conditions, each given by where it stands, see of a subject.

    What they see is, by the type of the test: a property's or an attribute's value, the number of
    occurrences, the stage, the health, the score's value, whether the signal is on, whether it is
    in the segment, whether there is such a membership, the number of the other kind that are so.
    Texts and lists are cut short, instants are ISO 8601 in UTC."""
    return {
        pointer: {
            VALUE: short(_value(leaf, subject, world, moment)),
            HELD: holds(leaf, subject, world, moment),
        }
        for pointer, leaf in all_leaves(asked)
    }


def _value(leaf: ask.Condition, subject: UUID, world: World, moment: Moment) -> object:
    if isinstance(leaf, ask.OfAccounts | ask.OfUsers):
        return sum(others_so(leaf.where, subject, world, moment))
    return value_of(leaf, subject, world, moment)


def short(value: object) -> Any:
    """A value as evidence keeps it."""
    if isinstance(value, str):
        return value[:MAX_SEEN_CHARS]
    if isinstance(value, list):
        return [one[:MAX_SEEN_CHARS] for one in value[:MAX_SEEN_ITEMS]]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return value


def held(
    condition: ask.Condition, pointer: str, saw: Mapping[str, Mapping[str, Any]]
) -> bool | None:
    """Whether a condition held, told from what its tests saw; None: too little of it was kept."""
    match condition:
        case ask.Not(of):
            inner = held(of, f"{pointer}/of", saw)
            return None if inner is None else not inner
        case ask.AllOf() | ask.OneOf():
            decisive = isinstance(condition, ask.OneOf)
            found = [held(part, f"{pointer}{step}", saw) for part, step in parts(condition)]
            if decisive in found:
                return decisive
            return None if None in found else not decisive
        case _:
            entry = saw.get(pointer)
            return None if entry is None else bool(entry[HELD])
