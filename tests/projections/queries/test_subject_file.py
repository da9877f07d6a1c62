"""All that is on file about one subject: complete against the log, and in flat memory."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import time
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from domain.activity import Activity, ActivityKind
from domain.commands import Alias, Change, Join, Leave, Track
from domain.events.event import Event
from domain.events.payloads import Tracked
from domain.identity import SubjectKind
from infra.bootstrap.annals import Annals
from projections.queries.contact_view import streams_of
from projections.queries.subject_file import File, SubjectFiles
from tests.infra.erasures import erase
from tests.projections.read_models import NOON, account, event, found, project, user, write

EVENTS = int(os.environ.get("ANNALS_TEST_EVENTS", "5000"))
POSITION = re.compile(rb'"position":"(\d+:\d+)"')


def reviews_of(annals: Annals, kind: SubjectKind, name: str) -> SubjectFiles:
    subject = found(annals, (user if kind is SubjectKind.USER else account)(name))
    with annals.queries.connect() as conn:
        return annals.reviews(kind, streams_of(conn, subject))


def file_of(annals: Annals, reviews: SubjectFiles) -> File:
    return reviews.file(renewal_property="renewal_date", currency=None)


def unpacked(annals: Annals, kind: SubjectKind, name: str) -> dict[str, bytes]:
    reviews = reviews_of(annals, kind, name)
    archive = b"".join(reviews.archive(file_of(annals, reviews)))
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        return {name: opened.read(name) for name in opened.namelist()}


def table(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))


def write_a_life(annals: Annals) -> None:
    write(
        annals,
        Change(SubjectKind.USER, user("ada"), {"name": "Ada <b>", "plan": "free"}, NOON),
        Change(SubjectKind.USER, user("ada"), {"plan": "pro"}, NOON + timedelta(hours=1)),
        Join(user("ada"), account("acme"), {"name": "Acme"}, {"role": "=owner()"}, NOON),
        Leave(user("ada"), account("acme"), NOON + timedelta(hours=2)),
        Track(
            user("ada"),
            account("acme"),
            (Activity(ActivityKind.EVENT, "login", {"note": "secret of Ada"}),),
            NOON,
        ),
        Track(user("ada"), (), event("shop.example/cart", ActivityKind.PAGE), NOON),
        Change(SubjectKind.USER, user("old"), {"city": "Ghent"}, NOON - timedelta(days=1)),
        Alias(user("ada"), user("old"), NOON + timedelta(hours=3)),
        Change(SubjectKind.USER, user("bob"), {"name": "Bob"}, NOON),
        Join(user("bob"), account("acme"), {}, {"role": "admin"}, NOON),
    )
    project(annals)


def test_the_archive_of_a_user_holds_all_that_the_log_says_and_nothing_of_others(
    annals: Annals,
) -> None:
    write_a_life(annals)
    files = unpacked(annals, SubjectKind.USER, "ada")
    whole = json.loads(files["review.json"])
    ada = whole["contact"]["id"]
    rows = annals.log.read_after(dict.fromkeys(range(256), 0), 1_000)
    ids = {ada} | {str(row.stream) for row in rows if row.topic == "user.merged_into"}
    assert len(ids) == 2
    in_log = {f"{row.log_partition}:{row.position}" for row in rows if str(row.stream) in ids}
    assert sorted(item["position"] for item in whole["history"]) == sorted(in_log)
    times = [item["at"] for item in whole["history"]]
    assert times == sorted(times)
    plans = [
        (change["before"], change["after"])
        for item in whole["history"]
        for change in item["changes"] or ()
        if change["name"] == "plan"
    ]
    assert [after for _, after in plans] == ["free", "pro"]
    assert {identity["value"] for identity in whole["contact"]["identities"]} == {"ada", "old"}
    assert {item["name"]: item["value"] for item in whole["properties"]} == {
        "name": "Ada <b>",
        "plan": "pro",
        "city": "Ghent",
    }
    [membership] = whole["memberships"]
    assert (membership["name"], bool(membership["left_at"])) == ("Acme", True)
    assert b"secret of Ada" in files["activity.csv"]
    assert b"Bob" not in b"".join(files.values())


def test_the_tables_hold_what_the_json_holds(annals: Annals) -> None:
    write_a_life(annals)
    files = unpacked(annals, SubjectKind.USER, "ada")
    whole = json.loads(files["review.json"])
    history = [
        row for name in ("activity", "changes", "decisions") for row in table(files[f"{name}.csv"])
    ]
    assert sorted(row["position"] for row in history) == sorted(
        item["position"] for item in whole["history"]
    )
    assert [row["value"] for row in table(files["identities.csv"])] == [
        identity["value"] for identity in whole["contact"]["identities"]
    ]
    [membership] = table(files["memberships.csv"])
    assert membership["role"] == "'=owner()"  # which no spreadsheet computes
    assert {row["name"] for row in table(files["properties.csv"])} == {"name", "plan", "city"}


def test_the_json_keeps_to_the_schema_beside_it_and_the_summary_is_escaped(
    annals: Annals,
) -> None:
    write_a_life(annals)
    files = unpacked(annals, SubjectKind.USER, "ada")
    schema, whole = json.loads(files["review.schema.json"]), json.loads(files["review.json"])
    top = schema["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
    assert set(top["required"]) == set(top["properties"]) == set(whole)
    item = schema["$defs"]["TimelineItem"]
    assert set(item["properties"]) == set(whole["history"][0])
    summary = files["summary.html"].decode()
    assert "Ada &lt;b&gt;" in summary
    assert "Ada <b>" not in summary


def test_the_review_of_an_account_has_of_its_users_what_the_account_keeps(annals: Annals) -> None:
    write_a_life(annals)
    files = unpacked(annals, SubjectKind.ACCOUNT, "acme")
    whole = json.loads(files["review.json"])
    [login] = [item for item in whole["history"] if item["type"] == "event"]
    assert (login["name"], login["details"], login["user"]["name"]) == ("login", None, None)
    assert b"secret of Ada" not in b"".join(files.values())


@pytest.mark.parametrize("kind", SubjectKind)
def test_whoever_is_erased_cannot_be_reviewed(annals: Annals, kind: SubjectKind) -> None:
    write_a_life(annals)
    name = "ada" if kind is SubjectKind.USER else "acme"
    reviews = reviews_of(annals, kind, name)
    subject = found(annals, (user if kind is SubjectKind.USER else account)(name))
    erase(annals, subject, kind=kind)
    project(annals)
    with pytest.raises(Exception, match="there is no such"):
        file_of(annals, reviews)


def test_case_32_an_archive_is_complete_in_memory_that_does_not_grow_with_it(
    annals: Annals,
) -> None:
    peaks: list[int] = []
    sent = 0
    for events in (1_000, 5_000):
        while sent < events:
            write(
                annals,
                Track(
                    user("ada"),
                    (),
                    tuple(
                        Activity(ActivityKind.EVENT, "seen", {"n": sent + n, "note": "x" * 200})
                        for n in range(1_000)
                    ),
                    NOON + timedelta(seconds=sent),
                ),
            )
            sent += 1_000
        project(annals)
        reviews = reviews_of(annals, SubjectKind.USER, "ada")
        file = file_of(annals, reviews)
        for _ in reviews.archive(file):  # what is made once, is made
            break
        tracemalloc.start()
        size = sum(map(len, reviews.archive(file)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert size
    assert peaks[1] < 1.5 * peaks[0], peaks
    whole = json.loads(unpacked(annals, SubjectKind.USER, "ada")["review.json"])
    seen = [item["details"]["n"] for item in whole["history"] if item["type"] == "event"]
    assert sorted(seen) == list(range(5_000))


def test_case_32_the_archive_of_a_long_life_is_complete_and_streamed_at_any_size(
    annals: Annals, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """`make test-slow` has it at a million events."""
    write(annals, Change(SubjectKind.USER, user("ada"), {"name": "Ada"}, NOON))
    project(annals)
    ada = found(annals, user("ada"))
    for start in range(0, EVENTS, 10_000):
        activities = (
            Activity(ActivityKind.EVENT, "seen", {"n": n, "note": "x" * 50})
            for n in range(start, min(start + 10_000, EVENTS))
        )
        annals.log.append(
            annals.sealer.sealing(
                [
                    Event(SubjectKind.USER, ada, None, NOON + timedelta(seconds=start + n), payload)
                    for n, payload in enumerate(map(Tracked, activities))
                ]
            )
        )
    reviews = reviews_of(annals, SubjectKind.USER, "ada")
    file = file_of(annals, reviews)
    for _, _ in zip(reviews.archive(file), range(20), strict=False):  # what is kept, is there
        pass
    before, begun = peak_bytes(anew=True), time.monotonic()
    with (tmp_path / "ada.zip").open("wb") as archive:
        for piece in reviews.archive(file):
            archive.write(piece)
            assert len(piece) < 2**20
    seconds, grown = time.monotonic() - begun, peak_bytes() - before
    told = f"{EVENTS:,} events in {seconds:.1f} s, peak memory grew by {grown / 2**20:.1f} MB"
    record_property("figure", told)
    print(told)
    assert grown < 64 * 2**20, told
    [(partition, head)] = [head for head in annals.log.heads(range(256)).items() if head[1]]
    with zipfile.ZipFile(tmp_path / "ada.zip") as opened:
        assert opened.testzip() is None
        with opened.open("activity.csv") as rows:
            in_table = positions(io.TextIOWrapper(rows, newline=""))
        with opened.open("review.json") as lines:
            in_json = Counter(POSITION.findall(line)[-1] for line in lines if POSITION.search(line))
    assert len(in_table) == EVENTS
    assert set(in_table.values()) == {1}
    assert in_table.keys() | {f"{partition}:1", f"{partition}:2"} == {
        f"{partition}:{at}" for at in range(1, head + 1)
    }
    assert in_json == dict.fromkeys((f"{partition}:{at}".encode() for at in range(1, head + 1)), 1)


def positions(table: io.TextIOBase) -> Counter[str]:
    """How often each position stands in a table."""
    return Counter(row["position"] for row in csv.DictReader(table))


def peak_bytes(*, anew: bool = False) -> int:
    """The most memory that this process had at once, since it was asked for anew."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line) * 1_024
