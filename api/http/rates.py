"""How often a client may ask: token buckets by API key, and by address for wrong API keys.

A process counts what reaches it: several processes allow as many times as much.
"""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from uuid import UUID

from domain.errors import TooManyAtOnce

MAX_BUCKETS = 10_000
"""Buckets of each sort. Beyond that, the least recently used bucket is dropped: its client begins
anew."""

WRONG_KEYS = 100
WRONG_KEYS_PER_SECOND = 2.0
_IPV6_CLIENT_BITS = 64

Headers = list[tuple[bytes, bytes]]
Clock = Callable[[], float]


class TokenBucket:
    """Holds up to `capacity` tokens and gains `rate` of them a second; begins full.

    Taking may leave a debt: the cost of a batch is known only once it is unpacked. The next request
    waits until the debt is paid.
    """

    __slots__ = ("_at", "_capacity", "_level", "_rate")

    def __init__(self, *, rate: float, capacity: float, now: float) -> None:
        self._rate, self._capacity = rate, capacity
        self._level, self._at = capacity, now

    def seconds_until_one(self, now: float) -> float:
        """Until there is a whole token; 0 if there is one."""
        return max(0.0, (1 - self.level(now)) / self._rate)

    def seconds_until_full(self, now: float) -> float:
        return (self._capacity - self.level(now)) / self._rate

    def take(self, count: float, now: float) -> None:
        self._level = self.level(now) - count

    def level(self, now: float) -> float:
        """In tokens; below 0 it is in debt."""
        if now > self._at:
            self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
            self._at = now
        return self._level


class _Buckets:
    """A bucket for each client, of a bounded number of clients."""

    def __init__(self, rate: float, capacity: float) -> None:
        self._rate, self._capacity = rate, capacity
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def of(self, client: Hashable, now: float) -> TokenBucket:
        bucket = self._buckets.get(client)
        if bucket is not None:
            self._buckets.move_to_end(client)
            return bucket
        if len(self._buckets) >= MAX_BUCKETS:
            self._buckets.popitem(last=False)
        bucket = TokenBucket(rate=self._rate, capacity=self._capacity, now=now)
        self._buckets[client] = bucket
        return bucket


class KeyRates:
    """Token buckets of each API key: requests and messages a second; bursts of one second."""

    def __init__(self, *, requests: int, messages: int, clock: Clock = time.monotonic) -> None:
        self._sorts = {
            name: _Buckets(rate, rate)
            for name, rate in (("requests", requests), ("messages", messages))
        }
        self._allowed = {"requests": requests, "messages": messages}
        self._clock = clock
        self._lock = threading.Lock()
        policy = ", ".join(f'"{name}";q={rate};w=1' for name, rate in self._allowed.items())
        self._policy = (b"ratelimit-policy", policy.encode())

    def admit(self, key: UUID) -> None:
        """Counts a request.

        Raises:
            TooManyAtOnce: the key has used up its requests, or its messages.
        """
        with self._lock:
            now = self._clock()
            for name, buckets in self._sorts.items():
                seconds = buckets.of(key, now).seconds_until_one(now)
                if seconds > 0:
                    raise TooManyAtOnce(
                        f"this API key may send {self._allowed[name]:,} {name} a second; wait the"
                        " seconds of Retry-After, then send the same again",
                        retry_after=math.ceil(seconds),
                    )
            self._sorts["requests"].of(key, now).take(1, now)

    def spend(self, key: UUID, messages: int) -> None:
        """Counts the messages of a batch that was admitted."""
        with self._lock:
            now = self._clock()
            self._sorts["messages"].of(key, now).take(messages, now)

    def headers(self, key: UUID) -> Headers:
        """The remaining rate, as headers of draft-ietf-httpapi-ratelimit-headers-10."""
        with self._lock:
            now = self._clock()
            left = ", ".join(
                f'"{name}";r={max(0, int(bucket.level(now)))}'
                f";t={math.ceil(bucket.seconds_until_full(now))}"
                for name, bucket in (
                    (name, buckets.of(key, now)) for name, buckets in self._sorts.items()
                )
            )
        return [self._policy, (b"ratelimit", left.encode())]


class WrongKeys:
    """How many wrong API keys an address may present. Right ones are never counted."""

    def __init__(self, *, clock: Clock = time.monotonic) -> None:
        self._buckets = _Buckets(WRONG_KEYS_PER_SECOND, WRONG_KEYS)
        self._clock = clock
        self._lock = threading.Lock()

    def seconds_to_wait(self, address: str) -> int:
        """Until the address may present another unknown key; 0 if it may now."""
        with self._lock:
            now = self._clock()
            return math.ceil(self._buckets.of(_client_of(address), now).seconds_until_one(now))

    def note(self, address: str) -> None:
        with self._lock:
            now = self._clock()
            self._buckets.of(_client_of(address), now).take(1, now)


def _client_of(address: str) -> str:
    """A client of IPv6 has a whole network of addresses, so all of it counts as one."""
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((address, _IPV6_CLIENT_BITS), strict=False).network_address)
