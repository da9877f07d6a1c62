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
from hypothesis import given, note, settings
from hypothesis import strategies as st

from domain.activity import Activity, ActivityKind
from domain.backtest.backtest import moments
from domain.backtest.outcomes import band
from domain.commands import Alias, Change, Command, Join, Leave, ReleaseStage, SetStage, Track
from domain.conditions import language as ask
from domain.definitions.types import (
    Definition,
    DefinitionId,
    HealthProfile,
    Score,
    Segment,
    Signal,
    Stage,
    Stages,
    StageType,
)
from domain.errors import Refusal
from domain.identity import SubjectKind
from domain.name_rules import NameRules
from domain.workspace import editing
from infra.bootstrap.annals import Annals
from infra.write.definition_store import DefinitionStore
from projections.queries import backtest
from tests.examples import examples
from tests.projections import backtest_oracle, random_definitions
from tests.projections.projector.test_live_equals_model import (
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
from tests.projections.read_models import account, found, user
from tests.projections.segments import EDITOR, settle

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

drafters = st.integers(0, 2**32).map(lambda seed: random_definitions.Drafter(random.Random(seed)))


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
        subject = self.world.model.names.get(SCOPE_OF_KIND[kind](name)[0])
        if subject is None:
            return
        id = found(self.annals, subject.identities)
        stage = (None, *random_definitions.STAGES)[which]
        self.annals.manual_stages.apply(SetStage(kind, id, stage, "a test", EDITOR, at))
        if which == 0:
            later = at + timedelta(hours=20)
            self.annals.manual_stages.apply(ReleaseStage(kind, id, EDITOR, later))

    def define(self, draft: random_definitions.Drafted) -> DefinitionId | None:
        id, definition = DefinitionId(uuid.uuid4()), self.resolved(draft)
        with suppress(Refusal):  # it would rest on itself
            self.annals.definitions.decide(
                lambda state: editing.make(state, id, definition, EDITOR), BEGINNING
            )
            if not isinstance(definition, Segment):
                self.annals.definitions.decide(
                    lambda state: editing.activate(state, id, EDITOR), BEGINNING
                )
            return id
        return None

    def define_missing_stages(self) -> None:
        """Nobody can be put into a stage by hand where there have never been any."""
        there = {
            definition.kind for definition in self.active.values() if isinstance(definition, Stages)
        }
        for kind in set(SubjectKind) - there:
            self.define(
                Stages(kind, "", [Stage("trial", StageType.OTHER, random_definitions.ANYBODY)])
            )

    def resolved(self, draft: random_definitions.Drafted) -> random_definitions.Drafted:
        self.names += 1
        return random_definitions.resolved(
            draft, f"{self.names}", random_definitions.names(self.active)
        )

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
            names=NameRules(),
            queries=annals.queries,
            log=annals.log,
            records=annals.records,
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
    scene.define_missing_stages()
    scene.world.catch_up()
    draft = scene.resolved(drafter.draft())
    note(f"{draft}")
    expected, last = backtest_oracle.decided(
        backtest_oracle.told(scene.annals), draft, scene.active, moments(NOW, ZONE, DAYS)
    )
    for sample in (None, 1_000):
        tested = scene.test(draft, sample=sample)
        for day, answers in zip(tested.result.days, expected, strict=True):
            labels = [label(draft, answer) for answer in answers.values()]
            shown = {count.outcome: count.subjects for count in day.counts}
            assert shown == {label: labels.count(label) for label in labels}, (sample, day)
        assert {id: verdict.after for id, verdict in tested.verdicts.items()} == {
            id: label(draft, answer) for id, answer in expected[-1].items()
        }
        for id, verdict in tested.verdicts.items():
            facts = last[id]
            if tested.result.compared_with is not None and isinstance(draft, Stages):
                assert verdict.before == facts.stage
            elif tested.result.compared_with is not None:
                assert verdict.before == facts.health.value


@settings(max_examples=examples(10))
@given(st.data())
def test_of_today_it_says_what_has_been_decided(
    annals: Annals, database_url: str, data: st.DataObject
) -> None:
    scene = Scene(annals, database_url)
    scene.live(data.draw(histories))
    drafter = data.draw(drafters)
    for some in drafter.workspace():
        # What signals did before they were active is no history of theirs.
        if not isinstance(some, Signal):
            scene.define(some)
    scene.define_missing_stages()
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
        if isinstance(definition, Signal | Stages | HealthProfile | Score | Segment):
            tested = scene.test(definition, id)
            for subject, kind, stage, health in contacts:
                if kind != definition.kind.value:
                    assert subject not in tested.verdicts
                    continue
                verdict = tested.verdicts[subject]
                match definition:
                    case Stages():
                        assert verdict.after == stage
                    case HealthProfile():
                        assert verdict.after == health
                    case Score():
                        assert verdict.after_value == values[id, subject]
                    case _:
                        assert (verdict.after == "in") is ((id, subject) in inside), definition
                assert verdict.after == verdict.before
            assert tested.result.differing == 0


def counts(tested: backtest.Tested) -> list[dict[str | None, int]]:
    return [{count.outcome: count.subjects for count in day.counts} for day in tested.result.days]


def test_two_users_are_two_until_the_day_on_which_they_turn_out_to_be_one(
    annals: Annals, database_url: str
) -> None:
    scene = Scene(annals, database_url)
    login = (Activity(ActivityKind.EVENT, "login"),)
    later = BEGINNING + timedelta(days=2)
    scene.world.take(
        Write(
            [
                Join(user("u0"), account("a0"), {}, {}, BEGINNING),
                Track(user("u0"), (), login, BEGINNING),
                Change(SubjectKind.USER, user("u1"), {}, BEGINNING),
                Alias(user("u1"), user("u0"), later),
            ]
        )
    )
    scene.world.catch_up()
    nobody: dict[str | None, int] = {}
    two, within = {"in": 1, "out": 1}, {"in": 1}
    for condition in (ask.BelongsTo(), ask.Did("event", "login")):
        for sample in (None, 10):
            tested = scene.test(Segment(SubjectKind.USER, "in", condition), sample=sample)
            assert counts(tested) == [nobody, two, two, within, within, within]
    with_one = ask.OfUsers(ask.AtLeastOf(1), ask.Did("event", "login"))
    tested = scene.test(Segment(SubjectKind.ACCOUNT, "with one", with_one))
    assert counts(tested) == [nobody, within, within, within, within, within]


def test_a_value_that_is_sent_late_counts_from_its_day_until_the_next(
    annals: Annals, database_url: str
) -> None:
    scene = Scene(annals, database_url)
    kind, day = SubjectKind.USER, timedelta(days=1)
    scene.world.take(
        Write(
            [
                Change(kind, user("u0"), {"plan": "free"}, BEGINNING),
                Change(kind, user("u0"), {"plan": "pro"}, BEGINNING + 3 * day),
                Change(kind, user("u0"), {"plan": "old"}, BEGINNING + day),
            ]
        )
    )
    scene.world.catch_up()
    plans = [
        counts(scene.test(Segment(kind, "s", ask.PropertyIs("plan", ask.Is(plan)))))
        for plan in ("free", "old", "pro")
    ]
    within, none, nobody = {"in": 1}, {"out": 1}, {}
    assert plans == [
        [nobody, within, none, none, none, none],
        [nobody, none, within, within, none, none],
        [nobody, none, none, none, within, within],
    ]


def test_accounts_that_turn_out_to_be_one_are_one_membership_from_that_day_on(
    annals: Annals, database_url: str
) -> None:
    scene = Scene(annals, database_url)
    day = timedelta(days=1)
    a0, a1 = account("a0"), account("a1")
    scene.world.take(
        Write(
            [
                Join(user("u0"), a0, {}, {}, BEGINNING),
                Join(user("u0"), a1, {}, {}, BEGINNING),
                Join(user("u1"), a1, {}, {}, BEGINNING),
                Leave(user("u0"), a0, BEGINNING + day),
                Change(SubjectKind.ACCOUNT, a0 + a1, {}, BEGINNING + 2 * day),
            ]
        )
    )
    scene.world.catch_up()
    with scene.annals.views.connection() as conn:
        [(loser,)] = conn.execute("SELECT loser FROM views.merges").fetchall()
    kind = SubjectKind.USER
    left = Segment(kind, "left", ask.BelongsTo(ended=True))
    in_loser = Segment(kind, "in it", ask.BelongsTo(other=loser))
    for sample in (None, 5):
        tested = scene.test(left, sample=sample)
        out, within, both = {"out": 2}, {"in": 1, "out": 1}, {"in": 2}
        assert counts(tested) == [{}, out, within, out, out, out], sample
        tested = scene.test(in_loser, sample=sample)
        assert counts(tested)[-3:] == [both] * 3, sample


def test_who_was_somebody_else_and_is_erased_belongs_once(
    annals: Annals, database_url: str
) -> None:
    scene = Scene(annals, database_url)
    day = timedelta(days=1)
    scene.world.take(
        Write(
            [
                Join(user("u0"), account("a0"), {}, {}, BEGINNING),
                Join(user("u1"), account("a0"), {}, {}, BEGINNING),
                Alias(user("u0"), user("u1"), BEGINNING + day),
                Leave(user("u0"), account("a0"), BEGINNING + 2 * day),
            ]
        )
    )
    scene.world.take(Erase(SubjectKind.USER, "u0"))
    scene.world.catch_up()
    some = Segment(SubjectKind.ACCOUNT, "some", ask.BelongsTo())
    within, none = {"in": 1}, {"out": 1}
    for sample in (None, 5):
        tested = scene.test(some, sample=sample)
        assert counts(tested) == [{}, within, within, none, none, none], sample


def test_who_is_on_a_list_counts_from_the_day_of_the_change(
    annals: Annals, database_url: str
) -> None:
    scene = Scene(annals, database_url)
    scene.world.take(Write([Change(SubjectKind.USER, user("u0"), {}, BEGINNING)]))
    scene.world.catch_up()
    id, day = DefinitionId(uuid.uuid4()), timedelta(days=1)
    ada = found(scene.annals, user("u0"))
    static = Segment(SubjectKind.USER, "list")
    scene.annals.definitions.decide(
        lambda state: editing.make(state, id, static, EDITOR), BEGINNING
    )
    for shift, on in ((1, True), (3, False)):
        changes = editing.change_list([ada], EDITOR, on=on)
        scene.annals.definitions.change_list(id, changes, BEGINNING + shift * day)
    tested = scene.test(Segment(SubjectKind.USER, "inside", ask.InSegment(id)))
    assert counts(tested) == [{}, {"out": 1}, {"in": 1}, {"in": 1}, {"out": 1}, {"out": 1}]


def test_what_somebody_set_by_hand_counts_as_set_until_it_was_released(
    annals: Annals, database_url: str
) -> None:
    scene = Scene(annals, database_url)
    scene.world.take(Write([Change(SubjectKind.USER, user("u0"), {}, BEGINNING)]))
    ada, day, kind = found(scene.annals, user("u0")), timedelta(days=1), SubjectKind.USER
    stages = scene.annals.manual_stages
    stages.apply(SetStage(kind, ada, "trial", "a talk", EDITOR, BEGINNING + day))
    stages.apply(ReleaseStage(kind, ada, EDITOR, BEGINNING + 3 * day))
    scene.world.catch_up()
    tested = scene.test(Stages(kind, "life", [Stage("all", StageType.OTHER, ask.AllOf([]))]))
    all_, trial = {"all": 1}, {"trial": 1}
    assert counts(tested) == [{}, all_, trial, trial, all_, all_]


def test_an_account_is_looked_at_again_when_its_users_change_and_they_when_it_does(
    annals: Annals, database_url: str
) -> None:
    scene = Scene(annals, database_url)
    day, pro = timedelta(days=1), {"plan": "pro"}
    scene.world.take(
        Write(
            [
                Join(user("u0"), account("a0"), {}, {}, BEGINNING),
                Change(SubjectKind.USER, user("u0"), pro, BEGINNING + day),
                Change(SubjectKind.ACCOUNT, account("a0"), pro, BEGINNING + 2 * day),
            ]
        )
    )
    scene.world.catch_up()
    is_pro = ask.PropertyIs("plan", ask.Is("pro"))
    of_users = Segment(SubjectKind.ACCOUNT, "s", ask.OfUsers(ask.AnyOf(), is_pro))
    of_accounts = Segment(SubjectKind.USER, "s", ask.OfAccounts(ask.EveryOf(), is_pro))
    within, none = {"in": 1}, {"out": 1}
    for sample in (None, 5):
        tested = scene.test(of_users, sample=sample)
        assert counts(tested) == [{}, none, within, within, within, within]
        tested = scene.test(of_accounts, sample=sample)
        assert counts(tested) == [{}, none, none, within, within, within]


def test_days_and_hours_alone_bring_it_on(annals: Annals, database_url: str) -> None:
    scene = Scene(annals, database_url)
    tomorrow = (BEGINNING + timedelta(days=2)).isoformat()
    sent = {"plan": "pro", "renewal": tomorrow}
    scene.world.take(Write([Change(SubjectKind.USER, user("u0"), sent, BEGINNING)]))
    scene.world.catch_up()
    kind = SubjectKind.USER
    soon = ask.PropertyIs("renewal", ask.InNextDays(1))
    tested = scene.test(Segment(kind, "s", soon))
    within, none = {"in": 1}, {"out": 1}
    assert counts(tested) == [{}, none, within, within, none, none]
    anybody, nobody = ask.AllOf([]), ask.OneOf([])
    tested = scene.test(Signal(kind, "s", anybody, goal=nobody, goal_hours=48))
    days = tested.result.days
    assert [day.triggered for day in days] == [0, 1, 0, 0, 0, 0]
    assert [day.missed for day in days] == [0, 0, 0, 1, 0, 0]


def test_what_an_account_s_erased_user_did_counts_but_not_its_metadata(
    annals: Annals, database_url: str
) -> None:
    scene = Scene(annals, database_url)
    paid = (Activity(ActivityKind.EVENT, "paid", {"sum": 5}),)
    scene.world.take(Write([Track(user("u0"), account("a0"), paid, BEGINNING)]))
    scene.world.take(Erase(SubjectKind.USER, "u0"))
    scene.world.catch_up()
    plain = ask.Did("event", "paid")
    detailed = ask.Did("event", "paid", where=[ask.MetadataIs("sum", ask.IsNot(9))])
    for sample in (None, 5):
        tested = scene.test(Segment(SubjectKind.ACCOUNT, "s", plain), sample=sample)
        assert counts(tested)[-1] == {"in": 1}
        tested = scene.test(Segment(SubjectKind.ACCOUNT, "s", detailed), sample=sample)
        assert counts(tested)[-1] == {"out": 1}
        assert scene.test(Segment(SubjectKind.USER, "s", plain), sample=sample).verdicts == {}
