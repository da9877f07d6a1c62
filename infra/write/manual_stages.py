"""Stages that are set and released by hand, subject by subject."""

from __future__ import annotations

from domain.commands import Position, ReleaseStage, SetStage
from domain.errors import NotFound, SubjectErased, Unavailable, VersionConflict
from domain.subjects.history import numbered
from infra.keys.key_ring import KeyRing
from infra.keys.sealing import Sealer
from infra.log.event_log import EventLog
from infra.write.aggregates import Aggregates

ATTEMPTS = 20


class ManualStages:
    """Safe for use from many threads."""

    def __init__(
        self, *, log: EventLog, keys: KeyRing, aggregates: Aggregates, sealer: Sealer
    ) -> None:
        self._log = log
        self._keys = keys
        self._aggregates = aggregates
        self._sealer = sealer

    def apply(self, command: SetStage | ReleaseStage) -> tuple[Position, ...]:
        """Sets or releases the stage of a subject, or of the subject that it was merged into.

        Returns:
            The positions of the events; none if the command changes nothing.

        Raises:
            NotFound: no such subject exists, or it is erased.
            Altered: an event of the subject does not open.
            Unavailable: other writers changed the subject during every attempt.
        """
        kind, id = command.kind, command.subject
        for _ in range(ATTEMPTS):
            self._keys.refresh()
            # The key comes first: an erased subject and an unknown one get the same answer.
            kinds = self._aggregates.kinds([id]) if self._keys.fetch([id.int]) else {}
            if id not in kinds or kinds[id] not in (kind, None):
                raise NotFound(f"there is no such {kind}")
            state = self._aggregates.load({id: kind})[id]
            if state.merged_into is not None:
                id = state.merged_into
                continue
            if not state.version:  # erased
                raise NotFound(f"there is no such {kind}")
            match command:
                case SetStage():
                    payloads = state.set_stage(command.stage, command.reason, command.by)
                case ReleaseStage():
                    payloads = state.release_stage(command.by)
            try:
                events = numbered(state, payloads, command.at)
                return tuple(self._log.append(self._sealer.sealing(events)))
            except (VersionConflict, SubjectErased):
                continue
        raise Unavailable(f"others change the same {kind} all the time; send the request again")
