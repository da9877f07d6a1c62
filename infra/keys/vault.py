"""Vault's Transit engine as the keeper of the key-encryption key, which never leaves it.

Each version of the Transit key counts as a key-encryption key of its own. The HTTP interface is
the one that HashiCorp Vault and OpenBao share: https://openbao.org/api-docs/secret/transit/
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec

from infra.keys.key_encryption import KEY_BYTES, WrongKeyEncryptionKey, private_content

KEYS_A_CALL = 250
"""With three strings each: OpenBao takes 1,000 strings in a request, by default."""
SECONDS = 10.0
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class _Result(msgspec.Struct, frozen=True):
    ciphertext: str = ""
    plaintext: str = ""
    error: str = ""


class _Data(msgspec.Struct, frozen=True):
    batch_results: list[_Result] = []
    latest_version: int = 0


class _Answer(msgspec.Struct, frozen=True):
    data: _Data | None = None
    errors: list[str] = []


class Vault:
    """A key of a Transit engine, such as `https://vault.example:8200/transit/annals`, as a source
    of key-encryption keys: its versions.

    Connections are checked against the system's certificates, or those of a file. The token is read
    from its file at each call, so that a renewed token needs no restart.
    """

    def __init__(self, url: str, token_file: Path, certificates: Path | None = None) -> None:
        parts = urlsplit(url)
        mount, _, name = parts.path.strip("/").rpartition("/")
        if not (parts.hostname and mount and name) or parts.query or parts.username:
            raise WrongKeyEncryptionKey(
                "a key in Vault is named like vault:https://vault.example:8200/transit/annals"
            )
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise WrongKeyEncryptionKey("Vault is reached by https, or on this machine alone")
        self._base = f"{parts.scheme}://{parts.netloc}/v1/{mount}"
        self._name = name
        self._prefix = f"vault:{mount}/{name}:v"
        self._token_file = token_file
        try:
            context = ssl.create_default_context(cafile=certificates)
        except OSError:
            raise WrongKeyEncryptionKey(f"{certificates} holds no certificates") from None
        self._client = httpx.Client(verify=context, timeout=SECONDS, trust_env=False)

    def __repr__(self) -> str:
        return f"Vault({self._base}, {self._name})"

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def find(self, id: str) -> TransitKey:
        if not id.startswith(self._prefix):
            raise WrongKeyEncryptionKey(f"Vault has the keys {self._prefix}1 and on")
        version = int(id.removeprefix(self._prefix))
        newest = self._newest()
        if version > newest:
            raise WrongKeyEncryptionKey(f"Vault's newest version is {self._prefix}{newest}")
        return TransitKey(id, version, self._name, self.call)

    def offer(self, known: AbstractSet[str]) -> TransitKey:
        version = self._newest()
        if f"{self._prefix}{version}" in known:
            self.call("POST", f"keys/{self._name}/rotate")
            version = self._newest()
        return self.find(f"{self._prefix}{version}")

    def _newest(self) -> int:
        version = self.call("GET", f"keys/{self._name}").latest_version
        if not version:
            raise WrongKeyEncryptionKey(f"Vault has no key {self._name} below {self._base}")
        return version

    def call(self, method: str, path: str, body: object = None) -> _Data:
        """Calls Vault; returns the data of the answer.

        Raises:
            WrongKeyEncryptionKey: no answer, or a refusal; says which, and holds no key.
        """
        try:
            token = private_content(self._token_file).decode().strip()
        except (OSError, ValueError):
            raise WrongKeyEncryptionKey(
                f"there is no token for Vault at {self._token_file}"
            ) from None
        try:
            response = self._client.request(
                method,
                f"{self._base}/{path}",
                content=None if body is None else msgspec.json.encode(body),
                headers={"X-Vault-Token": token, "X-Vault-Request": "true"},
            )
        except (httpx.HTTPError, UnicodeError) as error:
            raise WrongKeyEncryptionKey(
                f"Vault cannot be reached at {self._base} ({type(error).__name__})"
            ) from None
        try:
            answer = msgspec.json.decode(response.content or b"{}", type=_Answer)
        except msgspec.MsgspecError:
            answer = _Answer()
        if response.is_success or (answer.data is not None and answer.data.batch_results):
            return answer.data or _Data()
        reason = "; ".join(answer.errors) or "no reason given"
        raise WrongKeyEncryptionKey(
            f"Vault answers {response.status_code} to {method} {self._base}/{path}: {reason}"
        )


class TransitKey:
    """A version of a key in Vault. A wrapped key is a text of Vault's, such as `vault:v3:...`."""

    def __init__(
        self, id: str, version: int, name: str, call: Callable[[str, str, object], _Data]
    ) -> None:
        self.id = id
        self._version = version
        self._name = name
        self._call = call

    def __repr__(self) -> str:
        return f"TransitKey({self.id})"

    def wrap(self, materials: Sequence[bytes]) -> list[bytes]:
        items: list[dict[str, object]] = [
            {"plaintext": base64.b64encode(material).decode(), "key_version": self._version}
            for material in materials
        ]
        wrapped = [result.ciphertext.encode() for result in self._batches("encrypt", items)]
        prefix = b"vault:v%d:" % self._version
        if not all(text.startswith(prefix) for text in wrapped):
            raise WrongKeyEncryptionKey(f"Vault wrapped under another version than {self.id}")
        return wrapped

    def unwrap(self, wrapped: Sequence[bytes]) -> list[bytes]:
        items: list[dict[str, object]] = [
            {"ciphertext": text.decode(errors="replace")} for text in wrapped
        ]
        materials = [
            base64.b64decode(result.plaintext) for result in self._batches("decrypt", items)
        ]
        if any(len(material) != KEY_BYTES for material in materials):
            raise WrongKeyEncryptionKey(f"{self.id} unwraps something that is not a key")
        return materials

    def _batches(self, operation: str, items: Sequence[dict[str, object]]) -> list[_Result]:
        results: list[_Result] = []
        for start in range(0, len(items), KEYS_A_CALL):
            batch = items[start : start + KEYS_A_CALL]
            body = {"batch_input": batch}
            answered = self._call("POST", f"{operation}/{self._name}", body).batch_results
            errors = {result.error for result in answered if result.error}
            if errors or len(answered) != len(batch):
                reason = "; ".join(sorted(errors)) or "an answer of another length"
                raise WrongKeyEncryptionKey(
                    f"the key-encryption key {self.id} does not {operation} in Vault: {reason}"
                )
            results += answered
        return results
