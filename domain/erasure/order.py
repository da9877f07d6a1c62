"""An order to erase: its subjects, its reason, and the word that confirms it. Pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from uuid import UUID

import msgspec

from domain.errors import InvalidInput
from domain.identity import Identity, SubjectId, SubjectKind

CONFIRMATION = "confirm"
MAX_REASON_CHARS = 64
MAX_IDEMPOTENCY_KEY_CHARS = 255
MAX_LISTED_FOR_ERASURE = 10_000


class ErasureScope(enum.StrEnum):
    ONE = "one"
    LIST = "list"
    SEGMENT = "segment"


class NamedSubject(msgspec.Struct, frozen=True):
    """A subject, by its id or an outside name."""

    name: SubjectId | Identity


class NamedSubjects(msgspec.Struct, frozen=True):
    """Up to `MAX_LISTED_FOR_ERASURE` subjects, by their ids or outside names."""

    names: Sequence[SubjectId | Identity]


class MembersOf(msgspec.Struct, frozen=True):
    """All members of a segment when the order is accepted."""

    segment: UUID


Selection = NamedSubject | NamedSubjects | MembersOf


class EraseSubjects(msgspec.Struct, frozen=True, kw_only=True):
    """The command to erase some subjects of a kind.

    Attributes:
        suppress: whether their identities are refused from now on.
        question: the request, word for word; only a keyed hash of it is stored.
    """

    kind: SubjectKind
    selection: Selection
    reason: str
    suppress: bool = False
    idempotency_key: str | None = None
    question: str = ""


class ErasureOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An `EraseSubjects` command, once the ids of its subjects are known.

    Attributes:
        subjects: of the erasure, at the time of the request.
        unknown: how many names of a list have no subject.
        suppress, question: as in `EraseSubjects`.
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


def check_confirmed(word: str) -> None:
    """Raises: InvalidInput: any text but the word."""
    if word != CONFIRMATION:
        raise InvalidInput(
            "to erase, send the word confirm, in small letters and alone", pointer="/confirm"
        )


def check_listed(count: int) -> None:
    """Raises: InvalidInput: an empty list, or too many ids."""
    if not 0 < count <= MAX_LISTED_FOR_ERASURE:
        raise InvalidInput(f"a list has 1 to {MAX_LISTED_FOR_ERASURE:,} ids", pointer="/ids")


def checked_reason(reason: str, pointer: str = "/reason") -> str:
    """A reason code. It stays on record, so it must hold nothing personal.

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
