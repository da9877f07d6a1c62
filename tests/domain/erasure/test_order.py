"""An order to erase is taken only with its word, a reason code and a list of a size."""

from __future__ import annotations

import pytest

from domain.erasure.order import (
    MAX_LISTED_FOR_ERASURE,
    check_confirmed,
    check_listed,
    checked_idempotency_key,
    checked_reason,
)
from domain.errors import InvalidInput


@pytest.mark.parametrize("word", ["", "Confirm", "CONFIRM", " confirm", "confirm ", "yes"])
def test_case_31_any_other_word_than_confirm_is_refused(word: str) -> None:
    check_confirmed("confirm")
    with pytest.raises(InvalidInput) as refused:
        check_confirmed(word)
    assert refused.value.pointer == "/confirm"


@pytest.mark.parametrize("reason", ["", "a b", "ada@acme.example", "ä", "x" * 65])
def test_a_reason_is_a_code_which_can_hold_no_address_and_no_sentence(reason: str) -> None:
    assert checked_reason("art-17") == "art-17"
    with pytest.raises(InvalidInput):
        checked_reason(reason)


@pytest.mark.parametrize("key", ["", "a\nb", "\0", "k" * 256])
def test_an_idempotency_key_is_printable_and_short(key: str) -> None:
    assert checked_idempotency_key(None) is None
    assert checked_idempotency_key("k" * 255) == "k" * 255
    with pytest.raises(InvalidInput):
        checked_idempotency_key(key)


@pytest.mark.parametrize("count", [0, MAX_LISTED_FOR_ERASURE + 1])
def test_a_list_names_at_least_one_subject_and_at_most_ten_thousand(count: int) -> None:
    check_listed(1)
    check_listed(MAX_LISTED_FOR_ERASURE)
    with pytest.raises(InvalidInput):
        check_listed(count)
