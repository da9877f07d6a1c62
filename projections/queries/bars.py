"""Query: the stage bar and the health bar over a selection of contacts."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import sqlalchemy as sa

from domain.calendar import Moment
from domain.conditions.language import Health
from domain.identity import SubjectKind
from projections.conditions.selection import Selection, chosen
from projections.kernel.tables import bar_counts, contacts
from projections.models.bars import EXACT


class StageCount(msgspec.Struct, frozen=True):
    """The contacts in a stage, by health; `stage` is null: in no stage."""

    stage: str | None
    count: int
    good: int
    normal: int
    bad: int


class CurrencySum(msgspec.Struct, frozen=True):
    """`currency`: ISO 4217, null if unknown; `amount`: an exact decimal, as text."""

    currency: str | None
    amount: str


class HealthCount(msgspec.Struct, frozen=True):
    """The number of contacts of a health, and their MRR, where known."""

    health: Health
    count: int
    mrr: list[CurrencySum]


class Bars(msgspec.Struct, frozen=True):
    """
    Attributes:
        stages: ordered by name, no stage last.
        health: good, normal and bad, always all three.
    """

    total: int
    stages: list[StageCount]
    health: list[HealthCount]


def bars(
    conn: sa.Connection, selection: Selection, moment: Moment, *, currency: str | None = None
) -> Bars:
    """The bars over a selection.

    Args:
        currency: of an MRR that has none of its own.

    Raises:
        InvalidInput: a search that cannot be.
    """
    if selection.is_all:
        return bars_of_all(conn, selection.kind, currency)
    return bars_of(conn, chosen(conn, selection, moment), currency)


def bars_of_all(conn: sa.Connection, kind: SubjectKind, currency: str | None = None) -> Bars:
    """The bars over all users or accounts, from the stored counts."""
    b = bar_counts.c
    rows = conn.execute(
        sa.select(
            sa.func.nullif(b.stage, ""),
            b.health,
            sa.func.nullif(b.currency, ""),
            sa.cast(sa.func.sum(b["count"]), sa.BigInteger),
            sa.cast(sa.func.sum(b.with_mrr), sa.BigInteger),
            sa.func.sum(b.mrr),
        )
        .where(b.kind == kind.value)
        .group_by(b.stage, b.health, b.currency)
    )
    return _bars(rows.all(), currency)


def bars_of(
    conn: sa.Connection, chosen: Sequence[sa.ColumnElement[bool]], currency: str | None = None
) -> Bars:
    """The bars over the contacts of whom all predicates hold."""
    c = contacts.c
    rows = conn.execute(
        sa.select(
            c.stage,
            c.health,
            c.currency,
            sa.func.count(),
            sa.func.count(c.mrr),
            sa.func.sum(c.mrr),
        )
        .where(*chosen)
        .group_by(c.stage, c.health, c.currency)
    )
    return _bars(rows.all(), currency)


def _bars(rows: Sequence[Any], default: str | None) -> Bars:
    stages: dict[str | None, dict[str, int]] = {}
    counts = dict.fromkeys(Health, 0)
    sums: dict[Health, dict[str | None, Decimal]] = {health: {} for health in Health}
    for stage, health, code, count, with_mrr, mrr in rows:
        if not count:
            continue
        of_stage = stages.setdefault(stage, dict.fromkeys(Health, 0))
        of_stage[health] += count
        counts[Health(health)] += count
        if with_mrr:
            of_health = sums[Health(health)]
            known = code or default
            of_health[known] = EXACT.add(of_health.get(known, Decimal(0)), mrr)
    return Bars(
        total=sum(counts.values()),
        stages=[
            StageCount(stage, sum(of.values()), of["good"], of["normal"], of["bad"])
            for stage, of in sorted(
                stages.items(), key=lambda entry: (entry[0] is None, entry[0] or "")
            )
        ],
        health=[
            HealthCount(
                health,
                counts[health],
                [
                    CurrencySum(code, shown(sums[health][code]))
                    for code in sorted(sums[health], key=lambda code: (code is None, code or ""))
                ],
            )
            for health in Health
        ],
    )


def shown(exact: Decimal) -> str:
    """A decimal in plain notation, without trailing zeros."""
    text = f"{exact:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
