"""What the demo sources have in common: Segment's messages as plain dicts, ready for JSON."""

from __future__ import annotations

Message = dict[str, object]
"""One of Segment's calls. Parts of it (`context`, `properties`) may be shared between messages:
read and encode it, do not change it."""


def without_nulls(values: dict[str, object]) -> dict[str, object]:
    """Leaves out what is unknown, as `null` would delete a property."""
    return {name: value for name, value in values.items() if value is not None}
