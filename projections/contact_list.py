"""Query: the list of users or accounts, searched, sorted and paged."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from domain.errors import InvalidInput
from domain.identity import SubjectKind
from projections.paging import Page, decoded, encoded
from projections.tables import contacts

SORTABLE_TEXTS = ("name", "email", "domain", "external_id")
SORTABLE_INSTANTS = ("last_seen", "first_seen", "registered_at")
MAX_SEARCH_CHARS = 200


class ContactItem(msgspec.Struct, frozen=True):
    """A line of the list. `email` is a user's, `domain` an account's."""

    id: UUID
    external_id: str | None
    name: str | None
    email: str | None
    domain: str | None
    registered_at: datetime | None
    first_seen: datetime | None
    last_seen: datetime | None
    properties: dict[str, Any]


def list_contacts(
    conn: sa.Connection,
    kind: SubjectKind,
    *,
    search: str | None,
    sort: str,
    cursor: str | None,
    limit: int,
) -> Page[ContactItem]:
    """A page of users or accounts.

    Args:
        search: part of a name, e-mail, domain or external id, in any case.
        sort: a column, with a minus before it for descending. What has no value counts as least.

    Raises:
        InvalidInput: no such column, an unknown cursor, or a search that cannot be.
    """
    name = sort.removeprefix("-")
    descending = sort.startswith("-")
    least: sa.ColumnElement[Any]
    key_type: type
    if name in SORTABLE_INSTANTS:
        least, key_type = sa.literal_column("'-infinity'::timestamptz"), datetime
    elif name in SORTABLE_TEXTS:
        least, key_type = sa.literal_column("''"), str
    else:
        known = ", ".join((*SORTABLE_TEXTS, *SORTABLE_INSTANTS))
        raise InvalidInput(f"cannot sort by {name!r}; the columns are {known}", place="/sort")
    c = contacts.c
    key = sa.func.coalesce(c[name], least)
    chosen = [c.kind == kind.value]
    if search:
        chosen.append(_matches(search))
    total = conn.scalar(sa.select(sa.func.count()).select_from(contacts).where(*chosen)) or 0
    place: list[sa.ColumnElement[bool]] = []
    order = f"{kind}:{sort}"
    if cursor is not None:
        value, subject = decoded(order, cursor, key_type | None, UUID)
        last = sa.tuple_(least if value is None else sa.literal(value), sa.literal(subject))
        here = sa.tuple_(key, c.subject)
        place.append(here < last if descending else here > last)
    direction = sa.desc if descending else sa.asc
    rows = conn.execute(
        sa.select(
            c.subject,
            c.external_id,
            c.name,
            c.email,
            c.domain,
            c.registered_at,
            c.first_seen,
            c.last_seen,
            c.properties,
            c[name].label("sort_key"),
        )
        .where(*chosen, *place)
        .order_by(direction(key), direction(c.subject))
        .limit(limit + 1)
    ).all()
    items = [ContactItem(*row[:-1]) for row in rows[:limit]]
    more = len(rows) > limit
    following = encoded(order, rows[limit - 1].sort_key, rows[limit - 1].subject) if more else None
    return Page(items, following, total)


def _matches(search: str) -> sa.ColumnElement[bool]:
    if len(search) > MAX_SEARCH_CHARS or not search.isprintable():
        raise InvalidInput(
            f"a search is at most {MAX_SEARCH_CHARS} printable characters", place="/search"
        )
    text = search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    haystack = sa.literal_column(
        "(coalesce(name, '') || ' ' || coalesce(email, '') || ' ' || coalesce(domain, '')"
        " || ' ' || coalesce(external_id, ''))",
        sa.Text,
    )
    return haystack.ilike(f"%{text}%")
