"""Read model: what a search looks at of each contact.

It follows from the contacts as they are after a batch: what somebody is called has one definition,
in `views.contacts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar
from uuid import UUID

import psycopg

from domain.events.definitions import PropertyTypeChanged
from domain.events.payloads import (
    Absorbed,
    Identified,
    IdentitiesReleased,
    PropertiesChanged,
    Registered,
)
from domain.identity import SubjectId, SubjectKind, log_partition
from domain.name_rules import property_scope
from domain.search.entry import SearchEntry, entry
from domain.workspace.dependencies import NAME_PROPERTIES
from projections.kernel import pg_arrays
from projections.kernel.batch import Batch
from projections.kernel.merges import ALL_PARTITIONS

NAMING = frozenset({*NAME_PROPERTIES, "email", "domain"})
"""Properties that a name, an e-mail or a domain is made of."""

PIECE = 5_000
"""Contacts of one statement, where all are written anew."""

_COLUMNS = """c.log_partition, c.subject, c.kind, c.name, coalesce(c.email, c.domain),
       c.external_id, ARRAY(SELECT i ->> 'value' FROM jsonb_array_elements(c.identities) i)"""

SELECT_CONTACTS = f"""
SELECT {_COLUMNS}
FROM views.contacts c
JOIN unnest(%b::smallint[], %b::uuid[]) AS w(p, s) ON c.log_partition = w.p AND c.subject = w.s
ORDER BY c.log_partition, c.subject"""  # noqa: S608 - our own columns

SELECT_PIECE = f"""
SELECT {_COLUMNS}
FROM views.contacts c
WHERE c.log_partition = ANY(%(all)s) AND c.kind = %(kind)s
  AND (c.log_partition, c.subject) > (%(partition)s, %(subject)s)
ORDER BY c.log_partition, c.subject LIMIT %(piece)s"""  # noqa: S608 - our own columns

WRITE = """
INSERT INTO views.search_entries AS e
       (log_partition, subject, kind, name, address, external_id, others, keys)
SELECT p, s, k, n, a, x, o, w::integer[]
FROM unnest(%(partitions)b::smallint[], %(subjects)b::uuid[], %(kinds)b::text[],
            %(names)b::text[], %(addresses)b::text[], %(external_ids)b::text[],
            %(others)b::text[], %(keys)b::text[]) AS v(p, s, k, n, a, x, o, w)
ON CONFLICT (log_partition, subject) DO UPDATE
SET name = excluded.name, address = excluded.address, external_id = excluded.external_id,
    others = excluded.others, keys = excluded.keys
WHERE (e.name, e.address, e.external_id, e.others)
   <> (excluded.name, excluded.address, excluded.external_id, excluded.others)"""

DELETE = "DELETE FROM views.search_entries WHERE log_partition = ANY(%s) AND subject = ANY(%s)"


class SearchEntries:
    tables: ClassVar[Sequence[str]] = ("search_entries",)

    def apply(self, conn: psycopg.Connection, batch: Batch) -> None:
        subjects = [
            subject.bytes for _, _, subject, _, event in batch.changes if _names(event.payload)
        ]
        if subjects:
            places = pg_arrays.placed_ids([*dict.fromkeys(subjects)])
            _write(conn, conn.execute(SELECT_CONTACTS, places, binary=True).fetchall())
        for kind in _renamed(batch):
            _write_all(conn, kind)

    def merge(self, conn: psycopg.Connection, loser: SubjectId, survivor: SubjectId) -> None:
        """What the survivor absorbed, an event of its own says."""
        conn.execute(DELETE, ([log_partition(loser)], [loser]))

    def erase(self, conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
        partitions = [log_partition(subject) for subject in subjects]
        conn.execute(DELETE, (partitions, list(subjects)))


def _names(payload: object) -> bool:
    """Whether an event may change what a contact is called."""
    if isinstance(payload, PropertiesChanged):
        return not (NAMING.isdisjoint(payload.values) and NAMING.isdisjoint(payload.deleted))
    return isinstance(payload, Registered | Identified | IdentitiesReleased | Absorbed)


def _renamed(batch: Batch) -> Iterable[SubjectKind]:
    """The kinds of whom a property of the name gets another type, with the fence closed."""
    return {
        kind
        for event in batch.definitions
        if isinstance(event.payload, PropertyTypeChanged) and event.payload.name in NAMING
        for kind in SubjectKind
        if property_scope(kind) is event.payload.scope
    }


def _write_all(conn: psycopg.Connection, kind: SubjectKind) -> None:
    place: tuple[int, UUID] = (-1, UUID(int=0))
    while True:
        params = {
            "all": ALL_PARTITIONS,
            "kind": kind.value,
            "partition": place[0],
            "subject": place[1],
            "piece": PIECE,
        }
        rows = conn.execute(SELECT_PIECE, params).fetchall()
        if rows:
            _write(conn, rows)
            place = rows[-1][:2]
        if len(rows) < PIECE:
            return


Row = tuple[int, UUID, str, str | None, str | None, str | None, list[str]]
"""Partition, subject, kind, name, address, external id, identities."""


def _write(conn: psycopg.Connection, rows: Sequence[Row]) -> None:
    entries: list[SearchEntry] = [entry(*row[3:]) for row in rows]
    conn.execute(
        WRITE,
        {
            "partitions": pg_arrays.smallints([row[0] for row in rows]),
            "subjects": pg_arrays.uuids([row[1] for row in rows]),
            "kinds": pg_arrays.texts([row[2] for row in rows]),
            "names": pg_arrays.texts([each.name for each in entries]),
            "addresses": pg_arrays.texts([each.address for each in entries]),
            "external_ids": pg_arrays.texts([each.external_id for each in entries]),
            "others": pg_arrays.texts([each.others for each in entries]),
            "keys": pg_arrays.texts([f"{{{','.join(map(str, each.keys))}}}" for each in entries]),
        },
    )
