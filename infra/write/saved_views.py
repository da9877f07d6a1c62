"""The saved views, beside the log, for they are nothing that happened, and yet to be backed up.

A filter can name a person, so a view is sealed whole, under a key of its own
(`infra.keys.content_keys`); those of before there were such keys, under a secret of the deployment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from uuid import UUID, uuid4

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg_pool import ConnectionPool

from domain.definitions.saved_views import MAX_SAVED_VIEWS, SavedViewItem
from domain.erasure.redaction import Names, without
from domain.errors import Conflict, NotFound
from domain.identity import SubjectId
from infra.keys.content_keys import ContentKeys, Replacement

NONCE_BYTES = 12

SELECT_ALL = "SELECT id, sealed, content FROM log.saved_views"

SELECT_ONE = "SELECT id, sealed, content FROM log.saved_views WHERE id = %s"

ADD = """
INSERT INTO log.saved_views (id, sealed, content)
SELECT %s, %b, %s WHERE (SELECT count(*) FROM log.saved_views) < %s"""

CHANGE = "UPDATE log.saved_views SET sealed = %b, content = %s WHERE id = %s"

DELETE = "DELETE FROM log.saved_views WHERE id = %s"

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SavedViewItem)


class SavedViews:
    def __init__(self, pool: ConnectionPool, secret: bytes, contents: ContentKeys) -> None:
        self._pool = pool
        self._cipher = AESGCM(secret)
        self._contents = contents

    def all(self) -> list[SavedViewItem]:
        """By name."""
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_ALL, binary=True).fetchall()
        opened = [item for _, item in self._opened(rows)]
        return sorted(opened, key=lambda one: (one.view.name, one.id))

    def get(self, id: UUID) -> SavedViewItem:
        """Raises: NotFound."""
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_ONE, (id,), binary=True).fetchall()
        if not rows:
            raise _none()
        [(_, item)] = self._opened(rows)
        return item

    def add(self, item: SavedViewItem) -> None:
        """Raises: Conflict: there are too many."""
        with self._pool.connection() as conn:
            added = conn.execute(ADD, (item.id, *self._sealed(item), MAX_SAVED_VIEWS))
        if not added.rowcount:
            raise Conflict(f"there are {MAX_SAVED_VIEWS} saved views already; delete one first")

    def change(self, item: SavedViewItem) -> None:
        """Raises: NotFound."""
        with self._pool.connection() as conn:
            if not conn.execute(CHANGE, (*self._sealed(item), item.id)).rowcount:
                raise _none()

    def delete(self, id: UUID) -> None:
        """Raises: NotFound."""
        with self._pool.connection() as conn:
            if not conn.execute(DELETE, (id,)).rowcount:
                raise _none()

    def naming(self, names: Names) -> Iterator[tuple[SubjectId, SavedViewItem, list[str]]]:
        """The views that name somebody: the content of each, what it says without the names, and
        where they are."""
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_ALL, binary=True).fetchall()
        for content, item in self._opened(rows):
            view, places = without(item.view, names)
            if places:
                yield content, msgspec.structs.replace(item, view=view), places

    def replacement(self, item: SavedViewItem) -> Replacement:
        """What is to stand in place of a view."""
        return self._contents.replacement(_encoder.encode(item), item.id.bytes)

    def _sealed(self, item: SavedViewItem) -> tuple[bytes, SubjectId]:
        content, nonce = SubjectId(uuid4()), os.urandom(NONCE_BYTES)
        key = self._contents.key(content)
        return key.seal(_encoder.encode(item), _bound(item.id, content), nonce), content

    def _opened(
        self, rows: Sequence[tuple[UUID, bytes, UUID | None]]
    ) -> list[tuple[SubjectId, SavedViewItem]]:
        """Views, each with its content."""
        now = self._contents.now(SubjectId(content or id) for id, _, content in rows)
        found = []
        for id, sealed, content in rows:
            one = now.get(SubjectId(content or id))
            if one is not None and one.state is not None:
                found.append((one.id, one.opened(id.bytes)))
            elif content is None:
                nonce, ciphertext = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
                found.append((SubjectId(id), self._cipher.decrypt(nonce, ciphertext, id.bytes)))
            elif one is not None and one.key is not None:
                found.append((one.id, one.key.unseal(sealed, _bound(id, one.id))))
        return [(content, _decoder.decode(plain)) for content, plain in found]


def _bound(id: UUID, content: UUID) -> bytes:
    return id.bytes + content.bytes


def _none() -> NotFound:
    return NotFound("there is no such saved view")
