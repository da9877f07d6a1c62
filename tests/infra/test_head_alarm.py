"""A position past its head is an alarm, and stops nobody in another partition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from domain.commands import Refused, Stored
from domain.conditions.language import AllOf
from domain.errors import BeyondHead
from domain.identity import SubjectKind, log_partition
from infra import head_alarm
from infra.bootstrap.annals import Annals
from projections.queries.status import PositionPastHead
from tests.commands import AT, identify, track
from tests.infra import destinations
from tests.infra.commands import send, stored, subject_of
from tests.infra.erasures import ask, erased
from tests.projections import segments
from tests.projections.read_models import owner, project

COPY_PAST_HEAD = """
INSERT INTO log.events (log_partition, position, stream, version, event_id, account, topic,
                        schema_version, occurred_at, recorded_at, state, account_state, hash)
SELECT e.log_partition, h.head + %s, stream, NULL, event_id, account, topic, schema_version,
       occurred_at, recorded_at, state, account_state, e.hash
FROM log.events e JOIN log.heads h USING (log_partition)
WHERE log_partition = %s ORDER BY e.position LIMIT 1"""


def put_past_head(url: str, partition: int, by: int = 1) -> int:
    """Puts a row past the head of a partition; returns the head."""
    with owner(url) as conn:
        conn.execute(COPY_PAST_HEAD, (by, partition))
        row = conn.execute(
            "SELECT head FROM log.heads WHERE log_partition = %s", (partition,)
        ).fetchone()
    assert row is not None
    return int(row[0])


def partition_of(annals: Annals, name: str) -> int:
    id = subject_of(annals, name)
    assert id is not None
    return log_partition(id)


def two_apart(annals: Annals) -> None:
    """Users `u1` and another, `u2`, of another partition."""
    stored(annals, identify("u1", n=1))
    for n in range(100):
        name = f"u{n}@example.com"
        stored(annals, identify(name, n=1))
        if partition_of(annals, name) != partition_of(annals, "u1"):
            stored(annals, identify(f"u2 {name}", n=2))
            return


def alarms(logs: list[Any]) -> list[Any]:
    return [line for line in logs if line["event"] == "log.position_past_head"]


def test_positions_past_their_heads_are_told_at_the_start_and_in_the_status(
    annals: Annals,
    open_annals: Callable[[], Annals],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored(annals, identify("u1", n=1))
    id = destinations.make(annals, "https://example.com")
    project(annals)
    assert annals.status().past_heads == []
    partition = partition_of(annals, "u1")
    head = put_past_head(database_url, partition, by=7)
    with owner(database_url) as conn:
        for change in (
            "UPDATE views.checkpoints SET position = position + 2 WHERE log_partition = %s",
            "UPDATE log.destination_cursors SET position = 900 WHERE log_partition = %s",
        ):
            conn.execute(change, (partition,))
    expected = [
        PositionPastHead("log", partition, head + 7, head),
        PositionPastHead("main", partition, head + 2, head),
        PositionPastHead(f"destination:{id}", partition, 900, head),
    ]
    with capture_logs() as logs:
        other = open_annals()
        assert other.status().past_heads == expected
        other.head_alarm.look()
    raised = alarms(logs)
    assert [(each["of"], each["log_level"]) for each in raised] == [
        (each.of, "error") for each in expected
    ]
    assert annals.status().past_heads == [], "an answer holds for a minute"
    monkeypatch.setattr(head_alarm, "SECONDS", 0.0)
    assert annals.status().past_heads == expected


def test_a_partition_that_is_stopped_refuses_its_own_and_stops_nobody_else(
    annals: Annals, database_url: str
) -> None:
    two_apart(annals)
    put_past_head(database_url, partition_of(annals, "u1"))
    outcomes = send(
        annals,
        identify("u1", n=2),
        identify("u2", n=3),
        track("u1", "", "login"),
        track("u2", "", "login"),
    )
    assert [type(outcome) for outcome in outcomes] == [Refused, Stored, Refused, Stored]
    assert {outcome.code for outcome in outcomes if isinstance(outcome, Refused)} == {"altered"}


def test_an_erasure_in_a_partition_that_is_stopped_waits_and_those_of_others_are_finished(
    annals: Annals, database_url: str
) -> None:
    two_apart(annals)
    project(annals)
    put_past_head(database_url, partition_of(annals, "u1"))
    first, other = subject_of(annals, "u1"), subject_of(annals, "u2")
    assert first is not None
    assert other is not None
    waiting = ask(annals, first).id
    assert erased(annals, other).completed_at is not None
    for _ in range(3):
        annals.erasures.step()
    assert "past_heads" in (annals.erasures.record.get(waiting).waits_for or "")
    assert annals.keys.fetch([first.int]) == {}
    with pytest.raises(BeyondHead):
        annals.erasure_completion.complete(SubjectKind.USER, [first], AT)
    annals.erasure_completion.complete_unfinished(AT)


def test_all_others_are_decided_about(annals: Annals, database_url: str) -> None:
    two_apart(annals)
    project(annals)
    first, other = subject_of(annals, "u1"), subject_of(annals, "u2")
    put_past_head(database_url, partition_of(annals, "u1"))
    segment = segments.define(annals, AllOf([]))
    segments.settle(annals)
    members = segments.members(annals, segment)
    assert other in members
    assert first not in members
