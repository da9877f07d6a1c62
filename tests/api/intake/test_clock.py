"""When a message occurred, by a clock that may be off."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.intake.calls import request
from api.intake.clock import LONGEST_WAIT, WRONG_CLOCK, instant, occurred_at, skew
from api.intake.segment import Message
from domain.errors import InvalidInput

NOW = datetime(2026, 5, 13, 12, tzinfo=UTC)
AGO = timedelta(seconds=10)
SECOND = timedelta(seconds=1)


def at(timestamp: datetime, sent_at: datetime | None) -> datetime:
    return occurred_at(timestamp.isoformat(), NOW, sent_at)


@pytest.mark.parametrize(
    "off", [timedelta(days=400), timedelta(hours=-1), -WRONG_CLOCK, timedelta(days=-9_000)]
)
def test_a_clock_that_is_off_is_corrected_by_the_time_of_sending(off: timedelta) -> None:
    assert at(NOW + off - AGO, NOW + off) == NOW - AGO


@pytest.mark.parametrize("latency", [timedelta(0), timedelta(seconds=30), WRONG_CLOCK - SECOND])
def test_latency_is_no_wrong_clock(latency: timedelta) -> None:
    assert at(NOW - latency - AGO, NOW - latency) == NOW - latency - AGO


@pytest.mark.parametrize("off", [timedelta(days=400), timedelta(days=-400)])
def test_what_tells_of_the_past_is_left_where_it_says_whatever_clock_sends_it(
    off: timedelta,
) -> None:
    history = NOW + off - LONGEST_WAIT - SECOND
    assert at(history, NOW + off) == min(history, NOW)


def test_a_time_after_sending_is_not_of_the_clock_that_sent_it() -> None:
    told = NOW - timedelta(days=1)
    assert at(told, told - timedelta(hours=2)) == told


@pytest.mark.parametrize("sent_at", [None, NOW, NOW + timedelta(days=-1)])
def test_nothing_occurs_after_it_was_received(sent_at: datetime | None) -> None:
    assert at(NOW + timedelta(days=365), sent_at) == NOW


@given(
    st.datetimes(timezones=st.just(UTC)).filter(lambda at: 2 < at.year < 9998),
    st.none() | st.datetimes(timezones=st.just(UTC)),
)
def test_an_instant_is_never_in_the_future_and_always_one(
    timestamp: datetime, sent_at: datetime | None
) -> None:
    found = at(timestamp, sent_at)
    assert found <= NOW
    assert found.tzinfo is UTC


@pytest.mark.parametrize("missing", [None, "", " ", "\n"])
def test_without_a_timestamp_it_is_the_time_of_receipt(missing: Any) -> None:
    assert occurred_at(missing, NOW, NOW + timedelta(days=400)) == NOW


@pytest.mark.parametrize("bad", ["yesterday", "2026-05-13", "2026-05-13T10:00", 5, True, [], {}])
def test_a_timestamp_that_is_no_instant_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidInput) as refusal:
        occurred_at(bad, NOW, None)
    assert refusal.value.pointer == "/timestamp"


def test_spaces_around_a_timestamp_do_not_matter() -> None:
    assert occurred_at(" 2026-05-13T10:00:00Z\n", NOW, None) == datetime(
        2026, 5, 13, 10, tzinfo=UTC
    )


@pytest.mark.parametrize("bad", [None, "", "yesterday", 5, "2026-02-30T00:00:00Z", "2026-05-13"])
def test_a_time_of_sending_that_is_no_instant_says_nothing(bad: Any) -> None:
    assert instant(bad) is None
    assert skew(NOW, None) is None


def test_the_skew_is_worth_noting_from_a_second_on() -> None:
    assert skew(NOW, NOW - timedelta(seconds=0.9)) is None
    assert skew(NOW, NOW + timedelta(seconds=90)) == -90.0


ahead = NOW + timedelta(days=400)


@pytest.mark.parametrize("type", ["identify", "group", "track", "alias"])
@pytest.mark.parametrize(
    ("message", "of_batch"),
    [
        ({"timestamp": ahead - AGO}, ahead),
        ({"timestamp": ahead - AGO, "sentAt": ahead}, None),
        ({"timestamp": ahead - AGO, "sentAt": ahead}, NOW),
        ({"timestamp": ahead - AGO, "sentAt": "no date"}, ahead),
        ({"originalTimestamp": ahead - AGO}, ahead),
        ({"timestamp": NOW - AGO, "originalTimestamp": ahead - AGO}, NOW),
    ],
)
def test_every_call_is_corrected_by_its_own_time_of_sending_or_that_of_its_batch(
    type: str, message: dict[str, Any], of_batch: datetime | None
) -> None:
    texts = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in message.items()}
    rest = {"userId": "ada", "previousId": "a", "groupId": "acme", "event": "opened", **texts}
    assert request(Message(type, **rest), NOW, of_batch).command.at == NOW - AGO
