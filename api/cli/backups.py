"""`annals backup` and `restore`."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import click

from api.cli.opening import opened, settings_of_environment
from infra import bootstrap
from infra.backup import BackupFailed, back_up
from infra.backup import restore as restored_from
from infra.erasure.ledger import FILE as LEDGER_FILE


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def backup(folder: Path) -> None:
    """Back up the log and the keys into two folders below FOLDER, for two places.

    The ledger of erasures goes with both, the read models with none. The key-encryption key is in
    neither: keep it in a third place.
    """
    with opened() as annals, bootstrap.database_url(annals.settings) as url:
        try:
            log, keys = back_up(url, annals.settings.data / LEDGER_FILE, folder, datetime.now(UTC))
        except (BackupFailed, OSError) as error:
            raise click.ClickException(str(error)) from None
    click.echo(f"The log is in {log}, the keys are in {keys}: move them apart.")


@click.command()
@click.option("--log", type=click.Path(path_type=Path), required=True, help="log.dump")
@click.option("--keys", type=click.Path(path_type=Path), required=True, help="keys.dump")
@click.option(
    "--ledger", type=click.Path(path_type=Path), required=True, help="The newest erasures.ledger."
)
def restore(log: Path, keys: Path, ledger: Path) -> None:
    """Restore a backup into an empty database, and replay the ledger of erasures over it.

    Give the newest ledger: the one in the lost data folder, or the one of the newest backup. The
    key-encryption key must be in its place already.
    """
    settings = settings_of_environment()
    settings.data.mkdir(parents=True, exist_ok=True)
    own_ledger = settings.data / LEDGER_FILE
    if not ledger.is_file():
        raise click.ClickException(f"there is no ledger of erasures at {ledger}")
    if own_ledger.exists() and own_ledger.read_bytes() != ledger.read_bytes():
        raise click.ClickException(
            f"{own_ledger} is another ledger of erasures: name the newer of the two, and take the"
            " older one away"
        )
    try:
        with bootstrap.database_url(settings) as url:
            restored_from(url, log, keys)
            if not own_ledger.exists():
                shutil.copyfile(ledger, own_ledger)
            with bootstrap.opened(settings, url) as annals:
                recorded = annals.status().recorded
    except (BackupFailed, *bootstrap.CANNOT_START) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"Restored: {recorded:,} events; the ledger of erasures was replayed. Start Annals.")
