"""Days are those of the workspace's calendar, whenever an event is sent."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.calendar import Zones
from domain.commands import Track
from domain.identity import SubjectKind
from domain.workspace.workspace import Workspace
from infra.bootstrap.annals import Annals
from projections.projector.projector import Projector
from projections.queries.contact_view import view
from tests.projections.read_models import (
    NOON,
    drain,
    empty,
    event,
    found,
    owner,
    parked,
    user,
    write,
)

BRUSSELS, SAO_PAULO = ZoneInfo("Europe/Brussels"), ZoneInfo("America/Sao_Paulo")


def project_in(annals: Annals, zone: ZoneInfo) -> None:
    projector = Projector(
        log=annals.log,
        opener=annals.sealer,
        pool=annals.views,
        workspace=lambda: Workspace(Zones(zone)),
    )
    drain(projector)
    projector.release()


def days(url: str) -> dict[date, int]:
    with owner(url) as conn:
        return dict(conn.execute("SELECT day, count FROM views.activity_days").fetchall())


def track(annals: Annals, *instants: datetime) -> None:
    write(annals, *(Track(user("u"), (), event("login"), at) for at in instants))


def test_the_day_in_which_the_clocks_go_forward_has_23_hours(
    annals: Annals, database_url: str
) -> None:
    hours = [datetime(2024, 3, 30, 12, tzinfo=UTC) + timedelta(hours=n) for n in range(48)]
    track(annals, *hours)
    project_in(annals, BRUSSELS)
    assert days(database_url) == {
        date(2024, 3, 30): 11,
        date(2024, 3, 31): 23,
        date(2024, 4, 1): 14,
    }


def test_the_day_in_which_the_clocks_go_back_has_25_hours(
    annals: Annals, database_url: str
) -> None:
    hours = [datetime(2024, 10, 26, 12, tzinfo=UTC) + timedelta(hours=n) for n in range(48)]
    track(annals, *hours)
    project_in(annals, BRUSSELS)
    assert days(database_url) == {
        date(2024, 10, 26): 10,
        date(2024, 10, 27): 25,
        date(2024, 10, 28): 13,
    }


def test_a_day_without_midnight_begins_at_one(annals: Annals, database_url: str) -> None:
    """In São Paulo the clocks went from 23:59:59 on 3 November 2018 to 1:00 on the 4th."""
    midnight = datetime(2018, 11, 4, 3, tzinfo=UTC)
    track(annals, midnight - timedelta(microseconds=1), midnight, midnight + timedelta(hours=22.99))
    project_in(annals, SAO_PAULO)
    assert days(database_url) == {date(2018, 11, 3): 1, date(2018, 11, 4): 2}


@pytest.mark.parametrize("zone", [BRUSSELS, SAO_PAULO])
def test_every_instant_is_counted_on_its_local_date(
    annals: Annals, database_url: str, zone: ZoneInfo
) -> None:
    @given(
        st.lists(
            st.datetimes(datetime(1995, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive, hypothesis adds the zone
            min_size=1,
            max_size=20,
        )
    )
    def whenever(instants: list[datetime]) -> None:
        empty(database_url)
        track(annals, *instants)
        project_in(annals, zone)
        expected: dict[date, int] = {}
        for at in instants:
            local = at.astimezone(zone).date()
            expected[local] = expected.get(local, 0) + 1
        assert days(database_url) == expected

    whenever()


def test_late_and_future_events_move_first_and_last_seen_to_when_they_occurred(
    annals: Annals, database_url: str
) -> None:
    late, future = NOON - timedelta(days=4000), NOON + timedelta(days=4000)
    for at in (NOON, future, late, NOON + timedelta(days=1)):
        track(annals, at)
        project_in(annals, BRUSSELS)
    with annals.queries.connect() as conn:
        contact = view(
            conn,
            SubjectKind.USER,
            found(annals, user("u")),
            renewal_property="renewal_date",
        )
    assert (contact.first_seen, contact.last_seen, contact.counts.events) == (late, future, 4)
    assert len(days(database_url)) == 4


def test_the_first_and_the_last_time_that_are_taken_can_be_counted(
    annals: Annals, database_url: str
) -> None:
    first = datetime(2, 1, 1, tzinfo=UTC)
    last = datetime(9998, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    track(annals, first, last)
    project_in(annals, ZoneInfo("Pacific/Kiritimati"))
    assert parked(database_url) == []
    assert sum(days(database_url).values()) == 2
