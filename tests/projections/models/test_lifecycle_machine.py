"""Whatever is written, defined, set by hand and forgotten, while hours and days go by, workers die
and read models are made anew: stages, health, scores, signals and segments are what a naive model
says, and so is what the log has of how they came to be."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from domain.activity import Activity, ActivityKind
from domain.calendar import Moment
from domain.commands import Change, Command, Join, Leave, ReleaseStage, SetStage, Track
from domain.definitions.types import Defined, DefinitionId, Segment, Status
from domain.errors import Refusal
from domain.events.payloads import Payload
from domain.identity import SubjectId, SubjectKind
from domain.workspace import editing
from domain.workspace.definitions import Definitions
from infra.bootstrap.annals import Annals
from infra.write.definition_store import DefinitionStore
from projections.deciding import process_manager
from projections.deciding.process_manager import ProcessManager
from tests.examples import examples
from tests.projections import (
    decision_laws,
    decision_oracle,
    random_definitions,
    read_model_laws,
    settled_laws,
)
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
from tests.projections.read_model_oracle import Subject
from tests.projections.read_models import (
    account,
    drain,
    forget_read_models,
    found,
    let_leases_expire,
    parked,
    user,
)
from tests.projections.segments import EDITOR

numbers = st.integers(0, 11)
# What is large is made by chance from a seed: drawing each part of it would take for ever.
chances = st.integers(0, 2**64 - 1).map(random.Random)


def turns(chance: random.Random, count: int) -> list[Command]:
    """Commands that make conditions change their minds."""
    return [_turn(chance) for _ in range(count)]


def _turn(chance: random.Random) -> Command:
    who = user(chance.choice(("u0", "u1", "u2", "u3", "u4", "u5", "e0@x.be")))
    where = account(chance.choice(("a0", "a1")))
    at = BEGINNING + timedelta(minutes=chance.randrange(60 * 24 * 5))
    values = chance.choice(({"plan": "pro"}, {"plan": "free"}, {"seats": 0}, {"seats": 2}))
    role = chance.choice(({}, {"role": "owner"}, {"role": "guest"}))
    kind = chance.choice((*ActivityKind, ActivityKind.EVENT, ActivityKind.EVENT))
    did = (Activity(kind, chance.choice(("one", "two"))),)
    some: tuple[Command, ...] = (
        Change(SubjectKind.USER, who, values, at),
        Change(SubjectKind.USER, who, values, at),
        Change(SubjectKind.ACCOUNT, where, values, at),
        Join(who, where, values, role, at),
        Leave(who, where, at),
        Track(who, chance.choice(((), where)), did, at),
        Track(who, chance.choice(((), where)), did, at),
        Track((), where, did, at),
    )
    return chance.choice(some)


class _Died(BaseException):
    """What a killed process leaves behind: nothing catches it."""


class _MortalRecorder:
    """Of a decider whose process can die before or after it has recorded something."""

    def __init__(self, recorder: Any) -> None:
        self._recorder = recorder
        self.dies: str | None = None

    def record(self, *arguments: Any) -> None:
        if self.dies == "before":
            raise _Died
        self._recorder.record(*arguments)
        if self.dies == "after":
            raise _Died


class _MortalModel:
    """A read model whose process dies when all others have been written."""

    def apply(self, conn: psycopg.Connection, batch: object) -> None:
        raise _Died

    def merge(self, conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> None: ...
    def erase(self, conn: psycopg.Connection, subjects: object) -> None: ...


class Machine(RuleBasedStateMachine):
    """The system and the model, side by side. What happens is common to both ways of running."""

    def __init__(self, annals: Annals, url: str) -> None:
        super().__init__()
        settings = msgspec.structs.replace(annals.settings, time_zone=ZONE)
        definitions = DefinitionStore(annals.log, annals.sealer, os.urandom(32))
        self.annals = replace(annals, settings=settings, definitions=definitions)
        self.url = url
        self.world = World(self.annals, url)
        self.now = BEGINNING + timedelta(days=1)
        self.deciders = [self._decider(), self._decider()]
        self.names = 0
        self.broken = False

    # -- what happens

    @initialize(chance=chances)
    def begin(self, chance: random.Random) -> None:
        self.world.take(Write(turns(chance, 40)))
        for draft in random_definitions.Drafter(chance).workspace():
            self._define(draft, activates=True)
        for subject in chance.sample(self.world.model.subjects, k=2):
            self._put(subject, chance.randrange(4))
        self.after()

    @rule(chance=chances, count=st.integers(4, 12))
    def write(self, chance: random.Random, count: int) -> None:
        self.world.take(Write(turns(chance, count)))
        self.after()

    @rule(chance=chances)
    def write_one_thing(self, chance: random.Random) -> None:
        self.world.take(Write(turns(chance, 1)))
        self.after()

    @rule(hours=st.sampled_from([0, 1, 1, 24]))
    def go_there_and_back(self, hours: int) -> None:
        """What holds of many holds no more, then again, and then some time goes by."""
        for plan in ("free", "pro"):
            self.world.take(
                Write(
                    [
                        Change(
                            subject.kind, tuple(subject.identities[:1]), {"plan": plan}, self.now
                        )
                        for subject in self.world.model.subjects
                    ]
                )
            )
            self.after()
        self.now += timedelta(hours=hours)
        self.after()

    @rule(some=st.lists(commands, min_size=1, max_size=3))
    def write_whatever_there_is(self, some: list[Command]) -> None:
        self.world.take(Write(some))
        self.after()

    @rule(chance=chances, activates=st.sampled_from([True, True, True, False]))
    def define(self, chance: random.Random, activates: bool) -> None:
        self._define(random_definitions.Drafter(chance).draft(), activates=activates)
        self.after()

    @rule(which=numbers, chance=chances)
    def change(self, which: int, chance: random.Random) -> None:
        """Another content for one of the same family and kind."""
        draft = random_definitions.Drafter(chance).draft()
        alike = [
            defined_one
            for defined_one in self.defined()
            if type(defined_one.definition) is type(draft)
            and getattr(defined_one.definition, "kind", None) is draft.kind
        ]
        if alike:
            defined = alike[which % len(alike)]
            name = getattr(defined.definition, "name", "")
            changed = random_definitions.resolved(draft, name, self._names())
            self._decide(lambda state: editing.change(state, defined.id, changed, EDITOR))
            self.after()

    @rule(which=numbers)
    def activate(self, which: int) -> None:
        waiting = [
            defined_one for defined_one in self.defined() if defined_one.status is Status.DRAFT
        ]
        if waiting:
            id = waiting[which % len(waiting)].id
            self._decide(lambda state: editing.activate(state, id, EDITOR))
            self.after()

    @rule(which=numbers)
    def archive(self, which: int) -> None:
        there = [
            defined_one for defined_one in self.defined() if defined_one.status is Status.ACTIVE
        ]
        if there:
            self._archive(there[which % len(there)])
            self.after()

    @rule(hours=st.sampled_from([1, 1, 23, 24, 30, 80]))
    def wait(self, hours: int) -> None:
        self.now += timedelta(hours=hours)
        self.after()

    @rule(
        erase=st.one_of(
            st.builds(Erase, st.just(SubjectKind.USER), user_names),
            st.builds(Erase, st.just(SubjectKind.ACCOUNT), account_names),
        )
    )
    def erase(self, erase: Erase) -> None:
        self.world.take(erase)
        self.after()

    @rule(who=numbers, which=st.sampled_from([1, 2, 3, 0]))
    def put_into_a_stage(self, who: int, which: int) -> None:
        some = self.world.model.subjects
        if some:
            self._put(some[who % len(some)], which)
            self.after()

    @rule(who=numbers)
    def release(self, who: int) -> None:
        some = [subject for subject in self.world.model.subjects if subject.hand]
        if some:
            person = some[who % len(some)]
            person.hand = []
            subject = found(self.annals, person.identities)
            self.annals.manual_stages.apply(ReleaseStage(person.kind, subject, EDITOR, self.now))
            self.after()

    def after(self) -> None:
        """What is done once something has happened."""

    # -- how it is carried out

    def defined(self) -> list[Defined[Any]]:
        return list(self.annals.definitions.load().current.values())

    def _define(self, draft: random_definitions.Drafted, *, activates: bool) -> None:
        self.names += 1
        id = DefinitionId(uuid.uuid4())
        definition = random_definitions.resolved(draft, f"{self.names}", self._names())
        made = self._decide(lambda state: editing.make(state, id, definition, EDITOR))
        if made and activates and not isinstance(definition, Segment):
            self._decide(lambda state: editing.activate(state, id, EDITOR))

    def _put(self, person: Subject, which: int) -> None:
        stages = [None, *self._names().stages[person.kind]]
        stage = stages[which % len(stages)]
        person.hand = [stage]
        subject = found(self.annals, person.identities)
        put = SetStage(person.kind, subject, stage, "a test", EDITOR, self.now)
        self.annals.manual_stages.apply(put)

    def _archive(self, defined: Defined[Any]) -> bool:
        if isinstance(defined.definition, Segment):
            return self._decide(lambda state: editing.delete(state, defined.id, EDITOR))
        return self._decide(lambda state: editing.archive(state, defined.id, EDITOR))

    def _decide(self, decision: Callable[[Definitions], list[Payload]]) -> bool:
        try:
            self.annals.definitions.decide(decision, self.now)
        except Refusal:
            return False  # it would rest on itself, or something rests on it
        return True

    def _names(self) -> random_definitions.Names:
        return random_definitions.names(self.annals.definitions.load().active)

    def _decider(self) -> tuple[ProcessManager, _MortalRecorder]:
        decider = self.annals.decider(lambda: self.now)
        mortal = _MortalRecorder(decider._recorder)
        decider._recorder = mortal
        return decider, mortal

    def moment(self) -> Moment:
        return Moment(self.now, ZONE)

    def settle(self) -> None:
        """Has everything projected and decided, by workers of whom others have died."""
        self.broken = True  # until it is compared
        let_leases_expire(self.url)
        self.world.workers = [None, None]
        projector = self.annals.projector()
        deciders = [decider for decider, _ in self.deciders]
        for _ in range(200):
            drain(projector)
            done = sum(decider.step() + decider.tick() + _swept(decider) for decider in deciders)
            if not done and self._is_idle():
                break
        else:
            raise AssertionError("it goes on and on")
        projector.release()
        assert parked(self.url) == []

    def _is_idle(self) -> bool:
        heads = self.annals.log.heads(range(256))
        with psycopg.connect(self.url, autocommit=True) as conn:
            reached = dict(
                conn.execute("SELECT log_partition, position FROM views.checkpoints").fetchall()
            )
            left = conn.execute(read_model_laws.LEFT, (self.now,)).fetchone()
        return left == (0,) and all(
            reached.get(partition, 0) >= head for partition, head in heads.items()
        )

    def compare(self) -> settled_laws.Settled:
        there = decision_oracle.known(self.annals, self.world.model, self.moment())
        record = decision_laws.read(self.annals)
        decision_laws.assert_lawful(record)
        active = self.annals.definitions.load().active
        hands = {
            SubjectId(found(self.annals, subject.identities)): stage
            for subject in self.world.model.subjects
            for stage in subject.hand
        }
        settled = settled_laws.assert_settled(record, there, active, hands)
        read_model_laws.assert_shown(self.url, settled)
        self.broken = False
        return settled

    def teardown(self) -> None:
        """Read models that are made anew show the same, and nothing more is decided. What is
        archived in the end is taken back."""
        if self.broken:
            return
        self.settle()
        before = self.compare()
        forget_read_models(self.url)
        self.settle()
        assert self.compare().record.series == before.record.series
        while any(
            self._archive(defined_one)
            for defined_one in self.defined()
            if defined_one.status is Status.ACTIVE
        ):
            pass
        self.settle()
        self.compare()


def _swept(decider: ProcessManager) -> int:
    """Brings sweeps on until they wait for what is to be projected first."""
    done = 0
    while decider.sweep():
        done += 1
    return done


class AtOnce(Machine):
    """All is decided as soon as something happens: what is recorded can be foretold."""

    last: decision_laws.Record | None = None
    swept: object = None

    def after(self) -> None:
        self.settle()
        settled = self.compare()
        swept = (self.moment().today, settled.record.versions)
        if self.last is not None:
            settled_laws.assert_straight(self.last, settled, calm=swept == self.swept)
        self.last, self.swept = settled.record, swept

    @rule(chance=chances)
    def make_read_models_anew(self, chance: random.Random) -> None:
        """Whatever is looked at meanwhile, nothing comes of it."""
        before = decision_laws.read(self.annals).series
        forget_read_models(self.url)
        projector = self.world._projector(chance.choice((3, 10, 30)))
        while projector.step():
            for decider, _ in self.deciders:
                decider.step(), decider.tick(), decider.sweep()
        projector.release()
        self.after()
        assert decision_laws.read(self.annals).series == before


class InTheirOwnTime(Machine):
    """Two projectors and two deciders do some work now and then, die over it, and others go on."""

    @rule(chance=chances)
    def work(self, chance: random.Random) -> None:
        """Some work of everyone, while things go on happening."""
        for _ in range(10):
            decider, _ = self.deciders[chance.randrange(2)]
            match chance.randrange(9):
                case 0 | 1:
                    self.world.take(Write(turns(chance, chance.randrange(1, 4))))
                case 2:
                    decider.tick()
                case 3:
                    decider.sweep()
                case 4 | 5:
                    decider.step()
                case _:
                    self.world.take(Project(chance.randrange(2), chance.choice((1, 3, 10, 100))))

    @rule(chance=chances)
    def work_more(self, chance: random.Random) -> None:
        self.work(chance)

    @rule(worker=st.integers(0, 1), in_order=st.booleans())
    def stop_projector(self, worker: int, in_order: bool) -> None:
        self.world.take(Stop(worker, in_order))
        let_leases_expire(self.url)

    @rule(worker=st.integers(0, 1), events=st.sampled_from([1, 3, 100]))
    def kill_projector_at_work(self, worker: int, events: int) -> None:
        projector = self.world._projector(events)
        projector._models._models = (*projector._models._models, _MortalModel())
        with suppress(_Died):
            projector.step()
        let_leases_expire(self.url)
        self.world.workers[worker] = None

    @rule(
        worker=st.integers(0, 1),
        dies=st.sampled_from(["before", "after"]),
        at=st.sampled_from(["step", "step", "sweep", "tick"]),
    )
    def kill_decider_at_work(self, worker: int, dies: str, at: str) -> None:
        decider, recorder = self.deciders[worker]
        recorder.dies = dies
        with suppress(_Died):
            getattr(decider, at)()
        self.deciders[worker] = self._decider()

    @rule()
    def make_read_models_anew(self) -> None:
        forget_read_models(self.url)
        self.world.workers = [None, None]

    @rule()
    def compare_when_settled(self) -> None:
        self.settle()
        self.compare()


def run(machine: type[Machine], annals: Annals, url: str, *, usual: int, steps: int) -> None:
    # Histories are long, and shrinking one takes minutes: one that fails is read as it is.
    run_state_machine_as_test(
        lambda: machine(annals, url),
        settings=settings(
            max_examples=examples(usual),
            stateful_step_count=steps,
            phases=(Phase.explicit, Phase.reuse, Phase.generate),
        ),
    )


def test_what_is_decided_at_once_is_what_can_be_foretold(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        process_manager, "SWEPT_PARTITIONS", 256
    )  # how it is cut is for the other to vary
    run(AtOnce, annals, database_url, usual=5, steps=12)


def test_whatever_happens_everybody_ends_where_the_rules_say(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_manager, "SWEPT_PARTITIONS", 100)
    run(InTheirOwnTime, annals, database_url, usual=6, steps=25)
