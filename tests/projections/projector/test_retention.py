"""What is shown once activity is no longer kept: what remains, and that it was."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import combinations_with_replacement
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from domain.activity import Activity, ActivityKind
from domain.backtest.outcomes import Verdict
from domain.calendar import Moment
from domain.commands import Change, Join, Track
from domain.conditions import language as ask
from domain.definitions.retention import Counts
from domain.definitions.types import DefinitionId, Segment, Settings
from domain.errors import NotReady
from domain.identity import SubjectId, SubjectKind
from domain.name_rules import CatalogueName, NameRules, NameScope
from domain.properties import PropertyType
from domain.workspace import editing
from infra.bootstrap.annals import Annals
from projections.conditions.compiler import predicate
from projections.kernel.tables import contacts
from projections.queries import backtest, explanation
from projections.queries.contact_view import ActivityCounts, streams_of, view
from projections.queries.status import ACTIVITY_SCOPES, PROPERTY_SCOPES, list_names
from projections.queries.timeline import Wanted, timeline
from projections.queries.timeline_items import TimelineItem
from tests.projections.counting import need
from tests.projections.read_models import (
    account,
    dump,
    event,
    forget_read_models,
    found,
    project,
    user,
    write,
)
from tests.projections.segments import EDITOR, define, members, settle
from tests.serving import until

JUNE = datetime(2024, 6, 1, tzinfo=UTC)
MAY = JUNE - timedelta(days=3)
NOW = JUNE + timedelta(days=3)
LOGGED_IN = ask.Did("event", "login", ask.AtLeastTimes(2), None, [])


def write_some(annals: Annals) -> None:
    login = (Activity(ActivityKind.EVENT, "login", {"via": "app"}),)
    write(
        annals,
        Change(SubjectKind.USER, user("ann"), {"name": "Ann"}, MAY),
        Join(user("ann"), account("acme"), {}, {}, MAY),
        Track(user("ann"), account("acme"), login, MAY),
        Track(user("ann"), (), login, MAY + timedelta(hours=1)),
        Track(user("ann"), (), event("paid"), JUNE),
    )


def end(annals: Annals, counts: Counts = Counts.KEEP, *, before: datetime = JUNE) -> None:
    project(annals)
    annals.retention.begin(before, counts, by="a test")
    until(lambda: annals.retention.go_on() is None)
    project(annals)


def shown(annals: Annals, kind: SubjectKind, subject: SubjectId, *names: str) -> list[TimelineItem]:
    with annals.queries.connect() as conn:
        streams = streams_of(conn, subject)
        wanted = Wanted(types=("event", "activity_summed"), names=names, newest_first=False)
        return timeline(
            conn, annals.timelines, annals.sealer, kind, streams, wanted, cursor=None, limit=50
        ).items


def test_a_timeline_says_what_is_no_longer_kept_and_shows_its_counts(annals: Annals) -> None:
    write_some(annals)
    end(annals)
    items = shown(annals, SubjectKind.USER, found(annals, user("ann")))
    assert [(item.type, item.name, item.kept, item.details) for item in items[:2]] == [
        ("event", None, False, None),
        ("event", None, False, None),
    ]
    assert all(item.user is not None and not item.user.erased for item in items)
    assert all(item.account is None or not item.account.erased for item in items)
    sums = [item for item in items if item.type == "activity_summed"]
    told = [day for item in sums if item.details for day in item.details["days"]]
    assert [(day["name"], day["count"]) for day in told] == [("login", 1), ("login", 1)]
    assert [item.name for item in items if item.type == "event" and item.kept] == ["paid"]


def test_what_is_no_longer_kept_is_not_found_by_its_name(annals: Annals) -> None:
    write_some(annals)
    end(annals)
    ann, acme = found(annals, user("ann")), found(annals, account("acme"))
    assert shown(annals, SubjectKind.USER, ann, "login") == []
    assert [item.name for item in shown(annals, SubjectKind.USER, ann, "paid")] == ["paid"]
    [gone, left] = shown(annals, SubjectKind.ACCOUNT, acme)
    assert (gone.kept, gone.name, gone.user and gone.user.name) == (False, None, "Ann")
    assert left.type == "activity_summed"


@pytest.mark.parametrize(
    ("counts", "events", "since"), [(Counts.KEEP, 3, MAY), (Counts.DROP, 0, None)]
)
def test_the_360_view_counts_what_is_to_be_counted(
    annals: Annals, counts: Counts, events: int, since: datetime | None
) -> None:
    write_some(annals)
    end(annals, counts)
    with annals.queries.connect() as conn:
        ann = found(annals, user("ann"))
        contact = view(conn, SubjectKind.USER, ann, renewal_property="renewal_date")
    assert contact.counts == ActivityCounts(events=events)
    assert (contact.name, contact.first_seen) == ("Ann", since)


def test_a_review_holds_what_remains(annals: Annals) -> None:
    write_some(annals)
    end(annals)
    ann = found(annals, user("ann"))
    reviews = annals.reviews(SubjectKind.USER, [ann])
    history = [item for piece in reviews.history() for item in piece]
    assert [item.type for item in history if not item.kept] == ["event", "event"]
    assert {"activity_summed", "properties_changed", "event"} <= {item.type for item in history}
    archive = b"".join(reviews.archive(reviews.file(renewal_property="renewal", currency=None)))
    assert archive.startswith(b"PK")


def test_decisions_stay_and_say_what_they_saw(annals: Annals) -> None:
    write_some(annals)
    segment = define(annals, LOGGED_IN)
    settle(annals)
    ann = found(annals, user("ann"))
    end(annals)
    settle(annals)
    assert members(annals, segment) == {ann}
    with annals.queries.connect() as conn:
        told = explanation.last(
            conn, annals.records, annals.sealer, SubjectKind.USER, ann, "segment", segment
        )
    assert told.definition.id == segment


def test_what_rests_on_counts_that_are_dropped_is_decided_anew(annals: Annals) -> None:
    write_some(annals)
    segment = define(annals, LOGGED_IN)
    settle(annals)
    assert members(annals, segment) == {found(annals, user("ann"))}
    end(annals, Counts.DROP)
    settle(annals)
    assert members(annals, segment) == set()


def retired(annals: Annals) -> list[tuple[str, int, datetime | None]]:
    with annals.queries.connect() as conn:
        items = list_names(conn, ACTIVITY_SCOPES, retired=True).items
    return [(item.name, item.uses, item.first_at) for item in items]


def rebuilt(annals: Annals, url: str) -> list[str]:
    forget_read_models(url)
    project(annals)
    return dump(url)["catalogue"]


def test_a_retired_name_stays_in_its_list_without_uses_until_it_is_restored(
    annals: Annals, database_url: str
) -> None:
    write_some(annals)
    write(annals, Track(user("ann"), (), event("paid"), NOW))
    project(annals)
    annals.names.retire(NameScope.EVENT, ["login", "paid"], EDITOR, NOW)
    end(annals, Counts.DROP)
    assert retired(annals) == [("paid", 1, NOW), ("login", 0, None)]
    live = dump(database_url)["catalogue"]
    assert rebuilt(annals, database_url) == live
    annals.names.restore(NameScope.EVENT, ["login"], EDITOR, NOW)
    project(annals)
    assert retired(annals) == [("paid", 1, NOW)]
    live = dump(database_url)["catalogue"]
    assert rebuilt(annals, database_url) == live


def test_a_name_that_is_retired_before_its_use_is_shown_is_in_the_list(
    annals: Annals, database_url: str
) -> None:
    never = CatalogueName(NameScope.USER_PROPERTY, "never")
    annals.names._catalogue.take({never: PropertyType.STRING})
    annals.names.retire(never.scope, [never.name], EDITOR, NOW)
    write_some(annals)
    annals.names.retire(NameScope.EVENT, ["login"], EDITOR, NOW)
    project(annals)
    assert retired(annals) == [("login", 2, MAY)]
    with annals.queries.connect() as conn:
        [name] = list_names(conn, PROPERTY_SCOPES, retired=True).items
    assert (name.name, name.uses, name.first_at, name.retired_at) == ("never", 0, None, NOW)
    live = dump(database_url)["catalogue"]
    assert rebuilt(annals, database_url) == live


BRUSSELS = ZoneInfo("Europe/Brussels")
_HOURS = [-800, -50, -3, -2, -1, 0, 1, 21, 22, 23, 50]
"""From where the month begins, in UTC and two hours before that in Brussels."""
_ASKED: list[ask.Condition] = [
    LOGGED_IN,
    ask.Did("event", "login"),
    ask.Did("event", "login", where=[ask.MetadataIs("n", ask.AtLeast(2))]),
    ask.AttributeIs(ask.Attribute.FIRST_SEEN, ask.IsSet()),
]


@pytest.mark.parametrize(
    "runs",
    [
        [(JUNE, Counts.KEEP)],
        [(JUNE, Counts.DROP)],
        [(JUNE - timedelta(days=31), Counts.KEEP), (JUNE, Counts.DROP)],
    ],
)
def test_of_what_is_left_a_back_test_counts_what_lists_count(
    annals: Annals, runs: list[tuple[datetime, Counts]]
) -> None:
    chosen = Settings(time_zone=str(BRUSSELS))
    annals.definitions.decide(
        lambda state: editing.choose(state, DefinitionId(uuid4()), chosen, uuid4()), MAY
    )
    with suppress(NotReady), annals.queries.connect() as conn:
        need(conn, _ASKED[2])
    filler = annals.filler()
    while filler.step():
        pass
    for n, hours in enumerate(combinations_with_replacement(_HOURS, 2)):
        write(
            annals,
            *(
                Track(
                    user(f"u{n}"),
                    (),
                    (Activity(ActivityKind.EVENT, "login", {"n": metadata}),),
                    JUNE + timedelta(hours=hour),
                )
                for metadata, hour in enumerate(hours, 1)
            ),
        )
    for before, counts in runs:
        end(annals, counts, before=before)
    with annals.queries.connect() as conn:
        for condition in _ASKED:
            test = predicate(condition, SubjectKind.USER, Moment(NOW, BRUSSELS))
            found = set(conn.scalars(sa.select(contacts.c.subject).where(test)))
            verdicts = back_tested(annals, condition)
            assert {id for id, verdict in verdicts.items() if verdict.after == "in"} == found, (
                condition
            )
            assert len(verdicts) == 66


def back_tested(annals: Annals, condition: ask.Condition) -> Mapping[SubjectId, Verdict]:
    return backtest.run(
        Segment(SubjectKind.USER, "tested", condition),
        annals.definitions.load().active,
        None,
        days=10,
        sample=None,
        now=NOW,
        zone=BRUSSELS,
        names=NameRules(),
        queries=annals.queries,
        log=annals.log,
        records=annals.records,
        opener=annals.sealer,
        progress=lambda *_: None,
    ).verdicts
