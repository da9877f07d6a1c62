"""Keys: made on demand, destroyed for good, refused when they are the wrong ones."""

from __future__ import annotations

import base64
import os
import pickle
import sys
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psycopg
import pytest

from domain.errors import SubjectErased
from domain.identity import SubjectId, log_partition
from infra import bootstrap
from infra.bootstrap.annals import Annals
from infra.bootstrap.key_parts import KEY_FILE
from infra.keys import key_ring as keys_module
from infra.keys.key_encryption import KEY_BYTES, LocalKey, WrongKeyEncryptionKey
from infra.keys.key_ring import KeyRing
from infra.keys.subject_key import SubjectKey
from infra.settings import Settings
from tests.infra.erasures import destroy_keys
from tests.processes import Process


def new(count: int = 1) -> list[SubjectId]:
    return [SubjectId(uuid.uuid4()) for _ in range(count)]


def destroy(ring: KeyRing, *subjects: SubjectId) -> None:
    destroy_keys(ring, subjects)


def same_key(one: SubjectKey, other: SubjectKey) -> bool:
    nonce = bytes(12)
    return one.seal(b"x", b"", nonce) == other.seal(b"x", b"", nonce)


def numbers(*subjects: SubjectId) -> set[int]:
    """As key rings know subjects."""
    return {subject.int for subject in subjects}


def state_of(database_url: str, subject: SubjectId) -> list[tuple[str, bytes | None, bool]]:
    with psycopg.connect(database_url) as conn:
        return conn.execute(
            "SELECT state, wrapped, fingerprint IS NULL FROM keys.subject_keys WHERE subject = %s",
            (subject,),
        ).fetchall()


def test_a_key_is_in_one_of_three_states(annals: Annals, database_url: str) -> None:
    ring, [never, active, destroyed] = annals.keys, new(3)
    ring.fetch_or_make(numbers(active, destroyed))
    destroy(ring, destroyed)
    assert set(ring.fetch(numbers(never, active, destroyed))) == numbers(active)
    assert state_of(database_url, never) == []
    [(state, wrapped, _)] = state_of(database_url, active)
    assert (state, wrapped is None) == ("active", False)
    assert state_of(database_url, destroyed) == [("destroyed", None, False)]


def test_a_destroyed_key_is_neither_revived_nor_replaced(annals: Annals, database_url: str) -> None:
    ring, [subject, other] = annals.keys, new(2)
    ring.fetch_or_make(numbers(subject))
    destroy(ring, subject)
    for _ in range(2):
        with pytest.raises(SubjectErased):
            ring.fetch_or_make(numbers(other, subject))
        destroy(ring, subject)
    assert state_of(database_url, subject) == [("destroyed", None, False)]
    assert ring.fetch(numbers(other))


def test_a_subject_without_a_key_is_buried_too(annals: Annals, database_url: str) -> None:
    [subject] = new()
    destroy(annals.keys, subject)
    with pytest.raises(SubjectErased):
        annals.keys.fetch_or_make(numbers(subject))
    assert state_of(database_url, subject) == [("destroyed", None, True)]


def test_every_version_of_a_key_is_destroyed(annals: Annals, database_url: str) -> None:
    [subject] = new()
    annals.keys.fetch_or_make(numbers(subject))
    with psycopg.connect(database_url) as conn:
        conn.execute(
            "INSERT INTO keys.subject_keys SELECT log_partition, subject, 2, state,"
            " key_encryption_key, wrapped, fingerprint FROM keys.subject_keys"
        )
    destroy(annals.keys, subject)
    assert [state for state, _, _ in state_of(database_url, subject)] == ["destroyed"] * 2


def test_a_key_that_is_being_made_while_it_is_destroyed_does_not_survive(
    annals: Annals, database_url: str
) -> None:
    [subject] = new()
    wrapped = LocalKey(os.urandom(KEY_BYTES)).wrap([os.urandom(KEY_BYTES)])[0]
    with psycopg.connect(database_url) as maker, ThreadPoolExecutor() as others:
        maker.execute(
            "INSERT INTO keys.subject_keys (log_partition, subject, version, state,"
            " key_encryption_key, wrapped) VALUES (%s, %s, 1, 'active', 'k', %s)",
            (log_partition(subject), subject, wrapped),
        )
        destruction = others.submit(destroy, annals.keys, subject)
        with psycopg.connect(database_url, autocommit=True) as watcher:
            while not watcher.execute(
                "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND datname = current_database()"
            ).fetchall():
                assert not destruction.done()
        maker.commit()
        destruction.result()
    assert [state for state, _, _ in state_of(database_url, subject)] == ["destroyed"]


def test_a_destruction_is_noticed_by_another_process_on_its_next_piece_of_work(
    annals: Annals, open_annals: Callable[[], Annals]
) -> None:
    other, [subject, bystander] = open_annals(), new(2)
    annals.keys.fetch_or_make(numbers(subject, bystander))
    other.keys.refresh()
    assert set(other.keys.fetch(numbers(subject, bystander))) == numbers(subject, bystander)
    destroy(annals.keys, subject)
    other.keys.refresh()
    assert set(other.keys.fetch(numbers(subject, bystander))) == numbers(bystander)
    with pytest.raises(SubjectErased):
        other.keys.fetch_or_make(numbers(subject))


def test_in_the_process_that_destroys_it_a_key_is_gone_at_once(annals: Annals) -> None:
    [subject] = new()
    annals.keys.fetch_or_make(numbers(subject))
    destroy(annals.keys, subject)
    assert annals.keys.fetch(numbers(subject)) == {}


def test_writers_that_make_the_same_keys_at_once_end_with_one_key_each(
    annals: Annals, open_annals: Callable[[], Annals]
) -> None:
    rings, subjects = [annals.keys, open_annals().keys, open_annals().keys], new(50)
    start = threading.Barrier(len(rings))

    def make(n: int) -> dict[int, SubjectKey]:
        mine = subjects[n:] + subjects[:n]
        start.wait()
        return rings[n].fetch_or_make(numbers(*mine))

    with ThreadPoolExecutor() as threads:
        first, *others = threads.map(make, range(len(rings)))
    for made in others:
        assert all(same_key(first[subject], made[subject]) for subject in numbers(*subjects))


def test_the_cache_is_bounded_in_number_and_in_time(
    annals: Annals, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setattr(keys_module, "CACHE_SIZE", 10)
    ring, subjects = annals.keys, new(25)
    ring.refresh()
    assert set(ring.fetch_or_make(numbers(*subjects))) == numbers(*subjects)
    assert len(ring._cache) == 10
    with psycopg.connect(database_url) as conn:
        conn.execute("DELETE FROM keys.subject_keys")
    assert len(ring.fetch(numbers(*subjects))) == 10
    later = keys_module.time.monotonic() + keys_module.CACHE_SECONDS
    monkeypatch.setattr(keys_module.time, "monotonic", lambda: later + 1)
    assert ring.fetch(numbers(*subjects)) == {}


def test_keys_show_nothing_of_themselves(annals: Annals) -> None:
    material = os.urandom(KEY_BYTES)
    kek, key = LocalKey(material), SubjectKey(1, material)
    [subject] = new()
    annals.keys.fetch_or_make(numbers(subject))
    shown = f"{kek!r} {kek} {key!r} {key} {annals.keys!r} {annals!r} {annals.handler!r}"
    for form in (material.hex(), repr(material), base64.b64encode(material).decode()):
        assert form not in shown
    kept = (Path(annals.settings.data) / KEY_FILE).read_text().strip()
    assert kept not in shown
    assert base64.b64decode(kept).hex() not in shown
    with pytest.raises(TypeError):
        pickle.dumps(key)


class TestKeyFile:
    def test_it_is_made_for_its_owner_alone(self, tmp_path: Path) -> None:
        mask = os.umask(0)
        try:
            made = LocalKey.generate_file(tmp_path / "k")
        finally:
            os.umask(mask)
        assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
        assert LocalKey.from_file(tmp_path / "k").id == made.id
        assert [path.name for path in tmp_path.iterdir()] == ["k"]

    def test_it_is_never_overwritten(self, tmp_path: Path) -> None:
        made = LocalKey.generate_file(tmp_path / "k")
        with pytest.raises(FileExistsError):
            LocalKey.generate_file(tmp_path / "k")
        assert LocalKey.from_file(tmp_path / "k").id == made.id

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o660, 0o601, 0o777])
    def test_one_that_others_may_use_is_refused(self, tmp_path: Path, mode: int) -> None:
        LocalKey.generate_file(tmp_path / "k")
        (tmp_path / "k").chmod(mode)
        with pytest.raises(WrongKeyEncryptionKey, match=f"{mode:04o}.*chmod 600"):
            LocalKey.from_file(tmp_path / "k")

    @pytest.mark.parametrize(
        "content", [b"", b"abc", b"!" * 44, base64.b64encode(b"x" * 31), b"\xff\xfe" * 20]
    )
    def test_one_that_holds_no_key_is_refused(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "k"
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(WrongKeyEncryptionKey) as caught:
            LocalKey.from_file(path)
        assert not content or content.decode(errors="replace") not in str(caught.value)


def start_when_told(data: Path, url: str) -> None:
    """Starts a process for the first time, says under which key-encryption key."""
    print("ready", flush=True)
    sys.stdin.readline()
    with bootstrap.opened(Settings(data=data), url, connections=1) as annals:
        annals.secrets.get("lookup")
        print(annals.key_rotation.current.id)


def start(data: Path, url: str) -> None:
    with bootstrap.opened(Settings(data=data), url, connections=1):
        pass


def test_case_6_the_wrong_key_encryption_key_is_refused_by_its_id(
    database_url: str, tmp_path: Path
) -> None:
    start(tmp_path / "right", database_url)
    right = LocalKey.from_file(tmp_path / "right" / KEY_FILE)
    (tmp_path / "wrong").mkdir()
    wrong = LocalKey.generate_file(tmp_path / "wrong" / KEY_FILE)
    with pytest.raises(WrongKeyEncryptionKey) as caught:
        start(tmp_path / "wrong", database_url)
    assert right.id in str(caught.value)
    assert wrong.id in str(caught.value)


def test_a_missing_key_file_is_refused_and_not_made_anew_where_the_database_needs_one(
    database_url: str, tmp_path: Path
) -> None:
    start(tmp_path, database_url)
    right = LocalKey.from_file(tmp_path / KEY_FILE)
    (tmp_path / KEY_FILE).rename(tmp_path / "elsewhere")
    with pytest.raises(WrongKeyEncryptionKey, match=right.id):
        start(tmp_path, database_url)
    assert not (tmp_path / KEY_FILE).exists()
    (tmp_path / "elsewhere").rename(tmp_path / KEY_FILE)
    start(tmp_path, database_url)


def test_case_6_a_key_file_that_others_may_read_stops_the_start(
    database_url: str, tmp_path: Path
) -> None:
    start(tmp_path, database_url)
    (tmp_path / KEY_FILE).chmod(0o644)
    with pytest.raises(WrongKeyEncryptionKey, match="chmod 600"):
        start(tmp_path, database_url)


def test_processes_that_start_for_the_first_time_at_once_agree_on_one_key(
    database_url: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with ExitStack() as stack:
        start = partial(Process, start_when_told, data, database_url)
        processes = [stack.enter_context(start()) for _ in range(4)]
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.tell("go")
        said = [process.stdout.read() for process in processes]
        assert [process.wait() for process in processes] == [0] * 4
    assert set(said) == {LocalKey.from_file(data / KEY_FILE).id + "\n"}
