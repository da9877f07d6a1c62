"""The command line: `annals run`, `serve`, `work`, and what operators do now and then."""

from __future__ import annotations

import click

from api.cli import (
    api_keys,
    backtest,
    backups,
    log_lines,
    parked,
    proving,
    replaying,
    serving,
    upkeep,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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


for command in (
    serving.run,
    serving.serve,
    serving.work,
    serving.demo_reset,
    upkeep.rebuild,
    upkeep.rotate_kek,
    upkeep.retention,
    api_keys.api_keys,
    backups.backup,
    backups.restore,
    proving.erasure_scan,
    proving.public_key,
    proving.verify_certificate,
    backtest.backtest,
    replaying.replay,
    parked.parked,
):
    main.add_command(command)
