"""Which users or accounts are meant: by segment, by filter, by search. Lists, bars and exports of
the same selection are of the same contacts, for all of them ask here."""

from __future__ import annotations

from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.calendar import Moment
from domain.conditions.language import Condition, InSegment
from domain.definitions.types import DefinitionKind
from domain.errors import InvalidInput
from domain.identity import SubjectKind
from domain.workspace.references import references
from projections.conditions.compiler import predicate
from projections.conditions.fragments import Predicate
from projections.kernel.tables import bar_counts, contacts, segment_counts, segment_members

MAX_SEARCH_CHARS = 200

TYPO_CHARS = 5
"""A shorter search is taken to the letter: too little of it is left if one is wrong."""

FEW = 4
"""A segment of less than a fourth of all is small."""

LIKENESS = sa.text("SET LOCAL pg_trgm.word_similarity_threshold = 0.5")
"""How much of a search must be found again for it to be a misspelling: half of its trigrams."""

_HAYSTACK = sa.literal_column(
    "(coalesce(name, '') || ' ' || coalesce(email, '') || ' ' || coalesce(domain, '')"
    " || ' ' || coalesce(external_id, ''))",
    sa.Text,
)


class Selection(msgspec.Struct, frozen=True):
    """
    Attributes:
        segment: only its members; of the same kind.
        filter: only those of whom this holds.
        search: only those whose name, e-mail, domain or external id holds this text in any case,
            or, of a longer text, something that is spelt much like it.
    """

    kind: SubjectKind
    segment: UUID | None = None
    filter: Condition | None = None
    search: str | None = None

    @property
    def segments(self) -> list[UUID]:
        """Those that are asked for, in the filter too."""
        named = [] if self.filter is None else references(self.filter, self.kind)
        of_filter = [link.to for link in named if link.to.family is DefinitionKind.SEGMENT]
        here = [] if self.segment is None else [self.segment]
        return [*here, *(UUID(pointer.name) for pointer in of_filter)]

    @property
    def is_all(self) -> bool:
        return self.segment is None and self.filter is None and not self.search


def chosen(
    conn: sa.Connection,
    selection: Selection,
    moment: Moment,
    *,
    in_order: sa.ColumnElement[UUID] | None = None,
) -> list[Predicate]:
    """What holds of a row of `views.whole_contacts` that is meant. For use in this transaction
    alone, whose settings it may change.

    Args:
        in_order: the first of them are wanted in an order that ends with this column of their
            subjects, and not something about all.

    Raises:
        InvalidInput: a search that cannot be.
    """
    kind = selection.kind
    predicates: list[Predicate] = [contacts.c.kind == kind.value]
    if selection.segment is not None:
        predicates.append(_member(conn, selection.segment, kind, moment, in_order=in_order))
    if selection.filter is not None:
        predicates.append(predicate(selection.filter, kind, moment))
    if selection.search:
        predicates.append(_matches(conn, selection.search))
    return predicates


def _member(
    conn: sa.Connection,
    segment: UUID,
    kind: SubjectKind,
    moment: Moment,
    *,
    in_order: sa.ColumnElement[UUID] | None,
) -> Predicate:
    """The planner takes it that the partition agrees only for one in 256 of those whose subject
    does, so thinks a segment next to empty if asked by both, and goes from member to contact. That
    is the way for all of few members; else it is asked by subject alone, and goes through contacts.
    """
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


def _matches(conn: sa.Connection, search: str) -> Predicate:
    if len(search) > MAX_SEARCH_CHARS or not search.isprintable():
        raise InvalidInput(
            f"a search is at most {MAX_SEARCH_CHARS} printable characters", pointer="/search"
        )
    text = search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    literally = _HAYSTACK.ilike(f"%{text}%")
    if len(search) < TYPO_CHARS:
        return literally
    conn.execute(LIKENESS)
    return sa.or_(literally, _HAYSTACK.bool_op("%>")(search))
