"""Which client and scheme a connection stands for, where a trusted proxy is in front of Annals.

A proxy says so in `X-Forwarded-For` and `X-Forwarded-Proto`. Anybody can send these headers, so
they count only on connections from the addresses that `ANNALS_TRUSTED_PROXIES` names.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from infra.settings import TrustedProxies

_FORWARDED_FOR, _FORWARDED_PROTO = b"x-forwarded-for", b"x-forwarded-proto"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
AsgiScope = Mapping[str, Any]


def client_address(scope: AsgiScope, trusted: TrustedProxies) -> str:
    """The address of the client, in its canonical form; empty where the connection has none.

    Each proxy appends the address that it was reached from. So the header is read from its end, for
    as long as the address that appended is trusted; clients can invent the addresses before that.
    """
    client = scope.get("client")
    nearest = None if client is None else parsed(client[0])
    if nearest is None:
        return ""
    hops = reversed(list(_values(scope, _FORWARDED_FOR)))
    while is_trusted(nearest, trusted):
        following = parsed(next(hops, ""))
        if following is None:
            break
        nearest = following
    return str(nearest)


def is_https(scope: AsgiScope, trusted: TrustedProxies) -> bool:
    """Whether the client reached Annals, or the trusted proxy in front of it, by TLS."""
    if scope.get("scheme") == "https":
        return True
    client = scope.get("client")
    nearest = None if client is None else parsed(client[0])
    if nearest is None or not is_trusted(nearest, trusted):
        return False
    return [*_values(scope, _FORWARDED_PROTO)][-1:] == ["https"]


def is_trusted(address: Address, trusted: TrustedProxies) -> bool:
    return any(address in network for network in trusted)


def _values(scope: AsgiScope, wanted: bytes) -> Iterator[str]:
    """The comma-separated values of a header, over all of its lines, in order."""
    for name, value in scope["headers"]:
        if name == wanted:
            for part in value.decode("latin-1").split(","):
                yield part.strip().lower()


def parsed(text: str) -> Address | None:
    """An address as proxies write it, `[::1]:8080` and `192.0.2.1:8080` included; None: it is none.

    An IPv4 address inside an IPv6 one, as sockets for both give it, is the IPv4 address.
    """
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
