"""Contents: what definitions and saved views say, each sealed under a key of its own.

So one that names somebody who is erased can be forgotten with them: the erasure destroys its key,
and its request leads to what stands there instead, which is a content again. That lies beside the
keys: the log is only ever added to.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from psycopg_pool import ConnectionPool

from domain.identity import SubjectId
from infra.keys.key_ring import KeyRing
from infra.keys.subject_key import SubjectKey

NONCE_BYTES = 12
_REPLACEMENT = b"r"

SELECT = """
SELECT r.replaces, r.content, r.state FROM keys.replacements r
JOIN unnest(%b::uuid[], %b::uuid[]) AS w(content, request)
  ON r.replaces = w.content AND r.request = w.request"""

ADD = """
INSERT INTO keys.replacements (replaces, request, content, state) VALUES (%s, %s, %s, %b)
ON CONFLICT (replaces, request) DO UPDATE SET content = excluded.content, state = excluded.state"""


LEFT_OVER = """
SELECT content FROM keys.replacements WHERE replaces = ANY(%s) AND request <> %s AND state <> ''"""

EMPTY = "UPDATE keys.replacements SET state = '' WHERE content = ANY(%s)"


class Replacement(NamedTuple):
    """
    Attributes:
        content: its id, and that of its key.
        state: sealed.
    """

    content: SubjectId
    state: bytes


class Current(NamedTuple):
    """What a content is now.

    Attributes:
        id: its own, until it was replaced.
        key: None: it is destroyed, and nothing stands in its place.
        state: sealed; None: where it always was.
    """

    id: SubjectId
    key: SubjectKey | None
    state: bytes | None = None

    def opened(self, bound: bytes) -> bytes:
        """What was replaced, bound to `bound` when it was sealed."""
        assert self.key is not None
        assert self.state is not None
        return self.key.unseal(self.state, _REPLACEMENT + self.id.bytes + bound)


class ContentKeys:
    """Safe for use from many threads."""

    def __init__(self, pool: ConnectionPool, keys: KeyRing) -> None:
        self._pool = pool
        self._keys = keys

    def now(self, asked: Iterable[SubjectId]) -> dict[SubjectId, Current]:
        """What each content is now; those that never had a key are absent."""
        asked = list(asked)
        self._keys.refresh()
        keys = self._keys.fetch(one.int for one in asked)
        found = {one: Current(one, keys[one.int]) for one in asked if one.int in keys}
        gone = {one: one for one in asked if one not in found}
        while gone:
            requests = self._keys.erased_by(gone)
            found |= {gone[one]: Current(one, None) for one in requests}
            replaced = self._of({one: by for one, by in requests.items() if by is not None})
            keys = self._keys.fetch(one.content.int for one in replaced.values())
            following: dict[SubjectId, SubjectId] = {}
            for content, (now, state) in replaced.items():
                found[gone[content]] = Current(now, keys.get(now.int), state)
                if now.int not in keys:
                    following[now] = gone[content]
            gone = following
        return found

    def key(self, content: SubjectId) -> SubjectKey:
        """Its key, made where there was none. Raises: SubjectErased."""
        return self._keys.fetch_or_make({content.int})[content.int]

    def replacement(self, plain: bytes, bound: bytes) -> Replacement:
        """Something sealed, to stand where something else does."""
        content = SubjectId(uuid.uuid4())
        sealed = self.key(content).seal(
            plain, _REPLACEMENT + content.bytes + bound, os.urandom(NONCE_BYTES)
        )
        return Replacement(content, sealed)

    def prepare(
        self, request: uuid.UUID, replaced: Sequence[tuple[SubjectId, Replacement]]
    ) -> None:
        """What is to stand in place of contents once the request has destroyed their keys. They
        get one where they have none yet, so that two who destroy it come one after the other."""
        if not replaced:
            return
        self._keys.fetch_or_make({content.int for content, _ in replaced})
        with self._pool.connection() as conn:
            conn.cursor().executemany(ADD, [(content, request, *one) for content, one in replaced])

    def left_over(self, request: uuid.UUID, replaced: Sequence[uuid.UUID]) -> list[SubjectId]:
        """What others had ready in place of contents that this request was the one to replace: it
        says still what that does not."""
        with self._pool.connection() as conn:
            rows = conn.execute(LEFT_OVER, (list(replaced), request))
            return [SubjectId(content) for (content,) in rows]

    def empty(self, contents: Sequence[SubjectId]) -> None:
        """Drops what was ready and will never be read."""
        with self._pool.connection() as conn:
            conn.execute(EMPTY, (list(contents),))

    def _of(self, requests: Mapping[SubjectId, uuid.UUID]) -> dict[SubjectId, Replacement]:
        if not requests:
            return {}
        with self._pool.connection() as conn:
            asked = (list(requests), list(requests.values()))
            rows = conn.execute(SELECT, asked, binary=True)
            return {
                SubjectId(replaces): Replacement(SubjectId(content), state)
                for replaces, content, state in rows
            }
