"""What a sender can ask for. Plain data, checked; `infra.write.command_handler` carries it out."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from domain.activity import Activity
from domain.identity import Identity, SubjectId, SubjectKind
from domain.properties import RefusedValue


class Change(msgspec.Struct, frozen=True, tag=True):
    """Sets properties of a user or an account, which is made on first sight (`identify`)."""

    kind: SubjectKind
    identities: tuple[Identity, ...]
    properties: dict[str, object]
    at: datetime


class Join(msgspec.Struct, frozen=True, tag=True):
    """Sets properties of an account and ties a user to it, both made on first sight (`group`)."""

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
    """Puts a subject into a stage (None: into none), where it stays whatever rules say. `by` is the
    API key."""

    kind: SubjectKind
    subject: SubjectId
    stage: str | None
    reason: str
    by: UUID
    at: datetime


class ReleaseStage(msgspec.Struct, frozen=True, tag=True):
    """Lets rules decide a subject's stage again."""

    kind: SubjectKind
    subject: SubjectId
    by: UUID
    at: datetime


class Request(msgspec.Struct, frozen=True):
    """A command as it came: under a message id, and with what was already left out of it."""

    command: Command
    message_id: str | None = None
    refused: tuple[RefusedValue, ...] = ()


class Position(msgspec.Struct, frozen=True, order=True):
    """A place in the log: there is one order a partition, and none over all."""

    log_partition: int
    position: int


class Stored(msgspec.Struct, frozen=True, tag="stored"):
    """The command's events are durable. `refused` names the values that were left out."""

    positions: tuple[Position, ...] = ()
    refused: tuple[RefusedValue, ...] = ()


class Duplicate(msgspec.Struct, frozen=True, tag="duplicate"):
    """The message id was stored before; nothing was done."""


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """Nothing of the command was stored."""

    code: str
    detail: str
    pointer: str = ""


Outcome = Stored | Duplicate | Refused
