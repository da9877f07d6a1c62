"""What a decision saw is the same in SQL as in plain Python, and small."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from domain.calendar import LastDays, Moment
from domain.conditions import language as ask
from domain.conditions.evaluation import Deed, Facts, World, holds
from domain.conditions.evidence import (
    MAX_SEEN,
    MAX_SEEN_CHARS,
    MAX_SEEN_ITEMS,
    evidence_of,
    held_by_evidence,
)
from domain.identity import SubjectKind, log_partition
from infra.postgres import database
from projections.conditions.compiler import QueryScope, predicate
from projections.conditions.evidence import evidence
from projections.kernel.tables import contacts
from tests.projections.stored_worlds import store, store_counters
from tests.random_conditions import WorldMaker, conditions, moments

NOW = Moment(datetime(2024, 5, 13, 12, tzinfo=UTC), ZoneInfo("Europe/Brussels"))
SOMEBODY = UUID(int=2**127)
USER, ACCOUNT = SubjectKind.USER, SubjectKind.ACCOUNT


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


def recorded(
    conn: sa.Connection, asked: dict[str, ask.Condition], kind: SubjectKind, moment: Moment
) -> dict[UUID, dict[str, dict[str, Any]]]:
    saw = evidence(asked, kind, moment)
    rows = conn.execute(sa.select(contacts.c.subject, saw).where(contacts.c.kind == kind.value))
    return {row[0]: row[1] for row in rows}


def to_the_type(saw: dict[str, dict[str, Any]]) -> Any:
    """So that true is not 1; a number that is written 1e18 is the same as in full."""
    return {
        place: (type(test["value"]) is bool, test["value"], type(test["held"]), test["held"])
        for place, test in saw.items()
    }


@given(st.data())
def test_what_is_recorded_is_what_the_evaluator_sees(
    conn: sa.Connection, data: st.DataObject
) -> None:
    moment = data.draw(moments())
    world = WorldMaker(data.draw(st.integers(0, 2**32)), moment).world(users=120, accounts=20)
    store(driver_of(conn), world)
    users = [id for id, subject in world.subjects.items() if subject.kind is USER]
    accounts = [*(id for id in world.subjects if id not in set(users)), *world.merged]
    for _ in range(4):
        kind = data.draw(st.sampled_from(SubjectKind))
        others, own = (accounts, users) if kind is USER else (users, accounts)
        asked = {
            f"/stages/{n}/condition": data.draw(conditions(kind, others, own)) for n in range(2)
        }
        store_counters(driver_of(conn), world, ask.AllOf([*asked.values()]), moment)
        found = recorded(conn, asked, kind, moment)
        assert found.keys() == {
            id for id, subject in world.subjects.items() if subject.kind is kind
        }
        for id, saw in found.items():
            assert to_the_type(saw) == to_the_type(evidence_of(asked, id, world, moment)), asked
            for place, condition in asked.items():
                assert held_by_evidence(condition, place, saw) is holds(
                    condition, id, world, moment
                )


IS_PRO = ask.PropertyIs("plan", ask.Is("pro"))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (IS_PRO, {"/c": ("pro", True)}),
        (ask.PropertyIs("seats", ask.IsNotSet()), {"/c": (None, True)}),
        (ask.PropertyIs("seats", ask.Less(5)), {"/c": (None, False)}),
        (
            ask.AllOf([IS_PRO, ask.Not(IS_PRO)]),
            {"/c/of/0": ("pro", True), "/c/of/1/of": ("pro", True)},
        ),
        (ask.Did("event", "paid", period=LastDays(7)), {"/c": (2, True)}),
        (ask.Did("event", "paid", ask.AtMostTimes(1)), {"/c": (3, False)}),
        (ask.StageIs(["trial", None]), {"/c": ("trial", True)}),
        (ask.HealthIs([ask.Health.BAD]), {"/c": ("normal", False)}),
        (ask.BelongsTo(), {"/c": (False, False)}),
        (ask.OfAccounts(ask.EveryOf(), IS_PRO), {"/c": (0, False)}),
        (
            ask.AttributeIs(ask.Attribute.LAST_SEEN, ask.InPeriod(LastDays(1))),
            {"/c": ("2024-05-13T11:00:00.000000Z", True)},
        ),
        (ask.AllOf([]), {}),
    ],
)  # fmt: skip
def test_each_test_says_what_it_saw(
    conn: sa.Connection, condition: ask.Condition, expected: dict[str, tuple[Any, bool]]
) -> None:
    facts = Facts(
        USER,
        {"plan": "pro"},
        {ask.Attribute.LAST_SEEN: datetime(2024, 5, 13, 11, tzinfo=UTC)},
        [Deed("event", "paid", NOW.today, count=2), Deed("event", "paid", date(2024, 1, 1))],
        stage="trial",
    )  # fmt: skip
    store(driver_of(conn), World({SOMEBODY: facts}))
    [saw] = recorded(conn, {"/c": condition}, USER, NOW).values()
    assert {place: (test["value"], test["held"]) for place, test in saw.items()} == expected


def test_it_stays_small_whatever_is_stored_and_asked(conn: sa.Connection) -> None:
    facts = Facts(USER, {"long": "é" * 5_000, "many": ["ü" * 5_000] * 200})
    store(driver_of(conn), World({SOMEBODY: facts}))
    asked: dict[str, ask.Condition] = {
        f"/stages/{n}/condition": ask.AllOf(
            [
                ask.PropertyIs("long", ask.StartsWith("é" * 4_000)),
                ask.PropertyIs("many", ask.Contains("x")),
            ]
        )
        for n in range(MAX_SEEN)
    }
    [saw] = recorded(conn, asked, USER, NOW).values()
    assert len(saw) == MAX_SEEN
    first, second = saw["/stages/0/condition/of/0"], saw["/stages/0/condition/of/1"]
    assert first == {"value": "é" * MAX_SEEN_CHARS, "held": True}
    assert second == {"value": ["ü" * MAX_SEEN_CHARS] * MAX_SEEN_ITEMS, "held": False}
    assert saw == evidence_of(asked, SOMEBODY, World({SOMEBODY: facts}), NOW)
    last = f"/stages/{MAX_SEEN - 1}/condition"
    assert held_by_evidence(asked[last], last, saw) is None


def test_what_others_did_and_are_is_only_counted(conn: sa.Connection) -> None:
    world = WorldMaker(3, NOW).world(users=60, accounts=8)
    store(driver_of(conn), world)
    secret = ask.OfUsers(ask.AnyOf(), ask.AllOf([IS_PRO, ask.PropertyIs("vip", ask.IsSet())]))
    for saw in recorded(conn, {"/c": secret}, ACCOUNT, NOW).values():
        assert list(saw) == ["/c"]
        assert isinstance(saw["/c"]["value"], int)


def test_it_stands_beside_the_predicate_in_one_statement(conn: sa.Connection) -> None:
    world = WorldMaker(4, NOW).world(users=80, accounts=10)
    store(driver_of(conn), world)
    condition = ask.Did("page", "opened", ask.AtLeastTimes(2))
    aliased = contacts.alias("one")
    test = predicate(condition, ACCOUNT, NOW, scope=QueryScope.ALL, contact=aliased)
    saw = evidence({"/condition": condition}, ACCOUNT, NOW, contact=aliased)
    rows = conn.execute(sa.select(saw).where(aliased.c.kind == "account", test)).scalars().all()
    assert rows
    assert all(row["/condition"]["held"] for row in rows)
    assert "opened" not in str(sa.select(saw).compile(conn))
    assert msgspec.json.encode(rows[0]).startswith(b'{"/condition":')


def test_scores_and_signals_are_seen_by_their_names_today(conn: sa.Connection) -> None:
    other = UUID(int=2**127 + 1)
    store(driver_of(conn), World({SOMEBODY: Facts(USER), other: Facts(USER)}))
    driver, score, signal = driver_of(conn), UUID(int=2**126), UUID(int=2**126 + 1)
    for id, family, name in ((score, "score", "fit"), (signal, "signal", "alarm")):
        driver.execute(
            "INSERT INTO views.definitions (id, family, kind, name, definition, version, status,"
            " created_at, created_by, changed_at, changed_by) VALUES (%s, %s, 'user', %s, '{}', 2,"
            " 'active', now(), %s, now(), %s)",
            (id, family, name, id, id),
        )
    partition = log_partition(SOMEBODY)
    driver.execute(
        "INSERT INTO views.scores (log_partition, subject, score, ordinal, value, held, since,"
        " changed_at) VALUES (%s, %s, %s, 1, 66.67, '{}', '{}', now())",
        (partition, SOMEBODY, score),
    )
    driver.execute(
        "INSERT INTO views.signals (log_partition, subject, signal, ordinal, is_on, triggers)"
        " VALUES (%s, %s, %s, 1, true, 1)",
        (partition, SOMEBODY, signal),
    )
    asked: dict[str, ask.Condition] = {
        "/score": ask.ScoreIs("fit", ask.AtLeast(50)),
        "/on": ask.SignalIs("alarm", True),
        "/off": ask.SignalIs("alarm", False),
        "/none": ask.ScoreIs("other", ask.IsNotSet()),
    }
    scored = Facts(USER, scores={"fit": 66.67}, signals={"alarm"})
    world = World({SOMEBODY: scored, other: Facts(USER)})
    assert recorded(conn, asked, USER, NOW) == {
        id: evidence_of(asked, id, world, NOW) for id in world.subjects
    }
    assert evidence_of(asked, SOMEBODY, world, NOW)["/off"] == {"value": True, "held": False}
