"""Gaps: rows of the log that do not open, though the keys that they need are there.

A reader shows a gap, or goes on without it. What the envelope of such a row says may be as wrong as
the rest of it: it names the place, and nothing is decided by it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import TypeVar

import msgspec
import structlog

from projections.batch import Opened, Place

log = structlog.get_logger()

Event = TypeVar("Event", bound=Opened)


class GapReason(enum.StrEnum):
    """
    altered: it is not what was stored: altered, cut, or moved from elsewhere.
    unreadable: it may be whole, but this version does not know its topic, its version or its form.
    """

    ALTERED = "altered"
    UNREADABLE = "unreadable"


class Gap(msgspec.Struct, frozen=True):
    """A row that does not open.

    Attributes:
        error: the kind of error.
    """

    row: Place
    reason: GapReason
    error: str


def parted(found: Iterable[Event | Gap]) -> tuple[list[Event], list[Gap]]:
    """What opened, and the gaps, each in the order given."""
    opened: list[Event] = []
    gaps: list[Gap] = []
    for one in found:
        if isinstance(one, Gap):
            gaps.append(one)
        else:
            opened.append(one)
    return opened, gaps


def place_of(row: Place) -> str:
    """Partition and position, like `12:345`."""
    return f"{row.log_partition}:{row.position}"


def tell(reader: str, gaps: Iterable[Gap]) -> None:
    """Says in the log that a reader goes on without some rows; nothing of what they hold."""
    for gap in gaps:
        log.error(
            "reader.passed",
            reader=reader,
            log_partition=gap.row.log_partition,
            position=gap.row.position,
            topic=gap.row.topic,
            error=gap.error,
        )
