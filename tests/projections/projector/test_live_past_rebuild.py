"""Whatever is called, merged, erased and defined, in batches of any size and with values at every
limit: what is projected live, as a past, and by a rebuild is the same."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from domain.activity import MAX_URL_CHARS, Activity, ActivityKind
from domain.commands import Alias, Change, Join, Track
from domain.conditions import language as ask
from domain.definitions.types import Definition, DefinitionId, Segment
from domain.errors import Refusal
from domain.identity import MAX_IDENTITY_CHARS, SubjectKind
from domain.name_rules import NameScope
from domain.properties import MAX_LIST_ITEMS, MAX_NAME_CHARS, MAX_TEXT_CHARS, PropertyType
from infra import bootstrap
from infra.bootstrap.annals import Annals
from infra.pasts.databases import PastDatabases
from infra.settings import Settings
from projections.projector.projector import Projector
from tests.examples import examples
from tests.pasts import copied, seen_at
from tests.projections.definitions import activate, archive, change, profile, score, signal, stages
from tests.projections.projector.test_live_equals_model import (
    Erase,
    Project,
    Stop,
    World,
    Write,
    account_names,
    commands,
    instants,
    user_names,
)
from tests.projections.read_models import account, drain, dump, empty, parked, user
from tests.projections.segments import EDITOR, settle
from tests.sockets import small_buffers

PRO = ask.PropertyIs("plan", ask.Is("pro"))
DID = ask.Did("event", "one", ask.AtLeastTimes(2))


def wide(count: int, seed: int) -> str:
    """Random characters of four bytes, which no compression makes shorter."""
    random = Random(seed)
    return "".join(chr(random.randint(0x20000, 0x2A6D0)) for _ in range(count))


def list_of(items: int) -> list[str]:
    return [wide(1 + 8_000 // items, n) for n in range(items)]


class Rule(NamedTuple):
    """Retires a property, restores it, or gives it a type."""

    verb: str
    scope: NameScope
    name: str


class Define(NamedTuple):
    """Makes a definition, or changes or archives the one that was made last."""

    what: str
    definition: Definition


LONG_NAMES = [wide(MAX_NAME_CHARS, seed) for seed in range(3)]
limits = st.fixed_dictionaries(
    {},
    optional={
        "plan": st.sampled_from(["free", "pro"]),
        "name": st.sampled_from([wide(MAX_TEXT_CHARS, 1), "x" * MAX_TEXT_CHARS]),
        "seats": st.sampled_from([2**63 - 1, -(2**63) + 1, 5e-324, 9.2e18]),
        "mrr": st.sampled_from(["9" * 30 + "." + "9" * 30, "-0.1", 10]),
        "tags": st.builds(list_of, st.sampled_from([200, MAX_LIST_ITEMS])),
        "date": st.sampled_from(["0001-01-01", "9999-12-31T23:59:59.999999Z"]),
        LONG_NAMES[0]: st.sampled_from([wide(8_000, 2), "x" * 480]),
    },
)
longest = st.sampled_from([wide(MAX_IDENTITY_CHARS, 4), "u0", "u1", "u2"]).map(user)
activities = st.builds(
    Activity,
    st.sampled_from(ActivityKind),
    st.sampled_from([*LONG_NAMES, "one"]),
).map(lambda command: (command,))
pages = st.just((Activity(ActivityKind.PAGE, wide(MAX_URL_CHARS - 10, 5)),))
at_limits = st.one_of(
    st.builds(Change, st.just(SubjectKind.USER), longest, limits, instants),
    st.builds(
        Join, longest, account_names.map(account), limits, st.just({"role": "owner"}), instants
    ),
    st.builds(Track, longest, st.just(()), activities | pages, instants),
    st.builds(Alias, longest, user_names.map(user), instants),
)
definitions = st.one_of(
    st.builds(
        lambda n, of: Segment(SubjectKind.USER, f"{LONG_NAMES[1][:100]}{n}", of),
        st.integers(0, 10**9),
        st.sampled_from([PRO, DID, ask.AllOf([PRO, DID])]),
    ),
    st.sampled_from(
        [
            stages(paying=PRO, seen=DID),
            profile(None, good=PRO, bad=ask.Not(DID)),
            score(paid=(60, PRO), active=(40, DID)),
            signal(DID, goal=PRO, goal_hours=24),
        ]
    ),
)
steps = st.one_of(
    st.lists(st.one_of(commands, at_limits), min_size=1, max_size=60).map(Write),
    st.lists(st.one_of(commands, at_limits), min_size=1, max_size=60).map(Write),
    st.builds(Project, st.integers(0, 1), st.integers(1, 3_000)),
    st.builds(Stop, st.integers(0, 1), st.booleans()),
    st.builds(Erase, st.just(SubjectKind.USER), user_names),
    st.builds(Define, st.sampled_from(["make", "make", "change", "archive"]), definitions),
    st.builds(
        Rule,
        st.sampled_from(["retire", "restore", *PropertyType, *PropertyType]),
        st.sampled_from([NameScope.USER_PROPERTY, NameScope.ACCOUNT_PROPERTY]),
        st.sampled_from(
            ["plan", "seats", "tags", "name", "mrr", "date", "currency", LONG_NAMES[0]]
        ),
    ),
)


Step = Write | Erase | Project | Stop | Define | Rule


class Definer:
    """Makes, changes and archives definitions. What disagrees with those that are there is
    refused, and leaves nothing."""

    def __init__(self, annals: Annals) -> None:
        self._annals = annals
        self._made: dict[type[Definition], DefinitionId] = {}

    def take(self, step: Define) -> None:
        family = type(step.definition)
        last = self._made.get(family)
        with suppress(Refusal):
            if step.what == "make" or last is None:
                self._made[family] = activate(self._annals, step.definition)
            elif step.what == "change":
                change(self._annals, last, step.definition)
            else:
                archive(self._annals, last)

    def rule(self, step: Rule) -> None:
        names, asked = self._annals.names, (step.scope, [step.name], EDITOR, datetime.now(UTC))
        with suppress(Refusal):
            if step.verb == "retire":
                names.retire(*asked)
            elif step.verb == "restore":
                names.restore(*asked)
            else:
                type = PropertyType(step.verb)
                names.change_type(step.scope, step.name, type, EDITOR, datetime.now(UTC))


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
def test_what_is_projected_live_as_a_past_and_by_a_rebuild_is_the_same(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PastDatabases, "create", copied)

    @settings(max_examples=examples(4))
    @given(st.lists(steps, min_size=3, max_size=12))
    def whatever_happens(history: list[Step]) -> None:
        empty(database_url)
        # Connections take some kilobytes at a time; a process remembers what was defined.
        with (
            small_buffers(),
            bootstrap.opened(Settings(data=tmp_path), database_url, connections=4) as annals,
        ):
            live_as_past_as_rebuilt(annals, database_url, history)

    whatever_happens()


def live_as_past_as_rebuilt(annals: Annals, url: str, history: list[Step]) -> None:
    world, definer = Here(annals, url), Definer(annals)
    for step in history:
        if isinstance(step, Define):
            definer.take(step)
        elif isinstance(step, Rule):
            definer.rule(step)
        else:
            world.take(step)
    settle(annals, url=url)
    assert parked(url) == []
    live = dump(url)
    past = dump_of_past(annals, url)
    projector = annals.projector()
    projector.start_over()
    drain(projector)
    projector.release()
    rebuilt = dump(url)
    if world.model.erased:
        for rows_by_table in (live, past, rebuilt):
            rows_by_table.pop("catalogue")
    assert differing(rebuilt, live) == {}
    assert differing(past, live) == {}


def differing(left: dict[str, list[str]], right: dict[str, list[str]]) -> dict[str, Any]:
    """By table, the rows that stand in one alone, and in the other alone."""
    return {
        table: (sorted(set(rows) - set(right[table])), sorted(set(right[table]) - set(rows)))
        for table, rows in left.items()
        if rows != right[table]
    }


class Here(World):
    """In the zone of the workspace, by which a past and a rebuild count days."""

    def _projector(self, batch_events: int) -> Projector:
        annals = self.annals
        return Projector(
            log=annals.log,
            opener=annals.sealer,
            pool=annals.views,
            workspace=annals.workspace_now,
            batch_events=batch_events,
        )


def dump_of_past(annals: Annals, url: str) -> dict[str, list[str]]:
    """Of now."""
    try:
        with seen_at(annals, datetime.now(UTC)).queries.connect() as conn:
            name = conn.exec_driver_sql("SELECT current_database()").scalar_one()
        return dump(make_conninfo(url, dbname=name))
    finally:
        annals.pasts.drop_all()
