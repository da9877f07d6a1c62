"""Subject keys: one a subject, wrapped by a key-encryption key, destroyed on erasure.

A key is in one of three states: never made, active, destroyed. Destroyed is a tombstone that stays:
making a key on demand can neither revive nor replace it. Keys are cached for a short time; a
generation number, moved by every destruction and read at the start of each piece of work, drops
the cache of every process.

Here a subject goes by its number, `SubjectId.int`, wherever many are looked up: Python hashes and
compares a UUID in Python, and that took half the time of finding a thousand keys.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import stat
import tempfile
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Self

import psycopg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_wrap,
)
from psycopg_pool import ConnectionPool

from domain.errors import SubjectErased
from domain.identity import SubjectId, log_partition

KEY_BYTES = 32
CACHE_SIZE = 200_000
CACHE_SECONDS = 300.0
ALL_PARTITIONS = list(range(256))

SELECT_KEYS = """
SELECT k.subject, k.version, k.wrapped FROM keys.subject_keys k
JOIN unnest(%b::smallint[], %b::uuid[]) AS w(p, s) ON k.log_partition = w.p AND k.subject = w.s
ORDER BY k.subject, k.version"""

INSERT_KEYS = """
INSERT INTO keys.subject_keys
       (log_partition, subject, version, state, key_encryption_key, wrapped, fingerprint)
SELECT p, s, 1, 'active', %b, w, f
FROM unnest(%b::smallint[], %b::uuid[], %b::bytea[], %b::bytea[]) AS v(p, s, w, f)
ON CONFLICT DO NOTHING"""

DESTROY_KEYS = """
UPDATE keys.subject_keys
SET state = 'destroyed', wrapped = NULL, destroyed_at = now()
WHERE log_partition = ANY(%b) AND subject = ANY(%b) AND state = 'active'"""

# A subject without a key gets its tombstone too: a retried request cannot make one afterwards.
BURY_KEYS = """
INSERT INTO keys.subject_keys
       (log_partition, subject, version, state, key_encryption_key, destroyed_at)
SELECT p, s, 1, 'destroyed', %b, now() FROM unnest(%b::smallint[], %b::uuid[]) AS v(p, s)
ON CONFLICT DO NOTHING"""

DESTROYED = """
SELECT DISTINCT k.subject FROM keys.subject_keys k
JOIN unnest(%b::smallint[], %b::uuid[]) AS w(p, s) ON k.log_partition = w.p AND k.subject = w.s
WHERE k.state = 'destroyed'"""

DELETE_LOOKUPS = "DELETE FROM keys.identities WHERE log_partition = ANY(%b) AND subject = ANY(%b)"

UNFINISHED_ERASURES = """
SELECT subject, kind FROM keys.erasures WHERE completed_at IS NULL ORDER BY requested_at"""

RECORD_ERASURES = """
INSERT INTO keys.erasures (log_partition, subject, kind, requested_by, reason, request)
SELECT p, s, %b, %b, %b, %b FROM unnest(%b::smallint[], %b::uuid[]) AS v(p, s)
ON CONFLICT DO NOTHING"""

COMPLETE_ERASURES = """
UPDATE keys.erasures e SET completed_at = now(), position = w.position
FROM unnest(%b::smallint[], %b::uuid[], %b::bigint[]) AS w(p, s, position)
WHERE e.log_partition = w.p AND e.subject = w.s AND e.log_partition = ANY(%b)
  AND e.completed_at IS NULL"""

# Before the look-ups go: whoever has them may not come back.
SUPPRESS = """
INSERT INTO keys.suppressed AS s (log_partition, lookup, request)
SELECT log_partition, lookup, %b FROM keys.identities
WHERE log_partition = ANY(%b) AND subject = ANY(%b)
ORDER BY log_partition, lookup
ON CONFLICT (log_partition, lookup) DO UPDATE
SET request = excluded.request, suppressed_at = now(), lifted_at = NULL, lifted_by = NULL"""

# Whoever destroys keys or forbids it takes their rows first: one of the two comes after the other.
LOCK_KEYS = """
SELECT FROM keys.subject_keys k
JOIN unnest(%b::smallint[], %b::uuid[]) AS w(p, s) ON k.log_partition = w.p AND k.subject = w.s
WHERE k.log_partition = ANY(%b)
ORDER BY k.log_partition, k.subject, k.version FOR UPDATE OF k"""


class WrongKeyEncryptionKey(Exception):
    """The key-encryption key at hand is missing, unsafe, or not the one the keys are under."""


class KeyEncryptionKey:
    """The key that wraps every other (AES key wrap, RFC 3394). It never enters the database."""

    def __init__(self, material: bytes) -> None:
        if len(material) != KEY_BYTES:
            raise WrongKeyEncryptionKey(f"a key-encryption key has {KEY_BYTES} bytes")
        self._material = material
        self.id = hashlib.sha256(b"annals key-encryption key\0" + material).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"KeyEncryptionKey(id={self.id})"

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Reads a key-encryption key: 32 bytes in base64, in a file that only its owner may read.

        Raises:
            WrongKeyEncryptionKey: no such file, permissions looser than 0600, or no such content.
        """
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            content = path.read_bytes()
        except FileNotFoundError:
            raise WrongKeyEncryptionKey(f"there is no key-encryption key at {path}") from None
        if mode & 0o077:
            raise WrongKeyEncryptionKey(
                f"{path} can be read by others (mode {mode:04o}); run: chmod 600 {path}"
            )
        try:
            return cls(base64.b64decode(content.strip(), validate=True))
        except ValueError:
            raise WrongKeyEncryptionKey(f"{path} does not hold a key in base64") from None

    @classmethod
    def generate_file(cls, path: Path) -> Self:
        """Makes a key-encryption key and keeps it in a new file, mode 0600, durably.

        Raises:
            FileExistsError: there is one already; it stays.
        """
        material = os.urandom(KEY_BYTES)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(base64.b64encode(material) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # whole or not at all, and never over another
        finally:
            Path(temporary).unlink()
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return cls(material)

    def wrap(self, material: bytes) -> bytes:
        return aes_key_wrap(self._material, material)

    def unwrap(self, wrapped: bytes) -> bytes:
        """Raises: WrongKeyEncryptionKey: `wrapped` is not from this key."""
        try:
            return aes_key_unwrap(self._material, wrapped)
        except InvalidUnwrap:
            raise WrongKeyEncryptionKey(
                f"the key-encryption key {self.id} does not open what the database holds"
            ) from None


class SubjectKey:
    """The active key of a subject, ready for use. Shows nothing of its material.

    Attributes:
        kept_until: when a cache has to look again whether the key is still there.
    """

    __slots__ = ("_decrypt", "_encrypt", "_prefix", "kept_until", "version")

    def __init__(self, version: int, material: bytes, kept_until: float = 0.0) -> None:
        cipher = AESGCM(material)
        self.version = version
        self.kept_until = kept_until
        self._prefix = version.to_bytes(2)
        self._encrypt = cipher.encrypt
        self._decrypt = cipher.decrypt

    def seal(self, plain: bytes, bound: bytes, nonce: bytes) -> bytes:
        """The version of the key, the nonce, ciphertext and tag. `nonce` must be random and used
        once."""
        return self._prefix + nonce + self._encrypt(nonce, plain, bound)

    def unseal(self, sealed: bytes, bound: bytes) -> bytes:
        """Raises: InvalidTag, ValueError: another key, other associated data, altered bytes."""
        if not sealed.startswith(self._prefix):
            raise InvalidTag
        return self._decrypt(sealed[2:14], sealed[14:], bound)

    def __repr__(self) -> str:
        return f"SubjectKey(version={self.version})"


class KeyRing:
    """The keys of all subjects: made, fetched in bulk, cached for a while, destroyed."""

    def __init__(self, pool: ConnectionPool, key_encryption_key: KeyEncryptionKey) -> None:
        self._pool = pool
        self._kek = key_encryption_key
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, SubjectKey] = OrderedDict()
        self._generation = -1

    def secret(self, name: str) -> bytes:
        """A secret of the deployment (such as the look-up key), made on first use.

        Raises:
            WrongKeyEncryptionKey: it is wrapped under another key-encryption key.
        """
        with self._pool.connection() as conn:
            conn.execute(
                "INSERT INTO keys.secrets (name, key_encryption_key, wrapped)"
                " VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                (name, self._kek.id, self._kek.wrap(os.urandom(KEY_BYTES))),
            )
            row = conn.execute(
                "SELECT key_encryption_key, wrapped FROM keys.secrets WHERE name = %s", (name,)
            ).fetchone()
        assert row is not None
        if row[0] != self._kek.id:
            raise WrongKeyEncryptionKey(
                f"the database's keys are under key-encryption key {row[0]},"
                f" this one is {self._kek.id}; start with the right one"
            )
        return self._kek.unwrap(row[1])

    def generation(self) -> int:
        """The number of destructions so far, from the database."""
        with self._pool.connection() as conn:
            row = conn.execute("SELECT value FROM keys.generation").fetchone()
        assert row is not None
        return int(row[0])

    def refresh(self) -> int:
        """Drops what is cached if a key was destroyed anywhere since; returns the generation.

        To be called at the start of each piece of work that uses keys."""
        generation = self.generation()
        with self._lock:
            if generation != self._generation:
                self._cache.clear()
                self._generation = generation
        return generation

    def fetch(self, subjects: Iterable[int]) -> dict[int, SubjectKey]:
        """The active keys of `subjects`; those without one, or with a destroyed one, are absent."""
        now = time.monotonic()
        found: dict[int, SubjectKey] = {}
        missing: dict[int, None] = {}
        with self._lock:
            generation, cached = self._generation, self._cache.get
            for subject in subjects:
                key = cached(subject)
                if key is not None and key.kept_until > now:
                    found[subject] = key
                else:
                    missing[subject] = None
        if missing:
            loaded = self._load(list(missing))
            found |= loaded
            self._keep(loaded, generation)
        return found

    def fetch_or_make(self, subjects: AbstractSet[int]) -> dict[int, SubjectKey]:
        """The active keys of all `subjects`, made where there was none.

        Raises:
            SubjectErased: one of the keys was destroyed.
        """
        found = self.fetch(subjects)
        if len(found) < len(subjects):
            self._make([subject for subject in subjects if subject not in found])
            found |= self.fetch([subject for subject in subjects if subject not in found])
            if len(found) < len(subjects):
                raise SubjectErased("the subject has been erased")
        return found

    def _load(self, subjects: Sequence[int]) -> dict[int, SubjectKey]:
        keys: dict[int, SubjectKey] = {}
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_KEYS, _placed(subjects), binary=True).fetchall()
        kept_until = time.monotonic() + CACHE_SECONDS
        for subject, version, wrapped in rows:
            if wrapped is not None:
                keys[subject.int] = SubjectKey(version, self._kek.unwrap(wrapped), kept_until)
        return keys

    def _make(self, subjects: Sequence[int]) -> None:
        materials = [os.urandom(KEY_BYTES) for _ in subjects]
        with self._pool.connection() as conn:
            conn.execute(
                INSERT_KEYS,
                (
                    self._kek.id,
                    *_placed(subjects),
                    [self._kek.wrap(material) for material in materials],
                    [hashlib.sha256(material).digest()[:8] for material in materials],
                ),
            )

    def _keep(self, keys: dict[int, SubjectKey], generation: int) -> None:
        with self._lock:
            if generation != self._generation:
                return  # a key may have been destroyed between the look and now
            for subject, key in keys.items():
                self._cache[subject] = key
                self._cache.move_to_end(subject)
            while len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)

    def destroy(
        self, subjects: Sequence[SubjectId], *, kind: str, requested_by: str, reason: str
    ) -> None:
        """Destroys the keys and look-ups of subjects, in one transaction, and says so to all."""
        with self._pool.connection() as conn, conn.transaction():
            self.destroy_within(conn, subjects, kind=kind, requested_by=requested_by, reason=reason)
        self.refresh()

    def destroy_within(
        self,
        conn: psycopg.Connection,
        subjects: Sequence[SubjectId],
        *,
        kind: str,
        requested_by: str,
        reason: str,
        request: uuid.UUID | None = None,
        suppress: bool = False,
    ) -> None:
        """Destroys the keys and look-ups of subjects in the caller's transaction, after whose end
        `refresh` drops what this process has cached.

        Args:
            request: the erasure request that wants it.
            suppress: whether the identities are refused from now on; needs a request.
        """
        placed = sorted((log_partition(one), one.bytes, one) for one in set(subjects))
        asked = ([one[0] for one in placed], [one[2] for one in placed])
        conn.execute(RECORD_ERASURES, (kind, requested_by, reason, request, *asked))
        # In this order: burying waits for a key that is just being made.
        conn.execute(BURY_KEYS, (self._kek.id, *asked))
        conn.execute(DESTROY_KEYS, asked)
        if suppress:
            conn.execute(SUPPRESS, (request, ALL_PARTITIONS, asked[1]))
        conn.execute(DELETE_LOOKUPS, (ALL_PARTITIONS, asked[1]))
        conn.execute("UPDATE keys.generation SET value = value + 1")

    def free_identities(self, subjects: Iterable[SubjectId]) -> None:
        """Deletes the look-ups of those of the subjects whose key is destroyed."""
        asked = list(subjects)
        with self._pool.connection() as conn:
            found = conn.execute(
                DESTROYED, ([log_partition(subject) for subject in asked], asked), binary=True
            ).fetchall()
            if found:
                conn.execute(DELETE_LOOKUPS, (ALL_PARTITIONS, [row[0] for row in found]))

    def unfinished_erasures(self) -> list[tuple[SubjectId, str]]:
        """Subjects whose key is destroyed while the log does not say so yet."""
        with self._pool.connection() as conn:
            return list(conn.execute(UNFINISHED_ERASURES).fetchall())

    def complete_erasures(self, places: Mapping[SubjectId, int]) -> None:
        """Notes that the log says so, and at which position of each subject's partition."""
        partitions = [log_partition(subject) for subject in places]
        with self._pool.connection() as conn:
            conn.execute(
                COMPLETE_ERASURES, (partitions, list(places), list(places.values()), partitions)
            )


def lock_keys(conn: psycopg.Connection, subjects: Sequence[SubjectId]) -> None:
    """Keeps the keys of subjects from being destroyed, and holds from being placed on them, until
    the caller's transaction ends."""
    partitions = [log_partition(one) for one in subjects]
    conn.execute(LOCK_KEYS, (partitions, list(subjects), partitions))


def _placed(subjects: Sequence[int]) -> tuple[list[int], list[uuid.UUID]]:
    """The partitions and the ids of subjects, as the statements above take them."""
    ids = [uuid.UUID(int=subject) for subject in subjects]
    return [log_partition(id) for id in ids], ids


def keyed_digest(secret: bytes, text: str) -> bytes:
    """HMAC-SHA-256 of a text: says nothing of it to whom the secret is unknown."""
    return hmac.digest(secret, text.encode(), "sha256")
