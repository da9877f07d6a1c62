"""All rows of a list as CSV or as a JSON object a line, a few at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from itertools import chain
from typing import Any

import msgspec
import sqlalchemy as sa

from projections.queries.contact_list import PROPERTY, ContactItem, Lists

MEDIA_TYPES = {"csv": "text/csv", "ndjson": "application/x-ndjson"}
ROWS_AT_A_TIME = 500
ROWS_ENCODED_AT_ONCE = 50
PIECE_BYTES = 64 * 1024
"""Of whole rows: what is sent at once, so that a slow reader holds little of what is to come."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""With which a text makes spreadsheets compute (OWASP, CSV Injection)."""

_encode = msgspec.json.Encoder().encode
_FIELDS = tuple(name for name in ContactItem.__struct_fields__ if name != "properties")


class Ended(Exception):
    """The database ended the connection: there are no more rows, and none that were read before
    may be sent."""


def lines(
    conn: sa.Connection,
    lists: Lists,
    format: str,
    *,
    is_ended: Callable[[], bool] = lambda: False,
) -> Iterator[bytes]:
    """The file in pieces, as of one instant. The first piece comes once the database has answered:
    what can be refused is refused before it.

    Raises:
        Ended: as `is_ended` says before a piece.
    """
    names = list(lists.types) if lists.columns is None else lists.columns
    with closing(lists.all_rows(conn, at_a_time=ROWS_AT_A_TIME)) as pieces:
        first = next(pieces, ())
        gathered = bytearray()
        if format == "csv":
            gathered += csv_lines([[*_FIELDS, *(f"{PROPERTY}{name}" for name in names)]])
        for rows in chain([first], pieces):
            for start in range(0, len(rows), ROWS_ENCODED_AT_ONCE):
                some = rows[start : start + ROWS_ENCODED_AT_ONCE]
                if format == "csv":
                    gathered += csv_lines([_cells(item, names) for item in some])
                else:
                    gathered += b"".join(_encode(item) + b"\n" for item in some)
                if len(gathered) >= PIECE_BYTES:
                    if is_ended():
                        raise Ended
                    yield bytes(gathered)
                    gathered.clear()
        yield bytes(gathered)


def last_line(code: str, detail: str) -> bytes:
    """What a file of JSON lines ends with if it ends too early."""
    return _encode({"error": {"code": code, "detail": detail}}) + b"\n"


def csv_lines(rows: Sequence[Sequence[str]]) -> bytes:
    """Rows of cells as lines of a CSV file."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cells(item: ContactItem, names: Sequence[str]) -> list[str]:
    values = [getattr(item, name) for name in _FIELDS]
    return [cell(value) for value in (*values, *(item.properties.get(name) for name in names))]


def cell(value: Any) -> str:
    """A value as a spreadsheet should show it, and never compute it."""
    match value:
        case None:
            return ""
        case str():
            return f"'{value}" if value.startswith(FORMULA_STARTS) else value
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case bool() | int() | float() | list() | dict():
            return _encode(value).decode()
        case _:
            return str(value)
