"""From an outside name to its subject, by a keyed hash that says nothing of the name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from psycopg_pool import ConnectionPool

from domain.identity import Identity, Known, Merge, SubjectId
from infra.keys.digests import KeyedDigest
from infra.keys.key_ring import KeyRing
from projections.kernel import pg_arrays
from projections.kernel.pg_arrays import Column
from projections.kernel.pipeline import pipeline

# Only what leads nowhere can be suppressed.
SELECT_SUBJECTS = """
SELECT w.lookup, i.subject FROM unnest(%b::smallint[], %b::bytea[]) AS w(p, lookup)
LEFT JOIN LATERAL (
    SELECT i.subject FROM keys.identities i
    WHERE i.log_partition = w.p AND i.lookup = w.lookup LIMIT 1) i ON true
WHERE i.subject IS NOT NULL OR EXISTS (
    SELECT FROM keys.suppressed s
    WHERE s.log_partition = w.p AND s.lookup = w.lookup AND s.lifted_at IS NULL)"""

# A crash may take back what was claimed, but not from under events: these come later in the
# server's write-ahead log, and what is durable there, all before it is.
CLAIM_LIGHTLY = "SET LOCAL synchronous_commit = off"

CLAIM = """
INSERT INTO keys.identities (log_partition, lookup, subject)
SELECT p, l, s FROM unnest(%b::smallint[], %b::bytea[], %b::uuid[]) AS v(p, l, s)
ON CONFLICT DO NOTHING"""

REPOINT = """
UPDATE keys.identities SET subject = %b WHERE log_partition = ANY(%b) AND subject = %b"""

ALL_PARTITIONS = list(range(256))


def _placed(digests: Sequence[bytes]) -> tuple[Column, Column]:
    return pg_arrays.smallints([digest[0] for digest in digests]), pg_arrays.byteas(digests)


class IdentityIndex:
    """The identities of all subjects, hashed under a secret of the deployment."""

    def __init__(self, pool: ConnectionPool, secret: bytes, keys: KeyRing) -> None:
        self._pool = pool
        self._digest = KeyedDigest(secret)
        self._keys = keys

    def __repr__(self) -> str:
        return "Lookup()"

    def digest(self, identity: Identity) -> bytes:
        return self._digest(f"{identity.scheme}\0{identity.matching}")

    def find(self, identities: Iterable[Identity]) -> Known:
        """The subjects of those identities that are known, in one query."""
        return self.find_and_suppressed(identities)[0]

    def find_and_suppressed(self, identities: Iterable[Identity]) -> tuple[Known, set[Identity]]:
        """As `find`; and those of the identities that were erased for good, which are not to be
        taken in again."""
        digests: dict[bytes, list[Identity]] = {}
        for one in identities:
            digests.setdefault(self.digest(one), []).append(one)
        known: Known = {}
        suppressed: set[Identity] = set()
        if not digests:
            return known, suppressed
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_SUBJECTS, _placed(list(digests)), binary=True).fetchall()
        for digest, subject in rows:
            alike = digests[digest]
            if subject is None:
                suppressed.update(alike)
            else:
                known[alike[0].scheme, alike[0].matching] = SubjectId(subject)
        return known, suppressed

    def claim(self, claims: Mapping[Identity, SubjectId], new: Collection[SubjectId] = ()) -> bool:
        """Ties identities to subjects: all of them, or none where another writer was first. Those
        that are new get their keys with it.

        Returns:
            Whether they are now tied as asked. If not, the caller looks again.
        """
        wanted = sorted((self.digest(one), subject) for one, subject in claims.items())
        if not wanted:
            return True
        lookups = _placed([digest for digest, _ in wanted])
        subjects = pg_arrays.uuids([subject for _, subject in wanted])
        with self._pool.connection() as conn:
            try:
                with pipeline(conn):
                    conn.execute("BEGIN")
                    conn.execute(CLAIM_LIGHTLY)
                    claimed = conn.execute(CLAIM, (*lookups, subjects))
                    if new:
                        made = self._keys.make_within(conn, [one.int for one in new])
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
        with self._pool.connection() as conn:
            conn.cursor().executemany(
                REPOINT, [(one.survivor, ALL_PARTITIONS, one.loser) for one in merges]
            )
