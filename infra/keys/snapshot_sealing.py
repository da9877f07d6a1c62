"""Seals the states of aggregates for snapshots, and opens them again.

A state is sealed as events are, bound to its subject, its version and its schema version.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

import msgspec

from domain.identity import SubjectId, SubjectKind
from domain.subjects.account import Account
from domain.subjects.subject import Subject
from domain.subjects.user import User
from infra.keys.key_ring import KeyRing
from infra.keys.opening import unseal
from infra.keys.subject_key import random_nonces

SNAPSHOT_SCHEMA_VERSION = 2
"""Version of the form of states; a state of another one is not read but replayed from events."""

_SNAPSHOT = b"n"
_encode = msgspec.msgpack.Encoder().encode
_decode_user = msgspec.msgpack.Decoder(User).decode
_decode_account = msgspec.msgpack.Decoder(Account).decode


class SnapshotSealer:
    """Safe for use from many threads."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    def seal(self, states: Sequence[Subject]) -> list[bytes]:
        """
        Raises:
            SubjectErased: a subject's key is destroyed.
        """
        keys = self._keys.fetch_or_make({state.id.int for state in states})
        for n in self._keys.versions.draw(len(states)):
            self._keys.versions.count(states[n].id.int, keys[states[n].id.int].version)
        return [
            keys[state.id.int].seal(_encode(state), _bound(state.id, state.version), nonce)
            for state, nonce in zip(states, random_nonces(len(states)), strict=True)
        ]

    def open(
        self, kind: SubjectKind, snapshots: Iterable[tuple[SubjectId, int, bytes]]
    ) -> dict[SubjectId, User | Account]:
        """Opens snapshots, each a subject, a version and a sealed state; those of erased subjects
        are absent.

        Raises:
            Tampered: one was altered or moved.
            msgspec.MsgspecError: one has another form.
        """
        snapshots = list(snapshots)
        keys = self._keys.fetch(subject.int for subject, _, _ in snapshots)
        behind = {
            subject.int
            for subject, _, sealed in snapshots
            if subject.int in keys and keys[subject.int].is_behind(sealed)
        }
        if behind:
            keys |= self._keys.fetch_anew(behind)
        decode = _decode_user if kind is SubjectKind.USER else _decode_account
        return {
            subject: decode(unseal(keys[subject.int], sealed, _bound(subject, version)))
            for subject, version, sealed in snapshots
            if subject.int in keys
        }


def _bound(subject: SubjectId, version: int) -> bytes:
    return _SNAPSHOT + subject.bytes + struct.pack(">qH", version, SNAPSHOT_SCHEMA_VERSION)
