"""Something to look at: real and generated data, sent through the same intake as any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from api.demo import company, shop, wikipedia
from api.demo.messages import Message
from api.demo.rules import COMPANY, SHOP, WIKIPEDIA, Rules

__all__ = ["Message", "Source", "sources"]

WIKIPEDIA_FILE = "wikipedia-edits.ndjson.gz"
SHOP_FILE = "shop-clickstream.csv.gz"


class Source(NamedTuple):
    """Demo data that can be loaded.

    Attributes:
        total: the number of messages.
        messages: starts them anew, the same ones every time.
        rules: the definitions for them.
    """

    title: str
    total: int
    messages: Callable[[], Iterator[Message]]
    rules: Rules


def sources(folder: Path | None, until: datetime) -> list[Source]:
    """The real data whose files are in `folder`; where none is, a company made up until `until`."""
    real: list[Source] = []
    if folder is not None:
        for title, file, read, rules in (
            ("Wikipedia edits", WIKIPEDIA_FILE, wikipedia.messages, WIKIPEDIA),
            ("Web shop", SHOP_FILE, shop.messages, SHOP),
        ):
            if (folder / file).is_file():
                real.append(_counted(title, partial(read, folder / file), rules))
    return real or [_counted("Demo company", partial(company.messages, until=until), COMPANY)]


def _counted(title: str, messages: Callable[[], Iterator[Message]], rules: Rules) -> Source:
    """Counts by going through once: well under a second for each of these."""
    return Source(title, sum(1 for _ in messages()), messages, rules)
