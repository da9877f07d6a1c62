"""Saved views: in tables beside the log, for they are no events and yet belong into its backup.

A filter can name a person, so each view is sealed whole, under a key of its own
(`infra.keys.content_keys`). Views from before there were such keys are sealed under a secret of the
deployment.
"""

from __future__ import annotations

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
from infra.keys.subject_key import NONCE_BYTES, random_nonces

SELECT_VIEWS = "SELECT id, sealed, content FROM log.saved_views"

SELECT_VIEW = "SELECT id, sealed, content FROM log.saved_views WHERE id = %(id)s"

INSERT_VIEW = """
INSERT INTO log.saved_views (id, sealed, content)
SELECT %(id)s, %(sealed)b, %(content)s
WHERE (SELECT count(*) FROM log.saved_views) < %(limit)s"""

UPDATE_VIEW = """
UPDATE log.saved_views SET sealed = %(sealed)b, content = %(content)s WHERE id = %(id)s"""

DELETE_VIEW = "DELETE FROM log.saved_views WHERE id = %(id)s"

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SavedViewItem)


class SavedViews:
    """Safe for use from many threads."""

    def __init__(self, pool: ConnectionPool, secret: bytes, contents: ContentKeys) -> None:
        self._pool = pool
        self._cipher = AESGCM(secret)
        self._contents = contents

    def all(self) -> list[SavedViewItem]:
        """All views, by name."""
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_VIEWS, binary=True).fetchall()
        items = [item for _, item in self._opened(rows)]
        return sorted(items, key=lambda item: (item.view.name, item.id))

    def get(self, id: UUID) -> SavedViewItem:
        """Raises: NotFound."""
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_VIEW, {"id": id}, binary=True).fetchall()
        if not rows:
            raise _not_found()
        [(_, item)] = self._opened(rows)
        return item

    def add(self, item: SavedViewItem) -> None:
        """Raises: Conflict: there are too many."""
        with self._pool.connection() as conn:
            inserted = conn.execute(INSERT_VIEW, {**self._sealed(item), "limit": MAX_SAVED_VIEWS})
        if not inserted.rowcount:
            raise Conflict(f"there are {MAX_SAVED_VIEWS} saved views already; delete one first")

    def change(self, item: SavedViewItem) -> None:
        """Raises: NotFound."""
        with self._pool.connection() as conn:
            if not conn.execute(UPDATE_VIEW, self._sealed(item)).rowcount:
                raise _not_found()

    def delete(self, id: UUID) -> None:
        """Raises: NotFound."""
        with self._pool.connection() as conn:
            if not conn.execute(DELETE_VIEW, {"id": id}).rowcount:
                raise _not_found()

    def naming(self, names: Names) -> Iterator[tuple[SubjectId, SavedViewItem, list[str]]]:
        """The views that contain one of the names: the content of each, the view without the
        names, and the JSON pointers to them."""
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_VIEWS, binary=True).fetchall()
        for content, item in self._opened(rows):
            view, pointers = without(item.view, names)
            if pointers:
                yield content, msgspec.structs.replace(item, view=view), pointers

    def replacement(self, item: SavedViewItem) -> Replacement:
        """A view, sealed to replace the one that has its id."""
        return self._contents.replacement(_encoder.encode(item), item.id.bytes)

    def _sealed(self, item: SavedViewItem) -> dict[str, object]:
        """The columns of a view, sealed as a new content."""
        content = SubjectId(uuid4())
        [nonce] = random_nonces(1)
        key = self._contents.key(content)
        sealed = key.seal(_encoder.encode(item), _bound(item.id, content), nonce)
        return {"id": item.id, "sealed": sealed, "content": content}

    def _opened(
        self, rows: Sequence[tuple[UUID, bytes, UUID | None]]
    ) -> list[tuple[SubjectId, SavedViewItem]]:
        """Views, each with its content; those whose key is destroyed are left out."""
        contents = self._contents.now(SubjectId(content or id) for id, _, content in rows)
        views: list[tuple[SubjectId, bytes]] = []
        for id, sealed, content in rows:
            current = contents.get(SubjectId(content or id))
            if current is not None and current.state is not None:
                views.append((current.id, current.opened(id.bytes)))
            elif content is None:
                nonce, ciphertext = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
                views.append((SubjectId(id), self._cipher.decrypt(nonce, ciphertext, id.bytes)))
            elif current is not None and current.key is not None:
                views.append((current.id, current.key.unseal(sealed, _bound(id, current.id))))
        return [(content, _decoder.decode(plain)) for content, plain in views]


def _bound(id: UUID, content: UUID) -> bytes:
    return id.bytes + content.bytes


def _not_found() -> NotFound:
    return NotFound("there is no such saved view")
