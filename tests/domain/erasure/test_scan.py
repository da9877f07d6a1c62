"""Whatever form a value was kept in, the search finds it; and it finds nothing else."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.erasure.scan import Searcher, checked_values
from domain.errors import InvalidInput

VALUES = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=6, max_size=30
)


def is_found(value: str, content: bytes, size: int = 1 << 20) -> bool:
    pieces = (content[n : n + size] for n in range(0, len(content), size))
    return bool(Searcher([value, "never there"]).search(pieces)[0])


@example("000000", b"\x00\x01", b"", 1)
@given(VALUES, st.binary(max_size=9), st.binary(max_size=5), st.integers(1, 64))
def test_a_value_is_found_in_every_form_whatever_stands_around_it(
    value: str, before: bytes, after: bytes, size: int
) -> None:
    plain = value.encode()
    for content in (
        plain,
        value.encode("utf-16-le"),
        base64.b64encode(before + plain + after),
        base64.urlsafe_b64encode(before + plain + after),
        quote(value, safe="").encode(),
        quote_plus(value).encode(),
        plain.hex().encode(),
        plain.hex().upper().encode(),
        json.dumps(value).encode(),
        json.dumps(value, ensure_ascii=False).encode(),
    ):
        assert is_found(value, before + content + after, size), content


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=6, max_size=20))
def test_a_value_is_found_in_any_case_of_its_letters(value: str) -> None:
    for text in (value.upper(), value.lower(), value.swapcase()):
        assert is_found(value, b"..." + text.encode() + b"...")


@given(VALUES, st.binary(max_size=2_000))
def test_what_is_not_there_is_not_found(value: str, content: bytes) -> None:
    searcher = Searcher([value])
    counts, size = searcher.search(iter([content]))
    assert size == len(content)
    if counts:
        assert any(each in content.lower() for each in searcher._known)


def test_it_is_told_which_value_was_found_in_which_form_and_how_often() -> None:
    content = b"x Ada Lovelace, ada lovelace; " + b"Charles".hex().encode()
    counts, _ = Searcher(["Ada Lovelace", "Charles", "Babbage"]).search(iter([content]))
    assert counts == {(0, "text"): 2, (1, "hex"): 1}


@pytest.mark.parametrize(
    ("values", "place"),
    [([], "/values"), (["x"] * 201, "/values"), (["Ada Lovelace", "Ada"], "/values/1")],
)
def test_what_would_stand_everywhere_by_chance_is_not_searched_for(
    values: list[str], place: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_values(values)
    assert refused.value.pointer == place
