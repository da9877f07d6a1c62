"""Data folders in archives: packed as small as can be, unpacked for whoever runs the tests.

An archive names no owner and keeps every mode. Its cluster is one of PostgreSQL 18 for machines of
64 bits that are little-endian.
"""

from __future__ import annotations

import lzma
import os
import tarfile
from pathlib import Path

from infra.embedded import places

ARCHIVE = "data.tar.xz"
DICTIONARY_BYTES = 64 * 2**20
LEFTOVERS = ("postgres.lock", "postgres.server.lock", "postgres.starting.lock", "server.log")


def pack(data: Path, archive: Path) -> None:
    """Packs a data folder whose server has stopped."""
    best = {
        "id": lzma.FILTER_LZMA2,
        "preset": 9 | lzma.PRESET_EXTREME,
        "dict_size": DICTIONARY_BYTES,
    }
    with (
        lzma.open(archive, "wb", filters=[best], check=lzma.CHECK_CRC64) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        # Folders first; then, of each database's copy of a table, one after the other.
        found = [path for path in data.rglob("*") if path.name not in LEFTOVERS]
        for path in sorted(found, key=_order):
            tar.add(path, str(path.relative_to(data)), recursive=False, filter=_anonymous)


def unpack(archive: Path, data: Path) -> None:
    """Makes a data folder, as if it had been stopped here."""
    account = places.server_account()
    data.mkdir(mode=0o711)
    with tarfile.open(archive) as tar:
        tar.extractall(data, filter=_as_it_was)
    if account.uid is not None:
        for path in (data / "postgres", *(data / "postgres").rglob("*")):
            os.chown(path, account.uid, account.gid or -1, follow_symlinks=False)


def _order(path: Path) -> tuple[bool, str, Path]:
    """Folders come before what is in them."""
    return (False, "", path) if path.is_dir() else (True, path.name, path)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member


def _as_it_was(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo:
    """Safe to unpack, of whoever unpacks, and with its mode, which PostgreSQL looks at."""
    return tarfile.data_filter(member, path).replace(mode=member.mode)
