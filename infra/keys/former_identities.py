"""Moves the entries of the identity index to how identities match now: in NFC, and ß apart from ss.
Runs once, where a start has migrated an older database.

Before, e-mails and domains matched by their case-folded text, and ids as they were typed. An entry
says nothing of its identity, so that the read models, which hold identities in clear, say which
subject has which. A subject keeps a former entry only if it has an identity that matches so now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from domain.identity import Identity, Scheme, SubjectId

ROWS_AT_A_TIME = 1_000

# All others are in ASCII, which matches as it did.
SELECT_BEYOND_ASCII = """
SELECT subject, identities FROM views.contacts
WHERE octet_length(identities::text) <> char_length(identities::text)"""

COPY_ENTRY = """
INSERT INTO keys.identities (log_partition, lookup, subject)
SELECT %(new_partition)s, %(new)s, i.subject FROM keys.identities i
WHERE i.log_partition = %(partition)s AND i.lookup = %(former)s AND i.subject = %(subject)s
ON CONFLICT DO NOTHING"""

DELETE_ENTRY = """
DELETE FROM keys.identities
WHERE log_partition = %(partition)s AND lookup = %(former)s AND subject = %(subject)s
RETURNING lookup"""

log = structlog.get_logger()


def move_entries(
    views: ConnectionPool,
    keys: ConnectionPool,
    digest: Callable[[Identity], bytes],
    former_digest: Callable[[Identity], bytes],
) -> int:
    """Returns how many identities were moved. A second run finds nothing to do.

    Args:
        views: of the read models.
        digest: the lookup of an identity.
        former_digest: its lookup until 0.1.0.
    """
    moved = 0
    with (
        views.connection() as reading,
        reading.transaction(),
        keys.connection() as conn,
        conn.transaction(),
    ):
        for subject, identities in _beyond_ascii(reading):
            kept = {digest(identity) for identity in identities}
            for identity in identities:
                if identity.former_matching == identity.matching:
                    continue
                new, former = digest(identity), former_digest(identity)
                entry = {
                    "new_partition": new[0],
                    "new": new,
                    "partition": former[0],
                    "former": former,
                    "subject": subject,
                }
                conn.execute(COPY_ENTRY, entry)
                if former not in kept:
                    moved += len(conn.execute(DELETE_ENTRY, entry).fetchall())
    if moved:
        log.info("identities.moved", count=moved)
    return moved


def _beyond_ascii(conn: psycopg.Connection) -> Iterator[tuple[SubjectId, list[Identity]]]:
    with conn.cursor(name="beyond_ascii") as rows:
        rows.itersize = ROWS_AT_A_TIME
        rows.execute(SELECT_BEYOND_ASCII)
        for subject, identities in rows:
            yield SubjectId(subject), list(_identities(identities))


def _identities(entries: Iterable[dict[str, str]]) -> Iterator[Identity]:
    for entry in entries:
        yield Identity(Scheme(entry["scheme"]), entry["value"])
