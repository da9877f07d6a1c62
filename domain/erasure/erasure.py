"""What an erasure is: what is asked for, the steps that it goes through, and what it reports.

Pure. `infra.erasure.process` carries it out, step by step, each of them safe to repeat.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from domain.erasure.steps import ErasureStep
from domain.errors import InvalidInput
from domain.identity import SubjectKind

CONFIRMATION = "confirm"
MAX_REASON_CHARS = 64
MAX_IDEMPOTENCY_KEY_CHARS = 255
MAX_LISTED_FOR_ERASURE = 10_000


class ErasureScope(enum.StrEnum):
    ONE = "one"
    LIST = "list"
    SEGMENT = "segment"


class TargetOutcome(enum.StrEnum):
    """What became of one subject of an erasure.

    erased_before: by another request.
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
    """A definition or a saved view that names, or named, somebody by value.

    Attributes:
        what: the definition's family, as `segment`; or `saved_view`.
        versions: of the definition, those that it was found in.
        places: where in it, as JSON pointers; never the value.
    """

    what: str
    id: UUID
    versions: list[int]
    places: list[str]


class ErasureOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request.

    Attributes:
        subjects: whom it is about, at the time of the request.
        unknown: ids of a list that were nobody's.
        suppress: whether their identities are refused from now on.
        question: what was asked, word for word; told apart from others by a keyed hash only.
    """

    scope: ErasureScope
    kind: SubjectKind
    subjects: Sequence[UUID]
    segment: UUID | None = None
    unknown: int = 0
    reason: str
    suppress: bool = False
    idempotency_key: str | None = None
    question: str = ""


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


class LegalHold(msgspec.Struct, frozen=True, kw_only=True):
    """What forbids an erasure, until it is released. Reasons are codes; API keys stand by id."""

    id: UUID
    subject: UUID
    kind: SubjectKind
    reason: str
    placed_by: str
    placed_at: datetime
    release_reason: str | None
    released_by: str | None
    released_at: datetime | None


def check_confirmed(word: str) -> None:
    """Raises: InvalidInput: anything but the word, to the letter."""
    if word != CONFIRMATION:
        raise InvalidInput(
            "to erase, send the word confirm, in small letters and alone", pointer="/confirm"
        )


def checked_reason(reason: str, pointer: str = "/reason") -> str:
    """A reason code: it stays on record, so that it must hold nothing personal.

    Raises:
        InvalidInput: no code.
    """
    if not 0 < len(reason) <= MAX_REASON_CHARS or not all(
        char.isascii() and (char.isalnum() or char in "-_.") for char in reason
    ):
        raise InvalidInput(
            f"the reason is a code of at most {MAX_REASON_CHARS} letters, digits, dots, dashes and"
            " underscores, like art-17",
            pointer=pointer,
        )
    return reason


def checked_idempotency_key(key: str | None) -> str | None:
    """Raises: InvalidInput: empty, too long, or not printable."""
    if key is not None and (not 0 < len(key) <= MAX_IDEMPOTENCY_KEY_CHARS or not key.isprintable()):
        raise InvalidInput(
            f"an idempotency key has 1 to {MAX_IDEMPOTENCY_KEY_CHARS} printable characters",
            pointer="/Idempotency-Key",
        )
    return key


def together(found: Iterable[NamedIn]) -> list[NamedIn]:
    """One for each definition or saved view, with all versions and places."""
    merged: dict[tuple[str, UUID], tuple[set[int], set[str]]] = {}
    for one in found:
        versions, places = merged.setdefault((one.what, one.id), (set(), set()))
        versions.update(one.versions)
        places.update(one.places)
    return [
        NamedIn(what, id, sorted(versions), sorted(places))
        for (what, id), (versions, places) in sorted(merged.items())
    ]
