"""Dependencies: which facts, about which subjects, can change whether a condition holds.

A fact is a statement of a batch of events about a subject: this property was written, this activity
occurred. A dependency names a fact and the way from its subject to the subject of the condition:
empty where they are the same, else over memberships, from a user to its accounts or from an account
to its users, step by step.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from domain.calendar import moves_with_time
from domain.conditions import language as ask
from domain.definitions.types import DefinitionKind
from domain.identity import SubjectKind

EVERYTHING = "everything"
"""A subject began, was merged or was erased: every condition about it is evaluated anew."""

IDENTITY, MEMBERSHIP, SEEN, REGISTERED = "identity", "membership", "seen", "registered"
STAGE, HEALTH, SCORE, SIGNAL = "stage", "health", "score", "signal"
BY_HAND = "by_hand"
"""A stage was set manually, or released."""

PROPERTY, ACTIVITY, SEGMENT, LISTED = "property", "activity", "segment", "listed"

NAME_PROPERTIES = ("name", "full_name", "first_name", "firstName", "last_name", "lastName")
"""The properties that make up the name of a subject."""


class Fact(NamedTuple):
    """A fact about a user, an account or a segment.

    Attributes:
        of: the property, activity, score, signal or segment. Conditions name scores and signals,
            decisions give their ids.
    """

    kind: str
    what: str
    of: tuple[str, ...] = ()


class Dependency(NamedTuple):
    """`way` lists the kinds that the steps lead to; the last is the kind of the condition."""

    fact: Fact
    way: tuple[str, ...] = ()


def dependencies(condition: ask.Condition, kind: SubjectKind) -> set[Dependency]:
    """Everything that can change the answer about a subject of a kind."""
    rests_on: set[Dependency] = {_here(kind, EVERYTHING)}
    match condition:
        case ask.AllOf(of) | ask.OneOf(of):
            for part in of:
                rests_on |= dependencies(part, kind)
        case ask.Not(part):
            rests_on |= dependencies(part, kind)
        case ask.PropertyIs(name):
            rests_on.add(_here(kind, PROPERTY, name))
        case ask.AttributeIs(name):
            rests_on |= _attribute(name, kind)
        case ask.Did(activity, name):
            rests_on.add(_here(kind, ACTIVITY, activity, name))
            if kind is SubjectKind.ACCOUNT and activity != "event":
                # An account's pages and the like are those of its members too.
                theirs = {_here(SubjectKind.USER, what, *of) for what, of in _of_member(condition)}
                rests_on |= _over_memberships(theirs, kind)
        case ask.StageIs():
            rests_on.add(_here(kind, STAGE))
        case ask.HealthIs():
            rests_on.add(_here(kind, HEALTH))
        case ask.ScoreIs(score):
            rests_on.add(_here(kind, SCORE, score))
        case ask.SignalIs(signal):
            rests_on.add(_here(kind, SIGNAL, signal))
        case ask.InSegment(segment):
            rests_on.add(_here(kind, SEGMENT, str(segment)))
        case ask.BelongsTo():
            rests_on |= _over_memberships({_here(_other(kind), EVERYTHING)}, kind)
        case ask.OfAccounts(_, where) | ask.OfUsers(_, where):
            rests_on |= _over_memberships(dependencies(where, _other(kind)), kind)
    return rests_on


def of_list(segment: UUID, kind: SubjectKind) -> set[Dependency]:
    """Everything that can change the membership of a static segment."""
    return {_here(kind, EVERYTHING), Dependency(listed(segment))}


def listed(segment: UUID) -> Fact:
    """A subject was put on the list of a static segment, or taken off."""
    return Fact(DefinitionKind.SEGMENT.value, LISTED, (str(segment),))


def asks_the_calendar(condition: ask.Condition) -> bool:
    """Whether the answer can change tomorrow without any event."""
    match condition:
        case ask.AllOf(of) | ask.OneOf(of):
            return any(asks_the_calendar(part) for part in of)
        case ask.Not(part):
            return asks_the_calendar(part)
        case ask.OfAccounts(_, where) | ask.OfUsers(_, where):
            return asks_the_calendar(where)
        case ask.PropertyIs(_, test) | ask.AttributeIs(_, test) | ask.ScoreIs(_, test):
            return _test_moves(test)
        case ask.Did(_, _, _, period, where_):
            return (period is not None and moves_with_time(period)) or any(
                _test_moves(part.test) for part in where_
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
    """Dependencies on subjects of the other kind, one step over memberships away."""
    return {_here(kind, MEMBERSHIP)} | {
        Dependency(fact, (*way, kind.value)) for fact, way in theirs
    }


def _of_member(condition: ask.Did) -> list[tuple[str, tuple[str, ...]]]:
    return [(EVERYTHING, ()), (ACTIVITY, (condition.activity, condition.name))]


def _attribute(name: ask.Attribute, kind: SubjectKind) -> set[Dependency]:
    match name:
        case ask.Attribute.NAME:
            return {_here(kind, PROPERTY, property) for property in NAME_PROPERTIES}
        case ask.Attribute.FIRST_SEEN | ask.Attribute.LAST_SEEN:
            return {_here(kind, SEEN)}
        case ask.Attribute.REGISTERED_AT:
            return {_here(kind, REGISTERED), _here(kind, SEEN)}
        case ask.Attribute.EMAIL | ask.Attribute.DOMAIN:
            return {_here(kind, IDENTITY), _here(kind, PROPERTY, name.value)}
        case _:
            return {_here(kind, IDENTITY)}
