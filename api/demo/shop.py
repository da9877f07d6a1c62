"""Half a year of a web shop: pages, screens, sessions and the channels by which visitors came.

Source: `shop-clickstream.csv.gz`, which ships with the `retentioneering` package; its times are
read as UTC. Views become pages on the web (desktop, mobile) and screens elsewhere (tablet, taken
to be the app); deeds become events. A message id is made of the row's number, so that loading the
file twice doubles nothing.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

from api.demo.messages import Message

SITE = "https://shop.example"
WEB_PLATFORMS = {"desktop", "mobile"}
VIEWS = {
    "home": "Home",
    "promo_page": "Promotion",
    "catalog": "Catalogue",
    "product_view": "Product",
    "review_page": "Reviews",
    "cart": "Cart",
    "shipping_details": "Shipping details",
    "payment_details": "Payment details",
    "account_page": "Account",
    "error_page": "Error",
}
DEEDS = {
    "search": "products searched",
    "filter_results": "results filtered",
    "compare": "products compared",
    "wishlist_add": "product added to wishlist",
    "add_to_cart": "product added to cart",
    "purchase": "order completed",
    "payment_error": "payment failed",
    "checkout_bug": "checkout failed",
    "support_chat": "support chat started",
}
CAMPAIGNS = {
    "email": {"name": "newsletter", "source": "newsletter", "medium": "email"},
    "paid_search": {"name": "search ads", "source": "search engine", "medium": "paid_search"},
    "social": {"name": "social posts", "source": "social network", "medium": "social"},
}


def messages(path: Path) -> Iterator[Message]:
    """In the file's order: new facts about the user, then its activity."""
    traits_sent: dict[str, dict[str, object]] = {}
    sessions: set[str] = set()
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=1):
            user, session = row["user_id"], row["session_id"]
            sent = traits_sent.setdefault(user, {})
            news = {name: value for name, value in _traits(row).items() if sent.get(name) != value}
            if news:
                sent.update(news)
                yield _message("identify", number, row) | {"traits": news}
            context: dict[str, object] = {}
            if session not in sessions:
                sessions.add(session)
                campaign = CAMPAIGNS.get(row["acquisition_channel"])
                if campaign is not None:
                    context["campaign"] = campaign
            yield _activity(number, row, context)


def _message(call: str, number: int, row: dict[str, str]) -> Message:
    return {
        "type": call,
        "messageId": f"shop-{number}-{call}",
        "timestamp": row["timestamp"].replace(" ", "T") + "Z",
        "userId": row["user_id"],
    }


def _traits(row: dict[str, str]) -> dict[str, object]:
    return {
        "platform": row["platform"],
        "acquisition_channel": row["acquisition_channel"],
        "cohort": row["user_cohort"],
        "lifecycle": row["user_lifecycle"],
    }


def _activity(number: int, row: dict[str, str], context: dict[str, object]) -> Message:
    event = row["event"]
    properties: dict[str, object] = {"session": row["session_id"], "platform": row["platform"]}
    if event not in VIEWS:
        name = DEEDS.get(event, event.replace("_", " "))
        message = _message("track", number, row) | {"event": name}
    elif row["platform"] in WEB_PLATFORMS:
        path = "/" if event == "home" else f"/{event}"
        properties["url"] = SITE + path
        context["page"] = {"url": SITE + path, "path": path, "title": VIEWS[event]}
        message = _message("page", number, row)
    else:
        message = _message("screen", number, row) | {"name": VIEWS[event]}
    return message | {"properties": properties, "context": context}
