"""`annals api-keys`."""

from __future__ import annotations

import uuid

import click

from api.cli.opening import opened
from domain.access import ApiScope


@click.group("api-keys")
def api_keys() -> None:
    """List, make and revoke API keys."""


@api_keys.command("list")
def list_api_keys() -> None:
    """List the API keys: id, scope, since when, until when. The keys themselves are not kept."""
    with opened() as annals:
        for key in annals.api_keys.list():
            until = "" if key.revoked_at is None else f"  revoked {key.revoked_at:%Y-%m-%d %H:%M}Z"
            since = f"since {key.created_at:%Y-%m-%d %H:%M}Z{until}"
            click.echo(f"{key.id}  {key.scope:<7}  {since}" + (f"  {key.name}" if key.name else ""))


@api_keys.command("make")
@click.argument("scope", type=click.Choice([scope.value for scope in ApiScope]))
@click.option("--name", help="What it is for.")
def make_api_key(scope: str, name: str | None) -> None:
    """Make an API key for a scope and show it, this once."""
    with opened() as annals:
        click.echo(annals.api_keys.make(ApiScope(scope), name=name)[1])


@api_keys.command("revoke")
@click.argument("id", type=click.UUID)
def revoke_api_key(id: uuid.UUID) -> None:
    """Revoke the API key with this id: within a second it opens nothing, in any process."""
    with opened() as annals:
        if not annals.api_keys.revoke(id, even_the_last=True):
            raise click.ClickException("there is no such API key, or it is revoked already")
        click.echo(f"API key {id} is revoked.")
