"""The scope of a replay, and the events that it gets."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import msgspec

from domain.events.payloads import ActivitySummed, Payload
from domain.events.topics import ACTIVITY_OF_TOPIC
from domain.identity import SubjectId, SubjectKind
from domain.workspace.dependencies import NAME_PROPERTIES


class ReplayScope(msgspec.Struct):
    """The facts that a replay needs.

    Attributes:
        properties: names, of users and of accounts.
        activities: (activity, name), each with the keys of metadata that conditions test.
        memberships: whether a condition tests memberships themselves. The replay then needs the
            merges of all subjects, also of those that it does not replay.
    """

    properties: dict[SubjectKind, set[str]] = msgspec.field(
        default_factory=lambda: {kind: set(NAME_PROPERTIES) for kind in SubjectKind}
    )
    activities: dict[tuple[str, str], set[str]] = msgspec.field(default_factory=dict)
    memberships: bool = False

    @property
    def topics(self) -> set[str]:
        """The topics of tracked activity whose events must be decrypted; of others the replay needs
        the time alone."""
        kinds = {activity for activity, _ in self.activities}
        return {topic for topic, activity in ACTIVITY_OF_TOPIC.items() if activity in kinds}


class ReplayEvent(NamedTuple):
    """An event of the log, decrypted where its keys still exist.

    Attributes:
        position: in its partition; within a stream it ascends.
        verb: the last part of its topic.
        payload: None: its subject is erased.
        account_name: of the activity, as the account keeps it.
        account_sums: the account's sums of activity that is no longer kept.
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
