"""The rules that pending changes affect, with the subjects to evaluate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa

from domain.workspace.dependencies import ACTIVITY, SEEN, Fact
from projections.conditions import membership_paths
from projections.deciding.rule_set import RuleSet
from projections.models.changes import Event, Facts, Id, unpacked


class OwnDecision(NamedTuple):
    """The reason to look at a subject where only the rule's own decision changed. That alone
    changes nothing: a new decision has another cause."""

    rule: str
    subject: Id
    event: Event


def affected(
    conn: sa.Connection, rules: RuleSet, notes: Iterable[bytes]
) -> dict[str, dict[Id, Event | OwnDecision]]:
    """The rules to evaluate, by key, each with subjects and the reason to look at each."""
    changed: Facts = {}
    for note in notes:
        for fact, subjects in unpacked(note):
            for implied in _facts(fact):
                if rules.resting_on(implied):
                    _add(changed.setdefault(implied, {}), subjects)
    _move_to_survivors(conn, changed)
    due: dict[str, dict[Id, Event]] = {}
    decided: dict[str, dict[Id, Event]] = {}
    over: dict[tuple[str, ...], set[UUID]] = {}
    for fact, subjects in changed.items():
        for rule, way in rules.resting_on(fact):
            if way:
                over.setdefault(way, set()).update(UUID(bytes=subject) for subject in subjects)
            else:
                reasons = decided if fact == rule.decides else due
                _add(reasons.setdefault(rule.key, {}), subjects)
    reached = {
        way: membership_paths.reached_by(conn, way, subjects) for way, subjects in over.items()
    }
    for fact, subjects in changed.items():
        for rule, way in rules.resting_on(fact):
            if way:
                rule_looks = due.setdefault(rule.key, {})
                for subject, event in subjects.items():
                    targets = reached[way][UUID(bytes=subject)]
                    _add(rule_looks, {Id(target.bytes): event for target in targets})
    looks: dict[str, dict[Id, Event | OwnDecision]] = {}
    for key in due.keys() | decided.keys():
        again = {id: OwnDecision(key, id, event) for id, event in decided.get(key, {}).items()}
        looks[key] = {**again, **due.get(key, {})}
    return {key: subjects for key, subjects in looks.items() if subjects}


def _add(events: dict[Id, Event], more: dict[Id, Event]) -> None:
    """Keeps the newest event of each subject. Events of two partitions have no order: the last
    one stays."""
    for subject, event in more.items():
        before = events.get(subject)
        if before is None or before[0] != event[0] or before[1] < event[1]:
            events[subject] = event


def _facts(fact: Fact) -> tuple[Fact, ...]:
    """A fact, and what follows from it: activity moves when the subject was seen."""
    return (fact, Fact(fact.kind, SEEN)) if fact.what == ACTIVITY else (fact,)


def _move_to_survivors(conn: sa.Connection, changed: Facts) -> None:
    """Replaces subjects that were merged since by their survivors."""
    ids = {subject for subjects in changed.values() for subject in subjects}
    survivors = (
        membership_paths.survivors(conn, [UUID(bytes=subject) for subject in ids]) if ids else {}
    )
    for loser, survivor in survivors.items():
        for subjects in changed.values():
            event = subjects.pop(Id(loser.bytes), None)
            if event is not None:
                _add(subjects, {Id(survivor.bytes): event})
