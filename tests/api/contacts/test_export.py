"""Exports: every row of the list, none that a spreadsheet would compute, in little memory."""

from __future__ import annotations

import csv
import io
import json
import time
import tracemalloc
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import QueuePool

from domain.calendar import Moment
from domain.identity import SubjectKind
from infra.bootstrap.annals import Annals
from projections.conditions.selection import Selection
from projections.queries.contact_list import Lists
from projections.queries.export import BYTE_ORDER_MARK, FORMULA_STARTS, cell, lines
from tests.api.contacts.test_contacts import group, identify
from tests.projections.read_models import NOON, owner
from tests.serving import Clients, problem


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def exported(client: Clients, kind: str = "users", **query: Any) -> str:
    answer = client.get(f"/api/{kind}/export", **query)
    assert answer.status_code == 200, answer.text
    suffix = query.get("format", "csv")
    type = {"csv": "text/csv; charset=utf-8", "ndjson": "application/x-ndjson"}[suffix]
    assert answer.headers["content-type"] == type
    assert answer.headers["content-disposition"] == f'attachment; filename="{kind}.{suffix}"'
    return answer.text


NASTY = ["=1+1", "+1", "-2", "@SUM(A1)", "\t=1", "\r=1", 'a "b", c', "two\nlines", "é日本", "'='"]


def test_a_csv_holds_every_row_in_order_and_no_formula(client: Clients) -> None:
    client.send(*(identify(f"u{n}", n, name=text, n=n - 5) for n, text in enumerate(NASTY)))
    found = rows(exported(client, sort="external_id"))
    assert [row["external_id"] for row in found] == [f"u{n}" for n in range(len(NASTY))]
    assert [row["property:n"] for row in found] == [str(n - 5) for n in range(len(NASTY))]
    for row, text in zip(found, NASTY, strict=True):
        assert row["name"] == row["property:name"]
        assert row["name"] == (f"'{text}" if text.startswith(FORMULA_STARTS) else text)


def test_a_property_whose_name_is_a_formula_is_no_formula_either(client: Clients) -> None:
    client.send(identify("u", **{"=1+1": "x"}))
    assert not any(name.startswith(FORMULA_STARTS) for name in rows(exported(client))[0])


def test_a_csv_says_its_encoding_where_it_is_asked_to(client: Clients) -> None:
    client.send(identify("u", name="Zoë 日本"))
    marked = client.get("/api/users/export", bom="true", columns=["name"])
    plain = client.get("/api/users/export", columns=["name"])
    assert marked.content == BYTE_ORDER_MARK + plain.content
    assert plain.headers["content-type"] == "text/csv; charset=utf-8"
    lines = client.get("/api/users/export", bom="true", format="ndjson")
    assert json.loads(lines.content)["name"] == "Zoë 日本"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (12345678901234567, "'12345678901234567"),
        (-12345678901234567, "'-12345678901234567"),
        (123456789012345, "123456789012345"),
        ("12345678901234567", "'12345678901234567"),
        ("007", "'007"),
        ("0", "0"),
        ("12E5", "'12E5"),
        ("1.10", "'1.10"),
        ("3-4", "'3-4"),
        ("1/2/2024", "'1/2/2024"),
        ("2024-05-13", "2024-05-13"),
        ("120", "120"),
        ("1.5", "'1.5"),
        ("007 Bond", "007 Bond"),
        ("0x12", "0x12"),
        ("＝1+1", "'＝1+1"),
        ("\n=1", "'\n=1"),
        (True, "true"),
        (0.1, "0.1"),
    ],
)
def test_a_spreadsheet_shows_what_was_sent(value: Any, shown: str) -> None:
    assert cell(value) == shown


@given(st.text() | st.integers() | st.floats() | st.booleans() | st.none() | st.lists(st.text()))
def test_no_text_is_left_a_formula_and_every_other_stays_what_it_is(value: Any) -> None:
    shown = cell(value)
    if isinstance(value, str):
        assert not shown.startswith(FORMULA_STARTS)
        assert shown in (value, f"'{value}")
    elif value is not None:
        read = json.loads(shown.removeprefix("'"))
        assert read == value or value != value or abs(value) == float("inf")


def test_ndjson_holds_what_the_list_holds(client: Clients) -> None:
    client.send(*(identify(f"u{n}", n, plan=("pro", "free")[n % 2], n=n) for n in range(7)))
    pro = {"type": "property", "name": "plan", "test": {"op": "is", "value": "pro"}}
    asked = {"sort": "-property:n", "filter": json.dumps(pro), "columns": ["n"]}
    lines = exported(client, format="ndjson", **asked).splitlines()
    assert [json.loads(line) for line in lines] == client.pages("/api/users", limit=2, **asked)
    body = asked | {"filter": pro, "wait_for": client.position}
    posted = client("read").post("/api/users/export", json=body, params={"format": "ndjson"})
    assert posted.text.splitlines() == lines


def test_users_and_accounts_are_exported_apart(client: Clients) -> None:
    client.send(group("acme", "ada", traits={"mrr": 12.5, "currency": "eur", "tags": ["a", "=b"]}))
    [account] = rows(exported(client, "accounts"))
    assert (account["external_id"], account["mrr"], account["currency"]) == ("acme", "12.5", "EUR")
    assert json.loads(account["property:tags"]) == ["a", "=b"]
    assert [row["external_id"] for row in rows(exported(client))] == ["ada"]


@pytest.mark.parametrize("format", ["csv", "ndjson"])
def test_an_export_with_a_search_that_may_be_misspelt_holds_what_the_list_holds(
    client: Clients, format: str
) -> None:
    client.send(*(identify(f"u{n}", n, name=("Alexander", "Ada")[n % 2]) for n in range(4)))
    asked = {"search": "Alexandre", "sort": "external_id"}
    assert [one["external_id"] for one in client.pages("/api/users", **asked)] == ["u0", "u2"]
    text = exported(client, format=format, **asked)
    found = rows(text) if format == "csv" else [json.loads(line) for line in text.splitlines()]
    assert [one["external_id"] for one in found] == ["u0", "u2"]


def test_an_export_of_nobody_has_its_head_alone(client: Clients) -> None:
    assert exported(client).count("\n") == 1
    assert exported(client, format="ndjson") == ""


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ({"format": "xlsx"}, "/format"),
        ({"sort": "plam"}, "/sort"),
        ({"columns": ["plam"]}, "/columns/0"),
        ({"segment": str(UUID(int=0))}, "/segment"),
        ({"filter": "{"}, "/filter"),
        ({"search": "a" * 201}, "/search"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_sent(
    standing: Clients, query: dict[str, Any], place: str
) -> None:
    assert problem(standing.get("/api/users/export", **query), 400)["place"] == place


def test_an_export_needs_a_key_that_reads(client: Clients) -> None:
    problem(client(None).get("/api/users/export"), 401)
    problem(client("write").get("/api/users/export"), 403)


def test_a_large_export_takes_no_more_memory_than_a_small_one_and_sees_one_instant(
    annals: Annals, database_url: str
) -> None:
    def add(first: int, last: int) -> None:
        with owner(database_url) as conn:
            conn.execute(
                "WITH made AS (INSERT INTO views.contacts"
                " (log_partition, subject, kind, properties, name)"
                " SELECT n %% 256, gen_random_uuid(), 'user', jsonb_build_object('name', x), x"
                " FROM generate_series(%s::int, %s::int) n, repeat('x', 500) x"
                " RETURNING log_partition, subject, kind)"
                " INSERT INTO views.seen (log_partition, subject, kind) SELECT * FROM made",
                (first, last),
            )

    def peak() -> tuple[int, int]:
        lists = Lists(Selection(SubjectKind.USER), Moment(NOON, NOON.tzinfo), {}, sort="name")
        count = 0
        tracemalloc.start()
        with annals.queries.connect() as conn:
            for n, some in enumerate(lines(conn, lists, "ndjson")):
                count += some.count(b"\n")
                if n == 0:
                    add(1, 10)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return count, most

    add(1, 2_000)
    peak()
    few, little = peak()
    add(1, 20_000)
    many, more = peak()
    assert (few, many) == (2_010, 22_020)
    assert more < little * 1.5


def test_an_export_that_the_reader_leaves_gives_its_connection_back(client: Clients) -> None:
    for start in range(0, 600, 50):
        people = (identify(f"u{n}", n, text="x" * 8_000) for n in range(start, start + 50))
        client.send(*people)
    client.see("/api/users")
    for _ in range(10):
        with client("read").stream("GET", "/api/users/export", params={"format": "ndjson"}) as one:
            next(one.iter_bytes(100))
    pool = client.annals.streams.pool
    assert isinstance(pool, QueuePool)
    deadline = time.monotonic() + 30
    while pool.checkedout() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pool.checkedout() == 0
