"""The embedded server comes back after its death, started once, and stays away where it should."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from infra import embedded
from tests.infra.embedded_user import postmaster, processes, query, until, until_gone, user_of

pytestmark = pytest.mark.database  # each starts a server of its own

STARTED = "starting PostgreSQL"


def answers(url: str) -> bool:
    try:
        return query(url, "select 1") == [(1,)]
    except psycopg.OperationalError:
        return False


def starts(data: Path) -> int:
    """How often the server of a data folder was started."""
    return (data / "postgres" / "server.log").read_text().count(STARTED)


def watchers() -> set[threading.Thread]:
    """Those of this process; other tests' server may have one too."""
    return {thread for thread in threading.enumerate() if thread.name == "embedded-postgres"}


def kill_all(data: Path) -> None:
    for pid in processes(data / "postgres"):
        with suppress(ProcessLookupError):  # its postmaster is dead by now, and a child leaves
            os.kill(pid, signal.SIGKILL)


def kill_postmaster(data: Path) -> None:
    os.kill(postmaster(data / "postgres"), signal.SIGKILL)


@pytest.mark.parametrize("kill", [kill_postmaster, kill_all])
def test_a_server_that_died_comes_back_with_its_data_under_the_same_address(
    data: Path, kill: Callable[[Path], None]
) -> None:
    with embedded.running(data) as url:
        query(url, "create table kept as select 7 as n")
        for _ in range(2):
            kill(data)
            until(lambda: answers(url))
            assert query(url, "select n from kept") == [(7,)]
        assert starts(data) == 3
    until_gone(data / "postgres")


def test_of_all_processes_that_notice_one_starts_it(data: Path) -> None:
    with embedded.running(data) as url, user_of(data) as one, user_of(data) as two:
        kill_postmaster(data)
        until(lambda: answers(url))
        one.leave()
        kill_postmaster(data)
        until(lambda: answers(two.url))
        assert starts(data) == 3
        assert one.url == two.url == url
    until_gone(data / "postgres")


@pytest.mark.parametrize("title", ["client backend", "checkpointer"])
def test_postgresql_is_left_to_mend_itself_where_its_postmaster_lives(
    data: Path, title: str
) -> None:
    with embedded.running(data) as url:
        pid = postmaster(data / "postgres")
        with psycopg.connect(url, autocommit=True) as conn:
            query = "select pid from pg_stat_activity where backend_type = %s"
            row = conn.execute(query, (title,)).fetchone()
            assert row is not None
            os.kill(row[0], signal.SIGKILL)
            with pytest.raises(psycopg.OperationalError):
                conn.execute("select pg_sleep(60)")
        until(lambda: answers(url))
        assert postmaster(data / "postgres") == pid
        assert starts(data) == 1


def test_what_was_deleted_stays_deleted(data: Path) -> None:
    earlier = watchers()
    with embedded.running(data):
        [watcher] = watchers() - earlier
        pids = processes(data / "postgres")
        shutil.rmtree(data)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        watcher.join(timeout=30)
        assert not watcher.is_alive()
        assert not data.exists()


def test_what_another_process_removes_is_not_started_again(data: Path) -> None:
    earlier = watchers()
    with embedded.running(data):
        [watcher] = watchers() - earlier
        embedded.remove(data)
        watcher.join(timeout=30)
        assert not watcher.is_alive()
        until_gone(data / "postgres")
        assert not (data / "postgres").exists()


def test_a_server_that_does_not_start_is_tried_again_until_it_does(data: Path) -> None:
    with embedded.running(data) as url:
        conf = data / "postgres" / "postgresql.conf"
        good = conf.read_text()
        conf.write_text(f"{good}\nno_such_setting = on\n")
        kill_postmaster(data)
        until(lambda: "no_such_setting" in (data / "postgres" / "server.log").read_text())
        assert not answers(url)
        conf.write_text(good)
        until(lambda: answers(url))


def test_who_leaves_a_dead_server_does_not_wait_for_it(data: Path) -> None:
    earlier = watchers()
    with embedded.running(data):
        with (data / "postgres" / "postgresql.conf").open("a") as conf:
            conf.write("no_such_setting = on\n")
        kill_postmaster(data)
        until(lambda: "no_such_setting" in (data / "postgres" / "server.log").read_text())
    assert watchers() <= earlier
    until_gone(data / "postgres")
