"""Parameters that many routes take: pages, positions, ids of subjects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated
from urllib.parse import unquote
from uuid import UUID

import sqlalchemy as sa
from litestar.params import PathParameter, QueryParameter

from api.http.as_of import Readings
from api.openapi.bounds import SUBJECT_CHARS, Positions
from domain.errors import InvalidInput, NotFound
from domain.identity import Identity, Scheme, SubjectId, SubjectKind, identity
from infra.bootstrap.annals import Annals
from projections.kernel.paging import MAX_LIMIT
from projections.queries import contact_view

Limit = Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT, description="rows a page")]


Cursor = Annotated[str | None, QueryParameter(description="`next` of the previous page")]


WaitFor = Annotated[
    Positions | None,
    QueryParameter(
        name="wait_for",
        description="`position` of an earlier answer: waits until the read models show it",
    ),
]


ContactId = Annotated[
    str,
    PathParameter(
        description="our id, or `external:...`, `email:...`, `domain:...`, percent-encoded",
        schema_extra={"min_length": 1, "max_length": SUBJECT_CHARS},
    ),
]


_SCHEMES = {
    SubjectKind.USER: {"external": Scheme.USER_ID, "email": Scheme.EMAIL},
    SubjectKind.ACCOUNT: {"external": Scheme.ACCOUNT_ID, "domain": Scheme.DOMAIN},
}


def unescaped(text: str) -> str:
    """Decodes an id from a path (`api.app` leaves the escapes of a path in place).

    Raises:
        InvalidInput: the escaped bytes are not UTF-8.
    """
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InvalidInput("the id in the path is not UTF-8", pointer="/id") from None


def named(kind: SubjectKind, text: str) -> SubjectId | Identity:
    """Parses an id: our own, or an identity from outside.

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


def all_named(kind: SubjectKind, texts: Sequence[str], pointer: str) -> list[SubjectId | Identity]:
    """As `named`, of many ids in a body.

    Args:
        pointer: JSON pointer to the list.

    Raises:
        InvalidInput: one of them is no id; says which.
    """
    names = []
    for n, text in enumerate(texts):
        try:
            names.append(named(kind, text))
        except InvalidInput as error:
            raise InvalidInput(error.detail, pointer=f"{pointer}/{n}") from None
    return names


def subject_of(annals: Annals, kind: SubjectKind, text: str) -> SubjectId:
    """Looks up the subject that an id means.

    Raises:
        InvalidInput: not an id. NotFound: no subject has this identity.
    """
    name = named(kind, text)
    if not isinstance(name, Identity):
        return name
    subject = annals.subject_lookup.find(name)
    if subject is None:
        raise NotFound(f"there is no such {kind}")
    return subject


@contextmanager
def reading_of(
    readings: Readings, kind: SubjectKind, id: str, waiting: str | None, as_of: str | None = None
) -> Iterator[tuple[Annals, sa.Connection, SubjectId]]:
    """Reads one subject: finds the read models to answer from, and the subject that an id in a path
    means in them.

    Raises:
        InvalidInput: not an id, or not a position. NotFound: no subject has this identity.
        Refusal: see `api.http.as_of.Readings.at`.
    """
    annals = readings.at(waiting, as_of)
    text = unescaped(id)
    subject = subject_of(annals, kind, text)
    with annals.queries.connect() as conn:
        if as_of is not None:
            subject = _subject_then(readings.present, conn, named(kind, text), subject)
        yield annals, conn, contact_view.survivor_of(conn, subject)


def _subject_then(
    present: Annals, past: sa.Connection, name: SubjectId | Identity, subject: SubjectId
) -> SubjectId:
    """The subject that had an identity in a past: of those that are one subject today, perhaps
    another."""
    if not isinstance(name, Identity):
        return subject
    with present.queries.connect() as conn:
        streams = contact_view.streams_of(conn, contact_view.survivor_of(conn, subject))
    return contact_view.known_as(past, name, streams) or subject
