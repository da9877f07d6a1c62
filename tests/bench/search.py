"""Searches over a large population: the first page, the best answers first, with all that the API
does for it but HTTP."""

from __future__ import annotations

import random
import time
from datetime import UTC
from statistics import median

import sqlalchemy as sa

from domain.calendar import Moment
from domain.identity import SubjectKind
from infra.bootstrap.annals import Annals
from projections.conditions.selection import Selection
from projections.queries.contact_list import ContactItem, list_contacts
from tests.bench.figures import Figure, Report
from tests.bench.population import TODAY, name_of

OFTEN = (
    "Ada", "lovelcae", "Grace Hopper", "hopper grcae", "example.com", "user", "@example", "a", "li",
    "Edsger Dijkstra 1", "zzyzx", "user 99 alan",
)  # fmt: skip
"""What many answer, or none: the worst of them is noted."""


def run(annals: Annals, report: Report, *, users: int, rounds: int) -> None:
    """Over the population of `tests.bench.population`."""
    chance = random.Random(7)
    some = [chance.randrange(users) for _ in range(3 * rounds)]

    exact = [f"user-{n}@example.com" for n in some] + [f"user-{n}" for n in some]
    exact += [name_of(n) for n in some]
    like = [f"user-{n}@exmaple.com" for n in some]
    like += [_with_slip(chance, name_of(n)) for n in some]
    for bench, searches in (("search.exact", exact), ("search.like", like)):
        taken = []
        for text in searches:
            milliseconds, items = _first_page(annals, text)
            assert items, text
            taken.append(milliseconds)
        report.add(Figure(bench, round(median(taken), 2), "ms"))
        report.note(f"{bench}: {median(taken):.1f} ms, the slowest {max(taken):.1f} ms")
    for text in OFTEN:
        taken = [_first_page(annals, text)[0] for _ in range(rounds)]
        report.note(f"search {text!r}: {median(taken):.1f} ms")


def _with_slip(chance: random.Random, name: str) -> str:
    """With two letters of its first or second word swapped."""
    first, second, number = name.split(" ")
    at = chance.randrange(1, len(first) - 1)
    first = first[:at] + first[at + 1] + first[at] + first[at + 2 :]
    return (
        f"{first} {second} {number}"
        if len(first) > 3
        else f"{second[1]}{second[0]}{second[2:]} {number}"
    )


def _first_page(annals: Annals, text: str) -> tuple[float, list[ContactItem]]:
    selection = Selection(SubjectKind.USER, search=text)
    with annals.queries.connect() as conn:
        conn.execute(sa.text("SELECT 1"))
        started = time.perf_counter()
        page = list_contacts(
            conn, selection, Moment(TODAY, UTC), sort=None, cursor=None, limit=50, with_total=None
        )
        return 1_000 * (time.perf_counter() - started), page.items
