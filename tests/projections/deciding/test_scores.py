"""Scores: what everybody scores, which rules hold and since when."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from domain.calendar import Moment
from domain.commands import Alias, Change
from domain.conditions.language import AllOf, Greater, Is, IsNotSet, IsSet, Not, PropertyIs, ScoreIs
from domain.definitions import scores as worth
from domain.definitions.types import DefinitionId, ScoreRule
from domain.events.decisions import OfDefinition, OfEvent, ScoreChanged
from domain.identity import SubjectId, SubjectKind, log_partition
from infra.bootstrap.annals import Annals
from projections.conditions.compiler import QueryScope
from projections.deciding.rules.score import ScoringRule
from projections.kernel.tables import scores
from tests.infra.erasures import erase
from tests.projections.definitions import activate, archive, change, decisions, row, score
from tests.projections.read_models import (
    NOON,
    dump,
    forget_read_models,
    found,
    project,
    user,
    write,
)
from tests.projections.segments import define, members, settle

USER = SubjectKind.USER
IS_PRO = PropertyIs("plan", Is("pro"))
IS_BIG = PropertyIs("seats", Greater(10))


def set_properties(annals: Annals, name: str, **values: object) -> SubjectId:
    write(annals, Change(USER, user(name), values, NOON))
    return found(annals, user(name))


def kept(annals: Annals, subject: SubjectId) -> tuple[Any, ...] | None:
    return row(annals, "SELECT value, held, since FROM views.scores WHERE subject = %s", subject)


def shown(annals: Annals, subject: SubjectId) -> tuple[Any, ...]:
    found = kept(annals, subject)
    assert found is not None
    return found


def test_everybody_has_a_score_that_follows_the_rules_that_hold(annals: Annals) -> None:
    id = activate(annals, score(pro=(2, IS_PRO), big=(1, IS_BIG)))
    settle(annals)
    ada = set_properties(annals, "ada", plan="free")
    settle(annals)
    assert kept(annals, ada) is not None
    set_properties(annals, "ada", plan="pro")
    settle(annals)
    set_properties(annals, "ada", seats=11)
    settle(annals)
    found = decisions(annals, ada, ScoreChanged)
    assert [(event.before, event.after, event.held, event.missed) for event in found] == [
        (None, 0.0, [], ["pro", "big"]),
        (0.0, 66.67, ["pro"], ["big"]),
        (66.67, 100.0, ["pro", "big"], []),
    ]
    assert [event.ordinal for event in found] == [1, 2, 3]
    assert {event.definition for event in found} == {id}
    assert isinstance(found[-1].cause, OfEvent)
    assert found[-1].saw == {
        "/rules/0/condition": {"value": "pro", "held": True},
        "/rules/1/condition": {"value": 11, "held": True},
    }
    assert shown(annals, ada)[:2] == (Decimal(100), ["pro", "big"])


def test_each_rule_is_marked_with_since_when_it_holds_or_does_not(annals: Annals) -> None:
    now = NOON
    decider = annals.decider(lambda: now)
    activate(annals, score(pro=(2, IS_PRO), big=(1, IS_BIG)), NOON)
    ada = set_properties(annals, "ada", plan="pro")
    settle(annals, decider)
    now += timedelta(hours=1)
    set_properties(annals, "ada", seats=11)
    settle(annals, decider)
    now += timedelta(hours=1)
    set_properties(annals, "ada", plan="free")
    settle(annals, decider)
    _, held, since = shown(annals, ada)
    assert held == ["big"]
    assert {rule: datetime.fromisoformat(at) for rule, at in since.items()} == {
        "pro": NOON + timedelta(hours=2),
        "big": NOON + timedelta(hours=1),
    }


def test_a_change_of_weights_alone_changes_the_value(annals: Annals) -> None:
    id = activate(annals, score(pro=(1, IS_PRO), big=(1, IS_BIG)))
    ada = set_properties(annals, "ada", plan="pro")
    settle(annals)
    change(annals, id, score(pro=(3, IS_PRO), big=(1, IS_BIG)))
    settle(annals)
    last = decisions(annals, ada, ScoreChanged)[-1]
    assert (last.before, last.after, last.cause) == (50.0, 75.0, OfDefinition(3, id))


def test_an_archived_score_is_nobodys(annals: Annals) -> None:
    id = activate(annals, score(pro=(1, IS_PRO)))
    ada = set_properties(annals, "ada", plan="pro")
    settle(annals)
    archive(annals, id)
    settle(annals)
    last = decisions(annals, ada, ScoreChanged)[-1]
    assert (last.before, last.after, last.held, last.missed) == (100.0, None, [], [])
    assert shown(annals, ada)[:2] == (None, [])


def test_a_segment_follows_a_score(annals: Annals) -> None:
    activate(annals, score(pro=(1, IS_PRO), big=(1, IS_BIG)))
    good = define(annals, ScoreIs("fit", Greater(49)))
    known = define(annals, ScoreIs("fit", IsSet()))
    unknown = define(annals, ScoreIs("fit", IsNotSet()))
    ada = set_properties(annals, "ada", plan="free")
    settle(annals)
    assert (members(annals, good), members(annals, known)) == (set(), {ada})
    assert members(annals, unknown) == set()
    set_properties(annals, "ada", plan="pro")
    settle(annals)
    assert members(annals, good) == {ada}


def test_the_score_of_one_that_was_merged_goes_and_the_other_is_scored_anew(
    annals: Annals,
) -> None:
    activate(annals, score(pro=(1, IS_PRO), big=(1, IS_BIG)))
    ada, old = set_properties(annals, "ada", seats=11), set_properties(annals, "old", plan="pro")
    settle(annals)
    write(annals, Alias(user("ada"), user("old"), NOON))
    settle(annals)
    assert kept(annals, old) is None
    assert shown(annals, ada)[0] == Decimal(100)


def test_scores_of_an_erased_user_are_gone_and_made_anew_they_are_the_same(
    annals: Annals, database_url: str
) -> None:
    activate(annals, score(pro=(2, IS_PRO), big=(1, IS_BIG)))
    ada, ben = (set_properties(annals, name, plan="free") for name in ("ada", "ben"))
    settle(annals)
    set_properties(annals, "ben", plan="pro")
    settle(annals)
    erase(annals, ada)
    settle(annals)
    assert kept(annals, ada) is None
    said, before = decisions(annals, ben, ScoreChanged), dump(database_url)["scores"]
    forget_read_models(database_url)
    settle(annals)
    assert decisions(annals, ben, ScoreChanged) == said
    assert dump(database_url)["scores"] == before


def test_sql_and_plain_python_give_the_same_value(annals: Annals, database_url: str) -> None:
    ada = set_properties(annals, "ada", plan="pro")
    project(annals)
    id = DefinitionId(uuid.uuid4())
    asked = {"partitions": list(range(256)), "now": NOON}
    always = AllOf([])

    @given(
        st.lists(
            st.tuples(st.integers(-1_000_000, 1_000_000).filter(bool), st.booleans()),
            min_size=1,
            max_size=6,
        ).filter(lambda some: sum(weight for weight, _ in some) > 0)
    )
    def the_same(some: list[tuple[int, bool]]) -> None:
        rules = [
            ScoreRule(f"r{n}", weight, always if holds else Not(always))
            for n, (weight, holds) in enumerate(some)
        ]
        held = [f"r{n}" for n, (_, holds) in enumerate(some) if holds]
        rule = ScoringRule(id, 1, USER, rules, set(), asks_the_calendar=False)
        statement = rule.differing(Moment(NOON, UTC), QueryScope.ALL)
        value = worth.value(rules, held)
        for stored, differs in ((value, False), (abs(value - Decimal("0.01")), True)):
            with annals.queries.begin() as conn:
                conn.execute(sa.delete(scores))
                conn.execute(
                    sa.insert(scores).values(
                        log_partition=log_partition(ada), subject=ada, score=id, ordinal=1,
                        value=stored, held=held, since={}, changed_at=NOON,
                    )
                )  # fmt: skip
                assert bool(conn.execute(statement, asked).all()) is differs

    the_same()
