"""Builds the event log and its readers."""

from __future__ import annotations

from dataclasses import dataclass

from infra.head_alarm import HeadAlarm
from infra.log.event_log import EventLog
from infra.log.read_position import ReadPosition
from infra.log.records import Records
from infra.log.timelines import Timelines
from infra.postgres.pools import Pools
from infra.postgres.wakeups import Wakeups


@dataclass(frozen=True, kw_only=True)
class LogParts:
    """
    Attributes:
        working_log: the same log, over the connections of the workers.
        wakeups: wakes the workers of this process when the log grows.
        head_alarm: notices checkpoints that are past the head of their partition.
    """

    log: EventLog
    working_log: EventLog
    timelines: Timelines
    records: Records
    wakeups: Wakeups
    head_alarm: HeadAlarm
    read_position: ReadPosition


def build_log(pools: Pools) -> LogParts:
    wakeups = Wakeups()
    log = EventLog(pool=pools.intake, wakeups=wakeups)
    return LogParts(
        log=log,
        working_log=EventLog(pool=pools.workers.log, wakeups=wakeups),
        timelines=Timelines(pool=pools.reading),
        records=Records(pool=pools.reading),
        wakeups=wakeups,
        head_alarm=HeadAlarm(pool=pools.workers.log, views=pools.workers.views),
        read_position=ReadPosition(log=log, views=pools.views),
    )
