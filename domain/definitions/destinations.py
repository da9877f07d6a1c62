"""Destinations: outside systems that webhooks are sent to, and what they subscribe to.

`domain.webhook_items` makes the item of an event; `infra.webhooks.delivery` sends it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from domain.conditions.validation import Vocabulary
from domain.errors import InvalidInput, unknown
from domain.identity import SubjectKind

MAX_URL_CHARS = 2_000
MAX_NAMES = 200
LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts that need no TLS, for requests to them stay on the machine."""

_IN_AN_ADDRESS = re.compile(r"[!-~]+")


class SubscriptionKind(enum.StrEnum):
    """The kinds of news that a destination can subscribe to, named as in timelines."""

    EVENT = "event"
    PAGE = "page"
    SCREEN = "screen"
    CHANNEL = "channel"
    CAMPAIGN = "campaign"
    PROPERTY = "property"
    IDENTITY = "identity"
    MEMBERSHIP = "membership"
    MERGE = "merge"
    STAGE = "stage"
    HEALTH = "health"
    SCORE = "score"
    SEGMENT = "segment"
    SIGNAL = "signal"
    GOAL = "goal"


ACTIVITIES = (
    SubscriptionKind.EVENT,
    SubscriptionKind.PAGE,
    SubscriptionKind.SCREEN,
    SubscriptionKind.CHANNEL,
    SubscriptionKind.CAMPAIGN,
)
NAMED = (*ACTIVITIES, SubscriptionKind.PROPERTY)
"""The kinds that a subscription can narrow to some names."""


class Subscription(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    Attributes:
        names: of the activities or properties to send; None: all.
    """

    about: SubscriptionKind
    names: list[str] | None = None


class Destination(msgspec.Struct, frozen=True, tag="destination", omit_defaults=True):
    """A webhook. Erasures are sent to all active destinations.

    Attributes:
        url: the address of its POST requests; https, or http on the machine itself.
        news: the subscriptions.
        kind: sends only events about users, or about accounts; None: both.
        segment: sends only events about members, at the time of sending, of this segment of `kind`.
    """

    name: str
    url: str
    news: list[Subscription]
    kind: SubjectKind | None = None
    segment: UUID | None = None

    @property
    def is_narrowed(self) -> bool:
        """Whether a decision to send needs more than the event's envelope."""
        return self.segment is not None or any(
            subscription.names is not None for subscription in self.news
        )


def check(destination: Destination) -> None:
    """Raises: InvalidInput: the destination is not consistent, with a pointer to what is wrong."""
    check_url(destination.url, "/url")
    if not destination.news:
        raise InvalidInput("news is empty, so nothing is sent; name something", pointer="/news")
    seen: set[SubscriptionKind] = set()
    for n, subscription in enumerate(destination.news):
        if subscription.about in seen:
            raise InvalidInput(
                f"{subscription.about.value} is listed twice; put its names into one",
                pointer=f"/news/{n}",
            )
        seen.add(subscription.about)
        _check_names(subscription, f"/news/{n}/names")
    if destination.segment is not None and destination.kind is None:
        raise InvalidInput(
            "a segment is of users or of accounts: say of which as `kind`", pointer="/kind"
        )


def check_url(url: str, pointer: str) -> None:
    """Raises: InvalidInput: not an address for POST requests."""
    if not 1 <= len(url) <= MAX_URL_CHARS or not _IN_AN_ADDRESS.fullmatch(url):
        raise InvalidInput(
            f"an address has 1 to {MAX_URL_CHARS:,} characters of ASCII, without spaces",
            pointer=pointer,
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port == 0:
        raise InvalidInput("the address has no host, or an invalid one", pointer=pointer)
    if parts.scheme != "https" and not (parts.scheme == "http" and host in LOOPBACK):
        raise InvalidInput("an address begins with https://", pointer=pointer)
    if parts.username is not None or parts.password is not None:
        raise InvalidInput(
            "leave user name and password out of the address: messages are signed", pointer=pointer
        )
    if parts.fragment:
        raise InvalidInput("a fragment (#) is never sent; leave it out", pointer=pointer)


def check_names(destination: Destination, vocabulary: Vocabulary) -> None:
    """Raises: InvalidInput: it names an unknown event, screen or property."""
    kinds = list(SubjectKind) if destination.kind is None else [destination.kind]
    for n, subscription in enumerate(destination.news):
        known: Collection[str] | None = None
        if subscription.about in (SubscriptionKind.EVENT, SubscriptionKind.SCREEN):
            known = vocabulary.activities(subscription.about.value)
        elif subscription.about is SubscriptionKind.PROPERTY:
            known = {name for kind in kinds for name in vocabulary.properties(kind)}
        for m, name in enumerate(subscription.names or ()):
            if known is not None and name not in known:
                raise InvalidInput(
                    unknown(subscription.about.value, name, known),
                    pointer=f"/news/{n}/names/{m}",
                )


def _check_names(subscription: Subscription, pointer: str) -> None:
    if subscription.names is None:
        return
    if subscription.about not in NAMED:
        raise InvalidInput(
            f"only {', '.join(NAMED)} are told by name; leave the names out", pointer=pointer
        )
    if not 1 <= len(subscription.names) <= MAX_NAMES:
        raise InvalidInput(
            f"name 1 to {MAX_NAMES}, or leave the names out for all", pointer=pointer
        )
    if len(set(subscription.names)) < len(subscription.names):
        raise InvalidInput("a name is listed twice", pointer=pointer)
