"""Whom a connection stands for: trusted proxies are believed, nobody else."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.proxies import client_address, is_https

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
PROXY, CLIENT = "10.1.2.3", "203.0.113.9"


def scope(client: str | None, *headers: tuple[str, str], scheme: str = "http") -> dict[str, Any]:
    return {
        "client": None if client is None else (client, 50_000),
        "scheme": scheme,
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }


def forwarded(*values: str) -> list[tuple[str, str]]:
    return [("x-forwarded-for", value) for value in values]


@pytest.mark.parametrize(
    ("nearest", "values", "client"),
    [
        (CLIENT, [], CLIENT),
        (CLIENT, ["192.0.2.1"], CLIENT),
        (PROXY, [], PROXY),
        (PROXY, [CLIENT], CLIENT),
        (PROXY, [f"192.0.2.1, {CLIENT}"], CLIENT),
        (PROXY, ["192.0.2.1", CLIENT], CLIENT),
        (PROXY, [f"192.0.2.1, {CLIENT}, 10.9.9.9"], CLIENT),
        (PROXY, ["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        (PROXY, [f"{CLIENT}:4711"], CLIENT),
        (PROXY, ["[2001:DB8::1]:4711"], "2001:db8::1"),
        (PROXY, ["2001:db8:0:0::1"], "2001:db8::1"),
        (PROXY, ["somebody"], PROXY),
        (PROXY, [f"{CLIENT}, unknown"], PROXY),
        (PROXY, [""], PROXY),
        (f"::ffff:{PROXY}", [CLIENT], CLIENT),
        ("fd00::1", [CLIENT], CLIENT),
        (None, [CLIENT], ""),
    ],
)
def test_the_client_is_the_last_address_that_no_trusted_proxy_has(
    nearest: str | None, values: list[str], client: str
) -> None:
    assert client_address(scope(nearest, *forwarded(*values)), TRUSTED) == client


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=30), max_size=5))
def test_what_a_client_invents_changes_nothing_of_what_the_proxy_saw(invented: list[str]) -> None:
    headers = [("x-forwarded-for", value) for value in invented]
    sent = scope(PROXY, *forwarded(CLIENT))
    sent["headers"][:0] = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    assert client_address(sent, TRUSTED) == CLIENT
    sent["client"] = ("198.51.100.1", 1)
    assert client_address(sent, TRUSTED) == "198.51.100.1"


@pytest.mark.parametrize(
    ("nearest", "scheme", "said", "expected"),
    [
        (CLIENT, "http", [], False),
        (CLIENT, "https", [], True),
        (CLIENT, "http", ["https"], False),
        (PROXY, "http", ["https"], True),
        (PROXY, "http", ["HTTPS"], True),
        (PROXY, "http", ["http"], False),
        (PROXY, "http", ["https, http"], False),
        (PROXY, "http", ["http", "https"], True),
        (PROXY, "http", [], False),
        (None, "http", ["https"], False),
    ],
)
def test_tls_is_believed_of_a_trusted_proxy_alone(
    nearest: str | None, scheme: str, said: list[str], expected: bool
) -> None:
    headers = [("x-forwarded-proto", value) for value in said]
    assert is_https(scope(nearest, *headers, scheme=scheme), TRUSTED) is expected


def test_without_a_setting_nobody_is_believed() -> None:
    sent = scope("127.0.0.1", ("x-forwarded-for", CLIENT), ("x-forwarded-proto", "https"))
    assert client_address(sent, ()) == "127.0.0.1"
    assert not is_https(sent, ())
