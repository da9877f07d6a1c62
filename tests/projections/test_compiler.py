"""A condition means in SQL what it means in plain Python, for everybody at once."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from domain.conditions import Condition
from domain.evaluation import World, holds
from domain.identity import SubjectKind
from domain.periods import Moment
from infra import database
from projections.compiler import Scope, predicate
from projections.tables import contacts
from tests.projections.stored_worlds import store
from tests.questions import WorldMaker, conditions, moments


@pytest.fixture
def conn(database_url: str) -> Iterator[sa.Connection]:
    engine = database.engine(database_url, "annals_views", size=1)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def keep(conn: sa.Connection, world: World) -> None:
    driver = conn.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    store(driver, world)


def found(
    conn: sa.Connection, condition: Condition, kind: SubjectKind, moment: Moment, scope: Scope
) -> set[UUID]:
    """Whom the predicate holds of; and that it is never null."""
    test = predicate(condition, kind, moment, scope=scope)
    rows = conn.execute(
        sa.select(contacts.c.subject, test.label("holds")).where(contacts.c.kind == kind.value)
    ).all()
    assert {row.holds for row in rows} <= {True, False}
    chosen = conn.scalars(
        sa.select(contacts.c.subject).where(contacts.c.kind == kind.value, test)
    ).all()
    assert set(chosen) == {row.subject for row in rows if row.holds}
    assert len(set(chosen)) == len(chosen)
    return set(chosen)


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
    users = [id for id, one in world.subjects.items() if one.kind is SubjectKind.USER]
    accounts = [*(id for id in world.subjects if id not in set(users)), *world.merged]
    for _ in range(6):
        kind = data.draw(st.sampled_from(SubjectKind))
        others, own = (accounts, users) if kind is SubjectKind.USER else (users, accounts)
        condition = data.draw(conditions(kind, others, own))
        expected = oracle(condition, kind, world, moment)
        for scope in Scope:
            assert found(conn, condition, kind, moment, scope) == expected, scope
