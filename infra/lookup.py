"""From an outside name to its subject, by a keyed hash that says nothing of the name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import psycopg
from psycopg_pool import ConnectionPool

from domain.identity import Identity, Known, Merge, SubjectId
from infra.keys import keyed_digest

SELECT_SUBJECTS = """
SELECT lookup, subject FROM keys.identities WHERE log_partition = ANY(%b) AND lookup = ANY(%b)"""

CLAIM = """
INSERT INTO keys.identities (log_partition, lookup, subject)
SELECT p, l, s FROM unnest(%b::smallint[], %b::bytea[], %b::uuid[]) AS v(p, l, s)
ON CONFLICT DO NOTHING"""

REPOINT = """
UPDATE keys.identities SET subject = %b WHERE log_partition = ANY(%b) AND subject = %b"""

SELECT_SUPPRESSED = """
SELECT lookup FROM keys.suppressed
WHERE log_partition = ANY(%b) AND lookup = ANY(%b) AND lifted_at IS NULL"""

ALL_PARTITIONS = list(range(256))


class Lookup:
    """The identities of all subjects, hashed under a secret of the deployment."""

    def __init__(self, pool: ConnectionPool, secret: bytes) -> None:
        self._pool = pool
        self._secret = secret

    def __repr__(self) -> str:
        return "Lookup()"

    def digest(self, identity: Identity) -> bytes:
        return keyed_digest(self._secret, f"{identity.scheme.value}\0{identity.matching}")

    def find(self, identities: Sequence[Identity]) -> Known:
        """The subjects of those identities that are known, in one query."""
        digests = {self.digest(one): (one.scheme, one.matching) for one in identities}
        if not digests:
            return {}
        partitions = sorted({digest[0] for digest in digests})
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_SUBJECTS, (partitions, list(digests)), binary=True)
            return {digests[digest]: SubjectId(subject) for digest, subject in rows}

    def suppressed(self, identities: Iterable[Identity]) -> set[Identity]:
        """Those of the identities that were erased for good: they are not to be taken in again."""
        digests: dict[bytes, list[Identity]] = {}
        for one in identities:
            digests.setdefault(self.digest(one), []).append(one)
        if not digests:
            return set()
        partitions = sorted({digest[0] for digest in digests})
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_SUPPRESSED, (partitions, list(digests)), binary=True)
            return {one for (digest,) in rows for one in digests[digest]}

    def claim(self, claims: Mapping[Identity, SubjectId]) -> bool:
        """Ties identities to subjects: all of them, or none where another writer was first.

        Returns:
            Whether they are now tied as asked. If not, the caller looks again.
        """
        wanted = sorted((self.digest(one), subject) for one, subject in claims.items())
        if not wanted:
            return True
        with self._pool.connection() as conn, conn.transaction() as claiming:
            done = conn.execute(
                CLAIM,
                (
                    [digest[0] for digest, _ in wanted],
                    [digest for digest, _ in wanted],
                    [subject for _, subject in wanted],
                ),
            )
            if done.rowcount == len(wanted):
                return True
            raise psycopg.Rollback(claiming)
        return False

    def repoint(self, merges: Sequence[Merge]) -> None:
        """Ties the identities of merged subjects to their survivors."""
        with self._pool.connection() as conn:
            conn.cursor().executemany(
                REPOINT, [(one.survivor, ALL_PARTITIONS, one.loser) for one in merges]
            )
