"""What a score is worth."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from domain.conditions.language import AllOf
from domain.definitions.scores import value
from domain.definitions.types import ScoreRule

weights = st.integers(-1_000_000, 1_000_000).filter(bool)
rule_lists = (
    st.lists(weights, min_size=1, max_size=8)
    .filter(lambda some: sum(some) > 0)
    .map(lambda some: [ScoreRule(f"r{n}", weight, AllOf([])) for n, weight in enumerate(some)])
)


def of(*weights: int) -> list[ScoreRule]:
    return [ScoreRule(f"r{n}", weight, AllOf([])) for n, weight in enumerate(weights)]


def test_a_score_is_the_share_of_the_weight_that_holds() -> None:
    assert value(of(3, 1), ["r0"]) == Decimal("75")
    assert value(of(1, 1, 1), ["r0"]) == Decimal("33.33")
    assert value(of(1, 1, 1), ["r0", "r1"]) == Decimal("66.67")
    assert value(of(1, 799), ["r0"]) == Decimal("0.13")  # of 0.125, half a hundredth


def test_negative_weights_are_clamped() -> None:
    assert value(of(3, -2), ["r0"]) == Decimal(100)
    assert value(of(3, -2), ["r1"]) == Decimal(0)


@given(rule_lists, st.sets(st.integers(0, 7)))
def test_a_score_is_exact_to_two_decimals(rules: list[ScoreRule], holding: set[int]) -> None:
    held = [f"r{n}" for n in holding if n < len(rules)]
    share = Fraction(
        100 * sum(one.weight for one in rules if one.name in held),
        sum(one.weight for one in rules),
    )
    shown = value(rules, held)
    exponent = shown.as_tuple().exponent
    assert isinstance(exponent, int)
    assert exponent >= -2
    if 0 < share < 100:
        assert abs(Fraction(shown) - share) <= Fraction(1, 200)
        doubled = Decimal(share.numerator) / Decimal(share.denominator)
        if abs(share * 200 % 1 - Fraction(1, 2)) > Fraction(1, 10**9):
            assert shown == doubled.quantize(Decimal("0.01"), ROUND_HALF_UP)
    else:
        assert shown == min(max(share, 0), 100)
