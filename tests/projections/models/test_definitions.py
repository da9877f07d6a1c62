"""The read model of definitions says what the aggregate says, and what is decided is kept true."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from domain.conditions.language import AllOf, Not
from domain.definitions.destinations import Destination
from domain.definitions.types import Settings, StageType, Status
from domain.definitions.types import Stage as StageOf
from domain.definitions.types import Stages as StagesOf
from domain.errors import Refusal
from domain.events.payloads import Payload
from domain.identity import SubjectKind
from domain.workspace.definitions import Definitions
from infra.bootstrap.annals import Annals
from infra.write.definition_store import DefinitionStore
from projections.conditions.known_names import KnownNames, NamesNow
from projections.queries.definition_list import definition, list_definitions, list_versions
from projections.queries.segment_list import list_segments
from tests.domain.workspace.test_editing_laws import Drafter, done
from tests.projections.definitions import activate, archive, change, stages
from tests.projections.read_models import (
    NOON,
    drain,
    dump,
    empty,
    forget_read_models,
    owner,
    project,
)

USER, ACCOUNT = SubjectKind
ANYBODY = AllOf([])


def _decided(payloads: list[Payload], _: Definitions) -> list[Payload]:
    return payloads


def test_whatever_is_done_the_read_model_shows_what_the_log_says(
    annals: Annals, database_url: str
) -> None:
    secret = annals.secrets.get("definitions")

    @given(st.randoms(use_true_random=True))
    def whatever_is_done(chance: random.Random) -> None:
        empty(database_url)
        store = DefinitionStore(annals.log, annals.sealer, secret)
        told, drafter = replace(annals, definitions=store), Drafter(chance)
        projector = told.projector()
        for n in range(25):
            deed, id, drafted = drafter.deed(store.load())

            payloads = done(store.load(), deed, id, drafted)
            if isinstance(payloads, Refusal):
                continue
            store.decide(partial(_decided, payloads), NOON + timedelta(hours=n))
            if chance.random() < 0.3:
                drain(projector)
        drain(projector)
        projector.release()
        state = store.load()
        with told.queries.connect() as conn:
            listed = {item.id: item for item in list_definitions(conn).items}
            for id, defined in state.current.items():
                if isinstance(defined.definition, Destination):  # of these there is no read model
                    continue
                seen = definition(conn, id)
                assert (seen.definition, seen.version, seen.status) == (
                    defined.definition,
                    defined.version,
                    defined.status,
                )
                assert (seen.created_at, seen.created_by) == (
                    defined.created_at,
                    defined.created_by,
                )
                assert (seen.changed_at, seen.changed_by) == (defined.changed_at, defined.by)
                versions = list_versions(conn, id).items
                assert [step.version for step in versions] == list(range(defined.version, 0, -1))
                assert (versions[0].definition, versions[0].at) == (
                    defined.definition,
                    defined.changed_at,
                )
                assert isinstance(defined.definition, Settings) or listed.pop(id) == seen
            assert not listed
            for id, gone in state.deleted.items():
                if isinstance(gone.definition, Destination):
                    continue
                assert list_versions(conn, id).items[0].status == "deleted"
            assert {item.id for item in list_segments(conn, list(SubjectKind)).items} == set(
                state.segments
            )
            known, now = KnownNames(conn), NamesNow(conn, state)
            for kind in SubjectKind:
                assert set(known.stages(kind)) == set(now.stages(kind))
                assert set(known.scores(kind)) == set(now.scores(kind))
                assert set(known.signals(kind)) == set(now.signals(kind))
            assert known.segments() == now.segments()
        live = dump(database_url)
        forget_read_models(database_url)
        project(told)
        assert dump(database_url) == live

    whatever_is_done()


def due(annals: Annals, url: str) -> set[str]:
    """What is to be decided anew, after which nothing is."""
    project(annals)
    with owner(url) as conn:
        return {rule for (rule,) in conn.execute("DELETE FROM views.sweeps RETURNING rule")}


def test_what_decides_is_decided_anew_where_it_changes_and_only_there(
    annals: Annals, database_url: str
) -> None:
    draft = stages(paying=ANYBODY)

    first = activate(annals, draft)
    assert due(annals, database_url) == {"user.stage"}
    renamed = StagesOf(USER, "Another name", draft.stages)
    change(annals, first, renamed)
    assert due(annals, database_url) == set()
    other = StagesOf(USER, "life", [StageOf("trial", StageType.TRIAL, Not(ANYBODY))])
    change(annals, first, other)
    assert due(annals, database_url) == {"user.stage"}
    archive(annals, first)
    assert due(annals, database_url) == {"user.stage"}
    with annals.queries.connect() as conn:
        assert list(KnownNames(conn).stages(USER)) == []
        [item] = list_definitions(conn).items
        assert item.status is Status.ARCHIVED
