"""A rule: finds differing subjects in SQL, and gives the verdict on each in Python.

A subject differs if the result of the rule is not its last decision.
`projections.deciding.process_manager` evaluates a rule for a few subjects or for all of some
partitions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from domain.calendar import Moment
from domain.conditions.language import Condition
from domain.events.decisions import DecisionCause, DecisionEvent
from domain.identity import SubjectKind
from domain.workspace.dependencies import Dependency, Fact
from projections.conditions.compiler import QueryScope, predicate
from projections.conditions.evidence import evidence
from projections.kernel.tables import contacts

NOW = sa.bindparam("now", type_=sa.DateTime(timezone=True))
PARTITIONS = sa.bindparam("partitions", type_=ARRAY(sa.SmallInteger))
SUBJECTS = sa.bindparam("subjects", type_=ARRAY(sa.Uuid))

Row = Any
"""A row of a rule's statement; the subject is its first column."""


class Verdict(NamedTuple):
    """The result of a rule for a subject.

    Attributes:
        decisions: in order; may be empty.
        look_again_at: the next time at which the clock alone may change the verdict.
    """

    decisions: list[DecisionEvent]
    look_again_at: datetime | None = None


class Rule(ABC):
    """
    Attributes:
        key: identifies the rule in sweeps and timers.
        decides: the fact that its decisions change. The rule looks again at the subjects of its
            decisions, as their facts may have changed meanwhile.
        rests_on: the facts that affect it, without `decides`.
        asks_the_calendar: whether a new day may change decisions.
    """

    def __init__(
        self,
        key: str,
        kind: SubjectKind,
        decides: Fact,
        rests_on: set[Dependency],
        *,
        asks_the_calendar: bool,
    ) -> None:
        self.key = key
        self.kind = kind
        self.decides = decides
        self.rests_on = rests_on
        self.asks_the_calendar = asks_the_calendar

    @abstractmethod
    def differing(self, moment: Moment, scope: QueryScope) -> sa.Select[Any]:
        """The statement that finds differing subjects. Parameters: `partitions`, in scope FEW
        `subjects`, where needed `now`."""

    @abstractmethod
    def verdict(self, row: Row, cause: DecisionCause, now: datetime) -> Verdict:
        """The verdict on a differing subject."""


def select(
    kind: SubjectKind,
    scope: QueryScope,
    joined: Callable[[sa.FromClause], sa.FromClause],
    *columns: sa.ColumnElement[Any],
    where: sa.ColumnElement[bool],
) -> sa.Select[Any]:
    """A statement about contacts of a kind: all of some partitions, or a few by id."""
    c = contacts.c
    source: sa.FromClause = contacts
    if scope is QueryScope.FEW:
        named = sa.func.unnest(PARTITIONS, SUBJECTS).table_valued(
            sa.column("p", sa.SmallInteger), sa.column("s", sa.Uuid)
        )
        few = named.render_derived(name="asked")
        source = sa.join(few, contacts, sa.and_(c.log_partition == few.c.p, c.subject == few.c.s))
    statement = (
        sa.select(c.subject, *columns)
        .select_from(joined(source))
        .where(c.kind == kind.value, where)
    )
    if scope is QueryScope.ALL:
        statement = statement.where(c.log_partition == sa.any_(PARTITIONS))
    return statement


def of_contact(table: sa.Table, *more: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Whether a row of a table belongs to the contact."""
    c, t = contacts.c, table.c
    return sa.and_(t.log_partition == c.log_partition, t.subject == c.subject, *more)


def computed_once(
    name: str, *columns: sa.ColumnElement[Any], of: tuple[sa.Table, ...]
) -> sa.FromClause:
    """Expressions about a row, computed once however often a statement uses them: PostgreSQL
    does not flatten a subquery with an OFFSET."""
    worked_out = sa.select(*columns).offset(sa.literal_column("0")).correlate(*of)
    return worked_out.lateral(name)


def holds(
    condition: Condition | None, kind: SubjectKind, moment: Moment, scope: QueryScope
) -> sa.ColumnElement[bool]:
    """Whether a condition holds of a contact; None never holds."""
    return sa.false() if condition is None else predicate(condition, kind, moment, scope=scope)


NOTHING_SEEN: sa.ColumnElement[Any] = sa.literal_column("'{}'::jsonb", JSONB)


def saw(
    conditions: Mapping[str, Condition | None], kind: SubjectKind, moment: Moment
) -> sa.ColumnElement[Any]:
    """The evidence of conditions about a contact, by JSON pointer into the definition."""
    present = {place: condition for place, condition in conditions.items() if condition is not None}
    return evidence(present, kind, moment) if present else NOTHING_SEEN


class DecidingVersion(NamedTuple):
    """The version of a definition that decides."""

    id: UUID
    version: int
