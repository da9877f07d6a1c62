"""Pages by keyset: the cursor names the last row of a page, so that writes neither skip nor
repeat rows."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar

import msgspec

from domain.errors import InvalidInput

Item = TypeVar("Item")

DEFAULT_LIMIT = 50
MAX_LIMIT = 500


class Page(msgspec.Struct, Generic[Item], frozen=True):
    """A page of a list.

    Attributes:
        next: cursor of the next page; null on the last.
        total: the number of all items; null: not requested.
    """

    items: list[Item]
    next: str | None
    total: int | None


def encoded(list_name: str, *keys: Any) -> str:
    """A cursor for a list, after the row with these sort keys."""
    packed = msgspec.msgpack.encode([list_name, *keys])
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decoded(list_name: str, cursor: str, *types: Any) -> tuple[Any, ...]:
    """The sort keys of a cursor.

    Raises:
        InvalidInput: not a cursor, or one of another list or order.
    """
    unknown = InvalidInput(
        "unknown cursor: send the `next` of the page before, with the same list and order",
        pointer="/cursor",
    )
    try:
        packed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        name, *keys = msgspec.msgpack.decode(packed, type=tuple.__class_getitem__((str, *types)))
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        raise unknown from None
    if name != list_name or not all(map(_is_key, keys)):
        raise unknown
    return tuple(keys)


def _is_key(value: object) -> bool:
    """Whether the database can compare with it."""
    match value:
        case str():
            return "\0" not in value
        case datetime():
            return value.tzinfo is not None
        case Decimal():
            return value.is_finite() and abs(value.adjusted()) < 16_000
        case int():
            return -(2**63) <= value < 2**63
        case _:
            return True
