"""Rule: who enters and leaves a segment."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from domain.calendar import Moment
from domain.conditions.language import Condition
from domain.definitions.types import DefinitionId
from domain.events.decisions import DecisionCause, SegmentEntered, SegmentLeft
from domain.identity import SubjectKind
from domain.workspace.dependencies import SEGMENT, Dependency, Fact
from projections.conditions.compiler import QueryScope
from projections.deciding.rules.rule import Row, Rule, Verdict, holds, of_contact, saw, select
from projections.kernel.tables import (
    contacts,
    merges,
    segment_leavers,
    segment_lists,
    segment_members,
)


class SegmentRule(Rule):
    """
    Args:
    condition: None: a static segment, whose list decides.
    is_deleted: a deleted segment has no members.
    """

    def __init__(
        self,
        id: DefinitionId,
        version: int,
        kind: SubjectKind,
        rests_on: set[Dependency],
        *,
        condition: Condition | None,
        is_deleted: bool,
        asks_the_calendar: bool,
    ) -> None:
        decides = Fact(kind.value, SEGMENT, (str(id),))
        super().__init__(str(id), kind, decides, rests_on, asks_the_calendar=asks_the_calendar)
        self._id = id
        self._version = version
        self._condition = condition
        self._is_deleted = is_deleted

    def differing(self, moment: Moment, scope: QueryScope) -> sa.Select[Any]:
        member, leaver = segment_members.c, segment_leavers.c
        belongs = self._belongs(moment, scope)
        return select(
            self.kind,
            scope,
            lambda source: source.outerjoin(
                segment_members, of_contact(segment_members, member.segment == self._id)
            ).outerjoin(segment_leavers, of_contact(segment_leavers, leaver.segment == self._id)),
            sa.func.coalesce(member.ordinal, leaver.ordinal, 0),
            saw({"/condition": None if self._is_deleted else self._condition}, self.kind, moment),
            where=belongs != member.subject.is_not(None),
        )

    def _belongs(self, moment: Moment, scope: QueryScope) -> sa.ColumnElement[bool]:
        if self._is_deleted:
            return sa.false()
        if self._condition is None:
            return listed(self._id)
        return holds(self._condition, self.kind, moment, scope)

    def verdict(self, row: Row, cause: DecisionCause, now: datetime) -> Verdict:
        _, last, seen = row
        transition = SegmentLeft if last % 2 else SegmentEntered
        return Verdict([transition(self._id, last + 1, self._version, cause, seen)])


def listed(segment: UUID) -> sa.ColumnElement[bool]:
    """Whether the list of a static segment names a contact or a subject that was merged into it."""
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
