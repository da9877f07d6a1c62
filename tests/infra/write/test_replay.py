"""A subject at any version, replayed by the eventsourcing library's repository over our log."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from api.cli import main
from domain.errors import Altered, NotFound
from domain.events.event import Event
from domain.identity import SubjectKind
from infra.bootstrap.annals import Annals
from infra.write.replay import LogRecorder, OpeningMapper
from tests.altered import alter
from tests.infra.erasures import destroy_keys
from tests.infra.rows import AT
from tests.infra.write.histories import LOGIN, append, from_the_beginning, history, new
from tests.projections.read_models import owner


@given(
    gt=st.none() | st.integers(0, 9),
    lte=st.none() | st.integers(0, 9),
    desc=st.booleans(),
    limit=st.none() | st.integers(0, 9),
)
def test_selecting_is_as_the_library_says(
    annals: Annals, gt: int | None, lte: int | None, desc: bool, limit: int | None
) -> None:
    mapper, recorder, user = OpeningMapper(annals.sealer), LogRecorder(annals.log), new()
    events = history(user, 6)
    append(annals, *events, Event(SubjectKind.USER, user, None, AT, LOGIN))
    selected = recorder.select_events(user, gt=gt, lte=lte, desc=desc, limit=limit)
    expected = [
        event
        for event in events
        if (gt is None or event.version > gt) and (lte is None or event.version <= lte)
    ]
    expected = (expected[::-1] if desc else expected)[:limit]
    assert [row.originator_version for row in selected] == [event.version for event in expected]
    assert {row.originator_id for row in selected} <= {user}
    assert [mapper.to_domain_event(row).event for row in selected] == expected


@given(count=st.integers(1, 8), version=st.none() | st.integers(1, 8))
def test_a_replay_is_what_the_first_events_come_to(
    annals: Annals, count: int, version: int | None
) -> None:
    user = new()
    events = history(user, count)
    append(annals, *events)
    if version is not None and version > count:
        with pytest.raises(NotFound, match=f"has {count} events"):
            annals.replay.at_version(SubjectKind.USER, user, version)
        return
    replayed = annals.replay.at_version(SubjectKind.USER, user, version)
    assert replayed == from_the_beginning(events[:version])


def test_nobody_the_erased_and_the_other_kind_are_not_found(annals: Annals) -> None:
    user, erased = new(), new()
    append(annals, *history(user, 2), *history(erased, 2))
    destroy_keys(annals.keys, [erased])
    for kind, id in (
        (SubjectKind.USER, new()),
        (SubjectKind.USER, erased),
        (SubjectKind.ACCOUNT, user),
    ):
        with pytest.raises(NotFound, match=f"there is no such {kind}"):
            annals.replay.at_version(kind, id)


def test_a_replay_stops_at_an_event_that_was_altered_or_is_missing(
    annals: Annals, database_url: str
) -> None:
    user = new()
    append(annals, *history(user, 3))
    [_, second, _] = annals.log.read_streams({user: 0})[user]
    alter(database_url, second, "state = set_byte(state, 20, get_byte(state, 20) # 1)")
    assert annals.replay.at_version(SubjectKind.USER, user, 1).version == 1
    with pytest.raises(Altered, match=f"position {second.position}"):
        annals.replay.at_version(SubjectKind.USER, user)
    with owner(database_url) as conn:
        conn.execute("DELETE FROM log.events WHERE stream = %s AND version = 2", (user,))
    with pytest.raises(Altered, match="event 2 of this user is missing"):
        annals.replay.at_version(SubjectKind.USER, user)


def test_the_command_shows_a_subject_at_a_version(annals: Annals, database_url: str) -> None:
    user = new()
    append(annals, *history(user, 3))
    settings = {"ANNALS_DATABASE_URL": database_url, "ANNALS_DATA": str(annals.settings.data)}

    def replay(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["replay", "user", *words], env=settings)
        return done.exit_code, done.output

    code, shown = replay(str(user), "--version", "2")
    assert code == 0
    assert json.loads(shown)["properties"] == {"p2": 2}
    code, shown = replay(str(user))
    assert json.loads(shown)["properties"] == {"p2": 2, "p3": 3}
    code, shown = replay(str(new()))
    assert (code, shown) == (1, "Error: there is no such user\n")
    assert replay("ada@example.com")[0] == 2
