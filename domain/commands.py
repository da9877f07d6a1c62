"""Commands of senders and their outcomes: plain data, checked."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from domain.activity import Activity
from domain.identity import Identity, SubjectId, SubjectKind
from domain.properties import RefusedValue


class Change(msgspec.Struct, frozen=True, tag=True):
    """Sets properties of a user or an account, and creates it if it is new (`identify`)."""

    kind: SubjectKind
    identities: tuple[Identity, ...]
    properties: dict[str, object]
    at: datetime


class Join(msgspec.Struct, frozen=True, tag=True):
    """Sets properties of an account and makes a user its member; both may be new (`group`)."""

    user: tuple[Identity, ...]
    account: tuple[Identity, ...]
    account_properties: dict[str, object]
    membership_properties: dict[str, object]
    at: datetime


class Leave(msgspec.Struct, frozen=True, tag=True):
    """Ends a user's membership of an account."""

    user: tuple[Identity, ...]
    account: tuple[Identity, ...]
    at: datetime


class Track(msgspec.Struct, frozen=True, tag=True):
    """Records activity of a user, of an account, or of a user in an account."""

    user: tuple[Identity, ...]
    account: tuple[Identity, ...]
    activities: tuple[Activity, ...]
    at: datetime


class Alias(msgspec.Struct, frozen=True, tag=True):
    """Says that two identities are one user (`alias`)."""

    user: tuple[Identity, ...]
    previous: tuple[Identity, ...]
    at: datetime


Command = Change | Join | Leave | Track | Alias


class SetStage(msgspec.Struct, frozen=True, tag=True):
    """Sets the stage of a subject manually (None: no stage); `by` is the id of the API key."""

    kind: SubjectKind
    subject: SubjectId
    stage: str | None
    reason: str
    by: UUID
    at: datetime


class ReleaseStage(msgspec.Struct, frozen=True, tag=True):
    """Hands the stage of a subject back to the rules."""

    kind: SubjectKind
    subject: SubjectId
    by: UUID
    at: datetime


class Request(msgspec.Struct, frozen=True):
    """A command with its message id, and the values that decoding left out."""

    command: Command
    message_id: str | None = None
    refused: tuple[RefusedValue, ...] = ()


class Position(msgspec.Struct, frozen=True, order=True):
    """A position in the log. Each partition has its own order; there is none over all."""

    log_partition: int
    position: int


class Stored(msgspec.Struct, frozen=True, tag="stored"):
    """The command's events are durable. `refused` names the values that were left out."""

    positions: tuple[Position, ...] = ()
    refused: tuple[RefusedValue, ...] = ()


class Duplicate(msgspec.Struct, frozen=True, tag="duplicate"):
    """The message id is on record; the command stored nothing."""


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The command stored nothing."""

    code: str
    detail: str
    pointer: str = ""


Outcome = Stored | Duplicate | Refused
