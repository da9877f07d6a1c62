"""Read model: the number of contacts of each stage and health, and their MRR.

A change of a contact's stage, health, MRR or currency moves the contact between buckets in the same
transaction. Buckets are split by partition, so that workers wait for one another only where they
write to the same partition.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Context, Decimal
from typing import NamedTuple

import psycopg

from domain.conditions.language import Health
from domain.identity import SubjectId, log_partition
from projections.kernel import pg_arrays

TABLES = ("bar_counts",)

CURRENCY_PROPERTY = "currency"
"""The property that holds the currency of a contact's MRR."""

SELECT_COUNTED = """
SELECT c.subject, c.kind, c.stage, c.health, c.currency, c.mrr FROM views.contacts c
JOIN unnest(%b::smallint[], %b::uuid[]) AS w(p, s) ON c.log_partition = w.p AND c.subject = w.s"""

ADD_COUNTS = """
INSERT INTO views.bar_counts AS b
       (log_partition, kind, stage, health, currency, count, with_mrr, mrr)
SELECT p, k, s, h, c, n, w, trim_scale(m::numeric)
FROM unnest(%(partitions)b::smallint[], %(kinds)b::text[], %(stages)b::text[], %(healths)b::text[],
            %(currencies)b::text[], %(counts)b::bigint[], %(with_mrr)b::bigint[], %(mrr)b::text[])
     AS v(p, k, s, h, c, n, w, m)
ON CONFLICT (log_partition, kind, stage, health, currency) DO UPDATE
SET count = b.count + excluded.count, with_mrr = b.with_mrr + excluded.with_mrr,
    mrr = trim_scale(b.mrr + excluded.mrr)"""

DELETE_EMPTY = "DELETE FROM views.bar_counts WHERE log_partition = ANY(%b) AND count = 0"

EXACT = Context(prec=2_000)
"""Enough digits for the sum of the largest and the smallest number that intake accepts."""

_AMOUNT = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?")
_CURRENCY = re.compile(r"[A-Za-z]{3}")


def amount(value: object) -> Decimal | None:
    """The exact amount of a number or of a plain decimal as text; None for all else."""
    match value:
        case bool():
            return None
        case int():
            return Decimal(value)
        case float():
            return Decimal(repr(value))
        case str() if _AMOUNT.fullmatch(value):
            return Decimal(value)
        case _:
            return None


def currency(value: object) -> str | None:
    """An ISO 4217 code in capitals; None for all else."""
    return value.upper() if isinstance(value, str) and _CURRENCY.fullmatch(value) else None


class Counted(NamedTuple):
    """The bucket that counts a contact, and its MRR."""

    kind: str
    stage: str | None = None
    health: str = Health.NORMAL
    currency: str | None = None
    mrr: Decimal | None = None


def counted(conn: psycopg.Connection, subjects: Iterable[SubjectId]) -> dict[SubjectId, Counted]:
    """The buckets of those subjects that have a contact."""
    ids = list(subjects)
    rows = conn.execute(
        SELECT_COUNTED,
        (
            pg_arrays.smallints([log_partition(subject) for subject in ids]),
            pg_arrays.uuids(ids),
        ),
        binary=True,
    )
    return {SubjectId(row[0]): Counted(*row[1:]) for row in rows}


class _Sum:
    __slots__ = ("count", "mrr", "with_mrr")

    def __init__(self) -> None:
        self.count = self.with_mrr = 0
        self.mrr = Decimal(0)

    def add(self, counted: Counted, sign: int) -> None:
        self.count += sign
        if counted.mrr is not None:
            self.with_mrr += sign
            self.mrr = (EXACT.add if sign > 0 else EXACT.subtract)(self.mrr, counted.mrr)

    def __bool__(self) -> bool:
        return bool(self.count or self.with_mrr or self.mrr)


def move(
    conn: psycopg.Connection,
    before: Mapping[SubjectId, Counted],
    after: Mapping[SubjectId, Counted],
) -> None:
    """Moves contacts from the buckets before a change to those after it."""
    sums: dict[tuple[int, str, str, str, str], _Sum] = defaultdict(_Sum)
    for counts, sign in ((before, -1), (after, 1)):
        for subject, count in counts.items():
            bucket = (count.kind, count.stage or "", count.health, count.currency or "")
            sums[log_partition(subject), *bucket].add(count, sign)
    rows = sorted((bucket, total) for bucket, total in sums.items() if total)
    if not rows:
        return
    keys = [bucket for bucket, _ in rows]
    conn.execute(
        ADD_COUNTS,
        {
            "partitions": pg_arrays.smallints([key[0] for key in keys]),
            "kinds": pg_arrays.texts([key[1] for key in keys]),
            "stages": pg_arrays.texts([key[2] for key in keys]),
            "healths": pg_arrays.texts([str(key[3]) for key in keys]),
            "currencies": pg_arrays.texts([key[4] for key in keys]),
            "counts": pg_arrays.bigints([total.count for _, total in rows]),
            "with_mrr": pg_arrays.bigints([total.with_mrr for _, total in rows]),
            "mrr": pg_arrays.texts([f"{total.mrr:f}" for _, total in rows]),
        },
    )
    less = sorted({key[0] for key, total in rows if total.count < 0})
    if less:
        conn.execute(DELETE_EMPTY, (less,))
