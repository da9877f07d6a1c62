"""`annals rebuild`, `rotate-kek` and `retention`: each goes on where it was left."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import click
from rich.console import Console

from api.cli.opening import interruptible, opened
from api.demo.progress import shown
from domain.definitions.retention import OPERATOR, Counts
from domain.errors import Conflict
from domain.identity import LOG_PARTITIONS
from infra.bootstrap.annals import Annals


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def rebuild(yes: bool) -> None:
    """Empty the read models and make them again from the whole log.

    The log and the keys are not touched. Servers and workers may go on; until it is done, lists and
    views are incomplete.
    """
    if not yes:
        click.confirm("Empty the read models and make them again?", abort=True)
    with opened() as annals, interruptible() as interrupted:
        projector = annals.projector()
        projector.start_over(interrupted)
        total = annals.status().recorded
        with shown("Rebuilding", total, Console(stderr=True)) as advance:
            while not interrupted.is_set():
                done = projector.step()
                advance(done)
                if not done and annals.status().behind == 0:
                    break
        projector.release()
        status = annals.status()
        click.echo(f"{status.recorded - status.behind:,} of {status.recorded:,} events are shown")
        if interrupted.is_set():
            raise click.ClickException("interrupted; a server or worker goes on from here")


@click.command("rotate-kek")
@click.option("--prepare", is_flag=True, help="Only have the new key ready, to be handed round.")
def rotate_kek(prepare: bool) -> None:
    """Move all keys under a new key-encryption key, while servers and workers go on.

    After an interruption the next call continues; two calls at once share the work. The old
    key-encryption key still opens keys until the rotation ends, and none afterwards.
    """
    with opened() as annals, interruptible() as interrupted:
        wrapping = annals.key_rotation
        if prepare:
            click.echo(f"Key-encryption key {wrapping.prepare()} is ready for a rotation.")
            return
        before = set(wrapping.in_use())
        id = wrapping.begin_rotation()
        with shown("Wrapping keys", wrapping.outstanding(), Console(stderr=True)) as advance:
            while not wrapping.end_rotation():
                for done in wrapping.rewrap():
                    advance(done)
                    if interrupted.is_set():
                        raise click.ClickException("interrupted; call it again to go on")
        click.echo(f"All keys are under key-encryption key {id}.")
        for old in sorted(before - {id}):
            click.echo(
                f"Key-encryption key {old} has retired: destroy it once no backup of the keys from"
                " before now is kept."
            )


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def retention(dry_run: bool) -> None:
    """End the tracked activity that is older than the settings keep it, and list what was ended.

    Servers do this by themselves. After an interruption a server or the next call continues.
    """
    with opened() as annals, interruptible() as interrupted:
        aged, chosen = annals.retention, annals.workspace_now().retention
        ends = None if chosen is None else aged.due(datetime.now(UTC), chosen)
        if chosen is None:
            click.echo("Tracked activity is kept for ever: the settings have no retention.")
        elif ends is None:
            click.echo(f"Nothing is left that is older than {chosen.months} months.")
        else:
            events, unsealed = aged.count(ends)
            counts = {Counts.KEEP: "stay", Counts.DROP: "go too"}[chosen.counts]
            click.echo(
                f"{events:,} events from before {ends:%Y-%m-%d} (UTC) are over; their counts"
                f" {counts}. {unsealed:,} of them have no key of their month."
            )
        if not dry_run:
            if chosen is not None and ends is not None:
                try:
                    aged.begin(ends, chosen.counts, by=OPERATOR)
                except Conflict as error:
                    raise click.ClickException(error.detail) from None
            _go_on_with_retention(annals, interrupted)
        for run in aged.runs():
            click.echo(
                f"before {run.ends:%Y-%m-%d}: {run.events:,} events, counts: {run.counts}, begun"
                f" {run.requested_at:%Y-%m-%d %H:%M}Z by {run.requested_by},"
                f" {'under way' if run.completed_at is None else 'done'}"
            )


def _go_on_with_retention(annals: Annals, interrupted: threading.Event) -> None:
    """Raises: click.ClickException: it was interrupted, or waits for something."""
    with shown("Summing partitions", LOG_PARTITIONS, Console(stderr=True)) as advance:
        waits_for = annals.retention.go_on(advance, interrupted)
    if interrupted.is_set():
        raise click.ClickException("interrupted; a server or the next call goes on from here")
    if waits_for is not None:
        raise click.ClickException(f"it waits for {waits_for}; a server goes on by itself")
