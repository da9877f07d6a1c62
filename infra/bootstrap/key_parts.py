"""Builds the key ring: key-encryption keys, keys of subjects, sealing, the identity index."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from infra.keys.content_keys import ContentKeys
from infra.keys.deployment_secrets import DeploymentSecrets
from infra.keys.erasure_records import ErasureRecords
from infra.keys.identity_index import IdentityIndex
from infra.keys.key_encryption import KeyFile, KeySource, KeyVariable
from infra.keys.key_ring import KeyRing
from infra.keys.rotation import KeyRotation
from infra.keys.sealing import Sealer
from infra.keys.tombstones import KeyTombstones
from infra.keys.vault import Vault
from infra.postgres.pools import Pools
from infra.settings import Settings

KEY_FILE = "key-encryption-key"


@dataclass(frozen=True, kw_only=True)
class KeyParts:
    """
    Attributes:
        key_rotation: wraps the keys of subjects under a key-encryption key, and rotates that.
        secrets: of the deployment, one for each use.
        tombstones: destroys keys of subjects, and keeps them destroyed.
        erasure_records: which keys were destroyed, and which erasures are unfinished.
        identities: finds subjects by the keyed digests of their identities.
        contents: the keys of contents, such as definitions, that a redaction replaces.
    """

    keys: KeyRing
    key_rotation: KeyRotation
    secrets: DeploymentSecrets
    tombstones: KeyTombstones
    erasure_records: ErasureRecords
    identities: IdentityIndex
    contents: ContentKeys
    sealer: Sealer


def build_keys(settings: Settings, pools: Pools, closing: ExitStack, *, is_new: bool) -> KeyParts:
    """
    Args:
        closing: closes the connections to Vault.
        is_new: the log is empty, so that the first key-encryption key may be made.

    Raises:
        WrongKeyEncryptionKey: the key-encryption key is missing, unsafe or another one.
    """
    wrapping = KeyRotation(pool=pools.keys, sources=_key_sources(settings, closing))
    wrapping.open(is_new=is_new)
    secrets = DeploymentSecrets(pool=pools.keys, wrapping=wrapping)
    keys = KeyRing(pool=pools.keys, wrapping=wrapping)
    tombstones = KeyTombstones(pool=pools.keys, wrapping=wrapping, keys=keys)
    tombstones.destroy_revived()
    identities = IdentityIndex(pool=pools.keys, secret=secrets.get("lookup"), keys=keys)
    contents = ContentKeys(pool=pools.keys, keys=keys)
    return KeyParts(
        keys=keys,
        key_rotation=wrapping,
        secrets=secrets,
        tombstones=tombstones,
        erasure_records=ErasureRecords(pools.keys),
        identities=identities,
        contents=contents,
        sealer=Sealer(keys=keys, contents=contents),
    )


def _key_sources(settings: Settings, closing: ExitStack) -> list[KeySource]:
    """The sources that `ANNALS_KEK` names, in its order."""
    sources: list[KeySource] = []
    for word in settings.kek.split():
        kind, _, value = word.partition(":")
        if kind == "vault":
            chosen = settings.vault_certificates
            certificates = None if chosen == "system" else Path(chosen)
            vault = Vault(value, settings.vault_token_file, certificates)
            closing.callback(vault.close)
            sources.append(vault)
        elif kind == "env":
            sources.append(KeyVariable(value))
        else:
            sources.append(KeyFile(Path(value) if value else settings.data / KEY_FILE))
    return sources
