"""Query: the list of users or accounts: a selection, sorted by any column or by how well it answers
a search, page by page."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from domain.calendar import Moment
from domain.errors import InvalidInput
from domain.properties import PropertyType
from domain.search.question import Search
from projections.conditions.fragments import Predicate
from projections.conditions.known_names import KnownNames
from projections.conditions.search import read
from projections.conditions.selection import Selection, chosen
from projections.kernel.paging import Page, decoded, encoded
from projections.kernel.tables import bar_counts, contacts, in_order_of_seen, segment_counts
from projections.queries.ranking import Place, best, cursor_of, place_of
from projections.queries.segment_list import building

SORTABLE_TEXTS = ("name", "email", "domain", "external_id", "stage", "health", "currency")
SORTABLE_INSTANTS = ("last_seen", "first_seen", "registered_at")
SORTABLE = (*SORTABLE_TEXTS, *SORTABLE_INSTANTS, "mrr")
DEFAULT_SORT = "-last_seen"
PROPERTY = "property:"
MAX_COLUMNS = 100

_LEAST_INSTANT: sa.ColumnElement[datetime] = sa.literal_column("'-infinity'::timestamptz")
_LEAST_NUMBER: sa.ColumnElement[Decimal] = sa.literal_column("'-infinity'::numeric")
_LEAST_TEXT = sa.literal_column("''", sa.Text)
# As the index `contacts_by_name` has it; a bound parameter would not match.
_SORTED_CHARS = sa.literal_column("256", sa.Integer)
"""Characters of a text that are compared; longer texts are sorted by id after them, and cursors
stay short."""


class ContactItem(msgspec.Struct, frozen=True):
    """A line of the list. `email` is a user's, `domain` an account's; `mrr` an exact decimal."""

    id: UUID
    external_id: str | None
    name: str | None
    email: str | None
    domain: str | None
    stage: str | None
    health: str
    mrr: Decimal | None
    currency: str | None
    registered_at: datetime | None
    first_seen: datetime | None
    last_seen: datetime | None
    properties: dict[str, Any]


class Order(msgspec.Struct, frozen=True):
    """The sort keys of a list.

    Attributes:
        value: null sorts as `least`.
        subject: sorts rows of the same value.
        type: of the value in a cursor.
    """

    name: str
    descending: bool
    value: sa.ColumnElement[Any]
    least: sa.ColumnElement[Any]
    type: Any
    subject: sa.ColumnElement[UUID] = contacts.c.subject

    @property
    def key(self) -> sa.ColumnElement[Any]:
        return sa.func.coalesce(self.value, self.least)

    def by(self) -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]:
        direction = sa.desc if self.descending else sa.asc
        return direction(self.key), direction(self.subject)

    def after(self, value: Any, subject: UUID) -> sa.ColumnElement[bool]:
        bound = self.least if value is None else sa.literal(value)
        last = sa.tuple_(bound, sa.literal(subject))
        here = sa.tuple_(self.key, self.subject)
        return here < last if self.descending else here > last


Types = Mapping[str, PropertyType]
"""The properties of a kind, each with its type."""


def _currency(default: str | None) -> sa.ColumnElement[Any]:
    """The currency of an MRR, or a default."""
    c = contacts.c
    if default is None:
        return c.currency
    return sa.func.coalesce(c.currency, sa.case((c.mrr.is_not(None), default)))


def order(sort: str, types: Types, zone: tzinfo, currency: str | None = None) -> Order:
    """Parses `sort`: a column or `property:<name>`, with a minus before it for descending.

    Args:
        zone: in which a day begins; among instants it stands there.
        currency: of an MRR without one.

    Raises:
        InvalidInput: an unknown column or property.
    """
    name, descending = sort.removeprefix("-"), sort.startswith("-")
    c = contacts.c
    if name == "last_seen":
        return Order(name, descending, c[name], _LEAST_INSTANT, datetime, c.seen_subject)
    if name in SORTABLE_INSTANTS:
        return Order(name, descending, c[name], _LEAST_INSTANT, datetime)
    if name == "currency":
        return Order(name, descending, _currency(currency), _LEAST_TEXT, str)
    if name in SORTABLE_TEXTS:
        return Order(name, descending, _start(c[name]), _LEAST_TEXT, str)
    if name == "mrr":
        return Order(name, descending, c.mrr, _LEAST_NUMBER, Decimal)
    of = name.removeprefix(PROPERTY)
    if not name.startswith(PROPERTY) or of not in types:
        known = ", ".join((*SORTABLE, f"{PROPERTY}<name of a property>"))
        raise InvalidInput(
            f"cannot sort by {name[:128]!r}; the columns are {known}", pointer="/sort"
        )
    value: sa.ColumnElement[Any]
    match types[of]:
        case PropertyType.NUMBER:
            value = sa.func.views.number_of(c.properties, of)
            return Order(name, descending, value, _LEAST_NUMBER, Decimal)
        case PropertyType.DATE:
            value = sa.func.views.date_in_order(c.properties, of, str(zone))
        case PropertyType.STRING:
            value = sa.func.views.text_of(c.properties, of)
        case PropertyType.BOOLEAN | PropertyType.LIST:
            value = c.properties[of].astext
    least = sa.collate(_LEAST_TEXT, "C")
    return Order(name, descending, sa.collate(_start(value), "C"), least, str)


def _start(text: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    return sa.func.left(text, _SORTED_CHARS)


def checked_columns(columns: Sequence[str] | None, types: Types) -> list[str] | None:
    """The properties to return; None: all.

    Raises:
        InvalidInput: an unknown property, or too many.
    """
    if columns is None:
        return None
    if len(columns) > MAX_COLUMNS:
        raise InvalidInput(f"at most {MAX_COLUMNS} columns", pointer="/columns")
    for n, name in enumerate(columns):
        if name not in types:
            raise InvalidInput(f"there is no property {name[:128]!r}", pointer=f"/columns/{n}")
    return list(dict.fromkeys(columns))


class Lists:
    """The list of one kind for a selection: pages, total, all rows.

    Raises:
        InvalidInput: an unknown column or property.
    """

    def __init__(
        self,
        selection: Selection,
        moment: Moment,
        types: Types,
        *,
        sort: str,
        columns: Sequence[str] | None = None,
        currency: str | None = None,
    ) -> None:
        self.types = types
        self.order = order(sort, types, moment.zone, currency)
        self._currency = _currency(currency).label("currency")
        self.columns = checked_columns(columns, types)
        self._selection = selection
        self._moment = moment
        self._list_name = f"{selection.kind}:{sort}"

    def check(self, conn: sa.Connection) -> None:
        """Raises: InvalidInput: a search without content."""
        chosen(conn, self._selection, self._moment)

    def kept_total(self, conn: sa.Connection) -> int | None:
        """Returns the stored total of all contacts, or of a segment; None: a count is needed."""
        selection = self._selection
        if selection.is_all:
            statement = sa.select(sa.func.coalesce(sa.func.sum(bar_counts.c["count"]), 0)).where(
                bar_counts.c.kind == selection.kind.value
            )
        elif selection.filter is None and not selection.is_search:
            statement = sa.select(sa.func.coalesce(sa.func.sum(segment_counts.c.members), 0)).where(
                segment_counts.c.segment == selection.segment
            )
        else:
            return None
        return int(conn.scalar(statement) or 0)

    def total(self, conn: sa.Connection) -> int:
        """The total."""
        total = self.kept_total(conn)
        if total is not None:
            return total
        counted = (
            sa.select(sa.func.count())
            .select_from(contacts)
            .where(*chosen(conn, self._selection, self._moment))
        )
        return int(conn.scalar(counted) or 0)

    def page(
        self, conn: sa.Connection, *, cursor: str | None, limit: int
    ) -> tuple[list[ContactItem], str | None]:
        """The rows after a cursor, and the cursor of the next page.

        Raises:
            InvalidInput: an unknown cursor.
        """
        place: list[Predicate] = []
        if cursor is not None:
            value, subject = decoded(self._list_name, cursor, self.order.type | None, UUID)
            place.append(self.order.after(value, subject))
        rows = conn.execute(self._first(self._rows(conn).where(*place), limit + 1)).all()
        items = [self._item(row) for row in rows[:limit]]
        following = None
        if len(rows) > limit:
            last = rows[limit - 1]
            following = encoded(self._list_name, last.sort_key, last.subject)
        return items, following

    def ranked_page(
        self, conn: sa.Connection, search: Search, *, cursor: str | None, limit: int
    ) -> tuple[list[ContactItem], str | None, int | None]:
        """A page of what a search finds, the best first; of a selection without the search, and in
        the order `DEFAULT_SORT`.

        Returns:
            the rows, the cursor of the next page, and the number of all, where it is known.

        Raises:
            InvalidInput: an unknown cursor.
        """
        kind, name = self._selection.kind, f"{self._selection.kind}:search"
        after = None if cursor is None else place_of(name, cursor)
        others = [] if self._selection.is_all else chosen(conn, self._selection, self._moment)
        places, is_all = best(conn, search, kind, others, after, limit + 1)
        items = [self._item(row) for row in self._placed(conn, places[:limit])]
        following = cursor_of(name, places[limit - 1]) if len(places) > limit else None
        return items, following, len(places) if is_all else None

    def _placed(self, conn: sa.Connection, places: Sequence[Place]) -> list[sa.Row[Any]]:
        """The rows of contacts, in their order."""
        here = contacts.c.subject == sa.any_(_ids(places))
        rows = {row.subject: row for row in conn.execute(self._columns_of().where(here))}
        return [rows[place.subject] for place in places if place.subject in rows]

    def all_rows(
        self, conn: sa.Connection, *, at_a_time: int
    ) -> Generator[Sequence[ContactItem], None, None]:
        """All rows in order, through a server-side cursor, as of one instant."""
        # A setting of this statement alone: a statement that only sets has no rows for a cursor.
        streamed = {"stream_results": True, "max_row_buffer": at_a_time}
        with conn.execute(self._rows(conn), execution_options=streamed) as rows:
            for some in rows.partitions(at_a_time):
                yield [self._item(row) for row in some]

    def _first(self, rows: sa.Select[Any], many: int) -> sa.Select[Any]:
        """The first of the rows by property. No index has this order: PostgreSQL sorts all rows,
        and without the other columns in half the time."""
        if not self.order.name.startswith(PROPERTY):
            return rows.limit(many)
        c = contacts.c
        first = rows.with_only_columns(c.log_partition, c.subject).limit(many).subquery()
        here = sa.and_(c.log_partition == first.c.log_partition, c.subject == first.c.subject)
        return (
            sa.select(*rows.selected_columns)
            .select_from(sa.join(contacts, first, here))
            .order_by(*self.order.by())
        )

    def _rows(self, conn: sa.Connection) -> sa.Select[Any]:
        meant = chosen(conn, self._selection, self._moment, in_order=self.order.subject)
        if self.order.name == "last_seen":
            meant.append(in_order_of_seen(self._selection.kind))
        return self._columns_of().where(*meant).order_by(*self.order.by())

    def _columns_of(self) -> sa.Select[Any]:
        c = contacts.c
        return sa.select(
            c.subject,
            c.external_id,
            c.name,
            c.email,
            c.domain,
            c.stage,
            c.health,
            c.mrr,
            self._currency,
            c.registered_at,
            c.first_seen,
            c.last_seen,
            c.properties,
            self.order.value.label("sort_key"),
        )

    def _item(self, row: sa.Row[Any]) -> ContactItem:
        *fields, properties, _ = iter(row)
        if self.columns is not None:
            properties = {name: properties[name] for name in self.columns if name in properties}
        fields.append(properties)
        return ContactItem(*fields)


def _ids(places: Sequence[Place]) -> sa.ColumnElement[Any]:
    return sa.literal([place.subject for place in places], ARRAY(sa.Uuid))


class ContactPage(Page[ContactItem], frozen=True):
    """
    Attributes:
        building: the progress, from 0 to 1, of a segment in the question that is being built; the
            page then lacks undecided subjects; null: the page is complete.
    """

    building: float | None = None


def list_contacts(
    conn: sa.Connection,
    selection: Selection,
    moment: Moment,
    *,
    sort: str | None,
    columns: Sequence[str] | None = None,
    cursor: str | None,
    limit: int,
    with_total: bool | None = True,
    currency: str | None = None,
) -> ContactPage:
    """A page of users or accounts.

    Args:
        sort: a column or `property:<name>`, with a minus before it for descending. No value sorts
            as the least. None: what a search finds, the best first; without one, `DEFAULT_SORT`.
        columns: the properties to return; None: all.
        currency: for MRR values without a currency.
        with_total: None: gives the total only if no count is needed.

    Raises:
        InvalidInput: an unknown column or cursor, or an impossible search.
    """
    types = KnownNames(conn).properties(selection.kind)

    def of(selection: Selection) -> Lists:
        by = DEFAULT_SORT if sort is None else sort
        return Lists(selection, moment, types, sort=by, columns=columns, currency=currency)

    lists = of(selection)
    built = building(conn, selection.segments)
    search = read(conn, selection.search or "") if sort is None else None
    total: int | None = None
    if search is None:
        items, following = lists.page(conn, cursor=cursor, limit=limit)
        if cursor is None and following is None:
            total = len(items)
    else:
        rest = of(msgspec.structs.replace(selection, search=None))
        items, following, total = rest.ranked_page(conn, search, cursor=cursor, limit=limit)
    if with_total is False:
        total = None
    elif total is None:
        total = lists.total(conn) if with_total else lists.kept_total(conn)
    return ContactPage(items, following, total, built)
