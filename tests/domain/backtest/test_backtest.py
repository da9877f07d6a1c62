"""A back-test replays the log: given events, when a draft is tested, then its outcomes by day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from domain import calendar
from domain.activity import Activity, ActivityKind
from domain.backtest.backtest import Backtest, moments
from domain.backtest.outcomes import BacktestResult, DayCount, Verdict
from domain.backtest.plan import Plan
from domain.backtest.replay import Replay
from domain.backtest.replay_scope import ReplayEvent
from domain.conditions import language as ask
from domain.definitions.retention import RetentionBounds
from domain.definitions.types import (
    Definition,
    Score,
    ScoreRule,
    Segment,
    Signal,
    Stage,
    Stages,
    StageType,
)
from domain.events.event import Event
from domain.events.payloads import (
    Absorbed,
    MembershipStarted,
    MergedInto,
    PropertiesChanged,
    Registered,
    StageSet,
    Tracked,
)
from domain.identity import SubjectKind
from domain.name_rules import NameRules
from tests.commands import names
from tests.domain.given import SOMEBODY, Party, acme, ada, bob

USER = SubjectKind.USER
NOW = datetime(2026, 5, 13, 12, tzinfo=UTC)
DAYS = [date(2026, 5, 11), date(2026, 5, 12), date(2026, 5, 13)]
MONDAY, TUESDAY, WEDNESDAY = (datetime(2026, 5, day, 9, tzinfo=UTC) for day in (11, 12, 13))
IS_PRO = ask.PropertyIs("plan", ask.Is("pro"))
PRO = Segment(USER, "Pro", IS_PRO)
ADA = ada(Registered(names("u1")), at=MONDAY)


def recorded(events: Sequence[Event]) -> list[ReplayEvent]:
    return [
        ReplayEvent(
            SubjectKind(event.kind),
            event.stream,
            position,
            event.topic.partition(".")[2],
            event.occurred_at,
            event.payload,
            event.account,
        )
        for position, event in enumerate(events, 1)
    ]


def outcome_of(
    draft: Definition, *events: Event, counted: Sequence[Party] = (ada,)
) -> BacktestResult:
    """The outcomes of the last three days."""
    plan = Plan(draft, {})
    replay = Replay(plan.scope, None, UTC, NameRules())
    replay.add(recorded(events), RetentionBounds())
    return Backtest(plan, replay, [party.id for party in counted]).run(NOW, UTC, 3)


def by_day(result: BacktestResult) -> list[dict[str | None, int]]:
    assert [day.day for day in result.days] == DAYS
    return [{count.outcome: count.subjects for count in day.counts} for day in result.days]


def test_each_day_says_what_its_end_would_have_said() -> None:
    result = outcome_of(PRO, ADA, ada(PropertiesChanged({"plan": "pro"}), at=TUESDAY))
    assert by_day(result) == [{"out": 1}, {"in": 1}, {"in": 1}]
    assert result.verdicts == {ada.id: Verdict("in")}


def test_an_event_counts_from_the_day_on_which_it_occurred_however_late_it_was_recorded() -> None:
    result = outcome_of(
        PRO,
        ADA,
        ada(PropertiesChanged({"plan": "free"}), at=WEDNESDAY),
        ada(PropertiesChanged({"plan": "pro"}), at=TUESDAY),
    )
    assert by_day(result) == [{"out": 1}, {"in": 1}, {"in": 1}], "the last that was recorded holds"


def test_nobody_counts_before_the_day_of_the_first_event() -> None:
    result = outcome_of(PRO, ADA, bob(Registered(names("u2")), at=WEDNESDAY), counted=[ada, bob])
    assert by_day(result) == [{"out": 1}, {"out": 1}, {"out": 2}]


def test_merged_users_are_two_until_the_day_of_their_merge() -> None:
    result = outcome_of(
        PRO,
        ADA,
        bob(Registered(names("u2")), at=MONDAY),
        bob(PropertiesChanged({"plan": "pro"}), at=MONDAY),
        ada(Absorbed((bob.id,), names("u2"), {"plan": "pro"}), at=WEDNESDAY),
        bob(MergedInto(ada.id), at=WEDNESDAY),
        counted=[ada, bob],
    )
    assert by_day(result) == [{"in": 1, "out": 1}, {"in": 1, "out": 1}, {"in": 1}]


def test_the_calendar_moves_a_period_without_any_event() -> None:
    login = ada(Tracked(Activity(ActivityKind.EVENT, "login")), at=MONDAY)
    active = Segment(USER, "Active", ask.Did("event", "login", period=calendar.LastDays(2)))
    assert by_day(outcome_of(active, ADA, login)) == [{"in": 1}, {"in": 1}, {"out": 1}]


def test_a_manual_stage_overrides_the_rules() -> None:
    life = Stages(USER, "Life", [Stage("paying", StageType.PAYING, IS_PRO)])
    result = outcome_of(
        life,
        ADA,
        ada(PropertiesChanged({"plan": "pro"}), at=MONDAY),
        ada(StageSet(None, "left", SOMEBODY), at=TUESDAY),
    )
    assert by_day(result) == [{"paying": 1}, {None: 1}, {None: 1}]


def test_a_score_is_counted_by_bands_and_has_a_value() -> None:
    score = Score(USER, "Fit", [ScoreRule("pro", 1, IS_PRO), ScoreRule("all", 1, ask.AllOf([]))])
    result = outcome_of(score, ADA, ada(PropertiesChanged({"plan": "pro"}), at=WEDNESDAY))
    assert by_day(result) == [{"40-59": 1}, {"40-59": 1}, {"80-100": 1}]
    assert result.verdicts == {ada.id: Verdict("80-100", None, 100.0)}


def test_a_signal_counts_what_it_did_on_each_day() -> None:
    result = outcome_of(
        Signal(USER, "Is pro", IS_PRO),
        ADA,
        ada(PropertiesChanged({"plan": "pro"}), at=TUESDAY),
        ada(PropertiesChanged({"plan": "free"}), at=WEDNESDAY),
    )
    assert by_day(result) == [{"off": 1}, {"on": 1}, {"off": 1}]
    assert [(day.triggered, day.ended) for day in result.days] == [(0, 0), (1, 0), (0, 1)]


def test_what_happens_to_an_account_reaches_its_users() -> None:
    of_pro = Segment(USER, "Of pro", ask.OfAccounts(ask.AnyOf(), IS_PRO))
    result = outcome_of(
        of_pro,
        ADA,
        acme(Registered(names("a1")), at=MONDAY),
        ada(MembershipStarted(), acme, MONDAY),
        acme(PropertiesChanged({"plan": "pro"}), at=TUESDAY),
    )
    assert by_day(result) == [{"out": 1}, {"in": 1}, {"in": 1}]


def test_the_last_moment_of_a_back_test_is_now_and_the_others_are_the_ends_of_days() -> None:
    found = [moment.now for moment in moments(NOW, UTC, 3)]
    assert found[-1] == NOW
    assert [at + timedelta(microseconds=1) for at in found[:-1]] == [
        datetime(2026, 5, 12, tzinfo=UTC),
        datetime(2026, 5, 13, tzinfo=UTC),
    ]


def test_progress_is_told_day_by_day() -> None:
    plan = Plan(PRO, {})
    days: list[int] = []
    replay = Replay(plan.scope, None, UTC, NameRules())
    result = Backtest(plan, replay, [ada.id]).run(NOW, UTC, 3, days.append)
    assert days == [1, 2, 3]
    assert [day.counts for day in result.days] == [list[DayCount]()] * 3
