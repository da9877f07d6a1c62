"""Rule: the scores of users or accounts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from domain.calendar import Moment
from domain.conditions.language import Condition
from domain.definitions import scores as worth
from domain.definitions.types import DefinitionId, ScoreRule
from domain.events.decisions import DecisionCause, ScoreChanged
from domain.identity import SubjectKind
from domain.workspace.dependencies import SCORE, Dependency, Fact
from projections.conditions.compiler import QueryScope
from projections.deciding.rules.rule import (
    Row,
    Rule,
    Verdict,
    computed_once,
    holds,
    of_contact,
    saw,
    select,
)
from projections.kernel.tables import contacts, scores


class ScoringRule(Rule):
    """A score, and which of its rules hold.

    Args:
        rules: empty where the score is archived: then no subject has one.
    """

    def __init__(
        self,
        id: DefinitionId,
        version: int,
        kind: SubjectKind,
        rules: Sequence[ScoreRule],
        rests_on: set[Dependency],
        *,
        asks_the_calendar: bool,
    ) -> None:
        decides = Fact(kind.value, SCORE, (str(id),))
        super().__init__(str(id), kind, decides, rests_on, asks_the_calendar=asks_the_calendar)
        self._id = id
        self._version = version
        self._rules = rules

    def differing(self, moment: Moment, scope: QueryScope) -> sa.Select[Any]:
        s = scores.c
        # An archived score has no rules, and a subquery needs a column.
        conditions: list[Condition | None] = [rule.condition for rule in self._rules]
        looked = computed_once(
            "looked",
            *(
                holds(condition, self.kind, moment, scope).label(f"rule_{n}")
                for n, condition in enumerate(conditions or [None])
            ),
            of=(contacts,),
        )
        holding_rules = [looked.c[f"rule_{n}"] for n in range(len(self._rules))]
        places = {f"/rules/{n}/condition": rule.condition for n, rule in enumerate(self._rules)}
        return select(
            self.kind,
            scope,
            lambda source: source.outerjoin(scores, of_contact(scores, s.score == self._id)).join(
                looked, sa.true()
            ),
            sa.func.coalesce(s.ordinal, 0),
            s.value,
            sa.cast(
                postgresql.array(holding_rules, type_=sa.Boolean()), postgresql.ARRAY(sa.Boolean)
            ),
            saw(places, self.kind, moment),
            where=sa.or_(
                s.value.is_distinct_from(self._value(holding_rules)),
                s.held.is_distinct_from(self._names(holding_rules)),
            )
            if self._rules
            else s.value.is_not(None),
        )

    def _value(self, holding_rules: Sequence[sa.ColumnElement[bool]]) -> sa.ColumnElement[Any]:
        """Computes as `domain.definitions.scores.value` does."""
        total = sum(rule.weight for rule in self._rules)
        holding: sa.ColumnElement[Any] = sa.literal_column("0", sa.BigInteger)
        for is_holding, rule in zip(holding_rules, self._rules, strict=True):
            weight = sa.literal(rule.weight, sa.BigInteger)
            holding = holding + sa.case((is_holding, weight), else_=sa.literal_column("0"))
        of_all = sa.cast(sa.literal(total, sa.BigInteger), sa.Numeric)
        hundredths = sa.func.floor((2 * worth.HUNDREDTHS * holding + of_all) / (2 * of_all))
        return sa.func.least(sa.func.greatest(hundredths, 0), worth.HUNDREDTHS) / 100

    def _names(self, holding_rules: Sequence[sa.ColumnElement[bool]]) -> sa.ColumnElement[Any]:
        names: Sequence[sa.ColumnElement[Any]] = [
            sa.case((is_holding, sa.literal(rule.name, sa.Text)))
            for is_holding, rule in zip(holding_rules, self._rules, strict=True)
        ]
        all_names: sa.ColumnElement[Any] = postgresql.array(names, type_=sa.Text())
        return sa.func.array_remove(sa.cast(all_names, postgresql.ARRAY(sa.Text)), sa.null())

    def verdict(self, row: Row, cause: DecisionCause, now: datetime) -> Verdict:
        _, last, before, holding, seen = row
        held = [rule.name for rule, holds in zip(self._rules, holding, strict=True) if holds]
        changed = ScoreChanged(
            self._id,
            last + 1,
            self._version,
            cause,
            seen,
            before=_number(before),
            after=_number(worth.value(self._rules, held)) if self._rules else None,
            held=held,
            missed=[rule.name for rule in self._rules if rule.name not in held],
        )
        return Verdict([changed])


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
