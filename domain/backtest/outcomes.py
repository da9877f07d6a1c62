"""The result of a back-test, by day and by subject."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date
from typing import NamedTuple

import msgspec

from domain.identity import SubjectId

MAX_DAYS = 366
"""Days of a back-test, today included."""

BAND = 20
"""Width of the bands of a score, in per cent."""

Outcome = str | None
"""The outcome for a subject: a stage (None: no stage), a health, a band of a score, `in` or
`out` of a segment, `on` or `off` of a signal."""


class DayCount(msgspec.Struct, frozen=True):
    """The number of subjects with an outcome; null: no stage."""

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
    """Subjects with another outcome by the draft (`after`) than by the active definition."""

    before: Outcome
    after: Outcome
    subjects: int


class Verdict(NamedTuple):
    """The outcome of a subject today, by the draft and (`before`) by the active definition; the
    values are those of scores."""

    after: Outcome
    before: Outcome = None
    after_value: float | None = None
    before_value: float | None = None


class BacktestResult(NamedTuple):
    """The days of a back-test, and the verdict on each subject of today."""

    days: list[BacktestDay]
    verdicts: dict[SubjectId, Verdict]


def moves(verdicts: Iterable[Verdict]) -> list[Move]:
    """The subjects whose outcome differs, counted by outcomes; the largest count first."""
    counts = Counter(
        (verdict.before, verdict.after) for verdict in verdicts if verdict.before != verdict.after
    )
    return [
        Move(before, after, count)
        for (before, after), count in sorted(
            counts.items(), key=lambda item: (-item[1], str(item[0][0]), str(item[0][1]))
        )
    ]


def band(value: float) -> str:
    """The band of a score's value: `0-19`, ..., `80-100`."""
    low = min(int(value // BAND) * BAND, 100 - BAND)
    return f"{low}-{100 if low == 100 - BAND else low + BAND - 1}"


def is_in(belongs: bool) -> Outcome:
    """The outcome of a segment."""
    return "in" if belongs else "out"


def is_on(on: bool) -> Outcome:
    """The outcome of a signal."""
    return "on" if on else "off"
