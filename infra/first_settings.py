"""What a database counts by where its workspace has chosen nothing: as its first start was set.

Read models rest on these from the first event on. A variable that is set otherwise later would hold
for what comes, and not for what was counted: it is told, and has no effect. What the workspace
chooses is recounted.
"""

from __future__ import annotations

from zoneinfo import ZoneInfo

import msgspec
import structlog
from psycopg_pool import ConnectionPool

from infra.settings import Settings

KEEP_FIRST = """
INSERT INTO log.defaults (time_zone, mrr_property) VALUES (%s, %s) ON CONFLICT DO NOTHING"""

SELECT_DEFAULTS = "SELECT time_zone, mrr_property FROM log.defaults"

log = structlog.get_logger()


def as_first_set(settings: Settings, pool: ConnectionPool) -> Settings:
    """Settings with the defaults of the first start, which this may be.

    Args:
        pool: of the log.
    """
    asked = (str(settings.time_zone), settings.mrr_property)
    with pool.connection() as conn:
        conn.execute(KEEP_FIRST, asked)
        first = conn.execute(SELECT_DEFAULTS).fetchone()
    assert first is not None
    for variable, set_to, holds in zip(
        ("ANNALS_TIME_ZONE", "ANNALS_MRR_PROPERTY"), asked, first, strict=True
    ):
        if set_to != holds:
            remedy = "choose it in the settings, which count anew"
            log.warning("defaults.kept", variable=variable, holds=holds, remedy=remedy)
    return msgspec.structs.replace(settings, time_zone=ZoneInfo(first[0]), mrr_property=first[1])
