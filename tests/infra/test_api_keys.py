"""API keys: one for each scope, kept in a file for its owner alone, known to us as digests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import structlog
from click.testing import CliRunner, Result

from api.cli import main
from domain.access import ApiScope
from infra import api_keys
from infra.bootstrap.annals import Annals


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_there_is_one_key_for_each_scope_and_each_opens_that_scope(
    annals: Annals, path: Path
) -> None:
    keys = annals.api_keys.at_hand(path)
    assert list(keys) == [scope.value for scope in ApiScope]
    assert len(set(keys.values())) == len(ApiScope)
    assert json.loads(path.read_text()) == keys
    ids = set()
    for scope in ApiScope:
        id, opens = annals.api_keys.find(keys[scope.value])
        assert opens is scope
        ids.add(id)
    assert len(ids) == len(ApiScope)


@pytest.mark.parametrize("mode", [None, 0o644, 0o666])
def test_the_file_is_for_its_owner_alone(annals: Annals, path: Path, mode: int | None) -> None:
    if mode is not None:
        path.write_text("{}")
        path.chmod(mode)
    mask = os.umask(0)
    try:
        annals.api_keys.at_hand(path)
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir() if "keys.json" in each.name] == [
        "keys.json"
    ]


def test_keys_stay_the_same_from_start_to_start(
    annals: Annals, open_annals: Callable[[], Annals], path: Path
) -> None:
    keys = annals.api_keys.at_hand(path)
    assert open_annals().api_keys.at_hand(path) == keys


def test_keys_that_are_at_hand_work_on_a_new_database(annals: Annals, path: Path) -> None:
    mine = {scope.value: f"mine-{scope}" for scope in ApiScope if scope is not ApiScope.ADMIN}
    path.write_text(json.dumps(mine))
    keys = annals.api_keys.at_hand(path)
    assert {scope: keys[scope] for scope in mine} == mine
    assert annals.api_keys.find("mine-read")[1] is ApiScope.READ
    assert annals.api_keys.find(keys["admin"])[1] is ApiScope.ADMIN


def test_an_unknown_key_opens_nothing(annals: Annals, path: Path) -> None:
    keys = annals.api_keys.at_hand(path)
    for key in ("", "annals_write_", keys["write"] + "x", keys["write"][:-1], "é"):
        assert annals.api_keys.find(key) is None


def test_the_database_holds_no_key(annals: Annals, path: Path, database_url: str) -> None:
    keys = annals.api_keys.at_hand(path)
    with psycopg.connect(database_url) as conn:
        stored = str(conn.execute("SELECT * FROM keys.api_keys").fetchall())
    assert not any(key in stored or key.encode().hex() in stored for key in keys.values())


def test_a_revoked_key_opens_nothing_and_a_restart_does_not_revive_it(
    annals: Annals,
    open_annals: Callable[[], Annals],
    path: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api_keys, "CACHE_SECONDS", 0.0)
    keys = annals.api_keys.at_hand(path)
    assert annals.api_keys.find(keys["write"]) is not None
    with psycopg.connect(database_url) as conn:
        conn.execute("UPDATE keys.api_keys SET revoked_at = now() WHERE scope = 'write'")
    assert annals.api_keys.find(keys["write"]) is None
    assert annals.api_keys.find(keys["read"]) is not None
    again = open_annals()
    again.api_keys.at_hand(path)
    assert again.api_keys.find(keys["write"]) is None


def command(annals: Annals, database_url: str, *words: str) -> Result:
    environment = {"ANNALS_DATABASE_URL": database_url, "ANNALS_DATA": str(annals.settings.data)}
    try:
        return CliRunner().invoke(main, ["api-keys", *words], env=environment)
    finally:
        structlog.reset_defaults()  # the command has its own, for a process of its own


def test_keys_are_made_listed_and_revoked_by_command(
    annals: Annals,
    open_annals: Callable[[], Annals],
    path: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_hand, processes = annals.api_keys.at_hand(path), [annals, open_annals()]
    made = command(annals, database_url, "make", "audit")
    assert made.exit_code == 0, made.output
    key = made.output.strip()
    for process in processes:
        assert process.api_keys.find(key)[1] is ApiScope.AUDIT
    id = annals.api_keys.find(key)[0]
    listed = command(annals, database_url, "list").output
    assert len(listed.splitlines()) == len(ApiScope) + 1
    [line] = [line for line in listed.splitlines() if str(id) in line]
    assert "audit" in line
    assert "revoked" not in listed
    assert not any(each in listed for each in (key, *at_hand.values()))
    assert command(annals, database_url, "revoke", str(id)).exit_code == 0
    later = api_keys.time.monotonic() + 1
    monkeypatch.setattr(api_keys.time, "monotonic", lambda: later)
    for process in processes:
        assert process.api_keys.find(key) is None
        assert process.api_keys.find(at_hand["audit"])[1] is ApiScope.AUDIT
    [line] = [
        line
        for line in command(annals, database_url, "list").output.splitlines()
        if "revoked" in line
    ]
    assert str(id) in line


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["revoke", "00000000-0000-4000-8000-000000000000"], 1),
        (["revoke", "no-id"], 2),
        (["make", "everything"], 2),
    ],
)
def test_a_command_on_keys_that_cannot_be_carried_out_says_so(
    annals: Annals, database_url: str, words: list[str], code: int
) -> None:
    before = annals.api_keys.list()
    assert command(annals, database_url, *words).exit_code == code
    assert annals.api_keys.list() == before


def test_the_cache_of_keys_is_bounded(annals: Annals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "CACHE_SIZE", 10)
    for n in range(50):
        assert annals.api_keys.find(f"guess {n}") is None
    assert len(annals.api_keys._cache) <= 10
