"""Conditions: how long one takes to compile, and a preview's count against SQL written by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from statistics import median
from zoneinfo import ZoneInfo

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from domain.calendar import LastDays, Moment
from domain.conditions import language as ask
from domain.identity import SubjectKind
from infra.bootstrap.annals import Annals
from projections.conditions.compiler import predicate
from projections.kernel.tables import contacts
from tests.bench.figures import Figure, Report
from tests.bench.population import TODAY

MOMENT = Moment(TODAY, ZoneInfo("UTC"))

# The plain join, as one writes it who asks this once.
BY_HAND = """
SELECT count(*) FROM (
    SELECT c.subject
    FROM views.contacts c
    JOIN views.activity_days d ON d.log_partition = c.log_partition AND d.subject = c.subject
    JOIN views.names n ON n.id = d.name_id
    WHERE c.kind = 'user' AND c.properties ->> 'plan' = 'pro'
      AND n.kind = 'event' AND n.name = 'event 03' AND d.day BETWEEN %s AND %s
    GROUP BY c.log_partition, c.subject HAVING sum(d.count) >= 3) found"""

PLAIN_LAYOUT = (
    "DROP INDEX views.activity_days_of_name",
    "CREATE INDEX activity_days_of_name ON views.activity_days (name_id)",
    "ANALYZE views.activity_days",
)

PREVIEW = ask.AllOf(
    [
        ask.PropertyIs("plan", ask.Is("pro")),
        ask.Did("event", "event 03", ask.AtLeastTimes(3), LastDays(30)),
    ]
)


def fifty_nodes() -> ask.Condition:
    """A condition of 50 parts, of all sorts."""
    leaves = [
        one
        for n in range(6)
        for one in (
            ask.PropertyIs("plan", ask.Is(f"plan {n}")),
            ask.PropertyIs("seats", ask.Between(n, 10 * n)),
            ask.PropertyIs("renewal_date", ask.InNextDays(30)),
            ask.AttributeIs(ask.Attribute.LAST_SEEN, ask.InPeriod(LastDays(7))),
            ask.Did("event", f"event {n}", ask.AtLeastTimes(5), LastDays(30)),
            ask.Did("page", f"acme.com/{n}", ask.DidNotOccur()),
            ask.OfAccounts(ask.AnyOf(), ask.PropertyIs("mrr", ask.AtLeast(100 * n))),
        )
    ][:36]
    groups: list[ask.Condition] = [ask.OneOf(leaves[n : n + 6]) for n in range(0, 36, 6)]
    condition = ask.AllOf([*groups, ask.Not(ask.StageIs(["trial"]))])
    assert _size(condition) == 50, _size(condition)
    return condition


def run(annals: Annals, url: str, report: Report, *, rounds: int) -> None:
    """Over a population that is there (`tests.bench.population`)."""
    condition = fifty_nodes()
    dialect = PGDialect_psycopg()

    def compile_it() -> None:
        str(predicate(condition, SubjectKind.USER, MOMENT).compile(dialect=dialect))

    compiled = _milliseconds(compile_it, times=200)
    report.add(Figure("conditions.compile", round(compiled, 3), "ms"))
    report.note(f"conditions.compile: {compiled:.2f} ms for 50 parts, predicate and its SQL text")

    today = TODAY.date()
    days = (today - timedelta(days=29), today)
    test = predicate(PREVIEW, SubjectKind.USER, MOMENT)
    count = sa.select(sa.func.count()).where(contacts.c.kind == "user", test)
    with annals.queries.connect() as ours, psycopg.connect(url) as hand:
        found = hand.execute(BY_HAND, days).fetchone()
        assert found is not None
        assert ours.scalar(count) == found[0] > 0
        own, alike, plain = [], [], []
        for _ in range(rounds):
            own.append(_milliseconds(lambda: ours.execute(count).scalar()))
            alike.append(_milliseconds(lambda: hand.execute(BY_HAND, days).fetchone()))
        ours.rollback()
        hand.rollback()
        # What the join took before conditions had an index of their own.
        for statement in PLAIN_LAYOUT:
            hand.execute(statement)
        hand.execute(BY_HAND, days)
        plain += [
            _milliseconds(lambda: hand.execute(BY_HAND, days).fetchone()) for _ in range(rounds)
        ]
        hand.rollback()
    value = median(own)
    for peer, taken in (("plain join, plain layout", plain), ("plain join, same layout", alike)):
        ratio = round(value / median(taken), 2)
        report.add(Figure("preview.frequency", round(value, 1), "ms", peer, ratio))
        report.note(f"preview.frequency: {value:.0f} ms, {peer} {median(taken):.0f} ms")


def _milliseconds(work: Callable[[], object], *, times: int = 1) -> float:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return 1_000 * median(taken)


def _size(condition: ask.Condition) -> int:
    match condition:
        case ask.AllOf(of) | ask.OneOf(of):
            return 1 + sum(map(_size, of))
        case ask.Not(of):
            return 1 + _size(of)
        case ask.OfAccounts(_, where) | ask.OfUsers(_, where):
            return 1 + _size(where)
        case _:
            return 1
