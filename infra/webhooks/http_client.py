"""Posting to addresses that people enter: nobody gets at what is inside that way, nor holds us up.

Addresses are looked at once they are resolved, at the moment of connecting, so that no name leads
to a private one. No redirect is followed, no proxy is asked, little of an answer is read, and there
is one limit of time for everything.
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
"""All that IANA has given to the internet; every other IPv6 address is refused, named or not."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""The only one of these beyond it: the internet of IPv4, as it is seen from IPv6 alone."""

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
"""What the registries of special purpose addresses of IANA (RFC 6890) have that is not of the
internet. They stand here because what Python says of an address changes with its version."""

_ISATAP = (0x0000_5EFE, 0x0200_5EFE)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Answer(NamedTuple):
    """What came back.

    Attributes:
        again_in: seconds that its server wants us to wait before we ask again; None: it says
            nothing of that.
    """

    status: int
    again_in: float | None


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
    """Whether an address is one of the internet: not this machine's, a private network's, a
    link's, or one behind which one of these hides."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_4)
    inner = _ipv4_behind(address)
    if inner is not None and not is_public(inner):
        return False
    if address not in _UNICAST_6:
        return address in _NAT64
    return not any(address in network for network in _SPECIAL_6)


def _ipv4_behind(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Whom a translator or the end of a tunnel passes on what is sent to an address."""
    whole = int(address)
    if address in _NAT64 or whole >> 32 & 0xFFFF_FFFF in _ISATAP:
        return ipaddress.IPv4Address(whole & 0xFFFF_FFFF)
    return address.sixtofour


def is_private(url: str) -> bool:
    """Whether an address would be refused, as far as it says itself."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "https" or host in LOOPBACK:
        return True
    address = _address_in(host)
    return address is not None and not is_public(address)


def _address_in(host: str) -> Address | None:
    """The address that a host is, in any of the ways to write it: `127.1` and `0x7f000001` too."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


class HttpClient:
    """Where requests are posted from.

    Args:
        allows_private: whether private, link-local and loopback addresses may be posted to.
        certificates: a file with those that vouch for others; None: the machine's.

    Raises:
        OSError: there are no certificates in the file.
    """

    def __init__(self, *, allows_private: bool, certificates: Path | None = None) -> None:
        self.allows_private = allows_private
        if certificates is not None:
            self._context = ssl.create_default_context(cafile=certificates)

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context()  # to read all those of the machine takes a while

    def line(self) -> Connection:
        """A connection to one host, to be kept for several requests."""
        return Connection(self._context, allows_private=self.allows_private)


class Connection:
    """One request at a time."""

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
            NotReached: there was none.
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
                return Answer(answer.status, _again_in(answer.headers))
        except httpcore.TimeoutException:
            raise NotReached("timeout") from None
        except httpcore.NetworkError:
            raise NotReached("connection") from None
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol):
            raise NotReached("protocol") from None


def _again_in(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    """What `Retry-After` says (RFC 9110, 10.2.3): seconds, or a date."""
    said = next((value for name, value in headers if name.lower() == b"retry-after"), b"").strip()
    if said.isdigit():
        return float(said[:9])
    try:
        at = parsedate_to_datetime(said.decode("latin-1"))
    except (ValueError, OverflowError):
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, at.timestamp() - time.time())


class _Guarded(httpcore.NetworkBackend):
    """Resolves a name and connects to those of its addresses that may be, until a deadline."""

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
        """Seconds until the deadline. Raises: httpcore.ReadTimeout: it is over."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout
        return left

    def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise NotReached("unknown_host") from None
        addresses = [str(place[4][0]) for place in found]
        if self._allows_private:
            return addresses
        return [one for one in addresses if is_public(ipaddress.ip_address(one.partition("%")[0]))]


class _Limited(httpcore.NetworkStream):
    """A connection whose every step ends at the deadline of the request that it serves."""

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
