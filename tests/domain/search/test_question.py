"""What a search finds of contacts, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.search.entry import MAX_LONG_CHARS, MAX_OTHERS_CHARS, MAX_TEXT_CHARS, entry, keys_of
from domain.search.question import Answer, search_of
from tests.domain.search.finding import answers, person, ranked, subject_of
from tests.examples import examples

PEOPLE = {
    "john": person("John Smith", "john.smith@acme.example", "crm-000123-eu"),
    "graham": person("Graham Bell", "graham@bell.example", "48213"),
    "sukru": person("Şükrü Öztürk", "sukru@ozturk.example", "u-7"),
    "strauss": person("Ingrid Strauß", "ingrid@strauss.example", "u-8"),
    "brien": person("Mary O’Brien", "mary@brien.example", "u-9"),
}


@pytest.mark.parametrize(
    ("typed", "who"),
    [
        ("Jhon", "john"), ("jonh", "john"), ("Jon", "john"), ("Johhn", "john"), ("Jihn", "john"),
        ("Jhon Smtih", "john"), ("Bel", "graham"),  ("smith john", "john"), ("Smith, John", "john"),
        ("smi jo", "john"), ("000123", "john"), ("0123-e", "john"), ("CRM-000123-EU", "john"),
        ("jonh.smith@acme.example", "john"), ("john.smith@amce.example", "john"),
        ("Grahma", "graham"), ("Grham", "graham"), ("Grahham", "graham"), ("Grahm", "graham"),
        ("8213", "graham"), ("４８２１３", "graham"), ("\u200bgraham@bell.example\u00a0", "graham"),
        ("Sukru", "sukru"), ("OZTURK", "sukru"), ("S\u0327u\u0308kru\u0308", "sukru"),
        ("Strauss", "strauss"), ("Straus", "strauss"), ("STRAUẞ", "strauss"),
        ("O'Brien", "brien"), ("OBrien", "brien"), ("(O'Brien)", "brien"),
    ],
)  # fmt: skip
def test_a_search_finds_who_is_meant_and_first(typed: str, who: str) -> None:
    assert answers(typed, PEOPLE)[:1] == [who]


@pytest.mark.parametrize(
    "typed", ["Turing", "ohn smyth x", "48231", "lvl", "@@@", "--", "...", "%"]
)
def test_a_search_for_nobody_finds_nobody(typed: str) -> None:
    assert answers(typed, PEOPLE) == []


@pytest.mark.parametrize("typed", ["", " ", "\u00a0\u202f", "\u200b", "\t\r\n", "\ufeff "])
def test_nothing_but_spaces_is_no_search(typed: str) -> None:
    assert search_of(typed) is None
    assert answers(typed, PEOPLE) == list(PEOPLE)


def test_a_full_email_shows_its_owner_before_all_others() -> None:
    entries = {
        "like": person("Ada L", "adaa@acme.example", "u1"),
        "longer": person("Ada M", "ada@acme.example.org", "u2"),
        "named": person("ada@acme.example", "other@acme.example", "u3"),
        "id": person("Ada N", "n@acme.example", "ada@acme.example"),
        "before": person("Ada O", "o@acme.example", "u4", "ada@acme.example"),
        "owner": person("Ada", "Ada@Acme.example", "u5"),
        "contains": person("Ada P", "lada@acme.example", "u6"),
    }
    assert answers(" ADA@acme.example ", entries) == [
        "owner", "id", "named", "before", "longer", "contains", "like",
    ]  # fmt: skip


def test_a_name_comes_exact_then_begun_then_contained_then_alike() -> None:
    entries = {
        "alike": person("Mira"),
        "contained": person("Jo Almara"),
        "word": person("Jo Mara"),
        "begun": person("Mara Jade"),
        "exact": person("Mára"),
    }
    assert answers("mara", entries) == ["exact", "begun", "word", "contained", "alike"]


def test_of_what_is_alike_fewer_slips_come_first() -> None:
    entries = {
        "two": person("Jhon Smiht"),
        "one": person("Jhon Smith"),
        "none": person("X John Smith"),
    }
    assert answers("john smith", entries) == ["none", "one", "two"]


def test_an_annals_id_is_found_with_or_without_hyphens_and_capitals() -> None:
    subject = subject_of("john")
    for form in (str(subject), str(subject).upper(), subject.hex, f"{{{subject}}}"):
        assert answers(f" {form} ", PEOPLE) == ["john"]
        search = search_of(form)
        assert search is not None
        assert ranked(search, PEOPLE["john"], "john").answer is Answer.EXACT


def test_a_name_of_three_letters_is_found_with_two_of_them_swapped() -> None:
    assert answers("Aad", {"ada": person("Ada X"), "bob": person("Bob Y")}) == ["ada"]
    assert answers("Bbo", {"ada": person("Ada X"), "bob": person("Bob Y")}) == ["bob"]


def test_numbers_and_codes_have_to_be_right() -> None:
    numbers = {"1": person(id="123456"), "2": person(id="123465"), "3": person(id="a1b2c3d4e5")}
    assert answers("123456", numbers) == ["1"]
    assert answers("a1b2c3d4e6", numbers) == []


letters = st.text("abcdeéşß", min_size=4, max_size=12)


@given(letters, st.data())
@settings(max_examples=examples(200))
def test_any_one_slip_in_a_word_is_forgiven(word: str, data: st.DataObject) -> None:
    entries = {"them": person(f"X {word} Y")}
    stored = entries["them"].name.split(" ")[1]
    at = data.draw(st.integers(0, len(stored) - 2))
    slips = {
        "swapped": stored[:at] + stored[at + 1] + stored[at] + stored[at + 2 :],
        "doubled": stored[:at] + stored[at] + stored[at:],
        "missing": stored[:at] + stored[at + 1 :],
        "other": stored[:at] + "z" + stored[at + 1 :],
    }
    for typed in slips.values():
        assert answers(typed, entries) == ["them"], typed


@given(
    st.text(max_size=300) | st.text(min_size=900, max_size=1_000),
    st.text(max_size=600),
    st.lists(st.text(max_size=600), max_size=40),
)
@settings(max_examples=examples(50))
def test_an_entry_is_bounded_and_holds_what_postgresql_takes(
    name: str, id: str, identities: list[str]
) -> None:
    made = entry(name, None, id, identities)
    assert all(len(text) <= MAX_TEXT_CHARS for text in (made.name, made.external_id))
    assert len(made.others) <= MAX_OTHERS_CHARS + 1 + MAX_LONG_CHARS
    assert len(made.keys) <= 2 * len(made.whole)
    assert all(-(2**31) <= key < 2**31 for key in made.keys)
    made.whole.encode()
    assert "\0" not in made.whole


@given(st.text(max_size=200))
@settings(max_examples=examples(100))
def test_any_text_can_be_searched(typed: str) -> None:
    answers(typed, PEOPLE)


def test_a_long_name_is_found_by_any_part_of_it() -> None:
    name = " ".join(f"word{n}" for n in range(1_000))
    long = {"them": person(name), "other": person("Ada")}
    assert answers("word7 word8", long) == ["them"]
    assert answers(name[95:285], long) == ["them"]
    assert answers(name[-152:], long) == ["them"]


def test_a_word_that_is_too_long_for_slips_has_one_key() -> None:
    assert len(keys_of("x" * 21)) == len(keys_of("123456")) == len(keys_of("abc")) == 1
    assert len(keys_of("abcd")) == 5
