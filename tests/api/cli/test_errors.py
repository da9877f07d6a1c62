"""What a command says when the database does not do what it asks."""

from __future__ import annotations

import click
import pytest

from api.cli.opening import opened
from infra.bootstrap.annals import Annals

PLANTED = "Ada Planted"

REFUSED = "the database did not carry this out"
NOT_NOW = "the database cannot serve this now"


def command(statement: str, *, is_by_engine: bool) -> None:
    """Does what commands do."""
    with opened() as annals:
        if is_by_engine:
            with annals.queries.connect() as conn:
                conn.exec_driver_sql(statement)
        else:
            with annals.views.connection() as conn:
                conn.execute(statement)


@pytest.mark.parametrize("is_by_engine", [False, True])
@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("57P01", f"{NOT_NOW} (AdminShutdown); call it again once it can"),
        ("53100", f"{NOT_NOW} (DiskFull); call it again once it can"),
        ("57014", f"{REFUSED} (QueryCanceled)"),
        ("55P03", f"{REFUSED} (LockNotAvailable)"),
        ("23514", f"{REFUSED} (CheckViolation)"),
    ],
)
def test_a_command_names_the_kind_of_error_and_never_its_message(
    annals: Annals,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    said: str,
    is_by_engine: bool,
) -> None:
    monkeypatch.setenv("ANNALS_DATABASE_URL", database_url)
    monkeypatch.setenv("ANNALS_DATA", str(annals.settings.data))
    fail = f"DO $$ BEGIN RAISE '{PLANTED}' USING ERRCODE = '{state}'; END $$"
    with pytest.raises(click.ClickException) as failed:
        command(fail, is_by_engine=is_by_engine)
    assert failed.value.message == said
