"""The command line: `annals run`, `serve`, `work`, and what operators do now and then.

A command's module is imported when the command is called: most need little of what all need.
"""

from __future__ import annotations

from importlib import import_module

import click

from api.cli import log_lines

COMMANDS = {
    "api-keys": ("api_keys", "List, make and revoke API keys."),
    "backtest": ("backtest", "Test what a definition would have decided over the past."),
    "backup": ("backups", "Back up the log and the keys, for two places."),
    "demo-reset": ("serving", "Delete the data folder with its database and keys."),
    "erasure-scan": ("proving", "Search for values that should be gone."),
    "parked": ("parked", "List, retry or skip events that could not be applied."),
    "public-key": ("proving", "Print the key that certificates verify under."),
    "rebuild": ("upkeep", "Make the read models again from the whole log."),
    "replay": ("replaying", "Show a user or an account as the log alone has it."),
    "restore": ("backups", "Restore a backup into an empty database."),
    "retention": ("upkeep", "End tracked activity older than the settings keep it."),
    "rotate-kek": ("upkeep", "Move all keys under a new key-encryption key."),
    "run": ("serving", "Start everything, load the demo data, and serve."),
    "serve": ("serving", "Serve HTTP, and project."),
    "verify-certificate": ("proving", "Verify the certificate of an erasure."),
    "work": ("serving", "Project in a process of its own."),
}
"""For each command the module that has it, under its name with underscores, and what it does."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"api.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="annals", message="annals %(version)s")
def main() -> None:
    """Annals keeps users and accounts as an append-only record and shows each of them whole.

    Settings are environment variables: ANNALS_DATA (.data), ANNALS_PORT (8000), ANNALS_HOST,
    ANNALS_DATABASE_URL (embedded PostgreSQL if unset), ANNALS_KEK (file),
    ANNALS_VAULT_TOKEN_FILE, ANNALS_VAULT_CERTIFICATES, ANNALS_WORKER (thread or none),
    ANNALS_TIME_ZONE (UTC), ANNALS_MRR_PROPERTY (mrr), ANNALS_RENEWAL_PROPERTY (renewal_date),
    ANNALS_CLEANUP_HOUR (3), ANNALS_TRUSTED_PROXIES (none),
    ANNALS_REQUESTS_PER_SECOND (2000), ANNALS_MESSAGES_PER_SECOND (50000),
    ANNALS_DEMO_DATA; docs/operating.md explains them. Exit codes: 0 done, 1 failed, 2 wrong usage.
    """
    log_lines.configure()
