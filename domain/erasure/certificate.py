"""The certificate of an erasure: its statement, and how anyone verifies it off line. Pure.

The file is JSON in one form only: a file that differs in one byte is not the certificate. The
signature (Ed25519) is over the statement as it stands in the file. `docs/compliance.md` specifies
both.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from domain.identity import LOG_PARTITIONS, SubjectKind

FORMAT = "annals-erasure-certificate-1"
_HEAD = struct.Struct(">hq32s")


class Head(msgspec.Struct, frozen=True, array_like=True):
    """The newest row of a partition: its position and its hash (hexadecimal)."""

    log_partition: int
    position: int
    hash: str


class ErasedSubject(msgspec.Struct, frozen=True):
    """
    Attributes:
        keys: fingerprints of the destroyed keys: the first 8 bytes of their SHA-256, hexadecimal.
        event: partition and position of the event that records the erasure.
    """

    subject: UUID
    keys: list[str]
    erased_at: datetime
    event: str


class NotErased(msgspec.Struct, frozen=True):
    subject: UUID
    outcome: str
    detail: str | None


class Statement(msgspec.Struct, frozen=True):
    """The certified facts. Nothing in it is personal: ids are random, actors are API keys by id.

    Attributes:
        unreadable_at: the time from which no data of the subjects could be opened.
        forgotten_at: the time from which no read model held data of them.
        cleaned_at: the time from which the database's files held no deleted data.
        rewritten: the tables that were rewritten.
        wal: `removed`, or `left to the operator`, whose server keeps its write-ahead log.
        log_root: SHA-256 over the heads: of each partition number, position and hash.
        log_heads: of each partition, as of `issued_at`. A later log holds each at its position.
    """

    format: str
    erasure: UUID
    scope: str
    kind: SubjectKind
    segment: UUID | None
    reason: str
    suppress: bool
    requested_by: str
    requested_at: datetime
    unreadable_at: datetime
    recorded_at: datetime
    forgotten_at: datetime
    cleaned_at: datetime
    issued_at: datetime
    subjects: list[ErasedSubject]
    not_erased: list[NotErased]
    unknown: int
    rewritten: list[str]
    wal: str | None
    log_root: str
    log_heads: list[Head]


class Certificate(msgspec.Struct, frozen=True):
    """
    Attributes:
        public_key: fingerprint of the key that verifies the signature: SHA-256 of its 32 bytes.
        signature: Ed25519, over the statement's JSON.
    """

    statement: Statement
    public_key: str
    signature: bytes


class NotGenuine(Exception):
    """A certificate that does not verify; says why."""


def root_of(heads: Sequence[Head]) -> str:
    """The root of the log: SHA-256 over its heads in the order of the partitions, each as 2 bytes
    of partition, 8 of position (big-endian) and 32 of hash; hexadecimal."""
    packed = b"".join(
        _HEAD.pack(head.log_partition, head.position, bytes.fromhex(head.hash)) for head in heads
    )
    return hashlib.sha256(packed).hexdigest()


def signed_bytes(statement: Statement) -> bytes:
    """The signed bytes."""
    return msgspec.json.encode(statement)


def fingerprint(public_key: bytes) -> str:
    return hashlib.sha256(public_key).hexdigest()


def certificate(statement: Statement, public_key: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """The file."""
    signed = Certificate(statement, fingerprint(public_key), sign(signed_bytes(statement)))
    return _file(signed)


def _file(certificate: Certificate) -> bytes:
    return msgspec.json.format(msgspec.json.encode(certificate), indent=1) + b"\n"


def verified(file: bytes, public_key: bytes, verify: Callable[[bytes, bytes], bool]) -> Statement:
    """The statement of a certificate.

    Args:
        verify: whether a signature is that of some bytes, under the public key.

    Raises:
        NotGenuine: it does not verify.
    """
    try:
        read = msgspec.json.decode(file, type=Certificate)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise NotGenuine("this is no certificate of an erasure, or not a whole one") from None
    statement = read.statement
    if statement.format != FORMAT:
        raise NotGenuine("the certificate is of another format")
    if read.public_key != fingerprint(public_key):
        raise NotGenuine("the certificate was signed under another key than this")
    if _file(read) != file:
        raise NotGenuine("the file was altered")
    if not verify(read.signature, signed_bytes(statement)):
        raise NotGenuine("the signature does not match what the certificate states")
    heads = statement.log_heads
    if [head.log_partition for head in heads] != list(range(LOG_PARTITIONS)):
        raise NotGenuine("the heads of the log are not all there")
    if root_of(heads) != statement.log_root:
        raise NotGenuine("the root of the log does not match its heads")
    return statement
