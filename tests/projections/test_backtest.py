"""A back-test says of every day what reading all again would say, and of today what is decided."""

from __future__ import annotations

import os
import random
import uuid
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given, note
from hypothesis import strategies as st

from domain.backtest.backtest import moments
from domain.backtest.outcomes import band
from domain.commands import Change, Command, Join, ReleaseStage, SetStage, Track
from domain.definitions import (
    Definition,
    DefinitionId,
    HealthProfile,
    Score,
    Segment,
    Signal,
    Stages,
)
from domain.errors import Refusal
from domain.identity import SubjectKind
from infra.definitions import DefinitionStore
from infra.wiring import Annals
from projections import backtest
from tests.projections import drafts, naive_past
from tests.projections.read_models import account, found, user
from tests.projections.segments import EDITOR, settle
from tests.projections.test_live_equals_model import (
    BEGINNING,
    SCOPE_OF_KIND,
    ZONE,
    Erase,
    World,
    Write,
    account_names,
    activities,
    commands,
    instants,
    ties,
    user_names,
)

NOW = BEGINNING + timedelta(days=4)
DAYS = 6

people, firms = user_names.map(user), account_names.map(account)
plans = st.sampled_from([{"plan": "pro"}, {"plan": "free"}, {"seats": 0}, {"seats": 2}])
# What makes conditions change their minds, of those whom others write about too.
turns: st.SearchStrategy[Command] = st.one_of(
    st.builds(Change, st.just(SubjectKind.USER), people, plans, instants),
    st.builds(Change, st.just(SubjectKind.ACCOUNT), firms, plans, instants),
    st.builds(Join, people, firms, plans, ties, instants),
    st.builds(Track, people, st.just(()) | firms, activities, instants),
)
everybody = st.one_of(
    st.tuples(st.just(SubjectKind.USER), user_names),
    st.tuples(st.just(SubjectKind.ACCOUNT), account_names),
)

histories = st.lists(
    st.one_of(
        st.lists(commands | turns, min_size=4, max_size=14).map(Write),
        st.lists(commands | turns, min_size=4, max_size=14).map(Write),
        st.builds(Erase, st.just(SubjectKind.USER), user_names),
        st.tuples(everybody, st.integers(0, 3), instants),
    ),
    min_size=1,
    max_size=5,
)

drafters = st.integers(0, 2**32).map(lambda seed: drafts.Drafter(random.Random(seed)))


class Scene:
    """A company with a past and with definitions."""

    def __init__(self, annals: Annals, url: str) -> None:
        settings = msgspec.structs.replace(annals.settings, time_zone=ZONE)
        definitions = DefinitionStore(annals.log, annals.sealer, os.urandom(32))
        self.annals = replace(annals, settings=settings, definitions=definitions)
        self.world = World(self.annals, url)
        self.names = 0

    def live(self, history: list[Any]) -> None:
        for step in history:
            if isinstance(step, Write | Erase):
                self.world.take(step)
            else:
                self._put_into_a_stage(*step)

    def _put_into_a_stage(self, who: tuple[SubjectKind, str], which: int, at: datetime) -> None:
        kind, name = who
        one = self.world.model.names.get(SCOPE_OF_KIND[kind](name)[0])
        if one is None:
            return
        id = found(self.annals, one.identities)
        stage = (None, *drafts.STAGES)[which]
        self.annals.handler.by_hand(SetStage(kind, id, stage, "a test", EDITOR, at))
        if which == 0:
            later = at + timedelta(hours=20)
            self.annals.handler.by_hand(ReleaseStage(kind, id, EDITOR, later))

    def define(self, draft: drafts.Drafted) -> DefinitionId | None:
        id, definition = DefinitionId(uuid.uuid4()), self.resolved(draft)
        with suppress(Refusal):  # it would rest on itself
            self.annals.definitions.decide(lambda one: one.make(id, definition, EDITOR), BEGINNING)
            if not isinstance(definition, Segment):
                self.annals.definitions.decide(lambda one: one.activate(id, EDITOR), BEGINNING)
            return id
        return None

    def resolved(self, draft: drafts.Drafted) -> drafts.Drafted:
        self.names += 1
        return drafts.resolved(draft, f"{self.names}", drafts.names(self.active))

    @property
    def active(self) -> dict[DefinitionId, Definition]:
        return self.annals.definitions.load().active

    def test(
        self,
        draft: Definition,
        replaces: DefinitionId | None = None,
        *,
        sample: int | None = None,
        days: int = DAYS,
    ) -> backtest.Tested:
        annals = self.annals
        return backtest.run(
            draft,
            self.active,
            replaces,
            days=days,
            sample=sample,
            now=NOW,
            zone=ZONE,
            queries=annals.queries,
            log=annals.log,
            pasts=annals.pasts,
            opener=annals.sealer,
            progress=lambda *_: None,
        )


def label(draft: Definition, answer: Any) -> str | None:
    match draft:
        case Score():
            return band(answer)
        case Segment():
            return "in" if answer else "out"
        case Signal():
            return "on" if answer else "off"
        case HealthProfile():
            return str(answer.value)
        case _:
            return None if answer is None else str(answer)


@given(st.data())
def test_it_says_what_reading_all_again_for_each_day_says(
    annals: Annals, database_url: str, data: st.DataObject
) -> None:
    scene = Scene(annals, database_url)
    scene.live(data.draw(histories))
    drafter = data.draw(drafters)
    for some in drafter.workspace():
        scene.define(some)
    scene.world.catch_up()
    draft = scene.resolved(drafter.draft())
    note(f"{draft}")
    expected = naive_past.decided(
        naive_past.told(scene.annals), draft, scene.active, moments(NOW, ZONE, DAYS)
    )
    for sample in (None, 1_000):
        tested = scene.test(draft, sample=sample)
        for day, answers in zip(tested.result.days, expected, strict=True):
            labels = [
                label(draft, answer) for id, answer in answers.items() if isinstance(id, uuid.UUID)
            ]
            counts = {one.outcome: one.subjects for one in day.counts}
            assert counts == {one: labels.count(one) for one in labels}, (sample, day)
        today = {id: a for id, a in expected[-1].items() if isinstance(id, uuid.UUID)}
        assert {id: one.after for id, one in tested.verdicts.items()} == {
            id: label(draft, answer) for id, answer in today.items()
        }
        for id, one in tested.verdicts.items():
            facts = expected[-1]["facts", id]  # type: ignore[index]
            if tested.result.compared_with is not None and isinstance(draft, Stages):
                assert one.before == facts.stage
            elif tested.result.compared_with is not None:
                assert one.before == facts.health.value


@given(st.data())
def test_of_today_it_says_what_has_been_decided(
    annals: Annals, database_url: str, data: st.DataObject
) -> None:
    scene = Scene(annals, database_url)
    scene.live(data.draw(histories))
    drafter = data.draw(drafters)
    # What signals did before they were active is no history of theirs.
    ids = [scene.define(one) for one in drafter.workspace() if not isinstance(one, Signal)]
    scene.world.catch_up()
    settle(scene.annals, scene.annals.decider(lambda: NOW), url=database_url)
    with scene.annals.views.connection() as conn:
        contacts = conn.execute(
            "SELECT subject, kind, stage, health FROM views.contacts"
        ).fetchall()
        scored = conn.execute("SELECT score, subject, value::float8 FROM views.scores").fetchall()
        inside = conn.execute("SELECT segment, subject FROM views.segment_members").fetchall()
    values = {(score, subject): value for score, subject, value in scored}
    for id, definition in scene.active.items():
        assert id in ids
        if isinstance(definition, Signal | Stages | HealthProfile | Score | Segment):
            tested = scene.test(definition, id)
            for subject, kind, stage, health in contacts:
                if kind != definition.kind.value:
                    assert subject not in tested.verdicts
                    continue
                one = tested.verdicts[subject]
                match definition:
                    case Stages():
                        assert one.after == stage
                    case HealthProfile():
                        assert one.after == health
                    case Score():
                        assert one.after_value == values[id, subject]
                    case _:
                        assert (one.after == "in") is ((id, subject) in inside), definition
                assert one.after == one.before
            assert tested.result.differing == 0
