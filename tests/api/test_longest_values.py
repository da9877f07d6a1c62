"""The longest values that the intake takes, in any script: every read model takes them too, and
shows them whole."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import Any

import psycopg
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.activity import MAX_URL_CHARS
from domain.calendar import Moment
from domain.commands import Change, Stored
from domain.conditions.language import Did
from domain.identity import MAX_IDENTITY_CHARS, SubjectKind
from domain.properties import MAX_LIST_ITEMS, MAX_NAME_CHARS, MAX_TEXT_CHARS
from domain.search.entry import MAX_TEXT_CHARS as MAX_TEXT_CHARS_OF_ENTRIES
from infra.bootstrap.annals import Annals
from projections.conditions.known_names import KnownNames
from projections.conditions.selection import Selection
from projections.models import filters
from projections.queries import contact_view
from projections.queries.bars import bars
from projections.queries.contact_list import SORTABLE, list_contacts
from projections.queries.filters import filters as filters_of
from tests.examples import examples
from tests.infra.commands import send
from tests.infra.plans import nodes, plans
from tests.projections.queries.test_contact_list import add_crowd
from tests.projections.read_models import NOON, empty, owner, parked, project, user
from tests.serving import Clients, until
from tests.serving import user as path_of

BTREE_BYTES = 2_704
"""The most that an entry of a B-tree holds."""

FIXED_BYTES = 128
"""More than all of an entry that has a size of its own: header, ids, numbers and instants."""

LONGEST_BYTES = {
    "kind": 16,
    "scope": 32,
    "activity": 16,
    "topic": 64,
    "state": 16,
    "outcome": 16,
    "health": 16,
    "currency": 4,
    "projector": 64,
    "reader": 64,
    "decider": 64,
    "rule": 64,
    "digest": 32,
    "lookup": 32,
    "message_key": 32,
    "token": 32,
    "views.digest_of(name)": 32,
    "method": 16,
    "route": 256,
    "id": 256,
    "mrr": 256,
    "value": 200 * 4,
    "stage": 200 * 4,
    "name": MAX_NAME_CHARS * 4,
    "property": MAX_NAME_CHARS * 4,
    "address": MAX_TEXT_CHARS_OF_ENTRIES * 4,
    "external_id": MAX_TEXT_CHARS_OF_ENTRIES * 4,
    "COALESCE(\"left\"(name, 256), ''::text)": 256 * 4,
}
"""Of what has no size of its own and stands in an index: the most that the intake, HTTP or the code
that writes it lets through. `value`: of a quick filter, `id`: of a key-encryption key. `name`: of a
closed catalogue, or of a secret."""

COLUMNS = """
SELECT i.indexrelid::regclass::text, i.indrelid::regclass::text,
       pg_get_indexdef(i.indexrelid, a.attnum, true)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname IN ('log', 'keys', 'views')
JOIN pg_attribute a ON a.attrelid = i.indexrelid
WHERE a.attlen < 0 ORDER BY 1, a.attnum"""

OPEN_ENDED = {("views.names", "name"), ("views.contacts", "name")}
"""Columns that are called as another which is short, and are not."""


def test_every_entry_of_every_index_has_room_for_the_longest_value(database_url: str) -> None:
    sizes: dict[str, int] = {}
    with psycopg.connect(database_url) as conn:
        for index, table, expression in conn.execute(COLUMNS):
            assert (table, expression) not in OPEN_ENDED, index
            assert expression in LONGEST_BYTES, f"{index}: how long is {expression}?"
            sizes[index] = sizes.get(index, FIXED_BYTES) + LONGEST_BYTES[expression]
    assert "views.contacts_by_name" in sizes
    assert {index: size for index, size in sizes.items() if size > BTREE_BYTES} == {}


def wide(count: int, seed: int = 1) -> str:
    """Random characters of four bytes, which no compression makes shorter."""
    random = Random(seed)
    return "".join(chr(random.randint(0x20000, 0x2A6D0)) for _ in range(count))


def ascii_of(count: int, seed: int = 1) -> str:
    random = Random(seed)
    return "".join(random.choice("abcdefghijklmnopqrstuvwxyz ABCDEFGHIJ") for _ in range(count))


NAME = ascii_of(MAX_TEXT_CHARS).strip().ljust(MAX_TEXT_CHARS, "x")
CHINESE_ADDRESS = "https://example.com/" + "".join(
    chr(Random(n).randint(0x4E00, 0x9FA5)) for n in range(1_900)
)


def test_a_name_of_8000_random_characters_is_shown_whole(client: Clients) -> None:
    widest = wide(8_000)
    client.send(
        {"type": "identify", "userId": "long", "traits": {"name": NAME}},
        {"type": "identify", "userId": "twin", "traits": {"name": NAME[:-1] + "y"}},
        {"type": "identify", "userId": "wide", "traits": {"name": widest}},
        {"type": "identify", "userId": "short", "traits": {"name": "Ada"}},
    )
    assert client.see(path_of("long"))["name"] == NAME
    assert client.see(path_of("wide"))["name"] == widest
    for sort in ("name", "-name", "property:name", "-property:name"):
        found = client.pages("/api/users", sort=sort, limit=1)
        assert sorted(one["external_id"] for one in found) == ["long", "short", "twin", "wide"]
        assert {one["name"] for one in found} == {NAME, NAME[:-1] + "y", widest, "Ada"}
    for search in (NAME[4_000:4_020], widest[7_000:7_004]):
        [*found] = client.pages("/api/users", search=search)
        assert widest in {one["name"] for one in found} or NAME in {one["name"] for one in found}
    condition = {"type": "property", "name": "name", "test": {"op": "is", "value": NAME}}
    body = {"kind": "user", "condition": condition}
    answer = client("read").post("/api/segments/preview", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["count"] == 1
    assert NAME in client.get("/api/users/export", sort="name").text


def test_a_page_address_of_1900_chinese_characters_is_shown_whole(client: Clients) -> None:
    name = CHINESE_ADDRESS.removeprefix("https://")
    page = {"type": "page", "properties": {"url": CHINESE_ADDRESS}}
    client.send({"userId": "reader", **page}, {"userId": "other", **page})
    client.send({"userId": "reader", **page})
    [shown] = client.see(path_of("reader", "/pages"))["items"]
    assert (shown["name"], shown["count"]) == (name, 2)
    [counted] = client.see(path_of("reader", "/pages/days"), name=name)["items"]
    assert counted["count"] == 2
    found = client.see(path_of("reader", "/timeline"), name=name)["items"]
    assert [one["name"] for one in found] == [name, name]
    asked = {"type": "activity", "activity": "page", "name": name}
    answer = client("read").post("/api/segments/preview", json={"kind": "user", "condition": asked})
    assert answer.status_code == 200, answer.text
    assert answer.json()["count"] == 2


def test_every_name_at_its_longest_reaches_every_read_model(
    client: Clients, database_url: str
) -> None:
    """Of random characters of four bytes: no entry of an index can be longer."""
    id, other = wide(MAX_IDENTITY_CHARS, 2), wide(MAX_IDENTITY_CHARS, 3)
    email = wide(MAX_IDENTITY_CHARS - 12, 4) + "@example.com"
    event, medium, campaign = (wide(MAX_NAME_CHARS, n) for n in (5, 6, 7))
    context = {"campaign": {"name": campaign, "medium": medium}, "groupId": other}
    host = "https://example.com/"
    traits = {"first_name": wide(3_000, 8), "last_name": wide(3_000, 9), "email": email}
    result = client.send(
        {"type": "identify", "userId": id, "traits": traits},
        {"type": "identify", "userId": id, "traits": {wide(MAX_NAME_CHARS, 10): "x", "stages": 1}},
        {"type": "group", "groupId": other, "userId": id, "traits": {"domain": wide(512, 11)}},
        {"type": "track", "userId": id, "event": event, "context": context},
        {"type": "screen", "userId": id, "name": wide(MAX_NAME_CHARS, 12)},
        {
            "type": "page",
            "userId": id,
            "properties": {"url": host + wide(MAX_URL_CHARS - len(host), 13)},
        },
    )
    assert [one["status"] for one in result["results"]] == ["stored"] * 6
    holds = {"type": "property", "name": "stages", "test": {"op": "is_set"}}
    stages = [{"name": wide(200, 14), "type": "trial", "condition": holds}]
    client.see("/api/users")
    body = {"type": "stages", "kind": "user", "name": wide(200, 15), "stages": stages}
    made = client.taken(client("admin").post("/api/definitions", json=body))
    client.taken(client("admin").post(f"/api/definitions/{made['id']}/activate"))
    shown = client.see(path_of(id))
    assert shown["name"] == f"{traits['first_name']} {traits['last_name']}"
    assert (shown["email"], shown["external_id"]) == (email, id)
    until(lambda: client.see(path_of(id))["stage"] == stages[0]["name"])
    for tab, name in (("events", event), ("channels", medium), ("campaigns", campaign)):
        assert [one["name"] for one in client.see(path_of(id, f"/{tab}"))["items"]] == [name]
    assert event in {one["name"] for one in client.see("/api/catalogue/events")["items"]}
    assert parked(database_url) == []


texts = st.sampled_from(
    [wide(8_000), NAME, "", "2024-02-30", "0001-01-01T00:00:00Z", "1e400", "NaN", "-Infinity", "'"]
) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
numbers = st.sampled_from(
    [2**63 - 1, 1 - 2**63, 9.2e18, -9.2e18, 5e-324, -5e-324, 1.7976e-308, 0.1 + 0.2, -0.0]
) | st.floats(-9e18, 9e18)
dates = st.sampled_from(
    ["0001-01-01", "0001-01-01T00:00:00+00:00", "9999-12-31", "9999-12-31T23:59:59.999999Z"]
)
lists = st.sampled_from(
    [[], [""], [wide(40, n) for n in range(200)], ["same"] * MAX_LIST_ITEMS, [NAME[:100]] * 3]
)
instants = st.sampled_from(
    [datetime(2, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, 23, 59, 59, tzinfo=UTC), NOON]
)
lives = st.fixed_dictionaries(
    {},
    optional={
        "name": texts,
        "text": texts,
        "number": numbers,
        "mrr": numbers | st.sampled_from(["9" * 30 + "." + "9" * 30, "-0.1", "1e5"]),
        "date": dates,
        "list": lists,
        "flag": st.booleans(),
        "currency": texts | st.just("eur"),
    },
)


def test_no_value_that_is_taken_makes_a_statement_of_a_read_model_fail(
    annals: Annals, database_url: str
) -> None:
    @settings(max_examples=examples(8))
    @given(st.lists(st.tuples(lives, instants), min_size=1, max_size=4))
    def whatever_is_sent(sent: list[tuple[dict[str, Any], datetime]]) -> None:
        empty(database_url)
        outcomes = send(
            annals,
            *(
                Change(SubjectKind.USER, user(f"u{n}"), values, at)
                for n, (values, at) in enumerate(sent)
            ),
        )
        assert all(isinstance(one, Stored) for one in outcomes)
        project(annals)
        assert parked(database_url) == []
        with psycopg.connect(database_url, autocommit=True) as conn:
            conn.execute("DELETE FROM views.filter_states")
        filters.refresh(annals.views, lambda: UTC)
        every, moment = Selection(SubjectKind.USER), Moment(NOON, UTC)
        with annals.queries.connect() as conn:
            names = KnownNames(conn).properties(SubjectKind.USER)
            for sort in (*SORTABLE, *(f"property:{name}" for name in names)):
                for way in (sort, f"-{sort}"):
                    found, cursor = [], None
                    while True:
                        page = list_contacts(conn, every, moment, sort=way, cursor=cursor, limit=2)
                        found += [one.id for one in page.items]
                        if (cursor := page.next) is None:
                            break
                    assert len(set(found)) == len(found) == len(sent), way
            assert bars(conn, every, moment).total == len(sent)
            assert filters_of(conn, SubjectKind.USER).as_of is not None
            for subject in found:
                contact_view.view(conn, SubjectKind.USER, subject, renewal_property="date")

    whatever_is_sent()


def test_a_list_by_name_and_what_a_condition_asks_are_read_from_indexes(
    annals: Annals, database_url: str
) -> None:
    with owner(database_url) as conn:
        add_crowd(conn, partitions_in_segment=1)
        conn.execute(
            "INSERT INTO views.names SELECT 'page', 'example.com/' || n, n"
            " FROM generate_series(1, 20000) n"
        )
        conn.execute("ANALYZE views.names")
    moment = Moment(NOON, UTC)
    with annals.queries.connect() as conn:

        def page(selection: Selection, cursor: str | None = None) -> str | None:
            return list_contacts(
                conn, selection, moment, sort="name", cursor=cursor, limit=10, with_total=False
            ).next

        def ask() -> None:
            page(Selection(SubjectKind.USER), page(Selection(SubjectKind.USER)))
            page(Selection(SubjectKind.USER, filter=Did("page", "example.com/7")))

        first, second, filtered = plans(conn, ask, about="whole_contacts")
    for plan in (first, second):
        steps = nodes(plan)
        assert not [one for one in steps if "Sort" in one["Node Type"]]
        assert [one for one in steps if one.get("Index Name") == "contacts_by_name"]
    assert [one for one in nodes(filtered) if one.get("Index Name") == "names_by_digest"]
