"""Keyed digests: HMAC-SHA-256, as the standard library has it."""

from __future__ import annotations

import hmac
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from infra.keys.digests import KeyedDigest


@given(st.binary(min_size=1, max_size=100), st.lists(st.text()))
def test_a_digest_is_the_standard_one_whatever_was_digested_before(
    secret: bytes, texts: list[str]
) -> None:
    digest = KeyedDigest(secret)
    expected = [hmac.digest(secret, text.encode(), "sha256") for text in texts]
    assert [digest(text) for text in texts] == expected
    with ThreadPoolExecutor(2) as threads:
        assert [*threads.map(digest, texts)] == expected


def test_a_digest_does_not_show_its_secret() -> None:
    assert "secret" not in repr(vars(KeyedDigest(b"secret"))) + repr(KeyedDigest(b"secret"))
