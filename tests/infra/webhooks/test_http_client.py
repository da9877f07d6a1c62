"""Which addresses may be posted to, and how messages are signed."""

from __future__ import annotations

import base64
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.webhooks import signing
from infra.webhooks.http_client import is_private, is_public

REFUSED_4 = [
    "0.0.0.0", "0.255.255.255", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200",
    "100.127.255.255", "127.0.0.1", "127.9.9.9", "168.63.129.16", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.0.0.1", "192.0.0.9", "192.0.0.192", "192.0.2.1", "192.88.99.1",
    "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.255.255.255", "240.0.0.1", "255.255.255.255",
]  # fmt: skip
REFUSED_6 = [
    "::", "::1", "::2", "::ffff", "100::1", "100:0:0:1::1", "200::1", "400::1", "1fff::1",
    "2001::1", "2001:1::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:30::1", "2001:1ff::1",
    "2001:db8::1", "3fff::1", "3fff:fff::1", "4000::1", "5f00::1", "8000::1", "fc00::1", "fd12::1",
    "fd00:ec2::254", "fe00::1", "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1", "feff::1",
    "ff02::1", "ff0e::1", "64:ff9b:1::1", "64:ff9b:1:ffff::7f00:1", "64:ff9b:2::1", "65::1",
]  # fmt: skip
PUBLIC_4 = [
    "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255",
    "172.32.0.0", "192.0.1.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
]  # fmt: skip
PUBLIC_6 = ["2000::1", "2001:200::1", "2001:4860:4860::8888", "2606:4700::1111", "3ffe::1"]


def behind(address: str) -> list[str]:
    """The ways to have an IPv4 address in one of IPv6 that something translates back."""
    text = f"{int(ipaddress.IPv4Address(address)):08x}"
    high, low = text[:4], text[4:]
    return [
        f"64:ff9b::{high}:{low}",
        f"2002:{high}:{low}::1",
        f"2606:4700::5efe:{high}:{low}",
        f"2606:4700::200:5efe:{high}:{low}",
    ]


@pytest.mark.parametrize("address", REFUSED_4 + REFUSED_6)
def test_an_address_that_is_not_of_the_internet_is_told(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC_4 + PUBLIC_6)
def test_an_address_of_the_internet_may_be_posted_to(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", REFUSED_4)
def test_an_address_is_told_whatever_it_hides_behind(address: str) -> None:
    for each in behind(address):
        assert not is_public(ipaddress.ip_address(each)), each


@pytest.mark.parametrize("address", PUBLIC_4)
def test_what_leads_to_an_address_of_the_internet_may_be_posted_to(address: str) -> None:
    for each in behind(address):
        assert is_public(ipaddress.ip_address(each)), each


@given(st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address))
def test_no_address_is_of_the_internet_as_one_mapped_or_compatible(
    address: ipaddress.IPv4Address,
) -> None:
    for prefix in ("::", "::ffff:", "::ffff:0:"):
        assert not is_public(ipaddress.ip_address(f"{prefix}{address}"))


@given(st.ip_addresses())
def test_no_address_that_the_library_knows_as_local_is_of_the_internet(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if is_public(address):
        for sort in ("private", "loopback", "link_local", "multicast", "unspecified"):
            assert not getattr(address, f"is_{sort}"), sort


def test_what_an_address_says_itself_is_seen_without_resolving_it() -> None:
    for host in (
        "10.0.0.1", "[::1]", "localhost", "127.1", "0x7f000001", "2130706433", "0177.0.0.1",
        "[fe80::1%25eth0]", "[::ffff:127.0.0.1]", "[::ffff:0:127.0.0.1]", "[64:ff9b::7f00:1]",
    ):  # fmt: skip
        assert is_private(f"https://{host}/"), host
    assert is_private("http://127.0.0.1/")
    assert not is_private("https://crm.example/")
    assert not is_private("https://1.1.1.1/")


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
