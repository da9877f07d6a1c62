"""Certificates of erasures: issued from the record, verified off line, compared with the log."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import psycopg
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from domain.commands import Position
from domain.erasure import certificate
from domain.erasure.certificate import FORMAT, ErasedSubject, Head, NotErased, NotGenuine, Statement
from domain.identity import SubjectKind
from infra.log.event_log import EventLog

SELECT_REQUEST = """
SELECT scope, kind, segment, reason, suppress, requested_by, requested_at, unreadable_at,
       recorded_at, forgotten_at, cleaned_at, unknown, rewritten, wal
FROM keys.erasure_requests WHERE id = %(request)s"""

SELECT_ERASED = """
SELECT e.subject, e.requested_at, e.log_partition, e.position,
       coalesce(array_agg(encode(k.fingerprint, 'hex') ORDER BY k.version)
                FILTER (WHERE k.fingerprint IS NOT NULL), '{}') AS keys
FROM keys.erasures e
LEFT JOIN keys.subject_keys k ON k.log_partition = e.log_partition AND k.subject = e.subject
WHERE e.request = %(request)s GROUP BY e.subject, e.requested_at, e.log_partition, e.position
ORDER BY e.subject"""

SELECT_NOT_ERASED = """
SELECT subject, outcome, detail FROM keys.erasure_targets
WHERE request = %(request)s AND outcome <> 'erased' ORDER BY subject"""

SELECT_HEADS = "SELECT log_partition, head, encode(hash, 'hex') FROM log.heads ORDER BY 1"


class Certifier:
    """Signs with a key of the deployment, which is stored wrapped, with the other secrets."""

    def __init__(self, log_pool: ConnectionPool, secret: bytes) -> None:
        self._log = log_pool
        self._key = Ed25519PrivateKey.from_private_bytes(secret)

    def __repr__(self) -> str:
        return "Certifier()"

    def public_key(self) -> bytes:
        """The public key in PEM, for everyone who verifies certificates."""
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, content: bytes) -> bytes:
        return self._key.sign(content)

    def is_signed(self, signature: bytes, content: bytes) -> bool:
        """Whether this deployment made a signature."""
        try:
            self._key.public_key().verify(signature, content)
        except InvalidSignature:
            return False
        return True

    def issue(self, conn: psycopg.Connection, request: uuid.UUID) -> bytes:
        """Returns the certificate, as a file, of an erasure whose earlier steps are all taken."""
        params = {"request": request}
        row: dict[str, Any] | None = (
            conn.cursor(row_factory=dict_row).execute(SELECT_REQUEST, params).fetchone()
        )
        assert row is not None
        erased = conn.execute(SELECT_ERASED, params).fetchall()
        not_erased = conn.execute(SELECT_NOT_ERASED, params).fetchall()
        heads = self._heads()
        statement = Statement(
            format=FORMAT,
            erasure=request,
            scope=row["scope"],
            kind=SubjectKind(row["kind"]),
            segment=row["segment"],
            reason=row["reason"],
            suppress=row["suppress"],
            requested_by=row["requested_by"],
            requested_at=row["requested_at"],
            unreadable_at=row["unreadable_at"],
            recorded_at=row["recorded_at"],
            forgotten_at=row["forgotten_at"],
            cleaned_at=row["cleaned_at"],
            issued_at=datetime.now(UTC),
            subjects=[
                ErasedSubject(subject, keys, at, f"{partition}:{position}")
                for subject, at, partition, position, keys in erased
            ],
            not_erased=[NotErased(*target) for target in not_erased],
            unknown=row["unknown"],
            rewritten=row["rewritten"],
            wal=row["wal"],
            log_root=certificate.root_of(heads),
            log_heads=heads,
        )
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return certificate.certificate(statement, public, self._key.sign)

    def _heads(self) -> list[Head]:
        with self._log.connection() as conn:
            return [Head(*row) for row in conn.execute(SELECT_HEADS)]


def verified(file: bytes, public_key: bytes) -> Statement:
    """The statement of a certificate, verified with nothing but the file and a public key.

    Args:
        public_key: in PEM.

    Raises:
        NotGenuine: the file does not verify, or the key is invalid.
    """
    try:
        key = load_pem_public_key(public_key)
    except ValueError:
        raise NotGenuine("the public key is no key in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise NotGenuine("the public key is of another kind than Ed25519")

    def verify(signature: bytes, content: bytes) -> bool:
        try:
            key.verify(signature, content)
        except InvalidSignature:
            return False
        return True

    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return certificate.verified(file, raw, verify)


def differing_partitions(log: EventLog, statement: Statement) -> list[int]:
    """The partitions in which a log differs from the one that a certificate states. None: it is
    the same log, or the same with more at its end."""
    heads = [head for head in statement.log_heads if head.position]
    hashes = log.hashes_at([Position(head.log_partition, head.position) for head in heads])
    return [
        head.log_partition
        for head in heads
        if hashes.get(Position(head.log_partition, head.position)) != bytes.fromhex(head.hash)
    ]
