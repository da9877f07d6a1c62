"""Query: counts of activity of a user or account, day by day.

Days are calendar days in the workspace's time zone; today is the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import msgspec
import sqlalchemy as sa

from domain.identity import SubjectId, SubjectKind, log_partition
from projections.queries import contact_view

# The same subjects as in `projections.queries.contact_view.ACTIVITY`, by day.
OWN_DAYS = """
SELECT d.name_id, d.day, d.count, true AS own FROM views.activity_days d
WHERE d.log_partition = :partition AND d.subject = :subject
  AND d.day BETWEEN :first AND :last"""

MEMBERS_DAYS = """
UNION ALL
SELECT d.name_id, d.day, d.count, false
FROM (SELECT DISTINCT log_partition, user_id FROM views.memberships
      WHERE account_id = ANY(:streams) AND left_at IS NULL) m
JOIN views.activity_days d
  ON d.log_partition = m.log_partition AND d.subject = m.user_id AND NOT d.in_account
 AND d.day BETWEEN :first AND :last"""

COUNTS = """
SELECT n.name, d.day, sum(d.count)::bigint
FROM ({days}) d JOIN views.names n ON n.id = d.name_id
WHERE n.kind = :activity AND views.digest_of(n.name) = ANY(views.digests_of(:names))
  AND n.name = ANY(:names) AND (d.own OR n.kind <> 'event')
GROUP BY n.name, d.day"""

_COUNTS = {
    SubjectKind.USER: sa.text(COUNTS.format(days=OWN_DAYS)),
    SubjectKind.ACCOUNT: sa.text(COUNTS.format(days=OWN_DAYS + MEMBERS_DAYS)),
}


class NameByDay(msgspec.Struct, frozen=True):
    """
    Attributes:
        count: the total over all days.
        days: the count of each day, today last.
    """

    name: str
    count: int
    days: list[int]


class ByDay(msgspec.Struct, frozen=True):
    """Activity by name and day, in the order of the requested names."""

    first_day: date
    last_day: date
    items: list[NameByDay]


def by_day(
    conn: sa.Connection,
    kind: SubjectKind,
    subject: SubjectId,
    activity: str,
    names: Sequence[str],
    *,
    today: date,
    days: int,
) -> ByDay:
    """Counts of each name on each of the last days; activity that never occurred has zeros.

    Raises:
        NotFound: there is no such user or account.
    """
    contact_view.require(conn, kind, subject)
    first = today - timedelta(days - 1)
    wanted = list(dict.fromkeys(names))
    counts = {name: [0] * days for name in wanted}
    params = {
        "partition": log_partition(subject),
        "subject": subject,
        "streams": contact_view.streams_of(conn, subject),
        "activity": activity,
        "names": wanted,
        "first": first,
        "last": today,
    }
    for name, day, count in conn.execute(_COUNTS[kind], params):
        counts[name][(day - first).days] = count
    items = [NameByDay(name, sum(by_day), by_day) for name, by_day in counts.items()]
    return ByDay(first, today, items)
