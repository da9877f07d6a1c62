"""Lists and bars over a large population, each against the SQL that one would write by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC
from statistics import median

import sqlalchemy as sa

from domain.calendar import Moment
from domain.conditions.language import Is, PropertyIs
from domain.identity import SubjectKind
from infra.bootstrap.annals import Annals
from projections.conditions.selection import Selection
from projections.models import filters
from projections.queries.bars import bars
from projections.queries.contact_list import list_contacts
from tests.bench.figures import Figure, Report
from tests.bench.population import SEGMENT, TODAY

Ask = Callable[[sa.Connection], object]

# By hand: what is measured without what makes it a list (coalesced order, subject as tie-breaker,
# properties of any type) or a bar (currencies).
FIRST_PAGE = sa.text("""
SELECT c.*, s.first_seen, s.last_seen
FROM views.seen s JOIN views.contacts c ON c.subject = s.subject
WHERE s.kind = 'user' AND c.properties ->> 'plan' = 'pro'
  AND c.subject IN (SELECT subject FROM views.segment_members WHERE segment = :segment)
ORDER BY coalesce(s.last_seen, '-infinity'::timestamptz) DESC LIMIT 50""")

TOTAL = sa.text("""
SELECT count(*) FROM views.contacts c JOIN views.segment_members m
  ON m.segment = :segment AND m.log_partition = c.log_partition AND m.subject = c.subject
WHERE c.kind = 'user' AND c.properties ->> 'plan' = 'pro'""")

BARS_OF_ALL = sa.text("""
SELECT stage, health, count(*), sum(mrr) FROM views.contacts WHERE kind = 'user' GROUP BY 1, 2""")

BARS_OF_FILTER = sa.text("""
SELECT stage, health, count(*), sum(mrr) FROM views.contacts
WHERE kind = 'user' AND properties ->> 'plan' = 'pro' GROUP BY 1, 2""")

BARS_OF_SEGMENT = sa.text("""
SELECT stage, health, count(*), sum(mrr) FROM views.contacts c JOIN views.segment_members m
  ON m.segment = :segment AND m.log_partition = c.log_partition AND m.subject = c.subject
WHERE c.kind = 'user' GROUP BY 1, 2""")


def run(annals: Annals, report: Report, *, rounds: int) -> None:
    """Over the population of `tests.bench.population`."""
    now, kind = Moment(TODAY, UTC), SubjectKind.USER
    pro = PropertyIs("plan", Is("pro"))

    def page(*, with_total: bool) -> Ask:
        selection = Selection(kind, SEGMENT, pro)
        return lambda conn: list_contacts(
            conn, selection, now, sort="-last_seen", cursor=None, limit=50, with_total=with_total
        )

    def bar(selection: Selection) -> Ask:
        return lambda conn: bars(conn, selection, now)

    def by_hand(*queries: sa.TextClause) -> Ask:
        asked = {"segment": SEGMENT}
        return lambda conn: [conn.execute(query, asked).all() for query in queries]

    for bench, ours, theirs in (
        ("lists.first_page", page(with_total=False), by_hand(FIRST_PAGE)),
        ("lists.first_page_and_total", page(with_total=True), by_hand(FIRST_PAGE, TOTAL)),
        ("bars.all", bar(Selection(kind)), by_hand(BARS_OF_ALL)),
        ("bars.segment", bar(Selection(kind, SEGMENT)), by_hand(BARS_OF_SEGMENT)),
        ("bars.filter", bar(Selection(kind, filter=pro)), by_hand(BARS_OF_FILTER)),
    ):
        taken: list[tuple[float, float]] = []
        for n in range(rounds + 1):
            pair = (_milliseconds(annals, ours), _milliseconds(annals, theirs))
            if n:
                taken.append(pair)
        value = median(own for own, _ in taken)
        ratio = median(own / other for own, other in taken)
        report.add(Figure(bench, round(value, 2), "ms", "SQL by hand", round(ratio, 2)))
        report.note(f"{bench}: {value:.1f} ms, by hand {median(other for _, other in taken):.1f}")
    started = time.perf_counter()
    filters.refresh(annals.views, lambda: UTC)
    report.add(Figure("filters.refresh", round(time.perf_counter() - started, 1), "s"))


def _milliseconds(annals: Annals, ask: Ask) -> float:
    with annals.queries.connect() as conn:
        conn.execute(sa.text("SELECT 1"))
        started = time.perf_counter()
        ask(conn)
        return 1_000 * (time.perf_counter() - started)
