"""Something to look at: real and generated data, sent through the same intake as any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from api.demo import company, shop, wikipedia
from api.demo.messages import Message

__all__ = ["Message", "Source", "sources"]

WIKIPEDIA_FILE = "wikipedia-edits.ndjson.gz"
SHOP_FILE = "shop-clickstream.csv.gz"


class Source(NamedTuple):
    """Demo data that can be loaded.

    Attributes:
        total: how many messages there are.
        messages: starts them anew, the same ones every time.
        has_rules: whether `api.demo.rules` are for it.
    """

    title: str
    total: int
    messages: Callable[[], Iterator[Message]]
    has_rules: bool = False


def sources(folder: Path | None, until: datetime) -> list[Source]:
    """A company made up until `until`, and the real data whose files are in `folder`."""
    made_up = _counted("Demo company", partial(company.messages, until=until))
    found = [made_up._replace(has_rules=True)]
    if folder is not None:
        for title, file, read in (
            ("Wikipedia edits", WIKIPEDIA_FILE, wikipedia.messages),
            ("Web shop", SHOP_FILE, shop.messages),
        ):
            if (folder / file).is_file():
                found.append(_counted(title, partial(read, folder / file)))
    return found


def _counted(title: str, messages: Callable[[], Iterator[Message]]) -> Source:
    """Counts by going through once: well under a second for each of these."""
    return Source(title, sum(1 for _ in messages()), messages)
