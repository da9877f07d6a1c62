"""Query: the Overview of a user or an account: preferred properties and events, and how they
moved over the last 30 days.

Without a preference: its most frequent events, and those of its properties that the workspace uses
most. Days are calendar days in the workspace's time zone; today is the last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import sqlalchemy as sa

from domain.calendar import Moment, start_of
from domain.definitions.types import Preferred
from domain.errors import NotFound
from domain.identity import SubjectId, SubjectKind, log_partition
from domain.properties import PropertyType, converted
from projections.kernel.gaps import parted, place_of
from projections.kernel.ports import Opener
from projections.kernel.time_range import Stretch, TimelineKey, timeline_key
from projections.queries.stage_timeline import StageLog
from projections.queries.timeline_items import changes_of

DAYS = 30
MOST = 6
"""Properties and events that an Overview without preferences shows."""
ROWS_AT_ONCE = 500

CONTACT = sa.text("""
SELECT properties, changed_at FROM views.contacts
WHERE log_partition = :partition AND subject = :subject AND kind = :kind""")

MOST_USED = sa.text("""
SELECT name FROM views.catalogue
WHERE scope = :scope AND name = ANY(:names) AND retired_at IS NULL
ORDER BY uses DESC, name LIMIT :most""")

MOST_FREQUENT = sa.text("""
SELECT n.name FROM views.activity_days d JOIN views.names n ON n.id = d.name_id
WHERE d.log_partition = :partition AND d.subject = :subject AND n.kind = 'event'
GROUP BY n.name
ORDER BY sum(d.count) FILTER (WHERE d.day > :before AND d.day <= :today) DESC NULLS LAST,
         sum(d.count) DESC, n.name
LIMIT :most""")

COUNTS = sa.text("""
SELECT n.name, d.day, sum(d.count)::bigint
FROM views.names n JOIN views.activity_days d
  ON d.log_partition = :partition AND d.subject = :subject AND d.name_id = n.id
 AND d.day > :first AND d.day <= :today
WHERE n.kind = 'event' AND views.digest_of(n.name) = ANY(views.digests_of(:names))
  AND n.name = ANY(:names) GROUP BY n.name, d.day""")


class OverviewProperty(msgspec.Struct, frozen=True):
    """A property now, and at the beginning of the 30 days.

    Attributes:
        value, before: now and then; null: none.
        is_changed: whether they differ. changed_at: its last change in these days.
        difference: value minus before, if both are numbers.
    """

    name: str
    value: Any
    before: Any
    is_changed: bool
    changed_at: datetime | None
    difference: float | None


class OverviewEvent(msgspec.Struct, frozen=True):
    """The counts of an event.

    Attributes:
        days: on each of the last 30 days, today last.
        count: in these 30 days. before: in the 30 before them.
        change: count minus before. percent: the change in per cent of before; null: before is 0.
    """

    name: str
    days: list[int]
    count: int
    before: int
    change: int
    percent: float | None


class Overview(msgspec.Struct, frozen=True):
    """
    Attributes:
        first_day, last_day: of the 30.
        preferred: whether the workspace chose the properties, the events.
        gaps: positions of changes in these days that do not open, and are left out of `before`.
    """

    first_day: date
    last_day: date
    properties: list[OverviewProperty]
    events: list[OverviewEvent]
    preferred: dict[str, bool]
    gaps: list[str]


def overview(
    conn: sa.Connection,
    log: StageLog,
    opener: Opener,
    kind: SubjectKind,
    subject: SubjectId,
    preferred: Preferred,
    moment: Moment,
    types: Mapping[str, PropertyType],
) -> Overview:
    """
    Args:
        types: of properties that an admin gave another type than they were sent with.

    Raises:
        NotFound: there is no such user or account.
    """
    params: dict[str, Any] = {
        "partition": log_partition(subject),
        "subject": subject,
        "today": moment.today,
        "before": moment.today - timedelta(DAYS),
        "first": moment.today - timedelta(2 * DAYS),
        "most": MOST,
    }
    row = conn.execute(CONTACT, params | {"kind": kind.value}).one_or_none()
    if row is None:
        raise NotFound(f"there is no such {kind}")
    properties = list(preferred.properties)
    if not properties:
        used = {"scope": f"{kind}.property", "names": list(row.properties)}
        properties = list(conn.scalars(MOST_USED, params | used))
    events = list(preferred.events) or list(conn.scalars(MOST_FREQUENT, params))
    first_day = moment.today - timedelta(DAYS - 1)
    began = start_of(first_day, moment.zone)
    # A deleted property has no time of change: it may have been deleted at any.
    unsure = {
        name
        for name in properties
        if name not in row.changed_at or datetime.fromisoformat(row.changed_at[name]) >= began
    }
    gaps: list[str] = []
    before = _before(log, opener, kind, subject, unsure, began, gaps) if unsure else {}
    return Overview(
        first_day,
        moment.today,
        [_property(name, row.properties, before, types.get(name)) for name in properties],
        _events(conn, events, params),
        {"properties": bool(preferred.properties), "events": bool(preferred.events)},
        gaps,
    )


def _before(
    log: StageLog,
    opener: Opener,
    kind: SubjectKind,
    subject: SubjectId,
    names: set[str],
    began: datetime,
    gaps: list[str],
) -> dict[str, tuple[Any, datetime]]:
    """The values that the properties had before they changed since an instant, and when each
    changed last.

    Args:
        gaps: receives the positions of changes that do not open.
    """
    opener.refresh()
    topics = [f"{kind}.properties_changed", f"{kind}.absorbed"]
    stretch = Stretch([subject], low=TimelineKey(began), newest_first=False)
    changes: dict[str, tuple[Any, datetime]] = {}
    while True:
        rows = sorted(log.read_topics(stretch, topics, ROWS_AT_ONCE), key=timeline_key)
        last = rows[:ROWS_AT_ONCE]  # of each topic there may be more after these
        opened, unopened = parted(opener.open_each(last))
        gaps += [place_of(gap.row) for gap in unopened]
        for event in opened:
            for change in changes_of(event.payload) or ():
                if change.name in names:
                    was, _ = changes.get(change.name, (change.before, began))
                    changes[change.name] = (was, event.row.occurred_at)
        if len(rows) < ROWS_AT_ONCE:
            return changes
        stretch = stretch.after(timeline_key(last[-1]))


def _property(
    name: str,
    properties: dict[str, Any],
    before: dict[str, tuple[Any, datetime]],
    type: PropertyType | None,
) -> OverviewProperty:
    value = properties.get(name)
    was, changed_at = before.get(name, (value, None))
    if type is not None and was is not None:
        was = converted(was, type)
    if isinstance(was, datetime):
        was = msgspec.to_builtins(was)
    return OverviewProperty(name, value, was, value != was, changed_at, _difference(value, was))


def _difference(value: object, was: object) -> float | None:
    numbers = [
        Decimal(str(number))
        for number in (value, was)
        if isinstance(number, int | float) and not isinstance(number, bool)
    ]
    return float(numbers[0] - numbers[1]) if len(numbers) == 2 else None


def _events(
    conn: sa.Connection, names: Sequence[str], params: dict[str, Any]
) -> list[OverviewEvent]:
    days: dict[str, list[int]] = defaultdict(lambda: [0] * (2 * DAYS))
    for name, day, count in conn.execute(COUNTS, params | {"names": list(names)}):
        days[name][(day - params["first"]).days - 1] = count
    return [_event(name, days[name]) for name in names]


def _event(name: str, days: list[int]) -> OverviewEvent:
    before, count = sum(days[:DAYS]), sum(days[DAYS:])
    change = count - before
    percent = round(100 * change / before, 1) if before else None
    return OverviewEvent(name, days[DAYS:], count, before, change, percent)
