"""The key of one subject: seals, opens, and derives the subject's keys of months."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from infra.keys.key_encryption import KEY_BYTES

DERIVED_FOR = b"annals tracked activity"
DERIVED_KEYS = 8
"""How many derived keys a cached key keeps. A batch is nearly always of one month; a replay passes
through the months in about their order."""

NONCE_BYTES = 12

_NOTHING_DERIVED: dict[bytes, SubjectKey] = {}


def random_nonces(count: int) -> list[bytes]:
    """Nonces, all from one call for entropy."""
    entropy = os.urandom(NONCE_BYTES * count)
    return [entropy[n : n + NONCE_BYTES] for n in range(0, NONCE_BYTES * count, NONCE_BYTES)]


class SubjectKey:
    """The active key of a subject: seals with the newest version, opens with the version that
    sealed. Its `repr` shows nothing of the material.

    Attributes:
        kept_until: when a cache has to fetch it again; seconds, by `time.monotonic`.
    """

    __slots__ = (
        "_decrypt",
        "_encrypt",
        "_material",
        "_months",
        "_newest",
        "_older",
        "_prefix",
        "kept_until",
        "version",
    )

    def __init__(
        self,
        version: int,
        material: bytes,
        kept_until: float = 0.0,
        older: SubjectKey | None = None,
    ) -> None:
        cipher = AESGCM(material)
        self.version = version
        self.kept_until = kept_until
        self._prefix = version.to_bytes(2)
        self._encrypt = cipher.encrypt
        self._decrypt = cipher.decrypt
        self._older = older
        self._material = material
        self._months = _NOTHING_DERIVED
        self._newest = (b"", cipher.encrypt)

    def of_month(self, secret: bytes) -> SubjectKey:
        """The key that seals tracked activity of a month, by the secret of the month: each version
        is derived (HKDF-SHA256) from the same version of this key."""
        known = self._months
        key = known.get(secret)
        if key is None:
            if not known or len(known) >= DERIVED_KEYS:
                known = self._months = {}
            derived = HKDF(SHA256(), KEY_BYTES, secret, DERIVED_FOR).derive(self._material)
            older = None if self._older is None else self._older.of_month(secret)
            key = known[secret] = SubjectKey(self.version, derived, older=older)
        return key

    def seal(self, plain: bytes, bound: bytes, nonce: bytes, month: bytes | None = None) -> bytes:
        """Seals a text under the newest version.

        Args:
            bound: the associated data.
            nonce: random, and used once.
            month: the secret of a month; seals under the key of `of_month` instead.

        Returns:
            The version of the key, the nonce, ciphertext and tag.
        """
        if month is None:
            return self._prefix + nonce + self._encrypt(nonce, plain, bound)
        # Nearly all that is written is of one month: looking up its key would cost as much as the
        # cipher. A pair, for other threads may be sealing for another month.
        newest, encrypt = self._newest
        if newest is not month:
            encrypt = self.of_month(month)._encrypt
            self._newest = (month, encrypt)
        return self._prefix + nonce + encrypt(nonce, plain, bound)

    def unseal(self, sealed: bytes, bound: bytes) -> bytes:
        """Raises: InvalidTag, ValueError: another key, other associated data, altered bytes."""
        if sealed.startswith(self._prefix):
            return self._decrypt(sealed[2:14], sealed[14:], bound)
        if self._older is None:
            raise InvalidTag
        return self._older.unseal(sealed, bound)

    def is_behind(self, sealed: bytes) -> bool:
        """Whether a part names a later version than this key has: another process made it."""
        return sealed[:2] > self._prefix

    def __repr__(self) -> str:
        return f"SubjectKey(version={self.version})"
