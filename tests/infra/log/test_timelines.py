"""Reading the log by subject: no more of it than is wanted, whatever its length."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import psycopg
import pytest

from domain.activity import Activity, ActivityKind
from domain.events.event import Event
from domain.events.payloads import PropertiesChanged, Tracked
from domain.identity import SubjectId, SubjectKind
from infra.bootstrap.annals import Annals
from infra.log import timelines
from projections.kernel.time_range import Stretch, TimelineKey
from projections.queries.timeline_items import GROUPS, topics_of
from tests.commands import AT
from tests.databases import Database
from tests.infra.plans import nodes

EVENTS, OTHERS = 10_000, 1_000
LOGIN = Tracked(Activity(ActivityKind.EVENT, "login"))
TOPIC = "user.event_tracked"
LAST = AT + timedelta(minutes=EVENTS)


def busy(annals: Annals, account: SubjectId | None = None) -> SubjectId:
    """Somebody with an event every minute, and seldom another change, among others with one each:
    the server's statistics speak of those."""
    user, *others = (SubjectId(uuid.uuid4()) for _ in range(OTHERS + 1))
    events = [
        Event(SubjectKind.USER, user, None, AT + timedelta(minutes=n), payload, account)
        for n in range(EVENTS)
        for payload in ([LOGIN] if n % 500 else [LOGIN, PropertiesChanged({"seats": n})])
    ]
    events += [Event(SubjectKind.USER, other, None, AT, LOGIN) for other in others]
    annals.log.append(annals.sealer.sealing(events))
    return user


@pytest.fixture
def database(server: str) -> Iterator[Database]:
    """A new one: the indexes of one that others used have more pages to read."""
    with closing(Database(server)) as new:
        yield new


def pages_touched(url: str, query: str, params: dict[str, object]) -> int:
    """How many pages of the database a query reads, found or not."""
    with psycopg.connect(url) as conn:
        conn.execute("ANALYZE log.events")
        conn.execute(timelines.READ_BY_INDEX)
        [[[explained]]] = conn.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)" + query, params)
    plan = explained["Plan"]
    assert not any(one["Node Type"].endswith("Sort") for one in nodes(plan)), json.dumps(explained)
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("of_account", [True, False])
def test_a_window_is_read_without_what_lies_before_it(
    annals: Annals, database_url: str, newest_first: bool, of_account: bool
) -> None:
    account = SubjectId(uuid.uuid4())
    user = busy(annals, account)
    end = AT + timedelta(minutes=3 if newest_first else EVENTS - 3)
    windows = [(end - timedelta(minutes=1), end + timedelta(minutes=1))]
    streams = [account] if of_account else [user]
    stretch = Stretch(streams, TimelineKey(AT), TimelineKey(LAST), newest_first)
    params = annals.timelines._params_of_windows(stretch, windows, [TOPIC], 50)
    query = timelines.SELECT_WINDOWS[timelines._Mode(newest_first, is_bounded=False)]
    assert len(annals.timelines.read_windows(stretch, windows, [TOPIC], 50)) == 3
    assert pages_touched(database_url, query, params) < 30


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("of_account", [True, False])
def test_what_never_occurred_is_not_looked_for_among_all_that_did(
    annals: Annals, database_url: str, newest_first: bool, of_account: bool
) -> None:
    account = SubjectId(uuid.uuid4())
    user = busy(annals, account)
    streams = [account] if of_account else [user]
    topics = topics_of(SubjectKind.USER, tuple(group for group in GROUPS if group != "property"))
    few = timedelta(minutes=EVENTS / 50)
    stretch = (
        Stretch(streams, high=TimelineKey(AT + few))
        if newest_first
        else Stretch(streams, TimelineKey(LAST - few), newest_first=False)
    )
    params = annals.timelines._params(stretch, 200)
    query = timelines.SELECT_TOPICS[timelines._Mode(newest_first, is_bounded=False)]
    assert pages_touched(database_url, query, params | {"topics": topics}) < 10 * len(topics)
