"""An HTTP client for addresses that people enter: it reaches no private network, and no server can
keep it waiting.

It checks addresses once they are resolved, at the moment of connecting, so that no name leads to a
private one. It follows no redirect, uses no proxy, reads little of an answer, and has one deadline
for the whole request.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import httpcore

from domain.definitions.destinations import LOOPBACK

SECONDS = 15.0
"""For one request, from connecting to the end of the answer."""

MAX_ANSWER_BYTES = 64 * 1024
_A_WRITE = 64 * 1024

_UNICAST_6 = ipaddress.IPv6Network("2000::/3")
"""The addresses that IANA has given to the internet; every other IPv6 address is refused."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""The only public network beyond it: the IPv4 internet, as seen from IPv6 alone."""

_SPECIAL_6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # IETF protocols: Teredo, ORCHID, benchmarks, anycast of services
            "2001:db8::/32",  # documentation
            "3fff::/20",  # documentation
        ),
    )
)
_SPECIAL_4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this host, this network
            "10.0.0.0/8",
            "100.64.0.0/10",  # shared by the customers of a carrier
            "127.0.0.0/8",
            "168.63.129.16/32",  # what Azure serves each of its machines, metadata among it
            "169.254.0.0/16",  # of a link; metadata of clouds
            "172.16.0.0/12",
            "192.0.0.0/24",  # IETF protocols; metadata of Oracle's cloud
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and the broadcast
        ),
    )
)
"""IANA's registries of special purpose addresses (RFC 6890), without those of the internet. They
stand here because `ipaddress` answers differently from one version of Python to another."""

_ISATAP = (0x0000_5EFE, 0x0200_5EFE)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Answer(NamedTuple):
    """
    Attributes:
        retry_after: seconds to wait before the next request, as the server asks; None: it does not.
    """

    status: int
    retry_after: float | None


class NotReached(Exception):
    """A request that got no answer.

    Attributes:
        failure: the kind of error in a word: `unknown_host`, `refused_address`, `connection`,
            `certificate`, `timeout`, `protocol`.
    """

    def __init__(self, failure: str) -> None:
        super().__init__(failure)
        self.failure = failure


def is_public(address: Address) -> bool:
    """Whether an address is of the internet: not this machine's, a private network's or a link's,
    and no IPv6 address that leads to one of these."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_4)
    inner = _ipv4_behind(address)
    if inner is not None and not is_public(inner):
        return False
    if address not in _UNICAST_6:
        return address in _NAT64
    return not any(address in network for network in _SPECIAL_6)


def _ipv4_behind(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a translator or the end of a tunnel forwards to."""
    whole = int(address)
    if address in _NAT64 or whole >> 32 & 0xFFFF_FFFF in _ISATAP:
        return ipaddress.IPv4Address(whole & 0xFFFF_FFFF)
    return address.sixtofour


def is_private(url: str) -> bool:
    """Whether a URL would be refused, before its host is resolved."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "https" or host in LOOPBACK:
        return True
    address = _address_in(host)
    return address is not None and not is_public(address)


def _address_in(host: str) -> Address | None:
    """The address that a host spells out, `127.1` and `0x7f000001` too; None: it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


class HttpClient:
    """Opens connections under one policy.

    Args:
        allows_private: whether private, link-local and loopback addresses may be posted to.
        certificates: a file of certificate authorities; None: the machine's.

    Raises:
        OSError: the file holds no certificate.
    """

    def __init__(self, *, allows_private: bool, certificates: Path | None = None) -> None:
        self.allows_private = allows_private
        if certificates is not None:
            self._context = ssl.create_default_context(cafile=certificates)

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context()  # reading the machine's certificates takes a while

    def connection(self) -> Connection:
        """A connection to one host, for several requests."""
        return Connection(self._context, allows_private=self.allows_private)


class Connection:
    """A connection to one host; takes one request at a time."""

    def __init__(self, context: ssl.SSLContext, *, allows_private: bool) -> None:
        self._backend = _Guarded(allows_private=allows_private)
        self._pool = httpcore.ConnectionPool(
            ssl_context=context, max_connections=1, network_backend=self._backend
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._pool.close()

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Posts a body of JSON.

        Raises:
            NotReached: there was no answer.
        """
        deadline = self._backend.deadline = time.monotonic() + SECONDS
        sent = [("Content-Type", "application/json"), ("User-Agent", "Annals"), *headers.items()]
        try:
            with self._pool.stream("POST", url, headers=sent, content=body) as answer:
                read = 0
                for part in answer.iter_stream():
                    read += len(part)
                    if read > MAX_ANSWER_BYTES or time.monotonic() > deadline:
                        break
                return Answer(answer.status, _retry_after(answer.headers))
        except httpcore.TimeoutException:
            raise NotReached("timeout") from None
        except httpcore.NetworkError:
            raise NotReached("connection") from None
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol):
            raise NotReached("protocol") from None


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    """The header `Retry-After` (RFC 9110, 10.2.3), a number or a date, in seconds from now."""
    value = next((value for name, value in headers if name.lower() == b"retry-after"), b"").strip()
    if value.isdigit():
        return float(value[:9])
    try:
        at = parsedate_to_datetime(value.decode("latin-1"))
    except (ValueError, OverflowError):
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, at.timestamp() - time.time())


class _Guarded(httpcore.NetworkBackend):
    """Resolves a name and connects to one of its allowed addresses, until a deadline."""

    def __init__(self, *, allows_private: bool) -> None:
        self.deadline = 0.0
        self._allows_private = allows_private
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        failed: httpcore.NetworkError | httpcore.TimeoutException | None = None
        for address in self._addresses(host, port):
            try:
                stream = self._inner.connect_tcp(
                    address, port, self.left(), local_address, socket_options
                )
                return _Limited(stream, self)
            except (httpcore.NetworkError, httpcore.TimeoutException) as error:
                failed = error
        raise failed or NotReached("refused_address")

    def left(self) -> float:
        """Seconds until the deadline. Raises: httpcore.ReadTimeout: it has passed."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout
        return left

    def _addresses(self, host: str, port: int) -> list[str]:
        try:
            resolved = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise NotReached("unknown_host") from None
        addresses = [str(address[0]) for *_, address in resolved]
        if self._allows_private:
            return addresses
        return [
            address
            for address in addresses
            if is_public(ipaddress.ip_address(address.partition("%")[0]))
        ]


class _Limited(httpcore.NetworkStream):
    """A stream whose every step ends at the deadline of the request that it serves."""

    def __init__(self, inner: httpcore.NetworkStream, backend: _Guarded) -> None:
        self._inner = inner
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._backend.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _A_WRITE):
            self._inner.write(buffer[start : start + _A_WRITE], self._backend.left())

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        try:
            stream = self._inner.start_tls(ssl_context, server_hostname, self._backend.left())
        except httpcore.ConnectError as error:
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise NotReached("certificate") from None
            raise
        return _Limited(stream, self._backend)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
