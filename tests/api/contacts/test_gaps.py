"""A row that somebody altered is shown as a gap, and all else that happened is shown beside it."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

from domain.commands import Position
from domain.identity import SubjectId
from infra.bootstrap.annals import Annals
from tests.altered import ALTERATIONS, KNOWN_TOPICS, alter, places_of, swap
from tests.serving import Clients, account, problem, start_over, until, user

AT = datetime.now(UTC) - timedelta(days=3)


def told(client: Clients, name: str = "ada") -> SubjectId:
    """A user of whom six things are known, one of them a sign-in in an account."""
    when = [f"{AT + timedelta(minutes=n):%Y-%m-%dT%H:%M:%SZ}" for n in range(4)]
    client.send(
        {"type": "identify", "userId": name, "traits": {"plan": "free"}, "timestamp": when[0]},
        {"type": "group", "userId": name, "groupId": "acme", "timestamp": when[0]},
        {"type": "identify", "userId": name, "traits": {"plan": "pro"}, "timestamp": when[1]},
        {
            "type": "track",
            "userId": name,
            "event": "login",
            "context": {"groupId": "acme"},
            "timestamp": when[2],
        },
        {"type": "track", "userId": name, "event": "paid", "timestamp": when[3]},
    )
    return SubjectId(client.see(user(name))["id"])


def changes(url: str, subject: SubjectId) -> list[Position]:
    return places_of(url, subject, "user.properties_changed")


def text(place: Position) -> str:
    return f"{place.log_partition}:{place.position}"


def archive(client: Clients, path: str) -> dict[str, bytes]:
    answer = client.get(f"{path}/review/archive", scope="comply")
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as opened:
        return {one: opened.read(one) for one in opened.namelist()}


def test_an_altered_row_is_a_gap_of_the_timeline_which_goes_on(
    client: Clients, database_url: str
) -> None:
    for alteration, assignment in ALTERATIONS.items():
        subject, timeline = told(client, alteration), user(alteration, "/timeline")
        before = client.pages(timeline, limit=2)
        place = changes(database_url, subject)[1]
        alter(database_url, place, assignment)
        shown = client.pages(timeline, limit=2)
        assert [one["position"] for one in shown] == [one["position"] for one in before]
        [gap] = [one for one in shown if one["type"] == "gap"]
        assert gap["position"] == text(place)
        assert (gap["name"], gap["changes"], gap["details"]) == (None, None, None)
        assert gap["user"]["id"] == str(subject)
        is_known = alteration not in ("no topic", "newer")
        assert gap["gap"]["reason"] == ("altered" if is_known else "unreadable")
        assert [one for one in shown if one != gap] == [
            one for one in before if one["position"] != gap["position"]
        ]


def test_a_gap_is_found_by_the_topic_of_its_envelope_and_by_no_name(
    client: Clients, database_url: str
) -> None:
    place = changes(database_url, told(client))[1]
    alter(database_url, place, ALTERATIONS["state"])
    timeline = user("ada", "/timeline")
    assert [one["type"] for one in client.see(timeline, type="property")["items"]] == [
        "gap",
        "properties_changed",
    ]
    assert "gap" not in [one["type"] for one in client.see(timeline, type="event")["items"]]
    named = client.see(timeline, name="plan")["items"]
    assert [one["type"] for one in named] == ["properties_changed"]
    assert client.see(timeline, total="true")["total"] == len(client.pages(timeline))


def test_two_rows_that_were_swapped_are_two_gaps(client: Clients, database_url: str) -> None:
    one, other = changes(database_url, told(client))
    swap(database_url, one, other)
    shown = client.pages(user("ada", "/timeline"))
    assert [gap["position"] for gap in shown if gap["type"] == "gap"] == [text(other), text(one)]


def test_what_the_account_keeps_is_a_gap_in_the_timelines_of_both(
    client: Clients, database_url: str
) -> None:
    subject = told(client)
    [place, _] = places_of(database_url, subject, "user.event_tracked")
    alter(database_url, place, "account_state = substring(account_state FOR 20)")
    for path in (user("ada"), account("acme")):
        [gap] = [one for one in client.pages(f"{path}/timeline", limit=1) if one["type"] == "gap"]
        assert gap["gap"] == {"reason": "altered", "topic": "user.event_tracked"}
        assert (gap["user"]["id"], gap["account"]["external_id"]) == (str(subject), "acme")
    assert client.see(f"{account('acme')}/timeline")["items"] != []


def test_review_and_archive_name_the_gap_and_hold_all_else(
    client: Clients, database_url: str
) -> None:
    for alteration, assignment in ALTERATIONS.items():
        subject, path = told(client, alteration), user(alteration)
        whole = json.loads(archive(client, path)["review.json"])["history"]
        place = changes(database_url, subject)[1]
        alter(database_url, place, assignment)
        shown = client.get(f"{path}/review", scope="comply", limit=3).json()
        assert shown["history"]["total"] == len(whole)
        files = archive(client, path)
        history = json.loads(files["review.json"])["history"]
        assert [one["position"] for one in history] == [one["position"] for one in whole]
        [gap] = [one for one in history if one["type"] == "gap"]
        assert gap["position"] == text(place)
        summary = files["summary.html"].decode()
        assert "Events that do not open" in summary
        assert text(place) in summary
        rows: list[dict[str, Any]] = [
            row
            for name in ("activity", "changes", "decisions")
            for row in csv.DictReader(io.StringIO(files[f"{name}.csv"].decode("utf-8-sig")))
        ]
        assert len(rows) == len(whole) - (alteration not in KNOWN_TOPICS)
        assert [row["type"] for row in rows if row["gap"]] == (
            ["gap"] if alteration in KNOWN_TOPICS else []
        )


def test_overview_and_stages_say_which_changes_they_left_out(
    client: Clients, database_url: str
) -> None:
    place = changes(database_url, told(client))[1]
    alter(database_url, place, ALTERATIONS["cut"])
    assert client.see(user("ada", "/overview"))["gaps"] == [text(place)]
    assert client.see(user("ada", "/stages"))["gaps"] == []


def test_what_rests_on_the_altered_one_is_refused_over_http_and_says_where(
    client: Clients, database_url: str
) -> None:
    place = changes(database_url, told(client))[1]
    alter(database_url, place, ALTERATIONS["state"])
    left = client("write").delete("/api/accounts/external:acme/users/external:ada")
    assert text(place) in problem(left, 409, "altered")["detail"]
    problem(client("admin").delete(user("ada", "/stage")), 409, "altered")


def test_an_instant_that_is_none_stops_no_reader(client: Clients, database_url: str) -> None:
    """It is outside of every timeline, as it is outside of time."""
    subject = told(client)
    before = client.pages(user("ada", "/timeline"))
    place = changes(database_url, subject)[1]
    for n, instant in enumerate(("infinity", "-infinity", "4000-01-01 BC")):
        alter(database_url, place, f"occurred_at = '{instant}'")
        shown = client.pages(user("ada", "/timeline"), limit=2)
        assert len(shown) == len(before) - 1
        assert len(archive(client, user("ada"))) > 1
        told_again = client.send(
            {"type": "identify", "userId": "ada", "traits": {"plan": "big"}},
            {"type": "identify", "userId": f"bob{n}", "traits": {"plan": "big"}},
        )
        assert [one["status"] for one in told_again["results"]] == ["refused", "stored"]
        assert told_again["results"][0]["code"] == "altered"
    start_over(client.annals)
    until(lambda: client.see("/api/status")["behind"] == 0)
    client.see(user("bob0"))


def test_why_names_the_decision_that_does_not_open_and_knows_the_one_before(
    client: Clients, annals: Annals, database_url: str
) -> None:
    told(client)
    condition = {"type": "property", "name": "plan", "test": {"op": "is", "value": "pro"}}
    body = {"kind": "user", "name": "payers", "condition": condition}
    segment = client.taken(client("admin").post("/api/segments", json=body))["id"]
    subject = SubjectId(client.see(user("ada"))["id"])
    until(lambda: places_of(database_url, subject, "user.segment_entered") != [])
    [entered] = places_of(database_url, subject, "user.segment_entered")
    why = user("ada", "/why")
    seen = client.see(why, of="segment", definition=segment)
    assert (seen["what"], seen["gaps"]) == ("segment_entered", [])
    client.send({"type": "identify", "userId": "ada", "traits": {"plan": "free"}})
    until(lambda: places_of(database_url, subject, "user.segment_left") != [])
    [left] = places_of(database_url, subject, "user.segment_left")
    alter(database_url, left, ALTERATIONS["state"])
    refused = problem(client.get(why, position=text(left)), 409, "altered")
    assert text(left) in refused["detail"]
    seen = client.see(why, of="segment", definition=segment)
    assert (seen["what"], seen["gaps"]) == ("segment_entered", [text(left)])
    alter(database_url, entered, ALTERATIONS["state"])
    refused = problem(client.get(why, of="segment", definition=segment), 409, "altered")
    assert text(entered) in refused["detail"]
