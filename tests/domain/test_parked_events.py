"""Parked events: the reason of a skip, and which topics are never skipped."""

from __future__ import annotations

import pytest

from domain.errors import InvalidInput
from domain.parked_events import (
    ERASED_TOPICS,
    ERASING_TOPICS,
    MAX_REASON_CHARS,
    RULING_TOPICS,
    checked_skip_reason,
)


def test_the_reason_of_a_skip_is_kept_without_blanks_around_it() -> None:
    assert checked_skip_reason("  the sender sent it twice ") == "the sender sent it twice"
    assert checked_skip_reason("é" * MAX_REASON_CHARS)


@pytest.mark.parametrize("reason", ["", "   ", "a" * (MAX_REASON_CHARS + 1), "a\0b", "\ud800"])
def test_a_skip_without_a_reason_that_can_be_stored_is_refused(reason: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_skip_reason(reason)
    assert refused.value.pointer == "/reason"


def test_what_erases_is_told_by_its_topic() -> None:
    assert {"user.erased", "account.erased"} == ERASED_TOPICS
    assert ERASED_TOPICS < ERASING_TOPICS
    assert {topic.partition(".")[2] for topic in ERASING_TOPICS - ERASED_TOPICS} == {"cleaned"}


def test_what_decides_about_the_workspace_is_told_by_its_topic() -> None:
    assert {
        "settings.defined",
        "settings.changed",
        "settings.names_retired",
        "settings.names_restored",
        "settings.property_type_changed",
    } == RULING_TOPICS
