"""From an identity to its subject, by a keyed hash that says nothing of the identity."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence

import psycopg
from psycopg_pool import ConnectionPool

from domain.identity import LOG_PARTITIONS, Identity, Known, Merge, SubjectId, log_partition
from infra.keys.digests import KeyedDigest
from infra.keys.key_ring import KeyRing
from projections.kernel import pg_arrays
from projections.kernel.pg_arrays import Column
from projections.kernel.pipeline import pipeline

# Only an identity that leads to no subject can be suppressed.
SELECT_SUBJECTS = """
SELECT w.lookup, i.subject
FROM unnest(%(partitions)b::smallint[], %(lookups)b::bytea[]) AS w(p, lookup)
LEFT JOIN LATERAL (
    SELECT i.subject FROM keys.identities i
    WHERE i.log_partition = w.p AND i.lookup = w.lookup LIMIT 1) i ON true
WHERE i.subject IS NOT NULL OR EXISTS (
    SELECT FROM keys.suppressed s
    WHERE s.log_partition = w.p AND s.lookup = w.lookup AND s.lifted_at IS NULL)"""

# A crash may lose a claim, but never one that has events: these come later in the server's
# write-ahead log, and an entry is durable only with all entries before it.
CLAIM_LIGHTLY = "SET LOCAL synchronous_commit = off"

INSERT_CLAIMS = """
INSERT INTO keys.identities (log_partition, lookup, subject)
SELECT p, l, s
FROM unnest(%(partitions)b::smallint[], %(lookups)b::bytea[], %(subjects)b::uuid[]) AS v(p, l, s)
ON CONFLICT DO NOTHING"""

REPOINT_IDENTITIES = """
UPDATE keys.identities SET subject = %(survivor)b
WHERE log_partition = ANY(%(partitions)b) AND subject = %(loser)b"""

SELECT_DESTROYED = """
SELECT DISTINCT k.subject FROM keys.subject_keys k
JOIN unnest(%(partitions)b::smallint[], %(subjects)b::uuid[]) AS w(p, s)
  ON k.log_partition = w.p AND k.subject = w.s
WHERE k.state = 'destroyed'"""

RELEASE_IDENTITIES = """
DELETE FROM keys.identities i
USING unnest(%(partitions)b::smallint[], %(lookups)b::bytea[], %(subjects)b::uuid[]) AS w(p, l, s)
WHERE i.log_partition = w.p AND i.lookup = w.l AND i.subject = w.s
  AND i.log_partition = ANY(%(partitions)b)"""

DELETE_IDENTITIES = """
DELETE FROM keys.identities
WHERE log_partition = ANY(%(partitions)b) AND subject = ANY(%(subjects)b)"""

INSERT_SUPPRESSED = """
INSERT INTO keys.suppressed AS s (log_partition, lookup, request)
SELECT log_partition, lookup, %(request)b FROM keys.identities
WHERE log_partition = ANY(%(partitions)b) AND subject = ANY(%(subjects)b)
ORDER BY log_partition, lookup
ON CONFLICT (log_partition, lookup) DO UPDATE
SET request = excluded.request, suppressed_at = now(), lifted_at = NULL, lifted_by = NULL"""

ALL_PARTITIONS = pg_arrays.smallints(range(LOG_PARTITIONS))


class IdentityIndex:
    """The identities of all subjects, hashed under a secret of the deployment. Safe for use from
    many threads."""

    def __init__(self, pool: ConnectionPool, secret: bytes, keys: KeyRing) -> None:
        self._pool = pool
        self._digest = KeyedDigest(secret)
        self._keys = keys

    def __repr__(self) -> str:
        return "IdentityIndex()"

    def digest(self, identity: Identity) -> bytes:
        """The keyed hash that an identity is stored as; its first byte is the partition of the
        row."""
        return self._digest(f"{identity.scheme}\0{identity.matching}")

    def former_digest(self, identity: Identity) -> bytes:
        """As `digest`, by how identities matched until 0.1.0."""
        return self._digest(f"{identity.scheme}\0{identity.former_matching}")

    def find(self, identities: Iterable[Identity]) -> Known:
        """The subjects of those identities that are known, in one query."""
        return self.find_and_suppressed(identities)[0]

    def find_and_suppressed(self, identities: Iterable[Identity]) -> tuple[Known, set[Identity]]:
        """As `find`; and those identities that an erasure suppressed, which may not come back. Of
        one that was erased before identities matched as they do now, only the former hash is left.
        """
        digests: dict[bytes, list[Identity]] = {}
        former: dict[bytes, list[Identity]] = {}
        for identity in identities:
            digests.setdefault(self.digest(identity), []).append(identity)
            if not identity.value.isascii() and identity.former_matching != identity.matching:
                former.setdefault(self.former_digest(identity), []).append(identity)
        known: Known = {}
        suppressed: set[Identity] = set()
        if not digests:
            return known, suppressed
        partitions, lookups = _placed(list(digests | former))
        params = {"partitions": partitions, "lookups": lookups}
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_SUBJECTS, params, binary=True).fetchall()
        for digest, subject in rows:
            alike = digests.get(digest, [])
            if subject is None:
                suppressed.update(alike, former.get(digest, ()))
            elif alike:
                known[alike[0].scheme, alike[0].matching] = SubjectId(subject)
        return known, suppressed

    def claim(self, claims: Mapping[Identity, SubjectId], new: Collection[SubjectId] = ()) -> bool:
        """Ties identities to subjects: all of them, or none if another writer was first.

        Args:
            new: the subjects that are new; their keys are made in the same transaction.

        Returns:
            Whether all are tied. If not, the caller looks them up again.
        """
        wanted = sorted((self.digest(identity), subject) for identity, subject in claims.items())
        if not wanted:
            return True
        partitions, lookups = _placed([digest for digest, _ in wanted])
        params = {
            "partitions": partitions,
            "lookups": lookups,
            "subjects": pg_arrays.uuids([subject for _, subject in wanted]),
        }
        with self._pool.connection() as conn:
            try:
                with pipeline(conn):
                    conn.execute("BEGIN")
                    conn.execute(CLAIM_LIGHTLY)
                    claimed = conn.execute(INSERT_CLAIMS, params)
                    if new:
                        made = self._keys.make_within(conn, [subject.int for subject in new])
                is_done = claimed.rowcount == len(wanted)
                conn.execute("COMMIT" if is_done else "ROLLBACK")
            except BaseException:
                conn.rollback()
                raise
        if is_done and new:
            made()
        return is_done

    def repoint(self, merges: Sequence[Merge]) -> None:
        """Ties the identities of merged subjects to their survivors."""
        rows = [
            {"survivor": merge.survivor, "partitions": ALL_PARTITIONS, "loser": merge.loser}
            for merge in merges
        ]
        with self._pool.connection() as conn:
            conn.cursor().executemany(REPOINT_IDENTITIES, rows)

    def release(self, released: Iterable[tuple[Identity, SubjectId]]) -> None:
        """Unties identities from subjects that gave them up: they are free for others."""
        rows = sorted({(self.digest(identity), subject) for identity, subject in released})
        partitions, lookups = _placed([digest for digest, _ in rows])
        params = {
            "partitions": partitions,
            "lookups": lookups,
            "subjects": pg_arrays.uuids([subject for _, subject in rows]),
        }
        with self._pool.connection() as conn:
            conn.execute(RELEASE_IDENTITIES, params)

    def free_erased(self, subjects: Iterable[SubjectId]) -> None:
        """Deletes the identities of the subjects whose key is destroyed."""
        ids = list(subjects)
        params = {"partitions": [log_partition(id) for id in ids], "subjects": ids}
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_DESTROYED, params, binary=True).fetchall()
            if rows:
                delete_identities(conn, [SubjectId(subject) for (subject,) in rows])


def delete_identities(conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
    """Deletes the identities of subjects, in the caller's transaction."""
    params = {"partitions": ALL_PARTITIONS, "subjects": list(subjects)}
    conn.execute(DELETE_IDENTITIES, params)


def suppress_identities(
    conn: psycopg.Connection, subjects: Sequence[SubjectId], request: uuid.UUID
) -> None:
    """Suppresses the identities of subjects for an erasure request, in the caller's transaction;
    before they are deleted."""
    params = {"partitions": ALL_PARTITIONS, "subjects": list(subjects), "request": request}
    conn.execute(INSERT_SUPPRESSED, params)


def _placed(digests: Sequence[bytes]) -> tuple[Column, Column]:
    return pg_arrays.smallints([digest[0] for digest in digests]), pg_arrays.byteas(digests)
