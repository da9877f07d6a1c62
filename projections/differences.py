"""Queries: where what a segment asks for and who is a member of it differ."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple
from uuid import UUID

import msgspec
import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from domain.conditions import Condition
from domain.definitions import DefinitionId
from domain.dependencies import (
    Dependency,
    Fact,
    asks_the_calendar,
    dependencies,
    of_itself,
    of_list,
)
from domain.identity import SubjectKind, log_partition
from domain.periods import Moment
from projections import arrays
from projections.compiler import Scope, predicate
from projections.tables import (
    contacts,
    merges,
    segment_leavers,
    segment_lists,
    segment_members,
)

SIGNATURE = sa.text("""
SELECT count(*), count(deleted_at), coalesce(sum(version), 0) FROM views.segments""")

SEGMENTS = sa.text("""
SELECT segment, kind, CAST(condition AS text), version, deleted_at IS NOT NULL
FROM views.segments""")

PLAN_ONCE = sa.text("SET LOCAL plan_cache_mode = force_generic_plan")

PREPARED = 500
"""Statements that a connection keeps prepared."""

_decoded = msgspec.json.Decoder(Condition).decode


class Rule(NamedTuple):
    """Who belongs to a segment. No condition: who is on its list; a deleted one has nobody."""

    id: DefinitionId
    kind: SubjectKind
    condition: Condition | None
    version: int
    is_deleted: bool

    @property
    def rests_on(self) -> set[Dependency]:
        if self.is_deleted:
            return {of_itself(self.id, self.kind)}
        if self.condition is None:
            return {of_itself(self.id, self.kind)} | of_list(self.id, self.kind)
        return {of_itself(self.id, self.kind)} | dependencies(self.condition, self.kind)

    @property
    def asks_the_calendar(self) -> bool:
        return (
            not self.is_deleted and self.condition is not None and asks_the_calendar(self.condition)
        )

    def holds(self, moment: Moment, scope: Scope) -> sa.ColumnElement[bool]:
        """What holds of those rows of `contacts` that belong to the segment."""
        if self.is_deleted:
            return sa.false()
        if self.condition is None:
            return listed(self.id)
        return predicate(self.condition, self.kind, moment, scope=scope)


def listed(segment: UUID) -> sa.ColumnElement[bool]:
    """Whether a contact is on the list of a static segment, itself or as one merged into it."""
    c, on, gone = contacts.c, segment_lists.c, merges.c
    itself = (
        sa.select(sa.literal(1))
        .select_from(segment_lists)
        .where(on.segment == segment, on.log_partition == c.log_partition, on.subject == c.subject)
        .correlate(contacts)
        .exists()
    )
    merged = c.subject.in_(
        sa.select(gone.survivor)
        .join_from(
            merges,
            segment_lists,
            sa.and_(on.log_partition == gone.log_partition, on.subject == gone.loser),
        )
        .where(on.segment == segment)
    )
    return sa.or_(itself, merged)


class Rules:
    """The segments that there are, as of one look at them."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.by_id = {rule.id: rule for rule in rules}
        self._resting_on: dict[Fact, list[tuple[Rule, tuple[str, ...]]]] = {}
        for rule in rules:
            for fact, way in rule.rests_on:
                self._resting_on.setdefault(fact, []).append((rule, way))
        self._statements: dict[tuple[UUID, date], tuple[str, dict[str, object]]] = {}

    def resting_on(self, fact: Fact) -> list[tuple[Rule, tuple[str, ...]]]:
        """The segments to look at when a fact changes, each with the way to whom."""
        return self._resting_on.get(fact, [])

    @property
    def asking_the_calendar(self) -> list[DefinitionId]:
        return [rule.id for rule in self.by_id.values() if rule.asks_the_calendar]

    def differing(
        self, conn: sa.Connection, moment: Moment, due: Sequence[tuple[Rule, Sequence[UUID]]]
    ) -> list[tuple[Rule, UUID, int]]:
        """Of each segment those of some subjects that are members and should not be, or the other
        way round, with the ordinal of the last transition: odd for a member.

        All are asked at once, by statements that stay prepared: they are many and small."""
        conn.execute(PLAN_ONCE)
        driver = conn.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        driver.prepared_max = PREPARED
        asked: list[tuple[Rule, psycopg.Cursor]] = []
        with driver.pipeline():
            for rule, subjects in due:
                text, values = self._statement(rule, moment, Scope.FEW, conn.dialect)
                cursor = driver.cursor(binary=True)
                cursor.execute(
                    text.encode(),
                    {
                        **values,
                        "partitions": arrays.smallints([log_partition(one) for one in subjects]),
                        "subjects": arrays.uuids(subjects),
                    },
                    prepare=True,
                )
                asked.append((rule, cursor))
        return [(rule, subject, ordinal) for rule, cursor in asked for subject, ordinal in cursor]

    def differing_in(
        self, conn: sa.Connection, rule: Rule, moment: Moment, partitions: Sequence[int]
    ) -> list[tuple[Rule, UUID, int]]:
        """The same for all subjects of some partitions."""
        statement = _differing(rule, moment, Scope.ALL)
        rows = conn.execute(statement, {"partitions": list(partitions)})
        return [(rule, subject, ordinal) for subject, ordinal in rows]

    def _statement(
        self, rule: Rule, moment: Moment, scope: Scope, dialect: sa.Dialect
    ) -> tuple[str, dict[str, object]]:
        # What a condition means moves with the day, not with the hour.
        key = (rule.id, moment.today)
        if key not in self._statements:
            compiled = _differing(rule, moment, scope).compile(dialect=dialect)
            self._statements[key] = (str(compiled), dict(compiled.params))
        return self._statements[key]


def _differing(rule: Rule, moment: Moment, scope: Scope) -> sa.Select[UUID, int]:
    c, member, leaver = contacts.c, segment_members.c, segment_leavers.c
    partitions = sa.bindparam("partitions", type_=ARRAY(sa.SmallInteger))
    found: sa.FromClause = contacts
    if scope is Scope.FEW:
        given = sa.func.unnest(partitions, sa.bindparam("subjects", type_=ARRAY(sa.Uuid)))
        columns = sa.column("p", sa.SmallInteger), sa.column("s", sa.Uuid)
        asked = given.table_valued(*columns).render_derived(name="asked")
        found = sa.join(
            asked,
            contacts,
            sa.and_(c.log_partition == asked.c.p, c.subject == asked.c.s),
        )
    found = found.outerjoin(
        segment_members,
        sa.and_(
            member.log_partition == c.log_partition,
            member.subject == c.subject,
            member.segment == rule.id,
        ),
    ).outerjoin(
        segment_leavers,
        sa.and_(
            leaver.log_partition == c.log_partition,
            leaver.subject == c.subject,
            leaver.segment == rule.id,
        ),
    )
    statement = (
        sa.select(c.subject, sa.func.coalesce(member.ordinal, leaver.ordinal, 0))
        .select_from(found)
        .where(
            c.kind == rule.kind.value,
            rule.holds(moment, scope) != member.subject.is_not(None),
        )
    )
    if scope is Scope.ALL:
        statement = statement.where(c.log_partition == sa.any_(partitions))
    return statement


def read_rules(conn: sa.Connection) -> Rules:
    """All segments, deleted ones among them: whose members have yet to be let go."""
    return Rules(
        [
            Rule(
                DefinitionId(id),
                SubjectKind(kind),
                None if condition is None else _decoded(condition),
                version,
                is_deleted,
            )
            for id, kind, condition, version, is_deleted in conn.execute(SEGMENTS)
        ]
    )


def signature(conn: sa.Connection) -> tuple[int, ...]:
    """Another one whenever a segment is made, changed or deleted."""
    return tuple(conn.execute(SIGNATURE).one())
