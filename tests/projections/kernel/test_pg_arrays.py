"""Columns in PostgreSQL's binary form come back from it as what they were made of."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any, LiteralString
from uuid import UUID

import msgspec
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from domain.identity import log_partition
from projections.kernel import pg_arrays

_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
_instant = st.datetimes(datetime(1, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds


def _integer(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


COLUMNS: dict[LiteralString, tuple[Callable[[Any], pg_arrays.Column], st.SearchStrategy[Any]]] = {
    "smallint": (pg_arrays.smallints, _integer(16)),
    "integer": (pg_arrays.integers, _integer(32)),
    "bigint": (pg_arrays.bigints, _integer(64)),
    "boolean": (pg_arrays.booleans, st.booleans()),
    "date": (pg_arrays.dates, st.dates(date(1, 1, 1), date(9999, 1, 1))),
    "timestamptz": (pg_arrays.instants, st.none() | _instant),
    "bytea": (pg_arrays.byteas, st.binary()),
    "text": (pg_arrays.texts, st.none() | _text),
    "uuid": (pg_arrays.uuids, st.uuids()),
}


@pytest.mark.parametrize("type_name", COLUMNS)
def test_a_column_comes_back_as_it_was(type_name: LiteralString, database_url: str) -> None:
    made, element = COLUMNS[type_name]
    with psycopg.connect(database_url, options="-c timezone=UTC") as conn:

        @given(st.lists(element, max_size=20))
        def holds(values: list[Any]) -> None:
            asked = sql.SQL("SELECT unnest(%b::{}[])").format(sql.SQL(type_name))
            rows = conn.execute(asked, (made(values),), binary=True).fetchall()
            assert [value for (value,) in rows] == values

        holds()


def test_json_comes_back_as_it_was(database_url: str) -> None:
    sent = [{"a": [1, None]}, {}, {"é": "\U0001f600"}]
    with psycopg.connect(database_url) as conn:
        column = pg_arrays.jsons([msgspec.json.encode(value) for value in sent])
        rows = conn.execute("SELECT unnest(%b::jsonb[])", (column,)).fetchall()
    assert [row[0] for row in rows] == sent


def test_subjects_come_with_their_partitions(database_url: str) -> None:
    subjects = [UUID(int=n, version=4) for n in range(20)]
    with psycopg.connect(database_url) as conn:
        rows = conn.execute(
            "SELECT * FROM unnest(%b::smallint[], %b::uuid[])", pg_arrays.placed(subjects)
        ).fetchall()
    assert rows == [(log_partition(subject), subject) for subject in subjects]
