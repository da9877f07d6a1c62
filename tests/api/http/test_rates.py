"""Rates: pure laws of the bucket by a given clock, and what senders meet over HTTP."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http import rates
from api.http.rates import KeyRates, TokenBucket, WrongKeys
from domain.errors import TooManyAtOnce
from tests.serving import Clients, problem

KEY = uuid.UUID(int=1)


class Clock:
    """Stands still until it is moved, in seconds."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@given(
    st.floats(0.1, 1_000),
    st.lists(st.tuples(st.floats(0, 10), st.integers(1, 50)), max_size=30),
)
def test_nobody_takes_more_than_the_capacity_and_what_time_brought(
    rate: float, asked: list[tuple[float, int]]
) -> None:
    bucket, now, taken = TokenBucket(rate=rate, capacity=rate, now=0), 0.0, 0
    for seconds, count in asked:
        now += seconds
        if not bucket.seconds_until_one(now):
            bucket.take(count, now)
            taken += count
            assert taken <= rate + rate * now + 50 + 1e-6
    assert bucket.level(now + bucket.seconds_until_full(now)) == pytest.approx(rate, abs=1e-6)


@given(st.floats(0.5, 100), st.integers(1, 1_000))
def test_who_waits_as_long_as_told_is_let_in(rate: float, debt: int) -> None:
    bucket = TokenBucket(rate=rate, capacity=max(1.0, rate), now=0)
    bucket.take(debt, 0)
    wait = bucket.seconds_until_one(0)
    assert bucket.seconds_until_one(wait) == pytest.approx(0, abs=1e-6)


def test_a_clock_that_stands_or_goes_back_brings_nothing() -> None:
    bucket = TokenBucket(rate=1, capacity=1, now=10)
    bucket.take(1, 10)
    assert bucket.level(10) == bucket.level(5) == 0


def test_a_key_is_admitted_again_when_its_time_has_come_and_another_all_along() -> None:
    clock = Clock()
    limits = KeyRates(requests=2, messages=100, clock=clock)
    limits.admit(KEY)
    limits.admit(KEY)
    with pytest.raises(TooManyAtOnce) as refused:
        limits.admit(KEY)
    assert refused.value.retry_after == 1
    limits.admit(uuid.UUID(int=2))
    clock.now += 1
    limits.admit(KEY)


def test_a_batch_larger_than_a_second_s_worth_is_paid_for_afterwards() -> None:
    clock = Clock()
    limits = KeyRates(requests=100, messages=10, clock=clock)
    limits.admit(KEY)
    limits.spend(KEY, 35)
    with pytest.raises(TooManyAtOnce) as refused:
        limits.admit(KEY)
    assert refused.value.retry_after == 3
    clock.now += refused.value.retry_after
    limits.admit(KEY)


def test_what_is_left_is_told_in_the_form_of_the_draft() -> None:
    clock = Clock()
    limits = KeyRates(requests=10, messages=100, clock=clock)
    limits.admit(KEY)
    limits.spend(KEY, 250)
    assert limits.headers(KEY) == [
        (b"ratelimit-policy", b'"requests";q=10;w=1, "messages";q=100;w=1'),
        (b"ratelimit", b'"requests";r=9;t=1, "messages";r=0;t=3'),
    ]


def test_addresses_are_told_apart_but_for_those_of_one_network_of_ipv6() -> None:
    clock = Clock()
    wrong = WrongKeys(clock=clock)
    for n in range(rates.WRONG_KEYS):
        wrong.note(f"2001:db8::{n:x}")
        wrong.note("192.0.2.1")
    assert wrong.seconds_to_wait("2001:db8::ffff") == 1
    assert wrong.seconds_to_wait("192.0.2.1") == 1
    assert wrong.seconds_to_wait("2001:db8:0:1::") == 0
    assert wrong.seconds_to_wait("192.0.2.2") == 0
    clock.now += 1
    assert wrong.seconds_to_wait("192.0.2.1") == 0


def test_only_so_many_clients_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MAX_BUCKETS", 3)
    wrong = WrongKeys(clock=Clock())
    for n in range(100):
        wrong.note(f"192.0.2.{n}")
    assert len(wrong._buckets._buckets) == 3


def limited(client: Clients, **settings: int) -> None:
    """Gives the server of a test other rates."""
    from tests import serving

    [server] = [one for one in serving.running if one.url == client.url]
    server.app.state.limits.key_rates = KeyRates(**settings)


def test_answers_say_what_is_left_and_429_comes_before_the_body_is_read(client: Clients) -> None:
    limited(client, requests=1_000, messages=1)
    body: dict[str, Any] = {"batch": [{"type": "identify", "userId": "ada"}] * 500}
    taken = client("write").post("/v1/batch", json=body)
    assert taken.status_code == 200
    assert taken.headers["ratelimit-policy"] == '"requests";q=1000;w=1, "messages";q=1;w=1'
    assert '"messages";r=0;t=' in taken.headers["ratelimit"]
    refused = client("write").post("/v1/batch", content=b"never looked at")
    problem(refused, 429, "too-many")
    assert 1 <= int(refused.headers["retry-after"]) <= 501
    assert client("read").get("/api/users").status_code == 200
    assert "ratelimit" not in client(None).get("/health/live").headers


def test_reading_has_its_rate_too_and_the_console_says_so(client: Clients) -> None:
    limited(client, requests=1, messages=1)
    answers = [client("read").get("/api/status") for _ in range(5)]
    assert answers[0].status_code == 200
    problem(answers[-1], 429, "too-many")


def test_wrong_keys_are_slowed_and_right_ones_of_the_same_address_are_not(
    client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "WRONG_KEYS_PER_SECOND", 0.001)
    limited_wrong(client)
    looked_up: list[str] = []
    find = client.annals.api_keys.find
    monkeypatch.setattr(
        client.annals.api_keys, "find", lambda key: looked_up.append(key) or find(key)
    )
    for n in range(rates.WRONG_KEYS + 20):
        answer = client(None).get("/api/status", headers={"Authorization": f"Bearer guess-{n}"})
        problem(answer, 401 if n < rates.WRONG_KEYS else 429)
    assert len(looked_up) == rates.WRONG_KEYS
    assert client("read").get("/api/status").status_code == 200
    content = json.dumps({"batch": [], "writeKey": client.keys["write"]}).encode()
    assert client(None).post("/v1/batch", content=content).status_code == 200
    wrong = content.replace(b"annals_", b"nobody_")
    problem(client(None).post("/v1/batch", content=wrong), 429, "too-many")


def limited_wrong(client: Clients) -> None:
    from tests import serving

    [server] = [one for one in serving.running if one.url == client.url]
    server.app.state.limits.wrong_keys = WrongKeys()
