"""Tracked activity: events, pages and screens, and the channel and campaign a visit came by."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec

from domain.errors import InvalidInput
from domain.identity import json_type, sent_text
from domain.properties import (
    MAX_NAME_CHARS,
    RefusedValue,
    checked_number,
    checked_text,
    name_problem,
    shown_name,
)
from domain.texts import character_problem, trimmed

Metadata = dict[str, str | int | float | bool]

MAX_METADATA_KEYS = 256
MAX_URL_CHARS = 2_048


class ActivityKind(enum.StrEnum):
    EVENT = "event"
    PAGE = "page"
    SCREEN = "screen"
    CHANNEL = "channel"
    CAMPAIGN = "campaign"


class Activity(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tracked activity of a subject.

    Attributes:
        skew: seconds from sending, by the client's clock, to receipt; None below a second.
    """

    kind: ActivityKind
    name: str
    metadata: Metadata = msgspec.field(default_factory=dict)
    skew: float | None = None


def checked_metadata(sent: Mapping[str, object]) -> tuple[Metadata, list[RefusedValue]]:
    """Accepts strings, numbers and booleans; refuses each other value by name.

    Args:
        sent: flat, as `domain.shapes.flat_metadata` makes it.
    """
    accepted: Metadata = {}
    refused: list[RefusedValue] = []
    for name, value in sent.items():
        if value is None:
            continue
        try:
            accepted[_checked_key(name, len(accepted))] = _checked_plain(value)
        except ValueError as reason:
            refused.append(RefusedValue(shown_name(name), str(reason)))
    return accepted, refused


def _checked_plain(value: object) -> str | int | float | bool:
    if isinstance(value, str):
        return checked_text(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return checked_number(value)
    raise ValueError(f"expected a string, a number or a boolean, got {json_type(value)}")


def _checked_key(name: str, taken: int) -> str:
    if taken >= MAX_METADATA_KEYS:
        raise ValueError(f"at most {MAX_METADATA_KEYS} metadata values are kept")
    if not name:
        raise ValueError("the name is empty")
    if len(name) > MAX_NAME_CHARS:
        raise ValueError(f"the name has {len(name)} characters, at most {MAX_NAME_CHARS}")
    problem = None if name.isascii() and name.isprintable() else character_problem(name)
    if problem is not None:
        raise ValueError(f"the name {problem}; send it without")
    return name


def occurrence(at: datetime) -> datetime:
    """The instant of an activity, in UTC.

    Raises:
        ValueError: outside the years 2 to 9998, and so without a calendar day in every zone.
    """
    try:
        instant = at.astimezone(UTC)
    except OverflowError:
        instant = None
    if instant is None or not 1 < instant.year < 9999:
        raise ValueError("the time lies outside the years 2 to 9998")
    return instant


def event_name(value: object, *, pointer: str) -> str:
    """A past-tense event name, or a screen's name, trimmed and in NFC. A whole number is its
    decimal text.

    Raises:
        InvalidInput: missing, or not a name that the catalogue takes.
    """
    name = sent_text(value)
    if name is None:
        raise InvalidInput(f"expected a name, got {json_type(value)}", pointer=pointer)
    name = trimmed(name)
    problem = name_problem(name)
    if problem is not None:
        raise InvalidInput(problem, pointer=pointer)
    return name


def page_name(value: object, *, pointer: str) -> str:
    """The name of a page: host and path. Query and fragment may hold personal data, and go.

    Raises:
        InvalidInput: missing, too long, or not a web address.
    """
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"expected the page's URL, got {json_type(value)}", pointer=pointer)
    if len(value) > MAX_URL_CHARS:
        raise InvalidInput(
            f"the URL has {len(value)} characters, at most {MAX_URL_CHARS} are accepted",
            pointer=pointer,
        )
    url = trimmed(value)
    problem = character_problem(url)
    if problem is not None:
        raise InvalidInput(f"the URL {problem}; send it percent-encoded", pointer=pointer)
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if not host:
        raise InvalidInput("the URL has no host; send it whole, https://host/path", pointer=pointer)
    return host + (parts.path.rstrip("/") or "/")


_PAID = {"cpc", "ppc", "paid", "cpm", "display", "paidsearch", "paid_search", "ads", "banner"}
_SOCIAL = {"facebook", "instagram", "linkedin", "twitter", "x", "t", "reddit", "tiktok", "youtube"}
_SEARCH = {"google", "bing", "duckduckgo", "yahoo", "ecosia", "baidu", "qwant", "startpage"}


def channel_of(campaign: Mapping[str, str], referrer: str | None, url: str | None) -> str | None:
    """The channel a visit came by: paid, email, social, organic, referral, direct, or the medium.

    None: unknown, or from the same site.
    """
    medium = campaign.get("medium", "").casefold()
    if medium:
        if medium in _PAID or medium.startswith("paid"):
            return "paid"
        if medium in ("email", "e-mail", "newsletter"):
            return "email"
        return "social" if medium.startswith("social") else medium
    if campaign:
        return "campaign"
    if referrer is None:
        return None
    if not referrer:
        return "direct"
    host = _host(referrer)
    if not host or host == _host(url or ""):
        return None
    labels = set(host.split("."))
    if labels & _SEARCH:
        return "organic"
    return "social" if labels & _SOCIAL else "referral"


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:
        return ""
