"""The embedded server: starts, is shared, outlives kills of any part of it, and stops."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from infra import embedded
from infra.embedded import server
from tests.folders import initialise
from tests.infra.embedded_user import (
    ROOT,
    User,
    postmaster,
    processes,
    query,
    until,
    until_gone,
    user_of,
)

pytestmark = pytest.mark.database  # each starts a server of its own


def socket_folder(url: str) -> Path:
    return Path(str(conninfo_to_dict(url)["host"]))


def test_a_server_from_nothing_answers_and_offers_trigrams(new_data: Path) -> None:
    with embedded.running(new_data) as url:
        assert query(url, "select 1") == [(1,)]
        query(url, "create extension pg_trgm")
        assert query(url, "select similarity('ada', 'ada')") == [(1.0,)]
        assert query(url, "select current_user, current_database()") == [("postgres", "postgres")]
    until_gone(new_data / "postgres")


def test_data_outlives_a_stop_and_a_start(data: Path) -> None:
    with embedded.running(data) as url:
        query(url, "create table kept as select 7 as n")
    with embedded.running(data) as url:
        assert query(url, "select n from kept") == [(7,)]


def test_two_processes_share_a_server_and_the_last_one_stops_it(data: Path) -> None:
    with user_of(data) as one, user_of(data) as two:
        assert one.url == two.url
        pid = postmaster(data / "postgres")
        one.leave()
        assert query(two.url, "select 1") == [(1,)]
        assert postmaster(data / "postgres") == pid
        two.leave()
        until_gone(data / "postgres")


def test_threads_coming_and_going_always_find_a_server(new_data: Path) -> None:
    def use() -> None:
        for _ in range(4):
            with embedded.running(new_data) as url, embedded.running(new_data) as inner:
                assert url == inner
                query(url, "select 1")

    with ThreadPoolExecutor(5) as threads:
        for user in [threads.submit(use) for _ in range(5)]:
            user.result()
    until_gone(new_data / "postgres")


def test_a_killed_server_recovers_with_its_data(data: Path) -> None:
    with embedded.running(data) as url:
        query(url, "create table kept as select 7 as n")
        os.kill(postmaster(data / "postgres"), signal.SIGKILL)
    with embedded.running(data) as url:
        assert query(url, "select n from kept") == [(7,)]


def test_a_server_killed_this_instant_is_not_taken_for_a_running_one(data: Path) -> None:
    with embedded.running(data) as url:
        query(url, "create table kept as select 7 as n")
        for _ in range(5):
            os.kill(postmaster(data / "postgres"), signal.SIGKILL)
            with embedded.running(data) as again:
                assert query(again, "select n from kept") == [(7,)]


def test_after_a_killed_user_the_next_one_finds_the_server_and_stops_it(data: Path) -> None:
    user = User(data)
    query(user.url, "create table kept as select 7 as n")
    pid = postmaster(data / "postgres")
    user.kill()
    assert pid in processes(data / "postgres")
    with embedded.running(data) as url:
        assert postmaster(data / "postgres") == pid
        assert query(url, "select n from kept") == [(7,)]
    until_gone(data / "postgres")


def test_after_user_and_server_were_killed_the_next_one_starts_anew(data: Path) -> None:
    user = User(data)
    query(user.url, "create table kept as select 7 as n")
    os.kill(postmaster(data / "postgres"), signal.SIGKILL)
    user.kill()
    with embedded.running(data) as url:
        assert query(url, "select n from kept") == [(7,)]
    until_gone(data / "postgres")


@pytest.mark.parametrize(
    "seen",
    [
        "postgres.starting.lock",
        "postgres.new",
        "postgres.new/global/pg_control",
        "postgres/PG_VERSION",
        "postgres/postmaster.pid",
    ],
)
def test_a_user_killed_during_the_first_start_stops_no_later_one(new_data: Path, seen: str) -> None:
    user = User(new_data, wait=False)
    until((new_data / seen).exists)
    user.kill()
    with embedded.running(new_data) as url:
        assert query(url, "select 1") == [(1,)]
    until_gone(new_data / "postgres")


def test_a_backend_that_outlives_its_killed_server_stops_no_start(data: Path) -> None:
    user = User(data)
    query(user.url, "create table kept as select 7 as n")
    with ThreadPoolExecutor(1) as threads:
        endless = threads.submit(query, user.url, "do 'begin loop end loop; end'")
        try:
            others = "from pg_stat_activity where query like 'do %' and pid <> pg_backend_pid()"
            until(lambda: query(user.url, f"select count(*) {others}") == [(1,)])
            killed = postmaster(data / "postgres")
            os.kill(killed, signal.SIGKILL)
            user.kill()
            assert set(processes(data / "postgres")) - {killed}
            with embedded.running(data) as url:
                assert query(url, "select n from kept") == [(7,)]
        finally:
            for pid in processes(data / "postgres"):
                os.kill(pid, signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):
            endless.result()


def test_a_server_found_while_it_starts_is_waited_for(data: Path) -> None:
    user = User(data)
    user.kill()
    pid_file = data / "postgres" / "postmaster.pid"
    ready = pid_file.read_text()
    pid_file.write_text(ready.replace("ready   ", "starting"))
    entered = threading.Event()

    def use() -> None:
        with embedded.running(data):
            entered.set()

    with ThreadPoolExecutor(1) as threads:
        user_of_it = threads.submit(use)
        too_early = entered.wait(0.4)
        pid_file.write_text(ready)
        user_of_it.result()
    assert not too_early


@pytest.mark.parametrize("whose", ["this process", "a process of the server's user"])
def test_a_pid_file_with_a_recycled_pid_stops_no_start(data: Path, whose: str) -> None:
    with embedded.running(data) as url:
        query(url, "create table kept as select 7 as n")
        pid_file = (data / "postgres" / "postmaster.pid").read_text().split("\n", 1)[1]
    uid = (data / "postgres").stat().st_uid
    sleeper = subprocess.Popen(
        ["sleep", "60"], user=uid if ROOT else None, extra_groups=[] if ROOT else None
    )
    try:
        pid = os.getpid() if whose == "this process" else sleeper.pid
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (data / "postgres" / name).write_text(f"{pid}\n{pid_file}")
        with embedded.running(data) as url:
            assert query(url, "select n from kept") == [(7,)]
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_the_server_writes_durably_and_listens_on_no_address(data: Path) -> None:
    wanted = {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "data_checksums": "on",
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        "max_connections": "200",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "15min",
        "wal_recycle": "off",
        "wal_init_zero": "off",
        "jit": "off",
        "random_page_cost": "1.1",
        "log_min_messages": "log",
        "log_statement": "none",
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "server_encoding": "UTF8",
    }
    with embedded.running(data) as url:
        for name, value in wanted.items():
            assert query(url, f"show {name}") == [(value,)], name
        assert query(url, "select datlocale from pg_database where datname = 'postgres'") == [
            ("C.UTF-8",)
        ]
        host = socket_folder(url)
        assert host.stat().st_mode & 0o777 == 0o700
        assert host.stat().st_uid == (data / "postgres").stat().st_uid


def test_no_value_of_a_failed_statement_reaches_the_log(data: Path) -> None:
    with embedded.running(data) as url:
        for statement in ("select 'Ada Lovelace'::int", "select lovelace from ada_table"):
            with pytest.raises(psycopg.Error):
                query(url, statement)
    log = (data / "postgres" / "server.log").read_text().lower()
    assert "ready to accept connections" in log
    assert "lovelace" not in log


@pytest.mark.parametrize("name", ["deep" * 60, "a folder, with a comma"])
def test_a_folder_whose_path_no_socket_can_have_works(place: Path, name: str) -> None:
    with embedded.running(place / name) as url:
        assert query(url, "select 1") == [(1,)]
        assert socket_folder(url).stat().st_mode & 0o777 == 0o700
    until_gone(place / name / "postgres")
    assert not socket_folder(url).exists()


def test_the_socket_is_found_by_users_with_another_temporary_folder(
    place: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    initialise(place / "a,b", server)
    with embedded.running(place / "a,b") as one:
        monkeypatch.setattr(tempfile, "tempdir", str(place))
        with embedded.running(place / "a,b") as two:
            assert one == two


def test_the_socket_of_a_killed_server_goes_with_its_cluster(place: Path, server: str) -> None:
    initialise(place / "a,b", server)
    with embedded.running(place / "a,b") as url:
        os.kill(postmaster(place / "a,b" / "postgres"), signal.SIGKILL)
        assert list(socket_folder(url).iterdir())
        embedded.remove(place / "a,b")
        assert not socket_folder(url).exists()


def test_a_folder_moved_while_in_use_keeps_its_server_and_its_data(data: Path) -> None:
    with embedded.running(data) as url:
        query(url, "create table kept as select 7 as n")
        moved = data.rename(data.with_name("moved"))
    with embedded.running(moved) as url:
        assert query(url, "select n from kept") == [(7,)]
    until_gone(moved / "postgres")


def test_memory_is_used_in_proportion_within_bounds() -> None:
    gib = 1024**3
    assert server._sizes(gib // 2)["shared_buffers"] == "128MB"
    assert server._sizes(8 * gib) == {
        "shared_buffers": "1024MB",
        "effective_cache_size": "4096MB",
    }
    assert server._sizes(64 * gib)["shared_buffers"] == "2048MB"


def test_a_start_that_fails_says_why_and_where_the_log_is(data: Path) -> None:
    with embedded.running(data):
        pass
    with (data / "postgres" / "postgresql.conf").open("a") as conf:
        conf.write("no_such_setting = on\n")
    with (
        pytest.raises(embedded.EmbeddedError, match=r"server\.log.*(?s:.*)no_such_setting"),
        embedded.running(data),
    ):
        pass
