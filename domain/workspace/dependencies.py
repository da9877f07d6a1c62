"""What an answer rests on: which facts, of which subjects, can change whether a condition holds.

A fact is what a batch of events can say about a subject: that this property was written, that it
did this. A dependency names a fact and the way from the subject that it is about to the one that
is asked about: none where they are the same, else over memberships, from a user to its accounts
or from an account to its users, step by step.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from domain.calendar import moves_with_time
from domain.conditions import language as ask
from domain.definitions.types import DefinitionKind
from domain.identity import SubjectKind

EVERYTHING = "everything"
"""A subject began, was merged or was erased: whatever is asked about it is to be asked anew."""

IDENTITY, MEMBERSHIP, SEEN = "identity", "membership", "seen"
STAGE, HEALTH, SCORE, SIGNAL = "stage", "health", "score", "signal"
BY_HAND = "by_hand"
"""Somebody put a subject into a stage, or released it."""

PROPERTY, ACTIVITY, SEGMENT, LISTED = "property", "activity", "segment", "listed"

NAME_PROPERTIES = ("name", "full_name", "first_name", "firstName", "last_name", "lastName")
"""What the name of a subject is made of."""


class Fact(NamedTuple):
    """Something about a user, an account or a segment. `of` tells one property, name of activity,
    score, signal or segment from another: scores and signals by name in what conditions rest on,
    by id in what was decided."""

    kind: str
    what: str
    of: tuple[str, ...] = ()


class Dependency(NamedTuple):
    """`way` lists the kinds that the steps lead to; the last one is the kind asked about."""

    fact: Fact
    way: tuple[str, ...] = ()


def dependencies(condition: ask.Condition, kind: SubjectKind) -> set[Dependency]:
    """All that the answer about a user or an account rests on."""
    found: set[Dependency] = {_here(kind, EVERYTHING)}
    match condition:
        case ask.AllOf(of) | ask.OneOf(of):
            for one in of:
                found |= dependencies(one, kind)
        case ask.Not(one):
            found |= dependencies(one, kind)
        case ask.PropertyIs(name):
            found.add(_here(kind, PROPERTY, name))
        case ask.AttributeIs(name):
            found |= _attribute(name, kind)
        case ask.Did(activity, name):
            found.add(_here(kind, ACTIVITY, activity, name))
            if kind is SubjectKind.ACCOUNT and activity != "event":
                # An account's pages and the like are those of its members too.
                theirs = {_here(SubjectKind.USER, what, *of) for what, of in _of_member(condition)}
                found |= _over_memberships(theirs, kind)
        case ask.StageIs():
            found.add(_here(kind, STAGE))
        case ask.HealthIs():
            found.add(_here(kind, HEALTH))
        case ask.ScoreIs(score):
            found.add(_here(kind, SCORE, score))
        case ask.SignalIs(signal):
            found.add(_here(kind, SIGNAL, signal))
        case ask.InSegment(segment):
            found.add(_here(kind, SEGMENT, str(segment)))
        case ask.BelongsTo():
            found |= _over_memberships({_here(_other(kind), EVERYTHING)}, kind)
        case ask.OfAccounts(_, where) | ask.OfUsers(_, where):
            found |= _over_memberships(dependencies(where, _other(kind)), kind)
    return found


def of_list(segment: UUID, kind: SubjectKind) -> set[Dependency]:
    """What membership of a static segment rests on."""
    return {_here(kind, EVERYTHING), Dependency(listed(segment))}


def listed(segment: UUID) -> Fact:
    """That a subject was put on the list of a static segment, or taken off."""
    return Fact(DefinitionKind.SEGMENT.value, LISTED, (str(segment),))


def asks_the_calendar(condition: ask.Condition) -> bool:
    """Whether the answer can be another one tomorrow though nothing happens."""
    match condition:
        case ask.AllOf(of) | ask.OneOf(of):
            return any(asks_the_calendar(one) for one in of)
        case ask.Not(one):
            return asks_the_calendar(one)
        case ask.OfAccounts(_, where) | ask.OfUsers(_, where):
            return asks_the_calendar(where)
        case ask.PropertyIs(_, test) | ask.AttributeIs(_, test) | ask.ScoreIs(_, test):
            return _test_moves(test)
        case ask.Did(_, _, _, period, where_):
            return (period is not None and moves_with_time(period)) or any(
                _test_moves(one.test) for one in where_
            )
        case _:
            return False


def _test_moves(test: ask.Test) -> bool:
    match test:
        case ask.InPeriod(period):
            return moves_with_time(period)
        case ask.InNextDays() | ask.MoreThanDaysAgo():
            return True
        case _:
            return False


def _here(kind: SubjectKind, what: str, *of: str) -> Dependency:
    return Dependency(Fact(kind.value, what, of))


def _other(kind: SubjectKind) -> SubjectKind:
    return SubjectKind.ACCOUNT if kind is SubjectKind.USER else SubjectKind.USER


def _over_memberships(theirs: set[Dependency], kind: SubjectKind) -> set[Dependency]:
    """What rests on the subjects of the other kind that one belongs to, or that belong to it."""
    return {_here(kind, MEMBERSHIP)} | {
        Dependency(fact, (*way, kind.value)) for fact, way in theirs
    }


def _of_member(condition: ask.Did) -> list[tuple[str, tuple[str, ...]]]:
    return [(EVERYTHING, ()), (ACTIVITY, (condition.activity, condition.name))]


def _attribute(name: ask.Attribute, kind: SubjectKind) -> set[Dependency]:
    match name:
        case ask.Attribute.NAME:
            return {_here(kind, PROPERTY, one) for one in NAME_PROPERTIES}
        case ask.Attribute.FIRST_SEEN | ask.Attribute.LAST_SEEN:
            return {_here(kind, SEEN)}
        case ask.Attribute.REGISTERED_AT:
            return set()
        case _:
            return {_here(kind, IDENTITY)}
