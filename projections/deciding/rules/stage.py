"""Rule: the stage of users or accounts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from domain.calendar import Moment
from domain.definitions.types import DefinitionId, Stage
from domain.events.decisions import DecisionCause, StageEntered, StageLeft, StageTransition
from domain.identity import SubjectKind
from domain.workspace.dependencies import STAGE, Dependency, Fact
from projections.conditions.compiler import QueryScope
from projections.deciding.rules.rule import (
    NOTHING_SEEN,
    DecidingVersion,
    Row,
    Rule,
    Verdict,
    computed_once,
    holds,
    of_contact,
    saw,
    select,
)
from projections.kernel.tables import contacts, standings


def stage_key(kind: SubjectKind) -> str:
    return f"{kind}.stage"


class StageRule(Rule):
    """The first stage whose condition holds, unless somebody set the stage manually.

    Args:
        decider: the list of stages that is active, or was last.
        stages: empty where no list is active.
    """

    def __init__(
        self,
        kind: SubjectKind,
        decider: DecidingVersion,
        stages: Sequence[Stage],
        rests_on: set[Dependency],
        *,
        asks_the_calendar: bool,
    ) -> None:
        super().__init__(
            stage_key(kind),
            kind,
            Fact(kind.value, STAGE),
            rests_on,
            asks_the_calendar=asks_the_calendar,
        )
        self._decider = decider
        self._stages = stages

    def differing(self, moment: Moment, scope: QueryScope) -> sa.Select[Any]:
        c, s = contacts.c, standings.c
        cases = [
            (holds(stage.condition, self.kind, moment, scope), sa.literal(stage.name))
            for stage in self._stages
        ]
        by_hand = sa.func.coalesce(s.is_by_hand, sa.false())
        decided = computed_once(
            "decided",
            sa.case((by_hand, s.hand_stage), *cases, else_=sa.null()).label("stage"),
            of=(contacts, standings),
        )
        conditions = {
            f"/stages/{n}/condition": stage.condition for n, stage in enumerate(self._stages)
        }
        return select(
            self.kind,
            scope,
            lambda source: source.outerjoin(standings, of_contact(standings)).join(
                decided, sa.true()
            ),
            sa.func.coalesce(s.stage_ordinal, 0),
            c.stage,
            sa.cast(decided.c.stage, sa.Text),
            by_hand,
            sa.case((by_hand, NOTHING_SEEN), else_=saw(conditions, self.kind, moment)),
            where=sa.cast(decided.c.stage, sa.Text).is_distinct_from(c.stage),
        )

    def verdict(self, row: Row, cause: DecisionCause, now: datetime) -> Verdict:
        _, last, before, after, by_hand, seen = row
        id, version = DefinitionId(self._decider.id), self._decider.version
        decisions: list[StageTransition] = []
        if before is not None:
            last += 1
            decisions.append(StageLeft(id, last, version, cause, seen, stage=before))
        if after is not None:
            last += 1
            decisions.append(
                StageEntered(id, last, version, cause, seen, stage=after, by_hand=by_hand)
            )
        return Verdict([*decisions])
