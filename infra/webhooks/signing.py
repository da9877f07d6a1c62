"""Signatures of messages to destinations, as the Standard Webhooks specification has them:
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable

PREFIX = "whsec_"


def shown(secret: bytes) -> str:
    """A secret as the receiver gets it."""
    return PREFIX + base64.b64encode(secret).decode()


def headers(secrets: Iterable[bytes], id: str, at: int, body: bytes) -> dict[str, str]:
    """The headers of a message, with a signature for each secret.

    Args:
        at: when the message is sent, in seconds since 1970.
    """
    signed = f"{id}.{at}.".encode() + body
    signatures = [
        base64.b64encode(hmac.digest(secret, signed, "sha256")).decode() for secret in secrets
    ]
    return {
        "webhook-id": id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
