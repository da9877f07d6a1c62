"""Rule: the health of users or accounts: good, normal or bad."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from domain.calendar import Moment
from domain.conditions.language import Health
from domain.definitions.types import DefinitionId, HealthProfile
from domain.events.decisions import DecisionCause, HealthChanged
from domain.identity import SubjectKind
from domain.workspace.dependencies import HEALTH, Dependency, Fact
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


class Profile(NamedTuple):
    decider: DecidingVersion
    profile: HealthProfile


def health_key(kind: SubjectKind) -> str:
    return f"{kind}.health"


class HealthRule(Rule):
    """Evaluates good first, then bad, by the profile of the subject's stage.

    Args:
        profiles: the active ones.
        otherwise: decides `normal` where the stage has no profile.
    """

    def __init__(
        self,
        kind: SubjectKind,
        profiles: Sequence[Profile],
        otherwise: DecidingVersion,
        rests_on: set[Dependency],
        *,
        asks_the_calendar: bool,
    ) -> None:
        super().__init__(
            health_key(kind),
            kind,
            Fact(kind.value, HEALTH),
            rests_on,
            asks_the_calendar=asks_the_calendar,
        )
        self._profiles = profiles
        self._otherwise = otherwise
        self._of_stage = {
            stage: profile.decider for profile in profiles for stage in profile.profile.stages
        }

    def differing(self, moment: Moment, scope: QueryScope) -> sa.Select[Any]:
        c, s = contacts.c, standings.c
        health = [
            (
                _is_for(profile.profile),
                sa.case(
                    (holds(profile.profile.good, self.kind, moment, scope), Health.GOOD.value),
                    (holds(profile.profile.bad, self.kind, moment, scope), Health.BAD.value),
                    else_=Health.NORMAL.value,
                ),
            )
            for profile in self._profiles
        ]
        seen = [
            (
                _is_for(profile.profile),
                saw(
                    {"/good": profile.profile.good, "/bad": profile.profile.bad}, self.kind, moment
                ),
            )
            for profile in self._profiles
        ]
        normal, nothing = sa.literal(Health.NORMAL.value), NOTHING_SEEN
        decided = computed_once(
            "decided",
            (sa.case(*health, else_=normal) if health else normal).label("health"),
            of=(contacts,),
        )
        return select(
            self.kind,
            scope,
            lambda source: source.outerjoin(standings, of_contact(standings)).join(
                decided, sa.true()
            ),
            sa.func.coalesce(s.health_ordinal, 0),
            c.stage,
            c.health,
            sa.cast(decided.c.health, sa.Text),
            sa.case(*seen, else_=nothing) if seen else nothing,
            where=sa.cast(decided.c.health, sa.Text) != c.health,
        )

    def verdict(self, row: Row, cause: DecisionCause, now: datetime) -> Verdict:
        _, last, stage, before, after, seen = row
        decider = self._of_stage.get(stage, self._otherwise)
        changed = HealthChanged(
            DefinitionId(decider.id),
            last + 1,
            decider.version,
            cause,
            seen,
            before=Health(before),
            after=Health(after),
        )
        return Verdict([changed])


def _is_for(profile: HealthProfile) -> sa.ColumnElement[bool]:
    stage = contacts.c.stage
    return sa.or_(*(stage.is_(None) if name is None else stage == name for name in profile.stages))
