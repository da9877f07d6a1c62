"""Whatever is written, defined and decided: a past shows what was shown then, however the history
goes on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.calendar import Moment
from domain.conditions import language as ask
from domain.definitions.types import DefinitionId, Stage, Stages, StageType
from domain.identity import SubjectId, SubjectKind
from domain.workspace import editing
from infra.bootstrap.annals import Annals
from infra.pasts.databases import PastDatabases
from infra.write.definition_store import DefinitionStore
from projections.conditions.known_names import KnownNames
from projections.conditions.selection import Selection
from projections.queries import contact_view, segment_list
from projections.queries.bars import bars
from projections.queries.contact_list import Lists, list_contacts
from projections.queries.export import lines
from projections.queries.stage_timeline import stage_timeline
from projections.queries.timeline import timeline
from tests.examples import examples
from tests.pasts import copied, seen_at
from tests.projections.projector.test_live_equals_model import World, Write, commands
from tests.projections.read_models import parked
from tests.projections.segments import EDITOR, define, settle

PLAN = ask.PropertyIs("plan", ask.Is("pro"))
STAGES = Stages(
    SubjectKind.USER,
    "Users",
    [
        Stage("Paying", StageType.PAYING, PLAN),
        Stage("Seen", StageType.TRIAL, ask.Did("event", "one", ask.AtLeastTimes(1))),
    ],
)
TABS = ("event", "page", "screen", "channel", "campaign")


def shown(annals: Annals, at: datetime) -> dict[str, Any]:
    """All that lists, bars, exports, segments, 360 views and what is below them say."""
    said: dict[str, Any] = {}
    moment = Moment(at, annals.workspace().zone)
    with annals.queries.connect() as conn:
        for kind in SubjectKind:
            everybody = Selection(kind)
            asked = {"sort": "external_id", "columns": None, "cursor": None, "limit": 500}
            page = list_contacts(conn, everybody, moment, with_total=True, **asked)
            said[f"{kind}s"] = page
            said[f"{kind}s.pro"] = list_contacts(
                conn, Selection(kind, None, PLAN), moment, with_total=True, **asked
            )
            said[f"{kind}s.bars"] = bars(conn, everybody, moment)
            rows = Lists(
                everybody,
                moment,
                KnownNames(conn).properties(kind),
                sort="external_id",
                columns=None,
                currency=None,
            )
            said[f"{kind}s.csv"] = b"".join(lines(conn, rows, "csv"))
            for item in page.items:
                said[str(item.id)] = whole(annals, conn, kind, SubjectId(item.id), at)
        segments = segment_list.list_segments(conn, list(SubjectKind))
        said["segments"] = segments
        for segment in segments.items:
            said[f"segment {segment.id}"] = segment_list.list_members(
                conn, segment.id, cursor=None, limit=500
            )
    return msgspec.to_builtins(said)


def whole(
    annals: Annals, conn: Any, kind: SubjectKind, id: SubjectId, at: datetime
) -> dict[str, Any]:
    """A user or account with everything below it."""
    streams = contact_view.streams_of(conn, id)
    return {
        "view": contact_view.view(conn, kind, id, renewal_property="renewal_date"),
        "properties": contact_view.list_properties(conn, kind, id),
        "members": contact_view.list_members(conn, kind, id, cursor=None, limit=500),
        "tabs": [
            contact_view.list_activity(conn, kind, id, tab, cursor=None, limit=500) for tab in TABS
        ],
        "timeline": timeline(
            conn, annals.timelines, annals.sealer, kind, streams, cursor=None, limit=500
        ),
        "stages": stage_timeline(
            conn, annals.timelines, annals.sealer, kind, id, backdated=False, now=at
        ),
    }


writes = st.lists(commands, min_size=3, max_size=10).map(Write)
changes = st.sampled_from(["segment of users", "segment of accounts", "stages", "nothing"])
histories = st.lists(st.tuples(changes, writes), min_size=2, max_size=4)


def change(annals: Annals, what: str, n: int) -> None:
    match what:
        case "segment of users":
            define(annals, PLAN, name=f"s{n}")
        case "segment of accounts":
            define(annals, PLAN, SubjectKind.ACCOUNT, name=f"s{n}")
        case "stages":
            id, now = DefinitionId(EDITOR), datetime.now(UTC)
            if id not in annals.definitions.load().active:
                annals.definitions.decide(
                    lambda state: editing.make(state, id, STAGES, EDITOR), now
                )
                annals.definitions.decide(lambda state: editing.activate(state, id, EDITOR), now)


def test_a_past_shows_what_was_shown_then_however_the_history_goes_on(
    annals: Annals, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PastDatabases, "create", copied)
    secret = annals.secrets.get("definitions")

    @settings(max_examples=examples(4))
    @given(histories, st.integers(0, 10))
    def whatever_happens(history: list[tuple[str, Write]], which: int) -> None:
        world = World(annals, database_url)
        here = replace(annals, definitions=DefinitionStore(annals.log, annals.sealer, secret))
        remembered: list[tuple[datetime, dict[str, Any]]] = []
        for n, (what, write) in enumerate(history):
            change(here, what, n)
            world.take(write)
            settle(here, url=database_url)
            at = datetime.now(UTC)
            remembered.append((at, shown(here, at)))
        assert parked(database_url) == []
        at, said = remembered[which % len(remembered)]
        try:
            assert shown(seen_at(here, at), at) == said
        finally:
            annals.pasts.drop_all()

    whatever_happens()
