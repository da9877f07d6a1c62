"""A condition means in SQL what it means in plain Python, for everybody at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from domain.activity import ActivityKind
from domain.calendar import LastDays, Moment, Yesterday, start_of
from domain.commands import Alias, Change, Join, Leave, Track
from domain.conditions import language as ask
from domain.conditions.evaluation import World, holds
from domain.conditions.language import Condition
from domain.identity import SubjectKind
from infra.bootstrap.annals import Annals
from infra.postgres import database
from projections.conditions.compiler import QueryScope, predicate
from projections.conditions.fragments import Predicate
from projections.kernel.tables import contacts
from tests.projections.read_models import NOON, account, event, project, user, write
from tests.projections.read_models import found as subject_of
from tests.projections.stored_worlds import store, store_counters
from tests.random_conditions import DAYS, HOSTILE, ROLES, WorldMaker, conditions, moments

MAY_13 = Moment(datetime(2024, 5, 13, 12, tzinfo=UTC), ZoneInfo("UTC"))
IS_SET = ask.IsSet()


@pytest.fixture
def conn(database_url: str) -> Iterator[sa.Connection]:
    engine = database.engine(database_url, "annals_views", size=1)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def driver_of(conn: sa.Connection) -> psycopg.Connection:
    driver = conn.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def keep(conn: sa.Connection, world: World) -> None:
    store(driver_of(conn), world)


def found(
    conn: sa.Connection, condition: Condition, kind: SubjectKind, moment: Moment, scope: QueryScope
) -> set[UUID]:
    """Whom the predicate holds of; and that it is never null."""
    [chosen] = found_each(conn, [condition], kind, moment, scope)
    return chosen


def found_each(
    conn: sa.Connection,
    asked: Sequence[Condition],
    kind: SubjectKind,
    moment: Moment,
    scope: QueryScope,
) -> list[set[UUID]]:
    """Whom each of the predicates holds of; and that none is ever null. Each is asked both of
    everybody and in a statement's WHERE."""
    tests = [predicate(condition, kind, moment, scope=scope) for condition in asked]
    columns = [test.label(f"holds_{n}") for n, test in enumerate(tests)]
    rows = conn.execute(
        sa.select(contacts.c.subject, *columns).where(contacts.c.kind == kind.value)
    ).all()
    chosen: list[list[UUID]] = [[] for _ in tests]
    for n, subject in conn.execute(choosing_each(tests, kind)):
        chosen[n].append(subject)
    for n, condition in enumerate(asked):
        assert {row[n + 1] for row in rows} <= {True, False}, condition
        assert set(chosen[n]) == {row.subject for row in rows if row[n + 1]}, condition
        assert len(set(chosen[n])) == len(chosen[n]), condition
    return [set(subjects) for subjects in chosen]


def choosing_each(
    tests: Sequence[Predicate], kind: SubjectKind
) -> sa.CompoundSelect[tuple[int, UUID]]:
    """Whom each of the tests chooses, with its place among them."""
    return sa.union_all(
        *(
            sa.select(sa.literal_column(str(n), sa.Integer), contacts.c.subject).where(
                contacts.c.kind == kind.value, test
            )
            for n, test in enumerate(tests)
        )
    )


def oracle(condition: Condition, kind: SubjectKind, world: World, moment: Moment) -> set[UUID]:
    return {
        id
        for id, facts in world.subjects.items()
        if facts.kind is kind and holds(condition, id, world, moment)
    }


@given(st.data())
def test_the_predicate_and_the_evaluator_agree(conn: sa.Connection, data: st.DataObject) -> None:
    moment = data.draw(moments())
    world = WorldMaker(data.draw(st.integers(0, 2**32)), moment).world(users=300, accounts=40)
    keep(conn, world)
    users = [id for id, subject in world.subjects.items() if subject.kind is SubjectKind.USER]
    accounts = [*(id for id in world.subjects if id not in set(users)), *world.merged]
    for _ in range(4):
        kind = data.draw(st.sampled_from(SubjectKind))
        others, own = (accounts, users) if kind is SubjectKind.USER else (users, accounts)
        condition = data.draw(conditions(kind, others, own))
        store_counters(driver_of(conn), world, condition, moment)
        expected = oracle(condition, kind, world, moment)
        for scope in QueryScope:
            assert found(conn, condition, kind, moment, scope) == expected, scope


def of_activity() -> list[Condition]:
    """Chance seldom meets the names that are there: so each is asked for."""
    return [
        ask.Did(activity, name, count, period, where)
        for activity in ("event", "page", "campaign")
        for name in ("opened", "paid")
        for count in (ask.Occurred(), ask.AtLeastTimes(2), ask.ExactlyTimes(1), ask.AtMostTimes(2))
        for period in (None, LastDays(31))
        for where in ([], [ask.MetadataIs("sum", IS_SET)])
    ]


def of_memberships(kind: SubjectKind, others: list[UUID]) -> list[Condition]:
    across = ask.OfAccounts if kind is SubjectKind.USER else ask.OfUsers
    inside: list[Condition] = [
        ask.PropertyIs("plan", IS_SET),
        ask.Not(ask.HealthIs([ask.Health.BAD])),
        ask.Did("page", "opened", ask.AtLeastTimes(2)),
    ]
    return [
        *(
            ask.BelongsTo(other, role, ended)
            for other in (None, *others)
            for role in (None, *ROLES)
            for ended in (False, True)
        ),
        *(
            across(quantifier, where)
            for quantifier in (ask.AnyOf(), ask.EveryOf(), ask.AtLeastOf(2), ask.AtLeastOf(3))
            for where in inside
        ),
    ]


def of_dates() -> list[Condition]:
    edges = [start_of(day, MAY_13.zone) for day in (*DAYS[:3], MAY_13.today)]
    limits = [
        *(str(edge.date()) for edge in edges),
        *(edge.isoformat() for edge in edges),
        "0002-01-01",
        "9998-12-31",
    ]
    tests: list[ask.Test] = [
        *(ask.Before(limit) for limit in limits),
        *(ask.After(limit) for limit in limits),
        *(ask.InPeriod(LastDays(days)) for days in (1, 30, 400)),
        *(ask.InNextDays(days) for days in (1, 400)),
        *(ask.MoreThanDaysAgo(days) for days in (1, 30)),
    ]
    return [
        asked
        for test in tests
        for asked in (
            ask.PropertyIs("renewal_date", test),
            ask.PropertyIs("mixed", test),
            ask.AttributeIs(ask.Attribute.LAST_SEEN, test),
        )
    ]


@pytest.mark.parametrize("kind", SubjectKind)
def test_each_question_is_answered_as_it_means(conn: sa.Connection, kind: SubjectKind) -> None:
    world = WorldMaker(1, MAY_13).world(users=250, accounts=30)
    keep(conn, world)
    others = [id for id, subject in world.subjects.items() if subject.kind is not kind][:3]
    others += [*world.merged][:2] if kind is SubjectKind.USER else []
    differing = 0
    for asked in (of_activity(), of_memberships(kind, others), of_dates()):
        store_counters(driver_of(conn), world, ask.AllOf(asked), MAY_13)
        expected = [oracle(condition, kind, world, MAY_13) for condition in asked]
        differing += sum(map(bool, expected))
        for scope in QueryScope:
            answers = found_each(conn, asked, kind, MAY_13, scope)
            for condition, answer, whom in zip(asked, answers, expected, strict=True):
                assert answer == whom, (condition, scope)
    assert differing > 100


def places(text: str) -> list[tuple[SubjectKind, Condition]]:
    """A condition for each place in which a text can stand."""
    user, account = SubjectKind.USER, SubjectKind.ACCOUNT
    tests = (
        ask.Is(text), ask.IsNot(text), ask.In([text, text]), ask.NotIn([text]),
        ask.Contains(text), ask.StartsWith(text),
    )  # fmt: skip
    plain: list[Condition] = [
        *(ask.PropertyIs(text, test) for test in tests),
        *(ask.PropertyIs("plan", test) for test in tests),
        *(ask.AttributeIs(ask.Attribute.NAME, test) for test in tests),
        ask.PropertyIs(text, ask.Greater(1)),
        ask.PropertyIs(text, ask.InPeriod(LastDays(3))),
        ask.PropertyIs(text, IS_SET),
        ask.Did("event", text),
        ask.Did("page", text, ask.AtLeastTimes(2), LastDays(3)),
        ask.StageIs([text]),
        ask.ScoreIs(text, ask.Greater(1)),
        ask.SignalIs(text, True),
        ask.BelongsTo(role=text),
    ]
    within_others: list[tuple[SubjectKind, Condition]] = [
        (user, ask.OfAccounts(ask.EveryOf(), condition)) for condition in plain
    ]
    return (
        [(user, condition) for condition in plain]
        + [(account, condition) for condition in plain]
        + within_others
    )


@pytest.mark.parametrize("text", [*HOSTILE, "Robert'); DROP TABLE views.contacts;--"])
def test_no_text_of_a_condition_becomes_sql(conn: sa.Connection, text: str) -> None:
    world = WorldMaker(5, MAY_13).world(users=60, accounts=8)
    keep(conn, world)
    mark = "\u2764"
    for kind in SubjectKind:
        asked = [condition for of, condition in places(text) if of is kind]
        marked = [condition for of, condition in places(text + mark) if of is kind]
        expected = [oracle(condition, kind, world, MAY_13) for condition in asked]
        for scope in QueryScope:
            assert found_each(conn, asked, kind, MAY_13, scope) == expected
            tests = [predicate(condition, kind, MAY_13, scope=scope) for condition in marked]
            assert mark not in str(choosing_each(tests, kind).compile(conn))
    assert conn.scalar(sa.select(sa.func.count()).select_from(contacts)) == len(world.subjects)


def test_a_predicate_brings_the_contacts_it_is_about_into_a_statement(conn: sa.Connection) -> None:
    world = WorldMaker(6, MAY_13).world(users=80, accounts=10)
    keep(conn, world)
    condition = ask.OfAccounts(ask.AnyOf(), ask.Not(ask.Did("page", "opened")))
    expected = oracle(condition, SubjectKind.USER, world, MAY_13)
    aliased = contacts.alias("one")
    for scope in QueryScope:
        test = predicate(condition, SubjectKind.USER, MAY_13, scope=scope, contact=aliased)
        count = sa.select(sa.func.count()).where(aliased.c.kind == "user", test)
        assert conn.scalar(count) == len(expected)
        assert conn.scalar(sa.select(sa.func.count()).where(aliased.c.kind == "user", ~test)) == (
            80 - len(expected)
        )
        inner = sa.select(aliased.c.subject).where(aliased.c.subject == contacts.c.subject, test)
        outer = sa.select(contacts.c.subject).where(contacts.c.kind == "user", inner.exists())
        assert set(conn.scalars(outer)) == expected


def test_conditions_see_what_commands_said(annals: Annals, database_url: str) -> None:
    """Given users, accounts and merges, as the handler writes and the projector shows them."""
    yesterday = NOON - timedelta(days=1)
    page = event("acme.com/pricing", ActivityKind.PAGE)
    write(
        annals,
        Change(SubjectKind.USER, user("ann"), {"plan": "pro", "born": "2000-02-29"}, NOON),
        Change(SubjectKind.USER, user("bob"), {"plan": "free", "seats": 0.1}, NOON),
        Change(SubjectKind.ACCOUNT, account("acme"), {"mrr": 12.5}, NOON),
        Change(SubjectKind.ACCOUNT, account("left"), {"mrr": 1}, NOON),
        Join(user("ann"), account("acme"), {}, {"role": "admin"}, NOON),
        Join(user("bob"), account("acme"), {}, {}, NOON),
        Join(user("bob"), account("left"), {}, {}, NOON),
        Leave(user("bob"), account("left"), NOON + timedelta(hours=1)),
        *(Track(user("ann"), (), event("paid"), yesterday) for _ in range(3)),
        Track(user("bob"), account("acme"), event("paid"), NOON),
        Track(user("bob"), (), page, NOON),
        Alias(user("ann"), user("ann@example.com"), NOON),
    )
    project(annals)
    ids = {name: subject_of(annals, user(name)) for name in ("ann", "bob")}
    ids |= {name: subject_of(annals, account(name)) for name in ("acme", "left")}
    paid = ask.Did("event", "paid", ask.AtLeastTimes(3), Yesterday())
    of_acme = ask.PropertyIs("mrr", ask.Is(12.5))
    questions: list[tuple[SubjectKind, Condition, set[str]]] = [
        (SubjectKind.USER, ask.PropertyIs("plan", ask.Is("pro")), {"ann"}),
        (SubjectKind.USER, ask.PropertyIs("born", ask.Before("2000-03-01")), {"ann"}),
        (SubjectKind.USER, ask.PropertyIs("seats", ask.AtMost(0.1)), {"bob"}),
        (SubjectKind.USER, ask.AttributeIs(ask.Attribute.EMAIL, IS_SET), {"ann"}),
        (SubjectKind.USER, paid, {"ann"}),
        (SubjectKind.USER, ask.Not(paid), {"bob"}),
        (SubjectKind.USER, ask.BelongsTo(other=ids["acme"], role="admin"), {"ann"}),
        (SubjectKind.USER, ask.BelongsTo(other=ids["left"], ended=True), {"bob"}),
        (SubjectKind.USER, ask.OfAccounts(ask.EveryOf(), of_acme), {"ann", "bob"}),
        (SubjectKind.ACCOUNT, ask.Did("event", "paid", ask.ExactlyTimes(1)), {"acme"}),
        (SubjectKind.ACCOUNT, ask.Did("page", "acme.com/pricing"), {"acme"}),
        (SubjectKind.ACCOUNT, ask.OfUsers(ask.AtLeastOf(2), ask.BelongsTo()), {"acme"}),
        (SubjectKind.ACCOUNT, ask.OfUsers(ask.AnyOf(), paid), {"acme"}),
    ]
    engine = database.engine(database_url, "annals_views", size=1)
    with engine.connect() as conn:
        for kind, condition, expected in questions:
            for scope in QueryScope:
                got = found(conn, condition, kind, MAY_13, scope)
                assert got == {ids[name] for name in expected}, condition
    engine.dispose()
