"""Identities: the ids, e-mails and domains of a subject, and which identities make subjects one."""

from __future__ import annotations

import enum
import uuid
import zlib
from collections.abc import Callable, Container, Iterable
from typing import NewType

import msgspec

from domain.errors import InvalidInput
from domain.texts import character_problem, nfc, trimmed

SubjectId = NewType("SubjectId", uuid.UUID)
"""Random (version 4), never derived from an identity, so it says nothing about the person."""

LOG_PARTITIONS = 256
MAX_IDENTITY_CHARS = 512

MAX_EXACT = 2**53
"""The whole numbers up to here are exact as numbers of 64 bits with a fraction, too."""

MAX_DIGITS = 10**128
"""No number from here on is taken as an id."""


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

    @property
    def in_words(self) -> str:
        return self.value.replace("_", " ")


class Identity(msgspec.Struct, frozen=True, order=True):
    """An identity as it was sent. Two identities match where their `matching` is equal."""

    scheme: Scheme
    value: str

    @property
    def matching(self) -> str:
        """Ids match in their case, e-mail and domain in any case; both in NFC. ß is not ss."""
        value = self.value
        if not value.isascii():
            value = nfc(value)
        return value if self.scheme.is_external_id else in_any_case(value)

    @property
    def former_matching(self) -> str:
        """What matched until 0.1.0, where ids were not in NFC, and ß was ss."""
        return self.value if self.scheme.is_external_id else self.value.casefold()


def in_any_case(text: str) -> str:
    """A text in NFC as it matches in any case, in NFC too."""
    return nfc(text.lower())


def identity(scheme: Scheme, value: object, *, pointer: str = "") -> Identity:
    """Checks an identity, trimmed and in NFC. A whole number is an id as its decimal text.

    Raises:
        InvalidInput: neither a text nor a whole number, empty, too long, or with characters that
            cannot be shown; or not of the form of the scheme.
    """
    if type(value) is str and value.isascii() and value.isprintable() and value.strip() == value:
        text = value  # nearly always
    else:
        text = _mended(scheme, value, pointer)
    if not text:
        raise InvalidInput(
            f"the {scheme.in_words} is empty; send the id, or leave the field out", pointer=pointer
        )
    if len(text) > MAX_IDENTITY_CHARS:
        raise InvalidInput(
            f"the {scheme.in_words} has {len(text)} characters, at most {MAX_IDENTITY_CHARS} are"
            " accepted",
            pointer=pointer,
        )
    if scheme is Scheme.EMAIL and not _looks_like_email(text):
        raise InvalidInput("the email has no form like name@host", pointer=pointer)
    if scheme is Scheme.DOMAIN and ("@" in text or "/" in text or len(text.split()) > 1):
        raise InvalidInput("the domain must be a bare host name, like example.com", pointer=pointer)
    return Identity(scheme, text)


def _mended(scheme: Scheme, value: object, pointer: str) -> str:
    """Raises: InvalidInput: neither a text nor a whole number; or with characters that cannot be
    shown."""
    text = sent_text(value) if scheme.is_external_id or isinstance(value, str) else None
    if text is None:
        raise InvalidInput(
            f"expected a text as {scheme.in_words}, got {json_type(value)}{_remedy(value)}",
            pointer=pointer,
        )
    text = trimmed(text)
    problem = character_problem(text)
    if problem is not None:
        raise InvalidInput(f"the {scheme.in_words} {problem}; send it without", pointer=pointer)
    return text


def sent_text(value: object) -> str | None:
    """A text as it was sent, or the decimal text of a whole number: 123 and 123.0 are "123".

    None: another value, or a number that may stand for several whole numbers.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float):
        if not (-MAX_EXACT <= value <= MAX_EXACT and value.is_integer()):
            return None
        value = int(value)
    return str(value) if -MAX_DIGITS < value < MAX_DIGITS else None


def _remedy(value: object) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return " that is not whole, or too large; send a text" if is_number else ""


def _looks_like_email(value: str) -> bool:
    local, at, host = value.rpartition("@")
    return bool(local and at and host) and len(value.split()) == 1


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
