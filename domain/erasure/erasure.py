"""An erasure as officers and auditors see it: its steps, and what became of each target. Pure."""

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
    """What became of one subject of an erasure.

    erased_before: another request erased it.
    held: a legal hold forbids it; `detail` is the hold's reason.
    unknown: there is no such subject.
    altered: nothing says whether it is a user or an account, as no event of it opens.
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
        what: the definition's family, as `segment`; or `saved_view`.
        versions: of the definition, those that name the subject.
        places: where in it, as JSON pointers; never the value.
    """

    what: str
    id: UUID
    versions: list[int]
    places: list[str]


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """An erasure, and how far it is.

    Attributes:
        subject: the random id that was asked for, if it was one.
        reason: the code that was given for it.
        requested_by: the API key, by id.
        step: how far it is: accepted, unreadable, recorded, forgotten, cleaned, completed.
        waits_for: what it waits for, if it does.
        outcomes: how many subjects it is about, by what became of them.
        unknown: ids of the list that were nobody's.
        position: where the read models have to be to hold nothing of it; empty until then.
        named_in: the definitions and saved views that named them by value; the names were taken
            out of these, and of what they said before.
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
        detail: why it was not erased, where it was not.
    """

    subject: UUID
    outcome: TargetOutcome
    detail: str | None


class ToldDestination(msgspec.Struct, frozen=True):
    """Whether a destination was told of an erasure.

    Attributes:
        state: `told`; `waiting`: it will be; `paused`: once it is resumed; `archived`: it was
            archived before, and will not be.
    """

    id: UUID
    name: str
    state: str


def merge_mentions(mentions: Iterable[NamedIn]) -> list[NamedIn]:
    """One entry for each definition or saved view, with all versions and places."""
    merged: dict[tuple[str, UUID], tuple[set[int], set[str]]] = {}
    for mention in mentions:
        versions, places = merged.setdefault((mention.what, mention.id), (set(), set()))
        versions.update(mention.versions)
        places.update(mention.places)
    return [
        NamedIn(what, id, sorted(versions), sorted(places))
        for (what, id), (versions, places) in sorted(merged.items())
    ]
