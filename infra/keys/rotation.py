"""The key-encryption keys of the database, and the rotation that re-wraps all keys under a new one.

One key-encryption key is current: it wraps new keys. During a rotation others are retiring: they
still unwrap the keys that are not re-wrapped yet. The row of a key names its key-encryption key, so
all of them open at any time, in every process. A process reads which one is current whenever the
generation of the keys has moved. Events are not touched.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from uuid import UUID

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from domain.errors import Unavailable
from domain.identity import LOG_PARTITIONS
from infra.keys.key_encryption import KeyEncryptionKey, KeySource, WrongKeyEncryptionKey

ROWS_A_BATCH = 1_000
LOWEST = UUID(int=0)

SELECT_STATES = "SELECT id, state FROM keys.key_encryption_keys"

INSERT_CURRENT = """
INSERT INTO keys.key_encryption_keys (id, state) VALUES (%(id)s, 'current')
ON CONFLICT DO NOTHING"""

# In a backup of the keys that is older than this table, the secrets name the keys.
ADOPT_KEYS = """
INSERT INTO keys.key_encryption_keys (id, state)
SELECT key_encryption_key, CASE place WHEN 1 THEN 'current' ELSE 'retiring' END
FROM (SELECT key_encryption_key, row_number() OVER (ORDER BY count(*) DESC) AS place
      FROM keys.secrets GROUP BY key_encryption_key) s
WHERE NOT EXISTS (SELECT FROM keys.key_encryption_keys)
ON CONFLICT DO NOTHING"""

HAS_KEYS = "SELECT EXISTS (SELECT FROM keys.subject_keys)"

SELECT_SAMPLE = "SELECT wrapped FROM keys.secrets WHERE key_encryption_key = %s LIMIT 1"

RETIRE_CURRENT = "UPDATE keys.key_encryption_keys SET state = 'retiring' WHERE state = 'current'"

MOVE_GENERATION = "UPDATE keys.generation SET value = value + 1"

COUNT_OUTSTANDING = """
SELECT (SELECT count(*) FROM keys.subject_keys
        WHERE state = 'active' AND key_encryption_key <> %(current)s)
     + (SELECT count(*) FROM keys.period_keys
        WHERE state = 'active' AND key_encryption_key <> %(current)s)
     + (SELECT count(*) FROM keys.secrets WHERE key_encryption_key <> %(current)s)"""

SELECT_OUTSTANDING = """
SELECT subject, version, key_encryption_key, wrapped FROM keys.subject_keys
WHERE log_partition = %(partition)b
  AND (subject, version) > (%(subject)b::uuid, %(version)b::smallint)
  AND state = 'active' AND key_encryption_key <> %(current)b
ORDER BY subject, version LIMIT %(limit)b"""

# Never waits for a row: an erasure and a rotation do not block each other. A key that was erased
# since it was read, or re-wrapped by another rotation, stays as it is.
REWRAP_KEYS = """
WITH free AS (
    SELECT k.subject, k.version, v.after FROM keys.subject_keys k
    JOIN unnest(%(subjects)b::uuid[], %(versions)b::smallint[],
                %(before)b::bytea[], %(after)b::bytea[]) AS v(subject, version, before, after)
      ON k.subject = v.subject AND k.version = v.version AND k.wrapped = v.before
    WHERE k.log_partition = %(partition)b FOR UPDATE OF k SKIP LOCKED)
UPDATE keys.subject_keys k SET wrapped = free.after, key_encryption_key = %(current)b
FROM free
WHERE k.log_partition = %(partition)b AND k.subject = free.subject AND k.version = free.version"""

SELECT_DEPLOYMENT_KEYS = """
SELECT name, key_encryption_key, wrapped FROM keys.secrets
WHERE key_encryption_key <> %(current)s"""

REWRAP_DEPLOYMENT_KEY = """
UPDATE keys.secrets SET wrapped = %(after)s, key_encryption_key = %(current)s
WHERE name = %(name)s AND wrapped = %(before)s"""

SELECT_PERIOD_KEYS = """
SELECT period, key_encryption_key, wrapped FROM keys.period_keys
WHERE state = 'active' AND key_encryption_key <> %(current)s"""

REWRAP_PERIOD_KEY = """
UPDATE keys.period_keys SET wrapped = %(after)s, key_encryption_key = %(current)s
WHERE period = %(name)s AND wrapped = %(before)s"""

RETIRE = """
UPDATE keys.key_encryption_keys SET state = 'retired', retired_at = now()
WHERE state = 'retiring' RETURNING id"""

ARE_USED = """
SELECT EXISTS (SELECT FROM keys.subject_keys
               WHERE state = 'active' AND key_encryption_key = ANY(%(ids)s))
    OR EXISTS (SELECT FROM keys.period_keys
               WHERE state = 'active' AND key_encryption_key = ANY(%(ids)s))
    OR EXISTS (SELECT FROM keys.secrets WHERE key_encryption_key = ANY(%(ids)s))"""

log = structlog.get_logger()


class KeyRotation:
    """Thread-safe; one instance per process."""

    def __init__(self, pool: ConnectionPool, sources: Sequence[KeySource]) -> None:
        """
        Args:
            sources: searched in their order; a rotation takes the next key from the first.
        """
        self._pool = pool
        self._sources = sources
        self._lock = threading.Lock()
        self._keys: dict[str, KeyEncryptionKey] = {}
        self._current: KeyEncryptionKey | None = None

    @property
    def current(self) -> KeyEncryptionKey:
        """The key-encryption key that wraps new keys."""
        assert self._current is not None, "open() comes first"
        return self._current

    def open(self, *, is_new: bool) -> None:
        """Finds every key-encryption key that the database needs, and tries it.

        Args:
            is_new: whether the log is empty. Only then, and if the database has no keys, the first
                key-encryption key is taken or made.

        Raises:
            WrongKeyEncryptionKey: one is missing or does not open; names it.
        """
        with self._pool.connection() as conn:
            conn.execute(ADOPT_KEYS)
            needed = self._needed(conn)
            if not needed:
                row = conn.execute(HAS_KEYS).fetchone()
                if not is_new or row is None or row[0]:
                    raise WrongKeyEncryptionKey(
                        "the database holds events, but not the secrets that belong to them:"
                        " restore the backup of the keys"
                    )
                conn.execute(INSERT_CURRENT, {"id": self._sources[0].offer(frozenset()).id})
                needed = self._needed(conn)
            for id in needed:
                key = self._find(id)
                for (wrapped,) in conn.execute(SELECT_SAMPLE, (id,)).fetchall():
                    key.unwrap([wrapped])
                if needed[id] == "current":
                    self._current = key

    def reload(self) -> None:
        """Switches to the key-encryption key that is current by the database. If it is out of
        reach, the one before stays in use until it has retired.

        Raises:
            WrongKeyEncryptionKey: the current one is out of reach, and the one before has retired.
        """
        with self._pool.connection() as conn:
            needed = self._needed(conn)
        [id] = (id for id, state in needed.items() if state == "current")
        if id == self.current.id:
            return
        try:
            self._current = self._find(id)
        except WrongKeyEncryptionKey as error:
            log.error("keys.rotation_cannot_be_followed", reason=str(error))
            if self.current.id not in needed:
                raise

    def current_from_database(self) -> KeyEncryptionKey:
        """The key-encryption key that is current now.

        Raises:
            Unavailable: it is out of reach.
        """
        try:
            self.reload()
        except WrongKeyEncryptionKey as error:
            raise out_of_reach(error) from None
        return self.current

    def unwrap(self, wrapped: Sequence[tuple[str, bytes]]) -> list[bytes]:
        """Unwraps keys.

        Args:
            wrapped: each with the id of its key-encryption key.

        Raises:
            WrongKeyEncryptionKey: a key-encryption key is missing, or does not open its keys.
        """
        materials: list[bytes] = [b""] * len(wrapped)
        indexes: dict[str, list[int]] = {}
        for n, (id, _) in enumerate(wrapped):
            indexes.setdefault(id, []).append(n)
        for id, numbers in indexes.items():
            unwrapped = self._find(id).unwrap([wrapped[n][1] for n in numbers])
            for n, material in zip(numbers, unwrapped, strict=True):
                materials[n] = material
        return materials

    @staticmethod
    def _needed(conn: psycopg.Connection) -> dict[str, str]:
        return {id: state for id, state in conn.execute(SELECT_STATES) if state != "retired"}

    def _find(self, id: str) -> KeyEncryptionKey:
        with self._lock:
            key = self._keys.get(id)
        if key is None:
            key = self._look_for(id)
            with self._lock:
                self._keys[id] = key
        return key

    def _look_for(self, id: str) -> KeyEncryptionKey:
        reasons: list[str] = []
        for source in self._sources:
            try:
                return source.find(id)
            except WrongKeyEncryptionKey as error:
                reasons.append(str(error))
        raise WrongKeyEncryptionKey(
            f"the database needs key-encryption key {id}: {'; '.join(reasons)}"
        )

    def in_use(self) -> list[str]:
        """The ids of the key-encryption keys that have not retired."""
        with self._pool.connection() as conn:
            return list(self._needed(conn))

    def prepare(self) -> str:
        """Finds or makes the key-encryption key of the next rotation; returns its id."""
        with self._pool.connection() as conn:
            known = {id for id, _ in conn.execute(SELECT_STATES)}
        return self._sources[0].offer(known).id

    def begin_rotation(self) -> str:
        """Makes another key-encryption key the current one, unless a rotation is under way: then
        the caller continues that one.

        Returns:
            The id of the current one.

        Raises:
            WrongKeyEncryptionKey: the first source has no other key.
        """
        with self._pool.connection() as conn:
            states: dict[str, str] = dict(conn.execute(SELECT_STATES).fetchall())
            if "retiring" not in states.values():
                key = self._sources[0].offer(states.keys())
                with conn.transaction():
                    conn.execute(
                        MOVE_GENERATION
                    )  # serializes with a rotation that begins elsewhere
                    if dict(conn.execute(SELECT_STATES).fetchall()) == states:
                        conn.execute(RETIRE_CURRENT)
                        conn.execute(INSERT_CURRENT, {"id": key.id})
        self.reload()
        return self.current.id

    def outstanding(self) -> int:
        """The number of keys that are not under the current key-encryption key."""
        with self._pool.connection() as conn:
            row = conn.execute(COUNT_OUTSTANDING, {"current": self.current.id}).fetchone()
        return 0 if row is None else int(row[0])

    def rewrap(self) -> Iterator[int]:
        """Passes once over all keys and re-wraps those that are not under the current
        key-encryption key. Each batch is committed by itself: after a crash another call
        continues, and any number may run at the same time.

        Yields:
            The number of keys of each batch.
        """
        first = secrets.randbelow(LOG_PARTITIONS)
        for n in range(LOG_PARTITIONS):
            yield from self._rewrap_partition((first + n) % LOG_PARTITIONS)
        with self._pool.connection() as conn:
            for select, rewrap in (
                (SELECT_PERIOD_KEYS, REWRAP_PERIOD_KEY),
                (SELECT_DEPLOYMENT_KEYS, REWRAP_DEPLOYMENT_KEY),
            ):
                current = self.current
                rows = conn.execute(select, {"current": current.id}).fetchall()
                for name, id, before in rows:
                    [after] = current.wrap(self.unwrap([(id, before)]))
                    params = {
                        "after": after,
                        "current": current.id,
                        "name": name,
                        "before": before,
                    }
                    yield conn.execute(rewrap, params).rowcount

    def _rewrap_partition(self, partition: int) -> Iterator[int]:
        key = self.current
        subject, version = LOWEST, 0
        while True:
            with self._pool.connection() as conn:
                params = {
                    "partition": partition,
                    "subject": subject,
                    "version": version,
                    "current": key.id,
                    "limit": ROWS_A_BATCH,
                }
                rows = conn.execute(SELECT_OUTSTANDING, params, binary=True).fetchall()
            if not rows:
                return
            subjects, versions, ids, before = (list(column) for column in zip(*rows, strict=True))
            after = key.wrap(self.unwrap(list(zip(ids, before, strict=True))))
            with self._pool.connection() as conn:
                rewrapped = {
                    "subjects": subjects,
                    "versions": versions,
                    "before": before,
                    "after": after,
                    "partition": partition,
                    "current": key.id,
                }
                yield conn.execute(REWRAP_KEYS, rewrapped).rowcount
            subject, version = subjects[-1], versions[-1]

    def end_rotation(self) -> bool:
        """Retires the key-encryption keys before the current one, unless a key is still under one.

        Returns:
            Whether they are retired.
        """
        with self._pool.connection() as conn, conn.transaction() as ending:
            # Waits for writers that make keys under one of them; later ones are refused.
            ids = [id for (id,) in conn.execute(RETIRE).fetchall()]
            row = conn.execute(ARE_USED, {"ids": ids}).fetchone()
            if row is None or row[0]:
                raise psycopg.Rollback(ending)
            return True
        return False


def out_of_reach(error: WrongKeyEncryptionKey) -> Unavailable:
    """The refusal of work that needs keys while the key-encryption key is out of reach; logs
    why."""
    log.error("keys.out_of_reach", reason=str(error))
    return Unavailable("the keys are out of reach; the operator's log says why")
