"""Evidence: the value that each test of a condition had when a definition decided about a subject.

The decision records it, so it is small: an entry for each test of the subject itself, by JSON
pointer. A test of the other kind records a number only, for the data of others is theirs.
`projections.conditions.evidence` makes the recorded evidence in SQL; `evidence_of` defines it in
plain Python, and tests compare the two.
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
"""Entries of a decision; further tests are left out."""

MAX_SEEN_CHARS = 200
"""Characters of a text, and of each text of a list."""

MAX_SEEN_ITEMS = 20
"""Items of a list."""

VALUE, HELD = "value", "held"
"""Fields of an entry: the value (null: none), and whether the test held."""


def leaves(condition: ask.Condition, pointer: str) -> Iterator[tuple[str, ask.Condition]]:
    """The tests that a condition makes of its own subject, each with its JSON pointer. A question
    about the other kind is a single test."""
    match condition:
        case ask.AllOf() | ask.OneOf() | ask.Not():
            for part, step in parts(condition):
                yield from leaves(part, f"{pointer}{step}")
        case _:
            yield pointer, condition


def all_leaves(conditions: Mapping[str, ask.Condition]) -> list[tuple[str, ask.Condition]]:
    """The first `MAX_SEEN` tests of several conditions, given by JSON pointer."""
    tests = [
        leaf for pointer, condition in conditions.items() for leaf in leaves(condition, pointer)
    ]
    return tests[:MAX_SEEN]


def evidence_of(
    conditions: Mapping[str, ask.Condition], subject: UUID, world: World, moment: Moment
) -> dict[str, dict[str, Any]]:
    """The evidence of several conditions, given by JSON pointer, about a subject.

    The value of an entry is, by the type of the test: the value of a property or an attribute, the
    number of occurrences, the stage, the health, the score's value, whether the signal is on,
    whether the subject is in the segment, whether it has such a membership, or how many of the
    other kind fulfil the condition. Texts and lists are cut; instants are ISO 8601 in UTC."""
    return {
        pointer: {
            VALUE: short(_value(leaf, subject, world, moment)),
            HELD: holds(leaf, subject, world, moment),
        }
        for pointer, leaf in all_leaves(conditions)
    }


def _value(leaf: ask.Condition, subject: UUID, world: World, moment: Moment) -> object:
    if isinstance(leaf, ask.OfAccounts | ask.OfUsers):
        return sum(others_so(leaf.where, subject, world, moment))
    return value_of(leaf, subject, world, moment)


def short(value: object) -> Any:
    """A value as evidence holds it: texts and lists cut, instants as text."""
    if isinstance(value, str):
        return value[:MAX_SEEN_CHARS]
    if isinstance(value, list):
        return [item[:MAX_SEEN_CHARS] for item in value[:MAX_SEEN_ITEMS]]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return value


def held_by_evidence(
    condition: ask.Condition, pointer: str, evidence: Mapping[str, Mapping[str, Any]]
) -> bool | None:
    """Whether a condition held, by its evidence; None where too much of that was left out."""
    match condition:
        case ask.Not(of):
            inner = held_by_evidence(of, f"{pointer}/of", evidence)
            return None if inner is None else not inner
        case ask.AllOf() | ask.OneOf():
            decisive = isinstance(condition, ask.OneOf)
            outcomes = [
                held_by_evidence(part, f"{pointer}{step}", evidence)
                for part, step in parts(condition)
            ]
            if decisive in outcomes:
                return decisive
            return None if None in outcomes else not decisive
        case _:
            entry = evidence.get(pointer)
            return None if entry is None else bool(entry[HELD])
