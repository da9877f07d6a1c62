"""`annals erasure-scan`, `public-key` and `verify-certificate`: that what was erased is gone."""

from __future__ import annotations

import sys
from typing import BinaryIO, TextIO

import click

from api.cli.opening import opened
from domain.erasure.certificate import NotGenuine
from domain.erasure.scan import checked_values
from domain.errors import InvalidInput
from infra.erasure import certificates


@click.command("erasure-scan")
@click.argument("values", type=click.File("r"), default="-")
def erasure_scan(values: TextIO) -> None:
    """Search for erased values: a line each, from a file or standard input.

    Every table and large object is searched and, if the server is embedded, every file of it after
    a checkpoint, for each value as it is, in other case, in base64, percent-encoded, in hexadecimal
    and escaped. The values are neither kept nor shown; findings name their line.
    """
    with opened() as annals:
        try:
            checked = checked_values([line.rstrip("\n") for line in values])
        except InvalidInput as error:
            raise click.UsageError(f"{error.detail} ({error.pointer})") from None
        scan = annals.residue_scan.scan(checked)
    for finding in scan.findings:
        click.echo(
            f"line {finding.value + 1}: {finding.count} times as {finding.form} in {finding.place}"
        )
    for place in scan.not_searched:
        click.echo(f"not searched: {place}")
    click.echo(
        f"{len(scan.findings)} findings in {scan.tables} tables, {scan.large_objects} large"
        f" objects and {scan.files} files, {scan.bytes:,} bytes"
    )
    if scan.findings:
        sys.exit(1)


@click.command("public-key")
def public_key() -> None:
    """Print the key that certificates of erasures verify under, in PEM."""
    with opened() as annals:
        click.echo(annals.certifier.public_key().decode(), nl=False)


@click.command("verify-certificate")
@click.argument("certificate", type=click.File("rb"))
@click.option("--public-key", "key", type=click.File("rb"), required=True, help="In PEM.")
@click.option("--with-log", is_flag=True, help="Hold it against the log of this deployment, too.")
def verify_certificate(certificate: BinaryIO, key: BinaryIO, with_log: bool) -> None:
    """Verify the certificate of an erasure. Needs no database, unless it is held against one."""
    try:
        statement = certificates.verified(certificate.read(), key.read())
    except NotGenuine as error:
        raise click.ClickException(str(error)) from None
    click.echo(
        f"genuine: erasure {statement.erasure}, {len(statement.subjects)} subjects, unreadable"
        f" since {statement.unreadable_at:%Y-%m-%d %H:%M:%S} UTC, cleaned by"
        f" {statement.cleaned_at:%Y-%m-%d %H:%M:%S} UTC"
    )
    if with_log:
        with opened() as annals:
            differing = annals.differing_partitions(statement)
        if differing:
            raise click.ClickException(f"the log is another one in partitions {differing}")
        click.echo("the log holds what it held when the certificate was issued")
