"""Versions of subject keys: a key gets a new version before it has sealed too much.

AES-GCM with random nonces may seal 2^32 messages under a key. Seals are counted by chance: one in
`SEALS_A_COUNT` is drawn, and counts for that many. So the count costs nothing for an event, loses
nothing in a crash, writes nothing for a batch, and is right to within a hundredth of the limit.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
import threading
import uuid
from collections.abc import Sequence

from psycopg_pool import ConnectionPool

from domain.identity import log_partition
from infra.keys.key_encryption import KEY_BYTES, KeyEncryptionKey, WrongKeyEncryptionKey
from infra.keys.rotation import KeyRotation, out_of_reach
from projections.kernel import pg_arrays

SEALS_A_COUNT = 1 << 16
SEALS_A_VERSION = 1 << 30
"""After so many seals a key gets a new version: a quarter of the limit. The rest is for messages
that are sealed twice, when an append is tried again, and for keys in caches."""

# A key-encryption key cannot retire while keys are made under it, nor wraps any after that.
INSERT_KEYS = """
WITH under AS MATERIALIZED (
    SELECT id FROM keys.key_encryption_keys
    WHERE id = %(under)b AND state <> 'retired' FOR SHARE)
INSERT INTO keys.subject_keys
       (log_partition, subject, version, state, key_encryption_key, wrapped, fingerprint)
SELECT p, s, %(version)b, 'active', under.id, w, f
FROM under, unnest(%(partitions)b::smallint[], %(subjects)b::uuid[],
                   %(wrapped)b::bytea[], %(fingerprints)b::bytea[]) AS v(p, s, w, f)
ON CONFLICT DO NOTHING RETURNING subject"""

COUNT_SEALS = """
UPDATE keys.subject_keys SET seals = seals + %(seals)b
WHERE log_partition = %(partition)b AND subject = %(subject)b AND version = %(version)b
  AND state = 'active'
RETURNING seals"""

# The first version stands for all: a destruction waits for it, or is waited for. Merges do not.
LOCK_KEY = """
SELECT FROM keys.subject_keys
WHERE log_partition = %(partition)b AND subject = %(subject)b AND version = 1 AND state = 'active'
FOR NO KEY UPDATE"""

SELECT_VERSION = """
SELECT FROM keys.subject_keys
WHERE log_partition = %(partition)b AND subject = %(subject)b AND version = %(version)b"""
_chance = secrets.SystemRandom()


class Sampler:
    """Draws each of many by the same small chance, at no cost for those that are not drawn. It
    has no memory: a new one draws as often as one that went on. Safe for use from many threads."""

    def __init__(self, one_in: int) -> None:
        self._scale = math.log1p(-1 / one_in)
        self._lock = threading.Lock()
        self._left = self._gap()

    def _gap(self) -> int:
        """How many are passed over before the next one that is drawn."""
        return int(math.log(1.0 - _chance.random()) / self._scale)

    def draw(self, count: int) -> list[int]:
        """The indexes of those that are drawn among the next `count`."""
        drawn: list[int] = []
        with self._lock:
            while self._left < count:
                drawn.append(self._left)
                self._left += 1 + self._gap()
            self._left -= count
        return drawn


class KeyVersions:
    """Safe for use from many threads."""

    def __init__(self, pool: ConnectionPool, wrapping: KeyRotation) -> None:
        self._pool = pool
        self._wrapping = wrapping
        self._sampler = Sampler(SEALS_A_COUNT)

    def draw(self, seals: int) -> list[int]:
        """Draws, by index, those of the next `seals` seals that `count` must count."""
        return self._sampler.draw(seals)

    def count(self, subject: int, version: int) -> None:
        """Counts `SEALS_A_COUNT` seals under a version of a key. Where the version has sealed
        enough, the subject gets the next version."""
        id = uuid.UUID(int=subject)
        params = {
            "seals": SEALS_A_COUNT,
            "partition": log_partition(id),
            "subject": id,
            "version": version,
        }
        with self._pool.connection() as conn:
            row = conn.execute(COUNT_SEALS, params).fetchone()
        if row is None or row[0] < SEALS_A_VERSION:
            return
        while not self.add(id, version + 1):
            self._wrapping.current_from_database()

    def add(self, subject: uuid.UUID, version: int) -> bool:
        """Makes a version of a key.

        Returns:
            Whether the subject has the version, or its key is destroyed. If not, the
            key-encryption key has retired.
        """
        params = {"partition": log_partition(subject), "subject": subject}
        material = os.urandom(KEY_BYTES)
        new = new_keys(self._wrapping.current, [subject.int], version, [material])
        with self._pool.connection() as conn, conn.transaction():
            if conn.execute(LOCK_KEY, params).fetchone() is None:
                return True
            conn.execute(INSERT_KEYS, new)
            row = conn.execute(SELECT_VERSION, {**params, "version": version}).fetchone()
            return row is not None


def new_keys(
    under: KeyEncryptionKey, subjects: Sequence[int], version: int, materials: Sequence[bytes]
) -> dict[str, object]:
    """The parameters of `INSERT_KEYS`.

    Raises:
        Unavailable: the key-encryption key is out of reach.
    """
    try:
        wrapped = under.wrap(materials)
    except WrongKeyEncryptionKey as error:
        raise out_of_reach(error) from None
    partitions, ids = pg_arrays.placed_ids([subject.to_bytes(16) for subject in subjects])
    fingerprints = [hashlib.sha256(material).digest()[:8] for material in materials]
    return {
        "under": under.id,
        "version": version,
        "partitions": partitions,
        "subjects": ids,
        "wrapped": pg_arrays.byteas(wrapped),
        "fingerprints": pg_arrays.byteas(fingerprints),
    }
