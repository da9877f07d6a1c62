"""Real data through the real intake, held against figures that this file computes by itself."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from api.demo import Message, company, wikipedia
from api.demo.load import load
from tests.serving import Clients, account, user

DATA = Path(
    os.environ.get("ANNALS_DEMO_DATA", Path(__file__).parents[2].parent / "shared" / "data")
)
EDITS = DATA / "wikipedia-edits.ndjson.gz"
LINES = 39_244
FIRST = int(os.environ.get("ANNALS_TEST_LINES", "2500"))
"""Of the file, in `make test`; `make test-slow` sends all of them."""

DAYS = sa.text("""
SELECT d.day::text, sum(d.count)::int FROM views.activity_days d
JOIN views.names n ON n.id = d.name_id
JOIN views.contacts c ON c.log_partition = d.log_partition AND c.subject = d.subject
WHERE n.kind = 'event' AND c.kind = 'user' GROUP BY d.day""")


def sent(client: Clients, messages: Callable[[], Any], title: str) -> None:
    report = load(messages(), url=client.url, write_key=client.keys["write"], title=title)
    assert (report.duplicates, report.refused) == (0, 0)
    assert report.stored == report.sent
    partitions = client.annals.log.heads(list(range(256)))
    client.taken_up_to(partitions)


def counted_by_day(client: Clients) -> dict[str, int]:
    client.see("/api/status")
    with client.annals.queries.connect() as conn:
        return {row[0]: row[1] for row in conn.execute(DAYS)}


@pytest.mark.skipif(
    not EDITS.is_file(),
    reason="the Wikipedia edits are not here; set ANNALS_DEMO_DATA to their folder",
)
def test_a_day_of_wikipedia_is_seen_as_the_file_says(client: Clients, tmp_path: Path) -> None:
    lines = gzip.decompress(EDITS.read_bytes()).splitlines(keepends=True)
    assert len(lines) == LINES
    first = tmp_path / EDITS.name
    first.write_bytes(gzip.compress(b"".join(lines[:FIRST]), compresslevel=1))
    edits: list[dict[str, Any]] = [json.loads(line) for line in lines[:FIRST]]
    by_user = Counter(edit["user"] for edit in edits)
    by_wiki = Counter(edit["channel"] for edit in edits)
    by_day = Counter(edit["time"][:10] for edit in edits)
    wikis_of: defaultdict[str, set[str]] = defaultdict(set)
    for edit in edits:
        wikis_of[edit["user"]].add(edit["channel"])

    sent(client, lambda: wikipedia.messages(first), "Wikipedia")

    users = client.pages("/api/users", limit=500)
    accounts = client.pages("/api/accounts", limit=500)
    assert {one["external_id"] for one in users} == by_user.keys()
    assert {one["external_id"] for one in accounts} == by_wiki.keys()
    assert client.see("/api/users", limit=1)["total"] == len(by_user)
    assert client.see("/api/accounts", limit=1)["total"] == len(by_wiki)
    assert counted_by_day(client) == by_day
    for wiki, count in by_wiki.items():
        view = client.see(account(wiki))
        assert view["counts"]["events"] == count
        assert view["members"] == sum(wiki in wikis for wikis in wikis_of.values())

    if FIRST >= LINES:
        assert (len(by_user), len(by_wiki)) == (10_531, 51)
    ranked = [name for name, _ in by_user.most_common()]
    for name in (*ranked[:15], *ranked[100::700]):
        mine = [edit for edit in edits if edit["user"] == name]
        times = [as_shown(edit["time"]) for edit in mine]
        view = client.see(user(name))
        assert view["counts"]["events"] == len(mine)
        assert (view["first_seen"], view["last_seen"]) == (min(times), max(times))
        assert {one["external_id"] for one in view["memberships"]} == wikis_of[name]
        assert view["properties"]["robot"] == mine[-1]["isRobot"]
        [events] = client.see(user(name, "/events"))["items"]
        assert events == {
            "name": "page edited",
            "count": len(mine),
            "first_at": min(times),
            "last_at": max(times),
        }
    quiet = ranked[200]
    pages = Counter(edit["page"] for edit in edits if edit["user"] == quiet)
    timeline = client.pages(user(quiet, "/timeline"))
    assert pages == Counter(one["details"]["page"] for one in timeline if one["type"] == "event")


def as_shown(time: str) -> str:
    """A time of the file as answers write it."""
    return datetime.fromisoformat(time).astimezone(UTC).isoformat().replace("+00:00", "Z")


def test_a_company_is_seen_as_its_messages_say(client: Clients) -> None:
    until = datetime(2026, 5, 13, 15, 4, 5, tzinfo=UTC)
    messages: list[Message] = list(
        company.messages(users=150, accounts=12, events=1_500, until=until, seed=7)
    )
    owner: dict[object, object] = {}
    for one in messages:
        if one["type"] == "alias":
            owner[one["previousId"]] = one["userId"]
    tracked, by_user, by_account, by_day = 0, Counter[object](), Counter[object](), Counter[str]()
    members: defaultdict[object, set[object]] = defaultdict(set)
    for one in messages:
        who = owner.get(one.get("userId"), one.get("userId"))
        context: Any = one.get("context") or {}
        if one["type"] == "group" and who is not None:
            members[one["groupId"]].add(who)
        if one["type"] == "track":
            tracked += 1
            if context.get("groupId") is not None:
                by_account[context["groupId"]] += 1
            if who is not None:
                by_user[who] += 1
                by_day[utc_day(str(one["timestamp"]))] += 1
    assert tracked > 600

    sent(client, lambda: iter(messages), "Company")

    assert client.see("/api/users")["total"] == 150
    assert client.see("/api/accounts")["total"] == 12
    assert counted_by_day(client) == by_day
    for id, count in by_account.items():
        view = client.see(account(str(id)))
        assert (view["counts"]["events"], view["members"]) == (count, len(members[id]))
    for id, count in by_user.items():
        assert client.see(user(str(id)))["counts"]["events"] == count


def utc_day(time: str) -> str:
    return datetime.fromisoformat(time).astimezone(UTC).date().isoformat()
