"""Which addresses may be posted to, and how messages are signed."""

from __future__ import annotations

import base64
import ipaddress

import pytest

from infra import signing
from infra.outside import is_private, is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254",
        "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "192.0.2.1", "::1", "::",
        "fe80::1", "fc00::1", "fd12::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "2002:7f00:1::", "2002:a00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    ],
)  # fmt: skip
def test_an_address_that_is_not_of_the_internet_is_told_whatever_it_hides_behind(
    address: str,
) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"])
def test_an_address_of_the_internet_may_be_posted_to(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_what_an_address_says_itself_is_seen_without_resolving_it() -> None:
    for url in ("https://10.0.0.1/", "https://[::1]/", "https://localhost/", "http://127.0.0.1/"):
        assert is_private(url)
    assert not is_private("https://crm.example/")


def test_a_message_is_signed_as_the_example_of_standard_webhooks_is() -> None:
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    other = b"another"
    headers = signing.headers(
        [secret, other], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    first, second = headers["webhook-signature"].split(" ")
    assert first == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert second.startswith("v1,")
    assert second != first
    assert signing.shown(secret) == "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
