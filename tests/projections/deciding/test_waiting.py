"""What rests on something that is being decided waits for it, however many steps lie between."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from domain.commands import Change
from domain.conditions.language import AllOf, Health, HealthIs, Is, PropertyIs
from domain.definitions.types import (
    Definition,
    DefinitionId,
    HealthProfile,
    Signal,
    Stage,
    Stages,
    StageType,
)
from domain.events.decisions import HealthChanged, StageEntered
from domain.identity import SubjectKind
from domain.workspace import editing
from infra.bootstrap.annals import Annals
from tests.projections import decision_laws
from tests.projections.read_models import NOON, found, user, write
from tests.projections.segments import EDITOR, settle

USER = SubjectKind.USER
IS_PRO = PropertyIs("plan", Is("pro"))
ALWAYS = AllOf([])


def activated(annals: Annals, definition: Definition) -> None:
    id, now = DefinitionId(uuid.uuid4()), datetime.now(UTC)
    annals.definitions.decide(lambda state: editing.make(state, id, definition, EDITOR), now)
    annals.definitions.decide(lambda state: editing.activate(state, id, EDITOR), now)


def test_a_signal_does_not_trigger_on_a_health_that_the_new_stage_has_not_brought_yet(
    annals: Annals,
) -> None:
    activated(annals, Stages(USER, "Life", [Stage("paying", StageType.PAYING, IS_PRO)]))
    activated(annals, HealthProfile(USER, "Paying", ["paying"], good=ALWAYS))
    unwell = AllOf([IS_PRO, HealthIs([Health.NORMAL, Health.BAD])])
    activated(annals, Signal(USER, "Pays and is not well", unwell))
    write(annals, Change(USER, user("ada"), {"plan": "free"}, NOON))
    settle(annals)
    write(annals, Change(USER, user("ada"), {"plan": "pro"}, NOON))
    settle(annals)
    of_ada = decision_laws.read(annals).of(found(annals, user("ada")))
    assert {type(decision.decision) for history in of_ada.values() for decision in history} == {
        StageEntered,
        HealthChanged,
    }


def test_what_waited_is_looked_at_though_nothing_between_changes(annals: Annals) -> None:
    activated(annals, Stages(USER, "Life", [Stage("paying", StageType.PAYING, IS_PRO)]))
    activated(annals, HealthProfile(USER, "Paying", ["paying"], bad=PropertyIs("x", Is("y"))))
    well = AllOf([IS_PRO, HealthIs([Health.NORMAL])])
    activated(annals, Signal(USER, "Pays and is normal", well))
    write(annals, Change(USER, user("ada"), {"plan": "free"}, NOON))
    settle(annals)
    write(annals, Change(USER, user("ada"), {"plan": "pro"}, NOON))
    settle(annals)
    of_ada = decision_laws.read(annals).of(found(annals, user("ada")))
    assert {key.family for key in of_ada} == {"stage", "signal"}
