"""An erasure as officers and auditors see it: its steps, and the outcome of each target. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import msgspec

from domain.erasure.order import ErasureScope
from domain.erasure.steps import ErasureStep
from domain.identity import SubjectKind


class TargetOutcome(enum.StrEnum):
    """The outcome of an erasure for one subject.

    erased_before: another request erased it.
    held: a legal hold forbids it; `detail` is the hold's reason.
    unknown: there is no such subject.
    altered: its kind is unknown, as none of its events opens.
    """

    WAITING = "waiting"
    ERASED = "erased"
    ERASED_BEFORE = "erased_before"
    HELD = "held"
    UNKNOWN = "unknown"
    ALTERED = "altered"


class NamedIn(msgspec.Struct, frozen=True):
    """A definition or a saved view that names, or named, a subject by value.

    Attributes:
        what: the definition's family, such as `segment`; or `saved_view`.
        versions: the versions of the definition that name the subject.
        places: JSON pointers to the names; never the value.
    """

    what: str
    id: UUID
    versions: list[int]
    places: list[str]


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """An erasure and its progress.

    Attributes:
        subject: the random id in the request, if it named one.
        reason: the code given in the request.
        requested_by: the API key, by id.
        step: the last step taken: accepted, unreadable, recorded, forgotten, cleaned, completed.
        waits_for: the obstacle, if any.
        outcomes: the number of its subjects, by outcome.
        unknown: ids of the list without a subject.
        position: the read models hold nothing of its subjects from here on; empty until then.
        named_in: the definitions and saved views that named them by value; the names were taken out
            of these and of their past versions.
    """

    id: UUID
    scope: ErasureScope
    kind: SubjectKind
    segment: UUID | None
    subject: UUID | None
    reason: str
    suppress: bool
    requested_by: str
    requested_at: datetime
    unreadable_at: datetime | None
    recorded_at: datetime | None
    forgotten_at: datetime | None
    cleaned_at: datetime | None
    completed_at: datetime | None
    step: ErasureStep
    waits_for: str | None
    outcomes: dict[str, int]
    unknown: int
    position: str
    named_in: list[NamedIn]


class ErasureTarget(msgspec.Struct, frozen=True):
    """
    Attributes:
        detail: why it was not erased, if so.
    """

    subject: UUID
    outcome: TargetOutcome
    detail: str | None


class ToldDestination(msgspec.Struct, frozen=True):
    """Whether a destination was told of an erasure.

    Attributes:
        state: `told`; `waiting`: to be told; `paused`: to be told once resumed; `archived`:
            archived before, so never told.
    """

    id: UUID
    name: str
    state: str


def merge_mentions(mentions: Iterable[NamedIn]) -> list[NamedIn]:
    """Returns one entry per definition or saved view, with all versions and places."""
    merged: dict[tuple[str, UUID], tuple[set[int], set[str]]] = {}
    for mention in mentions:
        versions, places = merged.setdefault((mention.what, mention.id), (set(), set()))
        versions.update(mention.versions)
        places.update(mention.places)
    return [
        NamedIn(what, id, sorted(versions), sorted(places))
        for (what, id), (versions, places) in sorted(merged.items())
    ]
