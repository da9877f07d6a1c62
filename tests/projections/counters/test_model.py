"""Events are counted by their metadata: from the log, then live, and never once more or less."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from domain.activity import Activity, ActivityKind
from domain.calendar import LastDays, Moment, Zones
from domain.commands import Alias, Command, Track
from domain.conditions import language as ask
from domain.conditions.counters import counter_of, counters_of
from domain.conditions.evaluation import metadata_passes
from domain.errors import NotReady
from domain.identity import SubjectId, SubjectKind
from domain.workspace.workspace import Workspace
from infra.bootstrap.annals import Annals
from projections.conditions.compiler import QueryScope, predicate
from projections.counters.filler import CounterFiller
from projections.kernel.tables import contacts
from tests.infra.erasures import erase
from tests.projections.counting import need, ready
from tests.projections.read_models import (
    NOON,
    account,
    drain,
    dump,
    empty,
    forget_read_models,
    owner,
    project,
    user,
    write,
)
from tests.projections.read_models import found as subject_of
from tests.projections.segments import define, members, settle

MOMENT = Moment(NOON, ZoneInfo("UTC"))
USERS, ACCOUNTS = ("ann", "bob", "cleo", "dan"), ("acme", "globex")
METADATA = ({}, {"sum": 5}, {"sum": 50}, {"sum": 50, "via": "app"}, {"sum": "50"}, {"via": ""})
MUCH = ask.MetadataIs("sum", ask.AtLeast(50))
BY_APP = ask.MetadataIs("via", ask.IsNot("app"))
QUESTIONS = (
    ask.Did("event", "paid", ask.Occurred(), None, [MUCH]),
    ask.Did("event", "paid", ask.AtLeastTimes(2), LastDays(3), [MUCH, BY_APP]),
    ask.Did("page", "acme.com/buy", ask.AtMostTimes(1), None, [BY_APP]),
    ask.Did("event", "paid", ask.ExactlyTimes(1), None, [ask.MetadataIs("sum", ask.IsSet())]),
)


def counted(
    annals: Annals, condition: ask.Condition, kind: SubjectKind, scope: QueryScope = QueryScope.ALL
) -> set[SubjectId]:
    with annals.queries.connect() as conn:
        need(conn, condition)
        test = predicate(condition, kind, MOMENT, scope=scope)
        return set(conn.scalars(sa.select(contacts.c.subject).where(contacts.c.kind == kind, test)))


def asked_for(annals: Annals, *conditions: ask.Condition) -> None:
    for condition in conditions:
        with pytest.raises(NotReady), annals.queries.connect() as conn:
            need(conn, condition)


def bought(name: str, account_name: str | None = None, **metadata: Any) -> Track:
    did = (Activity(ActivityKind.EVENT, "paid", metadata),)
    return Track(user(name), account(account_name) if account_name else (), did, NOON)


def test_what_is_not_counted_yet_is_said_with_how_far_it_is(annals: Annals) -> None:
    write(annals, bought("ann", sum=50), bought("bob", sum=5))
    project(annals)
    [question] = QUESTIONS[:1]
    says = "metadata of event 'paid' is being counted: 0 % of the log"
    with pytest.raises(NotReady, match=says), annals.queries.connect() as conn:
        need(conn, ask.Not(ask.AllOf([question])))
    ready(annals)
    assert counted(annals, question, SubjectKind.USER) == {subject_of(annals, user("ann"))}


def test_the_same_question_means_the_same_counter_whatever_its_order() -> None:
    condition = ask.Did("event", "paid", where=[MUCH, BY_APP])
    other = ask.Did("event", "paid", ask.ExactlyTimes(3), LastDays(1), [BY_APP, MUCH, MUCH])
    assert counters_of(ask.OneOf([condition, ask.Not(other)])) == {counter_of(condition)}
    assert counter_of(condition).id == counter_of(other).id
    assert counter_of(ask.Did("page", "paid", where=[MUCH, BY_APP])).id != counter_of(condition).id


def test_what_an_account_counts_of_a_user_goes_with_the_user(annals: Annals) -> None:
    write(annals, bought("ann", "acme", sum=50), bought("bob", "acme", sum=50))
    project(annals)
    question = ask.Did("event", "paid", ask.ExactlyTimes(1), None, [MUCH])
    asked_for(annals, question)
    ready(annals)
    acme = subject_of(annals, account("acme"))
    assert counted(annals, question, SubjectKind.ACCOUNT) == set()
    ann = subject_of(annals, user("ann"))
    erase(annals, ann)
    project(annals)
    assert counted(annals, question, SubjectKind.ACCOUNT) == {acme}


def test_an_account_leaves_a_segment_with_the_user_whose_deeds_it_counted(annals: Annals) -> None:
    write(annals, bought("ann", "acme", sum=50), bought("bob", "globex", sum=50))
    project(annals)
    question = ask.Did("event", "paid", ask.Occurred(), None, [MUCH])
    asked_for(annals, question)
    ready(annals)
    buyers = define(annals, question, SubjectKind.ACCOUNT)
    settle(annals)
    acme, globex = (subject_of(annals, account(name)) for name in ACCOUNTS)
    assert members(annals, buyers) == {acme, globex}
    ann = subject_of(annals, user("ann"))
    erase(annals, ann)
    settle(annals)
    assert members(annals, buyers) == {globex}


@dataclass
class Told:
    """What was done, as (user, account or None, activity, name, metadata, when)."""

    deeds: list[tuple[str, str | None, str, str, dict[str, object], datetime]]
    merged: dict[str, str] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)

    def now(self, name: str) -> str:
        while name in self.merged:
            name = self.merged[name]
        return name

    def holds(self, question: ask.Did, who: str, kind: SubjectKind) -> bool:
        times = 0
        for name, of, activity, what, metadata, at in self.deeds:
            by = self.now(name)
            mine = by == who if kind is SubjectKind.USER else of == who
            if (
                mine
                and by not in self.erased
                and (activity, what) == (question.activity, question.name)
                and (question.period is None or at.date() > NOON.date() - timedelta(3))
                and all(
                    metadata_passes(test.test, metadata.get(test.name), MOMENT)
                    for test in question.where
                )
            ):
                times += 1
        match question.count:
            case ask.Occurred():
                return times > 0
            case ask.AtLeastTimes(least):
                return times >= least
            case ask.AtMostTimes(most):
                return times <= most
            case ask.ExactlyTimes(exactly):
                return times == exactly
            case _:
                raise AssertionError(question)


@given(st.integers(0, 2**32), st.lists(st.sampled_from("wwwpprrfffme"), min_size=4, max_size=14))
def test_counters_equal_what_was_done_live_and_rebuilt(
    annals: Annals, database_url: str, seed: int, steps: list[str]
) -> None:
    """Steps: write, project, register a question, fill, merge two users, erase one."""
    chance = random.Random(seed)
    empty(database_url)
    with owner(database_url) as conn:
        for table in ("counters", "counter_fills"):
            conn.execute(f"DELETE FROM views.{table}")
    told, projector = Told([]), annals.projector()
    filler = CounterFiller(
        log=annals.log,
        opener=annals.sealer,
        pool=annals.views,
        workspace=lambda: Workspace(Zones(MOMENT.zone)),
        projector="main",
        keeper=annals.counter_keeper(),
        clock=lambda: datetime.now(UTC),
        chunk_events=chance.choice((1, 3, 1_000)),
    )
    questions = list(QUESTIONS)

    def do_write() -> None:
        commands: list[Command] = []
        for _ in range(chance.randrange(1, 6)):
            name = chance.choice([name for name in USERS if told.now(name) not in told.erased])
            of = chance.choice((None, *ACCOUNTS))
            activity, what = chance.choice((("event", "paid"), ("page", "acme.com/buy")))
            metadata = dict(chance.choice(METADATA))
            at = NOON - timedelta(days=chance.randrange(5))
            told.deeds.append((name, of, activity, what, metadata, at))
            did = (Activity(ActivityKind(activity), what, metadata),)
            commands.append(Track(user(name), account(of) if of else (), did, at))
        write(annals, *commands)

    def do_merge() -> None:
        known = [name for name in USERS if name not in told.merged and name not in told.erased]
        known = [user for user in known if any(told.now(deed[0]) == user for deed in told.deeds)]
        if len(known) > 1:
            survivor, loser = chance.sample(known, 2)
            write(annals, Alias(user(survivor), user(loser), NOON))
            told.merged[loser] = survivor

    def do_erase() -> None:
        known = [name for name in USERS if name not in told.merged and name not in told.erased]
        known = [user for user in known if any(told.now(deed[0]) == user for deed in told.deeds)]
        if len(known) > 2:
            gone = chance.choice(known)
            id = subject_of(annals, user(gone))
            erase(annals, id)
            told.erased.add(gone)

    def do_register() -> None:
        if questions:
            asked_for(annals, questions.pop())

    doing: dict[str, Callable[[], object]] = {
        "w": do_write,
        "p": projector.step,
        "r": do_register,
        "f": filler.step,
        "m": do_merge,
        "e": do_erase,
    }
    for step in ["w", *steps]:
        doing[step]()
    while questions:
        do_register()
    while filler.step():
        pass
    drain(projector)
    projector.release()
    names = {
        (kind, name): annals.subject_lookup.find(identity[0])
        for kind, all_names, make in (
            (SubjectKind.USER, USERS, user),
            (SubjectKind.ACCOUNT, ACCOUNTS, account),
        )
        for name in all_names
        if name not in told.merged and name not in told.erased
        for identity in [make(name)]
    }
    for question in QUESTIONS:
        for kind in SubjectKind:
            expected = {
                id
                for (of_kind, name), id in names.items()
                if of_kind is kind and id is not None and told.holds(question, name, kind)
            }
            for scope in QueryScope:
                assert counted(annals, question, kind, scope) == expected, (question, kind)
    live = dump(database_url)["counter_days"]
    forget_read_models(database_url)
    project(annals)
    assert dump(database_url)["counter_days"] == live
