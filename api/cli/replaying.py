"""`annals replay`: a user or an account as it was, for auditors."""

from __future__ import annotations

from uuid import UUID

import click
import msgspec

from api.cli.opening import opened
from domain.errors import Refusal
from domain.identity import SubjectId, SubjectKind


@click.command()
@click.argument("kind", type=click.Choice([kind.value for kind in SubjectKind]))
@click.argument("subject", type=click.UUID)
@click.option(
    "--version", type=click.IntRange(min=1), help="After so many events; without it, after all."
)
def replay(kind: str, subject: UUID, version: int | None) -> None:
    """Show a user or an account as the log alone has it, replayed from its first event.

    SUBJECT is its id. The command prints JSON with personal data.
    """
    with opened() as annals:
        try:
            state = annals.replay.at_version(SubjectKind(kind), SubjectId(subject), version)
        except Refusal as error:
            raise click.ClickException(error.detail) from None
        click.echo(msgspec.json.format(msgspec.json.encode(state), indent=2).decode())
