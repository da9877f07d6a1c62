"""Commands are found by their names, and each imports only what it needs."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from api.cli import COMMANDS, main

HEAVY = ("alembic", "litestar", "psycopg", "sqlalchemy")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_found_by_its_name(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name


def test_an_unknown_command_is_none() -> None:
    assert main.get_command(click.Context(main), "unknown") is None


def imported(*modules: str) -> set[str]:
    """The heavy libraries that a Python has imported along with modules."""
    script = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {*run.stdout.split()} & {*HEAVY}


@pytest.mark.database  # starts processes
def test_a_command_imports_no_more_than_it_needs() -> None:
    assert imported("api.cli") == set()
    assert imported("api.cli.upkeep", "api.cli.backups") == {"psycopg", "sqlalchemy"}
