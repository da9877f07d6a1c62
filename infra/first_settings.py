"""Defaults that a database keeps from its first start, for settings that its workspace did not
choose.

Read models count by them from the first event on. A later change of a variable has no effect, and
Annals logs a warning: the change would affect later events only. A choice of the workspace affects
all events, because Annals then counts everything anew.
"""

from __future__ import annotations

from zoneinfo import ZoneInfo

import msgspec
import structlog
from psycopg_pool import ConnectionPool

from infra.settings import Settings

ADD_DEFAULTS = """
INSERT INTO log.defaults (time_zone, mrr_property) VALUES (%(time_zone)s, %(mrr_property)s)
ON CONFLICT DO NOTHING"""

SELECT_DEFAULTS = "SELECT time_zone, mrr_property FROM log.defaults"

log = structlog.get_logger()


def as_first_set(settings: Settings, pool: ConnectionPool) -> Settings:
    """Settings with the defaults of the first start, which this may be.

    Args:
        pool: of the log.
    """
    params = {"time_zone": str(settings.time_zone), "mrr_property": settings.mrr_property}
    with pool.connection() as conn:
        conn.execute(ADD_DEFAULTS, params)
        first = conn.execute(SELECT_DEFAULTS).fetchone()
    assert first is not None
    for variable, set_to, holds in zip(
        ("ANNALS_TIME_ZONE", "ANNALS_MRR_PROPERTY"), params.values(), first, strict=True
    ):
        if set_to != holds:
            remedy = "choose it in the settings, which count anew"
            log.warning("defaults.kept", variable=variable, holds=holds, remedy=remedy)
    return msgspec.structs.replace(settings, time_zone=ZoneInfo(first[0]), mrr_property=first[1])
