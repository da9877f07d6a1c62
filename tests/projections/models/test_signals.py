"""Signals: on or off for each subject, with the number of times that each triggered."""

from __future__ import annotations

from tests.projections.given import (
    NOON,
    Tables,
    ada,
    days_later,
    erased,
    given,
    registered,
    signal_ended,
    triggered,
)

SIGNALS = "SELECT subject, ordinal, is_on, triggered_at, ended_at, triggers FROM views.signals"


def test_a_signal_that_triggered_is_on(tables: Tables) -> None:
    events = given(registered(ada), triggered(ada, 1))
    assert tables.after(SIGNALS, events) == [(ada.id, 1, True, NOON, None, 1)]


def test_a_signal_that_ended_is_off_and_keeps_when_it_triggered(tables: Tables) -> None:
    first = given(registered(ada), triggered(ada, 1))
    second = given(signal_ended(ada, 2, at=days_later(1)))
    assert tables.after(SIGNALS, first, second) == [(ada.id, 2, False, NOON, days_later(1), 1)]


def test_a_signal_counts_how_often_it_triggered(tables: Tables) -> None:
    events = given(
        registered(ada),
        triggered(ada, 1),
        signal_ended(ada, 2),
        triggered(ada, 3, at=days_later(2)),
    )
    assert tables.after(SIGNALS, events) == [(ada.id, 3, True, days_later(2), None, 2)]


def test_the_signals_of_an_erased_subject_are_gone(tables: Tables) -> None:
    events = given(registered(ada), triggered(ada, 1))
    assert tables.after(SIGNALS, events, given(erased(ada))) == []
