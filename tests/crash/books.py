"""The books, after the kills: what is in the log against what was acknowledged, and what is shown
against what the log says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from domain.events.decisions import DecisionEvent, series
from domain.events.payloads import PropertiesChanged, Tracked
from domain.events.recorded import OpenedEvent
from domain.identity import LOG_PARTITIONS, SubjectId
from infra.bootstrap.annals import Annals
from tests.projections.read_models import drain, dump

EVENTS_AT_A_TIME = 100


class Books:
    """What the whole log says, read once.

    Attributes:
        tracked, changed: how often each mark of an event, of a change stands there.
        decisions: how often each decision of a subject does.
    """

    def __init__(self, annals: Annals) -> None:
        self.tracked: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()
        self.decisions: Counter[tuple[SubjectId, str, int]] = Counter()
        for event in _events(annals):
            payload = event.payload
            if isinstance(payload, Tracked):
                self.tracked[str(payload.activity.metadata.get("mark"))] += 1
            elif isinstance(payload, PropertiesChanged):
                self.changed[str(payload.values.get("mark"))] += 1
            elif isinstance(payload, DecisionEvent):
                self.decisions[event.row.stream, series(payload), payload.ordinal] += 1


def _events(annals: Annals) -> Iterator[OpenedEvent]:
    after = dict.fromkeys(range(LOG_PARTITIONS), 0)
    annals.sealer.refresh()
    while rows := annals.log.read_after(after, EVENTS_AT_A_TIME):
        for row in rows:
            after[row.log_partition] = max(row.position, after[row.log_partition])
        yield from annals.sealer.open_rows(rows)


def rebuilt(annals: Annals, url: str) -> Mapping[str, tuple[list[str], list[str]]]:
    """Makes the read models again; returns those that differ, as they were and as they are. The
    catalogue is left out: how often a name was used counts those who were erased since, and a
    rebuild knows them no more."""
    was = dump(url)
    projector = annals.projector()
    projector.start_over()
    drain(projector)
    projector.release()
    now = dump(url)
    return {
        table: (
            sorted(set(was[table]) - set(now[table])),
            sorted(set(now[table]) - set(was[table])),
        )
        for table in was
        if table != "catalogue" and was[table] != now[table]
    }
