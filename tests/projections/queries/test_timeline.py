"""Timelines: whatever is asked for, pages hold what a reader of the whole log would pick out."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.activity import Activity, ActivityKind
from domain.calendar import Zones
from domain.commands import Alias, Change, Command, Join, Leave, Request, Track
from domain.conditions.language import AllOf, Health
from domain.definitions.types import DefinitionId
from domain.errors import InvalidInput
from domain.events.decisions import (
    GoalReached,
    HealthChanged,
    OfDefinition,
    ScoreChanged,
    SegmentEntered,
    SegmentLeft,
    SignalTriggered,
    StageEntered,
)
from domain.events.event import Event
from domain.events.payloads import (
    Absorbed,
    MembershipChanged,
    Payload,
    PropertiesBackdated,
    PropertiesChanged,
    StageReleased,
    StageSet,
    Tracked,
)
from domain.events.recorded import OpenedEvent, RecordedEvent
from domain.events.topics import ACTIVITY_OF_TOPIC
from domain.identity import SubjectId, SubjectKind
from domain.workspace.workspace import Workspace
from infra.bootstrap.annals import Annals
from projections.kernel.gaps import Gap
from projections.kernel.paging import Page, encoded
from projections.projector.projector import Projector
from projections.queries import timeline as timeline_module
from projections.queries.contact_view import streams_of, survivor_of
from projections.queries.timeline import ALL, Wanted, timeline
from projections.queries.timeline_items import GROUPS, TYPES, TimelineItem, ValueChange
from tests.infra.erasures import erase
from tests.projections.read_models import (
    NOON,
    account,
    drain,
    empty,
    event,
    found,
    owner,
    project,
    user,
    write,
)
from tests.projections.segments import EDITOR, define

USER, ACCOUNT = SubjectKind.USER, SubjectKind.ACCOUNT
SOON = timedelta(minutes=1)
DEFINED = uuid.UUID("5e9ae000-0000-4000-8000-000000000001")

SHOW_DEFINITION = """
INSERT INTO views.definitions
VALUES (%s, 'segment', 'user', 'A segment', '{}', 1, 'active', now(), %s, now(), %s)
ON CONFLICT DO NOTHING"""


def page(
    annals: Annals,
    kind: SubjectKind,
    subject: SubjectId,
    wanted: Wanted = ALL,
    cursor: str | None = None,
    limit: int = 2,
) -> Page[TimelineItem]:
    with annals.queries.connect() as conn:
        streams = streams_of(conn, survivor_of(conn, subject))
        return timeline(
            conn,
            annals.timelines,
            annals.sealer,
            kind,
            streams,
            wanted,
            cursor=cursor,
            limit=limit,
        )


def pages(
    annals: Annals,
    kind: SubjectKind,
    subject: SubjectId,
    wanted: Wanted = ALL,
    limit: int = 2,
) -> list[TimelineItem]:
    items: list[TimelineItem] = []
    cursor: str | None = None
    while True:
        current = page(annals, kind, subject, wanted, cursor, limit)
        assert len(current.items) <= limit
        assert current.items or current.next is None
        items += current.items
        cursor = current.next
        if cursor is None:
            return items


def of(annals: Annals, name: str, wanted: Wanted = ALL, limit: int = 2) -> list[TimelineItem]:
    return pages(annals, USER, found(annals, user(name)), wanted, limit)


def recorded(annals: Annals) -> list[OpenedEvent]:
    """The whole log, opened."""
    rows = annals.log.read_after(dict.fromkeys(range(256), 0), 10_000)
    annals.sealer.refresh()
    return annals.sealer.open_rows(rows)


def decide(
    annals: Annals, kind: SubjectKind, stream: SubjectId, at: datetime, *what: Payload
) -> None:
    """Writes what would have been decided of a subject."""
    events = [Event(kind, stream, None, at, payload) for payload in what]
    annals.log.append(annals.sealer.sealing(events))


def picked(
    annals: Annals, streams: Sequence[SubjectId], wanted: Wanted, names: dict[uuid.UUID, str]
) -> list[str]:
    """The places of what is wanted: every event is looked at."""
    chosen = []
    for opened in recorded(annals):
        row = opened.row
        if row.stream not in streams and row.account not in streams:
            continue
        verb = row.topic.partition(".")[2]
        if verb == "properties_confirmed":
            continue
        verb = {"properties_backdated": "properties_changed"}.get(verb, verb)
        verb = {"membership_backdated": "membership_started"}.get(verb, verb)
        type = ACTIVITY_OF_TOPIC.get(row.topic, verb)
        groups = {group for group, verbs in GROUPS.items() if verb in verbs}
        if wanted.types and not {type, *groups} & set(wanted.types):
            continue
        if wanted.names and not set(wanted.names) & set(called(opened, names)):
            continue
        if wanted.since <= row.occurred_at < wanted.until:
            chosen.append((row.occurred_at, row.log_partition, row.position))
    chosen.sort(reverse=wanted.newest_first)
    return [f"{partition}:{position}" for _, partition, position in chosen]


def called(event: OpenedEvent, names: dict[uuid.UUID, str]) -> list[str]:
    match event.payload:
        case Tracked(activity):
            return [activity.name]
        case None if event.account_part is not None:
            return [event.account_part.name]
        case StageEntered() | StageSet():
            return [event.payload.stage or ""]
        case HealthChanged(after=after):
            return [after.value]
        case SegmentEntered() | SegmentLeft() | ScoreChanged() | SignalTriggered() | GoalReached():
            return [names[event.payload.definition]]
        case PropertiesChanged() | PropertiesBackdated() | MembershipChanged():
            return [*event.payload.values, *event.payload.deleted]
        case Absorbed():
            return [*event.payload.properties, *event.payload.deleted]
        case _:
            return []


def project_in(annals: Annals, zones: Zones) -> None:
    """Projects with days of these zones."""
    projector = Projector(
        log=annals.log,
        opener=annals.sealer,
        pool=annals.views,
        workspace=lambda: Workspace(zones=zones),
    )
    drain(projector)
    projector.release()


ZONES = (ZoneInfo("Pacific/Kiritimati"), ZoneInfo("Etc/GMT+12"))
"""The first and the last to have a day, more than a day apart."""

user_names, account_names = st.sampled_from(["u0", "u1", "u2"]), st.sampled_from(["a0", "a1"])
called_what = st.sampled_from(["one", "two", "plan", "A segment"])
# Few instants, so that many fall together, and some on days of their own.
instants = st.one_of(st.integers(0, 8), st.integers(0, 80)).map(
    lambda n: NOON + timedelta(hours=5 * n)
)
activities = st.lists(
    st.builds(Activity, st.sampled_from(ActivityKind), called_what), min_size=1, max_size=3
).map(tuple)
changes = st.fixed_dictionaries(
    {}, optional={"plan": st.sampled_from(["free", "pro", None]), "one": st.sampled_from([1, 2])}
)
commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(Change, st.just(USER), user_names.map(user), changes, instants),
    st.builds(Change, st.just(ACCOUNT), account_names.map(account), changes, instants),
    st.builds(
        Join,
        user_names.map(user),
        account_names.map(account),
        st.just({}),
        st.fixed_dictionaries({}, optional={"one": st.sampled_from(["owner", "guest"])}),
        instants,
    ),
    st.builds(Leave, st.just(user("u0")), st.just(account("a0")), instants),
    st.builds(
        Track, user_names.map(user), account_names.map(account) | st.just(()), activities, instants
    ),
    st.builds(
        Track, user_names.map(user), account_names.map(account) | st.just(()), activities, instants
    ),
    st.builds(Track, st.just(()), account_names.map(account), activities, instants),
    st.builds(Alias, user_names.map(user), user_names.map(user), instants),
    st.builds(Change, st.just(ACCOUNT), st.just(account("a0") + account("a1")), changes, instants),
)
questions = st.builds(
    Wanted,
    types=st.lists(st.sampled_from(TYPES), max_size=3).map(tuple),
    names=st.just(()) | st.lists(called_what, max_size=2).map(tuple),
    since=st.just(ALL.since) | instants,
    until=st.just(ALL.until) | instants,
    newest_first=st.booleans(),
    total=st.booleans(),
)


@given(
    st.lists(commands, min_size=3, max_size=25),
    st.lists(st.tuples(questions, st.integers(1, 4)), min_size=4, max_size=8),
    st.sampled_from([2, 5, 2_000]),
    st.booleans(),
)
def test_pages_hold_what_a_reader_of_the_whole_log_would_pick_out(
    annals: Annals,
    database_url: str,
    written: list[Command],
    asked: list[tuple[Wanted, int]],
    most: int,
    erased: bool,
) -> None:
    empty(database_url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timeline_module, "MAX_READ", most)
        patch.setattr(timeline_module, "OPENED_AT_ONCE", most // 2)
        write(
            annals,
            Change(USER, user("u0"), {}, NOON),
            Join(user("u0"), account("a0"), {}, {}, NOON),
        )
        requests = [Request(command) for command in written]
        annals.handler.handle(requests[::2])
        moved_at = datetime.now(UTC)
        annals.handler.handle(requests[1::2])
        subject, there = found(annals, user("u0")), found(annals, account("a0"))
        definition = DefinitionId(DEFINED)
        cause = OfDefinition(1)
        decide(
            annals, USER, subject, NOON,
            SegmentEntered(definition, 1, 1, cause),
            StageEntered(definition, 1, 1, cause, stage="one"),
            HealthChanged(definition, 1, 1, cause, before=Health.NORMAL, after=Health.GOOD),
            ScoreChanged(definition, 1, 1, cause, before=None, after=1.5),
            StageSet("two", "because", EDITOR),
            StageReleased(EDITOR),
        )  # fmt: skip
        decide(annals, ACCOUNT, there, NOON + 3 * SOON, SegmentEntered(definition, 1, 1, cause))
        if erased:
            erase(annals, subject)
        project_in(annals, Zones(ZONES[erased], ((moved_at, ZONES[not erased]),)))
        with owner(database_url) as conn:
            conn.execute(SHOW_DEFINITION, (DEFINED, EDITOR, EDITOR))
        for kind, one_of in ((USER, subject), (ACCOUNT, there)):
            if kind is USER and erased:
                continue
            with annals.queries.connect() as conn:
                streams = streams_of(conn, survivor_of(conn, one_of))
            for wanted, limit in asked:
                expected = picked(annals, streams, wanted, {DEFINED: "A segment"})
                shown = [item.position for item in pages(annals, kind, one_of, wanted, limit)]
                assert shown == expected, wanted
                whole = page(annals, kind, one_of, wanted, limit=max(len(expected), 1))
                assert most < 2_000 or whole.next is None, "nothing comes after the last"
                total = page(annals, kind, one_of, wanted).total
                counted = wanted.total and not wanted.names
                assert total == (len(expected) if counted else None)


hours = st.lists(st.integers(0, 24 * 20), min_size=20, max_size=40)


@given(hours, hours, st.booleans(), st.booleans(), st.sampled_from([1, 3, 20]))
def test_a_name_is_found_on_every_day_of_whatever_zone(
    annals: Annals,
    database_url: str,
    before: list[int],
    after: list[int],
    eastwards: bool,
    newest_first: bool,
    limit: int,
) -> None:
    empty(database_url)

    def happened(hours: list[int]) -> None:
        write(
            annals,
            *(
                Track(user("u"), (), event(name), NOON + timedelta(hours=n))
                for n in hours
                for name in ("one", "two")
            ),
        )

    happened(before)
    moved_at = datetime.now(UTC)
    happened(after)
    project_in(annals, Zones(ZONES[eastwards], ((moved_at, ZONES[not eastwards]),)))
    wanted = Wanted(types=("event",), names=("one",), newest_first=newest_first)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timeline_module, "_DAYS_MORE", 5 - limit)  # five days are read at a time
        shown = [(item.name, item.at) for item in of(annals, "u", wanted, limit)]
    times = sorted((NOON + timedelta(hours=n) for n in before + after), reverse=newest_first)
    assert shown == [("one", at) for at in times]


# A day ends nowhere later, and begins nowhere earlier, than in these zones.
EDGES = [
    (True, ZONES[1], timedelta(hours=12), timedelta(days=1), -timedelta(microseconds=1)),
    (False, ZONES[0], timedelta(hours=10), -timedelta(days=1), timedelta(0)),
]


@pytest.mark.parametrize(("newest_first", "zone", "edge", "further", "next_to"), EDGES)
def test_a_page_that_ends_with_a_day_leaves_the_edge_of_the_next_day_to_the_next(
    annals: Annals,
    newest_first: bool,
    zone: ZoneInfo,
    edge: timedelta,
    further: timedelta,
    next_to: timedelta,
) -> None:
    """Five days are read at a time; of the sixth there is the very first, or last, instant."""
    fifth = datetime(2024, 5, 13, tzinfo=UTC)
    noons = [datetime(2024, 5, 13, 12, tzinfo=zone) + n * further for n in range(5)]
    assert (fifth + edge + next_to).astimezone(zone).date() == fifth.date() - further
    for at in (*noons, fifth + edge + next_to):
        write(annals, Track(user("u"), (), event("one"), at))
    project_in(annals, Zones(zone))
    wanted = Wanted(types=("event",), names=("one",), newest_first=newest_first)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timeline_module, "_DAYS_MORE", 5 - 20)
        shown = [item.at for item in of(annals, "u", wanted, 20)]
    assert shown == sorted((*noons, fifth + edge + next_to), reverse=newest_first)


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_cursor_leads_to_nothing_outside_of_the_time_that_is_asked_for(
    annals: Annals, newest_first: bool
) -> None:
    times = [NOON + n * SOON for n in range(6)]
    write(annals, *(Track(user("u"), (), event("e"), at) for at in times))
    project(annals)
    subject, everything = found(annals, user("u")), Wanted(("event",), newest_first=newest_first)
    cursor = page(annals, USER, subject, everything, limit=1).next
    between = Wanted(("event",), since=times[2], until=times[4], newest_first=newest_first)
    shown = [item.at for item in page(annals, USER, subject, between, cursor, limit=6).items]
    assert shown == sorted(times[2:4], reverse=newest_first)


def test_the_timeline_of_a_merged_user_has_what_both_did_newest_first(annals: Annals) -> None:
    write(
        annals,
        Track(user("jo"), (), event("first"), NOON),
        Track(user("old"), account("acme"), event("second"), NOON + timedelta(hours=1)),
        Track(user("jo"), (), event("third"), NOON + timedelta(hours=2)),
        Alias(user("jo"), user("old"), NOON + timedelta(hours=3)),
        Track(user("old"), (), event("fourth"), NOON + timedelta(hours=4)),
    )
    old = found(annals, user("old"))
    project(annals)
    with annals.queries.connect() as conn:
        assert survivor_of(conn, old) == found(annals, user("jo"))
    items = of(annals, "jo")
    assert [item.name for item in items if item.type == "event"] == [
        "fourth",
        "third",
        "second",
        "first",
    ]
    assert [item.at for item in items] == sorted((item.at for item in items), reverse=True)
    assert len({item.position for item in items}) == len(items)


def test_a_timeline_goes_on_where_it_was_whatever_is_written_meanwhile(annals: Annals) -> None:
    write(annals, *(Track(user("u"), account("a"), event(f"e{n}"), NOON) for n in range(7)))
    project(annals)
    subject = found(annals, account("a"))
    shown: list[str | None] = []
    cursor: str | None = None
    while True:
        current = page(annals, ACCOUNT, subject, cursor=cursor)
        shown += [item.name for item in current.items if item.type == "event"]
        cursor = current.next
        if cursor is None:
            break
        write(annals, Track(user("u"), account("a"), event("new"), NOON + timedelta(days=1)))
    assert shown == [f"e{n}" for n in reversed(range(7))]


def test_a_change_of_properties_shows_the_old_and_the_new_values(annals: Annals) -> None:
    write(
        annals,
        Change(USER, user("jo"), {"plan": "free", "seats": 3}, NOON),
        Change(USER, user("jo"), {"plan": "pro", "seats": None, "tags": ["a"]}, NOON + SOON),
        Join(user("jo"), account("acme"), {}, {"role": "guest"}, NOON),
        Join(user("jo"), account("acme"), {}, {"role": "owner"}, NOON + SOON),
        Change(USER, user("ann"), {"plan": "team", "city": "Ghent"}, NOON),
        Alias(user("jo"), user("ann"), NOON + 2 * SOON),
    )
    project(annals)
    shown = {
        (item.type, item.at): item.changes for item in of(annals, "jo") if item.changes is not None
    }
    first, second, third = NOON, NOON + SOON, NOON + 2 * SOON
    jos = found(annals, user("jo"))
    assert shown[("properties_changed", second)] == [
        ValueChange("plan", "free", "pro"),
        ValueChange("seats", 3, None),
        ValueChange("tags", None, ["a"]),
    ]
    assert shown[("membership_changed", second)] == [ValueChange("role", "guest", "owner")]
    assert shown[("absorbed", third)] == [ValueChange("city", None, "Ghent")]
    items = of(annals, "jo", Wanted(types=("property",), until=second))
    assert sorted([item.changes for item in items], key=str) == [
        [ValueChange("city", None, "Ghent"), ValueChange("plan", None, "team")],
        [ValueChange("plan", None, "free"), ValueChange("seats", None, 3)],
    ]
    assert {item.user and item.user.id for item in items} == {jos}
    assert first < second


def test_what_was_decided_has_its_name(annals: Annals) -> None:
    write(annals, Change(USER, user("jo"), {}, NOON))
    id, jo = define(annals, AllOf([]), name="Big"), found(annals, user("jo"))
    cause = OfDefinition(1)
    decide(
        annals, USER, jo, NOON + SOON,
        SegmentEntered(id, 1, 1, cause),
        StageEntered(id, 1, 1, cause, stage="trial"),
        HealthChanged(id, 1, 1, cause, before=Health.NORMAL, after=Health.BAD),
        StageSet("paying", "because", EDITOR),
    )  # fmt: skip
    project(annals)
    shown = {item.type: item.name for item in of(annals, "jo", Wanted(since=NOON + SOON))}
    assert shown == {
        "segment_entered": "Big",
        "stage_entered": "trial",
        "health_changed": "bad",
        "stage_set": "paying",
    }


def test_a_page_by_name_opens_no_more_than_the_days_on_which_it_was_done(annals: Annals) -> None:
    """Of a thousand events in between none is read."""
    often = [
        Track(user("u"), (), event("often"), NOON + timedelta(days=1 + n % 20, seconds=n))
        for n in range(1_000)
    ]
    write(
        annals,
        Track(user("u"), (), event("seldom"), NOON),
        *often,
        Track(user("u"), (), event("seldom"), NOON + timedelta(days=1)),
        Track(user("u"), (), event("seldom"), NOON + timedelta(days=1, seconds=1_000)),
    )
    project(annals)
    opened: list[int] = []

    class Opener:
        def __getattr__(self, name: str) -> object:
            return getattr(annals.sealer, name)

        def open_each(self, rows: Sequence[RecordedEvent]) -> Sequence[OpenedEvent | Gap]:
            opened.append(len(rows))
            return annals.sealer.open_each(rows)

    subject = found(annals, user("u"))
    with annals.queries.connect() as conn:
        found_ones = timeline(
            conn,
            annals.timelines,
            cast(Any, Opener()),
            USER,
            [subject],
            Wanted(names=("seldom",)),
            cursor=None,
            limit=10,
        )
    assert [item.name for item in found_ones.items] == ["seldom"] * 3
    assert found_ones.next is None
    assert sum(opened) == 3 + 1, "and what falls together with one of them"


def test_a_search_that_read_enough_ends_its_page_unless_it_found_nothing(annals: Annals) -> None:
    looks = (Activity(ActivityKind.PAGE, "home"),)
    write(
        annals,
        *(Track(user("u"), (), event(name), NOON) for name in ("early", "earlier", "earliest")),
        *(Track(user("u"), (), looks, NOON + n * SOON) for n in range(1, 200)),
        Track(user("u"), (), event("late"), NOON + 200 * SOON),
        Track(user("u"), (), looks, NOON + 201 * SOON),
    )
    project(annals)
    read: list[int] = []

    class Log:
        def __getattr__(self, name: str) -> Any:
            def reading(*asked: Any) -> list[RecordedEvent]:
                read.append(asked[-1])
                rows: list[RecordedEvent] = getattr(annals.timelines, name)(*asked)
                return rows

            return reading

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timeline_module, "MAX_READ", 50)
        events, subject = Wanted(types=("event",)), found(annals, user("u"))
        first = page(annals, USER, subject, events)
        assert [item.name for item in first.items] == ["late"]
        with annals.queries.connect() as conn:
            second = timeline(
                conn, cast(Any, Log()), annals.sealer, USER, [subject], events,
                cursor=first.next, limit=2,
            )  # fmt: skip
        assert [item.name for item in second.items] == ["earliest", "earlier"]
        assert len(read) <= 5, "what is seldom is sifted by the log, not page by page"
        third = page(annals, USER, subject, events, second.next)
        assert ([item.name for item in third.items], third.next) == (["early"], None)


def test_a_cursor_of_the_other_order_is_refused(annals: Annals) -> None:
    write(annals, *(Track(user("u"), (), event(f"e{n}"), NOON) for n in range(3)))
    project(annals)
    subject = found(annals, user("u"))
    cursor = page(annals, USER, subject, limit=1).next
    for other in (cursor, encoded("user:name", "a", uuid.UUID(int=1))):
        with pytest.raises(InvalidInput):
            page(annals, USER, subject, Wanted(newest_first=False), other)


@pytest.mark.parametrize(
    "forged",
    [
        (datetime(1, 1, 1, tzinfo=UTC), 0, 0),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), 70_000, 2**63 - 1),
    ],
)
@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("names", [(), ("one",)])
def test_a_forged_cursor_is_refused_or_gives_a_page(
    annals: Annals, forged: tuple[datetime, int, int], newest_first: bool, names: tuple[str, ...]
) -> None:
    write(annals, Track(user("u"), (), event("one"), NOON))
    project(annals)
    cursor = encoded(f"timeline:{'newest' if newest_first else 'oldest'}", *forged)
    wanted = Wanted(names=names, newest_first=newest_first)
    try:
        current = page(annals, USER, found(annals, user("u")), wanted, cursor)
    except InvalidInput:
        return
    assert all(item.name in ("one", None) for item in current.items)
