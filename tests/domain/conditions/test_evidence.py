"""Evidence: what a decision saw of a subject, kept small, and whether its parts held."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from domain.calendar import Moment
from domain.conditions import language as ask
from domain.conditions.evaluation import Facts, Membership, World, holds
from domain.conditions.evidence import (
    MAX_SEEN,
    MAX_SEEN_CHARS,
    MAX_SEEN_ITEMS,
    all_leaves,
    evidence_of,
    held_by_evidence,
    short,
)
from domain.identity import SubjectKind
from tests.random_conditions import WorldMaker, conditions, moments

USER, ACCOUNT = SubjectKind
ADA, ACME, BETA = (UUID(int=n) for n in (1, 11, 12))
NOON = datetime(2026, 5, 13, 12, tzinfo=UTC)
NOW = Moment(NOON, UTC)
IS_PRO = ask.PropertyIs("plan", ask.Is("pro"))


def test_each_test_is_seen_by_its_pointer_with_its_value_and_whether_it_held() -> None:
    world = World({ADA: Facts(USER, {"plan": "pro"})})
    condition = ask.AllOf([IS_PRO, ask.Not(ask.PropertyIs("seats", ask.IsSet()))])
    assert evidence_of({"/condition": condition}, ADA, world, NOW) == {
        "/condition/of/0": {"value": "pro", "held": True},
        "/condition/of/1/of": {"value": None, "held": False},
    }


def test_what_is_asked_of_the_other_kind_is_seen_as_a_number() -> None:
    world = World(
        {ADA: Facts(USER), ACME: Facts(ACCOUNT, {"plan": "pro"}), BETA: Facts(ACCOUNT)},
        [Membership(ADA, ACME, NOON), Membership(ADA, BETA, NOON)],
    )
    across = ask.OfAccounts(ask.EveryOf(), IS_PRO)
    assert evidence_of({"": across}, ADA, world, NOW) == {"": {"value": 1, "held": False}}


def test_values_are_kept_short_and_instants_in_utc() -> None:
    assert short("a" * 500) == "a" * MAX_SEEN_CHARS
    assert short(["b" * 500] * 50) == ["b" * MAX_SEEN_CHARS] * MAX_SEEN_ITEMS
    assert short(NOON.astimezone(timezone(timedelta(hours=2)))) == "2026-05-13T12:00:00.000000Z"
    assert short(5) == 5


def test_of_many_tests_the_first_ones_are_kept() -> None:
    kept = all_leaves({"/a": ask.AllOf([IS_PRO] * 90), "/b": ask.OneOf([IS_PRO] * 90)})
    assert len(kept) == MAX_SEEN
    assert [pointer for pointer, _ in kept][-1] == "/b/of/9"


def test_a_part_of_which_too_little_was_kept_is_not_known_to_have_held() -> None:
    saw = {"/of/0": {"held": True}}
    assert held_by_evidence(ask.AllOf([IS_PRO, IS_PRO]), "", saw) is None
    assert held_by_evidence(ask.OneOf([IS_PRO, IS_PRO]), "", saw) is True
    assert held_by_evidence(ask.Not(IS_PRO), "", {}) is None


@given(st.sampled_from(SubjectKind), moments(), st.data())
def test_what_its_tests_saw_tells_whether_a_condition_held(
    kind: SubjectKind, moment: Moment, data: st.DataObject
) -> None:
    condition = data.draw(conditions(kind))
    world = WorldMaker(data.draw(st.integers(0, 99)), moment).world(users=4, accounts=3)
    for subject in (id for id, facts in world.subjects.items() if facts.kind is kind):
        saw = evidence_of({"": condition}, subject, world, moment)
        if len(saw) < MAX_SEEN:
            assert held_by_evidence(condition, "", saw) == holds(condition, subject, world, moment)
