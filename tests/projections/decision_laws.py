"""What the log says was decided, and what holds of it whoever decided, when and how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from domain.conditions.language import Health
from domain.definitions.types import (
    Definition,
    DefinitionId,
    HealthProfile,
    Score,
    Segment,
    Signal,
    Stages,
    Status,
)
from domain.events.decisions import (
    DecisionEvent,
    GoalMissed,
    GoalReached,
    HealthChanged,
    OfDay,
    OfDefinition,
    OfEvent,
    OfTime,
    ScoreChanged,
    SegmentEntered,
    SegmentLeft,
    SignalEnded,
    SignalTriggered,
    StageEntered,
    StageLeft,
)
from domain.events.definitions import (
    DefinitionActivated,
    DefinitionArchived,
    DefinitionChanged,
    DefinitionDeleted,
    DefinitionMade,
)
from domain.events.payloads import StageReleased, StageSet
from domain.identity import SubjectId, SubjectKind
from infra.bootstrap.annals import Annals
from tests.projections import decision_oracle


class Series(NamedTuple):
    """One history of decisions. `definition`: of a segment, a score or a signal."""

    subject: SubjectId
    family: str
    definition: DefinitionId | None = None


class Decided(NamedTuple):
    """A decision, with where in the log it stands and when it was taken."""

    partition: int
    position: int
    at: datetime
    kind: SubjectKind
    decision: DecisionEvent


class Version(NamedTuple):
    """A version of a definition, from when on."""

    definition: Definition
    status: Status
    at: datetime


@dataclass
class Record:
    """All of the log that bears on decisions.

    Attributes:
        hands: the stage in which somebody put whom, where it was not released.
        heads: newest position by partition.
    """

    series: dict[Series, list[Decided]] = field(default_factory=dict)
    hands: dict[SubjectId, str | None] = field(default_factory=dict)
    versions: dict[DefinitionId, list[Version]] = field(default_factory=dict)
    heads: dict[int, int] = field(default_factory=dict)

    def of(self, subject: SubjectId) -> dict[Series, list[Decided]]:
        return {key: history for key, history in self.series.items() if key.subject == subject}


def read(annals: Annals) -> Record:
    """The record as the log has it now."""
    record = Record()
    rows = annals.log.read_after(dict.fromkeys(range(256), 0), 1_000_000)
    for event in annals.sealer.open_rows(rows):
        row, payload = event.row, event.payload
        record.heads[row.log_partition] = max(record.heads.get(row.log_partition, 0), row.position)
        match payload:
            case DecisionEvent():
                decided = Decided(
                    row.log_partition,
                    row.position,
                    row.occurred_at,
                    SubjectKind(row.topic.partition(".")[0]),
                    payload,
                )
                record.series.setdefault(series_of(row.stream, payload), []).append(decided)
            case StageSet(stage):
                record.hands[row.stream] = stage
            case StageReleased():
                record.hands.pop(row.stream, None)
            case _:
                pass
    for event in annals.definitions.history():
        _note_version(record.versions, event.payload, event.occurred_at)
    return record


def series_of(subject: SubjectId, decision: DecisionEvent) -> Series:
    match decision:
        case SegmentEntered() | SegmentLeft():
            return Series(subject, "segment", decision.definition)
        case StageEntered() | StageLeft():
            return Series(subject, "stage")
        case HealthChanged():
            return Series(subject, "health")
        case ScoreChanged():
            return Series(subject, "score", decision.definition)
        case _:
            return Series(subject, "signal", decision.definition)


def _note_version(
    versions: dict[DefinitionId, list[Version]], payload: object, at: datetime
) -> None:
    match payload:
        case DefinitionMade(id, definition):
            first = Status.ACTIVE if isinstance(definition, Segment) else Status.DRAFT
            versions[id] = [Version(definition, first, at)]
        case DefinitionChanged(id, definition):
            versions[id].append(Version(definition, versions[id][-1].status, at))
        case DefinitionActivated(id):
            versions[id].append(Version(versions[id][-1].definition, Status.ACTIVE, at))
        case DefinitionArchived(id) | DefinitionDeleted(id):
            versions[id].append(Version(versions[id][-1].definition, Status.ARCHIVED, at))


# -- what a history comes to


def stage_of(history: Sequence[Decided]) -> str | None:
    last = history[-1].decision if history else None
    return last.stage if isinstance(last, StageEntered) else None


def health_of(history: Sequence[Decided]) -> Health:
    last = history[-1].decision if history else None
    return last.after if isinstance(last, HealthChanged) else Health.NORMAL


def score_of(history: Sequence[Decided]) -> tuple[Decimal, list[str]] | None:
    last = history[-1].decision if history else None
    if not isinstance(last, ScoreChanged) or last.after is None:
        return None
    return Decimal(str(last.after)).quantize(Decimal("0.01")), last.held


@dataclass
class Playbook:
    """What the history of a signal comes to.

    Attributes:
        waits_until: for the goal of the last trigger; None: there is none, or it was decided.
    """

    is_on: bool = False
    triggers: int = 0
    triggered_at: datetime | None = None
    waits_until: datetime | None = None
    goal: str | None = None

    def follow(self, what: type[DecisionEvent], at: datetime, playbook: Signal) -> None:
        if what is SignalTriggered:
            self.is_on, self.triggers, self.triggered_at = True, self.triggers + 1, at
            self.waits_until = self.goal = None
            if playbook.goal is not None:
                assert playbook.goal_hours is not None
                self.waits_until = at + timedelta(hours=playbook.goal_hours)
                self.goal = "waiting"
        elif what is SignalEnded:
            self.is_on = False
        else:
            self.waits_until, self.goal = None, "reached" if what is GoalReached else "missed"

    def may_trigger(self, playbook: Signal, now: datetime) -> bool:
        if self.triggered_at is None:
            return True
        hours = playbook.reentry_hours
        return hours is not None and now >= self.triggered_at + timedelta(hours=hours)


def playbook_of(record: Record, key: Series) -> Playbook:
    state = Playbook()
    for decided in record.series.get(key, ()):
        state.follow(type(decided.decision), decided.at, signal_of(record, decided.decision))
    return state


def signal_of(record: Record, decision: DecisionEvent) -> Signal:
    found = record.versions[decision.definition][decision.version - 1].definition
    assert isinstance(found, Signal)
    return found


# -- what holds of every history


def assert_lawful(record: Record) -> None:
    """Each series counts up by one and agrees with itself; each decision names a version of a
    definition that there was, and a cause."""
    for key, history in record.series.items():
        ordinals = [decision.decision.ordinal for decision in history]
        assert ordinals == list(range(1, len(history) + 1)), (key, ordinals)
        for decided in history:
            _assert_of_a_version(record, decided)
            _assert_caused(record, decided)
        _LAWS[key.family](record, history)


def _assert_of_a_version(record: Record, decided: Decided) -> None:
    decision = decided.decision
    versions = record.versions[decision.definition]
    assert 1 <= decision.version <= len(versions), decision
    definition, status, since = versions[decision.version - 1]
    assert since <= decided.at, decision
    assert isinstance(definition, _FAMILIES[type(decision)]), decision
    assert getattr(definition, "kind", None) is decided.kind
    if isinstance(decision, SegmentEntered | SignalTriggered | GoalReached | GoalMissed):
        assert status is Status.ACTIVE, decision


def _assert_caused(record: Record, decided: Decided) -> None:
    match decided.decision.cause:
        case OfEvent(partition, position):
            assert 1 <= position <= record.heads[partition]
            if partition == decided.partition:
                assert position < decided.position
        case OfDay(day):
            assert day <= (decided.at + timedelta(days=1)).date()
        case OfDefinition(version):
            assert any(
                version <= len(some) and some[version - 1].at <= decided.at
                for some in record.versions.values()
            )
        case OfTime(at):
            assert at <= decided.at
        case _:
            pass


def _assert_segment(record: Record, history: Sequence[Decided]) -> None:
    for n, decision in enumerate(history):
        assert isinstance(decision.decision, SegmentLeft if n % 2 else SegmentEntered)


def _assert_stage(record: Record, history: Sequence[Decided]) -> None:
    entered = None
    for n, decided in enumerate(history):
        decision = decided.decision
        if n % 2:
            assert isinstance(decision, StageLeft)
            assert decision.stage == entered
        else:
            assert isinstance(decision, StageEntered)
            entered = decision.stage
            if not decision.by_hand:
                stages = record.versions[decision.definition][decision.version - 1]
                assert isinstance(stages.definition, Stages)
                assert stages.status is Status.ACTIVE
                assert entered in {stage.name for stage in stages.definition.stages}


def _assert_health(record: Record, history: Sequence[Decided]) -> None:
    before = Health.NORMAL
    for decision in history:
        assert isinstance(decision.decision, HealthChanged)
        assert decision.decision.before is before
        assert decision.decision.after is not before
        before = decision.decision.after


def _assert_score(record: Record, history: Sequence[Decided]) -> None:
    before: tuple[Decimal, list[str]] | None = None
    for n, decided in enumerate(history):
        decision = decided.decision
        assert isinstance(decision, ScoreChanged)
        assert decision.before == (None if before is None else float(before[0]))
        after = score_of(history[: n + 1])
        version = record.versions[decision.definition][decision.version - 1]
        assert isinstance(version.definition, Score)
        if after is None:
            assert version.status is Status.ARCHIVED
        else:
            assert version.status is Status.ACTIVE
            assert after[0] == decision_oracle.value(version.definition, after[1])
        assert after != before
        before = after


def _assert_signal(record: Record, history: Sequence[Decided]) -> None:
    state = Playbook()
    for decided in history:
        decision, playbook = decided.decision, signal_of(record, decided.decision)
        match decision:
            case SignalTriggered():
                assert not state.is_on
                assert state.may_trigger(playbook, decided.at)
            case SignalEnded():
                assert state.is_on
            case GoalReached():
                assert state.waits_until is not None
                assert decided.at < state.waits_until
            case GoalMissed():
                assert state.waits_until is not None
                assert decided.at >= state.waits_until
        state.follow(type(decision), decided.at, playbook)


_LAWS = {
    "segment": _assert_segment,
    "stage": _assert_stage,
    "health": _assert_health,
    "score": _assert_score,
    "signal": _assert_signal,
}
_FAMILIES: dict[type[DecisionEvent], type | tuple[type, ...]] = {
    SegmentEntered: Segment,
    SegmentLeft: Segment,
    StageEntered: Stages,
    StageLeft: Stages,
    HealthChanged: (HealthProfile, Stages),
    ScoreChanged: Score,
    SignalTriggered: Signal,
    SignalEnded: Signal,
    GoalReached: Signal,
    GoalMissed: Signal,
}
