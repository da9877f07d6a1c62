"""The saved views, beside the log, for they are nothing that happened, and yet to be backed up.

A filter can name a person, so a view is sealed whole; it opens with a secret of the deployment.
"""

from __future__ import annotations

import os
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg_pool import ConnectionPool

from domain.errors import Conflict, NotFound
from domain.saved_views import MAX_SAVED_VIEWS, SavedViewItem

NONCE_BYTES = 12

SELECT_ALL = "SELECT id, sealed FROM log.saved_views"

SELECT_ONE = "SELECT sealed FROM log.saved_views WHERE id = %s"

ADD = """
INSERT INTO log.saved_views (id, sealed)
SELECT %s, %b WHERE (SELECT count(*) FROM log.saved_views) < %s"""

CHANGE = "UPDATE log.saved_views SET sealed = %b WHERE id = %s"

DELETE = "DELETE FROM log.saved_views WHERE id = %s"

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SavedViewItem)


class SavedViews:
    def __init__(self, pool: ConnectionPool, secret: bytes) -> None:
        self._pool = pool
        self._cipher = AESGCM(secret)

    def all(self) -> list[SavedViewItem]:
        """By name."""
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_ALL, binary=True).fetchall()
        return sorted((self._opened(*row) for row in rows), key=lambda one: (one.view.name, one.id))

    def get(self, id: UUID) -> SavedViewItem:
        """Raises: NotFound."""
        with self._pool.connection() as conn:
            row = conn.execute(SELECT_ONE, (id,), binary=True).fetchone()
        if row is None:
            raise _none()
        return self._opened(id, row[0])

    def add(self, item: SavedViewItem) -> None:
        """Raises: Conflict: there are too many."""
        with self._pool.connection() as conn:
            added = conn.execute(ADD, (item.id, self._sealed(item), MAX_SAVED_VIEWS))
        if not added.rowcount:
            raise Conflict(f"there are {MAX_SAVED_VIEWS} saved views already; delete one first")

    def change(self, item: SavedViewItem) -> None:
        """Raises: NotFound."""
        with self._pool.connection() as conn:
            if not conn.execute(CHANGE, (self._sealed(item), item.id)).rowcount:
                raise _none()

    def delete(self, id: UUID) -> None:
        """Raises: NotFound."""
        with self._pool.connection() as conn:
            if not conn.execute(DELETE, (id,)).rowcount:
                raise _none()

    def _sealed(self, item: SavedViewItem) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, _encoder.encode(item), item.id.bytes)

    def _opened(self, id: UUID, sealed: bytes) -> SavedViewItem:
        nonce, ciphertext = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        return _decoder.decode(self._cipher.decrypt(nonce, ciphertext, id.bytes))


def _none() -> NotFound:
    return NotFound("there is no such saved view")
