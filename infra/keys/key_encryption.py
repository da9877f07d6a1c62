"""Key-encryption keys and their sources. They wrap every other key and never enter the database,
which stores their ids alone.

A source is a file in the data folder (the default), an environment variable, or Vault
(`infra.keys.vault`). A call wraps or unwraps many keys, for it can be a round trip.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Protocol, Self

from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_wrap,
)

KEY_BYTES = 32
LOCAL_ID = re.compile("[0-9a-f]{16}")


class WrongKeyEncryptionKey(Exception):
    """A key-encryption key is missing, unsafe, out of reach, or not the one the keys are under."""


class KeyEncryptionKey(Protocol):
    """Wraps keys of `KEY_BYTES` each; both methods return results in the order of their input."""

    @property
    def id(self) -> str:
        """Names the key without revealing it; never changes."""

    def wrap(self, materials: Sequence[bytes]) -> list[bytes]:
        """Raises: WrongKeyEncryptionKey: the key is out of reach."""

    def unwrap(self, wrapped: Sequence[bytes]) -> list[bytes]:
        """Raises: WrongKeyEncryptionKey: a key is wrapped under another one, or out of reach."""


class KeySource(Protocol):
    """A place where key-encryption keys are kept."""

    def find(self, id: str) -> KeyEncryptionKey:
        """Raises: WrongKeyEncryptionKey: it is not here, or not safe to use; names the keys that
        are here."""

    def offer(self, known: AbstractSet[str]) -> KeyEncryptionKey:
        """A key that is not among `known`: one that exists here, or else a new one.

        Raises:
            WrongKeyEncryptionKey: no such key exists, and none can be made here.
        """


class LocalKey:
    """A key-encryption key in the memory of this process (AES key wrap, RFC 3394)."""

    def __init__(self, material: bytes) -> None:
        if len(material) != KEY_BYTES:
            raise WrongKeyEncryptionKey(f"a key-encryption key has {KEY_BYTES} bytes")
        self._material = material
        self.id = hashlib.sha256(b"annals key-encryption key\0" + material).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"LocalKey(id={self.id})"

    @classmethod
    def from_base64(cls, text: bytes, place: str) -> Self:
        """Raises: WrongKeyEncryptionKey: it is no such key; names the place, not the text."""
        try:
            return cls(base64.b64decode(text.strip(), validate=True))
        except ValueError:
            raise WrongKeyEncryptionKey(f"{place} does not hold a key in base64") from None

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Reads a key: 32 bytes in base64, in a file that only its owner may read.

        Raises:
            WrongKeyEncryptionKey: no such file, permissions looser than 0600, or no such content.
        """
        try:
            content = private_content(path)
        except FileNotFoundError:
            raise WrongKeyEncryptionKey(f"there is no key-encryption key at {path}") from None
        return cls.from_base64(content, str(path))

    @classmethod
    def generate_file(cls, path: Path) -> Self:
        """Makes a key and stores it in a new file, mode 0600, durably.

        Raises:
            FileExistsError: the file exists; it stays as it is.
        """
        key = cls(os.urandom(KEY_BYTES))
        key.save(path)
        return key

    def save(self, path: Path) -> None:
        """Stores the key in a new file, mode 0600. Raises: FileExistsError: the file stays."""
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(base64.b64encode(self._material) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # whole or not at all, and never over another
        finally:
            Path(temporary).unlink()
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def wrap(self, materials: Sequence[bytes]) -> list[bytes]:
        return [aes_key_wrap(self._material, material) for material in materials]

    def unwrap(self, wrapped: Sequence[bytes]) -> list[bytes]:
        try:
            return [aes_key_unwrap(self._material, key) for key in wrapped]
        except InvalidUnwrap:
            raise WrongKeyEncryptionKey(
                f"the key-encryption key {self.id} does not open the keys in the database"
            ) from None


class KeyFile:
    """A file, and beside it, after rotations, a file for each later key, named by its id."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, id: str) -> LocalKey:
        later = self._later(id)
        if LOCAL_ID.fullmatch(id) and later.exists():
            return LocalKey.from_file(later)
        key = LocalKey.from_file(self._path)
        if key.id != id:
            raise WrongKeyEncryptionKey(
                f"{self._path} holds {key.id}, and there is no {later.name}"
            )
        return key

    def offer(self, known: AbstractSet[str]) -> LocalKey:
        if not known:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return LocalKey.generate_file(self._path)
            except FileExistsError:
                return LocalKey.from_file(self._path)
        for path in sorted(self._path.parent.glob(f"{self._path.name}*")):
            key = LocalKey.from_file(path)
            if key.id not in known and path in (self._path, self._later(key.id)):
                return key
        key = LocalKey(os.urandom(KEY_BYTES))
        key.save(self._later(key.id))
        return key

    def _later(self, id: str) -> Path:
        return Path(f"{self._path}.{id}")


class KeyVariable:
    """An environment variable: 32 bytes in base64."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find(self, id: str) -> LocalKey:
        key = self._key()
        if key.id != id:
            raise WrongKeyEncryptionKey(f"the variable {self._name} holds {key.id}")
        return key

    def offer(self, known: AbstractSet[str]) -> LocalKey:
        key = self._key()
        if key.id in known:
            raise WrongKeyEncryptionKey(
                f"the variable {self._name} holds {key.id}, which is known: put a new key into"
                " another variable and name that one first in ANNALS_KEK"
            )
        return key

    def _key(self) -> LocalKey:
        text = os.environ.get(self._name)
        if not text:
            raise WrongKeyEncryptionKey(f"the variable {self._name} is not set")
        return LocalKey.from_base64(text.encode(), f"the variable {self._name}")


def private_content(path: Path) -> bytes:
    """The content of a file that only its owner may read.

    Raises:
        FileNotFoundError: no such file.
        WrongKeyEncryptionKey: others may read or change the file.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise WrongKeyEncryptionKey(
            f"{path} can be read by others (mode {mode:04o}); run: chmod 600 {path}"
        )
    return path.read_bytes()
