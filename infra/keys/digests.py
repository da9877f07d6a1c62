"""Keyed digests: without the secret they reveal nothing of a text."""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC


class KeyedDigest:
    """HMAC-SHA-256 (RFC 2104) under one secret. Safe for use from many threads."""

    def __init__(self, secret: bytes) -> None:
        # Taking in the secret is most of the work: done once, and copied for each text.
        self._begun = HMAC(secret, SHA256())

    def __repr__(self) -> str:
        return "KeyedDigest()"

    def __call__(self, text: str) -> bytes:
        digest = self._begun.copy()
        digest.update(text.encode())
        return digest.finalize()
