"""Folding: what people type and what is stored come to the same form."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.search.folding import folded
from tests.examples import examples

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Sukru Ozturk", "Şükrü Öztürk"),
        ("Strasse", "Straße"),
        ("STRASSE", "straße"),
        ("Lodz", "Łódź"),
        ("Odegard", "Ødegård"),
        ("Aeroskobing", "Ærøskøbing"),
        ("Thor", "Þór"),
        ("Istanbul", "İSTANBUL"),
        ("istanbul", "ıstanbul"),
        ("finance office", "ﬁnance oﬃce"),
        ("Ada 42", "Ａｄａ ４２"),
        ("Jose", "Jose\u0301"),
        ("José", "Jose\u0301"),
        ("Société Générale", "Société\u00a0Générale"),
        ("Société Générale", "Société\u202fGénérale"),
        ("Société Générale", "  Société \t Générale\r\n"),
        ("ada@acme.example", "\u200bada@acme.example\ufeff"),
        ("ada@acme.example", "ada@\u00adacme\u2060.example"),
        ("O'Brien", "O’Brien"),
        ("Jean-Luc", "Jean‑Luc"),
        ("Jean-Luc", "Jean–Luc"),
        ("Σίσυφος", "ΣΊΣΥΦΟΣ"),
        ("한국", unicodedata.normalize("NFD", "한국")),
        ("ハンカク", "ﾊﾝｶｸ"),
        ("①", "1"),
    ],
)
def test_what_is_typed_is_what_is_meant(typed: str, meant: str) -> None:
    assert folded(typed) == folded(meant)


@pytest.mark.parametrize(("one", "other"), [("か", "が"), ("कि", "कु"), ("ab", "a b"), ("1", "l")])
def test_letters_that_differ_stay_apart(one: str, other: str) -> None:
    assert folded(one) != folded(other)


@given(texts)
@settings(max_examples=examples(200))
def test_folding_twice_changes_nothing(text: str) -> None:
    assert folded(folded(text)) == folded(text)


@given(texts)
@settings(max_examples=examples(200))
def test_every_normal_form_folds_to_the_same(text: str) -> None:
    forms = {unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")}
    assert {folded(form) for form in forms} == {folded(text)}


@given(texts)
@settings(max_examples=examples(200))
def test_case_makes_no_difference(text: str) -> None:
    assert folded(text.casefold()) == folded(text)


@given(st.text(st.characters(max_codepoint=127), max_size=20))
@settings(max_examples=examples(200))
def test_the_short_way_of_plain_texts_comes_to_the_same(text: str) -> None:
    assert folded(text) == folded(text + "é")[: len(folded(text + "é")) - 1].rstrip()


@given(st.text(max_size=20))
@settings(max_examples=examples(200))
def test_what_is_folded_holds_nothing_that_postgresql_refuses(text: str) -> None:
    assert "\0" not in folded(text)
    folded(text).encode()
