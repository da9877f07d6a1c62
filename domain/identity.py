"""Identities: the ids, e-mails and domains of a subject, and which identities make subjects one."""

from __future__ import annotations

import enum
import uuid
import zlib
from collections.abc import Callable, Container, Iterable
from typing import NewType

import msgspec

from domain.errors import InvalidInput

SubjectId = NewType("SubjectId", uuid.UUID)
"""Random (version 4), never derived from an identity, so it says nothing about the person."""

LOG_PARTITIONS = 256
MAX_IDENTITY_CHARS = 512


class SubjectKind(enum.StrEnum):
    USER = "user"
    ACCOUNT = "account"


class Scheme(enum.StrEnum):
    """The kinds of identity."""

    USER_ID = "user_id"
    EMAIL = "email"
    ACCOUNT_ID = "account_id"
    DOMAIN = "domain"

    kind: SubjectKind
    is_external_id: bool

    def __init__(self, value: str) -> None:
        # Attributes, for each message reads them several times.
        is_of_user = value in ("user_id", "email")
        self.kind = SubjectKind.USER if is_of_user else SubjectKind.ACCOUNT
        self.is_external_id = value in ("user_id", "account_id")


class Identity(msgspec.Struct, frozen=True, order=True):
    """An identity as it was sent. Two identities match where their `matching` is equal."""

    scheme: Scheme
    value: str

    @property
    def matching(self) -> str:
        """Ids match in their case, e-mail and domain in any case."""
        return self.value if self.scheme.is_external_id else self.value.casefold()


def identity(scheme: Scheme, value: object, *, pointer: str = "") -> Identity:
    """Checks an identity.

    Raises:
        InvalidInput: not a string, empty, with blanks at an end, too long, or with control
            characters; or not of the form of the scheme.
    """
    name = scheme.value.replace("_", " ")
    if not isinstance(value, str):
        raise InvalidInput(f"expected a text as {name}, got {json_type(value)}", pointer=pointer)
    if not value:
        raise InvalidInput(
            f"the {name} is empty; send the id, or leave the field out", pointer=pointer
        )
    if len(value) > MAX_IDENTITY_CHARS:
        raise InvalidInput(
            f"the {name} has {len(value)} characters, at most {MAX_IDENTITY_CHARS} are accepted",
            pointer=pointer,
        )
    if value != value.strip() or not value.isprintable():
        raise InvalidInput(
            f"the {name} begins or ends with a space, or holds a control character", pointer=pointer
        )
    if scheme is Scheme.EMAIL and not _looks_like_email(value):
        raise InvalidInput("the email has no form like name@host", pointer=pointer)
    if scheme is Scheme.DOMAIN and ("@" in value or "/" in value or " " in value):
        raise InvalidInput("the domain must be a bare host name, like example.com", pointer=pointer)
    return Identity(scheme, value)


def _looks_like_email(value: str) -> bool:
    local, at, host = value.rpartition("@")
    return bool(local and at and host) and " " not in value


def json_type(value: object) -> str:
    """The JSON type of a value, in words for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"


def log_partition(subject: uuid.UUID) -> int:
    """The partition of the log, and of every table about subjects, that holds a subject.

    CRC-32 of the id's 16 bytes, lowest byte: 0 to 255.
    """
    return log_partition_of(subject.int.to_bytes(16))


def log_partition_of(subject: bytes) -> int:
    """`log_partition` of an id as its 16 bytes."""
    return zlib.crc32(subject) & (LOG_PARTITIONS - 1)


class Merge(msgspec.Struct, frozen=True):
    """Two subjects with identities of one party: `loser` becomes part of `survivor`."""

    loser: SubjectId
    survivor: SubjectId


class Resolution(msgspec.Struct, frozen=True):
    """The subject of a set of identities, with the claims and merges that this takes."""

    subject: SubjectId
    is_new: bool
    claims: tuple[Identity, ...]
    merges: tuple[Merge, ...]


Known = dict[tuple[Scheme, str], SubjectId]


def unmatched(
    identities: Iterable[Identity], known: Container[tuple[Scheme, str]]
) -> tuple[Identity, ...]:
    """The identities that match none of the known, each once."""
    new: dict[tuple[Scheme, str], Identity] = {}
    for identity in identities:
        key = (identity.scheme, identity.matching)
        if key not in known:
            new.setdefault(key, identity)
    return tuple(new.values())


def resolve(
    identities: Iterable[Identity], known: Known, new_id: Callable[[], SubjectId]
) -> Resolution:
    """Finds the one subject that `identities` name and updates `known` to say so.

    The first identity that is known decides; the others join it, and subjects that they named
    before are merged into it. With none known, a new subject is made.
    """
    identities = list(identities)
    keys = [(identity.scheme, identity.matching) for identity in identities]
    if len(keys) == 1 and (subject := known.get(keys[0])) is not None:
        return Resolution(subject, False, (), ())  # nearly always
    subjects = list(dict.fromkeys(known[key] for key in keys if key in known))
    subject = subjects[0] if subjects else new_id()
    claims = unmatched(identities, known)
    merges = tuple(Merge(loser, subject) for loser in subjects[1:])
    for merge in merges:
        for key, owner in known.items():
            if owner == merge.loser:
                known[key] = subject
    for key in keys:
        known[key] = subject
    return Resolution(subject, not subjects, claims, merges)
