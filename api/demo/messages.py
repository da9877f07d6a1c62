"""Segment's messages as plain dicts, for all demo sources."""

from __future__ import annotations

Message = dict[str, object]
"""A call of Segment's API. Parts of it (`context`, `properties`) may be shared between messages:
read and encode it, do not change it."""


def without_nulls(values: dict[str, object]) -> dict[str, object]:
    """Leaves out properties without a value: `null` would delete them."""
    return {name: value for name, value in values.items() if value is not None}
