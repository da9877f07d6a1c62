"""The value of a score: the weight of the rules that hold, divided by the weight of all,
clamped."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal

from domain.definitions.types import ScoreRule

HUNDREDTHS = 10_000
"""Hundredths of a per cent in a whole: a score has two decimals."""


def value(rules: Sequence[ScoreRule], held: Collection[str]) -> Decimal:
    """0 to 100, two decimals, half a hundredth upwards.

    In whole numbers, so that it is the same wherever it is worked out.

    Args:
        rules: whose weights sum to more than 0.
        held: the names of those that hold.
    """
    total = sum(rule.weight for rule in rules)
    holding = sum(rule.weight for rule in rules if rule.name in held)
    hundredths = (2 * HUNDREDTHS * holding + total) // (2 * total)
    return Decimal(min(max(hundredths, 0), HUNDREDTHS)) / 100
