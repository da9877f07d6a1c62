"""Segments: what is defined, who is a member since when, and who left."""

from __future__ import annotations

from domain.conditions.language import Health, HealthIs
from domain.definitions.types import Segment
from domain.identity import SubjectKind
from tests.projections.given import (
    NOON,
    Tables,
    ada,
    ben,
    days_later,
    defined,
    definition_deleted,
    definition_id,
    erased,
    given,
    merged,
    redefined,
    registered,
    segment_entered,
    segment_left,
)

SEGMENTS = "SELECT name, condition IS NULL, version, deleted_at FROM views.segments"
SWEEPS = "SELECT rule FROM views.sweeps"
MEMBERS = "SELECT subject, entered_at FROM views.segment_members ORDER BY entered_at"
LEAVERS = "SELECT subject, ordinal, left_at FROM views.segment_leavers"
COUNT = "SELECT coalesce(sum(members), 0)::int FROM views.segment_counts"

GOOD = Segment(SubjectKind.USER, "good ones", HealthIs([Health.GOOD]))


def test_a_new_segment_is_decided_for_all_subjects(tables: Tables) -> None:
    events = given(defined("segment", GOOD))
    assert tables.after(SEGMENTS, events) == [("good ones", False, 1, None)]
    assert tables.after(SWEEPS, events) == [(str(definition_id("segment")),)]


def test_another_name_is_no_reason_to_decide_anew(tables: Tables) -> None:
    first = given(defined("segment", GOOD))
    renamed = Segment(SubjectKind.USER, "well", GOOD.condition)
    later = given(redefined("segment", renamed))
    assert tables.after(SEGMENTS, first, later) == [("well", False, 2, None)]


def test_a_deleted_segment_says_when(tables: Tables) -> None:
    first = given(defined("segment", GOOD))
    later = given(definition_deleted("segment", GOOD, at=days_later(1)))
    assert tables.after(SEGMENTS, first, later) == [("good ones", False, 2, days_later(1))]


def test_members_have_entered_and_not_left(tables: Tables) -> None:
    events = given(
        registered(ada),
        registered(ben),
        segment_entered(ada, 1),
        segment_entered(ben, 1, at=days_later(1)),
        segment_left(ben, 2, at=days_later(2)),
    )
    assert tables.after(MEMBERS, events) == [(ada.id, NOON)]
    assert tables.after(LEAVERS, events) == [(ben.id, 2, days_later(2))]
    assert tables.after(COUNT, events) == [(1,)]


def test_a_member_that_comes_back_is_no_leaver(tables: Tables) -> None:
    first = given(registered(ada), segment_entered(ada, 1), segment_left(ada, 2))
    later = given(segment_entered(ada, 3, at=days_later(1)))
    assert tables.after(MEMBERS, first, later) == [(ada.id, days_later(1))]
    assert tables.after(LEAVERS, first, later) == []
    assert tables.after(COUNT, first, later) == [(1,)]


def test_merged_and_erased_members_count_no_more(tables: Tables) -> None:
    first = given(
        registered(ada), registered(ben), segment_entered(ada, 1), segment_entered(ben, 1)
    )
    assert tables.after(COUNT, first, given(merged(ada, ben))) == [(1,)]
    assert tables.after(MEMBERS, first, given(merged(ada, ben)), given(erased(ben))) == []
    assert tables.after(COUNT, first, given(merged(ada, ben)), given(erased(ben))) == [(0,)]
