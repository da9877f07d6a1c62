"""Vault keeps the key-encryption key: against OpenBao, which has the same interface, over TLS."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Unavailable
from infra import bootstrap
from infra.bootstrap.annals import Annals
from infra.keys import vault as vault_module
from infra.keys.key_encryption import KEY_BYTES, WrongKeyEncryptionKey
from infra.keys.vault import TransitKey, Vault
from infra.settings import Settings
from tests.commands import identify
from tests.infra import bao
from tests.infra.bao import Bao
from tests.infra.commands import events_of, stored, user_of
from tests.infra.erasures import erase
from tests.infra.keys.test_rotation import current, ids_in_use, read, rotate, users

pytestmark = pytest.mark.database  # each starts a server of its own

ROOT = Path(__file__).parents[3]
FIRST, SECOND = "vault:transit/annals:v1", "vault:transit/annals:v2"

Opener = Callable[..., AbstractContextManager[Annals]]


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Bao]:
    with bao.running() as running:
        yield running


@pytest.fixture
def vault_server(shared_server: Bao) -> Bao:
    shared_server.new_key()
    return shared_server


@pytest.fixture
def token_file(vault_server: Bao, tmp_path: Path) -> Path:
    path = tmp_path / "vault-token"
    vault_server.token(path)
    return path


@pytest.fixture
def vault(vault_server: Bao, token_file: Path) -> Iterator[Vault]:
    address = f"{vault_server.url}/transit/annals"
    with closing(Vault(address, token_file, vault_server.certificates)) as vault:
        yield vault


@pytest.fixture
def opened(vault_server: Bao, token_file: Path, tmp_path: Path, database_url: str) -> Opener:
    """Starts Annals on the test's database, with its key-encryption key in Vault if not said."""

    def start(kek: str = "", **settings: Any) -> AbstractContextManager[Annals]:
        named = {
            "data": tmp_path,
            "kek": kek or f"vault:{vault_server.url}/transit/annals",
            "vault_token_file": token_file,
            "vault_certificates": str(vault_server.certificates),
        }
        return bootstrap.opened(Settings(**(named | settings)), database_url, connections=2)

    return start


def counted(key: TransitKey) -> list[str]:
    """The calls that a key makes from here on, by their paths."""
    calls: list[str] = []
    passed_on = key._call

    def call(method: str, path: str, body: object) -> Any:
        calls.append(path)
        return passed_on(method, path, body)

    key._call = call
    return calls


@given(
    materials=st.lists(st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES), max_size=40),
    a_call=st.integers(1, 15),
)
def test_what_is_wrapped_unwraps_in_its_order_in_few_calls(
    vault: Vault, materials: list[bytes], a_call: int
) -> None:
    key = vault.find(FIRST)
    calls = counted(key)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault_module, "KEYS_A_CALL", a_call)
        wrapped = key.wrap(materials)
        assert key.unwrap(wrapped) == materials
        assert key.unwrap(wrapped[::-1]) == materials[::-1]
    assert len(calls) == 3 * -(-len(materials) // a_call)
    assert len(set(wrapped)) == len(materials)
    assert all(key.startswith(b"vault:v1:") for key in wrapped)


def test_a_thousand_keys_are_a_handful_of_calls(vault: Vault) -> None:
    key = vault.find(FIRST)
    calls = counted(key)
    materials = [os.urandom(KEY_BYTES) for _ in range(1_000)]
    assert key.unwrap(key.wrap(materials)) == materials
    assert calls == ["encrypt/annals"] * 4 + ["decrypt/annals"] * 4


def test_what_was_altered_or_is_from_elsewhere_does_not_unwrap(vault: Vault) -> None:
    key = vault.find(FIRST)
    [good, other] = key.wrap([bytes(KEY_BYTES), os.urandom(KEY_BYTES)])
    swapped = good[:-20] + other[-20:]
    for bad in (swapped, good[:-4], b"", b"vault:v1:", b"vault:v9:" + good[9:], b"\xff" * 40):
        with pytest.raises(WrongKeyEncryptionKey, match=f"{FIRST} does not decrypt") as caught:
            key.unwrap([good, bad])
        assert good.decode() not in str(caught.value)
    with pytest.raises(WrongKeyEncryptionKey, match="is not a key"):
        key.unwrap(key.wrap([b"short"]))


def test_annals_begins_and_goes_on_with_its_key_in_vault(
    opened: Opener, database_url: str, tmp_path: Path
) -> None:
    with opened() as annals:
        known = users(annals, 30)
        erase(annals, known[0])
    assert ids_in_use(database_url) == {FIRST}
    with psycopg.connect(database_url) as conn:
        rows = conn.execute("SELECT wrapped FROM keys.subject_keys WHERE state = 'active'")
        assert all(wrapped.startswith(b"vault:v1:") for (wrapped,) in rows)
    assert list(tmp_path.glob("key-encryption-key*")) == []
    with opened() as annals:
        assert read(annals, *known[1:]) == {*known[1:]}
        assert [event.topic for event in events_of(annals, known[0])] == ["user.erased"]


def test_a_rotation_moves_to_a_new_version_after_which_the_old_one_may_go(
    opened: Opener, vault_server: Bao, database_url: str
) -> None:
    with opened() as annals:
        known = users(annals, 50)
        assert rotate(annals) == SECOND
        assert read(annals, *known) == {*known}
    assert ids_in_use(database_url) == {SECOND}
    vault_server("POST", "transit/keys/annals/config", {"min_decryption_version": 2})
    vault_server("POST", "transit/keys/annals/rotate")  # as Vault may by itself
    with opened() as annals:
        assert read(annals, *known) == {*known}
        stored(annals, identify("another"))
        assert ids_in_use(database_url) == {SECOND}
        assert rotate(annals) == "vault:transit/annals:v3"
        assert vault_server("GET", "transit/keys/annals")["data"]["latest_version"] == 3
        assert read(annals, *known) == {*known}


def test_an_old_version_that_goes_too_early_stops_the_start(
    opened: Opener, vault_server: Bao
) -> None:
    with opened() as annals:
        users(annals, 1)
    vault_server("POST", "transit/keys/annals/rotate")
    vault_server("POST", "transit/keys/annals/config", {"min_decryption_version": 2})
    with pytest.raises(WrongKeyEncryptionKey, match=f"{FIRST} does not decrypt in Vault"), opened():
        pass


def test_keys_move_from_a_file_to_vault_and_back(
    opened: Opener, vault_server: Bao, database_url: str
) -> None:
    in_vault = f"vault:{vault_server.url}/transit/annals"
    with opened("file") as annals:
        known = users(annals, 20)
    with opened(f"{in_vault} file") as annals:
        assert rotate(annals) == FIRST
        assert read(annals, *known) == {*known}
    with opened() as annals:
        assert read(annals, *known) == {*known}
    with opened(f"file {in_vault}") as annals:
        assert rotate(annals) == current(database_url) != FIRST
    with opened("file") as annals:
        assert read(annals, *known) == {*known}


def test_a_key_that_is_missing_in_vault_is_never_made(
    opened: Opener, vault_server: Bao, database_url: str
) -> None:
    with opened() as annals:
        [known] = users(annals, 1)
        vault_server.delete_key()
        with pytest.raises(Unavailable):
            stored(annals, identify("another", name="Bob"))
        assert read(annals, known) == {known}  # in memory
    for _ in range(2):
        with pytest.raises(WrongKeyEncryptionKey, match=FIRST), opened():
            pass
    assert not vault_server.has_key()
    vault_server.new_key()  # another of that name
    with pytest.raises(WrongKeyEncryptionKey, match=f"{FIRST} does not decrypt in Vault"), opened():
        pass


def test_a_first_start_without_a_key_in_vault_says_so(opened: Opener, vault_server: Bao) -> None:
    vault_server.delete_key()
    with pytest.raises(WrongKeyEncryptionKey, match="Vault answers 404 to GET"), opened():
        pass
    assert not vault_server.has_key()


def test_a_token_is_renewed_without_a_restart_and_what_waited_for_it_goes_on(
    opened: Opener, vault_server: Bao, token_file: Path
) -> None:
    with opened() as annals:
        users(annals, 1)
        token = token_file.read_text().strip()
        vault_server("POST", "auth/token/revoke", {"token": token})
        annals.keys._cache.clear()
        for work in (
            lambda: stored(annals, identify("u0", x=1)),
            lambda: stored(annals, identify("another", x=1)),
            lambda: annals.projector().step(),
        ):
            with pytest.raises(Unavailable, match="operator") as caught:
                work()
            assert token not in str(caught.value)
        vault_server.token(token_file)
        stored(annals, identify("u0", x=1))
        assert user_of(annals, "u0").properties == {"name": "n0", "x": 1}
        projector = annals.projector()
        while projector.step():
            pass
        assert annals.status().parked == 0


@pytest.mark.parametrize("text", ["wrong", "", "\n", "two\nlines", "\u00e9"])
def test_a_wrong_token_stops_the_start_and_is_not_told(
    opened: Opener, token_file: Path, text: str
) -> None:
    token_file.write_text(text)
    with pytest.raises(WrongKeyEncryptionKey, match="Vault") as caught, opened():
        pass
    assert not text.strip() or text not in str(caught.value)


def test_a_token_that_is_missing_or_that_others_may_read_stops_the_start(
    opened: Opener, token_file: Path
) -> None:
    token_file.chmod(0o640)
    with pytest.raises(WrongKeyEncryptionKey, match=r"0640.*chmod 600"), opened():
        pass
    token_file.unlink()
    with pytest.raises(WrongKeyEncryptionKey, match="no token for Vault"), opened():
        pass


def test_a_server_that_nobody_vouches_for_does_not_get_the_token(opened: Opener) -> None:
    with (
        pytest.raises(WrongKeyEncryptionKey, match="cannot be reached"),
        opened(vault_certificates="system"),
    ):
        pass


def test_a_server_that_is_not_there_is_named(opened: Opener) -> None:
    with (
        pytest.raises(WrongKeyEncryptionKey, match=r"cannot be reached at https://127\.0\.0\.1:9/"),
        opened("vault:https://127.0.0.1:9/transit/annals"),
    ):
        pass


@pytest.mark.parametrize(
    "url",
    [
        "http://vault.example:8200/transit/annals",
        "https://vault.example:8200",
        "https://vault.example:8200/annals",
        "https://user:word@vault.example:8200/transit/annals",
        "https:///transit/annals",
        "https://vault.example/transit/annals?x=1",
    ],
)
def test_an_address_that_is_unsafe_or_names_no_key_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(WrongKeyEncryptionKey):
        Vault(url, tmp_path / "token")


def test_the_policy_of_the_operators_page_is_the_one_tested() -> None:
    page = (ROOT / "docs" / "operating" / "keys.md").read_text()
    for line in bao.POLICY.strip().splitlines():
        assert line in page
