"""Since when a subject is registered, as far as its properties say it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from domain.properties import Value, parse_instant

CREATED = ("created_at", "createdAt")
"""The properties that say when another system registered the subject."""

_EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)
"""Earlier times are what a missing one becomes in many systems."""

_LAST_SECOND = 9_999_999_999
_LAST_MILLISECOND = _LAST_SECOND * 1_000


def created_at(properties: Mapping[str, Value], zone: tzinfo) -> datetime | None:
    """The earliest time in `CREATED`, in UTC; None: there is none.

    A number is Unix time, in seconds or milliseconds. A day begins in the workspace's time zone.
    """
    times = [
        at
        for name in CREATED
        if name in properties and (at := _time_of(properties[name], zone)) is not None
    ]
    return min(times, default=None)


def _time_of(value: Value, zone: tzinfo) -> datetime | None:
    try:
        at = _read(value, zone)
    except (ValueError, OverflowError):
        return None
    return at if at is not None and at >= _EARLIEST else None


def _read(value: Value, zone: tzinfo) -> datetime | None:
    if isinstance(value, bool | list):
        return None
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        if len(value) == len("2026-01-31"):
            return datetime.combine(date.fromisoformat(value), time(), zone).astimezone(UTC)
        return parse_instant(value)
    if 0 <= value <= _LAST_SECOND:
        return _UNIX + timedelta(seconds=value)
    if value <= _LAST_MILLISECOND:
        return _UNIX + timedelta(milliseconds=value)
    return None


_UNIX = datetime(1970, 1, 1, tzinfo=UTC)
