"""Keys of contents: each text of a definition or a saved view is sealed under a key of its own.

So a text that names an erased subject can be forgotten with the subject: the erasure destroys the
key of the text, and its request leads to a replacement, which is a content again. Replacements lie
beside the keys, for the log is append-only.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from psycopg_pool import ConnectionPool

from domain.identity import SubjectId
from infra.keys.erasure_records import erased_by
from infra.keys.key_ring import KeyRing
from infra.keys.subject_key import SubjectKey, random_nonces

_REPLACEMENT = b"r"

SELECT_REPLACEMENTS = """
SELECT r.replaces, r.content, r.state FROM keys.replacements r
JOIN unnest(%(contents)b::uuid[], %(requests)b::uuid[]) AS w(content, request)
  ON r.replaces = w.content AND r.request = w.request"""

UPSERT_REPLACEMENT = """
INSERT INTO keys.replacements (replaces, request, content, state)
VALUES (%(replaces)s, %(request)s, %(content)s, %(state)b)
ON CONFLICT (replaces, request) DO UPDATE SET content = excluded.content, state = excluded.state"""

SELECT_LEFT_OVER = """
SELECT content FROM keys.replacements
WHERE replaces = ANY(%(replaced)s) AND request <> %(request)s AND state <> ''"""

EMPTY_REPLACEMENTS = """
UPDATE keys.replacements SET state = '' WHERE content = ANY(%(contents)s)"""


class Replacement(NamedTuple):
    """
    Attributes:
        content: its id, and that of its key.
        state: sealed.
    """

    content: SubjectId
    state: bytes


class Current(NamedTuple):
    """The present state of a content.

    Attributes:
        id: its own, until it is replaced; then that of the replacement.
        key: None: it is destroyed, and nothing replaces the content.
        state: of a replacement, sealed; None: the content is not replaced.
    """

    id: SubjectId
    key: SubjectKey | None
    state: bytes | None = None

    def opened(self, bound: bytes) -> bytes:
        """The text of a replacement.

        Args:
            bound: the associated data of its sealing.
        """
        assert self.key is not None
        assert self.state is not None
        return self.key.unseal(self.state, _REPLACEMENT + self.id.bytes + bound)


class ContentKeys:
    """Safe for use from many threads."""

    def __init__(self, pool: ConnectionPool, keys: KeyRing) -> None:
        self._pool = pool
        self._keys = keys

    def now(self, contents: Iterable[SubjectId]) -> dict[SubjectId, Current]:
        """Returns the present state of each content, after all replacements; contents that never
        had a key are absent."""
        wanted = list(contents)
        self._keys.refresh()
        keys = self._keys.fetch(content.int for content in wanted)
        current = {
            content: Current(content, keys[content.int])
            for content in wanted
            if content.int in keys
        }
        # The contents whose key is missing, each with the content that it stands for.
        gone = {content: content for content in wanted if content not in current}
        while gone:
            with self._pool.connection() as conn:
                requests = erased_by(conn, gone)
            current |= {gone[content]: Current(content, None) for content in requests}
            replaced = self._replacements(
                {content: request for content, request in requests.items() if request is not None}
            )
            keys = self._keys.fetch(replacement.content.int for replacement in replaced.values())
            following: dict[SubjectId, SubjectId] = {}
            for content, (id, state) in replaced.items():
                current[gone[content]] = Current(id, keys.get(id.int), state)
                if id.int not in keys:
                    following[id] = gone[content]
            gone = following
        return current

    def key(self, content: SubjectId) -> SubjectKey:
        """The key of a content, made on first use. Raises: SubjectErased."""
        return self._keys.fetch_or_make({content.int})[content.int]

    def replacement(self, plain: bytes, bound: bytes) -> Replacement:
        """A text sealed as a new content, to replace another."""
        content = SubjectId(uuid.uuid4())
        [nonce] = random_nonces(1)
        sealed = self.key(content).seal(plain, _REPLACEMENT + content.bytes + bound, nonce)
        return Replacement(content, sealed)

    def prepare(
        self, request: uuid.UUID, replaced: Sequence[tuple[SubjectId, Replacement]]
    ) -> None:
        """Stores the replacements of contents, for when an erasure request destroys their keys.
        Contents without a key get one, so that two requests destroy it one after the other."""
        if not replaced:
            return
        self._keys.fetch_or_make({content.int for content, _ in replaced})
        rows = [
            {
                "replaces": content,
                "request": request,
                "content": replacement.content,
                "state": replacement.state,
            }
            for content, replacement in replaced
        ]
        with self._pool.connection() as conn:
            conn.cursor().executemany(UPSERT_REPLACEMENT, rows)

    def left_over(self, request: uuid.UUID, replaced: Sequence[uuid.UUID]) -> list[SubjectId]:
        """The replacements that other requests had prepared for contents which this request
        replaced: they still hold the names that this request removed."""
        params = {"replaced": list(replaced), "request": request}
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_LEFT_OVER, params)
            return [SubjectId(content) for (content,) in rows]

    def empty(self, contents: Sequence[SubjectId]) -> None:
        """Drops the texts of replacements that nothing will read."""
        with self._pool.connection() as conn:
            conn.execute(EMPTY_REPLACEMENTS, {"contents": list(contents)})

    def _replacements(
        self, requests: Mapping[SubjectId, uuid.UUID]
    ) -> dict[SubjectId, Replacement]:
        if not requests:
            return {}
        params = {"contents": list(requests), "requests": list(requests.values())}
        with self._pool.connection() as conn:
            rows = conn.execute(SELECT_REPLACEMENTS, params, binary=True)
            return {
                SubjectId(replaces): Replacement(SubjectId(content), state)
                for replaces, content, state in rows
            }
