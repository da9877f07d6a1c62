"""Definitions: stages, health profiles, scores and signals, from draft to archive.

Segments are listed here too, and defined at `api.definitions.segments`; settings are at
`api.definitions.settings`.
"""

from __future__ import annotations

import uuid
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Controller, delete, get, post, put
from litestar.params import JSONBody, PathParameter, QueryParameter

from api.definitions.saving import Saved, saved
from api.http.as_of import AsOf, Readings
from api.http.auth import READERS, Asker, opens
from api.http.dependencies import Part
from api.http.parameters import WaitFor
from api.http.problems import answers
from api.openapi.bounds import Hours, Name, Weight
from api.openapi.described import (
    PerhapsCondition,
    SentCondition,
    json_or_none,
    no_condition,
)
from domain.access import ApiScope
from domain.conditions import decoding
from domain.conditions.language import Condition
from domain.definitions.types import (
    Definition,
    DefinitionId,
    DefinitionKind,
    HealthProfile,
    Score,
    ScoreRule,
    Signal,
    Stage,
    Stages,
    StageType,
    Status,
    Undeciding,
)
from domain.identity import SubjectKind
from domain.workspace import editing
from infra.write.condition_checks import ConditionChecks
from infra.write.definition_store import DefinitionStore
from projections.kernel.paging import Page
from projections.queries import definition_list
from projections.queries.definition_list import DefinitionItem, DefinitionVersion

READING, EDITING = [opens(*READERS)], [opens(ApiScope.ADMIN)]
READING_PROBLEMS = answers(400, 401, 403, 404, 503)
CHANGING_PROBLEMS = answers(400, 401, 403, 404, 409, 413, 429, 503)
MOVING_PROBLEMS = answers(400, 401, 403, 404, 409, 503)

Type = Annotated[
    DefinitionKind | None, QueryParameter(description="only this type; all if left out")
]
Kind = Annotated[
    SubjectKind | None, QueryParameter(description="only definitions about users or about accounts")
]
WithStatus = Annotated[
    Status | None, QueryParameter(description="only definitions with this status")
]
Id = Annotated[UUID, PathParameter(description="of a definition")]


class StageRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stage. A contact is in the first stage of the list whose condition holds."""

    name: Name
    type: StageType
    condition: SentCondition


class StagesRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="stages"):
    """The stages of users or of accounts, in order."""

    kind: SubjectKind
    name: Name
    stages: list[StageRequest]


class HealthProfileRequest(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="health_profile"
):
    """
    Attributes:
        stages: the names of the stages that the profile covers; null stands for no stage.
        good: tested first, then `bad`; if neither holds, the health is normal.
    """

    kind: SubjectKind
    name: Name
    stages: list[str | None]
    good: PerhapsCondition = msgspec.field(default_factory=no_condition)
    bad: PerhapsCondition = msgspec.field(default_factory=no_condition)


class ScoreRuleRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a score. `weight` may be negative, but not 0."""

    name: Name
    weight: Weight
    condition: SentCondition


class ScoreRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="score"):
    """A score: the weight of the rules that hold, divided by the weight of all; 0 to 100 %."""

    kind: SubjectKind
    name: Name
    rules: list[ScoreRuleRequest]


class SignalRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="signal"):
    """
    Attributes:
        reentry_hours: hours before the signal may trigger again; null: it triggers once.
        goal: the condition hoped for within `goal_hours` after a trigger.
    """

    kind: SubjectKind
    name: Name
    condition: SentCondition
    reentry_hours: Hours | None = None
    goal: PerhapsCondition = msgspec.field(default_factory=no_condition)
    goal_hours: Hours | None = None


DefinitionRequest = StagesRequest | HealthProfileRequest | ScoreRequest | SignalRequest


class DefinitionsController(Controller):
    """Readers read; a key of scope admin defines and changes."""

    path = "/api/definitions"
    tags = ("definitions",)

    @get(
        guards=READING,
        sync_to_thread=True,
        summary="All definitions: stages, health profiles, scores, signals, segments",
        responses=answers(400, 401, 403, 503),
    )
    def list(
        self,
        readings: Part[Readings],
        type: Type = None,
        kind: Kind = None,
        status: WithStatus = None,
        waiting: WaitFor = None,
        as_of: AsOf = None,
    ) -> Page[DefinitionItem]:
        annals = readings.at(waiting, as_of)
        with annals.queries.connect() as conn:
            return definition_list.list_definitions(conn, family=type, kind=kind, status=status)

    @get(
        "/{id:uuid}",
        guards=READING,
        sync_to_thread=True,
        summary="A definition",
        responses=READING_PROBLEMS,
    )
    def view(
        self, readings: Part[Readings], id: Id, waiting: WaitFor = None, as_of: AsOf = None
    ) -> DefinitionItem:
        annals = readings.at(waiting, as_of)
        with annals.queries.connect() as conn:
            return definition_list.definition(conn, id)

    @get(
        "/{id:uuid}/history",
        guards=READING,
        sync_to_thread=True,
        summary="Every version of a definition, newest first, with time and API key",
        responses=READING_PROBLEMS,
    )
    def history(
        self, readings: Part[Readings], id: Id, waiting: WaitFor = None, as_of: AsOf = None
    ) -> Page[DefinitionVersion]:
        annals = readings.at(waiting, as_of)
        with annals.queries.connect() as conn:
            return definition_list.list_versions(conn, id)

    @post(
        status_code=200,
        guards=EDITING,
        sync_to_thread=True,
        summary="Make a definition, as a draft",
        responses=answers(400, 401, 403, 409, 413, 429, 503),
    )
    def define(
        self,
        definitions: Part[DefinitionStore],
        checks: Part[ConditionChecks],
        asker: Part[Asker],
        data: JSONBody[DefinitionRequest],
    ) -> Saved:
        definition, id = decoded(data), DefinitionId(uuid.uuid4())
        checks.definition(definition)
        return saved(
            definitions, asker, id, lambda state, by: editing.make(state, id, definition, by)
        )

    @put(
        "/{id:uuid}",
        guards=EDITING,
        sync_to_thread=True,
        summary="Change a draft or an active definition",
        responses=CHANGING_PROBLEMS,
    )
    def change(
        self,
        definitions: Part[DefinitionStore],
        checks: Part[ConditionChecks],
        asker: Part[Asker],
        id: Id,
        data: JSONBody[DefinitionRequest],
    ) -> Saved:
        definitions.load().find(id)
        definition = decoded(data)
        checks.definition(definition)
        return saved(
            definitions, asker, id, lambda state, by: editing.change(state, id, definition, by)
        )

    @post(
        "/{id:uuid}/activate",
        status_code=200,
        guards=EDITING,
        sync_to_thread=True,
        summary="Activate a draft: it decides from now on",
        responses=answers(400, 401, 403, 404, 409, 429, 503),
    )
    def activate(
        self,
        definitions: Part[DefinitionStore],
        checks: Part[ConditionChecks],
        asker: Part[Asker],
        id: Id,
    ) -> Saved:
        draft = definitions.load().find(id).definition
        if not isinstance(draft, Undeciding):
            checks.require_counters(draft)
        return saved(definitions, asker, id, lambda state, by: editing.activate(state, id, by))

    @post(
        "/{id:uuid}/archive",
        status_code=200,
        guards=EDITING,
        sync_to_thread=True,
        summary="Archive a definition: it no longer decides; it stays on record",
        responses=MOVING_PROBLEMS,
    )
    def archive(self, definitions: Part[DefinitionStore], asker: Part[Asker], id: Id) -> Saved:
        return saved(definitions, asker, id, lambda state, by: editing.archive(state, id, by))

    @delete(
        "/{id:uuid}",
        status_code=200,
        guards=EDITING,
        sync_to_thread=True,
        summary="Delete a draft",
        responses=MOVING_PROBLEMS,
    )
    def delete(self, definitions: Part[DefinitionStore], asker: Part[Asker], id: Id) -> Saved:
        return saved(definitions, asker, id, lambda state, by: editing.delete(state, id, by))


def decoded(data: DefinitionRequest) -> Definition:
    """The definition in a request. Raises: InvalidInput: a condition is invalid; says where."""
    match data:
        case StagesRequest(kind, name, stages):
            return Stages(
                kind,
                name,
                [
                    Stage(
                        stage.name,
                        stage.type,
                        _condition(stage.condition, f"/stages/{n}/condition"),
                    )
                    for n, stage in enumerate(stages)
                ],
            )
        case HealthProfileRequest(kind, name, for_stages, good, bad):
            return HealthProfile(
                kind,
                name,
                for_stages,
                _condition_or_none(good, "/good"),
                _condition_or_none(bad, "/bad"),
            )
        case ScoreRequest(kind, name, rules):
            return Score(
                kind,
                name,
                [
                    ScoreRule(
                        rule.name, rule.weight, _condition(rule.condition, f"/rules/{n}/condition")
                    )
                    for n, rule in enumerate(rules)
                ],
            )
        case SignalRequest(kind, name, condition, reentry, goal, goal_hours):
            return Signal(
                kind,
                name,
                _condition(condition, "/condition"),
                reentry,
                _condition_or_none(goal, "/goal"),
                goal_hours,
            )


def _condition(sent: msgspec.Raw, pointer: str) -> Condition:
    return decoding.decode(bytes(sent), pointer)


def _condition_or_none(sent: msgspec.Raw, pointer: str) -> Condition | None:
    json = json_or_none(sent)
    return None if json is None else decoding.decode(json, pointer)
