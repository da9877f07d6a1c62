"""Definitions as one aggregate: whatever is decided, what is active hangs together."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from graphlib import CycleError, TopologicalSorter
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.calendar import Zones
from domain.conditions import language as ask
from domain.definitions.destinations import Destination, Subscription, SubscriptionKind
from domain.definitions.types import (
    Defined,
    Definition,
    DefinitionId,
    DefinitionKind,
    HealthProfile,
    Score,
    ScoreRule,
    Segment,
    Settings,
    Signal,
    Stage,
    Stages,
    StageType,
    Status,
    Undeciding,
)
from domain.errors import Conflict, InvalidInput, NotFound, Refusal
from domain.events.event import Event
from domain.events.payloads import Payload
from domain.identity import SubjectKind
from domain.workspace import editing
from domain.workspace.definitions import Definitions
from domain.workspace.workspace import Workspace
from tests.domain.workspace.given import BY, IDS, NOON, STREAM, after, made

USER, ACCOUNT = SubjectKind
NAMES = ("a", "b", "c")
ANYBODY = ask.AllOf([])
DEEDS = 60


# What the laws are held against: references and circles, told apart from the code that is tested.


def asked(condition: ask.Condition, kind: SubjectKind) -> Iterator[tuple[str, SubjectKind, str]]:
    match condition:
        case ask.AllOf(of) | ask.OneOf(of):
            for one in of:
                yield from asked(one, kind)
        case ask.Not(of):
            yield from asked(of, kind)
        case ask.OfAccounts(_, where):
            yield from asked(where, ACCOUNT)
        case ask.OfUsers(_, where):
            yield from asked(where, USER)
        case ask.StageIs(stages):
            yield from (("stage", kind, stage or "") for stage in stages)
        case ask.HealthIs():
            yield "health", kind, ""
        case ask.ScoreIs(score):
            yield "score", kind, score
        case ask.SignalIs(signal):
            yield "signal", kind, signal
        case ask.InSegment(segment):
            yield "segment", kind, str(segment)


def deciding(definition: Definition) -> list[ask.Condition]:
    match definition:
        case Segment():
            return [] if definition.condition is None else [definition.condition]
        case Stages():
            return [stage.condition for stage in definition.stages]
        case HealthProfile():
            return [one for one in (definition.good, definition.bad) if one is not None]
        case Score():
            return [rule.condition for rule in definition.rules]
        case Signal():
            return [definition.condition]
        case Settings() | Destination():
            return []


def goals(definition: Definition) -> list[ask.Condition]:
    if isinstance(definition, Signal) and definition.goal is not None:
        return [definition.goal]
    return []


Node = tuple[str, SubjectKind, str]


def node(id: DefinitionId, definition: Any) -> Node:
    match definition:
        case Stages():
            return "stage", definition.kind, ""
        case HealthProfile():
            return "health", definition.kind, ""
        case Segment():
            return "segment", definition.kind, str(id)
        case Score():
            return "score", definition.kind, definition.name
        case _:
            return "signal", definition.kind, definition.name


def goes_round(active: dict[DefinitionId, Any]) -> bool:
    graph: dict[Node, set[Node]] = {}
    for id, definition in active.items():
        if isinstance(definition, Undeciding):
            continue
        there = graph.setdefault(node(id, definition), set())
        for condition in deciding(definition):
            for what, kind, name in asked(condition, definition.kind):
                there.add((what, kind, "" if what in ("stage", "health") else name))
        if isinstance(definition, HealthProfile):
            there.add(("stage", definition.kind, ""))
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError:
        return True
    return False


def assert_it_hangs_together(state: Definitions) -> None:
    active: dict[DefinitionId, Any] = {
        id: one for id, one in state.active.items() if not isinstance(one, Undeciding)
    }
    told = list(state.destinations.values())
    told = [one.definition for one in told if one.status is Status.ACTIVE]
    assert not goes_round(active)
    there = {("stage", kind, "") for kind in SubjectKind} | {
        ("health", kind, "") for kind in SubjectKind
    }
    taken: list[tuple[Any, ...]] = []
    for id, one in active.items():
        if isinstance(one, Stages):
            there |= {("stage", one.kind, stage.name) for stage in one.stages}
            taken.append((Stages, one.kind))
        else:
            there.add(node(id, one))
            taken.append((type(one), one.kind, one.name))
        if isinstance(one, HealthProfile):
            taken += [("profile of", one.kind, stage) for stage in one.stages]
    assert len(taken) == len(set(taken))
    assert len({one.name for one in told}) == len(told)
    for one in told:
        assert one.segment is None or ("segment", one.kind, str(one.segment)) in there
    for one in active.values():
        for condition in (*deciding(one), *goals(one)):
            assert set(asked(condition, one.kind)) <= there
        if isinstance(one, HealthProfile):
            assert {("stage", one.kind, stage or "") for stage in one.stages} <= there


class Drafter:
    """Makes definitions by chance that mostly ask for what there is."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def condition(self, state: Definitions, kind: SubjectKind, depth: int = 2) -> ask.Condition:
        chance = self._chance
        if depth and chance.random() < 0.4:
            if chance.random() < 0.3:
                return ask.Not(self.condition(state, kind, depth - 1))
            if chance.random() < 0.3:
                return ask.OneOf([self.condition(state, kind, depth - 1) for _ in range(2)])
            if kind is USER:
                return ask.OfAccounts(ask.AnyOf(), self.condition(state, ACCOUNT, depth - 1))
            return ask.OfUsers(ask.AnyOf(), self.condition(state, USER, depth - 1))
        of = chance.choice((*list(DefinitionKind)[:5], None))
        is_named = of not in (None, DefinitionKind.HEALTH)
        if of and is_named and not state.known(of, kind) and chance.random() < 0.8:
            return ANYBODY
        match of:
            case DefinitionKind.STAGES:
                return ask.StageIs([self._name(state, DefinitionKind.STAGES, kind)])
            case DefinitionKind.HEALTH:
                return ask.HealthIs([ask.Health.GOOD])
            case DefinitionKind.SCORE:
                return ask.ScoreIs(self._name(state, DefinitionKind.SCORE, kind), ask.IsSet())
            case DefinitionKind.SIGNAL:
                return ask.SignalIs(self._name(state, DefinitionKind.SIGNAL, kind), True)
            case DefinitionKind.SEGMENT:
                there = sorted(state.known(DefinitionKind.SEGMENT, kind)) or [str(IDS[0])]
                return ask.InSegment(uuid.UUID(chance.choice(there)))
            case _:
                return ANYBODY

    def _name(self, state: Definitions, family: DefinitionKind, kind: SubjectKind) -> str:
        there = sorted(state.known(family, kind))
        return self._chance.choice(there if there and self._chance.random() < 0.9 else NAMES)

    def definition(
        self, state: Definitions, family: DefinitionKind, kind: SubjectKind
    ) -> Definition:
        chance, name = self._chance, self._chance.choice(NAMES)

        def some() -> ask.Condition:
            return ANYBODY if chance.random() < 0.3 else self.condition(state, kind)

        match family:
            case DefinitionKind.SEGMENT:
                return Segment(kind, name, some())
            case DefinitionKind.STAGES:
                of = chance.sample(NAMES, k=chance.choice((1, 2, 3)))
                return Stages(kind, name, [Stage(one, StageType.OTHER, some()) for one in of])
            case DefinitionKind.HEALTH:
                of = [self._name(state, DefinitionKind.STAGES, kind)]
                stages: list[str | None] = [*of, *chance.choice(([], [None]))]
                return HealthProfile(kind, name, stages, some(), chance.choice((None, some())))
            case DefinitionKind.SCORE:
                return Score(kind, name, [ScoreRule("a", 2, some()), ScoreRule("b", -1, some())])
            case DefinitionKind.SIGNAL:
                return Signal(kind, name, some(), None, some(), 1)
            case DefinitionKind.DESTINATION:
                there = sorted(state.known(DefinitionKind.SEGMENT, kind))
                segment = uuid.UUID(chance.choice(there)) if there else None
                news = [Subscription(chance.choice(list(SubscriptionKind)))]
                url = f"https://{name}.example/"
                if chance.random() < 0.2:
                    return Destination(name, url, news, chance.choice((None, kind)))
                return Destination(name, url, news, kind, segment)
            case _:
                return Settings(time_zone=chance.choice((None, "Europe/Brussels", "Asia/Tokyo")))

    def deed(self, state: Definitions) -> tuple[str, DefinitionId, Definition]:
        chance = self._chance
        there = [None, *state.current]
        id = chance.choice(there) if chance.random() < 0.7 else None
        if id is None:
            family, kind = chance.choice(list(DefinitionKind)), chance.choice(list(SubjectKind))
            return (
                "make",
                DefinitionId(uuid.UUID(int=chance.getrandbits(128))),
                self.definition(state, family, kind),
            )
        before = state.current[id].definition
        kind = chance.choice(list(SubjectKind))
        if not isinstance(before, Undeciding):
            kind = before.kind
        deeds = {
            Status.DRAFT: ("activate", "activate", "activate", "change", "delete"),
            Status.ACTIVE: ("change", "change", "archive", "delete", "activate"),
            Status.ARCHIVED: ("change", "activate", "archive", "delete"),
        }
        definition = self.definition(state, DefinitionKind(before.__struct_config__.tag), kind)
        return chance.choice(deeds[state.current[id].status]), id, definition


def done(
    state: Definitions, deed: str, id: DefinitionId, definition: Definition
) -> Sequence[Payload] | Refusal:
    """What comes of a deed. An id is made once."""
    if deed == "make" and id in state.current | state.deleted:
        return []
    try:
        payloads: Sequence[Payload] = getattr(editing, deed)(
            state, *((id, definition, BY) if deed in ("make", "change") else (id, BY))
        )
    except Refusal as refusal:
        return refusal
    return payloads


@given(st.randoms(use_true_random=True))
def test_whatever_is_done_what_is_active_hangs_together(chance: random.Random) -> None:
    state, drafter = Definitions(), Drafter(chance)
    for _ in range(DEEDS):
        deed, id, definition = drafter.deed(state)
        outcome = done(state, deed, id, definition)
        if not isinstance(outcome, Refusal):
            state = after(state, outcome)
            assert_it_hangs_together(state)
        elif "would rest on itself" in outcome.detail:
            target = state.current[id].definition if deed == "activate" else definition
            active = {
                key: one
                for key, one in state.active.items()
                if not (isinstance(one, Stages) and node(key, one) == node(id, target))
            }
            assert goes_round(active | {id: target})


@given(st.randoms(use_true_random=True))
def test_versions_count_what_became_of_each_and_the_log_gives_the_same_state(
    chance: random.Random,
) -> None:
    state, log, drafter = Definitions(), list[Event](), Drafter(chance)
    steps: dict[DefinitionId, int] = {}
    for n in range(DEEDS):
        deed, id, definition = drafter.deed(state)
        outcome = done(state, deed, id, definition)
        for payload in () if isinstance(outcome, Refusal) else outcome:
            at = NOON + timedelta(hours=n)
            event = Event(state.family_of(payload), STREAM, state.version + 1, at, payload)
            log.append(event)
            state = state.evolve(event)
            steps[payload.id] = steps.get(payload.id, 0) + 1
            if payload.id in state.current:
                one = state.current[payload.id]
                assert (one.version, one.changed_at) == (steps[payload.id], at)
    again = Definitions()
    for event in log:
        again = again.evolve(event)
    assert again == state


def test_a_circle_is_told_with_every_step_of_the_way() -> None:
    healthy = ask.HealthIs([ask.Health.GOOD])
    state = made(
        Definitions(),
        Stages(ACCOUNT, "Life", [Stage("paying", StageType.PAYING, ANYBODY)]),
        HealthProfile(ACCOUNT, "All", ["paying"], ANYBODY),
        Score(USER, "Fit", [ScoreRule("well", 1, ask.OfAccounts(ask.AnyOf(), healthy))]),
        Signal(USER, "Low", ask.Not(ask.ScoreIs("Fit", ask.IsSet()))),
        Segment(ACCOUNT, "Low ones", ask.OfUsers(ask.AnyOf(), ask.SignalIs("Low", True))),
    )
    changed = Stages(
        ACCOUNT, "Life", [Stage("paying", StageType.PAYING, ask.Not(ask.InSegment(IDS[4])))]
    )
    with pytest.raises(InvalidInput) as refused:
        editing.change(state, IDS[0], changed, BY)
    assert refused.value.pointer == "/stages/0/condition/of/segment"
    assert refused.value.detail == (
        "the list of stages would rest on itself: stages of accounts → “Low ones” → “Low” → “Fit”"
        " → health of accounts → stages of accounts"
    )


def test_a_goal_may_ask_for_its_own_signal_for_nothing_rests_on_it() -> None:
    off = ask.SignalIs("Low", False)
    state = made(Definitions(), Signal(USER, "Low", ANYBODY, None, off, 24))
    assert state.active[IDS[0]] == Signal(USER, "Low", ANYBODY, None, off, 24)


def test_stages_can_be_replaced_only_by_ones_that_have_what_others_ask_for() -> None:
    paying = Stage("paying", StageType.PAYING, ANYBODY)
    state = made(
        Definitions(),
        Stages(USER, "Life", [paying]),
        Signal(USER, "Pays", ask.StageIs(["paying"])),
    )
    other = Stages(USER, "Other", [Stage("trial", StageType.TRIAL, ANYBODY)])
    state = after(state, editing.make(state, IDS[2], other, BY))
    with pytest.raises(Conflict, match=r"“paying” is used inside “Pays”"):
        editing.activate(state, IDS[2], BY)
    state = after(state, editing.change(state, IDS[2], Stages(USER, "Other", [paying]), BY))
    state = after(state, editing.activate(state, IDS[2], BY))
    assert state.current[IDS[0]].status is Status.ARCHIVED


def test_a_segment_of_the_other_kind_is_not_taken_for_one() -> None:
    state = made(Definitions(), Segment(ACCOUNT, "Big"))
    with pytest.raises(InvalidInput, match="a segment of accounts, not of users") as refused:
        editing.make(state, IDS[1], Segment(USER, "Of big", ask.InSegment(IDS[0])), BY)
    assert refused.value.pointer == "/condition/segment"
    with pytest.raises(NotFound):
        editing.change(state, IDS[3], Segment(USER, "None"), BY)


def test_a_time_zone_holds_from_when_it_was_chosen() -> None:
    state, first = Definitions(), Workspace(Zones(ZoneInfo("Asia/Tokyo")))
    assert state.workspace(first) == first
    names = (None, "Europe/Brussels", "Europe/Brussels", None, "America/Lima")
    for n, name in enumerate(names):
        settings = Settings(time_zone=name, backdated_stages=n % 2 == 1)
        payloads = editing.choose(state, IDS[0], settings, BY)
        state = after(state, payloads, NOON + timedelta(days=n))
    zones = state.workspace(first).zones
    held = [str(zones.at(NOON + timedelta(days=n, hours=1))) for n in range(-1, 6)]
    assert held == [
        "Asia/Tokyo",
        "Asia/Tokyo",
        "Europe/Brussels",
        "Europe/Brussels",
        "Asia/Tokyo",
        "America/Lima",
        "America/Lima",
    ]
    assert zones.at(NOON + timedelta(days=1)) == ZoneInfo("Europe/Brussels")
    assert zones.now == ZoneInfo("America/Lima")


def test_of_each_family_there_is_room_for_so_many_that_are_not_archived() -> None:
    signal, score = Signal(USER, "one", ANYBODY), Score(USER, "one", [ScoreRule("a", 1, ANYBODY)])
    many = {
        DefinitionId(uuid.UUID(int=n)): Defined(
            DefinitionId(uuid.UUID(int=n)), 1, signal, Status.DRAFT, NOON, BY, NOON, BY
        )
        for n in range(editing.MAX_DEFINITIONS)
    }
    full = Definitions(editing.MAX_DEFINITIONS, many)
    new = DefinitionId(uuid.UUID(int=editing.MAX_DEFINITIONS))
    with pytest.raises(Conflict, match="1,000"):
        editing.make(full, new, signal, BY)
    assert editing.make(full, new, score, BY)
    first = DefinitionId(uuid.UUID(int=0))
    room = after(full, editing.activate(full, first, BY))
    room = after(room, editing.archive(room, first, BY))
    assert editing.make(room, new, signal, BY)
