"""Export: all rows of a list as CSV or as JSON lines, some at a time."""

from __future__ import annotations

import csv
import io
import re
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
"""Bytes of a piece, so that a slow reader holds little of the file."""

BYTE_ORDER_MARK = "\ufeff".encode()
"""Tells a spreadsheet that a file is in UTF-8."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Characters that make a spreadsheet compute a text (OWASP, CSV Injection)."""

EXACT_DIGITS = 15
"""Spreadsheets round numbers of more digits."""

_MISREAD = re.compile(
    r"0[0-9]+([.,][0-9]+)?"  # an id or a post code, which would lose its zeros
    r"|[0-9]{16,}([.,][0-9]+)?"  # would be rounded
    r"|[0-9]+([.,][0-9]+)?[eE][+-]?[0-9]+"  # an id, which would be a power of ten
    r"|[0-9]+\.[0-9]*0"  # a version, which would lose its zeros
    r"|[0-9]{1,2}[-/.][0-9]{1,2}([-/.][0-9]{2,4})?",  # would be a date
    re.ASCII,
)

_encode = msgspec.json.Encoder().encode
_FIELDS = tuple(name for name in ContactItem.__struct_fields__ if name != "properties")


class Ended(Exception):
    """PostgreSQL ended the connection: no row that was read before may be sent."""


def lines(
    conn: sa.Connection,
    lists: Lists,
    format: str,
    *,
    marked: bool = False,
    is_ended: Callable[[], bool] = lambda: False,
) -> Iterator[bytes]:
    """The file in pieces, as of one instant. PostgreSQL answers before the first piece, so that
    refusals come before it.

    Args:
        marked: a CSV begins with a byte-order mark.

    Raises:
        Ended: `is_ended` returned true before a piece.
    """
    names = list(lists.types) if lists.columns is None else lists.columns
    with closing(lists.all_rows(conn, at_a_time=ROWS_AT_A_TIME)) as pieces:
        first = next(pieces, ())
        gathered = bytearray()
        if format == "csv":
            gathered += BYTE_ORDER_MARK if marked else b""
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
    """The last line of a file of JSON lines that ends too early."""
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
    """A value as a spreadsheet shows it: it computes no text, and takes none for another number or
    date than it is. A whole number that it would round is a text."""
    match value:
        case None:
            return ""
        case str():
            is_misread = value.startswith(FORMULA_STARTS) or _MISREAD.fullmatch(value)
            return f"'{value}" if is_misread else value
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case int() if not isinstance(value, bool) and abs(value) >= 10**EXACT_DIGITS:
            return f"'{value}"
        case bool() | int() | float() | list() | dict():
            return _encode(value).decode()
        case _:
            return str(value)
