"""Tokens and names: what may stand in clear as a name, and what is somebody's key or id."""

from __future__ import annotations

import base64
import random
import string
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from domain.tokens import looks_like_token

NAMES = (Path(__file__).parent / "vendor_names.txt").read_text().split()
"""Of properties and events, as tools for marketing, billing, support and analytics give them."""

COUNT = 10_000


def _text(chance: random.Random, alphabet: str, length: int) -> str:
    return "".join(chance.choices(alphabet, k=length))


# The forms of `secrets.token_urlsafe()` and the like, from bytes that are the same in every run.
SORTS: dict[str, Callable[[random.Random], str]] = {
    "urlsafe": lambda r: base64.urlsafe_b64encode(r.randbytes(32)).rstrip(b"=").decode(),
    "hex": lambda r: r.randbytes(32).hex(),
    "short hex": lambda r: r.randbytes(16).hex().upper(),
    "uuid": lambda r: str(uuid.UUID(bytes=r.randbytes(16), version=4)),
    "base64": lambda r: base64.b64encode(r.randbytes(32)).decode(),
    "base64 of 48": lambda r: base64.b64encode(r.randbytes(48)).decode(),
    "letters and digits": lambda r: _text(r, string.ascii_letters + string.digits, 40),
    "small letters and digits": lambda r: _text(r, string.ascii_lowercase + string.digits, 48),
    "key": lambda r: "sk_live_" + _text(r, string.ascii_letters + string.digits, 40),
    "object id": lambda r: r.randbytes(12).hex(),
}


@pytest.mark.parametrize("sort", SORTS)
def test_of_a_thousand_random_tokens_at_most_one_is_taken_for_a_name(sort: str) -> None:
    chance = random.Random(15)
    missed = sum(not looks_like_token(SORTS[sort](chance)) for _ in range(COUNT))
    assert missed <= COUNT // 1_000


@pytest.mark.parametrize("name", NAMES)
def test_no_name_that_a_vendor_gives_is_taken_for_a_token(name: str) -> None:
    assert not looks_like_token(name)
    assert not looks_like_token(name.upper())


@pytest.mark.parametrize(
    "name",
    [
        "plan",
        "Onboarding Step 2 Company Details Completed",
        "onboarding_step_2_company_details_completed",
        "subscription-upgraded-from-trial-v2-eu",
        "szczegolowe_ustawienia_powiadomien_v2",
        "ctvrtletni_prehled_zakazniku_2024_q3",
        "zhuce_shijian_2024_zhongguo_yonghu_v3",
        "kayttajatunnus_vahvistettu_2_kertaa",
        "Đăng ký thành công bước 2 của 3",
        "Größenänderung_der_Überweisung_2024",
        "utilisateur.adresse.code_postal_2",
        "order 2024-05-13 shipped",
        "20240513",
        "custom_field_14532873947034",
        "abcdefghijklmnopqrstuvwxyz",
    ],
)
def test_words_with_a_number_among_them_are_a_name(name: str) -> None:
    assert not looks_like_token(name)


@pytest.mark.parametrize(
    "token",
    [
        "4242424242424242",
        "card 4242424242424242 declined",
        "+32 470 12 34 56 78",
        "0470123456",
        "(555) 123-4567 89",
        "123e4567-e89b-12d3-a456-426614174000",
        "user_123e4567-e89b-12d3-a456-426614174000_opened",
        "d41d8cd98f00b204e9800998ecf8427e",
        "orders.507f1f77bcf86cd799439011.total",
        "sk_live_51H8aXyZ0bQ2cR4d",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
        "opened aB3dE5fG7hJ9kL1mN3pQ5rS7tU9v",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "xoxb-17653672481-19874698323-pdFZKVeTuE8sk7oOcHrzzqgy",
        "AIzaSyDaGmWKa4JsXZ-HjGw7ISLn_3namBGewQe",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    ],
)
def test_keys_ids_and_long_numbers_are_no_names(token: str) -> None:
    assert looks_like_token(token)
