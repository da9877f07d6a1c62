"""Who has to be looked at, by which rules: what a decider makes of the notes that it takes."""

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
    """The reason to look where there is no other than that the rule itself decided, by an event.
    That alone changes nothing: whatever is found came about meanwhile."""

    rule: str
    subject: Id
    event: Event


def affected(
    conn: sa.Connection, rules: RuleSet, notes: Iterable[bytes]
) -> dict[str, dict[Id, Event | OwnDecision]]:
    """The rules that have to look, by key, each with the subjects, and the events that are the
    reason."""
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
    """Keeps the newest event of each subject; of two partitions, whose order nobody knows, the
    one that was looked at last."""
    for subject, event in more.items():
        before = events.get(subject)
        if before is None or before[0] != event[0] or before[1] < event[1]:
            events[subject] = event


def _facts(fact: Fact) -> tuple[Fact, ...]:
    """A fact, and what else it says: whoever did something was seen."""
    return (fact, Fact(fact.kind, SEEN)) if fact.what == ACTIVITY else (fact,)


def _move_to_survivors(conn: sa.Connection, changed: Facts) -> None:
    """Has those that were merged since looked at as the subjects that they live on in."""
    ids = {subject for subjects in changed.values() for subject in subjects}
    survivors = (
        membership_paths.survivors(conn, [UUID(bytes=subject) for subject in ids]) if ids else {}
    )
    for loser, survivor in survivors.items():
        for subjects in changed.values():
            event = subjects.pop(Id(loser.bytes), None)
            if event is not None:
                _add(subjects, {Id(survivor.bytes): event})
