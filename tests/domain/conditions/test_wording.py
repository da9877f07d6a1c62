"""A condition in words, as the console and explanations show it."""

from __future__ import annotations

from datetime import date
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import calendar
from domain.conditions import language as ask
from domain.conditions.wording import MAX_SHOWN, in_words
from domain.identity import SubjectKind
from tests.random_conditions import conditions

CHURNED = UUID(int=7)
IS_PRO = ask.PropertyIs("plan", ask.Is("pro"))


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (IS_PRO, "plan is pro"),
        (ask.PropertyIs("vip", ask.Is(True)), "vip is true"),
        (ask.PropertyIs("plan", ask.IsNot("")), "plan is not empty"),
        (ask.PropertyIs("plan", ask.In(["pro", "free"])), "plan is pro or free"),
        (ask.PropertyIs("plan", ask.NotIn(["pro"])), "plan is not pro"),
        (ask.PropertyIs("plan", ask.Contains("r")), "plan contains r"),
        (ask.PropertyIs("plan", ask.StartsWith("p")), "plan starts with p"),
        (ask.PropertyIs("seats", ask.Greater(5)), "seats is greater than 5"),
        (ask.PropertyIs("seats", ask.AtLeast(5)), "seats is at least 5"),
        (ask.PropertyIs("seats", ask.Less(5)), "seats is less than 5"),
        (ask.PropertyIs("seats", ask.AtMost(5)), "seats is at most 5"),
        (ask.PropertyIs("seats", ask.Between(1, 5)), "seats is from 1 to 5"),
        (ask.PropertyIs("since", ask.Before("2026-05-13")), "since is before 2026-05-13"),
        (ask.PropertyIs("since", ask.After("2026-05-13")), "since is after 2026-05-13"),
        (ask.PropertyIs("since", ask.InPeriod(calendar.ThisWeek())), "since is this week"),
        (
            ask.PropertyIs("since", ask.InNextDays(7)),
            "since is today or in the next 7 days",
        ),
        (ask.PropertyIs("since", ask.MoreThanDaysAgo(1)), "since is more than 1 day ago"),
        (
            ask.PropertyIs(
                "since", ask.InPeriod(calendar.Between(date(2026, 5, 1), date(2026, 5, 9)))
            ),
            "since is from 2026-05-01 to 2026-05-09",
        ),
        (ask.PropertyIs("plan", ask.IsSet()), "plan is set"),
        (ask.PropertyIs("plan", ask.IsNotSet()), "plan is not set"),
        (ask.AttributeIs(ask.Attribute.LAST_SEEN, ask.IsSet()), "last seen is set"),
        (ask.Did("event", "login"), "event login occurred"),
        (ask.Did("page", "/", ask.DidNotOccur()), "page / did not occur"),
        (
            ask.Did("event", "login", ask.AtLeastTimes(1), calendar.LastDays(30)),
            "event login occurred at least 1 time in the last 30 days",
        ),
        (
            ask.Did("event", "login", ask.AtMostTimes(2), calendar.Since(date(2026, 5, 1))),
            "event login occurred at most 2 times since 2026-05-01",
        ),
        (
            ask.Did(
                "event",
                "paid",
                ask.ExactlyTimes(3),
                calendar.Since(date(2026, 5, 1)),
                [ask.MetadataIs("sum", ask.Greater(9))],
            ),
            "event paid with sum is greater than 9 occurred exactly 3 times since 2026-05-01",
        ),
        (ask.StageIs(["trial", None]), "stage is trial or no stage"),
        (ask.HealthIs([ask.Health.BAD]), "health is bad"),
        (ask.ScoreIs("Fit", ask.Less(20)), "score Fit is less than 20"),
        (ask.SignalIs("Low", True), "signal Low is on"),
        (ask.SignalIs("Low", False), "signal Low is off"),
        (ask.InSegment(CHURNED), "in segment Churned"),
        (ask.InSegment(UUID(int=8)), f"in segment {UUID(int=8)}"),
        (ask.BelongsTo(), "belongs to any"),
        (ask.BelongsTo(role="owner", ended=True), "belonged once to any as owner"),
        (ask.OfAccounts(ask.AnyOf(), IS_PRO), "any account: plan is pro"),
        (ask.OfUsers(ask.EveryOf(), IS_PRO), "every user: plan is pro"),
        (ask.OfUsers(ask.AtLeastOf(2), IS_PRO), "at least 2 users: plan is pro"),
        (ask.AllOf([]), "everybody"),
        (ask.OneOf([]), "nobody"),
        (ask.Not(IS_PRO), "not (plan is pro)"),
        (
            ask.AllOf([IS_PRO, ask.Not(ask.InSegment(CHURNED))]),
            "plan is pro and not (in segment Churned)",
        ),
        (
            ask.OneOf([IS_PRO, ask.AllOf([IS_PRO, ask.SignalIs("Low", True)])]),
            "plan is pro or (plan is pro and signal Low is on)",
        ),
    ],
)
def test_each_test_has_its_words(condition: ask.Condition, text: str) -> None:
    assert in_words(condition, {CHURNED: "Churned"}) == text


def test_a_long_list_of_values_is_cut_short() -> None:
    values = ask.PropertyIs("plan", ask.In([f"p{n}" for n in range(MAX_SHOWN + 3)]))
    assert in_words(values) == "plan is p0, p1, p2, p3, p4 or 3 others"


@pytest.mark.parametrize("kind", list(SubjectKind))
@given(st.data())
def test_every_condition_has_words(kind: SubjectKind, data: st.DataObject) -> None:
    assert in_words(data.draw(conditions(kind))).strip()
