"""Whatever is written, defined and forgotten, and however it is projected and decided, by how many
workers, with what crashes and while which days go by: membership is what the plain evaluator says,
and the log says of everyone in turn that they entered and left, each time once."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from domain import calendar
from domain.calendar import Moment
from domain.conditions import language as ask
from domain.conditions.evaluation import World as Known
from domain.conditions.evaluation import holds
from domain.definitions.types import DefinitionId, Segment
from domain.errors import Refusal
from domain.identity import SubjectId, SubjectKind
from domain.workspace import editing
from domain.workspace.references import references
from infra.bootstrap.annals import Annals
from infra.write.definition_store import DefinitionStore
from projections.deciding.process_manager import ProcessManager
from tests.examples import examples
from tests.projections.decision_oracle import known
from tests.projections.projector.test_live_equals_model import (
    BEGINNING,
    ZONE,
    Erase,
    Project,
    Stop,
    World,
    Write,
    account_names,
    commands,
    user_names,
)
from tests.projections.read_models import forget_read_models, parked
from tests.projections.segments import (
    EDITOR,
    assert_each_once_and_in_turn,
    members,
    settle,
    transitions,
)

KINDS = st.sampled_from(SubjectKind)


class Define(NamedTuple):
    """Makes a segment, or changes one of those that there are."""

    which: int | None
    kind: SubjectKind
    condition: ask.Condition


class Delete(NamedTuple):
    which: int


class Decide(NamedTuple):
    """One of two deciders takes notes or goes on with a sweep; it may die before it has said that
    what it recorded is done."""

    worker: int
    sweeps: bool
    dies: bool


class Wait(NamedTuple):
    hours: int


class Settle(NamedTuple):
    """Everything is projected and decided."""


class ForgetReadModels(NamedTuple):
    """They are made again from the log."""


counts = st.one_of(
    st.just(ask.Occurred()),
    st.just(ask.DidNotOccur()),
    st.builds(ask.AtLeastTimes, st.integers(0, 3)),
    st.builds(ask.AtMostTimes, st.integers(0, 2)),
    st.builds(ask.ExactlyTimes, st.integers(0, 2)),
)
windows = st.one_of(
    st.none(),
    st.builds(calendar.LastDays, st.integers(1, 3)),
    st.sampled_from([calendar.Today(), calendar.Yesterday(), calendar.ThisMonth()]),
)
quantifiers = st.one_of(
    st.just(ask.AnyOf()), st.just(ask.EveryOf()), st.builds(ask.AtLeastOf, st.integers(1, 2))
)
placeholders = st.integers(0, 3).map(lambda n: ask.InSegment(uuid.UUID(int=n)))
leaves: st.SearchStrategy[Any] = st.one_of(
    st.builds(
        ask.PropertyIs,
        st.just("plan"),
        st.sampled_from([ask.Is("pro"), ask.IsNot("pro"), ask.IsSet(), ask.IsNotSet()]),
    ),
    st.builds(ask.PropertyIs, st.just("seats"), st.builds(ask.Greater, st.sampled_from([0, 1]))),
    st.builds(
        ask.AttributeIs,
        st.sampled_from([ask.Attribute.FIRST_SEEN, ask.Attribute.LAST_SEEN]),
        st.one_of(
            st.builds(ask.InPeriod, windows.filter(bool)),
            st.builds(ask.MoreThanDaysAgo, st.integers(1, 3)),
        ),
    ),
    st.builds(
        ask.AttributeIs,
        st.just(ask.Attribute.EXTERNAL_ID),
        st.builds(ask.StartsWith, st.sampled_from(["u1", "a1"])),
    ),
    st.builds(
        ask.Did,
        st.sampled_from(["event", "page", "screen"]),
        st.sampled_from(["one", "two"]),
        counts,
        windows,
    ),
    st.builds(ask.BelongsTo, role=st.sampled_from([None, None, "owner"]), ended=st.booleans()),
    placeholders,
)


def conditions(kind: SubjectKind, depth: int = 2) -> st.SearchStrategy[Any]:
    if not depth:
        return leaves
    here = conditions(kind, depth - 1)
    across: st.SearchStrategy[Any]
    if kind is SubjectKind.USER:
        across = st.builds(ask.OfAccounts, quantifiers, conditions(SubjectKind.ACCOUNT, depth - 1))
    else:
        across = st.builds(ask.OfUsers, quantifiers, conditions(SubjectKind.USER, depth - 1))
    several = st.lists(here, min_size=1, max_size=3)
    return st.one_of(
        leaves,
        st.builds(ask.AllOf, several),
        st.builds(ask.OneOf, several),
        st.builds(ask.Not, here),
        across,
    )


defining = KINDS.flatmap(
    lambda kind: st.builds(
        Define, st.one_of(st.none(), st.integers(0, 5)), st.just(kind), conditions(kind)
    )
)
making = defining.map(lambda step: step._replace(which=None))
working = st.one_of(
    st.builds(Project, st.integers(0, 1), st.sampled_from([1, 3, 100])),
    st.builds(Decide, st.integers(0, 1), st.just(False), st.sampled_from([False, True])),
    st.builds(Decide, st.integers(0, 1), st.booleans(), st.just(False)),
)
rare = st.one_of(
    defining,
    st.builds(Wait, st.sampled_from([1, 20, 30])),
    st.builds(Delete, st.integers(0, 5)),
    st.builds(Stop, st.integers(0, 1), st.booleans()),
    st.one_of(
        st.builds(Erase, st.just(SubjectKind.USER), user_names),
        st.builds(Erase, st.just(SubjectKind.ACCOUNT), account_names),
    ),
    st.just(ForgetReadModels()),
    st.just(Settle()),
)
rounds = st.tuples(
    st.lists(commands, min_size=1, max_size=4).map(Write),
    st.lists(working, min_size=3, max_size=8),
    st.lists(rare, max_size=1),
).map(lambda parts: [parts[0], *parts[1], *parts[2]])
histories = st.tuples(
    st.lists(commands, min_size=8, max_size=12).map(Write),
    st.lists(making, min_size=4, max_size=6),
    st.lists(rounds, min_size=3, max_size=8),
).map(lambda parts: [parts[0], *parts[1], Settle(), *(step for some in parts[2] for step in some)])


class _Died(Exception):
    """What a killed process leaves behind."""


class _Mortal:
    """A recorder whose process can die right after it has recorded."""

    def __init__(self, recorder: Any) -> None:
        self._recorder = recorder
        self.dies = False

    def record(self, *arguments: Any) -> None:
        self._recorder.record(*arguments)
        if self.dies:
            raise _Died


class Segments:
    """The system with its segments, and the model that says who belongs in them."""

    def __init__(self, annals: Annals, url: str) -> None:
        settings = msgspec.structs.replace(annals.settings, time_zone=ZONE)
        definitions = DefinitionStore(annals.log, annals.sealer, os.urandom(32))
        self.annals = replace(annals, settings=settings, definitions=definitions)
        self.url = url
        self.world = World(self.annals, url)
        self.now = BEGINNING + timedelta(days=1)
        self.segments: dict[DefinitionId, Segment] = {}
        self.deciders = [self._decider(), self._decider()]

    def _decider(self) -> tuple[ProcessManager, _Mortal]:
        decider = self.annals.decider(lambda: self.now)
        mortal = decider._recorder = _Mortal(decider._recorder)
        return decider, mortal

    def take(self, step: Any) -> None:
        match step:
            case Define(which, kind, condition):
                self._define(which, kind, condition)
            case Delete(which):
                if self.segments:
                    self._delete(list(self.segments)[which % len(self.segments)])
            case Decide(worker, sweeps, dies):
                decider, mortal = self.deciders[worker]
                mortal.dies = dies
                try:
                    decider.sweep() if sweeps else decider.step()
                except _Died:
                    self.deciders[worker] = self._decider()
                mortal.dies = False
            case Wait(hours):
                self.now += timedelta(hours=hours)
            case Settle():
                self.settle()
                self.compare()
            case ForgetReadModels():
                forget_read_models(self.url)
                self.world.workers = [None, None]
            case _:
                self.world.take(step)

    def _define(self, which: int | None, kind: SubjectKind, condition: ask.Condition) -> None:
        id = DefinitionId(uuid.uuid4())
        if which is not None and self.segments:
            id = list(self.segments)[which % len(self.segments)]
            kind = self.segments[id].kind
            if not _fits(condition, kind):
                return
        segment = Segment(kind, str(id), self._resolved(condition, kind))
        decide = editing.change if id in self.segments else editing.make
        try:
            self.annals.definitions.decide(
                lambda state: decide(state, id, segment, EDITOR), self.now
            )
        except Refusal:
            return  # it would be inside itself
        self.segments[id] = segment

    def _delete(self, id: DefinitionId) -> None:
        try:
            self.annals.definitions.decide(
                lambda state: editing.delete(state, id, EDITOR), self.now
            )
        except Refusal:
            return  # it is used inside another
        del self.segments[id]

    def _resolved(self, condition: ask.Condition, kind: SubjectKind) -> ask.Condition:
        """With segments that there are in place of the placeholders."""
        match condition:
            case ask.AllOf(of):
                return ask.AllOf([self._resolved(part, kind) for part in of])
            case ask.OneOf(of):
                return ask.OneOf([self._resolved(part, kind) for part in of])
            case ask.Not(of):
                return ask.Not(self._resolved(of, kind))
            case ask.OfAccounts(quantifier, where):
                return ask.OfAccounts(quantifier, self._resolved(where, SubjectKind.ACCOUNT))
            case ask.OfUsers(quantifier, where):
                return ask.OfUsers(quantifier, self._resolved(where, SubjectKind.USER))
            case ask.InSegment(segment):
                there = [id for id, segment in self.segments.items() if segment.kind is kind]
                return ask.InSegment(there[segment.int % len(there)]) if there else ask.AllOf([])
            case _:
                return condition

    def settle(self) -> None:
        self.world.workers = [None, None]
        settle(self.annals, *(decider for decider, _ in self.deciders), url=self.url)
        assert parked(self.url) == []

    def compare(self) -> None:
        belonging = self._belonging()
        for id in self.segments:
            assert members(self.annals, id) == belonging[id], self.segments[id]
        with self.annals.views.connection() as conn:
            rows = conn.execute("SELECT DISTINCT segment FROM views.segment_members").fetchall()
            assert {id for (id,) in rows} <= set(self.segments)
            rows = conn.execute(
                "SELECT segment, sum(members) FROM views.segment_counts"
                " GROUP BY segment HAVING sum(members) <> 0"
            ).fetchall()
        assert dict(rows) == {id: len(who) for id, who in belonging.items() if who}
        assert_each_once_and_in_turn(self.annals)

    def _belonging(self) -> dict[uuid.UUID, set[SubjectId]]:
        """Who belongs in each segment: those inside others first."""
        moment = Moment(self.now, ZONE)
        belonging: dict[uuid.UUID, set[SubjectId]] = {}
        waiting = dict(self.segments)
        while waiting:
            for id, segment in list(waiting.items()):
                assert segment.condition is not None
                asked = {
                    reference.to.name for reference in references(segment.condition, segment.kind)
                }
                if any(str(used) in asked for used in waiting):
                    continue
                world = self._known(belonging, moment)
                belonging[id] = {
                    SubjectId(subject)
                    for subject, facts in world.subjects.items()
                    if facts.kind is segment.kind
                    and holds(segment.condition, subject, world, moment)
                }
                del waiting[id]
        return belonging

    def _known(self, belonging: dict[uuid.UUID, set[SubjectId]], moment: Moment) -> Known:
        world = known(self.annals, self.world.model, moment).world
        for id, facts in world.subjects.items():
            facts.segments = {segment for segment, who in belonging.items() if id in who}
        return world


def _fits(condition: ask.Condition, kind: SubjectKind) -> bool:
    match condition:
        case ask.AllOf(of) | ask.OneOf(of):
            return all(_fits(part, kind) for part in of)
        case ask.Not(of):
            return _fits(of, kind)
        case ask.OfAccounts(_, where):
            return kind is SubjectKind.USER and _fits(where, SubjectKind.ACCOUNT)
        case ask.OfUsers(_, where):
            return kind is SubjectKind.ACCOUNT and _fits(where, SubjectKind.USER)
        case _:
            return True


def test_membership_is_what_the_evaluator_says_whatever_happens(
    annals: Annals, database_url: str
) -> None:
    # Histories are long, and shrinking one takes minutes: one that fails is read as it is.
    @settings(
        max_examples=examples(10),
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
    )
    @given(histories)
    def whatever_happens(history: list[Any]) -> None:
        segments = Segments(annals, database_url)
        for step in history:
            segments.take(step)
        segments.settle()
        segments.compare()
        before = transitions(segments.annals)
        forget_read_models(database_url)
        segments.settle()
        segments.compare()
        assert transitions(segments.annals) == before

    whatever_happens()
