"""The key of one subject: seals, opens, and derives the keys of periods; and by which chance its
seals are counted."""

from __future__ import annotations

import math
import secrets
import threading

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from infra.keys.key_encryption import KEY_BYTES

DERIVED_FOR = b"annals tracked activity"
PERIODS_A_KEY = 8
"""Of so many months a cached key keeps what is derived for them. A batch is nearly always of one,
a replay goes through them in about their order."""

_NOTHING_DERIVED: dict[bytes, SubjectKey] = {}
_chance = secrets.SystemRandom()


class Sampler:
    """Draws each of many by the same small chance, at no cost for those that are not drawn. It
    has no memory: one that begins anew draws as often as one that went on."""

    def __init__(self, one_in: int) -> None:
        self._scale = math.log1p(-1 / one_in)
        self._lock = threading.Lock()
        self._left = self._gap()

    def _gap(self) -> int:
        """How many are passed over before the next one that is drawn."""
        return int(math.log(1.0 - _chance.random()) / self._scale)

    def draw(self, count: int) -> list[int]:
        """The indexes of those that are drawn among the next `count`."""
        drawn: list[int] = []
        with self._lock:
            while self._left < count:
                drawn.append(self._left)
                self._left += 1 + self._gap()
            self._left -= count
        return drawn


class SubjectKey:
    """The active key of a subject, ready for use: seals with its newest version, opens with the
    one that sealed. Shows nothing of its material.

    Attributes:
        kept_until: when a cache has to look again whether the key is still there.
    """

    __slots__ = (
        "_decrypt",
        "_encrypt",
        "_material",
        "_newest",
        "_of_periods",
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
        self._of_periods = _NOTHING_DERIVED
        self._newest = (b"", cipher.encrypt)

    def of_period(self, secret: bytes) -> SubjectKey:
        """The key under which tracked activity of a period is sealed, by the period's secret: each
        version derived (HKDF-SHA256) from the same version of this."""
        known = self._of_periods
        key = known.get(secret)
        if key is None:
            if not known or len(known) >= PERIODS_A_KEY:
                known = self._of_periods = {}
            derived = HKDF(SHA256(), KEY_BYTES, secret, DERIVED_FOR).derive(self._material)
            older = None if self._older is None else self._older.of_period(secret)
            key = known[secret] = SubjectKey(self.version, derived, older=older)
        return key

    def seal(self, plain: bytes, bound: bytes, nonce: bytes, period: bytes | None = None) -> bytes:
        """The version of the key, the nonce, ciphertext and tag; as `of_period` does, if a period's
        secret is given. `nonce` must be random and used once."""
        if period is None:
            return self._prefix + nonce + self._encrypt(nonce, plain, bound)
        # What is written is nearly always of one period: the long way to its key would cost as
        # much as the cipher. A pair, for other threads may be sealing for another period.
        newest, encrypt = self._newest
        if newest is not period:
            encrypt = self.of_period(period)._encrypt
            self._newest = (period, encrypt)
        return self._prefix + nonce + encrypt(nonce, plain, bound)

    def unseal(self, sealed: bytes, bound: bytes) -> bytes:
        """Raises: InvalidTag, ValueError: another key, other associated data, altered bytes."""
        if sealed.startswith(self._prefix):
            return self._decrypt(sealed[2:14], sealed[14:], bound)
        if self._older is None:
            raise InvalidTag
        return self._older.unseal(sealed, bound)

    def is_behind(self, sealed: bytes) -> bool:
        """Whether a later version than this holds has sealed something, as it says of itself."""
        return sealed[:2] > self._prefix

    def __repr__(self) -> str:
        return f"SubjectKey(version={self.version})"
