"""What a fork server imports once, for all processes that it forks."""

from __future__ import annotations

import gc
from importlib import import_module

COMMANDS = ("serving", "upkeep", "backups", "backtest", "parked", "proving", "replaying")
LIBRARIES = ("alembic.command", "hypothesis", "pytest")
HELPERS = ("tests.infra.erasures", "tests.infra.writer", "tests.processes")

for name in (*LIBRARIES, *(f"api.cli.{name}" for name in COMMANDS), *HELPERS):
    import_module(name)
gc.freeze()  # else each child copies what its collector looks at
