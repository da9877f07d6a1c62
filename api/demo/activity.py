"""The daily activity of the made-up company's customers: the tables behind `company`."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

SITE = "https://www.ledgerly.example"
AMOUNTS = (12.5, 49.0, 80.0, 120.0, 149.9, 240.0, 375.0, 499.0, 1_250.0, 2_890.5, 7_400.0)

Values = dict[str, object]


class Deed(NamedTuple):
    """A kind of message that can be drawn; `variants` are its (properties, context) pairs.

    An empty context stands for that of the user's account.
    """

    call: str
    name: str
    weight: int
    variants: tuple[tuple[Values, Values], ...]


def _deed(call: str, name: str, weight: int, *properties: Values) -> Deed:
    return Deed(call, name, weight, tuple((values, {}) for values in properties or ({},)))


def _each(name: str, *values: object, **others: object) -> list[Values]:
    return [{name: value} | others for value in values]


def _pages() -> Deed:
    """The company's web site, seen without an account; one visit in four came by a campaign."""
    paths = ("/", "/pricing", "/docs/invoices", "/docs/api", "/blog/late-payments", "/changelog")
    campaigns: list[Values] = [
        {"name": "spring sale", "source": "google", "medium": "cpc"},
        {"name": "product news", "source": "newsletter", "medium": "email"},
        {"name": "founder stories", "source": "linkedin", "medium": "social"},
    ]
    variants: list[tuple[Values, Values]] = []
    for path in paths:
        url = SITE + path
        page: Values = {"url": url, "path": path}
        referrers = ("", "https://www.google.com/", "https://news.example/", *[SITE + "/"] * 6)
        contexts: list[Values] = [{"page": page | {"referrer": referrer}} for referrer in referrers]
        contexts += [{"page": page, "campaign": campaign} for campaign in campaigns]
        variants += [({"url": url}, context) for context in contexts]
    return Deed("page", "", 14, tuple(variants))


DEEDS = (
    _pages(),
    _deed("screen", "Dashboard", 12),
    _deed("screen", "Invoices", 10),
    _deed("screen", "Clients", 6),
    _deed("screen", "Reports", 5),
    _deed("screen", "Settings", 2),
    _deed("track", "signed in", 16, *_each("method", "password", "password", "single sign-on")),
    _deed("track", "invoice sent", 11, *_each("amount", *AMOUNTS, currency="EUR")),
    _deed("track", "expense recorded", 7, *_each("amount", *AMOUNTS[:7], currency="EUR")),
    _deed("track", "report exported", 5, *_each("format", "pdf", "csv", "xlsx")),
    _deed("track", "client added", 4),
    _deed("track", "payment reminder sent", 3, *_each("level", 1, 1, 2, 3)),
    _deed("track", "teammate invited", 2, *_each("role", "admin", "editor", "viewer")),
    _deed("track", "integration connected", 1, *_each("app", "bank", "shop", "calendar")),
    _deed("track", "import failed", 1, *_each("rows", 3, 40, 1_200)),
)

OF_ACCOUNT_ALONE = (
    _deed("track", "bank feed synchronised", 1, *_each("transactions", 4, 17, 52, 230)),
    _deed("track", "usage limit reached", 1, *_each("limit", "invoices", "storage")),
)

SLOTS = tuple(deed for deed in DEEDS for _ in range(deed.weight))

_HOUR_WEIGHTS = (1, 1, 1, 1, 1, 2, 5, 12, 22, 28, 28, 24, 18, 24, 28, 26, 22, 16, 9, 6, 5, 4, 3, 2)


def _second_of_day(steps: int = 1_440) -> list[int]:
    """The second by which each 1/steps of a day's activity has happened; one more at the end."""
    reached = [0, *accumulate(_HOUR_WEIGHTS)]
    seconds, hour = [], 0
    for step in range(steps):
        share = reached[-1] * step / steps
        while reached[hour + 1] <= share:
            hour += 1
        seconds.append(int(3_600 * (hour + (share - reached[hour]) / _HOUR_WEIGHTS[hour])))
    return [*seconds, 86_400]


SECOND_OF_DAY = _second_of_day()
EVEN_DAY = [60 * minute for minute in range(1_441)]
WEEKDAY_WEIGHTS = (1.0, 1.05, 1.05, 1.0, 0.85, 0.2, 0.15)
