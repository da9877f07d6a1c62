"""Whoever sends gives up a connection first."""

from __future__ import annotations

import time

import httpx

from tests.serving import NO_CERTIFICATES, Clients


def test_a_connection_is_still_there_after_clients_have_given_theirs_up(client: Clients) -> None:
    """httpx keeps idle connections for five seconds, other clients for less."""
    longer = httpx.Limits(max_connections=1, keepalive_expiry=None)
    with httpx.Client(base_url=client.url, limits=longer, verify=NO_CERTIFICATES) as sender:
        before = sender.get("/health/live").extensions["network_stream"]
        time.sleep(5.5)
        after = sender.get("/health/live").extensions["network_stream"]
        assert after is before
