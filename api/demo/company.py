"""A made-up company that sells software to other companies: something to look at, and to measure.

The same arguments give the same messages, ids included. The activity follows a power law, working
hours and weekdays, and grows; everything is in the order of its time.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from random import Random

from api.demo.activity import (
    EVEN_DAY,
    OF_ACCOUNT_ALONE,
    SECOND_OF_DAY,
    SLOTS,
    WEEKDAY_WEIGHTS,
)
from api.demo.lives import Lives
from api.demo.messages import Message
from api.demo.subscriptions import DAY

DAYS = 540
SHARE_OF_ACCOUNTS_ALONE = 0.02
_TRIES = 6
_MINUTES = [f"{minute // 60:02}:{minute % 60:02}:" for minute in range(1_440)]
_SECONDS = [f"{second:02}Z" for second in range(60)]


def messages(
    *,
    users: int = 2_000,
    accounts: int = 120,
    events: int = 40_000,
    seed: int = 1,
    until: datetime,
) -> Iterator[Message]:
    """Tells 18 months up to `until`: sign-ups, plans and changes, and `events` tracks, pages and
    screens besides.

    Raises:
        ValueError: no users, more accounts than users, or `until` without a zone.
    """
    if users < 1 or not 0 <= accounts <= users:
        raise ValueError("a demo company has at least one user, and no more accounts than users")
    if until.tzinfo is None:
        raise ValueError("until has no zone")
    until = until.astimezone(UTC).replace(microsecond=0)
    prefix = f"company-{zlib.crc32(repr((users, accounts, events, seed, until)).encode()):08x}"
    return _stream((users, accounts, events), Random(seed), until, prefix)


def _stream(
    sizes: tuple[int, int, int], random: Random, until: datetime, prefix: str
) -> Iterator[Message]:
    users, accounts, events = sizes
    first_day = until.date() - timedelta(days=DAYS)
    last_seconds = until.hour * 3_600 + until.minute * 60 + until.second
    lives = Lives(random, first_day, DAYS * DAY + last_seconds)
    lives.fill(users, accounts)
    days = [f"{first_day + timedelta(days=day)}T" for day in range(DAYS + 1)]
    moments = lives.moments
    sent, count = 0, len(moments)
    for second, message in _activity(lives, events, last_seconds, days, prefix):
        while sent < count and moments[sent][0] <= second:
            yield _stamped(moments[sent][2], moments[sent][0], moments[sent][1], days, prefix)
            sent += 1
        yield message
    for at, key, message in moments[sent:]:
        yield _stamped(message, at, key, days, prefix)


def _stamped(message: Message, at: int, key: str, days: list[str], prefix: str) -> Message:
    second = at % DAY
    stamp = days[at // DAY] + _MINUTES[second // 60] + _SECONDS[second % 60]
    return {"messageId": f"{prefix}-{key}", "timestamp": stamp} | message


def _activity(
    lives: Lives, events: int, last_seconds: int, days: list[str], prefix: str
) -> Iterator[tuple[int, Message]]:
    """Draws each event: who of those there at the time (by their weight), and what."""
    draw, users, slots = lives.random.random, lives.users, len(SLOTS)
    weights = accumulate(min(lives.random.paretovariate(1.2), 300.0) for _ in users)
    reached, begins = list(weights), [user.begins for user in users]
    joined = 1
    for number, (at, second) in enumerate(_times(lives, events, last_seconds), start=1):
        while joined < len(users) and begins[joined] <= at:
            joined += 1
        for _ in range(_TRIES):
            user = users[bisect_left(reached, draw() * reached[joined - 1], 0, joined - 1)]
            if user.ends > at:
                break
        is_of_account = user.account is not None and draw() < SHARE_OF_ACCOUNTS_ALONE
        if is_of_account:
            deed = OF_ACCOUNT_ALONE[int(draw() * len(OF_ACCOUNT_ALONE))]
        else:
            deed = SLOTS[int(draw() * slots)]
        call, name, _, variants = deed
        properties, context = variants[int(draw() * len(variants))]
        message: Message = {
            "type": call,
            "messageId": f"{prefix}-{number}",
            "timestamp": days[at // DAY] + _MINUTES[second // 60] + _SECONDS[second % 60],
            "properties": properties,
            "context": context or user.context,
        }
        if is_of_account:
            message["anonymousId"] = user.context["groupId"]
        else:
            message["userId"] = user.id
        if name:
            message["event" if call == "track" else "name"] = name
        yield at, message


def _times(lives: Lives, events: int, last_seconds: int) -> Iterator[tuple[int, int]]:
    """Each event's second since the start and since midnight, rising; exactly `events` of them."""
    draw = lives.random.random
    reached = [0.0, *accumulate(_day_weights(lives.first_day, last_seconds / DAY))]
    for day in range(DAYS + 1):
        count = round(events * reached[day + 1] / reached[-1]) - round(
            events * reached[day] / reached[-1]
        )
        is_last = day == DAYS
        table, part = (EVEN_DAY, last_seconds / DAY) if is_last else (SECOND_OF_DAY, 1.0)
        for step in range(count):
            pointer = 1_440 * (step + draw()) / count * part
            minute = int(pointer)
            start = table[minute]
            second = start + int((pointer - minute) * (table[minute + 1] - start))
            yield day * DAY + second, second


def _day_weights(first_day: date, last_part: float) -> Iterator[float]:
    for day in range(DAYS):
        weekday = (first_day + timedelta(days=day)).weekday()
        yield WEEKDAY_WEIGHTS[weekday] * (0.25 + day / DAYS)
    yield WEEKDAY_WEIGHTS[(first_day + timedelta(days=DAYS)).weekday()] * 1.25 * last_part
