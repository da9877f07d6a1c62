"""A row that somebody altered is passed once by every reader of the log, which lists it; what is
decided of its subject is refused, of that subject alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from domain.activity import Activity, ActivityKind
from domain.commands import (
    Change,
    Duplicate,
    Outcome,
    Position,
    Refused,
    Request,
    SetStage,
    Stored,
    Track,
)
from domain.conditions import language as ask
from domain.definitions.retention import Counts
from domain.definitions.types import Segment
from domain.errors import Altered, Conflict, NotReady
from domain.identity import SubjectId, SubjectKind
from domain.name_rules import NameRules, NameScope
from domain.parked_events import ParkedEvent, Retried
from domain.properties import PropertyType
from domain.subjects.subject import SNAPSHOT_EVERY
from domain.workspace import editing
from infra.bootstrap.annals import Annals
from projections.queries import backtest
from tests.altered import ALTERATIONS, alter, places_of, restore, state_at
from tests.commands import alias, group, identify, track
from tests.infra import destinations
from tests.infra.commands import loaded, send, stored, subject_of
from tests.infra.erasures import erased
from tests.projections.counting import need, ready
from tests.projections.read_models import (
    NOON,
    dump,
    forget_read_models,
    found,
    owner,
    project,
    user,
    write,
)
from tests.projections.segments import EDITOR, define
from tests.receiver import Receiver

U = SubjectKind.USER
BROKEN = ALTERATIONS["state"]
PAID = ask.Did("event", "paid", where=[ask.MetadataIs("sum", ask.AtLeast(50))])


def paid(*names: str) -> list[Track]:
    done = (Activity(ActivityKind.EVENT, "paid", {"sum": 70}),)
    return [Track(user(name), (), done, NOON) for name in names]


def place_of(url: str, annals: Annals, name: str, topic: str, which: int = -1) -> Position:
    id = subject_of(annals, name)
    assert id is not None
    return places_of(url, id, topic)[which]


def listed(annals: Annals, reader: str) -> list[ParkedEvent]:
    return annals.parked().pages.read(reader=reader, state=None, cursor=None, limit=500).items


def text(place: Position) -> str:
    return f"{place.log_partition}:{place.position}"


def code(outcome: Outcome) -> str:
    return outcome.code if isinstance(outcome, Refused) else type(outcome).__name__


def passed(logs: Sequence[Any], reader: str) -> list[Any]:
    return [one for one in logs if one["event"] == "reader.passed" and one["reader"] == reader]


def test_a_batch_refuses_what_is_about_the_altered_one_and_stores_all_else(
    annals: Annals, database_url: str
) -> None:
    for n, assignment in enumerate(ALTERATIONS.values()):
        one, other, new, firm = f"u1-{n}", f"u2-{n}", f"u3-{n}", f"a-{n}"
        stored(annals, identify(one, plan="free"), identify(other, plan="free"), group(one, firm))
        place = place_of(database_url, annals, one, "user.properties_changed")
        alter(database_url, place, assignment)
        before = loaded(annals, other).version
        outcomes = send(
            annals,
            identify(other, plan="pro"),
            identify(one, plan="pro"),
            identify(new, plan="pro"),
            group(one, firm, role="owner"),
            group(other, firm),
            track(one, "", "login"),
            identify(firm, plan="big"),
        )
        assert [code(each) for each in outcomes] == [
            "Stored", "altered", "Stored", "altered", "Stored", "Stored", "Stored",
        ]  # fmt: skip
        refused = outcomes[1]
        assert isinstance(refused, Refused)
        assert text(place) in refused.detail
        assert loaded(annals, other).version > before
        assert loaded(annals, new).properties == {"plan": "pro"}
        with pytest.raises(Altered, match=text(place)):
            loaded(annals, one)


def test_a_merge_with_the_altered_one_is_refused_and_who_is_named_after_it_stays_who_it_was(
    annals: Annals, database_url: str
) -> None:
    stored(annals, identify("u1", plan="free"), identify("u2", plan="free"), identify("u3"))
    place = place_of(database_url, annals, "u2", "user.properties_changed")
    alter(database_url, place, BROKEN)
    ids = [subject_of(annals, one) for one in ("u1", "u2", "u3")]
    outcomes = send(
        annals,
        alias("u1", "u2"),
        identify("u2", plan="pro"),
        identify("u1", plan="pro"),
        track("u2", "", "login"),
        alias("u1", "u3"),
        identify("u2 u9@example.com", plan="pro"),
    )
    assert [code(one) for one in outcomes] == [
        "altered", "altered", "Stored", "Stored", "Stored", "altered",
    ]  # fmt: skip
    assert [subject_of(annals, one) for one in ("u1", "u2", "u3")] == [ids[0], ids[1], ids[0]]
    assert places_of(database_url, ids[1], "user.event_tracked") != []
    assert loaded(annals, "u1").properties == {"plan": "pro"}


def test_a_sender_that_repeats_a_refused_message_hears_the_same_and_may_send_it_once_it_opens(
    annals: Annals, database_url: str
) -> None:
    stored(annals, identify("u1", plan="free"))
    place = place_of(database_url, annals, "u1", "user.properties_changed")
    kept = state_at(database_url, place)
    alter(database_url, place, BROKEN)
    request = Request(identify("u1", plan="pro"), "message-1")
    for _ in range(2):
        assert code(annals.handler.handle([request])[0]) == "altered"
    restore(database_url, place, kept)
    assert isinstance(annals.handler.handle([request])[0], Stored)
    assert isinstance(annals.handler.handle([request])[0], Duplicate)


def test_a_version_that_is_gone_is_no_less_than_one_that_does_not_open(
    annals: Annals, database_url: str
) -> None:
    stored(annals, identify("u1", plan="free"), identify("u1", plan="pro"))
    place = place_of(database_url, annals, "u1", "user.properties_changed", 0)
    alter(database_url, place, "version = NULL")
    assert [code(one) for one in send(annals, identify("u1", plan="big"))] == ["altered"]


def test_a_snapshot_that_was_altered_is_made_of_the_events_again(
    annals: Annals, database_url: str
) -> None:
    stored(annals, *(identify("u1", n=n) for n in range(SNAPSHOT_EVERY + 5)), identify("u2", n=1))
    before = loaded(annals, "u1"), loaded(annals, "u2")
    with owner(database_url) as conn:
        done = conn.execute("UPDATE log.snapshots SET state = substring(state FOR 30)")
        assert done.rowcount == 1
    assert (loaded(annals, "u1"), loaded(annals, "u2")) == before
    stored(annals, identify("u1", n=0))


def test_what_is_done_by_hand_is_refused_and_a_hold_is_placed(
    annals: Annals, database_url: str
) -> None:
    stored(annals, identify("u1", plan="free"))
    place = place_of(database_url, annals, "u1", "user.properties_changed")
    alter(database_url, place, BROKEN)
    id = subject_of(annals, "u1")
    assert id is not None
    with pytest.raises(Altered, match=text(place)):
        annals.manual_stages.apply(SetStage(U, id, None, "a test", EDITOR, NOON))
    assert annals.holds.place(U, id, reason="a case", by="officer").subject == id


@pytest.mark.parametrize("topic", ["user.absorbed", "user.merged_into", "user.properties_changed"])
def test_an_erasure_reaches_the_altered_one_and_all_that_was_merged_into_it(
    annals: Annals, database_url: str, topic: str
) -> None:
    stored(
        annals,
        identify("u1", plan="free"),
        identify("u2", plan="free"),
        identify("u3", plan="free"),
    )
    both = [subject_of(annals, one) for one in ("u1", "u2")]
    stored(annals, alias("u1", "u2"))
    project(annals)
    [subject] = {subject_of(annals, one) for one in ("u1", "u2")}
    with owner(database_url) as conn:
        [stream] = {
            row[0]
            for row in conn.execute(
                "SELECT stream FROM log.events WHERE topic = %s AND stream = ANY(%s)",
                (topic, both if topic != "user.properties_changed" else [subject]),
            )
        }
    alter(database_url, places_of(database_url, SubjectId(stream), topic)[0], BROKEN)
    erased(annals, subject, subject_of(annals, "u3"))
    assert annals.keys.fetch([one.int for one in both if one is not None]) == {}
    assert subject_of(annals, "u3") is None


def test_the_filler_counts_all_but_the_altered_one_lists_it_once_and_counts_it_once_it_opens(
    annals: Annals, database_url: str
) -> None:
    write(annals, *paid("ada", "bob", "cid"))
    project(annals)
    place = places_of(database_url, found(annals, user("ada")), "user.event_tracked")[0]
    kept = state_at(database_url, place)
    alter(database_url, place, BROKEN)
    with pytest.raises(NotReady), annals.queries.connect() as conn:
        need(conn, PAID)
    with capture_logs() as logs:
        ready(annals)
        ready(annals)
    assert counted(database_url) == [("ready", 2)]
    [told] = passed(logs, "counters")
    assert told | {"log_level": ""} == {
        "event": "reader.passed", "log_level": "", "reader": "counters", "error": "Tampered",
        "topic": "user.event_tracked", "log_partition": place.log_partition,
        "position": place.position,
    }  # fmt: skip
    [one] = listed(annals, "counters")
    assert (one.position, one.error, one.topic) == (text(place), "Tampered", "user.event_tracked")
    assert one.subject == found(annals, user("ada"))
    assert annals.parked().retry("counters", place) == Retried(0, 1, "Tampered")
    assert listed(annals, "counters")[0].tries == 2
    restore(database_url, place, kept)
    assert annals.parked().retry("counters", place) == Retried(1, 0, None)
    ready(annals)
    assert counted(database_url) == [("ready", 3)]
    assert listed(annals, "counters") == []


def counted(url: str) -> list[tuple[str, int]]:
    with owner(url) as conn:
        return conn.execute(
            "SELECT c.state, coalesce(sum(d.count), 0)::int FROM views.counters c"
            " LEFT JOIN views.counter_days d ON d.counter = c.id GROUP BY c.id, c.state"
        ).fetchall()


def test_a_destination_is_told_of_all_else_and_the_altered_one_is_listed_under_its_id(
    annals: Annals, database_url: str, receiver: Receiver
) -> None:
    destinations.logins(annals, "ada", "bob")
    project(annals)
    place = places_of(database_url, found(annals, user("ada")), "user.event_tracked")[0]
    kept = state_at(database_url, place)
    alter(database_url, place, BROKEN)
    id = destinations.make(annals, receiver.url)
    project(annals)
    with capture_logs() as logs:
        destinations.tell(annals, id)
    told = [one for one in receiver.taken() if one["type"] == "user.event_tracked"]
    assert len(told) == 1
    reader = f"destination:{id}"
    assert [one.position for one in listed(annals, reader)] == [text(place)]
    assert len(passed(logs, reader)) == 1
    assert annals.parked().retry(reader, place).left == 1
    restore(database_url, place, kept)
    with pytest.raises(Conflict, match="by hand"):
        annals.parked().retry(reader, place)
    annals.parked().skip(reader, place, "told by hand", "operator")
    assert listed(annals, reader) == []


def test_what_a_destination_lacks_is_off_the_list_once_it_is_told_no_more(
    annals: Annals, database_url: str, receiver: Receiver
) -> None:
    destinations.logins(annals, "ada")
    project(annals)
    place = places_of(database_url, found(annals, user("ada")), "user.event_tracked")[0]
    alter(database_url, place, BROKEN)
    ids = [destinations.make(annals, receiver.url) for _ in range(2)]
    project(annals)
    for id in ids:
        destinations.tell(annals, id)
    gone, kept = ids
    annals.definitions.decide(lambda state: editing.archive(state, gone, EDITOR), datetime.now(UTC))
    annals.working_definitions.load()
    annals.delivery.due()
    assert listed(annals, f"destination:{gone}") == []
    assert [one.position for one in listed(annals, f"destination:{kept}")] == [text(place)]


def test_a_run_of_retention_sums_all_else_and_comes_to_its_end(
    annals: Annals, database_url: str
) -> None:
    write(annals, *paid("ada", "ada", "bob"))
    project(annals)
    place = places_of(database_url, found(annals, user("ada")), "user.event_tracked")[0]
    alter(database_url, place, BROKEN)
    with capture_logs() as logs:
        annals.retention.begin(NOON + timedelta(days=31), Counts.KEEP, by="a test")
        project(annals)
        annals.retention.go_on()
    [run] = annals.retention.runs()
    assert (run.sums, run.destroyed_at is not None) == (2, True)
    assert [one.position for one in listed(annals, "retention")] == [text(place)]
    assert len(passed(logs, "retention")) == 1


def test_a_definition_that_does_not_open_stops_neither_the_start_nor_another_definition(
    annals: Annals, open_annals: Callable[[], Annals], database_url: str
) -> None:
    ids = [define(annals, PAID, name=name) for name in ("one", "two", "three")]
    stream = annals.definitions.stream
    place = places_of(database_url, stream, "segment.defined")[1]
    kept = state_at(database_url, place)
    alter(database_url, place, BROKEN)
    with capture_logs() as logs:
        other = open_annals()
        assert set(other.definitions.load().segments) == {ids[0], ids[2]}
        assert set(other.working_definitions.load().segments) == {ids[0], ids[2]}
    assert len(passed(logs, "definitions")) == 1
    assert [one.position for one in listed(other, "definitions")] == [text(place)]
    four = define(other, PAID, name="four")
    assert set(other.definitions.load().segments) == {ids[0], ids[2], four}
    other.definitions.decide(lambda state: editing.delete(state, ids[0], EDITOR), datetime.now(UTC))
    assert other.parked().retry("definitions", place).left == 1
    restore(database_url, place, kept)
    assert other.parked().retry("definitions", place) == Retried(1, 0, None)
    assert set(other.definitions.load().segments) == {ids[1], ids[2], four}


@pytest.mark.parametrize("topic", ["settings.names_retired", "settings.property_type_changed"])
def test_what_the_workspace_decided_holds_as_soon_as_its_row_is_restored(
    annals: Annals, database_url: str, topic: str
) -> None:
    scope = NameScope.USER_PROPERTY
    write(annals, Change(U, user("ada"), {"seats": "5"}, NOON))
    project(annals)
    if topic == "settings.names_retired":
        annals.names.retire(scope, ["seats"], EDITOR, NOON)
    else:
        annals.names.change_type(scope, "seats", PropertyType.NUMBER, EDITOR, NOON)
    [place] = places_of(database_url, annals.definitions.stream, topic)
    kept = state_at(database_url, place)
    alter(database_url, place, BROKEN)
    project(annals)
    assert [one.error for one in listed(annals, "main")] == ["Tampered"]
    for _ in range(2):
        annals.working_definitions.load()
    restore(database_url, place, kept)
    assert annals.parked().retry("main", place) == Retried(1, 0, None)
    live = dump(database_url)
    forget_read_models(database_url)
    project(annals)
    assert dump(database_url) == live
    with owner(database_url) as conn:
        row = conn.execute("SELECT value_type, retired_at FROM views.catalogue").fetchone()
    retired = topic == "settings.names_retired"
    assert row == (("string", NOON) if retired else ("number", None))


def test_whoever_is_erased_is_off_the_list_of_every_reader(
    annals: Annals, database_url: str
) -> None:
    write(annals, *paid("ada", "bob"))
    project(annals)
    place = places_of(database_url, found(annals, user("ada")), "user.event_tracked")[0]
    alter(database_url, place, BROKEN)
    with pytest.raises(NotReady), annals.queries.connect() as conn:
        need(conn, PAID)
    ready(annals)
    assert len(listed(annals, "counters")) == 1
    erased(annals, found(annals, user("ada")))
    assert listed(annals, "counters") == []


@pytest.mark.parametrize("sample", [None, 10])
def test_a_back_test_leaves_the_altered_one_out_and_names_its_place(
    annals: Annals, database_url: str, sample: int | None
) -> None:
    write(annals, *paid("ada", "bob"))
    project(annals)
    place = places_of(database_url, found(annals, user("ada")), "user.event_tracked")[0]
    alter(database_url, place, BROKEN)
    with capture_logs() as logs:
        tested = backtest.run(
            Segment(U, "payers", PAID),
            {},
            None,
            days=2,
            sample=sample,
            now=NOON + timedelta(hours=1),
            zone=UTC,
            queries=annals.queries,
            log=annals.log,
            records=annals.records,
            opener=annals.sealer,
            names=NameRules(),
            progress=lambda *_: None,
        )
    assert tested.result.gaps == [text(place)]
    assert {one.outcome: one.subjects for one in tested.result.today} == {"in": 1, "out": 1}
    assert len(passed(logs, "back-test")) == 1
