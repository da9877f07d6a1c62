"""What a batch of events hands to the read models, before any SQL."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from domain.activity import ActivityKind
from domain.calendar import Zones
from domain.definitions.retention import RetentionBounds
from domain.definitions.types import Segment
from domain.identity import SubjectKind, log_partition
from domain.workspace.workspace import Workspace
from tests.projections.given import (
    NOON,
    TODAY,
    acme,
    ada,
    ben,
    changed,
    days_later,
    defined,
    erased,
    given,
    joined,
    merged,
    registered,
    summed,
    tracked,
)

TOMORROW = TODAY + timedelta(1)


def test_activity_counts_by_subject_name_and_day() -> None:
    given(
        tracked(ada, "Report opened"),
        tracked(ada, "Report opened"),
        tracked(ada, "Report opened", at=days_later(1)),
        tracked(ada, "Report shared"),
        tracked(ben, "Report opened"),
    ).then(
        days={
            (ada, "Report opened", TODAY): 2,
            (ada, "Report opened", TOMORROW): 1,
            (ada, "Report shared", TODAY): 1,
            (ben, "Report opened", TODAY): 1,
        }
    )


def test_activity_in_an_account_counts_for_both_and_is_one_use() -> None:
    given(tracked(ada, "Report opened", account=acme)).then(
        days={(ada, "Report opened", TODAY): 1, (acme, "Report opened", TODAY): 1},
        uses={("event", "Report opened"): 1},
    )


def test_names_of_different_activities_are_apart() -> None:
    given(tracked(ada, "Home"), tracked(ada, "Home", kind=ActivityKind.PAGE)).then(
        uses={("event", "Home"): 1, ("page", "Home"): 1}
    )


def test_a_day_is_one_of_the_workspace() -> None:
    late = datetime(2024, 5, 13, 23, 30, tzinfo=UTC)
    given(
        tracked(ada, "login", at=late), workspace=Workspace(Zones(ZoneInfo("Europe/Brussels")))
    ).then(days={(ada, "login", date(2024, 5, 14)): 1})


def test_a_change_of_time_zone_leaves_the_days_before_it() -> None:
    late = datetime(2024, 5, 13, 23, 30, tzinfo=UTC)
    zones = Zones(UTC, ((days_later(1), ZoneInfo("Europe/Brussels")),))
    given(
        tracked(ada, "login", at=late),
        tracked(ada, "login", at=late + timedelta(1)),
        workspace=Workspace(zones),
    ).then(days={(ada, "login", date(2024, 5, 13)): 1, (ada, "login", date(2024, 5, 15)): 1})


def test_activity_of_a_merged_subject_counts_for_its_survivor() -> None:
    given(tracked(ada, "login"), tracked(ben, "login"), survivors={ada: ben}).then(
        days={(ben, "login", TODAY): 2}
    )


def test_activity_of_an_erased_user_counts_for_the_account_alone() -> None:
    given(tracked(ada, "login", account=acme), erased={ada}).then(
        days={(acme, "login", TODAY): 1}, uses={("event", "login"): 1}
    )


def test_activity_of_an_erased_user_without_an_account_counts_for_nobody() -> None:
    given(tracked(ada, "login"), erased={ada}).then(days={}, uses={})


def test_days_that_retention_dropped_do_not_count() -> None:
    given(
        tracked(ada, "login"),
        tracked(ada, "login", at=days_later(1)),
        retention_bounds=RetentionBounds(counted_since=TOMORROW),
    ).then(days={(ada, "login", TOMORROW): 1})


def test_sums_count_where_the_partition_began_after_the_activity_ended() -> None:
    given(summed(ada, "login", 5, account=acme), summed_before=days_later(1)).then(
        days={(ada, "login", TODAY): 5, (acme, "login", TODAY): 5}, uses={("event", "login"): 5}
    )


def test_sums_of_activity_that_was_counted_do_not_count_again() -> None:
    sums = summed(ada, "login", 5)
    given(sums).then(days={}, uses={})
    given(sums, summed_before=days_later(-1)).then(days={}, uses={})


def test_sums_of_an_erased_user_count_for_the_account_alone() -> None:
    given(summed(ada, "login", 5, account=acme), summed_before=days_later(1), erased={ada}).then(
        days={(acme, "login", TODAY): 5}
    )


def test_sums_add_to_activity_of_the_same_day() -> None:
    given(summed(ada, "login", 5), tracked(ada, "login"), summed_before=days_later(1)).then(
        days={(ada, "login", TODAY): 6}, uses={("event", "login"): 6}
    )


def test_the_first_and_the_last_instant_of_a_subject_are_those_of_its_activity() -> None:
    batch = given(
        tracked(ada, "b", at=days_later(2)),
        tracked(ada, "a", at=days_later(-2)),
        tracked(ada, "c"),
    ).batch()
    [(_, tally)] = batch.tallies
    assert (tally.first_at, tally.last_at) == (days_later(-2), days_later(2))


def test_tallies_are_in_the_order_of_the_key_so_that_two_workers_never_deadlock() -> None:
    batch = given(*(tracked(subject, "login") for subject in (acme, ben, ada))).batch()
    keys = [(partition, tally.subject.int) for partition, tally in batch.tallies]
    assert keys == sorted(
        (log_partition(subject.id), subject.id.int) for subject in (ada, ben, acme)
    )


def test_events_of_aggregates_are_changes_and_keep_their_order() -> None:
    given(
        registered(ada),
        changed(ada, {"plan": "pro"}),
        tracked(ada, "login"),
        joined(ada, acme),
        merged(ada, ben),
        erased(ben),
    ).then(
        changes=[
            ("registered", ada),
            ("properties_changed", ada),
            ("membership_started", ada),
            ("merged_into", ada),
            ("erased", ben),
        ]
    )


def test_changes_of_a_merged_subject_are_about_its_survivor() -> None:
    given(changed(ada, {"plan": "pro"}), survivors={ada: ben}).then(
        changes=[("properties_changed", ben)]
    )


def test_events_of_definitions_are_apart_from_those_of_subjects() -> None:
    given(registered(ada), defined("vips", Segment(SubjectKind.USER, "VIPs"), at=NOON)).then(
        changes=[("registered", ada)], definitions=["segment.defined"]
    )
