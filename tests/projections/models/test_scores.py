"""Scores: the value of each subject, the rules that hold, and since when each does or does not."""

from __future__ import annotations

from decimal import Decimal

from tests.projections.given import (
    NOON,
    Tables,
    ada,
    ben,
    days_later,
    erased,
    given,
    merged,
    registered,
    scored,
)

SCORES = "SELECT subject, ordinal, value, held, since, changed_at FROM views.scores"
NOW, LATER = NOON.isoformat(), days_later(2).isoformat()


def test_a_score_has_its_value_and_the_rules_that_hold(tables: Tables) -> None:
    events = given(registered(ada), scored(ada, 66.67, 1, held=["active"], missed=["invited"]))
    assert tables.after(SCORES, events) == [
        (ada.id, 1, Decimal("66.67"), ["active"], {"active": NOW, "invited": NOW}, NOON)
    ]


def test_a_rule_keeps_the_instant_since_which_it_holds(tables: Tables) -> None:
    first = given(registered(ada), scored(ada, 50, 1, held=["active"], missed=["invited"]))
    second = given(scored(ada, 100, 2, held=["active", "invited"], at=days_later(2)))
    since = {"active": NOW, "invited": LATER}
    assert tables.after(SCORES, first, second) == [
        (ada.id, 2, Decimal(100), ["active", "invited"], since, days_later(2))
    ]


def test_two_decisions_in_one_batch_come_to_the_same_as_in_two(tables: Tables) -> None:
    events = [
        registered(ada),
        scored(ada, 50, 1, held=["active"], missed=["invited"]),
        scored(ada, 100, 2, held=["active", "invited"], at=days_later(2)),
    ]
    assert tables.after(SCORES, given(*events)) == tables.after(SCORES, *map(given, events))


def test_an_archived_score_has_no_value(tables: Tables) -> None:
    events = given(registered(ada), scored(ada, 50, 1, held=["active"]), scored(ada, None, 2))
    assert tables.after(SCORES, events) == [(ada.id, 2, None, [], {}, NOON)]


def test_scores_of_merged_and_erased_subjects_are_gone(tables: Tables) -> None:
    first = given(registered(ada), registered(ben), scored(ada, 50, 1), scored(ben, 50, 1))
    assert tables.after(SCORES, first, given(merged(ada, ben)), given(erased(ben))) == []
