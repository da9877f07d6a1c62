"""What a replay has to know, and what it is told."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import msgspec

from domain.events.payloads import ActivitySummed, Payload
from domain.events.topics import ACTIVITY_OF_TOPIC
from domain.identity import SubjectId, SubjectKind
from domain.workspace.dependencies import NAME_PROPERTIES


class ReplayScope(msgspec.Struct):
    """What a replay has to know.

    Attributes:
        properties: names, of users and of accounts.
        activities: (activity, name), each with the names of the metadata that is asked for.
        memberships: whether it matters to whom somebody belongs, and not what is known of these.
            Who became whom has to be told then also of those who are not replayed.
    """

    properties: dict[SubjectKind, set[str]] = msgspec.field(
        default_factory=lambda: {kind: set(NAME_PROPERTIES) for kind in SubjectKind}
    )
    activities: dict[tuple[str, str], set[str]] = msgspec.field(default_factory=dict)
    memberships: bool = False

    @property
    def topics(self) -> set[str]:
        """Of tracked activity, those whose events have to be opened: of others only the time is
        asked for."""
        kinds = {activity for activity, _ in self.activities}
        return {topic for topic, activity in ACTIVITY_OF_TOPIC.items() if activity in kinds}


class ReplayEvent(NamedTuple):
    """An event of the log, opened as far as keys still allow.

    Attributes:
        position: in its partition; within a stream it ascends.
        verb: what its topic says that happened.
        payload: None: its subject is erased.
        account_name: of the activity, as the account keeps it.
        account_sums: what the account keeps of activity that is no longer kept.
        is_opened: where not, only its envelope is known.
    """

    kind: SubjectKind
    stream: SubjectId
    position: int
    verb: str
    at: datetime
    payload: Payload | None
    account: SubjectId | None = None
    account_name: str | None = None
    is_opened: bool = True
    account_sums: ActivitySummed | None = None
