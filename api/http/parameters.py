"""Parameters that many routes take: pages, positions, and whom an id in a path means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated
from urllib.parse import unquote
from uuid import UUID

import sqlalchemy as sa
from litestar.datastructures import State
from litestar.params import PathParameter, QueryParameter

from api.http.as_of import reading
from api.openapi.bounds import SUBJECT_CHARS, Positions
from domain.errors import InvalidInput, NotFound
from domain.identity import Identity, Scheme, SubjectId, SubjectKind, identity
from infra.bootstrap import Annals
from projections.kernel.paging import MAX_LIMIT
from projections.queries import contact_view

Limit = Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT, description="rows a page")]


Cursor = Annotated[str | None, QueryParameter(description="`next` of the page before")]


WaitFor = Annotated[
    Positions | None,
    QueryParameter(
        name="wait_for", description="`position` of an answer: waits until it can be seen here"
    ),
]


ContactId = Annotated[
    str,
    PathParameter(
        description="our id, or `external:...`, `email:...`, `domain:...`, with what a path"
        " cannot hold escaped",
        schema_extra={"min_length": 1, "max_length": SUBJECT_CHARS},
    ),
]


_SCHEMES = {
    SubjectKind.USER: {"external": Scheme.USER_ID, "email": Scheme.EMAIL},
    SubjectKind.ACCOUNT: {"external": Scheme.ACCOUNT_ID, "domain": Scheme.DOMAIN},
}


def unescaped(text: str) -> str:
    """An id as it stands in a path (`api.app` leaves the path's escapes to whoever reads it).

    Raises:
        InvalidInput: what is escaped is not UTF-8.
    """
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InvalidInput("the id in the path is not UTF-8", pointer="/id") from None


def named(kind: SubjectKind, text: str) -> SubjectId | Identity:
    """What an id in a path means: our own id, or an outside name.

    Raises:
        InvalidInput: neither.
    """
    prefix, colon, value = text.partition(":")
    schemes = _SCHEMES[kind]
    if colon and prefix in schemes:
        return identity(schemes[prefix], value, pointer="/id")
    try:
        return SubjectId(UUID(text))
    except ValueError:
        forms = ", ".join(f"{scheme}:..." for scheme in schemes)
        raise InvalidInput(f"{kind} ids are our own (a UUID), or {forms}", pointer="/id") from None


def subject_of(annals: Annals, kind: SubjectKind, text: str) -> SubjectId:
    """The subject that an id in a path means.

    Raises:
        InvalidInput: not an id. NotFound: nobody has this outside name.
    """
    name = named(kind, text)
    if not isinstance(name, Identity):
        return name
    subject = annals.subject_lookup.find(name)
    if subject is None:
        raise NotFound(f"there is no such {kind}")
    return subject


@contextmanager
def asked(
    state: State, kind: SubjectKind, id: str, waiting: str | None, as_of: str | None = None
) -> Iterator[tuple[Annals, sa.Connection, SubjectId]]:
    """Waits for what is to be seen, or goes back to a past instant, and finds the subject that an
    id in a path stands for there.

    Raises:
        InvalidInput: not an id, or not a position. NotFound: nobody has this outside name.
        Unavailable: it is not to be seen yet. Refusal: see `api.http.as_of.reading`.
    """
    annals = reading(state, waiting, as_of)
    name = unescaped(id)
    subject = subject_of(annals, kind, name)
    with annals.queries.connect() as conn:
        if as_of is not None:
            subject = _then(state.annals, conn, named(kind, name), subject)
        yield annals, conn, contact_view.survivor_of(conn, subject)


def _then(
    present: Annals, then: sa.Connection, name: SubjectId | Identity, subject: SubjectId
) -> SubjectId:
    """Who had an outside name in a past: of those who are one subject today, perhaps another."""
    if not isinstance(name, Identity):
        return subject
    with present.queries.connect() as now:
        streams = contact_view.streams_of(now, contact_view.survivor_of(now, subject))
    return contact_view.known_as(then, name, streams) or subject
