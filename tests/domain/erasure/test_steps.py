"""The steps of an erasure, in their order, whatever each comes to and however often it is taken."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.erasure.steps import (
    STEPS,
    ErasureProgress,
    ErasureStep,
    SentBack,
    StepResult,
    Taken,
    Unfinished,
    Waiting,
)

REQUESTED_AT = datetime(2026, 5, 13, 12, tzinfo=UTC)
ACCEPTED = ErasureProgress((REQUESTED_AT,))


def at(n: int) -> datetime:
    return REQUESTED_AT + timedelta(minutes=n)


def taken_up_to(step: ErasureStep) -> ErasureProgress:
    return ErasureProgress(tuple(at(n) for n in range(STEPS.index(step) + 1)))


results = st.one_of(
    st.just(Taken()),
    st.just(Unfinished()),
    st.just(Waiting("the read models are behind")),
    st.sampled_from([ErasureStep.ACCEPTED, ErasureStep.RECORDED]).map(SentBack),
)


@pytest.mark.parametrize(
    ("taken", "following"),
    [
        (ErasureStep.ACCEPTED, ErasureStep.UNREADABLE),
        (ErasureStep.UNREADABLE, ErasureStep.RECORDED),
        (ErasureStep.RECORDED, ErasureStep.FORGOTTEN),
        (ErasureStep.FORGOTTEN, ErasureStep.CLEANED),
        (ErasureStep.CLEANED, ErasureStep.COMPLETED),
        (ErasureStep.COMPLETED, None),
    ],
)
def test_each_step_is_followed_by_the_next_one(
    taken: ErasureStep, following: ErasureStep | None
) -> None:
    progress = taken_up_to(taken)
    assert progress.step is taken
    assert progress.next_step is following


def test_every_step_is_reached_in_order_each_with_its_time() -> None:
    progress, reached = ACCEPTED, [ErasureStep.ACCEPTED]
    while progress.next_step is not None:
        progress = progress.after(progress.next_step, Taken(), at(len(reached)))
        reached.append(progress.step)
    assert reached == list(ErasureStep)
    assert [progress.time_of(step) for step in STEPS] == [at(n) for n in range(len(STEPS))]


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_is_repeated_changes_nothing_not_even_its_time(step: ErasureStep) -> None:
    progress = taken_up_to(step)
    for result in (Taken(), Unfinished(), Waiting("a reader")):
        assert progress.after(step, result, at(60)) is progress


def test_a_step_before_its_turn_is_refused() -> None:
    with pytest.raises(ValueError, match="cleaned follows unreadable"):
        ACCEPTED.after(ErasureStep.CLEANED, Taken(), at(1))


def test_a_step_that_waits_says_for_what_until_it_gets_further() -> None:
    waiting = ACCEPTED.after(ErasureStep.UNREADABLE, Waiting("a reader"), at(1))
    assert (waiting.step, waiting.waits_for) == (ErasureStep.ACCEPTED, "a reader")
    assert waiting.next_step is ErasureStep.UNREADABLE
    assert waiting.after(ErasureStep.UNREADABLE, Unfinished(), at(2)) == ACCEPTED
    assert waiting.after(ErasureStep.UNREADABLE, Taken(), at(2)).waits_for is None


def test_names_found_late_take_the_erasure_back_to_what_the_log_records() -> None:
    cleaned = taken_up_to(ErasureStep.CLEANED)
    back = cleaned.after(ErasureStep.COMPLETED, SentBack(ErasureStep.RECORDED), at(60))
    assert back == taken_up_to(ErasureStep.RECORDED)
    assert back.next_step is ErasureStep.FORGOTTEN


def test_a_stored_time_behind_a_step_that_lacks_one_does_not_count() -> None:
    stored = [at(0), at(1), None, at(3), None, None]
    assert ErasureProgress.of(stored, None) == taken_up_to(ErasureStep.UNREADABLE)


@given(st.lists(results, max_size=30))
def test_whatever_steps_come_to_those_taken_are_the_first_ones(
    outcomes: Sequence[StepResult],
) -> None:
    progress = ACCEPTED
    for n, result in enumerate(outcomes, start=1):
        if progress.next_step is None:
            break
        progress = progress.after(progress.next_step, result, at(n))
        times = [progress.time_of(step) for step in STEPS]
        assert progress.times[0] == REQUESTED_AT
        assert list(progress.times) == sorted(progress.times)
        assert ErasureProgress.of(times, progress.waits_for) == progress
