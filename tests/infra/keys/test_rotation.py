"""All keys move under a new key-encryption key while everybody works, and no event is touched."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
from click.testing import CliRunner
from structlog.testing import capture_logs

from api.cli import main
from domain.errors import SubjectErased, Unavailable
from domain.identity import SubjectId
from infra import bootstrap
from infra.bootstrap.annals import Annals
from infra.bootstrap.key_parts import KEY_FILE
from infra.keys import rotation
from infra.keys.key_encryption import LocalKey, WrongKeyEncryptionKey
from infra.settings import Settings
from tests.commands import identify, track
from tests.infra import chain
from tests.infra.commands import events_of, stored, subject_of, user_of
from tests.infra.erasures import destroy_keys
from tests.processes import Process


def rotate(annals: Annals) -> str:
    """As the command does; returns the id of the key-encryption key that is current then."""
    id = annals.key_rotation.begin_rotation()
    while not annals.key_rotation.end_rotation():
        sum(annals.key_rotation.rewrap())
    return id


def states(database_url: str) -> dict[str, str]:
    with psycopg.connect(database_url) as conn:
        return dict(conn.execute("SELECT id, state FROM keys.key_encryption_keys").fetchall())


def current(database_url: str) -> str:
    [id] = (id for id, state in states(database_url).items() if state == "current")
    return id


def ids_in_use(database_url: str) -> set[str]:
    with psycopg.connect(database_url) as conn:
        rows = conn.execute(
            "SELECT key_encryption_key FROM keys.subject_keys WHERE state = 'active'"
            " UNION SELECT key_encryption_key FROM keys.secrets"
        )
        return {id for (id,) in rows}


def read(annals: Annals, *subjects: SubjectId) -> set[SubjectId]:
    """Those of the subjects whose events open."""
    return {event.stream for event in events_of(annals, *subjects)}


def whole_log(database_url: str) -> list[Any]:
    with psycopg.connect(database_url) as conn:
        return conn.execute("SELECT * FROM log.events ORDER BY 1, 2").fetchall()


def users(annals: Annals, count: int, start: int = 0) -> list[SubjectId]:
    stored(annals, *(identify(f"u{n}", name=f"n{n}") for n in range(start, start + count)))
    found = [subject_of(annals, f"u{n}") for n in range(start, start + count)]
    return [subject for subject in found if subject is not None]


def start(data: Path, url: str, **settings: Any) -> None:
    with bootstrap.opened(Settings(data=data, **settings), url, connections=2) as annals:
        annals.secrets.get("lookup")


def command(annals: Annals, database_url: str, *words: str) -> Any:
    environment = {
        "ANNALS_DATABASE_URL": database_url,
        "ANNALS_DATA": str(annals.settings.data),
    }
    try:
        return CliRunner().invoke(main, list(words), env=environment)
    finally:
        structlog.reset_defaults()  # the command has its own, for a process of its own


def test_case_5_after_a_rotation_all_is_under_the_new_key_and_opens_and_no_event_changed(
    annals: Annals, open_annals: Callable[[], Annals], database_url: str
) -> None:
    known = users(annals, 300)
    before, old = whole_log(database_url), annals.key_rotation.current.id
    secret = annals.secrets.get("lookup")
    new = rotate(annals)
    assert new != old
    assert states(database_url) == {old: "retired", new: "current"}
    assert ids_in_use(database_url) == {new}
    assert whole_log(database_url) == before
    for process in (annals, open_annals()):
        assert read(process, *known) == {*known}
        assert process.secrets.get("lookup") == secret
        assert user_of(process, "u7").properties == {"name": "n7"}


def test_the_old_key_is_needed_until_the_end_of_a_rotation_and_not_after_it(
    annals: Annals, database_url: str, tmp_path: Path
) -> None:
    users(annals, 3)
    old = tmp_path / KEY_FILE
    new = annals.key_rotation.begin_rotation()
    content = old.read_bytes()
    old.unlink()
    with pytest.raises(WrongKeyEncryptionKey, match=r"needs key-encryption key .* no key"):
        start(tmp_path, database_url)
    old.write_bytes(content)
    old.chmod(0o600)
    rotate(annals)
    old.unlink()
    start(tmp_path, database_url)
    assert ids_in_use(database_url) == {new}
    (tmp_path / f"{KEY_FILE}.{new}").rename(tmp_path / "elsewhere")
    with pytest.raises(WrongKeyEncryptionKey, match=new):
        start(tmp_path, database_url)
    assert {path.name for path in tmp_path.glob(f"{KEY_FILE}*")} == set()


def test_case_5_keys_are_readable_and_made_and_destroyed_in_every_process_during_a_rotation(
    annals: Annals,
    open_annals: Callable[[], Annals],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rotation, "ROWS_A_BATCH", 2)
    servers = [annals, open_annals(), open_annals()]
    known = users(annals, 200)
    before = whole_log(database_url)
    begin, stop = threading.Barrier(5), threading.Event()

    def write(n: int) -> int:
        begin.wait()
        count = 0
        while not stop.is_set() or not count:
            stored(servers[n], identify(f"u-{n}-{count}", n=n), track(f"u{count % 100}"))
            count += 1
        return count

    def destroy() -> None:
        begin.wait()
        for subject in known[100:150]:
            destroy_keys(annals.keys, [subject])

    with ThreadPoolExecutor(5) as threads:
        writers = [threads.submit(write, n) for n in range(3)]
        destroyer = threads.submit(destroy)
        begin.wait()
        ids = [rotate(annals) for _ in range(2)]
        destroyer.result()
        stop.set()
        made = [writer.result() for writer in writers]
    assert len(set(ids)) == 2
    # A process that wrapped with what it took for current did so before that retired.
    assert ids_in_use(database_url) <= {ids[-1]}
    after = {row[:2]: row for row in whole_log(database_url)}
    assert all(after[row[:2]] == row for row in before)
    for server in (*servers, open_annals()):
        seen = [event for event in events_of(server, *known) if event.topic != "user.erased"]
        assert {event.stream for event in seen} == {*known[:100], *known[150:]}
        for n, count in enumerate(made):
            assert user_of(server, f"u-{n}-{count - 1}").properties == {"n": n}
        with pytest.raises(SubjectErased):
            server.keys.fetch_or_make({known[120].int})
    assert chain.problems(database_url) == []


def test_a_key_that_is_erased_between_reading_and_rewrapping_stays_destroyed(
    annals: Annals, database_url: str
) -> None:
    [subject] = users(annals, 1)
    annals.key_rotation.begin_rotation()
    passes = annals.key_rotation.unwrap

    def erase_late(wrapped: Any) -> list[bytes]:
        annals.key_rotation.unwrap = passes
        opened = passes(wrapped)
        destroy_keys(annals.keys, [subject])
        return opened

    annals.key_rotation.unwrap = erase_late
    rotate(annals)
    with psycopg.connect(database_url) as conn:
        [row] = conn.execute("SELECT state, wrapped FROM keys.subject_keys").fetchall()
    assert row == ("destroyed", None)


def test_a_rotation_passes_over_a_row_that_somebody_holds_and_does_not_end_before_it(
    annals: Annals, database_url: str
) -> None:
    [subject] = users(annals, 1)
    annals.key_rotation.begin_rotation()
    with psycopg.connect(database_url) as holder:
        holder.execute("SELECT FROM keys.subject_keys FOR UPDATE")
        passed_over = annals.key_rotation.outstanding()
        assert sum(annals.key_rotation.rewrap()) == passed_over - 1
        assert not annals.key_rotation.end_rotation()
    assert sum(annals.key_rotation.rewrap()) == 1
    assert annals.key_rotation.end_rotation()
    assert annals.keys.fetch({subject.int})


def test_a_rotation_waits_for_keys_that_are_made_under_the_old_key(
    annals: Annals, open_annals: Callable[[], Annals], database_url: str
) -> None:
    subject, other = SubjectId(uuid.uuid4()), open_annals()
    other.key_rotation.begin_rotation()
    with psycopg.connect(database_url) as maker, ThreadPoolExecutor() as threads:
        annals.keys.make_within(maker, [subject.int])
        sum(other.key_rotation.rewrap())
        ending = threads.submit(other.key_rotation.end_rotation)
        with psycopg.connect(database_url, autocommit=True) as watcher:
            while not watcher.execute(
                "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND datname = current_database()"
            ).fetchall():
                assert not ending.done()
        maker.commit()
        assert not ending.result()
    rotate(other)
    assert set(annals.keys.fetch({subject.int})) == {subject.int}


def test_a_process_that_missed_a_whole_rotation_makes_its_next_keys_under_the_new_key(
    annals: Annals, open_annals: Callable[[], Annals], database_url: str
) -> None:
    other, subject, gone = open_annals(), *(SubjectId(uuid.uuid4()) for _ in range(2))
    new = rotate(annals)
    assert other.key_rotation.current.id != new
    assert set(other.keys.fetch_or_make({subject.int})) == {subject.int}
    assert ids_in_use(database_url) == {new}
    rotate(annals)
    other.secrets.get("a new one")
    assert other.secrets.get("a new one") == open_annals().secrets.get("a new one")
    destroy_keys(annals.keys, [gone])
    rotate(annals)
    with pytest.raises(SubjectErased):
        other.keys.fetch_or_make({gone.int})


def test_a_process_without_the_new_key_goes_on_under_the_old_one_until_it_retires(
    database_url: str, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    start(here, database_url)
    there.mkdir()
    (there / KEY_FILE).write_bytes((here / KEY_FILE).read_bytes())
    (there / KEY_FILE).chmod(0o600)
    with (
        bootstrap.opened(Settings(data=here), database_url, connections=2) as annals,
        bootstrap.opened(Settings(data=there), database_url, connections=2) as other,
        capture_logs() as logged,
    ):
        new = annals.key_rotation.begin_rotation()
        stored(other, identify("u1", name="Ada"))
        assert [one["event"] for one in logged] == ["keys.rotation_cannot_be_followed"]
        rotate(annals)
        other.keys._cache.clear()
        other.keys._generation = -1
        for work in (lambda: stored(other, identify("u1", x=1)), other.projector().step):
            with pytest.raises(Unavailable, match="operator"):
                work()
        assert f"needs key-encryption key {new}" in logged[-1]["reason"]
        name = f"{KEY_FILE}.{new}"
        (there / name).write_bytes((here / name).read_bytes())
        (there / name).chmod(0o600)
        stored(other, identify("u1", x=1))
        assert user_of(other, "u1").properties == {"name": "Ada", "x": 1}


def test_two_rotations_at_once_are_one_or_follow_one_another(
    annals: Annals, open_annals: Callable[[], Annals], database_url: str
) -> None:
    processes = [annals, open_annals(), open_annals()]
    known = users(annals, 100)
    begin = threading.Barrier(3)

    def turn(process: Annals) -> str:
        begin.wait()
        return rotate(process)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(turn, processes))
    assert sorted(set(states(database_url).values())) == ["current", "retired"]
    assert ids_in_use(database_url) == {current(database_url)}
    for process in processes:
        assert read(process, *known) == {*known}


def test_a_second_call_goes_on_with_the_rotation_that_is_under_way(
    annals: Annals, open_annals: Callable[[], Annals], database_url: str
) -> None:
    users(annals, 5)
    new = annals.key_rotation.begin_rotation()
    next(annals.key_rotation.rewrap())
    other = open_annals()
    assert other.key_rotation.begin_rotation() == new
    assert other.key_rotation.outstanding() > 0
    assert rotate(other) == new
    assert other.key_rotation.outstanding() == 0


def rotate_until(after: int, data: Path, url: str) -> None:
    """Begins a rotation; says so and sleeps when so many batches are done."""
    rotation.ROWS_A_BATCH = 1
    with bootstrap.opened(Settings(data=data), url, connections=2) as annals:
        annals.key_rotation.begin_rotation()
        for n, _ in enumerate(annals.key_rotation.rewrap()):
            if n == after:
                print("now", flush=True)
                time.sleep(600)


@pytest.mark.parametrize("after", [0, 20, 41])
def test_a_rotation_that_is_killed_is_gone_on_with(
    annals: Annals, database_url: str, after: int
) -> None:
    known = users(annals, 40)
    old = annals.key_rotation.current.id
    with Process(rotate_until, after, annals.settings.data, database_url) as process:
        assert process.stdout.readline() == "now\n", process.errors()
        process.kill()
    assert len(ids_in_use(database_url)) == 2
    assert read(annals, *known) == {*known}
    done = command(annals, database_url, "rotate-kek")
    assert done.exit_code == 0, done.output
    new = current(database_url)
    assert f"All keys are under key-encryption key {new}." in done.output
    assert f"Key-encryption key {old} has retired" in done.output
    assert ids_in_use(database_url) == {new}
    assert len(states(database_url)) == 2


def test_a_key_can_be_handed_round_before_it_is_used(annals: Annals, database_url: str) -> None:
    done = command(annals, database_url, "rotate-kek", "--prepare")
    assert done.exit_code == 0, done.output
    [prepared] = annals.settings.data.glob(f"{KEY_FILE}.*")
    id = LocalKey.from_file(prepared).id
    assert prepared.name == f"{KEY_FILE}.{id}"
    assert id in done.output
    assert current(database_url) != id
    assert command(annals, database_url, "rotate-kek", "--prepare").output == done.output
    assert command(annals, database_url, "rotate-kek").exit_code == 0
    assert current(database_url) == id
    assert len(list(annals.settings.data.glob(f"{KEY_FILE}.*"))) == 1


def test_a_later_key_file_that_others_may_read_is_refused(
    annals: Annals, database_url: str, tmp_path: Path
) -> None:
    new = rotate(annals)
    (tmp_path / f"{KEY_FILE}.{new}").chmod(0o644)
    with pytest.raises(WrongKeyEncryptionKey, match=r"0644.*chmod 600"):
        start(tmp_path, database_url)


def test_a_log_without_its_keys_is_not_taken_for_a_new_database(
    annals: Annals, database_url: str, tmp_path: Path
) -> None:
    users(annals, 1)
    with psycopg.connect(database_url) as conn:
        conn.execute(
            "TRUNCATE keys.secrets, keys.subject_keys, keys.identities, keys.key_encryption_keys"
        )
    (tmp_path / "new").mkdir()
    for data in (tmp_path, tmp_path / "new"):
        with pytest.raises(WrongKeyEncryptionKey, match="restore the backup of the keys"):
            start(data, database_url)
    assert list((tmp_path / "new").iterdir()) == []


def test_keys_without_the_secrets_are_not_taken_for_a_new_database(
    annals: Annals, database_url: str, tmp_path: Path
) -> None:
    annals.keys.fetch_or_make({uuid.uuid4().int})
    with psycopg.connect(database_url) as conn:
        conn.execute("TRUNCATE keys.secrets, keys.key_encryption_keys")
    with pytest.raises(WrongKeyEncryptionKey, match="restore the backup of the keys"):
        start(tmp_path, database_url)


def test_a_backup_of_the_keys_from_before_there_were_rotations_is_taken(
    annals: Annals, database_url: str, tmp_path: Path
) -> None:
    users(annals, 1)
    with psycopg.connect(database_url) as conn:
        conn.execute("TRUNCATE keys.key_encryption_keys")
    start(tmp_path, database_url)
    assert states(database_url) == {annals.key_rotation.current.id: "current"}


class TestKeysInVariables:
    def test_keys_move_from_a_file_to_a_variable_and_on_to_another(
        self,
        annals: Annals,
        database_url: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        users(annals, 3)
        for name in ("FIRST", "SECOND"):
            LocalKey.generate_file(tmp_path / name)
            monkeypatch.setenv(name, (tmp_path / name).read_text())
        for kek in ("env:FIRST file", "env:SECOND env:FIRST"):
            settings = Settings(data=tmp_path, kek=kek)
            with bootstrap.opened(settings, database_url, connections=2) as process:
                new = rotate(process)
                assert new == LocalKey.from_file(tmp_path / kek.split()[0][4:]).id
                with pytest.raises(WrongKeyEncryptionKey, match="put a new key into another"):
                    process.key_rotation.begin_rotation()
        start(tmp_path, database_url, kek="env:SECOND")
        with pytest.raises(WrongKeyEncryptionKey, match=new):
            start(tmp_path, database_url, kek="env:FIRST")

    @pytest.mark.parametrize("value", [None, "", "abc", "!" * 44])
    def test_a_variable_that_holds_no_key_stops_the_start(
        self,
        database_url: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        value: str | None,
    ) -> None:
        if value is not None:
            monkeypatch.setenv("THE_KEY", value)
        with pytest.raises(WrongKeyEncryptionKey, match="THE_KEY") as caught:
            start(tmp_path, database_url, kek="env:THE_KEY")
        assert not value or value not in str(caught.value)
