"""Outcomes of a back-test: bands of a score, and who would be moved from where to where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.backtest.outcomes import Move, Verdict, band, is_in, is_on, moves

outcomes = st.sampled_from(["in", "out", None])
verdicts = st.lists(st.builds(Verdict, outcomes, outcomes))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0-19"),
        (19.99, "0-19"),
        (20, "20-39"),
        (79.99, "60-79"),
        (80, "80-100"),
        (100, "80-100"),
    ],
)
def test_a_score_is_counted_in_bands_of_twenty(value: float, expected: str) -> None:
    assert band(value) == expected


def test_segments_have_members_in_or_out_and_signals_are_on_or_off() -> None:
    assert (is_in(True), is_in(False), is_on(True), is_on(False)) == ("in", "out", "on", "off")


def test_the_largest_move_comes_first_and_who_stays_does_not_move() -> None:
    some = [Verdict("in", "out"), Verdict("out", "in"), Verdict("in", "out"), Verdict("in", "in")]
    assert moves(some) == [Move("out", "in", 2), Move("in", "out", 1)]


@given(verdicts)
def test_everybody_whose_outcome_differs_is_in_one_move(some: list[Verdict]) -> None:
    counted = moves(some)
    assert sum(move.subjects for move in counted) == sum(one.before != one.after for one in some)
    assert len({(move.before, move.after) for move in counted}) == len(counted)
