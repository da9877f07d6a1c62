"""`annals parked`: events that could not be applied."""

from __future__ import annotations

import click

from api.cli.opening import opened
from api.operations.parked_events import position_of
from domain.definitions.retention import OPERATOR
from domain.errors import Refusal
from domain.parked_events import MAX_REASON_CHARS, ParkedState, Retried
from projections.kernel.paging import MAX_LIMIT
from projections.projector.checkpoints import PROJECTOR

ITS_READER = click.option(
    "--reader",
    default=PROJECTOR,
    show_default=True,
    help="That lacks the event, as the list names it.",
)


@click.group()
def parked() -> None:
    """List, try again or skip events that could not be applied.

    POSITION is partition and position in the log, like 12:345, as the list has it.
    """


@parked.command("list")
@click.option("--reader", help="Only of this reader; main: the read models.")
@click.option(
    "--state",
    type=click.Choice([state.value for state in ParkedState]),
    help="Only these; without it all but those skipped.",
)
def list_parked(reader: str | None, state: str | None) -> None:
    """List parked events: reader, position, state, topic, subject, kind of error, since when.

    Of skipped ones also by which API key, when and why.
    """
    with opened() as annals:
        parked_events, cursor = annals.parked(), None
        chosen = None if state is None else ParkedState(state)
        while True:
            page = parked_events.pages.read(
                reader=reader, state=chosen, cursor=cursor, limit=MAX_LIMIT
            )
            for event in page.items:
                what = [
                    event.reader,
                    event.position,
                    event.state,
                    event.topic or "-",
                    str(event.subject),
                ]
                if event.error is not None:
                    what.append(f"{event.error} ({event.tries} tries)")
                what.append(f"since {event.parked_at:%Y-%m-%d %H:%M}Z")
                if event.skip is not None:
                    why = event.skip.reason or "(the reason went with an erasure)"
                    what.append(f"skipped by {event.skip.by}: {why}")
                click.echo("  ".join(what))
            cursor = page.next
            if cursor is None:
                return


@parked.command("retry")
@click.argument("position")
@ITS_READER
def retry_parked(position: str, reader: str) -> None:
    """Try the parked events of a stream again, in their order.

    Exit code 1: one of them still cannot be applied.
    """
    with opened() as annals:
        try:
            _say(annals.parked().retry(reader, position_of(position)))
        except Refusal as refusal:
            raise click.ClickException(refusal.detail) from None


@parked.command("skip")
@click.argument("position")
@ITS_READER
@click.option(
    "--reason", required=True, help=f"Why; it stays on record. At most {MAX_REASON_CHARS:,} signs."
)
def skip_parked(position: str, reader: str, reason: str) -> None:
    """Skip an event for good, and retry the events behind it.

    The decision outlives a rebuild and a restore. An event that erases cannot be skipped. Exit code
    1: the event cannot be skipped, or an event behind it cannot be applied.
    """
    with opened() as annals:
        try:
            retried = annals.parked().skip(reader, position_of(position), reason, OPERATOR)
            click.echo(f"{reader} goes on without {position}.")
            _say(retried)
        except Refusal as refusal:
            raise click.ClickException(refusal.detail) from None


def _say(retried: Retried) -> None:
    """Raises: click.ClickException: some are left."""
    click.echo(f"{retried.applied:,} applied, {retried.left:,} left")
    if retried.left:
        raise click.ClickException(f"the first of those left fails with {retried.error}")
