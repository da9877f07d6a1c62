"""Lifecycle: stage and health of each subject, the manual stage, and the history of stages."""

from __future__ import annotations

from domain.conditions.language import Health
from tests.projections.given import (
    NOON,
    Tables,
    ada,
    ben,
    days_later,
    erased,
    given,
    health_changed,
    registered,
    stage_entered,
    stage_left,
    stage_set,
)

STAGES = "SELECT c.subject, c.stage, c.health FROM views.contacts c ORDER BY c.external_id"
SINCE = "SELECT stage_ordinal, stage_since, health_ordinal, health_since FROM views.standings"
MANUAL = "SELECT is_by_hand, hand_stage, hand_reason, hand_at FROM views.standings"
SPELLS = "SELECT stage, entered_at, left_at FROM views.stage_spells ORDER BY ordinal"
BARS = """
SELECT stage, health, count FROM views.bar_counts WHERE count <> 0 ORDER BY stage, health"""


def test_a_subject_is_in_the_stage_that_it_entered_last(tables: Tables) -> None:
    events = given(
        registered(ada),
        registered(ben),
        stage_entered(ada, "trial", 1),
        stage_left(ada, "trial", 2, at=days_later(3)),
        stage_entered(ada, "paying", 3, at=days_later(3)),
    )
    assert tables.after(STAGES, events) == [
        (ada.id, "paying", "normal"),
        (ben.id, None, "normal"),
    ]
    assert tables.after(SINCE, events) == [(3, days_later(3), 0, None)]


def test_the_history_of_stages_stays(tables: Tables) -> None:
    first = given(registered(ada), stage_entered(ada, "trial", 1))
    second = given(
        stage_left(ada, "trial", 2, at=days_later(3)),
        stage_entered(ada, "paying", 3, at=days_later(3)),
    )
    assert tables.after(SPELLS, first, second) == [
        ("trial", NOON, days_later(3)),
        ("paying", days_later(3), None),
    ]


def test_health_and_stage_change_apart(tables: Tables) -> None:
    first = given(registered(ada), stage_entered(ada, "trial", 1))
    second = given(health_changed(ada, Health.NORMAL, Health.GOOD, 1, at=days_later(1)))
    assert tables.after(STAGES, first, second) == [(ada.id, "trial", "good")]
    assert tables.after(SINCE, first, second) == [(1, NOON, 1, days_later(1))]


def test_bars_count_each_contact_once(tables: Tables) -> None:
    first = given(registered(ada), registered(ben), stage_entered(ada, "trial", 1))
    assert tables.after(BARS, first) == [("", "normal", 1), ("trial", "normal", 1)]
    second = given(health_changed(ada, Health.NORMAL, Health.BAD, 1))
    assert tables.after(BARS, first, second) == [("", "normal", 1), ("trial", "bad", 1)]


def test_a_stage_that_was_set_manually_says_why(tables: Tables) -> None:
    events = given(registered(ada), stage_set(ada, "churned", "they told us"))
    assert tables.after(MANUAL, events) == [(True, "churned", "they told us", NOON)]


def test_nothing_of_an_erased_subject_stays(tables: Tables) -> None:
    events = given(registered(ada), stage_entered(ada, "trial", 1), stage_set(ada, None, "left"))
    for query in (STAGES, SINCE, SPELLS, BARS):
        assert tables.after(query, events, given(erased(ada))) == []
