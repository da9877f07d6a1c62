"""Settings of the operator: environment variables that begin with ANNALS_."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

_SECONDS = re.compile(r"[0-9]{1,4}(\.[0-9]{1,3})?")
KEY_SOURCE = re.compile(r"file|file:.+|env:\w+|vault:https?://.+")
RATE = re.compile(r"[1-9][0-9]{0,8}")

TrustedProxies = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


class InvalidSetting(Exception):
    """An environment variable has a value that cannot be used; names it and the values that can."""


class Settings(msgspec.Struct, frozen=True):
    """
    Attributes:
        data: folder of the embedded database, the key-encryption key and the API keys.
        database_url: an outside server, PostgreSQL 15 or later; None: the embedded one.
        kek: where key-encryption keys are stored: `file`, `file:PATH`, `env:NAME` or `vault:URL`;
            several, separated by spaces, while keys move to the first.
        vault_token_file: holds the token for Vault, mode 0600.
        vault_certificates: a file of certificate authorities for Vault, or `system`: the machine's.
        host, port: where HTTP is served; port 0 takes a free one.
        worker: `thread` projects in the serving process, `none` leaves it to `annals work`.
        time_zone: the workspace's; calendar days are counted in it.
        mrr_property, renewal_property: the properties that supply MRR and renewal date.
        private_destinations: `allow` lets destinations be at private, link-local and loopback
            addresses, and on the machine itself without TLS; else `refuse`.
        destination_certificates: the same for destinations.
        cleanup_hour: of the day in the time zone, from which large tables that held erased data may
            be rewritten.
        query_seconds: how long a statement of a list, a bar or a view may take.
        long_query_seconds: the same of a preview, a review, an export or a back-test.
        trusted_proxies: networks of the proxies that are trusted on the client's address and
            scheme.
        demo_data: folder of the sample files; it may be missing.
    """

    data: Path = Path(".data")
    database_url: str | None = None
    kek: str = "file"
    vault_token_file: Path = Path(".data/vault-token")
    vault_certificates: str = "system"
    host: str = "127.0.0.1"
    port: int = 8000
    worker: str = "thread"
    time_zone: ZoneInfo = ZoneInfo("UTC")
    mrr_property: str = "mrr"
    renewal_property: str = "renewal_date"
    cleanup_hour: int = 3
    private_destinations: str = "refuse"
    destination_certificates: str = "system"
    query_seconds: float = 10.0
    long_query_seconds: float = 60.0
    trusted_proxies: TrustedProxies = ()
    requests_per_second: int = 2_000
    messages_per_second: int = 50_000
    demo_data: Path = Path("../shared/data")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Raises: InvalidSetting."""

        def text(name: str, default: str) -> str:
            return environment.get(f"ANNALS_{name}") or default

        port = text("PORT", "8000")
        if not port.isdecimal() or int(port) > 65_535:
            raise InvalidSetting(f"ANNALS_PORT must be a number from 0 to 65535, not {port!r}")
        worker = text("WORKER", "thread")
        if worker not in ("thread", "none"):
            raise InvalidSetting(f"ANNALS_WORKER must be thread or none, not {worker!r}")
        hour = text("CLEANUP_HOUR", "3")
        if not hour.isdecimal() or int(hour) > 23:
            raise InvalidSetting(f"ANNALS_CLEANUP_HOUR must be a number from 0 to 23, not {hour!r}")
        seconds = {"QUERY_SECONDS": "10", "LONG_QUERY_SECONDS": "60"}
        for name, default in seconds.items():
            seconds[name] = text(name, default)
            if not _SECONDS.fullmatch(seconds[name]) or not 0.1 <= float(seconds[name]) <= 3_600:
                raise InvalidSetting(
                    f"ANNALS_{name} must be a number of seconds from 0.1 to 3600, not"
                    f" {seconds[name]!r}"
                )
        private = text("PRIVATE_DESTINATIONS", "refuse")
        if private not in ("refuse", "allow"):
            raise InvalidSetting(
                f"ANNALS_PRIVATE_DESTINATIONS must be refuse or allow, not {private!r}"
            )
        certificates = text("DESTINATION_CERTIFICATES", "system")
        try:
            if certificates != "system":
                ssl.create_default_context(cafile=certificates)
        except OSError:
            raise InvalidSetting(
                "ANNALS_DESTINATION_CERTIFICATES must be system or a file of certificates, not"
                f" {certificates!r}"
            ) from None
        zone = text("TIME_ZONE", "UTC")
        try:
            time_zone = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise InvalidSetting(
                f"ANNALS_TIME_ZONE must be a name like Europe/Brussels, not {zone!r}"
            ) from None
        kek = text("KEK", "file")
        if not kek.split() or not all(map(KEY_SOURCE.fullmatch, kek.split())):
            raise InvalidSetting(
                "ANNALS_KEK names where key-encryption keys are kept: file, file:PATH, env:NAME or"
                f" vault:https://HOST:PORT/MOUNT/KEY, parted by spaces; not {kek!r}"
            )
        proxies = text("TRUSTED_PROXIES", "none")
        try:
            trusted_proxies = _networks(proxies)
        except ValueError:
            raise InvalidSetting(
                "ANNALS_TRUSTED_PROXIES must be none, or addresses and networks like 10.0.0.0/8,"
                f" parted by spaces; not {proxies!r}"
            ) from None
        rates = {}
        for name, default in (("REQUESTS", "2000"), ("MESSAGES", "50000")):
            rate = text(f"{name}_PER_SECOND", default)
            if not RATE.fullmatch(rate):
                raise InvalidSetting(
                    f"ANNALS_{name}_PER_SECOND must be a number from 1 to 999999999, not {rate!r}"
                )
            rates[name] = int(rate)
        data = Path(text("DATA", ".data")).absolute()
        return cls(
            data=data,
            database_url=environment.get("ANNALS_DATABASE_URL") or None,
            kek=kek,
            vault_token_file=Path(text("VAULT_TOKEN_FILE", str(data / "vault-token"))).absolute(),
            vault_certificates=text("VAULT_CERTIFICATES", "system"),
            host=text("HOST", "127.0.0.1"),
            port=int(port),
            worker=worker,
            time_zone=time_zone,
            mrr_property=text("MRR_PROPERTY", "mrr"),
            renewal_property=text("RENEWAL_PROPERTY", "renewal_date"),
            cleanup_hour=int(hour),
            private_destinations=private,
            destination_certificates=certificates,
            query_seconds=float(seconds["QUERY_SECONDS"]),
            long_query_seconds=float(seconds["LONG_QUERY_SECONDS"]),
            trusted_proxies=trusted_proxies,
            requests_per_second=rates["REQUESTS"],
            messages_per_second=rates["MESSAGES"],
            demo_data=Path(text("DEMO_DATA", "../shared/data")),
        )


def _networks(text: str) -> TrustedProxies:
    """Raises: ValueError: a word is no address and no network."""
    return () if text == "none" else tuple(map(ipaddress.ip_network, text.split()))
