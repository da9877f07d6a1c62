"""What a back-test says, by day and by subject."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date
from typing import NamedTuple

import msgspec

from domain.identity import SubjectId

MAX_DAYS = 366
"""Of a window, today among them."""

BAND = 20
"""Per cents of a score that are counted together."""

Outcome = str | None
"""What is decided of one subject: a stage (None: no stage), a health, a band of a score, `in` or
`out` of a segment, `on` or `off` of a signal."""


class DayCount(msgspec.Struct, frozen=True):
    """How many there were of an outcome; null stands for no stage."""

    outcome: Outcome
    subjects: int


class BacktestDay(msgspec.Struct, frozen=True):
    """The end of a day.

    Attributes:
        triggered, ended, reached, missed: of a signal and its goal, on this day.
    """

    day: date
    counts: list[DayCount]
    triggered: int = 0
    ended: int = 0
    reached: int = 0
    missed: int = 0


class Move(msgspec.Struct, frozen=True):
    """Who would be elsewhere: from what the active definition says to what the draft says."""

    before: Outcome
    after: Outcome
    subjects: int


class Verdict(NamedTuple):
    """Of one subject, today. `before`: by the active definition. The values are of scores."""

    after: Outcome
    before: Outcome = None
    after_value: float | None = None
    before_value: float | None = None


class Found(NamedTuple):
    """What came of a back-test, with each subject that is there today."""

    days: list[BacktestDay]
    verdicts: dict[SubjectId, Verdict]


def moves(verdicts: Iterable[Verdict]) -> list[Move]:
    """Who is elsewhere, counted; the largest first."""
    counts = Counter((one.before, one.after) for one in verdicts if one.before != one.after)
    return [
        Move(before, after, count)
        for (before, after), count in sorted(
            counts.items(), key=lambda one: (-one[1], str(one[0][0]), str(one[0][1]))
        )
    ]


def band(value: float) -> str:
    """The band that a score's value is counted in: `0-19`, ..., `80-100`."""
    low = min(int(value // BAND) * BAND, 100 - BAND)
    return f"{low}-{100 if low == 100 - BAND else low + BAND - 1}"


def is_in(belongs: bool) -> Outcome:
    """Of a segment."""
    return "in" if belongs else "out"


def is_on(so: bool) -> Outcome:
    """Of a signal."""
    return "on" if so else "off"
