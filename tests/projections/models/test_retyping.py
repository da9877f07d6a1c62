"""Properties get other types, time and again, while values come: live is as a rebuild has it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.commands import Alias, Change
from domain.errors import Conflict, InvalidInput
from domain.identity import SubjectKind
from domain.name_rules import NameScope
from domain.properties import PropertyType
from infra import bootstrap
from infra.bootstrap.annals import Annals
from infra.settings import Settings
from projections.models import retyping
from tests.examples import examples
from tests.projections.read_models import (
    NOON,
    dump,
    empty,
    forget_read_models,
    owner,
    parked,
    project,
    user,
    write,
)
from tests.projections.segments import EDITOR

USERS = ("u0", "u1", "u2")
NAMES = ("mrr", "currency", "name", "one", "two", "three")


class Phase(NamedTuple):
    """What is sent of each user, who turns out to be the same, and which types are changed; then
    all of it is projected."""

    sent: dict[str, dict[str, Any]]
    merged: tuple[str, str] | None
    types: dict[str, PropertyType]


values = st.sampled_from(
    ["5", "007", "2.50", "eur", "EUR", "true", "2026-05-01", 5, 2.5, 1e16, 1, True, ["7"], None]
)
phases = st.builds(
    Phase,
    st.dictionaries(
        st.sampled_from(USERS), st.dictionaries(st.sampled_from(NAMES), values, min_size=3)
    ),
    st.one_of(st.none(), st.none(), st.tuples(st.sampled_from(USERS), st.sampled_from(USERS))),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(PropertyType), min_size=2),
)


def carry_out(annals: Annals, phase: Phase) -> None:
    for name, values in phase.sent.items():
        write(annals, Change(SubjectKind.USER, user(name), values, NOON))
    if phase.merged is not None:
        write(annals, Alias(*map(user, phase.merged), NOON))
    for name, type in phase.types.items():
        with suppress(Conflict, InvalidInput):  # of MRR, or of what nobody sent
            scope = NameScope.USER_PROPERTY
            annals.names.change_type(scope, name, type, EDITOR, datetime.now(UTC))


def test_whatever_types_a_property_had_it_is_shown_as_a_rebuild_shows_it(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retyping, "PIECE", 2)

    @settings(max_examples=examples(8))
    @given(st.lists(phases, min_size=3, max_size=3))
    def whatever_happens(history: list[Phase]) -> None:
        empty(database_url)
        with owner(database_url) as conn:
            conn.execute("DELETE FROM log.catalogue")
        # A process remembers what was defined and sent.
        with bootstrap.opened(Settings(data=tmp_path), database_url, connections=2) as annals:
            for phase in history:
                carry_out(annals, phase)
                project(annals)
            live = dump(database_url)
            forget_read_models(database_url)
            project(annals)
        assert dump(database_url) == live
        assert parked(database_url) == []

    whatever_happens()
