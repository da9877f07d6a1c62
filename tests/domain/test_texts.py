"""Texts: what is cut off, what is one text, what cannot be taken."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.texts import character_problem, nfc, trimmed

AROUND = [" ", "\t", "\r\n", "\xa0", "\u202f", "\u3000", "\u2028", "\u200b", "\ufeff", "\u200d"]


@pytest.mark.parametrize("around", AROUND)
def test_white_space_and_what_has_no_width_is_cut_off_at_both_ends(around: str) -> None:
    assert trimmed(f"{around}Zoë X{around}") == "Zoë X"
    assert trimmed(around * 3) == ""


@pytest.mark.parametrize(
    "text", ["👩\u200d💻 opened", "می\u200cخواهم", "Société\u202fGénérale", "a\xa0b", "x\u200by"]
)
def test_joiners_and_spaces_of_every_width_stay_inside_a_text(text: str) -> None:
    assert trimmed(text) == text
    assert character_problem(text) is None


def test_composed_and_decomposed_letters_are_one_text() -> None:
    assert trimmed("Zoe\u0308") == trimmed(" Zoë ") == nfc("Zoe\u0308") == "Zoë"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a\x00b", "holds a control character"),
        ("a\nb", "holds a control character"),
        ("a\x85b", "holds a control character"),
        ("a\u2028b", "holds a line or paragraph separator"),
        ("a\u2029b", "holds a line or paragraph separator"),
        ("a\ud800", "holds half a surrogate pair"),
        ("a\u202eb", "holds a character that turns the direction of writing"),
        ("a\u2066b\u2069", "holds a character that turns the direction of writing"),
        ("plain ß 日本 🏴\U000e0067\U000e0062\U000e007f", None),
    ],
)
def test_characters_that_cannot_be_shown_are_named(text: str, problem: str | None) -> None:
    assert character_problem(text) == problem


@given(st.text(max_size=12))
def test_a_trimmed_text_is_trimmed_and_in_nfc(text: str) -> None:
    result = trimmed(text)
    assert trimmed(result) == result == result.strip()
    assert unicodedata.is_normalized("NFC", result)
