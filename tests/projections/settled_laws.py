"""What has to hold once everything is projected and decided, and of what was decided on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from domain.conditions.evaluation import holds
from domain.definitions.types import HealthProfile, Score, Signal, Stages
from domain.events.decisions import (
    DecisionEvent,
    GoalMissed,
    GoalReached,
    HealthChanged,
    ScoreChanged,
    SegmentEntered,
    SegmentLeft,
    SignalEnded,
    SignalTriggered,
    StageEntered,
    StageLeft,
)
from domain.identity import SubjectId, SubjectKind
from tests.projections.decision_laws import (
    Record,
    Series,
    health_of,
    playbook_of,
    score_of,
    stage_of,
)
from tests.projections.decision_oracle import (
    Active,
    Everybody,
    Input,
    On,
    Standing,
    Standings,
    inputs,
    standings,
    with_decisions,
)


class Settled(NamedTuple):
    """A state in which nothing is left to decide."""

    record: Record
    everybody: Everybody
    active: Active


def assert_settled(
    record: Record, everybody: Everybody, active: Active, hands: Mapping[SubjectId, str | None]
) -> Settled:
    """What the record comes to is where the naive model has everybody stand."""
    there = {SubjectId(id) for id in everybody.world.subjects}
    on: On = set()
    for key in record.series:
        if key.family == "signal" and key.subject in there and playbook_of(record, key).is_on:
            assert key.definition in active
            on.add((key.subject, key.definition))
    expected = standings(everybody, active, hands, on)
    assert recorded(record, there) == expected
    settled = Settled(record, with_decisions(everybody, active, expected, on), active)
    for key in signals_of(settled):
        assert steps(settled, key) == [], (key, active[key.definition])
    return settled


def recorded(record: Record, there: set[SubjectId]) -> Standings:
    """Where the log's decisions leave those who are there."""
    found: Standings = {id: Standing() for id in there}
    for key, history in record.series.items():
        if key.subject not in there:
            continue
        standing = found[key.subject]
        match key:
            case (_, "stage", _):
                standing.stage = stage_of(history)
            case (_, "health", _):
                standing.health = health_of(history)
            case (_, "score", id):
                score = score_of(history)
                if score is not None and id is not None:
                    standing.scores[id] = score
            case (_, "segment", id):
                if isinstance(history[-1].decision, SegmentEntered) and id is not None:
                    standing.segments.add(id)
            case _:
                pass
    return found


def signals_of(settled: Settled) -> Iterator[Series]:
    for id, facts in settled.everybody.world.subjects.items():
        for key, definition in settled.active.items():
            if isinstance(definition, Signal) and definition.kind is facts.kind:
                yield Series(SubjectId(id), "signal", key)


def steps(settled: Settled, key: Series, before: Record | None = None) -> list[type[DecisionEvent]]:
    """What a signal has to do: from what was recorded before, as things are now."""
    state = playbook_of(before or settled.record, key)
    everybody, found = settled.everybody, list[type[DecisionEvent]]()
    playbook = settled.active.get(key.definition) if key.definition is not None else None
    if not isinstance(playbook, Signal):
        return [SignalEnded] if state.is_on else []
    now = everybody.moment.now
    is_so = holds(playbook.condition, key.subject, everybody.world, everybody.moment)
    is_reached = playbook.goal is not None and holds(
        playbook.goal, key.subject, everybody.world, everybody.moment
    )
    if playbook.goal is not None and state.waits_until is not None:
        if now >= state.waits_until:
            found.append(GoalMissed)
        elif is_reached:
            found.append(GoalReached)
    if state.is_on and not is_so:
        found.append(SignalEnded)
    if is_so and not state.is_on and state.may_trigger(playbook, now):
        found.append(SignalTriggered)
        if is_reached:
            found.append(GoalReached)
    return found


def assert_straight(before: Record, settled: Settled, *, calm: bool) -> None:
    """From one settled state to the next everything moved once at most, by the shortest way; but
    for what rests on other things that were decided meanwhile, and may have been looked at with
    some of them decided and others not yet.

    Args:
        calm: no sweep was due. Then a subject's own decisions wait for one another, and only those
            of others, over memberships, may come late.
    """
    moved = _moved(before, settled.record)
    for key in set(before.series) | set(settled.record.series) | set(signals_of(settled)):
        facts = settled.everybody.world.subjects.get(key.subject)
        if facts is None:
            continue
        asked = _rests_on(settled.active, key, facts.kind)
        if calm:
            asked = {input for input in _all_the_way(settled.active, asked) if input.of_others}
        if {input._replace(of_others=False) for input in asked} & moved:
            continue
        earlier, later = before.series.get(key, []), settled.record.series.get(key, [])
        found = [type(decision.decision) for decision in later[len(earlier) :]]
        assert found == _shortest(before, settled, key), key


def _all_the_way(active: Active, asked: set[Input]) -> set[Input]:
    """What is asked for, and what that rests on of the same subject, and so on."""
    found, waiting = set(asked), [input for input in asked if not input.of_others]
    while waiting:
        below = _below(active, waiting.pop()) - found
        found |= below
        waiting += [input for input in below if not input.of_others]
    return found


def _below(active: Active, input: Input) -> set[Input]:
    """What something that is asked for rests on."""
    found = {Input("stage", input.kind)} if input.family == "health" else set[Input]()
    for id, definition in active.items():
        match input.family, definition:
            case ("stage", Stages()) | ("health", HealthProfile()):
                decides = definition.kind is input.kind
            case ("score", Score()) | ("signal", Signal()):
                decides = (definition.kind, definition.name) == (input.kind, input.name)
            case _:
                decides = str(id) == input.name
        if decides:
            found |= inputs(definition)
    return found


def _moved(before: Record, after: Record) -> set[Input]:
    """What was decided of anybody."""
    found: set[Input] = set()
    for key, history in after.series.items():
        if len(history) > len(before.series.get(key, ())):
            names = {""}
            if key.family == "segment":
                names = {str(key.definition)}
            elif key.definition is not None:
                versions = after.versions[key.definition]
                names = {getattr(version.definition, "name", "") for version in versions}
            found |= {Input(key.family, history[-1].kind, name) for name in names}
    return found


def _rests_on(active: Active, key: Series, kind: SubjectKind) -> set[Input]:
    if key.definition is not None:
        definition = active.get(key.definition)
        return set() if definition is None else inputs(definition)
    family = Stages if key.family == "stage" else HealthProfile
    mine = [
        definition
        for definition in active.values()
        if isinstance(definition, family) and definition.kind is kind
    ]
    found = {asked for definition in mine for asked in inputs(definition)}
    return found if key.family == "stage" else found | {Input("stage", kind)}


def _shortest(before: Record, settled: Settled, key: Series) -> list[type[DecisionEvent]]:
    earlier, later = before.series.get(key, []), settled.record.series.get(key, [])
    match key.family:
        case "stage":
            left, entered = stage_of(earlier), stage_of(later)
            if left == entered:
                return []
            out: list[type[DecisionEvent]] = [] if left is None else [StageLeft]
            return out if entered is None else [*out, StageEntered]
        case "health":
            return [] if health_of(earlier) is health_of(later) else [HealthChanged]
        case "score":
            return [] if score_of(earlier) == score_of(later) else [ScoreChanged]
        case "segment":
            is_in = [
                bool(some) and isinstance(some[-1].decision, SegmentEntered)
                for some in (earlier, later)
            ]
            return {(False, True): [SegmentEntered], (True, False): [SegmentLeft]}.get(
                (is_in[0], is_in[1]), []
            )
        case _:
            return steps(settled, key, before)
