"""A certificate convinces whoever has the public key, and nobody can change a byte of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from api.cli import main
from domain.erasure.certificate import NotGenuine
from infra.bootstrap.annals import Annals
from infra.erasure.certificates import verified
from tests.commands import identify, track
from tests.infra.commands import stored, subject_of
from tests.infra.erasures import erased
from tests.projections.read_models import owner, project


@pytest.fixture
def certified(annals: Annals) -> tuple[bytes, bytes]:
    """A certificate and the public key."""
    stored(annals, identify("u1 ada@example.com", name="Ada"), identify("u2"))
    done = erased(annals, subject_of(annals, "u1"))
    return annals.erasures.record.certificate(done.id), annals.certifier.public_key()


def test_case_28_any_changed_byte_of_a_certificate_fails(
    certified: tuple[bytes, bytes],
) -> None:
    file, key = certified
    assert verified(file, key)
    step = max(1, len(file) // 400)
    for at in [*range(0, len(file), step), len(file) - 1]:
        for byte in {file[at] ^ 1, file[at] ^ 32}:
            with pytest.raises(NotGenuine):
                verified(file[:at] + bytes([byte]) + file[at + 1 :], key)
    for other in (
        b"",
        file[:-1],
        file + b"\n",
        b" " + file,
        json.dumps(json.loads(file)).encode(),
        file.replace(b'"reason": "art-17"', b'"reason": "art-18"'),
    ):
        with pytest.raises(NotGenuine):
            verified(other, key)


def test_case_28_another_key_does_not_verify_it(certified: tuple[bytes, bytes]) -> None:
    file, _ = certified
    other = Ed25519PrivateKey.generate().public_key()
    for key in (
        other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        b"no key",
    ):
        with pytest.raises(NotGenuine, match="key"):
            verified(file, key)


def test_case_28_its_root_is_consistent_with_every_later_log_and_with_no_other(
    annals: Annals, certified: tuple[bytes, bytes], database_url: str
) -> None:
    statement = verified(*certified)
    assert annals.differing_partitions(statement) == []
    stored(annals, *(track(f"u{n}") for n in range(300)))
    assert annals.differing_partitions(statement) == []
    head = next(head for head in statement.log_heads if head.position)
    with owner(database_url) as conn:
        conn.execute(
            "UPDATE log.events SET hash = decode(repeat('00', 32), 'hex')"
            " WHERE log_partition = %s AND position = %s",
            (head.log_partition, head.position),
        )
    assert annals.differing_partitions(statement) == [head.log_partition]


def test_a_certificate_holds_nothing_personal(certified: tuple[bytes, bytes]) -> None:
    statement = json.dumps(json.loads(certified[0])["statement"]).encode()
    for text in (b"Ada", b"ada@", b"u1", b"example"):
        assert text not in statement  # what signs it may hold any two letters by chance


def test_the_command_verifies_off_line_and_against_the_log(
    annals: Annals, certified: tuple[bytes, bytes], database_url: str, tmp_path: Path
) -> None:
    file, key = certified
    paths = [tmp_path / "erasure.json", tmp_path / "annals.pem", tmp_path / "forged.json"]
    for path, content in zip(paths, (file, key, file.replace(b"art-17", b"art-18")), strict=True):
        path.write_bytes(content)
    nowhere = {"ANNALS_DATABASE_URL": "host=/nowhere", "ANNALS_DATA": str(tmp_path / "nowhere")}
    here = {"ANNALS_DATABASE_URL": database_url, "ANNALS_DATA": str(annals.settings.data)}

    def verify(path: Path, environment: dict[str, str], *more: str) -> tuple[int, str]:
        command = ["verify-certificate", str(path), "--public-key", str(paths[1]), *more]
        result = CliRunner().invoke(main, command, env=environment)
        return result.exit_code, result.output

    code, output = verify(paths[0], nowhere)
    assert (code, output.split(":")[0]) == (0, "genuine"), output
    forged = "Error: the signature does not match what the certificate states\n"
    assert verify(paths[2], nowhere) == (1, forged)
    code, output = verify(paths[0], here, "--with-log")
    assert code == 0, output
    assert "the log holds what it held" in output
    assert CliRunner().invoke(main, ["public-key"], env=here).output.encode() == key


def test_the_command_that_searches_tells_values_by_their_lines_alone(
    annals: Annals, database_url: str
) -> None:
    stored(annals, identify("u1", name="Planted Ada"))
    project(annals)
    here = {"ANNALS_DATABASE_URL": database_url, "ANNALS_DATA": str(annals.settings.data)}
    result = CliRunner().invoke(
        main, ["erasure-scan"], input="nobody at all\nPlanted Ada\n", env=here
    )
    assert result.exit_code == 1, result.output
    assert "line 2: 2 times as text in table views.contacts" in result.output
    assert "Planted" not in result.output
    assert "not searched: data files" in result.output
    clean = CliRunner().invoke(main, ["erasure-scan"], input="nobody at all\n", env=here)
    assert clean.exit_code == 0, clean.output
    short = CliRunner().invoke(main, ["erasure-scan"], input="Ada\n", env=here)
    assert short.exit_code == 2
