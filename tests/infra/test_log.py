"""The log's laws, on real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime

from domain.activity import Activity, ActivityKind
from domain.commands import Request, Stored, Track
from domain.identity import Identity, Scheme
from infra.wiring import Annals


def test_an_event_is_stored_and_read_back(annals: Annals) -> None:
    login = Activity(ActivityKind.EVENT, "login")
    user = (Identity(Scheme.USER_ID, "u1"),)
    [outcome] = annals.handler.handle([Request(Track(user, (), (login,), datetime.now(UTC)), "1")])
    assert isinstance(outcome, Stored)
    partition = outcome.positions[0].log_partition
    rows = annals.log.read_after({partition: 0}, 10)
    assert [row.topic for row in rows] == ["user.registered", "user.event_tracked"]
