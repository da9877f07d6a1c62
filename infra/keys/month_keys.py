"""Keys of periods: a random secret for each calendar month of tracked activity.

What was tracked is sealed under a key that is derived from its subject's and from the secret of the
month in which it occurred. So either of the two ends it: the subject's key all that is the
subject's, the month's secret all activity of that month, of everybody, with one row.

Which months are over is told by the runs of retention: none of these gets a secret (again).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

import msgspec
import psycopg
import structlog
from psycopg_pool import ConnectionPool

from domain.definitions.retention import ALWAYS, Counts, RetentionBounds, first_of, first_whole_day
from domain.errors import PeriodOver
from infra.keys.key_encryption import KEY_BYTES
from infra.keys.rotation import KeyRotation

SELECT_PERIODS = """
SELECT period, key_encryption_key, wrapped FROM keys.period_keys
WHERE period = ANY(%s) AND state = 'active'"""

# In the way of whoever ends periods: what comes after that sees that they are over.
HOLD_GENERATION = "SELECT FROM keys.generation FOR SHARE"

INSERT_PERIODS = """
WITH under AS MATERIALIZED (
    SELECT id FROM keys.key_encryption_keys WHERE id = %b AND state <> 'retired' FOR SHARE)
INSERT INTO keys.period_keys (period, state, key_encryption_key, wrapped, fingerprint)
SELECT p, 'active', under.id, w, f
FROM under, unnest(%b::date[], %b::bytea[], %b::bytea[]) AS v(p, w, f)
WHERE NOT EXISTS (SELECT FROM keys.retention_runs r WHERE v.p < r.ends)
ON CONFLICT DO NOTHING"""

SELECT_ENDS = """
SELECT (SELECT max(ends) FROM keys.retention_runs WHERE destroyed_at IS NOT NULL),
       (SELECT max(ends) FROM keys.retention_runs WHERE destroyed_at IS NOT NULL AND counts = %s),
       (SELECT ends FROM keys.retention_runs WHERE destroyed_at IS NULL),
       (SELECT lines FROM keys.retention_runs WHERE destroyed_at IS NULL)"""

DESTROY_PERIODS = """
UPDATE keys.period_keys SET state = 'destroyed', wrapped = NULL, destroyed_at = now()
WHERE state = 'active' AND period < %s"""

# Of runs that are over, and yet there: what a backup of the keys brings back.
DESTROY_AGAIN = """
UPDATE keys.period_keys p SET state = 'destroyed', wrapped = NULL, destroyed_at = now()
WHERE state = 'active' AND EXISTS (
    SELECT FROM keys.retention_runs r WHERE r.destroyed_at IS NOT NULL AND p.period < r.ends)"""

log = structlog.get_logger()


class _Cached(msgspec.Struct):
    """What is known since the last destruction; dropped whole, so that what was looked up before
    it cannot be taken for what was looked up after."""

    kept: RetentionBounds | None = None
    secrets: dict[int, bytes] = msgspec.field(default_factory=dict)


class MonthKeys:
    """One for each process, in its key ring; safe for use from many threads."""

    def __init__(self, pool: ConnectionPool, wrapping: KeyRotation) -> None:
        self._pool = pool
        self._wrapping = wrapping
        self._cached = _Cached()

    def forget(self) -> None:
        """Drops what is cached: something was destroyed somewhere."""
        self._cached = _Cached()

    def kept(self) -> RetentionBounds:
        """What of tracked activity is still there."""
        cached = self._cached
        if cached.kept is None:
            with self._pool.connection() as conn:
                cached.kept = _kept(conn)
        return cached.kept

    def fetch(self, months: Iterable[int]) -> dict[int, bytes]:
        """The secrets of months, by `month_of`; those that have none, or none any more, are
        absent.

        Raises:
            WrongKeyEncryptionKey: one is wrapped under a key-encryption key that is not at hand.
        """
        secrets = self._cached.secrets
        asked = set(months)
        missing = asked - secrets.keys()
        if missing:
            days = {first_of(month): month for month in missing}
            with self._pool.connection() as conn:
                rows = conn.execute(SELECT_PERIODS, (list(days),)).fetchall()
            opened = self._wrapping.unwrap([(id, wrapped) for _, id, wrapped in rows])
            for (day, _, _), secret in zip(rows, opened, strict=True):
                secrets[days[day]] = secret
        return {month: secrets[month] for month in asked if month in secrets}

    def fetch_or_make(self, months: Iterable[int]) -> dict[int, bytes]:
        """The secrets of months, made where there was none.

        Raises:
            PeriodOver: one of them is over.
            WrongKeyEncryptionKey: as `fetch`.
        """
        asked = set(months)
        found = self.fetch(asked)
        while len(found) < len(asked):
            under = self._make(sorted(asked - found.keys()))
            found |= self.fetch(asked - found.keys())
            if len(found) < len(asked):
                self._wrapping.reload()
                if under == self._wrapping.current.id:
                    raise PeriodOver("this is older than the activity that is kept")
        return found

    def _make(self, months: list[int]) -> str:
        """Makes secrets, unless their months are over or the key-encryption key has retired
        meanwhile; returns its id."""
        key = self._wrapping.current
        secrets = [os.urandom(KEY_BYTES) for _ in months]
        new = (
            key.id,
            [first_of(month) for month in months],
            key.wrap(secrets),
            [hashlib.sha256(secret).digest()[:8] for secret in secrets],
        )
        with self._pool.connection() as conn, conn.transaction():
            conn.execute(HOLD_GENERATION)
            conn.execute(INSERT_PERIODS, new)
        return key.id

    def destroy_again(self) -> int:
        """Destroys the secrets of months that are on record as over, and yet have one: a backup
        has brought it back. To be called before anything is served."""
        with self._pool.connection() as conn:
            again = conn.execute(DESTROY_AGAIN).rowcount
        if again:
            log.warning("keys.periods_destroyed_again", periods=again)
            self.forget()
        return again


def _kept(conn: psycopg.Connection) -> RetentionBounds:
    row = conn.execute(SELECT_ENDS, (Counts.DROP.value,)).fetchone()
    assert row is not None
    over, dropped, ends, lines = row
    since = over or ALWAYS
    return RetentionBounds(
        since, ends or since, tuple(lines or ()), first_whole_day(dropped or ALWAYS)
    )
