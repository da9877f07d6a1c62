"""Selections of users or accounts: by segment, by filter, by search.

Lists, bars and exports of one selection agree, as all use these predicates.
"""

from __future__ import annotations

from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.calendar import Moment
from domain.conditions.language import Condition, InSegment
from domain.definitions.types import DefinitionKind
from domain.identity import SubjectKind
from domain.search.folding import folded
from domain.workspace.references import references
from projections.conditions.compiler import predicate
from projections.conditions.fragments import Predicate
from projections.conditions.search import found, read
from projections.kernel.tables import bar_counts, contacts, segment_counts, segment_members

FEW = 4
"""A segment with less than this share of all contacts is small."""


class Selection(msgspec.Struct, frozen=True):
    """
    Attributes:
        segment: only its members; it is of the same kind.
        filter: only contacts that fulfil it.
        search: only contacts that it finds (`domain.search.question`); nothing but spaces: all.
    """

    kind: SubjectKind
    segment: UUID | None = None
    filter: Condition | None = None
    search: str | None = None

    @property
    def segments(self) -> list[UUID]:
        """The segments of a selection, with those in its filter."""
        named = [] if self.filter is None else references(self.filter, self.kind)
        of_filter = [link.to for link in named if link.to.family is DefinitionKind.SEGMENT]
        here = [] if self.segment is None else [self.segment]
        return [*here, *(UUID(pointer.name) for pointer in of_filter)]

    @property
    def is_all(self) -> bool:
        return self.segment is None and self.filter is None and not self.is_search

    @property
    def is_search(self) -> bool:
        return bool(self.search and folded(self.search))


def chosen(
    conn: sa.Connection,
    selection: Selection,
    moment: Moment,
    *,
    in_order: sa.ColumnElement[UUID] | None = None,
) -> list[Predicate]:
    """The predicates of a selection about a row of `views.whole_contacts`. May change settings
    of the transaction.

    Args:
        in_order: the order of the query ends with this column of subjects, and it reads the first
            rows alone.

    Raises:
        InvalidInput: a search that is too long.
    """
    kind = selection.kind
    predicates: list[Predicate] = [contacts.c.kind == kind.value]
    if selection.segment is not None:
        predicates.append(_member(conn, selection.segment, kind, moment, in_order=in_order))
    if selection.filter is not None:
        predicates.append(predicate(selection.filter, kind, moment))
    search = read(conn, selection.search or "")
    if search is not None:
        predicates.append(found(search, kind))
    return predicates


def _member(
    conn: sa.Connection,
    segment: UUID,
    kind: SubjectKind,
    moment: Moment,
    *,
    in_order: sa.ColumnElement[UUID] | None,
) -> Predicate:
    """PostgreSQL assumes that the partition agrees for one in 256 of the rows whose subject
    agrees. With both, it takes a segment for almost empty and goes from members to contacts,
    which suits small segments. For large ones the join is by subject alone, and PostgreSQL
    goes through contacts."""
    if in_order is None:
        members = sa.select(sa.func.coalesce(sa.func.sum(segment_counts.c.members), 0)).where(
            segment_counts.c.segment == segment
        )
        everybody = sa.select(sa.func.coalesce(sa.func.sum(bar_counts.c["count"]), 0)).where(
            bar_counts.c.kind == kind.value
        )
        few = members.scalar_subquery() * FEW < everybody.scalar_subquery()
        if conn.scalar(sa.select(few)):
            return predicate(InSegment(segment), kind, moment)
    subject = contacts.c.subject if in_order is None else in_order
    return subject.in_(
        sa.select(segment_members.c.subject).where(segment_members.c.segment == segment)
    )
